/* backend.c: the backend at its door: runs of pages, with the model of tests/unit/runs.h beside them, while calls to
 * the system fail where the input says. */
#include <errno.h>
#include <string.h>

#include "backend/backend.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unit/runs.h"

const char *const fuzz_variants[] = {"plain", "strict", "limited", "pages", "unmaps", "loses", NULL};

static struct runs runs;

enum { PAGES_MOST = 4500, OPERATIONS_MOST = 300 };

void fuzz_begin(const char *variant) {
    system_begin(variant);
    script_stop();
}

static void policy(struct input *input) {
    unsigned bits = input_byte(input);
    backend_init(&(struct backend_config){
        .hugepages = !(bits & 1),
        .hugetlb_mib = bits & 2 ? 2 : 0,
        .release = !(bits & 4),
        .retain = (size_t)(bits >> 4) << 18,
    });
}

static size_t input_pages(struct input *input) {
    unsigned byte = input_byte(input);
    size_t pages = byte < 232 ? 1 + byte % 64 : 1 + input_number(input, 2) % 1024;
    return pages + runs.pages <= PAGES_MOST ? pages : 1;
}

/* Sizes that no system has, and alignments that overflow: refused, or given whole. */
static void absurd(struct input *input) {
    size_t pages = (size_t)1 << input_byte(input) % 52, align = (size_t)1 << input_byte(input) % 51;
    bool zeroed;
    if (pages > (size_t)1 << 16 && pages < (size_t)1 << 35)
        return; /* would be given, at the cost of descriptors for all of it */
    if (align > (size_t)1 << 16 && align < (size_t)1 << 35)
        return;
    pages -= input_byte(input) & 1;
    uintptr_t start = pages ? backend_alloc(pages, align, &zeroed) : 0;
    if (start) {
        CHECK(start % (align << RN_PAGE_SHIFT) == 0);
        backend_free(start, pages);
    }
}

static void on_free_slot(struct input *input, struct run *run, unsigned what) {
    size_t align = what % 4 == 0 ? (size_t)1 << input_byte(input) % 11 : 1;
    (void)run_alloc(&runs, run, input_pages(input), align);
}

static void on_used_slot(struct input *input, struct run *run, unsigned what) {
    switch (what % 6) {
    case 0:
    case 1:
        run_free(&runs, run);
        break;
    case 2:
        if (run->pages > 1)
            run_free_part(&runs, run, 1 + input_byte(input) % (run->pages - 1));
        break;
    case 3:
        (void)run_extend(&runs, run, run->pages + input_pages(input));
        break;
    case 4:
        (void)run_move(&runs, run, run->pages + input_byte(input) % 64);
        break;
    default:
        if (!backend_owns((void *)run->start))
            CHECK(!"a run is the backend's");
        (void)backend_owns((char *)run->start + (run->pages << RN_PAGE_SHIFT));
    }
}

static void on_all(struct input *input, unsigned what) {
    switch (what % 8) {
    case 0:
        (void)backend_release((size_t)input_byte(input) << 16, what & 8);
        break;
    case 1:
        (void)backend_release_step();
        break;
    case 2:
        (void)backend_retreat((size_t)input_byte(input) << 18);
        break;
    case 3:
        script_sleep(input_byte(input) * 64);
        break;
    case 4:
        input_script(input);
        break;
    case 5:
        script_stop();
        break;
    case 6:
        absurd(input);
        break;
    default:
        CHECK(backend_excess() <= backend_in_use() + backend_free_resident());
        if (what < 8) /* seldom: it looks at every GiB of the address space */
            runs_check(&runs);
    }
}

static void give_all_back(void) {
    struct backend_stats stats;
    script_stop();
    script_sleep(60000);
    runs_free_all(&runs);
    runs_check(&runs);
    CHECK(script_others_are_intact());
    (void)backend_release(0, true);
    backend_stats(&stats);
    CHECK(stats.in_use == 0 || script_losses() != 0);
    runs_check(&runs);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct input input = {data, data + size};
    memset(&runs, 0, sizeof runs);
    policy(&input);
    errno = 4711;
    for (unsigned i = 0; i < OPERATIONS_MOST && input_left(&input); i++) {
        unsigned what = input_byte(&input);
        struct run *run = &runs.run[input_slot(&input, RUNS)];
        if (what < 64)
            on_all(&input, what);
        else if (run->start)
            on_used_slot(&input, run, what);
        else
            on_free_slot(&input, run, what);
        CHECK(errno == 4711);
    }
    give_all_back();
    return 0;
}
