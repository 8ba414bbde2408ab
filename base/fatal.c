#include "base/fatal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/attr.h"

void line_text(struct line *line, const char *text) {
    size_t length = min_size(strlen(text), sizeof line->text - line->used);
    memcpy(line->text + line->used, text, length);
    line->used += length;
}

static void line_digits(struct line *line, uint64_t value, unsigned base) {
    char digits[24];
    char *at = digits + sizeof digits;
    *--at = 0;
    do
        *--at = "0123456789abcdef"[value % base];
    while ((value /= base) != 0);
    line_text(line, at);
}

void line_number(struct line *line, uint64_t value) { line_digits(line, value, 10); }

void line_address(struct line *line, const void *address) {
    line_text(line, "0x");
    line_digits(line, (uintptr_t)address, 16);
}

void line_warn(const struct line *line) {
    int saved = errno;
    struct line whole = {.used = 0};
    line_text(&whole, "rnalloc: ");
    size_t room = sizeof whole.text - whole.used - 1;
    size_t length = min_size(line->used, room);
    memcpy(whole.text + whole.used, line->text, length);
    whole.used += length;
    whole.text[whole.used++] = '\n';
    /* write(2) would be a cancellation point, and the caller may hold locks. */
    long written = syscall(SYS_write, STDERR_FILENO, whole.text, whole.used);
    (void)written; /* nobody is left to tell */
    errno = saved;
}

void line_fatal(const struct line *line) {
    line_warn(line);
    abort();
}

void rn_assert_failed(const char *expression, const char *file, int line_number_) {
    struct line line = {.used = 0};
    line_text(&line, "assertion failed: ");
    line_text(&line, expression);
    line_text(&line, " at ");
    line_text(&line, file);
    line_text(&line, ":");
    line_number(&line, (uint64_t)line_number_);
    line_fatal(&line);
}
