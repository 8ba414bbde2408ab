/* tap.h: the Test Anything Protocol for the black-box tests, in C and C++.
 *
 * A test program calls OK() for each claim and returns tap_done(). Output goes through write(2), so that reporting
 * never allocates: the allocator under test must not be exercised by the harness. The plan is printed last, hence a
 * program that dies on the way has none, and prove counts it as failed.
 */
#ifndef TESTS_TAP_H
#define TESTS_TAP_H

#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int tap_count, tap_failed;

/* Makes a value unknown to the optimizer, which otherwise reasons about (and removes) allocations. */
#define OPAQUE(value) __asm__ volatile("" : "+r"(value) : : "memory")

static inline void tap_write(const char *text, size_t length) {
    while (length > 0) {
        ssize_t written = write(STDOUT_FILENO, text, length);
        if (written <= 0)
            _exit(99);
        text += written;
        length -= (size_t)written;
    }
}

__attribute__((format(printf, 1, 2))) static inline void tap_diag(const char *format, ...) {
    char line[512] = "# ";
    va_list args;
    va_start(args, format);
    vsnprintf(line + 2, sizeof line - 3, format, args);
    va_end(args);
    strcat(line, "\n");
    tap_write(line, strlen(line));
}

__attribute__((format(printf, 3, 4))) static inline int tap_ok(int pass, int at_line, const char *format, ...) {
    char name[400], line[512];
    va_list args;
    va_start(args, format);
    vsnprintf(name, sizeof name, format, args);
    va_end(args);
    snprintf(line, sizeof line, "%sok %d - %s\n", pass ? "" : "not ", ++tap_count, name);
    tap_write(line, strlen(line));
    if (!pass) {
        tap_failed++;
        tap_diag("failed at line %d", at_line);
    }
    return pass;
}

#define OK(condition, ...) tap_ok(!!(condition), __LINE__, __VA_ARGS__)

/* A claim that cannot be examined here is named with its reason, never dropped. */
static inline void tap_skip(const char *reason, const char *name) {
    char line[400];
    snprintf(line, sizeof line, "ok %d - %s # SKIP %s\n", ++tap_count, name, reason);
    tap_write(line, strlen(line));
}

/* Who is to be tested (RNALLOC_TEST): "rnalloc"; "glibc", on which the tests themselves are tried; or "lineage DESIGN
 * OPTIONS", as the design describes itself. */
static inline const char *tap_subject(void) {
    const char *subject = getenv("RNALLOC_TEST");
    return subject ? subject : "rnalloc";
}

static inline int tap_expects_rnalloc(void) { return strcmp(tap_subject(), "rnalloc") == 0; }

/* True when the function comes from the file that malloc comes from: what another library answers in its place says
 * nothing about the allocator. */
static inline int tap_is_of_malloc(const char *function) {
    void *entry = dlsym(RTLD_DEFAULT, "malloc"), *other = dlsym(RTLD_DEFAULT, function);
    Dl_info home, info;
    return entry && other && dladdr(entry, &home) && dladdr(other, &info) && home.dli_fbase == info.dli_fbase;
}

/* The first claim of every program: the allocator that is meant to be tested is the one that serves. */
static inline void tap_check_subject(void) {
    static const char lineage[] = "lineage ";
    const char *subject = tap_subject();
    const char *(*describe)(void);
    void *symbol = dlsym(RTLD_DEFAULT, "lineage_describe");
    memcpy(&describe, &symbol, sizeof symbol);
    if (strncmp(subject, lineage, sizeof lineage - 1) == 0)
        OK(tap_is_of_malloc("lineage_describe") && strcmp(describe(), subject + sizeof lineage - 1) == 0,
           "malloc is %s's", subject);
    else if (tap_expects_rnalloc())
        OK(tap_is_of_malloc("rnMode"), "malloc is rnAlloc's");
    else
        OK(!describe && !dlsym(RTLD_DEFAULT, "rnMode"), "malloc is glibc's (trial of the test itself)");
}

static inline int tap_done(void) {
    char line[32];
    snprintf(line, sizeof line, "1..%d\n", tap_count);
    tap_write(line, strlen(line));
    return tap_failed ? 1 : 0;
}

#endif
