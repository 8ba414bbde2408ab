/* false_sharing.h: what the workloads false-active and false-passive share. */
#ifndef RNBENCH_FALSE_SHARING_H
#define RNBENCH_FALSE_SHARING_H

#include "rnbench.h"

/* Allocates a block, writes each of its bytes options.writes times, frees it; options.iters times. */
void false_sharing_body(struct bench_thread *thread);

/* One size, and the team runs the task. */
void false_sharing_run(struct bench *bench, const struct team_task *task);

#endif
