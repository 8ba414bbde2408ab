#include "backend/backend.h"

#include <errno.h>

#include "backend/hugepage.h"
#include "base/os.h"
#include "pagemap/pagemap.h"

enum {
    SMALL_HEAP = 8 << 20, /* below this much committed: base pages, committed in small steps */
    TAIL_HEAP = 32 << 20, /* from this much in use, the last, partly used hugepage of a big run is a huge page too */
    COMMIT_STEP = 64 << 10,
    AHEAD_SHARE = 8, /* this part of the heap is made writable ahead */
    AHEAD_MOST = 8,  /* hugepages of it, at most */
};

struct lock backend_lock = LOCK_INIT(RANK_BACKEND);
struct backend_totals backend_totals;
struct backend_config backend_config = {.hugepages = true, .release = true, .retain = 4 << 20};

void backend_init(const struct backend_config *config) {
    backend_config = *config;
    release_init();
    backend_config.hugepages = config->hugepages && os_huge_size() == HP_SIZE; /* other sizes: no hugepage policy */
}

/* ---- Commitment ---- */

enum {
    DONATIONS = 32,       /* moves for one run */
    MOVED_MOST = 8 << 10, /* hugepages with a mapping of their own: bounds the process's map count */
};

/* Free resident hugepages whose pages move into a run that would else need fresh ones. */
struct donation {
    struct hugepage *from;
    uintptr_t to;
    size_t length; /* hugepages */
};

/* What has to be done for a run after the lock was dropped. */
struct commit {
    uintptr_t start, end;           /* to be made writable; empty if start == end */
    uintptr_t huge_start, huge_end; /* of it, what gets MADV_HUGEPAGE; the same if nothing does */
    uintptr_t sample;               /* the hugepage whose first fault is timed, or 0 */
    uintptr_t sample_from;          /* not before: others' pages will come there */
    bool may_sample;                /* and in it nothing was, yet */
    size_t hugepages;               /* whole ones of the run behind it, at least 1 */
    struct hugepage *ahead;         /* free ones behind the run, taken until they are writable too; or NULL */
    size_t ahead_length;
    unsigned donations;
    struct donation donation[DONATIONS];
};

/* Not the array: clearing it took longer than most of what follows. */
static void commit_begin(struct commit *plan, size_t pages) {
    plan->hugepages = max_size(pages / HP_PAGES, 1);
    plan->sample_from = 0;
    plan->may_sample = true;
    plan->start = plan->end = plan->sample = 0;
    plan->huge_start = plan->huge_end = 0;
    plan->donations = 0;
    plan->ahead = NULL;
}

/* Those on the move are not free: the child of a fork amid it has them no more. Holds the lock. */
static void count_donors(const struct donation *donation, bool as_free) {
    for (size_t i = 0; i < donation->length; i++) {
        size_t dirty = hp_of(donation->from->base + (i << HP_SHIFT))->dirty_pages;
        total_add(&backend_totals.dirty_free_pages, as_free ? dirty : -dirty);
    }
}

static bool may_donate(size_t hugepages) {
    return backend_config.hugepages && total_get(&backend_totals.moved_hugepages) + hugepages <= MOVED_MOST;
}

/* Finds resident free hugepages for the clean ones that the run [start, start + pages) takes or begins. A page fault
 * costs a hundred times what moving the page costs, and the peak stays that of what is in use. Returns how many
 * pages from `start` to take: more than `pages` where the last hugepage gets another's, which must be nobody's until
 * the move is done. Holds the lock. */
static size_t donate(struct commit *plan, uintptr_t start, size_t pages) {
    uintptr_t end = start + (pages << RN_PAGE_SHIFT);
    uintptr_t given = end;
    size_t clean = 0;
    for (uintptr_t at = round_up(start, HP_SIZE); at < end; at += clean ? clean << HP_SHIFT : HP_SIZE) {
        clean = 0;
        while (at + (clean << HP_SHIFT) < end && hp_of(at + (clean << HP_SHIFT))->dirty_pages == 0)
            clean++;
        if (clean == 0)
            continue;
        size_t length;
        bool may = plan->donations < DONATIONS && may_donate(clean);
        struct hugepage *from = may ? range_take_dirty(clean, &length, true) : NULL;
        if (!from)
            break;
        plan->donation[plan->donations++] = (struct donation){from, at, length};
        count_donors(&plan->donation[plan->donations - 1], false);
        given = max_size(given, at + (length << HP_SHIFT));
        for (size_t i = 0; i < length; i++) {
            struct hugepage *hp = hp_of(at + (i << HP_SHIFT));
            total_add(&backend_totals.moved_hugepages, !hp->moved);
            hp->moved = true;
        }
        clean = length;
    }
    return (given - start) >> RN_PAGE_SHIFT;
}

/* Carries the moves out, without the lock. False if part of the run is lost. */
static bool donations_do(const struct commit *plan, bool committed) {
    bool lost = false;
    for (unsigned i = 0; i < plan->donations; i++) {
        const struct donation *donation = &plan->donation[i];
        int error = -EAGAIN;
        if (committed)
            error = os_move((void *)donation->from->base, (void *)donation->to, donation->length << HP_SHIFT);
        lost = lost || (error && error != -EAGAIN);
        lock_take(&backend_lock);
        count_donors(donation, true);
        if (error)
            range_insert(donation->from, donation->length);
        else
            range_insert_clean(donation->from, donation->length, true);
        lock_drop(&backend_lock);
    }
    return !lost;
}

/* How far beyond its need a hugepage is made writable: all of it where it will be a huge page; in a small heap half as
 * much again as the heap has, since every call costs as much as a page fault. */
static uintptr_t commit_end(const struct hugepage *hp, unsigned last, bool whole) {
    size_t unit = max_size(COMMIT_STEP, os_page_size());
    size_t ahead = max_size(total_get(&backend_totals.committed) / 2, unit);
    size_t bytes = round_up(((size_t)last << RN_PAGE_SHIFT) + ahead - unit, unit);
    return hp->base + (whole ? HP_SIZE : min_size(bytes, HP_SIZE));
}

static bool hugetlb_try(struct hugepage *hp) {
    if (backend_config.hugetlb_mib != HP_SIZE >> 20 || pagemap_ensure(hp->base, HP_SIZE) != 0 ||
        !hugetlb_map(hp, HP_SIZE, HP_SHIFT))
        return false;
    total_add(&backend_totals.committed, (size_t)(HP_PAGES - hp->committed) << RN_PAGE_SHIFT);
    hp->committed = HP_PAGES;
    hp->hugetlb = true;
    return true;
}

/* Adds the pages of `hp` up to `last`, just put in use, to the plan. `was_clean`: nothing of it was resident before. */
static void commit_plan(struct commit *plan, struct hugepage *hp, unsigned last, bool was_clean) {
    size_t used = total_get(&backend_totals.used_pages);
    bool big = used + total_get(&backend_totals.dirty_free_pages) > SMALL_HEAP >> RN_PAGE_SHIFT;
    bool is_tail = last < HP_PAGES && last > HP_PAGES / 8 && used < TAIL_HEAP >> RN_PAGE_SHIFT;
    bool fresh = big && !is_tail && was_clean && !hp->advised;
    bool may_sample = plan->may_sample && plan->donations == 0 && hp->base + HP_SIZE > plan->sample_from;
    bool advise = fresh && backend_config.hugepages && price_is_right(may_sample || plan->sample);
    if ((hp->committed >= last && !advise) || (fresh && hugetlb_try(hp)))
        return;
    uintptr_t start = hp->base + (advise ? 0 : (uintptr_t)hp->committed << RN_PAGE_SHIFT);
    if (plan->start == plan->end)
        plan->start = start;
    plan->end = commit_end(hp, last, advise);
    if (!advise)
        return;
    if (price_sample_due(may_sample, plan->hugepages))
        plan->sample = hp->base;
    plan->may_sample = plan->may_sample && !may_sample;
    if (plan->huge_start == plan->huge_end)
        plan->huge_start = hp->base;
    plan->huge_end = hp->base + HP_SIZE;
    hp->advised = true;
}

/* Notes of [start, end) whether it is to be huge pages. Holds the lock. */
static void advise_note(uintptr_t start, uintptr_t end, bool advised) {
    for (uintptr_t at = start; at < end; at += HP_SIZE)
        hp_of(at)->advised = advised;
}

/* Extends the plan to free hugepages behind it, more of them the larger the heap: each call that changes mappings makes
 * all page faults of the process wait. They are taken until the calls are made: nobody else may unmap them meanwhile.
 * Holds the lock. */
static void commit_ahead(struct commit *plan) {
    size_t most = min_size(total_get(&backend_totals.used_pages) / HP_PAGES / AHEAD_SHARE, AHEAD_MOST);
    if (most == 0 || plan->start == plan->end || plan->end % HP_SIZE != 0 || os_address_limit() != SIZE_MAX)
        return;
    struct hugepage *next = hp_find(plan->end);
    if (!next || next->state != HP_FREE || next->range_dirty != 0)
        return;
    most = min_size(most, next->range_length);
    size_t length = 0;
    while (length < most && hp_of(plan->end + (length << HP_SHIFT))->committed == 0)
        length++;
    if (length == 0 || !range_take_at(plan->end, length))
        return;
    plan->ahead = next;
    plan->ahead_length = length;
    uintptr_t end = plan->end + (length << HP_SHIFT);
    if (plan->huge_end == plan->end) {
        price_count(length);
        advise_note(plan->end, end, true);
        plan->huge_end = end;
    }
    plan->end = end;
}

/* The system refused the plan: perhaps it was too much. Holds the lock. */
static void commit_without_ahead(struct commit *plan) {
    advise_note(plan->ahead->base, plan->end, false);
    plan->end = plan->ahead->base;
    plan->huge_end = min_size(plan->huge_end, plan->end);
    range_insert(plan->ahead, plan->ahead_length);
    plan->ahead = NULL;
}

/* Notes that [start, end) is writable now. Holds backend_lock. */
static void commit_note(const struct commit *plan) {
    for (uintptr_t at = plan->start; at < plan->end; at = round_down(at, HP_SIZE) + HP_SIZE) {
        struct hugepage *hp = hp_of(at);
        uintptr_t end = min_size(plan->end, hp->base + HP_SIZE);
        unsigned pages = (unsigned)((end - hp->base) >> RN_PAGE_SHIFT);
        if (pages <= hp->committed)
            continue;
        total_add(&backend_totals.committed, (size_t)(pages - hp->committed) << RN_PAGE_SHIFT);
        hp->committed = (uint16_t)pages;
    }
}

/* Asks for huge pages in [start, end). If one of them is to be sampled and turns out dear, not for those behind it. */
static void commit_huge(uintptr_t start, uintptr_t end, uintptr_t sample) {
    if (sample) {
        (void)os_advise_huge((void *)start, sample + HP_SIZE - start);
        start = sample + HP_SIZE;
        if (price_take(sample)) {
            lock_take(&backend_lock);
            advise_note(start, end, false);
            lock_drop(&backend_lock);
            return;
        }
    }
    if (end > start)
        (void)os_advise_huge((void *)start, end - start);
}

/* Carries the plan out, without the lock. */
static int commit_do(const struct commit *plan) {
    int error = os_commit((void *)plan->start, plan->end - plan->start);
    if (!error && plan->huge_end)
        commit_huge(plan->huge_start, plan->huge_end, plan->sample);
    return error;
}

/* Makes what the plan says writable, and notes it. */
static int plan_try(const struct commit *plan) {
    if (plan->start == plan->end)
        return 0;
    int error = commit_do(plan);
    if (error)
        return error;
    uintptr_t start = round_down(plan->start, HP_SIZE);
    lock_take(&backend_lock);
    error = pagemap_ensure(start, round_up(plan->end, HP_SIZE) - start);
    if (!error)
        commit_note(plan);
    if (!error && plan->ahead)
        range_insert(plan->ahead, plan->ahead_length);
    lock_drop(&backend_lock);
    return error;
}

static int plan_commit(struct commit *plan) {
    int error = plan_try(plan);
    if (!error || !plan->ahead)
        return error;
    lock_take(&backend_lock);
    commit_without_ahead(plan);
    lock_drop(&backend_lock);
    return plan_try(plan);
}

/* Notes that pages of a run in use are not resident: all of them, or those that never became writable (I6). Holds the
 * lock. */
static void undirty(uintptr_t start, size_t pages, bool all) {
    while (pages) {
        struct hugepage *hp = hp_of(start);
        unsigned first = (unsigned)((start - hp->base) >> RN_PAGE_SHIFT);
        unsigned here = (unsigned)min_size(pages, HP_PAGES - first);
        unsigned from = all ? first : (unsigned)max_size(first, hp->committed);
        if (from < first + here) {
            hp->dirty_pages = (uint16_t)(hp->dirty_pages - bits_count(hp->dirty, from, first + here - from));
            bits_clear(hp->dirty, from, first + here - from);
        }
        start += (uintptr_t)here << RN_PAGE_SHIFT;
        pages -= here;
    }
}

/* Makes the run usable, or gives it back if the system refuses; and gives back the pages behind it that were taken only
 * so that nobody else had them during a donation. Called without the lock. */
static int run_commit(uintptr_t start, size_t pages, size_t taken, struct commit *plan) {
    int error = plan_commit(plan);
    if (plan->donations && !donations_do(plan, error == 0))
        return -ENOMEM; /* and the run stays in use for ever: parts of it belong to somebody else now */
    if (error) {
        lock_take(&backend_lock);
        undirty(start, taken, false);
        lock_drop(&backend_lock);
        pages = 0;
    }
    if (pages < taken)
        backend_free(start + (pages << RN_PAGE_SHIFT), taken - pages);
    return error;
}

/* ---- Runs ---- */

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
    if (os_address_limit() != SIZE_MAX || !may_donate(pages / HP_PAGES))
        return 0;
    struct hugepage *hp = range_take_roomy((pages + HP_PAGES - 1) / HP_PAGES);
    return hp ? hp->base : 0;
}

/* *clean: no page was resident before, and *donated: but some are now. */
static uintptr_t run_alloc(const struct wish *wish, bool *clean, bool *donated) {
    size_t pages = wish->pages;
    if (pages == 0 || pages > SIZE_MAX >> (RN_PAGE_SHIFT + 1) ||
        wish->align > (size_t)1 << (RN_ADDRESS_BITS - RN_PAGE_SHIFT))
        return 0;
    struct commit plan;
    commit_begin(&plan, pages - wish->filled);
    lock_take(&backend_lock);
    uintptr_t start = wish->growing ? run_find_roomy(pages) : 0;
    if (!start)
        start = run_find(wish);
    while (!start) {
        lock_drop(&backend_lock);
        if (wish->packed)
            return 0;
        size_t align_bytes = max_size(wish->align << RN_PAGE_SHIFT, HP_SIZE);
        if (region_grow(round_up(pages << RN_PAGE_SHIFT, HP_SIZE), align_bytes) != 0)
            return 0;
        lock_take(&backend_lock);
        start = run_find(wish);
    }
    size_t taken = pages;
    plan.sample_from = start + (wish->filled << RN_PAGE_SHIFT);
    if (pages >= HP_PAGES || wish->growing)
        taken = wish->filled + donate(&plan, plan.sample_from, pages - wish->filled);
    *clean = run_use(start, taken, wish->owner, &plan);
    *donated = plan.donations != 0;
    if (pages < HP_PAGES)
        commit_ahead(&plan);
    demand_note();
    lock_drop(&backend_lock);
    return run_commit(start, pages, taken, &plan) == 0 ? start : 0;
}

uintptr_t backend_alloc(size_t pages, size_t align, bool *zeroed) {
    bool clean, donated;
    uintptr_t start = run_alloc(&(struct wish){.pages = pages, .align = align}, &clean, &donated);
    *zeroed = start && clean && !donated;
    return start;
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
    return run_alloc(&(struct wish){.pages = pages, .align = 1, .growing = true, .filled = filled}, clean, &donated);
}

/* Clears pages of one hugepage; gathers hugepages that became empty into a range. Holds the lock. */
void backend_free(uintptr_t start, size_t pages) {
    struct hugepage *empty = NULL;
    size_t empties = 0;
    lock_take(&backend_lock);
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

void backend_free_released(uintptr_t start, size_t pages) {
    lock_take(&backend_lock);
    undirty(start, pages, true);
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
    lock_take(&backend_lock);
    bool fits = run_take_after(end, more);
    size_t taken = more;
    if (fits) {
        taken = donate(&plan, end, more);
        (void)run_use(end, taken, 0, &plan);
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
        undirty(from, pages, true);
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

void backend_stats(struct backend_stats *stats) {
    stats->reserved = total_get(&backend_totals.reserved);
    stats->committed = total_get(&backend_totals.committed);
    stats->in_use = backend_in_use();
    stats->free_resident = backend_free_resident();
    stats->released_total = total_get(&backend_totals.released);
    stats->mappings = total_get(&backend_totals.mappings);
}
