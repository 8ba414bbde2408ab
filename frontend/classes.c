/* classes.c: which class each size has.
 *
 * Each class costs memory of its own: objects in bins and caches, and spans that are partly used. A heap of a few MiB,
 * or one of any size with a little of everything, has less to lose by rounding than by that. So in the beginning four
 * classes of each doubling above 1 KiB stand in for the narrower ones below them. Such a one comes into use where
 * nearly all that the wide class gives out is for its sizes: there rounding is a loss without a gain. What sizes those
 * are is told by refills, one object of which is for somebody who waits. A block that was given out keeps its class,
 * and nothing goes back to wide classes. Everything is relaxed, and lost updates are no harm: each entry of the table
 * is a right answer at any time. */
#include "frontend/pool.h"

enum {
    WIDE_FROM = 1024, /* above: */
    WIDE_STEPS = 4,   /* of these steps in every doubling */
    AGAINST = 7,      /* what a refill for another size counts: so seven in eight are hardly enough */
    CERTAIN = 24,     /* votes: of refills in a row, or some more */
};
static const size_t OWN_BYTES = (size_t)256 << 10;

_Atomic uint8_t class_table[CLASS_TABLE_SIZE] RN_ALIGNED(RN_CACHE_LINE);
RN_TABLE _Atomic uint8_t slot_classes[CLASS_TABLE_SIZE];
_Atomic uint8_t class_first[RN_CLASSES] RN_ALIGNED(RN_CACHE_LINE);

/* By Boyer's and Moore's majority vote, but for a larger majority. */
static struct ballot {
    _Atomic uint8_t candidate;
    _Atomic uint8_t votes;
} ballots[RN_CLASSES] RN_ALIGNED(RN_CACHE_LINE);

static void entry_set(_Atomic uint8_t *table, size_t index, unsigned class_index) {
    atomic_store_explicit(&table[index], (uint8_t)class_index, memory_order_relaxed);
}

static unsigned entry_get(size_t size) {
    return atomic_load_explicit(&class_table[class_index_of(size)], memory_order_relaxed);
}

static size_t wide_size(size_t size) {
    if (size <= WIDE_FROM)
        return size;
    size_t below = (size_t)1 << (63 - __builtin_clzl(size - 1));
    return round_up(size, below / WIDE_STEPS);
}

void classes_init(_Atomic uint8_t table[CLASS_TABLE_SIZE], bool wide) {
    unsigned previous = 0;
    size_t index = 0;
    for (unsigned class_index = 1; class_index < RN_CLASSES; class_index++) {
        size_t size = size_classes[class_index].size;
        if (wide && wide_size(size) != size)
            continue;
        if (class_index > previous + 1)
            atomic_store_explicit(&class_first[class_index], (uint8_t)(previous + 1), memory_order_relaxed);
        previous = class_index;
        for (size_t end = class_index_of(size); index <= end; index++)
            entry_set(table, index, class_index);
    }
}

static bool has_own(unsigned class_index) { return entry_get(size_classes[class_index].size) == class_index; }

static void give_own(unsigned class_index) {
    size_t end = class_index_of(size_classes[class_index].size);
    for (size_t i = class_index_of(size_classes[class_index - 1].size) + 1; i <= end; i++)
        entry_set(class_table, i, class_index);
}

/* The narrowest class for the size, of those that `class_index` may stand in for. */
static unsigned narrowest(size_t size, unsigned first, unsigned class_index) {
    unsigned wanted = class_index;
    while (wanted > first && size_classes[wanted - 1].size >= size)
        wanted--;
    return wanted;
}

/* Counts the vote; true if nearly all were for this class. While nothing changes, nothing is written: the line is
 * everybody's. */
static bool vote(struct ballot *ballot, unsigned wanted) {
    unsigned votes = atomic_load_explicit(&ballot->votes, memory_order_relaxed), before = votes;
    bool is_for = wanted == atomic_load_explicit(&ballot->candidate, memory_order_relaxed);
    if (!is_for && votes < AGAINST)
        atomic_store_explicit(&ballot->candidate, (uint8_t)wanted, memory_order_relaxed);
    if (is_for)
        votes = votes < CERTAIN ? votes + 1 : CERTAIN;
    else
        votes = votes < AGAINST ? 1 : votes - AGAINST;
    if (votes != before)
        atomic_store_explicit(&ballot->votes, (uint8_t)votes, memory_order_relaxed);
    return is_for && votes == CERTAIN;
}

void class_consider(size_t size, unsigned class_index) {
    unsigned first = atomic_load_explicit(&class_first[class_index], memory_order_relaxed);
    if (!first)
        return;
    unsigned wanted = narrowest(size, first, class_index);
    bool is_certain = vote(&ballots[class_index], wanted);
    if (!is_certain || has_own(wanted) || middle_class_bytes(pool_id(), class_index) < OWN_BYTES)
        return;
    give_own(wanted);
    bool is_wide = false;
    for (unsigned narrower = first; narrower < class_index; narrower++)
        is_wide |= !has_own(narrower);
    if (!is_wide)
        atomic_store_explicit(&class_first[class_index], 0, memory_order_relaxed);
}
