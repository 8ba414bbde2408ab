/* bulk.c: forks while the heap is grown to hundreds of MiB and emptied: amid backend growth, drains and release. */
#define _GNU_SOURCE
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include "../lib/model.h"
#include "../lib/proc.h"
#include "../lib/shadow.h"
#include "../lib/tap.h"

enum { THREADS = 3, BLOCKS = 20000, FORKS = 60 };
static atomic_int forking = 1;

static void *build(void *argument) {
    static void *blocks[THREADS][BLOCKS];
    void **mine = blocks[(uintptr_t)argument];
    while (atomic_load(&forking)) {
        for (int i = 0; i < BLOCKS; i++)
            memset(mine[i] = malloc(200 + (size_t)i * 13 % 3000), 1, 200);
        for (int i = 0; i < BLOCKS; i++)
            free(mine[i * 7919 % BLOCKS]);
        char *large = malloc(70 << 20);
        memset(large, 1, 1 << 20);
        free(large);
    }
    return NULL;
}

static int child(void *argument) {
    struct model_plan plan = {.operations = 1000, .slots = 40, .largest = 6 << 20, .seed = *(unsigned *)argument};
    return !model_is_clean(model_run_here(&plan));
}

int main(void) {
    pthread_t threads[THREADS];
    unsigned failed = 0, forks = 0;
    tap_check_subject();
    if (shadow_init() != 0)
        return 3;
    for (uintptr_t i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, build, (void *)i) != 0)
            return 3;
    for (; forks < FORKS; forks++)
        failed += proc_child(child, &forks) != 0;
    atomic_store(&forking, 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (; forks < FORKS + 5; forks++)
        failed += proc_child(child, &forks) != 0;
    OK(failed == 0, "the heaps of %u children worked amid bulk work (%u failures)", forks, failed);
    return tap_done();
}
