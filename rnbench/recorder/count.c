/* count.c: librncount.so, the proof that a program used an allocator: preloaded before it, it counts the calls that
 * reach it.
 *
 * RNCOUNT names a file of rows, made by the reader, which every process that inherits it maps and adds to: so the
 * counts outlive _exit, signals and exec. Each executable has a row. Without RNCOUNT nothing is written. */
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "rnbench/recorder/forward.h"

enum { ROWS = 128, NAME_BYTES = 192 };

/* The file, as the reader unpacks it: names end in a zero byte; a row is taken once its `taken` is not 0. */
struct row {
    _Atomic uint64_t taken;  /* 1: being filled, 2: filled */
    _Atomic uint64_t images; /* times the executable was started (not forks) */
    _Atomic uint64_t calls[CALL_KINDS];
    _Atomic uint64_t other_allocator; /* images in which the next malloc was not in a file named as RNCOUNT_OBJECT */
    char executable[NAME_BYTES];
};

/* Before the constructor has run, and without RNCOUNT, calls are counted here. */
static struct row early;
static struct row *_Atomic row = &early;

void observe_before(enum call call, const void *block) {
    if (call == CALL_FREE && block)
        atomic_fetch_add_explicit(&atomic_load_explicit(&row, memory_order_relaxed)->calls[call], 1,
                                  memory_order_relaxed);
}

void observe_after(enum call call, const void *block, size_t size, size_t alignment) {
    (void)size;
    (void)alignment;
    if (block)
        atomic_fetch_add_explicit(&atomic_load_explicit(&row, memory_order_relaxed)->calls[call], 1,
                                  memory_order_relaxed);
}

/* The executable's row, or the next free one; the last one is shared by those that come when the file is full. */
static struct row *row_of(struct row *rows, const char *executable) {
    for (struct row *candidate = rows; candidate < rows + ROWS - 1; candidate++) {
        uint64_t expected = 0;
        if (atomic_compare_exchange_strong(&candidate->taken, &expected, 1)) {
            memcpy(candidate->executable, executable, strlen(executable) + 1);
            atomic_store(&candidate->taken, 2);
            return candidate;
        }
        while (atomic_load(&candidate->taken) == 1)
            ;
        if (strcmp(candidate->executable, executable) == 0)
            return candidate;
    }
    return rows + ROWS - 1;
}

static bool is_expected_object(void) {
    const char *expected = getenv("RNCOUNT_OBJECT");
    return !expected || strstr(forward_object(), expected);
}

__attribute__((constructor)) static void count_open(void) {
    const char *path = getenv("RNCOUNT");
    int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (file < 0)
        return;
    struct row *rows = mmap(NULL, ROWS * sizeof *rows, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    char executable[NAME_BYTES] = "";
    if (rows == MAP_FAILED || readlink("/proc/self/exe", executable, sizeof executable - 1) < 0)
        return;
    struct row *mine = row_of(rows, executable);
    atomic_fetch_add(&mine->images, 1);
    atomic_fetch_add(&mine->other_allocator, !is_expected_object());
    for (int call = 0; call < CALL_KINDS; call++)
        atomic_fetch_add(&mine->calls[call], atomic_load(&early.calls[call]));
    atomic_store(&row, mine);
}
