/* pagemap-hash: every request is rounded to pages and mapped; a hash table knows what was mapped. Then three cures.
 *
 * The idea: let the kernel be the allocator. malloc is an mmap, free is a munmap, and nothing is kept in or beside
 * the user's memory: the size of a block is in a table outside, found by the block's address. The table is
 * open-addressed with linear probing, at most half full, and a deletion closes the gap (Knuth's algorithm R), so
 * there are no tombstones. This is the ancestor of rnAlloc's pagemap: an index from address to size that user code
 * cannot overwrite, and which tells a foreign pointer for certain.
 *
 * Its author proposed three cures for what follows from it. Each is switched on by itself:
 *
 *   freelist=on   freed runs of pages stay mapped, in lists by their number of pages, and are used again: no system
 *                 call, no page fault, no zeroing by the kernel. At most 64 MiB are kept.
 *   chunks=on     small blocks (up to 1 KiB) share chunks of 64 KiB, medium ones (up to 32 KiB) chunks of 512 KiB,
 *                 each chunk of one size class with a bit per block, outside of the chunk. Only large blocks are runs
 *                 of pages. The table holds chunks in place of blocks: it is small, and mostly in the cache.
 *   batch=on      mmap is called for 4 MiB at a time, from which runs are cut: fewer system calls to obtain memory.
 *
 *     malloc -- small, medium: chunk (chunks=on) --+
 *        +----- large, or chunks=off --------------+-- run -- kept runs (freelist=on) -- batch (batch=on) -- mmap
 *
 * Invariants (under the one lock):
 *   P1  the table has an entry for each run in the program's hands and each chunk, and no other.
 *   P2  no entry lies behind an empty slot on the way from its home slot.
 *   P3  a chunk's free count is the number of its set bits; a chunk is in its class's list if it is not 0.
 *
 * Does well (plain): nothing a program does to its blocks can harm the allocator; memory goes back at once; an
 * overrun past a page faults.
 * Fails (plain): a page at least for every block; two system calls and a page fault per block, all of which take the
 * kernel's lock on the address space, so threads do not scale; a cache line of the table and a TLB entry per block;
 * the number of mappings is bounded, and holes between blocks use them up. With all cures one lock is left, and a hash
 * where a radix tree needs no probing and no lock.
 *
 * Sources: D. E. Knuth, The Art of Computer Programming 3, section 6.4, algorithms L and R; P.-H. Kamp, Malloc(3)
 * revisited, USENIX 1998, and O. Moerbeek, A New malloc(3) for OpenBSD, EuroBSDCon 2009 (page directories outside of
 * user memory).
 */
#include "common.h"

#include <string.h>

#define SMALL_MAX KIB
#define MEDIUM_MAX (32 * KIB)
#define CLASSES 40
#define SMALL_CHUNK (64 * KIB)
#define MEDIUM_CHUNK (512 * KIB)
#define CHUNK_WORDS (SMALL_CHUNK / ALIGNMENT / 64)

#define KEPT_LISTS 64
#define KEPT_MAX (64 * MIB)
#define KEPT_LOOK 16 /* runs looked at in a list */
#define BATCH (4 * MIB)

const char design_name[] = "pagemap-hash";

struct chunk {
    uintptr_t base;
    unsigned cls;
    unsigned blocks; /* what it holds */
    unsigned free;   /* how many of them are free */
    unsigned first;  /* no word of bits below this one has a bit */
    struct chunk *next, *prev;
    uint64_t bits[CHUNK_WORDS]; /* set: free */
};

struct entry {
    uintptr_t start; /* 0: the slot is empty */
    size_t bytes;
    struct chunk *chunk; /* NULL: a run that is one block */
};

/* A run that is kept; the pages are nobody's, so their first bytes may link them. */
struct run {
    struct run *next;
    size_t bytes;
};

static struct lock lock = LOCK_INIT;
static bool use_freelist, use_chunks, use_batch;

/* ---- The table ------------------------------------------------------------------------------------------------- */

static struct entry *table;
static size_t table_slots, table_count;

static size_t home_of(uintptr_t start) {
    /* Fibonacci hashing: addresses differ in the middle, the product's high bits depend on all of it. */
    return (start >> 12) * 0x9e3779b97f4a7c15u >> (64 - __builtin_ctzl(table_slots));
}

/* The slot of `start`, or the empty slot where it would go. */
static struct entry *table_slot(uintptr_t start) {
    size_t slot = home_of(start);
    while (table[slot].start != 0 && table[slot].start != start)
        slot = (slot + 1) & (table_slots - 1);
    return &table[slot];
}

static struct entry *table_find(uintptr_t start) {
    if (!table)
        return NULL;
    struct entry *entry = table_slot(start);
    return entry->start ? entry : NULL;
}

/* Makes room for one more, before there is anything to insert: table_insert then cannot fail. */
static bool table_reserve(void) {
    if (2 * (table_count + 1) <= table_slots)
        return true;
    struct entry *old = table;
    size_t old_slots = table_slots, slots = old_slots ? old_slots * 2 : 512;
    size_t bytes = round_up(slots * sizeof(struct entry), os_page());
    struct entry *bigger = os_map(bytes, os_page());
    if (!bigger)
        return false;
    table = bigger;
    table_slots = slots;
    for (size_t slot = 0; slot < old_slots; slot++) {
        if (old[slot].start)
            *table_slot(old[slot].start) = old[slot];
    }
    if (old)
        os_unmap(old, round_up(old_slots * sizeof(struct entry), os_page()));
    return true;
}

static void table_insert(uintptr_t start, size_t bytes, struct chunk *chunk) {
    *table_slot(start) = (struct entry){start, bytes, chunk};
    table_count++;
}

/* Algorithm R: an entry behind the gap moves into it unless its home lies cyclically in between (P2). */
static void table_delete(struct entry *entry) {
    size_t mask = table_slots - 1, gap = (size_t)(entry - table);
    for (size_t slot = (gap + 1) & mask; table[slot].start; slot = (slot + 1) & mask) {
        size_t home = home_of(table[slot].start);
        if (((slot - home) & mask) >= ((slot - gap) & mask)) {
            table[gap] = table[slot];
            gap = slot;
        }
    }
    table[gap].start = 0;
    table_count--;
}

/* ---- Runs of pages --------------------------------------------------------------------------------------------- */

static struct run *kept[KEPT_LISTS + 1]; /* by number of pages; the last holds all that are larger */
static size_t kept_bytes;
static uintptr_t batch_next, batch_end;

static unsigned list_of(size_t bytes) {
    size_t pages = bytes / os_page();
    return pages < KEPT_LISTS ? (unsigned)pages : KEPT_LISTS;
}

static void kept_put(void *start, size_t bytes) {
    struct run *run = start;
    *run = (struct run){kept[list_of(bytes)], bytes};
    kept[list_of(bytes)] = run;
    kept_bytes += bytes;
}

/* A kept run of at least *bytes, and at most a quarter more; *bytes becomes its size. */
static void *kept_take(size_t *bytes, size_t align) {
    struct run **link = &kept[list_of(*bytes)];
    for (int looked = 0; *link && looked < KEPT_LOOK; looked++, link = &(*link)->next) {
        struct run *run = *link;
        if (run->bytes < *bytes || run->bytes > *bytes + *bytes / 4 || ((uintptr_t)run & (align - 1)) != 0)
            continue;
        *link = run->next;
        *bytes = run->bytes;
        kept_bytes -= run->bytes;
        return run;
    }
    return NULL;
}

/* Cuts a run from the batch. What alignment skips, and a batch's end that is too small, go back to the kernel. */
static void *batch_take(size_t bytes, size_t align) {
    uintptr_t start = round_up(batch_next, align);
    if (batch_end == 0 || start + bytes > batch_end) {
        char *batch = os_map(BATCH, os_page());
        if (!batch)
            return NULL;
        if (batch_next < batch_end)
            os_unmap((void *)batch_next, batch_end - batch_next);
        batch_next = (uintptr_t)batch;
        batch_end = batch_next + BATCH;
        start = round_up(batch_next, align);
    }
    if (start > batch_next)
        os_unmap((void *)batch_next, start - batch_next);
    batch_next = start + bytes;
    return (void *)start;
}

static void *run_obtain(size_t *bytes, size_t align, bool *zeroed) {
    void *run = use_freelist ? kept_take(bytes, align) : NULL;
    if (run) {
        *zeroed = false;
        return run;
    }
    *zeroed = true;
    return use_batch && *bytes + align <= BATCH / 4 ? batch_take(*bytes, align) : os_map(*bytes, align);
}

/* A run that the kernel refuses to take, for want of mappings, is kept whatever the options. */
static void run_return(void *run, size_t bytes) {
    bool is_kept = use_freelist && kept_bytes + bytes <= KEPT_MAX;
    if (is_kept || os_unmap(run, bytes) != 0)
        kept_put(run, bytes);
}

static void *run_alloc(size_t align, size_t size, bool *zeroed) {
    size_t bytes = round_up(size, os_page());
    if (!table_reserve())
        return NULL;
    void *run = run_obtain(&bytes, align, zeroed);
    if (run)
        table_insert((uintptr_t)run, bytes, NULL);
    return run;
}

static void run_free(struct entry *entry) {
    void *run = (void *)entry->start;
    size_t bytes = entry->bytes;
    table_delete(entry);
    run_return(run, bytes);
}

/* ---- Chunks of one size class ---------------------------------------------------------------------------------- */

static struct chunk *chunks[CLASSES]; /* those with a free block */
static struct chunk *spare_heads;     /* chunk heads that are not in use, by `next` */

static size_t chunk_bytes(unsigned cls) { return class_size(cls) <= SMALL_MAX ? SMALL_CHUNK : MEDIUM_CHUNK; }

static struct chunk *chunk_head(void) {
    if (!spare_heads) {
        size_t bytes = round_up(32 * sizeof(struct chunk), os_page());
        struct chunk *heads = os_map(bytes, os_page());
        for (size_t i = 0; heads && i < bytes / sizeof(struct chunk); i++) {
            heads[i].next = spare_heads;
            spare_heads = &heads[i];
        }
    }
    struct chunk *head = spare_heads;
    if (head)
        spare_heads = head->next;
    return head;
}

static void chunk_link(struct chunk *chunk) {
    chunk->prev = NULL;
    chunk->next = chunks[chunk->cls];
    if (chunk->next)
        chunk->next->prev = chunk;
    chunks[chunk->cls] = chunk;
}

static void chunk_unlink(struct chunk *chunk) {
    if (chunk->next)
        chunk->next->prev = chunk->prev;
    if (chunk->prev)
        chunk->prev->next = chunk->next;
    else
        chunks[chunk->cls] = chunk->next;
}

static bool chunk_add(unsigned cls) {
    struct chunk *chunk = table_reserve() ? chunk_head() : NULL;
    if (!chunk)
        return false;
    bool zeroed;
    size_t bytes = chunk_bytes(cls);
    void *run = run_obtain(&bytes, chunk_bytes(cls), &zeroed);
    if (!run) {
        chunk->next = spare_heads;
        spare_heads = chunk;
        return false;
    }
    unsigned blocks = (unsigned)(chunk_bytes(cls) / class_size(cls));
    *chunk = (struct chunk){.base = (uintptr_t)run, .cls = cls, .blocks = blocks, .free = blocks};
    memset(chunk->bits, 0xff, blocks / 64 * sizeof chunk->bits[0]);
    if (blocks % 64)
        chunk->bits[blocks / 64] = ((uint64_t)1 << blocks % 64) - 1;
    table_insert(chunk->base, bytes, chunk);
    chunk_link(chunk);
    return true;
}

static void *chunk_alloc(size_t size) {
    unsigned cls = class_of(size);
    if (!chunks[cls] && !chunk_add(cls))
        return NULL;
    struct chunk *chunk = chunks[cls];
    while (!chunk->bits[chunk->first])
        chunk->first++;
    unsigned block = chunk->first * 64 + (unsigned)__builtin_ctzll(chunk->bits[chunk->first]);
    chunk->bits[chunk->first] &= chunk->bits[chunk->first] - 1;
    if (--chunk->free == 0)
        chunk_unlink(chunk);
    return (void *)(chunk->base + block * class_size(cls));
}

/* The number of the block that starts at `address`; `blocks` if none does, or a free one. */
static unsigned chunk_block(const struct chunk *chunk, uintptr_t address) {
    size_t offset = address - chunk->base, size = class_size(chunk->cls), block = offset / size;
    bool is_live = offset % size == 0 && block < chunk->blocks && !(chunk->bits[block / 64] >> block % 64 & 1);
    return is_live ? (unsigned)block : chunk->blocks;
}

static void chunk_free(struct entry *entry, unsigned block) {
    struct chunk *chunk = entry->chunk;
    chunk->bits[block / 64] |= (uint64_t)1 << block % 64;
    if (block / 64 < chunk->first)
        chunk->first = block / 64;
    if (chunk->free++ == 0)
        chunk_link(chunk);
    /* An empty chunk goes back, unless it is all that its class has. */
    if (chunk->free == chunk->blocks && (chunk->next || chunk->prev)) {
        chunk_unlink(chunk);
        run_free(entry);
        chunk->next = spare_heads;
        spare_heads = chunk;
    }
}

/* ---- The design ------------------------------------------------------------------------------------------------ */

void design_start(void) {
    static const char *const switches[] = {"off", "on"};
    use_freelist = option_choice("freelist", switches, 2);
    use_chunks = option_choice("chunks", switches, 2);
    use_batch = option_choice("batch", switches, 2);
}

void *design_alloc(size_t size, bool *zeroed) {
    lock_take(&lock);
    void *block = use_chunks && size <= MEDIUM_MAX ? chunk_alloc(size) : run_alloc(ALIGNMENT, size, zeroed);
    lock_release(&lock);
    return block;
}

/* A block of a chunk whose size is a power of two is aligned to it, since the chunk is. */
void *design_alloc_aligned(size_t align, size_t size) {
    size_t power = align;
    while (power < size && power <= MEDIUM_MAX)
        power *= 2;
    bool zeroed;
    lock_take(&lock);
    void *block = use_chunks && power <= MEDIUM_MAX ? chunk_alloc(power) : run_alloc(align, size, &zeroed);
    lock_release(&lock);
    return block;
}

/* The entry that `address` belongs to: its own run's, or that of the chunk around it. NULL if there is none. */
static struct entry *entry_of(uintptr_t address) {
    struct entry *entry = table_find(address);
    if (entry || !use_chunks)
        return entry;
    entry = table_find(address & ~(SMALL_CHUNK - 1));
    if (!entry || !entry->chunk)
        entry = table_find(address & ~(MEDIUM_CHUNK - 1));
    return entry && entry->chunk && address - entry->start < entry->bytes ? entry : NULL;
}

/* The lock is held; on NULL it was released. */
static struct entry *entry_live(void *block, unsigned *number) {
    struct entry *entry = entry_of((uintptr_t)block);
    if (entry && entry->chunk) {
        *number = chunk_block(entry->chunk, (uintptr_t)block);
        entry = *number < entry->chunk->blocks ? entry : NULL;
    }
    if (!entry) {
        lock_release(&lock);
        block_fatal(block);
    }
    return entry;
}

void design_free(void *block) {
    unsigned number;
    lock_take(&lock);
    struct entry *entry = entry_live(block, &number);
    if (entry->chunk)
        chunk_free(entry, number);
    else
        run_free(entry);
    lock_release(&lock);
}

size_t design_usable(void *block) {
    unsigned number;
    lock_take(&lock);
    const struct entry *entry = entry_live(block, &number);
    size_t usable = entry->chunk ? class_size(entry->chunk->cls) : entry->bytes;
    lock_release(&lock);
    return usable;
}

void design_lock_all(void) { lock_take(&lock); }

void design_unlock_all(void) { lock_release(&lock); }
