/* refuse.c: runs a program under a kernel that refuses rseq or membarrier. usage: refuse NAME=ERROR ... -- program
 * arguments where NAME is rseq or membarrier and ERROR is ENOSYS or EPERM. REFUSE_PRELOAD is preloaded into the program
 * alone. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "../lib/filter.h"

static int refuse(struct filter *filter, const char *what) {
    const char *error = strchr(what, '=');
    long number = strncmp(what, "rseq=", 5) == 0          ? SYS_rseq
                  : strncmp(what, "membarrier=", 11) == 0 ? SYS_membarrier
                                                          : -1;
    if (!error || number < 0)
        return -1;
    filter_answer(filter, number, SECCOMP_RET_ERRNO | (strcmp(error + 1, "EPERM") == 0 ? EPERM : ENOSYS));
    return 0;
}

int main(int argc, char **argv) {
    struct filter filter;
    int at = 1;
    filter_load_number(&filter);
    for (; at < argc && strcmp(argv[at], "--") != 0; at++)
        if (refuse(&filter, argv[at]) != 0)
            return 2;
    if (at + 1 >= argc)
        return 2;
    if (getenv("REFUSE_PRELOAD"))
        setenv("LD_PRELOAD", getenv("REFUSE_PRELOAD"), 1);
    if (filter_install(&filter, SECCOMP_RET_ALLOW, 0) != 0) {
        perror("refuse: seccomp");
        return 4;
    }
    execv(argv[at + 1], argv + at + 1);
    perror("refuse: exec");
    return 4;
}
