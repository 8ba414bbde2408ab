/* hardened_run.c: runs of pages with guards, descriptors, canaries. See hardened_run.h. */
#include "frontend/hardened_run.h"

#include <string.h>

#include "backend/backend.h"
#include "base/fatal.h"
#include "base/meta.h"
#include "base/os.h"
#include "frontend/alloc.h"
#include "pagemap/pagemap.h"

/* Each guard splits the mapping it lies in, and a process has 65,530 mappings by default (vm.max_map_count). */
enum { GUARDS_MOST = 16 << 10 };

static _Atomic size_t guards;

size_t guard_size(void) { return max_size(os_page_size(), RN_PAGE); }

size_t guards_bytes(void) { return atomic_load_explicit(&guards, memory_order_relaxed) * guard_size(); }

void guard_set(struct hardened_run *run, uint8_t guard, uintptr_t at, bool zeroed) {
    bool still_committed;
    if (atomic_fetch_add_explicit(&guards, 1, memory_order_relaxed) >= GUARDS_MOST ||
        os_protect((void *)at, guard_size()) != 0) {
        atomic_fetch_sub_explicit(&guards, 1, memory_order_relaxed);
        return;
    }
    run->guards |= guard;
    if (!zeroed && os_release((void *)at, guard_size(), &still_committed) != 0)
        run->guards_are_clean = false;
}

bool run_give(struct hardened_run *run) {
    if (os_commit((void *)run->start, run->pages << RN_PAGE_SHIFT) != 0)
        return false;
    /* Before the pages go: a fork between the two must not leave the child with guards that are nowhere. */
    atomic_fetch_sub_explicit(&guards, (size_t)__builtin_popcount(run->guards), memory_order_relaxed);
    size_t guard = guard_size() >> RN_PAGE_SHIFT, pages = run->pages;
    void (*give_guard)(uintptr_t, size_t) = run->guards_are_clean ? backend_free_released : backend_free;
    uintptr_t start = run->start, end = start + (pages << RN_PAGE_SHIFT);
    if (run->guards & GUARD_FRONT) {
        give_guard(start, guard);
        start += guard_size();
        pages -= guard;
    }
    if (run->guards & GUARD_BACK) {
        give_guard(end - guard_size(), guard);
        pages -= guard;
    }
    (run->is_clean ? backend_free_released : backend_free)(start, pages);
    descriptor_give(run);
    return true;
}

/* ---- Descriptors ---- */

void *descriptor_take(unsigned class_index, size_t size) {
    struct hardened_class *class_ = &hardened_classes[class_index];
    lock_take(&class_->lock);
    struct hardened_run *run = class_->spare;
    if (run)
        class_->spare = run->next;
    lock_drop(&class_->lock);
    if (!run)
        run = meta_alloc(size);
    if (run)
        run->class_index = (uint8_t)class_index;
    return run;
}

void descriptor_give(struct hardened_run *run) {
    struct hardened_class *class_ = &hardened_classes[run->class_index];
    lock_take(&class_->lock);
    run->next = class_->spare;
    class_->spare = run;
    lock_drop(&class_->lock);
}

static struct hardened_run *run_of(const void *block) { return pagemap_has(block) ? pagemap_handle(block) : NULL; }

struct hardened_run *run_lock(const char *function, const void *block) {
    struct hardened_run *run = run_of(block);
    RN_ASSERT(pagemap_tag(block) == 0); /* I11 */
    if (run) {
        struct lock *lock = &hardened_classes[run->class_index].lock;
        lock_take(lock);
        if (run_of(block) == run)
            return run;
        lock_drop(lock);
    }
    block_misuse(function, block);
}

void run_unlock(const struct hardened_run *run) { lock_drop(&hardened_classes[run->class_index].lock); }

void ring_append(struct hardened_run **ring, struct hardened_run *run) {
    if (!*ring) {
        *ring = run->next = run->prev = run;
        return;
    }
    run->next = *ring;
    run->prev = (*ring)->prev;
    run->prev->next = run->next->prev = run;
}

void ring_remove(struct hardened_run **ring, struct hardened_run *run) {
    if (*ring == run)
        *ring = run->next != run ? run->next : NULL;
    run->prev->next = run->next;
    run->next->prev = run->prev;
}

/* ---- Canaries ---- */

static uint64_t secrets[2];

void canary_init(void) { os_entropy(secrets, sizeof secrets); }

static uint64_t canary_of(const void *block) {
    uint64_t x = ((uintptr_t)block ^ secrets[0]) * 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 32) * (secrets[1] | 1);
    return (x ^ x >> 29) | 0x0101010101010101u;
}

void canary_write(const void *block, char *from, const char *to) {
    uint64_t canary = canary_of(block);
    for (; from < to; from += sizeof canary)
        memcpy(from, &canary, min_size(sizeof canary, (size_t)(to - from)));
}

bool canary_is_whole(const void *block, const char *from, const char *to) {
    uint64_t canary = canary_of(block);
    for (; from < to; from += sizeof canary)
        if (memcmp(from, &canary, min_size(sizeof canary, (size_t)(to - from))) != 0)
            return false;
    return true;
}

/* `from` is aligned to 16, `size` a multiple of it. */
bool is_zero(const char *from, size_t size) {
    uint64_t seen = 0;
    for (size_t at = 0; at < size; at += 2 * sizeof seen) {
        uint64_t words[2];
        memcpy(words, from + at, sizeof words);
        seen |= words[0] | words[1];
    }
    return seen == 0;
}

const char *freed_twice(const char *function) {
    return strcmp(function, "malloc_usable_size") == 0 ? "freed already" : "double free";
}

void hardened_misuse(const char *function, const void *block, const char *what, unsigned class_index, size_t size) {
    struct line line = {.used = 0};
    line_text(&line, function);
    line_text(&line, "(");
    line_address(&line, block);
    line_text(&line, "): ");
    line_text(&line, what);
    line_text(&line, class_index == LARGE ? " (large block of " : " (size class ");
    line_number(&line, class_index == LARGE ? size : size_classes[class_index].size);
    line_text(&line, " bytes)");
    line_fatal(&line);
}
