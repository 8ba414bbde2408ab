/* oom: memory runs out, and nothing is lost by it. Under a limit of address space, blocks of one size are allocated
 * until NULL and ENOMEM, by several threads; all are freed; and then as many can be allocated again, but for a tenth.
 */
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#define LIMIT ((size_t)128 << 20)
#define THREADS 3
#define ROOM ((size_t)4 << 20)
#define STACK ((size_t)128 << 10) /* small: glibc keeps stacks, which count against the limit */

struct block {
    struct block *next;
};

static size_t exhaust(size_t size) {
    struct block *all = NULL;
    size_t count = 0;
    errno = 0;
    for (struct block *block; (block = malloc(size)) != NULL; count++) {
        memset(block, 0x33, size < 64 ? size : 64);
        block->next = all;
        all = block;
    }
    if (errno != ENOMEM)
        count = 0;
    while (all) {
        struct block *next = all->next;
        free(all);
        all = next;
    }
    return count;
}

static void *exhaust_together(void *size) { return (void *)exhaust((size_t)(uintptr_t)size); }

static int failures;

static void check(size_t size) {
    /* Room for the threads' stacks: a design without coalescing leaves none. */
    void *room = mmap(NULL, ROOM, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    size_t first = exhaust(size);
    munmap(room, ROOM);
    pthread_t threads[THREADS];
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK);
    int started = 0;
    while (started < THREADS &&
           pthread_create(&threads[started], &attributes, exhaust_together, (void *)(uintptr_t)size) == 0)
        started++;
    for (int t = 0; t < started; t++)
        pthread_join(threads[t], NULL);
    size_t again = exhaust(size);
    if (started == 0 || first == 0 || again < first - first / 10) {
        fprintf(stderr, "# %zu bytes: %zu blocks at first, %zu again\n", size, first, again);
        failures++;
    }
}

/* One size per process: designs without coalescing keep what they cut for it. */
int main(int argc, char **argv) {
    struct rlimit limit = {LIMIT, LIMIT};
    if (argc != 2 || setrlimit(RLIMIT_AS, &limit) != 0)
        return 2;
    check(strtoul(argv[1], NULL, 10));
    return failures != 0;
}
