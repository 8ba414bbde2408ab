/* mallinfo.c: mallinfo, mallinfo2 and malloc_stats tell the truth about known allocations. */
#define _GNU_SOURCE
#include <malloc.h>
#include <pthread.h>
#include <sys/mman.h>
#include "../lib/proc.h"
#include "../lib/tap.h"
#include "blocks.h"

static size_t in_use(void) {
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

static void figures_of_mallinfo(void) {
    size_t asked = BLOCKS_ASKED, before = in_use();
    fill();
    struct mallinfo2 full = mallinfo2();
    size_t used = in_use() - before;
    OK(is_near(used, asked), "mallinfo2: %zu bytes asked for, %zu more in use", asked, used);
    OK(full.arena + full.hblkhd >= asked, "mallinfo2: space held covers the live blocks");
    OK(full.arena + full.hblkhd >= full.uordblks + full.fordblks,
       "mallinfo2: used and free blocks lie in the space held");
    void *symbol = dlsym(RTLD_DEFAULT, "mallinfo");
    struct mallinfo (*old)(void);
    memcpy(&old, &symbol, sizeof symbol);
    struct mallinfo narrow = old();
    OK(is_near((size_t)narrow.uordblks + (size_t)narrow.hblkhd - before, asked), "mallinfo agrees");
    empty();
    used = in_use();
    OK(used <= before + (1 << 20), "mallinfo2: after free, in use falls back (%zu before, %zu now)", before, used);
}

static size_t free_blocks(void) {
    struct mallinfo2 info = mallinfo2();
    return info.ordblks + info.smblks;
}

static void numbers_of_blocks(void) {
    enum { MANY = 1000, FEW_BYTES = 64, MORE_BYTES = 3000 };
    static void *few[MANY], *more[MANY];
    unsigned differ = 0;
    for (int i = 0; i < MANY; i++) {
        few[i] = malloc(FEW_BYTES);
        more[i] = malloc(MORE_BYTES);
    }
    size_t before = free_blocks();
    for (int i = 0; i < MANY; i += 2) { /* no two neighbours */
        free(few[i]);
        free(more[i]);
    }
    struct mallinfo2 info = mallinfo2();
    OK(info.ordblks > 0 && (info.smblks == 0) == (info.fsmblks == 0) && info.fsmblks <= info.smblks * 160 &&
           info.fsmblks <= info.fordblks,
       "mallinfo2: free blocks are counted (%zu, %zu of them small, %zu bytes)", info.ordblks, info.smblks,
       info.fsmblks);
    size_t added = info.ordblks + info.smblks - before;
    OK(!tap_expects_rnalloc() || added == MANY, "mallinfo2: each freed block is one more (%zu)", added);
    for (int i = 1; i < MANY; i += 2) {
        size_t now = free_blocks();
        free(i % 4 == 1 ? few[i] : more[i]);
        differ += free_blocks() != now + 1;
    }
    OK(!tap_expects_rnalloc() || differ < 10, "mallinfo2: one at a time, but for a span that ends (%u)", differ);
    for (int i = 1; i < MANY; i += 2)
        free(i % 4 == 1 ? more[i] : few[i]);
}

static void figures_of_stats(void) {
    fill();
    int file = memfd_create("stats", 0), saved = dup(STDERR_FILENO);
    dup2(file, STDERR_FILENO);
    malloc_stats();
    dup2(saved, STDERR_FILENO);
    static char stats[65536];
    ssize_t got = pread(file, stats, sizeof stats - 1, 0);
    stats[got > 0 ? got : 0] = 0;
    OK(got > 0, "malloc_stats writes to stderr");
    OK(tells_number(stats, BLOCKS_ASKED), "malloc_stats tells the bytes in use");
    close(file);
    close(saved);
    empty();
}

static void realloc_to_nothing(void) {
    size_t before = in_use();
    unsigned wrong = 0;
    for (int i = 0; i < 2000; i++) {
        char *p = malloc(4 << 20);
        p[0] = 1;
        OPAQUE(p);
        wrong += realloc(p, 0) != NULL;
    }
    OK(wrong == 0 && in_use() < before + 16 * MIB, "mallinfo2: what realloc(p, 0) freed is not in use");
}

static void sized_frees(void) {
    void *sized = dlsym(RTLD_DEFAULT, "free_sized"), *aligned = dlsym(RTLD_DEFAULT, "free_aligned_sized");
    if (!sized || !aligned) {
        tap_skip("this glibc has none", "mallinfo2 after free_sized and free_aligned_sized");
        return;
    }
    void (*free_sized_)(void *, size_t);
    void (*free_aligned_sized_)(void *, size_t, size_t);
    memcpy(&free_sized_, &sized, sizeof sized);
    memcpy(&free_aligned_sized_, &aligned, sizeof aligned);
    size_t before = in_use();
    for (size_t size = 1; size < 3u << 20; size += size / 4 + 1)
        for (int i = 0; i < 20; i++) {
            free_sized_(malloc(size), size);
            free_sized_(calloc(size, 1), size);
            free_aligned_sized_(aligned_alloc(64, size), 64, size);
            free_aligned_sized_(aligned_alloc(8192, size), 8192, size);
        }
    OK(in_use() < before + 8 * MIB, "mallinfo2: what free_sized and free_aligned_sized freed is not in use");
}

/* A thread's blocks, freed by another when it has ended, and while it sleeps. */
static pthread_barrier_t allocated, done;

static void *allocate(void *wait) {
    for (int i = 0; i < SMALL; i++)
        memset(small[i] = malloc(SMALL_SIZE), 1, SMALL_SIZE);
    if (wait) {
        pthread_barrier_wait(&allocated);
        pthread_barrier_wait(&done);
    }
    return NULL;
}

static void free_small(void) {
    for (int i = 0; i < SMALL; i++)
        free(small[i]);
}

static void freed_by_others(void) {
    pthread_t thread;
    size_t before = in_use(), ended, sleeping;
    pthread_create(&thread, NULL, allocate, NULL);
    pthread_join(thread, NULL);
    free_small();
    /* For moments, the allocator's own thread may have some in hand. */
    EVENTUALLY((ended = in_use()) < before + MIB)
    OK(ended < before + MIB, "mallinfo2: blocks of an ended thread, once freed, are not in use (%zu before, %zu now)",
       before, ended);
    pthread_barrier_init(&allocated, NULL, 2);
    pthread_barrier_init(&done, NULL, 2);
    pthread_create(&thread, NULL, allocate, small);
    pthread_barrier_wait(&allocated);
    free_small();
    EVENTUALLY((sleeping = in_use()) < before + MIB)
    pthread_barrier_wait(&done);
    pthread_join(thread, NULL);
    OK(sleeping < before + MIB, "mallinfo2: nor are those of a thread that sleeps (%zu before, %zu now)", before,
       sleeping);
}

int main(void) {
    tap_check_subject();
    OK(tap_is_of_malloc("mallinfo") && tap_is_of_malloc("mallinfo2") && tap_is_of_malloc("malloc_stats"),
       "the figures are of the allocator that serves");
    figures_of_mallinfo();
    numbers_of_blocks();
    figures_of_stats();
    realloc_to_nothing();
    sized_frees();
    freed_by_others();
    return tap_done();
}
