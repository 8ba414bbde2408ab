/* latency.c: the time of every call of a body, by kind, in one histogram per thread and kind.
 *
 * A layer of functions stands in for the allocator's own and reads the CPU's counter before and after each call. What
 * the reading costs is measured with the same layer around functions that do nothing; it is told, and not subtracted,
 * because a distribution less a constant is not the distribution of anything. Ticks become nanoseconds at the end.
 */
#include <stdio.h>

#include "histogram.h"
#include "rnbench.h"

enum call { CALL_ALLOC, CALL_FREE, CALL_REALLOC, CALL_CALLOC, CALL_ALIGNED, CALLS };

static const char *const call_names[CALLS] = {"alloc", "free", "realloc", "calloc", "aligned"};

struct latency {
    struct histogram call[CALLS];
};

static struct allocator inner;
static __thread struct latency *mine;
static double ns_per_tick = 1;
static uint64_t cost_ticks; /* median of a timed call that does nothing */

/* The counter is fenced on the side of the call, so that the call is timed and not its neighbours. */
static inline uint64_t ticks(void) {
#if defined(__x86_64__)
    unsigned low, high, core;
    __asm__ volatile("rdtscp; lfence" : "=a"(low), "=d"(high), "=c"(core) : : "memory");
    return (uint64_t)high << 32 | low;
#elif defined(__aarch64__)
    uint64_t now;
    __asm__ volatile("isb; mrs %0, cntvct_el0; isb" : "=r"(now) : : "memory");
    return now;
#else
    return clock_ns();
#endif
}

static inline void note(enum call call, uint64_t from, uint64_t to) {
    if (mine)
        histogram_add(&mine->call[call], to - from);
}

static void *timed_alloc(size_t size) {
    uint64_t from = ticks();
    void *block = inner.alloc(size);
    note(CALL_ALLOC, from, ticks());
    return block;
}

static void timed_release(void *block) {
    uint64_t from = ticks();
    inner.release(block);
    note(CALL_FREE, from, ticks());
}

static void *timed_resize(void *block, size_t size) {
    uint64_t from = ticks();
    void *moved = inner.resize(block, size);
    note(CALL_REALLOC, from, ticks());
    return moved;
}

static void *timed_zeroed(size_t count, size_t size) {
    uint64_t from = ticks();
    void *block = inner.zeroed(count, size);
    note(CALL_CALLOC, from, ticks());
    return block;
}

static void *timed_aligned(size_t alignment, size_t size) {
    uint64_t from = ticks();
    void *block = inner.aligned(alignment, size);
    note(CALL_ALIGNED, from, ticks());
    return block;
}

static void *do_nothing(size_t size) { return (void *)size; }

/* One moment on both clocks. */
struct moment {
    uint64_t ns, ticks;
};

/* The clock is read between two readings of the counter. Where these lie far apart, the thread lost the CPU meanwhile:
 * of some tries the narrowest is taken. */
static struct moment moment_now(void) {
    enum { TRIES = 100 };
    struct moment best = {0, 0};
    uint64_t narrowest = UINT64_MAX;
    for (unsigned i = 0; i < TRIES; i++) {
        uint64_t before = ticks(), ns = clock_ns(), width = ticks() - before;
        if (width < narrowest) {
            narrowest = width;
            best = (struct moment){ns, before + width / 2};
        }
    }
    return best;
}

static void calibrate(void) {
    enum { CALLS_TIMED = 20000, SPAN_NS = 20000000 };
    struct latency *scratch = table_new(sizeof *scratch, true);
    struct moment first = moment_now();
    mine = scratch;
    for (unsigned i = 0; i < CALLS_TIMED; i++)
        timed_alloc(i);
    mine = NULL;
    while (clock_ns() - first.ns < SPAN_NS)
        ;
    struct moment last = moment_now();
    ns_per_tick = (double)(last.ns - first.ns) / (double)(last.ticks - first.ticks);
    cost_ticks = histogram_quantile(&scratch->call[CALL_ALLOC], 500000);
    table_free(scratch, sizeof *scratch);
}

void latency_layer(struct allocator *allocator) {
    inner.alloc = do_nothing;
    calibrate();
    inner = *allocator;
    allocator->alloc = timed_alloc;
    allocator->release = timed_release;
    allocator->resize = inner.resize ? timed_resize : NULL;
    allocator->zeroed = inner.zeroed ? timed_zeroed : NULL;
    allocator->aligned = inner.aligned ? timed_aligned : NULL;
    allocator->layered = true;
}

void latency_prepare(struct bench *bench) {
    for (unsigned i = 0; i < bench->options.threads; i++)
        bench->threads[i].latency = table_new(sizeof(struct latency), false);
}

void latency_enter(struct latency *latency) { mine = latency; }

static const struct {
    const char *name;
    uint64_t per_million;
} quantiles[] = {{"p50", 500000}, {"p90", 900000}, {"p99", 990000}, {"p99_9", 999000}, {"p99_99", 999900}};

enum { QUANTILES = sizeof quantiles / sizeof *quantiles };

static double nanoseconds(uint64_t count) { return (double)count * ns_per_tick; }

static struct latency *merged(const struct bench *bench) {
    struct latency *all = table_new(sizeof *all, true);
    for (unsigned i = 0; i < bench->options.threads; i++)
        for (unsigned call = 0; call < CALLS; call++)
            histogram_merge(&all->call[call], &bench->threads[i].latency->call[call]);
    return all;
}

void latency_text(const struct bench *bench) {
    const struct latency *all = merged(bench);
    printf("latency in ns, of which the clock costs %.0f:\n", nanoseconds(cost_ticks));
    for (unsigned call = 0; call < CALLS; call++) {
        const struct histogram *histogram = &all->call[call];
        if (histogram->total == 0)
            continue;
        printf("%-8s %12llu calls", call_names[call], (unsigned long long)histogram->total);
        for (unsigned i = 0; i < QUANTILES; i++)
            printf("  %s %.0f", quantiles[i].name,
                   nanoseconds(histogram_quantile(histogram, quantiles[i].per_million)));
        printf("  max %.0f\n", nanoseconds(histogram->largest));
    }
}

static void json_histogram(const struct histogram *histogram) {
    printf("{\"count\": %llu", (unsigned long long)histogram->total);
    for (unsigned i = 0; i < QUANTILES; i++)
        printf(", \"%s_ns\": %.1f", quantiles[i].name,
               nanoseconds(histogram_quantile(histogram, quantiles[i].per_million)));
    printf(", \"max_ns\": %.1f, \"buckets\": [", nanoseconds(histogram->largest));
    const char *comma = "";
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
        if (histogram->count[i]) {
            printf("%s[%.1f, %llu]", comma, nanoseconds(histogram_upper(i)), (unsigned long long)histogram->count[i]);
            comma = ", ";
        }
    printf("]}");
}

void latency_json(const struct bench *bench) {
    const struct latency *all = merged(bench);
    printf("\"latency\": {\"clock_cost_ns\": %.1f, \"ns_per_tick\": %.6f", nanoseconds(cost_ticks), ns_per_tick);
    for (unsigned call = 0; call < CALLS; call++)
        if (all->call[call].total) {
            printf(", \"%s\": ", call_names[call]);
            json_histogram(&all->call[call]);
        }
    printf("}, ");
}
