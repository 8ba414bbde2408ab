/* api.c: calls of the library's own names in any order, on several threads' worth of pools (threads.h), against a
 * shadow of what is in the program's hands; while calls to the system fail where the input says. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backend/backend.h"
#include "frontend/frontend.h"
#include "rnalloc.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/threads.h"

const char *const fuzz_variants[] = {"cid", "cpu", "thread", "strict", "limited", "pages", "unmaps", "hardened", NULL};

enum { OPERATIONS_MOST = 300, BYTES_MOST = 20 << 20, SIZE_MOST = 3 << 20, BATCH = 40 };

static struct blocks blocks;
static bool is_hardened; /* whose blocks are neither in pools nor in the middle tier */

void fuzz_begin(const char *variant) {
    const char *options = strcmp(variant, "cpu") == 0        ? "helper=0,cid=0,pool_kib=64"
                          : strcmp(variant, "thread") == 0   ? "helper=0,rseq=0,retain_mib=0"
                          : strcmp(variant, "hardened") == 0 ? "helper=0,hardened=1"
                                                             : "helper=0";
    is_hardened = strcmp(variant, "hardened") == 0;
    CHECK(setenv("RNALLOC_OPTIONS", options, 1) == 0);
    system_begin(variant);
    rnFree(rnAlloc(1));
    actors_begin();
    script_stop();
}

/* Refused only while calls fail, and then with ENOMEM. Sizes here are possible ones. */
static bool is_given(const void *start) {
    CHECK(start || (errno == ENOMEM && script_failures() != 0));
    return start != NULL;
}

static void own(void *start, size_t size, size_t alignment) {
    struct block *slot = block_free_slot(&blocks);
    size_t usable = rnUsableSize(start);
    CHECK(usable >= size && (uintptr_t)start % alignment == 0 && (uintptr_t)start % (size > 8 ? 16 : 8) == 0);
    if (slot && usable)
        block_own(&blocks, slot, start, usable);
    else
        rnFree(start); /* hardened: of no bytes none may be used */
}

static void new_aligned(struct input *input, size_t size) {
    unsigned shift = input_byte(input) % 64;
    size_t alignment = (size_t)1 << shift;
    void *start = rnAllocAligned(alignment, size);
    if (start)
        own(start, size, alignment);
    else
        CHECK(errno == ENOMEM && (shift > 28 || script_failures() != 0));
    errno = 0;
    CHECK(rnAllocAligned(alignment | (alignment > 4 ? 3 : 8 + alignment), size) == NULL && errno == EINVAL);
}

static void new_batch(struct input *input, size_t size) {
    void *starts[BATCH];
    size_t wanted = input_byte(input) % (BATCH + 1);
    size %= 40000;
    size_t got = rnAllocBatch(size, starts, wanted);
    CHECK(got == wanted || (got < wanted && errno == ENOMEM && script_failures() != 0));
    for (size_t i = 0; i < got; i++)
        own(starts[i], size, 1);
}

static void new_block(struct input *input, unsigned what) {
    size_t size = input_size(input, SIZE_MOST);
    if (blocks.bytes > BYTES_MOST)
        return;
    errno = 0;
    if (what % 8 == 0) {
        new_aligned(input, size);
    } else if (what % 8 == 1) {
        new_batch(input, size);
    } else if (what % 8 == 2) {
        size_t count = 1 + input_byte(input) % 7;
        char *start = rnCalloc(count, size / count);
        if (is_given(start)) {
            block_check_zero(start, count * (size / count));
            own(start, count * (size / count), 1);
        }
    } else if (what % 8 == 3) {
        struct rn_sized_block sized = rnAllocSized(size);
        if (is_given(sized.block)) {
            CHECK(sized.size == rnUsableSize(sized.block));
            own(sized.block, size, 1);
        }
    } else if (what % 8 == 4) {
        void *start = rnRealloc(NULL, size);
        if (is_given(start))
            own(start, size, 1);
    } else {
        void *start = rnAlloc(size);
        if (is_given(start)) {
            CHECK(rnUsableSize(start) >= rnGoodSize(size));
            own(start, size, 1);
        }
    }
}

static void resize(struct input *input, struct block *block) {
    struct block before = *block;
    size_t size = input_size(input, SIZE_MOST);
    errno = 0;
    char *start = rnRealloc(block->start, size);
    if (size != 0 && !is_given(start)) {
        CHECK(rnUsableSize(before.start) == before.size);
        block_check_at(&before, before.start, before.size);
        return;
    }
    CHECK(size != 0 || !start);
    blocks.bytes -= before.size;
    block->start = NULL;
    if (!start)
        return;
    size_t usable = rnUsableSize(start);
    CHECK(usable >= size && (uintptr_t)start % (size > 8 ? 16 : 8) == 0);
    block_check_at(&before, start, size < before.size ? size : before.size);
    block_own(&blocks, block, start, usable);
}

static void free_batch(struct block *first, size_t count) {
    void *starts[BATCH];
    for (size_t i = 0; i < count; i++)
        starts[i] = first + i < blocks.block + BLOCKS && first[i].start ? block_disown(&blocks, first + i) : NULL;
    rnFreeBatch(starts, count);
}

static void free_sized_block(struct block *block) {
    size_t size = block->size;
    rnFreeSized(block_disown(&blocks, block), size);
}

static void on_block(struct input *input, struct block *block, unsigned what) {
    if (what % 8 < 3) {
        resize(input, block);
        return;
    }
    errno = 4711;
    if (what % 8 == 3)
        free_batch(block, input_byte(input) % (BATCH + 1));
    else if (what % 8 == 4)
        free_sized_block(block);
    else
        rnFree(block_disown(&blocks, block));
    CHECK(errno == 4711);
}

/* What no system has. */
static void absurd(struct input *input, struct block *block) {
    size_t size = SIZE_MAX >> input_byte(input) % 16, product;
    size_t count = input_number(input, 8), each = input_number(input, 8);
    errno = 0;
    CHECK(rnAlloc(size) == NULL && errno == ENOMEM);
    errno = 0;
    CHECK(rnAllocAligned((size_t)1 << input_byte(input) % 64, size) == NULL && errno == ENOMEM);
    errno = 0;
    if (__builtin_mul_overflow(count, each, &product))
        CHECK(rnCalloc(count, each) == NULL && errno == ENOMEM);
    errno = 0;
    CHECK(!block->start || (rnRealloc(block->start, size) == NULL && errno == ENOMEM));
    CHECK(rnUsableSize(NULL) == 0 && (size <= PTRDIFF_MAX || rnGoodSize(size) == 0));
    rnFree(NULL);
}

static void check_all(void) {
    struct rn_stats stats;
    rnStats(&stats);
    CHECK(stats.in_use >= blocks.bytes && stats.committed <= stats.reserved && stats.large_in_use <= stats.in_use);
    CHECK(is_hardened || stats.in_use + stats.pool_free + stats.transfer_free + stats.span_free == backend_in_use());
    pools_check();
    heap_check();
}

static void on_all(struct input *input, unsigned what) {
    switch (what % 8) {
    case 0:
        (void)rnReleaseMemory(input_number(input, 2) << 8);
        break;
    case 1:
        (void)pools_drain(what & 8);
        break;
    case 2:
        script_sleep(input_byte(input) * 64);
        break;
    case 3:
        (void)middle_flush();
        break;
    case 4:
        input_script(input);
        break;
    case 5:
        script_stop();
        break;
    case 6:
        (void)(what & 8 ? backend_retreat(0) : 0);
        absurd(input, &blocks.block[input_slot(input, BLOCKS)]);
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
        if (what < 40)
            on_all(&input, what);
        else if (what < 64)
            actor_switch(input_byte(&input) % ACTORS);
        else if (what < 160 && block->start)
            on_block(&input, block, what);
        else
            new_block(&input, what);
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
