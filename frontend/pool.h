/* pool.h: the frontend's nouns. Internal to this tier.
 *
 *   area      32 bytes that the kernel shares with a thread (rseq(2)); or a stand-in of ours with an id of our choice
 *   id        what an area says: mm_cid or cpu_id; or, without rseq, the thread's own number
 *   RnPool    free objects for whoever has the id now: one bin per size class
 *   RnBin     an array stack of pointers: `current` is its top slot, `end` the last it may use. Both as the machine's
 *             assembly wants them, see struct bins; told as offsets from the start of the pool, 32 bits
 *
 *     pool                                                         slots of one bin
 *     +--------------------------------------------------+        +------+----+----+-----------+
 *     | bins: `current` and `end` | lock, capacities      | .....  | mark | p1 | p2 | ...       |
 *     +--------------------------------------------------+        +------+----+----+-----------+
 *                                                                   base        current    end
 *
 * The mark below the first object is the address of its own slot with the lowest bit set: no object has that bit.
 *
 * Who writes: `current` and the slots only in a restartable sequence on the pool's id (pool_x86_64.S, pool_aarch64.S),
 * or by the holder of the drain lock while the pool is stopped. `end` likewise. `open` by the holder of the drain lock.
 * Everything behind `lock` by the holder of `lock`, and of a pool that was left, of the drain lock.
 *
 * Life of a pool, in terms of its id:
 *
 *   absent: pool_of[id] is the closed pool, pools[id] is NULL             --first use of the id--> open
 *   open: both are the pool, whose open_checked is the id                         --drain_ids--> stopped
 *   stopped: pool_of[id] is the closed pool again, open_checked is POOL_STOPPED   --emptied--> open
 *
 * and for id 0, once: open --pool_leave--> absent, and a pool that only left_give empties.
 *
 * What was committed of it is never unmapped, since a sequence about to be aborted may still read it.
 */
#ifndef FRONTEND_POOL_H
#define FRONTEND_POOL_H

#include <stdatomic.h>

#include "base/attr.h"
#include "base/lock.h"
#include "frontend/classes.h"
#include "middle/middle.h"
#include "rnalloc.h"

/* The kernel's struct rseq as far as it is used here; linux/rseq.h. Only rseq_cs is ever written, and only by the
 * assembly. */
struct area {
    uint32_t cpu_id_start;
    int32_t cpu_id; /* negative: not registered */
    uint64_t rseq_cs;
    uint32_t flags;
    uint32_t node_id;
    uint32_t mm_cid;
    uint32_t pad;
} RN_ALIGNED(32);

/* Whether the thread is among those whose end matters to the helper, which ends with the last of them. */
enum counted { COUNTED_NOT_YET, COUNTED, COUNTED_NEVER };

/* The thread's state: all the static TLS the library has, but for lock_self. The assembly reads `area` and `pool`, and
 * writes `pool`. */
struct thread {
    struct area *area;
    const void *pool; /* that malloc or free used last (x86-64); a hint: what counts is whether it is open for the id */
    bool registered;  /* its own area, where the C library registered none */
    uint8_t counted;  /* enum counted */
    bool is_seen;     /* among those that process_has_threads knows of */
    uint8_t passes;   /* of trim_pass */
};
extern RN_TLS struct thread rn_thread;

#ifdef __x86_64__
/* Addresses: a slot is reached by a register alone, which Intel's CPUs (Golden Cove and later) need to hand what is
 * stored to the next load of it at once. Of an `end` the low half: no pool lies across a multiple of 4 GiB. The closed
 * pool's are 0. */
struct bins {
    _Atomic uint64_t current[RN_CLASSES];
    _Atomic uint32_t end[RN_CLASSES];
};
#else
/* Offsets, loaded as a pair. The closed pool's are those of its mark. */
struct bins {
    struct {
        _Atomic uint32_t current, end;
    } of[RN_CLASSES];
};
#endif

struct bin_room {
    uint32_t base;     /* offset of the mark */
    uint32_t slots;    /* in the array */
    uint32_t capacity; /* of them usable: end == base + 8 * capacity; 0: end may be 0 too, whatever the bin holds */
    uint32_t learned;  /* what a bin that a move closed had */
    uint32_t seen;     /* `current` at the last look: unchanged means cold */
    bool overflowed;   /* drained since the last growth */
};

enum {
    SLOT = sizeof(void *),
    POOL_MEMORY = 16 << 20,   /* address space of a pool: its structure and its slots */
    POOL_LIMITED = 512 << 10, /* the same under RLIMIT_AS */
    CAPACITY_MOST = 32767,    /* objects in a bin */
    BATCH_MOST = 256,         /* objects moved at once */
    SLOT_SIZES = 14,          /* arrays of 16 to 2^17 words */
    FIRST_WORDS = 16,         /* of a bin's first array, the mark included */
    POOL_BIG = 32 << 10,      /* objects from here on leave their bins before the heap grows */
};
#define POOL_STOPPED INT32_MAX /* no id: those are below rn_mode.ids, and what says that there is none is negative */

struct pool {
    struct bins bins;
    /* The id, or POOL_STOPPED: as pool_of says it, for the assembly of x86-64. */
    _Atomic uint32_t open;         /* of threads whose mm_cid is that, and proves that they have it */
    _Atomic uint32_t open_checked; /* whose mm_cid is that, and cpu_id has no sign */
    _Atomic uint32_t open_cpu;     /* whose cpu_id is that, where ids are cpu_ids */
    struct lock lock;              /* everything below */
    uint32_t id;
    uint32_t next_free; /* offset of the unused rest of the pool's memory */
    uint32_t committed;
    uint32_t limit;
    uint32_t hand;              /* the class whose bin is looked at next for capacity */
    size_t capacity_bytes;      /* of all bins; read without the lock */
    _Atomic size_t in_use_most; /* of the heap, lately, when bins were looked at for what stands still */
    size_t big_bytes;           /* of those for objects from POOL_BIG on; read without the lock */
    size_t fresh_seen;          /* backend_fresh when the big objects were last yielded; a hint, without the lock */
    uint64_t fingerprint;       /* of all `current`s at the last idle look */
    uint32_t spare[SLOT_SIZES]; /* offsets of unused arrays, linked through their first word */
    struct bin_room room[RN_CLASSES];
};

/* What every id leads to that has no open pool, and every thread before it had one. */
struct closed_pool {
    struct bins bins;
    uint32_t open, open_checked, open_cpu;
    uint64_t mark;
};
extern const struct closed_pool rn_closed_pool;

static inline void **bin_slot(struct pool *pool, uint32_t offset) { return (void **)(void *)((char *)pool + offset); }

/* Looks from outside of a sequence: hints, but for who stopped the pool. */
#ifdef __x86_64__
static inline uint32_t bin_current(struct pool *pool, unsigned class_index) {
    return (uint32_t)(atomic_load_explicit(&pool->bins.current[class_index], memory_order_relaxed) - (uintptr_t)pool);
}
static inline uint32_t bin_end(struct pool *pool, unsigned class_index) {
    return atomic_load_explicit(&pool->bins.end[class_index], memory_order_relaxed) - (uint32_t)(uintptr_t)pool;
}
#else
static inline uint32_t bin_current(struct pool *pool, unsigned class_index) {
    return atomic_load_explicit(&pool->bins.of[class_index].current, memory_order_relaxed);
}
static inline uint32_t bin_end(struct pool *pool, unsigned class_index) {
    return atomic_load_explicit(&pool->bins.of[class_index].end, memory_order_relaxed);
}
#endif

/* Without objects or room, while nobody can be in the pool. */
static inline void bin_clear(struct pool *pool, unsigned class_index, uint32_t base) {
#ifdef __x86_64__
    atomic_store_explicit(&pool->bins.current[class_index], (uintptr_t)pool + base, memory_order_relaxed);
    atomic_store_explicit(&pool->bins.end[class_index], (uint32_t)(uintptr_t)pool + base, memory_order_relaxed);
#else
    atomic_store_explicit(&pool->bins.of[class_index].current, base, memory_order_relaxed);
    atomic_store_explicit(&pool->bins.of[class_index].end, base, memory_order_relaxed);
#endif
}

/* What the assembly reads: where in an area the id stands (x86-64: malloc and free only where it changed), and the pool
 * of each id. Written at initialisation; in a cache line that nothing else dirties. */
struct fast_path {
    uint64_t id_offset;
    struct pool *_Atomic *pool_of;
} RN_ALIGNED(RN_CACHE_LINE);
extern struct fast_path rn_fast;

/* Stand-ins: of threads not seen yet, and of those that must not use any pool (children of vfork). Their ids are none
 * that a pool is open for. */
extern struct area rn_new_area;
extern struct area rn_no_area;

/* The assembly. All return what they did, having done it wholly or (but for rn_move_bin's closing) not at all; 0 when
 * the thread has no pool now. */
size_t rn_push_batch(unsigned class_index, void *const *objects, size_t count, struct area *area);
size_t rn_pop_batch(unsigned class_index, void **objects, size_t count, struct area *area);
/* Nonzero if `pool` is the thread's pool now and the bin's end was set. */
int rn_set_end(unsigned class_index, uint32_t end, struct pool *pool, struct area *area);
/* The same for moving the bin to another array: copies its objects from above old_base to above new_base. From then on
 * its end is 0, and from some time before, also where it fails. */
int rn_move_bin(unsigned class_index, struct area *area, struct pool *pool, uint32_t old_base, uint32_t new_base);
/* Pops an object of a class known already; `size` is for the slow path. The tail of malloc. */
void *rn_alloc_class(size_t size, unsigned class_index);

/* rseq.c: mode and registration. */
struct mode_state {
    int kind; /* enum rn_mode_kind */
    const char *reason;
    unsigned ids;  /* size of rn_fast.pool_of */
    bool can_stop; /* other ids' pools can be stopped */
};
extern struct mode_state rn_mode;

/* For which id the pool is open, or POOL_STOPPED. */
static inline uint32_t pool_open_for(struct pool *pool) {
    bool by_cpu = rn_mode.kind == RN_MODE_RSEQ_CPU;
    return atomic_load_explicit(by_cpu ? &pool->open_cpu : &pool->open_checked, memory_order_relaxed);
}

void mode_init(void);
/* Gives the calling thread an area: the kernel's, or a stand-in. */
void thread_register(void);
/* In fork's child: the calling thread is the only one, and the others' stand-ins are free. */
void thread_forget_others(void);
/* Counts the calling thread from now until its end; when the last counted thread ends, the helper must not be what
 * keeps the process alive. Called by those that create threads, and at registration once there were any. */
void thread_count(void);
/* The calling thread is the helper. */
void thread_count_never(void);
/* Tells process_has_threads of the calling thread. */
void thread_see(void);
bool process_has_threads(void);
/* Before the first thread is created: what stopping other ids' pools will need, while it costs 3 us instead of 20 ms.
 */
void stop_prepare(void);

/* capacity.c */
/* Makes [0, offset) of the pool writable, of which [0, committed) is; *now: how much is then. */
bool pool_commit(struct pool *pool, uint32_t committed, size_t offset, size_t limit, uint32_t *now);
/* Gives the bin about twice its capacity, within the budget. Returns whether it has more now. */
bool bin_grow(struct pool *pool, unsigned class_index);
/* Notes a bin's new capacity, of objects of `size`. Caller holds the lock. */
void capacity_change(struct pool *pool, struct bin_room *room, uint32_t capacity, size_t size);
/* Bytes that the bins of all pools may hold; 0 where the helper could not empty them. */
size_t pools_room(void);
void pools_room_add(size_t change);
/* The heap is larger than ever lately: looks at some bins, for what stands still in them keeps spans from serving other
 * classes. */
void pool_age(struct pool *pool, unsigned class_index);

/* pool.c */
bool pools_init(void);
/* Opens the pool for its id, or for nobody: POOL_STOPPED. Caller holds drain_lock, or the pool is not known yet. */
void pool_set_open(struct pool *pool, uint32_t open);
/* The calling thread is the only one that is known, or nobody is. Holds drain_lock. */
void pools_note_alone(bool is_alone);
/* Another comes: by itself, before it is given a block. Holds drain_lock. */
void pools_end_alone(void);
/* The same, called by who makes it, amid no pool. */
void pools_note_others(void);
/* In fork's child, which has the calling thread only. Holds all locks. */
void pools_forget_others(bool is_seen);
/* The id of the calling thread's pool, or 0 if it has none: a hint. */
unsigned pool_id(void);
void *pool_refill(unsigned class_index);
void pool_overflow(unsigned class_index, void *object);
size_t pools_free_bytes(void);
void pools_count_free(size_t *objects); /* adds to the numbers of each class */
unsigned pools_count(void);
/* Where address space is scarce: gives back what no array was cut from yet, but for the room that a pool under a limit
 * has. Returns its bytes. */
size_t pools_retreat(void);
/* Empties pools into the middle tier: those that nobody used since the last call, or all. They lose their
 * room, those that nobody used also where they are empty. Returns the bytes moved. */
size_t pools_drain(bool all);
/* Pools that other threads use can be emptied, as far as is known. */
bool pools_can_drain(void);
/* Empties the pool of an id whose thread is gone. */
void pool_abandon(uint32_t id);
void pools_lock_all(void);
void pools_unlock_all(void);
void pools_reset_locks(void);
extern struct lock drain_lock;

/* yield.c: sends the pool's big objects to their spans, whose pages may then serve what else the heap would have to
 * grow for. May: it has bins for such objects, and it is time. */
bool pool_may_yield(struct pool *pool);
void pool_yield(struct pool *pool);

/* locked.c: pools shared by threads that have none. */
void *locked_take(unsigned class_index);
void locked_put(unsigned class_index, void *object);
size_t locked_free_bytes(void);
void locked_count_free(size_t *objects); /* adds to the numbers of each class */
size_t locked_drain(void);
void locked_lock_all(void);
void locked_unlock_all(void);
void locked_reset_locks(void);

/* alloc.c: where the assembly goes when it cannot do the work. */
void *rn_alloc_slow(size_t size, unsigned class_index);
void rn_free_slow(void *block, unsigned class_index);
void *rn_new_slow(size_t size, unsigned class_index); /* cxx.c */
void *rn_new(size_t size);                            /* operator new, whatever the program has */

/* init.c: the first use of the library; cheap when it was made. */
void library_init(void);
bool library_is_ready(void);

/* helper.c */
void helper_poke(void);
void helper_start(void);
void helper_end(void);
void helper_lock_all(void);
void helper_unlock_all(void);
void helper_forget(void);

/* trim.c: giving memory back. */
size_t trim(size_t keep);
void trim_step(void);
/* The same for those who pass by often, with little each time: now and then. */
void trim_pass(void);
/* Memory for `size` bytes was refused: gives everything free back to the system. True if another try may succeed. */
bool trim_retreat(size_t size);

#endif
