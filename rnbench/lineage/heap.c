/* heap.c: the boundary-tag heap; heap.h has the idea, the picture and the invariants H1 to H4. */
#include "heap.h"

static struct block *block_after(const struct block *block) {
    return (struct block *)((uintptr_t)block + head_size(&block->head));
}

static struct block *block_before(const struct block *block) {
    return (struct block *)((uintptr_t)block - block->head.before);
}

static bool is_used(const struct block *block) { return block->head.word & HEAD_USED; }

/* ---- Regions --------------------------------------------------------------------------------------------------- */

static size_t region_lead(const struct heap *heap) { return sizeof(struct region) + heap->index->area; }

/* The size of the one free block of a region without used ones. */
static size_t region_room(const struct heap *heap) { return REGION_SIZE - region_lead(heap) - sizeof(struct head); }

static bool region_add(struct heap *heap) {
    struct region *region = os_map(REGION_SIZE, REGION_SIZE);
    if (!region)
        return false;
    region->heap = heap;
    region->next = heap->regions;
    if (heap->regions)
        heap->regions->prev = region;
    heap->regions = region;
    struct block *block = (struct block *)((uintptr_t)region + region_lead(heap));
    block->head.word = region_room(heap);
    struct block *end = block_after(block);
    end->head = (struct head){.before = head_size(&block->head), .word = HEAD_USED};
    heap->index->insert(heap, block);
    heap->idle = region;
    return true;
}

/* Returns false when the kernel refuses to take the region: it stays in use then. */
static bool region_drop(struct heap *heap, struct region *region) {
    struct region *next = region->next, *prev = region->prev;
    if (os_unmap(region, REGION_SIZE) != 0)
        return false;
    if (next)
        next->prev = prev;
    if (prev)
        prev->next = next;
    else
        heap->regions = next;
    return true;
}

/* ---- Blocks ---------------------------------------------------------------------------------------------------- */

void *heap_alloc(struct heap *heap, size_t size) {
    size_t need = round_up(size, ALIGNMENT) + sizeof(struct head);
    struct block *block = heap->index->find(heap, need);
    if (!block) {
        if (!region_add(heap))
            return NULL;
        block = heap->index->find(heap, need);
        if (!block) { /* the index had no memory to note it */
            region_drop(heap, heap->idle);
            heap->idle = NULL;
            return NULL;
        }
    }
    heap->index->remove(heap, block);
    if (region_of(block) == heap->idle)
        heap->idle = NULL;
    size_t rest = head_size(&block->head) - need;
    if (rest >= BLOCK_MIN) {
        block->head.word = need;
        struct block *tail = block_after(block);
        tail->head = (struct head){.before = need, .word = rest};
        block_after(tail)->head.before = rest;
        heap->index->insert(heap, tail);
    }
    block->head.word |= HEAD_USED;
    return &block->head + 1;
}

void heap_free(struct heap *heap, void *address) {
    struct block *block = (struct block *)head_of(address);
    block->head.word &= ~(size_t)HEAD_USED;
    struct block *after = block_after(block);
    if (!is_used(after)) {
        heap->index->remove(heap, after);
        block->head.word += head_size(&after->head);
    }
    if (block->head.before != 0 && !is_used(block_before(block))) {
        struct block *before = block_before(block);
        heap->index->remove(heap, before);
        before->head.word += head_size(&block->head);
        block = before;
    }
    block_after(block)->head.before = head_size(&block->head);
    /* One idle region is kept, or a program at its edge would map and unmap with every block. */
    if (head_size(&block->head) == region_room(heap)) {
        if (heap->idle && region_drop(heap, region_of(block)))
            return;
        heap->idle = region_of(block);
    }
    heap->index->insert(heap, block);
}

size_t heap_usable(void *address) {
    char *block = head_unalias(address);
    size_t lead = (size_t)((char *)address - block);
    return head_size(head_of(block)) - sizeof(struct head) - lead;
}

/* ---- The default index: segregated lists ----------------------------------------------------------------------- */

/* List c holds the blocks of class_size(c) up to, and without, class_size(c + 1). So any block of list class_of(need)
 * and above serves, and the bit mask finds the smallest such list in one instruction: a good fit in constant time.
 * Only when those are empty is the list below searched, which holds blocks on both sides of `need`. */

static void bins_insert(struct heap *heap, struct block *block) {
    unsigned bin = class_below(head_size(&block->head));
    block->left = NULL;
    block->right = heap->bins[bin];
    if (block->right)
        block->right->left = block;
    heap->bins[bin] = block;
    heap->filled |= (uint64_t)1 << bin;
}

static void bins_remove(struct heap *heap, struct block *block) {
    unsigned bin = class_below(head_size(&block->head));
    if (block->right)
        block->right->left = block->left;
    if (block->left)
        block->left->right = block->right;
    else
        heap->bins[bin] = block->right;
    if (!heap->bins[bin])
        heap->filled &= ~((uint64_t)1 << bin);
}

static struct block *bins_find(struct heap *heap, size_t size) {
    uint64_t fitting = heap->filled >> class_of(size) << class_of(size);
    if (fitting)
        return heap->bins[__builtin_ctzll(fitting)];
    struct block *block = heap->bins[class_below(size)];
    while (block && head_size(&block->head) < size)
        block = block->right;
    return block;
}

const struct heap_index heap_bins = {0, bins_insert, bins_remove, bins_find};
