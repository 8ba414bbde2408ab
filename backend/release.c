/* release.c: gives memory back, gradually, whole hugepages first, as recent demand allows.
 *
 * Demand is the most pages in use in each of the last SLOTS slots of SLOT_MS. What is free and resident beyond the
 * greatest of them, and some slack, is excess; a step gives back a share of it, so a burst that returns within the
 * window finds its memory in place. When PHASE_FACTOR times as much as is in use is free, and phase_keep on top, that
 * is taken for the end of a phase and given back at once: a process with one thread may not come by here again. If the
 * demand returns soon, that was a mistake, and phase_keep doubles: released memory that is needed again soon costs more
 * than anything else here. So a phase's end may also give back no more than PHASE_RATE for each millisecond since the
 * last one (or since the start): a program whose heap swings many times a second is left alone, and what a mistake
 * costs stays a few percent of its time.
 *
 * All that follows the clock. What follows the heap: where runs do not fit into what is free, and fresh pages become
 * resident while there is excess of a higher bound, as much is given back at once, parts of hugepages too. So a peak is
 * that of demand and the slack, however the free pages lie, and the cost is in proportion to faults that happen anyway.
 */
#include "backend/hugepage.h"
#include "base/os.h"
#include "pagemap/pagemap.h"

enum {
    SLOTS = 8,
    SLOT_MS = 500,
    STEP_MS = 100,
    STEP_SHARE = 4,   /* a step returns this part of the excess */
    STEP_HPS = 4,     /* and at least as many hugepages */
    CALL_HPS = 16,    /* hugepages given back by one system call: 2 ms of it */
    RETRY_MS = 10000, /* after a refusal (locked memory) */
    LIMIT_SHARE = 16, /* of RLIMIT_AS may stay reserved without use */
    LIMIT_KEEP = 8 << 20,
    SLACK_SHARE = 8, /* of the demand, for what fragmentation keeps from being used */
    REGRET_MS = 3000,
    GROWTH_PAGES = 64,  /* fresh pages that are worth a look */
    GROWTH_SLACK = 16,  /* a part of the demand, on top of the slack: at the bound itself what is given back is soon
                           needed again */
    GROWTH_MOST = 2048, /* and that are matched at a time: 16 MiB */
    PHASE_FACTOR = 3,   /* free pages for each used one at which a phase has ended */
    PHASE_RATE = 32,    /* pages per millisecond: a hugepage in 8 ms, and faulting it again takes 0.1 to 1 ms */
};

struct lock backend_release_lock = LOCK_INIT(RANK_RELEASE);

static _Atomic size_t slot_now; /* written under backend_lock */
static bool unmap_refused;      /* at the last retreat. Under backend_lock */

/* Under backend_release_lock. */
static size_t slots[SLOTS];
static unsigned slot_index;
static uint64_t slot_began, step_last, refused_at, phase_at;
static _Atomic uint64_t credit_since; /* the phases' ends so far have used up what the time before allows */
static _Atomic size_t phase_keep_pages = (size_t)64 << (20 - RN_PAGE_SHIFT);
static size_t phase_demand;
static _Atomic size_t fresh_seen;  /* of the fresh pages, those that growth has been matched for */
static _Atomic uint64_t next_look; /* before, no step is due but for the end of a phase */

void release_init(void) { atomic_store_explicit(&credit_since, os_now_ms(), memory_order_relaxed); }

void demand_note(void) {
    size_t used = total_get(&backend_totals.used_pages);
    if (used > total_get(&slot_now)) {
        atomic_store_explicit(&slot_now, used, memory_order_relaxed);
        if (used > total_get(&backend_totals.peak_pages))
            atomic_store_explicit(&backend_totals.peak_pages, used, memory_order_relaxed);
    }
}

/* Closes slots whose time is over, and returns the greatest demand of those that remain. */
static size_t demand_roll(uint64_t now) {
    if (now - slot_began >= SLOT_MS) {
        lock_take(&backend_lock);
        size_t most = total_get(&slot_now);
        size_t used = total_get(&backend_totals.used_pages);
        atomic_store_explicit(&slot_now, used, memory_order_relaxed);
        lock_drop(&backend_lock);
        for (uint64_t passed = min_size((now - slot_began) / SLOT_MS, SLOTS); passed > 0; passed--) {
            slot_index = (slot_index + 1) % SLOTS;
            slots[slot_index] = most;
            most = used; /* slots in which nobody looked */
        }
        slot_began = now;
    }
    size_t peak = total_get(&slot_now);
    for (int i = 0; i < SLOTS; i++)
        peak = max_size(peak, slots[i]);
    atomic_store_explicit(&backend_totals.peak_pages, peak, memory_order_relaxed);
    return peak;
}

static size_t excess_pages(size_t peak) {
    size_t used = total_get(&backend_totals.used_pages);
    size_t resident = used + total_get(&backend_totals.dirty_free_pages);
    size_t keep = max_size(peak + peak / SLACK_SHARE, used) + (backend_config.retain >> RN_PAGE_SHIFT);
    return resident > keep ? resident - keep : 0;
}

size_t backend_demand(void) { return total_get(&backend_totals.peak_pages) << RN_PAGE_SHIFT; }

size_t backend_excess(void) { return excess_pages(total_get(&backend_totals.peak_pages)) << RN_PAGE_SHIFT; }

void range_insert_clean(struct hugepage *first, size_t length, bool still_committed) {
    for (size_t i = 0; i < length; i++) {
        struct hugepage *hp = hp_of(first->base + (i << HP_SHIFT));
        total_add(&backend_totals.dirty_free_pages, -(size_t)hp->dirty_pages);
        hp->dirty_pages = 0;
        hp->advised = hp->advised && still_committed;
        hp_set_split(hp, false);
        for (int w = 0; w < HP_WORDS; w++)
            hp->dirty[w] = 0;
        if (!still_committed) {
            total_add(&backend_totals.committed, -((size_t)hp->committed << RN_PAGE_SHIFT));
            hp->committed = 0;
        }
    }
    range_insert(first, length);
}

/* Between two system calls: whoever waits for the lock, such as a fork, need not wait for all of them. */
static void pause_release(void) {
    lock_drop(&backend_release_lock);
    lock_take(&backend_release_lock);
}

/* Gives back up to `want` bytes of free hugepages. Holds backend_release_lock. */
static size_t release_whole(size_t want) {
    size_t released = 0;
    while (released < want) {
        size_t length;
        lock_take(&backend_lock);
        struct hugepage *first = range_take_dirty(min_size(CALL_HPS, (want - released + HP_SIZE - 1) >> HP_SHIFT),
                                                  &length, false);
        lock_drop(&backend_lock);
        if (!first)
            break;
        bool still_committed;
        int error = os_release((void *)first->base, length << HP_SHIFT, &still_committed);
        lock_take(&backend_lock);
        size_t before = total_get(&backend_totals.dirty_free_pages);
        if (error)
            range_insert(first, length);
        else
            range_insert_clean(first, length, still_committed);
        size_t bytes = (before - total_get(&backend_totals.dirty_free_pages)) << RN_PAGE_SHIFT;
        total_add(&backend_totals.released, bytes);
        released += bytes;
        lock_drop(&backend_lock);
        if (error) {
            refused_at = os_now_ms() | 1;
            break;
        }
        pause_release();
    }
    return released;
}

/* The next run of free dirty pages in the hugepage, in whole kernel pages; 0 if there is none. */
static unsigned dirty_run(const struct hugepage *hp, unsigned *first) {
    uint64_t blocked[HP_WORDS];
    for (int w = 0; w < HP_WORDS; w++)
        blocked[w] = hp->used[w] | ~hp->dirty[w];
    unsigned unit = (unsigned)max_size(os_page_size() >> RN_PAGE_SHIFT, 1);
    unsigned length;
    for (unsigned at = *first; (length = bits_next_clear(blocked, &at)) != 0; at += length) {
        unsigned start = (unsigned)round_up(at, unit);
        unsigned end = (unsigned)round_down(at + length, unit);
        if (end > start) {
            *first = start;
            return end - start;
        }
    }
    return 0;
}

/* Gives back the free pages of one hugepage that is in use elsewhere. They count as used meanwhile. Holds
 * backend_release_lock, and backend_lock on entry and return. */
static size_t release_parts(struct hugepage *hp, bool *refused) {
    size_t released = 0;
    unsigned first = 0;
    unsigned pages;
    while (!*refused && (pages = dirty_run(hp, &first)) != 0) {
        hp_use(hp, first, pages);
        bool advise = !hp->split && backend_config.hugepages && hp_forbid(hp, 1);
        uintptr_t base = hp->base;
        size_t committed = (size_t)hp->committed << RN_PAGE_SHIFT;
        lock_drop(&backend_lock);
        if (advise) /* else khugepaged would fill the hole again */
            (void)os_advise_base((void *)base, committed);
        bool still_committed;
        *refused = os_release((void *)(base + ((uintptr_t)first << RN_PAGE_SHIFT)), (size_t)pages << RN_PAGE_SHIFT,
                              &still_committed) != 0;
        lock_take(&backend_lock);
        bool empty = hp_unuse(hp, first, pages);
        if (!*refused) {
            bits_clear(hp->dirty, first, pages);
            hp->dirty_pages = (uint16_t)(hp->dirty_pages - pages);
            total_add(&backend_totals.dirty_free_pages, -(size_t)pages);
            total_add(&backend_totals.released, (size_t)pages << RN_PAGE_SHIFT);
            released += (size_t)pages << RN_PAGE_SHIFT;
        }
        if (empty) {
            hp->state = HP_NONE;
            range_insert(hp, 1);
            break;
        }
        first += pages;
    }
    return released;
}

static size_t release_deep(size_t want) {
    size_t released = 0;
    bool refused = false;
    if (os_strict_commit())
        return 0; /* parts that lost their commitment cannot be noted */
    while (released < want && !refused) {
        lock_take(&backend_lock);
        struct hugepage *hp = packer_dirtiest();
        size_t got = hp ? release_parts(hp, &refused) : 0;
        lock_drop(&backend_lock);
        if (got == 0)
            break; /* nothing left, or less than a kernel page here, and so in all that follow */
        released += got;
        pause_release();
    }
    if (refused)
        refused_at = os_now_ms() | 1;
    return released;
}

/* Gives back up to `want` bytes, `deep`: also parts of hugepages. Holds backend_release_lock. */
static size_t release_bytes(size_t want, bool deep) {
    size_t released = release_whole(want);
    return deep && released < want ? released + release_deep(want - released) : released;
}

size_t backend_release(size_t keep, bool deep) {
    lock_take(&backend_release_lock);
    size_t resident = total_get(&backend_totals.dirty_free_pages) << RN_PAGE_SHIFT;
    size_t released = resident > keep ? release_bytes(resident - keep, deep) : 0;
    lock_drop(&backend_release_lock);
    return released;
}

static uint32_t departures; /* Under backend_lock */

/* Counts what is known of a hugepage, `sign` 1, or no longer, -1. */
static void account(const struct hugepage *hp, size_t sign) {
    total_add(&backend_totals.reserved, sign << HP_SHIFT);
    total_add(&backend_totals.leaving_hugepages, -sign);
    total_add(&backend_totals.dirty_free_pages, sign * hp->dirty_pages);
    total_add(&backend_totals.committed, sign * hp->committed << RN_PAGE_SHIFT);
    total_add(&backend_totals.moved_hugepages, sign * hp->moved);
    total_add(&backend_totals.split_hugepages, sign * hp->split);
}

/* Hugepages are about to be unmapped. Should the kernel refuse, what is known of them stays true, since nobody else can
 * have come to lie there; so they keep it, and a number by which they are known again. Holds backend_lock. */
static uint32_t depart(uintptr_t start, size_t length) {
    departures++;
    for (size_t i = 0; i < length; i++) {
        struct hugepage *hp = hp_of(start + (i << HP_SHIFT));
        account(hp, -(size_t)1);
        hp->state = HP_LEAVING;
        hp->range_length = departures;
    }
    return departures;
}

/* No mapping can be split, or a sandbox refuses. Holds backend_lock. */
static void come_back(uintptr_t start, size_t length) {
    for (size_t i = 0; i < length; i++) {
        struct hugepage *hp = hp_of(start + (i << HP_SHIFT));
        account(hp, 1);
        hp->state = HP_NONE;
    }
    range_insert(hp_of(start), length);
}

void hp_forget(struct hugepage *hp) {
    total_add(&backend_totals.leaving_hugepages, -(size_t)1);
    total_add(&backend_totals.released, (size_t)hp->dirty_pages << RN_PAGE_SHIFT);
    *hp = (struct hugepage){.state = HP_NONE};
}

/* They are unmapped. Others may be mapped there by now, and even be leaving. Holds backend_lock. */
static void be_gone(uintptr_t start, size_t length, uint32_t number) {
    for (size_t i = 0; i < length; i++) {
        struct hugepage *hp = hp_find(start + (i << HP_SHIFT));
        if (hp->state == HP_LEAVING && hp->range_length == number)
            hp_forget(hp);
    }
    total_add(&backend_totals.retreats, 1);
}

/* Takes free hugepages and gives them back with their address space. Returns its size; 0: none left, or refused.
 * The call is made without the lock, as it may take long; but not after a refusal, since nobody finds what is free
 * there meanwhile. */
static size_t retreat_once(size_t keep) {
    size_t length = 0;
    lock_take(&backend_lock);
    size_t free_bytes = total_get(&backend_totals.free_hugepages) << HP_SHIFT;
    struct hugepage *first = NULL;
    if (free_bytes > keep)
        first = range_take_any((free_bytes - keep + HP_SIZE - 1) >> HP_SHIFT, &length);
    if (!first) {
        lock_drop(&backend_lock);
        return 0;
    }
    uintptr_t start = first->base;
    uint32_t number = depart(start, length);
    bool stays_locked = unmap_refused;
    if (!stays_locked)
        lock_drop(&backend_lock);
    bool is_refused = os_unreserve((void *)start, length << HP_SHIFT) != 0;
    if (!stays_locked)
        lock_take(&backend_lock);
    unmap_refused = is_refused;
    if (is_refused)
        come_back(start, length);
    else
        be_gone(start, length, number);
    lock_drop(&backend_lock);
    return is_refused ? 0 : length << HP_SHIFT;
}

size_t backend_spare_space(void) {
    lock_take(&backend_lock);
    size_t given = pagemap_shrink(true);
    lock_drop(&backend_lock);
    return given;
}

size_t backend_retreat(size_t keep) {
    size_t given = 0, once;
    lock_take(&backend_lock);
    (void)pagemap_shrink(os_address_limit() < BACKEND_SCARCE);
    lock_drop(&backend_lock);
    while ((once = retreat_once(keep)) != 0)
        given += once;
    return given;
}

/* Free pages that mark the end of a phase: see the head of this file. */
static size_t phase_limit(void) {
    return PHASE_FACTOR * total_get(&backend_totals.used_pages) + total_get(&phase_keep_pages);
}

/* Pages that the end of a phase may give back now. */
static size_t phase_credit(uint64_t now) {
    uint64_t since = atomic_load_explicit(&credit_since, memory_order_relaxed); /* perhaps later than `now` was read */
    return now > since ? (size_t)(now - since) * PHASE_RATE : 0;
}

/* The end of a phase: see the head of this file. Returns the pages to give back at once. */
static size_t phase_pages(uint64_t now) {
    size_t used = total_get(&backend_totals.used_pages);
    size_t free_pages = total_get(&backend_totals.dirty_free_pages);
    size_t phase_keep = atomic_load_explicit(&phase_keep_pages, memory_order_relaxed);
    if (phase_at && now - phase_at < REGRET_MS && used > phase_demand / 2) {
        phase_keep *= 2;
        atomic_store_explicit(&phase_keep_pages, phase_keep, memory_order_relaxed);
        phase_at = 0;
    }
    if (free_pages <= PHASE_FACTOR * used + phase_keep)
        return 0;
    size_t pages = min_size(free_pages - PHASE_FACTOR * used - phase_keep, phase_credit(now));
    if (pages < HP_PAGES)
        return 0;
    if (!phase_at || now - phase_at >= REGRET_MS)
        phase_demand = used + free_pages;
    phase_at = now | 1;
    atomic_store_explicit(&credit_since, now, memory_order_relaxed);
    return pages;
}

/* Relaxed: a hint, for the many who pass by. */
static bool step_is_due(uint64_t *now) {
    size_t free_pages = total_get(&backend_totals.dirty_free_pages);
    bool outlived = total_get(&backend_totals.peak_pages) / 2 > total_get(&backend_totals.used_pages);
    if (free_pages <= backend_config.retain >> RN_PAGE_SHIFT && !outlived) /* nothing to give, nor a demand to forget */
        return false;
    *now = os_now_ms();
    return *now >= atomic_load_explicit(&next_look, memory_order_relaxed) ||
           (free_pages > phase_limit() && phase_credit(*now) >= HP_PAGES);
}

/* The system refused lately: locked memory. */
static bool is_refused(uint64_t now) { return refused_at && now - refused_at <= RETRY_MS; }

/* Matches what became resident since the last look: see the head of this file. Returns the bytes given back. */
static size_t growth_step(void) {
    size_t fresh = total_get(&backend_totals.fresh_pages);
    size_t growth = fresh - total_get(&fresh_seen);
    if (growth < GROWTH_PAGES)
        return 0;
    size_t peak = total_get(&backend_totals.peak_pages);
    size_t excess = excess_pages(peak + peak / GROWTH_SLACK);
    if (!excess) {
        atomic_store_explicit(&fresh_seen, fresh, memory_order_relaxed);
        return 0;
    }
    if (!lock_try(&backend_release_lock))
        return 0;
    growth = min_size(growth, GROWTH_MOST);
    atomic_fetch_add_explicit(&fresh_seen, growth, memory_order_relaxed);
    size_t released = is_refused(os_now_ms()) ? 0 : release_bytes(min_size(excess, growth) << RN_PAGE_SHIFT, true);
    lock_drop(&backend_release_lock);
    return released;
}

static void retreat_to_limit(void) {
    if (RN_UNLIKELY(os_address_limit() != SIZE_MAX))
        (void)backend_retreat(max_size(os_address_limit() / LIMIT_SHARE, LIMIT_KEEP));
}

/* Does not wait: in a child of a fork without handlers a thread that is not there may hold the lock. */
void backend_limit_changed(void) {
    os_read_address_limit();
    if (lock_try(&backend_lock)) {
        lock_drop(&backend_lock);
        retreat_to_limit();
    }
}

size_t backend_release_step(void) {
    retreat_to_limit();
    if (!backend_config.release)
        return 0;
    size_t released = growth_step();
    uint64_t now;
    if (!step_is_due(&now) || !lock_try(&backend_release_lock))
        return released;
    atomic_store_explicit(&next_look, now + STEP_MS / 2, memory_order_relaxed);
    size_t peak = demand_roll(now);
    if (!is_refused(now)) {
        size_t phase = phase_pages(now);
        size_t excess = excess_pages(peak);
        if (phase) {
            released += release_whole(phase << RN_PAGE_SHIFT);
        } else if (excess && now - step_last >= STEP_MS) {
            step_last = now;
            released += release_whole(min_size(excess, max_size(excess / STEP_SHARE, (size_t)STEP_HPS * HP_PAGES))
                                      << RN_PAGE_SHIFT);
        }
    }
    lock_drop(&backend_release_lock);
    return released;
}
