/* workload_phase.c: what fragmentation costs when a program changes what it does.
 *
 * A phase fills the heap up to --live bytes with blocks of one size range, then frees three quarters of them at random.
 * The next phase does the same with other sizes, and can reuse only the holes that fit. Peak resident memory over peak
 * live bytes is what the changes cost; resident over live bytes after the last thinning is what stays behind.
 */
#include "random.h"
#include "rnbench.h"

struct entry {
    void *block;
    size_t size;
};

/* Multiples of --sizes, that follow each other up and down, so that neither bigger holes nor smaller ones help
 * always. */
static const unsigned factors[] = {1, 6, 2, 40, 3, 12, 1, 100, 5};

enum { FACTORS = sizeof factors / sizeof *factors };

static uint64_t share(const struct options *options) { return options->live / options->threads; }

static size_t phase_bytes(const struct options *options) {
    return (share(options) / options->sizes[0] + 1) * sizeof(struct entry);
}

static void phase_prepare(struct bench_thread *thread) {
    thread->table = table_new(phase_bytes(&thread->bench->options), false);
}

/* Block sizes from low to twice low. Gives the live bytes. */
static uint64_t fill(struct bench_thread *thread, uint64_t live, size_t low) {
    const struct bench *bench = thread->bench;
    struct entry *entries = thread->table;
    for (;;) {
        size_t size = low + random_below(random_next(&thread->random), low + 1);
        if (live + size > share(&bench->options))
            return live;
        void *block = must_alloc(bench->allocator.alloc, size);
        block_fill(bench, block, (int)size, size);
        entries[thread->count++] = (struct entry){block, size};
        live += size;
        thread->allocs++;
        if (live > thread->peak_bytes)
            thread->peak_bytes = live;
    }
}

static uint64_t thin(struct bench_thread *thread, uint64_t live) {
    struct entry *entries = thread->table;
    uint64_t kept = 0;
    for (uint64_t i = 0; i < thread->count; i++) {
        if ((random_next(&thread->random) >> 62) == 0) {
            entries[kept++] = entries[i];
            continue;
        }
        thread->bench->allocator.release(entries[i].block);
        live -= entries[i].size;
        thread->frees++;
    }
    thread->count = kept;
    return live;
}

static void phase_body(struct bench_thread *thread) {
    const struct options *options = &thread->bench->options;
    uint64_t live = 0, most = 0;
    for (uint64_t round = 0; bench_goes_on(thread->bench, round, options->rounds); round++) {
        live = fill(thread, live, options->sizes[0] * factors[round % FACTORS]);
        most = thread->count > most ? thread->count : most;
        live = thin(thread, live);
    }
    thread->table_bytes = most * sizeof(struct entry);
    thread->live_bytes = live;
    thread->ops = thread->allocs + thread->frees;
}

static void phase_finish(struct bench_thread *thread) {
    struct entry *entries = thread->table;
    for (uint64_t i = 0; i < thread->count; i++)
        thread->bench->allocator.release(entries[i].block);
    table_free(entries, phase_bytes(&thread->bench->options));
}

static void phase_run(struct bench *bench) {
    static const struct team_task task = {.prepare = phase_prepare, .body = phase_body, .finish = phase_finish};
    if (bench->options.size_count != 1)
        fail("--sizes: the workload phase takes one size, the unit of its phases");
    if (bench->options.sizes[0] * factors[7] * 2 > share(&bench->options))
        fail("--live: a thread's share of %llu bytes does not hold a block of 200 times --sizes",
             (unsigned long long)share(&bench->options));
    team_run(bench, &task);
    double peak = (double)team_sum(bench, offsetof(struct bench_thread, peak_bytes));
    double live = (double)team_sum(bench, offsetof(struct bench_thread, live_bytes));
    double tables = (double)team_sum(bench, offsetof(struct bench_thread, table_bytes));
    report_result(bench, "peak_ratio", ((double)peak_resident_bytes() - tables) / peak);
    report_result(bench, "thinned_ratio", live > 0 ? ((double)bench->rss_end - tables) / live : 0);
    report_per_operation(bench);
}

const struct workload workload_phase = {
    .name = "phase",
    .sentence = "fill, free three quarters at random, change sizes, again: what fragmentation costs in resident memory",
    .source =
        "phase behaviour after Wilson et al., Dynamic storage allocation: a survey and critical review, IWMM 1995",
    .takes = TAKES_LIVE | TAKES_ROUNDS | TAKES_SIZES | TAKES_DURATION | TAKES_CALLS,
    .defaults = {.threads = 1, .live = 64 << 20, .rounds = 9, .sizes = {40}, .size_count = 1},
    .run = phase_run,
};
