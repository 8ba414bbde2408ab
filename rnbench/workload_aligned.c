/* workload_aligned.c: blocks aligned to 16 bytes up to a page, in random slots.
 *
 * Blocks that are not aligned as asked are counted and told, and end the run only under --check: Debian's
 * mimalloc 2.0.9 gives some, and its speed can be compared all the same.
 */
#include <string.h>

#include "random.h"
#include "rnbench.h"

enum { SMALLEST_SHIFT = 4, SHIFTS = 9 };

static void aligned_prepare(struct bench_thread *thread) {
    thread->table = table_new(thread->bench->options.slots * sizeof(void *), true);
}

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

static void aligned_body(struct bench_thread *thread) {
    const struct bench *bench = thread->bench;
    void **table = thread->table;
    uint64_t random = thread->random, i = 0;
    for (; bench_goes_on(bench, i, bench->options.iters); i++) {
        void **slot = &table[random_below(random_next(&random), bench->options.slots)];
        if (*slot) {
            bench->allocator.release(*slot);
            *slot = NULL;
            thread->frees++;
        } else {
            *slot = make(thread, &random);
            thread->allocs++;
        }
    }
    thread->ops = i;
}

static void aligned_finish(struct bench_thread *thread) {
    void **table = thread->table;
    for (uint64_t i = 0; i < thread->bench->options.slots; i++)
        thread->bench->allocator.release(table[i]);
    table_free(table, thread->bench->options.slots * sizeof(void *));
}

static void aligned_run(struct bench *bench) {
    static const struct team_task task = {.prepare = aligned_prepare, .body = aligned_body, .finish = aligned_finish};
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
