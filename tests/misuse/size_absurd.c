/* size_absurd.c: sizes and alignments that cannot be. */
#include "misuse.h"

int main(void) {
    size_t sizes[] = {SIZE_MAX, SIZE_MAX - 16, SIZE_MAX / 2 + 1, (size_t)1 << 62};
    void *p = announced(NULL), *kept = malloc(10);
    int given = 0;
    for (size_t *size = sizes; size < sizes + 4; size++) {
        __asm__ volatile("" : "+m"(*size));
        given += malloc(*size) != NULL;
        given += calloc(*size, 16) != NULL;
        given += realloc(kept, *size) != NULL;
        given += posix_memalign(&p, *size & -*size, *size) == 0;
        given += posix_memalign(&p, 48, 10) == 0;
        given += memalign((size_t)1 << 62, 10) != NULL;
    }
    free(kept);
    return given;
}
