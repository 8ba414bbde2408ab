/* sizes.c: random sizes, uniform or log-uniform (as many blocks between 16 and 32 bytes as between 4096 and 8192).
 *
 * Both are read from the inverse of the distribution function, as a table of knots with straight lines between them: a
 * draw is one load pair and a multiplication whatever the distribution. Between knots the log form differs from the
 * true curve by less than the rounding to whole bytes does for sizes below a few KiB.
 */
#include <math.h>

#include "rnbench.h"

enum { KNOT_BITS = 8, KNOTS = 1 << KNOT_BITS, FRACTION_BITS = 24 };

struct picker {
    uint64_t knot[KNOTS + 1]; /* knot[i]: the size below which i/KNOTS of the draws lie */
};

const struct picker *picker_new(uint64_t min, uint64_t max, enum distribution distribution) {
    struct picker *picker = table_new(sizeof *picker, true);
    double low = (double)min;
    double high = (double)max + 1; /* a draw rounds down, so this bound is never reached */
    for (int i = 0; i <= KNOTS; i++) {
        double part = (double)i / KNOTS;
        double knot = distribution == DISTRIBUTION_LOG ? low * pow(high / low, part) : low + (high - low) * part;
        picker->knot[i] = (uint64_t)(knot + 1e-6); /* pow may end a hair below a whole number */
    }
    return picker;
}

size_t picker_draw(const struct picker *picker, uint64_t bits) {
    bits >>= 64 - KNOT_BITS - FRACTION_BITS;
    const uint64_t *knot = &picker->knot[bits >> FRACTION_BITS];
    uint64_t fraction = bits & ((1u << FRACTION_BITS) - 1);
    return knot[0] + ((knot[1] - knot[0]) * fraction >> FRACTION_BITS);
}
