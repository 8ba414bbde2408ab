/* basic.c: malloc, free, calloc, realloc, reallocarray, malloc_usable_size, free_sized against malloc(3) and C23. */
#define _GNU_SOURCE
#include <errno.h>
#include <malloc.h>
#include <stdint.h>
#include <sys/mman.h>
#include "../lib/proc.h"
#include "../lib/tap.h"

/* Reached by a pointer the compiler cannot see through: it takes a block given to reallocarray for gone, failure or
 * not. */
static void *(*volatile reallocarray_)(void *, size_t, size_t) = reallocarray;

static size_t too_large(unsigned i) {
    static const size_t sizes[] = {(size_t)PTRDIFF_MAX,
                                   (size_t)PTRDIFF_MAX + 1,
                                   SIZE_MAX / 2 + 4096,
                                   SIZE_MAX - 65536,
                                   SIZE_MAX - 4096,
                                   SIZE_MAX - 4095,
                                   SIZE_MAX - 64,
                                   SIZE_MAX - 32,
                                   SIZE_MAX - 16,
                                   SIZE_MAX - 8,
                                   SIZE_MAX - 7,
                                   SIZE_MAX - 1,
                                   SIZE_MAX};
    size_t size = i < sizeof sizes / sizeof *sizes ? sizes[i] : 0;
    OPAQUE(size);
    return size;
}

static void every_size(void) {
    unsigned misaligned = 0, short_of = 0, clobbered = 0;
    for (size_t size = 0; size <= 70000; size += size < 2100 ? 1 : 61) {
        unsigned char *p = malloc(size);
        if (!p) {
            short_of++;
            continue;
        }
        misaligned += (uintptr_t)p % (size > 8 ? 16 : 8) != 0;
        size_t usable = malloc_usable_size(p);
        short_of += usable < size;
        memset(p, (int)size, usable);
        for (size_t i = 0; i < usable; i++)
            clobbered += p[i] != (unsigned char)size;
        free(p);
    }
    OK(misaligned == 0, "blocks of more than 8 bytes are aligned to 16, others to 8");
    OK(short_of == 0, "malloc_usable_size is at least the size asked for");
    OK(clobbered == 0, "every usable byte holds what was written");
    OK(malloc_usable_size(NULL) == 0, "malloc_usable_size(NULL) is 0");
}

static void zero_sizes(void) {
    enum { N = 1000 };
    static char *blocks[N];
    unsigned null = 0, twins = 0;
    for (int i = 0; i < N; i++)
        null += !(blocks[i] = malloc(0));
    for (int i = 0; i < N; i++)
        for (int j = 0; j < i; j++)
            twins += blocks[i] == blocks[j];
    OK(null == 0 && twins == 0, "malloc(0) gives unique pointers");
    for (int i = 0; i < N; i++)
        free(blocks[i]);
    void *a = calloc(0, 8), *b = calloc(8, 0), *c = realloc(NULL, 0), *d = reallocarray(NULL, 0, 8);
    OK(a && b && c && d && a != b && b != c && c != d && a != c && a != d && b != d,
       "calloc and realloc(NULL) of nothing give unique pointers");
    free(a);
    free(b);
    free(c);
    free(d);
    free(NULL);
    OK(1, "free(NULL) does nothing");
}

static void impossible_sizes(void) {
    unsigned wrong_malloc = 0, wrong_calloc = 0, wrong_realloc = 0, wrong_array = 0, lost = 0;
    char *kept = malloc(100), *kept_large = malloc(3 << 20);
    strcpy(kept, "still here");
    strcpy(kept_large + (2 << 20), "still here");
    for (unsigned i = 0; too_large(i); i++) {
        void *p = (errno = 0, malloc(too_large(i)));
        wrong_malloc += p != NULL || errno != ENOMEM;
        p = (errno = 0, calloc(too_large(i), 1));
        wrong_calloc += p != NULL || errno != ENOMEM;
        p = (errno = 0, calloc(1, too_large(i)));
        wrong_calloc += p != NULL || errno != ENOMEM;
        p = (errno = 0, realloc(kept, too_large(i)));
        wrong_realloc += p != NULL || errno != ENOMEM;
        p = (errno = 0, realloc(kept_large, too_large(i)));
        wrong_realloc += p != NULL || errno != ENOMEM;
        p = (errno = 0, realloc(NULL, too_large(i)));
        wrong_realloc += p != NULL || errno != ENOMEM;
        p = (errno = 0, reallocarray_(kept, too_large(i), 1));
        wrong_array += p != NULL || errno != ENOMEM;
        lost += strcmp(kept, "still here") != 0 || strcmp(kept_large + (2 << 20), "still here") != 0;
    }
    OK(wrong_malloc == 0, "malloc of PTRDIFF_MAX and more gives NULL and ENOMEM");
    OK(wrong_calloc == 0, "calloc of PTRDIFF_MAX and more gives NULL and ENOMEM");
    OK(wrong_realloc == 0, "realloc to PTRDIFF_MAX and more gives NULL and ENOMEM");
    OK(wrong_array == 0, "reallocarray to PTRDIFF_MAX and more gives NULL and ENOMEM");
    OK(lost == 0, "a failed realloc leaves the block as it was");
    free(kept_large);
    free(kept);
}

/* As if each were mapped by itself: on a machine that overcommits by a guess, what exceeds all memory is refused. The
 * pages stay untouched. */
static void absurd_sizes(void) {
    unsigned differ = 0;
    size_t before = proc_rss();
    for (int shift = 31; shift <= 40; shift++) {
        size_t size = (size_t)1 << shift;
        void *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (map != MAP_FAILED)
            munmap(map, size);
        void *block = malloc(1000);
        errno = 0;
        void *p = malloc(size), *q = p ? NULL : realloc(block, size);
        differ += (p == NULL) != (map == MAP_FAILED) || q || (!p && errno != ENOMEM);
        free(p);
        free(block);
    }
    OK(differ == 0, "malloc and realloc refuse what mmap refuses, and nothing else (%u of 10 differ)", differ);
    size_t after = proc_rss();
    OK(after < before + 128 * MIB, "and what was given cost little (%zu MiB)", (after - before) / MIB);
}

static void overflowing_products(void) {
    static const size_t factors[][2] = {{SIZE_MAX, 2},           {2, SIZE_MAX},
                                        {SIZE_MAX / 2 + 1, 2},   {(size_t)1 << 32, (size_t)1 << 32},
                                        {SIZE_MAX / 16 + 2, 16}, {((size_t)1 << 33) + 1, ((size_t)1 << 31) + 1},
                                        {SIZE_MAX, SIZE_MAX}};
    unsigned wrong = 0;
    char *kept = malloc(64);
    strcpy(kept, "kept");
    for (unsigned i = 0; i < sizeof factors / sizeof *factors; i++) {
        size_t a = factors[i][0], b = factors[i][1];
        OPAQUE(a);
        OPAQUE(b);
        void *p = (errno = 0, calloc(a, b));
        wrong += p != NULL || errno != ENOMEM;
        p = (errno = 0, reallocarray_(kept, a, b));
        wrong += p != NULL || errno != ENOMEM;
    }
    OK(wrong == 0 && strcmp(kept, "kept") == 0, "products that overflow fail with ENOMEM in calloc and reallocarray");
    kept = reallocarray_(kept, 1000, 1000);
    OK(kept && strcmp(kept, "kept") == 0 && malloc_usable_size(kept) >= 1000000, "reallocarray grows a block");
    free(kept);
}

static void calloc_after_dirt(void) {
    static const size_t sizes[] = {1,    8,     9,     16,     24,     100,    256,     1000,    1024,
                                   4096, 10000, 32768, 100000, 262144, 300000, 1 << 20, 5 << 20, 40 << 20};
    unsigned dirty = 0, null = 0;
    for (unsigned s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        enum { N = 64 };
        unsigned n = sizes[s] > 100000 ? 3 : N;
        unsigned char *blocks[N];
        for (unsigned i = 0; i < n; i++) {
            blocks[i] = malloc(sizes[s]);
            null += !blocks[i];
            memset(blocks[i], 0xa5, malloc_usable_size(blocks[i]));
        }
        for (unsigned i = 0; i < n; i++)
            free(blocks[i]);
        for (unsigned i = 0; i < n; i++) {
            blocks[i] = i & 1 ? calloc(sizes[s], 1) : calloc(1, sizes[s]);
            null += !blocks[i];
            for (size_t b = 0; b < sizes[s]; b++)
                dirty += blocks[i][b] != 0;
        }
        for (unsigned i = 0; i < n; i++)
            free(blocks[i]);
    }
    OK(null == 0 && dirty == 0, "calloc gives zeroed memory also where dirty blocks were freed");
}

static int is_pattern(const unsigned char *p, size_t size) {
    for (size_t i = 0; i < size; i++)
        if (p[i] != (unsigned char)(i * 31 + (i >> 8)))
            return 0;
    return 1;
}

static void reallocs(void) {
    unsigned wrong = 0, misaligned = 0;
    size_t size = 1;
    unsigned char *p = malloc(1);
    p[0] = 0;
    /* Up in uneven steps to 48 MiB, then down again: through every class, and the growth of large blocks in place. */
    while (size < 48u << 20) {
        size_t next = size + size / 3 + 1;
        p = realloc(p, next);
        wrong += !p || malloc_usable_size(p) < next || !is_pattern(p, size);
        misaligned += (uintptr_t)p % (next > 8 ? 16 : 8) != 0;
        for (size_t i = size; i < next; i++)
            p[i] = (unsigned char)(i * 31 + (i >> 8));
        size = next;
    }
    OK(wrong == 0, "growing by realloc keeps the contents");
    while (size > 1) {
        size_t next = size - size / 3 - 1;
        next = next ? next : 1;
        p = realloc(p, next);
        wrong += !p || malloc_usable_size(p) < next || !is_pattern(p, next);
        misaligned += (uintptr_t)p % (next > 8 ? 16 : 8) != 0;
        size = next;
    }
    OK(wrong == 0, "shrinking by realloc keeps the contents");
    OK(misaligned == 0, "realloc keeps the alignment");
    OPAQUE(p);
    OK(realloc(p, 0) == NULL, "realloc(p, 0) frees and gives NULL");

    unsigned char *blocks[200];
    for (int i = 0; i < 200; i++) {
        blocks[i] = NULL;
        for (size_t grown = 16; grown <= 200u * 16; grown += 16) {
            blocks[i] = realloc(blocks[i], grown);
            memset(blocks[i] + grown - 16, i, 16);
        }
    }
    for (int i = 0; i < 200; i++) {
        for (int b = 0; b < 3200; b++)
            wrong += blocks[i][b] != i;
        free(blocks[i]);
    }
    OK(wrong == 0, "200 blocks grown side by side do not disturb each other");
}

static void realloc_zero_frees(void) {
    /* 2000 times 4 MiB: were the blocks not freed, there would be 8 GB of memory that can be written. */
    size_t before = proc_status("VmData:");
    unsigned wrong = 0;
    for (int i = 0; i < 2000; i++) {
        char *p = malloc(4 << 20);
        p[0] = 1;
        OPAQUE(p);
        wrong += realloc(p, 0) != NULL;
    }
    size_t after = proc_status("VmData:");
    OK(wrong == 0 && before > 0 && after < before + 512 * MIB, "realloc(p, 0) really frees (%zu MiB before, %zu after)",
       before / MIB, after / MIB);
}

static void errno_is_kept(void) {
    static const size_t sizes[] = {1, 100, 5000, 100000, 1 << 20, 64 << 20};
    unsigned changed = 0;
    for (unsigned s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (int round = 0; round < 50; round++) {
            char *p = malloc(sizes[s]);
            p[sizes[s] - 1] = 1;
            errno = 4711;
            free(p);
            changed += errno != 4711;
        }
    errno = 4711;
    free(NULL);
    changed += errno != 4711;
    OK(changed == 0, "free keeps errno");
}

static void c23_frees(void) {
    void *sized = dlsym(RTLD_DEFAULT, "free_sized"), *aligned = dlsym(RTLD_DEFAULT, "free_aligned_sized");
    if (!tap_expects_rnalloc() && !sized) {
        tap_skip("this glibc has none", "free_sized and free_aligned_sized");
        return;
    }
    if (!OK(sized && aligned, "free_sized and free_aligned_sized exist"))
        return;
    void (*free_sized_)(void *, size_t);
    void (*free_aligned_sized_)(void *, size_t, size_t);
    memcpy(&free_sized_, &sized, sizeof sized);
    memcpy(&free_aligned_sized_, &aligned, sizeof aligned);
    /* Each of the four loops' calls frees some 300 MiB. */
    size_t before = proc_status("VmData:");
    for (size_t size = 1; size < 3u << 20; size += size / 4 + 1)
        for (int i = 0; i < 20; i++) {
            free_sized_(malloc(size), size);
            free_sized_(calloc(size, 1), size);
            free_aligned_sized_(aligned_alloc(64, size), 64, size);
            free_aligned_sized_(aligned_alloc(8192, size), 8192, size);
        }
    errno = 4711;
    free_sized_(NULL, 100);
    free_aligned_sized_(NULL, 64, 100);
    OK(errno == 4711, "free_sized and free_aligned_sized ignore NULL and keep errno");
    size_t after = proc_status("VmData:");
    OK(after < before + 150 * MIB, "free_sized and free_aligned_sized free (%zu MiB before, %zu after)", before / MIB,
       after / MIB);
}

int main(void) {
    tap_check_subject();
    every_size();
    zero_sizes();
    impossible_sizes();
    absurd_sizes();
    overflowing_products();
    calloc_after_dirt();
    reallocs();
    realloc_zero_frees();
    errno_is_kept();
    c23_frees();
    return tap_done();
}
