/* allocator.c: which functions are measured, and whose they are.
 *
 * `malloc` is whatever the process has: glibc's, or that of a preloaded library. For `rnalloc` the library is opened
 * with RTLD_LOCAL, so that the process keeps its own malloc, and rnAlloc and rnFree are called by name. If the library
 * is in the process already (preloaded or linked), a second copy would be measured beside it; so that one is used.
 */
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "rnalloc.h"
#include "rnbench.h"

typedef struct rn_mode mode_function(void);

static const char mark[] = "RNBENCH_PRELOADED"; /* holds the text of --allocator that the program was restarted for */

/* ISO C has no cast from object to function pointer; POSIX promises that the bits are the same. */
static void symbol_in(void *handle, const char *name, void *function) {
    void *address = dlsym(handle, name);
    memcpy(function, &address, sizeof address);
}

/* The object that the code of a function lies in; NULL if there is none. */
static const char *object_of(const void *function) {
    Dl_info info;
    void *address;
    memcpy(&address, function, sizeof address);
    return address && dladdr(address, &info) ? info.dli_fname : NULL;
}

/* A function of the same file as malloc, else NULL: a realloc of another allocator would get foreign blocks. */
static void sibling_in(void *handle, const struct allocator *allocator, const char *name, void *function) {
    symbol_in(handle, name, function);
    const char *object = object_of(function), *home = object_of(&allocator->alloc);
    if (!object || !home || strcmp(object, home) != 0)
        memset(function, 0, sizeof(void *));
}

/* Notes the file that the function was loaded from. */
static void note_object(struct allocator *allocator) {
    const char *object = object_of(&allocator->alloc);
    if (!object || !realpath(object, allocator->object))
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
        memcpy(slash + 1, "librnalloc.so", sizeof "librnalloc.so");
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
    symbol_in(handle, "rnRealloc", &allocator->resize);
    symbol_in(handle, "rnCalloc", &allocator->zeroed);
    symbol_in(handle, "rnAllocAligned", &allocator->aligned);
    note_mode(allocator, handle);
}

/* The loader only warns of a preload that it cannot use, so what can be known beforehand is looked at here. */
static void need_library(const char *path, const char *hint) {
    Elf64_Ehdr header;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        fail("cannot load %s: %s%s", path, strerror(errno), hint);
    ssize_t got = read(file, &header, sizeof header);
    close(file);
    if (got != (ssize_t)sizeof header || memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_type != ET_DYN)
        fail("cannot load %s: not a shared library", path);
}

/* Splits NAME=PATH[,VARIABLE=VALUE...] in place. Gives the path; *variables is what follows its comma, or NULL. */
static char *split_preload(char *text, char **variables) {
    char *path = text + strcspn(text, "=");
    *path++ = '\0';
    *variables = strchr(path, ',');
    if (*variables)
        *(*variables)++ = '\0';
    if (!*text || !*path || strpbrk(path, " :"))
        fail(
            "--allocator: a NAME, then =/path/lib.so without blanks or colons, then ,VARIABLE=VALUE as often as "
            "wanted");
    return path;
}

/* Whether the text begins with a variable's name, in capitals as is the custom, and "=". */
static bool is_setting(const char *text) {
    size_t length = strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789");
    return length > 0 && text[length] == '=';
}

/* The comma before the next setting: values have commas of their own, as in MALLOC_CONF=narenas:1,dirty_decay_ms:0. */
static char *next_setting(char *text) {
    char *comma = strchr(text, ',');
    while (comma && !is_setting(comma + 1))
        comma = strchr(comma + 1, ',');
    return comma;
}

static void set_variables(char *variables) {
    for (char *next; variables; variables = next) {
        if (!is_setting(variables))
            fail("--allocator: \"%s\" is not VARIABLE=VALUE", variables);
        next = next_setting(variables);
        if (next)
            *next++ = '\0';
        char *value = variables + strcspn(variables, "=");
        *value++ = '\0';
        setenv(variables, value, 1);
    }
}

static const char lineage[] = "lineage:";

/* Debian's, by the names that the loader finds them under. */
static const struct {
    const char *name, *soname, *package;
} known[] = {
    {"jemalloc", "libjemalloc.so.2", "libjemalloc2"},
    {"tcmalloc", "libtcmalloc_minimal.so.4", "libtcmalloc-minimal4"},
    {"mimalloc", "libmimalloc.so.2", "libmimalloc2.0"},
};

/* Its place in `known`, else -1. */
static int known_index(const char *text) {
    size_t length = strcspn(text, "=,");
    for (int i = 0; i < (int)(sizeof known / sizeof *known); i++)
        if (strlen(known[i].name) == length && strncmp(text, known[i].name, length) == 0)
            return i;
    return -1;
}

static bool is_lineage(const char *text) { return strncmp(text, lineage, strlen(lineage)) == 0; }

bool allocator_is_preload(const char *text) {
    return text[strcspn(text, "=,")] == '=' || is_lineage(text) || known_index(text) >= 0;
}

/* The file that the loader finds; it stays open, which does no harm to a program that starts anew under it. */
static const char *known_path(int index) {
    struct link_map *map;
    void *handle = dlopen(known[index].soname, RTLD_LOCAL | RTLD_LAZY);
    if (!handle || dlinfo(handle, RTLD_DI_LINKMAP, &map) != 0)
        fail("cannot load %s: no %s (Debian package %s)", known[index].name, known[index].soname, known[index].package);
    return map->l_name;
}

/* Copies the text of --allocator with the path put in where it is a known name or lineage:NAME, which is
 * FOLDER/lineage/NAME.so, FOLDER being this program's. */
static void expand(char *copy, size_t room, const char *text) {
    char folder[PATH_MAX + 1];
    int name = (int)strcspn(text, "=,"), length = 0;
    ssize_t got = readlink("/proc/self/exe", folder, PATH_MAX);
    if (text[name] != '=' && known_index(text) >= 0) {
        length = snprintf(copy, room, "%.*s=%s", name, text, known_path(known_index(text)));
        text += name;
    } else if (text[name] != '=' && got > 0) {
        folder[got] = '\0';
        *strrchr(folder, '/') = '\0';
        length = snprintf(copy, room, "%.*s=%s/lineage/%.*s.so", name, text, folder, name - (int)strlen(lineage),
                          text + strlen(lineage));
        text += name;
    }
    if (length < 0 || (size_t)length + strlen(text) >= room)
        fail("--allocator: too long");
    memcpy(copy + length, text, strlen(text) + 1);
}

const char *allocator_preload(const char *text, char **argv, char *path) {
    static char copy[2 * PATH_MAX];
    char *variables;
    expand(copy, sizeof copy, text);
    char *library = split_preload(copy, &variables);
    need_library(library, is_lineage(text) ? " (make lineage builds those of rnbench/lineage)" : "");
    if (!realpath(library, path))
        fail("cannot load %s: %s", library, strerror(errno));
    const char *marked = getenv(mark);
    if (marked && strcmp(marked, text) == 0)
        return copy;
    set_variables(variables);
    setenv(mark, text, 1);
    setenv("LD_PRELOAD", path, 1);
    execv("/proc/self/exe", argv);
    fail("cannot start anew: %s", strerror(errno));
}

static void load_malloc(struct allocator *allocator) {
    symbol_in(RTLD_DEFAULT, "malloc", &allocator->alloc);
    sibling_in(RTLD_DEFAULT, allocator, "free", &allocator->release);
    if (!allocator->release)
        fail("malloc comes from %s, but free does not", object_of(&allocator->alloc));
    sibling_in(RTLD_DEFAULT, allocator, "realloc", &allocator->resize);
    sibling_in(RTLD_DEFAULT, allocator, "calloc", &allocator->zeroed);
    sibling_in(RTLD_DEFAULT, allocator, "aligned_alloc", &allocator->aligned);
    if (!allocator->aligned) /* the same arguments in the same order */
        sibling_in(RTLD_DEFAULT, allocator, "memalign", &allocator->aligned);
    note_mode(allocator, RTLD_DEFAULT);
}

void allocator_load(struct allocator *allocator, const struct options *options, char **argv) {
    char path[PATH_MAX] = "";
    if (options->allocator == ALLOCATOR_RNALLOC) {
        allocator->name = "rnalloc";
        load_rnalloc(allocator, options->library);
    } else {
        allocator->name = options->allocator == ALLOCATOR_GLIBC ? "glibc" : "malloc";
        if (options->allocator == ALLOCATOR_PRELOADED)
            allocator->name = allocator_preload(options->preload, argv, path);
        load_malloc(allocator);
    }
    note_object(allocator);
    const char *file = strrchr(allocator->object, '/');
    if (options->allocator == ALLOCATOR_GLIBC && (!file || strncmp(file, "/libc", strlen("/libc")) != 0))
        fail("allocator glibc did not take effect: malloc comes from %s", allocator->object);
    if (*path && strcmp(path, allocator->object) != 0)
        fail("allocator %s did not take effect: malloc comes from %s", allocator->name, allocator->object);
}
