/* fatal.h: lines on stderr, without allocation, and the one way in which the allocator ends a process. */
#ifndef BASE_FATAL_H
#define BASE_FATAL_H

#include <stddef.h>
#include <stdint.h>

/* A line under construction; what does not fit is cut. */
struct line {
    size_t used;
    char text[500];
};

void line_text(struct line *line, const char *text);
void line_number(struct line *line, uint64_t value);
void line_address(struct line *line, const void *address);

/* Writes "rnalloc: " and the line to stderr in one write. Keeps errno. */
void line_warn(const struct line *line);

/* Writes as line_warn, then aborts. The single exit for corruption and for misuse. */
void line_fatal(const struct line *line) __attribute__((noreturn, cold));

#endif
