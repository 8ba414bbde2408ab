/* rseq.h: what rnAlloc uses of librseq's header, for the stand-in beside it (librseq.c). */
#ifndef TESTS_LIBRSEQ_RSEQ_H
#define TESTS_LIBRSEQ_RSEQ_H

#include <stddef.h>

extern ptrdiff_t rseq_offset;  /* of a thread's area from its thread pointer; 0 until the constructor is through */
extern unsigned int rseq_size; /* -1 until then; 0 until a thread registered */

/* 0, or -1. Ends the process where the area is taken by somebody else, and where the library is not ready. */
int rseq_register_current_thread(void);

#endif
