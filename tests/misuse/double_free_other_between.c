/* double_free_other_between.c: a block freed twice, with another freed in between; then the program goes on for a
 * while. */
#include "misuse.h"

int main(void) {
    enum { N = 200000 };
    static void *others[N];
    void *p = announced(malloc(100)), *q = malloc(100);
    free(p);
    free(q);
    free(announced(p));
    /* The second copy of p is found at the latest when both have come to its span. */
    for (int i = 0; i < N; i++)
        others[i] = malloc(100);
    for (int i = 0; i < N; i++)
        free(others[i]);
    malloc_trim(0);
}
