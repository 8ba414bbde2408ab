#include "pagemap/pagemap.h"

#include <errno.h>

#include "base/meta.h"
#include "base/os.h"

/* The planes are committed in granules, so that mlockall does not make a whole leaf resident. */
enum {
    GRANULE = 64 << 10,
    TAG_GRANULES = PAGEMAP_LEAF_PAGES / GRANULE,
    HANDLE_GRANULES = PAGEMAP_LEAF_PAGES * sizeof(void *) / GRANULE,
    GRANULE_PAGES = GRANULE / sizeof(void *), /* pages whose handles fill a granule */
};
_Static_assert(TAG_GRANULES >= 1 && HANDLE_GRANULES <= 32, "a leaf's granules fit the words that note them");
_Static_assert(sizeof(_Atomic uint8_t) == 1 && sizeof(_Atomic(void *)) == sizeof(void *),
               "the assembly reads plain planes");

struct pagemap_window pagemap_win = {.whole_base = PAGEMAP_NO_BASE, .whole_tags = PAGEMAP_NO_TAGS};
RN_TABLE _Atomic intptr_t pagemap_tag_root[PAGEMAP_ROOT_SIZE];
/* `committed` is written under the backend's lock; pagemap_has reads it without. */
RN_TABLE struct pagemap_leaf pagemap_leaves[PAGEMAP_ROOT_SIZE];
RN_TABLE _Atomic uint8_t pagemap_zero_tags[PAGEMAP_LEAF_PAGES] RN_ALIGNED(RN_CACHE_LINE);

static void leaf_install(size_t index, uintptr_t tags, _Atomic(void *) *handles) {
    atomic_store_explicit(&pagemap_leaves[index].handles, handles, memory_order_relaxed);
    atomic_store_explicit(&pagemap_tag_root[index], (intptr_t)(tags - (uintptr_t)pagemap_zero_tags),
                          memory_order_relaxed);
}

int pagemap_window(uintptr_t base, size_t size) {
    size_t leaves = size >> PAGEMAP_LEAF_SHIFT;
    RN_ASSERT((base & (((uintptr_t)1 << PAGEMAP_LEAF_SHIFT) - 1)) == 0 && leaves > 0);
    if ((base + size) >> RN_ADDRESS_BITS != 0)
        return -ENOMEM;
    char *tags = os_reserve_zeros(leaves * PAGEMAP_LEAF_PAGES);
    if (!tags)
        return -ENOMEM;
    char *handles = os_reserve_zeros(leaves * PAGEMAP_LEAF_PAGES * sizeof(void *));
    if (!handles) {
        os_discard(tags, leaves * PAGEMAP_LEAF_PAGES);
        return -ENOMEM;
    }
    pagemap_win.base = base;
    pagemap_win.tags = (_Atomic uint8_t *)tags;
    pagemap_win.handles = (_Atomic(void *) *)(void *)handles;
    atomic_store_explicit(&pagemap_win.words, size >> 3, memory_order_relaxed);
    atomic_store_explicit(&pagemap_win.handle_pages, size >> RN_PAGE_SHIFT, memory_order_relaxed);
    if (size >> RN_PAGE_SHIFT == PAGEMAP_WINDOW_PAGES) {
        pagemap_win.whole_tags = pagemap_win.tags;
        atomic_store_explicit(&pagemap_win.whole_base, base, memory_order_relaxed);
    }
    for (size_t i = 0; i < leaves; i++)
        leaf_install((base >> PAGEMAP_LEAF_SHIFT) + i, (uintptr_t)tags + i * PAGEMAP_LEAF_PAGES,
                     pagemap_win.handles + i * PAGEMAP_LEAF_PAGES);
    return 0;
}

/* Of the window's last leaves, in which nothing ever was. */
static size_t handles_shrink(size_t first) {
    size_t leaves = atomic_load_explicit(&pagemap_win.handle_pages, memory_order_relaxed) / PAGEMAP_LEAF_PAGES;
    size_t kept = leaves;
    while (kept > 1 && atomic_load_explicit(&pagemap_leaves[first + kept - 1].committed, memory_order_relaxed) == 0)
        kept--;
    if (kept == leaves)
        return 0;
    atomic_store_explicit(&pagemap_win.handle_pages, kept * PAGEMAP_LEAF_PAGES, memory_order_relaxed);
    for (size_t i = first + kept; i < first + leaves; i++)
        atomic_store_explicit(&pagemap_leaves[i].handles, NULL, memory_order_relaxed);
    size_t size = (leaves - kept) * PAGEMAP_LEAF_PAGES * sizeof(void *);
    os_discard((void *)(uintptr_t)(pagemap_win.handles + kept * PAGEMAP_LEAF_PAGES), size);
    return size;
}

/* As far as no leaf has handles, the window's or others. */
static size_t tags_shrink(size_t first) {
    size_t leaves = atomic_load_explicit(&pagemap_win.words, memory_order_relaxed) >> (PAGEMAP_LEAF_SHIFT - 3);
    size_t kept = leaves;
    while (kept > 1 && !atomic_load_explicit(&pagemap_leaves[first + kept - 1].handles, memory_order_relaxed))
        kept--;
    if (kept == leaves)
        return 0;
    atomic_store_explicit(&pagemap_win.whole_base, PAGEMAP_NO_BASE, memory_order_relaxed);
    atomic_store_explicit(&pagemap_win.words, kept << (PAGEMAP_LEAF_SHIFT - 3), memory_order_relaxed);
    for (size_t i = first + kept; i < first + leaves; i++)
        atomic_store_explicit(&pagemap_tag_root[i], 0, memory_order_relaxed);
    size_t size = (leaves - kept) * PAGEMAP_LEAF_PAGES;
    os_discard((void *)(uintptr_t)(pagemap_win.tags + kept * PAGEMAP_LEAF_PAGES), size);
    return size;
}

/* Only a pointer that is nobody's can be looked up in what is unmapped here. */
size_t pagemap_shrink(bool with_tags) {
    size_t first = pagemap_win.base >> PAGEMAP_LEAF_SHIFT;
    size_t given = handles_shrink(first);
    return given + (with_tags ? tags_shrink(first) : 0);
}

/* A leaf of the window that lost its handles may have its tags. */
static int leaf_create(size_t index) {
    intptr_t tags = atomic_load_explicit(&pagemap_tag_root[index], memory_order_relaxed);
    size_t tags_size = tags ? 0 : PAGEMAP_LEAF_PAGES;
    char *planes = os_reserve_zeros(tags_size + PAGEMAP_LEAF_PAGES * sizeof(void *));
    if (!planes)
        return -ENOMEM;
    uintptr_t at = tags ? (uintptr_t)pagemap_zero_tags + (uintptr_t)tags : (uintptr_t)planes;
    leaf_install(index, at, (_Atomic(void *) *)(void *)(planes + tags_size));
    return 0;
}

/* Commits granule `bit` of a plane that starts at `plane`, unless the note says it is. */
static int granule_commit(_Atomic uint64_t *note, unsigned bit, uintptr_t plane, size_t granule) {
    uint64_t noted = atomic_load_explicit(note, memory_order_relaxed);
    if (noted >> bit & 1)
        return 0;
    if (os_commit((void *)(plane + granule * GRANULE), GRANULE) != 0)
        return -ENOMEM;
    atomic_store_explicit(note, noted | (uint64_t)1 << bit, memory_order_relaxed);
    meta_count(GRANULE);
    return 0;
}

static int leaf_ensure(size_t index, size_t first_page, size_t last_page) {
    if (!atomic_load_explicit(&pagemap_leaves[index].handles, memory_order_relaxed) && leaf_create(index) != 0)
        return -ENOMEM;
    uintptr_t tags = (uintptr_t)pagemap_zero_tags +
                     (uintptr_t)atomic_load_explicit(&pagemap_tag_root[index], memory_order_relaxed);
    uintptr_t handles = (uintptr_t)atomic_load_explicit(&pagemap_leaves[index].handles, memory_order_relaxed);
    for (size_t i = first_page / GRANULE; i <= last_page / GRANULE; i++)
        if (granule_commit(&pagemap_leaves[index].committed, (unsigned)i, tags, i) != 0)
            return -ENOMEM;
    for (size_t i = first_page / GRANULE_PAGES; i <= last_page / GRANULE_PAGES; i++)
        if (granule_commit(&pagemap_leaves[index].committed, 32 + (unsigned)i, handles, i) != 0)
            return -ENOMEM;
    return 0;
}

int pagemap_ensure(uintptr_t start, size_t size) {
    uintptr_t end = start + size;
    while (start < end) {
        size_t index = start >> PAGEMAP_LEAF_SHIFT;
        uintptr_t leaf_end = (index + 1) << PAGEMAP_LEAF_SHIFT;
        uintptr_t last = (end < leaf_end ? end : leaf_end) - 1;
        size_t mask = PAGEMAP_LEAF_PAGES - 1;
        if (leaf_ensure(index, (start >> RN_PAGE_SHIFT) & mask, (last >> RN_PAGE_SHIFT) & mask) != 0)
            return -ENOMEM;
        start = leaf_end;
    }
    return 0;
}

void pagemap_set(uintptr_t start, size_t pages, uint8_t tag, void *handle) {
    while (pages) {
        size_t index = start >> PAGEMAP_LEAF_SHIFT;
        size_t first = (start >> RN_PAGE_SHIFT) & (PAGEMAP_LEAF_PAGES - 1);
        size_t here = min_size(pages, PAGEMAP_LEAF_PAGES - first);
        intptr_t root = atomic_load_explicit(&pagemap_tag_root[index], memory_order_relaxed);
        _Atomic uint8_t *tags = (_Atomic uint8_t *)((uintptr_t)pagemap_zero_tags + (uintptr_t)root + first);
        _Atomic(void *) *handles = atomic_load_explicit(&pagemap_leaves[index].handles, memory_order_relaxed) + first;
        for (size_t i = 0; i < here; i++) {
            atomic_store_explicit(&handles[i], handle, memory_order_relaxed);
            atomic_store_explicit(&tags[i], tag, memory_order_relaxed);
        }
        start += here << RN_PAGE_SHIFT;
        pages -= here;
    }
}

bool pagemap_has(const void *pointer) {
    uintptr_t address = (uintptr_t)pointer;
    if (!pagemap_covers(address))
        return false;
    size_t page = (address >> RN_PAGE_SHIFT) & (PAGEMAP_LEAF_PAGES - 1);
    uint64_t note = atomic_load_explicit(&pagemap_leaves[address >> PAGEMAP_LEAF_SHIFT].committed,
                                         memory_order_relaxed);
    return note >> (32 + page / GRANULE_PAGES) & 1;
}
