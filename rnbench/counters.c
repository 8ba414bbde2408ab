/* counters.c: what the CPU counts, by perf_event_open(2), in user mode and over all threads of the team.
 *
 * Virtual machines and containers often count nothing, so each counter may be missing, and the reason is told. Where
 * there are fewer counters in hardware than asked for, the kernel takes turns and the value is scaled to the whole
 * time.
 */
#include <errno.h>
#include <linux/perf_event.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "rnbench.h"

const char *const counter_names[COUNTERS] = {"instructions", "cycles", "cache_misses", "dtlb_misses"};

static const struct {
    uint32_t type;
    uint64_t config;
} events[COUNTERS] = {
    {PERF_TYPE_HARDWARE, PERF_COUNT_HW_INSTRUCTIONS},
    {PERF_TYPE_HARDWARE, PERF_COUNT_HW_CPU_CYCLES},
    {PERF_TYPE_HARDWARE, PERF_COUNT_HW_CACHE_MISSES},
    {PERF_TYPE_HW_CACHE,
     PERF_COUNT_HW_CACHE_DTLB | PERF_COUNT_HW_CACHE_OP_READ << 8 | PERF_COUNT_HW_CACHE_RESULT_MISS << 16},
};

static int files[COUNTERS] = {-1, -1, -1, -1};
static const char *reason;

static const char *reason_of(int error) {
    switch (error) {
    case EACCES:
    case EPERM:
        return "not permitted (kernel.perf_event_paranoid, or a sandbox)";
    case ENOENT:
    case EOPNOTSUPP:
    case ENODEV:
        return "the machine has no such counter";
    default:
        return "the kernel refuses perf_event_open";
    }
}

void counters_open(void) {
    for (unsigned i = 0; i < COUNTERS; i++) {
        struct perf_event_attr attributes = {
            .type = events[i].type,
            .size = sizeof attributes,
            .config = events[i].config,
            .disabled = 1,
            .inherit = 1,
            .exclude_kernel = 1,
            .exclude_hv = 1,
            .read_format = PERF_FORMAT_TOTAL_TIME_ENABLED | PERF_FORMAT_TOTAL_TIME_RUNNING,
        };
        files[i] = (int)syscall(SYS_perf_event_open, &attributes, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
        if (files[i] < 0)
            reason = reason_of(errno);
    }
}

static void tell_all(unsigned long request) {
    for (unsigned i = 0; i < COUNTERS; i++)
        if (files[i] >= 0)
            ioctl(files[i], request, 0);
}

void counters_start(void) { tell_all(PERF_EVENT_IOC_ENABLE); }

struct counters counters_stop(void) {
    struct counters counters;
    tell_all(PERF_EVENT_IOC_DISABLE);
    for (unsigned i = 0; i < COUNTERS; i++) {
        struct {
            uint64_t value, enabled, running;
        } got = {0};
        counters.value[i] = -1;
        if (files[i] < 0)
            continue;
        if (read(files[i], &got, sizeof got) == (ssize_t)sizeof got && got.running > 0)
            counters.value[i] = (int64_t)((double)got.value * ((double)got.enabled / (double)got.running));
        else
            reason = "the machine has no such counter";
        close(files[i]);
        files[i] = -1;
    }
    counters.reason = reason;
    return counters;
}
