/* frontend.h: the door of the frontend. It is the uppermost tier, so only tests come through it: the public API itself
 * is include/rnalloc.h and the standard names. */
#ifndef FRONTEND_FRONTEND_H
#define FRONTEND_FRONTEND_H

#include "frontend/pool.h"

/* Prints the statistics that malloc_stats(3) prints. */
void stats_print(void);

/* Debug: checks the invariants of all tiers while other threads run. */
void heap_check(void);

#endif
