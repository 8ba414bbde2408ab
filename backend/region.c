/* region.c: address space, taken from the system a region at a time. */
#include <errno.h>

#include "backend/hugepage.h"
#include "base/fatal.h"
#include "base/os.h"
#include "pagemap/pagemap.h"

enum {
    REGION_FIRST = 1 << 30,   /* address space is free unless it is limited */
    REGION_LIMITED = 4 << 20, /* under RLIMIT_AS */
    REGION_LIMIT_SHARE = 64,  /* of the limit, taken at a time */
    REGION_SCARCE_PART = 4,   /* of what is to be had, where that is less than wanted */
    REGION_SPARE = 5 << 18,   /* for the tables that come with the first under a limit: more than they take */
};
static const size_t REGION_MOST = (size_t)64 << 30;
static const size_t WINDOW_SIZE = (size_t)1 << PAGEMAP_WINDOW_SHIFT;
static const size_t WINDOW_LIMITED = (size_t)1 << 30;

static uintptr_t region_end; /* of the highest region. Under backend_lock */
static bool hugetlb_refused; /* warned once */

/* Where the first region is wanted: far from where the kernel puts libraries and stacks, so that the regions after it
 * fit behind it and the pagemap's window holds them all; at random, as the kernel would. Only a hint. */
static uintptr_t first_hint(void) {
    uintptr_t terabyte = (uintptr_t)1 << 40;
    return 16 * terabyte + ((os_random() >> 20) % 16384 << PAGEMAP_LEAF_SHIFT);
}

static size_t region_size(size_t limit, size_t reserved) {
    if (limit == SIZE_MAX)
        return min_size(max_size(REGION_FIRST, reserved), REGION_MOST);
    return round_up(max_size(REGION_LIMITED, limit / REGION_LIMIT_SHARE), HP_SIZE);
}

bool hugetlb_map(struct hugepage *hp, size_t size, unsigned shift) {
    if (hugetlb_refused)
        return false;
    if (os_map_hugetlb((void *)hp->base, size, shift) == 0)
        return true;
    hugetlb_refused = true;
    struct line line = {.used = 0};
    line_text(&line, "option \"hugetlb\": the system has no such pages to give; ordinary ones are used");
    line_warn(&line);
    return false;
}

/* Backs a whole region by huge pages of 1 GiB, if that is asked for and they are to be had. Holds backend_lock. */
static void hugetlb_region(uintptr_t start, size_t size) {
    const size_t gib = (size_t)1 << 30;
    if (backend_config.hugetlb_mib != gib >> 20 || ((start | size) & (gib - 1)) != 0 ||
        pagemap_ensure(start, size) != 0 || !hugetlb_map(hp_of(start), size, 30))
        return;
    for (uintptr_t at = start; at < start + size; at += HP_SIZE) {
        struct hugepage *hp = hp_of(at);
        hp->committed = HP_PAGES;
        hp->hugetlb = hp->advised = true;
    }
    total_add(&backend_totals.committed, size);
}

/* What was unmapped a moment ago, and may be noted so the next moment only, is forgotten now. Holds backend_lock. */
static void forget_leaving(uintptr_t start, size_t size) {
    for (uintptr_t at = start; at < start + size && total_get(&backend_totals.leaving_hugepages); at += HP_SIZE)
        if (hp_find(at)->state == HP_LEAVING)
            hp_forget(hp_find(at));
}

/* Makes the region known. Holds backend_lock. */
static int region_add(uintptr_t start, size_t size, size_t limit) {
    if ((start + size) >> RN_ADDRESS_BITS != 0)
        return -ENOMEM; /* the pagemap ends here */
    if (pagemap_win.words == 0 && total_get(&backend_totals.mappings) == 0) {
        uintptr_t base = round_down(start, (size_t)1 << PAGEMAP_LEAF_SHIFT);
        (void)pagemap_window(base,
                             limit == SIZE_MAX ? WINDOW_SIZE : WINDOW_LIMITED); /* without it, look-ups are longer */
    }
    if (hp_cover(start, size) != 0)
        return -ENOMEM;
    forget_leaving(start, size);
    hugetlb_region(start, size);
    range_insert(hp_of(start), size >> HP_SHIFT);
    region_end = max_size(region_end, start + size);
    total_add(&backend_totals.reserved, size);
    total_add(&backend_totals.mappings, 1);
    return 0;
}

/* Where the next region is wanted: where an earlier one was given back, else behind the newest. A heap under a limit
 * that grows and shrinks would else wander on, and leave tables behind for every GiB that it came by. Holds the lock.
 */
static uintptr_t region_hint(size_t size) {
    size_t window = atomic_load_explicit(&pagemap_win.words, memory_order_relaxed) << 3;
    uintptr_t hole = 0;
    if (total_get(&backend_totals.retreats))
        hole = hp_find_hole(pagemap_win.base, pagemap_win.base + window, size);
    return hole ? hole : region_end ? region_end : first_hint();
}

/* With room behind it for `spare` bytes more, which are given back at once. */
static char *reserve_beside(uintptr_t hint, size_t size, size_t align, size_t spare) {
    char *start = os_reserve(hint, size + spare, align);
    if (start && spare)
        os_discard(start + size, spare);
    return start;
}

/* The most that the system gives, if not `wanted`, then less and less down to `needed`; and of less than wanted a part
 * only: what is scarce is wanted by others too, the pagemap and the pools first. So under a limit there has to be room
 * for them, unless nothing smaller would do either. Sets *size. */
static void *region_reserve(uintptr_t hint, size_t needed, size_t wanted, size_t align, size_t spare, size_t *size) {
    char *start;
    *size = wanted;
    while ((start = reserve_beside(round_up(hint, align), *size, align, spare)) == NULL) {
        if (*size == needed && spare == 0)
            return NULL;
        if (*size == needed)
            spare = 0;
        else
            *size = max_size(needed, round_up(*size / 2, HP_SIZE));
    }
    size_t kept = max_size(needed, round_up(*size / REGION_SCARCE_PART, HP_SIZE));
    if (*size < wanted && kept < *size && os_unreserve(start + kept, *size - kept) == 0)
        *size = kept;
    return start;
}

int region_grow(size_t needed, size_t align) {
    size_t limit = os_address_limit();
    if (backend_config.hugetlb_mib == 1024)
        align = max_size(align, (size_t)1 << 30);
    size_t wanted = max_size(needed, region_size(limit, total_get(&backend_totals.reserved)));
    size_t size;
    lock_take(&backend_lock);
    size_t spare = limit == SIZE_MAX || pagemap_win.words != 0 ? 0 : REGION_SPARE;
    uintptr_t hint = region_hint(wanted);
    lock_drop(&backend_lock);
    void *start = region_reserve(hint, needed, wanted, align, spare, &size);
    if (!start)
        return -ENOMEM;
    lock_take(&backend_lock);
    int error = region_add((uintptr_t)start, size, limit);
    lock_drop(&backend_lock);
    if (error)
        os_discard(start, size);
    return error;
}
