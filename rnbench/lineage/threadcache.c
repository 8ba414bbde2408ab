/* threadcache: a cache of free blocks per thread, over one global heap. Plan A.
 *
 * The idea: most blocks are freed by the thread that allocated them, soon. So each thread keeps the blocks it frees
 * in stacks of its own, one per size class up to 8 KiB, in thread-local storage: malloc pops, free pushes, no lock,
 * no atomic instruction. The global heap is asked for a batch when a stack is empty, and a stack that grows too long
 * gives a batch back, so the one lock is taken once per batch.
 *
 *     thread: stacks by class --surplus, a batch--> surplus stacks by class --collector--> heap (coalesces)
 *         ^                                              |                                   |
 *         +---------------- refill, a batch -------------+-----------------------------------+
 *
 * A cached block is not free for the heap: it merges with nothing, and no other thread can have it. Hence the
 * collector. Each MiB of surplus it puts the surplus blocks back into the heap, where they coalesce, and starts a new
 * epoch. A thread that notices the epoch at its next refill or surplus returns half of what it did not need since the
 * last one (the low water mark of each stack). When the system refuses memory, the collector runs at once. A thread
 * that ends returns all.
 *
 * Invariants:
 *   T1  only the owner touches a cache; the surplus and the heap are touched under the lock.
 *   T2  the heap holds a block for used while it is in a cache or in the surplus.
 *   T3  a cached block's usable size is at least its class's size.
 *
 * Does well: hot malloc and free are a few instructions, in parallel without limit. Blocks stay near the thread's
 * cache.
 * Fails: memory is stranded by idle threads: each may hold the limit of its cache, and the collector cannot reach
 * into another thread (T1), only ask. With many threads that is much of the heap. A producer that allocates what a
 * consumer frees sends every block through the lock; caches mix neighbouring blocks between threads, which then share
 * cache lines. In the child of fork, what the other threads had cached is lost.
 *
 * Sources: S. Ghemawat and P. Menage, TCMalloc: Thread-Caching Malloc, 2005 (caches, batches, low-water scavenging);
 * J. Bonwick and J. Adams, Magazines and Vmem, USENIX 2001.
 */
#include "heap.h"

#define CACHED_MAX (8 * KIB)
#define CLASSES 32
#define BATCH_BYTES (8 * KIB)
#define COLLECT_BYTES MIB

const char design_name[] = "threadcache";

struct node {
    struct node *next;
};

struct stack {
    struct node *first;
    unsigned count;
    unsigned low; /* the smallest count since the last epoch */
};

enum life {
    NEW,   /* no allocation yet: the exit hook is not armed */
    ALIVE, /* the stacks may hold blocks, and the hook will return them */
    ENDED, /* the hook has run: what the last destructors of the thread allocate goes by the heap */
};

static __thread struct {
    struct stack stacks[CLASSES];
    unsigned epoch;
    enum life life;
} cache;

static struct lock lock = LOCK_INIT;
static struct heap heap = {.index = &heap_bins};
static struct stack surplus[CLASSES];
static size_t surplus_bytes;
static _Atomic unsigned epoch;

/* Blocks moved under one lock: a few KiB, and at most 64 blocks. A stack longer than two batches has a surplus. */
static unsigned batches[CLASSES];

static void stack_push(struct stack *stack, void *block) {
    struct node *node = block;
    node->next = stack->first;
    stack->first = node;
    stack->count++;
}

/* The stack is not empty. */
static void *stack_pop(struct stack *stack) {
    struct node *node = stack->first;
    stack->first = node->next;
    stack->count--;
    return node;
}

/* ---- The collector --------------------------------------------------------------------------------------------- */

/* The caller holds the lock. */
static void collect(void) {
    for (unsigned cls = 0; cls < CLASSES; cls++) {
        while (surplus[cls].first)
            heap_free(&heap, stack_pop(&surplus[cls]));
    }
    surplus_bytes = 0;
    epoch++;
}

/* The caller holds the lock. */
static void give_back(unsigned cls, unsigned count) {
    struct stack *stack = &cache.stacks[cls];
    surplus_bytes += count * class_size(cls);
    while (count-- > 0)
        stack_push(&surplus[cls], stack_pop(stack));
    if (stack->low > stack->count)
        stack->low = stack->count;
    if (surplus_bytes > COLLECT_BYTES)
        collect();
}

/* A new epoch: returns half of what was not needed in the last one. The caller holds the lock. */
static void follow_epoch(void) {
    cache.epoch = epoch;
    for (unsigned cls = 0; cls < CLASSES; cls++) {
        struct stack *stack = &cache.stacks[cls];
        give_back(cls, (stack->low + 1) / 2);
        stack->low = stack->count;
    }
}

/* The caller holds the lock. */
static void empty_cache(void) {
    for (unsigned cls = 0; cls < CLASSES; cls++)
        give_back(cls, cache.stacks[cls].count);
    collect();
}

static void thread_end(void) {
    cache.life = ENDED;
    lock_take(&lock);
    empty_cache();
    lock_release(&lock);
}

/* ---- The slow paths -------------------------------------------------------------------------------------------- */

static void *heap_locked(size_t size) {
    lock_take(&lock);
    void *block = heap_alloc(&heap, size);
    if (!block) {
        empty_cache();
        block = heap_alloc(&heap, size);
    }
    lock_release(&lock);
    return block;
}

/* Returns one block; the rest of the batch is in the cache. */
static __attribute__((noinline)) void *refill(unsigned cls) {
    if (cache.life == NEW) {
        cache.life = ALIVE; /* first: arming may allocate */
        thread_exit_arm();
    }
    if (cache.life == ENDED)
        return heap_locked(class_size(cls));
    struct stack *stack = &cache.stacks[cls];
    lock_take(&lock);
    if (cache.epoch != epoch)
        follow_epoch();
    while (stack->count < batches[cls]) {
        bool is_surplus = surplus[cls].first;
        void *block = is_surplus ? stack_pop(&surplus[cls]) : heap_alloc(&heap, class_size(cls));
        if (!block)
            break;
        surplus_bytes -= is_surplus ? class_size(cls) : 0;
        stack_push(stack, block);
    }
    lock_release(&lock);
    stack->low = 0;
    return stack->first ? stack_pop(stack) : heap_locked(class_size(cls));
}

static __attribute__((noinline)) void shed(unsigned cls) {
    lock_take(&lock);
    give_back(cls, batches[cls]);
    if (cache.epoch != epoch)
        follow_epoch();
    lock_release(&lock);
}

/* ---- The design ------------------------------------------------------------------------------------------------ */

void design_start(void) {
    thread_exit_hook(thread_end);
    for (unsigned cls = 0; cls < CLASSES; cls++) {
        size_t count = BATCH_BYTES / class_size(cls);
        batches[cls] = count < 2 ? 2 : count > 64 ? 64 : (unsigned)count;
    }
}

void *design_alloc(size_t size, bool *zeroed) {
    if (size > HEAP_MAX)
        return direct_alloc(size, zeroed);
    if (size > CACHED_MAX)
        return heap_locked(size);
    unsigned cls = class_of(size);
    struct stack *stack = &cache.stacks[cls];
    if (!stack->first)
        return refill(cls);
    void *block = stack_pop(stack);
    if (stack->count < stack->low)
        stack->low = stack->count;
    return block;
}

void *design_alloc_aligned(size_t align, size_t size) { return head_alloc_aligned(align, size); }

static void heap_give(void *block) {
    lock_take(&lock);
    heap_free(&heap, block);
    lock_release(&lock);
}

/* A thread that only frees must have an armed hook as well. */
static void cache_give(void *block, unsigned cls) {
    if (cache.life == NEW) {
        cache.life = ALIVE;
        thread_exit_arm();
    }
    struct stack *stack = &cache.stacks[cls];
    stack_push(stack, block);
    if (stack->count > 2 * batches[cls])
        shed(cls);
}

void design_free(void *block) {
    void *whole = head_unalias(block);
    struct head *head = head_of(whole);
    switch (head->word & HEAD_FLAGS) {
    case HEAD_DIRECT:
        direct_free(whole);
        break;
    case HEAD_USED: {
        unsigned cls = class_below(head_size(head) - sizeof(struct head));
        if (cls >= CLASSES || cache.life == ENDED)
            heap_give(whole);
        else
            cache_give(whole, cls);
        break;
    }
    default:
        block_fatal(block);
    }
}

size_t design_usable(void *block) { return heap_usable(block); }

void design_lock_all(void) { lock_take(&lock); }

void design_unlock_all(void) { lock_release(&lock); }
