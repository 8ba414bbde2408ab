/* workload_waste.c: resident memory per byte that the program asked for.
 *
 * Objects are added until --live bytes are requested. From then on each step draws a size, frees objects at random
 * until it fits, and allocates it: the distribution of sizes stays, the places get mixed. Every byte is written. The
 * ratio is peak resident memory of the process, less the benchmark's own table, over the peak of requested bytes.
 */
#include <string.h>
#include <unistd.h>

#include "random.h"
#include "rnbench.h"

struct entry {
    void *object;
    size_t size;
};

static uint64_t share(const struct options *options) { return options->live / options->threads; }

static size_t capacity(const struct options *options) { return share(options) / options->min_size + 1; }

static void waste_prepare(struct bench_thread *thread) {
    const struct options *options = &thread->bench->options;
    if (options->max_size > share(options))
        fail("--live: a thread's share of %llu bytes does not hold a block of --max-size",
             (unsigned long long)share(options));
    thread->table = table_new(capacity(options) * sizeof(struct entry), false);
}

static void waste_body(struct bench_thread *thread) {
    const struct bench *bench = thread->bench;
    const uint64_t target = share(&bench->options);
    struct entry *entries = thread->table;
    uint64_t random = thread->random, live = 0, count = 0, most = 0;
    bool full = false;
    for (uint64_t steps = 0; bench_goes_on(bench, steps, bench->options.iters); steps += full) {
        size_t size = picker_draw(bench->sizes, random_next(&random));
        while (live + size > target) {
            struct entry *victim = &entries[random_below(random_next(&random), count)];
            bench->allocator.release(victim->object);
            live -= victim->size;
            *victim = entries[--count];
            entries[count].object = NULL;
            thread->frees++;
            full = true;
        }
        void *object = must_alloc(bench->allocator.alloc, size);
        block_fill(bench, object, (int)steps, size);
        entries[count++] = (struct entry){object, size};
        live += size;
        thread->allocs++;
        thread->peak_bytes = live > thread->peak_bytes ? live : thread->peak_bytes;
        most = count > most ? count : most;
    }
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    thread->table_bytes = (most * sizeof *entries + page - 1) / page * page;
    thread->ops = thread->allocs + thread->frees;
}

/* Objects stand at the front of the table; the first empty entry ends them. */
static void waste_finish(struct bench_thread *thread) {
    const struct options *options = &thread->bench->options;
    struct entry *entries = thread->table;
    for (size_t i = 0; i < capacity(options) && entries[i].object; i++)
        thread->bench->allocator.release(entries[i].object);
    table_free(entries, capacity(options) * sizeof *entries);
}

static void waste_run(struct bench *bench) {
    static const struct team_task task = {.prepare = waste_prepare, .body = waste_body, .finish = waste_finish};
    team_run(bench, &task);
    double live = (double)team_sum(bench, offsetof(struct bench_thread, peak_bytes));
    double tables = (double)team_sum(bench, offsetof(struct bench_thread, table_bytes));
    double peak = (double)peak_resident_bytes() - tables;
    report_result(bench, "peak_live_bytes", live);
    report_result(bench, "table_bytes", tables);
    report_result(bench, "waste_ratio", peak / live);
}

const struct workload workload_waste = {
    .name = "waste",
    .sentence =
        "mixed sizes held at a steady total while objects are replaced at random; peak resident over peak live bytes",
    .source = "steady-state fragmentation as in long-running caches; compare Johnstone and Wilson, ISMM 1998",
    .takes = TAKES_LIVE | TAKES_ITERS | TAKES_RANGE | TAKES_DISTRIBUTION | TAKES_DURATION | TAKES_CALLS,
    .defaults = {.threads = 1,
                 .live = 64 << 20,
                 .iters = 500000,
                 .min_size = 16,
                 .max_size = 8 << 10,
                 .distribution = DISTRIBUTION_LOG},
    .run = waste_run,
};
