/* team.c: threads that start together.
 *
 * A thread's way, with the three barriers that all threads and the main thread pass:
 *
 *     prepare | ready | start clock, body, stop clock | done | (main: pause) | leave | finish
 *
 * With more threads than CPUs a thread's time includes its waiting for a CPU; the total is what a user would wait.
 */
#include <pthread.h>
#include <string.h>

#include "random.h"
#include "rnbench.h"

struct team {
    const struct team_task *task;
    pthread_barrier_t ready, done, leave;
};

static struct team team;

static void timed_body(struct bench_thread *thread) {
    thread->start_ns = clock_ns();
    team.task->body(thread);
    thread->end_ns = clock_ns();
}

static void call(void (*stage)(struct bench_thread *), struct bench_thread *thread) {
    if (stage)
        stage(thread);
}

static void *thread_main(void *argument) {
    struct bench_thread *thread = argument;
    call(team.task->prepare, thread);
    pthread_barrier_wait(&team.ready);
    timed_body(thread);
    pthread_barrier_wait(&team.done);
    pthread_barrier_wait(&team.leave);
    call(team.task->finish, thread);
    return NULL;
}

static void run_alone(struct bench *bench) {
    struct bench_thread *thread = bench->threads;
    call(team.task->prepare, thread);
    struct usage before = usage_now();
    timed_body(thread);
    bench->usage = usage_since(&before);
    if (team.task->pause)
        team.task->pause(bench);
    call(team.task->finish, thread);
}

static void run_threads(struct bench *bench, unsigned count, pthread_t *handles) {
    pthread_barrier_init(&team.ready, NULL, count + 1);
    pthread_barrier_init(&team.done, NULL, count + 1);
    pthread_barrier_init(&team.leave, NULL, count + 1);

    /* Stacks below 2 MiB, since under THP `always` a hugepage per stack would drown what is to be measured. */
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 256 * 1024);
    for (unsigned i = 0; i < count; i++) {
        int error = pthread_create(&handles[i], &attributes, thread_main, &bench->threads[i]);
        if (error)
            fail("cannot start thread %u of %u: %s", i + 1, count, strerror(error));
    }
    struct usage before = usage_now();
    pthread_barrier_wait(&team.ready);
    pthread_barrier_wait(&team.done);
    bench->usage = usage_since(&before);
    if (team.task->pause)
        team.task->pause(bench);
    pthread_barrier_wait(&team.leave);
    for (unsigned i = 0; i < count; i++)
        pthread_join(handles[i], NULL);
    pthread_attr_destroy(&attributes);
}

void team_run(struct bench *bench, const struct team_task *task) {
    unsigned count = (unsigned)bench->options.threads;
    team.task = task;
    bench->threads = table_new(count * sizeof *bench->threads, true);
    for (unsigned i = 0; i < count; i++) {
        bench->threads[i].bench = bench;
        bench->threads[i].index = i;
        bench->threads[i].random = random_start(bench->options.seed, i);
    }
    if (count == 1)
        run_alone(bench);
    else
        run_threads(bench, count, table_new(count * sizeof(pthread_t), true));

    uint64_t first = UINT64_MAX, last = 0;
    for (unsigned i = 0; i < count; i++) {
        const struct bench_thread *thread = &bench->threads[i];
        first = thread->start_ns < first ? thread->start_ns : first;
        last = thread->end_ns > last ? thread->end_ns : last;
    }
    bench->total_ns = last - first;
}

uint64_t team_sum(const struct bench *bench, size_t offset) {
    uint64_t sum = 0;
    for (unsigned i = 0; i < bench->options.threads; i++) {
        uint64_t value;
        memcpy(&value, (const char *)&bench->threads[i] + offset, sizeof value);
        sum += value;
    }
    return sum;
}
