/* trace_record.c: rnbench record: runs a program under librnrecord.so, then packs the raw files into a trace. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "recorder/raw.h"
#include "rnbench.h"
#include "trace.h"

struct record_options {
    const char *output, *program, *limit;
    char **command;
};

static void record_help(void) {
    printf(
        "usage: rnbench record -o FILE [--program NAME] [--limit N] [--] PROGRAM [ARGUMENT...]\n\n"
        "Runs PROGRAM, and writes the trace of its calls of malloc and the like to FILE. Works under any allocator "
        "that\n"
        "LD_PRELOAD names. What the started process becomes by exec is recorded too, and the image with the most calls "
        "is kept;\n"
        "children of fork are not recorded.\n\n"
        "  -o FILE          the trace\n"
        "  --program NAME   of all processes, record those whose executable has this name; the one with the most calls "
        "is kept\n"
        "  --limit N        stop recording after N events\n\n"
        "Exit status: the program's (128 and the number of the signal that ended it), or 2 with one line on stderr.\n");
}

static struct record_options parse(int argc, char **argv) {
    struct record_options options = {0};
    int i = 1;
    for (; i < argc && argv[i][0] == '-'; i++) {
        if (strcmp(argv[i], "--") == 0) {
            i++;
            break;
        }
        if (strcmp(argv[i], "--help") == 0) {
            record_help();
            exit(0);
        }
        const char **field = strcmp(argv[i], "-o") == 0          ? &options.output
                             : strcmp(argv[i], "--program") == 0 ? &options.program
                             : strcmp(argv[i], "--limit") == 0   ? &options.limit
                                                                 : NULL;
        if (!field)
            fail("record: unknown option \"%s\" (see rnbench record --help)", argv[i]);
        if (++i == argc || !*argv[i])
            fail("record: %s needs a value", argv[i - 1]);
        *field = argv[i];
    }
    options.command = argv + i;
    if (!options.output || i >= argc)
        fail("record: usage: rnbench record -o FILE [--program NAME] [--limit N] [--] PROGRAM [ARGUMENT...]");
    if (options.limit &&
        (strspn(options.limit, "0123456789") != strlen(options.limit) || strtoull(options.limit, NULL, 10) == 0))
        fail("record: --limit: \"%s\" is not a number from 1", options.limit);
    return options;
}

/* librnrecord.so lies beside the executable of rnbench. */
static void preload_set(void) {
    char self[PATH_MAX] = "", library[PATH_MAX], preload[2 * PATH_MAX];
    if (readlink("/proc/self/exe", self, sizeof self - 1) < 0)
        fail("record: /proc/self/exe: %s", strerror(errno));
    if (snprintf(library, sizeof library, "%s/librnrecord.so", dirname(self)) >= (int)sizeof library)
        fail("record: the path of rnbench is too long");
    if (access(library, R_OK) != 0)
        fail("record: %s: %s (run make bench)", library, strerror(errno));
    const char *others = getenv("LD_PRELOAD");
    if (snprintf(preload, sizeof preload, "%s%s%s", library, others ? ":" : "", others ? others : "") >=
        (int)sizeof preload)
        fail("record: LD_PRELOAD is too long");
    setenv("LD_PRELOAD", preload, 1);
}

static int run(const struct record_options *options, const char *folder, const char *prefix) {
    int status;
    char number[32];
    setenv("RNRECORD", prefix, 1);
    if (options->limit)
        setenv("RNRECORD_LIMIT", options->limit, 1);
    if (options->program)
        setenv("RNRECORD_PROGRAM", options->program, 1);
    snprintf(number, sizeof number, "%d", (int)getpid());
    setenv("RNRECORD_PARENT", number, 1);
    preload_set();
    pid_t child;
    int error = posix_spawnp(&child, options->command[0], NULL, NULL, options->command, environ);
    if (error) {
        rmdir(folder);
        fail("record: %s: %s", options->command[0], strerror(error));
    }
    /* An interrupt at the terminal is the program's; what it did until then is packed. */
    signal(SIGINT, SIG_IGN);
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            fail("record: %s", strerror(errno));
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* Which block lives at an address: open addressing, never full. Address 0 is free, 1 is deleted. */
struct map {
    uint64_t *addresses;
    uint32_t *objects;
    uint64_t mask;
};

enum { DELETED = 1, NOWHERE = UINT32_MAX };

static uint64_t map_find(const struct map *map, uint64_t address) {
    uint64_t slot = (address >> 3) * 0x9e3779b97f4a7c15ULL >> 20 & map->mask;
    while (map->addresses[slot] && map->addresses[slot] != address)
        slot = (slot + 1) & map->mask;
    return slot;
}

static uint32_t map_take(struct map *map, uint64_t address) {
    uint64_t slot = map_find(map, address);
    if (!address || !map->addresses[slot])
        return NOWHERE;
    map->addresses[slot] = DELETED;
    return map->objects[slot];
}

/* Never reuses a deleted slot: the table has room for every block of the trace. */
static void map_put(struct map *map, uint64_t address, uint32_t object) {
    uint64_t slot = map_find(map, address);
    map->addresses[slot] = address;
    map->objects[slot] = object;
}

struct packer {
    struct trace *trace;
    uint64_t capacity;
    struct map map;
    struct pending {
        uint64_t address;
        uint32_t object;
    } * pending; /* by thread: the block in the midst of realloc */
};

static void give(struct packer *packer, const struct raw_event *raw, struct trace_event event) {
    uint32_t lost = map_take(&packer->map, raw->block); /* given away unseen */
    if (lost != NOWHERE)
        trace_push(packer->trace, &packer->capacity,
                   (struct trace_event){.kind = TRACE_FREE, .object = lost, .old = lost, .thread = event.thread});
    event.object = (uint32_t)packer->trace->objects++;
    event.size = raw->size;
    trace_push(packer->trace, &packer->capacity, event);
    map_put(&packer->map, raw->block, event.object);
}

static void pack_event(struct packer *packer, const struct raw_event *raw) {
    struct trace_event event = {.thread = raw->thread - 1};
    struct pending *pending = &packer->pending[raw->thread];
    switch (raw->kind) {
    case RAW_ALIGNED:
        event.alignment_log2 = (uint8_t)raw->alignment_log2;
        event.kind = TRACE_ALIGNED;
        give(packer, raw, event);
        break;
    case RAW_MALLOC:
    case RAW_CALLOC:
        event.kind = raw->kind == RAW_CALLOC ? TRACE_CALLOC : TRACE_MALLOC;
        give(packer, raw, event);
        break;
    case RAW_REALLOC_START:
        *pending = (struct pending){raw->block, map_take(&packer->map, raw->block)};
        break;
    case RAW_REALLOC_END:
        event.kind = pending->object == NOWHERE ? TRACE_MALLOC : TRACE_REALLOC;
        event.old = pending->object;
        if (raw->block)
            give(packer, raw, event);
        else if (raw->size && pending->object != NOWHERE)
            map_put(&packer->map, pending->address, pending->object);
        else if (pending->object != NOWHERE) {
            event.kind = TRACE_FREE;
            event.object = event.old;
            trace_push(packer->trace, &packer->capacity, event);
        }
        pending->object = NOWHERE;
        break;
    default:
        event.kind = TRACE_FREE;
        event.object = event.old = map_take(&packer->map, raw->block);
        if (event.old != NOWHERE)
            trace_push(packer->trace, &packer->capacity, event);
    }
}

static void pack(struct trace *trace, const struct raw_event *const *order, uint64_t count, uint32_t threads) {
    struct packer packer = {.trace = trace};
    uint64_t slots = 1024;
    while (slots < 2 * count)
        slots *= 2;
    size_t pending_bytes = (threads + 1) * sizeof *packer.pending;
    packer.map = (struct map){table_new(slots * sizeof(uint64_t), false), table_new(slots * sizeof(uint32_t), false),
                              slots - 1};
    packer.pending = table_new(pending_bytes, false);
    for (uint32_t i = 0; i <= threads; i++)
        packer.pending[i].object = NOWHERE;
    for (uint64_t i = 0; i < count; i++)
        if (order[i])
            pack_event(&packer, order[i]);
    trace->threads = threads;
    table_free(packer.map.addresses, slots * sizeof(uint64_t));
    table_free(packer.map.objects, slots * sizeof(uint32_t));
    table_free(packer.pending, pending_bytes);
}

/* What the recorder wrote: any other event is torn, or the program scribbled over it. Each has a place in the file
 * before it takes its number, so none is above `count`; and the same holds for threads. */
static bool is_sound(const struct raw_event *raw, uint64_t count) {
    return raw->kind > RAW_NONE && raw->kind <= RAW_FREE && raw->number > 0 && raw->number <= count &&
           raw->thread > 0 && raw->thread <= count;
}

/* Sorts by number: they are nearly without gaps, so each event goes where its number says. */
static void pack_file(struct trace *trace, const char *path) {
    int file = open(path, O_RDONLY | O_CLOEXEC);
    struct stat status;
    if (file < 0 || fstat(file, &status) != 0)
        fail("%s: %s", path, strerror(errno));
    size_t bytes = (size_t)status.st_size;
    uint64_t count = bytes / sizeof(struct raw_event), last = 0;
    uint32_t threads = 1;
    const struct raw_event *raw = bytes ? mmap(NULL, bytes, PROT_READ, MAP_PRIVATE, file, 0) : NULL;
    if (raw == MAP_FAILED)
        fail("%s: %s", path, strerror(errno));
    close(file);
    for (uint64_t i = 0; i < count; i++) {
        if (is_sound(&raw[i], count) && raw[i].number > last)
            last = raw[i].number;
        if (is_sound(&raw[i], count) && raw[i].thread > threads)
            threads = raw[i].thread;
    }
    size_t order_bytes = (last + 1) * sizeof(void *);
    const struct raw_event **order = table_new(order_bytes, false);
    for (uint64_t i = 0; i < count; i++)
        if (is_sound(&raw[i], count))
            order[raw[i].number - 1] = &raw[i];
    pack(trace, order, last, threads);
    table_free(order, order_bytes);
    if (bytes)
        munmap((void *)(uintptr_t)raw, bytes);
}

/* The path of the largest raw file, "" where there is none; how many there are. */
static int largest_raw(const char *folder, char *largest) {
    DIR *directory = opendir(folder);
    off_t best = -1;
    int found = 0;
    *largest = '\0';
    for (struct dirent *entry; directory && (entry = readdir(directory));) {
        struct stat status;
        if (entry->d_name[0] == '.' || fstatat(dirfd(directory), entry->d_name, &status, 0) != 0)
            continue;
        found++;
        if (status.st_size > best && snprintf(largest, PATH_MAX, "%s/%s", folder, entry->d_name) < PATH_MAX)
            best = status.st_size;
    }
    if (directory)
        closedir(directory);
    return found;
}

static void remove_raw(const char *folder) {
    DIR *directory = opendir(folder);
    for (struct dirent *entry; directory && (entry = readdir(directory));)
        if (entry->d_name[0] != '.')
            unlinkat(dirfd(directory), entry->d_name, 0);
    if (directory)
        closedir(directory);
    rmdir(folder);
}

/* The trace is renamed into place when it is whole, which would put a file where a device or a pipe was. */
static void need_regular(const char *path) {
    struct stat status;
    if (stat(path, &status) == 0 && !S_ISREG(status.st_mode))
        fail("record: %s is not a regular file", path);
}

int record_main(int argc, char **argv) {
    struct record_options options = parse(argc, argv);
    static char folder[PATH_MAX], prefix[PATH_MAX + 8], largest[PATH_MAX];
    static struct trace trace;
    need_regular(options.output);
    if (snprintf(folder, sizeof folder, "%s.raw-XXXXXX", options.output) >= (int)sizeof folder || !mkdtemp(folder))
        fail("record: %s: %s", options.output, strerror(errno));
    char *absolute = realpath(folder, NULL);
    snprintf(prefix, sizeof prefix, "%s/raw", absolute ? absolute : folder);
    int status = run(&options, folder, prefix);
    int images = largest_raw(folder, largest);
    if (*largest)
        pack_file(&trace, largest);
    remove_raw(folder);
    if (trace.count == 0)
        fail("record: %s: nothing was recorded (status %d): %s", options.command[0], status,
             options.program ? "no executable of that name allocated through the preloaded library"
                             : "it made no call, is static or set-user-id, or brings its own malloc");
    snprintf(trace.program, sizeof trace.program, "%s",
             basename((char *)(uintptr_t)(options.program ? options.program : options.command[0])));
    trace_write(&trace, options.output);
    dprintf(STDERR_FILENO, "rnbench: %s: %llu events, %llu blocks, %llu threads%s\n", options.output,
            (unsigned long long)trace.count, (unsigned long long)trace.objects, (unsigned long long)trace.threads,
            images > 1 ? "; the largest of several images" : "");
    return status;
}
