/* base-space.c: address space that the system does not take back at once, as at the map count. */
#include <errno.h>
#include <pthread.h>

#include "base/os.h"
#include "tests/unit/check.h"
#include "tests/unit/cmock.h"
#include "tests/unit/script.h"

enum { NOTED = 16, THREADS = 8, ROUNDS = 200 };

static const size_t PIECE = (size_t)1 << 30;

static void refuse(void) { script_play(&(struct script){.always = 1 << CALL_MUNMAP}); }

static void settles(void *page) {
    script_play(&(struct script){.page_size = *(size_t *)page});
    os_init();
    size_t mapped = script_mapped();
    void *piece = os_reserve(0, PIECE, os_page_size());
    CHECK(piece && os_unreserve(piece, PIECE) == 0 && script_mapped() == mapped);
    piece = os_reserve(0, PIECE, os_page_size());
    script_play(&(struct script){.always = 1 << CALL_MUNMAP, .page_size = *(size_t *)page});
    CHECK(os_unreserve(piece, PIECE) == -ENOMEM); /* still the caller's, so no debt */
    script_stop();
    os_settle();
    CHECK(script_mapped() == mapped + PIECE);
    script_play(&(struct script){.always = 1 << CALL_MUNMAP, .page_size = *(size_t *)page});
    errno = 4711;
    os_discard(piece, PIECE);
    os_settle();
    CHECK(script_mapped() == mapped + PIECE && script_failures() == 2 && errno == 4711);
    script_stop();
    os_settle();
    CHECK(script_mapped() == mapped);
    unsigned long calls = script_calls();
    os_settle();
    CHECK(script_calls() == calls);
}

/* The space around an aligned piece. */
static void settles_rests(void *unused) {
    (void)unused;
    size_t mapped = script_mapped();
    refuse();
    char *piece = os_reserve(0, PIECE, 4 * PIECE);
    CHECK(piece && (uintptr_t)piece % (4 * PIECE) == 0);
    script_stop();
    os_settle();
    CHECK(script_mapped() == mapped + PIECE);
    os_discard(piece, PIECE);
    CHECK(script_mapped() == mapped);
}

/* What finds no room stays mapped, and nothing else suffers. */
static void forgets_beyond(void *unused) {
    (void)unused;
    size_t mapped = script_mapped();
    char *pieces[NOTED + 3];
    for (unsigned i = 0; i < NOTED + 3; i++)
        CHECK((pieces[i] = os_reserve(0, PIECE, os_page_size())) != NULL);
    refuse();
    for (unsigned i = 0; i < NOTED + 3; i++)
        os_discard(pieces[i], PIECE);
    script_stop();
    os_settle();
    CHECK(script_mapped() == mapped + 3 * PIECE);
}

/* Too long for a note, likewise. */
static void forgets_long(void *unused) {
    (void)unused;
    size_t mapped = script_mapped(), size = (size_t)16 << 40;
    char *piece = os_reserve(0, size, os_page_size());
    refuse();
    os_discard(piece, size);
    script_stop();
    os_settle();
    CHECK(piece && script_mapped() == mapped + size);
}

static pthread_barrier_t gate;

static void *settle(void *unused) {
    pthread_barrier_wait(&gate);
    os_settle();
    return unused;
}

/* No piece is given back twice: it might be another's by then. */
static void settles_in_threads(void *unused) {
    (void)unused;
    pthread_t threads[THREADS];
    pthread_barrier_init(&gate, NULL, THREADS);
    size_t mapped = script_mapped();
    for (int round = 0; round < ROUNDS; round++) {
        refuse();
        for (int i = 0; i < NOTED; i++)
            os_discard(os_reserve(0, os_page_size(), os_page_size()), os_page_size());
        CHECK(script_mapped() == mapped + NOTED * os_page_size());
        script_stop();
        for (int i = 0; i < THREADS; i++)
            CHECK(pthread_create(&threads[i], NULL, settle, NULL) == 0);
        for (int i = 0; i < THREADS; i++)
            CHECK(pthread_join(threads[i], NULL) == 0);
        CHECK(script_mapped() == mapped);
    }
}

static void test_settles(void **state) {
    (void)state;
    for (size_t size = 4096; size <= 65536; size *= 4)
        assert_int_equal(child_fails(settles, &size), 0);
}
static void test_rests(void **state) {
    (void)state;
    assert_int_equal(child_fails(settles_rests, NULL), 0);
}
static void test_beyond(void **state) {
    (void)state;
    assert_int_equal(child_fails(forgets_beyond, NULL), 0);
}
static void test_long(void **state) {
    (void)state;
    assert_int_equal(child_fails(forgets_long, NULL), 0);
}
static void test_threads(void **state) {
    (void)state;
    assert_int_equal(child_fails(settles_in_threads, NULL), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_settles), cmocka_unit_test(test_rests),   cmocka_unit_test(test_beyond),
        cmocka_unit_test(test_long),    cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests_name("space", tests, NULL, NULL);
}
