/* free_static.c: free of a static object. */
#include "misuse.h"

int main(void) {
    static _Alignas(16) char object[64];
    free(announced(object));
}
