/* no_runtime.c: a C program calls the throwing operator new with an impossible size; no C++ runtime is there to throw.
 */
#define _GNU_SOURCE
#include <stdint.h>
#include "../lib/tap.h"

int main(void) {
    void *symbol = dlsym(RTLD_DEFAULT, "_Znwm");
    void *(*operator_new)(size_t);
    memcpy(&operator_new, &symbol, sizeof symbol);
    if (!operator_new)
        return 3;
    void *small = operator_new(100);
    free(small);
    puts(operator_new(SIZE_MAX / 2 + 1) ? "a block" : "null");
    return 0;
}
