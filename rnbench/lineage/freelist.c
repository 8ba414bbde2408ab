/* freelist: one heap, one list of free blocks, one lock. The starting point.
 *
 * The idea: every free block of the program is in one structure. malloc takes a block that is big enough out of it,
 * splits it, and puts the rest back; free merges the block with its free neighbours (heap.h has the boundary tags)
 * and puts the result in. One mutex makes it safe for threads. Blocks above 256 KiB are mapped directly.
 *
 * The structure need not be a linked list. LINEAGE_OPTIONS="structure=..." chooses:
 *
 *   list     doubly linked, searched first-fit from where the last search ended (Knuth's roving pointer). Inserting
 *            and removing cost nothing, the search is linear in the number of free blocks.
 *   tree     a treap ordered by (size, address): best fit in logarithmic time. Balanced by random priorities, which
 *            are a hash of the block's address and so take no room. Best fit leaves small, useless rests.
 *   bitmap   one bit per 16 bytes of a region, set where a free block starts: first fit by address, which packs a heap
 *            well and needs no links in the blocks. The search reads bits, not blocks, until it meets a candidate.
 *   stack    arrays of block pointers, one per power of two. The block freed last is served first, while it is still
 *            in the cache; scanning an array does not wait for one pointer to fetch the next.
 *
 * Invariants: H1 to H4 of heap.h, under the one lock.
 *
 * Does well: no memory is stranded anywhere. Whatever any thread frees, any other can have, merged to the full.
 * Fails: every malloc and free waits for every other, so more threads make it slower, not faster; a thread that is
 * preempted inside the lock stops the program. Searching for a block touches other blocks (list, tree): cache misses.
 * Tags lie next to the user's bytes, and an overrun destroys them.
 *
 * Sources: D. E. Knuth, The Art of Computer Programming 1, section 2.5 (first fit, roving pointer, boundary tags); B.
 * W. Kernighan and D. M. Ritchie, The C Programming Language, section 8.7; P. R. Wilson, M. S. Johnstone, M. Neely,
 * D. Boles, Dynamic Storage Allocation: A Survey and Critical Review, IWMM 1995; C. R. Aragon and R. Seidel,
 * Randomized Search Trees, FOCS 1989 (treaps).
 */
#include "heap.h"

#include <string.h>

const char design_name[] = "freelist";

static struct lock lock = LOCK_INIT;
static struct heap heap;

static size_t size_of(const struct block *block) { return head_size(&block->head); }

/* ---- list: circular, with a rover ------------------------------------------------------------------------------ */

static struct block *rover; /* some block of the ring; NULL when it is empty */

static void list_insert(struct heap *unused, struct block *block) {
    (void)unused;
    if (!rover) {
        block->left = block->right = block;
    } else {
        block->right = rover;
        block->left = rover->left;
        block->left->right = block;
        rover->left = block;
    }
    rover = block;
}

static void list_remove(struct heap *unused, struct block *block) {
    (void)unused;
    if (block->right == block) {
        rover = NULL;
        return;
    }
    block->left->right = block->right;
    block->right->left = block->left;
    if (rover == block)
        rover = block->right;
}

static struct block *list_find(struct heap *unused, size_t size) {
    (void)unused;
    struct block *start = rover;
    if (!start)
        return NULL;
    do {
        if (size_of(rover) >= size)
            return rover;
        rover = rover->right;
    } while (rover != start);
    return NULL;
}

/* ---- tree: a treap by size, then address ----------------------------------------------------------------------- */

/* Every node is above its children by priority, and between them by (size, address). Both orders together allow one
 * shape only: that of a search tree filled in random order, whose depth is logarithmic with near certainty. */
static struct block *root;

static uintptr_t priority(const struct block *block) { return (uintptr_t)block * 0x9e3779b97f4a7c15u; }

static bool is_less(const struct block *a, const struct block *b) {
    return size_of(a) != size_of(b) ? size_of(a) < size_of(b) : a < b;
}

/* Cuts `tree` into what lies below `block` and what lies above. */
static void tree_split(struct block *tree, const struct block *block, struct block **below, struct block **above) {
    while (tree) {
        if (is_less(tree, block)) {
            *below = tree;
            below = &tree->right;
            tree = tree->right;
        } else {
            *above = tree;
            above = &tree->left;
            tree = tree->left;
        }
    }
    *below = *above = NULL;
}

static void tree_insert(struct heap *unused, struct block *block) {
    (void)unused;
    struct block **link = &root;
    while (*link && priority(*link) > priority(block))
        link = is_less(*link, block) ? &(*link)->right : &(*link)->left;
    tree_split(*link, block, &block->left, &block->right);
    *link = block;
}

static void tree_remove(struct heap *unused, struct block *block) {
    (void)unused;
    struct block **link = &root;
    while (*link != block)
        link = is_less(*link, block) ? &(*link)->right : &(*link)->left;
    /* Its two subtrees become one: of their tops the one of higher priority goes first, again and again. */
    struct block *below = block->left, *above = block->right;
    while (below && above) {
        if (priority(below) > priority(above)) {
            *link = below;
            link = &below->right;
            below = below->right;
        } else {
            *link = above;
            link = &above->left;
            above = above->left;
        }
    }
    *link = below ? below : above;
}

static struct block *tree_find(struct heap *unused, size_t size) {
    (void)unused;
    struct block *best = NULL;
    for (struct block *tree = root; tree;) {
        if (size_of(tree) >= size) {
            best = tree;
            tree = tree->left;
        } else {
            tree = tree->right;
        }
    }
    return best;
}

/* ---- bitmap: a bit where a free block starts ------------------------------------------------------------------- */

#define BITMAP_WORDS (REGION_SIZE / ALIGNMENT / 64)

struct bitmap {
    size_t largest; /* no free block of the region is larger */
    size_t first;   /* no word below this one has a bit */
    uint64_t bits[BITMAP_WORDS];
};

static struct bitmap *bitmap_of(struct region *region) { return (struct bitmap *)region->area; }

static size_t granule(const struct block *block) { return ((uintptr_t)block & (REGION_SIZE - 1)) / ALIGNMENT; }

static void bitmap_insert(struct heap *unused, struct block *block) {
    (void)unused;
    struct bitmap *map = bitmap_of(region_of(block));
    size_t bit = granule(block);
    map->bits[bit / 64] |= (uint64_t)1 << bit % 64;
    if (size_of(block) > map->largest)
        map->largest = size_of(block);
    if (bit / 64 < map->first)
        map->first = bit / 64;
}

static void bitmap_remove(struct heap *unused, struct block *block) {
    (void)unused;
    size_t bit = granule(block);
    bitmap_of(region_of(block))->bits[bit / 64] &= ~((uint64_t)1 << bit % 64);
}

/* `largest` is exact after a search that failed, so a region is searched in vain once, not with every request. */
static struct block *bitmap_search(struct region *region, size_t size) {
    struct bitmap *map = bitmap_of(region);
    size_t largest = 0, first = BITMAP_WORDS;
    for (size_t word = map->first; word < BITMAP_WORDS; word++) {
        if (map->bits[word] && first == BITMAP_WORDS)
            map->first = first = word;
        for (uint64_t bits = map->bits[word]; bits; bits &= bits - 1) {
            size_t bit = word * 64 + (size_t)__builtin_ctzll(bits);
            struct block *block = (struct block *)((uintptr_t)region + bit * ALIGNMENT);
            if (size_of(block) >= size)
                return block;
            if (size_of(block) > largest)
                largest = size_of(block);
        }
    }
    map->largest = largest;
    map->first = first;
    return NULL;
}

static struct block *bitmap_find(struct heap *from, size_t size) {
    for (struct region *region = from->regions; region; region = region->next) {
        if (bitmap_of(region)->largest < size)
            continue;
        struct block *block = bitmap_search(region, size);
        if (block)
            return block;
    }
    return NULL;
}

/* ---- stack: arrays of pointers, one per power of two ----------------------------------------------------------- */

/* A block knows its place in its array (in `left`), so that a neighbour's free can take it out of the middle: the top
 * takes its place. A block for which the array could not grow is in none, until a merge moves it. */
struct stack {
    struct block **slot;
    uintptr_t count, room;
};

#define STACK_NOWHERE UINTPTR_MAX
#define STACK_LOOK 32 /* entries looked at where blocks may be too small, before a larger block is split */

static struct stack stacks[64];

static struct stack *stack_of(size_t size) { return &stacks[63 - __builtin_clzl(size)]; }

static bool stack_grow(struct stack *stack) {
    uintptr_t room = stack->room ? stack->room * 2 : os_page() / sizeof(struct block *);
    struct block **slot = os_map(room * sizeof(struct block *), os_page());
    if (!slot)
        return false;
    if (stack->room) {
        memcpy(slot, stack->slot, stack->count * sizeof(struct block *));
        os_unmap(stack->slot, stack->room * sizeof(struct block *));
    }
    stack->slot = slot;
    stack->room = room;
    return true;
}

static void stack_place(struct stack *stack, uintptr_t place, struct block *block) {
    stack->slot[place] = block;
    block->left = (struct block *)place;
}

static void stack_insert(struct heap *unused, struct block *block) {
    (void)unused;
    struct stack *stack = stack_of(size_of(block));
    if (stack->count == stack->room && !stack_grow(stack))
        block->left = (struct block *)STACK_NOWHERE;
    else
        stack_place(stack, stack->count++, block);
}

static void stack_remove(struct heap *unused, struct block *block) {
    (void)unused;
    struct stack *stack = stack_of(size_of(block));
    uintptr_t place = (uintptr_t)block->left;
    if (place == STACK_NOWHERE)
        return;
    struct block *top = stack->slot[--stack->count];
    stack_place(stack, place, top);
}

static struct block *stack_search(const struct stack *stack, size_t size, uintptr_t look) {
    uintptr_t end = stack->count > look ? stack->count - look : 0;
    for (uintptr_t place = stack->count; place > end; place--) {
        if (size_of(stack->slot[place - 1]) >= size)
            return stack->slot[place - 1];
    }
    return NULL;
}

static struct block *stack_find(struct heap *unused, size_t size) {
    (void)unused;
    struct stack *stack = stack_of(size);
    struct block *block = stack_search(stack, size, STACK_LOOK);
    for (struct stack *larger = stack + 1; !block && larger < stacks + 64; larger++)
        block = stack_search(larger, size, 1);
    return block ? block : stack_search(stack, size, UINTPTR_MAX);
}

/* ---- The design ------------------------------------------------------------------------------------------------ */

static const struct heap_index structures[] = {
    {0, list_insert, list_remove, list_find},
    {0, tree_insert, tree_remove, tree_find},
    {sizeof(struct bitmap), bitmap_insert, bitmap_remove, bitmap_find},
    {0, stack_insert, stack_remove, stack_find},
};

void design_start(void) {
    static const char *const names[] = {"list", "tree", "bitmap", "stack"};
    heap.index = &structures[option_choice("structure", names, 4)];
}

void *design_alloc(size_t size, bool *zeroed) {
    if (size > HEAP_MAX)
        return direct_alloc(size, zeroed);
    lock_take(&lock);
    void *block = heap_alloc(&heap, size);
    lock_release(&lock);
    return block;
}

void *design_alloc_aligned(size_t align, size_t size) { return head_alloc_aligned(align, size); }

void design_free(void *block) {
    void *whole = head_unalias(block);
    switch (head_of(whole)->word & HEAD_FLAGS) {
    case HEAD_DIRECT:
        direct_free(whole);
        break;
    case HEAD_USED:
        lock_take(&lock);
        heap_free(&heap, whole);
        lock_release(&lock);
        break;
    default:
        block_fatal(block);
    }
}

size_t design_usable(void *block) { return heap_usable(block); }

void design_lock_all(void) { lock_take(&lock); }

void design_unlock_all(void) { lock_release(&lock); }
