/* trim.c: giving memory back, asked for or not. */
#include "backend/backend.h"
#include "base/os.h"
#include "frontend/alloc.h"
#include "frontend/hardened.h"
#include "frontend/pool.h"

/* All caches are emptied first: a few thousand objects in them can pin 64 MiB of spans. */
size_t trim(size_t keep) {
    (void)pools_drain(true);
    (void)locked_drain();
    (void)middle_flush();
    hardened_trim();
    os_settle();
    return backend_release(keep, true);
}

enum { RETREAT_MIN = 64 << 10 };

/* Whether address space is what is missing: it is known to be scarce, or much of it is refused, by a limit that was set
 * behind our back, or since there are too many mappings. To ask for the limit itself is not allowed in every sandbox.
 */
static bool space_is_short(size_t size) {
    if (os_address_limit() < BACKEND_SCARCE)
        return true;
    size_t much = round_up(max_size(size, (size_t)1 << 30), os_page_size());
    void *space = os_reserve(0, much, os_page_size());
    if (space)
        os_discard(space, much);
    return !space;
}

bool trim_retreat(size_t size) {
    struct rn_stats stats;
    if (!os_strict_commit() && os_is_too_much(size))
        return false; /* more than there is, whatever is given back */
    os_settle();      /* perhaps that is what is missing */
    rnStats(&stats);
    if (size > stats.reserved)
        return false;
    size_t idle = stats.pool_free + stats.transfer_free + stats.span_free + stats.page_free + stats.page_released;
    bool is_short = space_is_short(size); /* else pools would be small and look-ups long for nothing */
    if (is_short || os_address_limit() != SIZE_MAX)
        idle += pools_retreat();
    if (is_short)
        idle += backend_spare_space();
    if (idle < RETREAT_MIN && !rn_hardened)
        return false;
    (void)trim(0);
    (void)backend_retreat(0);
    return true;
}

/* From slow paths, after the work: pages that recent demand does not justify, and a word to the helper. */
void trim_step(void) {
    (void)backend_release_step();
    helper_poke();
}

enum { PASSES = 8 }; /* from one step to the next: it reads a clock */

void trim_pass(void) {
    if (++rn_thread.passes % PASSES == 0)
        trim_step();
}

RN_EXPORT size_t rnReleaseMemory(size_t keep) {
    library_init();
    return trim(keep);
}

RN_EXPORT int malloc_trim(size_t pad);
RN_EXPORT int malloc_trim(size_t pad) { return rnReleaseMemory(pad) != 0; }
