/* tls.c: a program whose thread-local variables, which the C library puts on each thread's stack, are larger than the
 * stack that the helper asks for: it gets its helper all the same. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>

#include "../lib/proc.h"
#include "../lib/tap.h"

static __thread volatile char large[256 << 10];
static pthread_barrier_t done;

static void *work(void *argument) {
    large[sizeof large - 1] = 1;
    pthread_barrier_wait(&done);
    return argument;
}

int main(void) {
    pthread_t thread;
    tap_check_subject();
    free(malloc(100));
    pthread_barrier_init(&done, NULL, 2);
    if (pthread_create(&thread, NULL, work, NULL) != 0)
        return 3;
    OK(proc_status("Threads:") / 1024 == 3, "besides main and its thread there is the helper");
    pthread_barrier_wait(&done);
    pthread_join(thread, NULL);
    return tap_done();
}
