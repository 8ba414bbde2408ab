/* write_after_free.c: a freed block is written, and memory of its size is used on. */
#include "misuse.h"

int main(void) {
    enum { N = 100000 };
    char *p = announced(malloc(100));
    free(p);
    p[50] = 'x';
    for (int i = 0; i < N; i++) {
        char *q = malloc(100);
        if (!q)
            return 1;
        memset(q, 0, 100);
        free(q);
    }
}
