/* grow.c: blocks that grow by realloc. */
#include "grow.h"

#include "random.h"

struct growing {
    char *block;
    size_t size;
};

static size_t (*next_size)(size_t size, uint64_t bits);

static size_t grow_bytes(const struct bench *bench) { return bench->options.objects * sizeof(struct growing); }

static void grow_prepare(struct bench_thread *thread) { thread->table = table_new(grow_bytes(thread->bench), true); }

static void restart(struct bench_thread *thread, struct growing *growing) {
    const struct bench *bench = thread->bench;
    if (growing->block)
        thread->frees++;
    bench->allocator.release(growing->block);
    growing->size = bench->options.min_size;
    growing->block = must_alloc(bench->allocator.alloc, growing->size);
    block_fill(bench, growing->block, 1, growing->size);
    thread->allocs++;
}

/* Only what is new gets written: what was there has to survive the move. */
static void lengthen(struct bench_thread *thread, struct growing *growing, size_t size) {
    const struct bench *bench = thread->bench;
    char *block = bench->allocator.resize(growing->block, size);
    if (!block)
        fail("out of memory: realloc gave NULL for %zu bytes", size);
    if (size > growing->size)
        block_fill(bench, block + growing->size, 1, size - growing->size);
    *growing = (struct growing){block, size};
    thread->count++;
}

static void grow_body(struct bench_thread *thread) {
    const struct options *options = &thread->bench->options;
    struct growing *table = thread->table;
    uint64_t i = 0;
    for (; bench_goes_on(thread->bench, i, options->iters); i++) {
        uint64_t bits = random_next(&thread->random);
        struct growing *growing = &table[random_below(bits, options->objects)];
        size_t size = growing->block ? next_size(growing->size, bits) : options->max_size + 1;
        if (size > options->max_size)
            restart(thread, growing);
        else
            lengthen(thread, growing, size);
    }
    thread->ops = i;
}

static void grow_finish(struct bench_thread *thread) {
    struct growing *table = thread->table;
    for (uint64_t i = 0; i < thread->bench->options.objects; i++)
        thread->bench->allocator.release(table[i].block);
    table_free(table, grow_bytes(thread->bench));
}

void grow_run(struct bench *bench, size_t (*longer)(size_t size, uint64_t bits)) {
    static const struct team_task task = {.prepare = grow_prepare, .body = grow_body, .finish = grow_finish};
    if (!bench->allocator.resize)
        fail("%s has no realloc of its own", bench->allocator.object);
    next_size = longer;
    team_run(bench, &task);
    report_result(bench, "reallocs", (double)team_sum(bench, offsetof(struct bench_thread, count)));
    report_per_operation(bench);
}
