/* check.h: checks in code that runs beside cmocka's own thread: in children and in other threads, where its asserts,
 * which jump, must not be used. A failed check ends the process by abort; run_child turns that into a failed test. */
#ifndef TESTS_UNIT_CHECK_H
#define TESTS_UNIT_CHECK_H

#include <stddef.h>
#include <stdint.h>

#define CHECK(condition)                                  \
    do {                                                  \
        if (!(condition))                                 \
            check_failed(#condition, __FILE__, __LINE__); \
    } while (0)

void check_failed(const char *condition, const char *file, int line) __attribute__((noreturn));

/* Runs body(argument) in a forked child: fresh state, as far as the parent left it untouched. Gives the wait status;
 * what the child wrote to stderr is in child_output. */
int run_child(void (*body)(void *), void *argument);
extern char child_output[4096];

/* run_child, which must end well; prints the child's output if not. Non-zero on failure, for assert_int_equal. */
int child_fails(void (*body)(void *), void *argument);

/* The child must die by abort after writing `message`, with every "@" in it standing for a hexadecimal address. */
int child_lacks_message(void (*body)(void *), void *argument, const char *message);

/* A stream of pseudo-random numbers (splitmix64). */
static inline uint64_t random_next(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

#endif
