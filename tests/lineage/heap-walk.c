/* heap-walk: the invariants H1 to H4 of rnbench/lineage/heap.h, after every operation of a random sequence, for each
 * structure of free blocks: the four of freelist, and the default. The structure is wrapped, so that the walk can
 * compare what it was told with what lies in the regions, and so that a search in vain is known to be one.
 */
#include "rnbench/lineage/freelist.c"

#include <stdio.h>
#include <stdlib.h>

#define SLOTS 300
#define OPERATIONS 4000

static int failures;

#define CHECK(condition)                                                        \
    do {                                                                        \
        if (!(condition)) {                                                     \
            fprintf(stderr, "# line %d: not true: %s\n", __LINE__, #condition); \
            failures++;                                                         \
        }                                                                       \
    } while (0)

static const struct heap_index *tested;
static struct heap_index wrapper;
static size_t told_blocks, told_bytes;

static void told_insert(struct heap *where, struct block *block) {
    told_blocks++;
    told_bytes += size_of(block);
    tested->insert(where, block);
}

static void told_remove(struct heap *where, struct block *block) {
    told_blocks--;
    told_bytes -= size_of(block);
    tested->remove(where, block);
}

struct walk {
    size_t blocks, bytes, largest; /* of the free blocks */
};

static struct walk walk(const struct heap *where) {
    struct walk found = {0};
    for (const struct region *region = where->regions; region; region = region->next) {
        uintptr_t at = (uintptr_t)region + sizeof *region + tested->area;
        size_t before = 0;
        bool was_free = false;
        const struct block *block = (const struct block *)at;
        for (; size_of(block) != 0; block = (const struct block *)at) {
            bool is_free = !(block->head.word & HEAD_USED);
            CHECK(block->head.before == before); /* H2 */
            CHECK(!(is_free && was_free));       /* H3 */
            found.blocks += is_free;
            found.bytes += is_free ? size_of(block) : 0;
            found.largest = is_free && size_of(block) > found.largest ? size_of(block) : found.largest;
            before = size_of(block);
            was_free = is_free;
            at += before;
        }
        CHECK(block->head.before == before);
        CHECK(at == (uintptr_t)region + REGION_SIZE - sizeof(struct head)); /* H1 */
    }
    return found;
}

static struct block *told_find(struct heap *where, size_t size) {
    struct block *block = tested->find(where, size);
    if (block)
        CHECK(!(block->head.word & HEAD_USED) && size_of(block) >= size);
    else
        CHECK(walk(where).largest < size);
    return block;
}

static size_t random_size(void) {
    long value = random();
    return (size_t)(value % 10 == 0 ? value / 10 % (long)HEAP_MAX : value / 10 % 600) + 1;
}

static void check(const struct heap_index *index) {
    static void *slots[SLOTS];
    tested = index;
    wrapper = (struct heap_index){index->area, told_insert, told_remove, told_find};
    struct heap local = {.index = &wrapper};
    told_blocks = told_bytes = 0;
    for (int i = 0; i < OPERATIONS + SLOTS; i++) {
        void **slot = i < OPERATIONS ? &slots[random() % SLOTS] : &slots[i - OPERATIONS];
        if (*slot) {
            heap_free(&local, *slot);
            *slot = NULL;
        } else if (i < OPERATIONS) {
            size_t size = random_size();
            *slot = heap_alloc(&local, size);
            CHECK(*slot && heap_usable(*slot) >= size);
            memset(*slot, 0xff, heap_usable(*slot));
        }
        struct walk found = walk(&local);
        CHECK(found.blocks == told_blocks && found.bytes == told_bytes); /* H4 */
    }
    /* All is free: one region is left, of one block. */
    CHECK(local.regions && !local.regions->next && told_blocks == 1);
}

/* An index that has no memory for the first block it is told of. */
static bool is_deaf = true;

static void deaf_insert(struct heap *where, struct block *block) {
    if (!is_deaf)
        heap_bins.insert(where, block);
}

static void deaf_remove(struct heap *where, struct block *block) {
    if (!is_deaf)
        heap_bins.remove(where, block);
}

static struct block *deaf_find(struct heap *where, size_t size) { return is_deaf ? NULL : heap_bins.find(where, size); }

static void check_deaf(void) {
    static const struct heap_index deaf = {0, deaf_insert, deaf_remove, deaf_find};
    struct heap local = {.index = &deaf};
    CHECK(heap_alloc(&local, 100) == NULL);
    CHECK(!local.regions && !local.idle); /* the region went back */
    is_deaf = false;
    void *block = heap_alloc(&local, 100);
    CHECK(block && local.regions && !local.regions->next);
    heap_free(&local, block);
}

int main(void) {
    for (size_t i = 0; i < sizeof structures / sizeof structures[0]; i++)
        check(&structures[i]);
    check(&heap_bins);
    check_deaf();
    return failures != 0;
}
