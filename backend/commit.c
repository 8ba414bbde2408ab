/* commit.c: makes the memory of a run usable, after the lock was dropped: the system calls of a plan that was made
 * under it. */
#include "backend/commit.h"

#include <errno.h>

#include "base/os.h"
#include "pagemap/pagemap.h"

enum {
    SMALL_HEAP = 8 << 20, /* below this much committed: base pages, committed in small steps */
    TAIL_HEAP = 32 << 20, /* from this much in use, the last, partly used hugepage of a big run is a huge page too */
    COMMIT_STEP = 64 << 10,
    AHEAD_SHARE = 8, /* this part of the heap is made writable ahead */
    AHEAD_MOST = 8,  /* hugepages of it, at most */
};

/* Not the array: clearing it took longer than most of what follows. */
void commit_begin(struct commit *plan, size_t pages) {
    plan->hugepages = max_size(pages / HP_PAGES, 1);
    plan->sample_from = 0;
    plan->may_sample = true;
    plan->block_pages = plan->blocks = 0;
    plan->start = plan->end = plan->sample = 0;
    plan->huge_start = plan->huge_end = 0;
    plan->base_start = plan->base_end = plan->had_end = 0;
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

bool commit_may_donate(size_t hugepages) {
    return backend_config.hugepages && total_get(&backend_totals.moved_hugepages) + hugepages <= MOVED_MOST;
}

size_t commit_donate(struct commit *plan, uintptr_t start, size_t pages) {
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
        bool may = plan->donations < DONATIONS && commit_may_donate(clean);
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
        for (size_t at = 0; !error && at < donation->length << HP_SHIFT; at += HP_SIZE)
            hp_take_advice(hp_of(donation->to + at), hp_of(donation->from->base + at));
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

/* Whether others' pages will come to this place of the run. */
static bool is_target(const struct commit *plan, const struct hugepage *hp) {
    bool target = hp->base + HP_SIZE <= plan->sample_from;
    for (unsigned i = 0; i < plan->donations && !target; i++)
        target = hp->base - plan->donation[i].to < plan->donation[i].length << HP_SHIFT;
    return target;
}

/* Whether the hugepage, of which nothing was resident, shall be huge; plans a sample if that is due. */
static bool plan_price(struct commit *plan, const struct hugepage *hp) {
    /* Only the first of a run: programs write a block from its start, and many never reach its end, which a sample
     * there would make resident. */
    bool may_sample = plan->may_sample && plan->donations == 0;
    plan->may_sample = false;
    if (!price_is_right(may_sample || plan->sample))
        return false;
    if (may_sample && price_sample_due(plan->hugepages))
        plan->sample = hp->base;
    return true;
}

void commit_plan(struct commit *plan, struct hugepage *hp, unsigned last, bool was_clean) {
    size_t used = total_get(&backend_totals.used_pages);
    bool big = used + total_get(&backend_totals.dirty_free_pages) > SMALL_HEAP >> RN_PAGE_SHIFT;
    bool is_tail = last < HP_PAGES && last > HP_PAGES / 8 && used < TAIL_HEAP >> RN_PAGE_SHIFT;
    bool fresh = big && was_clean && !hp->hugetlb && (!is_tail || hp->advised) && !is_target(plan, hp);
    if (fresh && !hp->advised && hugetlb_try(hp))
        return;
    bool huge = fresh && backend_config.hugepages && plan_price(plan, hp);
    bool advise = huge && !hp->advised;
    if (huge && !advise)
        plan->had_end = hp->base + HP_SIZE;
    if (fresh && !huge && hp->advised && hp_forbid(hp, 1)) {
        plan->base_start = plan->base_start ? plan->base_start : hp->base;
        plan->base_end = hp->base + HP_SIZE;
    }
    if (hp->committed >= last && !advise)
        return;
    uintptr_t start = hp->base + (advise ? 0 : (uintptr_t)hp->committed << RN_PAGE_SHIFT);
    if (plan->start == plan->end)
        plan->start = start;
    plan->end = commit_end(hp, last, advise);
    if (!advise)
        return;
    if (plan->huge_start == plan->huge_end)
        plan->huge_start = hp->base;
    plan->huge_end = hp->base + HP_SIZE;
    hp_advise(hp, true);
}

/* Notes of [start, end) whether it is to be huge pages. Holds the lock. */
static void advise_note(uintptr_t start, uintptr_t end, bool advised) {
    for (uintptr_t at = start; at < end; at += HP_SIZE)
        hp_advise(hp_of(at), advised);
}

void commit_ahead(struct commit *plan) {
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

/* A sample was dear: none of what is behind it shall be huge, not even what was to be before. Takes the lock. */
static void commit_base(const struct commit *plan, uintptr_t behind) {
    lock_take(&backend_lock);
    advise_note(max_size(plan->huge_start, behind), plan->huge_end, false);
    bool forbid = behind < plan->had_end && hp_forbid(hp_of(behind), (plan->had_end - behind) >> HP_SHIFT);
    lock_drop(&backend_lock);
    if (forbid)
        (void)os_advise_base((void *)behind, plan->had_end - behind);
}

/* Asks for huge pages where the plan says so. If one of them is to be sampled and turns out dear, not for those behind
 * it. */
static void commit_huge(struct commit *plan) {
    uintptr_t start = plan->huge_start, end = plan->huge_end, behind = plan->sample + HP_SIZE;
    if (plan->base_start != plan->base_end)
        (void)os_advise_base((void *)plan->base_start, plan->base_end - plan->base_start);
    if (plan->sample) {
        if (start < behind && behind <= end) {
            (void)os_advise_huge((void *)start, behind - start);
            start = behind;
        }
        uintptr_t page = max_size(plan->sample, plan->sample_from);
        plan->sample = 0; /* once, also where the plan is tried again */
        if (price_take(page)) {
            commit_base(plan, behind);
            return;
        }
    }
    if (start < end)
        (void)os_advise_huge((void *)start, end - start);
}

/* Makes what the plan says writable, and notes it. */
static int plan_try(struct commit *plan) {
    int error = plan->start == plan->end ? 0 : os_commit((void *)plan->start, plan->end - plan->start);
    if (error)
        return error;
    commit_huge(plan);
    if (plan->start == plan->end)
        return 0;
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

void run_undirty(uintptr_t start, size_t pages, bool all) {
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

void commit_block(struct commit *plan, size_t pages, size_t blocks) {
    plan->block_pages = pages;
    plan->blocks = blocks;
    block_count(pages, blocks);
}

int run_commit(uintptr_t start, size_t pages, size_t taken, struct commit *plan) {
    int error = plan_commit(plan);
    bool lost = plan->donations && !donations_do(plan, error == 0);
    if (error || lost) {
        lock_take(&backend_lock);
        block_count(-plan->block_pages, -plan->blocks);
        if (!lost) {
            advise_note(plan->huge_start, plan->huge_end, false);
            run_undirty(start, taken, false);
        }
        lock_drop(&backend_lock);
        pages = 0;
    }
    if (lost)
        return -ENOMEM; /* and the run stays in use for ever: parts of it belong to somebody else now */
    if (pages < taken)
        backend_free(start + (pages << RN_PAGE_SHIFT), taken - pages);
    return error;
}
