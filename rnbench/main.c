/* main.c: rnbench, a benchmark of memory allocators. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "rnbench.h"
#include "trace.h"

/* In one write, so that lines of several threads do not mix. */
static void say_line(const char *format, va_list arguments) {
    char line[512];
    int used = vsnprintf(line, sizeof line - 1, format, arguments);
    size_t length = used < 0 ? 0 : (size_t)used;
    if (length > sizeof line - 2)
        length = sizeof line - 2;
    line[length] = '\0';
    dprintf(STDERR_FILENO, "rnbench: %s\n", line);
}

void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    say_line(format, arguments);
    va_end(arguments);
    _exit(2); /* other threads may be in the middle of a body: run no exit handlers under them */
}

void fault(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    say_line(format, arguments);
    va_end(arguments);
    _exit(1);
}

int main(int argc, char **argv) {
    static struct bench bench;

    if (argc > 1 && strcmp(argv[1], "record") == 0)
        return record_main(argc - 1, argv + 1);
    if (argc > 1 && strcmp(argv[1], "replay") == 0)
        return replay_main(argc - 1, argv + 1);
    options_parse(&bench.options, argc, argv);
    if (bench.options.help)
        options_help(&bench.options);
    else if (bench.options.list)
        report_list();
    else {
        bench.workload = workload_find(bench.options.workload);
        allocator_load(&bench.allocator, &bench.options, argv);
        if (bench.workload->takes & TAKES_RANGE)
            bench.sizes = picker_new(bench.options.min_size, bench.options.max_size,
                                     (enum distribution)bench.options.distribution);
        if (bench.options.check)
            check_layer(&bench.allocator);
        if (bench.options.latency)
            latency_layer(&bench.allocator);
        bench.workload->run(&bench);
        report_print(&bench);
    }
    if (fflush(stdout) != 0 || ferror(stdout))
        fail("cannot write to standard output");
    return 0;
}
