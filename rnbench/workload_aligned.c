/* workload_aligned.c: blocks aligned to 16 bytes up to a page, in random slots.
 *
 * Blocks that are not aligned as asked are counted and told, and end the run only under --check: Debian's
 * mimalloc 2.0.9 gives some, and its speed can be compared all the same.
 */
#include <string.h>

#include "slot_loop.h"

enum { SMALLEST_SHIFT = 4, SHIFTS = 9 };

/* Sizes are multiples of the alignment, as ISO C11 first asked of aligned_alloc. */
static void *make(struct bench_thread *thread, uint64_t *random) {
    const struct bench *bench = thread->bench;
    uint64_t bits = random_next(random);
    size_t alignment = (size_t)1 << (SMALLEST_SHIFT + random_below(bits, SHIFTS));
    size_t size = (picker_draw(bench->sizes, random_next(random)) + alignment - 1) & ~(alignment - 1);
    void *block = bench->allocator.aligned(alignment, size);
    if (!block)
        fail("out of memory: aligned_alloc gave NULL for %zu bytes", size);
    thread->count += ((uintptr_t)block & (alignment - 1)) != 0;
    block_fill(bench, block, 1, bench->options.touch ? size : 8);
    return block;
}

static void aligned_body(struct bench_thread *thread) { slot_loop_body(thread, make); }

static void aligned_run(struct bench *bench) {
    static const struct team_task task = {
        .prepare = slot_loop_prepare, .body = aligned_body, .finish = slot_loop_finish};
    if (!bench->allocator.aligned)
        fail("%s has no aligned_alloc or memalign of its own", bench->allocator.object);
    team_run(bench, &task);
    report_result(bench, "misaligned_blocks", (double)team_sum(bench, offsetof(struct bench_thread, count)));
    report_per_operation(bench);
}

const struct workload workload_aligned = {
    .name = "aligned",
    .sentence = "blocks aligned to 16 bytes up to 4 KiB in random slots: what alignment costs in time and memory",
    .source = "vector and I/O buffers: aligned_alloc, posix_memalign, aligned new",
    .takes = TAKES_SLOTS | TAKES_ITERS | TAKES_RANGE | TAKES_DISTRIBUTION | TAKES_TOUCH | TAKES_DURATION | TAKES_CALLS,
    .defaults = {.threads = 1,
                 .slots = 10000,
                 .iters = 1000000,
                 .min_size = 16,
                 .max_size = 8 << 10,
                 .distribution = DISTRIBUTION_LOG},
    .run = aligned_run,
};
