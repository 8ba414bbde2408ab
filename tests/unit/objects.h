/* objects.h: objects of the middle tier by the batch, checked and stamped. */
#ifndef TESTS_UNIT_OBJECTS_H
#define TESTS_UNIT_OBJECTS_H

#include <stddef.h>
#include <stdint.h>

extern _Thread_local unsigned objects_id; /* the pool that the thread works for */

/* Takes exactly `count` objects, checks each and stamps it. */
void objects_take(unsigned class_index, void **objects, size_t count, uint64_t stamp);
/* Checks the stamps, and puts the objects back. */
void objects_put(unsigned class_index, void **objects, size_t count, uint64_t stamp);
/* Sorts them by address. */
void check_disjoint(void **objects, size_t count, size_t size);
/* Every invariant holds. */
void heap_settled(void);

/* A heap so big, on a machine so big, that all domains are used; hardly a byte of the block is. The end frees it, and
 * nothing must be left. */
void domains_begin(void);
void domains_end(void);
extern void *block_of_domains;

#endif
