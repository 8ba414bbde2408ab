/* usable_freed_large.c: malloc_usable_size of a freed large block. */
#include "misuse.h"

int main(void) {
    void *p = announced(malloc(3 << 20));
    free(p);
    return malloc_usable_size(announced(p)) == 0;
}
