/* large.c: blocks above the largest size class: a run each, described by a span without bits, found by its first page.
 */
#include <errno.h>
#include <string.h>

#include "backend/backend.h"
#include "base/meta.h"
#include "base/os.h"
#include "middle/span.h"
#include "pagemap/pagemap.h"

enum {
    MOVE_MIN = 2 << 20, /* a block that grows beyond this gets a place of its own */
};

static size_t pages_of(size_t size) { return (size + RN_PAGE - 1) >> RN_PAGE_SHIFT; }

/* The span of the large block that starts at `block`, or NULL. The pagemap's handle stands at the first page only. */
static struct span *large_span(const void *block) {
    if (((uintptr_t)block & (RN_PAGE - 1)) != 0 || !pagemap_has(block))
        return NULL;
    struct span *span = pagemap_handle(block);
    return span && span->class_index == LARGE_CLASS && span->start == (uintptr_t)block ? span : NULL;
}

void *large_alloc(size_t size, size_t alignment, bool *zeroed) {
    struct span *span = meta_block_alloc(META_BLOCK_MIN);
    if (!span)
        return NULL;
    size_t pages = max_size(pages_of(size), 1);
    span_yield(pages << RN_PAGE_SHIFT);
    uintptr_t start = backend_alloc_block(pages, max_size(alignment >> RN_PAGE_SHIFT, 1), zeroed);
    if (!start) {
        meta_block_free(span, META_BLOCK_MIN);
        return NULL;
    }
    span->start = start;
    span->pages = pages;
    span->class_index = LARGE_CLASS;
    atomic_init(&span->domain, 0);
    span->meta_size = META_BLOCK_MIN;
    pagemap_set(start, 1, 0, span);
    return (void *)start;
}

size_t large_size(const void *block) {
    struct span *span = large_span(block);
    return span ? span->pages << RN_PAGE_SHIFT : 0;
}

bool large_free(void *block) {
    struct span *span = large_span(block);
    if (!span)
        return false;
    pagemap_set(span->start, 1, 0, NULL);
    backend_free_block(span->start, span->pages);
    meta_block_free(span, span->meta_size);
    return true;
}

/* Moves the pages of [from, from + bytes), or where that cannot be done or is not worth it, the bytes. False if the new
 * place was lost on the way. */
static bool move_bytes(uintptr_t to, uintptr_t from, size_t bytes, size_t movable) {
    int error = movable ? backend_move(from, to, movable >> RN_PAGE_SHIFT) : -EAGAIN;
    if (error && error != -EAGAIN)
        return false;
    size_t moved = error ? 0 : movable;
    memcpy((void *)(to + moved), (const void *)(from + moved), bytes - moved);
    return true;
}

/* Moves the block to a longer run with room behind it. Whole huge pages change their place; what is left is copied,
 * since moving single pages costs as much, and the kernel would have to split huge pages for it. */
static void *large_move(struct span *span, size_t pages) {
    size_t bytes = span->pages << RN_PAGE_SHIFT;
    bool clean;
    if (bytes < MOVE_MIN)
        return NULL;
    size_t movable = os_strict_commit() || span->start % BACKEND_HUGE_SIZE != 0 ? 0
                                                                                : round_down(bytes, BACKEND_HUGE_SIZE);
    span_yield(pages << RN_PAGE_SHIFT);
    uintptr_t start = backend_alloc_growing(pages, movable >> RN_PAGE_SHIFT, &clean);
    if (!start)
        return NULL;
    if (!move_bytes(start, span->start, bytes, clean ? movable : 0)) {
        backend_lose_block(pages);
        return NULL;
    }
    pagemap_set(span->start, 1, 0, NULL);
    backend_free_block(span->start, span->pages);
    span->start = start;
    span->pages = pages;
    pagemap_set(start, 1, 0, span);
    return (void *)start;
}

void *large_resize(void *block, size_t size) {
    struct span *span = large_span(block);
    size_t pages = max_size(pages_of(size), 1);
    if (!span || pages > SIZE_MAX >> (RN_PAGE_SHIFT + 1))
        return NULL;
    if (pages > span->pages && backend_extend(span->start, span->pages, pages) != 0)
        return large_move(span, pages);
    if (pages < span->pages)
        backend_shrink(span->start, span->pages, pages);
    span->pages = pages;
    return block;
}

void middle_stats(struct middle_stats *stats) {
    stats->transfer_free = middle_cached();
    stats->spare_free = middle_spare();
    stats->domains = (unsigned)__builtin_popcount(domains_used());
    stats->span_free = central_free_bytes() + stats->spare_free;
}
