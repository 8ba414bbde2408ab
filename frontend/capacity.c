/* capacity.c: what each bin may hold: its array, the pool's budget, and who gives room up for whom. */
#include "backend/backend.h"
#include "base/meta.h"
#include "base/options.h"
#include "base/os.h"
#include "frontend/pool.h"

enum {
    POOL_STEP = 256 << 10,  /* of a pool's memory, committed at a time */
    PAGE_WORDS = 512,       /* of an array that fills a page; longer ones have */
    LONG_WORDS = 8192,      /* at least so many: 64 KiB */
    SMALL_OBJECT = 1024,    /* above: what an object costs its user dwarfs a refill, so a bin holds */
    BIN_BYTES = 32 << 10,   /* no more than this, */
    BIN_SHARE = 128,        /* or in a big heap this part of it, */
    BIN_MOST = 256 << 10,   /* up to this many bytes, */
    BIN_LEAST = 6,          /* but this many, whatever their size, if they were in use together more than once */
    FIRST_BYTES = 32 << 10, /* a bin's first capacity is at most this many bytes */
    FIRST_LINES = 4,        /* and of tiny objects as many as fill these cache lines: successive ones lie on several */
    BUDGET_SHARE = 2,       /* all pools may hold this part of the heap, if that is more than the option says */
    BUDGET_POOLS = 2,       /* and one this part of it at most */
    LOOKS_MOST = 16,        /* bins looked at for capacity in one attempt */
    AGE_STEP = 64 << 10,    /* the heap grows by so much from one look at some bins to the next */
    BORROW_FACTOR = 4,      /* and this many times its budget while others hold less than theirs */
};
static const size_t BUDGET_MOST = (size_t)64 << 20;

static _Atomic size_t capacity_total; /* bytes that all pools may hold */

bool pool_commit(struct pool *pool, uint32_t committed, size_t offset, size_t limit, uint32_t *now) {
    size_t step = max_size(POOL_STEP, os_page_size());
    size_t want = round_up(offset, step);
    if (want > limit || os_commit((char *)pool + committed, want - committed) != 0)
        return false;
    *now = (uint32_t)want;
    return true;
}

static unsigned words_index(size_t words) { return (unsigned)__builtin_ctzl(words) - 4; }

/* An array of `words` words with its mark set; 0 when the pool's memory is used up. Holds the lock. */
static uint32_t array_take(struct pool *pool, size_t words) {
    uint32_t *spare = &pool->spare[words_index(words)];
    uint32_t offset = *spare;
    if (offset) {
        *spare = (uint32_t)(uintptr_t)*bin_slot(pool, offset);
    } else {
        size_t after = pool->next_free + words * SLOT;
        uint32_t before = pool->committed;
        if (after > pool->limit)
            return 0;
        if (after > before) {
            if (!pool_commit(pool, before, after, pool->limit, &pool->committed))
                return 0;
            meta_count(pool->committed - before);
        }
        offset = pool->next_free;
        pool->next_free = (uint32_t)after;
    }
    *bin_slot(pool, offset) = (char *)pool + offset + 1;
    return offset;
}

static void array_give(struct pool *pool, uint32_t offset, size_t words) {
    uint32_t *spare = &pool->spare[words_index(words)];
    *bin_slot(pool, offset) = (void *)(uintptr_t)*spare;
    *spare = offset;
}

static uint32_t first_capacity(unsigned class_index) {
    size_t size = size_classes[class_index].size;
    size_t most = max_size(FIRST_WORDS, (size_t)FIRST_LINES * RN_CACHE_LINE / size) - 1;
    return (uint32_t)max_size(min_size(FIRST_BYTES / size, most), 1);
}

static uint32_t most_capacity(unsigned class_index) {
    size_t size = size_classes[class_index].size;
    if (size <= SMALL_OBJECT)
        return CAPACITY_MOST;
    size_t bytes = max_size(BIN_BYTES, min_size(backend_in_use() / BIN_SHARE, BIN_MOST));
    return (uint32_t)max_size(bytes / size, BIN_LEAST);
}

static size_t pool_budget(void) {
    size_t share = backend_in_use() / BUDGET_SHARE / max_size(pools_count(), BUDGET_POOLS);
    return max_size(option_get(OPT_POOL_KIB) << 10, min_size(share, BUDGET_MOST));
}

void pools_room_add(size_t change) { shared_add(&capacity_total, change); }

size_t pools_room(void) { return pools_can_drain() ? atomic_load_explicit(&capacity_total, memory_order_relaxed) : 0; }

void capacity_change(struct pool *pool, struct bin_room *room, uint32_t capacity, size_t size) {
    size_t change = ((size_t)capacity - room->capacity) * size;
    room->capacity = capacity;
    __atomic_store_n(&pool->capacity_bytes, pool->capacity_bytes + change, __ATOMIC_RELAXED);
    if (size >= POOL_BIG)
        __atomic_store_n(&pool->big_bytes, pool->big_bytes + change, __ATOMIC_RELAXED);
    pools_room_add(change);
}

/* Takes half the capacity from a bin that stood still since the last look. What it holds beyond that goes to the spans:
 * nobody wanted it lately. Holds the lock, on the pool's own id if it can. */
static void bin_shrink(struct pool *pool, unsigned class_index) {
    struct bin_room *room = &pool->room[class_index];
    uint32_t current = bin_current(pool, class_index);
    bool cold = current == room->seen;
    room->seen = current;
    uint32_t capacity = room->capacity / 2, held = (current - room->base) / SLOT;
    if (!cold || capacity < first_capacity(class_index))
        return;
    for (size_t left = held > capacity ? held - capacity : 0, count; left != 0; left -= count) {
        void *batch[BATCH_MOST];
        count = rn_pop_batch(class_index, batch, min_size(left, BATCH_MOST), rn_thread.area);
        if (count == 0)
            break;
        middle_return(class_index, batch, count);
    }
    if (rn_set_end(class_index, room->base + capacity * SLOT, pool, rn_thread.area))
        capacity_change(pool, room, capacity, size_classes[class_index].size);
}

static void look_at_next(struct pool *pool, unsigned class_index) {
    pool->hand = pool->hand + 1 < RN_CLASSES ? pool->hand + 1 : 1;
    if (pool->hand != class_index && pool->room[pool->hand].capacity)
        bin_shrink(pool, pool->hand);
}

void pool_age(struct pool *pool, unsigned class_index) {
    size_t in_use = backend_in_use();
    size_t most = atomic_load_explicit(&pool->in_use_most, memory_order_relaxed);
    if (in_use < most + AGE_STEP && in_use >= most / 2)
        return;
    atomic_store_explicit(&pool->in_use_most, in_use, memory_order_relaxed);
    if (in_use < most || !lock_try(&pool->lock))
        return;
    for (unsigned looked = 0; looked < LOOKS_MOST; looked++)
        look_at_next(pool, class_index);
    lock_drop(&pool->lock);
}

/* Finds room for `bytes` more in the budget: the pool's own, what other pools leave of theirs, or what colder bins give
 * back. */
static bool budget_find(struct pool *pool, unsigned class_index, size_t bytes) {
    size_t budget = pool_budget();
    for (unsigned looked = 0;; looked++) {
        size_t total = atomic_load_explicit(&capacity_total, memory_order_relaxed);
        if (pool->capacity_bytes + bytes <= budget ||
            (pool->capacity_bytes + bytes <= BORROW_FACTOR * budget && total + bytes <= budget * pools_count()))
            return true;
        if (looked == LOOKS_MOST)
            return false;
        look_at_next(pool, class_index);
    }
}

/* An array for `capacity` objects, *words long. Beyond a page one of the two longest, if it is to be had: what is never
 * used of it is never resident, and the arrays that a bin would leave behind on its way there would be. Holds the lock.
 */
static uint32_t array_for(struct pool *pool, uint32_t capacity, size_t *words) {
    size_t least = FIRST_WORDS;
    while (least < (size_t)capacity + 1)
        least *= 2;
    *words = least;
    if (least > PAGE_WORDS && pool->limit == POOL_MEMORY)
        *words = least <= LONG_WORDS ? LONG_WORDS : CAPACITY_MOST + 1;
    uint32_t base = array_take(pool, *words);
    if (!base && *words > least)
        base = array_take(pool, *words = least);
    return base;
}

/* Moves the bin to an array that has room for `capacity`, and leaves it without any for now: `current` and `end` do not
 * change together. Holds the lock. False if the thread left the pool. */
static bool bin_move(struct pool *pool, unsigned class_index, uint32_t capacity) {
    struct bin_room *room = &pool->room[class_index];
    size_t words;
    uint32_t base = array_for(pool, capacity, &words);
    if (!base)
        return false;
    bool moved = rn_move_bin(class_index, rn_thread.area, pool, room->base, base) != 0;
    if (bin_end(pool, class_index) == 0) { /* at times also where it failed */
        room->learned = room->capacity;
        capacity_change(pool, room, 0, size_classes[class_index].size);
    }
    if (!moved) {
        array_give(pool, base, words);
        return false;
    }
    if (room->slots)
        array_give(pool, room->base, (size_t)room->slots + 1);
    room->base = base;
    room->slots = (uint32_t)words - 1;
    return true;
}

bool bin_grow(struct pool *pool, unsigned class_index) {
    struct bin_room *room = &pool->room[class_index];
    /* Bins for big objects are at their most soon, and refilled often: they need no lock. */
    if (__atomic_load_n(&room->capacity, __ATOMIC_RELAXED) >= most_capacity(class_index) || !lock_try(&pool->lock))
        return false;
    size_t size = size_classes[class_index].size;
    uint32_t held = (bin_current(pool, class_index) - room->base) / SLOT; /* a bin that a move closed keeps them */
    uint32_t capacity = room->capacity ? room->capacity * 2 + 1
                                       : (uint32_t)max_size(first_capacity(class_index), room->learned);
    bool grown = false;
    capacity = (uint32_t)max_size(min_size(capacity, most_capacity(class_index)), held);
    if (capacity > room->capacity &&
        (budget_find(pool, class_index, (capacity - room->capacity) * size) || !room->capacity)) {
        grown = (capacity <= room->slots || bin_move(pool, class_index, capacity)) &&
                rn_set_end(class_index, room->base + capacity * SLOT, pool, rn_thread.area) != 0;
        if (grown)
            capacity_change(pool, room, capacity, size);
    }
    room->overflowed = false;
    lock_drop(&pool->lock);
    return grown;
}
