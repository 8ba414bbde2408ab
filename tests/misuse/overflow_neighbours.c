/* overflow_neighbours.c: 200 bytes are written behind blocks of 48; all are freed, and the program goes on. */
#include "misuse.h"

int main(void) {
    enum { N = 10000 };
    static char *blocks[N];
    for (int i = 0; i < N; i++)
        blocks[i] = malloc(48);
    char *p = announced(blocks[N / 2]);
    memset(p, 'x', 248);
    free(p);
    for (int i = 0; i < N; i++)
        if (blocks[i] != p)
            free(blocks[i]);
    malloc_trim(0);
    for (int i = 0; i < N; i++)
        blocks[i] = malloc(48);
}
