/* rnalloc.h: the public API of rnAlloc, a general-purpose memory allocator.
 *
 * The library also defines the standard names (malloc, free, operator new, ...), so a program needs this header only
 * for what the standard names do not offer. Every function here is thread-safe. Every function here is usable in the
 * child of fork(), whatever the other threads of the parent were doing. None is a cancellation point. None may be
 * called from a signal handler that interrupted another of them (malloc(3) gives no such licence either), although the
 * common paths nest.
 *
 * Sizes are in bytes. A block of more than 8 bytes is aligned to 16, a smaller one to 8. Blocks from rnAlloc and
 * malloc, rnFree and free, may be mixed freely.
 *
 * Sources: malloc(3), posix_memalign(3), mallinfo(3), malloc_usable_size(3), malloc_trim(3), malloc_info(3); ISO
 * C11 7.22.3, ISO C23 7.24.3 (free_sized, free_aligned_sized).
 */
#ifndef RNALLOC_H
#define RNALLOC_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define RNALLOC_VERSION_MAJOR 0
#define RNALLOC_VERSION_MINOR 1

/* Allocates `size` bytes, uninitialized. A size of 0 gives a unique pointer. NULL with errno ENOMEM when memory is
 * short or size exceeds PTRDIFF_MAX; nothing is lost then. malloc(3). */
void *rnAlloc(size_t size) __attribute__((malloc, alloc_size(1), warn_unused_result));

/* Gives a block back. NULL is ignored. errno is kept. A pointer that is not the start of a live block of this allocator
 * ends the process with one line on stderr, at the latest when the block's batch reaches its span. free(3). */
void rnFree(void *block);

/* Allocates an array of `count` elements of `size` bytes, zeroed. NULL with ENOMEM as rnAlloc, also when the product
 * overflows. calloc(3). */
void *rnCalloc(size_t count, size_t size) __attribute__((malloc, alloc_size(1, 2), warn_unused_result));

/* Resizes a block, moving it if it must; contents are kept up to the smaller size. NULL block: as rnAlloc. Size 0:
 * frees the block and gives NULL, as glibc's realloc. On failure NULL with ENOMEM, and the block is as it was.
 * realloc(3). */
void *rnRealloc(void *block, size_t size) __attribute__((alloc_size(2), warn_unused_result));

/* Allocates `size` bytes aligned to `alignment`, a power of two. NULL with EINVAL when it is none, with ENOMEM when
 * memory is short. posix_memalign(3). */
void *rnAllocAligned(size_t alignment, size_t size) __attribute__((malloc, alloc_size(2), warn_unused_result));

/* rnFree for a caller that knows the size it asked for. The size is a hint: the pagemap decides; under the option
 * hardened=1 a wrong one ends the process. ISO C23 free_sized. */
void rnFreeSized(void *block, size_t size);

/* The bytes the program may use in a block: at least what it asked for. 0 for NULL. malloc_usable_size(3). */
size_t rnUsableSize(void *block);

/* The usable size that rnAlloc(size) gives now, at least: asking for this instead costs nothing. The block may have
 * somewhat more, which rnUsableSize tells; later blocks of `size` bytes may have less, where the program wants many of
 * them, but those of the size told here never have. 0 if the size is impossible. Makes no allocation. */
size_t rnGoodSize(size_t size);

/* A block and the bytes that may be used in it. */
struct rn_sized_block {
    void *block;
    size_t size;
};

/* rnAlloc that also tells the usable size; {NULL, 0} with ENOMEM on failure. The shape of C++23's allocate_at_least. */
struct rn_sized_block rnAllocSized(size_t size);

/* Allocates up to `count` blocks of `size` bytes into `blocks`; gives the number allocated, which is less than `count`
 * only when memory is short (then errno is ENOMEM). */
size_t rnAllocBatch(size_t size, void **blocks, size_t count);

/* Frees `count` blocks, of any sizes; NULLs among them are skipped. errno is kept. */
void rnFreeBatch(void **blocks, size_t count);

/* Empties the caches and gives free memory back to the operating system until at most `keep` free bytes stay resident
 * (as far as whole pages go). Returns the bytes given back. malloc_trim(3) is rnReleaseMemory(pad) != 0. */
size_t rnReleaseMemory(size_t keep);

/* A snapshot of the heap, in bytes unless said otherwise. Counters are read one by one while other threads work: each
 * is true of some moment, their sums nearly so. */
struct rn_stats {
    size_t reserved;       /* address space held for the heap */
    size_t committed;      /* of it, readable and writable */
    size_t resident;       /* of it, believed to be backed by memory */
    size_t in_use;         /* blocks in the program's hands, counted with their rounding */
    size_t pool_free;      /* objects in the per-CPU (or per-thread) pools */
    size_t transfer_free;  /* objects in the transfer caches */
    size_t span_free;      /* free objects in spans */
    size_t page_free;      /* free page runs that are resident */
    size_t page_released;  /* free page runs given back to the system or never touched */
    size_t metadata;       /* memory of the allocator's own structures */
    size_t large_in_use;   /* of in_use, blocks above the largest size class */
    size_t large_blocks;   /* number of those */
    size_t pools;          /* number of pools that exist */
    size_t released_total; /* bytes given back to the system since the start */
    size_t mappings;       /* number of calls that obtained address space */
};

/* Fills *stats. Takes no lock that the fast path needs and stops nothing. */
void rnStats(struct rn_stats *stats);

/* How the frontend works in this process. */
enum rn_mode_kind {
    RN_MODE_RSEQ_CID = 1, /* per-CPU pools by mm_cid, restartable sequences */
    RN_MODE_RSEQ_CPU = 2, /* per-CPU pools by cpu_id, restartable sequences */
    RN_MODE_THREAD = 3,   /* no rseq: pools per thread, above a cap shared and locked */
    RN_MODE_HARDENED = 4, /* option hardened=1: no pools, every block checked */
};

struct rn_mode {
    enum rn_mode_kind kind;
    const char *name;   /* "rseq-cid", "rseq-cpu", "thread" or "hardened" */
    const char *reason; /* why this mode, a phrase for a human; static storage */
    unsigned pools;     /* the number of pools that may exist */
};

/* Tells the mode; initializes the allocator if nothing has yet. */
struct rn_mode rnMode(void);

#ifdef __cplusplus
}
#endif

#endif
