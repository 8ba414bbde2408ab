/* common.c: the rules of the malloc API, options, fork and pages, once for all designs of the lineage.
 *
 * The rules are glibc 2.36's where the standards leave a choice: malloc(0) is unique, realloc(p, 0) frees, memalign
 * and aligned_alloc round an odd alignment up, free keeps errno, and nothing above PTRDIFF_MAX is served.
 *
 * Sources: malloc(3), posix_memalign(3), malloc_usable_size(3), pthread_atfork(3); ISO C11 7.22.3.
 */
#include "common.h"

#include <errno.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <unistd.h>

#define API __attribute__((visibility("default")))

__thread bool thread_is_forking;

/* ---- Messages -------------------------------------------------------------------------------------------------- */

/* write, not stdio: stdio allocates. */
static void say(const char *line, int length) {
    if (write(STDERR_FILENO, line, (size_t)length) < 0)
        return; /* nowhere left to complain to */
}

_Noreturn void block_fatal(const void *block) {
    char line[128];
    say(line, snprintf(line, sizeof line, "lineage %s: free(%p): not a live block\n", design_name, block));
    abort();
}

/* ---- Options --------------------------------------------------------------------------------------------------- */

static char options[256];     /* a copy: the program may change its environment */
static char description[256]; /* the design and the options in force */

static void describe(const char *format, const char *name, const char *value) {
    size_t length = strlen(description);
    snprintf(description + length, sizeof description - length, format, name, value);
}

/* secure_getenv, for a program that allocates before the C library's own constructors, too: the environment is then
 * only where the kernel has put it, above argc and the arguments. */
static const char *environment(const char *name) {
    extern void *__libc_stack_end; /* the loader's */
    if (getauxval(AT_SECURE))
        return NULL;
    char **entry = environ;
    if (!entry) {
        const long *argc = __libc_stack_end;
        entry = (char **)(uintptr_t)(argc + 1) + *argc + 1;
    }
    size_t length = strlen(name);
    while (*entry && (strncmp(*entry, name, length) != 0 || (*entry)[length] != '='))
        entry++;
    return *entry ? *entry + length + 1 : NULL;
}

/* The value of `name` in *value, its end in *end. */
static bool option_find(const char *name, const char **value, const char **end) {
    size_t length = strlen(name);
    for (const char *item = options; *item; item = **end ? *end + 1 : *end) {
        *end = item + strcspn(item, ",");
        if (strncmp(item, name, length) == 0 && item[length] == '=') {
            *value = item + length + 1;
            return true;
        }
    }
    return false;
}

static void option_bad(const char *name, const char *value, const char *end) {
    char line[256];
    say(line, snprintf(line, sizeof line, "lineage: option \"%s=%.*s\": no such value; default kept\n", name,
                       (int)(end - value), value));
}

size_t option_choice(const char *name, const char *const *choices, size_t count) {
    const char *value, *end;
    size_t choice = 0;
    if (option_find(name, &value, &end)) {
        size_t length = (size_t)(end - value);
        while (choice < count && (strlen(choices[choice]) != length || strncmp(choices[choice], value, length) != 0))
            choice++;
        if (choice == count) {
            option_bad(name, value, end);
            choice = 0;
        }
    }
    describe(" %s=%s", name, choices[choice]);
    return choice;
}

size_t option_number(const char *name, size_t min, size_t max, size_t fallback) {
    const char *value, *end;
    size_t number = fallback;
    if (option_find(name, &value, &end)) {
        char *stop;
        number = strtoul(value, &stop, 10);
        if (stop == value || stop != end || number < min || number > max) {
            option_bad(name, value, end);
            number = fallback;
        }
    }
    char digits[24];
    snprintf(digits, sizeof digits, "%zu", number);
    describe(" %s=%s", name, digits);
    return number;
}

/* After design_start, the description names every option that the design has. */
static void option_unknown(void) {
    for (const char *item = options, *end; *item; item = *end ? end + 1 : end) {
        end = item + strcspn(item, ",");
        int length = (int)strcspn(item, "=,");
        char line[sizeof options + 64], known[sizeof options + 4];
        snprintf(known, sizeof known, " %.*s=", length, item);
        if (item == end || (item + length < end && strstr(description, known)))
            continue;
        say(line, snprintf(line, sizeof line, "lineage: option \"%.*s\": no name=value of %s; ignored\n",
                           (int)(end - item), item, design_name));
    }
}

/* ---- Start, fork, thread exit ---------------------------------------------------------------------------------- */

static _Atomic bool started;
static pthread_mutex_t start_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_key_t exit_key;

static void fork_prepare(void) {
    design_lock_all();
    thread_is_forking = true;
}

static void fork_done(void) {
    thread_is_forking = false;
    design_unlock_all();
}

/* Runs at the first allocation and not in a constructor: other libraries' constructors come first. Early registration
 * makes our prepare handler the last to run, and our others the first. pthread_atfork may allocate, so it comes after
 * the design is ready and the mutex is free. */
static __attribute__((noinline, cold)) void start(void) {
    pthread_mutex_lock(&start_mutex);
    bool first = !started;
    if (first) {
        const char *given = environment("LINEAGE_OPTIONS");
        snprintf(options, sizeof options, "%s", given ? given : "");
        snprintf(description, sizeof description, "%s", design_name);
        design_start();
        option_unknown();
        started = true;
    }
    pthread_mutex_unlock(&start_mutex);
    if (first)
        pthread_atfork(fork_prepare, fork_done, fork_done);
}

/* For tests and reports: which design serves this process, with which options. */
API const char *lineage_describe(void);
const char *lineage_describe(void) {
    if (!started)
        start();
    return description;
}

static void (*exit_hook)(void);

static void exit_run(void *armed) {
    (void)armed;
    exit_hook();
}

void thread_exit_hook(void (*hook)(void)) {
    exit_hook = hook;
    if (pthread_key_create(&exit_key, exit_run) != 0)
        abort();
}

void thread_exit_arm(void) { pthread_setspecific(exit_key, &exit_key); }

/* ---- Memory from the operating system -------------------------------------------------------------------------- */

size_t os_page(void) {
    static _Atomic size_t page;
    size_t known = page;
    if (known == 0)
        page = known = getauxval(AT_PAGESZ);
    return known;
}

void *os_map(size_t bytes, size_t align) {
    /* The kernel aligns to a page; more is had by asking for more and giving back both ends. */
    size_t slack = align > os_page() ? align - os_page() : 0;
    if (bytes > PTRDIFF_MAX - slack)
        return NULL;
    char *start = mmap(NULL, bytes + slack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED)
        return NULL;
    if (slack == 0)
        return start;
    size_t lead = round_up((uintptr_t)start, align) - (uintptr_t)start;
    if (lead > 0)
        munmap(start, lead);
    if (lead < slack)
        munmap(start + lead + bytes, slack - lead);
    return start + lead;
}

int os_unmap(void *start, size_t bytes) { return munmap(start, bytes) == 0 ? 0 : -errno; }

/* ---- Blocks with heads ----------------------------------------------------------------------------------------- */

void *direct_alloc(size_t size, bool *zeroed) {
    size_t bytes = round_up(size + sizeof(struct head), os_page());
    struct head *head = os_map(bytes, os_page());
    if (!head)
        return NULL;
    head->word = bytes | HEAD_DIRECT;
    *zeroed = true;
    return head + 1;
}

void direct_free(void *block) {
    struct head *head = head_of(block);
    size_t bytes = head_size(head);
    /* Address space that cannot be given back is lost, its memory is not. */
    if (os_unmap(head, bytes) != 0)
        madvise(head, bytes, MADV_DONTNEED);
}

void *head_alloc_aligned(size_t align, size_t size) {
    bool zeroed;
    char *block = design_alloc(size + align, &zeroed);
    if (!block || ((uintptr_t)block & (align - 1)) == 0)
        return block;
    /* Blocks are multiples of 16 and so is the gap: the alias head fits into it. */
    size_t gap = round_up((uintptr_t)block, align) - (uintptr_t)block;
    head_of(block + gap)->word = gap | HEAD_ALIAS;
    return block + gap;
}

/* ---- The API --------------------------------------------------------------------------------------------------- */

static void *fail(int error) {
    errno = error;
    return NULL;
}

static inline void *alloc(size_t size, bool *zeroed) {
    if (__builtin_expect(!atomic_load_explicit(&started, memory_order_acquire), 0))
        start();
    if (size > PTRDIFF_MAX)
        return fail(ENOMEM);
    void *block = design_alloc(size + (size == 0), zeroed);
    return block ? block : fail(ENOMEM);
}

/* `align` is a power of two. */
static void *alloc_aligned(size_t align, size_t size) {
    bool zeroed;
    if (align <= ALIGNMENT)
        return alloc(size, &zeroed);
    if (!started)
        start();
    if (align > PTRDIFF_MAX || size > PTRDIFF_MAX - align)
        return fail(ENOMEM);
    void *block = design_alloc_aligned(align, size + (size == 0));
    return block ? block : fail(ENOMEM);
}

API void *malloc(size_t size) {
    bool zeroed;
    return alloc(size, &zeroed);
}

API void free(void *block) {
    if (!block)
        return;
    int error = errno;
    design_free(block);
    errno = error;
}

API void *calloc(size_t count, size_t size) {
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes))
        return fail(ENOMEM);
    bool zeroed = false;
    void *block = alloc(bytes, &zeroed);
    return block && !zeroed ? memset(block, 0, bytes) : block;
}

/* By copy, unless the block fits and is not twice too big. */
API void *realloc(void *block, size_t size) {
    if (!block)
        return malloc(size);
    if (size == 0) {
        free(block);
        return NULL;
    }
    size_t have = design_usable(block);
    if (size <= have && size >= have / 2)
        return block;
    void *moved = malloc(size);
    if (!moved)
        return NULL;
    memcpy(moved, block, size < have ? size : have);
    free(block);
    return moved;
}

API void *reallocarray(void *block, size_t count, size_t size) {
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes))
        return fail(ENOMEM);
    return realloc(block, bytes);
}

/* Alignments that are no power of two are rounded up to one, as glibc does. */
static void *alloc_rounded(size_t align, size_t size) {
    if (align > SIZE_MAX / 2 + 1)
        return fail(EINVAL);
    size_t power = ALIGNMENT;
    while (power < align)
        power *= 2;
    return alloc_aligned(power, size);
}

API void *memalign(size_t align, size_t size) { return alloc_rounded(align, size); }

API void *aligned_alloc(size_t align, size_t size) { return alloc_rounded(align, size); }

API int posix_memalign(void **result, size_t align, size_t size) {
    if (align < sizeof(void *) || (align & (align - 1)) != 0)
        return EINVAL;
    int error = errno;
    void *block = alloc_aligned(align, size);
    errno = error;
    if (!block)
        return ENOMEM;
    *result = block;
    return 0;
}

API void *valloc(size_t size) { return alloc_aligned(os_page(), size); }

API void *pvalloc(size_t size) {
    if (size > PTRDIFF_MAX)
        return fail(ENOMEM);
    return alloc_aligned(os_page(), round_up(size + (size == 0), os_page()));
}

/* C23. The size is not needed, and not checked. */
API void free_sized(void *block, size_t size);
void free_sized(void *block, size_t size) {
    (void)size;
    free(block);
}

API void free_aligned_sized(void *block, size_t align, size_t size);
void free_aligned_sized(void *block, size_t align, size_t size) {
    (void)align, (void)size;
    free(block);
}

API size_t malloc_usable_size(void *block) { return block ? design_usable(block) : 0; }
