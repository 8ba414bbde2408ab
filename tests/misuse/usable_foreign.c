/* usable_foreign.c: malloc_usable_size of a static object. */
#include "misuse.h"

int main(void) {
    static _Alignas(16) char object[64];
    return malloc_usable_size(announced(object)) == 0;
}
