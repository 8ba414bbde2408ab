/* hardened.h: the option hardened=1: every block is checked, and the first mistake that is seen ends the process.
 *
 * Decided once, before the first block. Then the class table of the fast path stays empty and no page has a tag, so
 * every call of malloc and free comes to the slow path with class 0, and from there to here; the pools and the middle
 * tier hold nothing. Small blocks are slots of spans with a lock per size class, large ones are runs between guard
 * pages. What is known of a block (live, waiting or free, and its size as it was asked for) stands in a descriptor
 * outside, found by the pagemap's handle; in the block's own memory are only the canary behind the bytes asked for, and
 * zeros once it was freed.
 *
 *   hardened_alloc --size + canary up to 256 KiB--> a random free slot of the class --none--> a new span
 *                  --else--> a run whose last byte lies against a guard page
 *   hardened_free  --slot--> canary checked, zeroed, waits; one that waited long becomes free --span empty--> backend
 *                  --large--> contents dropped, inaccessible, waits; those that waited longest go to the backend
 *
 * No function touches errno. All are thread-safe. None may be used in a handler that interrupted another.
 */
#ifndef FRONTEND_HARDENED_H
#define FRONTEND_HARDENED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Constant once blocks are given out. */
extern bool rn_hardened;

/* Puts the mode in force. Caller: initialisation, which then leaves the fast path's class table empty. */
void hardened_init(void);

/* A block of `size` bytes, aligned to `alignment` (a power of two) and to 16; *zeroed tells whether it is known to be
 * zero. NULL when memory is short. */
void *hardened_alloc(size_t size, size_t alignment, bool *zeroed);

/* Frees a block. Ends the process unless it is a live one with its canary whole. */
void hardened_free(void *block);

/* The same; also ends the process if the size, or the alignment (0: not told), is not the block's. */
void hardened_free_sized(void *block, size_t alignment, size_t size);

/* The size that was asked for: one byte more is the canary. Ends the process, in the name of `function`, if the block
 * is not a live one. */
size_t hardened_size(const char *function, const void *block);

/* Checks the block's canary and resizes it in place or by moving its pages; NULL, with the block as it was, where it
 * has to be copied. */
void *hardened_resize(void *block, size_t size);

/* Ends all waiting, and gives empty spans to the backend. */
void hardened_trim(void);

/* Bytes. What backend_in_use counts is all of them together. */
struct hardened_stats {
    size_t small_live;   /* slots in the program's hands, whole */
    size_t small_free;   /* other slots, waiting ones included, and tails of spans */
    size_t large_live;   /* pages of large blocks in the program's hands */
    size_t large_blocks; /* number of those */
    size_t guards;       /* never resident */
    size_t waiting;      /* pages of freed large blocks; not resident */
};
void hardened_stats(struct hardened_stats *stats);
/* Slots that the program does not have, waiting ones included. */
size_t hardened_free_slots(void);

/* For the fork handlers: nothing unless the mode is in force. */
void hardened_lock_all(void);
void hardened_unlock_all(void);
void hardened_reset_locks(void);
/* In the child of fork, which is to choose other places than its parent. */
void hardened_new_generation(void);

/* Debug: I12 and I13 over all listed spans. */
void hardened_check(void);

#endif
