/* script.h: a scripted operating system under the allocator's base/os.c.
 *
 * The linker's --wrap puts these functions between os.c and the C library. A script tells which calls fail: the n-th
 * from now, or some by chance, or all of one kind. It also plays systems that this machine is not: strict commitment,
 * locked memory, larger pages, limited address space, a kernel that unmaps mremap's target before it fails, clocks
 * that tests set. What passes goes to the real system, so memory is real. Scripts are set while no other thread calls.
 */
#ifndef TESTS_UNIT_SCRIPT_H
#define TESTS_UNIT_SCRIPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum script_call {
    CALL_MMAP,
    CALL_MPROTECT,
    CALL_DONTNEED, /* madvise, by advice */
    CALL_ADVICE,
    CALL_MREMAP,
    CALL_MUNMAP,
    CALL_KINDS
};

struct script {
    unsigned long fail_at;           /* this call from now fails, 1 the next; 0 none */
    unsigned one_in;                 /* of so many calls one fails, by chance; 0 none */
    uint64_t seed;                   /* for one_in */
    unsigned always;                 /* bit of an enum script_call: all these fail */
    size_t place_size;               /* the next mapping of this size, wherever asked for, lies */
    uintptr_t place;                 /* here */
    bool strict_commit;              /* overcommit_memory is 2: its file says so, and no huge commitment is given */
    size_t page_size;                /* 0: the system's; seen by os_init */
    size_t address_limit;            /* RLIMIT_AS; 0: the system's; seen by os_init */
    bool mremap_unmaps;              /* a failing mremap has unmapped its target, as Linux before 6.17 does */
    bool mremap_loses;               /* and another thread's mapping came to lie there */
    bool has_hugetlb;                /* MAP_HUGETLB succeeds, with ordinary pages */
    void (*before_hugetlb)(void);    /* called in such a call, as another thread would run then */
    void (*before_membarrier)(void); /* likewise, with pools stopped */
    void (*after_munmap)(void);      /* and after a munmap of place_size */
    uint64_t touch_cost_ns;          /* passes in each os_touch, which then touches nothing, */
    uint64_t touch_wait_ns;          /* and more in one of */
    unsigned touch_wait_in;          /* so many, the third first */
};

/* Puts a script in force and starts counting anew. */
void script_play(const struct script *script);
/* Ends it: everything succeeds. Counts stay. */
void script_stop(void);

/* Calls since script_play that could have failed, and those that did. */
unsigned long script_calls(void);
unsigned long script_failures(void);

/* Targets lost to mremap_loses; whether the mappings that came to lie there are as they were. */
unsigned script_losses(void);
bool script_others_are_intact(void);

/* Where os_touch was last, and how often. */
uintptr_t script_touched(void);
unsigned script_touches(void);

/* Bytes that were advised to be huge pages, and not to be. */
size_t script_advised(void);
size_t script_forbidden(void);

/* Bytes mapped and not unmapped since the program began; mappings made over others count nothing. */
size_t script_mapped(void);

/* The clock of CLOCK_MONOTONIC_COARSE goes on by so much; and the others, on which time else passes in os_touch alone:
 * no test depends on what memory costs here. */
void script_sleep(unsigned ms);
void script_pass(uint64_t ns);

#endif
