/* hugepage.h: the backend's nouns, in order of containment. Internal to this tier.
 *
 *   region      address space reserved in one call; a multiple of 2 MiB, remembered only by its hugepages
 *   range       a maximal sequence of free hugepages; listed by length (range.c)
 *   hugepage    2 MiB, 256 pages: the unit of packing and of release
 *   run         consecutive pages in one owner's hands; may start anywhere and cover several hugepages
 *
 * Life of a hugepage (all under backend_lock; "dirty" pages may be resident and hold old bytes, the others read as
 * zeros):
 *
 *   reserved --take--> in use (used > 0) --last page freed--> free (used == 0, member of a range) --take--> in use
 *   free or in use --release--> the same, with fewer dirty pages; while the system call runs the pages count as used
 *
 * A hugepage in use with free pages is on the packer's list of its longest free run (packer.c). A full one is on no
 * list. Only the first and the last hugepage of a range know that they are free; for those between, state is HP_NONE.
 */
#ifndef BACKEND_HUGEPAGE_H
#define BACKEND_HUGEPAGE_H

#include "backend/backend.h"

enum {
    HP_SHIFT = 21,
    HP_SIZE = BACKEND_HUGE_SIZE,
    HP_PAGES = HP_SIZE >> RN_PAGE_SHIFT,
    HP_WORDS = HP_PAGES / 64,
};

_Static_assert(HP_SIZE == 1 << HP_SHIFT, "of one size");

enum hp_state {
    HP_NONE = 0, /* not ours, or inside a free range */
    HP_FREE,     /* first or last of a free range */
    HP_USED,     /* at least one page in use */
    HP_LEAVING,  /* being unmapped, and in no range: what is known of it stays true if the kernel refuses */
};

/* All fields under backend_lock. */
struct hugepage {
    uint64_t used[HP_WORDS];  /* 1: in somebody's hands */
    uint64_t dirty[HP_WORDS]; /* 1: may be resident; 0: reads as zeros */
    struct hugepage *next;    /* packer's or range's list */
    struct hugepage *prev;
    uintptr_t base;
    uint32_t range_length; /* hugepages; valid at both ends of a free range. While it leaves: which departure's it is */
    uint32_t range_dirty;  /* of them, those with dirty pages; valid at the first */
    uint16_t used_pages;
    uint16_t dirty_pages;
    uint16_t longest;   /* longest free run, pages */
    uint16_t committed; /* pages from the start that are readable and writable */
    uint8_t state;      /* enum hp_state */
    bool advised;       /* MADV_HUGEPAGE was given for all of it */
    bool split;         /* MADV_NOHUGEPAGE was given: parts were released, or huge pages are dear. Never both */
    bool hugetlb;       /* explicit huge page: never released */
    bool moved;         /* its pages came from elsewhere by mremap: a mapping of its own */
    uint8_t kind;       /* of the runs that keep to it (packer.c), by what came into it first */
};

/* Resident without need while free: what release and donation look for. */
static inline bool hp_is_spare(const struct hugepage *hp) { return hp->dirty_pages != 0 && !hp->hugetlb; }

/* The descriptor of a hugepage of ours; region_add made it. */
struct hugepage *hp_of(uintptr_t address);
/* The same, NULL where nothing of ours is. */
struct hugepage *hp_find(uintptr_t address);
/* Makes descriptors for [start, start + size). 0 or -ENOMEM. */
int hp_cover(uintptr_t start, size_t size);
/* The lowest place in [from, to) where `size` bytes are not ours, 0 if there is none. */
uintptr_t hp_find_hole(uintptr_t from, uintptr_t to, size_t size);

/* Bit runs in a hugepage. */
unsigned bits_count(const uint64_t *bits, unsigned first, unsigned pages);
void bits_set(uint64_t *bits, unsigned first, unsigned pages);
void bits_clear(uint64_t *bits, unsigned first, unsigned pages);
/* The next run of zero bits at or after *first: its start in *first, its length returned; 0 if there is none. */
unsigned bits_next_clear(const uint64_t *bits, unsigned *first);
/* The length of the longest run of zero bits. */
unsigned bits_longest_clear(const uint64_t *bits);
/* The length of the run of zero bits that `at` lies in. */
unsigned bits_clear_around(const uint64_t *bits, unsigned at);

/* packer.c: hugepages in use with free pages. */
void packer_insert(struct hugepage *hp);
void packer_remove(struct hugepage *hp);
/* The kind of a hugepage into which the owner's `pages` come first. */
unsigned packer_kind(unsigned pages, unsigned owner);
/* The fullest hugepage that fits a run of `pages` of the owner's, and where; NULL if none. */
struct hugepage *packer_find(unsigned pages, unsigned align, unsigned owner, unsigned *first);
void hp_use(struct hugepage *hp, unsigned first, unsigned pages);
/* Returns true if the hugepage has become empty. */
bool hp_unuse(struct hugepage *hp, unsigned first, unsigned pages);
/* For release: some hugepage on the packer's lists with dirty free pages, emptiest first; NULL if none. */
struct hugepage *packer_dirtiest(void);
/* Free runs in the hugepages on the packer's lists. */
size_t packer_runs(void);
/* Debug: checks the lists and their counts (I18). */
void packer_check(void);

/* region.c: takes at least `needed` bytes of address space, aligned to `align`, into the free ranges. Called without
 * the lock: reserving may wait for the kernel's own. Two threads may both come here; the second region serves later. */
int region_grow(size_t needed, size_t align);
/* Makes a hugepage that nothing was ever resident in an explicit huge page, or warns once that there are none. Holds
 * the lock: the mapping replaces all of it, and page 0 may be in use the next moment. It touches no memory, so it is
 * quick. */
bool hugetlb_map(struct hugepage *hp, size_t size, unsigned shift);

/* range.c: free hugepages. */
void range_insert(struct hugepage *first, size_t length);
size_t range_count(void);
/* Takes `length` hugepages, aligned to `align` hugepages, best fit, resident ones first; NULL if none fit. */
struct hugepage *range_take(size_t length, size_t align);
/* Takes `length` hugepages inside a long free range, so that what stands before them, and they, can grow in
 * place; NULL if there is no such range. */
struct hugepage *range_take_roomy(size_t length);
/* Takes some free range, the shortest first, of at most `most` hugepages; sets *length; NULL if there is none. */
struct hugepage *range_take_any(size_t most, size_t *length);
/* Takes exactly these hugepages, if all are free. The hugepage before `start` is in use. */
bool range_take_at(uintptr_t start, size_t length);
/* Takes up to `most` consecutive spare free hugepages, `whole`: each writable throughout; sets *length; NULL if none.
 */
struct hugepage *range_take_dirty(size_t most, size_t *length, bool whole);

/* Totals, under backend_lock for writing, relaxed for reading. */
extern struct backend_totals {
    /* What callers ask for: in one cache line. */
    _Atomic size_t used_pages;        /* in use */
    _Atomic size_t dirty_free_pages;  /* free but maybe resident */
    _Atomic size_t fresh_pages;       /* put in use when they were not resident, since the start */
    _Atomic size_t peak_pages;        /* most in use within the recent past (release.c) */
    _Atomic size_t spare_hugepages;   /* members of ranges that have resident pages */
    _Atomic size_t free_hugepages;    /* members of ranges */
    _Atomic size_t moved_hugepages;   /* whose pages came from elsewhere */
    _Atomic size_t split_hugepages;   /* that MADV_NOHUGEPAGE was given for */
    _Atomic size_t leaving_hugepages; /* HP_LEAVING */
    _Atomic size_t block_pages;       /* of those in use, blocks' (I19) */
    _Atomic size_t blocks;
    _Atomic size_t reserved;
    _Atomic size_t committed;
    _Atomic size_t released;
    _Atomic size_t mappings;
    _Atomic size_t retreats; /* ranges given back with their address space */
} RN_ALIGNED(RN_CACHE_LINE) backend_totals;

static inline void total_add(_Atomic size_t *total, size_t value) {
    atomic_store_explicit(total, atomic_load_explicit(total, memory_order_relaxed) + value, memory_order_relaxed);
}

/* Pages of blocks, and blocks, more or, wrapped, fewer (I19). Holds the lock. */
static inline void block_count(size_t pages, size_t blocks) {
    total_add(&backend_totals.block_pages, pages);
    total_add(&backend_totals.blocks, blocks);
}

static inline size_t total_get(_Atomic size_t *total) { return atomic_load_explicit(total, memory_order_relaxed); }

extern struct backend_config backend_config;

/* Notes of a hugepage that MADV_HUGEPAGE is given for all of it, or of `length` of them that MADV_NOHUGEPAGE is: false
 * if there are too many such already. And that a hugepage has the mapping of another now, which was moved to it. Under
 * backend_lock. */
void hp_advise(struct hugepage *hp, bool advised);
bool hp_forbid(struct hugepage *first, size_t length);
void hp_take_advice(struct hugepage *hp, const struct hugepage *from);
/* Notes whether parts of it have MADV_NOHUGEPAGE, and counts. */
void hp_set_split(struct hugepage *hp, bool split);

/* price.c: whether a fresh hugepage shall be a huge page; `sampled`: it may be a sample, or stands behind one in its
 * run. And whether it is time to sample what one costs, in a run of so many whole hugepages. Under backend_lock. */
bool price_is_right(bool sampled);
bool price_sample_due(size_t hugepages);
/* Faults a fresh huge page in at `page`, as its owner is about to do anyway. Returns whether that was dear. Takes
 * backend_lock. */
bool price_take(uintptr_t page);

/* release.c: puts free hugepages whose pages are gone back among the free ones. */
void range_insert_clean(struct hugepage *first, size_t length, bool still_committed);

/* release.c: a hugepage that was leaving is not there any more. Under backend_lock. */
void hp_forget(struct hugepage *hp);

/* release.c: from now on. */
void release_init(void);

/* release.c: notes the demand after an allocation. */
void demand_note(void);

#endif
