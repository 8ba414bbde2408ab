/* free_misaligned_large.c: free of a large block's address plus 4. */
#include "misuse.h"

int main(void) {
    char *p = malloc(3 << 20);
    free(announced(p + 4));
}
