/* base-touch.c: a page that is touched is there, as after a write: not the system's page of zeros, which a read gives.
 */
#include <stdio.h>

#include "base/os.h"
#include "tests/unit/check.h"
#include "tests/unit/cmock.h"

enum { PAGES = 4096, SLACK = 256 };

/* Resident pages of the process, without the page of zeros. proc(5), /proc/pid/statm. */
static size_t resident(void) {
    size_t size = 0, pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    CHECK(file && fscanf(file, "%zu %zu", &size, &pages) == 2);
    (void)fclose(file);
    return pages;
}

static void touches(void *unused) {
    (void)unused;
    os_init();
    size_t bytes = PAGES * os_page_size();
    char *start = os_reserve(0, bytes, os_page_size());
    CHECK(start && os_commit(start, bytes) == 0);
    (void)os_advise_base(start, bytes);
    size_t before = resident();
    for (size_t i = 0; i < bytes; i += os_page_size())
        os_touch(start + i);
    CHECK(resident() >= before + PAGES - SLACK);
    for (size_t i = 0; i < bytes; i++)
        CHECK(start[i] == 0);
}

static void test_touches(void **state) {
    (void)state;
    assert_int_equal(child_fails(touches, NULL), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_touches)};
    return cmocka_run_group_tests_name("touch", tests, NULL, NULL);
}
