#include "frontend/pool.h"

#include "backend/backend.h"
#include "base/fatal.h"
#include "base/meta.h"
#include "base/os.h"
#include "frontend/alloc.h"
#include "frontend/pool_layout.h"
#include "pagemap/pagemap.h"

_Static_assert(offsetof(struct pool, bins) == 0, "the assembly indexes bins so");
_Static_assert(sizeof(struct area) == 32, "the kernel's first area size");
#ifdef __x86_64__
_Static_assert(offsetof(struct pool, bins.end) == POOL_END, "the assembly finds it there");
_Static_assert(offsetof(struct pool, open) == POOL_OPEN && offsetof(struct pool, open_checked) == POOL_OPEN_CHECKED,
               "and these");
_Static_assert(POOL_OPEN % 8 == 0 && POOL_OPEN_CHECKED == POOL_OPEN + 4, "by one load");
_Static_assert(offsetof(struct closed_pool, open) == POOL_OPEN, "and of the closed pool, too,");
_Static_assert(offsetof(struct closed_pool, open_checked) == POOL_OPEN_CHECKED, "in each way");
_Static_assert(offsetof(struct closed_pool, open_cpu) == POOL_OPEN_CPU &&
                   offsetof(struct pool, open_cpu) == POOL_OPEN_CPU,
               "by cpu_id, too");
_Static_assert(offsetof(struct pagemap_window, whole_base) == PAGEMAP_WHOLE_BASE, "and a whole window");
_Static_assert(offsetof(struct pagemap_window, whole_tags) == PAGEMAP_WHOLE_TAGS, "with its tags");
_Static_assert(PAGEMAP_WINDOW_PAGES == PAGEMAP_WHOLE_PAGES, "which has this size");
_Static_assert(offsetof(struct area, cpu_id) == AREA_CPU && offsetof(struct area, mm_cid) == AREA_CID, "and the ids");
#else
_Static_assert(sizeof(struct bins) == (size_t)8 * RN_CLASSES, "and a pair by one load");
#endif
_Static_assert(offsetof(struct thread, area) == 0 && offsetof(struct thread, pool) == 8, "and these");

/* Empty and full at once, and open for no id. Its only slot is a mark, where one is read before `open` is. */
const struct closed_pool rn_closed_pool = {
#ifndef __x86_64__
    .bins.of = {[0 ... RN_CLASSES - 1] = {offsetof(struct closed_pool, mark), offsetof(struct closed_pool, mark)}},
#endif
    .open = POOL_STOPPED,
    .open_checked = POOL_STOPPED,
    .open_cpu = POOL_STOPPED,
    .mark = 1,
};

/* Before mode_init: one id that leads to the closed pool, which is all that rn_new_area needs. */
static struct pool *_Atomic first_table[1] = {(struct pool *)(uintptr_t)&rn_closed_pool};

_Static_assert(offsetof(struct fast_path, id_offset) == 0 && offsetof(struct fast_path, pool_of) == 8,
               "the assembly reads them there");
struct fast_path rn_fast = {
    .id_offset = offsetof(struct area, cpu_id),
    .pool_of = first_table,
};

struct lock drain_lock = LOCK_INIT(RANK_DRAIN);

static struct pool *_Atomic *pools; /* the pool of each id, stopped or not; NULL: absent. release in pool_create */
static _Atomic unsigned pools_made;

static struct pool *closed(void) { return (struct pool *)(uintptr_t)&rn_closed_pool; }

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

size_t pools_retreat(void) {
    size_t bytes = 0;
    for (unsigned i = 0; pools && i < rn_mode.ids; i++) {
        struct pool *pool = atomic_load_explicit(&pools[i], memory_order_acquire); /* pairs with pool_get's release */
        if (!pool || !lock_try(&pool->lock))
            continue;
        size_t keep = max_size(pool->committed, POOL_LIMITED);
        if (keep < pool->limit && os_unreserve((char *)pool + keep, pool->limit - keep) == 0) {
            bytes += pool->limit - keep;
            pool->limit = (uint32_t)keep;
        }
        lock_drop(&pool->lock);
    }
    return bytes;
}

unsigned pools_count(void) { return atomic_load_explicit(&pools_made, memory_order_relaxed); }

/* ---- Memory of a pool ---- */

static size_t pool_memory(void) { return os_address_limit() == SIZE_MAX ? POOL_MEMORY : POOL_LIMITED; }

/* Not across a multiple of 4 GiB: addresses in a pool are told apart by their low halves. */
static struct pool *pool_reserve(size_t limit) {
    void *start = os_reserve(0, limit, max_size(RN_CACHE_LINE, os_page_size()));
    if (start && ((uintptr_t)start ^ ((uintptr_t)start + limit - 1)) >> 32 != 0) {
        os_discard(start, limit);
        start = os_reserve(0, limit, limit);
    }
    return start;
}

/* ---- The only thread ---- */

/* The only thread that is known, while there is no other; else NULL. Written under drain_lock; never followed. */
static const struct thread *_Atomic alone;

/* A thread that ended its registration has an mm_cid of 0, which the kernel leaves behind: so 0 proves nothing, unless
 * there is no other thread to meet that one in the pool. */
void pool_set_open(struct pool *pool, uint32_t open) {
    bool proves = rn_mode.kind == RN_MODE_THREAD;
    if (rn_mode.kind == RN_MODE_RSEQ_CID)
        proves = open != 0 || atomic_load_explicit(&alone, memory_order_relaxed);
    /* release: pairs with the order of the assembly's loads, of these and then of the bin, on x86-64 */
    atomic_store_explicit(&pool->open, proves ? open : POOL_STOPPED, memory_order_release);
    bool by_cpu = rn_mode.kind == RN_MODE_RSEQ_CPU;
    atomic_store_explicit(&pool->open_checked, by_cpu ? POOL_STOPPED : open, memory_order_release);
    atomic_store_explicit(&pool->open_cpu, by_cpu ? open : POOL_STOPPED, memory_order_release);
}

static struct pool *pool_zero(void) { return pools ? atomic_load_explicit(&pools[0], memory_order_relaxed) : NULL; }

void pools_note_alone(bool is_alone) {
    atomic_store_explicit(&alone, is_alone ? &rn_thread : NULL, memory_order_relaxed);
    if (pool_zero())
        pool_set_open(pool_zero(), pool_open_for(pool_zero()));
}

/* The pool 0 that was left to the first thread, until that has emptied it. */
static struct {
    const struct thread *_Atomic owner; /* NULL: there is none */
    struct pool *_Atomic pool;
    size_t room; /* that it had then */
} left;

/* The first thread may have ended its registration, and be amid the pool now, where nothing will restart it. Whether
 * that is so nobody can say: it may have a registration again. So the pool is left to it, and the id gets another.
 * Holds drain_lock. */
static void pool_leave(struct pool *pool, const struct thread *first) {
    lock_take(&pool->lock); /* who changes capacities ends that first; nobody begins, where pool_of has another */
    pool_set_open(pool, POOL_STOPPED);
    atomic_store_explicit(&rn_fast.pool_of[0], closed(), memory_order_relaxed);
    atomic_store_explicit(&pools[0], NULL, memory_order_relaxed);
    atomic_fetch_sub_explicit(&pools_made, 1, memory_order_relaxed);
    left.room = __atomic_load_n(&pool->capacity_bytes, __ATOMIC_RELAXED);
    pools_room_add(-left.room);
    atomic_store_explicit(&left.pool, pool, memory_order_release);   /* pairs with the acquire in pool_at */
    atomic_store_explicit(&left.owner, first, memory_order_relaxed); /* left_empty looks again under the lock */
    lock_drop(&pool->lock);
    if (lock_is_fork_owner())
        lock_reset(&pool->lock); /* pools_unlock_all will not find it */
}

void pools_end_alone(void) {
    const struct thread *first = atomic_load_explicit(&alone, memory_order_relaxed);
    struct pool *pool = pool_zero();
    if (first && pool && rn_mode.kind == RN_MODE_RSEQ_CID) {
        if (first == &rn_thread)
            atomic_store_explicit(&pool->open, POOL_STOPPED, memory_order_relaxed);
        else
            pool_leave(pool, first);
    }
    /* release: pairs with the acquire in pools_note_others: whoever sees NULL sees the pool closed, or left */
    atomic_store_explicit(&alone, NULL, memory_order_release);
}

void pools_note_others(void) {
    if (!atomic_load_explicit(&alone, memory_order_acquire))
        return;
    lock_take(&drain_lock);
    pools_end_alone();
    lock_drop(&drain_lock);
}

static struct pool *pool_create(uint32_t id) {
    size_t limit = pool_memory();
    struct pool *pool = pool_reserve(limit);
    uint32_t committed;
    if (!pool &&
        limit > POOL_LIMITED) { /* address space may be scarce without RLIMIT_AS: RLIMIT_MEMLOCK counts it too */
        limit = POOL_LIMITED;
        pool = pool_reserve(limit);
    }
    if (!pool)
        return NULL;
    if (!pool_commit(pool, 0, sizeof *pool + sizeof(void *), limit, &committed)) {
        os_discard(pool, limit);
        return NULL;
    }
    uint32_t mark = (uint32_t)round_up(sizeof *pool, RN_CACHE_LINE);
    *bin_slot(pool, mark) = (char *)pool + mark + 1;
    for (unsigned i = 0; i < RN_CLASSES; i++) {
        bin_clear(pool, i, mark);
        pool->room[i].base = mark;
    }
    /* Between fork's handlers its lock is held like all others: pools_unlock_all will drop it. */
    pool->lock = (struct lock){.state = lock_is_fork_owner(), .rank = RANK_POOL};
    pool->id = id;
    pool_set_open(pool, id);
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

unsigned pool_id(void) {
    uint32_t id;
    return current_id(&id) ? id : 0;
}

static struct pool *current_pool(void) {
    uint32_t id;
    return current_id(&id) ? pool_get(id) : NULL;
}

/* Empties a pool that nobody can enter. Holds its lock, or has it for itself. */
static size_t pool_empty(struct pool *pool) {
    size_t bytes = 0;
    for (unsigned i = 1; i < RN_CLASSES; i++) {
        struct bin_room *room = &pool->room[i];
        uint32_t count = (bin_current(pool, i) - room->base) / SLOT;
        /* Before the objects go: whoever gets one from the middle tier must not see it on top here (pool_top_is). */
        bin_clear(pool, i, room->base);
        if (count)
            middle_put(pool->id, i, bin_slot(pool, room->base + SLOT), count);
        bytes += (size_t)count * size_classes[i].size;
        capacity_change(pool, room, 0, size_classes[i].size);
        room->overflowed = false;
        room->learned = 0;
    }
    return bytes;
}

/* Of a pool that was left to a thread that is amid no pool, or gone. Holds drain_lock. */
static void left_give(void) {
    pools_room_add(left.room);
    (void)pool_empty(atomic_load_explicit(&left.pool, memory_order_relaxed));
    atomic_store_explicit(&left.pool, NULL, memory_order_relaxed);
    atomic_store_explicit(&left.owner, NULL, memory_order_relaxed);
}

/* From slow paths, where a thread is amid no pool: in its signal handlers, if it has no registration, it must not come
 * here. A child of clone may share its storage, and come too. */
static void left_empty(void) {
    if (RN_LIKELY(atomic_load_explicit(&left.owner, memory_order_relaxed) != &rn_thread))
        return;
    lock_take(&drain_lock);
    if (atomic_load_explicit(&left.owner, memory_order_relaxed) == &rn_thread)
        left_give();
    lock_drop(&drain_lock);
}

/* A signal handler may call fork, while what it interrupted is amid the pool that was left to it: then there is no
 * other that could be left. */
void pools_forget_others(bool is_seen) {
    const struct thread *owner = atomic_load_explicit(&left.owner, memory_order_relaxed);
    if (owner && owner != &rn_thread)
        left_give();
    pools_note_alone(is_seen && owner != &rn_thread);
}

/* ---- Refill and drain ---- */

/* How many objects to move at once for a bin of this capacity. */
static size_t batch_for(unsigned class_index, uint32_t capacity) {
    size_t batch = size_classes[class_index].batch;
    return min_size(max_size(min_size(batch, capacity), capacity / 2), BATCH_MOST);
}

/* A slot that looks like the mark but is not: somebody freed a pointer that no block has. */
static void check_mark(struct pool *pool, unsigned class_index) {
    uint32_t current = bin_current(pool, class_index);
    void *top = *bin_slot(pool, current);
    if (((uintptr_t)top & 1) == 0 || (uintptr_t)top == (uintptr_t)bin_slot(pool, current) + 1)
        return;
    struct line line = {.used = 0};
    line_text(&line, "free(");
    line_address(&line, top);
    line_text(&line, "): misaligned pointer");
    line_fatal(&line);
}

/* From the middle tier, whose memory is to last before there is more of it. */
static size_t objects_fetch(struct pool *pool, unsigned class_index, void **batch, size_t count, size_t most) {
    if (RN_UNLIKELY(pool_may_yield(pool))) {
        size_t got = middle_take_resident(pool->id, class_index, batch, count, most);
        if (got)
            return got;
        pool_yield(pool);
    }
    return middle_take(pool->id, class_index, batch, count, most);
}

/* You are here because the bin was empty. Grows it if it overflowed before, or is smaller than a batch; fetches a
 * batch; keeps one object for the caller. Should the thread move meanwhile, the rest lands where it is then. */
void *pool_refill(unsigned class_index) {
    left_empty();
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
    size_t count = objects_fetch(pool, class_index, batch, 1 + batch_for(class_index, capacity) / 2, most);
    if (count == 0)
        return NULL;
    void *object = batch[--count];
    size_t pushed = count ? rn_push_batch(class_index, batch, count, rn_thread.area) : 0;
    if (pushed < count)
        middle_put(pool->id, class_index, batch + pushed, count - pushed);
    return object;
}

/* You are here because the bin was full, or absent, or its top is the same object. Makes room, and puts the object into
 * it. */
void pool_overflow(unsigned class_index, void *object) {
    left_empty();
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
    middle_put(pool->id, class_index, batch, count);
}

/* ---- Other ids' pools ---- */

static uint64_t pool_fingerprint(struct pool *pool) {
    uint64_t sum = 0;
    for (unsigned i = 1; i < RN_CLASSES; i++)
        sum = sum * 1000003 + bin_current(pool, i);
    return sum;
}

static size_t bin_objects(struct pool *pool, unsigned class_index) {
    uint32_t current = bin_current(pool, class_index);
    uint32_t base = __atomic_load_n(&pool->room[class_index].base, __ATOMIC_RELAXED);
    size_t objects = current > base ? (current - base) / SLOT : 0;
    return objects <= CAPACITY_MOST ? objects : 0;
}

static size_t pool_free_bytes(struct pool *pool) {
    size_t bytes = 0;
    for (unsigned i = 1; i < RN_CLASSES; i++)
        bytes += bin_objects(pool, i) * size_classes[i].size;
    return bytes;
}

/* Of each id in turn, and the one that was left. */
static struct pool *pool_at(unsigned i) {
    /* acquire: pairs with the release in pool_get, and in pool_leave */
    return atomic_load_explicit(i < rn_mode.ids ? &pools[i] : &left.pool, memory_order_acquire);
}

void pools_count_free(size_t *objects) {
    for (unsigned i = 0; pools && i <= rn_mode.ids; i++) {
        struct pool *pool = pool_at(i);
        for (unsigned c = 1; pool && c < RN_CLASSES; c++)
            objects[c] += bin_objects(pool, c);
    }
}

size_t pools_free_bytes(void) {
    size_t bytes = 0;
    for (unsigned i = 0; pools && i <= rn_mode.ids; i++) {
        struct pool *pool = pool_at(i);
        bytes += pool ? pool_free_bytes(pool) : 0;
    }
    return bytes;
}

/* An idle pool without objects too, if it has room for some: else they would come by the fast path, and nobody would
 * know. */
static bool is_victim(struct pool *pool, bool all) {
    uint64_t fingerprint = pool_fingerprint(pool);
    bool idle = fingerprint == pool->fingerprint;
    pool->fingerprint = fingerprint;
    if (pool_free_bytes(pool) != 0)
        return all || idle;
    return idle && __atomic_load_n(&pool->capacity_bytes, __ATOMIC_RELAXED) != 0;
}

static _Atomic bool stop_failed; /* the last time */

bool pools_can_drain(void) { return rn_mode.can_stop && !atomic_load_explicit(&stop_failed, memory_order_relaxed); }

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
        pool_set_open(pool, POOL_STOPPED);
        any = true;
    }
    if (!any)
        return 0;
    bool stopped = !process_has_threads() || os_membarrier() == 0;
    atomic_store_explicit(&stop_failed, !stopped, memory_order_relaxed);
    for (unsigned i = first; i < end; i++) {
        struct pool *pool = atomic_load_explicit(&pools[i], memory_order_relaxed);
        if (!pool || atomic_load_explicit(&rn_fast.pool_of[i], memory_order_relaxed) == pool)
            continue;
        if (stopped)
            bytes += pool_empty(pool);
        pool_set_open(pool, i);
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
            middle_put(pool_id(), i, batch, count);
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
    left_empty();
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
    if (!pool || *bin_slot(pool, bin_current(pool, class_index)) != object)
        return false;
    void *top;
    if (rn_pop_batch(class_index, &top, 1, rn_thread.area) == 0)
        return false;
    if (top == object)
        return true;
    if (rn_push_batch(class_index, &top, 1, rn_thread.area) == 0)
        middle_put(id, class_index, &top, 1);
    return false;
}
