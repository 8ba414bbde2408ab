/* hardened_span.c: small blocks of hardened mode: slots of spans, of which everything is known outside. */
#include <string.h>

#include "backend/backend.h"
#include "base/meta.h"
#include "frontend/hardened_run.h"
#include "frontend/pool.h"
#include "pagemap/pagemap.h"

enum {
    SPAN_PAGES = 4,           /* at least: a guard page for every 32 KiB */
    WAITING_BYTES = 64 << 10, /* of a class's freed blocks that wait, but for the numbers below */
    WAITING_MIN = 4,
    WAITING_MOST = 1024,
};

/* A slot's word: its slack (its bytes beyond those asked for) while it is live, else one of these. */
enum { SLOT_FRESH = 0xffff, SLOT_FREE = 0xfffe, SLOT_WAITING = 0xfffd, SLACK_MOST = 0xfffc };

struct hardened_span {
    struct hardened_run run;
    uint32_t free;
    uint32_t objects;
    uint16_t *words;
    uint64_t bits[]; /* 1: free or fresh */
};

static size_t span_pages(unsigned class_index) {
    size_t pages = size_classes[class_index].pages;
    pages *= (SPAN_PAGES + pages - 1) / pages;
    return round_up(pages << RN_PAGE_SHIFT, guard_size()) >> RN_PAGE_SHIFT;
}

static struct hardened_span *span_of(struct hardened_run *run) { return (struct hardened_span *)run; }

static char *slot_at(const struct hardened_span *span, uint32_t index) {
    return (char *)(span->run.start + (size_t)index * size_classes[span->run.class_index].size);
}

/* ---- Spans ---- */

/* Makes a span, on no list. Called without the lock. */
static struct hardened_span *span_make(unsigned class_index) {
    size_t pages = span_pages(class_index), guard = guard_size() >> RN_PAGE_SHIFT;
    uint32_t objects = (uint32_t)((pages << RN_PAGE_SHIFT) / size_classes[class_index].size);
    size_t bit_words = (objects + 63) / 64;
    bool zeroed;
    struct hardened_span *span = descriptor_take(
        class_index, sizeof *span + bit_words * sizeof *span->bits + objects * sizeof *span->words);
    if (!span)
        return NULL;
    uintptr_t start = backend_alloc(pages + guard, guard, &zeroed);
    if (!start) {
        descriptor_give(&span->run);
        return NULL;
    }
    if (!zeroed)
        memset((void *)start, 0, pages << RN_PAGE_SHIFT);
    span->run.start = start;
    span->run.pages = pages + guard;
    span->run.guards = 0;
    span->run.guards_are_clean = true;
    span->run.is_clean = false;
    guard_set(&span->run, GUARD_BACK, start + (pages << RN_PAGE_SHIFT), zeroed);
    span->objects = span->free = objects;
    span->words = (uint16_t *)(span->bits + bit_words);
    memset(span->words, 0xff, objects * sizeof *span->words);
    memset(span->bits, 0xff, bit_words * sizeof *span->bits);
    if (objects % 64)
        span->bits[bit_words - 1] = ((uint64_t)1 << objects % 64) - 1;
    atomic_fetch_add_explicit(&hardened_classes[class_index].held, pages << RN_PAGE_SHIFT, memory_order_relaxed);
    pagemap_set(start, pages, 0, span);
    return span;
}

/* Gives an empty span, which is on no list and which nobody can find any more, to the backend; or, where its guard
 * cannot be made accessible, puts it back on its list. Called without the lock. */
static void span_give(struct hardened_span *span) {
    struct hardened_class *class_ = &hardened_classes[span->run.class_index];
    size_t pages = span_pages(span->run.class_index);
    uintptr_t start = span->run.start;
    atomic_fetch_sub_explicit(&class_->held, pages << RN_PAGE_SHIFT, memory_order_relaxed);
    if (run_give(&span->run))
        return;
    atomic_fetch_add_explicit(&class_->held, pages << RN_PAGE_SHIFT, memory_order_relaxed);
    lock_take(&class_->lock);
    pagemap_set(start, pages, 0, span);
    ring_append(&class_->listed, &span->run);
    lock_drop(&class_->lock);
}

/* Takes an empty span off its list and out of the pagemap. Holds the lock. */
static void span_remove(struct hardened_span *span) {
    ring_remove(&hardened_classes[span->run.class_index].listed, &span->run);
    pagemap_set(span->run.start, span_pages(span->run.class_index), 0, NULL);
}

/* The n-th of the span's free slots. */
static uint32_t nth_free(const struct hardened_span *span, uint32_t n) {
    size_t w = 0;
    for (uint32_t here; n >= (here = (uint32_t)__builtin_popcountll(span->bits[w])); w++)
        n -= here;
    uint64_t word = span->bits[w];
    while (n--)
        word &= word - 1;
    return (uint32_t)(w * 64) + (uint32_t)__builtin_ctzll(word);
}

/* ---- Slots ---- */

/* Holds the lock; statistics read without it. */
static void count_live(struct hardened_class *class_, size_t bytes) {
    size_t live = atomic_load_explicit(&class_->live, memory_order_relaxed);
    atomic_store_explicit(&class_->live, live + bytes, memory_order_relaxed);
}

/* The index of the slot that starts at `block`; ends the process if none does. */
static uint32_t slot_index(const char *function, const struct hardened_span *span, const void *block) {
    unsigned class_index = span->run.class_index;
    uint32_t size = size_classes[class_index].size;
    size_t offset = (uintptr_t)block - span->run.start;
    if (RN_LIKELY(offset % size == 0 && offset / size < span->objects))
        return (uint32_t)(offset / size);
    run_unlock(&span->run);
    bool is_odd = ((uintptr_t)block & 7) != 0;
    hardened_misuse(function, block, is_odd ? "misaligned pointer" : "interior pointer", class_index, 0);
}

/* The index of the live slot that starts at `block`; ends the process if it is not live. */
static uint32_t live_index(const char *function, const struct hardened_span *span, const void *block) {
    uint32_t index = slot_index(function, span, block);
    unsigned word = span->words[index];
    if (RN_LIKELY(word <= SLACK_MOST))
        return index;
    run_unlock(&span->run);
    const char *what = word == SLOT_FRESH ? "never given out" : freed_twice(function);
    hardened_misuse(function, block, what, span->run.class_index, 0);
}

void *slot_alloc(unsigned class_index, size_t size) {
    struct hardened_class *class_ = &hardened_classes[class_index];
    size_t whole = size_classes[class_index].size;
    lock_take(&class_->lock);
    while (!class_->listed) {
        lock_drop(&class_->lock);
        struct hardened_span *made = span_make(class_index);
        if (!made)
            return NULL;
        trim_step();
        lock_take(&class_->lock);
        ring_append(&class_->listed, &made->run);
    }
    struct hardened_span *span = span_of(class_->listed);
    uint32_t index = nth_free(span, random_below(class_random(class_), span->free));
    char *block = slot_at(span, index);
    bool was_used = span->words[index] == SLOT_FREE;
    RN_ASSERT(whole - size >= CANARY_MIN && whole - size <= SLACK_MOST);
    span->words[index] = (uint16_t)(whole - size);
    span->bits[index / 64] &= ~((uint64_t)1 << index % 64);
    if (--span->free == 0)
        ring_remove(&class_->listed, &span->run);
    count_live(class_, whole);
    lock_drop(&class_->lock);
    if (was_used && !is_zero(block, whole))
        hardened_misuse("malloc", block, "written after free", class_index, 0);
    canary_write(block, block + size, block + whole);
    return block;
}

size_t slot_size(const char *function, struct hardened_run *run, const void *block) {
    struct hardened_span *span = span_of(run);
    size_t size = size_classes[run->class_index].size - span->words[live_index(function, span, block)];
    run_unlock(run);
    return size;
}

void slot_check(const char *function, unsigned class_index, void *block, size_t size) {
    char *at = block;
    if (RN_UNLIKELY(!canary_is_whole(block, at + size, at + size_classes[class_index].size)))
        hardened_misuse(function, block, "overflow: bytes after the block were written", class_index, 0);
}

void slot_resize(struct hardened_run *run, void *block, size_t old, size_t size) {
    struct hardened_span *span = span_of(run);
    uint32_t index = live_index("realloc", span, block);
    uint32_t whole = size_classes[run->class_index].size;
    span->words[index] = (uint16_t)(whole - size);
    run_unlock(run);
    char *at = block;
    if (size > old)
        memset(at + old, 0, size - old); /* the program must not see the canary */
    canary_write(block, at + size, at + whole);
}

/* ---- Waiting ---- */

static uint32_t waiting_size(unsigned class_index) {
    return (uint32_t)min_size(max_size(WAITING_BYTES / size_classes[class_index].size, WAITING_MIN), WAITING_MOST);
}

/* Lets `block` wait. Gives the one whose turn it is to become free, or NULL. The first half of the places is left in
 * random order, the second in the order of arrival. Holds the lock. */
static void *wait_turn(struct hardened_class *class_, unsigned class_index, void *block) {
    uint32_t size = waiting_size(class_index), half = size / 2;
    if (!class_->waiting)
        class_->waiting = meta_alloc(size * sizeof *class_->waiting);
    if (!class_->waiting)
        return block;
    if (class_->waiting_count < size) {
        class_->waiting[class_->waiting_count++] = block;
        return NULL;
    }
    void **place = &class_->waiting[random_below(class_random(class_), half)];
    void *mixed = *place;
    *place = block;
    place = &class_->waiting[half + class_->waiting_hand];
    class_->waiting_hand = (class_->waiting_hand + 1) % (size - half);
    void *oldest = *place;
    *place = mixed;
    return oldest;
}

/* A slot that waited becomes free. Returns its span. Holds the lock. */
static struct hardened_span *slot_release(struct hardened_class *class_, const void *block) {
    struct hardened_span *span = span_of(pagemap_handle(block));
    uint32_t size = size_classes[span->run.class_index].size;
    uint32_t index = (uint32_t)((uintptr_t)block - span->run.start) / size;
    RN_ASSERT(span->words[index] == SLOT_WAITING);
    span->words[index] = SLOT_FREE;
    span->bits[index / 64] |= (uint64_t)1 << index % 64;
    if (span->free++ == 0)
        ring_append(&class_->listed, &span->run);
    return span;
}

void slot_free(struct hardened_run *run, void *block) {
    unsigned class_index = run->class_index;
    struct hardened_class *class_ = &hardened_classes[class_index];
    struct hardened_span *span = span_of(run);
    uint32_t index = live_index("free", span, block);
    size_t whole = size_classes[class_index].size;
    size_t size = whole - span->words[index];
    span->words[index] = SLOT_WAITING;
    count_live(class_, -whole);
    run_unlock(run);
    slot_check("free", class_index, block, size);
    memset(block, 0, whole);
    lock_take(&class_->lock);
    void *oldest = wait_turn(class_, class_index, block);
    span = oldest ? slot_release(class_, oldest) : NULL;
    bool is_surplus = span && span->free == span->objects && class_->listed->next != class_->listed;
    if (is_surplus)
        span_remove(span);
    lock_drop(&class_->lock);
    if (is_surplus) {
        span_give(span);
        trim_step();
    }
}

void spans_trim(unsigned class_index) {
    struct hardened_class *class_ = &hardened_classes[class_index];
    lock_take(&class_->lock);
    while (class_->waiting_count)
        (void)slot_release(class_, class_->waiting[--class_->waiting_count]);
    struct hardened_run *empty = NULL, *kept = NULL;
    while (class_->listed) {
        struct hardened_span *span = span_of(class_->listed);
        if (span->free == span->objects) {
            span_remove(span);
            span->run.next = empty;
            empty = &span->run;
        } else {
            ring_remove(&class_->listed, &span->run);
            ring_append(&kept, &span->run);
        }
    }
    class_->listed = kept;
    lock_drop(&class_->lock);
    while (empty) {
        struct hardened_span *span = span_of(empty);
        empty = empty->next;
        span_give(span);
    }
}

void spans_check(unsigned class_index) {
    struct hardened_class *class_ = &hardened_classes[class_index];
    lock_take(&class_->lock);
    struct hardened_run *run = class_->listed;
    while (run) {
        const struct hardened_span *span = span_of(run);
        uint32_t set = 0;
        for (uint32_t i = 0; i < span->objects; i++) {
            bool bit = span->bits[i / 64] >> i % 64 & 1;
            RN_ASSERT(bit == (span->words[i] == SLOT_FREE || span->words[i] == SLOT_FRESH)); /* I12 */
            set += bit;
        }
        RN_ASSERT(set == span->free && set > 0); /* I12, I13 */
        run = run->next != class_->listed ? run->next : NULL;
    }
    lock_drop(&class_->lock);
}
