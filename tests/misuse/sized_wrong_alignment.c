/* sized_wrong_alignment.c: C23 free_aligned_sized with an alignment that the block does not have. */
#include "misuse.h"

int main(void) {
    void free_aligned_sized(void *, size_t, size_t) __attribute__((weak));
    char *p;
    do
        p = malloc(100);
    while (p && (uintptr_t)p % 4096 == 0);
    p = announced(p);
    if (free_aligned_sized)
        free_aligned_sized(p, 4096, 100);
}
