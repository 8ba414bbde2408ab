/* common.c: see fuzz.h. */
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

size_t input_size(struct input *input, size_t most) {
    unsigned kind = input_byte(input);
    size_t size = kind < 128   ? input_number(input, 1) << kind % 3
                  : kind < 208 ? input_number(input, 2)
                  : kind < 248 ? input_number(input, 3) % (1 << 20)
                               : input_number(input, 3) % (8 << 20);
    return size <= most ? size : size % (most + 1);
}

/* ---- Blocks ---- */

enum { DENSE = 512, EDGE = 64, STRIDE = 8192 };

static uint8_t stamp_byte(uint64_t stamp, size_t at) { return (uint8_t)(stamp >> at % 8 * 8 ^ at); }

/* The bytes that are looked at: all of a small block; of others the beginning, and the edges of each stride. */
static size_t next_byte(size_t at) {
    at++;
    return at >= DENSE && at % STRIDE == EDGE ? at + STRIDE - 2 * EDGE : at;
}

static void stamp_all(const struct block *block) {
    for (size_t at = 0; at < block->size; at = next_byte(at))
        block->start[at] = (char)stamp_byte(block->stamp, at);
    block->start[block->size - 1] = (char)stamp_byte(block->stamp, block->size - 1);
}

void block_check_at(const struct block *block, const char *start, size_t size) {
    for (size_t at = 0; at < size; at = next_byte(at))
        CHECK(start[at] == (char)stamp_byte(block->stamp, at));
    if (size == block->size)
        CHECK(start[size - 1] == (char)stamp_byte(block->stamp, size - 1));
}

void block_check_zero(const char *start, size_t size) {
    for (size_t at = 0; at < size; at = next_byte(at))
        CHECK(start[at] == 0);
    CHECK(size == 0 || start[size - 1] == 0);
}

struct block *block_free_slot(struct blocks *blocks) {
    for (struct block *block = blocks->block; block < blocks->block + BLOCKS; block++)
        if (!block->start)
            return block;
    return NULL;
}

void block_own(struct blocks *blocks, struct block *block, void *start, size_t size) {
    CHECK(start && size && !block->start);
    uintptr_t first = (uintptr_t)start;
    for (const struct block *other = blocks->block; other < blocks->block + BLOCKS; other++)
        CHECK(!other->start || first + size <= (uintptr_t)other->start ||
              (uintptr_t)other->start + other->size <= first);
    *block = (struct block){start, size, random_next(&blocks->stamps)};
    blocks->bytes += size;
    stamp_all(block);
}

void *block_disown(struct blocks *blocks, struct block *block) {
    void *start = block->start;
    block_check_at(block, start, block->size);
    blocks->bytes -= block->size;
    block->start = NULL;
    return start;
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc;
    (void)argv;
    const char *wanted = getenv("FUZZ_VARIANT");
    for (int i = 0; fuzz_variants[i]; i++)
        if (!wanted || strcmp(wanted, fuzz_variants[i]) == 0) {
            fuzz_begin(fuzz_variants[i]);
            return 0;
        }
    CHECK(!"FUZZ_VARIANT names a variant of this target");
    return 0;
}
