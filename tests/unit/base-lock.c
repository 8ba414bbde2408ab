/* base-lock.c: locks and shared numbers, of a thread that is alone and of many. */
#include <pthread.h>
#include <sched.h>

#include "base/lock.h"
#include "base/tally.h"
#include "tests/unit/check.h"
#include "tests/unit/cmock.h"

enum { THREADS = 8, ROUNDS = 50000 };

static struct lock lock = LOCK_INIT(RANK_META);
static size_t guarded;
static _Atomic size_t shared;
static struct tally tally;

static void take_and_drop(void) {
    lock_take(&lock);
    CHECK(lock.state == 1 && !lock_try(&lock));
    lock_drop(&lock);
    CHECK(lock.state == 0 && lock_try(&lock));
    lock_drop(&lock);
    CHECK(lock.state == 0);
}

static void *count(void *unused) {
    (void)unused;
    for (int i = 0; i < ROUNDS; i++) {
        lock_take(&lock);
        guarded++;
        if (i % 64 == 0)
            sched_yield(); /* others come to sleep on it */
        lock_drop(&lock);
        shared_add(&shared, 3);
        shared_add(&shared, -(size_t)2);
        tally_add(&tally, 5);
        tally_add(&tally, -(size_t)4);
        (void)tally_about(&tally);
    }
    return NULL;
}

static void count_in_threads(void) {
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, count, NULL) == 0);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    CHECK(guarded == THREADS * (size_t)ROUNDS && shared == THREADS * (size_t)ROUNDS && lock.state == 0);
    CHECK(tally_sum(&tally) == THREADS * (size_t)ROUNDS);
    for (int i = 0; i < TALLY_LOOKS; i++)
        (void)tally_about(&tally);
    CHECK(tally_about(&tally) == THREADS * (size_t)ROUNDS);
}

/* Alone until the first thread is made, and not while there are any. */
static void alone(void *unused) {
    (void)unused;
    CHECK(!lock_is_alone());
    take_and_drop();
    lock_init();
    CHECK(lock_is_alone());
    take_and_drop();
    shared_add(&shared, 5);
    shared_add(&shared, -(size_t)5);
    CHECK(shared == 0);
    shared_add(&shared, (size_t)1 << 32);
    shared_add(&shared, -(size_t)1);
    CHECK(shared == UINT32_MAX); /* all 64 bits, of a constant too */
    shared_add(&shared, -(size_t)UINT32_MAX);
    tally_add(&tally, 7);
    CHECK(tally_sum(&tally) == 7 && tally_about(&tally) == 7);
    tally_add(&tally, -(size_t)7);
    CHECK(tally_sum(&tally) == 0 && tally_about(&tally) == 0);
    count_in_threads();
}

static void *is_alone(void *unused) {
    (void)unused;
    static bool answer;
    answer = lock_is_alone();
    return &answer;
}

static void held_across_birth(void *unused) {
    (void)unused;
    pthread_t thread;
    void *answer;
    lock_init();
    lock_take(&lock); /* as the only thread */
    CHECK(pthread_create(&thread, NULL, is_alone, NULL) == 0);
    CHECK(pthread_join(thread, &answer) == 0 && !*(bool *)answer);
    CHECK(lock.state == 1);
    lock_drop(&lock);
    CHECK(lock.state == 0);
}

/* A thread that the C library does not know of: whoever makes it says so, before or after the library's first use. */
static void never(void *late) {
    if (late)
        lock_init();
    lock_never_alone();
    lock_init();
    CHECK(!lock_is_alone());
    take_and_drop();
    count_in_threads();
}

#define IN_CHILD(name, body, argument)                    \
    static void name(void **state) {                      \
        (void)state;                                      \
        assert_int_equal(child_fails(body, argument), 0); \
    }

IN_CHILD(test_alone, alone, NULL)
IN_CHILD(test_held_across_birth, held_across_birth, NULL)
IN_CHILD(test_never, never, NULL)
IN_CHILD(test_never_again, never, "late")

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alone),
        cmocka_unit_test(test_held_across_birth),
        cmocka_unit_test(test_never),
        cmocka_unit_test(test_never_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
