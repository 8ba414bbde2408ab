/* hardened_large.c: large blocks of hardened mode: runs of pages between guards. */
#include <errno.h>
#include <string.h>

#include "backend/backend.h"
#include "base/os.h"
#include "frontend/hardened_run.h"
#include "frontend/pool.h"
#include "pagemap/pagemap.h"

enum {
    NATURAL = 16,
    WAITING_SHARE = 16,       /* of RLIMIT_AS, that freed blocks may hold */
    WAITING_BLOCKS = 256,     /* that wait: each costs mappings */
    MOVE_MIN = 1 << 20,       /* below, copying is cheaper than moving pages */
    WAITING_BYTES = 256 << 20 /* of address space; the memory itself is given back at once */
};

struct guarded {
    struct hardened_run run;
    char *block;
    size_t size;  /* as asked for */
    char *begin;  /* of its pages */
    char *end;    /* of its pages: where the guard is */
    char *fence;  /* the canary's end: `end`, or a little beyond where there is no guard */
    bool is_live; /* else it waits. Under the lock */
};

static _Atomic size_t live_bytes, live_blocks;
static _Atomic size_t waiting_bytes; /* changed under the lock of class LARGE */
static uint32_t waiting_blocks;      /* under that lock */

static struct hardened_class *class_large(void) { return &hardened_classes[LARGE]; }

static struct guarded *guarded_of(struct hardened_run *run) { return (struct guarded *)run; }

static size_t run_bytes(const struct guarded *large) { return large->run.pages << RN_PAGE_SHIFT; }

/* The guards of waiting blocks are counted with the other guards. */
static size_t bytes_between_guards(const struct guarded *large) {
    return run_bytes(large) - (size_t)__builtin_popcount(large->run.guards) * guard_size();
}

static void count(size_t bytes, size_t blocks) {
    atomic_fetch_add_explicit(&live_bytes, bytes, memory_order_relaxed);
    atomic_fetch_add_explicit(&live_blocks, blocks, memory_order_relaxed);
}

/* ---- Making one ---- */

/* A run whose middle part holds `bytes`, aligned to `alignment`. A block aligned to more than a guard's size has none
 * before it: the guard would take as much as the alignment. NULL when memory is short. */
static struct guarded *guarded_make(size_t bytes, size_t alignment, bool *zeroed) {
    size_t guard = guard_size(), middle = round_up(bytes, guard);
    size_t front = alignment > guard ? 0 : guard;
    struct guarded *large = descriptor_take(LARGE, sizeof *large);
    if (!large)
        return NULL;
    size_t pages = (front + middle + guard) >> RN_PAGE_SHIFT;
    uintptr_t start = backend_alloc(pages, max_size(alignment, guard) >> RN_PAGE_SHIFT, zeroed);
    if (!start) {
        descriptor_give(&large->run);
        return NULL;
    }
    large->run.start = start;
    large->run.pages = pages;
    large->run.guards = 0;
    large->run.guards_are_clean = true;
    large->run.is_clean = false;
    large->begin = (char *)start + front;
    large->end = large->begin + middle;
    if (front)
        guard_set(&large->run, GUARD_FRONT, start, *zeroed);
    guard_set(&large->run, GUARD_BACK, (uintptr_t)large->end, *zeroed);
    large->fence = large->end + (large->run.guards & GUARD_BACK ? 0 : CANARY_MIN);
    large->is_live = true;
    return large;
}

/* The block begins at `block` and has `size` bytes: makes it known. */
static void guarded_place(struct guarded *large, char *block, size_t size) {
    large->block = block;
    large->size = size;
    canary_write(block, block + size, large->fence);
    count((size_t)(large->end - large->begin), 1);
    pagemap_set(round_down((uintptr_t)block, RN_PAGE), 1, 0, large);
}

void *guarded_alloc(size_t size, size_t alignment, bool *zeroed) {
    size_t bytes = max_size(size, 1);
    struct guarded *large = guarded_make(bytes, alignment, zeroed);
    if (!large)
        return NULL;
    uintptr_t last = (uintptr_t)large->end - bytes;
    char *block = alignment > guard_size() ? large->begin : (char *)round_down(last, max_size(alignment, NATURAL));
    guarded_place(large, block, size);
    trim_step();
    return block;
}

/* ---- Looking one up ---- */

/* The live block that starts at `block`; ends the process if that is none. Holds the lock. */
static struct guarded *live(const char *function, struct hardened_run *run, const void *block) {
    struct guarded *large = guarded_of(run);
    bool is_start = large->block == block;
    if (RN_LIKELY(is_start && large->is_live))
        return large;
    size_t size = large->size;
    run_unlock(run);
    bool is_odd = ((uintptr_t)block & 7) != 0;
    hardened_misuse(function, block,
                    is_start ? freed_twice(function)
                    : is_odd ? "misaligned pointer"
                             : "interior pointer",
                    LARGE, size);
}

size_t guarded_size(const char *function, struct hardened_run *run, const void *block) {
    size_t size = live(function, run, block)->size;
    run_unlock(run);
    return size;
}

static void check_canary(const char *function, const struct guarded *large) {
    if (!canary_is_whole(large->block, large->block + large->size, large->fence))
        hardened_misuse(function, large->block, "overflow: bytes after the block were written", LARGE, large->size);
}

/* ---- Freeing ---- */

static bool waits_too_much(size_t keep) {
    size_t limit = os_address_limit();
    size_t most = limit == SIZE_MAX ? WAITING_BYTES : min_size(WAITING_BYTES, limit / WAITING_SHARE);
    return waiting_blocks > keep && (keep == 0 || waiting_blocks > WAITING_BLOCKS ||
                                     atomic_load_explicit(&waiting_bytes, memory_order_relaxed) > most);
}

static void wait_append(struct guarded *large) {
    ring_append(&class_large()->listed, &large->run);
    waiting_blocks++;
    atomic_fetch_add_explicit(&waiting_bytes, bytes_between_guards(large), memory_order_relaxed);
}

/* Gives those that waited longest to the backend, until few enough wait: at least `keep`, and all beyond if that is 0.
 * One that the system does not make accessible again goes on waiting. Called without the lock. */
static void wait_end(size_t keep) {
    struct hardened_class *class_ = class_large();
    bool refused = false;
    lock_take(&class_->lock);
    while (!refused && waits_too_much(keep)) {
        struct guarded *oldest = guarded_of(class_->listed);
        uintptr_t page = round_down((uintptr_t)oldest->block, RN_PAGE);
        size_t bytes = bytes_between_guards(oldest);
        ring_remove(&class_->listed, &oldest->run);
        waiting_blocks--;
        pagemap_set(page, 1, 0, NULL);
        atomic_fetch_sub_explicit(&waiting_bytes, bytes, memory_order_relaxed);
        lock_drop(&class_->lock);
        refused = !run_give(&oldest->run);
        lock_take(&class_->lock);
        if (refused) {
            pagemap_set(page, 1, 0, oldest);
            wait_append(oldest);
        }
    }
    lock_drop(&class_->lock);
}

/* The contents go at once, and with them the memory; the address is nobody's for a while. What is released before
 * access is taken away might be written again. */
static void guarded_retire(struct guarded *large) {
    size_t middle = (size_t)(large->end - large->begin);
    bool still_committed;
    bool is_protected = os_protect((void *)large->run.start, run_bytes(large)) == 0;
    bool is_released = os_release(large->begin, middle, &still_committed) == 0;
    /* What should have been a guard and is none may be dirty from its life before, or hold the canary. */
    large->run.is_clean = is_protected && is_released && bytes_between_guards(large) == middle;
    if (!is_released && os_commit(large->begin, middle) == 0) { /* locked memory, or explicit huge pages */
        memset(large->begin, 0, middle);
        if (is_protected)
            (void)os_protect(large->begin, middle);
    }
    count(-middle, (size_t)-1);
    lock_take(&class_large()->lock);
    wait_append(large);
    lock_drop(&class_large()->lock);
    wait_end(1);
    trim_step();
}

void guarded_free(struct hardened_run *run, void *block) {
    struct guarded *large = live("free", run, block);
    large->is_live = false;
    run_unlock(run);
    check_canary("free", large);
    guarded_retire(large);
}

/* ---- Resizing ---- */

/* The block's pages move into a new run, at the same place in their first page; so its end need not lie against the
 * guard, and the canary reaches there. The backend takes the pages that are left for clean; the guard before them, in
 * force or not, keeps it from taking the whole hugepage for fresh, which it would make accessible. Called without the
 * lock. */
static void *guarded_move(struct guarded *large, size_t size) {
    size_t offset = (size_t)(large->block - large->begin);
    size_t old = (size_t)(large->end - large->begin), kept = min_size(large->size, size);
    bool zeroed;
    bool has_front = (uintptr_t)large->begin != large->run.start;
    if (kept < MOVE_MIN || !has_front || os_strict_commit() || os_page_size() > RN_PAGE)
        return NULL;
    struct guarded *fresh = guarded_make(offset + size, 1, &zeroed);
    if (!fresh)
        return NULL;
    size_t moved = min_size(old, (size_t)(fresh->end - fresh->begin));
    int error = backend_move((uintptr_t)large->begin, (uintptr_t)fresh->begin, moved >> RN_PAGE_SHIFT);
    if (error) {
        if (error == -EAGAIN)
            (void)run_give(&fresh->run);
        return NULL;
    }
    char *block = fresh->begin + offset;
    memset(block + kept, 0, (size_t)(fresh->begin + moved - (block + kept))); /* the old canary, or the old end */
    guarded_place(fresh, block, size);
    lock_take(&class_large()->lock);
    large->is_live = false;
    lock_drop(&class_large()->lock);
    guarded_retire(large);
    return block;
}

void *guarded_resize(struct hardened_run *run, void *block, size_t size) {
    struct guarded *large = live("realloc", run, block);
    run_unlock(run);
    check_canary("realloc", large);
    size_t room = (size_t)(large->end - large->block), old = large->size;
    if (size > room || room - size >= guard_size())
        return guarded_move(large, size);
    lock_take(&class_large()->lock);
    large->size = size;
    lock_drop(&class_large()->lock);
    if (size > old)
        memset(large->block + old, 0, size - old); /* the program must not see the canary */
    canary_write(block, large->block + size, large->fence);
    return block;
}

void guarded_trim(void) { wait_end(0); }

void guarded_stats(struct hardened_stats *stats) {
    stats->large_live = atomic_load_explicit(&live_bytes, memory_order_relaxed);
    stats->large_blocks = atomic_load_explicit(&live_blocks, memory_order_relaxed);
    stats->waiting = atomic_load_explicit(&waiting_bytes, memory_order_relaxed);
}
