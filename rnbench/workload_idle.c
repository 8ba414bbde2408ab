/* workload_idle.c: what sleeping threads keep.
 *
 * Every thread allocates its objects, writes them and frees them in mixed order, some rounds long, and then sleeps;
 * resident memory is read after a wait. With --empty the same threads do the same without the calls: the difference is
 * the allocator's. A few pages of stack are touched in both forms, since the depth of an allocator's calls is not
 * memory it keeps.
 */
#include <string.h>

#include "random.h"
#include "rnbench.h"

enum { STACK_BYTES = 16 << 10 };

static void __attribute__((noinline)) touch_stack(void) {
    char room[STACK_BYTES];
    memset(room, 1, sizeof room);
    __asm__ volatile("" : : "r"(room) : "memory");
}

static void idle_prepare(struct bench_thread *thread) {
    touch_stack();
    thread->table = table_new(thread->bench->options.objects * sizeof(void *), true);
}

static void churn(struct bench_thread *thread, void **objects, uint64_t *random) {
    const struct bench *bench = thread->bench;
    uint64_t count = bench->options.objects;
    for (uint64_t i = 0; i < count; i++) {
        size_t size = picker_draw(bench->sizes, random_next(random));
        objects[i] = must_alloc(bench->allocator.alloc, size);
        block_fill(bench, objects[i], (int)i, size);
        uint64_t other = random_below(random_next(random), i + 1); /* mixes the order in which they are freed */
        void *moved = objects[other];
        objects[other] = objects[i];
        objects[i] = moved;
    }
    for (uint64_t i = 0; i < count; i++)
        bench->allocator.release(objects[i]);
    thread->allocs += count;
    thread->frees += count;
}

static void idle_body(struct bench_thread *thread) {
    const struct options *options = &thread->bench->options;
    uint64_t random = thread->random;
    for (uint64_t round = 0; bench_goes_on(thread->bench, round, options->rounds) && !options->empty; round++)
        churn(thread, thread->table, &random);
    thread->ops = thread->allocs + thread->frees;
}

static void idle_pause(struct bench *bench) {
    report_result(bench, "rss_at_once_bytes", (double)resident_bytes());
    sleep_seconds(bench->options.sleep);
    report_result(bench, "rss_kept_bytes", (double)resident_bytes());
}

static void idle_run(struct bench *bench) {
    static const struct team_task task = {.prepare = idle_prepare, .body = idle_body, .pause = idle_pause};
    report_result(bench, "rss_before_bytes", (double)resident_bytes());
    team_run(bench, &task);
}

const struct workload workload_idle = {
    .name = "idle",
    .sentence =
        "an idle fleet: threads that churned a few small objects, freed them all and sleep; what memory is kept",
    .source = "servers with a thread per connection; compare with --empty",
    .takes = TAKES_OBJECTS | TAKES_ROUNDS | TAKES_RANGE | TAKES_DISTRIBUTION | TAKES_SLEEP | TAKES_EMPTY |
             TAKES_DURATION | TAKES_CALLS,
    .defaults = {.threads = 1000, .objects = 256, .rounds = 10, .min_size = 16, .max_size = 1024, .sleep = 2},
    .run = idle_run,
};
