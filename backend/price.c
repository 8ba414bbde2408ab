/* price.c: what a huge page costs here and now.
 *
 * A fresh huge page costs 0.1 or 0.2 ms where there is memory for it, a third of what the same in base pages costs. But
 * in a virtual machine whose host took the guest's free huge pages back, it costs 1 to 5 ms, and base pages do not,
 * since the guest has fragments that it kept. So one in a while is faulted in under the clock, and where two in a row
 * were dear, the next fresh hugepages are left to base pages: more of them each time. One alone proves nothing:
 * where many threads share the CPUs, or change mappings, a fault now and then takes longer than it costs. But from the
 * first dear one on there are huge pages only behind a sample that was not, in the same run. */
#include "backend/hugepage.h"
#include "base/os.h"

enum {
    EVERY = 8,        /* fresh huge pages from one sample to the next, in runs of less than two */
    MOST_NS = 600000, /* what the base pages of a hugepage cost */
    PAUSE = 8,        /* hugepages left to base pages after a dear one, four times as many for each one in a row, */
    DOUBLINGS = 5,    /* up to 256 */
    PROOF = 2,        /* dear samples in a row that count */
};

/* Under backend_lock. */
static unsigned next_in; /* fresh huge pages until the next sample */
static unsigned dear;    /* samples in a row that were too dear */
static unsigned pause;   /* fresh hugepages that shall not be huge yet */

bool price_is_right(bool sampled) {
    if (pause == 0)
        return sampled || dear == 0;
    pause--;
    return false;
}

/* `first`: of its run, which has so many whole hugepages. Others are only counted: programs write a block from its
 * start, and many never reach its end, which a sample there would make resident. */
bool price_sample_due(bool first, size_t hugepages) {
    if (!first || (next_in && hugepages < 2 && dear == 0)) {
        next_in -= next_in != 0;
        return false;
    }
    next_in = EVERY;
    return true;
}

void price_count(size_t hugepages) { next_in -= (unsigned)min_size(hugepages, next_in); }

bool price_take(uintptr_t hugepage) {
    uint64_t start = os_now_ns();
    if (os_populate((void *)hugepage, HP_SIZE) != 0)
        return false;
    bool was_dear = os_now_ns() - start > MOST_NS;
    lock_take(&backend_lock);
    dear = was_dear ? dear + 1 : 0;
    if (dear >= PROOF)
        pause = PAUSE << min_size((size_t)2 * (dear - PROOF), DOUBLINGS);
    if (was_dear)
        next_in = 0;
    lock_drop(&backend_lock);
    return was_dear;
}
