/* bench_stubs.c: see bench_stubs.h. */
#include "tests/fuzz/bench_stubs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "rnbench/rnbench.h"
#include "tests/fuzz/fuzz.h"

static jmp_buf refused;

/* A line of printable text, as whoever reads it on a terminal wants it. */
void fail(const char *format, ...) {
    char line[1000];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    CHECK(length > 0 && length < (int)sizeof line);
    for (const char *at = line; *at; at++)
        CHECK(*at >= ' ' && *at <= '~');
    longjmp(refused, 1);
}

enum { TABLES = 64 };
static void *tables[TABLES];
static const size_t TABLE_MOST = (size_t)1 << 24; /* a larger one is refused, as on a small machine */

/* From malloc, so that a sanitizer knows where a table ends. */
void *table_new(size_t bytes, bool touched) {
    (void)touched;
    if (bytes > TABLE_MOST)
        fail("out of memory: no %zu bytes for a table of the benchmark's own", bytes);
    for (int i = 0; i < TABLES; i++)
        if (!tables[i]) {
            tables[i] = calloc(1, bytes);
            CHECK(tables[i]);
            return tables[i];
        }
    CHECK(!"there are enough places for tables");
    return NULL;
}

void table_free(void *table, size_t bytes) {
    (void)bytes;
    for (int i = 0; i < TABLES; i++)
        if (tables[i] == table) {
            free(table);
            tables[i] = NULL;
            return;
        }
    CHECK(!"a table is freed once");
}

static void tables_free(void) {
    for (int i = 0; i < TABLES; i++) {
        free(tables[i]);
        tables[i] = NULL;
    }
}

bool survives(void (*body)(void *), void *argument) {
    bool came_back = setjmp(refused) == 0;
    if (came_back)
        body(argument);
    else
        tables_free();
    return came_back;
}

int file_of(const void *bytes, size_t size, char path[32]) {
    int file = memfd_create("input", MFD_CLOEXEC);
    CHECK(file >= 0 && write(file, bytes, size) == (ssize_t)size);
    snprintf(path, 32, "/proc/self/fd/%d", file);
    return file;
}

void trace_check(const struct trace *trace) {
    bool *live = calloc(trace->objects + 1, 1);
    uint64_t objects = 0;
    CHECK(live && trace->objects <= trace->count && trace->threads > 0);
    for (uint64_t i = 0; i < trace->count; i++) {
        const struct trace_event *event = &trace->events[i];
        CHECK(event->kind < TRACE_KINDS && event->thread < trace->threads);
        if (event->kind == TRACE_REALLOC || event->kind == TRACE_FREE) {
            CHECK(event->old < objects && live[event->old]);
            live[event->old] = false;
        }
        if (event->kind != TRACE_FREE) {
            CHECK(event->object == objects && objects < trace->objects);
            live[objects++] = true;
        }
    }
    CHECK(objects == trace->objects);
    free(live);
}
