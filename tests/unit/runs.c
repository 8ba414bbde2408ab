/* runs.c: see runs.h. */
#include "tests/unit/runs.h"

#include <errno.h>

#include "backend/backend.h"
#include "base/os.h"
#include "tests/unit/check.h"
#include "tests/unit/script.h"

static uint64_t *page_of(uintptr_t start, size_t page) { return (uint64_t *)(start + (page << RN_PAGE_SHIFT)); }

enum { LAST_WORD = RN_PAGE / 8 - 1, SAMPLE = 131, HUGE_PAGES = BACKEND_HUGE_SIZE >> RN_PAGE_SHIFT };
enum { GIANT = 8192, GIANT_SHARE = 8 };

/* A page carries its stamp in its first, its last, and one word of its own. */
static void page_stamp(uint64_t *page, uint64_t stamp) {
    page[0] = page[LAST_WORD] = page[1 + stamp % (LAST_WORD - 1)] = stamp;
}

static void page_check(const uint64_t *page, uint64_t stamp) {
    CHECK(page[0] == stamp && page[LAST_WORD] == stamp && page[1 + stamp % (LAST_WORD - 1)] == stamp);
}

/* Of the longest runs one hugepage in so many, whole: each that is touched has to be cleared by the kernel. */
static bool is_stamped(const struct run *run, size_t page) {
    return run->pages <= GIANT || page / HUGE_PAGES % GIANT_SHARE == 0;
}

static void stamp_from(const struct run *run, size_t first) {
    for (size_t i = first; i < run->pages; i++)
        if (is_stamped(run, i))
            page_stamp(page_of(run->start, i), run->stamp + i);
}

static void check_contents(const struct run *run) {
    for (size_t i = 0; i < run->pages; i++)
        if (is_stamped(run, i))
            page_check(page_of(run->start, i), run->stamp + i);
}

/* The zero promise: all words of small runs, the stamped ones and samples of others. */
static void check_zero(const struct run *run) {
    size_t step = run->pages <= 40 ? 1 : SAMPLE;
    for (size_t i = 0; i < run->pages; i++) {
        const uint64_t *page = page_of(run->start, i);
        CHECK(page[LAST_WORD] == 0);
        for (size_t w = 0; w <= LAST_WORD; w += run->pages <= 256 ? step : LAST_WORD)
            CHECK(page[w] == 0);
    }
}

static void check_apart(const struct runs *runs, const struct run *run) {
    uintptr_t end = run->start + (run->pages << RN_PAGE_SHIFT);
    for (const struct run *other = runs->run; other < runs->run + RUNS; other++)
        CHECK(other == run || !other->start || end <= other->start ||
              other->start + (other->pages << RN_PAGE_SHIFT) <= run->start);
}

/* A new run at `start`, whose bytes are zero if `zeroed`. False if start is 0. */
static bool run_note(struct runs *runs, struct run *run, uintptr_t start, size_t pages, bool zeroed) {
    if (!start) {
        runs->refused++;
        return false;
    }
    *run = (struct run){start, pages, random_next(&runs->random)};
    check_apart(runs, run);
    CHECK(backend_owns((void *)start) && backend_owns((char *)start + (pages << RN_PAGE_SHIFT) - 1));
    if (zeroed)
        check_zero(run);
    runs->zeroed += zeroed;
    runs->pages += pages;
    stamp_from(run, 0);
    return true;
}

bool run_alloc(struct runs *runs, struct run *run, size_t pages, size_t align) {
    bool zeroed = false;
    uintptr_t start = backend_alloc(pages, align, &zeroed);
    CHECK(start % (align << RN_PAGE_SHIFT) == 0);
    return run_note(runs, run, start, pages, zeroed);
}

void run_free(struct runs *runs, struct run *run) {
    check_contents(run);
    backend_free(run->start, run->pages);
    runs->pages -= run->pages;
    run->start = 0;
}

void run_free_part(struct runs *runs, struct run *run, size_t keep) {
    check_contents(run);
    backend_free(run->start + (keep << RN_PAGE_SHIFT), run->pages - keep);
    runs->pages -= run->pages - keep;
    run->pages = keep;
    check_contents(run);
}

bool run_extend(struct runs *runs, struct run *run, size_t pages) {
    size_t before = run->pages;
    if (backend_extend(run->start, before, pages) != 0) {
        check_contents(run);
        return false;
    }
    check_contents(run);
    run->pages = pages;
    runs->pages += pages - before;
    check_apart(runs, run);
    stamp_from(run, before);
    return true;
}

/* The pages of the run go to a new one of `pages`, no fewer. */
bool run_move(struct runs *runs, struct run *run, size_t pages) {
    struct run to = {.start = 0};
    if (os_page_size() > RN_PAGE) /* runs start and end within the system's pages: callers copy */
        return false;
    if (!run_alloc(runs, &to, pages, 1))
        return false;
    int error = backend_move(run->start, to.start, run->pages);
    if (error) {
        check_contents(run);
        runs->pages -= pages;
        if (error == -EAGAIN)
            backend_free(to.start, pages);
        return false;
    }
    check_contents(&(struct run){to.start, run->pages, run->stamp});
    backend_free(run->start, run->pages);
    runs->pages -= run->pages;
    *run = to;
    stamp_from(run, 0);
    return true;
}

/* The same as large_resize has it: whole hugepages move to a place with room behind, the rest is copied. */
bool run_grow(struct runs *runs, struct run *run, size_t pages) {
    struct run to = {.start = 0};
    size_t filled = run->start % BACKEND_HUGE_SIZE == 0 ? run->pages / HUGE_PAGES * HUGE_PAGES : 0;
    bool clean;
    uintptr_t start = backend_alloc_growing(pages, filled, &clean);
    if (!run_note(runs, &to, start, pages, false))
        return false;
    int error = filled ? backend_move(run->start, start, filled) : 0;
    if (error) {
        check_contents(run);
        runs->pages -= pages;
        if (error == -EAGAIN)
            backend_free(start, pages);
        return false;
    }
    check_contents(&(struct run){start, filled, run->stamp});
    backend_free(run->start, run->pages);
    runs->pages -= run->pages;
    *run = to;
    stamp_from(run, 0);
    return true;
}

void runs_free_all(struct runs *runs) {
    for (struct run *run = runs->run; run < runs->run + RUNS; run++)
        if (run->start)
            run_free(runs, run);
}

static size_t random_pages(struct runs *runs) {
    uint64_t r = random_next(&runs->random);
    switch (r % 16) {
    case 0:
        return 256 + (r >> 8) % 1024;
    case 1:
    case 2:
        return 1 + (r >> 8) % 255;
    default:
        return 1 + (r >> 8) % 32;
    }
}

void runs_churn(struct runs *runs, unsigned count) {
    for (; count > 0; count--) {
        uint64_t r = random_next(&runs->random);
        struct run *run = &runs->run[r >> 8 & (RUNS - 1)];
        unsigned what = r % 64;
        if (what < 1 && runs->retreats)
            (void)backend_retreat((r >> 20) % 4 << 22);
        else if (what < 1)
            (void)backend_release((r >> 20) % 4 << 20, r >> 30 & 1);
        else if (what < 3)
            (void)backend_release_step();
        else if (!run->start)
            (void)run_alloc(runs, run, random_pages(runs), (r >> 20) % 8 == 0 ? (size_t)1 << (r >> 24) % 10 : 1);
        else if (what < 6)
            (void)(r >> 40 & 1 ? run_grow : run_move)(runs, run, run->pages + (r >> 20) % 64);
        else if (what < 16)
            (void)run_extend(runs, run, run->pages + random_pages(runs));
        else if (what < 24 && run->pages > 1)
            run_free_part(runs, run, 1 + (r >> 20) % (run->pages - 1));
        else
            run_free(runs, run);
        runs->done++;
    }
}

void runs_check(const struct runs *runs) {
    struct backend_stats stats;
    backend_stats(&stats);
    CHECK(stats.in_use == backend_in_use() && stats.in_use >= runs->pages << RN_PAGE_SHIFT);
    CHECK(stats.in_use == runs->pages << RN_PAGE_SHIFT || script_losses() != 0);
    CHECK(stats.committed <= stats.reserved && stats.in_use <= stats.committed);
    CHECK(stats.in_use + stats.free_resident <= stats.reserved);
    backend_check();
}
