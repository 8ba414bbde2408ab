/* locked.c: pools with a lock, shared by threads that have none of their own: children of vfork, threads whose rseq is
 * gone, threads beyond the cap of stand-ins, and all threads of a ThreadSanitizer build. A thread uses the one its
 * address hashes to. */
#include "base/meta.h"
#include "frontend/pool.h"

enum {
    SHARDS = 16,
    LOCKED_SLOTS = 32,
    LOCKED_BYTES = 64 << 10, /* a bin holds at most this many bytes, or one object */
};

struct locked_bin {
    uint32_t count;
    void *slots[LOCKED_SLOTS];
};

struct shard {
    struct lock lock;
    struct locked_bin *bins; /* RN_CLASSES of them, made at first use; never given back */
} RN_ALIGNED(RN_CACHE_LINE);

static RN_TABLE struct shard shards[SHARDS] = {[0 ... SHARDS - 1] = {.lock = LOCK_INIT(RANK_POOL)}};

static struct shard *own_shard(void) {
    uintptr_t self = (uintptr_t)&rn_thread;
    return &shards[(self >> 12 ^ self >> 20) % SHARDS];
}

static unsigned shard_id(const struct shard *shard) { return (unsigned)(shard - shards); }

static uint32_t capacity_of(unsigned class_index) {
    return (uint32_t)max_size(min_size(LOCKED_SLOTS, LOCKED_BYTES / size_classes[class_index].size), 1);
}

/* The shard's bin of the class; NULL when there is no memory for bins. Holds the lock. */
static struct locked_bin *bin_of(struct shard *shard, unsigned class_index) {
    if (!shard->bins)
        shard->bins = meta_alloc(RN_CLASSES * sizeof *shard->bins);
    return shard->bins ? &shard->bins[class_index] : NULL;
}

void *locked_take(unsigned class_index) {
    struct shard *shard = own_shard();
    void *object = NULL;
    lock_take(&shard->lock);
    struct locked_bin *bin = bin_of(shard, class_index);
    if (bin && bin->count == 0)
        bin->count = (uint32_t)middle_take(shard_id(shard), class_index, bin->slots, (capacity_of(class_index) + 1) / 2,
                                           capacity_of(class_index));
    if (bin && bin->count)
        object = bin->slots[--bin->count];
    lock_drop(&shard->lock);
    if (!bin && middle_take(shard_id(shard), class_index, &object, 1, 1) == 0)
        return NULL;
    return object;
}

void locked_put(unsigned class_index, void *object) {
    struct shard *shard = own_shard();
    lock_take(&shard->lock);
    struct locked_bin *bin = bin_of(shard, class_index);
    if (bin) {
        uint32_t capacity = capacity_of(class_index);
        if (bin->count == capacity) {
            uint32_t half = (capacity + 1) / 2;
            bin->count -= half;
            middle_put(shard_id(shard), class_index, bin->slots + bin->count, half);
        }
        bin->slots[bin->count++] = object;
    }
    lock_drop(&shard->lock);
    if (!bin)
        middle_put(shard_id(shard), class_index, &object, 1);
}

void locked_count_free(size_t *objects) {
    for (int i = 0; i < SHARDS; i++) {
        lock_take(&shards[i].lock);
        for (unsigned c = 1; shards[i].bins && c < RN_CLASSES; c++)
            objects[c] += shards[i].bins[c].count;
        lock_drop(&shards[i].lock);
    }
}

size_t locked_free_bytes(void) {
    size_t objects[RN_CLASSES] = {0}, bytes = 0;
    locked_count_free(objects);
    for (unsigned c = 1; c < RN_CLASSES; c++)
        bytes += objects[c] * size_classes[c].size;
    return bytes;
}

size_t locked_drain(void) {
    size_t bytes = 0;
    for (int i = 0; i < SHARDS; i++) {
        lock_take(&shards[i].lock);
        for (unsigned c = 1; shards[i].bins && c < RN_CLASSES; c++) {
            struct locked_bin *bin = &shards[i].bins[c];
            if (bin->count)
                middle_put((unsigned)i, c, bin->slots, bin->count);
            bytes += (size_t)bin->count * size_classes[c].size;
            bin->count = 0;
        }
        lock_drop(&shards[i].lock);
    }
    return bytes;
}

void locked_lock_all(void) {
    for (int i = 0; i < SHARDS; i++)
        lock_take(&shards[i].lock);
}

void locked_unlock_all(void) {
    for (int i = SHARDS - 1; i >= 0; i--)
        lock_drop(&shards[i].lock);
}

void locked_reset_locks(void) {
    for (int i = 0; i < SHARDS; i++)
        lock_reset(&shards[i].lock);
}
