/* hugepage.c: descriptors of hugepages, found by address, and runs of bits in them. */
#include "backend/hugepage.h"

#include <errno.h>

#include "base/meta.h"

enum {
    LEAF_SHIFT = 30, /* one block of descriptors per GiB, as in the pagemap */
    LEAF_HPS = 1 << (LEAF_SHIFT - HP_SHIFT),
    ROOT_SIZE = 1 << (RN_ADDRESS_BITS - LEAF_SHIFT),
};

/* Written under backend_lock; backend_owns reads it without. release in hp_cover, acquire in hp_find. */
static RN_TABLE struct hugepage *_Atomic root[ROOT_SIZE];

struct hugepage *hp_find(uintptr_t address) {
    if (address >> RN_ADDRESS_BITS != 0)
        return NULL;
    /* acquire: pairs with the release in hp_cover */
    struct hugepage *leaf = atomic_load_explicit(&root[address >> LEAF_SHIFT], memory_order_acquire);
    return leaf ? &leaf[(address >> HP_SHIFT) & (LEAF_HPS - 1)] : NULL;
}

struct hugepage *hp_of(uintptr_t address) {
    struct hugepage *leaf = atomic_load_explicit(&root[address >> LEAF_SHIFT], memory_order_relaxed);
    struct hugepage *hp = &leaf[(address >> HP_SHIFT) & (LEAF_HPS - 1)];
    hp->base = round_down(address, HP_SIZE);
    return hp;
}

int hp_cover(uintptr_t start, size_t size) {
    for (size_t i = start >> LEAF_SHIFT; i <= (start + size - 1) >> LEAF_SHIFT; i++) {
        if (atomic_load_explicit(&root[i], memory_order_relaxed))
            continue;
        struct hugepage *leaf = meta_alloc(LEAF_HPS * sizeof *leaf);
        if (!leaf)
            return -ENOMEM;
        /* release: pairs with the acquire in hp_find */
        atomic_store_explicit(&root[i], leaf, memory_order_release);
    }
    return 0;
}

enum { SPLIT_MOST = 8 << 10 }; /* hugepages with advice of their own: bounds the process's map count */

void hp_set_split(struct hugepage *hp, bool split) {
    total_add(&backend_totals.split_hugepages, (size_t)split - (size_t)hp->split);
    hp->split = split;
}

void hp_advise(struct hugepage *hp, bool advised) {
    hp->advised = advised;
    hp_set_split(hp, hp->split && !advised);
}

bool hp_forbid(struct hugepage *first, size_t length) {
    if (total_get(&backend_totals.split_hugepages) + length > SPLIT_MOST)
        return false;
    uintptr_t start = first->base;
    for (size_t i = 0; i < length; i++) {
        struct hugepage *hp = hp_of(start + (i << HP_SHIFT));
        hp->advised = false;
        hp_set_split(hp, true);
    }
    return true;
}

void hp_take_advice(struct hugepage *hp, const struct hugepage *from) {
    hp->advised = from->advised;
    hp_set_split(hp, from->split);
}

uintptr_t hp_find_hole(uintptr_t from, uintptr_t to, size_t size) {
    uintptr_t hole = from;
    for (uintptr_t at = from; at < to;) {
        const struct hugepage *hp = hp_find(at);
        bool is_ours = hp && hp->state != HP_NONE;
        at += is_ours && hp->state == HP_FREE ? (uintptr_t)hp->range_length << HP_SHIFT : HP_SIZE;
        if (is_ours)
            hole = at;
        else if (at - hole >= size)
            return hole;
    }
    return 0;
}

/* Bits first .. first + pages - 1 of word `w`, as a mask. */
static uint64_t word_mask(unsigned w, unsigned first, unsigned pages) {
    unsigned low = w * 64;
    unsigned begin = first > low ? first - low : 0;
    unsigned end = first + pages < low + 64 ? first + pages - low : 64;
    uint64_t upto = end == 64 ? ~(uint64_t)0 : ((uint64_t)1 << end) - 1;
    return upto & ~(((uint64_t)1 << begin) - 1);
}

/* As the compiler's own, which is a call of a function where the processor may lack the instruction. */
static inline unsigned ones(uint64_t word) {
    word -= word >> 1 & 0x5555555555555555;
    word = (word & 0x3333333333333333) + (word >> 2 & 0x3333333333333333);
    word = (word + (word >> 4)) & 0x0f0f0f0f0f0f0f0f;
    return (unsigned)(word * 0x0101010101010101 >> 56);
}

unsigned bits_count(const uint64_t *bits, unsigned first, unsigned pages) {
    unsigned count = 0;
    for (unsigned w = first / 64; w <= (first + pages - 1) / 64; w++)
        count += ones(bits[w] & word_mask(w, first, pages));
    return count;
}

void bits_set(uint64_t *bits, unsigned first, unsigned pages) {
    for (unsigned w = first / 64; w <= (first + pages - 1) / 64; w++)
        bits[w] |= word_mask(w, first, pages);
}

void bits_clear(uint64_t *bits, unsigned first, unsigned pages) {
    for (unsigned w = first / 64; w <= (first + pages - 1) / 64; w++)
        bits[w] &= ~word_mask(w, first, pages);
}

/* The first bit at or after `from`, which is one of them, that differs from those of `flip` (all zeros: finds ones; all
 * ones: finds zeros). */
static inline unsigned next_bit(const uint64_t *bits, unsigned from, uint64_t flip) {
    unsigned w = from / 64;
    uint64_t word = (bits[w] ^ flip) & ~(uint64_t)0 << (from % 64);
    while (!word) {
        if (++w == HP_WORDS)
            return HP_PAGES;
        word = bits[w] ^ flip;
    }
    return w * 64 + (unsigned)__builtin_ctzll(word);
}

unsigned bits_next_clear(const uint64_t *bits, unsigned *first) {
    if (*first >= HP_PAGES)
        return 0;
    *first = next_bit(bits, *first, ~(uint64_t)0);
    return *first >= HP_PAGES ? 0 : next_bit(bits, *first, 0) - *first;
}

unsigned bits_longest_clear(const uint64_t *bits) {
    unsigned most = 0, length;
    for (unsigned first = 0; (length = bits_next_clear(bits, &first)) != 0; first += length)
        most = length > most ? length : most;
    return most;
}

/* One past the last set bit below `from`; 0 if there is none. */
static unsigned end_of_set_before(const uint64_t *bits, unsigned from) {
    for (unsigned w = from / 64 + 1; w-- > 0;) {
        uint64_t word = bits[w];
        if (w == from / 64)
            word &= ((uint64_t)1 << (from % 64)) - 1;
        if (word)
            return w * 64 + 64 - (unsigned)__builtin_clzll(word);
    }
    return 0;
}

unsigned bits_clear_around(const uint64_t *bits, unsigned at) {
    return next_bit(bits, at, 0) - end_of_set_before(bits, at);
}
