/* realloc_foreign.c: realloc of a local variable. */
#include "misuse.h"

int main(void) {
    _Alignas(16) char local[64] = "x";
    return realloc(announced(local), 100) == NULL;
}
