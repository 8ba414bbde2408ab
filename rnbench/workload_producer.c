/* workload_producer.c: one thread allocates, another frees.
 *
 * Threads work in pairs over a ring with one writer and one reader. All memory flows one way, so an allocator whose
 * caches belong to threads has to bring every block home, or grow without bound.
 */
#include <sched.h>
#include <string.h>

#include "random.h"
#include "rnbench.h"

/* head: next place to write, by the producer; tail: next place to read, by the consumer. Each on lines of its own. */
struct ring {
    uint64_t head __attribute__((aligned(128)));
    uint64_t tail __attribute__((aligned(128)));
    int closed __attribute__((aligned(128))); /* the producer will write no more */
    void *place[] __attribute__((aligned(128)));
};

static size_t ring_bytes(const struct bench *bench) {
    return sizeof(struct ring) + bench->options.objects * sizeof(void *);
}

/* The producer's entry holds the ring; threads 2k and 2k+1 are a pair. */
static struct ring *ring_of(const struct bench_thread *thread) {
    return thread->bench->threads[thread->index & ~1u].table;
}

static void producer_prepare(struct bench_thread *thread) {
    if (thread->index % 2 == 0)
        thread->table = table_new(ring_bytes(thread->bench), true);
}

/* Pairs with the consumer's acquire of head and closed; the acquire of tail with the release of it there. */
static void produce(struct bench_thread *thread, struct ring *ring) {
    const struct bench *bench = thread->bench;
    const uint64_t places = bench->options.objects;
    uint64_t head = 0;
    for (; bench_goes_on(bench, head, bench->options.iters); head++) {
        size_t size = picker_draw(bench->sizes, random_next(&thread->random));
        void *block = must_alloc(bench->allocator.alloc, size);
        block_fill(bench, block, (int)head, bench->options.touch || size < 8 ? size : 8);
        while (head - __atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE) == places)
            sched_yield();
        ring->place[head % places] = block;
        __atomic_store_n(&ring->head, head + 1, __ATOMIC_RELEASE);
    }
    __atomic_store_n(&ring->closed, 1, __ATOMIC_RELEASE);
    thread->allocs = head;
}

/* Takes all that is there before it tells the producer so, as a reader of batches does. */
static void consume(struct bench_thread *thread, struct ring *ring) {
    const struct bench *bench = thread->bench;
    uint64_t tail = 0;
    for (;;) {
        int closed = __atomic_load_n(&ring->closed, __ATOMIC_ACQUIRE); /* before head, or the last blocks are missed */
        uint64_t head = __atomic_load_n(&ring->head, __ATOMIC_ACQUIRE);
        if (head == tail) {
            if (closed)
                break;
            sched_yield();
            continue;
        }
        for (; tail < head; tail++)
            bench->allocator.release(ring->place[tail % bench->options.objects]);
        __atomic_store_n(&ring->tail, tail, __ATOMIC_RELEASE);
    }
    thread->frees = thread->ops = tail;
}

static void producer_body(struct bench_thread *thread) {
    if (thread->index % 2 == 0)
        produce(thread, ring_of(thread));
    else
        consume(thread, ring_of(thread));
}

static void producer_run(struct bench *bench) {
    static const struct team_task task = {.prepare = producer_prepare, .body = producer_body};
    if (bench->options.threads % 2)
        fail("--threads: the workload producer takes an even number");
    team_run(bench, &task);
    report_per_operation(bench);
}

const struct workload workload_producer = {
    .name = "producer",
    .sentence = "pairs of threads: one allocates, the other frees; all memory crosses threads, one way",
    .source =
        "the pattern of xmalloc-test: Lever and Boreham, malloc() performance in a multithreaded Linux "
        "environment, USENIX 2000",
    .takes = TAKES_OBJECTS | TAKES_ITERS | TAKES_RANGE | TAKES_DISTRIBUTION | TAKES_TOUCH | TAKES_DURATION |
             TAKES_CALLS,
    .defaults = {.threads = 2, .objects = 4096, .iters = 2000000, .min_size = 16, .max_size = 512},
    .run = producer_run,
};
