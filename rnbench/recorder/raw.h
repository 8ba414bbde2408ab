/* raw.h: what librnrecord.so writes while the program runs, and trace_pack.c turns into a trace (trace.h).
 *
 * A raw file is a row of chunks. A thread owns one chunk at a time, mapped and shared, and stores its events there: so
 * memory is bounded by one chunk a thread, nothing needs to be flushed, and no kind of death loses an event. An event
 * with kind 0 was not written. Order across threads is the event's number: of free and of the start of realloc it is
 * taken before the allocator is called, of all others after; so no block is seen given out before it is seen given
 * back. */
#ifndef RNBENCH_RAW_H
#define RNBENCH_RAW_H

#include <stdint.h>

enum raw_kind { RAW_NONE, RAW_MALLOC, RAW_CALLOC, RAW_ALIGNED, RAW_REALLOC_START, RAW_REALLOC_END, RAW_FREE };

struct raw_event {
    uint64_t number; /* from 1, without gaps unless the limit was met */
    uint64_t block;
    uint64_t size; /* as asked for; none for RAW_FREE and RAW_REALLOC_START */
    uint32_t thread;
    uint16_t kind;
    uint16_t alignment_log2;
};

enum { RAW_CHUNK_BYTES = 64 << 10, RAW_CHUNK_EVENTS = RAW_CHUNK_BYTES / sizeof(struct raw_event) };

_Static_assert(sizeof(struct raw_event) == 32 && RAW_CHUNK_BYTES % 32 == 0, "events fill a chunk");

#endif
