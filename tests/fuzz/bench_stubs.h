/* bench_stubs.h: RnBench's readers end the process with one line where a file is damaged; here they come back. */
#ifndef TESTS_FUZZ_BENCH_STUBS_H
#define TESTS_FUZZ_BENCH_STUBS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "rnbench/trace.h"

/* Runs body(argument); false if it called fail. What tables it left are freed. */
bool survives(void (*body)(void *), void *argument);

/* The bytes in a file of their own, named in `path`; closed by close(). */
int file_of(const void *bytes, size_t size, char path[32]);

/* Every event of a trace can be replayed: blocks are given once, in order, and taken while they live. */
void trace_check(const struct trace *trace);

#endif
