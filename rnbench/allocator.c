/* allocator.c: which functions are measured, and whose they are.
 *
 * `malloc` is whatever the process has: glibc's, or that of a preloaded library. For `rnalloc` the library is opened
 * with RTLD_LOCAL, so that the process keeps its own malloc, and rnAlloc and rnFree are called by name. If the library
 * is in the process already (preloaded or linked), a second copy would be measured beside it; so that one is used.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "rnalloc.h"
#include "rnbench.h"

typedef struct rn_mode mode_function(void);

/* ISO C has no cast from object to function pointer; POSIX promises that the bits are the same. */
static void symbol_in(void *handle, const char *name, void *function) {
    void *address = dlsym(handle, name);
    memcpy(function, &address, sizeof address);
}

/* Notes the file that the function was loaded from. */
static void note_object(struct allocator *allocator) {
    Dl_info info;
    void *address;
    memcpy(&address, &allocator->alloc, sizeof address);
    if (!dladdr(address, &info) || !info.dli_fname || !realpath(info.dli_fname, allocator->object))
        fail("cannot tell which file the %s in use comes from", allocator->name);
}

static void note_mode(struct allocator *allocator, void *handle) {
    mode_function *mode;
    symbol_in(handle, "rnMode", &mode);
    allocator->mode = mode ? mode().name : "";
}

/* Opens librnalloc.so from beside this program, else from where the loader looks. */
static void *open_library(const char *path) {
    char beside[PATH_MAX + 32];
    if (path) {
        if (!strchr(path, '/')) { /* a bare name would send dlopen to the system's folders, not to this one */
            snprintf(beside, sizeof beside, "./%s", path);
            path = beside;
        }
        return dlopen(path, RTLD_LOCAL | RTLD_NOW);
    }
    ssize_t length = readlink("/proc/self/exe", beside, PATH_MAX);
    char *slash = NULL;
    if (length > 0) {
        beside[length] = '\0';
        slash = strrchr(beside, '/');
    }
    if (slash) {
        strcpy(slash + 1, "librnalloc.so");
        if (access(beside, F_OK) == 0)
            return dlopen(beside, RTLD_LOCAL | RTLD_NOW);
    }
    return dlopen("librnalloc.so.0", RTLD_LOCAL | RTLD_NOW);
}

static void load_rnalloc(struct allocator *allocator, const char *path) {
    void *handle = RTLD_DEFAULT;
    symbol_in(handle, "rnAlloc", &allocator->alloc);
    if (!allocator->alloc || path) {
        handle = open_library(path);
        if (!handle) {
            const char *reason = dlerror();
            fail("cannot load rnAlloc: %s", reason ? reason : "unknown reason");
        }
        symbol_in(handle, "rnAlloc", &allocator->alloc);
    }
    symbol_in(handle, "rnFree", &allocator->release);
    if (!allocator->alloc || !allocator->release)
        fail("cannot load rnAlloc: %s has no rnAlloc and rnFree", path ? path : "the library");
    note_mode(allocator, handle);
}

void allocator_load(struct allocator *allocator, const struct options *options) {
    if (options->allocator == ALLOCATOR_RNALLOC) {
        allocator->name = "rnalloc";
        load_rnalloc(allocator, options->library);
    } else {
        allocator->name = "malloc";
        symbol_in(RTLD_DEFAULT, "malloc", &allocator->alloc);
        symbol_in(RTLD_DEFAULT, "free", &allocator->release);
        note_mode(allocator, RTLD_DEFAULT);
    }
    note_object(allocator);
}
