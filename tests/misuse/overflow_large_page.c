/* overflow_large_page.c: a large block is written on up to the second page behind its last. */
#include "misuse.h"

int main(void) {
    char *p = announced(malloc(1 << 20)), *q = malloc(1 << 20);
    char *low = hidden(p < q ? p : q); /* what is overrun in the default mode is the other block, or fresh pages */
    for (size_t i = 0; i < 16384; i += 4096)
        low[(1 << 20) + i] = 'x';
    free(p);
    free(q);
}
