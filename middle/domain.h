/* domain.h: CPUs told apart. Internal to this tier.
 *
 * Each domain has transfer caches, central lists and spare spans of its own, so that what one CPU frees and takes again
 * stays in its own cache: the objects, and the structures that lead to them. There are as many domains as CPUs, but few
 * in a small heap, of which what each holds of each class would be much, and one while the process has one thread. A
 * pool belongs to the domain of its id, now: which that is changes with the heap, and nothing depends on it.
 */
#ifndef MIDDLE_DOMAIN_H
#define MIDDLE_DOMAIN_H

#include "backend/backend.h"
#include "base/lock.h"

enum {
    DOMAINS = 32,
    DOMAIN_BYTES = 4 << 20, /* of heap for each domain */
};

/* Bit i: domain i is in use: what belongs to the others is all zeros. Bits are set under domain_lock, never cleared. */
extern _Atomic uint32_t domain_mask;
extern struct lock domain_lock;
extern _Atomic size_t domain_count; /* how many ids lead to; 1 at first */
extern unsigned domains_most;       /* a power of two; written at initialisation */

/* Puts the domain in use, and returns it; or another that is, for the thread that forks at this moment: it holds the
 * locks of those that were when it began. */
unsigned domain_open(unsigned domain);

static inline uint32_t domains_used(void) { return atomic_load_explicit(&domain_mask, memory_order_relaxed); }

static inline bool domains_are_many(void) { return domains_used() != 1; }

/* A power of two, by what the heap was lately, as last counted. */
static inline size_t domains_now(void) {
    return lock_is_alone() ? 1 : atomic_load_explicit(&domain_count, memory_order_relaxed);
}

/* Counts anew. Where spans are made of new runs, or the helper looks: the backend's numbers change all the time, and
 * whoever only passes by should not fetch them. */
static inline void domains_count(void) {
    size_t parts = backend_demand() / DOMAIN_BYTES;
    size_t count = parts < 2 ? 1 : min_size((size_t)1 << (63 - __builtin_clzl(parts)), domains_most);
    if (count != atomic_load_explicit(&domain_count, memory_order_relaxed))
        atomic_store_explicit(&domain_count, count, memory_order_relaxed);
}

static inline unsigned domain_of(unsigned id) {
    unsigned domain = id & ((unsigned)domains_now() - 1);
    return RN_LIKELY(domains_used() >> domain & 1) ? domain : domain_open(domain);
}

/* Those in use that no id leads to any more, since the heap shrank, or this is a child that forked alone. */
static inline uint32_t domains_left(void) {
    size_t now = domains_now();
    return now == DOMAINS ? 0 : domains_used() >> now << now;
}

/* Takes the first domain out of a set that is not empty. */
static inline unsigned domain_next(uint32_t *set) {
    unsigned domain = (unsigned)__builtin_ctz(*set);
    *set &= *set - 1;
    return domain;
}

#endif
