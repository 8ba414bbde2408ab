#include "base/random.h"

#include "base/attr.h"
#include "base/os.h"

enum { DOUBLE_ROUNDS = 4 };

static uint32_t rotate(uint32_t value, unsigned by) { return value << by | value >> (32 - by); }

/* RFC 8439, 2.1. */
static void quarter_round(uint32_t *s, unsigned a, unsigned b, unsigned c, unsigned d) {
    s[a] += s[b];
    s[d] = rotate(s[d] ^ s[a], 16);
    s[c] += s[d];
    s[b] = rotate(s[b] ^ s[c], 12);
    s[a] += s[b];
    s[d] = rotate(s[d] ^ s[a], 8);
    s[c] += s[d];
    s[b] = rotate(s[b] ^ s[c], 7);
}

/* RFC 8439, 2.3, with a counter of 64 bits and a nonce of 64, which is 0: no key serves two streams. */
static void make_block(struct random *random) {
    static const uint32_t constants[4] = {0x61707865, 0x3320646e, 0x79622d32, 0x6b206574};
    uint32_t start[RANDOM_BLOCK_WORDS] = {0};
    for (unsigned i = 0; i < 4; i++)
        start[i] = constants[i];
    for (unsigned i = 0; i < RANDOM_KEY_WORDS; i++)
        start[4 + i] = random->key[i];
    start[12] = (uint32_t)random->counter;
    start[13] = (uint32_t)(random->counter >> 32);
    uint32_t *s = random->block;
    for (unsigned i = 0; i < RANDOM_BLOCK_WORDS; i++)
        s[i] = start[i];
    for (unsigned i = 0; i < DOUBLE_ROUNDS; i++) {
        for (unsigned c = 0; c < 4; c++)
            quarter_round(s, c, 4 + c, 8 + c, 12 + c);
        for (unsigned c = 0; c < 4; c++)
            quarter_round(s, c, 4 + (c + 1) % 4, 8 + (c + 2) % 4, 12 + (c + 3) % 4);
    }
    for (unsigned i = 0; i < RANDOM_BLOCK_WORDS; i++)
        s[i] += start[i];
    random->counter++;
    random->left = RANDOM_BLOCK_WORDS;
}

void random_seed(struct random *random) {
    uint32_t fresh[RANDOM_KEY_WORDS];
    os_entropy(fresh, sizeof fresh);
    for (unsigned i = 0; i < RANDOM_KEY_WORDS; i++)
        random->key[i] ^= fresh[i];
    random->left = 0;
}

uint32_t random_next_word(struct random *random) {
    if (random->left == 0)
        make_block(random);
    return random->block[RANDOM_BLOCK_WORDS - random->left--];
}

uint32_t random_below(struct random *random, uint32_t bound) {
    RN_ASSERT(bound > 0);
    return (uint32_t)((uint64_t)random_next_word(random) * bound >> 32);
}
