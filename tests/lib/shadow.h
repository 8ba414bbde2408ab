/* shadow.h: a second, independent account of which bytes the program owns, kept in memory mapped by the test itself.
 *
 * Every usable byte of a live block is claimed in units of 8 bytes, in a bitmap per 4 KiB page found through a hash
 * table. A unit claimed twice means that the allocator gave out overlapping blocks; one unclaimed twice, that the test
 * is wrong. Claims are single atomic operations: threads, signal handlers and forked children may all use it.
 */
#ifndef TESTS_SHADOW_H
#define TESTS_SHADOW_H

#include <stddef.h>
#include <stdint.h>

/* Maps the tables. 0, or -1 when there is no memory. */
int shadow_init(void);

/* Both give the number of units found in the wrong state: 0 when all is well. `size` is rounded down to units. */
unsigned shadow_claim(const void *block, size_t size);
unsigned shadow_unclaim(const void *block, size_t size);

/* At a moment when the program owns nothing: gives the number of units still claimed, and forgets every address. */
size_t shadow_reset(void);

/* Writes a pattern derived from id over the block; is the block still as written? Large blocks are sampled: their edges
 * and the edges of each page. */
void shadow_fill(void *block, size_t size, uint64_t id);
int shadow_is_filled(const void *block, size_t size, uint64_t id);

/* A stream of pseudo-random numbers (splitmix64). */
static inline uint64_t shadow_random(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

#endif
