/* yield.c: what a pool gives up before the heap grows. */
#include "backend/backend.h"
#include "frontend/pool.h"

enum {
    YIELD_HEAP = 2 << 20, /* in smaller heaps big objects would find no whole place again */
    YIELD_SHARE = 512,    /* once for each of these parts of the heap that became resident */
    YIELD_BATCH = 4,
};

bool pool_may_yield(struct pool *pool) {
    if (__atomic_load_n(&pool->big_bytes, __ATOMIC_RELAXED) == 0)
        return false;
    size_t in_use = backend_in_use();
    size_t grown = backend_fresh() - __atomic_load_n(&pool->fresh_seen, __ATOMIC_RELAXED);
    return in_use >= YIELD_HEAP && grown >= in_use / YIELD_SHARE;
}

/* Where demand passes from size to size (files read one after the other, a buffer that doubles), each would leave its
 * last object behind. A refill costs little beside what the user of a big object does with it, and whole pages become
 * free, which is not so with small ones. */
void pool_yield(struct pool *pool) {
    __atomic_store_n(&pool->fresh_seen, backend_fresh(), __ATOMIC_RELAXED);
    for (unsigned i = RN_CLASSES - 1; size_classes[i].size >= POOL_BIG; i--) {
        void *batch[YIELD_BATCH];
        if (bin_current(pool, i) == __atomic_load_n(&pool->room[i].base, __ATOMIC_RELAXED))
            continue;
        size_t count = rn_pop_batch(i, batch, YIELD_BATCH, rn_thread.area);
        if (count)
            middle_return(i, batch, count);
    }
}
