/* workload_start.c: process start. What an allocator does before main, and for the few blocks of a short program.
 *
 * Each thread starts a program with this process's environment, so with its preload, waits for it, and starts the next.
 */
#include <errno.h>
#include <spawn.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rnbench.h"

static void start_one(struct bench_thread *thread) {
    const char *program = thread->bench->options.program;
    char *const arguments[] = {strdupa(program), NULL};
    struct rusage usage;
    int status;
    pid_t child;
    int error = posix_spawn(&child, program, NULL, NULL, arguments, environ);
    if (error)
        fail("cannot start %s: %s", program, strerror(error));
    while (wait4(child, &status, 0, &usage) < 0)
        if (errno != EINTR)
            fail("cannot wait for %s: %s", program, strerror(errno));
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        fail("%s did not end well", program);
    uint64_t peak = (uint64_t)usage.ru_maxrss * 1024;
    if (peak > thread->peak_bytes)
        thread->peak_bytes = peak;
}

static void start_body(struct bench_thread *thread) {
    for (; bench_goes_on(thread->bench, thread->ops, thread->bench->options.iters); thread->ops++)
        start_one(thread);
}

static void start_run(struct bench *bench) {
    static const struct team_task task = {.body = start_body};
    if (bench->options.allocator == ALLOCATOR_RNALLOC)
        fail("the workload start needs a preload: its programs do not call rnAlloc");
    team_run(bench, &task);
    uint64_t peak = 0;
    for (unsigned i = 0; i < bench->options.threads; i++)
        if (bench->threads[i].peak_bytes > peak)
            peak = bench->threads[i].peak_bytes;
    uint64_t ops = team_sum(bench, offsetof(struct bench_thread, ops));
    report_result(bench, "us_per_start", (double)bench->total_ns / 1e3 / (double)(ops ? ops : 1));
    report_result(bench, "child_peak_rss_bytes", (double)peak);
}

const struct workload workload_start = {
    .name = "start",
    .sentence = "process start: a short program is started again and again under the same preload",
    .source = "shells and build systems; what a preload costs each of their children",
    .takes = TAKES_ITERS | TAKES_PROGRAM | TAKES_DURATION,
    .defaults = {.threads = 1, .iters = 300, .program = "/bin/true"},
    .run = start_run,
};
