/* last.c: the process ends when its last thread does, as pthread_exit(3) has it, whatever threads the allocator keeps.
 * usage: last main|worker|late
 *   main    main ends by pthread_exit while a worker runs
 *   worker  the child of a fork in a worker returns from the worker's start function
 *   late    main ends before the worker first allocates, and the worker makes others, one after the other */
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../lib/proc.h"

enum { OBJECTS = 20000 };

static int objects = OBJECTS;

static void churn(void) {
    static __thread void *blocks[OBJECTS];
    for (int i = 0; i < objects; i++)
        blocks[i] = malloc(100 + (size_t)i % 100);
    for (int i = 0; i < objects; i++)
        free(blocks[i]);
}

static void *work(void *argument) {
    churn();
    return argument;
}

static void *work_and_fork(void *argument) {
    int status = -1;
    churn();
    pid_t child = fork();
    if (child == 0) {
        pthread_t thread;
        churn();
        if (pthread_create(&thread, NULL, work, NULL) == 0)
            pthread_detach(thread);
        return argument; /* the last thread that forked; the child ends with the one it made */
    }
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0)
        exit(1);
    return argument;
}

/* Waits until no helper is left: main, the only one who had allocated, has ended, which /proc counts still. Then
 * threads that end leave none. */
static void *work_late(void *argument) {
    char path[64], stat[512];
    (void)snprintf(path, sizeof path, "/proc/self/task/%d/stat", (int)getpid());
    while (proc_read(path, stat, sizeof stat) == 0 || !strstr(stat, ") Z ") || proc_status("Threads:") / 1024 > 2)
        sched_yield();
    churn();
    for (int i = 0; i < 4; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, work, NULL) != 0 || pthread_join(thread, NULL) != 0)
            exit(2);
        (void)usleep(30000); /* a helper that is wrong to end has the time for it */
    }
    return argument;
}

int main(int argc, char **argv) {
    const char *who = argc > 1 ? argv[1] : "main";
    alarm(300); /* a process that does not end is told by the signal that ended it */
    pthread_t thread;
    if (strcmp(who, "late") == 0)
        objects = 2; /* nothing for the helper to do */
    churn();
    if (pthread_create(&thread, NULL,
                       strcmp(who, "worker") == 0 ? work_and_fork
                       : strcmp(who, "late") == 0 ? work_late
                                                  : work,
                       NULL) != 0)
        return 3;
    pthread_exit(NULL);
}
