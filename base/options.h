/* options.h: the run-time options: one table, set by RNALLOC_OPTIONS="name=value,..." at the first use of the library.
 */
#ifndef BASE_OPTIONS_H
#define BASE_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

enum option {
    OPT_ARM64_RSEQ,
    OPT_CID,
    OPT_DEEPBIND,
    OPT_HARDENED,
    OPT_HELPER,
    OPT_HELPER_MIN_MIB,
    OPT_HUGEPAGES,
    OPT_HUGETLB,
    OPT_POOL_KIB,
    OPT_RELEASE,
    OPT_RETAIN_MIB,
    OPT_RSEQ,
    OPT_STATS,
    OPT_COUNT
};

struct option_row {
    const char *name;
    size_t min, max, fallback; /* range and default */
    const char *meaning;
};
extern const struct option_row option_table[OPT_COUNT];

/* The value in force. Constant after options_parse. */
size_t option_get(enum option option);

/* Reads `text` (NULL: nothing to do), reporting each bad entry in a line on stderr and keeping its default. "help"
 * prints the table to stderr. */
void options_parse(const char *text);

#endif
