/* walk.h: what the workloads sequential and strided share: slots that are filled in order and freed in an order. */
#ifndef RNBENCH_WALK_H
#define RNBENCH_WALK_H

#include "rnbench.h"

/* Fills all slots from the first to the last, then frees slots 0, stride, 2 stride, ..., 1, stride + 1, ..., again and
 * again, until options.iters operations are done. */
void walk_run(struct bench *bench);

#endif
