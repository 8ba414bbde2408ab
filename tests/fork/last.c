/* last.c: the process ends when its last thread does, as pthread_exit(3) has it, whatever threads the allocator keeps.
 * usage: last main|worker
 *   main    main ends by pthread_exit while a worker runs
 *   worker  the child of a fork in a worker returns from the worker's start function */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { OBJECTS = 20000 };

static void churn(void) {
    static __thread void *blocks[OBJECTS];
    for (int i = 0; i < OBJECTS; i++)
        blocks[i] = malloc(100 + (size_t)i % 100);
    for (int i = 0; i < OBJECTS; i++)
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

int main(int argc, char **argv) {
    pthread_t thread;
    churn();
    if (pthread_create(&thread, NULL, argc > 1 && strcmp(argv[1], "worker") == 0 ? work_and_fork : work, NULL) != 0)
        return 3;
    pthread_exit(NULL);
}
