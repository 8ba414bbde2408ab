/* forkthread.c: a library whose fork handler makes a thread in the child. Preloaded before or after the allocator, its
 * handler runs after or before the allocator's own. */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include "../lib/proc.h"

enum { N = 40, ROUNDS = 200, LOOKS = 20000 };
static pthread_t thread;
static int made;
static atomic_int task, done;

static void *churn(void *unused) {
    atomic_store(&task, (int)syscall(SYS_gettid));
    void *blocks[N];
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < N; i++)
            if (!(blocks[i] = malloc((size_t)20 << i % 12)))
                abort();
        for (int i = 0; i < N; i++)
            free(blocks[i]);
    }
    atomic_store(&done, 1);
    return unused;
}

static int is_asleep(void) {
    char stat[512];
    int id = atomic_load(&task);
    return id != 0 && proc_task_read(id, "stat", stat, sizeof stat) != 0 && strstr(stat, ") S ");
}

/* Comes back when the thread waits for something, or is through. */
static void child(void) {
    atomic_store(&task, 0);
    atomic_store(&done, 0);
    made = pthread_create(&thread, NULL, churn, NULL) == 0;
    for (int look = 0; made && look < LOOKS && !atomic_load(&done) && !is_asleep(); look++)
        sched_yield();
}

__attribute__((constructor(101))) static void enter(void) {
    if (pthread_atfork(NULL, NULL, child) != 0)
        abort();
}

/* Waits for the thread: nonzero if there was one. */
__attribute__((visibility("default"))) int forkthread_join(void) {
    return made && pthread_join(thread, NULL) == 0 && atomic_load(&done);
}
