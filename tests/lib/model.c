/* model.c: see model.h. */
#define _GNU_SOURCE
#include "model.h"
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "shadow.h"

enum { MAILBOXES = 1024, BATCH = 24, PATIENCE = 50 /* times the operations, for what has to happen meanwhile */ };

struct entry {
    void *block;
    size_t size;
    uint64_t id;
};

/* A mailbox holds one block that belongs to whoever takes it out. */
struct mailbox {
    _Atomic int busy;
    struct entry entry;
};

struct worker {
    const struct model_plan *plan;
    unsigned number;
    uint64_t random, next_id;
    struct entry *slots;
    struct mailbox *mailboxes; /* shared by the workers of one run */
    struct model_result result;
    pthread_t thread;
};

_Thread_local volatile int model_inside;

/* Batch calls of rnAlloc are part of the traffic where they exist; the same program runs on glibc without. */
extern size_t rnAllocBatch(size_t size, void **blocks, size_t count) __attribute__((weak));
extern void rnFreeBatch(void **blocks, size_t count) __attribute__((weak));

static size_t random_size(struct worker *w) {
    uint64_t r = shadow_random(&w->random);
    unsigned top = 64 - (unsigned)__builtin_clzll(w->plan->largest | 1);
    unsigned bits = (unsigned)(r >> 32) % (top + 8);
    /* Small sizes are what programs mostly ask for: half of the draws fall below 512. */
    if (bits >= top)
        bits = (unsigned)(r >> 40) % 10;
    size_t size = (size_t)(r & (((uint64_t)1 << bits) - 1)) + 1;
    return size > w->plan->largest ? w->plan->largest : size;
}

static void accept_block(struct worker *w, struct entry *entry, void *block, size_t size, size_t alignment) {
    if (!block) {
        w->result.refused++;
        *entry = (struct entry){0};
        return;
    }
    model_inside = 1; /* this one may take a lock, too */
    size_t usable = malloc_usable_size(block);
    model_inside = 0;
    w->result.misplaced += (uintptr_t)block % alignment != 0 || usable < size;
    w->result.overlaps += shadow_claim(block, usable) != 0;
    w->result.leftover += usable;
    *entry = (struct entry){block, usable, w->next_id++};
    shadow_fill(block, usable, entry->id);
}

static void release_checks(struct worker *w, const struct entry *entry) {
    w->result.damaged += !shadow_is_filled(entry->block, entry->size, entry->id);
    w->result.overlaps += shadow_unclaim(entry->block, entry->size) != 0;
    w->result.leftover -= entry->size;
}

static void release(struct worker *w, struct entry *entry) {
    if (!entry->block)
        return;
    release_checks(w, entry);
    model_inside = 1;
    free(entry->block);
    model_inside = 0;
    entry->block = NULL;
}

static void allocate(struct worker *w, struct entry *entry) {
    size_t size = random_size(w), alignment = size > 8 ? 16 : 8;
    uint64_t r = shadow_random(&w->random);
    unsigned char *p = NULL;
    model_inside = 1;
    if (r % 16 < 11) {
        p = malloc(size);
    } else if (r % 16 < 14) {
        p = calloc(1, size);
    } else {
        alignment = (size_t)16 << (r >> 8) % 10;
        p = r % 16 == 14 ? aligned_alloc(alignment, size) : (posix_memalign((void **)&p, alignment, size) ? NULL : p);
    }
    model_inside = 0;
    if (p && r % 16 >= 11 && r % 16 < 14) {
        for (size_t i = 0; i < size; i += i < 4096 ? 1 : 509)
            if (p[i]) {
                w->result.dirty++;
                break;
            }
    }
    accept_block(w, entry, p, size, alignment);
}

static void resize(struct worker *w, struct entry *entry) {
    size_t size = random_size(w), kept = size < entry->size ? size : entry->size;
    release_checks(w, entry);
    /* The pattern of a shortened block is sampled at other places, so the prefix is compared as a block of its own. */
    shadow_fill(entry->block, kept, entry->id);
    model_inside = 1;
    void *moved = realloc(entry->block, size);
    model_inside = 0;
    if (!moved) {
        w->result.refused++;
        w->result.overlaps += shadow_claim(entry->block, entry->size) != 0;
        w->result.leftover += entry->size;
        shadow_fill(entry->block, entry->size, entry->id);
        return;
    }
    w->result.damaged += !shadow_is_filled(moved, kept, entry->id);
    accept_block(w, entry, moved, size, size > 8 ? 16 : 8);
}

/* Puts a block into a mailbox or takes one out: either side may be the one that frees it in the end. */
static void exchange(struct worker *w, struct entry *entry) {
    struct mailbox *box = &w->mailboxes[shadow_random(&w->random) % MAILBOXES];
    int is_free = 0;
    if (!atomic_compare_exchange_strong_explicit(&box->busy, &is_free, 1, memory_order_acquire, memory_order_relaxed))
        return;
    struct entry taken = box->entry;
    box->entry = *entry;
    *entry = taken;
    atomic_store_explicit(&box->busy, 0, memory_order_release);
}

static void batch(struct worker *w) {
    void *blocks[BATCH];
    struct entry entries[BATCH];
    size_t size = random_size(w) % 8192 + 1, count = shadow_random(&w->random) % BATCH + 1;
    if (!rnAllocBatch || !rnFreeBatch)
        return;
    model_inside = 1;
    size_t got = rnAllocBatch(size, blocks, count);
    model_inside = 0;
    w->result.refused += got < count;
    for (size_t i = 0; i < got; i++)
        accept_block(w, &entries[i], blocks[i], size, size > 8 ? 16 : 8);
    for (size_t i = 0; i < got; i++)
        release_checks(w, &entries[i]);
    model_inside = 1;
    rnFreeBatch(blocks, got);
    model_inside = 0;
}

static void operate(struct worker *w) {
    uint64_t r = shadow_random(&w->random);
    struct entry *entry = &w->slots[(r >> 8) % w->plan->slots];
    unsigned what = r & 127;
    if (what < 16)
        exchange(w, entry);
    else if (what < 17)
        batch(w);
    else if (entry->block && what < 32)
        resize(w, entry);
    else if (entry->block)
        release(w, entry);
    else
        allocate(w, entry);
    w->result.done++;
}

static void *work(void *argument) {
    struct worker *w = argument;
    const struct model_plan *plan = w->plan;
    if (plan->each_thread)
        plan->each_thread(w->number);
    const uint64_t most = plan->is_enough ? (uint64_t)plan->operations * PATIENCE : 0;
    for (uint64_t i = 0; i < plan->operations || (i < most && !plan->is_enough()); i++) {
        operate(w);
        if (plan->each_operation)
            plan->each_operation(w->number, (unsigned)i);
    }
    for (unsigned i = 0; i < plan->slots; i++)
        release(w, &w->slots[i]);
    if (plan->end_thread)
        plan->end_thread(w->number);
    return NULL;
}

static void add(struct model_result *sum, const struct model_result *part) {
    sum->overlaps += part->overlaps;
    sum->damaged += part->damaged;
    sum->misplaced += part->misplaced;
    sum->dirty += part->dirty;
    sum->refused += part->refused;
    sum->leftover += part->leftover;
    sum->done += part->done;
}

static void *map(size_t size) {
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        abort();
    return p;
}

static struct worker *prepare(const struct model_plan *plan, size_t *size) {
    size_t slots = plan->slots * sizeof(struct entry), boxes = MAILBOXES * sizeof(struct mailbox);
    size_t all = boxes + plan->threads * (sizeof(struct worker) + slots);
    if (plan->room && all > MODEL_ROOM)
        abort();
    struct mailbox *mailboxes = plan->room ? memset(plan->room, 0, all) : map(all);
    struct worker *workers = (struct worker *)(mailboxes + MAILBOXES);
    *size = all;
    for (unsigned i = 0; i < plan->threads; i++) {
        uint64_t random = plan->seed * 0x10001 + i;
        workers[i] = (struct worker){
            .plan = plan, .number = i, .random = random, .next_id = ((uint64_t)i + 1) << 40, .mailboxes = mailboxes};
        workers[i].slots = (struct entry *)((char *)(workers + plan->threads) + i * slots);
    }
    return workers;
}

static struct model_result finish(struct worker *workers, size_t size) {
    struct model_result sum = {0};
    for (unsigned i = 0; i < MAILBOXES; i++)
        release(&workers[0], &workers[0].mailboxes[i].entry);
    for (unsigned i = 0; i < workers[0].plan->threads; i++)
        add(&sum, &workers[i].result);
    if (!workers[0].plan->room)
        munmap(workers[0].mailboxes, size);
    return sum;
}

struct model_result model_run(const struct model_plan *plan) {
    size_t size;
    struct worker *workers = prepare(plan, &size);
    for (unsigned i = 0; i < plan->threads; i++)
        if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0)
            abort();
    for (unsigned i = 0; i < plan->threads; i++)
        pthread_join(workers[i].thread, NULL);
    return finish(workers, size);
}

struct model_result model_run_here(const struct model_plan *plan) {
    struct model_plan alone = *plan;
    size_t size;
    alone.threads = 1;
    struct worker *workers = prepare(&alone, &size);
    work(&workers[0]);
    return finish(workers, size);
}
