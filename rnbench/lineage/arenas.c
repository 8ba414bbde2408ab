/* arenas: several heaps with a lock each. Plan B.
 *
 * The idea: if one lock is contended, have more heaps than threads that run at a time. A thread has a favourite arena
 * and tries its lock. When that is taken, the thread does not wait but tries the next arena, around the ring, and the
 * first that it gets becomes its favourite: threads spread over the arenas by themselves, and stay where they are
 * undisturbed. Only when all are taken does the thread wait. A block goes back to the arena that it came from, found
 * by its region (heap.h), so every arena coalesces completely.
 *
 * LINEAGE_OPTIONS="arenas=N" sets their number, 1 to 64; else there are four for each CPU.
 *
 * Invariants:
 *   A1  a region belongs to one arena for its life, and is touched under that arena's lock only.
 *   A2  no thread holds two arenas' locks (fork excepted, which takes all in order).
 *
 * Does well: allocation rarely waits, whatever the number of threads, and nothing is cached per thread, so nothing is
 * stranded with a thread that sleeps or ends.
 * Fails: still a lock with every operation, two atomic instructions at least. free cannot choose its arena: when one
 * thread frees what another allocates, both want the same lock. Free memory of one arena does not serve another: a
 * program that builds in one thread and frees in the next can need as many times its memory as there are arenas
 * (blow-up). Threads that share an arena share cache lines.
 *
 * Sources: P.-A. Larson and M. Krishnan, Memory Allocation for Long-Running Server Applications, ISMM 1998; W.
 * Gloger's ptmalloc, today in glibc; E. D. Berger, K. S. McKinley, R. D. Blumofe, P. R. Wilson, Hoard, ASPLOS 2000
 * (blow-up).
 */
#include "heap.h"

#include <unistd.h>

#define ARENAS_MAX 64
#define ARENAS_PER_CPU 4

const char design_name[] = "arenas";

static struct arena {
    struct heap heap; /* first: a region's heap is its arena */
    struct lock lock;
} __attribute__((aligned(CACHE_LINE))) arenas[ARENAS_MAX];

static unsigned arena_count;
static _Atomic unsigned next_thread;

/* The favourite's number plus one; 0 in a thread that has none yet. */
static __thread unsigned favourite;

/* Returns an arena that is locked, and makes it the thread's favourite. */
static struct arena *arena_lock(void) {
    if (favourite == 0)
        favourite = next_thread++ % arena_count + 1;
    unsigned first = favourite - 1;
    for (unsigned tried = 0; tried < arena_count; tried++) {
        unsigned number = (first + tried) % arena_count;
        if (lock_try(&arenas[number].lock)) {
            favourite = number + 1;
            return &arenas[number];
        }
    }
    lock_take(&arenas[first].lock);
    return &arenas[first];
}

void design_start(void) {
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    size_t usual = cpus < 1 ? ARENAS_PER_CPU : (size_t)cpus * ARENAS_PER_CPU;
    arena_count = (unsigned)option_number("arenas", 1, ARENAS_MAX, usual < ARENAS_MAX ? usual : ARENAS_MAX);
    for (unsigned number = 0; number < ARENAS_MAX; number++) {
        arenas[number].heap.index = &heap_bins;
        pthread_mutex_init(&arenas[number].lock.mutex, NULL);
    }
}

void *design_alloc(size_t size, bool *zeroed) {
    if (size > HEAP_MAX)
        return direct_alloc(size, zeroed);
    struct arena *arena = arena_lock();
    void *block = heap_alloc(&arena->heap, size);
    lock_release(&arena->lock);
    /* The system refused a region: what is free elsewhere has to do. */
    for (unsigned number = 0; !block && number < arena_count; number++) {
        lock_take(&arenas[number].lock);
        block = heap_alloc(&arenas[number].heap, size);
        lock_release(&arenas[number].lock);
    }
    return block;
}

void *design_alloc_aligned(size_t align, size_t size) { return head_alloc_aligned(align, size); }

void design_free(void *block) {
    void *whole = head_unalias(block);
    switch (head_of(whole)->word & HEAD_FLAGS) {
    case HEAD_DIRECT:
        direct_free(whole);
        break;
    case HEAD_USED: {
        struct arena *arena = (struct arena *)region_of(whole)->heap;
        lock_take(&arena->lock);
        heap_free(&arena->heap, whole);
        lock_release(&arena->lock);
        break;
    }
    default:
        block_fatal(block);
    }
}

/* Takes no lock: a used block's head does not change, except for `before`. */
size_t design_usable(void *block) { return heap_usable(block); }

void design_lock_all(void) {
    for (unsigned number = 0; number < arena_count; number++)
        lock_take(&arenas[number].lock);
}

void design_unlock_all(void) {
    for (unsigned number = 0; number < arena_count; number++)
        lock_release(&arenas[number].lock);
}
