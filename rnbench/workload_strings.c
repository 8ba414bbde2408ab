/* workload_strings.c: strings that grow by a few characters at a time, each to the exact size, as asprintf and naive
 * concatenation do. Most steps stay within an allocator's rounding; which ones do is what its size classes decide.
 */
#include "grow.h"

enum { LONGEST_PIECE = 32 };

static size_t append(size_t size, uint64_t bits) { return size + 1 + (bits & (LONGEST_PIECE - 1)); }

static void strings_run(struct bench *bench) { grow_run(bench, append); }

const struct workload workload_strings = {
    .name = "strings",
    .sentence = "many strings that grow by some characters at a time with realloc to the exact size",
    .source = "string building in text tools and interpreters",
    .takes = TAKES_OBJECTS | TAKES_ITERS | TAKES_RANGE | TAKES_DURATION | TAKES_CALLS,
    .defaults = {.threads = 1, .objects = 5000, .iters = 2000000, .min_size = 8, .max_size = 2000},
    .run = strings_run,
};
