/* random.h: random numbers that cost about a nanosecond, so that a workload measures the allocator and not its dice.
 *
 * xorshift64* (Vigna, "An experimental exploration of Marsaglia's xorshift generators, scrambled", ACM TOMS 42, 2016);
 * seeds are spread by splitmix64's finisher, so that neighbouring seeds and threads get unrelated streams.
 */
#ifndef RNBENCH_RANDOM_H
#define RNBENCH_RANDOM_H

#include <stdint.h>

/* Advances *state, which must not be 0, and gives 64 bits; the high ones are the better ones. */
static inline uint64_t random_next(uint64_t *state) {
    uint64_t x = *state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *state = x;
    return x * 0x2545f4914f6cdd1dULL;
}

/* Maps the high 32 bits to 0..bound-1 without a division; bound is at most 2^32. */
static inline uint64_t random_below(uint64_t bits, uint64_t bound) { return (bits >> 32) * bound >> 32; }

/* A start state for stream number `stream` of `seed`; never 0. */
static inline uint64_t random_start(uint64_t seed, uint64_t stream) {
    uint64_t z = seed + (stream + 1) * 0x9e3779b97f4a7c15ULL;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    z ^= z >> 31;
    return z ? z : 1;
}

#endif
