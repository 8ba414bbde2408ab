/* pagemap-table: the invariants P1 to P3 of rnbench/lineage/pagemap-hash.c, in the course of a random sequence of
 * operations, under the options that LINEAGE_OPTIONS names.
 */
#include "rnbench/lineage/pagemap-hash.c"

#include <stdio.h>
#include <stdlib.h>

#define SLOTS 3000
#define OPERATIONS 20000
#define CHECK_EVERY 200

static int failures;

#define CHECK(condition)                                                        \
    do {                                                                        \
        if (!(condition)) {                                                     \
            fprintf(stderr, "# line %d: not true: %s\n", __LINE__, #condition); \
            failures++;                                                         \
        }                                                                       \
    } while (0)

static bool is_listed(const struct chunk *chunk) {
    const struct chunk *at = chunks[chunk->cls];
    while (at && at != chunk)
        at = at->next;
    return at;
}

static void check_chunk(const struct chunk *chunk) {
    unsigned free_bits = 0;
    for (size_t word = 0; word < CHUNK_WORDS; word++) {
        free_bits += (unsigned)__builtin_popcountll(chunk->bits[word]);
        CHECK(word >= chunk->first || chunk->bits[word] == 0);
    }
    CHECK(free_bits == chunk->free);               /* P3 */
    CHECK(is_listed(chunk) == (chunk->free != 0)); /* P3 */
    CHECK(chunk->blocks * class_size(chunk->cls) <= chunk_bytes(chunk->cls));
}

/* The number of blocks in the program's hands. */
static size_t check_table(void) {
    size_t entries = 0, blocks = 0;
    for (size_t slot = 0; slot < table_slots; slot++) {
        const struct entry *entry = &table[slot];
        if (entry->start == 0)
            continue;
        CHECK(table_find(entry->start) == entry); /* P2 */
        entries++;
        blocks += entry->chunk ? entry->chunk->blocks - entry->chunk->free : 1;
        if (entry->chunk)
            check_chunk(entry->chunk);
    }
    CHECK(entries == table_count && 2 * entries <= table_slots);
    return blocks;
}

static size_t random_size(void) {
    long value = random();
    return (size_t)(value % 10 == 0 ? value / 10 % 100000 : value / 10 % 600) + 1;
}

int main(void) {
    static void *slots[SLOTS];
    free(malloc(1));
    size_t at_first = check_table(), held = 0;
    for (int i = 0; i < OPERATIONS + SLOTS; i++) {
        void **slot = i < OPERATIONS ? &slots[random() % SLOTS] : &slots[i - OPERATIONS];
        if (*slot) {
            free(*slot);
            *slot = NULL;
            held--;
        } else if (i < OPERATIONS) {
            size_t size = random_size();
            *slot = malloc(size);
            CHECK(*slot && design_usable(*slot) >= size);
            memset(*slot, 0xff, size);
            held++;
        }
        if (i % CHECK_EVERY == 0)
            CHECK(check_table() == at_first + held); /* P1 */
    }
    CHECK(check_table() == at_first);
    return failures != 0;
}
