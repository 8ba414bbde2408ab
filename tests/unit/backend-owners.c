/* backend-owners.c: whose hugepages runs of a few pages come into. Each test is a child with a fresh backend. */
#include "backend/backend.h"
#include "tests/unit/check.h"
#include "tests/unit/cmock.h"
#include "tests/unit/runs.h"
#include "tests/unit/script.h"

enum { FEW = 4, HUGE_PAGES = BACKEND_HUGE_SIZE / RN_PAGE, BIG = 24 * HUGE_PAGES };

static const struct backend_config plain = {.hugepages = true, .release = true, .retain = 4 << 20};
static struct runs model = {.random = 1};

static uintptr_t home(uintptr_t start) { return start / BACKEND_HUGE_SIZE; }

/* Two owners in turn, beside a heap of which one hugepage is little. */
static void two_owners(uintptr_t homes[2]) {
    backend_init(&plain);
    CHECK(run_alloc(&model, &model.run[0], BIG, 1));
    for (unsigned i = 0; i < 40; i++) {
        uintptr_t start = backend_alloc_owned(FEW, 1 + i % 2);
        CHECK(start != 0);
        if (i < 2)
            homes[i] = home(start);
        CHECK(home(start) == homes[i % 2]);
    }
    CHECK(homes[0] != homes[1]);
    backend_check();
}

static void apart(void *unused) {
    (void)unused;
    uintptr_t homes[2];
    bool new_memory;
    two_owners(homes);
    uintptr_t start = backend_alloc_owned(FEW, 2);
    backend_free(start, FEW);
    CHECK(home(start) == homes[1] && backend_alloc_resident(FEW, 2) == start);
    /* A third has nothing yet, and takes nothing of theirs. */
    CHECK(backend_alloc_resident(FEW, 3) == 0);
    CHECK(backend_alloc_packed(FEW, 3, &new_memory) == 0 && new_memory);
    uintptr_t third = home(backend_alloc_owned(FEW, 3));
    CHECK(third != homes[0] && third != homes[1]);
    /* Nobody in particular takes the best fit; a long run what is left where only growth would help. */
    uintptr_t anybody = home(backend_alloc_owned(FEW, 0));
    CHECK(anybody == homes[0] || anybody == homes[1]);
    bool zeroed;
    CHECK(home(backend_alloc(HUGE_PAGES - FEW, 1, &zeroed)) == third);
    backend_check();
}

/* Where more than a share of the heap is free in others' hugepages, it is used before there are more of them. */
static void surplus(void *unused) {
    (void)unused;
    uintptr_t homes[2];
    two_owners(homes);
    run_free(&model, &model.run[0]);
    uintptr_t first = backend_alloc_owned(FEW, 3), second = backend_alloc_owned(FEW, 3);
    CHECK(home(first) == homes[0] || home(first) == homes[1]);
    CHECK(home(second) == homes[0] || home(second) == homes[1]);
    backend_check();
}

/* When the system refuses more, there are no owners. */
static void refused(void *unused) {
    (void)unused;
    uintptr_t homes[2];
    two_owners(homes);
    script_play(&(struct script){.always = 1u << CALL_MPROTECT | 1u << CALL_MMAP});
    size_t in_homes[2] = {0, 0};
    for (uintptr_t start; (start = backend_alloc_owned(FEW, 3)) != 0;)
        for (unsigned i = 0; i < 2; i++)
            in_homes[i] += home(start) == homes[i];
    CHECK(in_homes[0] == HUGE_PAGES / FEW - 20 && in_homes[1] == in_homes[0]);
    script_stop();
    backend_check();
}

#define IN_CHILD(body)                                \
    static void test_##body(void **state) {           \
        (void)state;                                  \
        assert_int_equal(child_fails(body, NULL), 0); \
    }
IN_CHILD(apart)
IN_CHILD(surplus)
IN_CHILD(refused)

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_apart),
        cmocka_unit_test(test_surplus),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests_name("owners", tests, NULL, NULL);
}
