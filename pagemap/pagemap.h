/* pagemap.h: from an address to what lives there. The door of this tier.
 *
 * A radix tree over the 2^47 or 2^48 bytes of user addresses, in pages of 8 KiB. A root entry covers 1 GiB; its leaf
 * has two planes: a tag byte per page (0: the slow path decides) and a handle per page. What a tag or a handle means is
 * the writers' affair.
 *
 *     p   |47 ........ 30|29 ............ 13|12 .... 0|
 *          root index     page in the leaf   offset
 *
 * Readers take no lock and test nothing: a root entry is the distance from the all-zero leaf to the entry's leaf, so an
 * entry never written (0) leads to the all-zero leaf. While all memory lies in one window of address space a look-up is
 * shorter still, since the window's leaves stand one behind the other: tag = window.tags[(p - window.base) >> 13]. It
 * has 64 GiB, or less where address space is scarce: that one the assembly of x86-64 does not use.
 *
 * Writers: the owner of a page run writes its pages' entries before it hands out an object in them, and clears them
 * before it gives the run back; nobody else writes them meanwhile. A reader got its pointer from the program, which got
 * it from the owner's thread, and whatever handed it over ordered the stores; so relaxed loads and stores suffice.
 */
#ifndef PAGEMAP_PAGEMAP_H
#define PAGEMAP_PAGEMAP_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/lock.h"

enum {
    PAGEMAP_LEAF_SHIFT = 30,
    PAGEMAP_LEAF_PAGES = 1 << (PAGEMAP_LEAF_SHIFT - RN_PAGE_SHIFT),
    PAGEMAP_ROOT_SIZE = 1 << (RN_ADDRESS_BITS - PAGEMAP_LEAF_SHIFT),
};

/* A window of this size is whole: the assembly of x86-64 has the number in its code, and so a word less to load. */
#define PAGEMAP_WINDOW_SHIFT 36
#define PAGEMAP_WINDOW_PAGES ((size_t)1 << (PAGEMAP_WINDOW_SHIFT - RN_PAGE_SHIFT))

/* What that assembly reads where there is no whole window. Of this base all addresses that a processor can have are
 * beyond the end; an odd one behind it, which none can have, is looked up where nobody can read, as long as no window
 * was whole. */
#define PAGEMAP_NO_BASE (((uintptr_t)1 << 62) + 1)
#define PAGEMAP_NO_TAGS ((_Atomic uint8_t *)((uintptr_t)1 << 62))

/* Read by the assembly of the fast path too. Written once, by pagemap_window; pagemap_shrink makes handle_pages less,
 * and may make `words` less and take whole_base away. */
struct pagemap_window {
    uintptr_t base;
    /* Of 8 bytes, as far as there are tags; 0: there is no window. By words, since the assembly of aarch64 tests range
     * and alignment at once. */
    _Atomic uintptr_t words;
    _Atomic uint8_t *tags;
    _Atomic(void *) *handles;
    _Atomic uintptr_t whole_base; /* base and tags of a whole window, for the assembly of x86-64 */
    _Atomic uint8_t *whole_tags;
    _Atomic size_t handle_pages; /* as far as there are handles */
} RN_ALIGNED(RN_CACHE_LINE);
extern struct pagemap_window pagemap_win;

/* Distance in bytes from pagemap_zero_tags to the leaf's tags. */
extern _Atomic intptr_t pagemap_tag_root[PAGEMAP_ROOT_SIZE];
/* What else there is of a leaf. */
extern struct pagemap_leaf {
    _Atomic(void *) *_Atomic handles; /* NULL where there is no leaf, or only the tags of one that the window has */
    _Atomic uint64_t committed;       /* which granules: of tags in the low half, of handles in the high half */
} pagemap_leaves[PAGEMAP_ROOT_SIZE];
extern _Atomic uint8_t pagemap_zero_tags[PAGEMAP_LEAF_PAGES];

/* Makes `size` bytes from `base` (a multiple of 1 GiB) the window, at the first reservation. Returns 0, or -ENOMEM:
 * then all look-ups go through the root. Caller: initialisation. */
int pagemap_window(uintptr_t base, size_t size);

/* Gives back the address space of the handles of the window's last leaves in which no entry was made writable, where
 * memory was refused, and with_tags that of their tags, an eighth as much, too: then the window is whole no more. What
 * comes to lie there goes through the root. Returns the bytes. Caller holds the lock of the backend. */
size_t pagemap_shrink(bool with_tags);

/* Makes the entries of [start, start + size) writable. Caller holds the lock of the backend. 0 or -ENOMEM; what was
 * made stays, and a repetition is cheap. */
int pagemap_ensure(uintptr_t start, size_t size);

/* Sets the entries of `pages` pages from `start`, which pagemap_ensure covered. */
void pagemap_set(uintptr_t start, size_t pages, uint8_t tag, void *handle);

static inline bool pagemap_covers(uintptr_t address) { return address >> RN_ADDRESS_BITS == 0; }

/* The tag of any address at all, 0 for those nobody set. */
static inline uint8_t pagemap_tag(const void *pointer) {
    uintptr_t address = (uintptr_t)pointer;
    if (!pagemap_covers(address))
        return 0;
    intptr_t leaf = atomic_load_explicit(&pagemap_tag_root[address >> PAGEMAP_LEAF_SHIFT], memory_order_relaxed);
    size_t page = (address >> RN_PAGE_SHIFT) & (PAGEMAP_LEAF_PAGES - 1);
    uintptr_t at = (uintptr_t)pagemap_zero_tags + (uintptr_t)leaf + page;
    return atomic_load_explicit((_Atomic uint8_t *)at, memory_order_relaxed);
}

/* The handle of an address whose entry was set. */
static inline void *pagemap_handle(const void *pointer) {
    uintptr_t address = (uintptr_t)pointer;
    uintptr_t page = (address - pagemap_win.base) >> RN_PAGE_SHIFT;
    if (RN_LIKELY(page < atomic_load_explicit(&pagemap_win.handle_pages, memory_order_relaxed)))
        return atomic_load_explicit(&pagemap_win.handles[page], memory_order_relaxed);
    _Atomic(void *) *leaf = atomic_load_explicit(&pagemap_leaves[address >> PAGEMAP_LEAF_SHIFT].handles,
                                                 memory_order_relaxed);
    return atomic_load_explicit(&leaf[(address >> RN_PAGE_SHIFT) & (PAGEMAP_LEAF_PAGES - 1)], memory_order_relaxed);
}

/* True if pagemap_ensure covered the address, so that its handle may be read. For the slow path, which meets any
 * pointer. */
bool pagemap_has(const void *pointer);

#endif
