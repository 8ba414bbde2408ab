#include "backend/backend.h"

#include <errno.h>

#include "backend/commit.h"
#include "base/os.h"
#include "pagemap/pagemap.h"

struct lock backend_lock = LOCK_INIT(RANK_BACKEND);
struct backend_totals backend_totals;
struct backend_config backend_config = {.hugepages = true, .release = true, .retain = 4 << 20};

void backend_init(const struct backend_config *config) {
    backend_config = *config;
    release_init();
    backend_config.hugepages = config->hugepages && os_huge_size() == HP_SIZE; /* other sizes: no hugepage policy */
}

/* Puts a run in use that starts at page `first` of its first hugepage and covers the free pages behind it. Holds the
 * lock. Returns whether none of it is resident: donations apart, it reads as zeros. */
static bool run_use(uintptr_t start, size_t pages, unsigned owner, struct commit *plan) {
    bool clean = true;
    while (pages) {
        struct hugepage *hp = hp_of(start);
        unsigned first = (unsigned)((start - hp->base) >> RN_PAGE_SHIFT);
        unsigned here = (unsigned)min_size(pages, HP_PAGES - first);
        bool was_clean = hp->dirty_pages == 0;
        clean = clean && bits_count(hp->dirty, first, here) == 0;
        if (hp->used_pages == 0)
            hp->kind = (uint8_t)packer_kind(here, owner);
        hp_use(hp, first, here);
        commit_plan(plan, hp, first + here, was_clean);
        start += (uintptr_t)here << RN_PAGE_SHIFT;
        pages -= here;
    }
    return clean;
}

/* How a run is wanted. */
struct wish {
    size_t pages;
    size_t align;
    unsigned owner; /* 0: nobody in particular */
    bool growing;   /* in a roomy place */
    bool packed;    /* in a hugepage that is in use already, or not at all */
    bool resident;  /* and then in a place that was resident before, or not at all */
    bool block;     /* counted as one */
    size_t filled;  /* pages at its start that the caller will move others to: a multiple of HP_PAGES */
};

/* Finds a place for the run. Holds the lock. 0 if there is none. */
static uintptr_t run_find(const struct wish *wish) {
    size_t pages = wish->pages, align = wish->align;
    if (pages < HP_PAGES && align < HP_PAGES) {
        unsigned first;
        struct hugepage *hp = packer_find((unsigned)pages, (unsigned)align, wish->owner, &first);
        if (hp && wish->resident && bits_count(hp->dirty, first, (unsigned)pages) == 0)
            return 0;
        if (hp)
            return hp->base + ((uintptr_t)first << RN_PAGE_SHIFT);
    }
    if (wish->packed)
        return 0;
    struct hugepage *hp = range_take((pages + HP_PAGES - 1) / HP_PAGES, max_size(align / HP_PAGES, 1));
    return hp ? hp->base : 0;
}

/* The same for a block that has grown before and so will again: address space costs nothing, copying does. Only while
 * donations keep the memory it leaves behind in use. */
static uintptr_t run_find_roomy(size_t pages) {
    if (os_address_limit() != SIZE_MAX || !commit_may_donate(pages / HP_PAGES))
        return 0;
    struct hugepage *hp = range_take_roomy((pages + HP_PAGES - 1) / HP_PAGES);
    return hp ? hp->base : 0;
}

/* Of a found run that the system refused: gives it back, and is true, if so much of it is yet to be made writable as
 * the system is asked about. Holds the lock. An absurd size is refused, as mmap(2) would refuse it, before tables for
 * it are made; but a refusal says nothing of memory that is there already. */
static bool give_up_refused(uintptr_t start, size_t pages) {
    size_t more = 0;
    uintptr_t whole = round_up(start, HP_SIZE), end = round_up(start + (pages << RN_PAGE_SHIFT), HP_SIZE);
    for (uintptr_t at = round_down(start, HP_SIZE); at < end; at += HP_SIZE)
        more += HP_PAGES - hp_of(at)->committed;
    if (more < OS_ASK_FROM >> RN_PAGE_SHIFT)
        return false;
    range_insert(hp_of(whole), (end - whole) >> HP_SHIFT);
    return true;
}

/* *clean: no page was resident before, and *donated: but some are now. */
static uintptr_t run_alloc(const struct wish *wish, bool *clean, bool *donated) {
    size_t pages = wish->pages;
    if (pages == 0 || pages > SIZE_MAX >> (RN_PAGE_SHIFT + 1) ||
        wish->align > (size_t)1 << (RN_ADDRESS_BITS - RN_PAGE_SHIFT))
        return 0;
    struct commit plan;
    commit_begin(&plan, pages - wish->filled);
    bool refused = os_is_too_much(pages << RN_PAGE_SHIFT);
    lock_take(&backend_lock);
    uintptr_t start = wish->growing ? run_find_roomy(pages) : 0;
    if (!start)
        start = run_find(wish);
    while (!start) {
        lock_drop(&backend_lock);
        if (wish->packed || refused)
            return 0;
        size_t align_bytes = max_size(wish->align << RN_PAGE_SHIFT, HP_SIZE);
        if (region_grow(round_up(pages << RN_PAGE_SHIFT, HP_SIZE), align_bytes) != 0)
            return 0;
        lock_take(&backend_lock);
        start = run_find(wish);
    }
    if (refused && give_up_refused(start, pages)) {
        lock_drop(&backend_lock);
        return 0;
    }
    size_t taken = pages;
    plan.sample_from = start + (wish->filled << RN_PAGE_SHIFT);
    if (pages >= HP_PAGES || wish->growing)
        taken = wish->filled + commit_donate(&plan, plan.sample_from, pages - wish->filled);
    *clean = run_use(start, taken, wish->owner, &plan);
    *donated = plan.donations != 0;
    if (wish->block)
        commit_block(&plan, pages, 1);
    if (pages < HP_PAGES)
        commit_ahead(&plan);
    demand_note();
    lock_drop(&backend_lock);
    return run_commit(start, pages, taken, &plan) == 0 ? start : 0;
}

static uintptr_t alloc_zeroed(const struct wish *wish, bool *zeroed) {
    bool clean, donated;
    uintptr_t start = run_alloc(wish, &clean, &donated);
    *zeroed = start && clean && !donated;
    return start;
}

uintptr_t backend_alloc(size_t pages, size_t align, bool *zeroed) {
    return alloc_zeroed(&(struct wish){.pages = pages, .align = align}, zeroed);
}

uintptr_t backend_alloc_block(size_t pages, size_t align, bool *zeroed) {
    return alloc_zeroed(&(struct wish){.pages = pages, .align = align, .block = true}, zeroed);
}

uintptr_t backend_alloc_owned(size_t pages, unsigned owner) {
    bool clean, donated;
    struct wish wish = {.pages = pages, .align = 1, .owner = owner};
    uintptr_t start = run_alloc(&wish, &clean, &donated);
    wish.owner = 0; /* it may have been refused what others have free */
    return start || owner == 0 ? start : run_alloc(&wish, &clean, &donated);
}

uintptr_t backend_alloc_packed(size_t pages, unsigned owner, bool *new_memory) {
    bool clean, donated;
    struct wish wish = {.pages = pages, .align = 1, .owner = owner, .packed = true};
    uintptr_t start = run_alloc(&wish, &clean, &donated);
    *new_memory = !start || clean;
    return start;
}

uintptr_t backend_alloc_resident(size_t pages, unsigned owner) {
    bool clean, donated;
    struct wish wish = {.pages = pages, .align = 1, .owner = owner, .packed = true, .resident = true};
    return run_alloc(&wish, &clean, &donated);
}

uintptr_t backend_alloc_growing(size_t pages, size_t filled, bool *clean) {
    bool donated;
    struct wish wish = {.pages = pages, .align = 1, .growing = true, .filled = filled, .block = true};
    return run_alloc(&wish, clean, &donated);
}

/* Clears pages of one hugepage after the other; gathers those that became empty into a range. Of the pages and of
 * blocks so many were counted as such. */
static void run_free(uintptr_t start, size_t pages, size_t block_pages, size_t blocks) {
    struct hugepage *empty = NULL;
    size_t empties = 0;
    lock_take(&backend_lock);
    block_count(-block_pages, -blocks);
    while (pages) {
        struct hugepage *hp = hp_of(start);
        unsigned first = (unsigned)((start - hp->base) >> RN_PAGE_SHIFT);
        unsigned here = (unsigned)min_size(pages, HP_PAGES - first);
        start += (uintptr_t)here << RN_PAGE_SHIFT;
        pages -= here;
        if (hp_unuse(hp, first, here)) {
            hp->state = HP_NONE;
            empty = empty ? empty : hp;
            empties++;
        } else if (empties) { /* only a run's ends are parts of hugepages: this is the last */
            range_insert(empty, empties);
            empties = 0;
            empty = NULL;
        }
    }
    if (empties)
        range_insert(empty, empties);
    lock_drop(&backend_lock);
}

void backend_free(uintptr_t start, size_t pages) { run_free(start, pages, 0, 0); }

void backend_free_block(uintptr_t start, size_t pages) { run_free(start, pages, pages, 1); }

void backend_shrink(uintptr_t start, size_t pages, size_t kept) {
    run_free(start + (kept << RN_PAGE_SHIFT), pages - kept, pages - kept, 0);
}

void backend_lose_block(size_t pages) {
    lock_take(&backend_lock);
    block_count(-pages, (size_t)-1);
    lock_drop(&backend_lock);
}

void backend_free_released(uintptr_t start, size_t pages) {
    lock_take(&backend_lock);
    run_undirty(start, pages, true);
    lock_drop(&backend_lock);
    backend_free(start, pages);
}

/* Whether `pages` pages from `start`, which follow a run in use, are free; takes the whole hugepages among them. Holds
 * the lock. */
static bool run_take_after(uintptr_t start, size_t pages) {
    unsigned first = (unsigned)((start & (HP_SIZE - 1)) >> RN_PAGE_SHIFT);
    size_t here = first ? min_size(pages, HP_PAGES - first) : 0;
    if (here) {
        unsigned at = first;
        if (bits_next_clear(hp_of(start)->used, &at) < here || at != first)
            return false;
    }
    size_t rest = pages - here;
    return rest == 0 || range_take_at(start + (here << RN_PAGE_SHIFT), (rest + HP_PAGES - 1) / HP_PAGES);
}

int backend_extend(uintptr_t start, size_t pages, size_t wanted) {
    uintptr_t end = start + (pages << RN_PAGE_SHIFT);
    size_t more = wanted - pages;
    struct commit plan;
    commit_begin(&plan, more);
    if (more > SIZE_MAX >> (RN_PAGE_SHIFT + 1))
        return -ENOMEM;
    bool refused = os_is_too_much(more << RN_PAGE_SHIFT);
    lock_take(&backend_lock);
    plan.sample_from = end;
    bool fits = run_take_after(end, more) && !(refused && give_up_refused(end, more));
    size_t taken = more;
    if (fits) {
        taken = commit_donate(&plan, end, more);
        (void)run_use(end, taken, 0, &plan);
        commit_block(&plan, more, 0);
    }
    demand_note();
    lock_drop(&backend_lock);
    return fits ? run_commit(end, more, taken, &plan) : -ENOMEM;
}

int backend_move(uintptr_t from, uintptr_t to, size_t pages) {
    lock_take(&backend_lock);
    bool may = total_get(&backend_totals.moved_hugepages) < MOVED_MOST;
    for (uintptr_t at = round_down(to, HP_SIZE); may && at < to + (pages << RN_PAGE_SHIFT); at += HP_SIZE) {
        struct hugepage *hp = hp_of(at);
        total_add(&backend_totals.moved_hugepages, !hp->moved);
        hp->moved = true;
    }
    lock_drop(&backend_lock);
    if (!may)
        return -EAGAIN;
    int error = os_move((void *)from, (void *)to, pages << RN_PAGE_SHIFT);
    if (!error) {
        lock_take(&backend_lock);
        for (size_t at = 0; at < pages << RN_PAGE_SHIFT; at += HP_SIZE)
            hp_take_advice(hp_of(to + at), hp_of(from + at));
        run_undirty(from, pages, true);
        lock_drop(&backend_lock);
    }
    return error;
}

bool backend_owns(const void *pointer) {
    struct hugepage *hp = hp_find((uintptr_t)pointer);
    return hp && (hp->state != HP_NONE || hp->base != 0);
}

size_t backend_in_use(void) { return total_get(&backend_totals.used_pages) << RN_PAGE_SHIFT; }

size_t backend_fresh(void) { return total_get(&backend_totals.fresh_pages) << RN_PAGE_SHIFT; }

size_t backend_free_resident(void) { return total_get(&backend_totals.dirty_free_pages) << RN_PAGE_SHIFT; }

size_t backend_spare_hugepages(void) { return total_get(&backend_totals.spare_hugepages); }

size_t backend_free_runs(void) {
    lock_take(&backend_lock);
    size_t runs = packer_runs() + range_count();
    lock_drop(&backend_lock);
    return runs;
}

void backend_stats(struct backend_stats *stats) {
    lock_take(&backend_lock); /* of these each is changed with the others */
    stats->in_use = backend_in_use();
    stats->block_bytes = total_get(&backend_totals.block_pages) << RN_PAGE_SHIFT;
    stats->blocks = total_get(&backend_totals.blocks);
    stats->free_resident = backend_free_resident();
    lock_drop(&backend_lock);
    stats->reserved = total_get(&backend_totals.reserved);
    stats->committed = total_get(&backend_totals.committed);
    stats->released_total = total_get(&backend_totals.released);
    stats->mappings = total_get(&backend_totals.mappings);
}
