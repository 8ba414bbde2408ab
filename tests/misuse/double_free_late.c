/* double_free_late.c: a block freed twice, with thousands of frees of its size in between. */
#include "misuse.h"

int main(void) {
    enum { N = 100000 };
    static void *others[N];
    for (int i = 0; i < N; i++)
        others[i] = malloc(100);
    void *p = announced(others[N / 2]);
    for (int i = 0; i < N; i++)
        free(others[i]);
    free(announced(p));
    malloc_trim(0);
}
