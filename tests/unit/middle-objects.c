/* middle-objects.c: small objects and large blocks of the middle tier. Each test is a child with a fresh heap. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/backend.h"
#include "base/meta.h"
#include "base/os.h"
#include "middle/middle.h"
#include "pagemap/pagemap.h"
#include "tests/unit/check.h"
#include "tests/unit/cmock.h"
#include "tests/unit/objects.h"
#include "tests/unit/script.h"

enum { MOST = 3000 };

static size_t objects_for(unsigned class_index) {
    size_t some = size_classes[class_index].objects * (size_t)3 + 5;
    return some < MOST ? some : MOST;
}

/* All classes: disjoint, aligned, known to the pagemap; and with all given back, every page goes back, too. */
static void all_classes(void *unused) {
    (void)unused;
    static void *objects[MOST];
    for (unsigned i = 1; i < RN_CLASSES; i++) {
        size_t count = objects_for(i);
        size_t start = backend_in_use();
        objects_take(i, objects, count, i);
        CHECK(backend_in_use() - start >= count * size_classes[i].size);
        check_disjoint(objects, count, size_classes[i].size);
        for (size_t at = 0; at < count; at += 100)
            objects_put(i, objects + at, count - at < 100 ? count - at : 100, i);
        heap_settled();
        middle_flush();
        heap_settled();
        struct middle_stats stats;
        middle_stats(&stats);
        CHECK(stats.transfer_free == 0 && stats.span_free == 0 && backend_in_use() == start);
        CHECK(pagemap_tag(objects[0]) == 0);
    }
    CHECK(backend_in_use() == 0);
}

/* The statistics add up: what is in spans' pages is in the program's hands, in a transfer cache, or free in a span. */
static void counts(void *unused) {
    (void)unused;
    static void *objects[MOST];
    const unsigned classes[] = {1, 2, 7, 20, 45, 70, RN_CLASSES - 1};
    for (size_t c = 0; c < sizeof classes / sizeof *classes; c++) {
        size_t size = size_classes[classes[c]].size, objects_per = size_classes[classes[c]].objects;
        size_t span = (size_t)size_classes[classes[c]].pages << RN_PAGE_SHIFT;
        size_t held = 0;
        uint64_t random = c;
        for (int i = 0; i < 400; i++) {
            size_t n = 1 + random_next(&random) % RN_MAX_BATCH;
            if (random_next(&random) % 2 && held + n <= MOST) {
                objects_take(classes[c], objects + held, n, 1);
                held += n;
            } else if (held >= n) {
                objects_put(classes[c], objects + held - n, n, 1);
                held -= n;
            }
            struct middle_stats stats;
            middle_stats(&stats);
            size_t free_objects = (stats.transfer_free + stats.span_free - stats.spare_free) / size;
            size_t spans = (backend_in_use() - stats.spare_free) / span;
            CHECK(held + free_objects == spans * objects_per);
        }
        objects_put(classes[c], objects, held, 1);
        middle_flush();
        CHECK(backend_in_use() == 0);
    }
}

/* Sparse spans drain: after most objects are freed and as many taken again, the heap needs no more pages than before.
 */
static void fullest_first(void *unused) {
    (void)unused;
    static void *objects[MOST];
    uint64_t random = 5;
    objects_take(30, objects, MOST, 30);
    size_t peak = backend_in_use();
    for (int round = 0; round < 20; round++) {
        for (size_t i = MOST - 1; i > 0; i--) {
            size_t j = random_next(&random) % (i + 1);
            void *swap = objects[i];
            objects[i] = objects[j];
            objects[j] = swap;
        }
        objects_put(30, objects, MOST * 3 / 4, 30);
        objects_take(30, objects, MOST * 3 / 4, 30);
        CHECK(backend_in_use() <= peak);
    }
    objects_put(30, objects, MOST, 30);
    middle_flush();
    CHECK(backend_in_use() == 0);
    heap_settled();
}

/* A class that has nothing borrows of the next ones what lies free there, before it makes a span. */
static void borrowing(void *unused) {
    (void)unused;
    static void *objects[MOST], *own;
    unsigned borrowed = 0;
    for (unsigned i = 1; i + 2 < RN_CLASSES; i++) {
        size_t count = size_classes[i + 1].objects - 1u;
        void *last;
        if (count == 0 || count > MOST)
            continue;
        objects_take(i + 1, &last, 1, i); /* keeps the lender's span */
        size_t lent = backend_in_use();
        objects_take(i, objects, count, i);
        borrowed += backend_in_use() == lent;
        own = middle_take_exact(0, i);
        CHECK(own && pagemap_tag(own) == i);
        heap_settled();
        objects_put(i, objects, count, i);
        objects_put(i + 1, &last, 1, i);
        middle_put(0, i, &own, 1);
        middle_flush();
        heap_settled();
        CHECK(backend_in_use() == 0);
    }
    CHECK(borrowed > 5);
}

/* What a class left in its cache goes back to the spans while another class grows. */
static void left_behind(void *unused) {
    (void)unused;
    static void *objects[MOST], *others[MOST];
    size_t taken = 0;
    objects_take(20, objects, 100, 20);
    objects_put(20, objects, 100, 20);
    CHECK(middle_cached() > 0);
    for (; middle_cached() > 0; taken++) {
        CHECK(taken < MOST);
        objects_take(50, others + taken, 1, 50);
    }
    objects_put(50, others, taken, 50);
    middle_flush();
    CHECK(backend_in_use() == 0);
    heap_settled();
}

/* A process of one thread has caches for the smallest objects only; what was kept before comes out of them first. */
static void alone(void *unused) {
    (void)unused;
    static void *objects[MOST];
    const unsigned small = 10, medium = 20;
    objects_take(medium, objects, 100, 1);
    objects_put(medium, objects, 100, 1);
    size_t kept = middle_cached();
    CHECK(kept > 0);
    lock_init();
    CHECK(lock_is_alone());
    objects_take(medium, objects, 100, 2);
    CHECK(middle_cached() == 0);
    objects_put(medium, objects, 100, 2);
    CHECK(middle_cached() == 0);
    objects_take(small, objects, 100, 3);
    objects_put(small, objects, 100, 3);
    CHECK(middle_cached() > 0);
    lock_never_alone();
    objects_take(medium, objects, 100, 4);
    kept = middle_cached();
    objects_put(medium, objects, 100, 4);
    CHECK(middle_cached() > kept);
    middle_flush();
    CHECK(backend_in_use() == 0);
    heap_settled();
}

/* Emptied spans wait for others of their length, but not while new memory is taken instead. */
static void spares_make_way(void *unused) {
    (void)unused;
    static void *objects[MOST], *others[MOST];
    struct middle_stats middle;
    struct backend_stats before, now;
    const unsigned one_page = 33, two_pages = 45; /* 1024 and 1792 bytes */
    CHECK(size_classes[one_page].pages == 1 && size_classes[two_pages].pages == 2);
    objects_take(one_page, objects, MOST, 1);
    objects_put(one_page, objects, MOST, 1);
    middle_stats(&middle);
    CHECK(middle.spare_free >= 1 << 20);
    backend_stats(&before);
    size_t room = before.committed - before.in_use + middle.spare_free, taken = 0;
    for (; taken < MOST; taken++) {
        objects_take(two_pages, others + taken, 1, 2);
        backend_stats(&now);
        middle_stats(&middle);
        CHECK(now.committed == before.committed || middle.spare_free == 0);
        if (now.committed != before.committed)
            break;
    }
    CHECK(taken * size_classes[two_pages].size > room / 2);
    objects_put(two_pages, others, taken + 1, 2);
    middle_flush();
    CHECK(backend_in_use() == 0);
    heap_settled();
}

/* A program that takes spans and gives them back, and gets the same again, is at work: that is how the helper tells. */
static void busy_with_spares(void *unused) {
    (void)unused;
    static void *objects[MOST];
    const unsigned one_page = 33;
    objects_take(one_page, objects, MOST, 1);
    middle_return(one_page, objects, MOST);
    for (int round = 0; round < 10; round++) {
        size_t misses = middle_misses(), fresh = backend_fresh(), in_use = backend_in_use();
        CHECK(middle_take(0, one_page, objects, 8, 8) == 8);
        middle_return(one_page, objects, 8);
        CHECK(middle_misses() > misses && backend_fresh() == fresh && backend_in_use() == in_use);
    }
    middle_flush();
    CHECK(backend_in_use() == 0);
    heap_settled();
}

/* What the heap has serves without growth, and only that; objects past the transfer caches make whole spans free. */
static void without_growth(void *unused) {
    (void)unused;
    static void *objects[MOST], *others[MOST];
    const unsigned one_page = 33, two_pages = 45; /* 1024 and 1792 bytes */
    const size_t count = 1500;                    /* less than a hugepage, in which one stays */
    CHECK(middle_take_resident(0, one_page, objects, 8, 8) == 0 && backend_in_use() == 0);
    objects_take(one_page, objects, count, 1);
    middle_return(one_page, objects + 1, count - 1);
    CHECK(middle_cached() == 0);
    middle_flush();
    size_t fresh = backend_fresh(), had = count * size_classes[one_page].size, taken = 0;
    for (size_t got; (got = middle_take_resident(0, two_pages, others + taken, 1, 1)) != 0; taken += got)
        CHECK(taken < MOST - 1);
    CHECK(backend_fresh() - fresh <= RN_PAGE && taken * size_classes[two_pages].size > had / 2);
    middle_return(two_pages, others, taken);
    middle_return(one_page, objects, 1);
    middle_flush();
    CHECK(backend_in_use() == 0);
    heap_settled();
}

/* ---- Misuse ---- */

enum { CLASS = 12 };

static void put_to_spans(void *object) {
    middle_put(objects_id, CLASS, &object, 1);
    middle_flush();
}

static void double_free(void *unused) {
    (void)unused;
    void *objects[3];
    objects_take(CLASS, objects, 3, 0);
    put_to_spans(objects[1]);
    put_to_spans(objects[1]);
}

static void double_free_in_batch(void *unused) {
    (void)unused;
    void *objects[3];
    objects_take(CLASS, objects, 3, 0);
    objects[2] = objects[0];
    middle_put(0, CLASS, objects, 3);
    middle_flush();
}

static void double_free_of_gone_span(void *unused) {
    (void)unused;
    void *object;
    objects_take(CLASS, &object, 1, 0);
    put_to_spans(object); /* the span was empty, and went */
    put_to_spans(object);
}

static void interior(void *unused) {
    (void)unused;
    void *object;
    objects_take(CLASS, &object, 1, 0);
    put_to_spans((char *)object + 8);
}

static void tail_of_span(void *unused) {
    (void)unused;
    void *object;
    objects_take(CLASS, &object, 1, 0);
    size_t objects = size_classes[CLASS].objects * (size_t)size_classes[CLASS].size;
    char *start = (char *)((uintptr_t)object & -(uintptr_t)RN_PAGE);
    if (objects + size_classes[CLASS].size > (size_t)size_classes[CLASS].pages << RN_PAGE_SHIFT)
        put_to_spans(start + objects); /* behind the last object, where one would start */
}

/* Threads get whole new spans where there is room for them, so that no two share the lines of one; a process of one
 * thread gets what it asked for. */
static void whole_spans(void *unused) {
    (void)unused;
    void *objects[2 * RN_MAX_BATCH];
    const size_t per_span = size_classes[CLASS].objects;
    lock_init();
    CHECK(middle_take(0, CLASS, objects, per_span + 1, 2 * RN_MAX_BATCH) == per_span + 1);
    middle_put(0, CLASS, objects, per_span + 1);
    (void)middle_flush();
    lock_never_alone();
    CHECK(middle_take(0, CLASS, objects, per_span + 1, 2 * per_span) == 2 * per_span);
    check_disjoint(objects, 2 * per_span, size_classes[CLASS].size);
    middle_put(0, CLASS, objects, 2 * per_span);
    (void)middle_flush();
    CHECK(middle_take(0, CLASS, objects, per_span + 1, 2 * per_span - 1) == per_span + 1);
    middle_put(0, CLASS, objects, per_span + 1);
    (void)middle_flush();
    heap_settled();
    CHECK(backend_in_use() == 0);
}

/* A program goes from size to size: what a class's cache grew to serves the next class's, once nothing comes and goes.
 */
static void arrays_pass_on(void *unused) {
    (void)unused;
    static void *objects[MOST];
    size_t after_first = 0;
    for (unsigned class_index = 2; class_index < 12; class_index++) {
        for (int round = 0; round < 12; round++) {
            objects_take(class_index, objects, MOST, class_index);
            objects_put(class_index, objects, MOST, class_index);
        }
        CHECK(middle_cached() > 0);
        middle_flush();
        after_first = after_first ? after_first : meta_bytes();
    }
    CHECK(meta_bytes() <= after_first + after_first / 4);
    CHECK(backend_in_use() == 0);
    heap_settled();
}

#define IN_CHILD(name, body)                          \
    static void name(void **state) {                  \
        (void)state;                                  \
        assert_int_equal(child_fails(body, NULL), 0); \
    }

#define DIES(name, body, what)                                                                  \
    static void name(void **state) {                                                            \
        (void)state;                                                                            \
        char message[100];                                                                      \
        snprintf(message, sizeof message, "rnalloc: free(@): " what " (size class %u bytes)\n", \
                 size_classes[CLASS].size);                                                     \
        assert_int_equal(child_lacks_message(body, NULL, message), 0);                          \
    }

IN_CHILD(test_all_classes, all_classes)
IN_CHILD(test_counts, counts)
IN_CHILD(test_fullest_first, fullest_first)
IN_CHILD(test_borrowing, borrowing)
IN_CHILD(test_left_behind, left_behind)
IN_CHILD(test_alone, alone)
IN_CHILD(test_whole_spans, whole_spans)
IN_CHILD(test_arrays_pass_on, arrays_pass_on)
IN_CHILD(test_spares_make_way, spares_make_way)
IN_CHILD(test_without_growth, without_growth)
IN_CHILD(test_busy_with_spares, busy_with_spares)
DIES(test_double_free, double_free, "double free")
DIES(test_double_free_in_batch, double_free_in_batch, "double free")
DIES(test_double_free_of_gone_span, double_free_of_gone_span, "double free")
DIES(test_interior, interior, "interior pointer")
DIES(test_tail_of_span, tail_of_span, "interior pointer")

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_classes),
        cmocka_unit_test(test_counts),
        cmocka_unit_test(test_fullest_first),
        cmocka_unit_test(test_double_free),
        cmocka_unit_test(test_double_free_in_batch),
        cmocka_unit_test(test_interior),
        cmocka_unit_test(test_double_free_of_gone_span),
        cmocka_unit_test(test_tail_of_span),
        cmocka_unit_test(test_borrowing),
        cmocka_unit_test(test_spares_make_way),
        cmocka_unit_test(test_busy_with_spares),
        cmocka_unit_test(test_left_behind),
        cmocka_unit_test(test_alone),
        cmocka_unit_test(test_whole_spans),
        cmocka_unit_test(test_without_growth),
        cmocka_unit_test(test_arrays_pass_on),
    };
    return cmocka_run_group_tests_name("objects", tests, NULL, NULL);
}
