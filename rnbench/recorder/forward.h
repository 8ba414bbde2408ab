/* forward.h: a library to preload before an allocator: it stands in for the malloc family, forwards each call to the
 * next definition, and tells one observer (count.c or record.c) of it.
 *
 * observe_before is called before a block is given away (free, and the old block of realloc), observe_after once one
 * has been received. Between the two another thread may have been given the very address: whoever needs the order of
 * calls across threads has it from these two moments. The observer must not allocate, and keeps errno.
 */
#ifndef RNBENCH_FORWARD_H
#define RNBENCH_FORWARD_H

#include <stdbool.h>
#include <stddef.h>

enum call { CALL_MALLOC, CALL_CALLOC, CALL_ALIGNED, CALL_REALLOC, CALL_FREE, CALL_KINDS };

void observe_before(enum call call, const void *block);
void observe_after(enum call call, const void *block, size_t size, size_t alignment);

/* The file that holds the next malloc; valid once a call was forwarded. */
const char *forward_object(void);

#endif
