/* alloc.c: malloc(3) and its kin, but for the fast path, which is assembly.
 *
 * The way through the code:
 *
 *   malloc, operator new (pool_ARCH.S)
 *     --bin empty, pool closed, no area, class 0--> rn_alloc_slow
 *         --first use--> library_init                    --thread not seen yet--> thread_register, then again
 *         --class 0, size above 256 KiB--> large_alloc   --else--> pool_refill --> middle_take --> backend
 *         --hardened mode, in which every class is 0--> hardened_alloc
 *   free (pool_ARCH.S), of NULL nothing
 *     --bin full, pool closed, no area, class 0, top of the bin--> rn_free_slow
 *         --class 0--> large_free, or hardened_free, or the end of the process
 *         --else--> pool_overflow --> middle_put
 */
#include <errno.h>
#include <string.h>

#include "backend/backend.h"
#include "base/fatal.h"
#include "frontend/alloc.h"
#include "frontend/hardened.h"
#include "frontend/pool.h"
#include "pagemap/pagemap.h"

enum {
    NATURAL = 16,   /* alignment of every block above 8 bytes */
    STEP_SHARE = 8, /* a block that grows by no more than this part of it */
    ROOM_SHARE = 5, /* gets this part as room */
};

unsigned class_of(size_t size) {
    if (size > RN_MAX_SMALL)
        return 0;
    return atomic_load_explicit(&class_table[class_index_of(size)], memory_order_relaxed);
}

static void *no_memory(void) {
    errno = ENOMEM;
    return NULL;
}

static void *classless_alloc(size_t size, size_t alignment, bool *zeroed) {
    return RN_UNLIKELY(rn_hardened) ? hardened_alloc(size, alignment, zeroed) : large_alloc(size, alignment, zeroed);
}

static void *large_or_null(size_t size, size_t alignment, bool *zeroed) {
    if (size > PTRDIFF_MAX)
        return no_memory();
    void *block = classless_alloc(size, alignment, zeroed);
    if (RN_UNLIKELY(!block) && trim_retreat(size))
        block = classless_alloc(size, alignment, zeroed);
    if (!rn_hardened) /* which calls it when it went to the backend */
        trim_step();
    return block ? block : no_memory();
}

/* Makes the library and the thread ready. True if anything had to be done: the fast path deserves another try. */
static bool get_ready(void) {
    if (!library_is_ready()) {
        library_init();
        if (rn_thread.area != &rn_new_area)
            return true;
    }
    if (rn_thread.area != &rn_new_area || !library_is_ready())
        return false;
    thread_register();
    return true;
}

void *rn_alloc_slow(size_t size, unsigned class_index) {
    if (RN_UNLIKELY(get_ready()))
        class_index = class_of(size);
    if (class_index == 0) {
        bool zeroed;
        return large_or_null(size, 1, &zeroed);
    }
    void *object = pool_refill(class_index);
    if (RN_UNLIKELY(!object) && trim_retreat(size))
        object = pool_refill(class_index);
    class_note(size, class_index);
    trim_pass();
    return object ? object : no_memory();
}

/* ---- Misuse ---- */

void block_misuse(const char *function, const void *block) {
    struct line line = {.used = 0};
    unsigned class_index = pagemap_tag(block);
    line_text(&line, function);
    line_text(&line, "(");
    line_address(&line, block);
    line_text(&line, "): ");
    if (((uintptr_t)block & 7) != 0 && backend_owns(block)) {
        line_text(&line, "misaligned pointer");
    } else if (class_index) {
        line_text(&line,
                  object_is_start(class_index, block) ? "double free (size class " : "interior pointer (size class ");
        line_number(&line, size_classes[class_index].size);
        line_text(&line, " bytes)");
    } else if (backend_owns(block)) {
        line_text(&line, "not a live block: freed already, or interior to a large one");
    } else {
        line_text(&line, "not an rnAlloc pointer (a stack or static object, another allocator's block; ");
        line_text(&line, "dlopen with RTLD_DEEPBIND is a usual cause)");
    }
    line_fatal(&line);
}

void rn_free_slow(void *block, unsigned class_index) {
    if (class_index == 0) {
        int saved = errno;
        if (RN_UNLIKELY(rn_hardened))
            hardened_free(block);
        else if (!large_free(block))
            block_misuse("free", block);
        else
            trim_step();
        errno = saved;
        return;
    }
    if (!object_is_start(class_index, block) || pool_top_is(class_index, block))
        block_misuse("free", block);
    (void)get_ready();
    pool_overflow(class_index, block);
    trim_pass();
}

/* ---- Sizes ---- */

static size_t usable(const char *function, const void *block) {
    if (RN_UNLIKELY(rn_hardened))
        return hardened_size(function, block);
    unsigned class_index = pagemap_tag(block);
    if (class_index) {
        if (!object_is_start(class_index, block))
            block_misuse(function, block);
        return size_classes[class_index].size;
    }
    size_t size = large_size(block);
    if (size == 0)
        block_misuse(function, block);
    return size;
}

RN_EXPORT size_t rnUsableSize(void *block) { return block ? usable("malloc_usable_size", block) : 0; }

RN_EXPORT size_t malloc_usable_size(void *block) { return rnUsableSize(block); }

RN_EXPORT size_t rnGoodSize(size_t size) {
    library_init();
    unsigned class_index = class_of(size);
    if (class_index)
        return size_classes[class_index].size;
    if (rn_hardened)
        return size > PTRDIFF_MAX ? 0 : size;
    return size > PTRDIFF_MAX ? 0 : round_up(size, RN_PAGE);
}

/* ---- calloc and realloc ---- */

RN_EXPORT void *rnCalloc(size_t count, size_t size) {
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes))
        return no_memory();
    if (bytes > RN_MAX_SMALL) {
        bool zeroed;
        (void)get_ready();
        void *block = large_or_null(bytes, 1, &zeroed);
        return block && !zeroed ? memset(block, 0, bytes) : block;
    }
    void *block = rnAlloc(bytes);
    return block ? memset(block, 0, bytes) : NULL;
}

RN_EXPORT void *calloc(size_t count, size_t size) __attribute__((alias("rnCalloc")));

/* A block may keep what it has while the new size fills at least half of it. */
static bool still_fits(size_t size, size_t have) { return size <= have && size >= have / 2; }

/* A block that outgrew its class by little grows in small steps, and will again: the next few steps should find room.
 * One that grows by more, as a vector that doubles, gets what it asked for. */
static size_t size_with_room(size_t size, size_t have) {
    return size > have && size <= have + have / STEP_SHARE ? max_size(size, have + have / ROOM_SHARE) : size;
}

static void *realloc_copy(void *block, size_t size, size_t have) {
    void *fresh = rnAlloc(rn_hardened ? size : size_with_room(size, have)); /* there the size counts to the byte */
    if (!fresh)
        return NULL;
    memcpy(fresh, block, min_size(size, have));
    rnFree(block);
    return fresh;
}

/* A small block. Whether one starts there is asked when it moves, or is freed: where it stays, its span need not be
 * looked at. */
static void *small_resize(void *block, size_t size, unsigned class_index) {
    size_t have = size_classes[class_index].size;
    if (still_fits(size, have) && ((uintptr_t)block & 7) == 0)
        return block;
    if (RN_UNLIKELY(!object_is_start(class_index, block)))
        block_misuse("realloc", block);
    return realloc_copy(block, size, have);
}

RN_EXPORT void *rnRealloc(void *block, size_t size) {
    if (!block)
        return rnAlloc(size);
    if (size == 0) {
        rnFree(block);
        return NULL;
    }
    if (size > PTRDIFF_MAX)
        return no_memory();
    unsigned class_index = pagemap_tag(block);
    if (RN_LIKELY(class_index))
        return small_resize(block, size, class_index);
    size_t have = usable("realloc", block);
    if (RN_UNLIKELY(rn_hardened)) {
        void *resized = hardened_resize(block, size);
        return resized ? resized : realloc_copy(block, size, have);
    }
    void *resized = still_fits(size, have) ? block : NULL;
    if (have > RN_MAX_SMALL && size > RN_MAX_SMALL)
        resized = large_resize(block, size);
    return resized ? resized : realloc_copy(block, size, have);
}

RN_EXPORT void *realloc(void *block, size_t size) __attribute__((alias("rnRealloc")));

RN_EXPORT void *reallocarray(void *block, size_t count, size_t size) {
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes))
        return no_memory();
    return rnRealloc(block, bytes);
}

/* ---- Aligned blocks ---- */

/* The class for `size` at the alignment; 0 if there is none. */
static unsigned aligned_class(size_t alignment, size_t size) {
    return alignment > RN_PAGE ? 0 : class_of(size_aligned(size, alignment));
}

/* An object of the class; or, where the bin offers one that another class lent, one that is not aligned for certain, an
 * exact one. */
static void *alloc_aligned_class(size_t alignment, size_t size, unsigned class_index) {
    /* The size that the class is wanted for, which is what its refills count. */
    void *block = rn_alloc_class(size_aligned(size, alignment), class_index);
    if (RN_LIKELY(((uintptr_t)block & (alignment - 1)) == 0))
        return block;
    rnFree(block);
    block = middle_take_exact(pool_id(), class_index);
    if (RN_UNLIKELY(!block) && trim_retreat(size))
        block = middle_take_exact(pool_id(), class_index);
    return block ? block : no_memory();
}

/* `alignment` is a power of two. */
void *alloc_aligned(size_t alignment, size_t size) {
    if (size > PTRDIFF_MAX || alignment > PTRDIFF_MAX)
        return no_memory();
    if (alignment <= 8 || (alignment <= NATURAL && size > 8))
        return rnAlloc(size);
    unsigned class_index = aligned_class(alignment, size);
    if (!class_index && get_ready())
        class_index = aligned_class(alignment, size);
    if (class_index)
        return alloc_aligned_class(alignment, size, class_index);
    bool zeroed;
    return large_or_null(size, alignment, &zeroed);
}

RN_EXPORT void *rnAllocAligned(size_t alignment, size_t size) {
    if (!is_power_of_two(alignment)) {
        errno = EINVAL;
        return NULL;
    }
    return alloc_aligned(alignment, size);
}

RN_EXPORT int posix_memalign(void **block, size_t alignment, size_t size) {
    if (!is_power_of_two(alignment) || alignment % sizeof(void *) != 0)
        return EINVAL;
    int saved = errno;
    void *got = alloc_aligned(alignment, size);
    errno = saved;
    if (!got)
        return ENOMEM;
    *block = got;
    return 0;
}

/* As glibc 2.36: an alignment that is no power of two is rounded up to one. */
RN_EXPORT void *memalign(size_t alignment, size_t size) {
    if (alignment > SIZE_MAX / 2 + 1) {
        errno = EINVAL;
        return NULL;
    }
    return alloc_aligned(alignment <= 1 ? 1 : (size_t)2 << (63 - __builtin_clzl(alignment - 1)), size);
}

RN_EXPORT void *aligned_alloc(size_t alignment, size_t size) __attribute__((alias("memalign")));

RN_EXPORT void *valloc(size_t size) { return alloc_aligned(os_page(), size); }

RN_EXPORT void *pvalloc(size_t size) {
    size_t page = os_page();
    if (size > PTRDIFF_MAX)
        return no_memory();
    return alloc_aligned(page, max_size(round_up(size, page), page));
}

/* ---- Sized and batched forms ---- */

/* The sizes and alignments are hints, but for hardened mode. */
static void free_told(void *block, size_t alignment, size_t size) {
    if (!rn_hardened || !block) {
        rnFree(block);
        return;
    }
    int saved = errno;
    hardened_free_sized(block, alignment, size);
    errno = saved;
}

RN_EXPORT void rnFreeSized(void *block, size_t size) { free_told(block, 0, size); }

RN_EXPORT void free_sized(void *block, size_t size) __attribute__((alias("rnFreeSized")));

RN_EXPORT void free_aligned_sized(void *block, size_t alignment, size_t size) {
    free_told(block, alignment ? alignment : 1, size);
}

RN_EXPORT struct rn_sized_block rnAllocSized(size_t size) {
    struct rn_sized_block result = {rnAlloc(size), 0};
    if (result.block)
        result.size = rnUsableSize(result.block);
    return result;
}

RN_EXPORT size_t rnAllocBatch(size_t size, void **blocks, size_t count) {
    (void)get_ready();
    unsigned class_index = class_of(size);
    size_t done = 0;
    if (class_index)
        done = rn_pop_batch(class_index, blocks, count, rn_thread.area);
    while (class_index && count - done >= size_classes[class_index].batch) {
        size_t got = middle_take(pool_id(), class_index, blocks + done, count - done, count - done);
        if (got == 0)
            break;
        class_note(size, class_index);
        done += got;
    }
    while (done < count && (blocks[done] = rnAlloc(size)) != NULL)
        done++;
    return done;
}

RN_EXPORT void rnFreeBatch(void **blocks, size_t count) {
    for (size_t i = 0; i < count; i++)
        rnFree(blocks[i]);
}
