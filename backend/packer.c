/* packer.c: packs runs into as few hugepages as possible, so that whole hugepages become free.
 *
 * Hugepages in use are listed by the length of their longest free run. A run goes to the shortest that fits: hugepages
 * that are nearly full fill up, those that are nearly empty drain. Within a list the fuller ones stand in front.
 *
 * Short runs and long ones keep apart while there is room: a hugepage is of the kind that came into it first, and the
 * other kind takes its holes only where its own has none. Else the best fit for a short run would often be what a long
 * one leaves of its last hugepage; the long one goes, the short one stays, and no long one fits there again.
 *
 * So do the short runs of different owners, but there only as long as what is free in others' hugepages is little: the
 * owners are CPUs, and what one of them cleared and writes lies in its cache. */
#include "backend/hugepage.h"

enum {
    SHORT_MOST = 32,  /* pages of a short run */
    KIND_NOBODYS = 0, /* short runs of nobody in particular; then those of the owners */
    KIND_LONG = BACKEND_OWNERS,
    KINDS = BACKEND_OWNERS + 1,
    OTHERS_SHARE = 8, /* of the pages in use that may be free in others' hugepages: what is more is used */
};

/* By kind, and by longest free run; under backend_lock. */
static RN_TABLE struct hugepage *lists[KINDS][HP_PAGES + 1];
static uint64_t occupied[KINDS][HP_WORDS + 1]; /* bit i: lists[][i] is not empty */
static size_t free_pages[KINDS];
static uint64_t listed; /* bit i: free_pages[i] is not 0 */

_Static_assert(KINDS <= 64, "a word of bits");

unsigned packer_kind(unsigned pages, unsigned owner) { return pages > SHORT_MOST ? KIND_LONG : owner; }

static void count_free(const struct hugepage *hp, bool more) {
    size_t pages = HP_PAGES - hp->used_pages;
    free_pages[hp->kind] += more ? pages : -pages;
    if (more)
        listed |= (uint64_t)1 << hp->kind;
    else if (free_pages[hp->kind] == 0)
        listed &= ~((uint64_t)1 << hp->kind);
}

void packer_insert(struct hugepage *hp) {
    unsigned index = hp->longest;
    struct hugepage *head = lists[hp->kind][index];
    count_free(hp, true);
    if (!head) {
        hp->next = hp->prev = hp;
        lists[hp->kind][index] = hp;
        occupied[hp->kind][index / 64] |= (uint64_t)1 << (index % 64);
        return;
    }
    hp->next = head;
    hp->prev = head->prev;
    head->prev->next = hp;
    head->prev = hp;
    if (hp->used_pages >= head->used_pages)
        lists[hp->kind][index] = hp;
}

void packer_remove(struct hugepage *hp) {
    unsigned index = hp->longest;
    count_free(hp, false);
    if (hp->next == hp) {
        lists[hp->kind][index] = NULL;
        occupied[hp->kind][index / 64] &= ~((uint64_t)1 << (index % 64));
    } else {
        hp->next->prev = hp->prev;
        hp->prev->next = hp->next;
        if (lists[hp->kind][index] == hp)
            lists[hp->kind][index] = hp->next;
    }
    hp->next = hp->prev = NULL;
}

static unsigned next_occupied(unsigned kind, unsigned from) {
    for (unsigned w = from / 64; w <= HP_WORDS; w++) {
        uint64_t word = occupied[kind][w];
        if (w == from / 64)
            word &= ~(uint64_t)0 << (from % 64);
        if (word)
            return w * 64 + (unsigned)__builtin_ctzll(word);
    }
    return HP_PAGES + 1;
}

/* Best fit in one hugepage: the shortest free run that holds `pages` at the alignment, the lowest of equals. */
static bool hp_fit(const struct hugepage *hp, unsigned pages, unsigned align, unsigned *where) {
    unsigned best = HP_PAGES + 1;
    unsigned length;
    for (unsigned first = 0; (length = bits_next_clear(hp->used, &first)) != 0; first += length) {
        unsigned start = (unsigned)round_up(first, align);
        if (start + pages > first + length || length >= best)
            continue;
        best = length;
        *where = start;
        if (length == pages)
            break;
    }
    return best <= HP_PAGES;
}

static struct hugepage *find_of_kind(unsigned kind, unsigned pages, unsigned align, unsigned *first) {
    for (unsigned i = next_occupied(kind, pages); i <= HP_PAGES; i = next_occupied(kind, i + 1)) {
        struct hugepage *hp = lists[kind][i];
        do {
            if (hp_fit(hp, pages, align, first))
                return hp;
            hp = hp->next;
        } while (hp != lists[kind][i]); /* with align 1 the first one fits */
    }
    return NULL;
}

/* The best fit among the kinds of a set. */
static struct hugepage *find_among(uint64_t kinds, unsigned pages, unsigned align, unsigned *first) {
    struct hugepage *best = NULL;
    for (kinds &= listed; kinds; kinds &= kinds - 1) {
        unsigned at;
        struct hugepage *hp = find_of_kind((unsigned)__builtin_ctzll(kinds), pages, align, &at);
        if (!hp || (best && best->longest <= hp->longest))
            continue;
        best = hp;
        *first = at;
    }
    return best;
}

static uint64_t kind_bit(unsigned kind) { return (uint64_t)1 << kind; }

/* The kinds of other owners, if much is free there; for nobody in particular there is no such condition. */
static uint64_t others_of(unsigned owner) {
    uint64_t others = listed & ~(kind_bit(KIND_LONG) | kind_bit(KIND_NOBODYS) | kind_bit(owner));
    size_t free = 0;
    if (owner == KIND_NOBODYS)
        return others;
    for (uint64_t left = others; left; left &= left - 1)
        free += free_pages[__builtin_ctzll(left)];
    return free > total_get(&backend_totals.used_pages) / OTHERS_SHARE ? others : 0;
}

struct hugepage *packer_find(unsigned pages, unsigned align, unsigned owner, unsigned *first) {
    unsigned kind = packer_kind(pages, owner);
    uint64_t own = kind_bit(kind) | (kind == KIND_NOBODYS ? others_of(owner) : 0);
    struct hugepage *hp = find_among(own, pages, align, first);
    if (hp)
        return hp;
    uint64_t all = kind_bit(KIND_LONG) | kind_bit(KIND_NOBODYS) | kind_bit(owner) | others_of(owner);
    return find_among(all & ~own, pages, align, first);
}

void hp_use(struct hugepage *hp, unsigned first, unsigned pages) {
    RN_ASSERT(bits_count(hp->used, first, pages) == 0);
    if (hp->state == HP_USED && hp->used_pages < HP_PAGES)
        packer_remove(hp);
    hp->state = HP_USED;
    unsigned dirty = bits_count(hp->dirty, first, pages);
    bool cuts_longest = bits_clear_around(hp->used, first) == hp->longest || hp->used_pages == 0;
    total_add(&backend_totals.dirty_free_pages, -(size_t)dirty);
    total_add(&backend_totals.used_pages, pages);
    total_add(&backend_totals.fresh_pages, pages - dirty);
    hp->dirty_pages = (uint16_t)(hp->dirty_pages + pages - dirty);
    hp->used_pages = (uint16_t)(hp->used_pages + pages);
    bits_set(hp->used, first, pages);
    bits_set(hp->dirty, first, pages);
    if (cuts_longest)
        hp->longest = (uint16_t)bits_longest_clear(hp->used);
    if (hp->used_pages < HP_PAGES)
        packer_insert(hp);
}

bool hp_unuse(struct hugepage *hp, unsigned first, unsigned pages) {
    RN_ASSERT(hp->state == HP_USED && bits_count(hp->used, first, pages) == pages);
    if (hp->used_pages < HP_PAGES)
        packer_remove(hp);
    total_add(&backend_totals.used_pages, -(size_t)pages);
    total_add(&backend_totals.dirty_free_pages, bits_count(hp->dirty, first, pages));
    hp->used_pages = (uint16_t)(hp->used_pages - pages);
    bits_clear(hp->used, first, pages);
    hp->longest = (uint16_t)max_size(hp->longest, bits_clear_around(hp->used, first));
    if (hp->used_pages == 0)
        return true;
    packer_insert(hp);
    return false;
}

static struct hugepage *dirty_among(struct hugepage *head) {
    struct hugepage *hp = head;
    if (!head)
        return NULL;
    do {
        if (hp->dirty_pages > hp->used_pages && !hp->hugetlb)
            return hp;
        hp = hp->next;
    } while (hp != head);
    return NULL;
}

static struct hugepage *dirtiest_of(unsigned kind) {
    for (unsigned w = HP_WORDS + 1; w-- > 0;)
        for (uint64_t word = occupied[kind][w], bit; word; word &= ~bit) {
            bit = (uint64_t)1 << (63 - __builtin_clzll(word));
            struct hugepage *hp = dirty_among(lists[kind][w * 64 + (unsigned)__builtin_ctzll(bit)]);
            if (hp)
                return hp;
        }
    return NULL;
}

struct hugepage *packer_dirtiest(void) {
    struct hugepage *best = NULL;
    for (uint64_t kinds = listed; kinds; kinds &= kinds - 1) {
        struct hugepage *hp = dirtiest_of((unsigned)__builtin_ctzll(kinds));
        if (hp && (!best || best->longest < hp->longest))
            best = hp;
    }
    return best;
}

/* Gives the pages that are free in the list, whose every member belongs there. */
static size_t list_check(unsigned kind, unsigned index) {
    const struct hugepage *head = lists[kind][index], *hp = head;
    size_t free = 0;
    RN_ASSERT((head != NULL) == (occupied[kind][index / 64] >> (index % 64) & 1));
    if (!head)
        return 0;
    do {
        RN_ASSERT(hp->kind == kind && hp->longest == index && hp->state == HP_USED && hp->next->prev == hp);
        free += HP_PAGES - hp->used_pages;
        hp = hp->next;
    } while (hp != head);
    return free;
}

/* Runs of zero bits: each begins behind a one, or at the start. */
static unsigned count_runs(const uint64_t *bits) {
    unsigned count = 0;
    uint64_t before = 1;
    for (unsigned w = 0; w < HP_WORDS; w++) {
        count += (unsigned)__builtin_popcountll(~bits[w] & (bits[w] << 1 | before));
        before = bits[w] >> 63;
    }
    return count;
}

size_t packer_runs(void) {
    size_t runs = 0;
    for (unsigned i = 0; i < KINDS * (HP_PAGES + 1); i++) {
        const struct hugepage *head = lists[i / (HP_PAGES + 1)][i % (HP_PAGES + 1)], *hp = head;
        for (; hp; hp = hp->next == head ? NULL : hp->next)
            runs += count_runs(hp->used);
    }
    return runs;
}

void packer_check(void) {
    for (unsigned kind = 0; kind < KINDS; kind++) {
        size_t free = 0;
        for (unsigned i = 0; i <= HP_PAGES; i++)
            free += list_check(kind, i);
        RN_ASSERT(free == free_pages[kind] && (free != 0) == (listed >> kind & 1));
    }
}
