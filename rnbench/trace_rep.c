/* trace_rep.c: the text traces of the malloc lab of Bryant and O'Hallaron, Computer Systems: A Programmer's
 * Perspective.
 *
 * Four numbers (a heap size that is no longer used, the number of ids, the number of operations, a weight), then a line
 * for each operation: "a ID BYTES" allocates, "r ID BYTES" reallocates, "f ID" frees. A realloc of an id that is not
 * live allocates, as realloc(NULL) does; free of id -1 is free(NULL). */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rnbench.h"
#include "trace.h"

struct text {
    const char *path, *at;
    unsigned line;
};

static void damaged(const struct text *text, const char *what) __attribute__((noreturn));
static void damaged(const struct text *text, const char *what) {
    fail("%s: damaged trace: line %u: %s", text->path, text->line, what);
}

static void skip_space(struct text *text) {
    for (; isspace((unsigned char)*text->at); text->at++)
        text->line += *text->at == '\n';
}

static uint64_t read_number(struct text *text, uint64_t max) {
    char *end;
    skip_space(text);
    if (!isdigit((unsigned char)*text->at))
        damaged(text, *text->at ? "not a number" : "it ends in the middle");
    errno = 0;
    uint64_t value = strtoull(text->at, &end, 10);
    if (errno || value > max || (*end && !isspace((unsigned char)*end)))
        damaged(text, "a number out of range");
    text->at = end;
    return value;
}

enum { MAX_REP = 1 << 28, NONE = 0 };

/* `live` holds, by id, the object plus one. */
static void read_operation(struct text *text, struct trace *trace, uint64_t *capacity, uint32_t *live, uint64_t ids) {
    struct trace_event event = {0};
    skip_space(text);
    char kind = *text->at;
    if (!kind || !strchr("arf", kind) || !isspace((unsigned char)text->at[1]))
        damaged(text, kind ? "an operation is none of a, r and f" : "it has fewer operations than it says");
    text->at++;
    skip_space(text);
    if (kind == 'f' && strncmp(text->at, "-1", 2) == 0) {
        text->at += 2;
        return;
    }
    uint64_t id = read_number(text, MAX_REP);
    if (id >= ids)
        damaged(text, "an id is not below the number of ids");
    event.old = live[id] ? live[id] - 1 : 0;
    event.kind = kind == 'f' ? TRACE_FREE : kind == 'r' && live[id] ? TRACE_REALLOC : TRACE_MALLOC;
    if (kind == 'f' && live[id] == NONE)
        damaged(text, "it frees an id that is not live");
    if (kind == 'a' && live[id] != NONE)
        damaged(text, "it allocates an id that is live");
    if (kind != 'f')
        event.size = read_number(text, (uint64_t)1 << 46);
    if (kind == 'r' && event.size == 0) {
        if (live[id] == NONE)
            damaged(text, "a realloc from nothing to nothing");
        event.kind = TRACE_FREE;
    }
    event.object = event.kind == TRACE_FREE ? event.old : (uint32_t)trace->objects++;
    live[id] = event.kind == TRACE_FREE ? NONE : event.object + 1;
    trace_push(trace, capacity, event);
}

void trace_read_rep(struct trace *trace, const char *path, const char *content) {
    struct text text = {path, content, 1};
    read_number(&text, UINT64_MAX);
    uint64_t ids = read_number(&text, MAX_REP);
    uint64_t operations = read_number(&text, MAX_REP);
    read_number(&text, UINT64_MAX);
    size_t bytes = (ids + 1) * sizeof(uint32_t);
    uint32_t *live = table_new(bytes, false);
    uint64_t capacity = 0;
    for (uint64_t i = 0; i < operations; i++)
        read_operation(&text, trace, &capacity, live, ids);
    skip_space(&text);
    if (*text.at)
        damaged(&text, "it has more operations than it says");
    table_free(live, bytes);
    trace->threads = 1;
    trace->is_rep = true;
    snprintf(trace->program, sizeof trace->program, "malloc lab");
}
