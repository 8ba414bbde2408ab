/* overflow_byte.c: one byte is written behind a block of 100 bytes. */
#include "misuse.h"

int main(void) {
    char *p = announced(malloc(100));
    p[100] = 'x';
    free(p);
}
