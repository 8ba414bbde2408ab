/* frontend-entry.c: which pool malloc and free enter. The test is a child, in which the library begins anew. */
#include <pthread.h>
#include <stdlib.h>

#include "frontend/frontend.h"
#include "rnalloc.h"
#include "tests/unit/check.h"
#include "tests/unit/cmock.h"

enum { CLASS = 10 };

static void *own_pool(void *result) {
    rnFree(rnAlloc(size_classes[CLASS].size));
    *(struct pool **)result = rn_fast.pool_of[(uint32_t)rn_thread.area->cpu_id];
    return NULL;
}

static uint32_t top(struct pool *pool) { return bin_word(&pool->bins[CLASS].current); }

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

static void test_entered(void **state) {
    (void)state;
    assert_int_equal(child_fails(entered, (char[]){"helper=0,rseq=0"}), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_entered)};
    return cmocka_run_group_tests_name("entry", tests, NULL, NULL);
}
