/* buddy-tree: the invariants B1, B2 and B4 of rnbench/lineage/buddy.c, over the trees of an arena, in the course of a
 * random sequence of operations.
 */
#include "rnbench/lineage/buddy.c"

#include <stdlib.h>
#include <string.h>

#define SLOTS 1500
#define OPERATIONS 30000
#define CHECK_EVERY 1000

static int failures;

#define CHECK(condition)                                                        \
    do {                                                                        \
        if (!(condition)) {                                                     \
            fprintf(stderr, "# line %d: not true: %s\n", __LINE__, #condition); \
            failures++;                                                         \
        }                                                                       \
    } while (0)

static bool is_zero_below(const uint8_t *tree, size_t node) {
    for (size_t first = 2 * node, count = 2; first < NODES; first *= 2, count *= 2) {
        for (size_t i = 0; i < count; i++) {
            if (tree[first + i] != 0)
                return false;
        }
    }
    return true;
}

/* The number of blocks in the subtree, the two of the superblock itself included. */
static unsigned check_node(const uint8_t *tree, size_t node, unsigned order) {
    bool is_leaf = order == LEAF_ORDER;
    if (tree[node] == 0) {
        CHECK(is_leaf || is_zero_below(tree, node)); /* B2 */
        return 0;
    }
    if (is_leaf || (tree[node] == FULL && tree[2 * node] == 0 && tree[2 * node + 1] == 0)) {
        CHECK(tree[node] == FULL);
        CHECK(is_leaf || is_zero_below(tree, node)); /* B2 */
        return 1;
    }
    CHECK(tree[2 * node] != 0 || tree[2 * node + 1] != 0); /* B1: free buddies are one piece */
    CHECK(tree[node] == node_join(tree, node, order));     /* B1 */
    return check_node(tree, 2 * node, order - 1) + check_node(tree, 2 * node + 1, order - 1);
}

static size_t check_arena(const struct arena *arena) {
    size_t superblocks = 0, blocks = 0;
    for (unsigned order = 0; order <= TOP_ORDER; order++) {
        CHECK(!arena->lists[order] == !(arena->filled >> order & 1));
        for (const struct superblock *at = arena->lists[order]; at; at = at->next) {
            CHECK(at->largest == order && node_largest(tree_of(at), 1, TOP_ORDER) == order); /* B4 */
            CHECK(at->arena == arena && at->kind == TREE);
            CHECK(check_node(tree_of(at), 1, TOP_ORDER) == at->used + 2);
            superblocks++;
            blocks += at->used;
        }
    }
    CHECK(superblocks == arena->superblocks && blocks == arena->used_blocks);
    return blocks;
}

static size_t random_size(void) {
    long value = random();
    return (size_t)(value % 10 == 0 ? value / 10 % 500000 : value / 10 % 600) + 1;
}

int main(void) {
    static void *slots[SLOTS];
    free(malloc(1));
    size_t at_first = mine->used_blocks;
    for (int i = 0; i < OPERATIONS + SLOTS; i++) {
        void **slot = i < OPERATIONS ? &slots[random() % SLOTS] : &slots[i - OPERATIONS];
        if (*slot) {
            free(*slot);
            *slot = NULL;
        } else if (i < OPERATIONS) {
            size_t size = random_size();
            *slot = malloc(size);
            CHECK(*slot && design_usable(*slot) >= size && design_usable(*slot) < 2 * size + (1 << LEAF_ORDER));
            memset(*slot, 0xff, size);
        }
        if (i % CHECK_EVERY == 0)
            check_arena(mine);
    }
    CHECK(check_arena(mine) == at_first);
    CHECK(mine->superblocks == 1);
    return failures != 0;
}
