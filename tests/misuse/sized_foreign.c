/* sized_foreign.c: C23 free_sized of a static object. */
#include "misuse.h"

int main(void) {
    void free_sized(void *, size_t) __attribute__((weak));
    static _Alignas(16) char object[64];
    free_sized(announced(object), sizeof object);
}
