/* common.h: what every allocator of the lineage shares, so that each design's own file shows only its idea.
 *
 * The lineage is a row of classic malloc designs, each small, correct, and complete enough to be preloaded under
 * ordinary programs:
 *
 *     program ── malloc, free, realloc, ... (common.c: the rules of the API, options, fork)
 *        │
 *     NAME.c     design_alloc, design_free, ...: the idea
 *        │
 *     heap.c     a boundary-tag heap, for the designs whose idea lies above or beside one
 *        │
 *     common.c   pages from the operating system, blocks mapped directly
 *
 * A design is one file that defines the functions under "What a design supplies". They are called with the API's rules
 * already checked, after design_start, from any thread, and between fork's handlers too.
 */
#ifndef LINEAGE_COMMON_H
#define LINEAGE_COMMON_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define CACHE_LINE 64
#define ALIGNMENT ((size_t)16) /* of every block */

/* ---- What a design supplies ------------------------------------------------------------------------------------ */

extern const char design_name[];

/* Called once, before any other. Must not allocate. */
void design_start(void);

/* `size` is 1..PTRDIFF_MAX; NULL when memory is short. Sets *zeroed when the block is known to be all zero. */
void *design_alloc(size_t size, bool *zeroed);

/* `align` is a power of two above ALIGNMENT, and align + size does not exceed PTRDIFF_MAX. */
void *design_alloc_aligned(size_t align, size_t size);

/* `block` is not NULL. A pointer that is recognized as no live block ends in block_fatal. */
void design_free(void *block);
size_t design_usable(void *block);

/* Take and release every lock of the design, in a fixed order: fork's handlers. */
void design_lock_all(void);
void design_unlock_all(void);

/* ---- Options: LINEAGE_OPTIONS="name=value,..." ----------------------------------------------------------------- */

/* For design_start. The value given for `name`: its index in the `count` words of `choices`, or a number in min..max.
 * The first choice is the default. A value that is neither is reported in one line and ignored, and so is a name that
 * the design did not ask for. */
size_t option_choice(const char *name, const char *const *choices, size_t count);
size_t option_number(const char *name, size_t min, size_t max, size_t fallback);

/* ---- Locks and threads ----------------------------------------------------------------------------------------- */

/* A mutex that the thread inside fork() already holds: other libraries' fork handlers may run between ours, and
 * allocate. */
struct lock {
    pthread_mutex_t mutex;
};

#define LOCK_INIT \
    { PTHREAD_MUTEX_INITIALIZER }

extern __thread bool thread_is_forking;

static inline void lock_take(struct lock *lock) {
    if (!thread_is_forking)
        pthread_mutex_lock(&lock->mutex);
}

static inline bool lock_try(struct lock *lock) { return thread_is_forking || pthread_mutex_trylock(&lock->mutex) == 0; }

static inline void lock_release(struct lock *lock) {
    if (!thread_is_forking)
        pthread_mutex_unlock(&lock->mutex);
}

/* In design_start: names the function to run when an armed thread ends. Arming may allocate (pthread_setspecific
 * does). */
void thread_exit_hook(void (*hook)(void));
void thread_exit_arm(void);

/* ---- Memory from the operating system -------------------------------------------------------------------------- */

size_t os_page(void);

/* Zeroed memory of `bytes` (a multiple of the page) at a multiple of `align` (a power of two). NULL when refused. */
void *os_map(size_t bytes, size_t align);

/* Returns 0 or a negative errno. The kernel refuses when the hole would exceed its number of mappings per process; the
 * memory is then still there. */
int os_unmap(void *start, size_t bytes);

/* ---- The header of a block ------------------------------------------------------------------------------------- */

/* Most of these designs keep 16 bytes in front of every block. `word` is a size, a multiple of 16, flags below it:
 *
 *      p - 16        p - 8                         p
 *      | before      | size           | flags 3..0 | user's bytes ...
 *
 * `before` belongs to the design. */
struct head {
    size_t before;
    size_t word;
};

enum {
    HEAD_USED = 1,   /* a block of the design, in the program's hands */
    HEAD_ALIAS = 2,  /* an aligned block inside a bigger one: the size is the distance back to that one */
    HEAD_DIRECT = 4, /* a mapping of its own; the size is the whole mapping's */
    HEAD_FLAGS = 15,
};

static inline struct head *head_of(const void *block) {
    return (struct head *)((uintptr_t)block - sizeof(struct head));
}

static inline size_t head_size(const struct head *head) { return head->word & ~(size_t)HEAD_FLAGS; }

/* The block that an aligned pointer lies in; the pointer itself if it is none. */
static inline void *head_unalias(void *block) {
    struct head *head = head_of(block);
    return head->word & HEAD_ALIAS ? (char *)block - head_size(head) : block;
}

/* design_alloc_aligned for designs with heads: a bigger block, with an alias head in front of the aligned place in
 * it. */
void *head_alloc_aligned(size_t align, size_t size);

/* A block in a mapping of its own, for sizes at which a system call per block is cheap beside the block's use. */
void *direct_alloc(size_t size, bool *zeroed);
void direct_free(void *block);

/* ---- Size classes ---------------------------------------------------------------------------------------------- */

/* Steps of 16 up to 128, from there four to a doubling: at most a fifth of a block is waste. Class 0 is 16 bytes. */
static inline unsigned class_of(size_t size) {
    if (size <= 128)
        return (unsigned)((size - 1) >> 4);
    unsigned top = 63 - (unsigned)__builtin_clzl(size - 1);
    return 8 + (top - 7) * 4 + (unsigned)((size - 1) >> (top - 2) & 3);
}

static inline size_t class_size(unsigned cls) {
    if (cls < 8)
        return (cls + 1) * (size_t)16;
    unsigned doubling = (cls - 8) / 4, step = (cls - 8) % 4;
    return ((size_t)128 << doubling) + (step + 1) * ((size_t)32 << doubling);
}

/* The largest class that a block of `size` bytes (at least 16) can serve. */
static inline unsigned class_below(size_t size) { return class_of(size + 1) - 1; }

/* ---- Small things ---------------------------------------------------------------------------------------------- */

static inline size_t round_up(size_t size, size_t step) { return (size + step - 1) & ~(step - 1); }

/* One line on stderr, then abort. */
_Noreturn void block_fatal(const void *block);

#endif
