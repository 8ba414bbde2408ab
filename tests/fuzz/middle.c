/* middle.c: the middle tier at its door: objects of all classes by the batch, and large blocks, each stamped and kept
 * apart, while calls to the system fail where the input says. */
#include <errno.h>
#include <string.h>

#include "backend/backend.h"
#include "middle/middle.h"
#include "pagemap/pagemap.h"
#include "tests/fuzz/fuzz.h"

const char *const fuzz_variants[] = {"plain", "strict", "limited", "pages", "unmaps", "loses", NULL};

enum { OPERATIONS_MOST = 300, BYTES_MOST = 20 << 20, LARGE_MOST = 3 << 20 };

static struct blocks blocks;
static unsigned turn; /* whose pool works with the tier */

void fuzz_begin(const char *variant) {
    system_begin(variant);
    script_stop();
    middle_init(64);
    backend_init(&(struct backend_config){.hugepages = true, .release = true, .retain = 1 << 20});
}

/* An object that the tier gave for a class: of the class, or of one not much larger. */
static bool own_object(unsigned class_index, void *object) {
    struct block *slot = block_free_slot(&blocks);
    unsigned own = pagemap_tag(object);
    size_t wanted = size_classes[class_index].size, size = size_classes[own].size;
    CHECK(own >= class_index && size <= wanted + max_size(wanted / 4, 8));
    CHECK((uintptr_t)object % (size > 8 ? 16 : 8) == 0 && pagemap_tag((char *)object + size - 1) == own);
    CHECK(object_is_start(own, object) && !object_is_start(own, (char *)object + size - 1));
    CHECK(!object_is_free(own, object) && large_size(object) == 0);
    if (!slot || blocks.bytes > BYTES_MOST) {
        middle_put(turn++ % 3, own, &object, 1);
        return false;
    }
    block_own(&blocks, slot, object, size);
    return true;
}

static void take(struct input *input, unsigned class_index) {
    void *objects[RN_MAX_BATCH];
    size_t wanted = 1 + input_byte(input) % RN_MAX_BATCH;
    size_t got = middle_take(turn++ % 3, class_index, objects, wanted, wanted);
    CHECK(got <= wanted && (got > 0 || script_failures() != 0));
    for (size_t i = 0; i < got; i++)
        (void)own_object(class_index, objects[i]);
}

static void take_exact(unsigned class_index) {
    void *object = middle_take_exact(turn++ % 3, class_index);
    CHECK(object || script_failures() != 0);
    if (object) {
        CHECK(pagemap_tag(object) == class_index);
        (void)own_object(class_index, object);
    }
}

static bool is_large(const struct block *block) { return pagemap_tag(block->start) == 0; }

/* Up to `most` blocks of one class, from the slot on, in one batch. */
static void put(struct block *first, size_t most) {
    void *objects[RN_MAX_BATCH];
    size_t count = 0;
    unsigned class_index = pagemap_tag(first->start);
    for (struct block *block = first; block < blocks.block + BLOCKS && count < most; block++)
        if (block->start && pagemap_tag(block->start) == class_index)
            objects[count++] = block_disown(&blocks, block);
    middle_put(turn++ % 3, class_index, objects, count);
}

static void large_new(struct input *input) {
    struct block *slot = block_free_slot(&blocks);
    size_t size = input_size(input, LARGE_MOST), alignment = (size_t)1 << input_byte(input) % 24;
    bool zeroed = false;
    if (!slot || blocks.bytes > BYTES_MOST)
        return;
    void *start = large_alloc(size, alignment, &zeroed);
    CHECK(start || script_failures() != 0);
    if (!start)
        return;
    CHECK((uintptr_t)start % alignment == 0 && large_size(start) >= size && large_size(start) <= size + RN_PAGE);
    CHECK(large_size((char *)start + 8) == 0);
    if (zeroed)
        block_check_zero(start, large_size(start));
    block_own(&blocks, slot, start, large_size(start));
}

static void large_change(struct input *input, struct block *block) {
    struct block before = *block;
    size_t size = input_size(input, LARGE_MOST);
    char *start = large_resize(block->start, size);
    if (!start) {
        CHECK(large_size(before.start) == before.size);
        block_check_at(&before, before.start, before.size);
        return;
    }
    size_t now = large_size(start);
    CHECK(now >= size && now <= size + RN_PAGE && (start == before.start || large_size(before.start) == 0));
    block_check_at(&before, start, now < before.size ? now : before.size);
    blocks.bytes -= before.size;
    block->start = NULL;
    block_own(&blocks, block, start, now);
}

static void large_give(struct block *block) {
    void *start = block_disown(&blocks, block);
    CHECK(large_free(start) && !large_free(start) && large_size(start) == 0);
}

static void on_block(struct input *input, struct block *block, unsigned what) {
    if (!is_large(block))
        put(block, 1 + input_byte(input) % RN_MAX_BATCH);
    else if (what % 2)
        large_change(input, block);
    else
        large_give(block);
}

/* What the pages in use hold is in our hands, in a transfer cache, free in a span, or a span's tail. */
static void check_all(void) {
    struct middle_stats stats;
    middle_stats(&stats);
    size_t large = 0, count = 0;
    for (const struct block *block = blocks.block; block < blocks.block + BLOCKS; block++)
        if (block->start && is_large(block)) {
            large += block->size;
            count++;
        }
    struct backend_stats pages;
    backend_stats(&pages);
    CHECK(pages.block_bytes == large && pages.blocks == count && stats.transfer_free == middle_cached());
    CHECK(blocks.bytes + stats.transfer_free + stats.span_free <= backend_in_use());
    middle_check();
    backend_check();
}

static void on_all(struct input *input, unsigned what) {
    switch (what % 8) {
    case 0:
        (void)middle_flush();
        break;
    case 1:
        (void)backend_release((size_t)input_byte(input) << 16, what & 8);
        break;
    case 2:
        script_sleep(input_byte(input) * 64);
        (void)backend_release_step();
        break;
    case 3:
        (void)backend_retreat((size_t)input_byte(input) << 18);
        break;
    case 4:
        input_script(input);
        break;
    case 5:
        script_stop();
        break;
    case 6: {
        void *anywhere = (void *)(uintptr_t)input_number(input, 8);
        CHECK(pagemap_tag(anywhere) != 0 || !pagemap_has(anywhere) || large_size(anywhere) == 0 ||
              (uintptr_t)anywhere % RN_PAGE == 0);
        break;
    }
    default:
        if (what < 8) /* seldom: it looks at every GiB of the address space */
            check_all();
    }
}

static void give_all_back(void) {
    script_stop();
    for (struct block *block = blocks.block; block < blocks.block + BLOCKS; block++)
        if (block->start && is_large(block))
            large_give(block);
        else if (block->start)
            put(block, RN_MAX_BATCH);
    (void)middle_flush();
    check_all();
    CHECK(script_others_are_intact() && (backend_in_use() == 0 || script_losses() != 0));
    (void)backend_release(0, true);
    backend_check();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct input input = {data, data + size};
    memset(&blocks, 0, sizeof blocks);
    errno = 4711;
    for (unsigned i = 0; i < OPERATIONS_MOST && input_left(&input); i++) {
        unsigned what = input_byte(&input);
        struct block *block = &blocks.block[input_slot(&input, BLOCKS)];
        unsigned class_index = 1 + input_byte(&input) % (RN_CLASSES - 1);
        if (what < 48)
            on_all(&input, what);
        else if (what < 128 && block->start)
            on_block(&input, block, what);
        else if (what < 200)
            take(&input, class_index);
        else if (what < 216)
            take_exact(class_index);
        else
            large_new(&input);
        CHECK(errno == 4711);
    }
    give_all_back();
    return 0;
}
