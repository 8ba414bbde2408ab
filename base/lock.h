/* lock.h: the allocator's locks, and their order.
 *
 * A lock is a futex word. Ranks: a thread takes locks only in ascending rank, two of one rank only in ascending index;
 * debug builds check it. The fork handlers take every lock in that order (frontend/fork.c), so this enum is the whole
 * lock order.
 *
 * Between the prepare handler and the parent or child handler the forking thread holds all of them, and other
 * libraries' handlers allocate in between: for that thread every lock reads as taken already (fork_owner).
 */
#ifndef BASE_LOCK_H
#define BASE_LOCK_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/attr.h"

enum lock_rank {
    RANK_INIT,     /* first use of the library */
    RANK_HELPER,   /* birth and death of the helper thread */
    RANK_DRAIN,    /* stopping and draining of other CPUs' pools; who is the only thread; stand-ins' ids */
    RANK_POOL,     /* one pool's capacities; locked pools' contents */
    RANK_DOMAIN,   /* which parts of the middle tier are in use */
    RANK_TRANSFER, /* one class's transfer cache in one domain */
    RANK_CENTRAL,  /* one class's spans in one domain */
    RANK_SPARE,    /* empty spans that wait in one domain */
    RANK_HARDENED, /* one class's spans and waiting blocks, in hardened mode */
    RANK_RELEASE,  /* one releaser of pages at a time */
    RANK_BACKEND,  /* page runs, and writing of the pagemap */
    RANK_META,     /* memory for the structures themselves */
    RANK_COUNT
};

struct lock {
    _Atomic uint32_t state; /* 0 free, 1 held, 2 held and somebody sleeps */
    uint8_t rank;           /* in debug builds */
};

/* All zeros in release builds: tables of locks then take no memory before they are used. */
#define LOCK_INIT(r) \
    { .state = 0, .rank = RN_CHECKS ? (r) : 0 }

/* The thread between fork's prepare and parent or child handler, as the address of its lock_self; NULL at all other
 * times. Relaxed: only the owner compares it with its own address, and it wrote it. */
extern _Atomic(const void *) lock_fork_owner;

/* Per thread: an address that names the thread, and in debug builds the mask of held ranks. */
extern RN_TLS uint32_t lock_self;

void lock_slow(struct lock *lock);
void lock_wake(struct lock *lock);
void lock_check_take(const struct lock *lock);
void lock_check_drop(const struct lock *lock);

static inline bool lock_is_fork_owner(void) {
    const void *owner = atomic_load_explicit(&lock_fork_owner, memory_order_relaxed);
    return RN_UNLIKELY(owner != NULL) && owner == (const void *)&lock_self;
}

/* Where the process's only thread reads that it is alone: the C library's own flag, which pthread_create clears before
 * the second thread starts; a byte that is always zero where there is none, or once a thread came that the C library
 * does not know of. An atomic read-modify-write costs this thread more than most of what the locks protect. */
extern _Atomic(const char *) lock_alone;

/* Called once, while the process has one thread. */
void lock_init(void);
/* From now on no thread believes that it is alone. */
void lock_never_alone(void);

static inline bool lock_is_alone(void) {
    return *(const volatile char *)atomic_load_explicit(&lock_alone, memory_order_relaxed) != 0;
}

static inline bool lock_acquire(struct lock *lock) {
    uint32_t free = 0;
    if (lock_is_alone()) {
        if (atomic_load_explicit(&lock->state, memory_order_relaxed) != 0)
            return false;
        atomic_store_explicit(&lock->state, 1, memory_order_relaxed);
        atomic_signal_fence(memory_order_acquire);
        return true;
    }
    /* acquire: pairs with the release in lock_drop */
    return atomic_compare_exchange_strong_explicit(&lock->state, &free, 1, memory_order_acquire, memory_order_relaxed);
}

static inline void lock_take(struct lock *lock) {
    if (lock_is_fork_owner())
        return;
    if (RN_CHECKS)
        lock_check_take(lock);
    if (!lock_acquire(lock))
        lock_slow(lock);
}

/* True if taken. */
static inline bool lock_try(struct lock *lock) {
    if (lock_is_fork_owner())
        return true;
    if (!lock_acquire(lock))
        return false;
    if (RN_CHECKS)
        lock_check_take(lock);
    return true;
}

static inline void lock_drop(struct lock *lock) {
    if (lock_is_fork_owner())
        return;
    if (RN_CHECKS)
        lock_check_drop(lock);
    if (lock_is_alone()) {
        atomic_store_explicit(&lock->state, 0, memory_order_release); /* nobody sleeps on it */
        return;
    }
    /* release: pairs with the acquire in lock_acquire and lock_slow */
    if (atomic_exchange_explicit(&lock->state, 0, memory_order_release) == 2)
        lock_wake(lock);
}

/* Adds to a number that any thread may change at any time. */
static inline void shared_add(_Atomic size_t *number, size_t change) {
#if defined(__x86_64__)
    if (lock_is_alone()) { /* one instruction, so that a signal handler may do it too */
        __asm__("addq %1, %0" : "+m"(*number) : "er"(change) : "cc");
        return;
    }
#endif
    atomic_fetch_add_explicit(number, change, memory_order_relaxed);
}

/* In fork's child, where those that slept on it no longer exist, but new ones may. */
static inline void lock_reset(struct lock *lock) {
    /* release: pairs with the acquire in lock_acquire and lock_slow */
    if (atomic_exchange_explicit(&lock->state, 0, memory_order_release) == 2)
        lock_wake(lock);
}

#endif
