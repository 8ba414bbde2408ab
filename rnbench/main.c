/* main.c: rnbench, a benchmark of memory allocators. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "rnbench.h"

void fail(const char *format, ...) {
    char line[512];
    va_list arguments;
    va_start(arguments, format);
    int used = vsnprintf(line, sizeof line - 1, format, arguments);
    va_end(arguments);
    size_t length = used < 0 ? 0 : (size_t)used;
    if (length > sizeof line - 2)
        length = sizeof line - 2;
    line[length] = '\0';
    dprintf(STDERR_FILENO, "rnbench: %s\n", line);
    _exit(2); /* other threads may be in the middle of a body: run no exit handlers under them */
}

int main(int argc, char **argv) {
    static struct bench bench;

    options_parse(&bench.options, argc, argv);
    if (bench.options.help)
        options_help();
    else if (bench.options.list)
        report_list();
    else {
        bench.workload = workload_find(bench.options.workload);
        allocator_load(&bench.allocator, &bench.options);
        if (bench.workload->takes & TAKES_RANGE)
            bench.sizes = picker_new(bench.options.min_size, bench.options.max_size,
                                     (enum distribution)bench.options.distribution);
        bench.workload->run(&bench);
        report_print(&bench);
    }
    if (fflush(stdout) != 0 || ferror(stdout))
        fail("cannot write to standard output");
    return 0;
}
