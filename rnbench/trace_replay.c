/* trace_replay.c: rnbench replay: a trace's calls, made of whatever malloc is loaded.
 *
 * As recorded, each thread of the trace is a thread here. It does its own events in order, and waits only where it
 * needs a block that another thread has not given yet; the rest of the recorded order is not kept, since waiting for it
 * would be all that is measured. The trace, the table of blocks and the stacks are made and touched before the clock
 * starts and the resident memory is read. A byte in each page of a block is written, so that memory is used as a
 * program would. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rnbench.h"
#include "trace.h"

struct replay_options {
    char **paths;
    unsigned count;
    const char *allocator; /* lineage:NAME or NAME=PATH..., or NULL */
    bool one_thread, json, print;
    uint64_t times;  /* that each trace is played */
    double lab_rate; /* operations per second that earn the malloc lab's whole throughput score */
};

/* What one trace gave; crosses the pipe from the process that ran it. */
struct outcome {
    uint64_t events, objects, threads, ns, peak_live, peak_resident, kept;
    bool is_rep;
    char program[128], object[PATH_MAX];
};

struct replay {
    const struct trace *trace;
    void *_Atomic *blocks;     /* by object; NULL until given, and again when given back */
    const uint32_t *positions; /* the events of thread t: positions[starts[t]..starts[t + 1]) */
    const uint64_t *starts;
    uint64_t times, ns; /* how often it is played, and how long that took */
    pthread_barrier_t begin, end, measured;
};

struct player {
    struct replay *replay;
    uint64_t thread;
};

static void touch(char *block, uint64_t size) {
    for (uint64_t at = 0; at < size; at += 4096)
        ((volatile char *)block)[at] = (char)at;
}

static void give(struct replay *replay, const struct trace_event *event, void *block) {
    if (!block && event->size)
        fail("replay: out of memory: the allocator gave NULL for %llu bytes", (unsigned long long)event->size);
    if (!block)
        block = malloc(
            1); /* an allocator may answer a request for nothing with NULL; the trace needs something to give back */
    touch(block, event->size);
    /* release: pairs with the acquire in take, which may be another thread's */
    atomic_store_explicit(&replay->blocks[event->object], block, memory_order_release);
}

static void *take(struct replay *replay, uint32_t object) {
    void *block;
    /* acquire: pairs with the release in give */
    while (!(block = atomic_load_explicit(&replay->blocks[object], memory_order_acquire)))
        sched_yield();
    atomic_store_explicit(&replay->blocks[object], NULL, memory_order_relaxed);
    return block;
}

static void play_event(struct replay *replay, const struct trace_event *event) {
    void *block;
    switch ((enum trace_kind)event->kind) {
    case TRACE_MALLOC:
        give(replay, event, malloc(event->size));
        break;
    case TRACE_CALLOC:
        give(replay, event, calloc(1, event->size));
        break;
    case TRACE_ALIGNED:
        block = NULL;
        if (posix_memalign(&block, (size_t)1 << (event->alignment_log2 < 3 ? 3 : event->alignment_log2), event->size) !=
            0)
            block = NULL;
        give(replay, event, block);
        break;
    case TRACE_REALLOC:
        give(replay, event, realloc(take(replay, event->old), event->size ? event->size : 1));
        break;
    case TRACE_FREE:
    case TRACE_KINDS:
        free(take(replay, event->old));
    }
}

/* What the program never freed would be in the way of the next time. */
static void free_rest(struct replay *replay) {
    for (uint64_t i = 0; i < replay->trace->objects + 1; i++)
        free(atomic_exchange_explicit(&replay->blocks[i], NULL, memory_order_relaxed));
}

/* Between the barriers, so that threads begin together, and all still live when the memory is measured. */
static void play_part(struct replay *replay, uint64_t thread) {
    for (uint64_t time = 1; time <= replay->times; time++) {
        pthread_barrier_wait(&replay->begin);
        uint64_t start = thread == 0 ? clock_ns() : 0;
        for (uint64_t i = replay->starts[thread]; i < replay->starts[thread + 1]; i++)
            play_event(replay, &replay->trace->events[replay->positions[i]]);
        pthread_barrier_wait(&replay->end);
        if (thread == 0) {
            replay->ns += clock_ns() - start;
            if (time < replay->times)
                free_rest(replay);
        }
    }
}

static void *play(void *argument) {
    const struct player *player = argument;
    play_part(player->replay, player->thread);
    pthread_barrier_wait(&player->replay->measured);
    return NULL;
}

/* Sorts the events' positions by thread, each thread's in order. */
static void split(struct replay *replay, uint64_t threads) {
    const struct trace *trace = replay->trace;
    uint64_t *starts = table_new((threads + 2) * sizeof *starts, true);
    uint32_t *positions = table_new((trace->count + 1) * sizeof *positions, true);
    for (uint64_t i = 0; i < trace->count; i++)
        starts[threads == 1 ? 1 : trace->events[i].thread + 1]++;
    for (uint64_t t = 0; t < threads; t++)
        starts[t + 1] += starts[t];
    uint64_t *next = table_new((threads + 1) * sizeof *next, true);
    memcpy(next, starts, threads * sizeof *next);
    for (uint64_t i = 0; i < trace->count; i++)
        positions[next[threads == 1 ? 0 : trace->events[i].thread]++] = (uint32_t)i;
    replay->starts = starts;
    replay->positions = positions;
}

/* Linux: writing 5 makes the peak of resident memory start anew. Where that is refused, the peak before counts too. */
static void peak_reset(void) {
    int file = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
    if (file >= 0) {
        (void)!write(file, "5", 1);
        close(file);
    }
}

static void play_all(struct replay *replay, uint64_t threads, struct outcome *outcome) {
    struct player *players = table_new(threads * sizeof *players, true);
    pthread_t *team = table_new(threads * sizeof *team, true);
    pthread_barrier_init(&replay->begin, NULL, (unsigned)threads);
    pthread_barrier_init(&replay->end, NULL, (unsigned)threads);
    pthread_barrier_init(&replay->measured, NULL, (unsigned)threads);
    /* The first is the main thread, so that a trace of one thread is played by a process that has only one. */
    for (uint64_t t = 1; t < threads; t++) {
        players[t] = (struct player){replay, t};
        int error = pthread_create(&team[t], NULL, play, &players[t]);
        if (error)
            fail("replay: cannot start thread %llu: %s", (unsigned long long)t + 1, strerror(error));
    }
    uint64_t before = resident_bytes();
    peak_reset();
    play_part(replay, 0);
    outcome->ns = replay->ns / replay->times;
    uint64_t peak = peak_resident_bytes(), now = resident_bytes();
    outcome->peak_resident = peak > before ? peak - before : 0;
    outcome->kept = now > before ? now - before : 0;
    pthread_barrier_wait(&replay->measured);
    for (uint64_t t = 1; t < threads; t++)
        pthread_join(team[t], NULL);
}

static void replay_trace(const struct replay_options *options, const char *path, struct outcome *outcome) {
    static struct trace trace;
    Dl_info info;
    trace_read(&trace, path);
    uint64_t threads = options->one_thread ? 1 : trace.threads;
    if (trace.count > UINT32_MAX || threads > 4000)
        fail("replay: %s: %llu threads are too many; use --threads 1", path, (unsigned long long)threads);
    struct replay replay = {
        .trace = &trace, .blocks = table_new((trace.objects + 1) * sizeof(void *), true), .times = options->times};
    split(&replay, threads);
    play_all(&replay, threads, outcome);
    outcome->events = trace.count;
    outcome->objects = trace.objects;
    outcome->threads = threads;
    outcome->peak_live = trace.peak_live;
    outcome->is_rep = trace.is_rep;
    memcpy(outcome->program, trace.program, sizeof outcome->program);
    void *symbol = dlsym(RTLD_DEFAULT, "malloc");
    if (!dladdr(symbol, &info) || !realpath(info.dli_fname, outcome->object))
        strcpy(outcome->object, "?");
}

/* Each trace in a process of its own, so that it meets a fresh heap. Ends with status 2 if that one did: it has said
 * why. */
static void replay_apart(const struct replay_options *options, const char *path, struct outcome *outcome) {
    struct outcome *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int status;
    if (shared == MAP_FAILED)
        fail("replay: %s", strerror(errno));
    pid_t child = fork();
    if (child == 0) {
        replay_trace(options, path, shared);
        _exit(0);
    }
    if (child < 0 || waitpid(child, &status, 0) != child)
        fail("replay: %s: %s", path, strerror(errno));
    if (WIFEXITED(status) && WEXITSTATUS(status) == 2)
        _exit(2);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        fail("replay: %s: ended by signal %d", path, WTERMSIG(status));
    *outcome = *shared;
    munmap(shared, sizeof *shared);
}

/* A line an event: thread, call, block, and where they apply the old block, the size and the alignment. */
static void print_events(const char *path) {
    static const char *const names[] = {"malloc", "calloc", "aligned", "realloc", "free"};
    static struct trace trace;
    trace_read(&trace, path);
    for (const struct trace_event *event = trace.events; event < trace.events + trace.count; event++) {
        printf("%u %s %u", event->thread, names[event->kind], event->object);
        if (event->kind == TRACE_REALLOC)
            printf(" from %u", event->old);
        if (event->kind != TRACE_FREE)
            printf(" %llu", (unsigned long long)event->size);
        if (event->kind == TRACE_ALIGNED)
            printf(" at %llu", 1ULL << event->alignment_log2);
        printf("\n");
    }
}

static double utilization(const struct outcome *outcome) {
    return outcome->peak_resident ? (double)outcome->peak_live / (double)outcome->peak_resident : 0;
}

static double rate(const struct outcome *outcome) { return (double)outcome->events * 1e9 / (double)(outcome->ns + 1); }

static void print_outcome(const char *path, const struct outcome *outcome, bool json) {
    static const char *const forms[] = {
        ", %llu events, %llu blocks, threads %llu\n"
        "  time                %.3f ms, %.0f events/s\n"
        "  peak live           %llu bytes\n"
        "  peak resident       %llu bytes more than before, at the end %llu\n"
        "  utilization         %.3f\n",
        "\"events\": %llu, \"blocks\": %llu, \"threads\": %llu, \"ms\": %.6f, \"events_per_second\": %.0f, "
        "\"peak_live_bytes\": %llu, \"peak_resident_bytes\": %llu, \"kept_bytes\": %llu, \"utilization\": %.6f}\n"};
    if (json) {
        printf("{");
        json_text("trace", path);
        json_text("program", outcome->program);
        json_text("allocator_object", outcome->object);
    } else {
        printf("%s: %s under %s", path, outcome->program, outcome->object);
    }
    printf(forms[json], (unsigned long long)outcome->events, (unsigned long long)outcome->objects,
           (unsigned long long)outcome->threads, (double)outcome->ns / 1e6, rate(outcome),
           (unsigned long long)outcome->peak_live, (unsigned long long)outcome->peak_resident,
           (unsigned long long)outcome->kept, utilization(outcome));
}

/* The lab's index: 60 for the mean utilization, 40 for the throughput over all traces, up to the rate of its reference
 * libc. */
static void print_score(const struct outcome *outcomes, unsigned count, double full_rate) {
    double share = 0, events = 0, seconds = 0;
    unsigned reps = 0;
    for (unsigned i = 0; i < count; i++) {
        if (!outcomes[i].is_rep)
            continue;
        double used = utilization(&outcomes[i]);
        share += used > 1 ? 1 : used;
        events += (double)outcomes[i].events;
        seconds += (double)outcomes[i].ns / 1e9;
        reps++;
    }
    if (!reps)
        return;
    double speed = events / (seconds > 0 ? seconds : 1e-9);
    double part = speed / full_rate > 1 ? 1 : speed / full_rate;
    printf("malloc lab: %u traces, utilization %.0f %%, %.0f Kops/s; score %.0f (util) + %.0f (thru) = %.0f/100\n",
           reps, 100 * share / reps, speed / 1e3, 60 * share / reps, 40 * part, 60 * share / reps + 40 * part);
}

static void replay_help(void) {
    printf(
        "usage: rnbench replay [--threads as-recorded|1] [--times N] [--allocator NAME] [--json] "
        "[--lab-rate N] FILE...\n\n"
        "Makes the calls of each trace again, each in a process of its own, of the malloc that is loaded.\n\n"
        "  --threads as-recorded|1   a thread for each that was recorded (default), or one for all\n"
        "  --times N                 plays each N times in its process, and tells the mean time: what was not\n"
        "                            freed is freed in between, untimed\n"
        "  --allocator NAME          NAME=/path/lib.so[,VARIABLE=VALUE...]: that library, preloaded, and proved to\n"
        "                            be in effect; lineage:NAME: one of rnbench/lineage; jemalloc, tcmalloc,\n"
        "                            mimalloc: Debian's\n"
        "  --preload LIB             the same as --allocator preload=LIB\n"
        "  --json                    one JSON object a trace\n"
        "  --print                   do nothing but print the calls, a line each\n"
        "  --lab-rate N              operations per second for the full throughput score of .rep traces (default "
        "600000,\n"
        "                            AVG_LIBC_THRUPUT of the malloc lab's config.h)\n\n"
        "Utilization is the largest sum of bytes asked for and live, over the growth of resident memory at its peak.\n"
        "Exit status: 0, or 2 with one line on stderr.\n");
}

static const char *named_preload(const char *library) {
    static char text[PATH_MAX + 16];
    snprintf(text, sizeof text, "preload=%s", library);
    return text;
}

static bool is_word(const char *text, const char *word) { return strcmp(text, word) == 0; }

/* Whether the option is known that takes this value, and the value possible. */
static bool parse_value(struct replay_options *options, const char *name, const char *value) {
    bool digits = strspn(value, "0123456789") == strlen(value) && strlen(value) < 10;
    if (is_word(name, "--preload"))
        options->allocator = named_preload(value);
    else if (is_word(name, "--allocator") && allocator_is_preload(value))
        options->allocator = value;
    else if (is_word(name, "--lab-rate") && strtod(value, NULL) > 0)
        options->lab_rate = strtod(value, NULL);
    else if (is_word(name, "--times") && digits && strtol(value, NULL, 10) > 0)
        options->times = (uint64_t)strtol(value, NULL, 10);
    else if (is_word(name, "--threads") && (is_word(value, "1") || is_word(value, "as-recorded")))
        options->one_thread = is_word(value, "1");
    else
        return false;
    return true;
}

static bool takes_value(const char *name) {
    static const char *const names[] = {"--preload", "--allocator", "--lab-rate", "--times", "--threads"};
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
        if (is_word(name, names[i]))
            return true;
    return false;
}

/* Options may stand before and after the files. */
static void parse(struct replay_options *options, int argc, char **argv) {
    *options = (struct replay_options){
        .lab_rate = 600e3, .times = 1, .paths = table_new((size_t)argc * sizeof *options->paths, true)};
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i];
        if (strncmp(name, "--", 2) != 0) {
            options->paths[options->count++] = argv[i];
        } else if (is_word(name, "--help")) {
            replay_help();
            exit(0);
        } else if (is_word(name, "--json")) {
            options->json = true;
        } else if (is_word(name, "--print")) {
            options->print = true;
        } else if (!takes_value(name)) {
            fail("replay: unknown option \"%s\" (see rnbench replay --help)", name);
        } else if (++i >= argc) {
            fail("replay: %s needs a value", name);
        } else if (!parse_value(options, name, argv[i])) {
            fail("replay: %s: \"%s\" is not possible (see rnbench replay --help)", name, argv[i]);
        }
    }
    if (options->count == 0)
        fail("replay: usage: rnbench replay [--threads as-recorded|1] [--allocator NAME] FILE...");
}

/* Starts this program again under the allocator, unless it runs under it already. */
static void preload(const char *text, char **argv) {
    char wanted[PATH_MAX], used[PATH_MAX] = "";
    Dl_info info;
    argv[-1] = program_invocation_name; /* main gave us its own arguments but for the first */
    const char *name = allocator_preload(text, argv - 1, wanted);
    if (!dladdr(dlsym(RTLD_DEFAULT, "malloc"), &info) || !realpath(info.dli_fname, used) || strcmp(used, wanted) != 0)
        fail("replay: allocator %s did not take effect: malloc comes from %s", name, used);
}

int replay_main(int argc, char **argv) {
    struct replay_options options;
    parse(&options, argc, argv);
    if (options.allocator)
        preload(options.allocator, argv);
    struct outcome *outcomes = table_new(options.count * sizeof *outcomes, false);
    for (unsigned i = 0; i < options.count && options.print; i++)
        print_events(options.paths[i]);
    for (unsigned i = 0; i < options.count && !options.print; i++)
        replay_apart(&options, options.paths[i], &outcomes[i]);
    for (unsigned i = 0; i < options.count && !options.print; i++)
        print_outcome(options.paths[i], &outcomes[i], options.json);
    if (!options.json && !options.print)
        print_score(outcomes, options.count, options.lab_rate);
    if (fflush(stdout) != 0 || ferror(stdout))
        fail("cannot write to standard output");
    return 0;
}
