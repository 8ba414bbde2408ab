/* hardened.c: the doors of hardened mode. See hardened.h. */
#include "frontend/hardened.h"

#include "base/fatal.h"
#include "frontend/alloc.h"
#include "frontend/hardened_run.h"
#include "frontend/pool.h"

bool rn_hardened;
RN_TABLE struct hardened_class hardened_classes[RN_CLASSES] = {
    [0 ... RN_CLASSES - 1] = {.lock = LOCK_INIT(RANK_HARDENED)}};

/* Of processes: counted up in each child of fork, so that parent and child do not choose the same places. */
static uint32_t generation = 1;

void hardened_init(void) {
    canary_init();
    classes_init(slot_classes, false);
    rn_hardened = true;
}

struct random *class_random(struct hardened_class *class_) {
    if (RN_UNLIKELY(class_->generation != generation)) {
        class_->generation = generation;
        random_seed(&class_->random);
    }
    return &class_->random;
}

/* The smallest class with room for the bytes and a canary whose size is a multiple of the alignment; LARGE if there is
 * none. Spans start on pages, so its slots are aligned. */
static unsigned class_for(size_t size, size_t alignment) {
    size_t whole = max_size(size + CANARY_MIN, 2 * sizeof(void *));
    if (size >= RN_MAX_SMALL || whole > RN_MAX_SMALL || alignment > RN_PAGE)
        return LARGE;
    size_t aligned = size_aligned(whole, alignment);
    if (aligned > RN_MAX_SMALL)
        return LARGE;
    return atomic_load_explicit(&slot_classes[class_index_of(aligned)], memory_order_relaxed);
}

void *hardened_alloc(size_t size, size_t alignment, bool *zeroed) {
    unsigned class_index = class_for(size, alignment);
    if (class_index == LARGE)
        return guarded_alloc(size, alignment, zeroed);
    *zeroed = false;
    return slot_alloc(class_index, size);
}

void hardened_free(void *block) {
    struct hardened_run *run = run_lock("free", block);
    if (run->class_index == LARGE)
        guarded_free(run, block);
    else
        slot_free(run, block);
}

size_t hardened_size(const char *function, const void *block) {
    struct hardened_run *run = run_lock(function, block);
    return run->class_index == LARGE ? guarded_size(function, run, block) : slot_size(function, run, block);
}

static void line_wrong(struct line *line, const void *block, const char *what, size_t told) {
    line_text(line, "free(");
    line_address(line, block);
    line_text(line, "): wrong ");
    line_text(line, what);
    line_number(line, told);
}

void hardened_free_sized(void *block, size_t alignment, size_t size) {
    size_t is = hardened_size("free", block);
    struct line line = {.used = 0};
    if (size != is) {
        line_wrong(&line, block, "size ", size);
        line_text(&line, ", the block has ");
        line_number(&line, is);
        line_fatal(&line);
    }
    if (alignment && (!is_power_of_two(alignment) || ((uintptr_t)block & (alignment - 1)) != 0)) {
        line_wrong(&line, block, "alignment ", alignment);
        line_fatal(&line);
    }
    hardened_free(block);
}

void *hardened_resize(void *block, size_t size) {
    struct hardened_run *run = run_lock("realloc", block);
    if (run->class_index == LARGE)
        return guarded_resize(run, block, size);
    unsigned class_index = run->class_index;
    size_t old = slot_size("realloc", run, block);
    slot_check("realloc", class_index, block, old);
    if (class_for(size, 1) != class_index)
        return NULL;
    slot_resize(run_lock("realloc", block), block, old, size);
    return block;
}

void hardened_trim(void) {
    if (!rn_hardened)
        return;
    for (unsigned i = 1; i < RN_CLASSES; i++)
        spans_trim(i);
    guarded_trim();
}

void hardened_stats(struct hardened_stats *stats) {
    size_t held = 0;
    guarded_stats(stats);
    stats->small_live = 0;
    for (unsigned i = 1; i < RN_CLASSES; i++) {
        stats->small_live += atomic_load_explicit(&hardened_classes[i].live, memory_order_relaxed);
        held += atomic_load_explicit(&hardened_classes[i].held, memory_order_relaxed);
    }
    stats->small_free = held > stats->small_live ? held - stats->small_live : 0;
    stats->guards = guards_bytes();
}

size_t hardened_free_slots(void) {
    size_t slots = 0;
    for (unsigned i = 1; i < RN_CLASSES; i++) {
        size_t live = atomic_load_explicit(&hardened_classes[i].live, memory_order_relaxed);
        size_t held = atomic_load_explicit(&hardened_classes[i].held, memory_order_relaxed);
        slots += held > live ? (held - live) / size_classes[i].size : 0;
    }
    return slots;
}

void hardened_lock_all(void) {
    for (unsigned i = 0; rn_hardened && i < RN_CLASSES; i++)
        lock_take(&hardened_classes[i].lock);
}

void hardened_unlock_all(void) {
    for (unsigned i = RN_CLASSES; rn_hardened && i-- > 0;)
        lock_drop(&hardened_classes[i].lock);
}

void hardened_reset_locks(void) {
    for (unsigned i = 0; rn_hardened && i < RN_CLASSES; i++)
        lock_reset(&hardened_classes[i].lock);
}

void hardened_new_generation(void) { generation++; }

void hardened_check(void) {
    for (unsigned i = 1; rn_hardened && i < RN_CLASSES; i++)
        spans_check(i);
}
