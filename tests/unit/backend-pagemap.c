/* backend-pagemap.c: the pagemap against its door. Each test is a child with a fresh pagemap. */
#include <stdlib.h>

#include "base/os.h"
#include "pagemap/pagemap.h"
#include "tests/unit/check.h"
#include "tests/unit/cmock.h"
#include "tests/unit/script.h"

static const uintptr_t GIB = (uintptr_t)1 << PAGEMAP_LEAF_SHIFT;
static const uintptr_t TOP = (uintptr_t)1 << RN_ADDRESS_BITS;
static char handles[8];

static void *at(uintptr_t address) { return (void *)address; }

/* An address that nothing set: tag 0 whatever it is, and no handle to be read. */
static void check_unknown(uintptr_t address) {
    CHECK(pagemap_tag(at(address)) == 0);
    CHECK(!pagemap_has(at(address)));
}

static void foreign(void *unused) {
    (void)unused;
    static int object;
    const uintptr_t some[] = {0,
                              1,
                              4096,
                              0x7fff,
                              GIB - 1,
                              GIB,
                              TOP - 1,
                              TOP,
                              TOP + 1,
                              TOP * 2,
                              ~TOP + 1,
                              (uintptr_t)-1,
                              (uintptr_t)-4096,
                              (uintptr_t)1 << 63,
                              (uintptr_t)&object,
                              (uintptr_t)&unused};
    for (size_t i = 0; i < sizeof some / sizeof *some; i++)
        check_unknown(some[i]);
}

/* Sets runs across the borders of granules and leaves, and reads them and their neighbours. */
static void check_span(uintptr_t start, size_t pages, uint8_t tag) {
    CHECK(pagemap_ensure(start - RN_PAGE, (pages + 2) << RN_PAGE_SHIFT) == 0);
    pagemap_set(start, pages, tag, &handles[tag % 8]);
    for (size_t i = 0; i < pages; i++)
        for (unsigned offset = 0; offset < RN_PAGE; offset += RN_PAGE - 1) {
            void *address = at(start + i * RN_PAGE + offset);
            CHECK(pagemap_tag(address) == tag && pagemap_handle(address) == &handles[tag % 8] && pagemap_has(address));
        }
    CHECK(pagemap_tag(at(start - 1)) == 0 && pagemap_tag(at(start + pages * RN_PAGE)) == 0);
    CHECK(pagemap_handle(at(start - 1)) == NULL && pagemap_handle(at(start + pages * RN_PAGE)) == NULL);
    pagemap_set(start, pages, 0, NULL);
    CHECK(pagemap_tag(at(start)) == 0 && pagemap_handle(at(start)) == NULL && pagemap_has(at(start)));
}

static void check_spans(uintptr_t base) {
    check_span(base + 5 * RN_PAGE, 1, 1);
    check_span(base + GIB - 3 * RN_PAGE, 7, 255);
    check_span(base + 8192 * (uintptr_t)RN_PAGE - RN_PAGE, 2, 97);
    check_span(base + GIB + 65536 * (uintptr_t)RN_PAGE - 16 * RN_PAGE, 40, 42);
}

static void radix(void *unused) {
    (void)unused;
    check_spans(17 * GIB);
    check_spans(TOP - 4 * GIB);
    check_span(TOP - 2 * RN_PAGE, 1, 9); /* the last page but one */
}

static void window(void *unused) {
    (void)unused;
    uintptr_t base = 100 * GIB;
    CHECK(pagemap_window(base, 4 * GIB) == 0);
    CHECK(pagemap_win.base == base && pagemap_win.words == 4 * GIB / 8);
    CHECK(pagemap_win.whole_base == PAGEMAP_NO_BASE && pagemap_win.whole_tags == PAGEMAP_NO_TAGS);
    check_unknown(base);
    check_spans(base);
    check_spans(base + 2 * GIB - RN_PAGE * 64); /* leaves the window */
    check_spans(base + 3 * GIB);                /* crosses its end */
    check_span(base - 8 * RN_PAGE, 12, 3);      /* crosses its start */
    check_spans(base + 50 * GIB);
    /* What the assembly reads is what the root says. */
    pagemap_set(base + 6 * RN_PAGE, 1, 7, &handles[7]);
    CHECK(atomic_load(&pagemap_win.tags[6]) == 7 && atomic_load(&pagemap_win.handles[6]) == &handles[7]);
}

/* Of the window only leaves behind the last one in use go, of the tags only where that is asked for, and not those of a
 * leaf that came to be again. */
static void window_shrinks(void *unused) {
    (void)unused;
    uintptr_t base = 100 * GIB;
    const size_t leaf = PAGEMAP_LEAF_PAGES * sizeof(void *), leaf_tags = PAGEMAP_LEAF_PAGES;
    CHECK(pagemap_shrink(true) == 0); /* there is none yet */
    CHECK(pagemap_window(base, 8 * GIB) == 0);
    check_span(base + GIB + 5 * RN_PAGE, 3, 4);
    size_t mapped = script_mapped();
    for (int i = 0; i < 2; i++) {
        CHECK(pagemap_shrink(false) == (i ? 0 : 6 * leaf) && pagemap_win.handle_pages == 2 * GIB / RN_PAGE);
        CHECK(pagemap_win.words == 8 * GIB / 8 && script_mapped() == mapped - 6 * leaf);
    }
    check_span(base + 4 * GIB + 5 * RN_PAGE, 3, 4); /* it takes handles */
    CHECK(script_mapped() == mapped - 5 * leaf);
    for (int i = 0; i < 2; i++) {
        CHECK(pagemap_shrink(true) == (i ? 0 : 3 * leaf_tags) && pagemap_win.handle_pages == 2 * GIB / RN_PAGE);
        CHECK(pagemap_win.words == 5 * GIB / 8 && script_mapped() == mapped - 5 * leaf - 3 * leaf_tags);
    }
    check_unknown(base + 2 * GIB);
    check_unknown(base + 6 * GIB);
    check_spans(base);
    check_spans(base + 3 * GIB);
    check_spans(base + 5 * GIB);
}

/* As free of x86-64 looks a pointer up, where there is a whole window. */
static bool is_in_whole(uintptr_t pointer, size_t *page) {
    uintptr_t from = pointer - pagemap_win.whole_base;
    *page = (from >> 3 | from << 61) >> 10;
    return *page < PAGEMAP_WINDOW_PAGES;
}

/* Without a whole window every address lands beyond, at any distance from a page's start. */
static void check_not_whole(void) {
    const uintptr_t some[] = {0,
                              8,
                              GIB,
                              100 * GIB,
                              163 * GIB,
                              TOP / 2,
                              TOP - GIB,
                              TOP,
                              (uintptr_t)-1 << 47,
                              (uintptr_t)1 << 63,
                              (uintptr_t)-1 - RN_PAGE,
                              (uintptr_t)check_spans};
    size_t page;
    CHECK(pagemap_win.whole_base == PAGEMAP_NO_BASE && pagemap_win.whole_tags == PAGEMAP_NO_TAGS);
    for (size_t i = 0; i < sizeof some / sizeof *some; i++)
        for (uintptr_t offset = 0; offset < RN_PAGE; offset++)
            CHECK(!is_in_whole(some[i] + offset, &page));
}

static void not_whole(void *unused) {
    (void)unused;
    check_not_whole();
    CHECK(pagemap_window(100 * GIB, 63 * GIB) == 0);
    check_not_whole();
}

/* Sets an entry and looks it up so. */
static void check_whole(uintptr_t address, bool inside) {
    size_t page;
    CHECK(pagemap_ensure(address, RN_PAGE) == 0);
    pagemap_set(address, 1, 7, &handles[7]);
    CHECK(is_in_whole(address, &page) == inside && (!inside || atomic_load(&pagemap_win.whole_tags[page]) == 7));
    CHECK(is_in_whole(address + RN_PAGE - 8, &page) == inside);
    for (unsigned odd = 1; odd < 8; odd++)
        CHECK(!is_in_whole(address + odd, &page));
    pagemap_set(address, 1, 0, NULL);
}

/* Also once it was shrunk: what then comes to lie in its leaves has the same tags. */
static void whole(void *unused) {
    (void)unused;
    uintptr_t base = 100 * GIB;
    CHECK(pagemap_window(base, (size_t)1 << PAGEMAP_WINDOW_SHIFT) == 0);
    for (int i = 0; i < 2; i++) {
        check_spans(base);
        check_span(base + 2 * GIB + 70 * RN_PAGE, 40, 42);
        check_whole(base, true);
        (void)pagemap_shrink(false);
        CHECK(pagemap_win.handle_pages == 3 * GIB / RN_PAGE);
        check_whole(base + 2 * GIB, true);
        check_whole(base - RN_PAGE, false);
        check_whole(base + 64 * GIB, false);
    }
    check_whole(base + 3 * GIB, true);
    check_spans(base + 61 * GIB);
    check_whole(base + 64 * GIB - RN_PAGE, true);
    (void)pagemap_shrink(true); /* no tags, for the last of them are in use */
    check_whole(base + 62 * GIB, true);
    check_span(base + 64 * GIB - 8 * RN_PAGE, 12, 3); /* crosses its end */
}

static void no_longer_whole(void *unused) {
    (void)unused;
    uintptr_t base = 100 * GIB;
    size_t page;
    CHECK(pagemap_window(base, (size_t)1 << PAGEMAP_WINDOW_SHIFT) == 0);
    check_spans(base);
    (void)pagemap_shrink(true);
    CHECK(pagemap_win.whole_base == PAGEMAP_NO_BASE && !is_in_whole(base, &page) && !is_in_whole(base + GIB, &page));
    check_spans(base);
    check_spans(base + 61 * GIB);
}

static void window_beyond(void *unused) {
    (void)unused;
    size_t mapped = script_mapped();
    CHECK(pagemap_window(TOP - GIB, 2 * GIB) != 0 && pagemap_win.words == 0 && script_mapped() == mapped);
    check_spans(TOP - 4 * GIB);
}

/* With every call failing in turn: a refusal leaves no entry half there, no address space lost, and the repetition
 * works. */
static void ensure_fails(void *number) {
    script_play(&(struct script){.fail_at = *(unsigned long *)number});
    size_t mapped = script_mapped();
    uintptr_t base = 200 * GIB;
    bool has_window = pagemap_window(base, 2 * GIB) == 0;
    os_settle();
    CHECK(has_window || (pagemap_win.words == 0 && script_mapped() == mapped));
    uintptr_t start = base + 2 * GIB - 4 * RN_PAGE; /* half in the window */
    if (pagemap_ensure(start, 8 * RN_PAGE) != 0) {
        CHECK(pagemap_tag(at(start)) == 0 && pagemap_tag(at(start + 5 * RN_PAGE)) == 0);
        CHECK(pagemap_ensure(start, 8 * RN_PAGE) == 0);
    }
    pagemap_set(start, 8, 11, handles);
    CHECK(pagemap_tag(at(start)) == 11 && pagemap_tag(at(start + 7 * RN_PAGE)) == 11);
    CHECK(pagemap_handle(at(start + 7 * RN_PAGE)) == handles);
    if (script_failures() == 0)
        exit(77);
}

static void larger_pages(void *size) {
    script_play(&(struct script){.page_size = *(size_t *)size});
    os_init();
    window(NULL);
}

static void test_foreign(void **state) {
    (void)state;
    assert_int_equal(child_fails(foreign, NULL), 0);
}
static void test_radix(void **state) {
    (void)state;
    assert_int_equal(child_fails(radix, NULL), 0);
}
static void test_window(void **state) {
    (void)state;
    assert_int_equal(child_fails(window, NULL), 0);
}
static void test_shrinks(void **state) {
    (void)state;
    assert_int_equal(child_fails(window_shrinks, NULL), 0);
}
static void test_whole(void **state) {
    (void)state;
    assert_int_equal(child_fails(not_whole, NULL), 0);
    assert_int_equal(child_fails(whole, NULL), 0);
    assert_int_equal(child_fails(no_longer_whole, NULL), 0);
}
static void test_beyond(void **state) {
    (void)state;
    assert_int_equal(child_fails(window_beyond, NULL), 0);
}

static void test_ensure_fails(void **state) {
    (void)state;
    unsigned long number = 1;
    for (; number < 100; number++) {
        int status = run_child(ensure_fails, &number);
        if (status == 77 << 8)
            break;
        if (status != 0)
            fail_msg("call %lu: %s", number, child_output);
    }
    assert_in_range(number, 5, 99); /* the reference run makes some calls, all of which failed once */
}

static void test_larger_pages(void **state) {
    (void)state;
    for (size_t size = 16384; size <= 65536; size *= 4)
        assert_int_equal(child_fails(larger_pages, &size), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_foreign),      cmocka_unit_test(test_radix),  cmocka_unit_test(test_window),
        cmocka_unit_test(test_shrinks),      cmocka_unit_test(test_beyond), cmocka_unit_test(test_ensure_fails),
        cmocka_unit_test(test_larger_pages), cmocka_unit_test(test_whole),
    };
    return cmocka_run_group_tests_name("pagemap", tests, NULL, NULL);
}
