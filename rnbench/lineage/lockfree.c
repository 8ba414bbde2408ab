/* lockfree: segregated free lists, each a lock-free stack.
 *
 * The idea: one lock is the trouble, so have none. Blocks come in 40 size classes up to 32 KiB, and the free blocks
 * of a class form a linked stack (Treiber's) whose top is replaced by compare-and-swap: malloc pops, free pushes, and
 * a thread that is preempted in between stops nobody. An empty stack grows by mmap: a chunk is cut into blocks of the
 * class, one is kept, and the rest is pushed as one chain with a single swap. Two threads that find a stack empty
 * both grow it, which is wasteful once and otherwise harmless. Larger blocks are mapped directly.
 *
 * The danger is ABA. A pop reads the top block A and A's successor B, then swaps A for B if A is still on top.
 * Meanwhile others may have popped A and B and pushed A again: A is on top, but B is in a program's hands, and the
 * swap would give it away twice. So a counter lies beside the pointer, every pop increments it, and both are swapped
 * together, 16 bytes at a time. The counter would have to wrap around its 64 bits within one pop.
 *
 *     top:  | first: the newest free block, or NULL | pops: how many there were |
 *
 * Invariants:
 *   L1  a block's class never changes, and its memory is never unmapped: a pop that lost the race may still read the
 *       successor of a block that is no longer free. It reads garbage, and the counter makes its swap fail.
 *   L2  a free block is in one stack once; a block in the program's hands is in none.
 *   L3  `pops` only grows.
 *
 * Does well: no lock, so no convoys, no priority inversion, nothing for fork to hold, and a signal handler may
 * allocate.
 * Fails: lock-free is not contention-free. All threads write the same 16 bytes, the cache line travels between CPUs
 * with every operation, and failed swaps are repeated: with many threads it is no faster than a lock. L1 forbids
 * coalescing and giving memory back: each class keeps its peak for ever. The link lies in the freed block, so use
 * after free corrupts it.
 *
 * Sources: R. K. Treiber, Systems Programming: Coping with Parallelism, IBM RJ 5118, 1986; IBM System/370 Principles
 * of Operation, appendix A (the counter against ABA); M. M. Michael, Scalable Lock-Free Dynamic Memory Allocation,
 * PLDI 2004.
 */
#include "heap.h"

#define CLASS_MAX (32 * KIB)
#define CLASSES 40
#define CHUNK_BYTES (64 * KIB)
#define CHUNK_BLOCKS 8 /* at least */

const char design_name[] = "lockfree";

struct node {
    struct head head; /* before: the class */
    struct node *next;
};

union top {
    struct {
        struct node *first;
        uintptr_t pops;
    };
    unsigned __int128 both;
} __attribute__((aligned(16)));

/* A cache line each: threads that use different classes should not disturb one another. */
static struct { union top top; } __attribute__((aligned(CACHE_LINE))) stacks[CLASSES];

/* The two halves may be of different moments; then they differ from the whole, and the swap fails. */
static union top top_read(const union top *top) {
    union top seen;
    seen.pops = __atomic_load_n(&top->pops, __ATOMIC_ACQUIRE);
    seen.first = __atomic_load_n(&top->first, __ATOMIC_ACQUIRE);
    return seen;
}

/* A full barrier: what was written to a chain before it was pushed is seen by whoever pops it. */
static bool top_swap(union top *top, union top seen, union top wanted) {
    return __sync_bool_compare_and_swap(&top->both, seen.both, wanted.both);
}

static void stack_push(union top *top, struct node *first, struct node *last) {
    union top seen, wanted;
    do {
        seen = top_read(top);
        __atomic_store_n(&last->next, seen.first, __ATOMIC_RELAXED);
        wanted = (union top){.first = first, .pops = seen.pops};
    } while (!top_swap(top, seen, wanted));
}

static struct node *stack_pop(union top *top) {
    union top seen, wanted;
    do {
        seen = top_read(top);
        if (!seen.first)
            return NULL;
        wanted.first = __atomic_load_n(&seen.first->next, __ATOMIC_RELAXED);
        wanted.pops = seen.pops + 1;
    } while (!top_swap(top, seen, wanted));
    return seen.first;
}

/* Cuts a new chunk into blocks; returns one, and the rest are free. */
static struct node *stack_grow(unsigned cls) {
    size_t stride = class_size(cls) + sizeof(struct head);
    size_t bytes = stride * CHUNK_BLOCKS > CHUNK_BYTES ? stride * CHUNK_BLOCKS : CHUNK_BYTES;
    char *chunk = os_map(round_up(bytes, os_page()), os_page());
    if (!chunk)
        return NULL;
    struct node *chain = NULL, *last = NULL;
    size_t block = bytes / stride;
    do {
        struct node *node = (struct node *)(chunk + --block * stride);
        node->head = (struct head){.before = cls, .word = stride};
        node->next = chain;
        chain = node;
        if (!last)
            last = node;
    } while (block > 0);
    struct node *kept = chain;
    stack_push(&stacks[cls].top, chain->next, last);
    return kept;
}

void design_start(void) {}

void *design_alloc(size_t size, bool *zeroed) {
    if (size > CLASS_MAX)
        return direct_alloc(size, zeroed);
    unsigned cls = class_of(size);
    struct node *node = stack_pop(&stacks[cls].top);
    if (!node)
        node = stack_grow(cls);
    if (!node)
        return NULL;
    node->head.word |= HEAD_USED;
    return &node->head + 1;
}

void *design_alloc_aligned(size_t align, size_t size) { return head_alloc_aligned(align, size); }

void design_free(void *block) {
    void *whole = head_unalias(block);
    struct node *node = (struct node *)head_of(whole);
    switch (node->head.word & HEAD_FLAGS) {
    case HEAD_DIRECT:
        direct_free(whole);
        break;
    case HEAD_USED:
        node->head.word &= ~(size_t)HEAD_USED;
        stack_push(&stacks[node->head.before].top, node, node);
        break;
    default:
        block_fatal(block);
    }
}

size_t design_usable(void *block) { return heap_usable(block); }

/* Nothing is ever locked. A fork in the middle of another thread's pop or push leaves the child a whole stack; that
 * thread's block, or its chunk before the push, is lost in the child. */
void design_lock_all(void) {}

void design_unlock_all(void) {}
