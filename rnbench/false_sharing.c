/* false_sharing.c: blocks that are written much more often than allocated, by several threads at once. */
#include "false_sharing.h"

/* Under --check a write keeps what it finds, since the check owns the contents. */
static void write_often(volatile char *block, size_t size, uint64_t times, char step) {
    for (; times > 0; times--)
        for (size_t i = 0; i < size; i++)
            block[i] = (char)(block[i] + step);
}

void false_sharing_body(struct bench_thread *thread) {
    const struct bench *bench = thread->bench;
    const struct options *options = &bench->options;
    uint64_t i = 0;
    for (; bench_goes_on(bench, i, options->iters); i++) {
        void *block = must_alloc(bench->allocator.alloc, options->sizes[0]);
        write_often(block, options->sizes[0], options->writes, options->check ? 0 : 1);
        bench->allocator.release(block);
    }
    thread->allocs += i;
    thread->frees += i;
    thread->ops = i;
}

void false_sharing_run(struct bench *bench, const struct team_task *task) {
    if (bench->options.size_count != 1)
        fail("--sizes: the workload %s takes one size", bench->workload->name);
    team_run(bench, task);
    double bytes = (double)(bench->options.writes * bench->options.sizes[0]);
    double ops = (double)team_sum(bench, offsetof(struct bench_thread, ops));
    report_result(bench, "ns_per_write", (double)bench->total_ns * (double)bench->options.threads / (ops * bytes));
}
