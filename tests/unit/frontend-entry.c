/* frontend-entry.c: which pool malloc and free enter. Each test is a child, in which the library begins anew. */
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

#include "frontend/frontend.h"
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

/* Without rseq, where a thread's id stays. What pool a thread used last is a hint: it may be another's, or stopped. */
static void entered(void *options) {
    CHECK(setenv("RNALLOC_OPTIONS", options, 1) == 0 && rnMode().kind == RN_MODE_THREAD);
    size_t size = size_classes[CLASS].size;
    struct pool *other, *own;
    pthread_t thread;
    (void)own_pool((void *)&own);
    CHECK(pthread_create(&thread, NULL, own_pool, (void *)&other) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(own != other && own->open == own->id && other->open == other->id);
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
    own->open = POOL_STOPPED;
    block = rnAlloc(size);
    CHECK(block && block != slot && top(own) == owns && *bin_slot(own, owns) == slot);
    rnFree(block);
    CHECK(top(own) == owns);
    own->open = own->id;
    rn_fast.pool_of[own->id] = own;
    block = rnAlloc(size);
    CHECK(block == slot && top(own) == owns - SLOT);
    rnFree(block);
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
    CHECK(stopped_pool->open == stopped_pool->id);
    script_play(&(struct script){.before_membarrier = between});
    CHECK(pools_drain(true) > 0 && times == 1);
    CHECK(stopped_pool->open == stopped_pool->id && rn_fast.pool_of[stopped_pool->id] == stopped_pool);
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

static void test_entered(void **state) {
    (void)state;
    assert_int_equal(child_fails(entered, (char[]){"helper=0,rseq=0"}), 0);
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
        cmocka_unit_test(test_entered),  cmocka_unit_test(test_stopped),
        cmocka_unit_test(test_placed),   cmocka_unit_test(test_across_the_sign),
        cmocka_unit_test(test_not_mine), cmocka_unit_test(test_closed_by_a_move),
    };
    return cmocka_run_group_tests_name("entry", tests, NULL, NULL);
}
