/* middle-mix.c: batches that come back with objects of many domains and lent ones. Each test is a child with a fresh
 * heap. */
#include <stdio.h>

#include "middle/middle.h"
#include "pagemap/pagemap.h"
#include "tests/unit/check.h"
#include "tests/unit/cmock.h"
#include "tests/unit/objects.h"

enum { MOST = 700, ROUNDS = 200, IDS = 40, LENDER = 50, LENDERS = 40, GONE = 60, SMALL = 12 };

static void take(unsigned id, unsigned class_index, void **objects, size_t count) {
    for (size_t got = 0; got < count;) {
        size_t now = middle_take(id, class_index, objects + got, count - got, count - got);
        CHECK(now > 0);
        got += now;
    }
}

/* What a bin of the class may hold: its own objects and lent ones. */
static bool may_hold(unsigned class_index, const void *object) {
    unsigned own = pagemap_tag(object);
    return own == class_index || (own > class_index && own <= class_index + 2 &&
                                  size_classes[own].size <= size_classes[class_index].size * 9 / 8);
}

static void shuffle(void **objects, size_t count, uint64_t *random) {
    for (size_t i = count - 1; i > 0; i--) {
        size_t other = random_next(random) % (i + 1);
        void *object = objects[i];
        if (random_next(random) % 2)
            continue; /* neighbours stay together now and then */
        objects[i] = objects[other];
        objects[other] = object;
    }
}

static void round_of(unsigned class_index, uint64_t *random) {
    static void *objects[MOST];
    size_t count = 1 + random_next(random) % MOST, mixed = 0;
    for (size_t i = 0, more; i < count; i += more) {
        unsigned class_taken = class_index + (random_next(random) % 4 ? 0 : (unsigned)(random_next(random) % 3));
        more = 1 + random_next(random) % 9;
        more = more < count - i ? more : count - i;
        take((unsigned)(random_next(random) % IDS), class_taken, objects + i, more);
    }
    shuffle(objects, count, random);
    for (size_t i = 0; i < count; i++) {
        void *object = objects[i];
        if (may_hold(class_index, object))
            objects[mixed++] = object;
        else
            middle_return(pagemap_tag(object), &object, 1);
    }
    if (mixed && random_next(random) % 2)
        middle_return(class_index, objects, mixed);
    else if (mixed)
        middle_put((unsigned)(random_next(random) % IDS), class_index, objects, mixed);
    heap_settled();
}

static void mix(void *unused) {
    (void)unused;
    uint64_t random = 7;
    domains_begin();
    for (unsigned i = 0; i < ROUNDS; i++)
        round_of(LENDER + (unsigned)(random_next(&random) % LENDERS), &random);
    domains_end();
}

/* An object whose span is gone, behind a sound one. */
static void gone(void *unused) {
    (void)unused;
    void *objects[2];
    domains_begin();
    take(1, SMALL, objects, 1);
    take(1, GONE, objects + 1, 1);
    void *object = objects[1];
    middle_return(GONE, &object, 1);
    middle_flush();
    CHECK(pagemap_handle(object) == NULL);
    middle_return(SMALL, objects, 2);
}

static void test_mix(void **state) {
    (void)state;
    assert_int_equal(child_fails(mix, NULL), 0);
}

static void test_gone(void **state) {
    (void)state;
    char message[100];
    (void)snprintf(message, sizeof message, "rnalloc: free(@): double free (size class %u bytes)\n",
                   size_classes[SMALL].size);
    assert_int_equal(child_lacks_message(gone, NULL, message), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_mix), cmocka_unit_test(test_gone)};
    return cmocka_run_group_tests_name("mixed batches", tests, NULL, NULL);
}
