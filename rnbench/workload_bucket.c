/* workload_bucket.c: buckets of small blocks, some emptied last in, first out, some first in, first out.
 *
 * Each thread keeps a few buckets. A round draws one, empties it in one of the two orders, and fills it again with a
 * random number of blocks of one random size. So blocks of one size come in runs, as from a program that builds one
 * structure after the other, and runs of different age lie beside each other.
 */
#include "random.h"
#include "rnbench.h"

enum { BUCKETS = 16 };

struct bucket {
    uint64_t count;
    void **blocks;
};

static size_t bucket_bytes(const struct options *options) {
    return BUCKETS * (sizeof(struct bucket) + options->objects * sizeof(void *));
}

static void bucket_prepare(struct bench_thread *thread) {
    const struct options *options = &thread->bench->options;
    struct bucket *buckets = thread->table = table_new(bucket_bytes(options), true);
    void **blocks = (void **)(buckets + BUCKETS);
    for (unsigned i = 0; i < BUCKETS; i++)
        buckets[i].blocks = blocks + i * options->objects;
}

static void empty(struct bench_thread *thread, struct bucket *bucket, bool last_first) {
    void (*release)(void *) = thread->bench->allocator.release;
    for (uint64_t i = 0; i < bucket->count; i++)
        release(bucket->blocks[last_first ? bucket->count - 1 - i : i]);
    thread->frees += bucket->count;
    bucket->count = 0;
}

static void fill(struct bench_thread *thread, struct bucket *bucket, uint64_t *random) {
    const struct bench *bench = thread->bench;
    uint64_t count = 1 + random_below(random_next(random), bench->options.objects);
    size_t size = picker_draw(bench->sizes, random_next(random));
    for (uint64_t i = 0; i < count; i++) {
        bucket->blocks[i] = must_alloc(bench->allocator.alloc, size);
        if (bench->options.touch)
            block_fill(bench, bucket->blocks[i], (int)i, size);
    }
    bucket->count = count;
    thread->allocs += count;
}

static void bucket_body(struct bench_thread *thread) {
    struct bucket *buckets = thread->table;
    uint64_t random = thread->random;
    for (uint64_t round = 0; bench_goes_on(thread->bench, round, thread->bench->options.rounds); round++) {
        uint64_t bits = random_next(&random);
        struct bucket *bucket = &buckets[random_below(bits, BUCKETS)];
        empty(thread, bucket, bits & 0x10000);
        fill(thread, bucket, &random);
    }
    thread->ops = thread->allocs + thread->frees;
}

static void bucket_finish(struct bench_thread *thread) {
    struct bucket *buckets = thread->table;
    uint64_t frees = thread->frees;
    for (unsigned i = 0; i < BUCKETS; i++)
        empty(thread, &buckets[i], true);
    thread->frees = frees;
    table_free(buckets, bucket_bytes(&thread->bench->options));
}

static void bucket_run(struct bench *bench) {
    static const struct team_task task = {.prepare = bucket_prepare, .body = bucket_body, .finish = bucket_finish};
    team_run(bench, &task);
    report_per_operation(bench);
}

const struct workload workload_bucket = {
    .name = "bucket",
    .sentence = "buckets of equal small blocks, emptied partly last in first out, partly first in first out",
    .source = "the shape of MicroQuill's SmartHeap tests (sh6bench), as described in mimalloc-bench",
    .takes = TAKES_OBJECTS | TAKES_ROUNDS | TAKES_RANGE | TAKES_DISTRIBUTION | TAKES_TOUCH | TAKES_DURATION |
             TAKES_CALLS,
    .defaults = {.threads = 2,
                 .objects = 1000,
                 .rounds = 4000,
                 .min_size = 8,
                 .max_size = 1000,
                 .distribution = DISTRIBUTION_LOG},
    .run = bucket_run,
};
