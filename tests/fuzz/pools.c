/* pools.c: the frontend's pools at the doors that the slow paths use, with several threads' worth of pools: refill,
 * overflow, batches, locked shards, drains, and pools whose thread is gone. */
#include <stdlib.h>
#include <string.h>

#include "backend/backend.h"
#include "frontend/frontend.h"
#include "pagemap/pagemap.h"
#include "rnalloc.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/threads.h"

const char *const fuzz_variants[] = {"cid", "cpu", "thread", "limited", "pages", NULL};

enum { OPERATIONS_MOST = 300, BYTES_MOST = 24 << 20 };

static struct blocks blocks;

void fuzz_begin(const char *variant) {
    const char *options = strcmp(variant, "cpu") == 0      ? "helper=0,cid=0,pool_kib=64"
                          : strcmp(variant, "thread") == 0 ? "helper=0,rseq=0"
                                                           : "helper=0";
    CHECK(setenv("RNALLOC_OPTIONS", options, 1) == 0);
    system_begin(variant);
    rnFree(rnAlloc(1));
    actors_begin();
    script_stop();
}

static void own(unsigned class_index, void *object) {
    struct block *slot = block_free_slot(&blocks);
    unsigned tag = pagemap_tag(object);
    CHECK(tag >= class_index && object_is_start(tag, object));
    if (slot && blocks.bytes < BYTES_MOST)
        block_own(&blocks, slot, object, size_classes[tag].size);
    else
        middle_put(0, tag, &object, 1);
}

static void own_or_refused(unsigned class_index, void *object) {
    CHECK(object || script_failures() != 0);
    if (object)
        own(class_index, object);
}

static void pop(struct input *input, unsigned class_index) {
    void *objects[RN_MAX_BATCH];
    size_t wanted = input_byte(input) % RN_MAX_BATCH;
    size_t got = rn_pop_batch(class_index, objects, wanted, rn_thread.area);
    CHECK(got <= wanted && (got == 0 || rn_thread.area != &rn_no_area));
    for (size_t i = 0; i < got; i++)
        own(class_index, objects[i]);
}

static void push(struct input *input, struct block *first) {
    void *objects[RN_MAX_BATCH];
    unsigned class_index = pagemap_tag(first->start);
    size_t most = 1 + input_byte(input) % (RN_MAX_BATCH - 1), count = 0;
    for (struct block *block = first; block < blocks.block + BLOCKS && count < most; block++)
        if (block->start && pagemap_tag(block->start) == class_index)
            objects[count++] = block_disown(&blocks, block);
    size_t before = pools_free_bytes();
    size_t pushed = rn_push_batch(class_index, objects, count, rn_thread.area);
    CHECK(pushed <= count && pools_free_bytes() == before + pushed * size_classes[class_index].size);
    if (pushed < count)
        middle_put(0, class_index, objects + pushed, count - pushed);
}

static void give(struct input *input, struct block *block, unsigned what) {
    unsigned class_index = pagemap_tag(block->start);
    switch (what % 4) {
    case 0:
        pool_overflow(class_index, block_disown(&blocks, block));
        break;
    case 1:
        locked_put(class_index, block_disown(&blocks, block));
        break;
    case 2:
        rnFree(block_disown(&blocks, block));
        break;
    default:
        push(input, block);
    }
}

static void take(struct input *input, unsigned class_index, unsigned what) {
    switch (what % 4) {
    case 0:
        own_or_refused(class_index, pool_refill(class_index));
        break;
    case 1:
        own_or_refused(class_index, locked_take(class_index));
        break;
    case 2:
        own_or_refused(class_index, rn_alloc_class(size_classes[class_index].size, class_index));
        break;
    default:
        pop(input, class_index);
    }
}

/* Where every byte of the spans is. */
static void check_all(void) {
    struct rn_stats stats;
    rnStats(&stats);
    CHECK(stats.in_use >= blocks.bytes && stats.pools == pools_count());
    CHECK(stats.in_use + stats.pool_free + stats.transfer_free + stats.span_free == backend_in_use());
    CHECK(stats.pool_free == pools_free_bytes() + locked_free_bytes());
    pools_check();
    heap_check();
}

static void on_all(struct input *input, unsigned what) {
    switch (what % 8) {
    case 0:
        (void)pools_drain(what & 8);
        break;
    case 1:
        (void)locked_drain();
        break;
    case 2:
        (void)middle_flush();
        break;
    case 3: {
        unsigned gone = input_byte(input) % (ACTORS - 1);
        actor_switch(ACTORS - 1);
        pool_abandon(gone);
        break;
    }
    case 4:
        input_script(input);
        break;
    case 5:
        script_stop();
        break;
    case 6:
        (void)trim(input_number(input, 2) << 8);
        break;
    default:
        if (what < 8) /* seldom: it looks at every GiB of the address space */
            check_all();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct input input = {data, data + size};
    memset(&blocks, 0, sizeof blocks);
    for (unsigned i = 0; i < OPERATIONS_MOST && input_left(&input); i++) {
        unsigned what = input_byte(&input);
        struct block *block = &blocks.block[input_slot(&input, BLOCKS)];
        unsigned class_index = 1 + input_byte(&input) % (RN_CLASSES - 1);
        if (what < 40)
            on_all(&input, what);
        else if (what < 64)
            actor_switch(input_byte(&input) % ACTORS);
        else if (what < 160 && block->start)
            give(&input, block, what);
        else
            take(&input, class_index, what);
    }
    script_stop();
    for (struct block *block = blocks.block; block < blocks.block + BLOCKS; block++)
        if (block->start)
            rnFree(block_disown(&blocks, block));
    caches_empty();
    check_all();
    (void)rnReleaseMemory(0);
    CHECK(backend_in_use() == 0 && pools_free_bytes() == 0);
    return 0;
}
