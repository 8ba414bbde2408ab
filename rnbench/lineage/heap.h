/* heap.h: a boundary-tag heap, the ground under `freelist`, `threadcache` and `arenas`.
 *
 * The idea (Knuth, The Art of Computer Programming 1, section 2.5): memory is an unbroken row of blocks, used and
 * free. Each starts with a head that gives its own size and its predecessor's, so both neighbours of a block are
 * found in constant time, and a freed block merges with those that are free.
 *
 *     region: | struct region | the index's area | block | block | ... | end head (size 0, used) |
 *     block:  | before: size of the previous block (0: none) | size, flags | the user's, or the index's two links |
 *
 * Which free block serves a request is the business of an index: a structure over the free blocks, chosen by the
 * design.
 *
 * Invariants:
 *   H1  the sizes in a region add up: a walk from the first block by sizes ends at the end head.
 *   H2  block.before is the size of the block in front of it.
 *   H3  no two neighbours are both free.
 *   H4  the index holds exactly the free blocks.
 *
 * No function here locks: a heap has an owner who does.
 */
#ifndef LINEAGE_HEAP_H
#define LINEAGE_HEAP_H

#include "common.h"

#define REGION_SIZE MIB            /* and its alignment */
#define HEAP_MAX (REGION_SIZE / 4) /* the largest size served; more is mapped directly */
#define HEAP_BINS 64

struct heap;

struct region {
    struct heap *heap;
    struct region *next, *prev;
    size_t unused; /* keeps the size a multiple of 16 */
    char area[];   /* the index's, zeroed */
};

struct block {
    struct head head;
    struct block *left, *right; /* in a free block only: the index's links */
};

#define BLOCK_MIN sizeof(struct block)

/* A structure over the free blocks of a heap. */
struct heap_index {
    size_t area; /* bytes it needs in each region, a multiple of 16 */
    void (*insert)(struct heap *heap, struct block *block);
    void (*remove)(struct heap *heap, struct block *block);
    struct block *(*find)(struct heap *heap, size_t size); /* some free block of at least `size`, left in the index */
};

/* The default: segregated lists, one per size class, and a bit for each that is not empty. */
extern const struct heap_index heap_bins;

struct heap {
    const struct heap_index *index;
    struct region *regions;
    struct region *idle;           /* the one region that is kept although it is wholly free */
    struct block *bins[HEAP_BINS]; /* heap_bins' */
    uint64_t filled;               /* heap_bins' */
};

/* NULL when memory is short. `size` is 1..HEAP_MAX. */
void *heap_alloc(struct heap *heap, size_t size);
void heap_free(struct heap *heap, void *block);

static inline struct region *region_of(const void *address) {
    return (struct region *)((uintptr_t)address & ~(REGION_SIZE - 1));
}

/* The usable size of any block with a head: of a heap, direct, or an alias. */
size_t heap_usable(void *block);

#endif
