/* range.c: free hugepages, as maximal ranges with their length noted at both ends (boundary tags, Knuth TAOCP 1, 2.5,
 * but outside the memory they describe).
 *
 * Ranges are listed by length, those with resident pages apart from those without: resident ones are taken first, since
 * memory that is given back and needed again costs more than anything else here; the untouched rest of a region, being
 * the longest, is taken last. */
#include "backend/hugepage.h"

enum {
    EXACT = 64,            /* lengths below have a list each */
    BINS = EXACT + 64 - 6, /* above: one list per power of two */
    ROOM = 8,              /* a run that will grow goes where this many times its length is free */
};

/* [0]: ranges with a dirty hugepage, [1]: clean ones. Under backend_lock. */
static struct hugepage *bins[2][BINS];

static unsigned bin_of(size_t length) {
    return length < EXACT ? (unsigned)length : EXACT + (63u - (unsigned)__builtin_clzll(length)) - 6;
}

static struct hugepage *hp_at(struct hugepage *first, size_t index) { return hp_of(first->base + (index << HP_SHIFT)); }

static uint32_t count_dirty(struct hugepage *first, size_t length) {
    uint32_t count = 0;
    for (size_t i = 0; i < length; i++)
        count += hp_is_spare(hp_find(first->base + (i << HP_SHIFT)));
    return count;
}

static struct hugepage **list_of(const struct hugepage *first) {
    return &bins[first->range_dirty == 0][bin_of(first->range_length)];
}

static void list_insert(struct hugepage *first) {
    struct hugepage **head = list_of(first);
    first->prev = NULL;
    first->next = *head;
    if (*head)
        (*head)->prev = first;
    *head = first;
}

static void list_remove(struct hugepage *first) {
    if (first->prev)
        first->prev->next = first->next;
    else
        *list_of(first) = first->next;
    if (first->next)
        first->next->prev = first->prev;
}

static void mark_ends(struct hugepage *first, size_t length) {
    struct hugepage *last = hp_at(first, length - 1);
    first->state = last->state = HP_FREE;
    first->range_length = last->range_length = (uint32_t)length;
}

static void unmark_ends(struct hugepage *first) {
    struct hugepage *last = hp_at(first, first->range_length - 1);
    first->state = last->state = HP_NONE;
}

static void range_put(struct hugepage *first, size_t length, uint32_t dirty) {
    mark_ends(first, length);
    first->range_dirty = dirty;
    total_add(&backend_totals.free_hugepages, length);
    total_add(&backend_totals.spare_hugepages, dirty);
    list_insert(first);
}

/* Takes the whole range off its list. */
static void range_remove(struct hugepage *first) {
    total_add(&backend_totals.free_hugepages, -(size_t)first->range_length);
    total_add(&backend_totals.spare_hugepages, -(size_t)first->range_dirty);
    list_remove(first);
    unmark_ends(first);
}

void range_insert(struct hugepage *first, size_t length) {
    uint32_t dirty = count_dirty(first, length);
    struct hugepage *after = hp_find(first->base + (length << HP_SHIFT));
    struct hugepage *before = hp_find(first->base - HP_SIZE);
    if (after && after->state == HP_FREE) {
        length += after->range_length;
        dirty += after->range_dirty;
        range_remove(after);
    }
    if (before && before->state == HP_FREE) {
        struct hugepage *head = hp_of(first->base - ((uintptr_t)before->range_length << HP_SHIFT));
        length += head->range_length;
        dirty += head->range_dirty;
        range_remove(head);
        first = head;
    }
    range_put(first, length, dirty);
}

/* Cuts [from, from + length) out of the free range at `first`, which leaves its list. The time is that of the parts
 * before and inside the cut: the rest, which may be a region of a TiB, is not looked at. */
static struct hugepage *range_cut(struct hugepage *first, uintptr_t from, size_t length) {
    size_t total = first->range_length;
    uint32_t dirty = first->range_dirty;
    size_t before = (from - first->base) >> HP_SHIFT;
    struct hugepage *middle = hp_of(from);
    range_remove(first);
    uint32_t dirty_before = dirty ? count_dirty(first, before) : 0;
    uint32_t dirty_middle = dirty ? count_dirty(middle, length) : 0;
    if (before)
        range_put(first, before, dirty_before);
    if (before + length < total)
        range_put(hp_at(first, before + length), total - before - length, dirty - dirty_before - dirty_middle);
    return middle;
}

/* Whether an aligned piece fits, and where. */
static bool range_fits(const struct hugepage *first, size_t length, size_t align, uintptr_t *from) {
    *from = round_up(first->base, align << HP_SHIFT);
    return *from + (length << HP_SHIFT) <= first->base + ((uintptr_t)first->range_length << HP_SHIFT);
}

static struct hugepage *set_best(unsigned set, size_t length, size_t align, uintptr_t *from) {
    for (unsigned bin = bin_of(length); bin < BINS; bin++) {
        struct hugepage *best = NULL;
        for (struct hugepage *at = bins[set][bin]; at; at = at->next) {
            uintptr_t where;
            if (!range_fits(at, length, align, &where) || (best && best->range_length <= at->range_length))
                continue;
            best = at;
            *from = where;
            if (bin < EXACT)
                break;
        }
        if (best)
            return best;
    }
    return NULL;
}

struct hugepage *range_take(size_t length, size_t align) {
    for (unsigned set = 0; set < 2; set++) {
        uintptr_t from;
        struct hugepage *first = set_best(set, length, align, &from);
        if (first)
            return range_cut(first, from, length);
    }
    return NULL;
}

struct hugepage *range_take_roomy(size_t length) {
    for (unsigned set = 2; set-- > 0;)
        for (unsigned bin = BINS; bin-- > bin_of(ROOM * length);) {
            struct hugepage *first = bins[set][bin];
            if (!first || first->range_length < ROOM * length)
                continue;
            size_t before = min_size((first->range_length - length) / 2, ROOM * length);
            return range_cut(first, first->base + (before << HP_SHIFT), length);
        }
    return NULL;
}

bool range_take_at(uintptr_t start, size_t length) {
    struct hugepage *first = hp_find(start);
    if (!first || first->state != HP_FREE || first->range_length < length)
        return false;
    range_cut(hp_of(start), start, length);
    return true;
}

struct hugepage *range_take_any(size_t most, size_t *length) {
    for (unsigned bin = 0; bin < BINS; bin++)
        for (unsigned set = 0; set < 2; set++) {
            struct hugepage *first = bins[set][bin];
            if (!first)
                continue;
            *length = min_size(most, first->range_length);
            return range_cut(first, first->base, *length);
        }
    return NULL;
}

static bool is_wanted(const struct hugepage *hp, bool whole) {
    return hp_is_spare(hp) && (!whole || hp->committed == HP_PAGES);
}

struct hugepage *range_take_dirty(size_t most, size_t *length, bool whole) {
    for (unsigned bin = BINS; bin-- > 0;) {
        struct hugepage *first = bins[0][bin];
        size_t from = 0;
        while (first && from < first->range_length && !is_wanted(hp_at(first, from), whole))
            from++;
        if (!first || from == first->range_length)
            continue;
        size_t count = 0;
        while (from + count < first->range_length && count < most && is_wanted(hp_at(first, from + count), whole))
            count++;
        *length = count;
        return range_cut(first, first->base + (from << HP_SHIFT), count);
    }
    return NULL;
}

size_t range_count(void) {
    size_t count = 0;
    for (unsigned i = 0; i < 2 * BINS; i++)
        for (const struct hugepage *first = bins[i / BINS][i % BINS]; first; first = first->next)
            count++;
    return count;
}
