/* cxx.c: the C++ allocation functions (ISO C++ 17.6.3), in C and without a dependency on libstdc++.
 *
 * What only C++ can do (throw std::bad_alloc, ask for the new-handler) is reached through weak references, or looked up
 * in a libstdc++ that a C program loaded later. C cannot catch: a nothrow form that meets a new-handler, which may
 * throw, goes to the C++ library's own nothrow form; that calls our throwing form and catches. */
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>

#include "base/fatal.h"
#include "frontend/alloc.h"
#include "frontend/pool.h"

typedef void (*new_handler)(void);
typedef new_handler (*handler_getter)(void);

extern void throw_bad_alloc(void) __asm__("_ZSt17__throw_bad_allocv") __attribute__((weak, noreturn));
extern new_handler get_new_handler(void) __asm__("_ZSt15get_new_handlerv") __attribute__((weak));

static void *cxx_symbol(const char *name) {
    void *library = dlopen("libstdc++.so.6", RTLD_LAZY | RTLD_NOLOAD);
    return library ? dlsym(library, name) : NULL;
}

static new_handler current_handler(void) {
    if (get_new_handler)
        return get_new_handler();
    handler_getter get = (handler_getter)(uintptr_t)cxx_symbol("_ZSt15get_new_handlerv");
    return get ? get() : NULL;
}

static void throw_or_abort(size_t size) __attribute__((noreturn));
static void throw_or_abort(size_t size) {
    if (throw_bad_alloc)
        throw_bad_alloc();
    void (*throw_)(void) = (void (*)(void))(uintptr_t)cxx_symbol("_ZSt17__throw_bad_allocv");
    if (throw_)
        throw_();
    struct line line = {.used = 0};
    line_text(&line, "operator new(");
    line_number(&line, size);
    line_text(&line, "): out of memory, and no C++ library to throw std::bad_alloc with");
    line_fatal(&line);
}

/* Tries, calling the new-handler between tries, until there is memory or the handler throws; then throws. */
static void *new_retry(size_t alignment, size_t size) {
    for (;;) {
        new_handler handler = current_handler();
        if (!handler)
            throw_or_abort(size);
        handler();
        void *block = alignment ? alloc_aligned(alignment, size) : rnAlloc(size);
        if (block)
            return block;
    }
}

void *rn_new_slow(size_t size, unsigned class_index) {
    void *block = rn_alloc_slow(size, class_index);
    return RN_LIKELY(block != NULL) ? block : new_retry(0, size);
}

static void *new_aligned(size_t size, size_t alignment) {
    void *block = is_power_of_two(alignment) ? alloc_aligned(alignment, size) : NULL;
    return RN_LIKELY(block != NULL) ? block : new_retry(alignment, size);
}

/* The C++ library's own nothrow form, which is not ours because it is looked up in that library. */
static void *library_nothrow(const char *name, size_t size, size_t alignment, const void *tag) {
    void *function = cxx_symbol(name);
    if (!function)
        return NULL;
    if (alignment)
        return ((void *(*)(size_t, size_t, const void *))(uintptr_t)function)(size, alignment, tag);
    return ((void *(*)(size_t, const void *))(uintptr_t)function)(size, tag);
}

static void *new_nothrow(size_t size, const void *tag) {
    void *block = rnAlloc(size);
    if (RN_LIKELY(block != NULL) || !current_handler())
        return block;
    return library_nothrow("_ZnwmRKSt9nothrow_t", size, 0, tag);
}

static void *new_aligned_nothrow(size_t size, size_t alignment, const void *tag) {
    void *block = is_power_of_two(alignment) ? alloc_aligned(alignment, size) : NULL;
    if (RN_LIKELY(block != NULL) || !current_handler())
        return block;
    return library_nothrow("_ZnwmSt11align_val_tRKSt9nothrow_t", size, alignment, tag);
}

/* The names are those of the Itanium C++ ABI: nw/na new/new[], dl/da delete/delete[], m size_t, St11align_val_t,
 * RKSt9nothrow_t. */
#define OPERATOR_NEW(name, parameters, call) \
    RN_EXPORT void *name parameters;         \
    RN_EXPORT void *name parameters { return call; }

OPERATOR_NEW(_ZnwmRKSt9nothrow_t, (size_t size, const void *tag), new_nothrow(size, tag))
OPERATOR_NEW(_ZnamRKSt9nothrow_t, (size_t size, const void *tag), new_nothrow(size, tag))
OPERATOR_NEW(_ZnwmSt11align_val_t, (size_t size, size_t alignment), new_aligned(size, alignment))
OPERATOR_NEW(_ZnamSt11align_val_t, (size_t size, size_t alignment), new_aligned(size, alignment))
OPERATOR_NEW(_ZnwmSt11align_val_tRKSt9nothrow_t, (size_t size, size_t alignment, const void *tag),
             new_aligned_nothrow(size, alignment, tag))
OPERATOR_NEW(_ZnamSt11align_val_tRKSt9nothrow_t, (size_t size, size_t alignment, const void *tag),
             new_aligned_nothrow(size, alignment, tag))
