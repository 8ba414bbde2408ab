/* histogram.c: quantiles of RnBench's histogram against exact ones, and the edges of its buckets. */
#include "../../rnbench/histogram.h"

#include <stdlib.h>
#include <string.h>

#include "../../rnbench/random.h"
#include "../lib/tap.h"

enum { VALUES = 100000 };

static struct histogram histogram;
static uint64_t values[VALUES];

static int compare(const void *left, const void *right) {
    uint64_t a, b;
    memcpy(&a, left, sizeof a);
    memcpy(&b, right, sizeof b);
    return (a > b) - (a < b);
}

/* Told values are at least the exact ones and at most a bucket's width above. */
static void check_quantiles(const char *name) {
    static const uint64_t per_million[] = {1, 10000, 500000, 900000, 990000, 999000, 999900, 1000000};
    memset(&histogram, 0, sizeof histogram);
    for (unsigned i = 0; i < VALUES; i++)
        histogram_add(&histogram, values[i]);
    qsort(values, VALUES, sizeof *values, compare);
    int close = 1;
    for (unsigned i = 0; i < sizeof per_million / sizeof *per_million; i++) {
        uint64_t rank = (VALUES * per_million[i] + 999999) / 1000000;
        uint64_t exact = values[rank ? rank - 1 : 0], told = histogram_quantile(&histogram, per_million[i]);
        close &= told >= exact && told <= exact + exact / 32;
    }
    OK(close, "%s: quantiles are exact to 1/32", name);
    OK(histogram.largest == values[VALUES - 1], "%s: the largest is exact", name);
    OK(histogram.total == VALUES, "%s: all are counted", name);
}

static void check_buckets(void) {
    int follows = 1, inside = 1;
    for (unsigned bucket = 0; bucket + 1 < HISTOGRAM_BUCKETS; bucket++) {
        follows &= histogram_bucket(histogram_upper(bucket)) == bucket;
        follows &= histogram_bucket(histogram_upper(bucket) + 1) == bucket + 1;
    }
    for (unsigned bit = 0; bit < 64; bit++)
        inside &= histogram_bucket((uint64_t)1 << bit) < HISTOGRAM_BUCKETS;
    OK(follows, "every bucket ends where the next begins");
    OK(inside, "every value has a bucket");
    OK(histogram_bucket(UINT64_MAX) == HISTOGRAM_BUCKETS - 1, "the largest value is in the last bucket");
}

static void check_merge(void) {
    static struct histogram other;
    memset(&histogram, 0, sizeof histogram);
    OK(histogram_quantile(&histogram, 500000) == 0, "no values: 0");
    histogram_add(&histogram, 10);
    histogram_add(&other, 1000);
    histogram_merge(&histogram, &other);
    OK(histogram.total == 2 && histogram.largest == 1000, "merged: count and largest");
    OK(histogram_quantile(&histogram, 500000) == 10 && histogram_quantile(&histogram, 1000000) == 1000,
       "merged: order");
}

int main(void) {
    uint64_t random = random_start(1, 0);
    check_buckets();
    check_merge();
    for (unsigned i = 0; i < VALUES; i++)
        values[i] = random_below(random_next(&random), 50);
    check_quantiles("small values");
    for (unsigned i = 0; i < VALUES; i++)
        values[i] = random_next(&random) >> 30;
    check_quantiles("uniform");
    for (unsigned i = 0; i < VALUES; i++)
        values[i] = random_next(&random) >> (17 + (random_next(&random) >> 59));
    check_quantiles("over many powers of two");
    for (unsigned i = 0; i < VALUES; i++)
        values[i] = i % 1000 ? 30 : 1000000 + i;
    check_quantiles("a long tail");
    return tap_done();
}
