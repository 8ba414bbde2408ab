/* attr.h: attributes, asserts and constants that every tier uses. */
#ifndef BASE_ATTR_H
#define BASE_ATTR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RN_LIKELY(x) __builtin_expect(!!(x), 1)
#define RN_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define RN_EXPORT __attribute__((visibility("default")))
#define RN_CACHE_LINE 64
#define RN_ALIGNED(n) __attribute__((aligned(n)))

/* A large variable of zeros, of which a process touches little. GNU's linkers put them behind all small ones
 * (--sort-section in the Makefile), which so share pages instead of lying between tables; LLVM's leaves them where they
 * are. In debug builds locks are no zeros. */
#ifdef RN_DEBUG
#define RN_TABLE
#else
#define RN_TABLE __attribute__((section(".bss.table")))
#endif

/* Initial-exec: one load from the GOT, no call; the price is a few bytes of the static TLS area, which dlopen has in
 * stock. */
#define RN_TLS __thread __attribute__((tls_model("initial-exec")))

/* Debug builds check invariants; release builds still compile the expression, so that it cannot rot. */
#ifdef RN_DEBUG
enum { RN_CHECKS = 1 };
#else
enum { RN_CHECKS = 0 };
#endif

void rn_assert_failed(const char *expression, const char *file, int line) __attribute__((noreturn, cold));

#define RN_ASSERT(x)                                  \
    do {                                              \
        if (RN_CHECKS && RN_UNLIKELY(!(x)))           \
            rn_assert_failed(#x, __FILE__, __LINE__); \
    } while (0)

enum {
    RN_PAGE_SHIFT = 13, /* the allocator's page, whatever the kernel's is */
    RN_PAGE = 1 << RN_PAGE_SHIFT,
#if defined(__x86_64__)
    RN_ADDRESS_BITS = 47, /* user addresses are below 2^47 unless a program asks for more by a hint */
#elif defined(__aarch64__)
    RN_ADDRESS_BITS = 48,
#endif
};

static inline size_t round_up(size_t value, size_t power_of_two) { return (value + power_of_two - 1) & -power_of_two; }

static inline size_t round_down(size_t value, size_t power_of_two) { return value & -power_of_two; }

static inline bool is_power_of_two(size_t value) { return value != 0 && (value & (value - 1)) == 0; }

static inline size_t min_size(size_t a, size_t b) { return a < b ? a : b; }

static inline size_t max_size(size_t a, size_t b) { return a > b ? a : b; }

#endif
