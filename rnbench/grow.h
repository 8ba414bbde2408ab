/* grow.h: what the workloads strings and vectors share. */
#ifndef RNBENCH_GROW_H
#define RNBENCH_GROW_H

#include "rnbench.h"

/* Each thread holds options.objects blocks; an operation makes a random one longer with realloc, from options.min_size
 * on, and frees it and starts anew when it would pass options.max_size. `longer` gives the next size. */
void grow_run(struct bench *bench, size_t (*longer)(size_t size, uint64_t bits));

#endif
