/* pagemap.c: the pagemap at its door, against plain arrays, in and out of a window, while commitments fail. The
 * addresses are numbers only: nothing is mapped there. */
#include <string.h>

#include "pagemap/pagemap.h"
#include "tests/fuzz/fuzz.h"

const char *const fuzz_variants[] = {"window", "tree", NULL};

/* The leaves that are written: two and two neighbours, the second pair in the window, and both ends of the tree. */
static const uintptr_t leaves[] = {100, 101, 4000, 4001, 0, PAGEMAP_ROOT_SIZE - 1};
enum { LEAVES = sizeof leaves / sizeof *leaves, OPERATIONS_MOST = 400, SPAN_MOST = 3000 };

static struct {
    uint8_t tag;
    bool ensured;
    void *handle;
} model[LEAVES][PAGEMAP_LEAF_PAGES];

void fuzz_begin(const char *variant) {
    system_begin("plain");
    script_stop();
    if (strcmp(variant, "window") == 0)
        CHECK(pagemap_window(leaves[2] << PAGEMAP_LEAF_SHIFT, (size_t)2 << PAGEMAP_LEAF_SHIFT) == 0);
}

struct place {
    unsigned leaf;
    size_t page; /* in the leaf */
};

static struct place input_place(struct input *input) {
    struct place place = {input_byte(input) % LEAVES, input_number(input, 2)};
    if (input_byte(input) & 1)
        place.page = PAGEMAP_LEAF_PAGES - 1 - place.page; /* runs across the border start here */
    return place;
}

static uintptr_t address_of(struct place place) {
    return (leaves[place.leaf] << PAGEMAP_LEAF_SHIFT) + (place.page << RN_PAGE_SHIFT);
}

/* The next page; false at the end of what is modelled. */
static bool place_next(struct place *place) {
    if (++place->page < PAGEMAP_LEAF_PAGES)
        return true;
    if (place->leaf + 1 >= LEAVES || leaves[place->leaf + 1] != leaves[place->leaf] + 1)
        return false;
    *place = (struct place){place->leaf + 1, 0};
    return true;
}

static size_t input_span(struct input *input, struct place place) {
    size_t wanted = 1 + input_number(input, 2) % SPAN_MOST, pages = 1;
    while (pages < wanted && place_next(&place))
        pages++;
    return pages;
}

static void ensure(struct place place, size_t pages) {
    if (pagemap_ensure(address_of(place), pages << RN_PAGE_SHIFT) != 0) {
        CHECK(script_failures() != 0);
        return;
    }
    for (; pages; pages--, (void)place_next(&place))
        model[place.leaf][place.page].ensured = true;
}

static void set(struct place place, size_t pages, uint8_t tag, void *handle) {
    size_t covered = 0;
    struct place at = place;
    while (covered < pages && model[at.leaf][at.page].ensured) {
        model[at.leaf][at.page].tag = tag;
        model[at.leaf][at.page].handle = handle;
        covered++;
        (void)place_next(&at);
    }
    pagemap_set(address_of(place), covered, tag, handle);
}

static void check(struct place place, size_t offset) {
    const void *pointer = (const void *)(address_of(place) + offset % RN_PAGE);
    CHECK(pagemap_tag(pointer) == model[place.leaf][place.page].tag);
    if (!model[place.leaf][place.page].ensured)
        return;
    CHECK(pagemap_has(pointer) && pagemap_handle(pointer) == model[place.leaf][place.page].handle);
}

/* Any address at all: outside of what was written it has no tag. */
static void check_anywhere(uintptr_t address) {
    for (unsigned leaf = 0; leaf < LEAVES; leaf++)
        if (address >> PAGEMAP_LEAF_SHIFT == leaves[leaf]) {
            check((struct place){leaf, address >> RN_PAGE_SHIFT & (PAGEMAP_LEAF_PAGES - 1)}, address);
            return;
        }
    CHECK(pagemap_tag((const void *)address) == 0 && !pagemap_has((const void *)address));
}

static void clear_all(void) {
    for (unsigned leaf = 0; leaf < LEAVES; leaf++)
        for (size_t page = 0; page < PAGEMAP_LEAF_PAGES; page++) {
            check((struct place){leaf, page}, page);
            if (model[leaf][page].tag || model[leaf][page].handle)
                set((struct place){leaf, page}, 1, 0, NULL);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct input input = {data, data + size};
    for (unsigned i = 0; i < OPERATIONS_MOST && input_left(&input); i++) {
        unsigned what = input_byte(&input);
        struct place place = input_place(&input);
        if (what < 64)
            ensure(place, input_span(&input, place));
        else if (what < 144)
            set(place, input_span(&input, place), (uint8_t)input_byte(&input),
                (void *)(uintptr_t)input_number(&input, 3));
        else if (what < 208)
            check(place, what * 61);
        else if (what < 240)
            check_anywhere(input_number(&input, 8));
        else if (what < 250)
            input_script(&input);
        else
            script_stop();
    }
    script_stop();
    clear_all();
    return 0;
}
