/* stress.c: the whole library under its invariants' checks. usage: stress [OPERATIONS [SEED]]
 *
 * Threads allocate, resize, exchange and free blocks, each accounted for in the shadow (tests/lib/shadow.h); the helper
 * thread runs; and one more thread checks the heap's invariants, reads statistics and gives memory back all the while.
 * Built with each sanitizer, too, on the library's own names. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "frontend/frontend.h"
#include "rnalloc.h"
#include "tests/lib/shadow.h"
#include "tests/unit/check.h"

enum { THREADS = 8, SLOTS = 120, BOXES = 64, BATCH = 20, LARGEST = 3 << 20 };

struct block {
    void *start;
    size_t size;
    uint64_t id;
};

/* A box holds a block that belongs to whoever takes it out. */
static struct box {
    pthread_mutex_t mutex;
    struct block block;
} boxes[BOXES];

struct worker {
    pthread_t thread;
    uint64_t random;
    uint64_t next_id;
    unsigned operations;
    struct block blocks[SLOTS];
};

static _Atomic size_t live; /* usable bytes in the workers' hands */
static _Atomic bool done;

/* Half of the sizes are small; the rest are spread evenly over the powers of two. */
static size_t random_size(struct worker *worker) {
    uint64_t r = random_next(&worker->random);
    unsigned bits = r % 2 ? 3 + (unsigned)(r >> 8) % 7 : (unsigned)(r >> 8) % 22;
    size_t size = (r >> 16) & (((size_t)1 << bits) - 1);
    return size < LARGEST ? size : LARGEST;
}

static void block_own(struct worker *worker, struct block *block, void *start, size_t size) {
    CHECK(start && rnUsableSize(start) >= size);
    *block = (struct block){start, rnUsableSize(start), worker->next_id++};
    CHECK(shadow_claim(start, block->size) == 0);
    shadow_fill(start, block->size, block->id);
    atomic_fetch_add(&live, block->size);
}

static void block_disown(struct block *block) {
    CHECK(shadow_is_filled(block->start, block->size, block->id));
    CHECK(shadow_unclaim(block->start, block->size) == 0);
    atomic_fetch_sub(&live, block->size);
}

static void block_free(struct block *block) {
    block_disown(block);
    if (block->id % 2)
        rnFree(block->start);
    else
        rnFreeSized(block->start, block->size);
    block->start = NULL;
}

static void block_new(struct worker *worker, struct block *block) {
    size_t size = random_size(worker);
    uint64_t r = random_next(&worker->random);
    void *start;
    if (r % 8 == 0) {
        size_t align = (size_t)1 << (r >> 8) % 14;
        start = rnAllocAligned(align, size);
        CHECK((uintptr_t)start % align == 0);
    } else if (r % 8 == 1) {
        char *zeros = start = rnCalloc(1, size);
        for (size_t i = 0; i<size; i += size> 4096 ? 61 : 1)
            CHECK(zeros[i] == 0);
    } else {
        start = rnAlloc(size);
    }
    block_own(worker, block, start, size);
}

static void block_resize(struct worker *worker, struct block *block) {
    size_t size = random_size(worker) + 1;
    struct block before = *block;
    size_t kept = before.size < size ? before.size : size;
    block_disown(block);
    shadow_fill(block->start, kept, before.id); /* what is sampled depends on the length */
    void *start = rnRealloc(block->start, size);
    CHECK(start && shadow_is_filled(start, kept, before.id));
    block_own(worker, block, start, size);
}

static void exchange(struct worker *worker, struct block *block) {
    struct box *box = &boxes[random_next(&worker->random) % BOXES];
    pthread_mutex_lock(&box->mutex);
    struct block taken = box->block;
    box->block = *block;
    pthread_mutex_unlock(&box->mutex);
    *block = taken;
}

static void batch(struct worker *worker) {
    void *starts[BATCH];
    struct block blocks[BATCH];
    size_t size = random_size(worker) % 5000;
    CHECK(rnAllocBatch(size, starts, BATCH) == BATCH);
    for (int i = 0; i < BATCH; i++)
        block_own(worker, &blocks[i], starts[i], size);
    for (int i = 0; i < BATCH; i++)
        block_disown(&blocks[i]);
    rnFreeBatch(starts, BATCH);
}

static void *work(void *argument) {
    struct worker *worker = argument;
    for (unsigned i = 0; i < worker->operations; i++) {
        uint64_t r = random_next(&worker->random);
        struct block *block = &worker->blocks[r / 64 % SLOTS];
        unsigned what = r % 64;
        if (what < 12)
            exchange(worker, block);
        else if (what == 12)
            batch(worker);
        else if (!block->start)
            block_new(worker, block);
        else if (what < 20)
            block_resize(worker, block);
        else
            block_free(block);
    }
    for (struct block *block = worker->blocks; block < worker->blocks + SLOTS; block++)
        if (block->start)
            block_free(block);
    return NULL;
}

/* The statistics' parts are read one by one, so only their order of magnitude can be claimed while threads run. */
static void *watch(void *unused) {
    (void)unused;
    for (unsigned i = 0; !atomic_load(&done); i++) {
        struct rn_stats stats;
        heap_check();
        rnStats(&stats);
        CHECK(stats.committed <= stats.reserved && stats.pools <= rnMode().pools);
        if (i % 16 == 0)
            (void)rnReleaseMemory(i % 32 ? 0 : 1 << 20);
        (void)usleep(1000);
    }
    return NULL;
}

static size_t in_use_after_release(struct rn_stats *stats) {
    (void)rnReleaseMemory(0);
    rnStats(stats);
    return stats->in_use + stats->transfer_free;
}

/* All is freed: after the caches were emptied, nothing is in use. */
static void check_empty(void) {
    struct rn_stats stats;
    for (struct box *box = boxes; box < boxes + BOXES; box++)
        if (box->block.start)
            block_free(&box->block);
    CHECK(atomic_load(&live) == 0);
    /* For moments, the helper may have a span or a batch in hand. */
    for (unsigned looks = 0; in_use_after_release(&stats) != 0 && looks < 2500; looks++)
        (void)usleep(20000);
    heap_check();
    CHECK(stats.in_use == 0 && stats.large_blocks == 0 && stats.large_in_use == 0 && stats.transfer_free == 0);
    printf("# mode %s: committed %zu KiB, left in pools %zu, in spans %zu, in pages %zu bytes\n", rnMode().name,
           stats.committed >> 10, stats.pool_free, stats.span_free, stats.page_free);
}

int main(int argc, char **argv) {
    static struct worker workers[THREADS];
    unsigned operations = argc > 1 ? (unsigned)atoi(argv[1]) : 40000;
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
    pthread_t watcher;
    CHECK(shadow_init() == 0);
    for (int i = 0; i < BOXES; i++)
        pthread_mutex_init(&boxes[i].mutex, NULL);
    for (uint64_t i = 0; i < THREADS; i++) {
        workers[i].random = seed * 1000 + i;
        workers[i].next_id = (i + 1) << 40;
        workers[i].operations = operations;
        CHECK(pthread_create(&workers[i].thread, NULL, work, &workers[i]) == 0);
    }
    helper_start();
    CHECK(pthread_create(&watcher, NULL, watch, NULL) == 0);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(workers[i].thread, NULL) == 0);
    atomic_store(&done, true);
    CHECK(pthread_join(watcher, NULL) == 0);
    check_empty();
    printf("# %u threads, %u operations each, seed %llu: every block sound\n", THREADS, operations,
           (unsigned long long)seed);
    return 0;
}
