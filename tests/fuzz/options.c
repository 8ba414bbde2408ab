/* options.c: the parser of RNALLOC_OPTIONS against a second one, written from README's words: entries between commas;
 * a good one sets its option, "help" prints the table, and a bad one is told in one line of printable text. */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/options.h"
#include "tests/fuzz/fuzz.h"

const char *const fuzz_variants[] = {"plain", NULL};

static unsigned lines;
static bool is_watching;

long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);
long __wrap_syscall(long number, ...) {
    static const char prefix[] = "rnalloc: option ";
    long argument[6] = {0};
    va_list list;
    va_start(list, number);
    for (int i = 0; i < (number == SYS_futex ? 6 : 5); i++) /* registers hold five, used or not */
        argument[i] = va_arg(list, long);
    va_end(list);
    if (!is_watching || number != SYS_write || argument[0] != STDERR_FILENO)
        return __real_syscall(number, argument[0], argument[1], argument[2], argument[3], argument[4], argument[5]);
    const char *text = (const char *)argument[1];
    size_t size = (size_t)argument[2];
    is_watching = false; /* a failed check writes */
    CHECK(size > sizeof prefix && memcmp(text, prefix, sizeof prefix - 1) == 0 && text[size - 1] == '\n');
    for (size_t i = 0; i < size - 1; i++)
        CHECK(text[i] >= ' ' && text[i] <= '~');
    is_watching = true;
    lines++;
    return (long)size;
}

void fuzz_begin(const char *variant) { (void)variant; }

/* Every option has its default: there is no other way back. */
static void reset(void) {
    for (int i = 0; i < OPT_COUNT; i++) {
        char text[100];
        size_t value = option_table[i].fallback, length = strlen(option_table[i].name);
        char digits[24], *at = digits + sizeof digits;
        *--at = 0;
        do
            *--at = (char)('0' + value % 10);
        while ((value /= 10) != 0);
        memcpy(text, option_table[i].name, length);
        text[length] = '=';
        strcpy(text + length + 1, at);
        options_parse(text);
        CHECK(option_get((enum option)i) == option_table[i].fallback);
    }
}

static size_t expected[OPT_COUNT];
static unsigned expected_lines;

static void expect_entry(const char *entry) {
    if (strcmp(entry, "help") == 0) {
        expected_lines += OPT_COUNT;
        return;
    }
    size_t name = strcspn(entry, "=");
    const char *digits = entry + name + (entry[name] == '=');
    size_t length = strlen(digits);
    for (int i = 0; i < OPT_COUNT; i++) {
        const struct option_row *row = &option_table[i];
        if (strlen(row->name) != name || strncmp(row->name, entry, name) != 0)
            continue;
        unsigned long long value = strtoull(length < 19 ? digits : "9999999999", NULL, 10);
        bool is_number = length > 0 && strspn(digits, "0123456789") == length;
        bool is_good = is_number && value >= row->min && value <= row->max &&
                       (i != OPT_HUGETLB || value == 0 || value == 2 || value == 1024);
        /* leading zeros beyond 15 digits are not read */
        if (is_good && length <= 15)
            expected[i] = value;
        else
            expected_lines++;
        return;
    }
    expected_lines++;
}

static void expect(char *text) {
    char *rest = text;
    for (char *entry; (entry = strsep(&rest, ",")) != NULL;)
        if (*entry)
            expect_entry(entry);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *text = malloc(size + 1), *copy = malloc(size + 1);
    CHECK(text && copy);
    memcpy(text, data, size);
    text[size] = 0;
    strcpy(copy, text);
    reset();
    expected_lines = lines = 0;
    for (int i = 0; i < OPT_COUNT; i++)
        expected[i] = option_table[i].fallback;
    is_watching = true;
    options_parse(text);
    is_watching = false;
    CHECK(strcmp(text, copy) == 0);
    expect(copy);
    CHECK(lines == expected_lines);
    for (int i = 0; i < OPT_COUNT; i++)
        CHECK(option_get((enum option)i) == expected[i]);
    free(text);
    free(copy);
    return 0;
}
