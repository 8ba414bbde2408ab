/* forward.c: the malloc family and C++'s new and delete, forwarded.
 *
 * new and delete go to the next definitions of their own, so that an allocator that has them is used as it would be
 * alone; where the next one is libstdc++'s, it calls malloc, which is then seen here as well. So these calls are
 * observed only where the next definition lies in the allocator's own file. A C program that loads C++ code late may
 * have no next definition: then they are malloc and free. */
#include "rnbench/recorder/forward.h"

#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

enum name {
    N_MALLOC,
    N_CALLOC,
    N_REALLOC,
    N_FREE,
    N_POSIX_MEMALIGN,
    N_ALIGNED_ALLOC,
    N_MEMALIGN,
    N_VALLOC,
    N_PVALLOC,
    N_NEW,
    N_NEW_ARRAY,
    N_NEW_NOTHROW,
    N_NEW_ARRAY_NOTHROW,
    N_NEW_ALIGNED,
    N_NEW_ARRAY_ALIGNED,
    N_NEW_ALIGNED_NOTHROW,
    N_NEW_ARRAY_ALIGNED_NOTHROW,
    N_DELETE,
    N_DELETE_ARRAY,
    N_DELETE_SIZED,
    N_DELETE_ARRAY_SIZED,
    N_DELETE_ALIGNED,
    N_DELETE_ARRAY_ALIGNED,
    N_DELETE_SIZED_ALIGNED,
    N_DELETE_ARRAY_SIZED_ALIGNED,
    N_DELETE_NOTHROW,
    N_DELETE_ARRAY_NOTHROW,
    N_DELETE_ALIGNED_NOTHROW,
    N_DELETE_ARRAY_ALIGNED_NOTHROW,
    NAMES
};

static const char *const names[NAMES] = {
    [N_MALLOC] = "malloc",
    [N_CALLOC] = "calloc",
    [N_REALLOC] = "realloc",
    [N_FREE] = "free",
    [N_POSIX_MEMALIGN] = "posix_memalign",
    [N_ALIGNED_ALLOC] = "aligned_alloc",
    [N_MEMALIGN] = "memalign",
    [N_VALLOC] = "valloc",
    [N_PVALLOC] = "pvalloc",
    [N_NEW] = "_Znwm",
    [N_NEW_ARRAY] = "_Znam",
    [N_NEW_NOTHROW] = "_ZnwmRKSt9nothrow_t",
    [N_NEW_ARRAY_NOTHROW] = "_ZnamRKSt9nothrow_t",
    [N_NEW_ALIGNED] = "_ZnwmSt11align_val_t",
    [N_NEW_ARRAY_ALIGNED] = "_ZnamSt11align_val_t",
    [N_NEW_ALIGNED_NOTHROW] = "_ZnwmSt11align_val_tRKSt9nothrow_t",
    [N_NEW_ARRAY_ALIGNED_NOTHROW] = "_ZnamSt11align_val_tRKSt9nothrow_t",
    [N_DELETE] = "_ZdlPv",
    [N_DELETE_ARRAY] = "_ZdaPv",
    [N_DELETE_SIZED] = "_ZdlPvm",
    [N_DELETE_ARRAY_SIZED] = "_ZdaPvm",
    [N_DELETE_ALIGNED] = "_ZdlPvSt11align_val_t",
    [N_DELETE_ARRAY_ALIGNED] = "_ZdaPvSt11align_val_t",
    [N_DELETE_SIZED_ALIGNED] = "_ZdlPvmSt11align_val_t",
    [N_DELETE_ARRAY_SIZED_ALIGNED] = "_ZdaPvmSt11align_val_t",
    [N_DELETE_NOTHROW] = "_ZdlPvRKSt9nothrow_t",
    [N_DELETE_ARRAY_NOTHROW] = "_ZdaPvRKSt9nothrow_t",
    [N_DELETE_ALIGNED_NOTHROW] = "_ZdlPvSt11align_val_tRKSt9nothrow_t",
    [N_DELETE_ARRAY_ALIGNED_NOTHROW] = "_ZdaPvSt11align_val_tRKSt9nothrow_t",
};

static void *_Atomic next[NAMES + 1];
static _Atomic bool own_file[NAMES]; /* the next definition is in the file of the next malloc */
static const char *_Atomic object;

static const char *file_of(void *function) {
    Dl_info info;
    return dladdr(function, &info) && info.dli_fname ? info.dli_fname : "";
}

static void *const absent = &next[NAMES]; /* no function: there is no next definition */

static void missing(void) {
    static const char text[] = "rnbench: preloaded library: no next definition of a function it stands in for\n";
    (void)!write(STDERR_FILENO, text, sizeof text - 1);
    _exit(127);
}

/* The C functions are found all at once: dlsym frees the message of an earlier failed one, and must find free known by
 * then. */
static void resolve_c(void) {
    for (int name = N_MALLOC; name < N_NEW; name++) {
        void *function = dlsym(RTLD_NEXT, names[name]);
        if (!function)
            missing();
        atomic_store(&next[name], function);
    }
    atomic_store(&object, file_of(atomic_load(&next[N_MALLOC])));
}

/* Racing threads find the same. */
static void *resolve_cxx(enum name name) {
    void *function = dlsym(RTLD_NEXT, names[name]);
    if (!function)
        function = absent;
    else
        atomic_store(&own_file[name], strcmp(file_of(function), atomic_load(&object)) == 0);
    atomic_store(&next[name], function);
    return function;
}

static void *resolve(enum name name) {
    if (!atomic_load(&object))
        resolve_c();
    return name < N_NEW ? atomic_load(&next[name]) : resolve_cxx(name);
}

static inline void *next_of(enum name name) {
    void *function = atomic_load_explicit(&next[name], memory_order_acquire);
    return __builtin_expect(function != NULL, 1) ? function : resolve(name);
}

#define NEXT(name, type) ((type)(uintptr_t)next_of(name))

const char *forward_object(void) {
    if (!atomic_load(&object))
        resolve(N_MALLOC);
    return atomic_load(&object);
}

EXPORT void *malloc(size_t size) {
    void *block = NEXT(N_MALLOC, void *(*)(size_t))(size);
    observe_after(CALL_MALLOC, block, size, 0);
    return block;
}

EXPORT void *calloc(size_t count, size_t size) {
    size_t total;
    void *block = NEXT(N_CALLOC, void *(*)(size_t, size_t))(count, size);
    if (__builtin_mul_overflow(count, size, &total))
        total = SIZE_MAX;
    observe_after(CALL_CALLOC, block, total, 0);
    return block;
}

EXPORT void *realloc(void *block, size_t size) {
    void *(*function)(void *, size_t) = NEXT(N_REALLOC, void *(*)(void *, size_t));
    observe_before(CALL_REALLOC, block);
    void *moved = function(block, size);
    observe_after(CALL_REALLOC, moved, size, 0);
    return moved;
}

EXPORT void *reallocarray(void *block, size_t count, size_t size) {
    size_t total;
    if (__builtin_mul_overflow(count, size, &total)) {
        errno = ENOMEM;
        return NULL;
    }
    return realloc(block, total);
}

EXPORT void free(void *block) {
    void (*function)(void *) = NEXT(N_FREE, void (*)(void *));
    observe_before(CALL_FREE, block);
    function(block);
}

EXPORT int posix_memalign(void **block, size_t alignment, size_t size) {
    int error = NEXT(N_POSIX_MEMALIGN, int (*)(void **, size_t, size_t))(block, alignment, size);
    if (!error)
        observe_after(CALL_ALIGNED, *block, size, alignment);
    return error;
}

static void *aligned(enum name name, size_t alignment, size_t size) {
    void *block = NEXT(name, void *(*)(size_t, size_t))(alignment, size);
    observe_after(CALL_ALIGNED, block, size, alignment);
    return block;
}

EXPORT void *aligned_alloc(size_t alignment, size_t size) { return aligned(N_ALIGNED_ALLOC, alignment, size); }
EXPORT void *memalign(size_t alignment, size_t size) { return aligned(N_MEMALIGN, alignment, size); }

static void *paged(enum name name, size_t size) {
    void *block = NEXT(name, void *(*)(size_t))(size);
    observe_after(CALL_ALIGNED, block, size, (size_t)sysconf(_SC_PAGESIZE));
    return block;
}

EXPORT void *valloc(size_t size) { return paged(N_VALLOC, size); }
EXPORT void *pvalloc(size_t size) { return paged(N_PVALLOC, size); }

static void observe_new(enum name name, void *block, size_t size, size_t alignment) {
    if (atomic_load_explicit(&own_file[name], memory_order_relaxed))
        observe_after(alignment ? CALL_ALIGNED : CALL_MALLOC, block, size, alignment);
}

static void observe_delete(enum name name, void *block) {
    if (atomic_load_explicit(&own_file[name], memory_order_relaxed))
        observe_before(CALL_FREE, block);
}

static void *new_by_malloc(size_t size, size_t alignment) {
    void *block = alignment ? memalign(alignment, size) : malloc(size);
    if (!block)
        abort();
    return block;
}

/* The mangled names are C++'s operators (Itanium C++ ABI 5.1); a reference to std::nothrow_t is a pointer here. */
#define NEW(symbol, name, parameters, arguments, types, alignment) \
    EXPORT void *symbol parameters;                                \
    EXPORT void *symbol parameters {                               \
        if (next_of(name) == absent)                               \
            return new_by_malloc(size, alignment);                 \
        void *block = NEXT(name, void *(*)types) arguments;        \
        observe_new(name, block, size, alignment);                 \
        return block;                                              \
    }
#define DELETE(symbol, name, parameters, arguments, types) \
    EXPORT void symbol parameters;                         \
    EXPORT void symbol parameters {                        \
        if (next_of(name) == absent) {                     \
            free(block);                                   \
            return;                                        \
        }                                                  \
        void(*function) types = NEXT(name, void(*) types); \
        observe_delete(name, block);                       \
        function arguments;                                \
    }

NEW(_Znwm, N_NEW, (size_t size), (size), (size_t), 0)
NEW(_Znam, N_NEW_ARRAY, (size_t size), (size), (size_t), 0)
NEW(_ZnwmRKSt9nothrow_t, N_NEW_NOTHROW, (size_t size, const void *tag), (size, tag), (size_t, const void *), 0)
NEW(_ZnamRKSt9nothrow_t, N_NEW_ARRAY_NOTHROW, (size_t size, const void *tag), (size, tag), (size_t, const void *), 0)
NEW(_ZnwmSt11align_val_t, N_NEW_ALIGNED, (size_t size, size_t align), (size, align), (size_t, size_t), align)
NEW(_ZnamSt11align_val_t, N_NEW_ARRAY_ALIGNED, (size_t size, size_t align), (size, align), (size_t, size_t), align)
NEW(_ZnwmSt11align_val_tRKSt9nothrow_t, N_NEW_ALIGNED_NOTHROW, (size_t size, size_t align, const void *tag),
    (size, align, tag), (size_t, size_t, const void *), align)
NEW(_ZnamSt11align_val_tRKSt9nothrow_t, N_NEW_ARRAY_ALIGNED_NOTHROW, (size_t size, size_t align, const void *tag),
    (size, align, tag), (size_t, size_t, const void *), align)
DELETE(_ZdlPv, N_DELETE, (void *block), (block), (void *))
DELETE(_ZdaPv, N_DELETE_ARRAY, (void *block), (block), (void *))
DELETE(_ZdlPvm, N_DELETE_SIZED, (void *block, size_t size), (block, size), (void *, size_t))
DELETE(_ZdaPvm, N_DELETE_ARRAY_SIZED, (void *block, size_t size), (block, size), (void *, size_t))
DELETE(_ZdlPvSt11align_val_t, N_DELETE_ALIGNED, (void *block, size_t align), (block, align), (void *, size_t))
DELETE(_ZdaPvSt11align_val_t, N_DELETE_ARRAY_ALIGNED, (void *block, size_t align), (block, align), (void *, size_t))
DELETE(_ZdlPvmSt11align_val_t, N_DELETE_SIZED_ALIGNED, (void *block, size_t size, size_t align), (block, size, align),
       (void *, size_t, size_t))
DELETE(_ZdaPvmSt11align_val_t, N_DELETE_ARRAY_SIZED_ALIGNED, (void *block, size_t size, size_t align),
       (block, size, align), (void *, size_t, size_t))
DELETE(_ZdlPvRKSt9nothrow_t, N_DELETE_NOTHROW, (void *block, const void *tag), (block, tag), (void *, const void *))
DELETE(_ZdaPvRKSt9nothrow_t, N_DELETE_ARRAY_NOTHROW, (void *block, const void *tag), (block, tag),
       (void *, const void *))
DELETE(_ZdlPvSt11align_val_tRKSt9nothrow_t, N_DELETE_ALIGNED_NOTHROW, (void *block, size_t align, const void *tag),
       (block, align, tag), (void *, size_t, const void *))
DELETE(_ZdaPvSt11align_val_tRKSt9nothrow_t, N_DELETE_ARRAY_ALIGNED_NOTHROW,
       (void *block, size_t align, const void *tag), (block, align, tag), (void *, size_t, const void *))
