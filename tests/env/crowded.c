/* crowded.c: what several threads have in use stays below a limit that the kernel enforces by killing (a control
 * group's memory), while sizes, threads and phases change: what is kept free must not reach it. Contents are checked.
 * usage: crowded MIB    in use at most */
#define _GNU_SOURCE
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include "../lib/proc.h"
#include "../lib/shadow.h"
#include "../lib/tap.h"

enum { THREADS = 4, ROUNDS = 12 };
static const size_t sizes[] = {24, 100, 700, 2000, 9000, 40000, 200000, 1 << 20, 5 << 20};
static size_t share; /* of each thread */
static atomic_uint wrong;
static atomic_ulong given;
static pthread_barrier_t together;

struct block {
    struct block *next;
    size_t size;
};

static struct block *take(size_t size, unsigned round) {
    struct block *block = malloc(size);
    if (!block)
        return NULL;
    block->size = size;
    shadow_fill(block + 1, size - sizeof *block, round);
    atomic_fetch_add_explicit(&given, 1, memory_order_relaxed);
    return block;
}

static void drop(struct block *block, unsigned round) {
    if (!shadow_is_filled(block + 1, block->size - sizeof *block, round))
        atomic_fetch_add(&wrong, 1);
    free(block);
}

static void *thread(void *argument) {
    size_t number = (size_t)argument;
    for (unsigned round = 0; round < ROUNDS; round++) {
        size_t size = sizes[(round + (round % 3 ? number : 0)) % (sizeof sizes / sizeof *sizes)], held = 0;
        struct block *all = NULL;
        /* The share is of what malloc gives: small blocks are rounded up. */
        while (held + size + 16 <= share) {
            struct block *block = take(size, round);
            if (!block) {
                atomic_fetch_add(&wrong, 1);
                break;
            }
            block->next = all;
            all = block;
            held += malloc_usable_size(block) + 8;
        }
        if (round % 2)
            pthread_barrier_wait(&together);
        while (all) {
            struct block *next = all->next;
            drop(all, round);
            all = next;
        }
    }
    return NULL;
}

int main(int argc, char **argv) {
    pthread_t threads[THREADS];
    if (argc != 2)
        return 2;
    tap_check_subject();
    share = strtoul(argv[1], NULL, 10) * MIB / THREADS;
    for (unsigned phase = 0; phase < 3; phase++) { /* new threads each time */
        if (pthread_barrier_init(&together, NULL, THREADS) != 0)
            return 3;
        for (size_t i = 0; i < THREADS; i++)
            if (pthread_create(&threads[i], NULL, thread, (void *)i) != 0)
                return 3;
        for (unsigned i = 0; i < THREADS; i++)
            pthread_join(threads[i], NULL);
    }
    OK(atomic_load(&wrong) == 0, "blocks are given and keep their contents (%lu given, %u were not)",
       atomic_load(&given), atomic_load(&wrong));
    return tap_done();
}
