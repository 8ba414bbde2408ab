/* workload_calloc.c: zeroed memory.
 *
 * Random slots as in slots, by calloc. The first and last word of each block are read, as a program that relies on the
 * zeros does, and the block is written, so that reused memory is dirty. Large blocks show whether the allocator knows
 * that fresh pages are zero.
 */
#include <string.h>

#include "slot_loop.h"

static void *make(struct bench_thread *thread, uint64_t *random) {
    const struct bench *bench = thread->bench;
    size_t size = picker_draw(bench->sizes, random_next(random));
    char *block = bench->allocator.zeroed(1, size);
    if (!block)
        fail("out of memory: calloc gave NULL for %zu bytes", size);
    if (!bench->options.check && (block[0] | block[size - 1])) /* the check layer has looked at all of it */
        fault("calloc(1, %zu) gave memory that is not zero", size);
    block_fill(bench, block, 1, bench->options.touch ? size : 1);
    if (!bench->options.check)
        block[size - 1] = 1;
    return block;
}

static void calloc_body(struct bench_thread *thread) { slot_loop_body(thread, make); }

static void calloc_run(struct bench *bench) {
    static const struct team_task task = {
        .prepare = slot_loop_prepare, .body = calloc_body, .finish = slot_loop_finish};
    if (!bench->allocator.zeroed)
        fail("%s has no calloc of its own", bench->allocator.object);
    team_run(bench, &task);
    report_per_operation(bench);
}

const struct workload workload_calloc = {
    .name = "calloc",
    .sentence =
        "zeroed blocks of 16 bytes to 64 KiB in random slots: what clearing costs, and where it can be left out",
    .source = "calloc-heavy programs such as parsers and scientific codes; compare glibc's bench-calloc-simple",
    .takes = TAKES_SLOTS | TAKES_ITERS | TAKES_RANGE | TAKES_DISTRIBUTION | TAKES_TOUCH | TAKES_DURATION | TAKES_CALLS,
    .defaults = {.threads = 1,
                 .slots = 2000,
                 .iters = 500000,
                 .min_size = 16,
                 .max_size = 64 << 10,
                 .distribution = DISTRIBUTION_LOG},
    .run = calloc_run,
};
