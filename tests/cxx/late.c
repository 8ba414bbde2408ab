/* late.c: a C program, linked with no C++ runtime, that allocates first and loads a C++ library afterwards. */
#define _GNU_SOURCE
#include "../lib/tap.h"

static void with_flags(const char *path, int flags, const char *name) {
    void *library = dlopen(path, flags);
    if (!OK(library, "%s: loaded%s%s", name, library ? "" : ": ", library ? "" : dlerror()))
        return;
    void *work = dlsym(library, "plugin_work"), *throws = dlsym(library, "plugin_throws");
    int (*plugin_work)(int), (*plugin_throws)(void);
    memcpy(&plugin_work, &work, sizeof work);
    memcpy(&plugin_throws, &throws, sizeof throws);
    OK(plugin_work(1000) == 2 * (499 * 500 / 2), "%s: containers work", name);
    int answer = plugin_throws();
    OK(answer == 0, "%s: bad_alloc is thrown and caught (%d)", name, answer);
    void *runtime = dlopen("libstdc++.so.6", RTLD_NOW | RTLD_NOLOAD);
    OK(runtime, "%s: the runtime came with the library", name);
    if (runtime)
        dlclose(runtime);
    dlclose(library);
}

int main(int argc, char **argv) {
    tap_check_subject();
    void *early = malloc(1000);
    if (argc < 2)
        return 2;
    OK(!dlopen("libstdc++.so.6", RTLD_NOW | RTLD_NOLOAD), "no C++ runtime is loaded at first");
    with_flags(argv[1], RTLD_NOW | RTLD_LOCAL, "local");
    with_flags(argv[1], RTLD_LAZY | RTLD_GLOBAL, "global");
    free(early);
    return tap_done();
}
