/* pools.h: how the tests of the frontend's pools begin and end. */
#ifndef TESTS_UNIT_POOLS_H
#define TESTS_UNIT_POOLS_H

#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "backend/backend.h"
#include "frontend/frontend.h"
#include "rnalloc.h"
#include "tests/unit/check.h"
#include "tests/unit/cmock.h"

static inline void begin(const char *options) {
    CHECK(setenv("RNALLOC_OPTIONS", options, 1) == 0);
    CHECK(rnMode().kind == (strstr(options, "rseq=0") ? RN_MODE_THREAD : rnMode().kind));
}

/* Where pools are those of CPUs, a thread that is moved to another leaves what is free behind: tests that count what is
 * in a pool stay on one. */
static inline void begin_on_one_cpu(const char *options) {
    begin(options);
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(sched_getcpu(), &set);
    CHECK(sched_setaffinity(0, sizeof set, &set) == 0);
}

static inline void check_nothing_in_use(void) {
    (void)rnReleaseMemory(0);
    heap_check();
    struct rn_stats stats;
    rnStats(&stats);
    CHECK(stats.pool_free == 0 && stats.transfer_free == 0 && stats.span_free == 0);
    CHECK(stats.in_use == 0 && backend_in_use() == 0 && stats.page_free == 0);
}

/* A live block carries its own address and that inverted, at both ends: an object handed out twice is found by its
 * second owner, or by the first when it frees. */
static inline void claim(void *block) {
    uintptr_t *words = block, *last = words + rnUsableSize(block) / sizeof *words - 1;
    words[0] = (uintptr_t)block;
    *last = ~(uintptr_t)block;
    if (last == words)
        words[0] = (uintptr_t)block;
}

static inline void unclaim(void *block) {
    uintptr_t *words = block, *last = words + rnUsableSize(block) / sizeof *words - 1;
    CHECK(words[0] == (uintptr_t)block && (last == words || *last == ~(uintptr_t)block));
    words[0] = *last = 0;
}

static inline void free_claimed(void *block) {
    if (!block)
        return;
    unclaim(block);
    rnFree(block);
}

/* The test in a child for each kind of pool. */
static inline void each_mode(void (*body)(void *)) {
    static const char *const modes[] = {"helper=0", "helper=0,cid=0", "helper=0,rseq=0"};
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        char options[40];
        strcpy(options, modes[i]);
        assert_int_equal(child_fails(body, options), 0);
    }
}

#endif
