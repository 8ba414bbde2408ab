/* interpose.h: calls of the C library that this library stands in front of. Internal to the frontend. */
#ifndef FRONTEND_INTERPOSE_H
#define FRONTEND_INTERPOSE_H

#include <pthread.h>

/* pthread_create(3) of the C library itself. */
int real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument);

#endif
