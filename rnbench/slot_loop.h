/* slot_loop.h: random slots by another call than malloc: what the workloads aligned and calloc share. In a header, so
 * that the call that makes a block is not one more through a pointer inside of what is timed. */
#ifndef RNBENCH_SLOT_LOOP_H
#define RNBENCH_SLOT_LOOP_H

#include "random.h"
#include "rnbench.h"

static inline void slot_loop_prepare(struct bench_thread *thread) {
    thread->table = table_new(thread->bench->options.slots * sizeof(void *), true);
}

/* Each iteration draws a slot: a full one is freed, an empty one gets what `make` makes. */
static inline void slot_loop_body(struct bench_thread *thread,
                                  void *(*make)(struct bench_thread *thread, uint64_t *random)) {
    const struct bench *bench = thread->bench;
    void **table = thread->table;
    uint64_t random = thread->random, i = 0;
    for (; bench_goes_on(bench, i, bench->options.iters); i++) {
        void **slot = &table[random_below(random_next(&random), bench->options.slots)];
        if (*slot) {
            bench->allocator.release(*slot);
            *slot = NULL;
            thread->frees++;
        } else {
            *slot = make(thread, &random);
            thread->allocs++;
        }
    }
    thread->ops = i;
}

static inline void slot_loop_finish(struct bench_thread *thread) {
    void **table = thread->table;
    for (uint64_t i = 0; i < thread->bench->options.slots; i++)
        thread->bench->allocator.release(table[i]);
    table_free(table, thread->bench->options.slots * sizeof(void *));
}

#endif
