/* middle-domains.c: the middle tier as pools of several ids use it. Each test is a child with a fresh heap. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "backend/backend.h"
#include "middle/middle.h"
#include "tests/unit/check.h"
#include "tests/unit/cmock.h"
#include "tests/unit/objects.h"
#include "tests/unit/script.h"

enum { MOST = 3000 };

enum { SMALL = 5, CLASS_OF_MANY = 9, BIG = 60, SOME = 40 };

/* What others free comes back to the pool whose spans hold it, so that it need not look for it there: what they have
 * free is too little for that. */
static void come_home(void *unused) {
    (void)unused;
    static void *objects[MOST], *others[MOST];
    size_t count = MOST / size_classes[SMALL].objects * (size_t)size_classes[SMALL].objects, freed = count / 10;
    domains_begin();
    objects_id = 1;
    objects_take(SMALL, objects, count, 1);
    objects_id = 2;
    objects_take(SMALL, others, count, 2);
    size_t in_use = backend_in_use();
    objects_put(SMALL, objects, freed, 1);
    heap_settled();
    objects_id = 1;
    objects_take(SMALL, objects, freed, 1);
    CHECK(backend_in_use() == in_use);
    check_disjoint(objects, count, size_classes[SMALL].size);
    objects_put(SMALL, objects, count, 1);
    objects_put(SMALL, others, count, 2);
    domains_end();
}

/* One object of each span stays in use, and the others are free in domain 1; in_use says how much memory that is. */
static size_t scatter(unsigned class_index, void **objects, void **kept, size_t count) {
    size_t per_span = size_classes[class_index].objects, freed = 0;
    objects_id = 1;
    objects_take(class_index, objects, count * per_span, 1);
    check_disjoint(objects, count * per_span, size_classes[class_index].size);
    for (size_t i = 0; i < count * per_span; i++)
        if (i % per_span == 0)
            kept[i / per_span] = objects[i];
        else
            objects[freed++] = objects[i];
    middle_return(class_index, objects, freed);
    heap_settled();
    return freed;
}

/* Before the heap grows, a pool gets what others have too much of: so no memory is free and of no use. */
static void surplus(void *unused) {
    (void)unused;
    static void *objects[SOME * RN_PAGE / 16], *kept[SOME];
    const unsigned classes[] = {SMALL, BIG};
    domains_begin();
    for (size_t c = 0; c < 2; c++) {
        size_t freed = scatter(classes[c], objects, kept, SOME), in_use = backend_in_use();
        objects_id = 2;
        objects_take(classes[c], objects, freed - freed / 4, 3);
        CHECK(backend_in_use() == in_use);
        heap_settled();
        objects_put(classes[c], objects, freed - freed / 4, 3);
        middle_return(classes[c], kept, SOME);
        middle_flush();
        heap_settled();
    }
    domains_end();
}

/* A class of big objects whose spans have so many pages. */
static unsigned class_of_pages(unsigned pages) {
    unsigned class_index = BIG;
    while (size_classes[class_index].pages != pages)
        class_index--;
    return class_index;
}

/* Also where short holes are free, into which no span of the class fits. */
static void surplus_beside_holes(void *unused) {
    (void)unused;
    static void *objects[SOME * RN_PAGE / 16], *kept[SOME], *pages[MOST];
    const unsigned one_page = class_of_pages(1), two_pages = class_of_pages(2);
    domains_begin();
    middle_follow(false); /* few spare spans */
    objects_id = 4;
    objects_take(one_page, pages, MOST, 1);
    size_t freed = scatter(two_pages, objects, kept, SOME);
    check_disjoint(pages, MOST, size_classes[one_page].size);
    for (size_t i = 0; i < MOST; i++)
        if (i / size_classes[one_page].objects % 2 == 0)
            middle_return(one_page, pages + i, 1);
    middle_flush();
    CHECK(backend_free_resident() > BACKEND_HUGE_SIZE);
    size_t in_use = backend_in_use(), fresh = backend_fresh();
    objects_id = 2;
    objects_take(two_pages, objects, freed - freed / 4, 3);
    CHECK(backend_fresh() == fresh && backend_in_use() == in_use);
    objects_put(two_pages, objects, freed - freed / 4, 3);
    middle_return(two_pages, kept, SOME);
    for (size_t i = 0; i < MOST; i++)
        if (i / size_classes[one_page].objects % 2 != 0)
            middle_return(one_page, pages + i, 1);
    domains_end();
}

/* When memory is refused, whatever is free anywhere is given out, to whomever: exact objects, too. */
static void shortage(void *unused) {
    (void)unused;
    static void *objects[MOST], *others[MOST], *fillers[RN_PAGE];
    size_t freed = MOST / 10, filled = 0, got = 0;
    bool zeroed;
    domains_begin();
    objects_id = 1;
    objects_take(SMALL, objects, MOST, 1);
    middle_return(SMALL, objects, freed);
    script_play(&(struct script){.always = 1u << CALL_MMAP | 1u << CALL_MPROTECT});
    while (filled < RN_PAGE && (fillers[filled] = large_alloc(RN_PAGE, 1, &zeroed)) != NULL)
        filled++;
    CHECK(filled < RN_PAGE);
    for (size_t more; got < freed - 1 && (more = middle_take(2, SMALL, others + got, freed - 1 - got, freed)) != 0;)
        got += more;
    CHECK(got == freed - 1 && (others[got++] = middle_take_exact(3, SMALL)) != NULL);
    script_stop();
    while (filled > 0)
        CHECK(large_free(fillers[--filled]));
    middle_return(SMALL, others, got);
    middle_return(SMALL, objects + freed, MOST - freed);
    domains_end();
}

/* But the little that others have of small objects stays with them. */
static void apart(void *unused) {
    (void)unused;
    static void *objects[MOST], *others[MOST];
    domains_begin();
    objects_id = 1;
    objects_take(SMALL, objects, MOST, 1);
    middle_return(SMALL, objects, 10);
    objects_id = 2;
    objects_take(SMALL, others, 10, 2);
    for (int i = 0; i < 10; i++)
        for (int k = 0; k < 10; k++)
            CHECK(objects[i] != others[k]);
    heap_settled();
    objects_put(SMALL, others, 10, 2);
    objects_put(SMALL, objects + 10, MOST - 10, 1);
    domains_end();
}

/* What empty spans hold serves a large block before the heap grows for it, and before it grows for objects. */
static void spares_serve(void *unused) {
    (void)unused;
    static void *objects[MOST];
    enum { LARGE = 6 << 20 };
    const unsigned class_index = class_of_pages(4);
    bool zeroed;
    domains_begin();
    objects_take(class_index, objects, MOST, 1);
    middle_return(class_index, objects, MOST);
    CHECK(middle_spare() > LARGE / 2 && backend_free_resident() < LARGE);
    size_t fresh = backend_fresh();
    void *block = large_alloc(LARGE, 1, &zeroed);
    CHECK(block && backend_fresh() - fresh <= BACKEND_HUGE_SIZE && middle_spare() == 0);
    objects_id = 3;
    objects_take(class_index, objects, MOST / 2, 1);
    CHECK(backend_fresh() - fresh <= BACKEND_HUGE_SIZE);
    objects_put(class_index, objects, MOST / 2, 1);
    CHECK(large_free(block));
    domains_end();
}

/* Empty spans serve those who emptied them. */
static void spares_stay(void *unused) {
    (void)unused;
    static void *objects[3][MOST], *again[MOST];
    const size_t count = 8 * (size_t)size_classes[SMALL].objects, size = size_classes[SMALL].size;
    domains_begin();
    for (objects_id = 1; objects_id <= 2; objects_id++) {
        objects_take(SMALL, objects[objects_id], count, 1);
        check_disjoint(objects[objects_id], count, size);
    }
    for (int id = 1; id <= 2; id++)
        middle_return(SMALL, objects[id], count);
    size_t spare = middle_spare();
    for (objects_id = 1; objects_id <= 2; objects_id++) {
        objects_take(SMALL, again, count, 2);
        check_disjoint(again, count, size);
        CHECK(memcmp(objects[objects_id], again, count * sizeof *again) == 0);
        CHECK(middle_spare() == spare / 2 * (2 - objects_id));
    }
    for (int id = 1; id <= 2; id++)
        middle_return(SMALL, objects[id], count);
    domains_end();
}

static unsigned domains_in_use(void) {
    struct middle_stats stats;
    middle_stats(&stats);
    return stats.domains;
}

/* Between fork's handlers the thread that forks may meet an id for the first time: it then uses what it has locked. */
static void forking(void *unused) {
    (void)unused;
    static void *objects[MOST];
    domains_begin();
    objects_id = 1;
    objects_take(SMALL, objects, 10, 1);
    unsigned used = domains_in_use();
    middle_lock_all();
    atomic_store(&lock_fork_owner, (const void *)&lock_self);
    objects_id = 2;
    objects_take(SMALL, objects + 10, 10, 1);
    CHECK(domains_in_use() == used);
    atomic_store(&lock_fork_owner, NULL);
    middle_unlock_all();
    objects_take(SMALL, objects + 20, 10, 1);
    CHECK(domains_in_use() != used);
    objects_put(SMALL, objects, 30, 1);
    domains_end();
}

/* Spare spans follow what the heap was lately, down to a few. */
static void spares_age(void *unused) {
    (void)unused;
    static void *objects[MOST];
    enum { FEW = 2 << 20, WHILE_MS = 1000, WHILES = 20 };
    const unsigned class_index = class_of_pages(4);
    domains_begin();
    objects_take(class_index, objects, MOST, 1);
    CHECK(large_free(block_of_domains));
    middle_return(class_index, objects, MOST);
    middle_trim();
    CHECK(middle_spare() > FEW);
    (void)backend_release(0, true); /* nothing is left to give back, but the demand is to be forgotten */
    for (int i = 0; i < WHILES; i++) {
        script_sleep(WHILE_MS);
        (void)backend_release_step();
        middle_trim();
    }
    CHECK(middle_spare() <= FEW);
    middle_flush();
    CHECK(backend_in_use() == 0);
    heap_settled();
}

/* More ids than there are domains; and what one batch holds may belong to all of them. */
static void many_ids(void *unused) {
    (void)unused;
    enum { IDS = 70, EACH = 3 };
    void *objects[IDS * EACH], *mixed[IDS * EACH];
    domains_begin();
    for (objects_id = 0; objects_id < IDS; objects_id++)
        objects_take(CLASS_OF_MANY, objects + objects_id * EACH, EACH, 4);
    for (size_t i = 0; i < IDS * EACH; i++)
        mixed[i] = objects[i * 11 % (IDS * EACH)];
    middle_return(CLASS_OF_MANY, mixed, IDS * EACH);
    domains_end();
}

static void double_free_from_afar(void *unused) {
    (void)unused;
    void *objects[3];
    domains_begin();
    objects_id = 1;
    objects_take(SMALL, objects, 3, 0);
    middle_return(SMALL, objects + 1, 1);
    objects_id = 2;
    middle_return(SMALL, objects + 1, 1);
}

/* ---- Threads ---- */

enum { THREADS = 4, BOXES = 64, HELD = 40 };

/* A box holds a batch that belongs to whoever takes it out, on whichever thread. */
static struct box {
    pthread_mutex_t mutex;
    unsigned class_index;
    size_t count;
    uint64_t stamp;
    void *objects[RN_MAX_BATCH];
} boxes[BOXES];

static _Atomic uint64_t next_stamp = 1;

static void *trade(void *seed) {
    uint64_t random = (uintptr_t)seed;
    objects_id = (unsigned)random;
    for (int i = 0; i < 20000; i++) {
        struct box *box = &boxes[random_next(&random) % BOXES];
        pthread_mutex_lock(&box->mutex);
        if (box->count) {
            objects_put(box->class_index, box->objects, box->count, box->stamp);
            box->count = 0;
        } else {
            box->class_index = 1 + (unsigned)(random_next(&random) % 60);
            box->count = 1 + random_next(&random) % HELD;
            box->stamp = next_stamp++;
            objects_take(box->class_index, box->objects, box->count, box->stamp);
        }
        pthread_mutex_unlock(&box->mutex);
    }
    return NULL;
}

static void threads(void *unused) {
    (void)unused;
    pthread_t thread[THREADS];
    domains_begin();
    for (int i = 0; i < BOXES; i++)
        pthread_mutex_init(&boxes[i].mutex, NULL);
    for (uintptr_t i = 0; i < THREADS; i++)
        CHECK(pthread_create(&thread[i], NULL, trade, (void *)(i + 1)) == 0);
    for (int i = 0; i < 100; i++) {
        middle_flush();
        heap_settled();
    }
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(thread[i], NULL) == 0);
    for (struct box *box = boxes; box < boxes + BOXES; box++)
        if (box->count)
            objects_put(box->class_index, box->objects, box->count, box->stamp);
    domains_end();
}

#define IN_CHILD(name, body)                          \
    static void name(void **state) {                  \
        (void)state;                                  \
        assert_int_equal(child_fails(body, NULL), 0); \
    }

IN_CHILD(test_come_home, come_home)
IN_CHILD(test_surplus, surplus)
IN_CHILD(test_surplus_beside_holes, surplus_beside_holes)
IN_CHILD(test_shortage, shortage)
IN_CHILD(test_apart, apart)
IN_CHILD(test_spares_serve, spares_serve)
IN_CHILD(test_spares_stay, spares_stay)
IN_CHILD(test_spares_age, spares_age)
IN_CHILD(test_forking, forking)
IN_CHILD(test_many_ids, many_ids)
IN_CHILD(test_threads, threads)

static void test_double_free_from_afar(void **state) {
    (void)state;
    char message[100];
    snprintf(message, sizeof message, "rnalloc: free(@): double free (size class %u bytes)\n",
             size_classes[SMALL].size);
    assert_int_equal(child_lacks_message(double_free_from_afar, NULL, message), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_come_home),  cmocka_unit_test(test_surplus),
        cmocka_unit_test(test_apart),      cmocka_unit_test(test_surplus_beside_holes),
        cmocka_unit_test(test_shortage),   cmocka_unit_test(test_spares_serve),
        cmocka_unit_test(test_spares_age), cmocka_unit_test(test_spares_stay),
        cmocka_unit_test(test_forking),    cmocka_unit_test(test_many_ids),
        cmocka_unit_test(test_threads),    cmocka_unit_test(test_double_free_from_afar),
    };
    return cmocka_run_group_tests_name("domains", tests, NULL, NULL);
}
