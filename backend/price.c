/* price.c: what a huge page costs here and now.
 *
 * A fresh huge page costs 0.1 or 0.2 ms where there is memory for it, a third of what the same in base pages costs. But
 * in a virtual machine whose host took the guest's free huge pages back, it costs 1 to 5 ms, and base pages do not,
 * since the guest has fragments that it kept. Both kinds come mixed. So one in a while is faulted in under the clock.
 * Of a single thread a dear one is proof. Of one among many it is not: where they share the CPUs, one in fifteen takes
 * longer than it costs. So dear ones are weighed: each adds as much doubt as DEAR cheap ones take away, which tells one
 * in four from one in fifteen. While there is any doubt, there are huge pages only behind a sample in the same run;
 * from PROOF on, the next fresh hugepages are left to base pages after each dear one, more of them the longer it goes
 * on.
 *
 * What a host took back lies behind what it did not: fresh huge pages are cheap for a while and then all dear. The
 * first dear one is seldom the sample; but then the program, which writes what it allocates, is late when it wants the
 * next. So after such a delay the next is a sample, and after a rest, in which the host may have come by. Where nothing
 * is written there is no delay; but a program that is as late for reasons of its own has samples, which are resident.
 */
#include "backend/hugepage.h"
#include "base/os.h"

enum {
    EVERY = 8,            /* of so many fresh huge pages one is a sample, in runs of less than two */
    MOST_NS = 600000,     /* what the base pages of a hugepage cost */
    LEAST_NS = 10000,     /* to clear one takes longer than this */
    LATE_NS = 2000000,    /* from one to the next: writing a cheap one takes less, a dear one more */
    AWAY_NS = 16000000,   /* longer: the time went elsewhere, */
    REST_NS = 1000000000, /* long enough for the host to take pages back */
    DEAR = 5,             /* doubt that a dear sample adds; a cheap one takes 1 away */
    PROOF = 2 * DEAR,     /* doubt from which on there are pauses */
    MOST = 5 * DEAR,      /* and at most */
    PAUSE = 16,    /* hugepages left to base pages after a dear one, four times as many for each DEAR above PROOF, */
    DOUBLINGS = 4, /* up to 256 */
};

/* Under backend_lock. */
static unsigned doubt;
static unsigned pause;   /* fresh hugepages that shall not be huge yet */
static unsigned next_in; /* fresh huge pages until the next sample */
static bool is_priced;   /* a sample took as long as a cheap huge page does: there are some, and a clock that tells */
static uint64_t last_at; /* when a sample was last considered */

bool price_is_right(bool sampled) {
    if (pause == 0)
        return sampled || doubt == 0;
    pause--;
    return false;
}

/* Whether the last fresh huge page may have been dear. */
static bool is_late(void) {
    uint64_t now = os_now_ns(), since = now - last_at;
    last_at = now;
    return since >= REST_NS || (since >= LATE_NS && since < AWAY_NS);
}

bool price_sample_due(size_t hugepages) {
    bool late = is_late();
    if (next_in && hugepages < 2 && doubt == 0 && !late) {
        next_in--;
        return false;
    }
    next_in = EVERY - 1;
    return true;
}

bool price_take(uintptr_t page) {
    uint64_t start = os_now_ns();
    os_touch((void *)page);
    uint64_t cost = os_now_ns() - start;
    bool is_dear = cost > MOST_NS;
    lock_take(&backend_lock);
    is_priced = is_priced || (cost >= LEAST_NS && cost <= MOST_NS);
    if (cost < LEAST_NS && is_priced && !lock_is_alone()) {
        lock_drop(&backend_lock);
        return false; /* it was there, since another thread had come to the hugepage before: that tells nothing */
    }
    if (!is_dear)
        doubt -= doubt != 0;
    else
        doubt = (unsigned)min_size(doubt + (lock_is_alone() ? PROOF : DEAR), MOST);
    if (is_dear && doubt >= PROOF)
        pause = PAUSE << min_size((size_t)2 * ((doubt - PROOF) / DEAR), DOUBLINGS);
    lock_drop(&backend_lock);
    return is_dear;
}
