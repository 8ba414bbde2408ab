/* alloc.h: what the files of the malloc family share. Internal to the frontend. */
#ifndef FRONTEND_ALLOC_H
#define FRONTEND_ALLOC_H

#include <stddef.h>

#include "base/attr.h"
#include "base/os.h"
#include "rnalloc.h"

/* The size class of a size; 0 above the largest. */
unsigned class_of(size_t size);

/* The smallest multiple of `alignment`, a power of two up to a page, that holds `size`. Its class, if it has one, is of
 * such a multiple too: of all classes scripts/gen-size-classes sees to it, and a wide one is a multiple of a quarter of
 * its doubling (classes.c). Spans start on pages, so its objects are aligned. */
static inline size_t size_aligned(size_t size, size_t alignment) { return round_up(size | (size == 0), alignment); }

/* malloc at an alignment that is a power of two. NULL with ENOMEM. */
void *alloc_aligned(size_t alignment, size_t size);

/* Ends the process: `function` was given a pointer that is not a live block. */
void block_misuse(const char *function, const void *block) __attribute__((noreturn, cold));

/* The kernel's page size, for valloc. */
static inline size_t os_page(void) { return os_page_size(); }

/* pool.c: the object lies on top of the bin that the thread would push it to, so it was freed a moment ago. */
bool pool_top_is(unsigned class_index, const void *object);

#endif
