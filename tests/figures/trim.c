/* trim.c: malloc_trim gives freed memory back and leaves live blocks alone; mallopt takes what mallopt(3) names. */
#define _GNU_SOURCE
#include <malloc.h>
#include "../lib/proc.h"
#include "../lib/tap.h"
#include "blocks.h"

static void figures_of_trim(void) {
    fill(); /* what the first use sets up for good is not looked for */
    empty();
    malloc_trim(0);
    size_t base = proc_rss();
    fill();
    size_t full = proc_rss();
    OK(full - base > 60 * MIB, "72 MiB of touched blocks are resident");
    empty();
    size_t freed = proc_rss();
    int answer = malloc_trim(0);
    size_t trimmed = proc_rss();
    OK(trimmed <= base + 4 * MIB,
       "malloc_trim(0) gives the memory back (resident: %zu KiB at first, %zu full, %zu freed, %zu trimmed)",
       base >> 10, full >> 10, freed >> 10, trimmed >> 10);
    OK(freed <= trimmed + MIB || answer == 1, "malloc_trim answers 1 when it released memory");
    OK(answer == 0 || answer == 1, "malloc_trim answers 0 or 1");

    /* With every second block alive, whatever is released must not be theirs. */
    fill();
    for (int i = 0; i < SMALL; i += 2)
        free(small[i]);
    malloc_trim(0);
    unsigned damaged = 0;
    for (int i = 1; i < SMALL; i += 2)
        for (int b = 0; b < SMALL_SIZE; b++)
            damaged += ((unsigned char *)small[i])[b] != 1;
    for (int i = 0; i < LARGE; i++)
        for (int b = 0; b < LARGE_SIZE; b++)
            damaged += ((unsigned char *)large[i])[b] != 1;
    OK(damaged == 0, "malloc_trim leaves live blocks alone");
    for (int i = 0; i < SMALL; i += 2)
        small[i] = NULL;
    empty();
    malloc_trim(0);
    OK(proc_rss() <= base + 4 * MIB, "and the rest goes back once it is freed");
}

static void options_of_mallopt(void) {
    static const int known[] = {M_ARENA_MAX, M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX, M_PERTURB};
    static const int values[] = {1, 128 << 10, 128 << 10, 0, 65536, 0};
    unsigned wrong = 0;
    for (unsigned i = 0; i < sizeof known / sizeof *known; i++)
        wrong += mallopt(known[i], values[i]) != 1;
    OK(wrong == 0, "mallopt accepts the parameters of mallopt(3)");
    fill();
    empty();
    OK(1, "and allocation goes on");
}

int main(void) {
    tap_check_subject();
    figures_of_trim();
    options_of_mallopt();
    return tap_done();
}
