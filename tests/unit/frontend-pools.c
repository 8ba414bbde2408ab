/* frontend-pools.c: pools and their doors, in each mode. Each test is a child, in which the library begins anew.
 *
 * "Objects in = objects out" is counted in bytes: what spans gave out is in the program's hands, in a pool, in a locked
 * pool or in a transfer cache, and after all of it came back and the caches were emptied, no page is in use. */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "backend/backend.h"
#include "base/options.h"
#include "frontend/frontend.h"
#include "rnalloc.h"
#include "tests/unit/check.h"
#include "tests/unit/cmock.h"
#include "tests/unit/script.h"

enum { CLASS = 10, MOST = 4000, THREADS = 4, PATIENCE = 1000 };

static void begin(const char *options) {
    CHECK(setenv("RNALLOC_OPTIONS", options, 1) == 0);
    CHECK(rnMode().kind == (strstr(options, "rseq=0") ? RN_MODE_THREAD : rnMode().kind));
}

/* Where pools are those of CPUs, a thread that is moved to another leaves what is free behind: tests that count what is
 * in a pool stay on one. */
static void begin_on_one_cpu(const char *options) {
    begin(options);
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(sched_getcpu(), &set);
    CHECK(sched_setaffinity(0, sizeof set, &set) == 0);
}

static void check_nothing_in_use(void) {
    (void)rnReleaseMemory(0);
    heap_check();
    struct rn_stats stats;
    rnStats(&stats);
    CHECK(stats.pool_free == 0 && stats.transfer_free == 0 && stats.span_free == 0);
    CHECK(stats.in_use == 0 && backend_in_use() == 0 && stats.page_free == 0);
}

/* Bytes of one class that left the spans must be where they are said to be. */
static void check_bytes(size_t in_hands) {
    struct rn_stats stats;
    rnStats(&stats);
    CHECK(stats.in_use >= in_hands);
    CHECK(stats.in_use + stats.pool_free + stats.transfer_free + stats.span_free == backend_in_use());
}

/* ---- Batches ---- */

static void batches(void *options) {
    begin_on_one_cpu(options);
    size_t size = size_classes[CLASS].size;
    void *objects[MOST], *back[MOST];
    CHECK(rnAllocBatch(size, objects, 200) == 200);
    rnFreeBatch(objects, 200); /* the bin has a capacity now */
    CHECK(rnAllocBatch(size, objects, MOST) == MOST);
    for (size_t i = 0; i < MOST; i++)
        memcpy(objects[i], &i, sizeof i);
    size_t before = pools_free_bytes();
    size_t pushed = rn_push_batch(CLASS, objects, MOST, rn_thread.area);
    CHECK(pushed > 0 && pushed < MOST && pools_free_bytes() == before + pushed * size);
    CHECK(rn_push_batch(CLASS, objects + pushed, 1, rn_thread.area) == 0); /* full is full */
    size_t some = rn_pop_batch(CLASS, back, 3, rn_thread.area);
    CHECK(some == 3 && back[0] == objects[pushed - 1] && back[2] == objects[pushed - 3]); /* a stack */
    size_t popped = 3 + rn_pop_batch(CLASS, back + 3, pushed - 3, rn_thread.area);
    CHECK(popped == pushed);
    for (size_t i = 0; i < pushed; i++)
        CHECK(back[i] == objects[pushed - 1 - i]);
    CHECK(rn_pop_batch(CLASS, back, 0, rn_thread.area) == 0 && rn_push_batch(CLASS, back, 0, rn_thread.area) == 0);
    CHECK(rn_push_batch(CLASS, objects, 1, &rn_no_area) == 0 && rn_pop_batch(CLASS, back, 1, &rn_no_area) == 0);
    CHECK(rn_push_batch(CLASS, objects, 1, &rn_new_area) == 0 && rn_pop_batch(CLASS, back, 1, &rn_new_area) == 0);
    check_bytes(MOST * size);
    for (size_t i = 0; i < MOST; i++)
        CHECK(memcmp(objects[i], &i, sizeof i) == 0);
    rnFreeBatch(objects, MOST);
    check_bytes(0);
    check_nothing_in_use();
}

/* ---- Budget ---- */

/* However objects of all sizes come and go, the pools of one thread hold at most their budget, and a bin's worth at
 * first use. */
static void budget(void *options) {
    begin(options);
    size_t most = option_get(OPT_POOL_KIB) << 10, first = 0;
    for (unsigned i = 1; i < RN_CLASSES; i++)
        first += size_classes[i].size > 65536 ? size_classes[i].size : 0; /* one object each, whatever the budget */
    static void *blocks[MOST];
    uint64_t random = 1;
    for (int round = 0; round < 60; round++) {
        size_t count = 0;
        for (size_t bytes = 0; count < MOST && bytes < (size_t)8 << 20; count++) {
            size_t size = random_next(&random) % ((size_t)8 << round % 14);
            blocks[count] = rnAlloc(size);
            bytes += size;
            CHECK(blocks[count]);
        }
        for (size_t i = 0; i < count; i++)
            rnFree(blocks[i]);
        size_t heap = backend_in_use() / 32;
        size_t allowed = (most > heap ? most : heap) * 4 * (pools_count() ? pools_count() : 1) + first;
        CHECK(pools_free_bytes() <= allowed);
    }
    check_nothing_in_use();
}

/* What stands still in a bin goes back to the spans while the heap grows by other sizes: it would keep memory from
 * them.
 */
static void aging(void *options) {
    begin_on_one_cpu(options);
    static void *blocks[MOST];
    const size_t first = (size_t)32 << 10; /* bytes of a bin's first capacity, which it keeps */
    for (int round = 0; round < 40; round++) {
        for (size_t i = 0; i < MOST; i++)
            CHECK((blocks[i] = rnAlloc(64)) != NULL);
        for (size_t i = 0; i < MOST; i++)
            rnFree(blocks[i]);
    }
    CHECK(pools_free_bytes() > 4 * first);
    void **list = NULL; /* linked through their first words */
    for (size_t bytes = 0; bytes < (size_t)8 << 20; bytes += 1024) {
        void **block = rnAlloc(1024);
        CHECK(block);
        *block = list;
        list = (void **)block;
    }
    CHECK(pools_free_bytes() <= 3 * first);
    while (list) {
        void **next = *list;
        rnFree(list);
        list = next;
    }
    check_nothing_in_use();
}

static void churn(size_t size, size_t count) {
    void *blocks[64];
    for (int round = 0; round < 40; round++) {
        for (size_t i = 0; i < count; i++)
            CHECK((blocks[i] = rnAlloc(size)) != NULL);
        for (size_t i = 0; i < count; i++)
            rnFree(blocks[i]);
    }
}

/* Bins for objects above 1 KiB hold 32 KiB in a small heap, and more in a big one; but of any size the few that a
 * program has at once, and again. */
static void big_objects(void *options) {
    begin_on_one_cpu(options);
    const size_t big = 8192, large = (size_t)128 << 10;
    churn(big, 60);
    size_t small_heap = pools_free_bytes();
    CHECK(small_heap <= (size_t)32 << 10);
    void *kept = rnAlloc((size_t)20 << 20);
    CHECK(kept);
    churn(big, 60);
    size_t big_heap = pools_free_bytes();
    CHECK(big_heap > small_heap && big_heap <= backend_in_use() / 128);
    rnFree(kept);
    churn(large, 1);
    CHECK(pools_free_bytes() == big_heap + large);
    churn(large, 3);
    CHECK(pools_free_bytes() == big_heap + 3 * large);
    churn(large, 9);
    CHECK(pools_free_bytes() <= big_heap + 3 * large);
    check_nothing_in_use();
}

/* Where demand passes from size to size, big objects that are free serve the next size. */
static void yielding(void *options) {
    begin_on_one_cpu(options);
    static void *kept[MOST];
    for (size_t i = 0; i < MOST; i++)
        CHECK((kept[i] = rnAlloc(1024)) != NULL);
    size_t before = backend_fresh(), sum = 0;
    for (size_t size = 32 << 10; size <= RN_MAX_SMALL; size += size / 8) {
        void *block = rnAlloc(size);
        CHECK(block);
        rnFree(block);
        sum += size;
    }
    CHECK(backend_fresh() - before < sum / 2);
    check_bytes((size_t)MOST * 1024);
    for (size_t i = 0; i < MOST; i++)
        rnFree(kept[i]);
    check_nothing_in_use();
}

/* ---- Threads and draining ---- */

enum { LIVE = 300 };

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

/* A live block carries its own address and that inverted, at both ends: an object handed out twice is found by its
 * second owner, or by the first when it frees. */
static void claim(void *block) {
    uintptr_t *words = block, *last = words + rnUsableSize(block) / sizeof *words - 1;
    words[0] = (uintptr_t)block;
    *last = ~(uintptr_t)block;
    if (last == words)
        words[0] = (uintptr_t)block;
}

static void unclaim(void *block) {
    uintptr_t *words = block, *last = words + rnUsableSize(block) / sizeof *words - 1;
    CHECK(words[0] == (uintptr_t)block && (last == words || *last == ~(uintptr_t)block));
    words[0] = *last = 0;
}

static void free_claimed(void *block) {
    if (!block)
        return;
    unclaim(block);
    rnFree(block);
}

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

/* Threads that end leave nothing behind in pools of their own. */
static void *short_life(void *unused) {
    (void)unused;
    void *blocks[100];
    CHECK(rnAllocBatch(100, blocks, 100) == 100);
    rnFreeBatch(blocks, 100);
    return NULL;
}

static void ended_threads(void *options) {
    begin(options);
    for (int i = 0; i < 700; i++) { /* more than there are ids for threads */
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, short_life, NULL) == 0 && pthread_join(thread, NULL) == 0);
    }
    if (rnMode().kind == RN_MODE_THREAD)
        CHECK(pools_free_bytes() == 0 && pools_count() <= 3);
    check_nothing_in_use();
}

static void refused(void *script) {
    begin("");
    size_t refusals = 0;
    script_play(script);
    for (int round = 0; round < 40; round++) {
        struct worker *worker = &workers[0];
        for (int i = 0; i < LIVE; i++) {
            worker->blocks[i] = rnAlloc((size_t)1 << random_next(&worker->random) % 20);
            refusals += worker->blocks[i] == NULL;
            if (worker->blocks[i])
                claim(worker->blocks[i]);
        }
        for (int i = 0; i < LIVE; i++)
            free_claimed(worker->blocks[i]);
        (void)rnReleaseMemory(0);
        heap_check();
    }
    CHECK(script_failures() > 0 && refusals > 0);
    script_stop();
    check_nothing_in_use();
}

static void test_refused(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed < 6; seed++)
        assert_int_equal(child_fails(refused, &(struct script){.one_in = 2 + (unsigned)seed % 3, .seed = seed << 30}),
                         0);
}

/* One refusal, where nothing limits address space, is no reason for small pools for ever. */
static void refused_once(void *options) {
    enum { MANY = 30000 };
    static void *blocks[MANY];
    begin(options);
    rnFree(rnAlloc(100));
    script_play(&(struct script){.always = 1u << CALL_MPROTECT});
    CHECK(rnAlloc((size_t)512 << 20) == NULL);
    script_stop();
    size_t most = 0;
    for (size_t size = 16; size <= 40; size += 8) {
        most += size * MANY;
        for (int round = 0; round < 20; round++) {
            for (size_t i = 0; i < MANY; i++)
                CHECK((blocks[i] = rnAlloc(size)) != NULL);
            for (size_t i = 0; i < MANY; i++)
                rnFree(blocks[i]);
        }
    }
    CHECK(pools_free_bytes() > most / 2);
    check_nothing_in_use();
}

/* The first use of the library, with each call failing in turn: a clean end with a message, or a working allocator. */
static void first_use(void *number) {
    script_play(&(struct script){.fail_at = *(unsigned long *)number});
    void *block = rnAlloc(100);
    bool failed = script_failures() != 0;
    script_stop();
    rnFree(block);
    for (int i = 0; i < 100; i++) {
        block = rnAlloc((size_t)i * 1000);
        CHECK(block);
        rnFree(block);
    }
    heap_check();
    exit(failed ? 0 : 77);
}

static void test_first_use(void **state) {
    (void)state;
    unsigned long number = 1;
    for (; number < 200; number++) {
        int status = run_child(first_use, &number);
        if (status == 77 << 8)
            break;
        if (status != 0 && !strstr(child_output, "rnalloc: no memory to start with\n"))
            fail_msg("call %lu: status %#x: %s", number, (unsigned)status, child_output);
    }
    assert_in_range(number, 5, 199);
}

static void each_mode(void (*body)(void *)) {
    static const char *const modes[] = {"helper=0", "helper=0,cid=0", "helper=0,rseq=0"};
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        char options[40];
        strcpy(options, modes[i]);
        assert_int_equal(child_fails(body, options), 0);
    }
}

static void test_batches(void **state) {
    (void)state;
    each_mode(batches);
}
static void test_budget(void **state) {
    (void)state;
    each_mode(budget);
}
static void test_yielding(void **state) {
    (void)state;
    each_mode(yielding);
}
static void test_refused_once(void **state) {
    (void)state;
    assert_int_equal(child_fails(refused_once, (char[]){"helper=0"}), 0);
}
static void test_draining(void **state) {
    (void)state;
    each_mode(draining);
}
static void test_big_objects(void **state) {
    (void)state;
    each_mode(big_objects);
}

static void test_aging(void **state) {
    (void)state;
    each_mode(aging);
}
static void test_draining_unseen(void **state) {
    (void)state;
    each_mode(draining_unseen);
}
static void test_ended_threads(void **state) {
    (void)state;
    each_mode(ended_threads);
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
        cmocka_unit_test(test_batches),       cmocka_unit_test(test_budget),
        cmocka_unit_test(test_draining),      cmocka_unit_test(test_draining_unseen),
        cmocka_unit_test(test_ended_threads), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_first_use),     cmocka_unit_test(test_draining_vfork),
        cmocka_unit_test(test_born_in_fork),  cmocka_unit_test(test_aging),
        cmocka_unit_test(test_big_objects),   cmocka_unit_test(test_yielding),
        cmocka_unit_test(test_refused_once),
    };
    return cmocka_run_group_tests_name("pools", tests, NULL, NULL);
}
