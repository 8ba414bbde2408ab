/* classes.h: which class each size has. Internal to the frontend. */
#ifndef FRONTEND_CLASSES_H
#define FRONTEND_CLASSES_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "frontend/class_index.h"
#include "middle/middle.h"

enum { CLASS_TABLE_SIZE = CLASS_COARSE_BASE + RN_MAX_SMALL / CLASS_COARSE_STEP + 1 };
_Static_assert(CLASS_SIZE_MAX == RN_MAX_SMALL && CLASS_COARSE_STEP == 1 << CLASS_COARSE_SHIFT,
               "class_index.h is of one piece");
_Static_assert(CLASS_FINE_MAX + 1 == CLASS_COARSE_BASE + CLASS_FINE_MAX / CLASS_COARSE_STEP + 1, "and has no gap");

/* Where the class of a size up to RN_MAX_SMALL stands in a class table. */
static inline size_t class_index_of(size_t size) {
    return size <= CLASS_FINE_MAX ? size : CLASS_COARSE_BASE + ((size + CLASS_COARSE_STEP - 1) >> CLASS_COARSE_SHIFT);
}

/* Fills a table; `wide`: with four classes of each doubling above 1 KiB, for a start. Caller: initialisation. */
void classes_init(_Atomic uint8_t table[CLASS_TABLE_SIZE], bool wide);

/* The table that malloc reads, the assembly too; entries change one by one. All are 0, for the slow path to decide,
 * until the library is initialised, and for ever in hardened mode. */
extern _Atomic uint8_t class_table[CLASS_TABLE_SIZE];

/* And the one that hardened mode has for its slots. */
extern _Atomic uint8_t slot_classes[CLASS_TABLE_SIZE];

/* The first class that this one may stand in for; 0: it is there for its own sizes alone. */
extern _Atomic uint8_t class_first[RN_CLASSES];

/* A refill of the class was for `size` bytes: gives narrower classes their sizes where that is worth it. */
void class_consider(size_t size, unsigned class_index);

static inline void class_note(size_t size, unsigned class_index) {
    if (RN_UNLIKELY(atomic_load_explicit(&class_first[class_index], memory_order_relaxed)))
        class_consider(size, class_index);
}

#endif
