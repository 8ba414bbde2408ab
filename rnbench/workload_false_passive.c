/* workload_false_passive.c: does a free make two threads share a cache line afterwards?
 *
 * The main thread allocates one small block per thread, side by side. Each thread frees the one it was given and goes
 * on as in false-active: an allocator that hands it back to the thread that freed it, makes neighbours share a line.
 */
#include "false_sharing.h"

static void false_passive_body(struct bench_thread *thread) {
    thread->bench->allocator.release(thread->bench->given[thread->index]);
    thread->frees = 1;
    false_sharing_body(thread);
}

static void false_passive_run(struct bench *bench) {
    static const struct team_task task = {.body = false_passive_body};
    bench->given = table_new(bench->options.threads * sizeof(void *), true);
    for (unsigned i = 0; i < bench->options.threads; i++) {
        bench->given[i] = must_alloc(bench->allocator.alloc, bench->options.sizes[0]);
        block_fill(bench, bench->given[i], 0, bench->options.sizes[0]);
    }
    false_sharing_run(bench, &task);
}

const struct workload workload_false_passive = {
    .name = "false-passive",
    .sentence = "as false-active, but each thread first frees a block that lay beside those given to the others",
    .source = "passive false sharing (cache-scratch): Berger et al., Hoard, ASPLOS 2000",
    .takes = TAKES_ITERS | TAKES_SIZES | TAKES_WRITES | TAKES_DURATION | TAKES_CALLS,
    .defaults = {.threads = 2, .iters = 10000, .writes = 1000, .sizes = {8}, .size_count = 1},
    .run = false_passive_run,
};
