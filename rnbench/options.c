/* options.c: the command line. Everything that is said about an option stands in one row of one table. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rnbench.h"

enum kind { KIND_FLAG, KIND_COUNT, KIND_BYTES, KIND_CHOICE, KIND_SIZES, KIND_TEXT, KIND_SECONDS, KIND_ALLOCATOR };

struct row {
    const char *name;
    const char *value; /* what the help calls it; for a choice, the words themselves; NULL for a flag */
    enum kind kind;
    unsigned takes; /* TAKES_... that a workload must have, 0: every workload */
    size_t offset;  /* in struct options */
    uint64_t min, max;
    const char *help;
};

#define FIELD(name) offsetof(struct options, name)
#define GIB ((uint64_t)1 << 30)

static const struct row rows[] = {
    {"workload", "NAME", KIND_TEXT, 0, FIELD(workload), 0, 0, "what to run (default slots; see --list)"},
    {"list", NULL, KIND_FLAG, 0, FIELD(list), 0, 1, "list the workloads"},
    {"threads", "N", KIND_COUNT, 0, FIELD(threads), 1, 10000, "number of threads"},
    {"slots", "S", KIND_COUNT, TAKES_SLOTS, FIELD(slots), 1, 1000000000, "slots per thread (and per size)"},
    {"iters", "I", KIND_COUNT, TAKES_ITERS, FIELD(iters), 1, (uint64_t)1 << 60, "iterations per thread"},
    {"duration", "SECONDS", KIND_SECONDS, TAKES_DURATION, FIELD(duration), 1, 86400000,
     "run so long, not by count (1.5 is allowed)"},
    {"mode", "mixed|alloc", KIND_CHOICE, TAKES_MODE, FIELD(mode), 0, 0,
     "mixed: allocate and free; alloc: free at the end"},
    {"sizes", "A,B,...", KIND_SIZES, TAKES_SIZES, FIELD(sizes), 1, 16 * GIB, "block sizes in bytes"},
    {"min-size", "BYTES", KIND_BYTES, TAKES_RANGE, FIELD(min_size), 1, 16 * GIB, "smallest block"},
    {"max-size", "BYTES", KIND_BYTES, TAKES_RANGE, FIELD(max_size), 1, 16 * GIB, "largest block"},
    {"distribution", "uniform|log", KIND_CHOICE, TAKES_DISTRIBUTION, FIELD(distribution), 0, 0, "how sizes are spread"},
    {"objects", "N", KIND_COUNT, TAKES_OBJECTS, FIELD(objects), 1, 1000000000, "blocks that a thread holds"},
    {"rounds", "R", KIND_COUNT, TAKES_ROUNDS, FIELD(rounds), 1, (uint64_t)1 << 40, "times that it happens"},
    {"live", "BYTES", KIND_BYTES, TAKES_LIVE, FIELD(live), 1 << 20, (uint64_t)1 << 42,
     "bytes that the threads hold together"},
    {"sleep", "SECONDS", KIND_COUNT, TAKES_SLEEP, FIELD(sleep), 0, 86400, "wait before resident memory is read"},
    {"writes", "N", KIND_COUNT, TAKES_WRITES, FIELD(writes), 1, 1000000000,
     "times that each byte of a block is written"},
    {"stride", "S", KIND_COUNT, TAKES_STRIDE, FIELD(stride), 1, 1000000000, "slots from one free to the next"},
    {"program", "PATH", KIND_TEXT, TAKES_PROGRAM, FIELD(program), 0, 0, "what is started (default /bin/true)"},
    {"empty", NULL, KIND_FLAG, TAKES_EMPTY, FIELD(empty), 0, 1, "the same threads, but they allocate nothing"},
    {"touch", NULL, KIND_FLAG, TAKES_TOUCH, FIELD(touch), 0, 1, "write every byte of each block"},
    {"check", NULL, KIND_FLAG, TAKES_CALLS, FIELD(check), 0, 1,
     "verify contents, overlap and alignment of every block; tells live bytes"},
    {"latency", NULL, KIND_FLAG, TAKES_CALLS, FIELD(latency), 0, 1, "time every call; p50 to p99.99 and the longest"},
    {"counters", NULL, KIND_FLAG, 0, FIELD(counters), 0, 1, "instructions, cycles, cache and dTLB misses (perf)"},
    {"allocator", "NAME", KIND_ALLOCATOR, 0, FIELD(allocator), 0, 0,
     "malloc: whatever is loaded; rnalloc: rnAlloc and rnFree;\n"
     "                               glibc, jemalloc, tcmalloc, mimalloc: Debian's, preloaded;\n"
     "                               NAME=/path/lib.so[,VARIABLE=VALUE...]: that library, preloaded;\n"
     "                               lineage:NAME: one of rnbench/lineage (make lineage)"},
    {"library", "PATH", KIND_TEXT, 0, FIELD(library), 0, 0, "librnalloc.so for rnalloc (default: beside rnbench)"},
    {"seed", "K", KIND_COUNT, 0, FIELD(seed), 0, UINT64_MAX, "start of the random numbers (default 1)"},
    {"json", NULL, KIND_FLAG, 0, FIELD(json), 0, 1, "one JSON object instead of text"},
    {"help", NULL, KIND_FLAG, 0, FIELD(help), 0, 1, "this text"},
};

enum { ROWS = sizeof rows / sizeof *rows };

static uint64_t *number_at(struct options *options, size_t offset) {
    return (uint64_t *)(void *)((char *)options + offset);
}

/* Reads digits with an optional K, M or G (powers of 1024) up to `end`'s character. False: not a number, or too big for
 * one. */
static bool read_number(const char *text, char **end, uint64_t *value) {
    if (*text < '0' || *text > '9') /* strtoull would take a sign, and turn -1 into the largest number */
        return false;
    errno = 0;
    uint64_t number = strtoull(text, end, 10);
    static const char suffixes[] = "KMG";
    const char *suffix = **end ? strchr(suffixes, **end) : NULL;
    unsigned shift = 0;
    if (suffix) {
        shift = 10 * (unsigned)(suffix - suffixes + 1);
        ++*end;
    }
    *value = number << shift;
    return errno == 0 && *value >> shift == number;
}

static uint64_t parse_number(const struct row *row, const char *text) {
    char *end;
    uint64_t value;
    if (!read_number(text, &end, &value) || *end)
        fail("--%s: \"%s\" is not a number", row->name, text);
    if (value < row->min || value > row->max)
        fail("--%s: %s is not in %llu..%llu", row->name, text, (unsigned long long)row->min,
             (unsigned long long)row->max);
    return value;
}

static void parse_sizes(struct options *options, const struct row *row, const char *text) {
    options->size_count = 0;
    for (const char *rest = text;; rest++) {
        char *end;
        uint64_t value;
        if (!read_number(rest, &end, &value) || (*end && *end != ','))
            fail("--%s: \"%s\" is not a list of sizes such as 16,64,128,256", row->name, text);
        if (value < row->min || value > row->max)
            fail("--%s: a size in \"%s\" is not in %llu..%llu", row->name, text, (unsigned long long)row->min,
                 (unsigned long long)row->max);
        if (options->size_count == MAX_SIZES)
            fail("--%s: more than %d sizes", row->name, MAX_SIZES);
        options->sizes[options->size_count++] = value;
        rest = end;
        if (!*rest)
            return;
    }
}

/* The position of `text` among the words of "a|b|c". */
static uint64_t parse_choice(const struct row *row, const char *text) {
    size_t length = strlen(text);
    uint64_t position = 0;
    for (const char *word = row->value;; position++) {
        const char *bar = strchrnul(word, '|');
        if ((size_t)(bar - word) == length && memcmp(word, text, length) == 0)
            return position;
        if (!*bar)
            fail("--%s: \"%s\" is none of %s", row->name, text, row->value);
        word = bar + 1;
    }
}

/* Seconds with up to three decimals, as milliseconds. */
static uint64_t parse_seconds(const struct row *row, const char *text) {
    char *end = NULL;
    errno = 0;
    double seconds = *text && strspn(text, "0123456789.") == strlen(text) ? strtod(text, &end) : -1;
    if (seconds < 0 || !end || *end || errno)
        fail("--%s: \"%s\" is not a number of seconds", row->name, text);
    if (seconds * 1000 < (double)row->min || seconds * 1000 > (double)row->max)
        fail("--%s: %s is not in %g..%g", row->name, text, (double)row->min / 1000, (double)row->max / 1000);
    return (uint64_t)(seconds * 1000 + 0.5);
}

static void parse_allocator(struct options *options, const struct row *row, const char *text) {
    if (strcmp(text, "malloc") == 0)
        options->allocator = ALLOCATOR_MALLOC;
    else if (strcmp(text, "rnalloc") == 0)
        options->allocator = ALLOCATOR_RNALLOC;
    else if (strcmp(text, "glibc") == 0)
        options->allocator = ALLOCATOR_GLIBC;
    else if (allocator_is_preload(text))
        options->allocator = ALLOCATOR_PRELOADED;
    else
        fail(
            "--%s: \"%s\" is none of malloc, rnalloc, glibc, jemalloc, tcmalloc, mimalloc, lineage:NAME, "
            "NAME=/path/lib.so[,VARIABLE=VALUE...]",
            row->name, text);
    options->preload = text;
}

static void parse_value(struct options *options, const struct row *row, const char *text) {
    switch (row->kind) {
    case KIND_FLAG:
        *number_at(options, row->offset) = 1;
        break;
    case KIND_COUNT:
    case KIND_BYTES:
        *number_at(options, row->offset) = parse_number(row, text);
        break;
    case KIND_CHOICE:
        *number_at(options, row->offset) = parse_choice(row, text);
        break;
    case KIND_SIZES:
        parse_sizes(options, row, text);
        break;
    case KIND_SECONDS:
        *number_at(options, row->offset) = parse_seconds(row, text);
        break;
    case KIND_ALLOCATOR:
        parse_allocator(options, row, text);
        break;
    case KIND_TEXT:
        if (!*text)
            fail("--%s: empty", row->name);
        memcpy((char *)options + row->offset, &text, sizeof text);
        break;
    }
}

/* Finds the row of argv[*index] and its value, in the form --name=value or --name value; moves *index past the value.
 */
static const struct row *next_option(int argc, char **argv, int *index, const char **value) {
    const char *word = argv[*index];
    if (strncmp(word, "--", 2) != 0)
        fail("\"%s\" is not an option (see --help)", word);
    const char *name = word + 2;
    const char *equals = strchrnul(name, '=');
    for (const struct row *row = rows; row < rows + ROWS; row++) {
        if (strlen(row->name) != (size_t)(equals - name) || strncmp(row->name, name, (size_t)(equals - name)) != 0)
            continue;
        if (!row->value) {
            if (*equals)
                fail("--%s takes no value", row->name);
            *value = "";
        } else if (*equals) {
            *value = equals + 1;
        } else {
            if (*index + 1 >= argc)
                fail("--%s needs a value: %s", row->name, row->value);
            *value = argv[++*index];
        }
        return row;
    }
    fail("unknown option \"%.*s\" (see --help)", (int)(equals - word), word);
}

/* The workload decides on the defaults, and a duration on what the counts are without a word on them; so both are
 * looked for before anything is filled in. */
static const struct workload *fill_defaults(struct options *options, int argc, char **argv) {
    enum { ENDLESS = 60 };
    const char *name = workloads[0]->name;
    const char *value;
    bool endless = false, given = false;
    for (int i = 1; i < argc; i++) {
        size_t offset = next_option(argc, argv, &i, &value)->offset;
        if (offset == FIELD(workload)) {
            name = value;
            given = true;
        }
        endless |= offset == FIELD(duration);
    }
    const struct workload *workload = workload_find(name);
    if (!workload)
        fail("unknown workload \"%s\" (see --list)", name);
    *options = workload->defaults;
    options->workload = workload->name;
    options->workload_given = given;
    options->seed = 1;
    if (endless && (workload->takes & TAKES_ROUNDS))
        options->rounds = 1ULL << ENDLESS;
    else if (endless)
        options->iters = 1ULL << ENDLESS;
    return workload;
}

static void need_sense(const struct options *options) {
    if (options->min_size > options->max_size)
        fail("--min-size: %llu is above --max-size %llu", (unsigned long long)options->min_size,
             (unsigned long long)options->max_size);
    if (options->library && options->allocator != ALLOCATOR_RNALLOC)
        fail("--library is for --allocator rnalloc (use NAME=PATH, or LD_PRELOAD, to change malloc)");
    if (options->check && options->latency)
        fail("--check and --latency do not go together: the check would be timed");
}

void options_parse(struct options *options, int argc, char **argv) {
    const struct workload *workload = fill_defaults(options, argc, argv);
    for (int i = 1; i < argc; i++) {
        const char *value;
        const struct row *row = next_option(argc, argv, &i, &value);
        if (row->takes && !(workload->takes & row->takes))
            fail("--%s: the workload %s does not take it", row->name, workload->name);
        if (row->offset != FIELD(workload))
            parse_value(options, row, value);
    }
    need_sense(options);
}

/* What the row has without a word on it; nothing where that is 0 or said already. */
static void print_default(const struct options *options, const struct row *row) {
    uint64_t value;
    memcpy(&value, (const char *)options + row->offset, sizeof value);
    if (row->kind == KIND_SIZES) {
        for (unsigned i = 0; i < options->size_count; i++)
            printf("%s%llu", i ? "," : " (default ", (unsigned long long)options->sizes[i]);
        printf(")");
    } else if (row->kind == KIND_COUNT || row->kind == KIND_BYTES) {
        if (value && row->offset != FIELD(seed))
            printf(" (default %llu)", (unsigned long long)value);
    } else if (row->kind == KIND_CHOICE) {
        const char *word = row->value;
        for (; value > 0; value--)
            word = strchr(word, '|') + 1;
        printf(" (default %.*s)", (int)strcspn(word, "|"), word);
    }
}

void options_help(const struct options *options) {
    const struct workload *workload = options->workload_given ? workload_find(options->workload) : NULL;
    printf(
        "rnbench: a benchmark of memory allocators\n\n"
        "usage: rnbench --threads N --slots S --iters I [options]\n"
        "       rnbench --workload NAME [options]          (--workload NAME --help: what it takes, and its defaults)\n"
        "       rnbench record -o FILE [--] PROGRAM ...    (rnbench record --help)\n"
        "       rnbench replay [options] FILE...           (rnbench replay --help)\n\n"
        "Numbers may end in K, M or G (powers of 1024).\n\n");
    if (workload)
        printf("%s: %s\nsource: %s\n\n", workload->name, workload->sentence, workload->source);
    for (const struct row *row = rows; row < rows + ROWS; row++) {
        char left[64];
        if (workload && row->takes && !(workload->takes & row->takes))
            continue;
        snprintf(left, sizeof left, "--%s%s%s", row->name, row->value ? " " : "", row->value ? row->value : "");
        printf("  %-28s %s", left, row->help);
        if (workload)
            print_default(options, row);
        printf("\n");
    }
    printf(
        "\nExit status: 0; 2 with one line on stderr; 1 with one line where --check found a fault of the allocator.\n");
}
