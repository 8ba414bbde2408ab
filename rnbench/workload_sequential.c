/* workload_sequential.c: slots filled in order and freed in the same order. */
#include "walk.h"

const struct workload workload_sequential = {
    .name = "sequential",
    .sentence = "slots filled in order and freed in the same order: the kindest pattern, for caches and for spans",
    .source = "the regular counterpart of the original RnBench; compare with slots",
    .takes = TAKES_SLOTS | TAKES_ITERS | TAKES_SIZES | TAKES_TOUCH | TAKES_DURATION | TAKES_CALLS,
    .defaults =
        {.threads = 1, .slots = 100000, .iters = 2000000, .stride = 1, .sizes = {16, 64, 128, 256}, .size_count = 4},
    .run = walk_run,
};
