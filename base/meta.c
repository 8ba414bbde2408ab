#include "base/meta.h"

#include "base/os.h"

enum {
    META_CHUNK = 1 << 20,  /* address space taken from the system at a time */
    META_STEP = 64 << 10,  /* committed at a time: bounded, since mlockall makes what is committed resident */
    META_BLOCK_SIZES = 26, /* 64 bytes to 2 GiB */
};

struct free_block {
    struct free_block *next;
};

struct lock meta_lock = LOCK_INIT(RANK_META);

/* Protected by meta_lock. [next, committed) is ready, [committed, end) is reserved. */
static struct {
    char *next;
    char *committed;
    char *end;
    struct free_block *blocks[META_BLOCK_SIZES];
} meta;

static _Atomic size_t bytes_total;

size_t meta_bytes(void) { return atomic_load_explicit(&bytes_total, memory_order_relaxed); }

void meta_count(size_t bytes) { shared_add(&bytes_total, bytes); }

static bool chunk_reserve(size_t size) {
    size_t step = max_size(META_STEP, os_page_size());
    size_t want = round_up(max_size(size, META_CHUNK), step);
    char *start = os_reserve(0, want, os_page_size());
    if (!start && want > round_up(size, step)) {
        want = round_up(size, step);
        start = os_reserve(0, want, os_page_size());
    }
    if (!start)
        return false;
    meta.next = meta.committed = start;
    meta.end = start + want;
    return true;
}

static bool chunk_commit(size_t size) {
    if (meta.next + size <= meta.committed)
        return true;
    size_t step = max_size(META_STEP, os_page_size());
    size_t more = round_up((size_t)(meta.next + size - meta.committed), step);
    more = min_size(more, (size_t)(meta.end - meta.committed));
    if (os_commit(meta.committed, more) != 0)
        return false;
    meta.committed += more;
    return true;
}

static void *bump(size_t size) {
    if (size > (size_t)(meta.end - meta.next) && !chunk_reserve(size))
        return NULL;
    if (!chunk_commit(size))
        return NULL;
    char *start = meta.next;
    meta.next += size;
    meta_count(size);
    return start;
}

void *meta_alloc(size_t size) {
    lock_take(&meta_lock);
    void *start = bump(round_up(size, RN_CACHE_LINE));
    lock_drop(&meta_lock);
    return start;
}

static unsigned block_index(size_t size) {
    RN_ASSERT(is_power_of_two(size) && size >= META_BLOCK_MIN);
    return (unsigned)__builtin_ctzl(size / META_BLOCK_MIN);
}

void *meta_block_alloc(size_t size) {
    unsigned index = block_index(size);
    lock_take(&meta_lock);
    struct free_block *block = meta.blocks[index];
    if (block)
        meta.blocks[index] = block->next;
    else
        block = bump(size);
    lock_drop(&meta_lock);
    return block;
}

void meta_block_free(void *memory, size_t size) {
    struct free_block *block = memory;
    unsigned index = block_index(size);
    lock_take(&meta_lock);
    block->next = meta.blocks[index];
    meta.blocks[index] = block;
    lock_drop(&meta_lock);
}
