/* workload_larson.c: a server whose threads live briefly and hand their objects on.
 *
 * Each thread of the team stands for a connection. It starts a worker, which replaces objects of random size at random
 * places of the connection's table and ends; the next worker goes on with the same table. So most objects are freed by
 * another thread than the one that allocated them, and that one is dead by then.
 */
#include <pthread.h>
#include <string.h>

#include "random.h"
#include "rnbench.h"

static void put(struct bench_thread *thread, void **slot, uint64_t *random) {
    const struct bench *bench = thread->bench;
    size_t size = picker_draw(bench->sizes, random_next(random));
    *slot = must_alloc(bench->allocator.alloc, size);
    if (bench->options.touch)
        block_fill(bench, *slot, (int)size, size);
    else if (!bench->options.check)
        *(volatile char *)*slot = 1; /* a server writes at least a header */
    thread->allocs++;
}

static void larson_prepare(struct bench_thread *thread) {
    const struct options *options = &thread->bench->options;
    void **table = thread->table = table_new(options->slots * sizeof(void *), true);
    for (uint64_t i = 0; i < options->slots; i++)
        put(thread, &table[i], &thread->random);
    thread->allocs = 0;
}

static void *worker(void *argument) {
    struct bench_thread *thread = argument;
    const struct bench *bench = thread->bench;
    void **table = thread->table;
    uint64_t random = thread->random;
    team_enter(thread);
    uint64_t i = 0;
    for (; bench_goes_on(bench, i, bench->options.iters); i++) {
        void **slot = &table[random_below(random_next(&random), bench->options.slots)];
        bench->allocator.release(*slot);
        put(thread, slot, &random);
    }
    team_leave();
    thread->frees += i;
    thread->random = random;
    return NULL;
}

static void larson_body(struct bench_thread *thread) {
    for (uint64_t round = 0; bench_goes_on(thread->bench, round, thread->bench->options.rounds); round++) {
        pthread_t handle;
        int error = pthread_create(&handle, NULL, worker, thread);
        if (error)
            fail("cannot start a worker: %s", strerror(error));
        pthread_join(handle, NULL);
    }
    thread->ops = thread->frees;
}

static void larson_finish(struct bench_thread *thread) {
    const struct options *options = &thread->bench->options;
    void **table = thread->table;
    for (uint64_t i = 0; i < options->slots; i++)
        thread->bench->allocator.release(table[i]);
    table_free(table, options->slots * sizeof(void *));
}

static void larson_run(struct bench *bench) {
    static const struct team_task task = {.prepare = larson_prepare, .body = larson_body, .finish = larson_finish};
    team_run(bench, &task);
    report_per_operation(bench);
}

const struct workload workload_larson = {
    .name = "larson",
    .sentence = "a server: short-lived threads replace objects at random and hand all of them on to their successors",
    .source = "Larson and Krishnan, Memory allocation for long-running server applications, ISMM 1998",
    .takes = TAKES_SLOTS | TAKES_ITERS | TAKES_ROUNDS | TAKES_RANGE | TAKES_DISTRIBUTION | TAKES_TOUCH |
             TAKES_DURATION | TAKES_CALLS,
    .defaults = {.threads = 2, .slots = 1000, .iters = 20000, .rounds = 50, .min_size = 8, .max_size = 1000},
    .run = larson_run,
};
