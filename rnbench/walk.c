/* walk.c: slots filled in order and freed at a stride. */
#include "walk.h"

static size_t walk_bytes(const struct options *options) { return options->slots * sizeof(void *); }

static void walk_prepare(struct bench_thread *thread) {
    thread->table = table_new(walk_bytes(&thread->bench->options), true);
}

/* Gives the number of blocks allocated before the count or the time was over. */
static uint64_t fill(struct bench_thread *thread, uint64_t done) {
    const struct bench *bench = thread->bench;
    const struct options *options = &bench->options;
    void **table = thread->table;
    uint64_t slot = 0, kind = 0;
    for (; slot < options->slots && bench_goes_on(bench, done + slot, options->iters); slot++) {
        size_t size = options->sizes[kind];
        table[slot] = must_alloc(bench->allocator.alloc, size);
        if (options->touch)
            block_fill(bench, table[slot], (int)slot, size);
        kind = kind + 1 == options->size_count ? 0 : kind + 1;
    }
    return slot;
}

static uint64_t empty(struct bench_thread *thread, uint64_t done) {
    const struct bench *bench = thread->bench;
    const uint64_t slots = bench->options.slots, stride = bench->options.stride;
    void **table = thread->table;
    uint64_t freed = 0;
    for (uint64_t first = 0; first < stride && first < slots; first++)
        for (uint64_t slot = first; slot < slots; slot += stride, freed++) {
            if (!bench_goes_on(bench, done + freed, bench->options.iters))
                return freed;
            bench->allocator.release(table[slot]);
            table[slot] = NULL;
        }
    return freed;
}

static void walk_body(struct bench_thread *thread) {
    while (bench_goes_on(thread->bench, thread->ops, thread->bench->options.iters)) {
        uint64_t filled = fill(thread, thread->ops);
        thread->allocs += filled;
        thread->ops += filled;
        uint64_t freed = empty(thread, thread->ops);
        thread->frees += freed;
        thread->ops += freed;
    }
}

static void walk_finish(struct bench_thread *thread) {
    const struct options *options = &thread->bench->options;
    void **table = thread->table;
    for (uint64_t slot = 0; slot < options->slots; slot++)
        thread->bench->allocator.release(table[slot]);
    table_free(table, walk_bytes(options));
}

void walk_run(struct bench *bench) {
    static const struct team_task task = {.prepare = walk_prepare, .body = walk_body, .finish = walk_finish};
    team_run(bench, &task);
    report_per_operation(bench);
}
