/* stress: random operations from many threads against a shadow model.
 *
 * The model is a table of slots: the block, its size, and the seed of the bytes it was filled with, all of its usable
 * size. Every operation checks the bytes first. Threads pass blocks to one another through a shared table, so many
 * blocks are freed by a thread that did not allocate them. After each round all threads stop, and the live blocks,
 * sorted by address, must not overlap. Then some threads end and new ones take over their slots, and one child of
 * fork uses the heap.
 *
 * usage: stress [threads [operations per round [rounds]]]
 */
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define THREADS_MAX 64
#define SLOTS 400
#define SHARED 128

struct slot {
    unsigned char *block;
    size_t size; /* asked for */
    uint32_t seed;
};

struct worker {
    struct slot slots[SLOTS];
    uint64_t random;
    long operations;
};

static struct worker workers[THREADS_MAX];
static _Atomic(struct slot *) shared[SHARED];
static _Atomic int failures;

static void failed(const char *what, const struct slot *slot) {
    fprintf(stderr, "# %s: block %p of %zu bytes\n", what, (void *)slot->block, slot->size);
    if (++failures > 10)
        exit(1);
}

static uint64_t next_random(struct worker *worker) {
    worker->random ^= worker->random << 13;
    worker->random ^= worker->random >> 7;
    worker->random ^= worker->random << 17;
    return worker->random * 0x2545f4914f6cdd1du >> 11;
}

/* Mostly small, sometimes large, rarely huge. */
static size_t random_size(struct worker *worker) {
    uint64_t value = next_random(worker);
    switch (value % 100) {
    case 0:
        return value / 100 % 1000000;
    case 1 ... 3:
        return value / 100 % 100000;
    case 4 ... 20:
        return value / 100 % 5000;
    default:
        return value / 100 % 300;
    }
}

/* Big blocks are checked at both ends and every 509 bytes, or the test would measure memory. */
static size_t step_at(size_t i, size_t size) { return i < 512 || i + 600 >= size ? 1 : 509; }

static unsigned char pattern(uint32_t seed, size_t i) { return (unsigned char)(seed + i * 131 + (i >> 8)); }

static void fill(struct slot *slot, uint32_t seed) {
    size_t size = malloc_usable_size(slot->block);
    if (size < slot->size)
        failed("usable size too small", slot);
    slot->seed = seed;
    for (size_t i = 0; i < size; i += step_at(i, size))
        slot->block[i] = pattern(seed, i);
}

static void check(const struct slot *slot) {
    size_t size = malloc_usable_size(slot->block);
    for (size_t i = 0; i < size; i += step_at(i, size)) {
        if (slot->block[i] != pattern(slot->seed, i)) {
            failed("overwritten", slot);
            return;
        }
    }
}

static void allocate(struct worker *worker, struct slot *slot) {
    uint64_t way = next_random(worker) % 16;
    size_t size = random_size(worker), align = 16;
    void *block = NULL;
    if (way == 0) {
        align = (size_t)8 << next_random(worker) % 12;
        if (posix_memalign(&block, align, size) != 0)
            block = NULL;
    } else if (way <= 2) {
        block = calloc(1, size);
    } else {
        block = malloc(size);
    }
    *slot = (struct slot){.block = block, .size = size};
    if (!block || ((uintptr_t)block & (align - 1)) != 0) {
        failed("no block, or misaligned", slot);
        exit(1);
    }
    for (size_t i = 0; way != 0 && way <= 2 && i < size; i += step_at(i, size)) {
        if (slot->block[i] != 0) {
            failed("calloc not zero", slot);
            break;
        }
    }
    fill(slot, (uint32_t)next_random(worker));
}

static void release(struct slot *slot) {
    check(slot);
    free(slot->block);
    slot->block = NULL;
}

static void resize(struct worker *worker, struct slot *slot) {
    check(slot);
    size_t size = random_size(worker) + 1, kept = size < slot->size ? size : slot->size;
    unsigned char *block = realloc(slot->block, size);
    slot->block = block;
    slot->size = size;
    if (!block) {
        failed("realloc failed", slot);
        exit(1);
    }
    /* What was kept is compared with the old block's steps: `step_at` of the smaller size hits written bytes only
     * below 512, so the comparison ends there. */
    for (size_t i = 0; i < kept && i < 512; i++) {
        if (block[i] != pattern(slot->seed, i)) {
            failed("lost by realloc", slot);
            break;
        }
    }
    fill(slot, (uint32_t)next_random(worker));
}

/* Puts the slot's block into the shared table and takes whatever was there. The table holds records from malloc. */
static void pass(struct worker *worker, struct slot *slot) {
    struct slot *record = malloc(sizeof *record);
    *record = *slot;
    slot->block = NULL;
    struct slot *other = atomic_exchange(&shared[next_random(worker) % SHARED], record);
    if (other) {
        *slot = *other;
        free(other);
        check(slot);
    }
}

static void *work(void *argument) {
    struct worker *worker = argument;
    for (long i = 0; i < worker->operations; i++) {
        struct slot *slot = &worker->slots[next_random(worker) % SLOTS];
        uint64_t choice = next_random(worker) % 16;
        if (!slot->block)
            allocate(worker, slot);
        else if (choice < 2)
            resize(worker, slot);
        else if (choice < 6)
            pass(worker, slot);
        else
            release(slot);
    }
    return NULL;
}

static int by_address(const void *left, const void *right) {
    const struct slot *a = left, *b = right;
    return a->block < b->block ? -1 : a->block > b->block;
}

/* All threads have ended. */
static void check_overlap(int threads) {
    static struct slot live[THREADS_MAX * SLOTS + SHARED];
    size_t count = 0;
    for (int t = 0; t < threads; t++) {
        for (int s = 0; s < SLOTS; s++) {
            if (workers[t].slots[s].block)
                live[count++] = workers[t].slots[s];
        }
    }
    for (int s = 0; s < SHARED; s++) {
        if (shared[s])
            live[count++] = *shared[s];
    }
    qsort(live, count, sizeof live[0], by_address);
    for (size_t i = 0; i < count; i++) {
        check(&live[i]);
        if (i > 0 && live[i - 1].block + malloc_usable_size(live[i - 1].block) > live[i].block)
            failed("overlapped", &live[i]);
    }
}

static void check_child(struct worker *worker) {
    pid_t child = fork();
    if (child == 0) {
        alarm(30);
        worker->operations = 2000;
        work(worker);
        for (int s = 0; s < SLOTS; s++) {
            if (worker->slots[s].block)
                release(&worker->slots[s]);
        }
        _exit(failures != 0);
    }
    int status;
    if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        fprintf(stderr, "# the child of fork failed\n");
        failures++;
    }
}

int main(int argc, char **argv) {
    int threads = argc > 1 ? atoi(argv[1]) : 6, rounds = argc > 3 ? atoi(argv[3]) : 4;
    long operations = argc > 2 ? atol(argv[2]) : 5000;
    if (threads < 1 || threads > THREADS_MAX)
        return 2;
    for (int t = 0; t < THREADS_MAX; t++)
        workers[t].random = (uint64_t)t * 7919 + 88172645463325252u;
    for (int round = 0; round < rounds; round++) {
        pthread_t ids[THREADS_MAX];
        for (int t = 0; t < threads; t++) {
            workers[t].operations = operations;
            pthread_create(&ids[t], NULL, work, &workers[t]);
        }
        if (round == rounds - 1)
            check_child(&workers[THREADS_MAX - 1]);
        for (int t = 0; t < threads; t++)
            pthread_join(ids[t], NULL);
        check_overlap(threads);
    }
    for (int t = 0; t < threads; t++) {
        for (int s = 0; s < SLOTS; s++) {
            if (workers[t].slots[s].block)
                release(&workers[t].slots[s]);
        }
    }
    for (int s = 0; s < SHARED; s++) {
        if (shared[s]) {
            release(shared[s]);
            free(shared[s]);
        }
    }
    return failures != 0;
}
