/* free_interior_large_page.c: free of the second page of a large block. */
#include "misuse.h"

int main(void) {
    char *p = malloc(3 << 20);
    free(announced(p + 8192));
}
