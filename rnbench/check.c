/* check.c: is the memory that was given really ours, and only ours?
 *
 * A layer of functions stands in for the allocator's own. It writes every block whole, with a pattern that follows from
 * address and size, and looks at all of it when the block is freed or resized; so anything that anybody else wrote in
 * between is found. Beside that a shadow of the address space holds one bit per 8 bytes that belong to a live block,
 * which finds overlap at once, and the size of the block that begins at an address.
 *
 *     roots[address >> 26] -> shadow of 64 MiB:  size[] by 8 bytes | used[] one bit per 8 bytes
 *
 * The shadow takes memory and time: those figures of a checked run say nothing.
 */
#include <errno.h>
#include <string.h>

#include "rnbench.h"

enum { GRANULE_BITS = 3, LEAF_BITS = 26, ADDRESS_BITS = 48, GRANULES = 1 << (LEAF_BITS - GRANULE_BITS) };
enum { ROOTS = 1 << (ADDRESS_BITS - LEAF_BITS) };

struct leaf {
    uint64_t size[GRANULES]; /* requested, plus one, where a live block begins; else 0 */
    uint64_t used[GRANULES / 64];
};

static struct allocator inner;
static struct leaf **roots;
static struct checked counts;

static uint64_t address_of(const void *block) { return (uint64_t)(uintptr_t)block; }

/* Two threads may make the same leaf at once: the second one's goes back. */
static struct leaf *leaf_of(uint64_t address) {
    if (address >> ADDRESS_BITS)
        fault("check: %p is beyond 48 bits", (void *)(uintptr_t)address);
    struct leaf **root = &roots[address >> LEAF_BITS];
    struct leaf *leaf = __atomic_load_n(root, __ATOMIC_ACQUIRE);
    if (leaf)
        return leaf;
    struct leaf *fresh = table_new(sizeof *fresh, false);
    if (__atomic_compare_exchange_n(root, &leaf, fresh, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
        return fresh;
    table_free(fresh, sizeof *fresh);
    return leaf;
}

static uint64_t *size_at(uint64_t address) { return &leaf_of(address)->size[address >> GRANULE_BITS & (GRANULES - 1)]; }

/* Sets or clears the bits of a block, a word at a time; false if one of them was as it should become. */
static bool mark(uint64_t address, size_t size, bool used) {
    uint64_t granule = address >> GRANULE_BITS, end = (address + (size ? size : 1) + 7) >> GRANULE_BITS;
    while (granule < end) {
        struct leaf *leaf = leaf_of(granule << GRANULE_BITS);
        uint64_t first = granule & 63, count = end - granule < 64 - first ? end - granule : 64 - first;
        uint64_t mask = (count == 64 ? ~0ULL : (1ULL << count) - 1) << first;
        uint64_t *word = &leaf->used[(granule & (GRANULES - 1)) >> 6];
        uint64_t old = used ? __atomic_fetch_or(word, mask, __ATOMIC_ACQ_REL)
                            : __atomic_fetch_and(word, ~mask, __ATOMIC_ACQ_REL);
        if ((used ? old : ~old) & mask)
            return false;
        granule += count;
    }
    return true;
}

static uint64_t pattern(uint64_t address, size_t size, size_t place) {
    uint64_t word = (address ^ size << 20) + (place + 1) * 0x9e3779b97f4a7c15ULL;
    return word ^ word >> 29;
}

static void write_pattern(void *block, size_t size) {
    char *bytes = block;
    size_t place = 0;
    for (; place + 8 <= size; place += 8) {
        uint64_t word = pattern(address_of(block), size, place);
        memcpy(bytes + place, &word, 8);
    }
    uint64_t word = pattern(address_of(block), size, place);
    memcpy(bytes + place, &word, size - place);
}

/* Looks at the first `length` bytes of the pattern that was written for a block of `size` at `address`. */
static void verify(const void *block, uint64_t address, size_t size, size_t length) {
    const char *bytes = block;
    size_t place = 0;
    for (; place + 8 <= length; place += 8) {
        uint64_t word;
        memcpy(&word, bytes + place, 8);
        if (word != pattern(address, size, place))
            break;
    }
    uint64_t word = pattern(address, size, place);
    if (length - place >= 8 || memcmp(bytes + place, &word, length - place) != 0)
        fault("check: %p (%zu bytes): somebody else wrote to byte %zu or the 7 after it", block, size, place);
    __atomic_fetch_add(&counts.blocks, 1, __ATOMIC_RELAXED);
}

static void count_live(uint64_t size) {
    uint64_t live = __atomic_add_fetch(&counts.live_bytes, size, __ATOMIC_RELAXED);
    uint64_t peak = __atomic_load_n(&counts.peak_bytes, __ATOMIC_RELAXED);
    while (live > peak && (int64_t)live > 0 &&
           !__atomic_compare_exchange_n(&counts.peak_bytes, &peak, live, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        ;
}

static void *enter(void *block, size_t size, size_t alignment) {
    if (!block)
        return NULL;
    uint64_t address = address_of(block);
    if (address % alignment)
        fault("check: %p (%zu bytes) is not aligned to %zu", block, size, alignment);
    if (!mark(address, size, true))
        fault("check: %p (%zu bytes) overlaps a live block", block, size);
    __atomic_store_n(size_at(address), size + 1, __ATOMIC_RELEASE);
    write_pattern(block, size);
    count_live(size);
    return block;
}

/* Takes a block out of the shadow; gives its size. */
static size_t leave(const void *block) {
    uint64_t address = address_of(block);
    uint64_t entry = __atomic_exchange_n(size_at(address), 0, __ATOMIC_ACQ_REL);
    if (entry == 0 || !mark(address, entry - 1, false))
        fault("check: %p: freed, but not a live block", block);
    count_live(0 - (entry - 1));
    return entry - 1;
}

static size_t natural(size_t size) { return size > 8 ? 16 : 8; }

static void *checked_alloc(size_t size) { return enter(inner.alloc(size), size, natural(size)); }

static void checked_release(void *block) {
    if (block) {
        size_t size = leave(block);
        verify(block, address_of(block), size, size);
    }
    inner.release(block);
}

static void *checked_resize(void *block, size_t size) {
    if (!block || size == 0) {
        if (block)
            checked_release(block);
        return size == 0 && block ? NULL : checked_alloc(size);
    }
    size_t old = leave(block);
    verify(block, address_of(block), old, old);
    uint64_t address = address_of(block);
    void *moved = inner.resize(block, size);
    if (!moved) { /* the old block is as it was */
        enter(block, old, natural(old));
        return NULL;
    }
    verify(moved, address, old, old < size ? old : size);
    return enter(moved, size, natural(size));
}

static void *checked_zeroed(size_t count, size_t size) {
    size_t bytes;
    const char *block = inner.zeroed(count, size);
    if (!block || __builtin_mul_overflow(count, size, &bytes))
        return NULL;
    for (size_t i = 0; i < bytes; i++)
        if (block[i])
            fault("check: %p (%zu bytes) from calloc: byte %zu is not zero", (const void *)block, bytes, i);
    void *whole;
    memcpy(&whole, &block, sizeof whole);
    return enter(whole, bytes, natural(bytes));
}

static void *checked_aligned(size_t alignment, size_t size) {
    return enter(inner.aligned(alignment, size), size, alignment);
}

void check_layer(struct allocator *allocator) {
    inner = *allocator;
    roots = table_new(ROOTS * sizeof *roots, false);
    allocator->alloc = checked_alloc;
    allocator->release = checked_release;
    allocator->resize = inner.resize ? checked_resize : NULL;
    allocator->zeroed = inner.zeroed ? checked_zeroed : NULL;
    allocator->aligned = inner.aligned ? checked_aligned : NULL;
    allocator->layered = true;
}

struct checked check_now(void) {
    return counts;
}
