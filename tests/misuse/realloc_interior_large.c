/* realloc_interior_large.c: realloc of the middle of a large block. */
#include "misuse.h"

int main(void) {
    char *p = malloc(3 << 20);
    return realloc(announced(p + 8192), 5 << 20) == NULL;
}
