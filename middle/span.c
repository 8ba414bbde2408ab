#include "middle/span.h"

#include <string.h>

#include "backend/backend.h"
#include "base/fatal.h"
#include "base/meta.h"
#include "base/os.h"
#include "pagemap/pagemap.h"

const struct size_class size_classes[RN_CLASSES] = {
#include "middle/size_classes.inc"
};

_Static_assert((int)DOMAINS < (int)BACKEND_OWNERS, "a domain is an owner, from 1 on");
_Static_assert(sizeof(struct span) == 40 + 8 || sizeof(struct span) == 40, "three words of bits fit in 64 bytes");

static size_t bit_words(unsigned class_index) { return (size_classes[class_index].objects + 63u) / 64; }

static uint32_t meta_size_of(unsigned class_index) {
    size_t need = sizeof(struct span) + bit_words(class_index) * sizeof(uint64_t);
    size_t size = META_BLOCK_MIN;
    while (size < need)
        size *= 2;
    return (uint32_t)size;
}

/* ---- Spare spans ----
 *
 * A program that frees a structure and builds another empties spans of some classes and wants spans of others, of the
 * same few lengths. So the last emptied ones wait here, with their structures, and go to whoever asks next in the same
 * domain: their memory is still in the CPU's cache, and neither the backend's lock nor its search is needed. Before
 * memory is used that was not resident, all go back. */

enum {
    SPARE_PAGES = 8,       /* longer runs are not kept */
    RUN_PAGES = 16,        /* of several spans that are obtained at once */
    SPARE_METAS = 3,       /* structures of 64, 128 and 256 bytes */
    SPARE_BYTES = 2 << 20, /* kept in the smallest heap, */
    SPARE_SHARE = 64,      /* or this part of the heap; */
    SPARE_DEMAND = 2,      /* where somebody gives back what lies idle, this part of what the heap was lately, */
    SPARE_MOST = 16 << 20, /* but no more than this in a domain */
};

struct spares {
    struct lock lock;
    _Atomic size_t bytes; /* written under the lock */
    struct span *lists[SPARE_PAGES][SPARE_METAS];
} RN_ALIGNED(RN_CACHE_LINE);

static RN_TABLE struct spares spares[DOMAINS] = {[0 ... DOMAINS - 1] = {.lock = LOCK_INIT(RANK_SPARE)}};

static struct span **spare_list(struct spares *own, size_t pages, uint32_t meta_size) {
    return &own->lists[pages - 1][__builtin_ctz(meta_size / META_BLOCK_MIN)];
}

static size_t spare_bytes(struct spares *own) { return atomic_load_explicit(&own->bytes, memory_order_relaxed); }

static void spare_count(struct spares *own, size_t bytes) {
    atomic_store_explicit(&own->bytes, spare_bytes(own) + bytes, memory_order_relaxed);
}

bool span_may_wait(unsigned domain) { return spare_bytes(&spares[domain]) != 0; }

size_t middle_spare(void) {
    size_t bytes = 0;
    for (uint32_t left = domains_used(); left;)
        bytes += spare_bytes(&spares[domain_next(&left)]);
    return bytes;
}

size_t span_waiting(void) {
    size_t count = 0;
    for (uint32_t left = domains_used(); left;) {
        struct spares *own = &spares[domain_next(&left)];
        lock_take(&own->lock);
        for (size_t i = 0; i < SPARE_PAGES * SPARE_METAS; i++)
            for (const struct span *span = own->lists[i / SPARE_METAS][i % SPARE_METAS]; span; span = span->next)
                count++;
        lock_drop(&own->lock);
    }
    return count;
}

/* Up to `most`, linked by `next`. */
static struct span *spare_take(unsigned domain, size_t pages, uint32_t meta_size, size_t most) {
    struct spares *own = &spares[domain];
    if (pages > SPARE_PAGES || spare_bytes(own) == 0)
        return NULL;
    struct span **list = spare_list(own, pages, meta_size);
    lock_take(&own->lock);
    struct span *first = *list, **end = list;
    size_t count = 0;
    for (; *end && count < most; end = &(*end)->next)
        count++;
    if (count) {
        *list = *end;
        *end = NULL;
        spare_count(own, -(count * pages << RN_PAGE_SHIFT));
    }
    lock_drop(&own->lock);
    return count ? first : NULL;
}

static void span_give_back(struct span *span) {
    backend_free(span->start, span->pages);
    meta_block_free(span, span->meta_size);
}

/* Gives the domain's back. */
static size_t spares_flush(unsigned domain) {
    size_t bytes = 0;
    if (spare_bytes(&spares[domain]) == 0)
        return 0;
    for (size_t pages = 1; pages <= SPARE_PAGES; pages++)
        for (uint32_t meta = META_BLOCK_MIN; meta < META_BLOCK_MIN << SPARE_METAS; meta *= 2)
            for (struct span *span; (span = spare_take(domain, pages, meta, 1)) != NULL;
                 bytes += pages << RN_PAGE_SHIFT)
                span_give_back(span);
    return bytes;
}

static _Atomic bool is_followed;

void middle_follow(bool followed) { atomic_store_explicit(&is_followed, followed, memory_order_relaxed); }

/* Bytes that one domain may keep. What waits is part of the demand: so all may keep as much as the program had. */
static size_t spare_most(void) {
    size_t domains = domains_now(), share = max_size(SPARE_BYTES, backend_in_use() / SPARE_SHARE) / domains;
    if (!atomic_load_explicit(&is_followed, memory_order_relaxed))
        return share;
    return max_size(share, min_size(backend_demand() / SPARE_DEMAND / domains, SPARE_MOST));
}

/* Of spans alike, linked by `next`, keeps as many as fit. Returns the others. */
static struct span *spare_put(struct span *spans) {
    if (spans->pages > SPARE_PAGES)
        return spans;
    struct spares *own = &spares[span_domain(spans)];
    size_t bytes = spans->pages << RN_PAGE_SHIFT, most = spare_most();
    struct span **list = spare_list(own, spans->pages, spans->meta_size);
    lock_take(&own->lock);
    size_t held = spare_bytes(own), before = held;
    while (spans && held + bytes <= most) {
        struct span *next = spans->next;
        spans->next = *list;
        *list = spans;
        spans = next;
        held += bytes;
    }
    spare_count(own, held - before);
    lock_drop(&own->lock);
    if (RN_UNLIKELY(before > most)) /* the heap is not what it was */
        (void)spares_flush((unsigned)(own - spares));
    return spans;
}

size_t span_flush(void) {
    size_t bytes = 0;
    for (uint32_t left = domains_used(); left;)
        bytes += spares_flush(domain_next(&left));
    return bytes;
}

void middle_trim(void) {
    domains_count();
    uint32_t unused = domains_left();
    size_t most = spare_most();
    for (uint32_t left = domains_used(); left;) {
        unsigned domain = domain_next(&left);
        if ((unused >> domain & 1) || spare_bytes(&spares[domain]) > most)
            (void)spares_flush(domain);
    }
}

static void each_lock(void (*act)(struct lock *)) {
    for (uint32_t left = domains_used(); left;)
        act(&spares[domain_next(&left)].lock);
}

void span_lock(void) { each_lock(lock_take); }

void span_unlock(void) { each_lock(lock_drop); }

void span_reset_lock(void) { each_lock(lock_reset); }

void span_yield(size_t bytes) {
    if (backend_free_resident() < bytes && middle_spare() > SPARE_BYTES)
        (void)span_flush();
}

/* Whose runs the domain's are: where there are several, each keeps to hugepages of its own, unless address space is
 * scarce. */
static unsigned owner_of(unsigned domain) {
    return domains_now() > 1 && os_address_limit() == SIZE_MAX ? domain + 1 : 0;
}

/* A run, and rather than new memory one made of what waits here for spans of other lengths, anybody's; 0 where only
 * growth would help and `grow` is false. */
static uintptr_t run_obtain(size_t pages, unsigned owner, bool grow) {
    bool new_memory;
    uintptr_t start = 0;
    if (!grow)
        return backend_alloc_resident(pages, owner);
    if (middle_spare() != 0) {
        start = backend_alloc_packed(pages, owner, &new_memory);
        if (new_memory && span_flush() != 0 && !start)
            start = backend_alloc_resident(pages, 0);
    }
    return start ? start : backend_alloc_owned(pages, owner);
}

/* Structures of spans, up to `most`, linked by `next`; their other fields are to be set. *count: how many. */
static struct span *structures_obtain(size_t pages, uint32_t meta_size, size_t most, size_t *count) {
    struct span *first = NULL;
    for (*count = 0; *count < most; ++*count) {
        struct span *span = meta_block_alloc(meta_size);
        if (RN_UNLIKELY(!span) && span_flush() != 0)
            span = meta_block_alloc(meta_size);
        if (!span)
            break;
        span->pages = pages;
        span->meta_size = (uint16_t)meta_size;
        span->next = first;
        first = span;
    }
    return first;
}

/* Spans with new runs. Where the heap grows, after what is resident was asked for, up to `most` in one run. */
static struct span *spans_obtain(unsigned domain, size_t pages, uint32_t meta_size, size_t most, bool grow) {
    size_t several = grow && domains_are_many() ? max_size(min_size(most, RUN_PAGES / pages), 1) : 1, count;
    struct span *first = structures_obtain(pages, meta_size, several, &count), **end = &first;
    uintptr_t start = count ? run_obtain(count * pages, owner_of(domain), grow) : 0;
    if (!start && count > 1) {
        start = run_obtain(pages, owner_of(domain), grow);
        count = 1;
    }
    for (; start && count > 0; count--, end = &(*end)->next, start += pages << RN_PAGE_SHIFT)
        (*end)->start = start;
    for (struct span *next, *span = *end; span; span = next) {
        next = span->next;
        meta_block_free(span, meta_size);
    }
    *end = NULL;
    return first;
}

/* ---- Spans ---- */

enum { SPREAD_MOST = 2 * RN_MAX_BATCH };

static void span_fill(struct span *span, unsigned domain, unsigned class_index) {
    const struct size_class *class_ = &size_classes[class_index];
    span->prev = NULL;
    span->class_index = (uint8_t)class_index;
    atomic_store_explicit(&span->domain, (uint16_t)domain, memory_order_relaxed);
    span->free = class_->objects;
    size_t last = bit_words(class_index) - 1; /* most have no other; no loop then, which would be a slow instruction */
    for (size_t w = 0; w < last; w++)
        span->bits[w] = ~(uint64_t)0;
    span->bits[last] = ~(uint64_t)0 >> (-(unsigned)class_->objects % 64);
    pagemap_set(span->start, class_->pages, (uint8_t)class_index, span);
}

struct span *span_create(unsigned domain, unsigned class_index, size_t most, enum source from) {
    size_t pages = size_classes[class_index].pages;
    uint32_t meta_size = meta_size_of(class_index);
    struct span *first = spare_take(domain, pages, meta_size, most);
    if (!first && from != SOURCE_WAITING)
        first = spans_obtain(domain, pages, meta_size, most, from == SOURCE_ANY);
    for (struct span *span = first; span; span = span->next)
        span_fill(span, domain, class_index);
    return first;
}

void span_destroy(struct span *spans) {
    for (struct span *span = spans; span; span = span->next)
        pagemap_set(span->start, span->pages, 0, NULL);
    struct span *next;
    for (struct span *span = spare_put(spans); span; span = next) {
        next = span->next;
        span_give_back(span);
    }
}

/* Reorders objects that lie side by side so that successive ones, taken from the end, lie on different cache lines: a
 * program may well give them to different threads. */
static void spread_over_lines(void **objects, size_t count, size_t size) {
    void *ordered[SPREAD_MOST];
    size_t per_line = RN_CACHE_LINE / size, next = 0;
    if (per_line < 2 || count <= per_line || count > SPREAD_MOST)
        return;
    for (size_t first = per_line; first-- > 0;)
        for (size_t i = first; i < count; i += per_line)
            ordered[next++] = objects[i];
    memcpy(objects, ordered, count * sizeof *objects);
}

size_t span_take(struct span *span, void **objects, size_t count) {
    size_t size = size_classes[span->class_index].size;
    size_t taken = min_size(count, span->free);
    size_t left = taken; /* from the end: a bin is a stack, so the program then gets them in ascending order */
    for (size_t w = 0; left; w++) {
        uint64_t word = span->bits[w];
        while (word && left) {
            unsigned bit = (unsigned)__builtin_ctzll(word);
            word &= word - 1;
            objects[--left] = (void *)(span->start + (w * 64 + bit) * size);
        }
        span->bits[w] = word;
    }
    span->free = (uint16_t)(span->free - taken);
    spread_over_lines(objects, taken, size);
    return taken;
}

/* Without a shortcut for spans of one page: which a program's next block lies in, no CPU foresees. */
bool object_is_start(unsigned class_index, const void *pointer) {
    const struct size_class *class_ = &size_classes[class_index];
    const struct span *span = pagemap_handle(pointer);
    if (RN_UNLIKELY(!span))
        return false; /* freed at this moment, by another thread */
    uint32_t offset = (uint32_t)((uintptr_t)pointer - span->start);
    return (uint32_t)((uint64_t)offset * class_->inverse >> 32) * class_->size == offset;
}

bool object_is_free(unsigned class_index, const void *object) {
    (void)class_index;
    const struct span *span = pagemap_handle(object);
    int index = span_index(span, &size_classes[span->class_index], object);
    return index >= 0 && (span->bits[index / 64] >> (index % 64) & 1);
}

void span_misuse(unsigned class_index, const void *object, const char *what) {
    struct line line = {.used = 0};
    line_text(&line, "free(");
    line_address(&line, object);
    line_text(&line, "): ");
    line_text(&line, what);
    line_text(&line, " (size class ");
    line_number(&line, size_classes[class_index].size);
    line_text(&line, " bytes)");
    line_fatal(&line);
}
