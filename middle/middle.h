/* middle.h: objects by the batch, between the pools and the backend. The door of this tier.
 *
 * A transfer cache per size class takes and gives batches of pointers under one short lock; behind it a central list of
 * spans per class keeps one bit per object, outside the memory. There is one of each for every domain of CPUs. Large
 * blocks, above the largest class, are spans of their own. All functions are thread-safe. Failure is NULL or a short
 * count, with nothing lost; errno is never touched.
 */
#ifndef MIDDLE_MIDDLE_H
#define MIDDLE_MIDDLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/lock.h"
#include "middle/size_classes.h"

struct size_class {
    uint32_t size;    /* bytes of an object */
    uint32_t inverse; /* 2^32 / size, rounded up: an object's number without a division */
    uint16_t pages;   /* of a span */
    uint16_t objects; /* in a span */
    uint16_t batch;   /* objects moved between frontend and middle at a time */
};
extern const struct size_class size_classes[RN_CLASSES];

/* How many CPUs there are to keep apart, about. Caller: initialisation, once; without it there is one. */
void middle_init(unsigned cpus);

/* In what follows `id` is that of the pool that the objects go to or come from, or any number that names the CPU or the
 * thread: what CPUs hold is kept apart by it. */

/* Takes about `count` objects of the class, or of one up to an eighth larger, into `objects`, which has room for
 * `most`; returns how many: 0 only when memory is short. */
size_t middle_take(unsigned id, unsigned class_index, void **objects, size_t count, size_t most);

/* The same without growth: 0 too where the heap would need memory that is not resident. */
size_t middle_take_resident(unsigned id, unsigned class_index, void **objects, size_t count, size_t most);

/* One object of the very class, for its alignment; NULL when memory is short. */
void *middle_take_exact(unsigned id, unsigned class_index);

/* Gives back `count` objects of one class. Ends the process if one is not the start of an object, or is free already.
 */
void middle_put(unsigned id, unsigned class_index, void **objects, size_t count);
/* The same past the transfer caches: spans that become empty by it are free at once. */
void middle_return(unsigned class_index, void **objects, size_t count);

/* A block of at least `size` bytes aligned to `alignment` (a power of two), in a run of its own. *zeroed as
 * backend_alloc. */
void *large_alloc(size_t size, size_t alignment, bool *zeroed);

/* Bytes of the large block that starts at `block`; 0 if none does. */
size_t large_size(const void *block);

/* Frees the large block that starts at `block`. False if none does. */
bool large_free(void *block);

/* Resizes in place or by moving pages; NULL, with the block as it was, where that cannot be done. */
void *large_resize(void *block, size_t size);

/* Bytes of the class's spans, about: those of the CPU's, times the CPUs that are kept apart. */
size_t middle_class_bytes(unsigned id, unsigned class_index);

/* Whether an object of the class starts there, where the pagemap's tag says the class. */
bool object_is_start(unsigned class_index, const void *pointer);

/* True if the object is in its span, free. A look without a lock: for diagnosis and for hardening. */
bool object_is_free(unsigned class_index, const void *object);

/* Moves all objects in transfer caches to their spans, so that whole spans become free, and gives back the spare ones.
 * Returns the bytes moved. */
size_t middle_flush(void);

/* Gives back the spare spans of those CPUs that have more than the heap, as it was lately, justifies. */
void middle_trim(void);

/* How often new spans were asked for, since the start, relaxed: a clock that stands still while the program does. */
size_t middle_misses(void);

/* From now on somebody calls middle_trim now and then, and middle_flush in a process that rests; or no more. */
void middle_follow(bool followed);

/* Bytes in transfer caches now, relaxed. */
size_t middle_cached(void);
/* The same in empty spans that wait. */
size_t middle_spare(void);

/* Adds each class's free objects: those in transfer caches to `cached`, those in spans to `in_spans`. Returns the
 * number of empty spans that wait. */
size_t middle_count_free(size_t *cached, size_t *in_spans);

struct middle_stats {
    size_t transfer_free;
    size_t span_free;  /* in spans, the spare ones included */
    size_t spare_free; /* of that in spare ones: bytes of pages, not of objects */
    unsigned domains;  /* sets of caches and lists that were used */
};
void middle_stats(struct middle_stats *stats);

/* For the fork handlers: every lock of this tier, in rank order. */
void middle_lock_all(void);
void middle_unlock_all(void);
void middle_reset_locks(void);

/* Debug: I3 and I4 over all listed spans, and the counts of free objects. */
void middle_check(void);

#endif
