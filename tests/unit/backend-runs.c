/* backend-runs.c: page runs on systems of all kinds, where calls succeed. Each test is a child with a fresh backend. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backend/backend.h"
#include "base/os.h"
#include "tests/unit/check.h"
#include "tests/unit/cmock.h"
#include "tests/unit/runs.h"
#include "tests/unit/script.h"

static const size_t MIB = (size_t)1 << 20;
static const size_t GIB_PAGES = (size_t)1 << (30 - RN_PAGE_SHIFT);
static const struct backend_config plain = {.hugepages = true, .release = true, .retain = 4 << 20};

static struct runs model = {.random = 1};

static struct backend_stats stats_now(void) {
    struct backend_stats stats;
    backend_stats(&stats);
    return stats;
}

/* Churns, frees all; then the whole first region must be one free range again: it fits once more, without new address
 * space. */
static void churn(void *script) {
    if (script)
        script_play(script);
    os_init();
    backend_init(&plain);
    for (int i = 0; i < 40; i++) {
        runs_churn(&model, 500);
        runs_check(&model);
        script_sleep(i % 4 == 0 ? 1000 : 0);
    }
    CHECK(model.refused == 0 && model.zeroed > 0);
    runs_free_all(&model);
    runs_check(&model);
    CHECK(backend_in_use() == 0);
    struct backend_stats before = stats_now();
    CHECK(run_alloc(&model, &model.run[0], before.reserved / before.mappings >> RN_PAGE_SHIFT, 1));
    CHECK(stats_now().reserved == before.reserved);
    run_free(&model, &model.run[0]);
    runs_check(&model);
}

static void alignment(void *unused) {
    (void)unused;
    backend_init(&plain);
    for (size_t align = 1; align <= GIB_PAGES; align *= 2)
        for (size_t pages = 1; pages <= 600; pages = pages * 3 + 1) {
            CHECK(run_alloc(&model, &model.run[0], pages, align));
            CHECK(run_alloc(&model, &model.run[1], 3, 1)); /* so that the next does not begin where this did */
            run_free(&model, &model.run[0]);
            CHECK(run_alloc(&model, &model.run[2], pages + 1, align));
            runs_check(&model);
            runs_free_all(&model);
        }
    runs_check(&model);
    bool zeroed;
    CHECK(backend_alloc(0, 1, &zeroed) == 0 && backend_alloc(SIZE_MAX >> RN_PAGE_SHIFT, 1, &zeroed) == 0);
    CHECK(backend_alloc(1, (size_t)1 << 40, &zeroed) == 0 && backend_alloc((size_t)1 << 34, 1, &zeroed) == 0);
    runs_check(&model);
}

/* Whole: only hugepages that are free; deep: also parts of the others. What is in use keeps its bytes; the rest is
 * zero. */
static void release(void *unused) {
    (void)unused;
    backend_init(&plain);
    for (int i = 0; i < RUNS; i++)
        CHECK(run_alloc(&model, &model.run[i], i % 2 ? 1 : 300, 1));
    for (int i = 0; i < RUNS; i += 2)
        run_free(&model, &model.run[i]);
    struct backend_stats before = stats_now();
    CHECK(before.free_resident >= RUNS / 2 * 300 * (size_t)RN_PAGE);
    size_t whole = backend_release(0, false);
    CHECK(whole > 0 && stats_now().free_resident == before.free_resident - whole);
    CHECK(stats_now().released_total == before.released_total + whole);
    runs_check(&model);
    size_t deep = backend_release(0, true);
    CHECK(deep > 0 && stats_now().free_resident == 0 && whole + deep == before.free_resident);
    CHECK(backend_release(0, true) == 0);
    runs_check(&model);
    model.zeroed = 0;
    CHECK(run_alloc(&model, &model.run[0], 200, 1) && model.zeroed == 1);
    CHECK(run_alloc(&model, &model.run[2], 2000, 1) && model.zeroed == 2);
    runs_free_all(&model);
    CHECK(backend_release((size_t)8 << 20, false) > 0);
    CHECK(stats_now().free_resident <= (size_t)8 << 20 && stats_now().free_resident > (size_t)5 << 20);
    runs_check(&model);
}

static uintptr_t hugepage_of(const struct run *run) { return run->start / BACKEND_HUGE_SIZE; }

/* Short runs go beside short ones, long ones beside long ones, while there is room; but neither takes a fresh hugepage
 * where only the other kind's holes are left. */
static void apart(void *unused) {
    (void)unused;
    struct run *run = model.run;
    backend_init(&plain);
    CHECK(run_alloc(&model, &run[0], 10, 1) && run_alloc(&model, &run[1], 240, 1));
    CHECK(hugepage_of(&run[0]) == hugepage_of(&run[1])); /* 6 pages are left */
    CHECK(run_alloc(&model, &run[2], 200, 1) && run_alloc(&model, &run[3], 20, 1));
    CHECK(hugepage_of(&run[2]) != hugepage_of(&run[0]) && hugepage_of(&run[3]) == hugepage_of(&run[2]));
    run_free(&model, &run[1]);
    /* Beside run 2 are 36 pages left: the better fit. */
    CHECK(run_alloc(&model, &run[4], 30, 1) && hugepage_of(&run[4]) == hugepage_of(&run[0]));
    CHECK(run_alloc(&model, &run[5], 33, 1) && hugepage_of(&run[5]) == hugepage_of(&run[2]));
    CHECK(run_alloc(&model, &run[6], 150, 1) && hugepage_of(&run[6]) == hugepage_of(&run[0]));
    runs_check(&model);
    runs_free_all(&model);
    runs_check(&model);
}

/* Runs that do not fit into the parts that are free must not raise the peak beyond demand and slack, though no time
 * passes. */
static void growth(void *unused) {
    (void)unused;
    backend_init(&plain);
    for (int i = 0; i < RUNS; i += 2)
        CHECK(run_alloc(&model, &model.run[i], 200, 1) && run_alloc(&model, &model.run[i + 1], 56, 1));
    size_t demand = stats_now().in_use;
    for (int i = 0; i < RUNS; i += 2)
        run_free(&model, &model.run[i]);
    for (int i = 0; i < RUNS - 24; i += 2) {
        CHECK(run_alloc(&model, &model.run[i], 300, 1));
        (void)backend_release_step();
        struct backend_stats now = stats_now();
        CHECK(now.in_use <= demand);
        size_t most = demand + demand / 16;
        CHECK(now.in_use + now.free_resident <= most + most / 8 + plain.retain + 2 * BACKEND_HUGE_SIZE);
        runs_check(&model);
    }
    CHECK(stats_now().released_total > 0);
}

/* The gradual return: what recent demand does not justify goes, and only that; the retained rest stays. */
static void gradual(void *unused) {
    (void)unused;
    backend_init(&plain);
    CHECK(run_alloc(&model, &model.run[0], 4096, 1)); /* 32 MiB */
    run_free(&model, &model.run[0]);
    CHECK(backend_release_step() == 0); /* demand was here a moment ago */
    size_t released = 0;
    for (int i = 0; i < 200; i++) {
        script_sleep(1000);
        released += backend_release_step();
    }
    CHECK(released > (size_t)20 << 20);
    CHECK(stats_now().free_resident >= plain.retain && stats_now().free_resident < plain.retain + ((size_t)8 << 20));
    CHECK(backend_excess() < (size_t)8 << 20);
    runs_check(&model);
}

/* mlockall: MADV_DONTNEED fails, the data stays, and must not pass for zeros; nothing counts as given back. */
static void locked(void *unused) {
    (void)unused;
    backend_init(&plain);
    script_play(&(struct script){.always = 1u << CALL_DONTNEED});
    CHECK(run_alloc(&model, &model.run[0], 1024, 1));
    CHECK(run_alloc(&model, &model.run[1], 100, 1));
    CHECK(run_alloc(&model, &model.run[2], 2, 1));
    run_free(&model, &model.run[0]);
    run_free(&model, &model.run[1]);
    struct backend_stats before = stats_now();
    CHECK(backend_release(0, true) == 0);
    CHECK(stats_now().free_resident == before.free_resident && stats_now().released_total == 0);
    runs_check(&model);
    model.zeroed = 0;
    CHECK(run_alloc(&model, &model.run[0], 1024, 1) && run_alloc(&model, &model.run[1], 100, 1) && model.zeroed == 0);
    runs_churn(&model, 5000);
    runs_check(&model);
    runs_free_all(&model);
    CHECK(stats_now().released_total == 0);
    script_stop();
    script_sleep(60000);
    CHECK(backend_release(0, true) > 0 && stats_now().free_resident == 0);
    runs_check(&model);
}

/* A limit on address space: small steps, a clean refusal at the end, and all of it usable again. */
static void limited(void *unused) {
    (void)unused;
    backend_init(&plain);
    const struct script small = {.address_limit = (size_t)256 << 20};
    script_play(&small);
    os_init();
    CHECK(run_alloc(&model, &model.run[0], 10, 1));
    CHECK(stats_now().reserved <= (size_t)16 << 20);
    script_play(&(struct script){.always = 1u << CALL_MMAP});
    bool zeroed;
    uintptr_t last = 0;
    for (uintptr_t start; (start = backend_alloc(256, 1, &zeroed)) != 0; last = start)
        *(uintptr_t *)start = last;
    for (uintptr_t next; last; last = next) {
        next = *(uintptr_t *)last;
        backend_free(last, 256);
    }
    runs_check(&model);
    script_stop();
    runs_churn(&model, 2000);
    runs_free_all(&model);
    runs_check(&model);
}

/* At a limit, free memory goes with its address space, and comes back when it is needed. */
static void retreat(void *script) {
    script_play(script);
    os_init();
    backend_init(&plain);
    size_t mapped = script_mapped();
    CHECK(run_alloc(&model, &model.run[0], 10, 1) && run_alloc(&model, &model.run[1], 1500, 1));
    size_t before = stats_now().reserved;
    CHECK(backend_retreat(0) == before - stats_now().reserved && stats_now().reserved >= stats_now().in_use);
    runs_check(&model);
    model.retreats = true;
    for (int i = 0; i < 20; i++) {
        runs_churn(&model, 500);
        runs_check(&model);
    }
    CHECK(model.refused == 0);
    runs_free_all(&model);
    size_t reserved = stats_now().reserved;
    CHECK(backend_retreat((size_t)4 << 20) >= reserved - ((size_t)4 << 20) && stats_now().reserved <= (size_t)4 << 20);
    (void)backend_retreat(0);
    CHECK(stats_now().reserved == 0 && stats_now().committed == 0 && stats_now().free_resident == 0);
    runs_check(&model);
    CHECK(script_mapped() - mapped < (size_t)12 << 30); /* the pagemap's and the structures' own */
    runs_churn(&model, 1000);
    runs_check(&model);
}

static pthread_barrier_t start_line;

static void *churn_thread(void *argument) {
    struct runs *own = argument;
    pthread_barrier_wait(&start_line);
    runs_churn(own, 4000);
    runs_free_all(own);
    return NULL;
}

enum { THREADS = 4 };

static void threads(void *script) {
    static struct runs models[THREADS];
    pthread_t thread[THREADS];
    if (script)
        script_play(script);
    os_init();
    backend_init(&plain);
    pthread_barrier_init(&start_line, NULL, THREADS + 1);
    for (unsigned i = 0; i < THREADS; i++) {
        models[i].random = i + 100;
        CHECK(pthread_create(&thread[i], NULL, churn_thread, &models[i]) == 0);
    }
    pthread_barrier_wait(&start_line);
    for (int i = 0; i < 50; i++)
        backend_check();
    for (unsigned i = 0; i < THREADS; i++)
        CHECK(pthread_join(thread[i], NULL) == 0);
    runs_check(&model);
    CHECK(run_alloc(&model, &model.run[0], 1000, 1));
}

/* ---- Explicit huge pages ---- */

static bool other_is_due;
static uintptr_t other_start;
static pthread_t other;

static void *other_takes(void *done) {
    bool zeroed;
    other_start = backend_alloc(1, 1, &zeroed);
    *(volatile uint64_t *)other_start = 4711;
    atomic_store((atomic_bool *)done, true);
    return NULL;
}

/* While this thread is about to map a hugepage, another takes a page, perhaps of the same one, and writes there, if it
 * may: the wait is for one that need not wait. */
static void other_comes(void) {
    static atomic_bool done;
    if (!other_is_due)
        return;
    other_is_due = false;
    CHECK(pthread_create(&other, NULL, other_takes, &done) == 0);
    for (int i = 0; i < 100 && !atomic_load(&done); i++)
        (void)usleep(1000);
}

static void hugetlb(void *script) {
    const struct backend_config config = {.hugepages = true, .hugetlb_mib = 2, .release = true, .retain = 4 << 20};
    script_play(script);
    backend_init(&config);
    CHECK(run_alloc(&model, &model.run[0], 1024, 1)); /* big from here on */
    other_is_due = true;
    CHECK(run_alloc(&model, &model.run[1], 3, 1));
    if (((const struct script *)script)->before_hugetlb) {
        CHECK(!other_is_due && pthread_join(other, NULL) == 0 && *(uint64_t *)other_start == 4711);
        backend_free(other_start, 1);
    }
    runs_churn(&model, 5000);
    runs_check(&model);
}

/* Pages of 1 GiB: a region is mapped as a whole, so all of it is committed at once, and none of it is ever given back;
 * where there are none, it is a region as any other. */
static void hugetlb_gib(void *script) {
    const struct backend_config config = {.hugepages = true, .hugetlb_mib = 1024, .release = true};
    const bool has = ((const struct script *)script)->has_hugetlb;
    struct backend_stats stats;
    script_play(script);
    os_init();
    backend_init(&config);
    CHECK(run_alloc(&model, &model.run[0], 100, 1) && run_alloc(&model, &model.run[1], 600, 1));
    backend_stats(&stats);
    CHECK(stats.reserved == (size_t)1 << 30 && (stats.committed == stats.reserved) == has);
    runs_churn(&model, 300);
    runs_check(&model);
    runs_free_all(&model);
    runs_check(&model);
    size_t released = backend_release(0, true);
    backend_stats(&stats);
    CHECK(has ? released == 0 && stats.released_total == 0 : stats.free_resident == 0);
}

#define IN_CHILD(name, body, script)                    \
    static void name(void **state) {                    \
        (void)state;                                    \
        assert_int_equal(child_fails(body, script), 0); \
    }

IN_CHILD(test_churn, churn, NULL)
IN_CHILD(test_churn_strict, churn, (&(struct script){.strict_commit = true}))
IN_CHILD(test_churn_pages_16k, churn, (&(struct script){.page_size = 16384}))
IN_CHILD(test_churn_pages_64k, churn, (&(struct script){.page_size = 65536}))
IN_CHILD(test_churn_limited, churn, (&(struct script){.address_limit = (size_t)8 << 30}))
IN_CHILD(test_churn_no_advice, churn, (&(struct script){.always = 1u << CALL_ADVICE}))
IN_CHILD(test_alignment, alignment, NULL)
IN_CHILD(test_release, release, NULL)
IN_CHILD(test_apart, apart, NULL)
IN_CHILD(test_growth, growth, NULL)
IN_CHILD(test_gradual, gradual, NULL)
IN_CHILD(test_locked, locked, NULL)
IN_CHILD(test_limited, limited, NULL)
IN_CHILD(test_retreat, retreat, (&(struct script){.address_limit = (size_t)1 << 30}))
IN_CHILD(test_threads, threads, NULL)
IN_CHILD(test_threads_strict, threads, (&(struct script){.strict_commit = true}))
IN_CHILD(test_hugetlb_none, hugetlb, (&(struct script){.has_hugetlb = false}))
IN_CHILD(test_hugetlb, hugetlb, (&(struct script){.has_hugetlb = true}))
IN_CHILD(test_hugetlb_gib, hugetlb_gib, (&(struct script){.has_hugetlb = true}))
IN_CHILD(test_hugetlb_gib_none, hugetlb_gib, (&(struct script){.has_hugetlb = false}))
IN_CHILD(test_hugetlb_race, hugetlb, (&(struct script){.has_hugetlb = true, .before_hugetlb = other_comes}))

/* Whether the mapping of `address` was advised MADV_HUGEPAGE. */
static bool is_advised(uintptr_t address) {
    FILE *file = fopen("/proc/self/smaps", "r");
    CHECK(file);
    char line[512];
    bool inside = false, advised = false;
    while (fgets(line, sizeof line, file)) {
        unsigned long start, end;
        if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
            inside = start <= address && address < end;
        else if (inside && strncmp(line, "VmFlags:", 8) == 0)
            advised = strstr(line, " hg") != NULL;
    }
    (void)fclose(file);
    return advised;
}

/* The partly used end of a run in a small heap keeps base pages, though whole hugepages before it in the same run get
 * huge ones, and though as much is made writable ahead. */
static void tail(void *unused) {
    (void)unused;
    os_init();
    backend_init(&plain);
    CHECK(run_alloc(&model, &model.run[0], 6 * (2 * MIB >> RN_PAGE_SHIFT), 1));
    struct run *run = &model.run[1];
    CHECK(run_alloc(&model, run, 3 * MIB >> RN_PAGE_SHIFT, 1));
    CHECK(!is_advised(run->start + 2 * MIB));
}

IN_CHILD(test_tail, tail, NULL)

/* A heap that grows by less than a hugepage at a time calls the system less than once for each: it makes free ones
 * writable ahead. When that is refused, the run itself is still to be had, and nothing is lost. */
static void ahead(void *script) {
    os_init();
    backend_init(&plain);
    unsigned slot = 0;
    while (slot < 32)
        CHECK(run_alloc(&model, &model.run[slot++], 255, 1));
    script_play(script);
    struct backend_stats before = stats_now();
    while (slot < RUNS)
        CHECK(run_alloc(&model, &model.run[slot++], 255, 1));
    runs_check(&model);
    CHECK(script_failures() != 0 || script_calls() < RUNS - 32);
    script_stop();
    runs_free_all(&model);
    CHECK(run_alloc(&model, &model.run[0], before.reserved / before.mappings >> RN_PAGE_SHIFT, 1));
    CHECK(stats_now().reserved == before.reserved);
    run_free(&model, &model.run[0]);
    runs_check(&model);
}

IN_CHILD(test_ahead, ahead, (&(struct script){.fail_at = 0}))
/* Whichever call is refused. */
static void test_ahead_refused(void **state) {
    (void)state;
    for (unsigned long call = 1; call <= 16; call++)
        assert_int_equal(child_fails(ahead, &(struct script){.fail_at = call}), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_churn),           cmocka_unit_test(test_churn_strict),
        cmocka_unit_test(test_churn_pages_16k), cmocka_unit_test(test_churn_pages_64k),
        cmocka_unit_test(test_churn_limited),   cmocka_unit_test(test_churn_no_advice),
        cmocka_unit_test(test_alignment),       cmocka_unit_test(test_release),
        cmocka_unit_test(test_apart),           cmocka_unit_test(test_growth),
        cmocka_unit_test(test_gradual),         cmocka_unit_test(test_locked),
        cmocka_unit_test(test_limited),         cmocka_unit_test(test_threads),
        cmocka_unit_test(test_threads_strict),  cmocka_unit_test(test_hugetlb_none),
        cmocka_unit_test(test_hugetlb),         cmocka_unit_test(test_hugetlb_race),
        cmocka_unit_test(test_retreat),         cmocka_unit_test(test_tail),
        cmocka_unit_test(test_hugetlb_gib),     cmocka_unit_test(test_hugetlb_gib_none),
        cmocka_unit_test(test_ahead),           cmocka_unit_test(test_ahead_refused),
    };
    return cmocka_run_group_tests_name("page runs", tests, NULL, NULL);
}
