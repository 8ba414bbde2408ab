/* workload_pair.c: the shortest way through an allocator: malloc and free of one block, again and again.
 *
 * For --allocator malloc the calls are written as a program writes them and go through the PLT. The time is taken in
 * chunks, and the best chunk is told beside the mean: on a shared machine it is the steadier number.
 */
#include <stdlib.h>
#include <string.h>

#include "rnbench.h"

enum { CHUNKS = 32, LONGEST_CHUNK = 1 << 20 };

/* The compiler may neither drop a pair nor see that nobody wrote to the block in between. */
#define USE(block) __asm__ volatile("" : : "r"(block) : "memory")

static void pairs_through_plt(uint64_t count, size_t size, bool touch) {
    for (; count > 0; count--) {
        void *block = malloc(size);
        USE(block);
        if (touch) {
            if (!block)
                fail("out of memory: the allocator gave NULL for %zu bytes", size);
            memset(block, 1, size);
        }
        USE(block);
        free(block);
    }
}

static void pairs_through_pointers(const struct bench *bench, uint64_t count, size_t size) {
    void *(*alloc)(size_t) = bench->allocator.alloc;
    void (*release)(void *) = bench->allocator.release;
    const bool touch = bench->options.touch;
    for (; count > 0; count--) {
        void *block = alloc(size);
        USE(block);
        if (touch)
            block_fill(bench, block, 1, size);
        USE(block);
        release(block);
    }
}

static void pair_chunk(const struct bench *bench, uint64_t count) {
    if (bench->options.allocator != ALLOCATOR_RNALLOC && !bench->allocator.layered)
        pairs_through_plt(count, bench->options.sizes[0], bench->options.touch);
    else
        pairs_through_pointers(bench, count, bench->options.sizes[0]);
}

/* Warms the path up, and finds out once, outside the loop, whether such a block can be had. */
static void pair_prepare(struct bench_thread *thread) {
    const struct bench *bench = thread->bench;
    bench->allocator.release(must_alloc(bench->allocator.alloc, bench->options.sizes[0]));
    pair_chunk(bench, 10000);
}

static void pair_body(struct bench_thread *thread) {
    const struct bench *bench = thread->bench;
    uint64_t done = 0, iters = bench->options.iters, before = clock_ns();
    uint64_t usual = iters / CHUNKS < LONGEST_CHUNK ? iters / CHUNKS + 1 : LONGEST_CHUNK;
    double best = 0;
    while (bench_goes_on(bench, done, iters)) {
        uint64_t count = usual < iters - done ? usual : iters - done;
        pair_chunk(bench, count);
        uint64_t after = clock_ns();
        double each = (double)(after - before) / (double)count;
        if ((best == 0 || each < best) && count == usual)
            best = each;
        before = after;
        done += count;
    }
    thread->best = best;
    thread->ops = thread->allocs = thread->frees = done;
}

static void pair_run(struct bench *bench) {
    static const struct team_task task = {.prepare = pair_prepare, .body = pair_body};
    if (bench->options.size_count != 1)
        fail("--sizes: the workload pair takes one size");
    team_run(bench, &task);

    double spent = 0, best = bench->threads[0].best;
    for (unsigned i = 0; i < bench->options.threads; i++) {
        const struct bench_thread *thread = &bench->threads[i];
        spent += (double)(thread->end_ns - thread->start_ns);
        best = thread->best < best ? thread->best : best;
    }
    report_result(bench, "ns_per_pair", spent / (double)team_sum(bench, offsetof(struct bench_thread, ops)));
    report_result(bench, "best_ns_per_pair", best);
}

const struct workload workload_pair = {
    .name = "pair",
    .sentence = "a hot malloc and free of one block through the PLT: the length of the fast path",
    .source = "the usual first microbenchmark, as in glibc's benchtests (bench-malloc-simple)",
    .takes = TAKES_ITERS | TAKES_SIZES | TAKES_TOUCH | TAKES_DURATION | TAKES_CALLS,
    .defaults = {.threads = 1, .iters = 20000000, .sizes = {64}, .size_count = 1},
    .run = pair_run,
};
