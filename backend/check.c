/* check.c: the backend's invariants over the whole heap, for debug builds and tests. */
#include "backend/hugepage.h"

/* I5: a hugepage's counts, and its longest free run, are those of its bits. I6: no page is dirty beyond what is
 * committed. And it has one kind of advice. */
static void check_one(const struct hugepage *hp) {
    unsigned used = bits_count(hp->used, 0, HP_PAGES);
    unsigned dirty = bits_count(hp->dirty, 0, HP_PAGES);
    RN_ASSERT(used == hp->used_pages);
    RN_ASSERT(dirty == hp->dirty_pages);
    RN_ASSERT(used == 0 || hp->longest == bits_longest_clear(hp->used));
    unsigned beyond = HP_PAGES - hp->committed;
    RN_ASSERT(beyond == 0 || bits_count(hp->used, hp->committed, beyond) ||
              !bits_count(hp->dirty, hp->committed, beyond));
    RN_ASSERT(!hp->advised || !hp->split);
    RN_ASSERT(used <= HP_PAGES && (hp->state == HP_USED) == (used > 0));
}

void backend_check(void) {
    lock_take(&backend_lock);
    for (uintptr_t gib = 0; gib < (uintptr_t)1 << RN_ADDRESS_BITS; gib += (uintptr_t)1 << 30) {
        if (!hp_find(gib))
            continue;
        for (uintptr_t at = gib; at < gib + ((uintptr_t)1 << 30); at += HP_SIZE)
            check_one(hp_find(at));
    }
    packer_check();
    lock_drop(&backend_lock);
}
