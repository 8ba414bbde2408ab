/* frontend-pools.c: pools and their doors, in each mode. Each test is a child, in which the library begins anew.
 *
 * "Objects in = objects out" is counted in bytes: what spans gave out is in the program's hands, in a pool, in a locked
 * pool or in a transfer cache, and after all of it came back and the caches were emptied, no page is in use. */
#include <pthread.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/options.h"
#include "tests/unit/pools.h"
#include "tests/unit/script.h"

enum { CLASS = 10, MOST = 4000 };

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
    churn(large, 6);
    CHECK(pools_free_bytes() == big_heap + 6 * large);
    churn(large, 15);
    CHECK(pools_free_bytes() <= big_heap + 6 * large);
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

/* ---- Threads that end ---- */

/* They leave nothing behind in pools of their own. */
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

/* ---- Refusals ---- */

static void refused(void *script) {
    enum { LIVE = 300 };
    static void *blocks[LIVE];
    uint64_t random = 0;
    size_t refusals = 0;
    begin("");
    script_play(script);
    for (int round = 0; round < 40; round++) {
        for (int i = 0; i < LIVE; i++) {
            blocks[i] = rnAlloc((size_t)1 << random_next(&random) % 20);
            refusals += blocks[i] == NULL;
            if (blocks[i])
                claim(blocks[i]);
        }
        for (int i = 0; i < LIVE; i++)
            free_claimed(blocks[i]);
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

/* ---- The tests ---- */

static void test_batches(void **state) {
    (void)state;
    each_mode(batches);
}
static void test_budget(void **state) {
    (void)state;
    each_mode(budget);
}
static void test_ended_threads(void **state) {
    (void)state;
    each_mode(ended_threads);
}
static void test_aging(void **state) {
    (void)state;
    each_mode(aging);
}
static void test_big_objects(void **state) {
    (void)state;
    each_mode(big_objects);
}
static void test_yielding(void **state) {
    (void)state;
    each_mode(yielding);
}
static void test_refused_once(void **state) {
    (void)state;
    assert_int_equal(child_fails(refused_once, (char[]){"helper=0"}), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_batches),     cmocka_unit_test(test_budget),    cmocka_unit_test(test_ended_threads),
        cmocka_unit_test(test_refused),     cmocka_unit_test(test_first_use), cmocka_unit_test(test_aging),
        cmocka_unit_test(test_big_objects), cmocka_unit_test(test_yielding),  cmocka_unit_test(test_refused_once),
    };
    return cmocka_run_group_tests_name("pools", tests, NULL, NULL);
}
