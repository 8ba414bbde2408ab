/* trace_file.c: traces in files: trace.h describes the format. Readers trust nothing: every event is checked before it
 * is used. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "rnbench.h"
#include "trace.h"

static const char magic[8] = {'R', 'N', 'T', 'R', 'A', 'C', 'E', '1'};

enum { SWITCH = 8, MAX_THREADS = 1 << 20 };

#define MAX_BLOCK ((uint64_t)1 << 46)

struct reader {
    const uint8_t *at, *end;
    const char *path;
};

static void damaged(const struct reader *reader, const char *what) __attribute__((noreturn));
static void damaged(const struct reader *reader, const char *what) {
    fail("%s: damaged trace: %s", reader->path, what);
}

static uint64_t read_byte(struct reader *reader) {
    if (reader->at == reader->end)
        damaged(reader, "it ends in the middle of an event");
    return *reader->at++;
}

static uint64_t read_varint(struct reader *reader) {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        uint64_t byte = read_byte(reader);
        value |= (byte & 127) << shift;
        if (byte < 128)
            return value;
    }
    damaged(reader, "a number is too long");
}

static uint64_t checksum(const uint8_t *bytes, size_t length) {
    uint64_t hash = 0xcbf29ce484222325ULL;
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ bytes[i]) * 0x100000001b3ULL;
    return hash;
}

void trace_push(struct trace *trace, uint64_t *capacity, struct trace_event event) {
    if (trace->count == *capacity) {
        uint64_t wider = *capacity ? 2 * *capacity : 1 << 16;
        struct trace_event *events = table_new(wider * sizeof *events, false);
        if (trace->count) {
            memcpy(events, trace->events, trace->count * sizeof *events);
            table_free(trace->events, *capacity * sizeof *events);
        }
        trace->events = events;
        *capacity = wider;
    }
    trace->events[trace->count++] = event;
}

/* Live sizes by object, while reading or measuring: 0 for a block that is not live, else its size plus one. */
static void take_block(const struct reader *reader, uint64_t *live, uint64_t object) {
    if (!live[object])
        damaged(reader, "an event takes a block that is not live");
    live[object] = 0;
}

static uint32_t read_old(struct reader *reader, uint64_t objects) {
    uint64_t age = read_varint(reader);
    if (age == 0 || age > objects)
        damaged(reader, "an event takes a block that was never given");
    return (uint32_t)(objects - age);
}

static uint64_t read_size(struct reader *reader) {
    uint64_t size = read_varint(reader);
    if (size > MAX_BLOCK)
        damaged(reader, "a block is absurdly large");
    return size;
}

static struct trace_event read_event(struct reader *reader, uint64_t *live, const struct trace *trace,
                                     uint64_t *objects, uint32_t *thread) {
    struct trace_event event = {0};
    uint64_t head = read_byte(reader);
    event.kind = head & 7;
    if (event.kind >= TRACE_KINDS || head >= 16)
        damaged(reader, "an event is of no known kind");
    if (head & SWITCH) {
        uint64_t other = read_varint(reader);
        if (other >= trace->threads)
            damaged(reader, "an event is of a thread that does not exist");
        *thread = (uint32_t)other;
    }
    event.thread = *thread;
    if (event.kind == TRACE_ALIGNED) {
        uint64_t log2 = read_varint(reader);
        if (log2 > 40)
            damaged(reader, "an alignment is absurdly large");
        event.alignment_log2 = (uint8_t)log2;
    }
    if (event.kind == TRACE_REALLOC || event.kind == TRACE_FREE) {
        event.old = read_old(reader, *objects);
        take_block(reader, live, event.old);
    }
    if (event.kind == TRACE_FREE) {
        event.object = event.old;
        return event;
    }
    event.size = read_size(reader);
    if (*objects == trace->objects)
        damaged(reader, "it has more blocks than it says");
    event.object = (uint32_t)(*objects)++;
    live[event.object] = event.size + 1;
    return event;
}

static void read_body(struct reader *reader, struct trace *trace) {
    uint64_t count = read_varint(reader);
    trace->objects = read_varint(reader);
    trace->threads = read_varint(reader);
    uint64_t length = read_varint(reader);
    /* Each event takes two bytes at least, so these bounds keep a damaged count from asking for all memory. */
    uint64_t rest = (uint64_t)(reader->end - reader->at);
    if (count > rest || trace->objects > count || trace->threads > MAX_THREADS || trace->threads == 0 ||
        length > rest || trace->objects > UINT32_MAX)
        damaged(reader, "its counts are impossible");
    snprintf(trace->program, sizeof trace->program, "%.*s", (int)(length < 127 ? length : 127),
             (const char *)reader->at);
    reader->at += length;

    uint64_t capacity = 0, objects = 0;
    uint32_t thread = 0;
    size_t live_bytes = (trace->objects + 1) * sizeof(uint64_t);
    uint64_t *live = table_new(live_bytes, false);
    for (uint64_t i = 0; i < count; i++)
        trace_push(trace, &capacity, read_event(reader, live, trace, &objects, &thread));
    if (reader->at != reader->end || objects != trace->objects)
        damaged(reader, "it holds more or less than it says");
    table_free(live, live_bytes);
}

/* The whole file in memory, with a zero byte behind it; pipes are read as well. */
static uint8_t *read_file(const char *path, size_t *length) {
    int file = open(path, O_RDONLY | O_CLOEXEC);
    struct stat status;
    if (file < 0 || fstat(file, &status) != 0)
        fail("%s: %s", path, strerror(errno));
    size_t capacity = S_ISREG(status.st_mode) ? (size_t)status.st_size + 2 : (size_t)1 << 20;
    uint8_t *bytes = table_new(capacity, false);
    *length = 0;
    for (;;) {
        if (*length + 1 >= capacity) {
            uint8_t *wider = table_new(2 * capacity, false);
            memcpy(wider, bytes, *length);
            table_free(bytes, capacity);
            bytes = wider;
            capacity *= 2;
        }
        ssize_t got = read(file, bytes + *length, capacity - *length - 1);
        if (got < 0)
            fail("%s: %s", path, strerror(errno));
        if (got == 0)
            break;
        *length += (size_t)got;
    }
    close(file);
    bytes[*length] = 0;
    return bytes;
}

static bool is_rep_name(const char *path) {
    size_t length = strlen(path);
    return length > 4 && strcmp(path + length - 4, ".rep") == 0;
}

void trace_read(struct trace *trace, const char *path) {
    size_t length;
    uint8_t *bytes = read_file(path, &length);
    memset(trace, 0, sizeof *trace);
    if (length >= sizeof magic && memcmp(bytes, magic, sizeof magic) == 0) {
        struct reader reader = {bytes + sizeof magic, bytes + length - 8, path};
        uint64_t sum = 0;
        if (length < sizeof magic + 8 + 4)
            damaged(&reader, "it is too short");
        for (int i = 0; i < 8; i++)
            sum |= (uint64_t)reader.end[i] << (8 * i);
        if (sum != checksum(bytes, length - 8))
            damaged(&reader, "its checksum is wrong (cut off or changed)");
        read_body(&reader, trace);
    } else if (is_rep_name(path) || (length && bytes[0] >= '0' && bytes[0] <= '9')) {
        if (memchr(bytes, 0, length))
            fail("%s: damaged trace: a zero byte in a text", path);
        trace_read_rep(trace, path, (const char *)bytes);
    } else {
        fail("%s: not a trace: neither RNTRACE1 nor a .rep file", path);
    }
    trace_measure(trace);
}

void trace_measure(struct trace *trace) {
    size_t bytes = (trace->objects + 1) * sizeof(uint64_t);
    uint64_t *sizes = table_new(bytes, false);
    uint64_t now = 0;
    for (uint64_t i = 0; i < trace->count; i++) {
        const struct trace_event *event = &trace->events[i];
        if (event->kind == TRACE_REALLOC || event->kind == TRACE_FREE)
            now -= sizes[event->old];
        if (event->kind != TRACE_FREE)
            now += sizes[event->object] = event->size;
        if (now > trace->peak_live)
            trace->peak_live = now;
    }
    table_free(sizes, bytes);
}

struct writer {
    uint8_t *bytes;
    size_t used;
};

static void write_varint(struct writer *writer, uint64_t value) {
    for (; value >= 128; value >>= 7)
        writer->bytes[writer->used++] = (uint8_t)(value | 128);
    writer->bytes[writer->used++] = (uint8_t)value;
}

static void write_event(struct writer *writer, const struct trace_event *event, uint64_t objects, uint32_t *thread) {
    bool switches = event->thread != *thread;
    writer->bytes[writer->used++] = (uint8_t)(event->kind | (switches ? SWITCH : 0));
    if (switches)
        write_varint(writer, *thread = event->thread);
    if (event->kind == TRACE_ALIGNED)
        write_varint(writer, event->alignment_log2);
    if (event->kind == TRACE_REALLOC || event->kind == TRACE_FREE)
        write_varint(writer, objects - event->old);
    if (event->kind != TRACE_FREE)
        write_varint(writer, event->size);
}

/* Written beside and renamed, so that a full disk leaves the old file or none. */
static void write_file(const char *path, const uint8_t *bytes, size_t length) {
    char beside[PATH_MAX];
    if (snprintf(beside, sizeof beside, "%s.unfinished", path) >= (int)sizeof beside)
        fail("%s: the name is too long", path);
    int file = open(beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    int error = file < 0 ? errno : 0;
    while (!error && length) {
        ssize_t put = write(file, bytes, length);
        if (put < 0)
            error = errno;
        else {
            bytes += put;
            length -= (size_t)put;
        }
    }
    if (file >= 0 && close(file) != 0 && !error)
        error = errno;
    if (!error && rename(beside, path) != 0)
        error = errno;
    if (error) {
        unlink(beside);
        fail("%s: %s", path, strerror(error));
    }
}

void trace_write(const struct trace *trace, const char *path) {
    enum { WORST_EVENT = 1 + 3 + 10 + 10, WORST_HEADER = 256 };
    size_t capacity = WORST_HEADER + trace->count * WORST_EVENT;
    struct writer writer = {table_new(capacity, false), sizeof magic};
    uint64_t objects = 0;
    uint32_t thread = 0;
    memcpy(writer.bytes, magic, sizeof magic);
    write_varint(&writer, trace->count);
    write_varint(&writer, trace->objects);
    write_varint(&writer, trace->threads);
    write_varint(&writer, strlen(trace->program));
    memcpy(writer.bytes + writer.used, trace->program, strlen(trace->program));
    writer.used += strlen(trace->program);
    for (uint64_t i = 0; i < trace->count; i++) {
        write_event(&writer, &trace->events[i], objects, &thread);
        objects += trace->events[i].kind != TRACE_FREE;
    }
    uint64_t sum = checksum(writer.bytes, writer.used);
    for (int i = 0; i < 8; i++)
        writer.bytes[writer.used++] = (uint8_t)(sum >> (8 * i));
    write_file(path, writer.bytes, writer.used);
    table_free(writer.bytes, capacity);
}
