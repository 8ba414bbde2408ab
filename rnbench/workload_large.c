/* workload_large.c: blocks that go past an allocator's size classes to its page layer, or to the kernel.
 *
 * An iteration draws a slot: a full one is freed, an empty one gets a block. A block is touched once per page, which is
 * what makes the kernel's part of its cost visible; with --touch every byte is written, as by a program that copies
 * into it.
 */
#include <string.h>
#include <unistd.h>

#include "random.h"
#include "rnbench.h"

static void large_prepare(struct bench_thread *thread) {
    thread->table = table_new(thread->bench->options.slots * sizeof(void *), true);
}

static void touch_pages(char *block, size_t size, size_t page) {
    for (size_t at = 0; at < size; at += page)
        *(volatile char *)(block + at) = 1;
}

static void large_body(struct bench_thread *thread) {
    const struct bench *bench = thread->bench;
    const struct options *options = &bench->options;
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    void **table = thread->table;
    uint64_t random = thread->random;
    uint64_t i = 0;
    for (; bench_goes_on(bench, i, options->iters); i++) {
        void **slot = &table[random_below(random_next(&random), options->slots)];
        if (*slot) {
            bench->allocator.release(*slot);
            *slot = NULL;
            thread->frees++;
            continue;
        }
        size_t size = picker_draw(bench->sizes, random_next(&random));
        *slot = must_alloc(bench->allocator.alloc, size);
        if (options->touch)
            block_fill(bench, *slot, (int)i, size);
        else if (!options->check)
            touch_pages(*slot, size, page);
        thread->allocs++;
    }
    thread->ops = i;
}

static void large_finish(struct bench_thread *thread) {
    void **table = thread->table;
    for (uint64_t i = 0; i < thread->bench->options.slots; i++)
        thread->bench->allocator.release(table[i]);
    table_free(table, thread->bench->options.slots * sizeof(void *));
}

static void large_run(struct bench *bench) {
    static const struct team_task task = {.prepare = large_prepare, .body = large_body, .finish = large_finish};
    team_run(bench, &task);
    report_result(bench, "us_per_operation",
                  (double)bench->total_ns / 1e3 / (double)team_sum(bench, offsetof(struct bench_thread, ops)));
}

const struct workload workload_large = {
    .name = "large",
    .sentence = "blocks of 64 KiB to 25 MiB allocated, touched and freed at random, a bounded number of them live",
    .source = "the idea of mimalloc-bench's malloc-large (5 to 25 MiB), widened downwards",
    .takes = TAKES_SLOTS | TAKES_ITERS | TAKES_RANGE | TAKES_DISTRIBUTION | TAKES_TOUCH | TAKES_DURATION | TAKES_CALLS,
    .defaults = {.threads = 1,
                 .slots = 32,
                 .iters = 4000,
                 .min_size = 64 << 10,
                 .max_size = 25 << 20,
                 .distribution = DISTRIBUTION_LOG},
    .run = large_run,
};
