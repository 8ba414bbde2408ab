/* central.c: the spans of each class that have free objects, by domain.
 *
 * Objects come from the fullest spans first, so that sparse spans drain and their whole runs become free; spans are
 * listed by the logarithm of their free count, which is as much order as that takes. */
#include "backend/backend.h"
#include "base/meta.h"
#include "middle/span.h"
#include "pagemap/pagemap.h"

enum {
    SURPLUS_SHARE = 8,   /* of its objects that a domain has free: others may take them */
    LENDERS = 2,         /* classes above that may lend */
    SMALL_OBJECT = 1024, /* up to here classes do not borrow: rounding would cost more */
};

struct central {
    struct lock lock;
    uint32_t occupied; /* bit i: lists[i] is not empty */
    _Atomic size_t free_objects;
    _Atomic size_t objects; /* of all its spans, listed or full */
    struct span *lists[CENTRAL_LISTS];
} RN_ALIGNED(RN_CACHE_LINE);

static RN_TABLE struct central centrals[DOMAINS][RN_CLASSES] = {
    [0 ... DOMAINS - 1] = {[0 ... RN_CLASSES - 1] = {.lock = LOCK_INIT(RANK_CENTRAL)}}};

/* Of each class, the domains that may have something free: those where something came back since they were last found
 * to have nothing. Hints, for those who would else fetch every domain's counts for each span that the heap grows by. */
static _Atomic uint32_t maybe_free[RN_CLASSES];

void central_note(unsigned domain, unsigned class_index) {
    uint32_t bit = (uint32_t)1 << domain;
    if ((central_noted(class_index) & bit) == 0)
        atomic_fetch_or_explicit(&maybe_free[class_index], bit, memory_order_relaxed);
}

void central_forget(unsigned domain, unsigned class_index) {
    atomic_fetch_and_explicit(&maybe_free[class_index], ~((uint32_t)1 << domain), memory_order_relaxed);
}

uint32_t central_noted(unsigned class_index) {
    return atomic_load_explicit(&maybe_free[class_index], memory_order_relaxed);
}

static unsigned list_of(const struct span *span) { return 31u - (unsigned)__builtin_clz(span->free); }

static void list_insert(struct central *central, struct span *span) {
    RN_ASSERT(span->free > 0 && span->free <= size_classes[span->class_index].objects); /* I4 */
    unsigned list = list_of(span);
    span->list = (uint8_t)list;
    span->prev = NULL;
    span->next = central->lists[list];
    if (span->next)
        span->next->prev = span;
    central->lists[list] = span;
    central->occupied |= 1u << list;
}

static void list_remove(struct central *central, struct span *span) {
    if (span->next)
        span->next->prev = span->prev;
    if (span->prev)
        span->prev->next = span->next;
    else if ((central->lists[span->list] = span->next) == NULL)
        central->occupied &= ~(1u << span->list);
}

/* After the span's free count has changed within what a listed span may have. */
static void list_update(struct central *central, struct span *span) {
    if (list_of(span) == span->list)
        return;
    list_remove(central, span);
    list_insert(central, span);
}

static void count_free(struct central *central, size_t change) {
    size_t now = atomic_load_explicit(&central->free_objects, memory_order_relaxed) + change;
    atomic_store_explicit(&central->free_objects, now, memory_order_relaxed);
}

/* The full span goes to another domain. Holds the lock of the one it belonged to. */
static void span_move(struct central *central, struct span *span, unsigned domain) {
    size_t objects = size_classes[span->class_index].objects;
    shared_add(&centrals[domain][span->class_index].objects, objects);
    /* release: pairs with the acquire in span_domain: whoever finds the span there will take another lock */
    atomic_store_explicit(&span->domain, (uint16_t)domain, memory_order_release);
    shared_add(&central->objects, -objects);
}

size_t central_free(unsigned domain, unsigned class_index) {
    return atomic_load_explicit(&centrals[domain][class_index].free_objects, memory_order_relaxed);
}

/* Takes what the listed spans have, for the domain, to which go those that nothing is left of. Holds the lock. */
static size_t take_listed(struct central *central, unsigned domain, void **objects, size_t count) {
    size_t taken = 0;
    while (taken < count && central->occupied) {
        struct span *span = central->lists[__builtin_ctz(central->occupied)];
        taken += span_take(span, objects + taken, count - taken);
        if (span->free == 0) {
            list_remove(central, span);
            if (RN_UNLIKELY(span_domain(span) != domain))
                span_move(central, span, domain);
        } else {
            list_update(central, span);
        }
    }
    count_free(central, -taken);
    return taken;
}

/* Whether spans of class `other` may lend objects to `class_index`: the next larger ones, where objects are worth the
 * look. */
static bool may_lend(unsigned class_index, unsigned other) {
    uint32_t size = size_classes[class_index].size;
    return other < RN_CLASSES && other > class_index && other <= class_index + LENDERS && size > SMALL_OBJECT &&
           size_classes[other].size <= size + size / 8;
}

/* Free objects of somewhat larger classes, before a new span is made: what one class has too much and another too
 * little of would else be held twice. The pagemap knows an object's own class, to which it is freed. */
static size_t borrow(unsigned domain, unsigned class_index, void **objects, size_t count) {
    size_t taken = 0;
    for (unsigned other = class_index + 1; taken == 0 && may_lend(class_index, other); other++)
        taken = central_free(domain, other) ? central_take_own(domain, other, objects, count) : 0;
    return taken;
}

size_t central_take_from(unsigned from, unsigned domain, unsigned class_index, void **objects, size_t count) {
    struct central *central = &centrals[from][class_index];
    if (central_free(from, class_index) == 0)
        return 0;
    lock_take(&central->lock);
    size_t taken = take_listed(central, domain, objects, count);
    lock_drop(&central->lock);
    return taken;
}

size_t central_take_own(unsigned domain, unsigned class_index, void **objects, size_t count) {
    return central_take_from(domain, domain, class_index, objects, count);
}

size_t central_take(unsigned domain, unsigned class_index, void **objects, size_t count) {
    size_t taken = central_free(domain, class_index) ? central_take_own(domain, class_index, objects, count) : 0;
    return taken ? taken : borrow(domain, class_index, objects, count);
}

size_t central_objects(unsigned domain, unsigned class_index) {
    return atomic_load_explicit(&centrals[domain][class_index].objects, memory_order_relaxed);
}

bool central_is_surplus(unsigned domain, unsigned class_index, size_t free_objects) {
    return free_objects > central_objects(domain, class_index) / SURPLUS_SHARE;
}

size_t central_make(unsigned domain, unsigned class_index, void **objects, size_t count, enum source from) {
    struct central *central = &centrals[domain][class_index];
    size_t per_span = size_classes[class_index].objects, taken = 0;
    while (taken < count) {
        struct span *next, *span = span_create(domain, class_index, (count - taken + per_span - 1) / per_span, from);
        if (!span)
            break;
        for (; span; span = next) {
            next = span->next;
            shared_add(&central->objects, per_span);
            taken += span_take(span, objects + taken, count - taken);
            if (span->free == 0)
                continue;
            lock_take(&central->lock);
            count_free(central, span->free);
            list_insert(central, span);
            lock_drop(&central->lock);
            central_note(domain, class_index);
        }
    }
    return taken;
}

enum { PUT_MOST = 64 };

/* Without the lock, since a handler of the abort may allocate. */
static __attribute__((noreturn, cold)) void misuse(struct central *central, const struct span *span, const void *object,
                                                   const char *what) {
    unsigned class_index = span->class_index;
    lock_drop(&central->lock);
    span_misuse(class_index, object, what);
}

/* Marks free those of `count` objects that lie in the first one's span, up to the first that does not. Returns how
 * many. Holds the lock. */
static inline size_t mark_free(struct central *central, struct span *const *spans, void *const *objects, size_t count) {
    struct span *span = spans[0];
    const struct size_class *class_ = &size_classes[span->class_index];
    int number = span_index(span, class_, objects[0]);
    for (size_t i = 0;;) {
        /* A word is changed in a register: else each object would wait for its neighbour's store. */
        int word = number >> 6; /* of what is no object, -1 */
        if (RN_UNLIKELY(number < 0))
            misuse(central, span, objects[i], "interior pointer");
        uint64_t bits = span->bits[word];
        do {
            uint64_t bit = (uint64_t)1 << (number & 63);
            if (RN_UNLIKELY(bits & bit))
                misuse(central, span, objects[i], "double free");
            bits |= bit;
            if (++i == count || spans[i] != span) {
                span->bits[word] = bits;
                return i;
            }
            number = span_index(span, class_, objects[i]);
        } while (number >> 6 == word);
        span->bits[word] = bits;
    }
}

/* After `more` objects of the span came back: lists it where it belongs now. True if it is empty: it then belongs to
 * the caller. Holds the lock. */
static inline bool span_filled(struct central *central, struct span *span, size_t more) {
    bool was_listed = span->free != 0;
    span->free = (uint16_t)(span->free + more);
    if (span->free == size_classes[span->class_index].objects) {
        if (was_listed)
            list_remove(central, span);
        shared_add(&central->objects, -(size_t)span->free);
        return true;
    }
    if (was_listed)
        list_update(central, span);
    else
        list_insert(central, span);
    return false;
}

/* Puts those of the class and of the first one's domain into their spans. The others, which are few, move to the front
 * of `spans` and into `others`; returns how many. */
static size_t put_domain(unsigned class_index, struct span **spans, void *const *objects, size_t count, void **others) {
    unsigned domain = span_domain(spans[0]);
    struct central *central = &centrals[domain][class_index];
    struct span *empty = NULL;
    size_t left = 0, change = 0;
    lock_take(&central->lock);
    for (size_t i = 0, more; i < count; i += more) {
        struct span *span = spans[i];
        if (RN_UNLIKELY(!span || span->class_index != class_index || span_domain(span) != domain)) {
            others[left] = objects[i];
            spans[left++] = span;
            more = 1;
            continue;
        }
        more = mark_free(central, spans + i, objects + i, count - i);
        change += more;
        if (span_filled(central, span, more)) {
            change -= span->free;
            span->next = empty;
            empty = span;
        }
    }
    count_free(central, change);
    lock_drop(&central->lock);
    central_note(domain, class_index);
    if (empty)
        span_destroy(empty);
    return left;
}

/* The same of a single object of the class, as a bin for big objects gives them back. */
static void put_one(unsigned class_index, struct span *span, void *object) {
    unsigned domain = span_domain(span);
    struct central *central = &centrals[domain][class_index];
    lock_take(&central->lock);
    while (RN_UNLIKELY(span_domain(span) != domain)) { /* moved meanwhile */
        lock_drop(&central->lock);
        domain = span_domain(span);
        central = &centrals[domain][class_index];
        lock_take(&central->lock);
    }
    if (RN_UNLIKELY(span->class_index != class_index)) /* ended meanwhile */
        misuse(central, span, object, "double free");
    (void)mark_free(central, &span, &object, 1);
    bool is_empty = span_filled(central, span, 1);
    count_free(central, is_empty ? 1 - (size_t)span->free : 1);
    lock_drop(&central->lock);
    if (is_empty) {
        span->next = NULL;
        span_destroy(span);
    } else {
        central_note(domain, class_index);
    }
}

/* An object in a bin of `class_index` that is not of that class was lent to it; or its span is gone, since it was free
 * already. */
static void put_lent(unsigned class_index, struct span *span, void *object) {
    unsigned own = span ? __atomic_load_n(&span->class_index, __ATOMIC_RELAXED) : 0;
    if (!may_lend(class_index, own))
        span_misuse(class_index, object, "double free");
    put_one(own, span, object);
}

/* What does not need the lock is done before it is taken: the spans are looked up, and their lines asked for. */
static void put_some(unsigned class_index, void *const *objects, size_t count) {
    struct span *looked_up[PUT_MOST], **spans = looked_up;
    void *others[PUT_MOST];
    for (size_t i = 0; i < count; i++) {
        spans[i] = pagemap_handle(objects[i]);
        __builtin_prefetch(spans[i], 1);
    }
    while (count) {
        if (RN_LIKELY(spans[0] && spans[0]->class_index == class_index)) {
            count = put_domain(class_index, spans, objects, count, others);
            objects = others;
        } else {
            put_lent(class_index, *spans++, *objects++);
            count--;
        }
    }
}

void central_put(unsigned class_index, void **objects, size_t count) {
    if (count == 1) {
        struct span *span = pagemap_handle(objects[0]);
        if (RN_LIKELY(span && span->class_index == class_index))
            put_one(class_index, span, objects[0]);
        else
            put_lent(class_index, span, objects[0]);
        return;
    }
    for (size_t done = 0; done < count; done += PUT_MOST)
        put_some(class_index, objects + done, min_size(count - done, PUT_MOST));
}

size_t central_free_bytes(void) {
    size_t bytes = 0;
    for (uint32_t left = domains_used(); left;) {
        unsigned domain = domain_next(&left);
        for (unsigned i = 1; i < RN_CLASSES; i++)
            bytes += central_free(domain, i) * size_classes[i].size;
    }
    return bytes;
}

static void each_lock(void (*act)(struct lock *)) {
    for (uint32_t left = domains_used(); left;) {
        struct central *of_domain = centrals[domain_next(&left)];
        for (unsigned i = 1; i < RN_CLASSES; i++)
            act(&of_domain[i].lock);
    }
}

void central_lock_all(void) { each_lock(lock_take); }

void central_unlock_all(void) { each_lock(lock_drop); }

void central_reset_locks(void) { each_lock(lock_reset); }

static void check_class(unsigned domain, unsigned class_index) {
    struct central *central = &centrals[domain][class_index];
    size_t objects = 0;
    lock_take(&central->lock);
    for (unsigned list = 0; list < CENTRAL_LISTS; list++)
        for (const struct span *span = central->lists[list]; span; span = span->next) {
            unsigned set = 0;
            for (size_t w = 0; w < (size_classes[class_index].objects + 63u) / 64; w++)
                set += (unsigned)__builtin_popcountll(span->bits[w]);
            RN_ASSERT(set == span->free);                             /* I3 */
            RN_ASSERT(span->free > 0 && list_of(span) == span->list); /* I4 */
            RN_ASSERT(span_domain(span) == domain);
            objects += set;
        }
    RN_ASSERT(objects == central->free_objects && objects <= central->objects);
    lock_drop(&central->lock);
}

void central_check(void) {
    for (uint32_t left = domains_used(); left;) {
        unsigned domain = domain_next(&left);
        for (unsigned i = 1; i < RN_CLASSES; i++)
            check_class(domain, i);
    }
}
