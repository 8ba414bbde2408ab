/* disturb.h: what befalls threads while they allocate: signals whose handlers allocate too, moves from CPU to CPU, sets
 * of CPUs that shrink. Hooks for the model's plans (model.h). */
#ifndef TESTS_DISTURB_H
#define TESTS_DISTURB_H

#include <stdatomic.h>

/* Signals delivered, handlers that allocated, and units or contents that those found wrong. */
extern atomic_ulong disturb_signals, disturb_nested, disturb_faults;

/* Installs the handlers and blocks the signals in the calling thread, and so in those it makes: they strike only
 * between a start and an end below, not inside pthread_create or a thread's end, where glibc itself is inside the
 * allocator without model_inside telling so. */
void disturb_init(void);

/* each_thread and end_thread: a timer of the thread's own, whose signals strike this thread. */
void disturb_timer_start(unsigned thread);
void disturb_timer_end(unsigned thread);

/* The same by one timer of the process, whose signals go to whichever thread runs. */
void disturb_interval_start(unsigned thread);
void disturb_interval_end(unsigned thread);

/* each_operation: every 64th operation binds the thread to some CPU; to one drawn at random. */
void disturb_migrate(unsigned thread, unsigned operation);

/* Binds every thread of the process to CPU number `only`, or, -1, lets it run on all that the process had at
 * disturb_init. Gives the number of threads bound. */
unsigned disturb_confine(int only);

/* The CPUs that the process had at disturb_init, counted. */
unsigned disturb_cpus(void);

#endif
