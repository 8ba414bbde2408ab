/* trace.h: traces of the calls of a program, in memory and in files.
 *
 * A trace is a list of events in their order across threads. Blocks have no addresses but numbers: each event that
 * gives a block makes the next one, from 0. The file, everything in it after the magic a varint (7 bits a byte, low
 * ones first, the top bit says that more follow) unless said otherwise:
 *
 *     "RNTRACE1"                8 bytes
 *     events, objects, threads  three counts
 *     length, program           the program's name, that many bytes
 *     events                    head byte: bits 0..2 kind, bit 3 "another thread than the last event's" (the first:
 * than 0) [thread]              if bit 3 malloc, calloc:       size (calloc's product) aligned:              log2 of
 * the alignment, size realloc:              age of the old block (objects so far less its number), size; the result is
 * a new block free:                 age checksum                  8 bytes, little end first: FNV-1a (64 bits) of all
 * before it
 *
 * A realloc of NULL is written as malloc, a realloc to size 0 of a block as free. Failed calls are left out, as are
 * blocks given away that the recorder never saw given. */
#ifndef RNBENCH_TRACE_H
#define RNBENCH_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum trace_kind { TRACE_MALLOC, TRACE_CALLOC, TRACE_ALIGNED, TRACE_REALLOC, TRACE_FREE, TRACE_KINDS };

struct trace_event {
    uint64_t size;
    uint32_t object; /* the block given, or by free taken */
    uint32_t old;    /* realloc: the block taken */
    uint32_t thread;
    uint8_t kind;
    uint8_t alignment_log2;
};

struct trace {
    struct trace_event *events;
    uint64_t count, objects, threads;
    uint64_t peak_live; /* bytes asked for and not given back, at most */
    bool is_rep;        /* a text trace of the CS:APP malloc lab */
    char program[128];
};

/* trace_file.c: reading ends the process with one line and status 2 where the file is damaged; so does writing, which
 * leaves no half file behind. */
void trace_read(struct trace *trace, const char *path);
void trace_write(const struct trace *trace, const char *path);
/* Fills peak_live. */
void trace_measure(struct trace *trace);
/* Appends to a growing array; the array is from mmap. */
void trace_push(struct trace *trace, uint64_t *capacity, struct trace_event event);

/* trace_rep.c: the same for .rep */
void trace_read_rep(struct trace *trace, const char *path, const char *content);

/* trace_record.c, trace_replay.c: the subcommands; argv[0] is the subcommand's name. */
int record_main(int argc, char **argv);
int replay_main(int argc, char **argv);

#endif
