/* free_misaligned_small.c: free of a small block's address plus 1. */
#include "misuse.h"

int main(void) {
    char *p = malloc(1000);
    free(announced(p + 1));
    malloc_trim(0);
}
