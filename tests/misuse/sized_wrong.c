/* sized_wrong.c: C23 free_sized with another size than the block has. */
#include "misuse.h"

int main(void) {
    void free_sized(void *, size_t) __attribute__((weak));
    void *p = announced(malloc(100));
    if (free_sized)
        free_sized(p, 200);
}
