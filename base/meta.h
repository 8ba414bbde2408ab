/* meta.h: memory for the allocator's own structures, in mappings of their own that no user block is ever part of (I1).
 */
#ifndef BASE_META_H
#define BASE_META_H

#include <stddef.h>

#include "base/lock.h"

extern struct lock meta_lock;

/* Zeroed memory, aligned to 64 bytes, that is never given back. NULL when the system refuses. Takes meta_lock. */
void *meta_alloc(size_t size);

/* Memory of a power of two of bytes, at least META_BLOCK_MIN, uninitialized, that can be given back with meta_free for
 * other blocks of its size. NULL when the system refuses. */
enum { META_BLOCK_MIN = 64 };
void *meta_block_alloc(size_t size);
void meta_block_free(void *block, size_t size);

/* Bytes in use for structures, committed. Relaxed. */
size_t meta_bytes(void);

/* Counts memory that a tier reserved and committed for its structures by itself. */
void meta_count(size_t bytes);

#endif
