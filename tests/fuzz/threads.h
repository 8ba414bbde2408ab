/* threads.h: several threads' worth of one. To the frontend a thread is its area (frontend/pool.h): whoever puts
 * another area in place is another thread, with another pool, at once and at a moment that the input chooses. One real
 * thread alone runs, so no section is ever to be restarted, and stand-ins' ids may be any. */
#ifndef TESTS_FUZZ_THREADS_H
#define TESTS_FUZZ_THREADS_H

/* Four of them have pools; the last has none, as a child of vfork. */
enum { ACTORS = 5 };

/* After the library's first use. */
void actors_begin(void);
void actor_switch(unsigned actor);
/* Empties every cache, of whichever thread. */
void caches_empty(void);
/* I10 in every pool: base <= current <= end == base + 8 * capacity, and the mark below the first object. */
void pools_check(void);

#endif
