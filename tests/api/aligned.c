/* aligned.c: memalign, aligned_alloc, posix_memalign, valloc, pvalloc against posix_memalign(3), odd arguments
 * included. */
#define _GNU_SOURCE
#include <errno.h>
#include <malloc.h>
#include <stdint.h>
#include "../lib/tap.h"

enum call { MEMALIGN, ALIGNED_ALLOC, POSIX_MEMALIGN, CALLS };
static const char *const call_names[CALLS] = {"memalign", "aligned_alloc", "posix_memalign"};

static void *call_aligned(enum call call, size_t alignment, size_t size) {
    void *p = NULL;
    OPAQUE(alignment);
    OPAQUE(size);
    switch (call) {
    case MEMALIGN:
        return memalign(alignment, size);
    case ALIGNED_ALLOC:
        return aligned_alloc(alignment, size);
    default:
        errno = posix_memalign(&p, alignment, size);
        return p;
    }
}

static void every_power(enum call call) {
    static const size_t sizes[] = {0,    1,    7,    8,     9,     16,     24,     100,     1000,
                                   4096, 5000, 8192, 30000, 65536, 262144, 262145, 1 << 20, 3 << 20};
    unsigned wrong = 0, short_of = 0, damaged = 0, count = 0;
    for (size_t alignment = sizeof(void *); alignment <= 64u << 20; alignment *= 2)
        for (unsigned s = 0; s < sizeof sizes / sizeof *sizes; s++) {
            unsigned char *blocks[4];
            unsigned n = alignment > 1 << 20 ? 2 : 4;
            for (unsigned i = 0; i < n; i++, count++) {
                blocks[i] = call_aligned(call, alignment, sizes[s]);
                wrong += !blocks[i] || (uintptr_t)blocks[i] % alignment != 0;
                short_of += malloc_usable_size(blocks[i]) < sizes[s];
                memset(blocks[i], (int)i + 1, sizes[s]);
            }
            for (unsigned i = 0; i < n; i++) {
                for (size_t b = 0; b < sizes[s]; b += 1 + sizes[s] / 1000)
                    damaged += blocks[i][b] != i + 1;
                free(blocks[i]);
            }
        }
    OK(wrong == 0, "%s: %u blocks aligned to 8 up to 64 MiB", call_names[call], count);
    OK(short_of == 0, "%s: usable size is at least the size", call_names[call]);
    OK(damaged == 0, "%s: blocks do not overlap", call_names[call]);
    void *huge = call_aligned(call, (size_t)1 << 30, 100);
    OK(huge && (uintptr_t)huge % ((size_t)1 << 30) == 0, "%s: alignment of 1 GiB", call_names[call]);
    free(huge);
}

static void failures(enum call call) {
    unsigned wrong = 0;
    static const size_t sizes[] = {(size_t)PTRDIFF_MAX, (size_t)PTRDIFF_MAX + 1, SIZE_MAX - 8192,
                                   SIZE_MAX - 4096,     SIZE_MAX - 64,           SIZE_MAX};
    for (size_t alignment = 8; alignment; alignment *= 2)
        for (unsigned s = 0; s < sizeof sizes / sizeof *sizes; s++) {
            void *p = (errno = 0, call_aligned(call, alignment, sizes[s]));
            wrong += p != NULL || errno != ENOMEM;
        }
    OK(wrong == 0, "%s: sizes of PTRDIFF_MAX and more fail with ENOMEM at every alignment", call_names[call]);
    wrong = 0;
    for (unsigned shift = 56; shift <= 63; shift++) {
        void *p = (errno = 0, call_aligned(call, (size_t)1 << shift, 64));
        wrong += p != NULL || errno != ENOMEM;
    }
    OK(wrong == 0, "%s: alignments beyond the address space fail with ENOMEM", call_names[call]);
}

static void odd_alignments(void) {
    static const size_t odd[] = {0, 1, 2, 3, 4, 5, 7, 9, 12, 24, 33, 48, 100, 1000, 4095, 4097, 10000, 100001};
    unsigned wrong = 0, accepted = 0, touched = 0;
    for (unsigned i = 0; i < sizeof odd / sizeof *odd; i++) {
        size_t power = 1;
        while (power < odd[i])
            power *= 2;
        for (enum call call = MEMALIGN; call <= ALIGNED_ALLOC; call++) {
            void *p = call_aligned(call, odd[i], 200);
            wrong += !p || (uintptr_t)p % power != 0 || (uintptr_t)p % 16 != 0;
            free(p);
        }
        void *p = &wrong;
        int error = posix_memalign(&p, odd[i], 200);
        accepted += error != EINVAL;
        touched += p != &wrong;
    }
    OK(wrong == 0, "memalign and aligned_alloc round an odd alignment up");
    OK(accepted == 0, "posix_memalign answers EINVAL to alignments that are no power of two or below a pointer's size");
    void *p = &wrong;
    size_t size = SIZE_MAX;
    OPAQUE(size);
    int error = posix_memalign(&p, 64, size);
    OK(error == ENOMEM && p == &wrong && touched == 0, "posix_memalign leaves *memptr alone when it fails");
    for (enum call call = MEMALIGN; call <= ALIGNED_ALLOC; call++) {
        p = (errno = 0, call_aligned(call, SIZE_MAX / 2 + 2, 64));
        OK(p == NULL && errno == EINVAL, "%s: an alignment that cannot be rounded up fails with EINVAL",
           call_names[call]);
    }
}

static void pages(void) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE), overflow = SIZE_MAX - 100;
    unsigned wrong_valloc = 0, wrong_pvalloc = 0;
    for (size_t size = 0; size < 600000; size += 1 + size / 3) {
        void *a = valloc(size), *b = pvalloc(size);
        wrong_valloc += !a || (uintptr_t)a % page != 0 || malloc_usable_size(a) < size;
        wrong_pvalloc += !b || (uintptr_t)b % page != 0 || malloc_usable_size(b) < (size + page - 1) / page * page;
        free(a);
        free(b);
    }
    OK(wrong_valloc == 0, "valloc gives whole-page alignment");
    OK(wrong_pvalloc == 0, "pvalloc rounds the size up to whole pages as well");
    OPAQUE(overflow);
    void *p = (errno = 0, pvalloc(overflow));
    OK(p == NULL && errno == ENOMEM, "pvalloc: a size that overflows in rounding fails with ENOMEM");
    p = (errno = 0, valloc(overflow));
    OK(p == NULL && errno == ENOMEM, "valloc: an impossible size fails with ENOMEM");
}

static void realloc_of_aligned(void) {
    unsigned wrong = 0;
    for (size_t alignment = 16; alignment <= 1 << 20; alignment *= 4)
        for (size_t size = 10; size < 2000000; size *= 7) {
            unsigned char *p = aligned_alloc(alignment, size);
            memset(p, 0x5c, size);
            p = realloc(p, size * 2);
            for (size_t i = 0; i < size; i++)
                wrong += p[i] != 0x5c;
            p = realloc(p, size / 2);
            for (size_t i = 0; i < size / 2; i++)
                wrong += p[i] != 0x5c;
            free(p);
        }
    OK(wrong == 0, "aligned blocks can be grown and shrunk by realloc");
}

int main(void) {
    tap_check_subject();
    for (enum call call = 0; call < CALLS; call++) {
        every_power(call);
        failures(call);
    }
    odd_alignments();
    pages();
    realloc_of_aligned();
    return tap_done();
}
