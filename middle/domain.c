#include "middle/domain.h"

#include "middle/middle.h"

struct lock domain_lock = LOCK_INIT(RANK_DOMAIN);
_Atomic uint32_t domain_mask = 1;
_Atomic size_t domain_count = 1;
unsigned domains_most = 1;

void middle_init(unsigned cpus) {
    while (domains_most < cpus && domains_most < DOMAINS)
        domains_most *= 2;
}

unsigned domain_open(unsigned domain) {
    if (lock_is_fork_owner())
        return 0;
    lock_take(&domain_lock);
    atomic_fetch_or_explicit(&domain_mask, (uint32_t)1 << domain, memory_order_relaxed);
    lock_drop(&domain_lock);
    return domain;
}
