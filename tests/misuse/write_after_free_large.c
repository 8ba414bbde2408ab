/* write_after_free_large.c: a freed large block is written. */
#include "misuse.h"

int main(void) {
    char *p = announced(malloc(1 << 20));
    memset(p, 0, 1 << 20);
    free(p);
    p[5000] = 'x';
}
