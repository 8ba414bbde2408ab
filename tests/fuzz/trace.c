/* trace.c: RnBench's readers of traces, which meet damaged files. What they accept must be replayable, and the same
 * after it was written and read again. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "rnbench/rnbench.h"
#include "tests/fuzz/bench_stubs.h"
#include "tests/fuzz/fuzz.h"

const char *const fuzz_variants[] = {"plain", NULL};

void fuzz_begin(const char *variant) { (void)variant; }

struct file {
    const char *path;
    struct trace trace;
};

static void read_file(void *argument) {
    struct file *file = argument;
    trace_read(&file->trace, file->path);
}

static void write_again(void *argument) {
    struct file *file = argument;
    char folder[] = "/tmp/rn-fuzz-XXXXXX", path[64];
    struct file again = {.path = path};
    CHECK(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/trace", folder);
    trace_write(&file->trace, path);
    read_file(&again);
    CHECK(unlink(path) == 0 && rmdir(folder) == 0);
    CHECK(again.trace.count == file->trace.count && again.trace.objects == file->trace.objects);
    CHECK(again.trace.threads == file->trace.threads && again.trace.peak_live == file->trace.peak_live);
    CHECK(strcmp(again.trace.program, file->trace.program) == 0);
    for (uint64_t i = 0; i < file->trace.count; i++)
        CHECK(memcmp(&again.trace.events[i], &file->trace.events[i], sizeof again.trace.events[i]) == 0);
    fail("done"); /* which frees all tables */
}

/* As trace_file.c has it: FNV-1a. */
static void seal(uint8_t *bytes, size_t size) {
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ bytes[i]) * 0x100000001b3u;
    for (int i = 0; i < 8; i++)
        bytes[size + (size_t)i] = (uint8_t)(hash >> (8 * i));
}

/* The first byte tells whether the rest is a file as it is, or the inside of one with a good frame: mutations would
 * never hit the checksum. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char magic[] = "RNTRACE1";
    char path[32];
    struct file file = {.path = path};
    if (size == 0)
        return 0;
    size_t framed = size - 1 + 16;
    uint8_t *bytes = calloc(framed, 1);
    CHECK(bytes);
    bool is_framed = data[0] & 1;
    memcpy(bytes, magic, 8);
    memcpy(bytes + (is_framed ? 8 : 0), data + 1, size - 1);
    seal(bytes, framed - 8);
    int descriptor = file_of(bytes, is_framed ? framed : size - 1, path);
    if (survives(read_file, &file)) {
        trace_check(&file.trace);
        CHECK(!survives(write_again, &file));
    }
    (void)close(descriptor);
    free(bytes);
    return 0;
}
