/* frontend-entry.c: which pool malloc and free enter. Each test is a child, in which the library begins anew. */
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "backend/backend.h"
#include "base/os.h"
#include "frontend/frontend.h"
#include "pagemap/pagemap.h"
#include "rnalloc.h"
#include "tests/unit/check.h"
#include "tests/unit/cmock.h"
#include "tests/unit/script.h"

enum { CLASS = 10 };

static void *own_pool(void *result) {
    rnFree(rnAlloc(size_classes[CLASS].size));
    uint32_t id = *(uint32_t *)(void *)((char *)rn_thread.area + rn_fast.id_offset);
    *(struct pool **)result = rn_fast.pool_of[id];
    return NULL;
}

static uint32_t top(struct pool *pool) { return bin_current(pool, CLASS); }

/* The thread's id is that of `own`. What pool a thread used last is a hint: it may be another's, or stopped. */
static void check_entered(struct pool *own, struct pool *other) {
    size_t size = size_classes[CLASS].size;
    CHECK(own != other && pool_open_for(own) == own->id && pool_open_for(other) == other->id);
    uint32_t others = top(other), owns = top(own);
    rn_thread.pool = other;
    void *block = rnAlloc(size);
    CHECK(block && top(other) == others && top(own) == owns - SLOT);
    rn_thread.pool = other;
    rnFree(block);
    CHECK(top(other) == others && top(own) == owns);

    /* As drain_ids stops it: who was there last does not enter either. */
    void *slot = *bin_slot(own, owns);
    rn_fast.pool_of[own->id] = (struct pool *)(uintptr_t)&rn_closed_pool;
    pool_set_open(own, POOL_STOPPED);
    block = rnAlloc(size);
    CHECK(block && block != slot && top(own) == owns && *bin_slot(own, owns) == slot);
    rnFree(block);
    CHECK(top(own) == owns);
    pool_set_open(own, own->id);
    rn_fast.pool_of[own->id] = own;
    block = rnAlloc(size);
    CHECK(block == slot && top(own) == owns - SLOT);
    rnFree(block);
}

/* Without rseq, where a thread's id stays. */
static void entered(void *options) {
    CHECK(setenv("RNALLOC_OPTIONS", options, 1) == 0 && rnMode().kind == RN_MODE_THREAD);
    struct pool *other, *own;
    pthread_t thread;
    (void)own_pool((void *)&own);
    CHECK(pthread_create(&thread, NULL, own_pool, (void *)&other) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    check_entered(own, other);
}

/* With ids by the kernel, whose two are not the same: of two areas of ours, each has the other's cpu_id as its mm_cid.
 */
static void entered_by_one_id(void *options) {
    CHECK(setenv("RNALLOC_OPTIONS", options, 1) == 0 && rnMode().kind != RN_MODE_THREAD && rn_mode.ids >= 2);
    struct area areas[] = {{.cpu_id_start = 0, .cpu_id = 0, .mm_cid = 1},
                           {.cpu_id_start = 1, .cpu_id = 1, .mm_cid = 0}};
    struct pool *pools[2];
    struct area *registered = rn_thread.area;
    for (int i = 0; i < 2; i++) {
        rn_thread.area = &areas[i];
        (void)own_pool((void *)&pools[i]);
    }
    CHECK(pools[0]->id == (rnMode().kind == RN_MODE_RSEQ_CPU ? 0 : 1) && pools[1]->id == 1 - pools[0]->id);
    check_entered(pools[1], pools[0]);
    rn_thread.area = &areas[0];
    check_entered(pools[0], pools[1]);

    /* Without a registration neither id counts, though what the kernel leaves behind of them is that of a pool. */
    areas[0] = (struct area){.cpu_id = -1};
    pools_note_others();
    for (int i = 0; i < 2; i++) {
        uint32_t tops[] = {top(pools[0]), top(pools[1])};
        rn_thread.pool = pools[i];
        void *block = rnAlloc(size_classes[CLASS].size);
        rn_thread.pool = pools[i];
        rnFree(block);
        CHECK(block && top(pools[0]) == tops[0] && top(pools[1]) == tops[1]);
    }
    rn_thread.area = registered;
}

/* ---- What mm_cid proves by itself ---- */

static void check_ids(struct pool *const *pools, bool zero_proves) {
    for (uint32_t id = 0; id < 2; id++) {
        bool proves = rnMode().kind == RN_MODE_RSEQ_CID && (id != 0 || zero_proves);
        CHECK(pool_open_for(pools[id]) == id && pools[id]->open == (proves ? id : POOL_STOPPED));
    }
}

/* Makes the pools of the ids 0 and 1. */
static void make_pools(struct pool **pools, const char *options) {
    CHECK(setenv("RNALLOC_OPTIONS", options, 1) == 0 && rnMode().kind != RN_MODE_THREAD && rn_mode.ids >= 2);
    struct area areas[] = {{.cpu_id = 0, .mm_cid = 0}, {.cpu_id = 1, .mm_cid = 1}}, *registered = rn_thread.area;
    for (int i = 0; i < 2; i++) {
        rn_thread.area = &areas[i];
        (void)own_pool((void *)&pools[i]);
    }
    rn_thread.area = registered;
}

static void make_thread(void *(*run)(void *), void *argument) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, run, argument) == 0 && pthread_join(thread, NULL) == 0);
}

/* 0 is what a thread without a registration has: so it counts by itself only while there is nobody else. */
static void zero(void *options) {
    struct pool *pools[2], *other;
    make_pools(pools, options);
    check_ids(pools, true);
    CHECK(pools_drain(true) > 0); /* stopped and opened again */
    check_ids(pools, true);
    pools_note_others(); /* as the wrapper of pthread_create does */
    make_thread(own_pool, (void *)&other);
    check_ids(pools, false);
    CHECK(pools_drain(true) > 0);
    check_ids(pools, false);

    pid_t child = fork();
    if (child == 0) {
        check_ids(pools, true);
        pools_note_others();
        make_thread(own_pool, (void *)&other);
        check_ids(pools, false);
        _exit(0);
    }
    int status;
    CHECK(child > 0 && waitpid(child, &status, 0) == child && status == 0);
    check_ids(pools, false);
    heap_check();
}

/* Of a thread that the library did not see being made it knows by the first block. Nobody can say by then whether the
 * first thread is amid its pool, with a registration or without: so that is left to it, before the block is given out.
 */
static void *unseen(void *pools) {
    struct pool *zero = *(struct pool **)pools;
    uint32_t before = top(zero);
    check_ids(pools, true);
    struct rn_stats stats;
    rnFree(rnAlloc(size_classes[CLASS].size));
    CHECK(zero->open == POOL_STOPPED && zero->open_checked == POOL_STOPPED && top(zero) == before);
    rnStats(&stats);
    CHECK(stats.pool_free >= (before - zero->room[CLASS].base) / SLOT * size_classes[CLASS].size);

    /* The id gets another. */
    struct area next = {.cpu_id = 0, .mm_cid = 0}, *registered = rn_thread.area;
    struct pool *other;
    rn_thread.area = &next;
    (void)own_pool((void *)&other);
    rn_thread.area = registered;
    CHECK(other != zero && pool_open_for(other) == 0 && other->open == POOL_STOPPED && top(zero) == before);
    return NULL;
}

/* The child of the first thread, which may be amid the pool: in a signal handler it may fork. */
static void child_of_the_first(struct pool *const *pools) {
    uint32_t before = top(pools[0]);
    pid_t child = fork();
    if (child == 0) {
        CHECK(top(pools[0]) == before && before > pools[0]->room[CLASS].base);
        rnFree(rnAlloc(size_classes[CLASS + 1].size));
        CHECK(top(pools[0]) == pools[0]->room[CLASS].base);
        heap_check();
        _exit(0);
    }
    int status;
    CHECK(child > 0 && waitpid(child, &status, 0) == child && status == 0);
}

static void unseen_thread(void *options) {
    struct pool *pools[2];
    make_pools(pools, options);
    size_t room = pools_room();
    unsigned count = pools_count();
    CHECK(top(pools[0]) > pools[0]->room[CLASS].base);
    make_thread(unseen, (void *)pools);
    CHECK(rn_fast.pool_of[1] == pools[1] && pools_count() >= count);
    child_of_the_first(pools);
    /* The first thread empties it, when it is surely amid no pool. */
    rnFree(rnAlloc(size_classes[CLASS + 1].size));
    CHECK(top(pools[0]) == pools[0]->room[CLASS].base && pools[0]->capacity_bytes == 0 && room != 0);
    CHECK(pools_drain(true) > 0 && pools_room() == 0);
    heap_check();
}

/* Or a child without it. */
static void *leave_and_fork(void *pools) {
    struct pool *zero = *(struct pool **)pools;
    rnFree(rnAlloc(size_classes[CLASS].size));
    CHECK(top(zero) > zero->room[CLASS].base);
    pid_t child = fork();
    if (child == 0) {
        CHECK(top(zero) == zero->room[CLASS].base);
        heap_check();
        _exit(0);
    }
    int status;
    CHECK(child > 0 && waitpid(child, &status, 0) == child && status == 0);
    CHECK(top(zero) > zero->room[CLASS].base);
    return NULL;
}

static void left_in_a_child(void *options) {
    struct pool *pools[2];
    make_pools(pools, options);
    make_thread(leave_and_fork, (void *)pools);
}

/* Whoever forks is the only one there, if it is known; the first thread does not exist. */
static void *fork_here(void *pools) {
    pid_t child = fork();
    if (child == 0) {
        check_ids(pools, false);
        rnFree(rnAlloc(size_classes[CLASS].size));
        check_ids(pools, true);
        _exit(0);
    }
    int status;
    CHECK(child > 0 && waitpid(child, &status, 0) == child && status == 0);
    check_ids(pools, true);
    return NULL;
}

static void forked_elsewhere(void *options) {
    struct pool *pools[2];
    make_pools(pools, options);
    check_ids(pools, true);
    make_thread(fork_here, (void *)pools);
}

/* ---- A pool that is stopped ---- */

static struct pool *stopped_pool;
static unsigned times;

/* The drainer itself, in the middle of its work, as any thread with the pool's id. */
static void between(void) {
    script_stop();
    uint32_t before = top(stopped_pool);
    rn_thread.pool = stopped_pool;
    void *block = rnAlloc(size_classes[CLASS].size);
    CHECK(block && top(stopped_pool) == before);
    rnFree(block);
    CHECK(top(stopped_pool) == before);
    times++;
}

/* With rseq, on one CPU: so the thread keeps its id. */
static void stopped(void *options) {
    CHECK(setenv("RNALLOC_OPTIONS", options, 1) == 0 && rnMode().kind != RN_MODE_THREAD);
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(sched_getcpu(), &set);
    CHECK(sched_setaffinity(0, sizeof set, &set) == 0);
    struct pool *other;
    pthread_t thread; /* without a second thread there is nobody to wait for */
    CHECK(pthread_create(&thread, NULL, own_pool, (void *)&other) == 0 && pthread_join(thread, NULL) == 0);
    (void)own_pool((void *)&stopped_pool);
    CHECK(pool_open_for(stopped_pool) == stopped_pool->id);
    bool by_cpu = rnMode().kind == RN_MODE_RSEQ_CPU; /* in the other mode's word the pool is open for nobody */
    CHECK((by_cpu ? stopped_pool->open_checked : stopped_pool->open_cpu) == POOL_STOPPED);
    script_play(&(struct script){.before_membarrier = between});
    CHECK(pools_drain(true) > 0 && times == 1);
    CHECK(pool_open_for(stopped_pool) == stopped_pool->id && rn_fast.pool_of[stopped_pool->id] == stopped_pool);
    own_pool((void *)&other);
    CHECK(other == stopped_pool && top(other) > other->room[CLASS].base);
}

/* ---- Where a pool lies, and what a bin is without an end ---- */

enum { MANY = 1000 };
static void *blocks[MANY];

static void come_and_go(void) {
    for (unsigned i = 0; i < MANY; i++)
        blocks[i] = rnAlloc(size_classes[CLASS].size);
    for (unsigned i = 0; i < MANY; i++)
        rnFree(blocks[i]);
}

/* A pool is offered a place where the low half of its addresses would wrap around. */
static void placed(void *options) {
    uintptr_t wrap = (uintptr_t)0x5000 << 32;
    script_play(&(struct script){.place_size = POOL_MEMORY, .place = wrap - POOL_MEMORY / 2});
    CHECK(setenv("RNALLOC_OPTIONS", options, 1) == 0);
    struct pool *own;
    (void)own_pool((void *)&own);
    script_stop();
    uintptr_t first = (uintptr_t)own, last = first + own->limit - 1;
    CHECK(own->limit == POOL_MEMORY && (first ^ last) >> 32 == 0 && (last < wrap - POOL_MEMORY / 2 || first > wrap));
    come_and_go();
    CHECK(top(own) > own->room[CLASS].base + SLOT);
}

/* Halves of addresses compare without a sign: an array of slots lies across an odd multiple of 2 GiB. */
static void across_the_sign(void *options) {
    enum { ABOVE = 0x2000, BATCH = 40 };
    uintptr_t sign = (uintptr_t)0x500080000000;
    script_play(&(struct script){.place_size = POOL_MEMORY, .place = sign - ABOVE});
    CHECK(setenv("RNALLOC_OPTIONS", options, 1) == 0 && rnMode().kind == RN_MODE_THREAD);
    come_and_go();
    script_stop();
    struct pool *own;
    (void)own_pool((void *)&own);
    struct bin_room *room = &own->room[CLASS];
    CHECK((uintptr_t)own == sign - ABOVE && room->base < ABOVE && bin_end(own, CLASS) > ABOVE + BATCH * SLOT);

    /* Open, from one side to the other. */
    uint32_t held = 0;
    for (size_t count; (count = rn_pop_batch(CLASS, blocks + held, BATCH, rn_thread.area)) != 0;
         held += (uint32_t)count)
        CHECK(held + BATCH < MANY);
    for (uint32_t i = 0; i < held; i += BATCH)
        CHECK(rn_push_batch(CLASS, blocks + i, min_size(BATCH, held - i), rn_thread.area) == min_size(BATCH, held - i));
    CHECK(top(own) == room->base + held * SLOT && top(own) > ABOVE);

    /* Closed, with the top above and the end below. */
    CHECK(rn_pop_batch(CLASS, blocks, BATCH, rn_thread.area) == BATCH);
    uint32_t before = top(own);
    CHECK(before > ABOVE);
    CHECK(rn_move_bin(CLASS, rn_thread.area, own, room->base, room->base) && bin_end(own, CLASS) == 0);
    CHECK(rn_push_batch(CLASS, blocks, BATCH, rn_thread.area) == 0 && top(own) == before);
    CHECK(rn_set_end(CLASS, room->base + room->capacity * SLOT, own, rn_thread.area));
    CHECK(rn_push_batch(CLASS, blocks, BATCH, rn_thread.area) == BATCH && top(own) == before + BATCH * SLOT);
    heap_check();
}

/* Who is not on the pool changes nothing of it. */
static void not_mine(void *options) {
    CHECK(setenv("RNALLOC_OPTIONS", options, 1) == 0 && rnMode().kind == RN_MODE_THREAD);
    struct pool *own;
    (void)own_pool((void *)&own);
    struct bin_room before = own->room[CLASS];
    CHECK(before.capacity != 0);
    uint32_t end = bin_end(own, CLASS), current = top(own);
    struct area *area = rn_thread.area;
    rn_thread.area = &rn_no_area;
    CHECK(!bin_grow(own, CLASS) && !bin_grow(own, CLASS + 1));
    rn_thread.area = area;
    CHECK(own->room[CLASS].capacity == before.capacity && own->room[CLASS].base == before.base);
    CHECK(bin_end(own, CLASS) == end && top(own) == current && own->room[CLASS + 1].capacity == 0);
}

/* A move of the bin that was broken off after it had closed the bin: as the assembly and bin_move leave it. */
static void closed_by_a_move(void *options) {
    CHECK(setenv("RNALLOC_OPTIONS", options, 1) == 0 && rnMode().kind == RN_MODE_THREAD);
    size_t size = size_classes[CLASS].size;
    come_and_go();
    struct pool *own;
    (void)own_pool((void *)&own);
    struct bin_room *room = &own->room[CLASS];
    uint32_t held = top(own);
    CHECK(held > room->base + 2 * SLOT && bin_end(own, CLASS) == room->base + SLOT * room->capacity);
    CHECK(rn_move_bin(CLASS, rn_thread.area, own, room->base, room->base) && top(own) == held);
    CHECK(bin_end(own, CLASS) == 0);
    room->learned = room->capacity;
    capacity_change(own, room, 0, size);

    /* It gives what it has, and the next that is freed opens it. */
    void *one = rnAlloc(size), *two = rnAlloc(size);
    CHECK(top(own) == held - 2 * SLOT && room->capacity == 0 && bin_end(own, CLASS) == 0);
    rnFree(one);
    CHECK(room->capacity >= room->learned && bin_end(own, CLASS) == room->base + SLOT * room->capacity);
    rnFree(two);
    CHECK(top(own) >= room->base && top(own) <= bin_end(own, CLASS));
    heap_check();
}

/* Something was refused, a thread or a block: unless address space is what is short, free finds pointers as before. */
static void whole_window(void *options) {
    CHECK(setenv("RNALLOC_OPTIONS", options, 1) == 0);
    come_and_go();
    uintptr_t base = pagemap_win.whole_base;
    CHECK(base != PAGEMAP_NO_BASE && pagemap_win.words == PAGEMAP_WINDOW_PAGES * RN_PAGE / 8);
    for (size_t limit = 0; limit <= (size_t)64 << 30; limit += (size_t)64 << 30) {
        script_play(&(struct script){.address_limit = limit}); /* none, and one that is far */
        os_read_address_limit();
        CHECK(trim_retreat(RN_PAGE) && pagemap_win.handle_pages < PAGEMAP_WINDOW_PAGES);
        CHECK(pagemap_win.whole_base == base && pagemap_win.words == PAGEMAP_WINDOW_PAGES * RN_PAGE / 8);
        come_and_go();
    }
    script_play(&(struct script){.always = 1u << CALL_MMAP});
    CHECK(trim_retreat(RN_PAGE) && pagemap_win.whole_base == PAGEMAP_NO_BASE);
    script_stop();
    come_and_go();
    heap_check();
}

/* A limit that is near takes the tags by itself. */
static void limited_window(void *options) {
    CHECK(setenv("RNALLOC_OPTIONS", options, 1) == 0);
    come_and_go();
    CHECK(pagemap_win.whole_base != PAGEMAP_NO_BASE);
    script_play(&(struct script){.address_limit = (size_t)2 << 30});
    os_read_address_limit();
    (void)backend_retreat(0);
    CHECK(pagemap_win.whole_base == PAGEMAP_NO_BASE && pagemap_win.words < PAGEMAP_WINDOW_PAGES * RN_PAGE / 8);
    come_and_go();
    heap_check();
}

static void test_whole_window(void **state) {
    (void)state;
    assert_int_equal(child_fails(whole_window, (char[]){"helper=0"}), 0);
    assert_int_equal(child_fails(limited_window, (char[]){"helper=0"}), 0);
}

static void test_entered(void **state) {
    (void)state;
    assert_int_equal(child_fails(entered, (char[]){"helper=0,rseq=0"}), 0);
    assert_int_equal(child_fails(entered_by_one_id, (char[]){"helper=0"}), 0);
    assert_int_equal(child_fails(entered_by_one_id, (char[]){"helper=0,cid=0"}), 0);
}

static void test_zero(void **state) {
    (void)state;
    assert_int_equal(child_fails(zero, (char[]){"helper=0"}), 0);
    assert_int_equal(child_fails(zero, (char[]){"helper=0,cid=0"}), 0);
    assert_int_equal(child_fails(unseen_thread, (char[]){"helper=0"}), 0);
    assert_int_equal(child_fails(left_in_a_child, (char[]){"helper=0"}), 0);
    assert_int_equal(child_fails(forked_elsewhere, (char[]){"helper=0"}), 0);
}

static void test_stopped(void **state) {
    (void)state;
    assert_int_equal(child_fails(stopped, (char[]){"helper=0"}), 0);
    assert_int_equal(child_fails(stopped, (char[]){"helper=0,cid=0"}), 0);
}

static void test_placed(void **state) {
    (void)state;
    assert_int_equal(child_fails(placed, (char[]){"helper=0"}), 0);
    assert_int_equal(child_fails(placed, (char[]){"helper=0,rseq=0"}), 0);
}

static void test_across_the_sign(void **state) {
    (void)state;
    assert_int_equal(child_fails(across_the_sign, (char[]){"helper=0,rseq=0"}), 0);
}

static void test_not_mine(void **state) {
    (void)state;
    assert_int_equal(child_fails(not_mine, (char[]){"helper=0,rseq=0"}), 0);
}

static void test_closed_by_a_move(void **state) {
    (void)state;
    assert_int_equal(child_fails(closed_by_a_move, (char[]){"helper=0,rseq=0"}), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_entered),
        cmocka_unit_test(test_stopped),
        cmocka_unit_test(test_zero),
        cmocka_unit_test(test_placed),
        cmocka_unit_test(test_across_the_sign),
        cmocka_unit_test(test_not_mine),
        cmocka_unit_test(test_closed_by_a_move),
        cmocka_unit_test(test_whole_window),
    };
    return cmocka_run_group_tests_name("entry", tests, NULL, NULL);
}
