/* span.h: spans, and the central list of them. Internal to this tier.
 *
 * Life of a span (owner in brackets):
 *
 *   made from a page run [its maker] --> listed: 0 < free < objects, or new [central list, under its lock]
 *   listed --last free object taken--> full: on no list [the holders of its objects]
 *   full --an object comes back--> listed
 *   listed --last used object comes back--> empty: it waits among the spare spans, or its run goes back to the backend
 *       [whoever found it empty]
 *
 * I2  An object is in exactly one place: the program, one pool slot, one transfer slot, or one set bit of its span.
 * I3  span->free == the number of set bits in span->bits.
 * I4  A span on a central list has 0 < free <= objects.
 */
#ifndef MIDDLE_SPAN_H
#define MIDDLE_SPAN_H

#include "middle/domain.h"
#include "middle/middle.h"

enum {
    CENTRAL_LISTS = 11, /* by the logarithm of the free count, 1 .. 1024 */
    LARGE_CLASS = 0,
};

/* The list fields, `free` and the bits are under the lock of the central list of its class and domain; `domain` is
 * written under it, and read without; the rest is constant in a span's life. */
struct span {
    struct span *next;
    struct span *prev;
    uintptr_t start;
    size_t pages;
    uint8_t class_index; /* LARGE_CLASS: one block, no bits */
    uint8_t list;
    uint16_t free;
    uint16_t meta_size;      /* bytes of this structure */
    _Atomic uint16_t domain; /* whose central list is its; changes only under that list's lock */
    uint64_t bits[];         /* 1: free */
};

/* Where new spans may come from: those that wait; or what is resident too; or else the heap grows. */
enum source { SOURCE_WAITING, SOURCE_RESIDENT, SOURCE_ANY };

/* Makes up to `most` spans, all objects free, on no list but linked by `next`. NULL when memory is short, or `from` has
 * nothing. */
struct span *span_create(unsigned domain, unsigned class_index, size_t most, enum source from);
/* Ends the life of empty spans of one class, linked by `next`: the last few wait for the next span_create, the others'
 * runs and structures go back. */
void span_destroy(struct span *spans);
/* Gives back the waiting ones. Returns their bytes. */
size_t span_flush(void);
/* The number of spare spans. */
size_t span_waiting(void);
/* The domain may have an empty span that waits. */
bool span_may_wait(unsigned domain);
/* A run of `bytes` that no span has is wanted: gives back what waits, if it is much and could spare new memory. */
void span_yield(size_t bytes);
void span_lock(void);
void span_unlock(void);
void span_reset_lock(void);
/* Takes up to `count` free objects. */
size_t span_take(struct span *span, void **objects, size_t count);

/* The object's number if `object` starts one in the span, which is of that class, else -1. */
static inline int span_index(const struct span *span, const struct size_class *class_, const void *object) {
    uint32_t offset = (uint32_t)((uintptr_t)object - span->start);
    uint32_t index = (uint32_t)((uint64_t)offset * class_->inverse >> 32); /* exact where an object starts */
    return index * class_->size == offset && index < class_->objects ? (int)index : -1;
}

static inline unsigned span_domain(const struct span *span) {
    /* acquire: pairs with the release in span_move */
    return atomic_load_explicit(&span->domain, memory_order_acquire);
}

/* Objects from the domain's listed spans, of the class or of one that lends; 0 if there are none. */
size_t central_take(unsigned domain, unsigned class_index, void **objects, size_t count);
/* The same, of the very class only. */
size_t central_take_own(unsigned domain, unsigned class_index, void **objects, size_t count);
/* The same, from the spans of domain `from`; those that nothing is left of come to `domain`. */
size_t central_take_from(unsigned from, unsigned domain, unsigned class_index, void **objects, size_t count);
/* Objects that are free in the domain's spans now, relaxed; and whether so many would be more than a share of all that
 * its spans have. */
size_t central_free(unsigned domain, unsigned class_index);
bool central_is_surplus(unsigned domain, unsigned class_index, size_t free_objects);
/* Objects of all its spans. */
size_t central_objects(unsigned domain, unsigned class_index);
/* Objects of the very class, from new spans. */
size_t central_make(unsigned domain, unsigned class_index, void **objects, size_t count, enum source from);
/* The domains that may have something of the class free, in spans or in transfer caches; and how it becomes known. */
uint32_t central_noted(unsigned class_index);
void central_note(unsigned domain, unsigned class_index);
void central_forget(unsigned domain, unsigned class_index);
void central_put(unsigned class_index, void **objects, size_t count);
size_t central_free_bytes(void);
void central_check(void);
void central_lock_all(void);
void central_unlock_all(void);
void central_reset_locks(void);

/* Ends the process: `object`, given back as one of the class, is not one that can be. */
void span_misuse(unsigned class_index, const void *object, const char *what) __attribute__((noreturn, cold));

#endif
