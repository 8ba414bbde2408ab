/* deepbind.c: blocks cross the border of a library loaded with RTLD_DEEPBIND. usage: deepbind DIRECTORY shared|own
 *   shared  the flag is cleared: the library uses the program's malloc
 *   own     the flag is kept (option deepbind): the library uses libc's */
#define _GNU_SOURCE
#include "../lib/tap.h"

static void *(*give)(size_t);
static void (*take)(void *);
static const char *(*malloc_home)(void);

static int bind_library(void *library) {
    void *symbols[3] = {dlsym(library, "deep_give"), dlsym(library, "deep_take"), dlsym(library, "deep_malloc_home")};
    memcpy(&give, &symbols[0], sizeof give);
    memcpy(&take, &symbols[1], sizeof take);
    memcpy(&malloc_home, &symbols[2], sizeof malloc_home);
    return symbols[0] && symbols[1] && symbols[2];
}

static void cross(const char *name) {
    for (size_t size = 1; size < 3u << 20; size = size * 3 + 1) {
        char *p = give(size);
        p[size - 1] = 1;
        p = realloc(p, size * 2);
        free(p);
        take(malloc(size));
    }
    OK(1, "%s: blocks cross in both directions", name);
}

int main(int argc, char **argv) {
    char path[4096];
    const char *error = NULL;
    if (argc < 3)
        return 2;
    int is_shared = strcmp(argv[2], "shared") == 0;
    tap_check_subject();
    snprintf(path, sizeof path, "%s/libdeepbind.so", argv[1]);
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
    if (!OK(library && bind_library(library), "the library is loaded by its path"))
        return tap_done();
    int is_libc = strstr(malloc_home(), "libc.so") != NULL;
    OK(is_libc == !(is_shared && tap_expects_rnalloc()), "it uses malloc of %s", malloc_home());
    if (is_shared)
        cross("by path");
    else
        take(give(100));
    OK(dlclose(library) == 0, "it is unloaded");

    snprintf(path, sizeof path, "%s/libopener.so", argv[1]);
    library = dlopen(path, RTLD_NOW);
    void *symbol = library ? dlsym(library, "open_neighbour") : NULL;
    void *(*open_neighbour)(const char **);
    memcpy(&open_neighbour, &symbol, sizeof symbol);
    void *neighbour = symbol ? open_neighbour(&error) : NULL;
    if (OK(neighbour, "a library finds its neighbour by its own RUNPATH (%s)", error ? error : "") && is_shared &&
        bind_library(neighbour))
        cross("by RUNPATH");
    OK(!dlopen("libnosuch.so", RTLD_NOW | RTLD_DEEPBIND) && strstr(dlerror(), "libnosuch.so"),
       "errors of dlopen come through");
    return tap_done();
}
