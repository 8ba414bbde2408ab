/* workload_false_active.c: does the allocator itself put blocks of two threads on one cache line?
 *
 * Threads allocate a small block each, at about the same time, and write to it often. If the blocks lie on one line,
 * the line travels between CPUs at every write, and the time grows with the threads. It needs two CPUs to show.
 */
#include "false_sharing.h"

static void false_active_run(struct bench *bench) {
    static const struct team_task task = {.body = false_sharing_body};
    false_sharing_run(bench, &task);
}

const struct workload workload_false_active = {
    .name = "false-active",
    .sentence =
        "threads write to small blocks of their own: slow if the allocator puts blocks of two threads on one line",
    .source = "active false sharing (cache-thrash): Berger et al., Hoard, ASPLOS 2000",
    .takes = TAKES_ITERS | TAKES_SIZES | TAKES_WRITES | TAKES_DURATION | TAKES_CALLS,
    .defaults = {.threads = 2, .iters = 10000, .writes = 1000, .sizes = {8}, .size_count = 1},
    .run = false_active_run,
};
