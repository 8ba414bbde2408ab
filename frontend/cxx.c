/* cxx.c: the C++ allocation functions (ISO C++ 17.6.3), in C and without a dependency on libstdc++.
 *
 * What only C++ can do (throw std::bad_alloc, ask for the new-handler, catch) is reached through weak references, or
 * looked up in a libstdc++ that a C program loaded later. */
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

static void *try_once(size_t alignment, size_t size) {
    return alignment ? alloc_aligned(alignment, size) : rnAlloc(size);
}

/* Tries, calling the new-handler between tries, until there is memory or the handler throws; then throws. */
static void *new_retry(size_t alignment, size_t size) {
    for (;;) {
        new_handler handler = current_handler();
        if (!handler)
            throw_or_abort(size);
        handler();
        void *block = try_once(alignment, size);
        if (block)
            return block;
    }
}

void *rn_new_slow(size_t size, unsigned class_index) {
    void *block = rn_alloc_slow(size, class_index);
    return RN_LIKELY(block != NULL) ? block : new_retry(0, size);
}

static void *new_aligned(size_t size, size_t alignment) {
    if (!is_power_of_two(alignment))
        throw_or_abort(size);
    void *block = alloc_aligned(alignment, size);
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

/* ---- Nothrow forms ----
 *
 * What the throwing form throws, ours with a new-handler set or the program's, has to be caught, and C cannot: so
 * rn_new_caught is written as a C++ compiler would (Itanium C++ ABI: Exception Handling, 2.4 and 2.5; DWARF's
 * personality and LSDA): try { return form(size, alignment); } catch (...) { return NULL; }. */
void *rn_new_caught(size_t size, size_t alignment, void *form);

#if defined(__x86_64__)
#define WORD_OF_PERSONALITY ".quad __gxx_personality_v0\n"
#define CALL_FORM                    \
    "   sub  $8, %rsp\n"             \
    "   .cfi_adjust_cfa_offset 8\n"  \
    "1: call *%rdx\n"                \
    "2: add  $8, %rsp\n"             \
    "   .cfi_adjust_cfa_offset -8\n" \
    "   ret\n"
#define CATCH                         \
    "   .cfi_adjust_cfa_offset 8\n"   \
    "3: mov  %rax, %rdi\n"            \
    "   call __cxa_begin_catch@PLT\n" \
    "   call __cxa_end_catch@PLT\n"   \
    "   xor  %eax, %eax\n"            \
    "   add  $8, %rsp\n"              \
    "   .cfi_adjust_cfa_offset -8\n"  \
    "   ret\n"
#elif defined(__aarch64__)
#define WORD_OF_PERSONALITY ".xword __gxx_personality_v0\n"
#define CALL_FORM                    \
    "   stp  x29, x30, [sp, -16]!\n" \
    "   .cfi_def_cfa_offset 16\n"    \
    "   .cfi_offset 29, -16\n"       \
    "   .cfi_offset 30, -8\n"        \
    "1: blr  x2\n"                   \
    "2: ldp  x29, x30, [sp], 16\n"   \
    "   .cfi_remember_state\n"       \
    "   .cfi_restore 30\n"           \
    "   .cfi_restore 29\n"           \
    "   .cfi_def_cfa_offset 0\n"     \
    "   ret\n"
#define CATCH                      \
    "   .cfi_restore_state\n"      \
    "3: bl   __cxa_begin_catch\n"  \
    "   bl   __cxa_end_catch\n"    \
    "   mov  x0, 0\n"              \
    "   ldp  x29, x30, [sp], 16\n" \
    "   .cfi_restore 30\n"         \
    "   .cfi_restore 29\n"         \
    "   .cfi_def_cfa_offset 0\n"   \
    "   ret\n"
#endif

/* The LSDA: one call site, 1 to 2, whose landing pad is 3 and whose only action takes type 1 of the table, which is
 * null: any. 0x9b: pc-relative, signed, 4 bytes, indirect; 0x1b: the same, direct. */
__asm__(
    ".text\n"
    ".weak __gxx_personality_v0, __cxa_begin_catch, __cxa_end_catch\n"
    ".hidden rn_new_caught\n"
    ".globl rn_new_caught\n"
    ".type rn_new_caught, %function\n"
    ".p2align 4\n"
    "rn_new_caught:\n"
    "   .cfi_startproc\n"
    "   .cfi_personality 0x9b, .Lrn_personality\n"
    "   .cfi_lsda 0x1b, .Lrn_new_lsda\n" CALL_FORM CATCH
    "   .cfi_endproc\n"
    ".size rn_new_caught, . - rn_new_caught\n"
    ".section .data.rel.ro, \"aw\", %progbits\n"
    ".p2align 3\n"
    ".Lrn_personality:\n" WORD_OF_PERSONALITY
    ".section .gcc_except_table, \"a\", %progbits\n"
    ".p2align 2\n"
    ".Lrn_new_lsda:\n"
    "   .byte 0xff, 0x9b\n"
    "   .uleb128 5f - 4f\n"
    "4: .byte 0x01\n"
    "   .uleb128 7f - 6f\n"
    "6: .uleb128 1b - rn_new_caught\n"
    "   .uleb128 2b - 1b\n"
    "   .uleb128 3b - rn_new_caught\n"
    "   .uleb128 1\n"
    "7: .byte 1, 0\n"
    "   .p2align 2\n"
    "   .long 0\n"
    "5:\n"
    ".text\n");

extern void *begin_catch(void *) __asm__("__cxa_begin_catch") __attribute__((weak));

/* In a C program that loaded C++ later the references stay null: there the C++ library's own nothrow form catches, and
 * calls our throwing one. */
static void *caught(size_t size, size_t alignment, void *form, const char *name, const void *tag) {
    void *theirs = begin_catch ? NULL : cxx_symbol(name);
    if (RN_LIKELY(!theirs))
        return rn_new_caught(size, alignment, form);
    if (alignment)
        return ((void *(*)(size_t, size_t, const void *))(uintptr_t)theirs)(size, alignment, tag);
    return ((void *(*)(size_t, const void *))(uintptr_t)theirs)(size, tag);
}

static void *nothrow(size_t size, size_t alignment, bool own, void *form, const char *name, const void *tag) {
    if (own) {
        void *block = try_once(alignment, size);
        if (RN_LIKELY(block != NULL) || !current_handler())
            return block;
    }
    return caught(size, alignment, form, name, tag);
}

/* What is no alignment is refused without asking the new-handler, which could not help. */
static void *aligned_nothrow(size_t size, size_t alignment, bool own, void *form, const char *name, const void *tag) {
    return own && !is_power_of_two(alignment) ? NULL : nothrow(size, alignment, own, form, name, tag);
}

OPERATOR void *_ZnwmRKSt9nothrow_t(size_t size, const void *tag);
void *_ZnwmRKSt9nothrow_t(size_t size, const void *tag) {
    return nothrow(size, 0, _Znwm == rn_new, (void *)_Znwm, "_ZnwmRKSt9nothrow_t", tag);
}

OPERATOR void *_ZnamRKSt9nothrow_t(size_t size, const void *tag);
void *_ZnamRKSt9nothrow_t(size_t size, const void *tag) {
    bool own = _Znam == own_new_array && _Znwm == rn_new;
    return nothrow(size, 0, own, (void *)_Znam, "_ZnamRKSt9nothrow_t", tag);
}

OPERATOR void *_ZnwmSt11align_val_tRKSt9nothrow_t(size_t size, size_t alignment, const void *tag);
void *_ZnwmSt11align_val_tRKSt9nothrow_t(size_t size, size_t alignment, const void *tag) {
    return aligned_nothrow(size, alignment, _ZnwmSt11align_val_t == own_new_aligned, (void *)_ZnwmSt11align_val_t,
                           "_ZnwmSt11align_val_tRKSt9nothrow_t", tag);
}

OPERATOR void *_ZnamSt11align_val_tRKSt9nothrow_t(size_t size, size_t alignment, const void *tag);
void *_ZnamSt11align_val_tRKSt9nothrow_t(size_t size, size_t alignment, const void *tag) {
    bool own = _ZnamSt11align_val_t == own_new_aligned_array && _ZnwmSt11align_val_t == own_new_aligned;
    return aligned_nothrow(size, alignment, own, (void *)_ZnamSt11align_val_t, "_ZnamSt11align_val_tRKSt9nothrow_t",
                           tag);
}
