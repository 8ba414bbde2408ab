/* buddy: binary buddy trees in an arena per thread.
 *
 * The idea: cut a superblock of 2 MiB in half, and a half in half, until a piece is just big enough. Two halves of a
 * piece are buddies: each knows the other by its address alone, and when both are free they are one piece again. No
 * list has to be searched and no neighbour's tag read: all that is known of a superblock is one byte per node of its
 * tree, kept at the superblock's start. Every thread has an arena of superblocks of its own, so malloc takes no lock
 * at all; the one lock is around obtaining superblocks.
 *
 *     node 1:                    2 MiB                      byte of a node: 0      wholly free
 *     nodes 2, 3:        1 MiB          1 MiB                               k      its largest free piece
 *     nodes 4..7:     512    512     512    512                                    is k halvings smaller
 *     ...                                                                   FULL   nothing free in it
 *     leaves:     32 bytes each
 *
 * That wholly free is 0 makes a zeroed superblock an empty tree: nothing has to be initialized, or touched. The
 * tree's own 128 KiB and the superblock's head are simply the first two pieces allocated from it.
 *
 * A block freed by a thread that does not own it goes into the owner's mailbox, a stack that anyone pushes to and
 * whose owner takes it whole, so that ABA cannot arise. The owner empties it at its next malloc; for an arena whose
 * thread has ended, any thread does that is about to ask the system for memory.
 *
 * Known faults of the design, and the cures here. A system call per request: memory is obtained by superblocks, and
 * empty superblocks are kept in a pool. Running out of memory with many threads and large requests, since every arena
 * needs a tree as large as its largest request: blocks above 512 KiB get a mapping of their own, arenas grow by any
 * number of superblocks, and empty ones go back to the pool, where other arenas find them. A thread's arena is
 * adopted, with what is left in it, by a later thread.
 *
 * Invariants:
 *   B1  the byte of a node that is not allocated itself is what its children's say (node_join): two wholly free
 *       buddies are one free piece.
 *   B2  below a free or allocated piece all bytes are 0; so the lowest FULL node above a block's first leaf is the
 *       block.
 *   B3  a tree is written by the thread that owns its arena only. Others may read the nodes of a block they hold: B2
 *       says that those do not change.
 *   B4  a superblock is in the list of its arena for the size of its largest free piece.
 *
 * Does well: no lock in malloc and free, complete coalescing in logarithmic time, alignment for nothing: a block is
 * aligned to its size.
 * Fails: sizes are powers of two: a quarter of the memory is waste when all sizes are equally likely, half in the
 * worst case. Buddies merge only with each other: two free neighbours that are no buddies stay apart. Each malloc and
 * free walks the tree, up to 16 nodes, the lower ones in a cache line each. What lies in the mailbox of a thread that
 * sleeps serves nobody until it wakes and allocates.
 *
 * Sources: K. C. Knowlton, A Fast Storage Allocator, CACM 8 (10), 1965; D. E. Knuth, The Art of Computer Programming
 * 1, section 2.5, algorithms R and S; J. L. Peterson and T. A. Norman, Buddy Systems, CACM 20 (6), 1977. Statistics
 * as in mallinfo(3) and malloc_stats(3).
 */
#include "common.h"

#include <malloc.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#define LEAF_ORDER 5   /* pieces of 32 bytes */
#define TOP_ORDER 21   /* superblocks of 2 MiB */
#define BLOCK_ORDER 19 /* the largest block of a tree: 512 KiB */
#define SUPERBLOCK ((size_t)1 << TOP_ORDER)
#define NODES ((size_t)2 << (TOP_ORDER - LEAF_ORDER))
#define FULL 0xff
#define NOTHING_FREE 0 /* as an order */
#define POOL_MAX 16

const char design_name[] = "buddy";

enum kind {
    TREE = 0x72747265,
    DIRECT = 0x64697265,
};

struct node {
    struct node *next;
};

struct superblock {
    enum kind kind;
    unsigned largest; /* order of its largest free piece: which list it is in */
    unsigned used;    /* blocks; the tree does not tell: an empty superblock's largest piece is one half of it */
    struct arena *arena;
    struct superblock *next, *prev;
};

#define SUPERBLOCK_HEAD ((size_t)64) /* bytes, a power of two */
_Static_assert(sizeof(struct superblock) <= SUPERBLOCK_HEAD, "the head must fit its piece");

/* A block in a mapping of its own has this where a tree has its superblock head. */
struct direct {
    enum kind kind;
    void *mapping;
    size_t bytes;
    size_t usable;
};

struct arena {
    _Atomic(struct node *) mailbox;
    uint32_t filled;                         /* bit per list that is not empty */
    struct superblock *lists[TOP_ORDER + 1]; /* by `largest` */
    struct arena *next;                      /* all arenas; never taken apart */
    struct arena *next_idle;                 /* those without a thread */
    _Atomic size_t superblocks;              /* counters: written by the owner, read by anyone */
    _Atomic size_t used_bytes, used_blocks;
};

static struct lock lock = LOCK_INIT; /* guards the pool, the arenas' list and the idle arenas */
static struct superblock *pool;
static _Atomic unsigned pool_count; /* written under the lock */
static _Atomic(struct arena *) all_arenas;
static struct arena *idle_arenas;
static _Atomic size_t direct_bytes, direct_blocks;

static __thread struct arena *mine;

/* ---- The tree of one superblock -------------------------------------------------------------------------------- */

/* The tree starts at the superblock's base, since it is the first piece allocated. The head is the second. */
static uint8_t *tree_of(const struct superblock *superblock) {
    return (uint8_t *)((uintptr_t)superblock & ~(SUPERBLOCK - 1));
}

static struct superblock *superblock_of(const uint8_t *base) { return (struct superblock *)((uintptr_t)base + NODES); }

static unsigned node_largest(const uint8_t *tree, size_t node, unsigned order) {
    return tree[node] == FULL ? NOTHING_FREE : order - tree[node];
}

/* The byte of a node of `order` from its children's. */
static uint8_t node_join(const uint8_t *tree, size_t node, unsigned order) {
    uint8_t left = tree[2 * node], right = tree[2 * node + 1];
    if (left == 0 && right == 0)
        return 0;
    unsigned a = node_largest(tree, 2 * node, order - 1), b = node_largest(tree, 2 * node + 1, order - 1);
    unsigned largest = a > b ? a : b;
    return largest == NOTHING_FREE ? FULL : (uint8_t)(order - largest);
}

/* The node of `order` has changed: so may those above it. */
static void tree_update(uint8_t *tree, size_t node, unsigned order) {
    while (node > 1) {
        node /= 2;
        order++;
        uint8_t joined = node_join(tree, node, order);
        if (joined == tree[node])
            return;
        tree[node] = joined;
    }
}

/* Takes a piece of `order`; there is one. Of two children that could serve, the one with less to spare does: large
 * pieces stay whole. Returns the piece's offset. */
static size_t tree_take(uint8_t *tree, unsigned order) {
    size_t node = 1;
    for (unsigned at = TOP_ORDER; at > order; at--) {
        unsigned left = node_largest(tree, 2 * node, at - 1), right = node_largest(tree, 2 * node + 1, at - 1);
        /* A free node hides its children: their bytes are 0, and they are as free as it is. */
        node = 2 * node + (left < order || (right >= order && right < left));
    }
    tree[node] = FULL;
    tree_update(tree, node, order);
    return (node << order) & (SUPERBLOCK - 1);
}

/* The node of the block at `offset`, and its order; 0 if no block starts there. */
static size_t tree_find(const uint8_t *tree, size_t offset, unsigned *order) {
    size_t node = (SUPERBLOCK + offset) >> LEAF_ORDER;
    for (*order = LEAF_ORDER; node > 0 && tree[node] != FULL; node /= 2)
        ++*order;
    bool is_start = node > 0 && (offset & (((size_t)1 << *order) - 1)) == 0 && offset % (1 << LEAF_ORDER) == 0;
    return is_start ? node : 0;
}

/* ---- Arenas and superblocks ------------------------------------------------------------------------------------ */

static void list_remove(struct arena *arena, struct superblock *superblock) {
    if (superblock->next)
        superblock->next->prev = superblock->prev;
    if (superblock->prev)
        superblock->prev->next = superblock->next;
    else
        arena->lists[superblock->largest] = superblock->next;
    if (!arena->lists[superblock->largest])
        arena->filled &= ~((uint32_t)1 << superblock->largest);
}

static void list_insert(struct arena *arena, struct superblock *superblock) {
    superblock->prev = NULL;
    superblock->next = arena->lists[superblock->largest];
    if (superblock->next)
        superblock->next->prev = superblock;
    arena->lists[superblock->largest] = superblock;
    arena->filled |= (uint32_t)1 << superblock->largest;
}

/* The only way to memory for trees, and the only lock. */
static struct superblock *pool_take(void) {
    lock_take(&lock);
    struct superblock *superblock = pool;
    if (superblock) {
        pool = superblock->next;
        pool_count--;
    }
    lock_release(&lock);
    return superblock;
}

static struct superblock *superblock_map(void) {
    uint8_t *tree = os_map(SUPERBLOCK, SUPERBLOCK);
    if (!tree)
        return NULL;
    tree_take(tree, (unsigned)__builtin_ctzl(NODES));
    tree_take(tree, (unsigned)__builtin_ctzl(SUPERBLOCK_HEAD));
    struct superblock *superblock = superblock_of(tree);
    superblock->kind = TREE;
    return superblock;
}

/* The pool keeps what the kernel refuses to take, too. */
static void superblock_return(struct superblock *superblock) {
    if (pool_count >= POOL_MAX && os_unmap(tree_of(superblock), SUPERBLOCK) == 0)
        return;
    lock_take(&lock);
    superblock->next = pool;
    pool = superblock;
    pool_count++;
    lock_release(&lock);
}

/* Keeps B4 after the tree changed. An empty superblock leaves, unless it is the arena's last. */
static void superblock_settle(struct arena *arena, struct superblock *superblock) {
    unsigned largest = node_largest(tree_of(superblock), 1, TOP_ORDER);
    bool leaves = superblock->used == 0 && arena->superblocks > 1;
    if (largest == superblock->largest && !leaves)
        return;
    list_remove(arena, superblock);
    superblock->largest = largest;
    if (leaves) {
        arena->superblocks--;
        superblock_return(superblock);
    } else {
        list_insert(arena, superblock);
    }
}

/* Only the owner writes, so a load and a store suffice. */
static void count(_Atomic size_t *counter, size_t change) {
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + change, memory_order_relaxed);
}

static void arena_free(struct arena *arena, struct superblock *superblock, void *block) {
    uint8_t *tree = tree_of(superblock);
    unsigned order;
    size_t node = tree_find(tree, (size_t)((uint8_t *)block - tree), &order);
    if (node == 0)
        block_fatal(block);
    tree[node] = 0;
    tree_update(tree, node, order);
    superblock->used--;
    count(&arena->used_bytes, -((size_t)1 << order));
    count(&arena->used_blocks, (size_t)-1);
    superblock_settle(arena, superblock);
}

/* ---- Mailboxes ------------------------------------------------------------------------------------------------- */

static void mailbox_put(struct arena *arena, struct node *first, struct node *last) {
    last->next = atomic_load_explicit(&arena->mailbox, memory_order_relaxed);
    /* Release: pairs with the acquire in mailbox_take. */
    while (!atomic_compare_exchange_weak_explicit(&arena->mailbox, &last->next, first, memory_order_release,
                                                  memory_order_relaxed))
        continue;
}

static struct node *mailbox_take(struct arena *arena) {
    if (!atomic_load_explicit(&arena->mailbox, memory_order_relaxed))
        return NULL;
    /* Acquire: pairs with the release in mailbox_put. */
    return atomic_exchange_explicit(&arena->mailbox, NULL, memory_order_acquire);
}

static void mailbox_empty(struct arena *arena) {
    for (struct node *node = mailbox_take(arena), *next; node; node = next) {
        next = node->next;
        uint8_t *base = (uint8_t *)((uintptr_t)node & ~(SUPERBLOCK - 1));
        arena_free(arena, superblock_of(base), node);
    }
}

static void arena_leave(struct arena *arena) {
    lock_take(&lock);
    arena->next_idle = idle_arenas;
    idle_arenas = arena;
    lock_release(&lock);
}

/* An arena without a thread has nobody to empty its mailbox. Whoever takes it off the list owns it meanwhile. */
static void idle_collect(void) {
    lock_take(&lock);
    struct arena *arenas = idle_arenas;
    idle_arenas = NULL;
    lock_release(&lock);
    for (struct arena *arena = arenas, *next; arena; arena = next) {
        next = arena->next_idle;
        mailbox_empty(arena);
        arena_leave(arena);
    }
}

/* ---- Allocation ------------------------------------------------------------------------------------------------ */

static bool arena_grow(struct arena *arena) {
    struct superblock *superblock = pool_take();
    if (!superblock) {
        idle_collect();
        superblock = pool_take();
    }
    if (!superblock)
        superblock = superblock_map();
    if (!superblock)
        return false;
    superblock->arena = arena;
    superblock->largest = node_largest(tree_of(superblock), 1, TOP_ORDER);
    list_insert(arena, superblock);
    arena->superblocks++;
    return true;
}

static void *arena_alloc(struct arena *arena, unsigned order) {
    uint32_t fitting = arena->filled >> order << order;
    if (!fitting) {
        if (!arena_grow(arena))
            return NULL;
        fitting = arena->filled >> order << order;
    }
    struct superblock *superblock = arena->lists[__builtin_ctz(fitting)];
    void *block = tree_of(superblock) + tree_take(tree_of(superblock), order);
    superblock->used++;
    superblock_settle(arena, superblock);
    count(&arena->used_bytes, (size_t)1 << order);
    count(&arena->used_blocks, 1);
    return block;
}

/* ---- Threads --------------------------------------------------------------------------------------------------- */

/* An idle arena, with all that was left in it, or a new one. */
static struct arena *arena_adopt(void) {
    lock_take(&lock);
    struct arena *arena = idle_arenas;
    if (arena) {
        idle_arenas = arena->next_idle;
    } else if ((arena = os_map(round_up(sizeof *arena, os_page()), os_page())) != NULL) {
        arena->next = all_arenas;
        all_arenas = arena;
    }
    lock_release(&lock);
    return arena;
}

static __attribute__((noinline)) bool thread_start(void) {
    mine = arena_adopt();
    if (!mine)
        return false;
    thread_exit_arm(); /* may allocate: `mine` is ready */
    return true;
}

static void thread_end(void) {
    struct arena *arena = mine;
    if (!arena)
        return;
    mailbox_empty(arena);
    mine = NULL;
    arena_leave(arena);
}

/* ---- Large blocks ---------------------------------------------------------------------------------------------- */

/* A block above the trees' sizes, or aligned beyond them. Its head is at the base of the 2 MiB that hold the block's
 * first byte, where a tree would be; a block that starts on such a base, which no tree's block does, has it 2 MiB in
 * front. */
static void *large_alloc(size_t align, size_t size) {
    size_t lead = align < SUPERBLOCK ? align : SUPERBLOCK;
    if (lead < CACHE_LINE)
        lead = CACHE_LINE;
    size_t front = align > SUPERBLOCK ? align : lead; /* so that mapping + front is aligned */
    size_t bytes = round_up(front + size, os_page());
    char *mapping = os_map(bytes, align > SUPERBLOCK ? align : SUPERBLOCK);
    if (!mapping)
        return NULL;
    char *block = mapping + front;
    struct direct *direct = (struct direct *)(block - lead);
    *direct = (struct direct){DIRECT, mapping, bytes, bytes - front};
    atomic_fetch_add_explicit(&direct_bytes, bytes, memory_order_relaxed);
    atomic_fetch_add_explicit(&direct_blocks, 1, memory_order_relaxed);
    return block;
}

static void large_free(const struct direct *direct) {
    size_t bytes = direct->bytes;
    if (os_unmap(direct->mapping, bytes) != 0)
        return; /* the kernel has no room for the hole: the block is lost, the program goes on */
    atomic_fetch_sub_explicit(&direct_bytes, bytes, memory_order_relaxed);
    atomic_fetch_sub_explicit(&direct_blocks, 1, memory_order_relaxed);
}

/* ---- The design ------------------------------------------------------------------------------------------------ */

void design_start(void) { thread_exit_hook(thread_end); }

static void *tree_alloc(size_t size) {
    if (!mine && !thread_start())
        return NULL;
    mailbox_empty(mine);
    unsigned order = size <= (1 << LEAF_ORDER) ? LEAF_ORDER : 64 - (unsigned)__builtin_clzl(size - 1);
    return arena_alloc(mine, order);
}

void *design_alloc(size_t size, bool *zeroed) {
    if (size <= (size_t)1 << BLOCK_ORDER)
        return tree_alloc(size);
    *zeroed = true;
    return large_alloc(ALIGNMENT, size);
}

void *design_alloc_aligned(size_t align, size_t size) {
    if (align <= (size_t)1 << BLOCK_ORDER && size <= (size_t)1 << BLOCK_ORDER)
        return tree_alloc(size > align ? size : align);
    return large_alloc(align, size);
}

/* The base of the superblock or of the head of a large block. */
static const uint8_t *base_of(const void *block) {
    return (const uint8_t *)(((uintptr_t)block - 1) & ~(SUPERBLOCK - 1));
}

/* A tree's first byte belongs to node 0, which does not exist: it is 0. A large block's head starts with its kind. */
static const struct direct *direct_of(const uint8_t *base) { return *base == 0 ? NULL : (const struct direct *)base; }

void design_free(void *block) {
    const uint8_t *base = base_of(block);
    const struct direct *direct = direct_of(base);
    if (direct) {
        large_free(direct);
        return;
    }
    struct superblock *superblock = superblock_of(base);
    if (superblock->kind != TREE)
        block_fatal(block);
    if (superblock->arena == mine)
        arena_free(mine, superblock, block);
    else
        mailbox_put(superblock->arena, block, block);
}

size_t design_usable(void *block) {
    const uint8_t *base = base_of(block);
    const struct direct *direct = direct_of(base);
    if (direct)
        return direct->usable;
    unsigned order;
    if (tree_find(base, (size_t)((uint8_t *)block - base), &order) == 0)
        block_fatal(block);
    return (size_t)1 << order;
}

/* Trees and arenas need no lock: in the child, those of other threads are as they were at some moment between or in
 * the middle of their operations, and nobody touches them again. Blocks freed to them go to mailboxes, which are
 * lock-free. */
void design_lock_all(void) { lock_take(&lock); }

void design_unlock_all(void) { lock_release(&lock); }

/* ---- Statistics ------------------------------------------------------------------------------------------------ */

#define API __attribute__((visibility("default")))

struct usage {
    size_t bytes, blocks;
};

/* What lies in the mailbox is free for the program, while the arena's owner still counts it. So the mail is taken out,
 * or the owner would serve it meanwhile, and put back when both were read. */
static struct usage arena_usage(struct arena *arena) {
    struct node *first = mailbox_take(arena), *last = NULL;
    struct usage usage = {arena->used_bytes, arena->used_blocks};
    for (struct node *node = first; node; last = node, node = node->next) {
        usage.bytes -= design_usable(node);
        usage.blocks--;
    }
    if (first)
        mailbox_put(arena, first, last);
    return usage;
}

API struct mallinfo2 mallinfo2(void) {
    struct mallinfo2 info = {.hblks = direct_blocks, .hblkhd = direct_bytes};
    size_t trees = pool_count;
    for (struct arena *arena = all_arenas; arena; arena = arena->next) {
        trees += arena->superblocks;
        info.uordblks += arena_usage(arena).bytes;
    }
    info.arena = trees * SUPERBLOCK;
    info.fordblks = info.arena - info.uordblks;
    info.ordblks = trees;
    info.keepcost = pool_count * SUPERBLOCK;
    return info;
}

/* The old form, whose fields are too narrow, as mallinfo(3) warns. */
API struct mallinfo mallinfo(void) {
    struct mallinfo2 info = mallinfo2();
    return (struct mallinfo){
        .arena = (int)info.arena,
        .ordblks = (int)info.ordblks,
        .hblks = (int)info.hblks,
        .hblkhd = (int)info.hblkhd,
        .uordblks = (int)info.uordblks,
        .fordblks = (int)info.fordblks,
        .keepcost = (int)info.keepcost,
    };
}

static void print_line(const char *what, size_t number, size_t bytes, size_t blocks) {
    char line[128];
    int length = snprintf(line, sizeof line, "%-6s %4zu: %12zu bytes in use, %9zu blocks\n", what, number, bytes,
                          blocks);
    if (write(STDERR_FILENO, line, (size_t)length) < 0)
        return;
}

API void malloc_stats(void) {
    size_t number = 0, bytes = direct_bytes, blocks = direct_blocks;
    for (struct arena *arena = all_arenas; arena; arena = arena->next) {
        struct usage usage = arena_usage(arena);
        print_line("arena", number++, usage.bytes, usage.blocks);
        bytes += usage.bytes;
        blocks += usage.blocks;
    }
    print_line("large", direct_blocks, direct_bytes, direct_blocks);
    print_line("total", number, bytes, blocks);
}
