/* workload_vectors.c: vectors whose capacity grows by half, from small to megabytes: where realloc can grow in place,
 * or move pages and not bytes, it saves copies.
 */
#include "grow.h"

static size_t half_more(size_t size, uint64_t bits) {
    (void)bits;
    return size + size / 2 + 1;
}

static void vectors_run(struct bench *bench) { grow_run(bench, half_more); }

const struct workload workload_vectors = {
    .name = "vectors",
    .sentence = "vectors whose capacity grows by half with realloc, from 64 bytes to megabytes",
    .source = "amortized growth of arrays; compare glibc's bench-realloc and the realloc traces of the CS:APP lab",
    .takes = TAKES_OBJECTS | TAKES_ITERS | TAKES_RANGE | TAKES_DURATION | TAKES_CALLS,
    .defaults = {.threads = 1, .objects = 50, .iters = 20000, .min_size = 64, .max_size = 8 << 20},
    .run = vectors_run,
};
