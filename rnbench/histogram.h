/* histogram.h: counts of values in buckets that are linear within a power of two and logarithmic over them.
 *
 * The idea is that of HdrHistogram (Tene): a bucket is never wider than 1/32 of its values, so a quantile is told to
 * about 3 %, over the whole range, in constant space and time.
 *
 *     value   0 .. 63             one bucket each
 *             64 .. 127           32 buckets of width 2
 *             2^k .. 2^(k+1)-1    32 buckets of width 2^(k-5)
 */
#ifndef RNBENCH_HISTOGRAM_H
#define RNBENCH_HISTOGRAM_H

#include <stdint.h>

enum {
    HISTOGRAM_BITS = 5,
    HISTOGRAM_TOP = 48,
    HISTOGRAM_BUCKETS = (HISTOGRAM_TOP - HISTOGRAM_BITS + 1) << HISTOGRAM_BITS
};

struct histogram {
    uint64_t total, largest;
    uint64_t count[HISTOGRAM_BUCKETS];
};

/* Values of 2^48 and more fall into the last bucket. */
static inline unsigned histogram_bucket(uint64_t value) {
    if (value < 2 << HISTOGRAM_BITS)
        return (unsigned)value;
    if (value >> HISTOGRAM_TOP)
        return HISTOGRAM_BUCKETS - 1;
    unsigned shift = 63 - (unsigned)__builtin_clzll(value) - HISTOGRAM_BITS;
    return (shift << HISTOGRAM_BITS) + (unsigned)(value >> shift);
}

/* The largest value that falls into a bucket. */
static inline uint64_t histogram_upper(unsigned bucket) {
    if (bucket < 2 << HISTOGRAM_BITS)
        return bucket;
    unsigned shift = (bucket >> HISTOGRAM_BITS) - 1;
    uint64_t mantissa = bucket - (shift << HISTOGRAM_BITS);
    return ((mantissa + 1) << shift) - 1;
}

static inline void histogram_add(struct histogram *histogram, uint64_t value) {
    histogram->count[histogram_bucket(value)]++;
    histogram->total++;
    if (value > histogram->largest)
        histogram->largest = value;
}

static inline void histogram_merge(struct histogram *into, const struct histogram *from) {
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
        into->count[i] += from->count[i];
    into->total += from->total;
    if (from->largest > into->largest)
        into->largest = from->largest;
}

/* The smallest bucket bound at or below which at least `per_million` of a million values lie; never above the largest
 * value. 0 for no values. */
static inline uint64_t histogram_quantile(const struct histogram *histogram, uint64_t per_million) {
    uint64_t need = (histogram->total * per_million + 999999) / 1000000, seen = 0;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += histogram->count[i];
        if (seen >= need && seen > 0) {
            uint64_t upper = histogram_upper(i);
            return upper < histogram->largest ? upper : histogram->largest;
        }
    }
    return histogram->largest;
}

#endif
