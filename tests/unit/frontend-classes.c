/* frontend-classes.c: which class a size has, at first and later. Each test is a child, in which the library begins
 * anew. */
#include <pthread.h>
#include <stdlib.h>

#include "frontend/frontend.h"
#include "rnalloc.h"
#include "tests/unit/check.h"
#include "tests/unit/cmock.h"

enum { FINE = 1024, MANY = 4000, THREADS = 4 };

static void *blocks[MANY];

static unsigned class_of_size(size_t size) { return class_table[class_index_of(size)]; }

static size_t class_size(size_t size) { return size_classes[class_of_size(size)].size; }

static size_t narrowest_size(size_t size) {
    unsigned i = 1;
    while (size_classes[i].size < size)
        i++;
    return size_classes[i].size;
}

/* Each size has room, no more of it than a quarter of a doubling, and alignments go with sizes. */
static void check_table(void) {
    for (size_t size = 0; size <= RN_MAX_SMALL; size++) {
        size_t have = class_size(size), below = (size_t)1 << (63 - __builtin_clzl((size | 2) - 1));
        CHECK(have >= size && have - size < (size <= FINE ? max_size(below / 8, 16) : below / 4));
        CHECK(have >= narrowest_size(size) && (size > FINE || have == narrowest_size(size)));
    }
    for (size_t alignment = 16; alignment <= RN_PAGE; alignment *= 2)
        for (size_t size = alignment; size <= RN_MAX_SMALL; size += alignment)
            CHECK(class_size(size) % alignment == 0);
}

/* Takes `count` blocks of the sizes in turn, from the address space that all of them had before. */
static void take(const size_t *sizes, unsigned kinds, unsigned count) {
    for (unsigned i = 0; i < count; i++)
        CHECK((blocks[i] = rnAlloc(sizes[i % kinds])) != NULL && rnUsableSize(blocks[i]) >= sizes[i % kinds]);
}

static void drop(unsigned count) {
    for (unsigned i = 0; i < count; i++)
        rnFree(blocks[i]);
}

static void start(void) {
    CHECK(setenv("RNALLOC_OPTIONS", "helper=0", 1) == 0);
    rnFree(rnAlloc(1));
}

static void wide(void *unused) {
    (void)unused;
    start();
    check_table();
    CHECK(class_size(1025) == 1280 && class_size(1281) == 1536 && class_size(4097) == 5120 &&
          class_size(8200) == 10240);
    CHECK(rnGoodSize(1100) == 1280);
}

/* What a program wants nearly nothing but, gets its own class, before much is lost. */
static void gets_own(void *argument) {
    size_t size = *(size_t *)argument, before = 0, own = narrowest_size(size);
    start();
    size_t at_first = class_size(size);
    CHECK(at_first > own);
    take(&size, 1, MANY);
    while (before < MANY && rnUsableSize(blocks[before]) == at_first)
        before++;
    CHECK(before * at_first >= 128 << 10 && before * at_first <= 3 << 20);
    CHECK(rnUsableSize(blocks[MANY - 1]) == own && class_size(size) == own && rnGoodSize(size) == own);
    CHECK(class_size(at_first) == at_first && class_size(own + 1) != own);
    check_table();
    drop(MANY); /* those of both classes */
    struct rn_stats stats;
    rnStats(&stats);
    CHECK(stats.in_use < 64 << 10); /* tails of spans that bins hold objects of */
}

/* What goes to several sizes stays together. */
static void stays_wide(void *unused) {
    (void)unused;
    const size_t sizes[] = {1100, 1030, 1279, 1200, 1153, 1060, 1217, 1280};
    start();
    for (unsigned kinds = 2; kinds <= 8; kinds++) {
        take(sizes, kinds, MANY);
        CHECK(class_size(1100) == 1280 && class_size(1280) == 1280);
        drop(MANY);
    }
}

/* By the batch, too. */
static void batches(void *unused) {
    (void)unused;
    start();
    for (unsigned i = 0; i < MANY; i += 50)
        CHECK(rnAllocBatch(1100, blocks + i, 50) == 50);
    CHECK(rnUsableSize(blocks[0]) == 1280 && rnUsableSize(blocks[MANY - 1]) == 1152);
    drop(MANY);
}

/* One after the other, until none is left to stand in for. */
static void all_get_own(void *unused) {
    (void)unused;
    start();
    unsigned class_index = class_of_size(1280);
    CHECK(class_first[class_index] != 0);
    for (size_t size = 1088; size < 1280; size += 64) {
        CHECK(class_first[class_index] != 0);
        take(&size, 1, MANY);
        CHECK(class_size(size) == size);
        drop(MANY);
    }
    CHECK(class_first[class_index] == 0 && class_size(1025) == 1088 && class_size(1217) == 1280);
    check_table();
}

/* Requests that come by their alignment do not speak for a narrower class. */
static void aligned(void *unused) {
    (void)unused;
    start();
    for (unsigned i = 0; i < MANY; i++)
        CHECK((blocks[i] = rnAllocAligned(4096, 5000)) != NULL && (uintptr_t)blocks[i] % 4096 == 0);
    CHECK(class_size(7200) == 8192 && class_size(5000) == 5120);
    drop(MANY);
    static const struct {
        size_t alignment, size, class;
    } requests[] = {{64, 1100, 1152}, {256, 2049, 2304}, {512, 5000, 5120}, {4096, 7200, 8192}, {4096, 17000, 20480}};
    for (unsigned k = 0; k < sizeof requests / sizeof requests[0]; k++) {
        size_t alignment = requests[k].alignment;
        for (unsigned i = 0; i < MANY; i++) {
            CHECK((blocks[i] = rnAllocAligned(alignment, requests[k].size)) != NULL);
            CHECK((uintptr_t)blocks[i] % alignment == 0);
        }
        CHECK(rnUsableSize(blocks[MANY - 1]) == requests[k].class);
        drop(MANY);
    }
    /* Those that their alignment made larger do not speak for the sizes that they ask for. */
    CHECK(class_size(2100) == 2560 && class_size(7200) == 8192 && class_size(17000) == 20480);
    check_table();
}

static void *churn(void *argument) {
    size_t size = *(size_t *)argument;
    void *own[MANY / 4];
    for (unsigned round = 0; round < 8; round++) {
        for (unsigned i = 0; i < MANY / 4; i++)
            CHECK((own[i] = rnAlloc(size + round % 3 * 64)) != NULL && rnUsableSize(own[i]) >= size + round % 3 * 64);
        for (unsigned i = 0; i < MANY / 4; i++)
            rnFree(own[i]);
    }
    return NULL;
}

static void in_threads(void *unused) {
    (void)unused;
    static size_t sizes[THREADS] = {1050, 2100, 5000, 1050};
    pthread_t threads[THREADS];
    start();
    for (unsigned i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, churn, &sizes[i]) == 0);
    for (int i = 0; i < 20; i++)
        check_table();
    for (unsigned i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    check_table();
    CHECK(class_size(1050) == narrowest_size(1050) && class_size(5000) == narrowest_size(5000));
}

/* There every class keeps its slots apart anyway, and what a block may hold is told to the byte. The fast path has no
 * classes then. */
static void hardened(void *unused) {
    (void)unused;
    CHECK(setenv("RNALLOC_OPTIONS", "hardened=1,helper=0", 1) == 0);
    rnFree(rnAlloc(1));
    for (size_t size = 1; size <= RN_MAX_SMALL; size++)
        CHECK(class_of_size(size) == 0 &&
              size_classes[slot_classes[class_index_of(size)]].size == narrowest_size(size));
}

static void test_wide(void **state) {
    (void)state;
    assert_int_equal(child_fails(wide, NULL), 0);
}
static void test_gets_own(void **state) {
    (void)state;
    size_t sizes[] = {1025, 1100, 1650, 2060, 4112, 8200, 17000, 70000};
    for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        assert_int_equal(child_fails(gets_own, &sizes[i]), 0);
}
static void test_stays_wide(void **state) {
    (void)state;
    assert_int_equal(child_fails(stays_wide, NULL), 0);
}
static void test_all_get_own(void **state) {
    (void)state;
    assert_int_equal(child_fails(all_get_own, NULL), 0);
}
static void test_batches(void **state) {
    (void)state;
    assert_int_equal(child_fails(batches, NULL), 0);
}
static void test_aligned(void **state) {
    (void)state;
    assert_int_equal(child_fails(aligned, NULL), 0);
}
static void test_threads(void **state) {
    (void)state;
    assert_int_equal(child_fails(in_threads, NULL), 0);
}
static void test_hardened(void **state) {
    (void)state;
    assert_int_equal(child_fails(hardened, NULL), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wide),        cmocka_unit_test(test_gets_own), cmocka_unit_test(test_stays_wide),
        cmocka_unit_test(test_all_get_own), cmocka_unit_test(test_aligned),  cmocka_unit_test(test_threads),
        cmocka_unit_test(test_batches),     cmocka_unit_test(test_hardened),
    };
    return cmocka_run_group_tests_name("classes", tests, NULL, NULL);
}
