/* team.c: threads that start together.
 *
 * A thread's way, with the four barriers that all threads and the main thread pass:
 *
 *     prepare | prepared | (main: measure) | ready | start clock, body, stop clock | done | (main: measure, pause) |
 * leave | finish
 *
 * --duration is a timer whose signal sets a flag that bodies read; a thread to wait for it would make a process of one
 * thread a process of two. With more threads than CPUs a thread's time includes its waiting for a CPU; the total is
 * what a user would wait.
 */
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/time.h>

#include "random.h"
#include "rnbench.h"

struct team {
    const struct team_task *task;
    pthread_barrier_t prepared, ready, done, leave;
};

static struct team team;
static int *stop_flag;

static void on_alarm(int number) {
    (void)number;
    __atomic_store_n(stop_flag, 1, __ATOMIC_RELAXED);
}

static void start_timer(struct bench *bench) {
    uint64_t ms = bench->options.duration;
    if (ms == 0)
        return;
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    struct itimerval once = {.it_value = {.tv_sec = (time_t)(ms / 1000), .tv_usec = (suseconds_t)(ms % 1000 * 1000)}};
    stop_flag = &bench->stop;
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &once, NULL);
}

static struct usage usage_before;

static void bodies_begin(struct bench *bench) {
    bench->rss_before = resident_bytes();
    usage_before = usage_now();
    counters_start();
    start_timer(bench);
}

static void bodies_end(struct bench *bench) {
    bench->counters = counters_stop();
    bench->usage = usage_since(&usage_before);
    bench->rss_end = resident_bytes();
    bench->own_bytes = table_bytes_touched() + team_sum(bench, offsetof(struct bench_thread, table_bytes));
    bench->checked = check_now();
}

void team_enter(struct bench_thread *thread) { latency_enter(thread->latency); }

void team_leave(void) { latency_enter(NULL); }

static void timed_body(struct bench_thread *thread) {
    team_enter(thread);
    thread->start_ns = clock_ns();
    team.task->body(thread);
    thread->end_ns = clock_ns();
    team_leave();
}

static void call(void (*stage)(struct bench_thread *), struct bench_thread *thread) {
    if (stage)
        stage(thread);
}

static void *thread_main(void *argument) {
    struct bench_thread *thread = argument;
    call(team.task->prepare, thread);
    pthread_barrier_wait(&team.prepared);
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
    bodies_begin(bench);
    timed_body(thread);
    bodies_end(bench);
    if (team.task->pause)
        team.task->pause(bench);
    call(team.task->finish, thread);
}

static void run_threads(struct bench *bench, unsigned count, pthread_t *handles) {
    pthread_barrier_init(&team.prepared, NULL, count + 1);
    pthread_barrier_init(&team.ready, NULL, count + 1);
    pthread_barrier_init(&team.done, NULL, count + 1);
    pthread_barrier_init(&team.leave, NULL, count + 1);

    /* Stacks below 2 MiB, since under THP `always` a hugepage per stack would drown what is to be measured. */
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, (size_t)256 << 10);
    for (unsigned i = 0; i < count; i++) {
        int error = pthread_create(&handles[i], &attributes, thread_main, &bench->threads[i]);
        if (error)
            fail("cannot start thread %u of %u: %s", i + 1, count, strerror(error));
    }
    pthread_barrier_wait(&team.prepared);
    bodies_begin(bench);
    pthread_barrier_wait(&team.ready);
    pthread_barrier_wait(&team.done);
    bodies_end(bench);
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
    if (bench->options.latency)
        latency_prepare(bench);
    if (bench->options.counters)
        counters_open();
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
