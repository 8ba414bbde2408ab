/* realloc_freed_large.c: realloc of a freed large block. */
#include "misuse.h"

int main(void) {
    void *p = announced(malloc(3 << 20));
    free(p);
    return realloc(announced(p), 5 << 20) == NULL;
}
