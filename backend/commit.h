/* commit.h: what has to be done for a run after backend_lock was dropped: commitment, huge pages, donations. What adds
 * to a plan holds the lock. */
#ifndef BACKEND_COMMIT_H
#define BACKEND_COMMIT_H

#include "backend/backend.h"
#include "backend/hugepage.h"

enum {
    DONATIONS = 32,       /* moves for one run */
    MOVED_MOST = 8 << 10, /* hugepages with a mapping of their own: bounds the process's map count */
};

/* Free resident hugepages whose pages move into a run that would else need fresh ones. */
struct donation {
    struct hugepage *from;
    uintptr_t to;
    size_t length; /* hugepages */
};

/* The plan. */
struct commit {
    uintptr_t start, end;           /* to be made writable; empty if start == end */
    uintptr_t huge_start, huge_end; /* of it, what gets MADV_HUGEPAGE; the same if nothing does */
    uintptr_t base_start, base_end; /* what had that, and shall not be huge now; the same if nothing is */
    uintptr_t had_end;              /* end of the last fresh one that had that, and shall be huge */
    uintptr_t sample;               /* the hugepage whose first fault is timed, or 0 */
    uintptr_t sample_from;          /* not before: others' pages will come there */
    bool may_sample;                /* and in it nothing was, yet */
    size_t hugepages;               /* whole ones of the run behind it, at least 1 */
    size_t block_pages, blocks;     /* what of the run is counted as a block's (I19) */
    struct hugepage *ahead;         /* free ones behind the run, taken until they are writable too; or NULL */
    size_t ahead_length;
    unsigned donations;
    struct donation donation[DONATIONS];
};

/* An empty one, for a run of so many pages. */
void commit_begin(struct commit *plan, size_t pages);

/* Whether so many hugepages more may get pages that come from elsewhere. */
bool commit_may_donate(size_t hugepages);

/* Finds resident free hugepages for the clean ones that the run [start, start + pages) takes or begins. A page fault
 * costs a hundred times what moving the page costs, and the peak stays that of what is in use. Returns how many
 * pages from `start` to take: more than `pages` where the last hugepage gets another's, which must be nobody's until
 * the move is done. */
size_t commit_donate(struct commit *plan, uintptr_t start, size_t pages);

/* Adds the pages of `hp` up to `last`, just put in use, to the plan. `was_clean`: nothing of it was resident before. */
void commit_plan(struct commit *plan, struct hugepage *hp, unsigned last, bool was_clean);

/* Extends the plan to free hugepages behind it, more of them the larger the heap: each call that changes mappings makes
 * all page faults of the process wait. They are taken until the calls are made: nobody else may unmap them meanwhile.
 */
void commit_ahead(struct commit *plan);

/* Carries the plan out, without the lock: makes the run usable, or gives it back if the system refuses; and gives back
 * the pages behind it, of all that were taken, that nobody was to have during a donation. 0 or -ENOMEM. */
int run_commit(uintptr_t start, size_t pages, size_t taken, struct commit *plan);

/* Counts the run, or what is added to one, as a block's; run_commit takes that back where it fails. Holds the lock. */
void commit_block(struct commit *plan, size_t pages, size_t blocks);

/* Notes that pages of a run in use are not resident: all of them, or those that never became writable (I6). Holds the
 * lock. */
void run_undirty(uintptr_t start, size_t pages, bool all);

#endif
