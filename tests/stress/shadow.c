/* shadow.c: the shadow-model stress, in its variants: calm, large, signals, interval, migration, trim,
 * trim-signals, crowd, storm. usage: shadow VARIANT [SEED] */
#define _GNU_SOURCE
#include "../lib/shadow.h"
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include "../lib/model.h"
#include "../lib/tap.h"

static atomic_ulong signals, nested, handler_faults;

/* Allocates like the program would, wherever the signal struck the program's own code. Where it struck the allocator,
 * the delivery alone is the test: it aborts the restartable sequence. */
static void on_signal(int number) {
    int saved = errno;
    atomic_fetch_add(&signals, 1);
    if (!model_inside) {
        model_inside = 1;
        size_t size = 8 + (size_t)number * 4 % 700;
        void *p = malloc(size);
        if (p) {
            size_t usable = malloc_usable_size(p);
            uint64_t id = (uint64_t)(uintptr_t)p;
            unsigned faults = shadow_claim(p, usable);
            shadow_fill(p, usable, id);
            faults += !shadow_is_filled(p, usable, id) + shadow_unclaim(p, usable);
            free(p);
            atomic_fetch_add(&handler_faults, faults);
        }
        atomic_fetch_add(&nested, 1);
        model_inside = 0;
    }
    errno = saved;
}

/* Signals strike only between here and unstrike: not inside pthread_create or a thread's end, where glibc itself is
 * inside the allocator without model_inside telling so. */
static void mask(int how) {
    sigset_t set;
    sigemptyset(&set);
    for (int i = 0; i < 8; i++)
        sigaddset(&set, SIGRTMIN + i);
    sigaddset(&set, SIGALRM);
    pthread_sigmask(how, &set, NULL);
}

static _Thread_local timer_t thread_timer;

/* A timer of the thread's own: its signals strike this thread. */
static void start_timer(unsigned thread) {
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGRTMIN + (int)(thread % 8)};
    event._sigev_un._tid = (pid_t)syscall(SYS_gettid);
    struct itimerspec period = {{0, 300000 + (long)thread * 7000}, {0, 300000}};
    if (timer_create(CLOCK_MONOTONIC, &event, &thread_timer) != 0 || timer_settime(thread_timer, 0, &period, NULL) != 0)
        abort();
    mask(SIG_UNBLOCK);
}

static void end_timer(unsigned thread) {
    mask(SIG_BLOCK);
    if (timer_delete(thread_timer) != 0)
        tap_diag("timer of thread %u is gone", thread);
}

/* Caches are emptied and pages released under the feet of working threads. */
static void trim(unsigned thread, unsigned operation) {
    if ((operation + thread * 37) % 2000 != 0)
        return;
    model_inside = 1;
    malloc_trim(operation % 3 == 0 ? 0 : 1 << 20);
    model_inside = 0;
}

/* setitimer signals go to whichever thread runs; the handler therefore meets threads in any state. */
static void start_interval(unsigned thread) {
    struct itimerval period = {{0, 100}, {0, 100}};
    if (thread == 0)
        setitimer(ITIMER_REAL, &period, NULL);
    mask(SIG_UNBLOCK);
}

static void end_interval(unsigned thread) {
    struct itimerval none = {{0, 0}, {0, 0}};
    if (thread == 0)
        setitimer(ITIMER_REAL, &none, NULL);
    mask(SIG_BLOCK);
}

static void migrate(unsigned thread, unsigned operation) {
    if (operation % 64 != 0)
        return;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET((thread * 7919 + operation / 64 * 31) % (unsigned)sysconf(_SC_NPROCESSORS_ONLN), &one);
    sched_setaffinity(0, sizeof one, &one);
}

static void yield(unsigned thread, unsigned operation) {
    if ((operation + thread) % 16 == 0)
        sched_yield();
}

static void handle(int number) {
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigaction(number, &action, NULL);
}

int main(int argc, char **argv) {
    const char *variant = argc > 1 ? argv[1] : "calm";
    struct model_plan plan = {.threads = 16, .operations = 600000, .slots = 200, .largest = 40000, .seed = 1};
    plan.seed = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
    tap_check_subject();
    if (shadow_init() != 0)
        return 3;
    for (int number = SIGRTMIN; number < SIGRTMIN + 8; number++)
        handle(number);
    handle(SIGALRM);
    mask(SIG_BLOCK);
    if (strcmp(variant, "large") == 0) {
        plan = (struct model_plan){
            .threads = 8, .operations = 20000, .slots = 12, .largest = 12 << 20, .seed = plan.seed};
    } else if (strcmp(variant, "signals") == 0) {
        plan.each_thread = start_timer;
        plan.end_thread = end_timer;
        plan.operations = 400000;
    } else if (strcmp(variant, "interval") == 0) {
        plan.each_thread = start_interval;
        plan.end_thread = end_interval;
    } else if (strcmp(variant, "migration") == 0) {
        plan.each_operation = migrate;
        plan.operations = 500000;
    } else if (strcmp(variant, "trim") == 0) {
        plan.each_operation = trim;
        plan.operations = 200000;
    } else if (strcmp(variant, "trim-signals") == 0) {
        plan.each_thread = start_timer;
        plan.end_thread = end_timer;
        plan.each_operation = trim;
        plan.operations = 30000;
    } else if (strcmp(variant, "crowd") == 0) {
        plan.threads = 200;
        plan.operations = 40000;
        plan.slots = 50;
        plan.each_operation = yield;
    } else if (strcmp(variant, "storm") == 0) {
        plan.threads = 48;
        plan.operations = 120000;
        plan.each_thread = start_timer;
        plan.end_thread = end_timer;
        plan.each_operation = migrate;
    } else if (strcmp(variant, "calm") != 0) {
        return 2;
    }
    struct model_result result = model_run(&plan);
    tap_diag("seed %llu, %lu operations, %lu signals, %lu handlers allocated", (unsigned long long)plan.seed,
             result.done, atomic_load(&signals), atomic_load(&nested));
    MODEL_OK(result, variant);
    OK(atomic_load(&handler_faults) == 0, "%s: blocks of signal handlers are sound", variant);
    if (plan.each_thread)
        OK(atomic_load(&signals) > 100 && atomic_load(&nested) > 10, "%s: signals did strike", variant);
    return tap_done();
}
