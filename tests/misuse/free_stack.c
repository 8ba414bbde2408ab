/* free_stack.c: free of a local variable. */
#include "misuse.h"

int main(void) {
    _Alignas(16) char local[64] = "x";
    free(announced(local));
}
