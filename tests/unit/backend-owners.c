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

/* What nobody in particular has left is anybody's; and a hugepage that became empty is of whoever comes next. */
static void renewed(void *unused) {
    (void)unused;
    backend_init(&plain);
    CHECK(run_alloc(&model, &model.run[0], BIG, 1));
    uintptr_t nobodys = backend_alloc_owned(FEW, 0), first = backend_alloc_owned(FEW, 1);
    CHECK(home(first) == home(nobodys));
    backend_free(nobodys, FEW);
    backend_free(first, FEW);
    uintptr_t second = backend_alloc_owned(FEW, 2);
    CHECK(home(second) == home(first));
    backend_free(second, FEW);
    uintptr_t third = backend_alloc_owned(FEW, 3);
    CHECK(home(third) == home(second));
    CHECK(home(backend_alloc_owned(FEW, 2)) != home(third));
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

/* What a few hundred runs of all owners leave, whatever is refused and released: every list and count is right. */
static void churn(void *script) {
    enum { MOST = 1000, STEPS = 20000 };
    static struct {
        uintptr_t start;
        size_t pages;
    } runs[MOST];
    uint64_t random = 3;
    bool unused;
    backend_init(&plain);
    script_play(script);
    for (unsigned step = 0; step < STEPS; step++) {
        unsigned i = random_next(&random) % MOST, owner = random_next(&random) % BACKEND_OWNERS;
        size_t pages = 1 + random_next(&random) % (random_next(&random) % 16 ? 40 : 600);
        unsigned kind = random_next(&random) % 4;
        if (runs[i].start)
            backend_free(runs[i].start, runs[i].pages);
        runs[i].pages = pages;
        runs[i].start = pages > FEW * 8 ? backend_alloc(pages, 1, &unused)
                        : kind == 0     ? backend_alloc_packed(pages, owner, &unused)
                        : kind == 1     ? backend_alloc_resident(pages, owner)
                                        : backend_alloc_owned(pages, owner);
        if (runs[i].start)
            *(char *)runs[i].start = 1;
        if (step % 97 == 0)
            backend_check();
        if (step % 401 == 0)
            (void)backend_release(random_next(&random) % (8 << 20), random_next(&random) % 2);
        if (step % 4001 == 0)
            (void)backend_retreat(0);
    }
    for (unsigned i = 0; i < MOST; i++)
        if (runs[i].start)
            backend_free(runs[i].start, runs[i].pages);
    backend_check();
    CHECK(backend_in_use() == 0);
}

#define IN_CHILD(body)                                \
    static void test_##body(void **state) {           \
        (void)state;                                  \
        assert_int_equal(child_fails(body, NULL), 0); \
    }
IN_CHILD(apart)
IN_CHILD(renewed)
IN_CHILD(surplus)
IN_CHILD(refused)

static void test_churn(void **state) {
    (void)state;
    assert_int_equal(child_fails(churn, &(struct script){.fail_at = 0}), 0);
    assert_int_equal(child_fails(churn, &(struct script){.one_in = 4, .seed = 5}), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_apart),   cmocka_unit_test(test_renewed), cmocka_unit_test(test_surplus),
        cmocka_unit_test(test_refused), cmocka_unit_test(test_churn),
    };
    return cmocka_run_group_tests_name("owners", tests, NULL, NULL);
}
