/* no_interpose.c: what interpose.c offers the rest of the frontend, for the static library, which wraps no function of
 * the C library. Nothing calls helper_start there. */
#include "frontend/interpose.h"

int real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument) {
    return pthread_create(thread, attributes, start, argument);
}
