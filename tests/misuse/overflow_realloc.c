/* overflow_realloc.c: one byte is written behind a block that is then resized. */
#include "misuse.h"

int main(void) {
    char *p = announced(malloc(1000));
    p[1000] = 'x';
    p = realloc(p, 5000);
    free(p);
}
