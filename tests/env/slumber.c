/* slumber.c: a program with threads frees what its bins have room for, by the fast path alone, and goes to sleep.
 * Nobody tells the helper then; it has to find what lies in the pools by itself. */
#define _GNU_SOURCE
#include <pthread.h>
#include "../../include/rnalloc.h"
#include "../lib/tap.h"

enum { BLOCKS = 6000, BYTES = 512, ROUNDS = 20, LEFT = 1 << 20, SECONDS = 60 };

extern void rnStats(struct rn_stats *) __attribute__((weak));

static void *blocks[BLOCKS];
static pthread_barrier_t barrier;

static void take(void) {
    for (int i = 0; i < BLOCKS; i++) {
        blocks[i] = malloc(BYTES);
        OPAQUE(blocks[i]);
        memset(blocks[i], 1, BYTES);
    }
}

static void give(void) {
    for (int i = 0; i < BLOCKS; i++)
        free(blocks[i]);
}

static void *work(void *unused) {
    for (int round = 0; round < ROUNDS; round++) {
        take();
        give();
    }
    take();
    pthread_barrier_wait(&barrier); /* meanwhile the helper looks, and sees nothing free */
    pthread_barrier_wait(&barrier);
    give();
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier); /* asleep */
    return unused;
}

static size_t pool_free(void) {
    struct rn_stats stats;
    rnStats(&stats);
    return stats.pool_free;
}

int main(void) {
    pthread_t thread;
    tap_check_subject();
    OK(rnStats != NULL, "the library tells what its pools hold");
    pthread_barrier_init(&barrier, NULL, 2);
    pthread_create(&thread, NULL, work, NULL);
    pthread_barrier_wait(&barrier);
    sleep(4);
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    unsigned waited = 0;
    while (pool_free() > LEFT && waited++ < SECONDS)
        sleep(1);
    OK(pool_free() <= LEFT, "the pools of a sleeping program are emptied (%zu KiB left)", pool_free() >> 10);
    pthread_barrier_wait(&barrier);
    pthread_join(thread, NULL);
    return tap_done();
}
