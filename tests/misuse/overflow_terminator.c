/* overflow_terminator.c: a string that fills its block has its terminating zero behind it. */
#include "misuse.h"

int main(void) {
    char *p = announced(malloc(64));
    memset(p, 'x', 64);
    p[64] = 0;
    free(p);
}
