/* realloc_freed.c: realloc of a freed small block. */
#include "misuse.h"

int main(void) {
    void *p = announced(malloc(100));
    free(p);
    p = realloc(announced(p), 5000);
    malloc_trim(0);
    return p == NULL;
}
