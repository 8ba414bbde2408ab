/* realloc_misaligned.c: realloc of a block's address plus 4. */
#include "misuse.h"

int main(void) {
    char *p = malloc(1000);
    return realloc(announced(p + 4), 5000) == NULL;
}
