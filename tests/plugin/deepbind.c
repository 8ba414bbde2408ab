/* deepbind.c: a library that programs load with RTLD_DEEPBIND: it allocates what the program frees, and the reverse. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

__attribute__((visibility("default"))) void *deep_give(size_t size) {
    void *p = malloc(size);
    return p ? memset(p, 0x3c, size) : NULL;
}

__attribute__((visibility("default"))) void deep_take(void *block) { free(block); }

/* Which malloc this library got: the file it lies in. */
__attribute__((visibility("default"))) const char *deep_malloc_home(void) {
    Dl_info info;
    void *(*bound)(size_t) = malloc;
    void *address;
    memcpy(&address, &bound, sizeof address);
    return dladdr(address, &info) ? info.dli_fname : "?";
}
