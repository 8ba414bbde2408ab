/* fuzz.h: what the fuzz targets share. A target (TARGET.c) reads its input as a program of small operations, plays it
 * against a model, and aborts where the two differ. The same object files are driven by libFuzzer, by AFL++ and by
 * main.c, which replays stored inputs.
 *
 * A process plays one variant: a system or a mode that cannot be changed once the allocator has begun. Under libFuzzer
 * one process plays many inputs one after the other, so each ends with everything given back and the heap checked;
 * under AFL++ and in replays each input has a process of its own.
 */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/unit/check.h"
#include "tests/unit/script.h"

/* The target's variants, ended by NULL; the first is the default. FUZZ_VARIANT in the environment names another. */
extern const char *const fuzz_variants[];
/* Starts the variant; once in a process. */
void fuzz_begin(const char *variant);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* main.c and libFuzzer start the target with it: fuzz_begin of the variant that the environment names. */
int LLVMFuzzerInitialize(int *argc, char ***argv);

/* An input being read; behind its end there are zeros. */
struct input {
    const uint8_t *at, *end;
};

static inline bool input_left(const struct input *input) { return input->at < input->end; }

static inline unsigned input_byte(struct input *input) { return input->at < input->end ? *input->at++ : 0; }

/* Of `bytes` bytes, low ones first. */
static inline uint64_t input_number(struct input *input, unsigned bytes) {
    uint64_t value = 0;
    for (unsigned i = 0; i < bytes; i++)
        value |= (uint64_t)input_byte(input) << (8 * i);
    return value;
}

/* One of `most` slots (a power of two up to 256): mostly of the first few, so that inputs come back to what they made.
 */
static inline unsigned input_slot(struct input *input, unsigned most) {
    unsigned byte = input_byte(input);
    return byte < 208 ? byte % 16 : byte % most;
}

/* A size in bytes, small ones most often, `most` at most. */
size_t input_size(struct input *input, size_t most);

/* Puts a script in force that the input writes, on the system that system_begin made. */
void input_script(struct input *input);

/* The systems among the variants: "plain", "strict" (overcommit 2), "limited" (RLIMIT_AS), "pages" (of 64 KiB),
 * "unmaps" and "loses" (what a failing mremap does; script.h). Calls os_init under it. */
void system_begin(const char *variant);

/* Blocks in the program's hands: where they are, and a stamp that is written all over them. */
struct block {
    char *start; /* NULL: none */
    size_t size;
    uint64_t stamp;
};

enum { BLOCKS = 256 };

struct blocks {
    struct block block[BLOCKS];
    size_t bytes;
    uint64_t stamps;
};

/* A slot without a block; NULL if there is none. */
struct block *block_free_slot(struct blocks *blocks);
/* The block becomes the slot's: checks that it overlaps no other, and stamps it. */
void block_own(struct blocks *blocks, struct block *block, void *start, size_t size);
/* Checks the contents; the slot is free then. Returns the block. */
void *block_disown(struct blocks *blocks, struct block *block);
/* The first `size` bytes are as block_own left them, wherever they are now. */
void block_check_at(const struct block *block, const char *start, size_t size);
/* All of it is zero. */
void block_check_zero(const char *start, size_t size);

#endif
