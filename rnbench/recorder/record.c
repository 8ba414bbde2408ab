/* record.c: librnrecord.so, preloaded before an allocator: writes every call to a raw file (raw.h).
 *
 * RNRECORD=PREFIX          files are PREFIX.PID.N, N counting the images that PID became by exec
 * RNRECORD_PROGRAM=NAME    records only executables of that name; without it those whose parent is RNRECORD_PARENT=PID
 * RNRECORD_LIMIT=N         events after the N-th are not written
 *
 * fork: a chunk is shared with the parent, so the child must not touch it. A private page with MADV_WIPEONFORK tells
 * the child what it is, at its first call and before any atfork handler could; recording ends there, since the child's
 * first blocks are unknown. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "rnbench/recorder/forward.h"
#include "rnbench/recorder/raw.h"

/* A chunk that a thread left behind when it ended, for the next that needs one. */
struct spare {
    struct raw_event *events;
    unsigned used;
};

enum { SPARES = 64 };

static _Atomic int raw_file = -1;        /* -1: not recording */
static const volatile uint64_t *alive;   /* 0 in the child of a fork */
static _Atomic uint64_t numbers, chunks; /* taken so far */
static _Atomic uint32_t threads;
static uint64_t limit = UINT64_MAX;
static pthread_key_t thread_end;
static pthread_mutex_t spares_lock = PTHREAD_MUTEX_INITIALIZER;
static struct spare spares[SPARES];
static unsigned spare_count;

static __thread struct raw_event *chunk;
static __thread unsigned chunk_used;
static __thread uint32_t thread_number; /* from 1 */

static bool spare_take(void) {
    bool taken = false;
    pthread_mutex_lock(&spares_lock);
    if (spare_count) {
        chunk = spares[--spare_count].events;
        chunk_used = spares[spare_count].used;
        taken = true;
    }
    pthread_mutex_unlock(&spares_lock);
    return taken;
}

static bool chunk_new(void) {
    off_t offset = (off_t)(atomic_fetch_add(&chunks, 1) * RAW_CHUNK_BYTES);
    int file = atomic_load(&raw_file);
    void *memory = MAP_FAILED;
    /* The file only ever grows: racing threads allocate their own stretch of it. posix_fallocate, since a full disk
     * must not become a SIGBUS in the program's malloc. */
    if (posix_fallocate(file, offset, RAW_CHUNK_BYTES) == 0)
        memory = mmap(NULL, RAW_CHUNK_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, file, offset);
    if (memory == MAP_FAILED) {
        static const char text[] = "rnbench: record: no room for the trace; the rest is not recorded\n";
        (void)!write(STDERR_FILENO, text, sizeof text - 1);
        atomic_store(&raw_file, -1);
        return false;
    }
    chunk = memory;
    chunk_used = 0;
    return true;
}

/* The chunk of a thread that ended goes to the next one; a call after this takes a chunk anew. */
static void chunk_leave(void *unused) {
    (void)unused;
    if (!chunk || !*alive)
        return;
    pthread_mutex_lock(&spares_lock);
    bool kept = spare_count < SPARES;
    if (kept)
        spares[spare_count++] = (struct spare){chunk, chunk_used};
    pthread_mutex_unlock(&spares_lock);
    if (!kept)
        munmap(chunk, RAW_CHUNK_BYTES);
    chunk = NULL;
}

static bool chunk_ready(void) {
    if (chunk && chunk_used < RAW_CHUNK_EVENTS)
        return true;
    if (chunk)
        munmap(chunk, RAW_CHUNK_BYTES);
    chunk = NULL;
    if (!thread_number)
        thread_number = atomic_fetch_add(&threads, 1) + 1;
    if (!spare_take() && !chunk_new())
        return false;
    bool ready = chunk_used < RAW_CHUNK_EVENTS || chunk_new();
    pthread_setspecific(thread_end, &thread_end);
    return ready;
}

static void write_event(enum raw_kind kind, const void *block, size_t size, size_t alignment) {
    if (atomic_load_explicit(&raw_file, memory_order_relaxed) < 0)
        return;
    int error = errno;
    if (!*alive)
        atomic_store(&raw_file, -1);
    else if (chunk_ready()) {
        uint64_t number = atomic_fetch_add_explicit(&numbers, 1, memory_order_acq_rel) + 1;
        if (number <= limit)
            chunk[chunk_used++] = (struct raw_event){
                number,        (uintptr_t)block, size,
                thread_number, (uint16_t)kind,   (uint16_t)(alignment ? __builtin_ctzl(alignment) : 0)};
        else
            atomic_store(&raw_file, -1);
    }
    errno = error;
}

void observe_before(enum call call, const void *block) {
    if (call == CALL_REALLOC)
        write_event(RAW_REALLOC_START, block, 0, 0);
    else if (block)
        write_event(RAW_FREE, block, 0, 0);
}

void observe_after(enum call call, const void *block, size_t size, size_t alignment) {
    static const enum raw_kind kinds[CALL_KINDS] = {[CALL_MALLOC] = RAW_MALLOC,
                                                    [CALL_CALLOC] = RAW_CALLOC,
                                                    [CALL_ALIGNED] = RAW_ALIGNED,
                                                    [CALL_REALLOC] = RAW_REALLOC_END};
    if (block || call == CALL_REALLOC)
        write_event(kinds[call], block, size, alignment);
}

static bool is_wanted(const char *executable) {
    const char *program = getenv("RNRECORD_PROGRAM");
    const char *parent = getenv("RNRECORD_PARENT");
    const char *slash = strrchr(executable, '/');
    if (program)
        return strcmp(slash ? slash + 1 : executable, program) == 0;
    return parent && strtol(parent, NULL, 10) == getppid();
}

/* The first name that does not exist yet. */
static int raw_create(const char *prefix) {
    char path[PATH_MAX];
    int file = -1;
    for (int image = 0; image < 1000 && file < 0; image++) {
        if (snprintf(path, sizeof path, "%s.%d.%d", prefix, (int)getpid(), image) >= (int)sizeof path)
            return -1;
        file = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (file < 0 && errno != EEXIST)
            return -1;
    }
    /* Away from the numbers that programs expect to be the next free ones. */
    int high = file < 0 ? -1 : fcntl(file, F_DUPFD_CLOEXEC, 500);
    if (high < 0)
        return file;
    close(file);
    return high;
}

__attribute__((constructor)) static void record_open(void) {
    const char *prefix = getenv("RNRECORD");
    const char *limit_text = getenv("RNRECORD_LIMIT");
    char executable[PATH_MAX] = "";
    if (!prefix || readlink("/proc/self/exe", executable, sizeof executable - 1) < 0 || !is_wanted(executable))
        return;
    uint64_t *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED || madvise(page, 4096, MADV_WIPEONFORK) != 0 ||
        pthread_key_create(&thread_end, chunk_leave) != 0)
        return;
    *page = 1;
    alive = page;
    if (limit_text)
        limit = strtoull(limit_text, NULL, 10);
    atomic_store(&raw_file, raw_create(prefix));
}
