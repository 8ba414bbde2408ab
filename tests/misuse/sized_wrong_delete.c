/* sized_wrong_delete.c: the sized operator delete of C++ with another size than the block has. */
#include "misuse.h"

int main(void) {
    void delete_sized(void *, size_t) __asm__("_ZdlPvm") __attribute__((weak));
    void *p = announced(malloc(100));
    if (delete_sized)
        delete_sized(p, 200);
}
