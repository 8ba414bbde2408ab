/* free_interior_large.c: free of the middle of a large block, on a page's boundary. */
#include "misuse.h"

int main(void) {
    char *p = malloc(3 << 20);
    free(announced(p + (1 << 20)));
}
