/* workload_slots.c: random slots, the original RnBench.
 *
 * Each thread has an array of S null slots per size. An iteration draws an operation, a size and a slot. On a full slot
 * any operation frees; on an empty one an allocation allocates and a free does nothing. So a third of the slots is full
 * in the long run. In mode alloc every operation allocates, full slots are left alone, and nothing is freed before the
 * clock stops.
 */
#include <string.h>

#include "random.h"
#include "rnbench.h"

enum { OPERATION_BIT = 1 << 15 }; /* of the draw: sizes come from the 16 bits above it, slots from the upper 32 */

static size_t table_bytes(const struct options *options) {
    return options->slots * options->size_count * sizeof(void *);
}

/* Slots are backed before the clock starts: their page faults are the benchmark's, not the allocator's. */
static void slots_prepare(struct bench_thread *thread) {
    thread->table = table_new(table_bytes(&thread->bench->options), true);
}

static void slots_body(struct bench_thread *thread) {
    const struct options *options = &thread->bench->options;
    void *(*alloc)(size_t) = thread->bench->allocator.alloc;
    void (*release)(void *) = thread->bench->allocator.release;
    const bool alloc_only = options->mode == MODE_ALLOC, touch = options->touch;
    const uint64_t slots = options->slots, sizes = options->size_count;
    void **table = thread->table;
    uint64_t random = thread->random, allocs = 0, frees = 0;

    uint64_t i = 0;
    for (; bench_goes_on(thread->bench, i, options->iters); i++) {
        uint64_t bits = random_next(&random);
        uint64_t kind = (bits >> 16 & 0xffff) * sizes >> 16;
        void **slot = &table[kind * slots + random_below(bits, slots)];
        if (*slot) {
            if (alloc_only)
                continue;
            release(*slot);
            *slot = NULL;
            frees++;
        } else if (alloc_only || (bits & OPERATION_BIT)) {
            size_t size = options->sizes[kind];
            *slot = must_alloc(alloc, size);
            if (touch)
                block_fill(thread->bench, *slot, (int)i, size);
            allocs++;
        }
    }
    thread->ops = i;
    thread->allocs = allocs;
    thread->frees = frees;
}

static void slots_finish(struct bench_thread *thread) {
    const struct options *options = &thread->bench->options;
    void **table = thread->table;
    for (uint64_t i = 0; i < options->slots * options->size_count; i++)
        thread->bench->allocator.release(table[i]);
    table_free(table, table_bytes(options));
}

static void slots_run(struct bench *bench) {
    static const struct team_task task = {.prepare = slots_prepare, .body = slots_body, .finish = slots_finish};
    team_run(bench, &task);
    report_per_operation(bench);
}

const struct workload workload_slots = {
    .name = "slots",
    .sentence =
        "random slots: allocations and frees of a few small sizes in random order, over a heap larger than the caches",
    .source = "the original RnBench: slots, sizes and operations drawn at random, threads that share nothing",
    .takes = TAKES_SLOTS | TAKES_ITERS | TAKES_MODE | TAKES_SIZES | TAKES_TOUCH | TAKES_DURATION | TAKES_CALLS,
    .defaults = {.threads = 1, .slots = 100000, .iters = 500000, .sizes = {16, 64, 128, 256}, .size_count = 4},
    .run = slots_run,
};
