/* double_free_at_once.c: a block freed twice in succession. */
#include "misuse.h"

int main(void) {
    void *p = announced(malloc(100));
    free(p);
    free(announced(p));
}
