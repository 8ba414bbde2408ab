#include "base/lock.h"

#include "base/os.h"

_Atomic(const void *) lock_fork_owner;
/* With the initialized variables, in the gap before the frontend's 32-byte aligned area: 64 bytes of static TLS in all.
 */
RN_TLS uint32_t lock_self __attribute__((section(".tdata")));

/* sys/single_threaded.h, glibc 2.32. */
extern const char __libc_single_threaded __attribute__((weak));

static const char unknown, never;
_Atomic(const char *) lock_alone = &unknown;

void lock_init(void) {
    if (&__libc_single_threaded && atomic_load_explicit(&lock_alone, memory_order_relaxed) == &unknown)
        atomic_store_explicit(&lock_alone, &__libc_single_threaded, memory_order_relaxed);
}

void lock_never_alone(void) { atomic_store_explicit(&lock_alone, &never, memory_order_relaxed); }

enum { SPINS = 400 };

/* The three-state futex mutex of Drepper, "Futexes are tricky" (2011), section 5, with a short spin before the sleep:
 * most critical sections here are shorter than a system call. */
void lock_slow(struct lock *lock) {
    for (int spin = 0; spin < SPINS; spin++) {
        uint32_t state = atomic_load_explicit(&lock->state, memory_order_relaxed);
        if (state == 0) {
            /* acquire: pairs with the release in lock_drop */
            if (atomic_compare_exchange_weak_explicit(&lock->state, &state, 1, memory_order_acquire,
                                                      memory_order_relaxed))
                return;
        } else if (state == 2) {
            break;
        }
#if defined(__x86_64__)
        __builtin_ia32_pause();
#elif defined(__aarch64__)
        __asm__ volatile("isb" ::: "memory");
#endif
    }
    /* acquire: pairs with the release in lock_drop */
    while (atomic_exchange_explicit(&lock->state, 2, memory_order_acquire) != 0)
        os_wait((uint32_t *)(uintptr_t)&lock->state, 2, 0);
}

void lock_wake(struct lock *lock) { os_wake((uint32_t *)(uintptr_t)&lock->state, 1); }

/* Two locks of one rank may be held together (the fork handlers do it), so only a higher held rank is an error. */
void lock_check_take(const struct lock *lock) {
    RN_ASSERT(lock->rank < RANK_COUNT);
    RN_ASSERT((lock_self >> lock->rank) <= 1); /* I9: nothing above this rank is held */
    lock_self |= 1u << lock->rank;
}

void lock_check_drop(const struct lock *lock) { lock_self &= ~(1u << lock->rank); }
