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

/* ---- Forms that others stand on ----
 *
 * A program may replace some of the operators; the others' default versions call those ([new.delete] in the standard:
 * new[] calls new, sized and nothrow delete the plain one, and so on), else what the program's new gave would come to
 * our free. So they go by the dynamic linker's symbols; `own_...` are ours. Weak: a program that is linked with the
 * archive may have its own. */
#if __has_attribute(noplt)
#define OPERATOR RN_EXPORT __attribute__((weak, noplt))
#else
#define OPERATOR RN_EXPORT __attribute__((weak))
#endif

OPERATOR void *_Znwm(size_t size);
OPERATOR void *_Znam(size_t size);
OPERATOR void *_ZnwmSt11align_val_t(size_t size, size_t alignment);
OPERATOR void *_ZnamSt11align_val_t(size_t size, size_t alignment);
OPERATOR void _ZdlPv(void *block);
OPERATOR void _ZdaPv(void *block);
OPERATOR void _ZdlPvSt11align_val_t(void *block, size_t alignment);
OPERATOR void _ZdaPvSt11align_val_t(void *block, size_t alignment);

void *_Znam(size_t size) { return _Znwm(size); }

void *_ZnwmSt11align_val_t(size_t size, size_t alignment) { return new_aligned(size, alignment); }

void *_ZnamSt11align_val_t(size_t size, size_t alignment) { return _ZnwmSt11align_val_t(size, alignment); }

void _ZdaPv(void *block) { _ZdlPv(block); }

void _ZdaPvSt11align_val_t(void *block, size_t alignment) { _ZdlPvSt11align_val_t(block, alignment); }

static void *own_new_array(size_t size) __attribute__((alias("_Znam")));
static void *own_new_aligned(size_t size, size_t alignment) __attribute__((alias("_ZnwmSt11align_val_t")));
static void *own_new_aligned_array(size_t size, size_t alignment) __attribute__((alias("_ZnamSt11align_val_t")));

/* Sizes and the tag say nothing that the pagemap does not. */
#define OPERATOR_DELETE(name, parameters, call) \
    OPERATOR void name parameters;              \
    void name parameters { call; }

OPERATOR_DELETE(_ZdlPvm, (void *block, size_t size), (void)size; _ZdlPv(block))
OPERATOR_DELETE(_ZdaPvm, (void *block, size_t size), (void)size; _ZdaPv(block))
OPERATOR_DELETE(_ZdlPvRKSt9nothrow_t, (void *block, const void *tag), (void)tag; _ZdlPv(block))
OPERATOR_DELETE(_ZdaPvRKSt9nothrow_t, (void *block, const void *tag), (void)tag; _ZdaPv(block))
OPERATOR_DELETE(_ZdlPvmSt11align_val_t, (void *block, size_t size, size_t alignment), (void)size;
                _ZdlPvSt11align_val_t(block, alignment))
OPERATOR_DELETE(_ZdaPvmSt11align_val_t, (void *block, size_t size, size_t alignment), (void)size;
                _ZdaPvSt11align_val_t(block, alignment))
OPERATOR_DELETE(_ZdlPvSt11align_val_tRKSt9nothrow_t, (void *block, size_t alignment, const void *tag), (void)tag;
                _ZdlPvSt11align_val_t(block, alignment))
OPERATOR_DELETE(_ZdaPvSt11align_val_tRKSt9nothrow_t, (void *block, size_t alignment, const void *tag), (void)tag;
                _ZdaPvSt11align_val_t(block, alignment))

/* The C++ library's nothrow form, which is not ours because it is looked up behind us: it calls the throwing form, ours
 * or the program's, and catches. */
static void *library_form(const char *name) {
    void *form = dlsym(RTLD_NEXT, name);
    return form ? form : cxx_symbol(name);
}

/* Without a C++ library there is nobody who could throw, and so nothing to catch, unless it is linked statically. */
static void *nothrow(const char *name, size_t size, const void *tag, void *(*replaced)(size_t size)) {
    void *(*form)(size_t, const void *) = (void *(*)(size_t, const void *))(uintptr_t)library_form(name);
    return form ? form(size, tag) : replaced ? replaced(size) : NULL;
}

static void *nothrow_aligned(const char *name, size_t size, size_t alignment, const void *tag,
                             void *(*replaced)(size_t size, size_t alignment)) {
    void *(*form)(size_t, size_t,
                  const void *) = (void *(*)(size_t, size_t, const void *))(uintptr_t)library_form(name);
    return form ? form(size, alignment, tag) : replaced ? replaced(size, alignment) : NULL;
}

OPERATOR void *_ZnwmRKSt9nothrow_t(size_t size, const void *tag);
void *_ZnwmRKSt9nothrow_t(size_t size, const void *tag) {
    bool own = _Znwm == rn_new;
    void *block = own ? rnAlloc(size) : NULL;
    if (RN_LIKELY(block != NULL) || (own && !current_handler()))
        return block;
    return nothrow("_ZnwmRKSt9nothrow_t", size, tag, own ? NULL : _Znwm);
}

OPERATOR void *_ZnamRKSt9nothrow_t(size_t size, const void *tag);
void *_ZnamRKSt9nothrow_t(size_t size, const void *tag) {
    bool own = _Znam == own_new_array && _Znwm == rn_new;
    void *block = own ? rnAlloc(size) : NULL;
    if (RN_LIKELY(block != NULL) || (own && !current_handler()))
        return block;
    return nothrow("_ZnamRKSt9nothrow_t", size, tag, own ? NULL : _Znam);
}

OPERATOR void *_ZnwmSt11align_val_tRKSt9nothrow_t(size_t size, size_t alignment, const void *tag);
void *_ZnwmSt11align_val_tRKSt9nothrow_t(size_t size, size_t alignment, const void *tag) {
    bool own = _ZnwmSt11align_val_t == own_new_aligned;
    void *block = own && is_power_of_two(alignment) ? alloc_aligned(alignment, size) : NULL;
    if (RN_LIKELY(block != NULL) || (own && !current_handler()))
        return block;
    return nothrow_aligned("_ZnwmSt11align_val_tRKSt9nothrow_t", size, alignment, tag,
                           own ? NULL : _ZnwmSt11align_val_t);
}

OPERATOR void *_ZnamSt11align_val_tRKSt9nothrow_t(size_t size, size_t alignment, const void *tag);
void *_ZnamSt11align_val_tRKSt9nothrow_t(size_t size, size_t alignment, const void *tag) {
    bool own = _ZnamSt11align_val_t == own_new_aligned_array && _ZnwmSt11align_val_t == own_new_aligned;
    void *block = own && is_power_of_two(alignment) ? alloc_aligned(alignment, size) : NULL;
    if (RN_LIKELY(block != NULL) || (own && !current_handler()))
        return block;
    return nothrow_aligned("_ZnamSt11align_val_tRKSt9nothrow_t", size, alignment, tag,
                           own ? NULL : _ZnamSt11align_val_t);
}
