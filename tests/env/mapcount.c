/* mapcount.c: the process has as many mappings as the kernel allows (vm.max_map_count), so that no further one can be
 * made nor any be split. Allocations then succeed from what there is or give NULL and ENOMEM, no block is harmed, and
 * when the mappings are gone everything works as before. usage: mapcount */
#define _GNU_SOURCE
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <rnalloc.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include "../lib/proc.h"
#include "../lib/shadow.h"
#include "../lib/tap.h"

enum { PAGE = 4096, BLOCKS = 3000, THREADS = 3, ROUNDS = 3 };

struct holder {
    unsigned char *blocks[BLOCKS];
    size_t sizes[BLOCKS];
    unsigned got, refused, wrong;
};

static char *filling;
static size_t filled;

/* Every second page gets another protection, which makes a mapping of its own of each, until the kernel says no. */
static int fill_up(void) {
    char text[32];
    proc_read("/proc/sys/vm/max_map_count", text, sizeof text);
    size_t most = strtoul(text, NULL, 10);
    if (most == 0 || most >= 1 << 20)
        return -1;
    filled = (most + 16) * 2 * PAGE;
    filling = mmap(NULL, filled, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    for (size_t at = 0; filling != MAP_FAILED && at < filled; at += (size_t)2 * PAGE)
        if (mprotect(filling + at, PAGE, PROT_NONE) != 0)
            return errno == ENOMEM ? 0 : -1;
    return -1;
}

static size_t size_of(unsigned i) { return i % 50 == 0 ? (size_t)200000 << i % 6 : 1 + (i * 7919) % 9000; }

/* Takes and drops blocks of all sizes; refusals are right, wrong answers are not. */
static void churn(struct holder *h, unsigned round) {
    for (unsigned i = 0; i < BLOCKS; i++) {
        errno = 0;
        h->sizes[i] = size_of(i + round);
        h->blocks[i] = i % 7 ? malloc(h->sizes[i]) : aligned_alloc((size_t)64 << i % 8, h->sizes[i]);
        if (!h->blocks[i]) {
            h->refused++;
            h->wrong += errno != ENOMEM;
            continue;
        }
        h->got++;
        shadow_fill(h->blocks[i], h->sizes[i], i);
    }
    for (unsigned i = 0; i < BLOCKS; i += 3) {
        size_t size = h->sizes[i] * 2 + 100, kept = h->sizes[i];
        if (!h->blocks[i])
            continue;
        shadow_fill(h->blocks[i], kept, i);
        void *moved = realloc(h->blocks[i], size);
        h->wrong += !shadow_is_filled(moved ? moved : h->blocks[i], kept, i);
        h->blocks[i] = moved ? moved : h->blocks[i];
    }
    malloc_trim(0);
    for (unsigned i = 0; i < BLOCKS; i++) {
        if (h->blocks[i] && i % 3)
            h->wrong += !shadow_is_filled(h->blocks[i], h->sizes[i], i);
        free(h->blocks[i]);
    }
    malloc_trim(0);
}

static void *in_thread(void *argument) {
    for (unsigned round = 0; round < ROUNDS; round++)
        churn(argument, round);
    return NULL;
}

static struct holder holders[THREADS + 1];
static pthread_barrier_t gate;

static void *wait_and_churn(void *argument) {
    pthread_barrier_wait(&gate);
    return in_thread(argument);
}

static size_t in_use(void) {
    malloc_trim(0);
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

extern void rnStats(struct rn_stats *stats) __attribute__((weak));

/* Address space that the heap does not count as its own: what it has lost of it would show here. */
static size_t other_space(void) {
    struct rn_stats stats = {.reserved = 0};
    if (rnStats)
        rnStats(&stats);
    return proc_status("VmSize:") - stats.reserved;
}

int main(void) {
    pthread_t threads[THREADS];
    tap_check_subject();
    pthread_barrier_init(&gate, NULL, THREADS + 1);
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, wait_and_churn, &holders[i]) != 0)
            return 3;
    in_thread(&holders[THREADS]);
    OK(holders[THREADS].refused == 0 && holders[THREADS].wrong == 0, "before, nothing is refused");
    size_t before = in_use(), space = other_space();
    if (fill_up() != 0) {
        tap_skip("vm.max_map_count is not to be reached here", "all mappings taken");
        return tap_done();
    }
    pthread_barrier_wait(&gate);
    in_thread(&holders[THREADS]);
    unsigned wrong = 0, refused = 0, got = 0;
    for (int i = 0; i <= THREADS; i++) {
        if (i < THREADS)
            pthread_join(threads[i], NULL);
        wrong += holders[i].wrong;
        refused += holders[i].refused;
        got += holders[i].got;
    }
    OK(wrong == 0, "no more mappings: %u blocks given, %u refused, %u answers wrong", got, refused, wrong);
    munmap(filling, filled);
    holders[0] = (struct holder){.got = 0};
    in_thread(&holders[0]);
    OK(holders[0].refused == 0 && holders[0].wrong == 0, "afterwards nothing is refused (%u)", holders[0].refused);
    /* For moments, the allocator's own thread may have a block in hand. */
    size_t after, space_after;
    EVENTUALLY((after = in_use()) <= before + (64 << 10))
    EVENTUALLY((space_after = other_space()) <= space + 24 * MIB)
    OK(after <= before + (64 << 10), "no block is lost (%zu KiB in use before, %zu after)", before >> 10, after >> 10);
    /* Slack: pools of the threads, 16 MiB of address space each; but tables of more went back. */
    OK(space_after <= space + 24 * MIB, "nor address space (%zu MiB beside the heap before, %zu after)", space / MIB,
       space_after / MIB);
    return tap_done();
}
