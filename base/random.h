/* random.h: random numbers that one who sees some of them cannot continue: ChaCha with 8 rounds (RFC 8439 describes it
 * with 20), keyed by the kernel. For the choices of hardened mode. A state belongs to whoever holds its lock. */
#ifndef BASE_RANDOM_H
#define BASE_RANDOM_H

#include <stdint.h>

enum { RANDOM_KEY_WORDS = 8, RANDOM_BLOCK_WORDS = 16 };

struct random {
    uint32_t key[RANDOM_KEY_WORDS];
    uint64_t counter; /* of blocks made */
    uint32_t block[RANDOM_BLOCK_WORDS];
    uint32_t left; /* words of the block that were not given out yet */
};

/* Takes a new key from the kernel, and mixes in the old one. A state of zeros is a state without a key. */
void random_seed(struct random *random);

/* 0 <= number < bound, all equally likely but for a share of bound / 2^32; bound > 0. */
uint32_t random_below(struct random *random, uint32_t bound);

/* The next 32 bits. */
uint32_t random_next_word(struct random *random);

#endif
