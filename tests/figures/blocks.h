/* blocks.h: the known allocations that the figures are compared with. */
#ifndef TESTS_FIGURES_BLOCKS_H
#define TESTS_FIGURES_BLOCKS_H

#include <stdlib.h>
#include <string.h>

enum { SMALL = 40000, SMALL_SIZE = 1024, LARGE = 8, LARGE_SIZE = 4 << 20 };
#define BLOCKS_ASKED ((size_t)SMALL * SMALL_SIZE + (size_t)LARGE * LARGE_SIZE) /* 72 MiB */

static void *small[SMALL], *large[LARGE];

static inline void fill(void) {
    for (int i = 0; i < SMALL; i++)
        memset(small[i] = malloc(SMALL_SIZE), 1, SMALL_SIZE);
    for (int i = 0; i < LARGE; i++)
        memset(large[i] = malloc(LARGE_SIZE), 1, LARGE_SIZE);
}

static inline void empty(void) {
    for (int i = 0; i < SMALL; i++)
        free(small[i]);
    for (int i = 0; i < LARGE; i++)
        free(large[i]);
}

static inline int is_near(size_t got, size_t expected) {
    return got >= expected && got <= expected + expected / 8 + (1 << 20);
}

/* True if one of the decimal numbers in the text is about `expected`. */
static inline int tells_number(const char *text, size_t expected) {
    for (const char *at = text; *at;) {
        size_t digits = strspn(at, "0123456789");
        if (digits && is_near(strtoul(at, NULL, 10), expected))
            return 1;
        at += digits ? digits : 1;
    }
    return 0;
}

#endif
