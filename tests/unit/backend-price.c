/* backend-price.c: huge pages are asked for as long as they are worth their price. Each test is a child. */
#include "backend/backend.h"
#include "base/lock.h"
#include "base/os.h"
#include "tests/unit/check.h"
#include "tests/unit/cmock.h"
#include "tests/unit/runs.h"
#include "tests/unit/script.h"

enum { HUGE_PAGES = BACKEND_HUGE_SIZE / RN_PAGE, GROWTH = 40, MS = 1000000 };

static const struct backend_config plain = {.hugepages = true, .release = true, .retain = 4 << 20};
static struct runs model = {.random = 1};

static size_t advised(void) { return script_advised() / BACKEND_HUGE_SIZE; }

/* With a heap that is no small one any more. */
static void begin(struct script *script) {
    os_init();
    backend_init(&plain);
    CHECK(os_huge_size() == BACKEND_HUGE_SIZE);
    script_play(script);
    CHECK(run_alloc(&model, &model.run[0], (size_t)16 * HUGE_PAGES, 1));
}

static void end(void) {
    script_stop();
    runs_check(&model);
    runs_free_all(&model);
}

/* Hugepages that were advised as a heap grew by forty of them, one by one. */
static size_t advised_while_growing(void *script) {
    begin(script);
    size_t before = advised();
    for (unsigned slot = 1; slot <= GROWTH; slot++)
        CHECK(run_alloc(&model, &model.run[slot], HUGE_PAGES, 1));
    end();
    return advised() - before;
}

static void cheap(void *script) { CHECK(advised_while_growing(script) >= GROWTH); }

/* Of forty the samples only: the pauses between them grow. */
static void dear(void *script) {
    size_t advised = advised_while_growing(script);
    CHECK(advised >= 1 && advised <= 8 + 3);
}

/* It becomes dear while blocks of four hugepages come to be: the first of each is a sample, and nothing is behind it.
 */
static void becomes_dear(void *script) {
    begin(script);
    CHECK(run_alloc(&model, &model.run[1], HUGE_PAGES, 1)); /* a sample, the next in eight */
    script_play(&(struct script){.touch_cost_ns = 5 * MS});
    size_t before = advised();
    for (unsigned slot = 2; slot <= 10; slot++)
        CHECK(run_alloc(&model, &model.run[slot], (size_t)4 * HUGE_PAGES, 1));
    CHECK(advised() - before >= 2 && advised() - before <= 3);
    end();
}

/* Once it was dear, a run that takes another's pages for its start, and so has no sample, asks for no huge pages. */
static void dear_unsampled(void *script) {
    begin(script);
    CHECK(run_alloc(&model, &model.run[1], (size_t)4 * HUGE_PAGES, 1) && advised() == 2);
    run_free(&model, &model.run[0]);
    CHECK(run_alloc(&model, &model.run[2], (size_t)60 * HUGE_PAGES, 1) && advised() == 2);
    end();
}

/* A process's only thread believes the first one. */
static void dear_alone(void *script) {
    lock_init();
    begin(script);
    CHECK(run_alloc(&model, &model.run[1], (size_t)4 * HUGE_PAGES, 1) && advised() == 1);
    end();
}

static void test_dear_alone(void **state) {
    (void)state;
    assert_int_equal(child_fails(dear_alone, &(struct script){.touch_cost_ns = 5 * MS}), 0);
}

/* It becomes dear while the heap grows in small runs, for which more is advised than is in use yet: of the next forty
 * only samples are huge, and what no one sampled until one was dear. */
static void dear_ahead(void *script) {
    enum { SMALL = HUGE_PAGES - 1, FIRST = 10 };
    begin(script);
    CHECK(run_alloc(&model, &model.run[1], (size_t)64 * HUGE_PAGES, 1)); /* the more there is, the further ahead */
    unsigned slot = 2;
    for (; slot <= FIRST; slot++)
        CHECK(run_alloc(&model, &model.run[slot], SMALL, 1));
    script_play(&(struct script){.touch_cost_ns = 5 * MS});
    size_t before = advised();
    unsigned touches = script_touches();
    for (; slot <= FIRST + GROWTH; slot++)
        CHECK(run_alloc(&model, &model.run[slot], SMALL, 1));
    size_t forbidden = script_forbidden() / BACKEND_HUGE_SIZE;
    CHECK(forbidden >= 1);
    CHECK(script_touches() - touches >= 1 && script_touches() - touches <= 3);
    CHECK(advised() - before <= forbidden + 7 + 3);
    end();
}

static void test_dear_ahead(void **state) {
    (void)state;
    assert_int_equal(child_fails(dear_ahead, &(struct script){.touch_cost_ns = MS / 10}), 0);
}

/* A block that grows into another place brings its pages along: none of them is a sample, which would be overwritten.
 */
static void grows(void *script) {
    begin(script);
    CHECK(run_alloc(&model, &model.run[1], (size_t)4 * HUGE_PAGES, 1));
    for (size_t pages = (size_t)8 * HUGE_PAGES; pages <= (size_t)64 * HUGE_PAGES; pages *= 2) {
        CHECK(run_grow(&model, &model.run[1], pages));
        uintptr_t start = model.run[1].start, sample = script_touched();
        CHECK(sample < start || sample >= start + pages / 2 * RN_PAGE);
    }
    end();
}

static void test_grows(void **state) {
    (void)state;
    assert_int_equal(child_fails(grows, &(struct script){.touch_cost_ns = MS / 10}), 0);
}

static void test_becomes_dear(void **state) {
    (void)state;
    assert_int_equal(child_fails(becomes_dear, &(struct script){.touch_cost_ns = MS / 10}), 0);
}

static void test_dear_unsampled(void **state) {
    (void)state;
    assert_int_equal(child_fails(dear_unsampled, &(struct script){.touch_cost_ns = 5 * MS}), 0);
}

static void test_cheap(void **state) {
    (void)state;
    assert_int_equal(child_fails(cheap, &(struct script){.touch_cost_ns = MS / 10}), 0);
}

static void test_dear(void **state) {
    (void)state;
    assert_int_equal(child_fails(dear, &(struct script){.touch_cost_ns = 2 * MS}), 0);
}

/* Two dear samples, and between them touches that took nothing: hugepages advised after the second. */
static size_t advised_after_short_ones(void) {
    CHECK(run_alloc(&model, &model.run[1], (size_t)2 * HUGE_PAGES, 1)); /* from two on the first is a sample */
    script_play(&(struct script){.touch_cost_ns = MS / 1000});
    for (unsigned slot = 2; slot < 10; slot++)
        CHECK(run_alloc(&model, &model.run[slot], HUGE_PAGES, 1));
    script_play(&(struct script){.touch_cost_ns = 5 * MS});
    CHECK(run_alloc(&model, &model.run[10], (size_t)2 * HUGE_PAGES, 1));
    script_play(&(struct script){.touch_cost_ns = MS / 1000});
    size_t before = advised();
    for (unsigned slot = 11; slot < 20; slot++)
        CHECK(run_alloc(&model, &model.run[slot], HUGE_PAGES, 1));
    end();
    return advised() - before;
}

/* A page that another thread had faulted in tells no price: the dear ones count together. */
static void was_there(void *script) {
    begin(script);
    script_play(&(struct script){.touch_cost_ns = 5 * MS});
    CHECK(advised_after_short_ones() == 0);
}

/* But where no sample ever took as long as a huge page does, there are none: each is as good as a cheap one. */
static void never_huge(void *script) {
    begin(script);
    script_play(&(struct script){.touch_cost_ns = 5 * MS});
    CHECK(advised_after_short_ones() >= 8);
}

static void test_was_there(void **state) {
    (void)state;
    assert_int_equal(child_fails(was_there, &(struct script){.touch_cost_ns = MS / 10}), 0);
    assert_int_equal(child_fails(never_huge, &(struct script){.touch_cost_ns = MS / 1000}), 0);
}

/* A sample that had to wait, for the CPU or for other threads' changes of mappings, is no price. */
static void test_preempted(void **state) {
    (void)state;
    struct script script = {.touch_cost_ns = MS / 10, .touch_wait_ns = (uint64_t)20 * MS, .touch_wait_in = 12};
    assert_int_equal(child_fails(cheap, &script), 0);
}

/* Samples of `count` hugepages, into which a heap grows one by one, one in `pause` ns. */
static unsigned samples_of(unsigned first, unsigned count, uint64_t pause) {
    unsigned before = script_touches();
    for (unsigned slot = first; slot < first + count; slot++) {
        script_pass(pause);
        CHECK(run_alloc(&model, &model.run[slot], HUGE_PAGES, 1));
    }
    return script_touches() - before;
}

/* Few are samples while each comes soon after the last one, or long after; all are while they come as late as dear ones
 * make a program that writes them. */
static void late(void *script) {
    begin(script);
    CHECK(samples_of(1, 8, MS / 2) == 1);
    CHECK(samples_of(9, 8, 3 * MS) == 8);
    CHECK(samples_of(17, 8, 40 * MS) == 1);
    CHECK(samples_of(25, 1, MS / 2) == 0 && samples_of(26, 1, (uint64_t)2000 * MS) == 1);
    end();
}

static void test_late(void **state) {
    (void)state;
    assert_int_equal(child_fails(late, &(struct script){.touch_cost_ns = MS / 10}), 0);
}

/* Dear ones that lie among cheap ones, one of three, are no accident. */
static void mixed(void *script) { CHECK(advised_while_growing(script) <= GROWTH * 3 / 4); }

static void test_mixed(void **state) {
    (void)state;
    struct script script = {.touch_cost_ns = MS / 10, .touch_wait_ns = (uint64_t)5 * MS, .touch_wait_in = 3};
    assert_int_equal(child_fails(mixed, &script), 0);
}

/* A large block comes into use again whose huge pages were given back; the first is dear now. */
static void dear_again(void *script) {
    begin(script);
    size_t before = advised();
    CHECK(run_alloc(&model, &model.run[1], (size_t)24 * HUGE_PAGES, 1) && advised() == before + 24);
    run_free(&model, &model.run[1]);
    CHECK(backend_release(0, true) >= (size_t)24 * BACKEND_HUGE_SIZE);
    script_play(&(struct script){.touch_cost_ns = 5 * MS});
    CHECK(run_alloc(&model, &model.run[1], (size_t)24 * HUGE_PAGES, 1));
    CHECK(script_forbidden() / BACKEND_HUGE_SIZE == 23);
    end();
}

static void test_dear_again(void **state) {
    (void)state;
    assert_int_equal(child_fails(dear_again, &(struct script){.touch_cost_ns = MS / 10}), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_late),       cmocka_unit_test(test_cheap),        cmocka_unit_test(test_dear),
        cmocka_unit_test(test_preempted),  cmocka_unit_test(test_becomes_dear), cmocka_unit_test(test_dear_unsampled),
        cmocka_unit_test(test_grows),      cmocka_unit_test(test_dear_ahead),   cmocka_unit_test(test_dear_alone),
        cmocka_unit_test(test_dear_again), cmocka_unit_test(test_mixed),        cmocka_unit_test(test_was_there),
    };
    return cmocka_run_group_tests_name("price", tests, NULL, NULL);
}
