/* fork.c: the forking thread takes every lock of the library, in the order of their ranks, so that the child finds
 * every structure whole. Pools need nothing: each thread's stores are in the child as a prefix of what it did, and a
 * prefix of a restartable sequence is nothing at all. What other threads held between tiers is lost in the child: a
 * batch each at most.
 *
 * Other libraries' handlers run between ours and allocate: for the forking thread all locks read as taken
 * (lock_fork_owner). */
#include "frontend/fork.h"

#include <pthread.h>

#include "backend/backend.h"
#include "base/meta.h"
#include "frontend/hardened.h"
#include "frontend/pool.h"

/* The C library's lock of the list of open streams, recursive; exported by glibc. fork itself takes it, but after our
 * handler. Meanwhile fflush(NULL) may hold it and wait for a stream, whose holder is in getline and waits for one of
 * our locks: so it has to come before ours. */
extern void _IO_list_lock(void) __attribute__((weak));
extern void _IO_list_unlock(void) __attribute__((weak));
extern void _IO_list_resetlock(void) __attribute__((weak));

/* What prepare found, for the handler after it in the same thread. Where the process has one thread, a lock that is
 * taken is its own: fork was called by a signal handler, and what it interrupted goes on in parent and child alike. */
static bool was_alone;

static void prepare(void) {
    if (lock_is_alone()) {
        was_alone = true;
        return;
    }
    if (_IO_list_lock)
        _IO_list_lock();
    helper_lock_all();
    pools_lock_all();
    locked_lock_all();
    middle_lock_all();
    hardened_lock_all();
    lock_take(&backend_release_lock);
    lock_take(&backend_lock);
    lock_take(&meta_lock);
    was_alone = false;
    atomic_store_explicit(&lock_fork_owner, &lock_self, memory_order_relaxed);
}

static void parent(void) {
    if (was_alone)
        return;
    atomic_store_explicit(&lock_fork_owner, NULL, memory_order_relaxed);
    lock_drop(&meta_lock);
    lock_drop(&backend_lock);
    lock_drop(&backend_release_lock);
    hardened_unlock_all();
    middle_unlock_all();
    locked_unlock_all();
    pools_unlock_all();
    helper_unlock_all();
    if (_IO_list_unlock)
        _IO_list_unlock();
}

/* Handlers that were registered before ours may have made threads already, here in the child: these sleep on our locks,
 * and count among the child's. */
static void child(void) {
    hardened_new_generation();
    if (was_alone)
        return;
    thread_forget_others();
    atomic_store_explicit(&lock_fork_owner, NULL, memory_order_relaxed);
    lock_reset(&meta_lock);
    lock_reset(&backend_lock);
    lock_reset(&backend_release_lock);
    hardened_reset_locks();
    middle_reset_locks();
    locked_reset_locks();
    pools_reset_locks();
    helper_forget();
    if (RN_CHECKS)
        lock_self = 0;
    if (_IO_list_resetlock)
        _IO_list_resetlock();
}

void fork_handlers_register(void) {
    static _Atomic bool registered;
    if (!atomic_exchange_explicit(&registered, true, memory_order_relaxed))
        (void)pthread_atfork(prepare, parent, child);
}
