/* workload_bulk.c: many more objects than an allocator's caches hold, freed in an order unlike that of their birth.
 *
 * Each round fills every empty place of a table and then walks the table in a fixed random order from a random start,
 * freeing nine of ten. What survives is mixed into the next round's fresh objects, so that spans never become whole
 * again by themselves. Every object gets its first word written, since a program that does not use its blocks at all is
 * rare.
 */
#include <string.h>

#include "random.h"
#include "rnbench.h"

struct bulk {
    void **objects;
    uint32_t *order; /* a random permutation of the places */
};

static size_t bulk_bytes(uint64_t objects) {
    return sizeof(struct bulk) + objects * (sizeof(void *) + sizeof(uint32_t));
}

static void bulk_prepare(struct bench_thread *thread) {
    uint64_t count = thread->bench->options.objects;
    struct bulk *bulk = table_new(bulk_bytes(count), true);
    bulk->objects = (void **)(bulk + 1);
    bulk->order = (uint32_t *)(bulk->objects + count);
    for (uint32_t i = 0; i < count; i++) { /* Fisher and Yates, inside out */
        uint64_t other = random_below(random_next(&thread->random), i + 1);
        bulk->order[i] = bulk->order[other];
        bulk->order[other] = i;
    }
    thread->table = bulk;
}

static void fill(struct bench_thread *thread, void **objects, uint64_t *random) {
    const struct bench *bench = thread->bench;
    const bool touch = bench->options.touch;
    for (uint64_t i = 0; i < bench->options.objects; i++) {
        if (objects[i])
            continue;
        size_t size = picker_draw(bench->sizes, random_next(random));
        objects[i] = must_alloc(bench->allocator.alloc, size);
        if (touch)
            block_fill(bench, objects[i], (int)i, size);
        else if (!bench->options.check)
            memcpy(objects[i], &i, size < sizeof i ? size : sizeof i);
        thread->allocs++;
    }
}

static void thin(struct bench_thread *thread, const struct bulk *bulk, uint64_t *random) {
    uint64_t count = thread->bench->options.objects;
    uint64_t place = random_below(random_next(random), count);
    for (uint64_t i = 0; i < count; i++) {
        void **object = &bulk->objects[bulk->order[place]];
        if (random_below(random_next(random), 10) != 0) {
            thread->bench->allocator.release(*object);
            *object = NULL;
            thread->frees++;
        }
        place = place + 1 == count ? 0 : place + 1;
    }
}

static void bulk_body(struct bench_thread *thread) {
    const struct bulk *bulk = thread->table;
    uint64_t random = thread->random;
    for (uint64_t round = 0; bench_goes_on(thread->bench, round, thread->bench->options.rounds); round++) {
        fill(thread, bulk->objects, &random);
        thin(thread, bulk, &random);
    }
    thread->ops = thread->allocs + thread->frees;
}

static void bulk_finish(struct bench_thread *thread) {
    struct bulk *bulk = thread->table;
    uint64_t count = thread->bench->options.objects;
    for (uint64_t i = 0; i < count; i++)
        thread->bench->allocator.release(bulk->objects[i]);
    table_free(bulk, bulk_bytes(count));
}

static void bulk_run(struct bench *bench) {
    static const struct team_task task = {.prepare = bulk_prepare, .body = bulk_body, .finish = bulk_finish};
    team_run(bench, &task);
    report_per_operation(bench);
}

const struct workload workload_bulk = {
    .name = "bulk",
    .sentence =
        "bulk churn: each thread fills a table with small objects and frees most of them in mixed order, again and "
        "again",
    .source = "the phases of a batch program (parse, transform, drop), as in mimalloc-bench's description of mstress",
    .takes = TAKES_OBJECTS | TAKES_ROUNDS | TAKES_RANGE | TAKES_DISTRIBUTION | TAKES_TOUCH | TAKES_DURATION |
             TAKES_CALLS,
    .defaults = {.threads = 2, .objects = 50000, .rounds = 40, .min_size = 1, .max_size = 1000},
    .run = bulk_run,
};
