/* spawn.c: runs a program some times in a row and tells what that took, as one JSON object. Used by scripts/figures.
 *
 *     spawn COUNT PROGRAM [ARGUMENT...]      LD_PRELOAD in the environment reaches PROGRAM
 *
 * It is linked statically, so that a preloaded library does not load into it, and it is small, because the kernel
 * carries a process's peak of resident memory over exec: under a large parent every child looks large.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static __attribute__((noreturn)) void fail(const char *what, const char *which) {
    fprintf(stderr, "spawn: %s %s\n", what, which);
    exit(2);
}

static long long now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* Runs the program once; gives the peak of its resident memory in KiB. */
static long run(char **command) {
    int status;
    struct rusage usage;
    pid_t child = fork();
    if (child == 0) {
        execve(command[0], command, environ);
        _exit(127);
    }
    if (child < 0 || wait4(child, &status, 0, &usage) != child)
        fail("cannot start", command[0]);
    if (!WIFEXITED(status) || WEXITSTATUS(status) > 1) /* 1: grep that found nothing */
        fail("the program failed:", command[0]);
    return usage.ru_maxrss;
}

int main(int argc, char **argv) {
    char *end = NULL;
    long count = argc > 2 ? strtol(argv[1], &end, 10) : 0;
    if (count < 1 || *end)
        fail("usage:", "spawn COUNT PROGRAM [ARGUMENT...]");

    long peak_kib = 0;
    long long start = now_ns();
    for (long i = 0; i < count; i++) {
        long kib = run(argv + 2);
        peak_kib = kib > peak_kib ? kib : peak_kib;
    }
    printf("{\"runs\": %ld, \"total_ns\": %lld, \"peak_rss_bytes\": %lld}\n", count, now_ns() - start,
           peak_kib * 1024LL);
    return 0;
}
