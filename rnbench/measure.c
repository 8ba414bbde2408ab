/* measure.c: time, memory and what the kernel counted. Nothing here allocates from the allocator under test. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "rnbench.h"

static uint64_t nanoseconds(uint64_t seconds, uint64_t rest) { return seconds * 1000000000 + rest; }

uint64_t clock_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return nanoseconds((uint64_t)now.tv_sec, (uint64_t)now.tv_nsec);
}

void sleep_seconds(uint64_t seconds) {
    struct timespec rest = {.tv_sec = (time_t)seconds};
    while (nanosleep(&rest, &rest) != 0 && errno == EINTR)
        ;
}

/* The value in bytes of a line "Name:  123 kB" of a file under /proc/self; 0 if there is none. */
static uint64_t proc_bytes(const char *path, const char *name) {
    char text[8192];
    size_t used = 0;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return 0;
    for (ssize_t got; used < sizeof text - 1 && (got = read(file, text + used, sizeof text - 1 - used)) > 0;)
        used += (size_t)got;
    close(file);
    text[used] = '\0';
    const char *line = strstr(text, name);
    return line ? strtoull(line + strlen(name), NULL, 10) * 1024 : 0;
}

uint64_t resident_bytes(void) {
    /* status may lag by some dozens of pages per CPU, because the kernel counts in per-CPU batches; smaps_rollup walks
     * the page tables. */
    uint64_t exact = proc_bytes("/proc/self/smaps_rollup", "\nRss:");
    return exact ? exact : proc_bytes("/proc/self/status", "\nVmRSS:");
}

/* The kernel's mark may lag as VmRSS does. */
uint64_t peak_resident_bytes(void) {
    uint64_t mark = proc_bytes("/proc/self/status", "\nVmHWM:"), now = resident_bytes();
    return mark > now ? mark : now;
}

struct usage usage_now(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (struct usage){
        .minor_faults = (uint64_t)u.ru_minflt,
        .major_faults = (uint64_t)u.ru_majflt,
        .user_ns = nanoseconds((uint64_t)u.ru_utime.tv_sec, (uint64_t)u.ru_utime.tv_usec * 1000),
        .system_ns = nanoseconds((uint64_t)u.ru_stime.tv_sec, (uint64_t)u.ru_stime.tv_usec * 1000),
        .waits = (uint64_t)u.ru_nvcsw,
        .preemptions = (uint64_t)u.ru_nivcsw,
    };
}

struct usage usage_since(const struct usage *before) {
    struct usage now = usage_now();
    return (struct usage){
        .minor_faults = now.minor_faults - before->minor_faults,
        .major_faults = now.major_faults - before->major_faults,
        .user_ns = now.user_ns - before->user_ns,
        .system_ns = now.system_ns - before->system_ns,
        .waits = now.waits - before->waits,
        .preemptions = now.preemptions - before->preemptions,
    };
}

static uint64_t touched_bytes;

void *table_new(size_t bytes, bool touched) {
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | (touched ? MAP_POPULATE : MAP_NORESERVE);
    void *table = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (table == MAP_FAILED)
        fail("out of memory: no %zu bytes for a table of the benchmark's own", bytes);
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (touched)
        __atomic_fetch_add(&touched_bytes, (bytes + page - 1) / page * page, __ATOMIC_RELAXED);
    return table;
}

uint64_t table_bytes_touched(void) { return __atomic_load_n(&touched_bytes, __ATOMIC_RELAXED); }

void table_free(void *table, size_t bytes) { munmap(table, bytes); }
