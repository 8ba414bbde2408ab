/* usable_freed.c: malloc_usable_size of a freed small block. */
#include "misuse.h"

int main(void) {
    void *p = announced(malloc(100));
    free(p);
    return malloc_usable_size(announced(p)) == 0;
}
