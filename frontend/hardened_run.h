/* hardened_run.h: what the files of hardened mode share: runs with guard pages, their descriptors, canaries, messages.
 *
 *   span    | slot | slot | ...                  | tail | guard |
 *   slot    | bytes asked for | canary: 8 bytes at least, up to the slot's end |
 *   large   | guard | ...... bytes asked for | canary: up to 15 bytes | guard |
 *
 * Life of a slot (all moves under the class's lock):
 *   fresh --taken--> live --freed--> waiting --its turn--> free --taken, if still zero--> live
 *
 * Life of a large block (under the lock of class 0):
 *   live --freed--> waiting: contents dropped, no access --its turn, accessible again--> the run is the backend's
 *
 * I11  In hardened mode every tag of the pagemap is 0, and so is the fast path's class table.
 * I12  A slot's bit is set if and only if its word says free or fresh; span->free is the number of set bits.
 * I13  A span is on its class's list if and only if it has a free slot.
 * I14  A waiting or free slot is zero, or has been written after it was freed.
 * I15  A page that access was taken from belongs to a run in use: it is accessible again before the run goes back.
 * I16  A descriptor serves one class for ever: whoever holds a stale one finds the lock under which that shows.
 */
#ifndef FRONTEND_HARDENED_RUN_H
#define FRONTEND_HARDENED_RUN_H

#include <stdatomic.h>

#include "base/lock.h"
#include "base/random.h"
#include "frontend/hardened.h"
#include "middle/middle.h"

enum {
    LARGE = 0, /* the class of large blocks */
    CANARY_MIN = 8,
    GUARD_FRONT = 1,
    GUARD_BACK = 2,
};

/* The head of every descriptor. `next` and `prev` are under the class's lock, the rest is constant while the run is
 * known to the pagemap; class_index for ever (I16). */
struct hardened_run {
    struct hardened_run *next;
    struct hardened_run *prev;
    uintptr_t start; /* of the whole run, guards included */
    size_t pages;
    uint8_t class_index;
    uint8_t guards;        /* which are in force */
    bool guards_are_clean; /* they read as zeros */
    bool is_clean;         /* the pages between the guards read as zeros. Changed by the last owner */
};

struct hardened_class {
    struct lock lock;    /* everything below but the counters */
    uint32_t generation; /* of the process in which `random` was seeded: a child of fork seeds anew */
    struct random random;
    struct hardened_run *listed; /* a ring of spans with a free slot; of class LARGE: waiting blocks, oldest first */
    struct hardened_run *spare;  /* descriptors without a run, by `next` */
    void **waiting; /* freed blocks: a random one leaves for the ring behind, the ring's oldest gets free */
    uint32_t waiting_count;
    uint32_t waiting_hand;
    _Atomic size_t live; /* bytes */
    _Atomic size_t held; /* bytes of spans, without guards */
} RN_ALIGNED(RN_CACHE_LINE);
extern struct hardened_class hardened_classes[RN_CLASSES];

/* ---- hardened_run.c ---- */

/* The granule in which access can be taken: a page of the kernel's, and of ours. */
size_t guard_size(void);

/* Takes a descriptor of `size` bytes. NULL when the system refuses. */
void *descriptor_take(unsigned class_index, size_t size);
void descriptor_give(struct hardened_run *run);

/* Tries to make a guard of [at, at + guard_size()) in the run, whose pages are known to be zero if `zeroed`. */
void guard_set(struct hardened_run *run, uint8_t guard, uintptr_t at, bool zeroed);
/* Makes the whole run accessible again (I15), and gives it and its descriptor back; false if the system refuses: then
 * nothing has changed. The pagemap does not know it any more. Holds no lock. */
bool run_give(struct hardened_run *run);
size_t guards_bytes(void);

/* The run that `block` lies in, with its class's lock held. Ends the process if there is none. */
struct hardened_run *run_lock(const char *function, const void *block);
void run_unlock(const struct hardened_run *run);

void ring_append(struct hardened_run **ring, struct hardened_run *run);
void ring_remove(struct hardened_run **ring, struct hardened_run *run);

/* The class's generator; holds its lock. */
struct random *class_random(struct hardened_class *class_);

void canary_init(void);
/* Writes the canary of `block` over [from, to). No byte of it is 0, so that a terminator written too far shows. */
void canary_write(const void *block, char *from, const char *to);
bool canary_is_whole(const void *block, const char *from, const char *to);
bool is_zero(const char *from, size_t size);

/* Ends the process: "function(block): what (size class N bytes)", or "(large block of N bytes)". No lock is held. */
void hardened_misuse(const char *function, const void *block, const char *what, unsigned class_index, size_t size)
    __attribute__((noreturn, cold));

/* What it is to give a freed block to `function`. */
const char *freed_twice(const char *function);

/* ---- hardened_span.c: small blocks. Those that take a run are called with its lock held, and drop it. ---- */

void *slot_alloc(unsigned class_index, size_t size);
/* The live block's size. */
size_t slot_size(const char *function, struct hardened_run *run, const void *block);
/* Ends the process if the canary behind the block's `size` bytes is not whole. */
void slot_check(const char *function, unsigned class_index, void *block, size_t size);
void slot_free(struct hardened_run *run, void *block);
/* Gives the live block of `old` bytes another size of the same class. */
void slot_resize(struct hardened_run *run, void *block, size_t old, size_t size);
void spans_trim(unsigned class_index);
void spans_check(unsigned class_index);

/* ---- hardened_large.c: likewise ---- */

void *guarded_alloc(size_t size, size_t alignment, bool *zeroed);
size_t guarded_size(const char *function, struct hardened_run *run, const void *block);
void guarded_free(struct hardened_run *run, void *block);
void *guarded_resize(struct hardened_run *run, void *block, size_t size);
void guarded_trim(void);
void guarded_stats(struct hardened_stats *stats);

#endif
