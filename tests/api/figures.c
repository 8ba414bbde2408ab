/* figures.c: mallinfo, mallinfo2, malloc_info, malloc_stats, malloc_trim, mallopt tell the truth about known
 * allocations. */
#define _GNU_SOURCE
#include <errno.h>
#include <malloc.h>
#include <stdint.h>
#include <sys/mman.h>
#include "../lib/proc.h"
#include "../lib/tap.h"

enum { SMALL = 40000, SMALL_SIZE = 1024, LARGE = 8, LARGE_SIZE = 4 << 20 };
static void *small[SMALL], *large[LARGE];

static size_t in_use(void) {
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

static void fill(void) {
    for (int i = 0; i < SMALL; i++)
        memset(small[i] = malloc(SMALL_SIZE), 1, SMALL_SIZE);
    for (int i = 0; i < LARGE; i++)
        memset(large[i] = malloc(LARGE_SIZE), 1, LARGE_SIZE);
}

static void empty(void) {
    for (int i = 0; i < SMALL; i++)
        free(small[i]);
    for (int i = 0; i < LARGE; i++)
        free(large[i]);
}

static int is_near(size_t got, size_t expected) {
    return got >= expected && got <= expected + expected / 8 + (1 << 20);
}

static void figures_of_mallinfo(void) {
    size_t asked = (size_t)SMALL * SMALL_SIZE + (size_t)LARGE * LARGE_SIZE, before = in_use();
    fill();
    struct mallinfo2 full = mallinfo2();
    size_t used = in_use() - before;
    OK(is_near(used, asked), "mallinfo2: %zu bytes asked for, %zu more in use", asked, used);
    OK(full.arena + full.hblkhd >= asked, "mallinfo2: space held covers the live blocks");
    OK(full.arena + full.hblkhd >= full.uordblks + full.fordblks,
       "mallinfo2: used and free blocks lie in the space held");
    void *symbol = dlsym(RTLD_DEFAULT, "mallinfo");
    struct mallinfo (*old)(void);
    memcpy(&old, &symbol, sizeof symbol);
    struct mallinfo narrow = old();
    OK(is_near((size_t)narrow.uordblks + (size_t)narrow.hblkhd - before, asked), "mallinfo agrees");
    empty();
    used = in_use();
    OK(used <= before + (1 << 20), "mallinfo2: after free, in use falls back (%zu before, %zu now)", before, used);
}

static void figures_of_trim(void) {
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

/* Element names must nest, as in any XML. Gives the number of elements, 0 when the text is malformed. */
static unsigned xml_elements(const char *text) {
    char stack[32][32];
    unsigned depth = 0, count = 0;
    for (const char *at = strchr(text, '<'); at; at = strchr(at + 1, '<')) {
        const char *end = strchr(at, '>');
        int closing = at[1] == '/';
        size_t length = strcspn(at + 1 + closing, " \t\n/>");
        if (!end || length == 0 || length >= sizeof stack[0] || depth == 32)
            return 0;
        if (closing) {
            if (depth == 0 || strncmp(stack[--depth], at + 2, length) != 0 || stack[depth][length])
                return 0;
        } else if (count++, end[-1] != '/') {
            memcpy(stack[depth], at + 1, length);
            stack[depth++][length] = 0;
        }
        if (depth == 0 && strchr(end, '<'))
            return 0;
    }
    return depth == 0 ? count : 0;
}

/* True if one of the decimal numbers in the text is about `expected`. */
static int tells_number(const char *text, size_t expected) {
    for (const char *at = text; *at;) {
        size_t digits = strspn(at, "0123456789");
        if (digits && is_near(strtoul(at, NULL, 10), expected))
            return 1;
        at += digits ? digits : 1;
    }
    return 0;
}

static void figures_of_info(void) {
    char *text = NULL;
    size_t length = 0, asked = (size_t)SMALL * SMALL_SIZE + (size_t)LARGE * LARGE_SIZE;
    fill();
    FILE *stream = open_memstream(&text, &length);
    int answer = malloc_info(0, stream);
    fclose(stream);
    OK(answer == 0 && strncmp(text, "<malloc version=\"", 17) == 0, "malloc_info(0) writes a <malloc> element");
    OK(xml_elements(text) > 1, "malloc_info writes well-formed XML");
    OK(tells_number(text, asked) || !tap_expects_rnalloc(), "malloc_info tells the bytes in use");
    free(text);
    stream = fopen("/dev/null", "w");
    errno = 0;
    OK(malloc_info(1, stream) != 0, "malloc_info with options that do not exist fails");
    fclose(stream);

    int file = memfd_create("stats", 0), saved = dup(STDERR_FILENO);
    dup2(file, STDERR_FILENO);
    malloc_stats();
    dup2(saved, STDERR_FILENO);
    static char stats[65536];
    ssize_t got = pread(file, stats, sizeof stats - 1, 0);
    stats[got > 0 ? got : 0] = 0;
    OK(got > 0, "malloc_stats writes to stderr");
    OK(tells_number(stats, asked), "malloc_stats tells the bytes in use");
    close(file);
    close(saved);
    empty();
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
    figures_of_mallinfo();
    figures_of_trim();
    figures_of_info();
    options_of_mallopt();
    return tap_done();
}
