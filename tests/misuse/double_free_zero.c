/* double_free_zero.c: a block of size 0 freed twice. */
#include "misuse.h"

int main(void) {
    void *p = announced(malloc(0));
    free(p);
    free(announced(p));
}
