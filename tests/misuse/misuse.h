/* misuse.h: what the misuse programs share. Each commits one misdeed; misuse.t knows what must come of it. A program
 * that survives its misdeed exits normally, which the driver counts as a failure. */
#ifndef TESTS_MISUSE_H
#define TESTS_MISUSE_H

#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Hides a pointer from the compiler, which would warn about every misdeed. */
static inline void *hidden(const void *p) {
    void *copy;
    memcpy(&copy, &p, sizeof copy);
    __asm__ volatile("" : "+r"(copy) : : "memory");
    return copy;
}

/* Hides a pointer, and announces it to the driver. */
static inline void *announced(const void *p) {
    char line[40];
    int length = snprintf(line, sizeof line, "%p\n", p);
    if (write(STDOUT_FILENO, line, (size_t)length) != length)
        _exit(9);
    return hidden(p);
}

#endif
