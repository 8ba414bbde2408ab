/* double_free_huge.c: a block of several hugepages freed twice. */
#include "misuse.h"

int main(void) {
    void *p = announced(malloc(100 << 20));
    free(p);
    free(announced(p));
}
