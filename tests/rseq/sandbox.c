/* sandbox.c: after the first allocation a filter kills at every system call outside a list like OpenSSH's; then the
 * heap works hard. Programs with several threads may call membarrier, and do in no such sandbox; it is added to their
 * list. */
#define _GNU_SOURCE
#include <malloc.h>
#include <pthread.h>
#include "../lib/filter.h"
#include "../lib/model.h"
#include "../lib/proc.h"
#include "../lib/shadow.h"
#include "../lib/tap.h"

/* What a privilege-separated server keeps: memory, time, pipes, signals' return, the end. No sched_yield, no
 * sched_getaffinity, no open, no gettid, no prctl. */
static const long allowed[] = {SYS_brk,          SYS_clock_gettime, SYS_close,       SYS_exit,
                               SYS_exit_group,   SYS_futex,         SYS_getpid,      SYS_getrandom,
                               SYS_madvise,      SYS_mmap,          SYS_mprotect,    SYS_mremap,
                               SYS_munmap,       SYS_nanosleep,     SYS_ppoll,       SYS_clock_nanosleep,
                               SYS_pselect6,     SYS_read,          SYS_write,       SYS_rt_sigprocmask,
                               SYS_rt_sigreturn, SYS_shutdown,      SYS_gettimeofday};

static int enter(int is_threaded) {
    struct filter filter;
    filter_load_number(&filter);
    for (unsigned i = 0; i < sizeof allowed / sizeof *allowed; i++)
        filter_answer(&filter, allowed[i], SECCOMP_RET_ALLOW);
    if (is_threaded) {
        filter_answer(&filter, SYS_membarrier, SECCOMP_RET_ALLOW);
        filter_answer(&filter, SYS_set_robust_list, SECCOMP_RET_ALLOW);
    }
    return filter_install(&filter, SECCOMP_RET_KILL_PROCESS, is_threaded ? SECCOMP_FILTER_FLAG_TSYNC : 0);
}

static int single(void *argument) {
    struct model_plan plan = {.operations = 200000, .slots = 500, .largest = 300000, .seed = 31};
    free(malloc(*(size_t *)argument));
    if (enter(0) != 0)
        return 4;
    if (!model_is_clean(model_run_here(&plan)))
        return 5;
    plan = (struct model_plan){.operations = 3000, .slots = 12, .largest = 30 << 20, .seed = 32};
    if (!model_is_clean(model_run_here(&plan)))
        return 6;
    /* Phases: all allocated, all freed, with what that releases to the system. */
    static char *blocks[100000];
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < 100000; i++)
            *(blocks[i] = malloc(500)) = 1;
        for (int i = 0; i < 100000; i++)
            free(blocks[i]);
    }
    return 0;
}

static pthread_barrier_t filtered;
static int thread_failures[6];

static void *in_thread(void *argument) {
    unsigned number = (unsigned)(uintptr_t)argument;
    struct model_plan plan = {.operations = 60000, .slots = 200, .largest = 100000, .seed = 41 + number};
    free(malloc(100));
    pthread_barrier_wait(&filtered);
    pthread_barrier_wait(&filtered);
    thread_failures[number] = !model_is_clean(model_run_here(&plan));
    pthread_barrier_wait(&filtered);
    return NULL;
}

static int threads(void *unused) {
    pthread_t ids[6];
    int failures = unused != NULL;
    pthread_barrier_init(&filtered, NULL, 7);
    for (uintptr_t i = 0; i < 6; i++)
        if (pthread_create(&ids[i], NULL, in_thread, (void *)i) != 0)
            return 3;
    pthread_barrier_wait(&filtered);
    if (enter(1) != 0)
        return 4;
    pthread_barrier_wait(&filtered);
    pthread_barrier_wait(&filtered);
    for (int i = 0; i < 6; i++)
        failures += thread_failures[i];
    return failures;
}

int main(void) {
    size_t first_sizes[] = {0, 100, 4000, 100000, 3 << 20};
    tap_check_subject();
    if (shadow_init() != 0)
        return 3;
    for (unsigned i = 0; i < sizeof first_sizes / sizeof *first_sizes; i++) {
        int status = proc_child(single, &first_sizes[i]);
        OK(status == 0, "a single thread works in a sandbox entered after malloc(%zu) (status %#x)", first_sizes[i],
           (unsigned)status);
    }
    if (!tap_expects_rnalloc()) {
        tap_skip("glibc reads a file of /proc when it shrinks an arena", "six threads work in a sandbox");
        return tap_done();
    }
    int status = proc_child(threads, NULL);
    OK(status == 0, "six threads work in a sandbox (status %#x)", (unsigned)status);
    return tap_done();
}
