/* rnbench.h: the benchmark's vocabulary.
 *
 *     main        parses, loads the allocator, runs one workload, prints
 *     options     the command line: one table, from which the help is made
 *     allocator   which functions are called, and the proof of whose they are
 *     workloads   the table of workloads; each is a file workload_NAME.c that exports one struct workload
 *     team        threads that start together, are timed, and hold what they have while the process is measured
 *     sizes       random sizes after a distribution
 *     measure     clock, resident memory, faults
 *     counters    instructions, cycles and misses, where the machine counts them
 *     latency     a layer around the allocator: the time of every call, in histograms
 *     check       a layer around the allocator: contents, overlap and alignment of every block
 *     report      the outcome as text or JSON
 *
 * The benchmark's own tables come from mmap, never from the allocator under test.
 */
#ifndef RNBENCH_H
#define RNBENCH_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { MAX_SIZES = 64, MAX_RESULTS = 32 };

enum mode { MODE_MIXED, MODE_ALLOC };
enum distribution { DISTRIBUTION_UNIFORM, DISTRIBUTION_LOG };
enum allocator_kind { ALLOCATOR_MALLOC, ALLOCATOR_GLIBC, ALLOCATOR_RNALLOC, ALLOCATOR_PRELOADED };

/* One bit per option that only some workloads take; struct workload.takes is made of these. */
enum {
    TAKES_SLOTS = 1 << 0,
    TAKES_ITERS = 1 << 1,
    TAKES_MODE = 1 << 2,
    TAKES_SIZES = 1 << 3,
    TAKES_TOUCH = 1 << 4,
    TAKES_ROUNDS = 1 << 5,
    TAKES_OBJECTS = 1 << 6,
    TAKES_RANGE = 1 << 7,
    TAKES_DISTRIBUTION = 1 << 8,
    TAKES_LIVE = 1 << 9,
    TAKES_SLEEP = 1 << 10,
    TAKES_EMPTY = 1 << 11,
    TAKES_DURATION = 1 << 12,
    TAKES_WRITES = 1 << 13,
    TAKES_STRIDE = 1 << 14,
    TAKES_PROGRAM = 1 << 15,
    TAKES_CALLS = 1 << 16, /* of the allocator: it can be checked and timed call by call */
};

/* What the command line said. All numbers are 64 bits wide, so that one table can fill them. */
struct options {
    uint64_t threads;
    uint64_t slots;
    uint64_t iters;
    uint64_t rounds;
    uint64_t objects;
    uint64_t min_size, max_size; /* bytes, both inclusive */
    uint64_t live;               /* bytes */
    uint64_t sleep;              /* seconds */
    uint64_t duration;           /* milliseconds, 0: by count */
    uint64_t writes;             /* per block, to each byte */
    uint64_t stride;             /* slots */
    uint64_t seed;
    uint64_t mode;                           /* enum mode */
    uint64_t distribution;                   /* enum distribution */
    uint64_t allocator;                      /* enum allocator_kind */
    uint64_t touch, empty, json, list, help; /* flags */
    uint64_t check, latency, counters;       /* flags */
    uint64_t sizes[MAX_SIZES];
    uint64_t size_count;
    const char *workload; /* name */
    bool workload_given;
    const char *library; /* path of librnalloc.so, or NULL */
    const char *preload; /* the text of --allocator NAME=PATH[,VARIABLE=VALUE...], or NULL */
    const char *program; /* what the workload start starts */
};

struct allocator {
    const char *name; /* "malloc", "rnalloc", or the name given to a preloaded one */
    void *(*alloc)(size_t size);
    void (*release)(void *block);
    void *(*resize)(void *block, size_t size); /* this and the next two: NULL where it has none of its own */
    void *(*zeroed)(size_t count, size_t size);
    void *(*aligned)(size_t alignment, size_t size);
    bool layered;          /* check or latency stand between: calls have to go through these pointers */
    char object[PATH_MAX]; /* the file that holds the code of `alloc`: the proof of which allocator is measured */
    const char *mode;      /* what rnMode() says where it is rnAlloc, else "" */
};

struct bench;
struct picker;
struct latency;

/* One thread of a team; only its own thread writes it while the team runs. Two cache lines, because CPUs prefetch in
 * pairs. */
struct bench_thread {
    struct bench *bench;
    unsigned index;
    uint64_t random;           /* state for random_next */
    uint64_t start_ns, end_ns; /* around the body */
    uint64_t ops;              /* steps of the workload */
    uint64_t allocs, frees;    /* calls in the body; what `finish` frees is not counted */
    struct latency *latency;   /* histograms of the calls, or NULL */
    double best;               /* for the workload's own use, as is all that follows */
    uint64_t peak_bytes, live_bytes, table_bytes;
    uint64_t count;
    void *table;
} __attribute__((aligned(128)));

/* What the kernel counted for the whole process. */
struct usage {
    uint64_t minor_faults, major_faults;
    uint64_t user_ns, system_ns;
    uint64_t waits, preemptions; /* voluntary and involuntary context switches */
};

struct result {
    const char *name; /* says the unit: ..._bytes, ns_per_..., ..._ratio */
    double value;
};

/* What the CPU counted in user mode while the bodies ran; -1: not counted. */
enum { COUNTER_INSTRUCTIONS, COUNTER_CYCLES, COUNTER_CACHE_MISSES, COUNTER_DTLB_MISSES, COUNTERS };

struct counters {
    int64_t value[COUNTERS];
    const char *reason; /* why something is not counted, or NULL */
};

/* What the check layer saw. */
struct checked {
    uint64_t blocks;                 /* verified when they were freed or resized */
    uint64_t live_bytes, peak_bytes; /* as requested */
};

/* One run of one workload. */
struct bench {
    struct options options;
    struct allocator allocator;
    const struct workload *workload;
    const struct picker *sizes; /* for workloads that take a range */
    struct bench_thread *threads;
    void **given;       /* what the main thread hands to the others, for the workload's own use */
    uint64_t total_ns;  /* from the first thread's start to the last one's end */
    struct usage usage; /* of the bodies */
    struct counters counters;
    struct checked checked;       /* when the bodies ended */
    uint64_t rss_before, rss_end; /* around the bodies; the first after what `prepare` made */
    uint64_t own_bytes;           /* of the benchmark's tables, resident while the bodies ran: no allocator's doing */
    int stop;                     /* set when --duration is over; read by bench_goes_on */
    struct result results[MAX_RESULTS];
    unsigned result_count;
};

struct workload {
    const char *name;
    const char *sentence; /* what it shows */
    const char *source;   /* where its shape was described */
    unsigned takes;       /* TAKES_... */
    struct options defaults;
    void (*run)(struct bench *bench);
};

/* options.c: fills *options or ends the process with one line and status 2. */
void options_parse(struct options *options, int argc, char **argv);
void options_help(const struct options *options); /* of one workload where that was given, with its defaults */

/* workloads.c: the table; NULL ends it. */
extern const struct workload *const workloads[];
const struct workload *workload_find(const char *name);

/* allocator.c: resolves the functions; ends the process where they cannot be had. For an allocator to be preloaded the
 * program is started anew, with `argv`. */
void allocator_load(struct allocator *allocator, const struct options *options, char **argv);

/* Whether the text names an allocator to preload: a known one, lineage:NAME, or NAME=/path/lib.so, each with settings.
 */
bool allocator_is_preload(const char *text);

/* For such a text. The first time it starts `argv` anew and does not come
 * back; then it gives the name, and in `path`, of PATH_MAX bytes, the file that malloc has to come from, which it does
 * not prove. */
const char *allocator_preload(const char *text, char **argv, char *path);

/* Stages of a team's work. `prepare` and `finish` are not timed. `pause` runs on the main thread after the last body
 * ended, while all threads still live and hold what they have. Each but `body` may be NULL. */
struct team_task {
    void (*prepare)(struct bench_thread *thread);
    void (*body)(struct bench_thread *thread);
    void (*pause)(struct bench *bench);
    void (*finish)(struct bench_thread *thread);
};

/* team.c: runs the task in options.threads threads and fills the timings. A team of one runs on the main thread, so
 * that a process with one thread stays one. */
void team_run(struct bench *bench, const struct team_task *task);

/* Times a body that runs in a thread of the workload's own: sets that thread up for the latency layer, and back. */
void team_enter(struct bench_thread *thread);
void team_leave(void);

/* The sum over the team of a uint64_t field of struct bench_thread, by its offset. */
uint64_t team_sum(const struct bench *bench, size_t offset);

/* sizes.c: a picker over min..max, both inclusive; lives until the process ends. */
const struct picker *picker_new(uint64_t min, uint64_t max, enum distribution distribution);
size_t picker_draw(const struct picker *picker, uint64_t bits);

/* counters.c: `open` before the threads exist, for they inherit; `start` and `stop` around the bodies. */
void counters_open(void);
void counters_start(void);
struct counters counters_stop(void);
extern const char *const counter_names[COUNTERS];

/* latency.c */
void latency_layer(struct allocator *allocator);
void latency_prepare(struct bench *bench); /* gives each thread its histograms */
void latency_enter(struct latency *latency);
void latency_text(const struct bench *bench);
void latency_json(const struct bench *bench);

/* check.c: a fault of the allocator ends the process with one line and status 1. */
void check_layer(struct allocator *allocator);
struct checked check_now(void);

/* measure.c */
uint64_t clock_ns(void);
uint64_t resident_bytes(void);      /* exact, now */
uint64_t peak_resident_bytes(void); /* of this program image; getrusage's would include what ran before exec */
struct usage usage_now(void);
struct usage usage_since(const struct usage *before);
void sleep_seconds(uint64_t seconds);

/* Zeroed memory from mmap; populated where `touched`, else backed as it is written. Ends the process where there is
 * none. */
void *table_new(size_t bytes, bool touched);
uint64_t table_bytes_touched(void); /* of all that were made so, freed or not */
void table_free(void *table, size_t bytes);

/* report.c */
void report_print(const struct bench *bench);
void report_result(struct bench *bench, const char *name, double value);
void report_per_operation(struct bench *bench); /* the usual one: ns_per_operation, of the total time */
void report_list(void);
void json_string(const char *text);                  /* with its quotes */
void json_text(const char *name, const char *value); /* "name": "value" and a comma */

/* main.c: "rnbench: " and the message on stderr, then exit status 2. Nothing has been written to stdout by then. */
void fail(const char *format, ...) __attribute__((noreturn, cold, format(printf, 1, 2)));

/* main.c: the same with status 1: not the user's mistake but the allocator's. */
void fault(const char *format, ...) __attribute__((noreturn, cold, format(printf, 1, 2)));

/* Whether a body has more to do: its count is not reached, nor its time over. */
static inline bool bench_goes_on(const struct bench *bench, uint64_t done, uint64_t count) {
    return done < count && !__atomic_load_n(&bench->stop, __ATOMIC_RELAXED);
}

/* Every byte of the block is written as a program would. Under --check the layer owns the contents. */
static inline void block_fill(const struct bench *bench, void *block, int value, size_t size) {
    if (!bench->options.check)
        memset(block, value, size);
}

/* Calls the allocator, or ends the process: a benchmark that goes on without memory measures nothing. */
static inline void *must_alloc(void *(*alloc)(size_t), size_t size) {
    void *block = alloc(size);
    if (__builtin_expect(!block, 0))
        fail("out of memory: the allocator gave NULL for %zu bytes", size);
    return block;
}

#endif
