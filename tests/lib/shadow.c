/* shadow.c: see shadow.h. */
#define _GNU_SOURCE
#include "shadow.h"
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGE_SHIFT = 12, UNIT = 8, WORDS = (1 << PAGE_SHIFT) / UNIT / 64, TABLE_BITS = 21 };

struct page {
    _Atomic uintptr_t number; /* 0 = free entry; set once, never changed */
    _Atomic uint64_t claimed[WORDS];
};

static struct page *table;

int shadow_init(void) {
    table = mmap(NULL, sizeof(struct page) << TABLE_BITS, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return table == MAP_FAILED ? -1 : 0;
}

static struct page *find_page(uintptr_t number) {
    uintptr_t mask = ((uintptr_t)1 << TABLE_BITS) - 1, slot = number * 0x9e3779b97f4a7c15u >> (64 - TABLE_BITS);
    for (uintptr_t probes = 0; probes <= mask; probes++, slot = (slot + 1) & mask) {
        uintptr_t seen = atomic_load_explicit(&table[slot].number, memory_order_relaxed);
        if (seen == 0 && atomic_compare_exchange_strong(&table[slot].number, &seen, number))
            return &table[slot];
        if (seen == number)
            return &table[slot];
    }
    /* 8 GiB of distinct addresses were seen: the test is too long for its table. */
    static const char text[] = "# shadow table full\n";
    if (write(STDOUT_FILENO, text, sizeof text - 1))
        _exit(98);
    _exit(98);
}

/* Applies one operation to the units of [from, to) within one page. */
static unsigned change_page(uintptr_t page_number, unsigned from, unsigned to, int claim) {
    struct page *page = find_page(page_number);
    unsigned wrong = 0;
    for (unsigned word = from / 64; word * 64 < to; word++) {
        unsigned low = from > word * 64 ? from - word * 64 : 0, high = to < word * 64 + 64 ? to - word * 64 : 64;
        uint64_t mask = (high - low == 64 ? ~(uint64_t)0 : (((uint64_t)1 << (high - low)) - 1)) << low;
        uint64_t before = claim ? atomic_fetch_or(&page->claimed[word], mask)
                                : atomic_fetch_and(&page->claimed[word], ~mask);
        wrong += (unsigned)__builtin_popcountll(claim ? before & mask : ~before & mask);
    }
    return wrong;
}

static unsigned change(uintptr_t start, size_t size, int claim) {
    uintptr_t unit = start / UNIT, end = (start + size) / UNIT, per_page = (1 << PAGE_SHIFT) / UNIT;
    unsigned wrong = 0;
    while (unit < end) {
        uintptr_t page_end = (unit / per_page + 1) * per_page, stop = end < page_end ? end : page_end;
        wrong += change_page(unit / per_page, (unsigned)(unit % per_page),
                             (unsigned)(stop - unit / per_page * per_page), claim);
        unit = stop;
    }
    return wrong;
}

unsigned shadow_claim(const void *block, size_t size) { return change((uintptr_t)block, size, 1); }

unsigned shadow_unclaim(const void *block, size_t size) { return change((uintptr_t)block, size, 0); }

size_t shadow_reset(void) {
    size_t units = 0;
    for (size_t slot = 0; slot < (size_t)1 << TABLE_BITS; slot++) {
        if (atomic_load_explicit(&table[slot].number, memory_order_relaxed) == 0)
            continue;
        for (unsigned word = 0; word < WORDS; word++)
            units += (unsigned)__builtin_popcountll(atomic_load(&table[slot].claimed[word]));
    }
    if (madvise(table, sizeof(struct page) << TABLE_BITS, MADV_DONTNEED) != 0)
        abort();
    return units;
}

enum { DENSE = 2048, STRIDE = 4096, EDGE = 64 };

static uint64_t pattern(uint64_t id, size_t index) {
    uint64_t state = id * 0x100000001b3u + index;
    return shadow_random(&state);
}

/* Calls for each sampled stretch of a block are the same in fill and check, hence one walk with two verbs. */
static int walk(unsigned char *bytes, const unsigned char *seen, size_t size, uint64_t id) {
    for (size_t at = 0; at < size;) {
        uint64_t value = pattern(id, at);
        size_t length = size - at < 8 ? size - at : 8;
        if (bytes)
            memcpy(bytes + at, &value, length);
        else if (memcmp(seen + at, &value, length) != 0)
            return 0;
        at += 8;
        /* Beyond the dense part only both edges of each stride, and the block's own end. */
        if (at >= DENSE && at % STRIDE == EDGE)
            at += size - at > STRIDE + EDGE ? STRIDE - 2 * EDGE : 0;
    }
    return 1;
}

void shadow_fill(void *block, size_t size, uint64_t id) { walk(block, NULL, size, id); }

int shadow_is_filled(const void *block, size_t size, uint64_t id) { return walk(NULL, block, size, id); }
