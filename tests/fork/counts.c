/* counts.c: what mallinfo2(3) says of the small blocks that the program holds, while other threads allocate, resize and
 * free large ones: never less than they are, nor more than what caches explain, in this process and in
 * children made at any moment. */
#define _GNU_SOURCE
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include "../lib/proc.h"
#include "../lib/shadow.h"
#include "../lib/tap.h"

enum { CHURNERS = 6, BLOCKS = 2048, BLOCK = 256, FORKS = 150, READS = 30000 };
static atomic_int done;

/* The pages are not touched: what is large is the count. */
static void *churn(void *argument) {
    uint64_t random = (uintptr_t)argument;
    while (!atomic_load(&done)) {
        size_t size = (size_t)1 << (21 + shadow_random(&random) % 4); /* a quarter is large, too */
        void *block = malloc(size);
        OPAQUE(block);
        void *other = realloc(block, shadow_random(&random) % 2 ? size / 4 : size * 4);
        free(other ? other : block);
    }
    return NULL;
}

static int is_counted(void) {
    size_t used = mallinfo2().uordblks, held = (size_t)BLOCKS * BLOCK;
    return used >= held &&
           (used < held + MIB || !tap_expects_rnalloc()); /* glibc's large blocks may be ordinary ones */
}

static int child(void *unused) {
    (void)unused;
    return !is_counted();
}

int main(void) {
    static void *held[BLOCKS];
    pthread_t threads[CHURNERS];
    int failed = 0;
    tap_check_subject();
    for (int i = 0; i < BLOCKS; i++)
        if (!(held[i] = malloc(BLOCK)))
            return 3;
    size_t large = mallinfo2().hblkhd;
    for (uintptr_t i = 0; i < CHURNERS; i++)
        if (pthread_create(&threads[i], NULL, churn, (void *)i) != 0)
            return 3;
    for (int i = 0; i < READS; i++)
        failed += !is_counted();
    OK(failed == 0, "what is held is counted, amid large blocks (%d of %d failed)", failed, READS);
    failed = 0;
    for (int i = 0; i < FORKS; i++)
        failed += proc_child(child, NULL) != 0;
    OK(failed == 0, "and in children made meanwhile (%d of %d failed)", failed, FORKS);
    atomic_store(&done, 1);
    for (int i = 0; i < CHURNERS; i++)
        pthread_join(threads[i], NULL);
    OK(mallinfo2().hblkhd == large && is_counted(), "and none of the large ones is, once they are freed");
    for (int i = 0; i < BLOCKS; i++)
        free(held[i]);
    return tap_done();
}
