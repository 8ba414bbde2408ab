/* workload_strided.c: slots filled in order and freed far apart, so that neighbours are freed at different times.
 *
 * A span of an allocator is empty only near the end of each sweep, and every free goes to another span than the one
 * before it: what a table of columns does when one column after the other is dropped.
 */
#include "walk.h"

const struct workload workload_strided = {
    .name = "strided",
    .sentence = "slots filled in order and freed at a stride: every free meets another span than the one before",
    .source = "the cache-hostile counterpart of sequential, as strides are for arrays",
    .takes = TAKES_SLOTS | TAKES_ITERS | TAKES_SIZES | TAKES_TOUCH | TAKES_STRIDE | TAKES_DURATION | TAKES_CALLS,
    .defaults =
        {.threads = 1, .slots = 100000, .iters = 2000000, .stride = 509, .sizes = {16, 64, 128, 256}, .size_count = 4},
    .run = walk_run,
};
