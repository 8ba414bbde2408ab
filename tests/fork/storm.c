/* storm.c: several threads fork again and again while others churn the heap; every child, and its own threads and
 * children, must find a heap that works. The number of forks is bounded. usage: storm [SEED] */
#define _GNU_SOURCE
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include "../lib/model.h"
#include "../lib/proc.h"
#include "../lib/shadow.h"
#include "../lib/tap.h"

enum { FORKERS = 3, FORKS = 60, CHURNERS = 6 };
static atomic_int failed, reaped;
static atomic_int forking;
static uint64_t seed = 1;

/* A parent's block must be intact in the child and can be freed, resized and replaced there. */
static struct {
    unsigned char *block;
    size_t size;
} inherited[FORKERS][64];

static void inherit(unsigned forker) {
    for (unsigned i = 0; i < 64; i++) {
        size_t size = i == 63 ? 3 << 20 : (size_t)8 << i % 14;
        inherited[forker][i].block = malloc(size);
        inherited[forker][i].size = size;
        shadow_fill(inherited[forker][i].block, size, i);
    }
}

static int inherited_is_sound(unsigned forker) {
    int sound = 1;
    for (unsigned i = 0; i < 64; i++) {
        sound &= shadow_is_filled(inherited[forker][i].block, inherited[forker][i].size, i);
        if (i % 3 == 0) {
            inherited[forker][i].block = realloc(inherited[forker][i].block, inherited[forker][i].size * 2);
            sound &= inherited[forker][i].block != NULL;
        }
        free(inherited[forker][i].block);
    }
    return sound;
}

static int grandchild(void *argument) {
    struct model_plan plan = {.operations = 500, .slots = 30, .largest = 8000, .seed = *(unsigned *)argument + 7};
    return !model_is_clean(model_run_here(&plan));
}

static int child(void *argument) {
    unsigned number = *(unsigned *)argument;
    struct model_plan plan = {.operations = 3000, .slots = 100, .largest = 100000, .seed = seed + number};
    if (!inherited_is_sound(number / FORKS))
        return 10;
    if (!model_is_clean(model_run_here(&plan)))
        return 11;
    if (number % 4 == 0) {
        plan.threads = 3;
        plan.operations = 500;
        if (!model_is_clean(model_run(&plan)))
            return 12;
    }
    if (number % 4 == 1 && proc_child(grandchild, &number) != 0)
        return 13;
    malloc_trim(0);
    return mallinfo2().uordblks == 0 ? 14 : 0;
}

static void *fork_often(void *argument) {
    unsigned forker = (unsigned)(uintptr_t)argument;
    for (unsigned i = 0; i < FORKS; i++) {
        unsigned number = forker * FORKS + i;
        inherit(forker);
        int status = proc_child(child, &number);
        if (status != 0) {
            tap_diag("child %u: status %#x", number, (unsigned)status);
            atomic_fetch_add(&failed, 1);
        }
        atomic_fetch_add(&reaped, 1);
        if (!inherited_is_sound(forker))
            atomic_fetch_add(&failed, 1);
    }
    atomic_fetch_sub(&forking, 1);
    return NULL;
}

/* Churn ends when the last fork is done: the work is counted in forks. */
static void *churn(void *argument) {
    uint64_t random = (uint64_t)(uintptr_t)argument * 77 + seed;
    unsigned char *blocks[300] = {0};
    unsigned wrong = 0;
    while (atomic_load(&forking)) {
        uint64_t r = shadow_random(&random);
        unsigned char **slot = &blocks[(r >> 8) % 300];
        size_t size = (size_t)16 << (r & 255) % (r % 61 == 0 ? 17 : 9);
        if (*slot) {
            wrong += **slot != (unsigned char)(slot - blocks);
            free(*slot);
            *slot = NULL;
        } else {
            *slot = malloc(size);
            **slot = (unsigned char)(slot - blocks);
        }
    }
    for (unsigned i = 0; i < 300; i++)
        free(blocks[i]);
    atomic_fetch_add(&failed, (int)wrong);
    return NULL;
}

int main(int argc, char **argv) {
    pthread_t threads[FORKERS + CHURNERS];
    seed = argc > 1 ? strtoull(argv[1], NULL, 0) : 1;
    tap_check_subject();
    if (shadow_init() != 0)
        return 3;
    atomic_store(&forking, FORKERS);
    for (unsigned i = 0; i < FORKERS + CHURNERS; i++)
        if (pthread_create(&threads[i], NULL, i < FORKERS ? fork_often : churn, (void *)(uintptr_t)i) != 0)
            return 3;
    for (unsigned i = 0; i < FORKERS + CHURNERS; i++)
        pthread_join(threads[i], NULL);
    OK(atomic_load(&reaped) == FORKERS * FORKS, "%d children were made and reaped", FORKERS * FORKS);
    OK(atomic_load(&failed) == 0, "every child's heap worked, and the parents' too (%d failures)",
       atomic_load(&failed));
    struct model_plan plan = {.threads = 8, .operations = 20000, .slots = 100, .largest = 40000, .seed = seed};
    MODEL_OK(model_run(&plan), "after the storm");
    return tap_done();
}
