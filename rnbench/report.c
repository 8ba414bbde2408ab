/* report.c: the outcome of a run, for people or for programs. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rnbench.h"

void report_result(struct bench *bench, const char *name, double value) {
    if (bench->result_count == MAX_RESULTS)
        fail("the workload %s has more than %d results", bench->workload->name, MAX_RESULTS);
    bench->results[bench->result_count++] = (struct result){name, value};
}

void report_per_operation(struct bench *bench) {
    uint64_t ops = team_sum(bench, offsetof(struct bench_thread, ops));
    report_result(bench, "ns_per_operation", ops ? (double)bench->total_ns / (double)ops : 0);
}

void report_list(void) {
    for (const struct workload *const *entry = workloads; *entry; entry++)
        printf("%-13s %s\n              source: %s\n", (*entry)->name, (*entry)->sentence, (*entry)->source);
}

static double milliseconds(uint64_t ns) { return (double)ns / 1e6; }

static unsigned long long sum(const struct bench *bench, size_t offset) { return team_sum(bench, offset); }

#define SUM(bench, field) sum(bench, offsetof(struct bench_thread, field))

static double ops_per_second(const struct bench *bench) {
    return bench->total_ns ? (double)SUM(bench, ops) * 1e9 / (double)bench->total_ns : 0;
}

static void print_counters(const struct bench *bench) {
    if (!bench->options.counters)
        return;
    for (unsigned i = 0; i < COUNTERS; i++)
        if (bench->counters.value[i] >= 0)
            printf("%s %lld (%.2f per operation)\n", counter_names[i], (long long)bench->counters.value[i],
                   (double)bench->counters.value[i] / (double)SUM(bench, ops));
        else
            printf("%s not counted on this machine: %s\n", counter_names[i], bench->counters.reason);
}

/* The largest that was seen by any means: the kernel's mark is not exact. */
static uint64_t peak_bytes(const struct bench *bench) {
    uint64_t peak = peak_resident_bytes();
    return bench->rss_end > peak ? bench->rss_end : peak;
}

enum { TOLD_THREADS = 64 };

static void print_text(const struct bench *bench) {
    const struct options *options = &bench->options;
    printf("workload %s, allocator %s from %s", bench->workload->name, bench->allocator.name, bench->allocator.object);
    if (*bench->allocator.mode)
        printf(" (%s)", bench->allocator.mode);
    printf("\n");
    for (unsigned i = 0; i < options->threads && i < TOLD_THREADS; i++)
        printf("thread %-4u %12.3f ms\n", i, milliseconds(bench->threads[i].end_ns - bench->threads[i].start_ns));
    if (options->threads > TOLD_THREADS)
        printf("... and %llu threads more (all of them with --json)\n",
               (unsigned long long)options->threads - TOLD_THREADS);
    printf("total       %12.3f ms\n", milliseconds(bench->total_ns));
    printf("%llu operations, %llu allocations, %llu frees; %.4g operations per second\n", SUM(bench, ops),
           SUM(bench, allocs), SUM(bench, frees), ops_per_second(bench));
    printf("peak resident memory %.1f MiB, of it %.1f MiB tables of the benchmark; %llu minor and %llu major faults\n",
           (double)peak_bytes(bench) / (1 << 20), (double)bench->own_bytes / (1 << 20),
           (unsigned long long)bench->usage.minor_faults, (unsigned long long)bench->usage.major_faults);
    printf("resident: %.1f MiB before, %.1f MiB after; user %.3f s, system %.3f s; %llu waits, %llu preemptions\n",
           (double)bench->rss_before / (1 << 20), (double)bench->rss_end / (1 << 20),
           (double)bench->usage.user_ns / 1e9, (double)bench->usage.system_ns / 1e9,
           (unsigned long long)bench->usage.waits, (unsigned long long)bench->usage.preemptions);
    print_counters(bench);
    if (options->check)
        printf(
            "check: %llu blocks verified; at most %.1f MiB live, %.1f MiB at the end (times and memory above include "
            "the check)\n",
            (unsigned long long)bench->checked.blocks, (double)bench->checked.peak_bytes / (1 << 20),
            (double)bench->checked.live_bytes / (1 << 20));
    if (options->latency)
        latency_text(bench);
    for (unsigned i = 0; i < bench->result_count; i++)
        printf("%s %.10g\n", bench->results[i].name, bench->results[i].value);
}

void json_string(const char *text) {
    putchar('"');
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c < 0x20)
            printf("\\u%04x", c);
        else if (c == '"' || c == '\\')
            printf("\\%c", c);
        else
            putchar(c);
    }
    putchar('"');
}

void json_text(const char *name, const char *value) {
    printf("\"%s\": ", name);
    json_string(value);
    printf(", ");
}

static void json_number(const char *name, unsigned long long value) { printf("\"%s\": %llu, ", name, value); }

/* Only what the workload takes, so that a reader is not told of a setting without effect. */
static void json_options(const struct bench *bench) {
    const struct options *o = &bench->options;
    unsigned takes = bench->workload->takes;
    const struct {
        unsigned bit;
        const char *name;
        uint64_t value;
    } settings[] = {
        {TAKES_SLOTS, "slots", o->slots},
        {TAKES_ITERS, "iters", o->iters},
        {TAKES_ROUNDS, "rounds", o->rounds},
        {TAKES_OBJECTS, "objects", o->objects},
        {TAKES_RANGE, "min_size", o->min_size},
        {TAKES_RANGE, "max_size", o->max_size},
        {TAKES_LIVE, "live", o->live},
        {TAKES_SLEEP, "sleep", o->sleep},
        {TAKES_EMPTY, "empty", o->empty},
        {TAKES_TOUCH, "touch", o->touch},
        {TAKES_WRITES, "writes", o->writes},
        {TAKES_STRIDE, "stride", o->stride},
        {TAKES_DURATION, "duration_ms", o->duration},
    };
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
        if (takes & settings[i].bit)
            json_number(settings[i].name, settings[i].value);
    if (takes & TAKES_MODE)
        json_text("mode", o->mode == MODE_ALLOC ? "alloc" : "mixed");
    if (takes & TAKES_DISTRIBUTION)
        json_text("distribution", o->distribution == DISTRIBUTION_LOG ? "log" : "uniform");
    if (takes & TAKES_SIZES) {
        printf("\"sizes\": [");
        for (unsigned i = 0; i < o->size_count; i++)
            printf("%s%llu", i ? ", " : "", (unsigned long long)o->sizes[i]);
        printf("], ");
    }
    json_number("threads", o->threads);
    printf("\"seed\": %llu", (unsigned long long)o->seed);
}

static void json_measures(const struct bench *bench) {
    printf("\"ops_per_second\": %.6g, ", ops_per_second(bench));
    json_number("peak_rss_bytes", peak_bytes(bench));
    json_number("own_bytes", bench->own_bytes);
    json_number("rss_bytes", resident_bytes());
    json_number("rss_before_bytes", bench->rss_before);
    json_number("rss_end_bytes", bench->rss_end);
    json_number("minor_faults", bench->usage.minor_faults);
    json_number("major_faults", bench->usage.major_faults);
    json_number("user_ns", bench->usage.user_ns);
    json_number("system_ns", bench->usage.system_ns);
    json_number("voluntary_switches", bench->usage.waits);
    json_number("involuntary_switches", bench->usage.preemptions);
    if (bench->options.check) {
        json_number("checked_blocks", bench->checked.blocks);
        json_number("peak_live_bytes", bench->checked.peak_bytes);
        json_number("live_bytes", bench->checked.live_bytes);
    }
    if (bench->options.latency)
        latency_json(bench);
    if (bench->options.counters) {
        printf("\"counters\": {");
        for (unsigned i = 0; i < COUNTERS; i++)
            if (bench->counters.value[i] >= 0)
                json_number(counter_names[i], (unsigned long long)bench->counters.value[i]);
        printf("\"not_counted\": ");
        json_string(bench->counters.reason ? bench->counters.reason : "");
        printf("}, ");
    }
}

static void print_json(const struct bench *bench) {
    const char *preload = getenv("LD_PRELOAD");
    printf("{");
    json_text("workload", bench->workload->name);
    json_text("allocator", bench->allocator.name);
    json_text("allocator_object", bench->allocator.object);
    json_text("rnalloc_mode", bench->allocator.mode);
    json_text("preload", preload ? preload : "");
    printf("\"options\": {");
    json_options(bench);
    printf("}, ");
    json_number("total_ns", bench->total_ns);
    printf("\"thread_ns\": [");
    for (unsigned i = 0; i < bench->options.threads; i++)
        printf("%s%llu", i ? ", " : "", (unsigned long long)(bench->threads[i].end_ns - bench->threads[i].start_ns));
    printf("], ");
    json_number("ops", SUM(bench, ops));
    json_number("allocs", SUM(bench, allocs));
    json_number("frees", SUM(bench, frees));
    json_measures(bench);
    printf("\"results\": {");
    for (unsigned i = 0; i < bench->result_count; i++)
        printf("%s\"%s\": %.15g", i ? ", " : "", bench->results[i].name, bench->results[i].value);
    printf("}}\n");
}

void report_print(const struct bench *bench) {
    if (bench->options.json)
        print_json(bench);
    else
        print_text(bench);
}
