/* realloc_interior.c: realloc of the middle of a small block. */
#include "misuse.h"

int main(void) {
    char *p = malloc(1000);
    return realloc(announced(p + 512), 5000) == NULL;
}
