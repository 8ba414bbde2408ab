/* disturb.c: see disturb.h. */
#define _GNU_SOURCE
#include "disturb.h"
#include <dirent.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
#include "model.h"
#include "shadow.h"

enum { NUMBERS = 8 }; /* of signals, one per thread in turn */

atomic_ulong disturb_signals, disturb_nested, disturb_faults;
static cpu_set_t all_cpus;
static _Thread_local timer_t thread_timer;

/* Allocates like the program would, wherever the signal struck the program's own code. Where it struck the allocator,
 * the delivery alone is the test: it aborts the restartable sequence. */
static void on_signal(int number) {
    int saved = errno;
    atomic_fetch_add(&disturb_signals, 1);
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
            atomic_fetch_add(&disturb_faults, faults);
        }
        atomic_fetch_add(&disturb_nested, 1);
        model_inside = 0;
    }
    errno = saved;
}

static void mask(int how) {
    sigset_t set;
    sigemptyset(&set);
    for (int i = 0; i < NUMBERS; i++)
        sigaddset(&set, SIGRTMIN + i);
    sigaddset(&set, SIGALRM);
    pthread_sigmask(how, &set, NULL);
}

void disturb_init(void) {
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    for (int i = 0; i < NUMBERS; i++)
        sigaction(SIGRTMIN + i, &action, NULL);
    sigaction(SIGALRM, &action, NULL);
    mask(SIG_BLOCK);
    if (sched_getaffinity(0, sizeof all_cpus, &all_cpus) != 0)
        abort();
}

void disturb_timer_start(unsigned thread) {
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGRTMIN + (int)(thread % NUMBERS)};
    event._sigev_un._tid = (pid_t)syscall(SYS_gettid);
    struct itimerspec period = {{0, 300000 + (long)thread * 7000}, {0, 300000}};
    if (timer_create(CLOCK_MONOTONIC, &event, &thread_timer) != 0 || timer_settime(thread_timer, 0, &period, NULL) != 0)
        abort();
    mask(SIG_UNBLOCK);
}

void disturb_timer_end(unsigned thread) {
    (void)thread;
    mask(SIG_BLOCK);
    if (timer_delete(thread_timer) != 0)
        abort();
}

void disturb_interval_start(unsigned thread) {
    struct itimerval period = {{0, 100}, {0, 100}};
    if (thread == 0)
        setitimer(ITIMER_REAL, &period, NULL);
    mask(SIG_UNBLOCK);
}

void disturb_interval_end(unsigned thread) {
    struct itimerval none = {{0, 0}, {0, 0}};
    if (thread == 0)
        setitimer(ITIMER_REAL, &none, NULL);
    mask(SIG_BLOCK);
}

/* The CPU with this ordinal, modulo their number, among those of the process. */
static int cpu_at(unsigned ordinal) {
    unsigned left = ordinal % disturb_cpus();
    int cpu = 0;
    while (!CPU_ISSET(cpu, &all_cpus) || left-- > 0)
        cpu++;
    return cpu;
}

unsigned disturb_cpus(void) { return (unsigned)CPU_COUNT(&all_cpus); }

void disturb_migrate(unsigned thread, unsigned operation) {
    if (operation % 64 != 0)
        return;
    cpu_set_t one;
    uint64_t random = (uint64_t)thread << 32 | operation;
    CPU_ZERO(&one);
    CPU_SET(cpu_at((unsigned)(shadow_random(&random) >> 32)), &one);
    sched_setaffinity(0, sizeof one, &one);
}

/* One pass over the threads there are now. A thread that ends meanwhile is none. */
unsigned disturb_confine(int only) {
    cpu_set_t set = all_cpus;
    unsigned bound = 0;
    DIR *tasks = opendir("/proc/self/task");
    if (!tasks)
        return 0;
    if (only >= 0) {
        CPU_ZERO(&set);
        CPU_SET(cpu_at((unsigned)only), &set);
    }
    for (struct dirent *task; (task = readdir(tasks)) != NULL;)
        if (task->d_name[0] != '.')
            bound += sched_setaffinity((pid_t)strtol(task->d_name, NULL, 10), sizeof set, &set) == 0;
    closedir(tasks);
    return bound;
}
