/* double_free_large.c: a large block freed twice. */
#include "misuse.h"

int main(void) {
    void *p = announced(malloc(3 << 20));
    free(p);
    free(announced(p));
}
