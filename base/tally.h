/* tally.h: a sum that many threads change all the time, and none needs to the byte.
 *
 * One shared number would be a cache line that every change fetches from another CPU: 0.1 to 0.6 us where the CPUs lie
 * far apart, more than a batch of objects costs otherwise. So threads change parts of it, by their address, and what is
 * asked often is remembered in the part and summed anew now and then.
 */
#ifndef BASE_TALLY_H
#define BASE_TALLY_H

#include <stddef.h>

#include "base/lock.h"

enum {
    TALLY_BITS = 4,
    TALLY_PARTS = 1 << TALLY_BITS,
    TALLY_LOOKS = 8, /* looks at tally_about from one sum to the next */
};

/* All relaxed: numbers, which guard nothing. */
struct tally_part {
    _Atomic size_t value;
    _Atomic size_t about; /* the whole sum as last seen, with what was added here since */
    _Atomic uint32_t looks;
} RN_ALIGNED(RN_CACHE_LINE);

struct tally {
    struct tally_part parts[TALLY_PARTS];
};

/* The calling thread's: threads lie apart by a stack or more. */
static inline struct tally_part *tally_part(struct tally *tally) {
    uint64_t name = (uintptr_t)&lock_self >> 12;
    return &tally->parts[name * 0x9e3779b97f4a7c15 >> (64 - TALLY_BITS)];
}

static inline void tally_add(struct tally *tally, size_t change) {
    struct tally_part *part = tally_part(tally);
    shared_add(&part->value, change);
    size_t about = atomic_load_explicit(&part->about, memory_order_relaxed);
    atomic_store_explicit(&part->about, about + change, memory_order_relaxed);
}

/* Exact where nobody changes it meanwhile. */
static inline size_t tally_sum(struct tally *tally) {
    size_t sum = 0;
    for (unsigned i = 0; i < TALLY_PARTS; i++)
        sum += atomic_load_explicit(&tally->parts[i].value, memory_order_relaxed);
    return sum;
}

/* About the sum: other threads' changes since one of the last looks are not in it. */
static inline size_t tally_about(struct tally *tally) {
    struct tally_part *part = tally_part(tally);
    uint32_t looks = atomic_load_explicit(&part->looks, memory_order_relaxed);
    atomic_store_explicit(&part->looks, looks + 1, memory_order_relaxed);
    if (looks % TALLY_LOOKS == 0)
        atomic_store_explicit(&part->about, tally_sum(tally), memory_order_relaxed);
    size_t about = atomic_load_explicit(&part->about, memory_order_relaxed);
    return about <= SIZE_MAX / 2 ? about : 0; /* more was taken here than was seen: others put it */
}

#endif
