/* check.c: see check.h. */
#include "tests/unit/check.h"

#include <ctype.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

char child_output[4096];

void check_failed(const char *condition, const char *file, int line) {
    char text[400];
    int length = snprintf(text, sizeof text, "check failed: %s at %s:%d\n", condition, file, line);
    ssize_t written = write(STDERR_FILENO, text, (size_t)length);
    (void)written;
    abort();
}

/* libgcov's, where scripts/coverage links it: writes the counts, which _exit and abort would lose. */
extern void __gcov_dump(void) __attribute__((weak));

static void counts_write(void) {
    if (__gcov_dump)
        __gcov_dump();
}

static void counts_write_at_abort(int number) {
    (void)signal(number, SIG_DFL);
    counts_write();
    (void)raise(number);
}

static void child_run(void (*body)(void *), void *argument, int output) {
    (void)dup2(output, STDERR_FILENO);
    for (int number = 1; number < 32; number++)
        (void)signal(number, SIG_DFL); /* cmocka's handlers would report the child as the test */
    if (__gcov_dump)
        (void)signal(SIGABRT, counts_write_at_abort);
    body(argument);
    counts_write();
    _exit(0);
}

int run_child(void (*body)(void *), void *argument) {
    int ends[2];
    if (pipe(ends) != 0)
        abort();
    (void)fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        (void)close(ends[0]);
        child_run(body, argument, ends[1]);
    }
    (void)close(ends[1]);
    size_t used = 0;
    char spill[256];
    for (;;) {
        size_t room = sizeof child_output - 1 - used;
        ssize_t got = read(ends[0], room ? child_output + used : spill, room ? room : sizeof spill);
        if (got <= 0)
            break;
        used += room ? (size_t)got : 0;
    }
    child_output[used] = 0;
    (void)close(ends[0]);
    int status = -1;
    if (child < 0 || waitpid(child, &status, 0) != child)
        abort();
    return status;
}

int child_fails(void (*body)(void *), void *argument) {
    int status = run_child(body, argument);
    if (status != 0)
        (void)fprintf(stderr, "# child: status %#x: %s\n", (unsigned)status, child_output); /* prove shows this */
    return status;
}

/* True if `text` begins with the pattern. */
static int matches(const char *text, const char *pattern) {
    for (; *pattern; pattern++) {
        if (*pattern != '@') {
            if (*text++ != *pattern)
                return 0;
        } else {
            if (text[0] != '0' || text[1] != 'x' || !isxdigit((unsigned char)text[2]))
                return 0;
            for (text += 2; isxdigit((unsigned char)*text);)
                text++;
        }
    }
    return 1;
}

int child_lacks_message(void (*body)(void *), void *argument, const char *message) {
    int status = run_child(body, argument);
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT)
        for (const char *at = child_output; at; at = strchr(at, '\n') ? strchr(at, '\n') + 1 : NULL)
            if (matches(at, message))
                return 0;
    (void)fprintf(stderr, "# wanted \"%s\", got status %#x: %s\n", message, (unsigned)status, child_output);
    return 1;
}
