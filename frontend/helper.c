/* helper.c: the thread that gives an idle process's memory back.
 *
 * It is born only in our pthread_create, after the real call returned and with no lock held: glibc calls free under the
 * lock of its stack cache, which pthread_create takes, so never inside malloc or free. It sleeps on a futex until
 * a slow path sees more free memory than the threshold, or room for it in pools, and pokes it; it works while there is
 * excess or such room; it ends after a minute in which it did nothing and the heap was small, to be born again at the
 * next pthread_create. A child of fork forgets it. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>

#include "backend/backend.h"
#include "base/options.h"
#include "base/os.h"
#include "frontend/interpose.h"
#include "frontend/pool.h"

enum {
    HELPER_STACK = 64 << 10,
    WORK_MS = 250, /* between two looks while there is something to give back */
    IDLE_MS = 60000,
    QUIET_LOOKS = 4,   /* looks without allocation before caches are flushed */
    QUIET_MISSES = 64, /* from one look to the next: times that a class had nothing free */
};

static struct lock helper_lock = LOCK_INIT(RANK_HELPER);
static bool alive;      /* under helper_lock */
static uint32_t ending; /* a futex: 1 when the other threads have ended */
static uint32_t poked;  /* the futex: 1 when there may be work */

static void set_alive(bool now) {
    __atomic_store_n(&alive, now, __ATOMIC_RELAXED);
    middle_follow(now);
}

static size_t threshold(void) { return option_get(OPT_HELPER_MIN_MIB) << 20; }

/* What could be given back, but for pools. */
static size_t free_bytes(void) { return backend_free_resident() + middle_cached() + middle_spare(); }

/* What is free in spans in use does not count: only the program can make their pages free. Of pools the room counts:
 * what comes into it comes by the fast path. */
static bool is_due(void) { return pools_room() > threshold() || free_bytes() > threshold(); }

/* From slow paths: a look at some counters, and a wake-up when they say so. */
void helper_poke(void) {
    if (__atomic_load_n(&poked, __ATOMIC_RELAXED) != 0 || !__atomic_load_n(&alive, __ATOMIC_RELAXED))
        return;
    if (is_due()) {
        /* release: pairs with the acquire in helper_sleep */
        __atomic_store_n(&poked, 1, __ATOMIC_RELEASE);
        os_wake(&poked, 1);
    }
}

/* What is due at a look. Returns whether another is due soon. */
static bool helper_work(unsigned quiet) {
    (void)pools_drain(false);
    middle_trim();
    (void)backend_release_step();
    bool is_roomy = pools_room() > threshold(); /* until they are idle, and emptied: nobody will say when they fill */
    if (free_bytes() <= threshold())
        return is_roomy || backend_excess() != 0;
    if (quiet < QUIET_LOOKS)
        return true;
    (void)middle_flush();
    (void)locked_drain();
    (void)backend_release(max_size(threshold() / 2, option_get(OPT_RETAIN_MIB) << 20), true);
    return is_roomy || quiet < 2 * QUIET_LOOKS;
}

/* What the last look left. */
struct last {
    size_t in_use, misses;
    unsigned quiet; /* looks in a row that found it so */
};

/* One look. Quiet is a process whose pages in use stay as they are, and which does not live on spare spans. */
static bool helper_look(struct last *last) {
    bool same = backend_in_use() == last->in_use && middle_misses() - last->misses < QUIET_MISSES;
    last->quiet = same ? last->quiet + 1 : 0;
    bool again = helper_work(last->quiet);
    last->in_use = backend_in_use();
    last->misses = middle_misses();
    return again;
}

/* Sleeps until poked; false when a minute passed without. */
static bool helper_sleep(void) {
    while (!__atomic_load_n(&ending, __ATOMIC_RELAXED)) {
        /* acquire: pairs with the release in helper_poke */
        if (__atomic_exchange_n(&poked, 0, __ATOMIC_ACQUIRE) != 0)
            return true;
        os_wait(&poked, 0, IDLE_MS);
        if (__atomic_load_n(&poked, __ATOMIC_RELAXED) == 0 && backend_in_use() < threshold())
            return false;
    }
    return false;
}

/* The other threads of the process have ended, as far as they were counted. The C library ends the process with its
 * last thread, and counts this one: so it goes now. If others are left, it is born again at the next pthread_create. */
void helper_end(void) {
    __atomic_store_n(&ending, 1, __ATOMIC_RELAXED);
    __atomic_store_n(&poked, 1, __ATOMIC_RELAXED);
    os_wake(&ending, 1);
    os_wake(&poked, 1);
}

static void *helper_main(void *unused) {
    os_name_thread("rnalloc-helper");
    thread_count_never();
    thread_register(); /* now: later a sandbox may forbid it */
    /* Where there is nothing to do yet, the CPU is left to the threads that are being born. */
    for (bool due = is_due(); due || helper_sleep(); due = false) {
        struct last last = {0, 0, 0};
        while (!__atomic_load_n(&ending, __ATOMIC_RELAXED) && helper_look(&last))
            os_wait(&ending, 0, WORK_MS);
    }
    lock_take(&helper_lock);
    set_alive(false);
    lock_drop(&helper_lock);
    return unused;
}

/* A thread that no signal reaches. The C library puts the program's thread-local variables on its stack, and says
 * EINVAL where a small one has no room for them: then it has the usual size, 8 MiB or what RLIMIT_STACK says. */
static int helper_create(void) {
    pthread_attr_t attributes;
    sigset_t all, saved;
    pthread_t thread;
    int error = pthread_attr_init(&attributes);
    if (error)
        return error;
    (void)pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    size_t usual;
    bool known = pthread_attr_getstacksize(&attributes, &usual) == 0;
    (void)pthread_attr_setstacksize(&attributes, HELPER_STACK);
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &saved);
    error = real_pthread_create(&thread, &attributes, helper_main, NULL);
    if (error == EINVAL && known && pthread_attr_setstacksize(&attributes, usual) == 0)
        error = real_pthread_create(&thread, &attributes, helper_main, NULL);
    (void)pthread_sigmask(SIG_SETMASK, &saved, NULL);
    (void)pthread_attr_destroy(&attributes);
    return error;
}

/* Not between fork's handlers: the child would forget one that was born there. */
void helper_start(void) {
    if (!option_get(OPT_HELPER) || !option_get(OPT_RELEASE) || __atomic_load_n(&alive, __ATOMIC_RELAXED) ||
        lock_is_fork_owner())
        return;
    lock_take(&helper_lock);
    bool start = !alive;
    set_alive(true);
    if (start)
        __atomic_store_n(&ending, 0, __ATOMIC_RELAXED);
    lock_drop(&helper_lock);
    if (start && helper_create() != 0) {
        lock_take(&helper_lock);
        set_alive(false);
        lock_drop(&helper_lock);
    }
}

void helper_lock_all(void) { lock_take(&helper_lock); }

void helper_unlock_all(void) { lock_drop(&helper_lock); }

void helper_forget(void) {
    set_alive(false);
    poked = 0;
    ending = 0;
    lock_reset(&helper_lock);
}
