/* record.c: what the recorder left behind becomes a trace, even if the program scribbled over it or died in the middle
 * of an event. The packer is of rnbench record, and has no door of its own. */
#include "rnbench/trace_record.c"

#include "tests/fuzz/bench_stubs.h"
#include "tests/fuzz/fuzz.h"

const char *const fuzz_variants[] = {"plain", NULL};

void fuzz_begin(const char *variant) { (void)variant; }

enum { EVENTS_MOST = 2000 };

/* Events as the recorder writes them, in the order of their numbers but for a few; or any bytes. */
static size_t events_read(struct input *input, struct raw_event *events) {
    size_t count = 0;
    while (count < EVENTS_MOST && input_left(input)) {
        unsigned what = input_byte(input);
        uint64_t block = 16 * (uint64_t)(input_byte(input) % 32);
        events[count] = (struct raw_event){
            .number = count + 1,
            .block = block,
            .size = what & 8 ? input_number(input, 6) : input_byte(input),
            .thread = 1 + (what >> 4 & 3),
            .kind = what & 7,
            .alignment_log2 = (uint16_t)(block >> 4),
        };
        if (what >> 6 == 3)
            events[count].number = input_number(input, 2);
        if (what >> 6 == 2)
            events[count].thread = (uint32_t)input_number(input, 3);
        count++;
    }
    return count;
}

struct raw_file {
    const char *path;
    struct trace trace;
};

static void pack_raw(void *argument) {
    struct raw_file *file = argument;
    pack_file(&file->trace, file->path);
    trace_check(&file->trace);
    fail("done"); /* which frees all tables */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct raw_event events[EVENTS_MOST];
    struct input input = {data, data + size};
    char path[32];
    struct raw_file file = {.path = path};
    memset(events, 0, sizeof events);
    bool as_it_is = input_byte(&input) == 0xff;
    size_t count = as_it_is ? 0 : events_read(&input, events);
    int descriptor = as_it_is ? file_of(input.at, (size_t)(input.end - input.at), path)
                              : file_of(events, count * sizeof *events, path);
    CHECK(!survives(pack_raw, &file));
    (void)close(descriptor);
    return 0;
}
