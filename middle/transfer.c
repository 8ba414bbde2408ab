/* transfer.c: the transfer caches: an array stack of pointers per class and domain, handed over by the batch.
 *
 * A cache starts empty and doubles on evidence: it overflowed, and since its last growth somebody found it empty; that
 * is a flow of objects both ways which the spans need not see. All caches together are bounded by a share of the heap:
 * what they hold was in use a moment ago, so keeping it raises no peak, and under pressure (new memory would have to
 * come from the system) they are emptied first. */
#include <string.h>

#include "backend/backend.h"
#include "base/meta.h"
#include "base/tally.h"
#include "middle/span.h"
#include "pagemap/pagemap.h"

enum {
    TRANSFER_MIN_BYTES = 1 << 20, /* all caches together may hold this much in the smallest heap */
    TRANSFER_SHARE = 4,           /* or this part of the heap */
    FIRST_BATCHES = 2,            /* capacity of a cache at first */
    SMALL_OBJECT = 1024,          /* above: a cache holds no more than this: the spans' order matters more */
    ALONE_MOST = 256,             /* above: none is kept for a process of one thread */
    PAGE_SLOTS = 512,             /* an array of more than a page's slots */
    LONG_SLOTS = 8192,            /* is at least this long */
    OTHERS_MOST = 4,              /* domains that are looked at for objects before the heap grows by a span */
};

struct transfer {
    struct lock lock;
    _Atomic bool starved;   /* found empty since the last growth; written without the lock too */
    bool moved;             /* something came or went since the last look of age_next */
    _Atomic uint32_t count; /* written under the lock */
    uint32_t capacity;
    uint32_t room; /* slots there are, of which `capacity` are used */
    void **slots;
} RN_ALIGNED(RN_CACHE_LINE);

static RN_TABLE struct transfer transfers[DOMAINS][RN_CLASSES] = {
    [0 ... DOMAINS - 1] = {[0 ... RN_CLASSES - 1] = {.lock = LOCK_INIT(RANK_TRANSFER)}}};
static struct tally held_bytes;
/* How often each domain's classes had nothing free; and the class that age_next looked at, by turns. */
static struct misses { _Atomic size_t count, turn; } RN_ALIGNED(RN_CACHE_LINE) misses[DOMAINS];

static size_t misses_of(unsigned domain) { return atomic_load_explicit(&misses[domain].count, memory_order_relaxed); }

size_t middle_misses(void) {
    size_t sum = 0;
    for (uint32_t left = domains_used(); left;)
        sum += misses_of(domain_next(&left));
    return sum;
}

static uint32_t held(struct transfer *transfer) { return atomic_load_explicit(&transfer->count, memory_order_relaxed); }

static void hold(struct transfer *transfer, size_t count) {
    atomic_store_explicit(&transfer->count, (uint32_t)count, memory_order_relaxed);
}

size_t middle_cached(void) { return tally_sum(&held_bytes); }

static void held_add(size_t change) { tally_add(&held_bytes, change); }

/* Whether a cache may take `count` objects. In a process of one thread there is nobody to hand them to: they go to the
 * spans at once, from which they come back in the order that packs best; but for the smallest, whose memory is not
 * worth the work. */
static bool may_hold(size_t size, size_t count) {
    if (size > ALONE_MOST && lock_is_alone())
        return false;
    return tally_about(&held_bytes) + count * size <= max_size(TRANSFER_MIN_BYTES, backend_in_use() / TRANSFER_SHARE);
}

/* A cache's room at first: two batches, but a flow of large objects is worth one. */
static size_t first_slots(unsigned class_index) {
    size_t batch = size_classes[class_index].batch;
    return size_classes[class_index].size > SMALL_OBJECT ? max_size(batch, 2) : batch * FIRST_BATCHES;
}

static size_t slots_bytes(size_t slots) { return max_size(slots * sizeof(void *), META_BLOCK_MIN); }

/* Room for `capacity` objects, if there is memory. More than a page's is a long array at once: what is never used of it
 * is never resident, and the arrays that a cache would leave behind on its way there would be. Holds the lock. */
static bool room_make(struct transfer *transfer, size_t capacity) {
    if (capacity <= transfer->room)
        return true;
    size_t room = capacity > PAGE_SLOTS ? max_size(capacity, LONG_SLOTS) : capacity;
    void **array = meta_block_alloc(slots_bytes(room));
    if (!array)
        return false;
    if (transfer->room) {
        memcpy(array, transfer->slots, held(transfer) * sizeof *array);
        meta_block_free(transfer->slots, slots_bytes(transfer->room));
    }
    transfer->slots = array;
    transfer->room = (uint32_t)room;
    return true;
}

/* Doubles the cache, if there is reason and memory. Holds the lock. */
static void transfer_grow(struct transfer *transfer, unsigned class_index) {
    if (transfer->capacity && (!atomic_load_explicit(&transfer->starved, memory_order_relaxed) ||
                               size_classes[class_index].size > SMALL_OBJECT))
        return;
    size_t capacity = transfer->capacity ? (size_t)transfer->capacity * 2 : 1;
    while (capacity < first_slots(class_index))
        capacity *= 2;
    if (!room_make(transfer, capacity))
        return;
    transfer->capacity = (uint32_t)capacity;
    atomic_store_explicit(&transfer->starved, false, memory_order_relaxed);
}

/* Gives the empty cache's array back: another class may want one as long. Holds the lock. */
static void slots_give(struct transfer *transfer) {
    if (transfer->room)
        meta_block_free(transfer->slots, slots_bytes(transfer->room));
    transfer->capacity = transfer->room = 0;
}

enum { FLUSH_BATCH = 64 };

static size_t transfer_flush(unsigned domain, unsigned class_index) {
    struct transfer *transfer = &transfers[domain][class_index];
    void *batch[FLUSH_BATCH];
    size_t flushed = 0;
    for (;;) {
        lock_take(&transfer->lock);
        size_t before = held(transfer), count = min_size(FLUSH_BATCH, before);
        if (count)
            memcpy(batch, transfer->slots + before - count, count * sizeof batch[0]);
        else
            slots_give(transfer);
        hold(transfer, before - count);
        held_add(-(count * size_classes[class_index].size));
        lock_drop(&transfer->lock);
        if (count == 0)
            break;
        central_put(class_index, batch, count);
        flushed += count;
    }
    return flushed * size_classes[class_index].size;
}

/* One more. Two threads at once count one: no matter. Returns what it was. */
static size_t count_up(_Atomic size_t *count) {
    size_t before = atomic_load_explicit(count, memory_order_relaxed);
    atomic_store_explicit(count, before + 1, memory_order_relaxed);
    return before;
}

/* Empties a cache if nothing came or went since its last look. */
static void age(unsigned domain, unsigned class_index) {
    struct transfer *transfer = &transfers[domain][class_index];
    lock_take(&transfer->lock);
    bool idle = transfer->capacity && !transfer->moved;
    transfer->moved = false;
    lock_drop(&transfer->lock);
    if (idle)
        (void)transfer_flush(domain, class_index);
}

/* New memory is about to be used: looks at the domain's next cache in turn, and at that of domains left behind. What a
 * class no longer needs would else pin its spans while other classes grow. */
static void age_next(unsigned domain) {
    unsigned class_index = (unsigned)(count_up(&misses[domain].turn) % (RN_CLASSES - 1)) + 1;
    domains_count();
    age(domain, class_index);
    for (uint32_t left = domains_left(); left;) {
        unsigned other = domain_next(&left);
        if (held(&transfers[other][class_index]))
            age(other, class_index);
    }
}

static void note_starved(struct transfer *transfer) {
    if (!atomic_load_explicit(&transfer->starved, memory_order_relaxed))
        atomic_store_explicit(&transfer->starved, true, memory_order_relaxed);
}

static size_t transfer_take(struct transfer *transfer, size_t size, void **objects, size_t count) {
    lock_take(&transfer->lock);
    size_t before = held(transfer), taken = min_size(count, before);
    memcpy(objects, transfer->slots + before - taken, taken * sizeof *objects);
    hold(transfer, before - taken);
    transfer->moved = true;
    held_add(-(taken * size));
    lock_drop(&transfer->lock);
    return taken;
}

/* How many objects of new spans to take where `count` are wanted: whole spans, while there are other threads. Else the
 * rest of the last one would go to another CPU, and with it cache lines that this one is about to have. */
static size_t whole_spans(unsigned class_index, size_t count, size_t most) {
    size_t per_span = size_classes[class_index].objects;
    if (lock_is_alone())
        return count;
    size_t up = (count + per_span - 1) / per_span * per_span;
    return up <= most ? up : max_size(count, most / per_span * per_span);
}

/* Whether another domain may take of the `free_objects` that `from` has. Of small ones only where `from` has too many:
 * to move them costs more than the memory is worth, their cache lines and, when they are freed, the way back. */
static bool may_take_from(unsigned from, unsigned class_index, size_t free_objects) {
    return size_classes[class_index].size > SMALL_OBJECT || central_is_surplus(from, class_index, free_objects);
}

/* What other domains have; of few of them, in turn, and what they may spare, or of `all` of them whatever it is. */
static size_t take_from_others(unsigned domain, unsigned class_index, void **objects, size_t count, bool all) {
    unsigned turn = (unsigned)misses_of(domain) % DOMAINS, looks = all ? DOMAINS : OTHERS_MOST;
    uint32_t used = (all ? domains_used() : central_noted(class_index)) & ~((uint32_t)1 << domain);
    uint32_t others = used >> turn | used << (-turn % DOMAINS);
    for (size_t taken; others && looks > 0; looks--) {
        unsigned from = (domain_next(&others) + turn) % DOMAINS;
        struct transfer *transfer = &transfers[from][class_index];
        size_t free_objects = central_free(from, class_index) + held(transfer);
        if (free_objects == 0)
            central_forget(from, class_index);
        if (free_objects == 0 || (!all && !may_take_from(from, class_index, free_objects)))
            continue;
        if ((taken = central_take_from(from, domain, class_index, objects, count)) != 0)
            return taken;
        if (held(transfer) && (taken = transfer_take(transfer, size_classes[class_index].size, objects, count)) != 0)
            return taken;
    }
    return 0;
}

/* From what is free and resident: new spans, while they need no further hugepage; or other domains' objects, unless
 * whole hugepages are free. */
static size_t take_without_growth(unsigned domain, unsigned class_index, void **objects, size_t count, size_t fresh) {
    size_t taken = 0;
    if (span_may_wait(domain) || backend_free_resident() != 0)
        taken = central_make(domain, class_index, objects, fresh, SOURCE_RESIDENT);
    if (taken == 0 && backend_spare_hugepages() == 0)
        taken = take_from_others(domain, class_index, objects, count, false);
    return taken;
}

static inline size_t take(unsigned domain, unsigned class_index, void **objects, size_t count, size_t most, bool grow) {
    struct transfer *transfer = &transfers[domain][class_index];
    /* Empty caches, which are many, are not worth their lock. */
    size_t taken = held(transfer) ? transfer_take(transfer, size_classes[class_index].size, objects, count) : 0;
    if (taken < count)
        note_starved(transfer);
    if (taken || (taken = central_take(domain, class_index, objects, count)) != 0)
        return taken;
    (void)count_up(&misses[domain].count);
    size_t fresh = whole_spans(class_index, count, most);
    if (span_may_wait(domain) && (taken = central_make(domain, class_index, objects, fresh, SOURCE_WAITING)) != 0)
        return taken;
    age_next(domain);
    if (domains_are_many() && ((taken = take_without_growth(domain, class_index, objects, count, fresh)) != 0 || !grow))
        return taken;
    taken = central_make(domain, class_index, objects, fresh, grow ? SOURCE_ANY : SOURCE_RESIDENT);
    return taken || !grow ? taken : take_from_others(domain, class_index, objects, count, true);
}

size_t middle_take(unsigned id, unsigned class_index, void **objects, size_t count, size_t most) {
    return take(domain_of(id), class_index, objects, count, most, true);
}

size_t middle_take_resident(unsigned id, unsigned class_index, void **objects, size_t count, size_t most) {
    return take(domain_of(id), class_index, objects, count, most, false);
}

/* Not from transfer caches: what they hold may be lent. */
void *middle_take_exact(unsigned id, unsigned class_index) {
    unsigned domain = domain_of(id);
    void *object;
    if (central_take_own(domain, class_index, &object, 1))
        return object;
    for (uint32_t others = domains_used() & ~((uint32_t)1 << domain); others;)
        if (central_take_from(domain_next(&others), domain, class_index, &object, 1))
            return object;
    return central_make(domain, class_index, &object, 1, SOURCE_ANY) ? object : NULL;
}

/* Whose cache the objects go to: their spans', as one of them says, so that what a CPU made comes back to it from those
 * that use it up. */
static unsigned home_of(unsigned domain, void **objects, size_t count) {
    if (!domains_are_many())
        return domain;
    const struct span *span = pagemap_handle(objects[count / 2]);
    return span && span->class_index != LARGE_CLASS ? span_domain(span) : domain;
}

void middle_put(unsigned id, unsigned class_index, void **objects, size_t count) {
    unsigned domain = home_of(domain_of(id), objects, count);
    struct transfer *transfer = &transfers[domain][class_index];
    size_t size = size_classes[class_index].size;
    size_t kept = 0;
    if (may_hold(size, count)) {
        lock_take(&transfer->lock);
        size_t before = held(transfer);
        if (transfer->capacity - before < count)
            transfer_grow(transfer, class_index);
        kept = min_size(count, transfer->capacity - before);
        if (kept)
            memcpy(transfer->slots + before, objects, kept * sizeof *objects);
        hold(transfer, before + kept);
        transfer->moved = true;
        held_add(kept * size);
        lock_drop(&transfer->lock);
        central_note(domain, class_index);
    }
    if (kept < count)
        central_put(class_index, objects + kept, count - kept);
}

size_t middle_class_bytes(unsigned id, unsigned class_index) {
    return central_objects(domain_of(id), class_index) * size_classes[class_index].size * domains_now();
}

void middle_return(unsigned class_index, void **objects, size_t count) { central_put(class_index, objects, count); }

size_t middle_flush(void) {
    size_t bytes = 0;
    for (uint32_t left = domains_used(); left;) {
        unsigned domain = domain_next(&left);
        for (unsigned i = 1; i < RN_CLASSES; i++)
            bytes += transfer_flush(domain, i);
    }
    return bytes + span_flush();
}

size_t middle_count_free(size_t *cached, size_t *in_spans) {
    for (uint32_t left = domains_used(); left;) {
        unsigned domain = domain_next(&left);
        for (unsigned i = 1; i < RN_CLASSES; i++) {
            cached[i] += held(&transfers[domain][i]);
            in_spans[i] += central_free(domain, i);
        }
    }
    return span_waiting();
}

static void each_lock(void (*act)(struct lock *)) {
    for (uint32_t left = domains_used(); left;) {
        struct transfer *of_domain = transfers[domain_next(&left)];
        for (unsigned i = 1; i < RN_CLASSES; i++)
            act(&of_domain[i].lock);
    }
}

/* domain_lock is held meanwhile: no other domain comes into use. */
void middle_lock_all(void) {
    lock_take(&domain_lock);
    each_lock(lock_take);
    central_lock_all();
    span_lock();
}

void middle_unlock_all(void) {
    span_unlock();
    central_unlock_all();
    each_lock(lock_drop);
    lock_drop(&domain_lock);
}

void middle_reset_locks(void) {
    span_reset_lock();
    central_reset_locks();
    each_lock(lock_reset);
    lock_reset(&domain_lock);
}

void middle_check(void) { central_check(); }
