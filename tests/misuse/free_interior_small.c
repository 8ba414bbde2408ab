/* free_interior_small.c: free of the middle of a small block. */
#include "misuse.h"

int main(void) {
    enum { N = 200000 };
    static char *others[N];
    char *p = malloc(1000);
    free(announced(p + 512));
    for (int i = 0; i < N; i++)
        others[i] = malloc(1000);
    for (int i = 0; i < N; i++)
        free(others[i]);
    malloc_trim(0);
}
