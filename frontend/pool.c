#include "frontend/pool.h"

#include <string.h>

#include "backend/backend.h"
#include "base/fatal.h"
#include "base/meta.h"
#include "base/options.h"
#include "base/os.h"
#include "frontend/alloc.h"

enum {
    POOL_MEMORY = 4 << 20,    /* address space of a pool: its structure and its slots */
    POOL_LIMITED = 512 << 10, /* the same under RLIMIT_AS */
    POOL_STEP = 256 << 10,    /* committed at a time */
    CAPACITY_MOST = 8191,     /* objects in a bin */
    SMALL_OBJECT = 1024,      /* above: what an object costs its user dwarfs a refill, so a bin holds */
    BIN_BYTES = 32 << 10,     /* no more than this, or one object */
    BATCH_MOST = 256,         /* objects moved at once */
    FIRST_BYTES = 32 << 10,   /* a bin's first capacity is at most this many bytes */
    FIRST_LINES = 4,     /* and of tiny objects as many as fill these cache lines: successive ones lie on several */
    BUDGET_SHARE = 2,    /* all pools may hold this part of the heap, if that is more than the option says */
    BUDGET_POOLS = 2,    /* and one this part of it at most */
    LOOKS_MOST = 16,     /* bins looked at for capacity in one attempt */
    AGE_STEP = 64 << 10, /* the heap grows by so much from one look at some bins to the next */
    BORROW_FACTOR = 4,   /* and this many times its budget while others hold less than theirs */
};
static const size_t BUDGET_MOST = (size_t)64 << 20;

_Static_assert(sizeof(struct bin) == 8 && offsetof(struct pool, bins) == 0, "the assembly indexes bins so");
_Static_assert(sizeof(struct area) == 32, "the kernel's first area size");

/* Empty and full at once: what every id leads to that has no open pool. Its only slot is a mark. */
static const struct {
    struct bin bins[RN_CLASSES];
    uint64_t mark;
} closed_pool = {
    .bins = {[0 ... RN_CLASSES - 1] = {sizeof(struct bin) * RN_CLASSES, sizeof(struct bin) * RN_CLASSES}},
    .mark = 1,
};

/* Before mode_init: one id that leads to the closed pool, which is all that rn_new_area needs. */
static struct pool *_Atomic first_table[1] = {(struct pool *)(uintptr_t)&closed_pool};
/* Every size is of class 0 at first, which leads to the slow path. */
static const uint8_t empty_table[CLASS_TABLE_SIZE];

_Static_assert(offsetof(struct fast_path, id_offset) == 8 && offsetof(struct fast_path, pool_of) == 16,
               "the assembly reads them there");
struct fast_path rn_fast = {
    .class_table = empty_table,
    .id_offset = offsetof(struct area, cpu_id),
    .pool_of = first_table,
};

struct lock drain_lock = LOCK_INIT(RANK_DRAIN);

static struct pool *_Atomic *pools; /* the pool of each id, stopped or not; NULL: absent. release in pool_create */
static _Atomic unsigned pools_made;
static _Atomic size_t capacity_total; /* bytes that all pools may hold */

static struct pool *closed(void) { return (struct pool *)(uintptr_t)&closed_pool; }

static uint32_t get(_Atomic uint32_t *word) { return atomic_load_explicit(word, memory_order_relaxed); }

static void **slot_at(struct pool *pool, uint32_t offset) { return (void **)(void *)((char *)pool + offset); }

bool pools_init(void) {
    struct pool *_Atomic *table = meta_alloc(rn_mode.ids * sizeof *table);
    pools = meta_alloc(rn_mode.ids * sizeof *pools);
    if (!table || !pools)
        return false;
    for (unsigned i = 0; i < rn_mode.ids; i++)
        atomic_store_explicit(&table[i], closed(), memory_order_relaxed);
    rn_fast.pool_of = table;
    return true;
}

unsigned pools_count(void) { return atomic_load_explicit(&pools_made, memory_order_relaxed); }

/* ---- Memory of a pool ---- */

static size_t pool_memory(void) { return os_address_limit() == SIZE_MAX ? POOL_MEMORY : POOL_LIMITED; }

/* Makes [0, offset) of the pool writable. */
static bool pool_commit(struct pool *pool, uint32_t committed, size_t offset, size_t limit, uint32_t *now) {
    size_t step = max_size(POOL_STEP, os_page_size());
    size_t want = round_up(offset, step);
    if (want > limit || os_commit((char *)pool + committed, want - committed) != 0)
        return false;
    *now = (uint32_t)want;
    return true;
}

static struct pool *pool_create(uint32_t id) {
    size_t limit = pool_memory();
    size_t align = max_size(RN_CACHE_LINE, os_page_size());
    struct pool *pool = os_reserve(0, limit, align);
    uint32_t committed;
    if (!pool &&
        limit > POOL_LIMITED) { /* address space may be scarce without RLIMIT_AS: RLIMIT_MEMLOCK counts it too */
        limit = POOL_LIMITED;
        pool = os_reserve(0, limit, align);
    }
    if (!pool)
        return NULL;
    if (!pool_commit(pool, 0, sizeof *pool + sizeof(void *), limit, &committed)) {
        (void)os_unreserve(pool, limit);
        return NULL;
    }
    uint32_t mark = (uint32_t)round_up(sizeof *pool, RN_CACHE_LINE);
    *slot_at(pool, mark) = (char *)pool + mark + 1;
    for (unsigned i = 0; i < RN_CLASSES; i++) {
        atomic_store_explicit(&pool->bins[i].current, mark, memory_order_relaxed);
        atomic_store_explicit(&pool->bins[i].end, mark, memory_order_relaxed);
        pool->room[i].base = mark;
    }
    /* Between fork's handlers its lock is held like all others: pools_unlock_all will drop it. */
    pool->lock = (struct lock){.state = lock_is_fork_owner(), .rank = RANK_POOL};
    pool->id = id;
    pool->committed = committed;
    pool->limit = (uint32_t)limit;
    pool->next_free = mark + RN_CACHE_LINE;
    meta_count(committed);
    return pool;
}

/* The pool of the id, made if absent; NULL when memory is short. Takes drain_lock when it makes one. */
static struct pool *pool_get(uint32_t id) {
    if (id >= rn_mode.ids)
        return NULL;
    /* acquire: pairs with the release below */
    struct pool *pool = atomic_load_explicit(&pools[id], memory_order_acquire);
    if (pool)
        return pool;
    lock_take(&drain_lock);
    pool = atomic_load_explicit(&pools[id], memory_order_relaxed);
    if (!pool && (pool = pool_create(id)) != NULL) {
        atomic_fetch_add_explicit(&pools_made, 1, memory_order_relaxed);
        /* release: pairs with the acquire above, and with the address dependency in the assembly */
        atomic_store_explicit(&pools[id], pool, memory_order_release);
        atomic_store_explicit(&rn_fast.pool_of[id], pool, memory_order_release);
    }
    lock_drop(&drain_lock);
    return pool;
}

/* What the thread's area says now: a hint, since it may be another the next moment. False: no pool. */
static bool current_id(uint32_t *id) {
    struct area *area = rn_thread.area;
    if (__atomic_load_n(&area->cpu_id, __ATOMIC_RELAXED) < 0)
        return false;
    *id = __atomic_load_n((uint32_t *)(void *)((char *)area + rn_fast.id_offset), __ATOMIC_RELAXED);
    return true;
}

static struct pool *current_pool(void) {
    uint32_t id;
    return current_id(&id) ? pool_get(id) : NULL;
}

/* ---- Capacity ---- */

static unsigned words_index(size_t words) { return (unsigned)__builtin_ctzl(words) - 4; }

/* An array of `words` words with its mark set; 0 when the pool's memory is used up. Holds the lock. */
static uint32_t array_take(struct pool *pool, size_t words) {
    uint32_t *spare = &pool->spare[words_index(words)];
    uint32_t offset = *spare;
    if (offset) {
        *spare = (uint32_t)(uintptr_t)*slot_at(pool, offset);
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
    *slot_at(pool, offset) = (char *)pool + offset + 1;
    return offset;
}

static void array_give(struct pool *pool, uint32_t offset, size_t words) {
    uint32_t *spare = &pool->spare[words_index(words)];
    *slot_at(pool, offset) = (void *)(uintptr_t)*spare;
    *spare = offset;
}

static uint32_t first_capacity(unsigned class_index) {
    size_t size = size_classes[class_index].size;
    size_t most = max_size(FIRST_WORDS, (size_t)FIRST_LINES * RN_CACHE_LINE / size) - 1;
    return (uint32_t)max_size(min_size(FIRST_BYTES / size, most), 1);
}

static uint32_t most_capacity(unsigned class_index) {
    size_t size = size_classes[class_index].size;
    return size <= SMALL_OBJECT ? CAPACITY_MOST : (uint32_t)max_size(BIN_BYTES / size, 1);
}

static size_t pool_budget(void) {
    size_t share = backend_in_use() / BUDGET_SHARE / max_size(pools_count(), BUDGET_POOLS);
    return max_size(option_get(OPT_POOL_KIB) << 10, min_size(share, BUDGET_MOST));
}

static void capacity_change(struct pool *pool, struct bin_room *room, uint32_t capacity, size_t size) {
    size_t change = ((size_t)capacity - room->capacity) * size;
    room->capacity = capacity;
    pool->capacity_bytes += change;
    shared_add(&capacity_total, change);
}

/* Takes half the capacity from a bin that stood still since the last look. What it holds beyond that goes to the spans:
 * nobody wanted it lately. Holds the lock, on the pool's own id if it can. */
static void bin_shrink(struct pool *pool, unsigned class_index) {
    struct bin_room *room = &pool->room[class_index];
    uint32_t current = get(&pool->bins[class_index].current);
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
        middle_put_cold(class_index, batch, count);
    }
    if (rn_set_end(class_index, room->base + capacity * SLOT, pool, rn_thread.area))
        capacity_change(pool, room, capacity, size_classes[class_index].size);
}

static void look_at_next(struct pool *pool, unsigned class_index) {
    pool->hand = pool->hand + 1 < RN_CLASSES ? pool->hand + 1 : 1;
    if (pool->hand != class_index && pool->room[pool->hand].capacity)
        bin_shrink(pool, pool->hand);
}

/* The heap is larger than ever lately: looks at some bins, for what stands still in them keeps spans from serving other
 * classes. */
static void pool_age(struct pool *pool, unsigned class_index) {
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

/* Moves the bin to an array of `words` words and gives it `capacity`. Holds the lock. False if the thread left the
 * pool. */
static bool bin_move(struct pool *pool, unsigned class_index, size_t words, uint32_t capacity) {
    struct bin_room *room = &pool->room[class_index];
    uint32_t base = array_take(pool, words);
    if (!base)
        return false;
    if (!rn_move_bin(class_index, rn_thread.area, pool, room->base, base, base + capacity * SLOT)) {
        array_give(pool, base, words);
        return false;
    }
    if (room->slots)
        array_give(pool, room->base, (size_t)room->slots + 1);
    room->base = base;
    room->slots = (uint32_t)words - 1;
    return true;
}

/* Gives the bin about twice its capacity, within the budget. Returns whether it has more now. */
static bool bin_grow(struct pool *pool, unsigned class_index) {
    if (!lock_try(&pool->lock))
        return false;
    struct bin_room *room = &pool->room[class_index];
    size_t size = size_classes[class_index].size;
    uint32_t capacity = room->capacity ? room->capacity * 2 + 1 : first_capacity(class_index);
    bool grown = false;
    capacity = (uint32_t)min_size(capacity, most_capacity(class_index));
    if (capacity > room->capacity &&
        (budget_find(pool, class_index, (capacity - room->capacity) * size) || !room->capacity)) {
        size_t words = FIRST_WORDS;
        while (words < (size_t)capacity + 1)
            words *= 2;
        if (capacity <= room->slots)
            grown = rn_set_end(class_index, room->base + capacity * SLOT, pool, rn_thread.area) != 0;
        else
            grown = bin_move(pool, class_index, words, capacity);
        if (grown)
            capacity_change(pool, room, capacity, size);
    }
    room->overflowed = false;
    lock_drop(&pool->lock);
    return grown;
}

/* ---- Refill and drain ---- */

/* How many objects to move at once for a bin of this capacity. */
static size_t batch_for(unsigned class_index, uint32_t capacity) {
    size_t batch = size_classes[class_index].batch;
    return min_size(max_size(min_size(batch, capacity), capacity / 2), BATCH_MOST);
}

/* A slot that looks like the mark but is not: somebody freed a pointer that no block has. */
static void check_mark(struct pool *pool, unsigned class_index) {
    uint32_t current = get(&pool->bins[class_index].current);
    void *top = *slot_at(pool, current);
    if (((uintptr_t)top & 1) == 0 || (uintptr_t)top == (uintptr_t)slot_at(pool, current) + 1)
        return;
    struct line line = {.used = 0};
    line_text(&line, "free(");
    line_address(&line, top);
    line_text(&line, "): misaligned pointer");
    line_fatal(&line);
}

/* You are here because the bin was empty. Grows it if it overflowed before, or is smaller than a batch; fetches a
 * batch; keeps one object for the caller. Should the thread move meanwhile, the rest lands where it is then. */
void *pool_refill(unsigned class_index) {
    struct pool *pool = current_pool();
    void *batch[BATCH_MOST];
    if (!pool)
        return locked_take(class_index);
    check_mark(pool, class_index);
    pool_age(pool, class_index);
    struct bin_room *room = &pool->room[class_index];
    uint32_t capacity = __atomic_load_n(&room->capacity, __ATOMIC_RELAXED);
    if (capacity < size_classes[class_index].batch || __atomic_load_n(&room->overflowed, __ATOMIC_RELAXED)) {
        (void)bin_grow(pool, class_index);
        capacity = __atomic_load_n(&room->capacity, __ATOMIC_RELAXED);
    }
    size_t most = min_size(1 + capacity, BATCH_MOST);
    size_t count = middle_take(class_index, batch, 1 + batch_for(class_index, capacity) / 2, most);
    if (count == 0)
        return NULL;
    void *object = batch[--count];
    size_t pushed = count ? rn_push_batch(class_index, batch, count, rn_thread.area) : 0;
    if (pushed < count)
        middle_put(class_index, batch + pushed, count - pushed);
    return object;
}

/* You are here because the bin was full, or absent, or its top is the same object. Makes room, and puts the object into
 * it. */
void pool_overflow(unsigned class_index, void *object) {
    struct pool *pool = current_pool();
    void *batch[BATCH_MOST + 1];
    if (!pool) {
        locked_put(class_index, object);
        return;
    }
    struct bin_room *room = &pool->room[class_index];
    uint32_t capacity = __atomic_load_n(&room->capacity, __ATOMIC_RELAXED);
    if (capacity == 0 && bin_grow(pool, class_index) && rn_push_batch(class_index, &object, 1, rn_thread.area))
        return;
    __atomic_store_n(&room->overflowed, true, __ATOMIC_RELAXED);
    size_t count = rn_pop_batch(class_index, batch, batch_for(class_index, capacity), rn_thread.area);
    if (count == 0 || !rn_push_batch(class_index, &object, 1, rn_thread.area))
        batch[count++] = object;
    middle_put(class_index, batch, count);
}

/* ---- Other ids' pools ---- */

static uint64_t pool_fingerprint(struct pool *pool) {
    uint64_t sum = 0;
    for (unsigned i = 1; i < RN_CLASSES; i++)
        sum = sum * 1000003 + get(&pool->bins[i].current);
    return sum;
}

static size_t pool_free_bytes(struct pool *pool) {
    size_t bytes = 0;
    for (unsigned i = 1; i < RN_CLASSES; i++) {
        uint32_t current = get(&pool->bins[i].current);
        uint32_t base = __atomic_load_n(&pool->room[i].base, __ATOMIC_RELAXED);
        if (current > base && (current - base) / SLOT <= CAPACITY_MOST)
            bytes += (size_t)(current - base) / SLOT * size_classes[i].size;
    }
    return bytes;
}

size_t pools_free_bytes(void) {
    size_t bytes = 0;
    for (unsigned i = 0; pools && i < rn_mode.ids; i++) {
        struct pool *pool = atomic_load_explicit(&pools[i], memory_order_acquire); /* pairs with pool_get's release */
        if (pool)
            bytes += pool_free_bytes(pool);
    }
    return bytes;
}

/* Empties a pool that nobody can enter. Holds its lock. */
static size_t pool_empty(struct pool *pool) {
    size_t bytes = 0;
    for (unsigned i = 1; i < RN_CLASSES; i++) {
        struct bin_room *room = &pool->room[i];
        struct bin *bin = &pool->bins[i];
        uint32_t count = (get(&bin->current) - room->base) / SLOT;
        /* Before the objects go: whoever gets one from the middle tier must not see it on top here (pool_top_is). */
        atomic_store_explicit(&bin->current, room->base, memory_order_relaxed);
        atomic_store_explicit(&bin->end, room->base, memory_order_relaxed);
        if (count)
            middle_put(i, slot_at(pool, room->base + SLOT), count);
        bytes += (size_t)count * size_classes[i].size;
        capacity_change(pool, room, 0, size_classes[i].size);
        room->overflowed = false;
    }
    return bytes;
}

static bool is_victim(struct pool *pool, bool all) {
    uint64_t fingerprint = pool_fingerprint(pool);
    bool idle = fingerprint == pool->fingerprint;
    pool->fingerprint = fingerprint;
    return (all || idle) && pool_free_bytes(pool) != 0;
}

/* Stops the victims among the ids, waits until no section is in one of them, empties and opens them again. Holds
 * drain_lock. */
static size_t drain_ids(unsigned first, unsigned end, bool all) {
    bool any = false;
    size_t bytes = 0;
    for (unsigned i = first; i < end; i++) {
        struct pool *pool = atomic_load_explicit(&pools[i], memory_order_relaxed);
        if (!pool || !is_victim(pool, all))
            continue;
        lock_take(&pool->lock);
        atomic_store_explicit(&rn_fast.pool_of[i], closed(), memory_order_relaxed);
        any = true;
    }
    if (!any)
        return 0;
    bool stopped = !process_has_threads() || os_membarrier() == 0;
    for (unsigned i = first; i < end; i++) {
        struct pool *pool = atomic_load_explicit(&pools[i], memory_order_relaxed);
        if (!pool || atomic_load_explicit(&rn_fast.pool_of[i], memory_order_relaxed) == pool)
            continue;
        if (stopped)
            bytes += pool_empty(pool);
        /* release: pairs with the address dependency in the assembly's load of the pool */
        atomic_store_explicit(&rn_fast.pool_of[i], pool, memory_order_release);
        lock_drop(&pool->lock);
    }
    return bytes;
}

void stop_prepare(void) {
    if (rn_mode.can_stop)
        (void)os_membarrier_register(); /* where it is refused, os_membarrier will fail too */
}

/* The thread's own pool, without stopping it: by the batch. All that can be done where others cannot be stopped. */
static size_t drain_own(void) {
    void *batch[BATCH_MOST];
    size_t bytes = 0;
    for (unsigned i = 1; i < RN_CLASSES; i++) {
        size_t count;
        while ((count = rn_pop_batch(i, batch, BATCH_MOST, rn_thread.area)) != 0) {
            middle_put(i, batch, count);
            bytes += count * size_classes[i].size;
        }
    }
    return bytes;
}

size_t pools_drain(bool all) {
    if (!pools)
        return 0;
    /* The drainer counts among the process's threads; in a child of vfork, which is never given an area, that is the
     * thread whose memory it runs in. */
    if (rn_thread.area == &rn_new_area)
        thread_register();
    thread_see();
    if (!rn_mode.can_stop)
        return all ? drain_own() : 0;
    lock_take(&drain_lock);
    size_t bytes = drain_ids(0, rn_mode.ids, all);
    lock_drop(&drain_lock);
    return bytes;
}

void pool_abandon(uint32_t id) {
    lock_take(&drain_lock);
    struct pool *pool = atomic_load_explicit(&pools[id], memory_order_relaxed);
    if (pool) {
        lock_take(&pool->lock);
        (void)pool_empty(pool);
        lock_drop(&pool->lock);
    }
    lock_drop(&drain_lock);
}

void pools_lock_all(void) {
    lock_take(&drain_lock);
    for (unsigned i = 0; pools && i < rn_mode.ids; i++)
        if (pools[i])
            lock_take(&pools[i]->lock);
}

void pools_unlock_all(void) {
    for (unsigned i = 0; pools && i < rn_mode.ids; i++)
        if (pools[i])
            lock_drop(&pools[i]->lock);
    lock_drop(&drain_lock);
}

void pools_reset_locks(void) {
    for (unsigned i = 0; pools && i < rn_mode.ids; i++)
        if (pools[i])
            lock_reset(&pools[i]->lock);
    lock_reset(&drain_lock);
}

/* A look without a section is only a hint: the thread may be on another CPU by now, and another may have stored the
 * slot and `current` in an order that this one does not see. So the top is taken off in a section, and put back. */
bool pool_top_is(unsigned class_index, const void *object) {
    uint32_t id;
    if (!pools || !current_id(&id) || id >= rn_mode.ids)
        return false;
    struct pool *pool = atomic_load_explicit(&pools[id], memory_order_acquire); /* pairs with pool_get's release */
    if (!pool || *slot_at(pool, get(&pool->bins[class_index].current)) != object)
        return false;
    void *top;
    if (rn_pop_batch(class_index, &top, 1, rn_thread.area) == 0)
        return false;
    if (top == object)
        return true;
    if (rn_push_batch(class_index, &top, 1, rn_thread.area) == 0)
        middle_put(class_index, &top, 1);
    return false;
}
