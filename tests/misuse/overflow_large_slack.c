/* overflow_large_slack.c: one byte is written behind a large block of an odd size. */
#include "misuse.h"

int main(void) {
    char *p = announced(malloc(1000001));
    p[1000001] = 'x';
    free(p);
}
