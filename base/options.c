#include "base/options.h"

#include <string.h>

#include "base/attr.h"
#include "base/fatal.h"

const struct option_row option_table[OPT_COUNT] = {
    [OPT_ARM64_RSEQ] = {"arm64_rseq", 0, 1, 0, "use rseq on arm64 kernels 6.19 and later that may miss aborts"},
    [OPT_CID] = {"cid", 0, 1, 1, "index pools by the kernel's mm_cid where it is given, not by cpu_id"},
    [OPT_DEEPBIND] = {"deepbind", 0, 1, 0, "leave RTLD_DEEPBIND in calls of dlopen"},
    [OPT_HARDENED] = {"hardened", 0, 1, 0, "check every block: slower, larger, and stops at the first mistake it sees"},
    [OPT_HELPER] = {"helper", 0, 1, 1, "in processes with threads, a thread that gives idle memory back"},
    [OPT_HELPER_MIN_MIB] = {"helper_min_mib", 0, 1 << 20, 1, "free memory in MiB from which the helper works"},
    [OPT_HUGEPAGES] = {"hugepages", 0, 1, 1, "ask for transparent huge pages once the heap is big"},
    [OPT_HUGETLB] = {"hugetlb", 0, 1024, 0, "explicit huge pages to try first: 2 or 1024 MiB, 0 for none"},
    [OPT_POOL_KIB] = {"pool_kib", 16, 1 << 20, 4096, "bytes in KiB that a CPU's pool may hold in a small heap"},
    [OPT_RELEASE] = {"release", 0, 1, 1, "give free memory back to the system"},
    [OPT_RETAIN_MIB] = {"retain_mib", 0, 1 << 20, 1, "free memory in MiB that is kept in any case"},
    [OPT_RSEQ] = {"rseq", 0, 1, 1, "per-CPU pools by restartable sequences; 0: pools per thread"},
    [OPT_STATS] = {"stats", 0, 1, 0, "print statistics to stderr at exit"},
};

static size_t values[OPT_COUNT];
static bool changed[OPT_COUNT];

size_t option_get(enum option option) { return changed[option] ? values[option] : option_table[option].fallback; }

static void print_help(void) {
    for (int i = 0; i < OPT_COUNT; i++) {
        const struct option_row *row = &option_table[i];
        struct line line = {.used = 0};
        line_text(&line, "option ");
        line_text(&line, row->name);
        line_text(&line, "=");
        line_number(&line, row->min);
        line_text(&line, "..");
        line_number(&line, row->max);
        line_text(&line, " (default ");
        line_number(&line, row->fallback);
        line_text(&line, "): ");
        line_text(&line, row->meaning);
        line_warn(&line);
    }
}

/* A piece of the option text, not terminated. */
struct piece {
    const char *text;
    size_t length;
};

/* What the environment holds may be any bytes; what is told stays one line, and harmless to a terminal. */
static char printable(char byte) { return (char)(byte >= ' ' && byte <= '~' ? byte : '?'); }

static void line_piece(struct line *line, struct piece piece) {
    char copy[80];
    size_t length = min_size(piece.length, sizeof copy - 1);
    for (size_t i = 0; i < length; i++)
        copy[i] = printable(piece.text[i]);
    copy[length] = 0;
    line_text(line, copy);
}

static void report_unknown(struct piece name) {
    struct line line = {.used = 0};
    line_text(&line, "option \"");
    line_piece(&line, name);
    line_text(&line, "\": unknown; ignored");
    line_warn(&line);
}

static void report_value(struct piece entry, const struct option_row *row) {
    struct line line = {.used = 0};
    line_text(&line, "option \"");
    line_piece(&line, entry);
    line_text(&line, "\": not in ");
    line_number(&line, row->min);
    line_text(&line, "..");
    line_number(&line, row->max);
    line_text(&line, "; default ");
    line_number(&line, row->fallback);
    line_text(&line, " kept");
    line_warn(&line);
}

/* A decimal number, all of the piece; false if it is not one. */
static bool parse_number(struct piece piece, size_t *value) {
    *value = 0;
    if (piece.length == 0 || piece.length > 15)
        return false;
    for (size_t i = 0; i < piece.length; i++) {
        if (piece.text[i] < '0' || piece.text[i] > '9')
            return false;
        *value = *value * 10 + (size_t)(piece.text[i] - '0');
    }
    return true;
}

static bool is_allowed(int option, size_t value) {
    const struct option_row *row = &option_table[option];
    return value >= row->min && value <= row->max &&
           (option != OPT_HUGETLB || value == 0 || value == 2 || value == 1024);
}

static void parse_entry(struct piece entry) {
    const char *equals = memchr(entry.text, '=', entry.length);
    struct piece name = {entry.text, equals ? (size_t)(equals - entry.text) : entry.length};
    if (!equals && name.length == 4 && memcmp(name.text, "help", 4) == 0) {
        print_help();
        return;
    }
    for (int i = 0; i < OPT_COUNT; i++) {
        const struct option_row *row = &option_table[i];
        if (strlen(row->name) != name.length || memcmp(row->name, name.text, name.length) != 0)
            continue;
        struct piece number = {equals ? equals + 1 : "", equals ? entry.length - name.length - 1 : 0};
        size_t value;
        if (!parse_number(number, &value) || !is_allowed(i, value)) {
            report_value(entry, row);
            return;
        }
        values[i] = value;
        changed[i] = true;
        return;
    }
    report_unknown(name);
}

void options_parse(const char *text) {
    while (text && *text) {
        const char *comma = strchr(text, ',');
        size_t length = comma ? (size_t)(comma - text) : strlen(text);
        if (length)
            parse_entry((struct piece){text, length});
        text = comma ? comma + 1 : NULL;
    }
}
