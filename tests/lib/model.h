/* model.h: random allocator traffic from many threads, with contents and overlap checked against the shadow (shadow.h).
 *
 * Each thread keeps blocks of its own and exchanges others through mailboxes, so that blocks die on other threads and
 * CPUs than those that made them. The length of a run is a count of operations. model_hooks lets a variant add its own
 * disturbance.
 */
#ifndef TESTS_MODEL_H
#define TESTS_MODEL_H

#include <stddef.h>
#include <stdint.h>

enum { MODEL_ROOM = 256 << 10 }; /* for one thread and some thousand slots */

struct model_plan {
    unsigned threads;
    unsigned operations; /* per thread */
    unsigned slots;      /* blocks a thread keeps at most */
    size_t largest;      /* bytes; sizes are spread evenly over the powers of two up to it */
    uint64_t seed;
    void *room;                                                  /* MODEL_ROOM bytes for the model's own tables, where
                                                                  * it cannot map them; NULL: it does */
    void (*each_thread)(unsigned thread);                        /* at a thread's start; may be NULL */
    void (*each_operation)(unsigned thread, unsigned operation); /* between operations; may be NULL */
    int (*is_enough)(void);                                      /* threads go on until it is so; may be NULL */
    void (*end_thread)(unsigned thread);                         /* before it ends, all its blocks freed; may be NULL */
};

/* What went wrong, in numbers; all 0 is right. */
struct model_result {
    unsigned overlaps;  /* blocks overlapping a live one */
    unsigned damaged;   /* blocks whose contents changed */
    unsigned misplaced; /* misaligned, or with less room than asked for */
    unsigned dirty;     /* zeroed blocks that were not zero */
    unsigned refused;   /* allocations that failed */
    size_t leftover;    /* bytes claimed and not unclaimed, over all threads */
    unsigned long done; /* operations done: the proof that anything happened */
};

/* Runs the plan in `threads` new threads and frees everything. shadow_init comes first. */
struct model_result model_run(const struct model_plan *plan);

/* The same traffic in the calling thread alone, on blocks of its own. */
struct model_result model_run_here(const struct model_plan *plan);

/* Writes the result as TAP claims with this prefix. */
#define MODEL_OK(result, prefix)                                                                                   \
    do {                                                                                                           \
        struct model_result model_seen = (result);                                                                 \
        OK(model_seen.overlaps == 0, "%s: no block overlaps another (%lu operations, %u overlaps)", prefix,        \
           model_seen.done, model_seen.overlaps);                                                                  \
        OK(model_seen.damaged == 0, "%s: every block kept its contents (%u damaged)", prefix, model_seen.damaged); \
        OK(model_seen.misplaced == 0 && model_seen.dirty == 0, "%s: alignment, room and zeroing (%u, %u)", prefix, \
           model_seen.misplaced, model_seen.dirty);                                                                \
        OK(model_seen.refused == 0, "%s: nothing was refused (%u)", prefix, model_seen.refused);                   \
        OK(model_seen.leftover == 0, "%s: everything was freed", prefix);                                          \
    } while (0)

/* True when all is well; for children that report by exit status. */
static inline int model_is_clean(struct model_result result) {
    return !(result.overlaps | result.damaged | result.misplaced | result.dirty | result.refused) && result.done > 0;
}

/* Set while the calling thread is inside an allocator call, so that a signal handler can tell whether it interrupted
 * one. */
extern _Thread_local volatile int model_inside __attribute__((tls_model("initial-exec")));

#endif
