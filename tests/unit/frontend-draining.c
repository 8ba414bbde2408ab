/* frontend-draining.c: pools that are stopped and emptied while threads use them, and one that comes to be between
 * fork's handlers. Each test is a child, in which the library begins anew. */
#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/pools.h"

enum { THREADS = 4, PATIENCE = 1000, LIVE = 300 };

struct worker {
    pthread_t thread;
    uint64_t random;
    unsigned operations;
    void *blocks[LIVE];
};

static struct worker workers[THREADS];
static _Atomic(void *) mailbox[64];
static _Atomic bool stop;
static _Atomic size_t drained;
static _Atomic unsigned drains_wanted; /* rounds of the drainer that workers go on for, however late it begins */

static void *work(void *argument) {
    struct worker *worker = argument;
    uint64_t most = (uint64_t)worker->operations * PATIENCE;
    for (uint64_t i = 0; i < worker->operations || (i < most && atomic_load(&drains_wanted) > 0); i++) {
        uint64_t r = random_next(&worker->random);
        void **slot = &worker->blocks[r % LIVE];
        if (r >> 32 & 1) {
            *slot = atomic_exchange(&mailbox[(r >> 33) % 64], *slot);
        } else if (*slot) {
            free_claimed(*slot);
            *slot = NULL;
        } else {
            *slot = rnAlloc((r >> 40) % 2000);
            CHECK(*slot);
            claim(*slot);
        }
    }
    for (int i = 0; i < LIVE; i++)
        free_claimed(worker->blocks[i]);
    return NULL;
}

static void *drain(void *unused) {
    (void)unused;
    for (unsigned i = 0; !atomic_load(&stop); i++) {
        drained += pools_drain(i % 4 != 0) + locked_drain();
        if (i % 8 == 0)
            (void)middle_flush();
        heap_check();
        if (drains_wanted > 0 && (drained > 0 || rnMode().kind == RN_MODE_THREAD))
            drains_wanted--;
    }
    return NULL;
}

static void run_workers(unsigned count, unsigned operations) {
    pthread_t drainer;
    for (unsigned i = 0; i < count; i++) {
        workers[i].random = i + 1;
        workers[i].operations = operations;
        CHECK(pthread_create(&workers[i].thread, NULL, work, &workers[i]) == 0);
    }
    CHECK(pthread_create(&drainer, NULL, drain, NULL) == 0);
    for (unsigned i = 0; i < count; i++)
        CHECK(pthread_join(workers[i].thread, NULL) == 0);
    atomic_store(&stop, true);
    CHECK(pthread_join(drainer, NULL) == 0);
    for (int i = 0; i < 64; i++)
        free_claimed(atomic_load(&mailbox[i]));
}

static void draining(void *options) {
    begin(options);
    drains_wanted = 8; /* of which, except where threads keep their own, the first found something */
    run_workers(THREADS, 300000);
    CHECK(drains_wanted == 0);
    check_nothing_in_use();
}

/* The drainer never allocates; the worker is the only thread that the library has seen. */
static void draining_unseen(void *options) {
    begin(options);
    pthread_t drainer;
    drains_wanted = 8;
    CHECK(pthread_create(&drainer, NULL, drain, NULL) == 0);
    workers[0].operations = 1000000;
    work(&workers[0]);
    atomic_store(&stop, true);
    CHECK(pthread_join(drainer, NULL) == 0);
    CHECK(drains_wanted == 0);
    CHECK(process_has_threads()); /* or no barrier would stop the worker's sections */
    for (int i = 0; i < 64; i++)
        free_claimed(atomic_load(&mailbox[i]));
    check_nothing_in_use();
}

/* The drainer is a child of vfork, in the memory of a thread that never allocated; here it is that thread with the area
 * that the wrapper of vfork gives to the child. */
static void *drain_as_vfork(void *unused) {
    rn_thread.area = &rn_no_area;
    (void)pools_drain(true);
    CHECK(process_has_threads()); /* or no barrier stopped the sections of the thread that is counted */
    rn_thread.area = &rn_new_area;
    return unused;
}

static void draining_vfork(void *options) {
    begin(options);
    pthread_t thread;
    rnFree(rnAlloc(100));
    CHECK(pthread_create(&thread, NULL, drain_as_vfork, NULL) == 0 && pthread_join(thread, NULL) == 0);
    check_nothing_in_use();
}

/* ---- A pool that comes to be between fork's handlers ---- */

static _Atomic bool to_be_born;
static _Atomic(struct pool *) born;
static _Atomic int tried; /* 1: not taken, 2: taken */

/* Registered before the library's handlers, so it runs while they hold all locks: the first use of the thread's id. */
static void prepare_allocates(void) {
    if (!atomic_load(&to_be_born))
        return;
    rnFree(rnAlloc(100));
    atomic_store(&born, rn_fast.pool_of[(uint32_t)rn_thread.area->cpu_id]);
    while (!atomic_load(&tried))
        sched_yield();
}

__attribute__((constructor(101))) static void prepare_register(void) {
    if (pthread_atfork(prepare_allocates, NULL, NULL) != 0)
        abort();
}

static void *forks(void *unused) {
    int status;
    atomic_store(&to_be_born, true);
    pid_t child = fork();
    if (child == 0)
        _exit(lock_try(&born->lock) ? 0 : 1);
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    return unused;
}

/* Its lock is held like all others till the fork is done. Else another thread takes it, and the parent's handler drops
 * it under that thread's feet: seen by the model (tests/model/fork.pml), before it was seen here. */
static void born_in_fork(void *options) {
    begin(options);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, forks, NULL) == 0);
    while (!atomic_load(&born))
        sched_yield();
    bool taken = lock_try(&born->lock);
    if (taken)
        lock_drop(&born->lock);
    atomic_store(&tried, 1 + taken);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(!taken && lock_try(&born->lock));
    lock_drop(&born->lock);
}

static void test_draining(void **state) {
    (void)state;
    each_mode(draining);
}
static void test_draining_unseen(void **state) {
    (void)state;
    each_mode(draining_unseen);
}
static void test_draining_vfork(void **state) {
    (void)state;
    each_mode(draining_vfork);
}
static void test_born_in_fork(void **state) {
    (void)state;
    assert_int_equal(child_fails(born_in_fork, (char[]){"helper=0,rseq=0"}), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_draining),
        cmocka_unit_test(test_draining_unseen),
        cmocka_unit_test(test_draining_vfork),
        cmocka_unit_test(test_born_in_fork),
    };
    return cmocka_run_group_tests_name("draining", tests, NULL, NULL);
}
