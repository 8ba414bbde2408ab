/* transfer.c: the transfer caches: an array stack of pointers per class, handed over by the batch.
 *
 * A cache starts empty and doubles on evidence: it overflowed, and since its last growth somebody found it empty; that
 * is a flow of objects both ways which the spans need not see. All caches together are bounded by a share of the heap:
 * what they hold was in use a moment ago, so keeping it raises no peak, and under pressure (new memory would have to
 * come from the system) they are emptied first. */
#include <string.h>

#include "backend/backend.h"
#include "base/meta.h"
#include "middle/span.h"

enum {
    TRANSFER_MIN_BYTES = 1 << 20, /* all caches together may hold this much in the smallest heap */
    TRANSFER_SHARE = 4,           /* or this part of the heap */
    FIRST_BATCHES = 2,            /* capacity of a cache at first */
    SMALL_OBJECT = 1024,          /* above: a cache holds no more than this: the spans' order matters more */
};

struct transfer {
    struct lock lock;
    bool starved; /* found empty since the last growth */
    bool moved;   /* something came or went since the last look of age_next */
    uint32_t count;
    uint32_t capacity;
    void **slots;
} RN_ALIGNED(RN_CACHE_LINE);

static struct transfer transfers[RN_CLASSES] = {[0 ... RN_CLASSES - 1] = {.lock = LOCK_INIT(RANK_TRANSFER)}};
static _Atomic size_t held_bytes;
static _Atomic unsigned hand; /* the class that age_next looks at */

size_t middle_cached(void) { return atomic_load_explicit(&held_bytes, memory_order_relaxed); }

static void held_add(size_t change) { atomic_fetch_add_explicit(&held_bytes, change, memory_order_relaxed); }

static bool may_hold(size_t bytes) {
    return middle_cached() + bytes <= max_size(TRANSFER_MIN_BYTES, backend_in_use() / TRANSFER_SHARE);
}

/* A cache's room at first: two batches, but a flow of large objects is worth one. */
static size_t first_slots(unsigned class_index) {
    size_t batch = size_classes[class_index].batch;
    return size_classes[class_index].size > SMALL_OBJECT ? max_size(batch, 2) : batch * FIRST_BATCHES;
}

/* Doubles the cache, if there is reason and memory. Holds the lock. */
static void transfer_grow(struct transfer *transfer, unsigned class_index) {
    if (transfer->capacity && (!transfer->starved || size_classes[class_index].size > SMALL_OBJECT))
        return;
    size_t slots = transfer->capacity ? (size_t)transfer->capacity * 2 : 1;
    while (slots < first_slots(class_index))
        slots *= 2;
    size_t bytes = max_size(slots * sizeof(void *), META_BLOCK_MIN);
    void **array = meta_block_alloc(bytes);
    if (!array)
        return;
    if (transfer->capacity) {
        memcpy(array, transfer->slots, transfer->count * sizeof *array);
        meta_block_free(transfer->slots, max_size(transfer->capacity * sizeof *array, META_BLOCK_MIN));
    }
    transfer->slots = array;
    transfer->capacity = (uint32_t)slots;
    transfer->starved = false;
}

enum { FLUSH_BATCH = 64 };

static size_t transfer_flush(unsigned class_index) {
    struct transfer *transfer = &transfers[class_index];
    void *batch[FLUSH_BATCH];
    size_t flushed = 0;
    for (;;) {
        lock_take(&transfer->lock);
        size_t count = min_size(FLUSH_BATCH, transfer->count);
        transfer->count -= (uint32_t)count;
        if (count)
            memcpy(batch, transfer->slots + transfer->count, count * sizeof batch[0]);
        held_add(-(count * size_classes[class_index].size));
        lock_drop(&transfer->lock);
        if (count == 0)
            break;
        central_put(class_index, batch, count);
        flushed += count;
    }
    return flushed * size_classes[class_index].size;
}

/* New memory is about to be used: looks at the next cache in turn, and empties it if nothing came or went since its
 * last look. What a class no longer needs would else pin its spans while other classes grow. */
static void age_next(void) {
    unsigned class_index = atomic_fetch_add_explicit(&hand, 1, memory_order_relaxed) % (RN_CLASSES - 1) + 1;
    struct transfer *transfer = &transfers[class_index];
    lock_take(&transfer->lock);
    bool idle = transfer->count && !transfer->moved;
    transfer->moved = false;
    lock_drop(&transfer->lock);
    if (idle)
        (void)transfer_flush(class_index);
}

size_t middle_take(unsigned class_index, void **objects, size_t count) {
    struct transfer *transfer = &transfers[class_index];
    if (atomic_load_explicit(&held_bytes, memory_order_relaxed) != 0) {
        lock_take(&transfer->lock);
        size_t taken = min_size(count, transfer->count);
        transfer->count -= (uint32_t)taken;
        if (taken)
            memcpy(objects, transfer->slots + transfer->count, taken * sizeof *objects);
        transfer->starved = transfer->starved || taken < count;
        transfer->moved = true;
        held_add(-(taken * size_classes[class_index].size));
        lock_drop(&transfer->lock);
        if (taken)
            return taken;
    }
    size_t taken = central_take(class_index, objects, count);
    if (taken)
        return taken;
    age_next();
    return central_make(class_index, objects, count);
}

void *middle_take_exact(unsigned class_index) {
    void *object;
    if (central_take_own(class_index, &object, 1) || central_make(class_index, &object, 1))
        return object;
    return NULL;
}

void middle_put(unsigned class_index, void **objects, size_t count) {
    struct transfer *transfer = &transfers[class_index];
    size_t size = size_classes[class_index].size;
    size_t kept = 0;
    if (may_hold(count * size)) {
        lock_take(&transfer->lock);
        if (transfer->capacity - transfer->count < count)
            transfer_grow(transfer, class_index);
        kept = min_size(count, transfer->capacity - transfer->count);
        if (kept)
            memcpy(transfer->slots + transfer->count, objects, kept * sizeof *objects);
        transfer->count += (uint32_t)kept;
        transfer->moved = true;
        held_add(kept * size);
        lock_drop(&transfer->lock);
    }
    if (kept < count)
        central_put(class_index, objects + kept, count - kept);
}

size_t middle_flush(void) {
    size_t bytes = 0;
    for (unsigned i = 1; i < RN_CLASSES; i++)
        bytes += transfer_flush(i);
    return bytes + span_flush();
}

void middle_lock_all(void) {
    for (unsigned i = 1; i < RN_CLASSES; i++)
        lock_take(&transfers[i].lock);
    central_lock_all();
    span_lock();
}

void middle_unlock_all(void) {
    span_unlock();
    central_unlock_all();
    for (unsigned i = RN_CLASSES - 1; i > 0; i--)
        lock_drop(&transfers[i].lock);
}

void middle_reset_locks(void) {
    span_reset_lock();
    central_reset_locks();
    for (unsigned i = 1; i < RN_CLASSES; i++)
        lock_reset(&transfers[i].lock);
}

void middle_check(void) { central_check(); }
