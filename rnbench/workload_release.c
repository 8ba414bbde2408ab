/* workload_release.c: whether memory goes back to the system when a program has freed it and does nothing more.
 *
 * The threads build their share of --live bytes out of small objects, free all of them in random order, and sleep.
 * Resident memory is read right after the last free and after the wait. The tables are unmapped by then.
 */
#include <string.h>

#include "random.h"
#include "rnbench.h"

static uint64_t share(const struct options *options) { return options->live / options->threads; }

/* Room for as many objects as there could be; only what is used gets backed. */
static size_t table_bytes(const struct options *options) {
    return (share(options) / options->min_size + 1) * sizeof(void *);
}

static uint64_t build(struct bench_thread *thread, void **objects) {
    const struct bench *bench = thread->bench;
    uint64_t count = 0;
    for (uint64_t live = 0; live < share(&bench->options);) {
        size_t size = picker_draw(bench->sizes, random_next(&thread->random));
        void *object = must_alloc(bench->allocator.alloc, size);
        block_fill(bench, object, 1, size);
        uint64_t other = random_below(random_next(&thread->random), count + 1);
        objects[count] = objects[other]; /* Fisher and Yates, inside out: the order of freeing is random */
        objects[other] = object;
        count++;
        live += size;
    }
    return count;
}

static void release_body(struct bench_thread *thread) {
    const struct options *options = &thread->bench->options;
    void **objects = table_new(table_bytes(options), false);
    uint64_t count = build(thread, objects);
    for (uint64_t i = 0; i < count; i++)
        thread->bench->allocator.release(objects[i]);
    table_free(objects, table_bytes(options));
    thread->allocs = thread->frees = count;
    thread->ops = 2 * count;
}

static void release_pause(struct bench *bench) {
    report_result(bench, "rss_freed_bytes", (double)resident_bytes());
    sleep_seconds(bench->options.sleep);
    report_result(bench, "rss_later_bytes", (double)resident_bytes());
}

static void release_run(struct bench *bench) {
    static const struct team_task task = {.body = release_body, .pause = release_pause};
    team_run(bench, &task);
}

const struct workload workload_release = {
    .name = "release",
    .sentence = "threads build many small objects, free them all and sleep; what is still resident some seconds later",
    .source = "services with a load by day and none by night",
    .takes = TAKES_LIVE | TAKES_RANGE | TAKES_DISTRIBUTION | TAKES_SLEEP | TAKES_CALLS,
    .defaults = {.threads = 4, .live = 400 << 20, .min_size = 16, .max_size = 256, .sleep = 10},
    .run = release_run,
};
