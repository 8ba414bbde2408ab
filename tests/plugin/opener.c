/* opener.c: a library with a RUNPATH that loads its neighbour by its bare name, with RTLD_DEEPBIND. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>

__attribute__((visibility("default"))) void *open_neighbour(const char **error) {
    void *library = dlopen("libdeepbind.so", RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
    *error = library ? NULL : dlerror();
    return library;
}
