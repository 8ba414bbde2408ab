/* backend-faults.c: page runs while calls to the system fail: at each index of a reference run, and by chance.
 *
 * After every refusal the pages in use are those of the model, the invariants hold, and what is in use keeps its
 * contents. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "backend/backend.h"
#include "base/os.h"
#include "tests/unit/check.h"
#include "tests/unit/cmock.h"
#include "tests/unit/runs.h"
#include "tests/unit/script.h"

static const struct backend_config plain = {.hugepages = true, .release = true, .retain = 1 << 20};

enum { DONE_WITHOUT_FAILURE = 77 };

/* Every operation once, in a fresh backend: small and big runs, a second region, growth, release, reuse. */
static void reference(struct runs *runs) {
    static const struct {
        unsigned slot, pages, align;
    } steps[] = {{0, 1, 1},     {1, 20, 1},   {2, 200, 1},    {3, 256, 1}, {4, 700, 1},   {5, 64, 64},
                 {6, 300, 512}, {7, 1200, 1}, {8, 140000, 1}, {9, 31, 1},  {10, 255, 256}};
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        struct backend_stats before, after;
        backend_stats(&before);
        if (!run_alloc(runs, &runs->run[steps[i].slot], steps[i].pages, steps[i].align)) {
            backend_stats(&after);
            CHECK(after.in_use == before.in_use && after.committed == before.committed);
            CHECK(after.reserved >= before.reserved && after.released_total == before.released_total);
        }
        runs_check(runs);
    }
    for (unsigned slot = 1; slot < 8; slot += 2)
        if (runs->run[slot].start)
            run_free(runs, &runs->run[slot]);
    for (unsigned slot = 0; slot < 7; slot += 2)
        if (runs->run[slot].start)
            (void)run_extend(runs, &runs->run[slot], runs->run[slot].pages * 2 + 1);
    runs_check(runs);
    (void)backend_release(0, false);
    runs_check(runs);
    (void)backend_release(0, true);
    runs_check(runs);
    for (unsigned slot = 11; slot < 20; slot++)
        (void)run_alloc(runs, &runs->run[slot], slot * slot, 1);
    runs_check(runs);
}

/* The failure is over: everything that was refused is given now, and everything comes back. */
static void recover(struct runs *runs) {
    script_stop();
    script_sleep(60000);
    runs_churn(runs, 500);
    for (struct run *run = runs->run; run < runs->run + RUNS; run++)
        if (!run->start)
            CHECK(run_alloc(runs, run, 40, 1));
    runs_free_all(runs);
    runs_check(runs);
    CHECK(script_others_are_intact() && (backend_in_use() == 0 || script_losses() != 0));
    (void)backend_release(0, true);
    struct backend_stats stats;
    backend_stats(&stats);
    CHECK(stats.free_resident == 0);
    for (unsigned i = 0; i < 4; i++) {
        unsigned long zeroed = runs->zeroed;
        CHECK(run_alloc(runs, &runs->run[i], 600, 1) && runs->zeroed == zeroed + 1);
    }
    runs_free_all(runs);
}

static void fail_at(void *script) {
    static struct runs runs;
    script_play(script);
    os_init();
    errno = 4711;
    backend_init(&plain);
    reference(&runs);
    CHECK(errno == 4711);
    bool failed = script_failures() != 0;
    recover(&runs);
    exit(failed ? 0 : DONE_WITHOUT_FAILURE);
}

/* Each call of the reference run fails once; and once all from it on. */
static void fail_each(struct script script) {
    for (script.fail_at = 1; script.fail_at < 500; script.fail_at++) {
        int status = run_child(fail_at, &script);
        if (status == DONE_WITHOUT_FAILURE << 8)
            break;
        if (status != 0)
            fail_msg("call %lu failing: status %#x: %s", script.fail_at, (unsigned)status, child_output);
    }
    assert_in_range(script.fail_at, 20, 499);
}

static void test_each(void **state) {
    (void)state;
    fail_each((struct script){.seed = 0});
}
static void test_each_strict(void **state) {
    (void)state;
    fail_each((struct script){.strict_commit = true});
}
static void test_each_limited(void **state) {
    (void)state;
    fail_each((struct script){.address_limit = (size_t)4 << 30});
}

static void one_kind(void *script) {
    static struct runs runs;
    os_init();
    backend_init(&plain);
    for (int i = 0; i < 10; i++) {
        script_play(script);
        runs_churn(&runs, 300);
        runs_check(&runs);
        script_stop();
        runs_churn(&runs, 300);
        runs_check(&runs);
        script_sleep(20000);
    }
    recover(&runs);
}

static void test_kinds(void **state) {
    (void)state;
    for (unsigned kind = 0; kind < CALL_KINDS; kind++)
        assert_int_equal(child_fails(one_kind, &(struct script){.always = 1u << kind}), 0);
    struct script moves = {.always = 1u << CALL_MREMAP, .mremap_unmaps = true};
    assert_int_equal(child_fails(one_kind, &moves), 0);
    moves.mremap_loses = true;
    assert_int_equal(child_fails(one_kind, &moves), 0);
}

static void by_chance(void *script) {
    static struct runs runs;
    script_play(script);
    os_init();
    backend_init(&plain);
    runs.retreats = ((struct script *)script)->address_limit != 0;
    for (int i = 0; i < 20; i++) {
        runs_churn(&runs, 400);
        runs_check(&runs);
        script_sleep(11000); /* beyond the pause after a refused release */
    }
    CHECK(script_failures() > 10);
    recover(&runs);
}

static void test_chance(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 12; seed++) {
        struct script script = {.one_in = 2 + (unsigned)seed % 5 * 3,
                                .seed = seed << 32,
                                .strict_commit = seed % 3 == 0,
                                .address_limit = seed % 2 ? (size_t)4 << 30 : 0};
        assert_int_equal(child_fails(by_chance, &script), 0);
    }
}

/* What the kernel will not take back is neither lost nor forgotten, whatever else it refuses then. */
static void retreat_refused(void *script) {
    static struct runs runs;
    struct backend_stats before, after;
    os_init();
    backend_init(&plain);
    CHECK(run_alloc(&runs, &runs.run[0], 1536, 1) && run_alloc(&runs, &runs.run[1], 10, 1));
    run_free(&runs, &runs.run[0]);
    backend_stats(&before);
    script_play(script);
    for (int i = 0; i < 3; i++) {
        CHECK(backend_retreat(0) == 0);
        backend_stats(&after);
        CHECK(memcmp(&after, &before, sizeof after) == 0);
        runs_check(&runs);
    }
    script_stop();
    CHECK(backend_release(0, false) == (size_t)1536 << RN_PAGE_SHIFT);
    run_free(&runs, &runs.run[1]);
    CHECK(backend_retreat(0) == before.reserved);
    backend_stats(&after);
    CHECK(after.reserved == 0 && after.committed == 0 && after.free_resident == 0);
}

static void test_retreat(void **state) {
    (void)state;
    unsigned others = 1u << CALL_DONTNEED | 1u << CALL_MPROTECT;
    assert_int_equal(child_fails(retreat_refused, &(struct script){.always = 1u << CALL_MUNMAP}), 0);
    assert_int_equal(child_fails(retreat_refused, &(struct script){.always = 1u << CALL_MUNMAP | others}), 0);
}

static struct runs reused;

static void come_to_lie_there(void) {
    CHECK(run_alloc(&reused, &reused.run[0], 1536, 1) && reused.zeroed == 1);
    CHECK(run_alloc(&reused, &reused.run[1], 100, 1));
}

/* Another thread gets the addresses that one has just unmapped, before that one has noted it. */
static void retreat_replaced(void *unused) {
    struct runs runs = {.random = 1};
    struct backend_stats stats;
    (void)unused;
    os_init();
    backend_init(&plain);
    CHECK(run_alloc(&runs, &runs.run[0], 1536, 1));
    uintptr_t start = runs.run[0].start;
    run_free(&runs, &runs.run[0]);
    backend_stats(&stats);
    size_t reserved = stats.reserved;
    script_play(&(struct script){.place_size = reserved, .place = start, .after_munmap = come_to_lie_there});
    const size_t kept = (size_t)7 * BACKEND_HUGE_SIZE; /* of the new region, whose rest goes too */
    CHECK(backend_retreat(0) == 2 * reserved - kept && reused.run[0].start == start);
    runs_check(&reused);
    backend_stats(&stats);
    CHECK(stats.reserved == kept && stats.released_total >= (size_t)1536 << RN_PAGE_SHIFT);
    runs_free_all(&reused);
    runs_check(&reused);
    CHECK(backend_release(0, true) >= (size_t)1636 << RN_PAGE_SHIFT);
    backend_stats(&stats);
    CHECK(stats.free_resident == 0 && backend_retreat(0) == kept);
}

static void test_replaced(void **state) {
    (void)state;
    assert_int_equal(child_fails(retreat_replaced, NULL), 0);
}

enum { THREADS = 4 };

static void *churn_thread(void *runs) {
    runs_churn(runs, 3000);
    runs_free_all(runs);
    return NULL;
}

static void threads(void *script) {
    static struct runs models[THREADS];
    static struct runs none;
    pthread_t thread[THREADS];
    script_play(script);
    os_init();
    backend_init(&plain);
    for (unsigned i = 0; i < THREADS; i++) {
        models[i].random = i + 1;
        models[i].retreats = i % 2;
        CHECK(pthread_create(&thread[i], NULL, churn_thread, &models[i]) == 0);
    }
    for (unsigned i = 0; i < THREADS; i++)
        CHECK(pthread_join(thread[i], NULL) == 0);
    runs_check(&none);
    recover(&none);
}

static void test_threads(void **state) {
    (void)state;
    assert_int_equal(child_fails(threads, &(struct script){.one_in = 5, .seed = 77}), 0);
    assert_int_equal(child_fails(threads, &(struct script){.one_in = 5, .seed = 78, .strict_commit = true}), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each),    cmocka_unit_test(test_each_strict), cmocka_unit_test(test_each_limited),
        cmocka_unit_test(test_kinds),   cmocka_unit_test(test_chance),      cmocka_unit_test(test_threads),
        cmocka_unit_test(test_retreat), cmocka_unit_test(test_replaced),
    };
    return cmocka_run_group_tests_name("page runs, calls failing", tests, NULL, NULL);
}
