/* fork.h: fork, in every thread at every moment. Internal to the frontend. */
#ifndef FRONTEND_FORK_H
#define FRONTEND_FORK_H

/* Registers the handlers with pthread_atfork(3). May allocate; called with no lock held. */
void fork_handlers_register(void);

#endif
