/* workload_lifetimes.c: many threads that live for a random time, and objects that outlive them.
 *
 * Each thread of the team starts workers, one after the other. A worker lives for a random number of operations, spread
 * over three orders of magnitude, on slots of its own. At its end it frees most of what it has and leaves a quarter in
 * places that all share, where it takes and frees what others left.
 */
#include <pthread.h>
#include <string.h>

#include "random.h"
#include "rnbench.h"

enum { SHARED = 4096, SHORTEST = 1024 };

static void *shared[SHARED];

struct worker {
    struct bench_thread *thread;
    uint64_t random;
    uint64_t operations;
};

static void *make(const struct bench *bench, uint64_t *random) {
    size_t size = picker_draw(bench->sizes, random_next(random));
    void *block = must_alloc(bench->allocator.alloc, size);
    block_fill(bench, block, (int)size, bench->options.touch || size < 8 ? size : 8);
    return block;
}

/* The exchange releases what the block's maker wrote and acquires what the other block's maker did. */
static void leave_some(struct bench_thread *thread, void **slots, uint64_t *random) {
    for (uint64_t i = 0; i < thread->bench->options.slots; i++) {
        if (!slots[i])
            continue;
        uint64_t bits = random_next(random);
        if ((bits & 0x30000) == 0)
            slots[i] = __atomic_exchange_n(&shared[random_below(bits, SHARED)], slots[i], __ATOMIC_ACQ_REL);
        if (slots[i])
            thread->frees++;
        thread->bench->allocator.release(slots[i]);
        slots[i] = NULL;
    }
}

static void *worker_main(void *argument) {
    struct worker *worker = argument;
    struct bench_thread *thread = worker->thread;
    const struct bench *bench = thread->bench;
    void **slots = thread->table; /* empty again: one worker lives at a time */
    team_enter(thread);
    for (uint64_t i = 0; bench_goes_on(bench, i, worker->operations); i++) {
        void **slot = &slots[random_below(random_next(&worker->random), bench->options.slots)];
        if (*slot) {
            bench->allocator.release(*slot);
            *slot = NULL;
            thread->frees++;
        } else {
            *slot = make(bench, &worker->random);
            thread->allocs++;
        }
    }
    leave_some(thread, slots, &worker->random);
    team_leave();
    return NULL;
}

/* 1024 times 1 to 1,000 operations, as many short lives as long ones. */
static uint64_t lifetime(uint64_t *random) {
    static const uint64_t knots[] = {1, 3, 10, 32, 100, 316};
    uint64_t bits = random_next(random);
    uint64_t base = knots[random_below(bits, sizeof knots / sizeof *knots)];
    return SHORTEST * base + (bits & 0xffff) * base * 2 / 64;
}

static void lifetimes_prepare(struct bench_thread *thread) {
    thread->table = table_new(thread->bench->options.slots * sizeof(void *), true);
}

static void lifetimes_body(struct bench_thread *thread) {
    struct worker worker = {.thread = thread, .random = thread->random};
    const struct bench *bench = thread->bench;
    for (uint64_t done = 0; bench_goes_on(bench, done, bench->options.iters); done += worker.operations) {
        pthread_t handle;
        worker.operations = lifetime(&worker.random);
        if (worker.operations > bench->options.iters - done)
            worker.operations = bench->options.iters - done;
        int error = pthread_create(&handle, NULL, worker_main, &worker);
        if (error)
            fail("cannot start a worker: %s", strerror(error));
        pthread_join(handle, NULL);
        thread->count++;
    }
    thread->ops = thread->allocs + thread->frees;
}

static void lifetimes_run(struct bench *bench) {
    static const struct team_task task = {.prepare = lifetimes_prepare, .body = lifetimes_body};
    team_run(bench, &task);
    for (unsigned i = 0; i < SHARED; i++)
        bench->allocator.release(shared[i]);
    report_result(bench, "workers", (double)team_sum(bench, offsetof(struct bench_thread, count)));
    report_per_operation(bench);
}

const struct workload workload_lifetimes = {
    .name = "lifetimes",
    .sentence = "many threads with random lifetimes; a part of their objects outlives them and is freed by others",
    .source = "the idea of mimalloc-bench's mstress: objects that migrate between threads and some that live long",
    .takes = TAKES_SLOTS | TAKES_ITERS | TAKES_RANGE | TAKES_DISTRIBUTION | TAKES_TOUCH | TAKES_DURATION | TAKES_CALLS,
    .defaults = {.threads = 4,
                 .slots = 2000,
                 .iters = 1000000,
                 .min_size = 8,
                 .max_size = 4096,
                 .distribution = DISTRIBUTION_LOG},
    .run = lifetimes_run,
};
