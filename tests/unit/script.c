/* script.c: see script.h. */
#include "tests/unit/script.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "tests/unit/check.h"

static const size_t TOO_MUCH = (size_t)1 << 42; /* more than any system would commit to */

static const uint64_t OTHERS = 0x0bad0bad0bad0000;

static struct script now;
static atomic_ulong calls, failures;
static _Atomic size_t mapped;
static _Atomic uint64_t clock_offset_ms;
static _Atomic uint64_t clock_ns; /* where the script plays it */
static atomic_uint touches;
static _Atomic uintptr_t touched_last;
static _Atomic size_t advised, forbidden;
static _Thread_local void *repaired; /* os_move mends the target of a failed mremap: by chance, that does not fail */
static unsigned losses;
static uint64_t *others[200];
static _Atomic int commit_file = -1; /* the open overcommit_memory */

void script_play(const struct script *script) {
    now = *script;
    atomic_store(&calls, 0);
    atomic_store(&failures, 0);
}

void script_stop(void) { now = (struct script){.strict_commit = now.strict_commit, .page_size = now.page_size}; }

unsigned long script_calls(void) { return atomic_load(&calls); }

unsigned long script_failures(void) { return atomic_load(&failures); }

uintptr_t script_touched(void) { return atomic_load(&touched_last); }

unsigned script_touches(void) { return atomic_load(&touches); }

size_t script_advised(void) { return atomic_load(&advised); }

size_t script_forbidden(void) { return atomic_load(&forbidden); }

size_t script_mapped(void) { return atomic_load(&mapped); }

void script_sleep(unsigned ms) { atomic_fetch_add(&clock_offset_ms, ms); }

/* splitmix64 of the call's number: the same calls fail whatever the threads do between them. */
static bool by_chance(unsigned long call) {
    uint64_t z = now.seed + call * 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (z ^ (z >> 31)) % now.one_in == 0;
}

/* Whether this call fails; then errno is set to one of the errors that the call may give. */
static bool fails(enum script_call kind) {
    static const int errors[CALL_KINDS][2] = {
        [CALL_MMAP] = {ENOMEM, EAGAIN},   [CALL_MPROTECT] = {ENOMEM, ENOMEM}, [CALL_DONTNEED] = {EINVAL, EAGAIN},
        [CALL_ADVICE] = {EINVAL, ENOMEM}, [CALL_MREMAP] = {ENOMEM, EFAULT},   [CALL_MUNMAP] = {ENOMEM, ENOMEM},
    };
    unsigned long call = atomic_fetch_add(&calls, 1) + 1;
    bool failing = call == now.fail_at || (now.one_in && by_chance(call)) || (now.always >> kind & 1);
    if (failing) {
        atomic_fetch_add(&failures, 1);
        errno = errors[kind][call % 2];
    }
    return failing;
}

/* The contract of os.h: whole pages, of the size that the allocator was told. */
static void check_pages(const void *start, size_t size) {
    size_t page = now.page_size ? now.page_size : (size_t)sysconf(_SC_PAGESIZE);
    CHECK(((uintptr_t)start & (page - 1)) == 0 && (size & (page - 1)) == 0 && size != 0);
}

void *__real_mmap(void *start, size_t size, int protection, int flags, int file, off_t offset);
int __real_munmap(void *start, size_t size);

/* A system with larger pages gives addresses that are multiples of them. */
static void *map_aligned(void *start, size_t size, int protection, int flags, int file, off_t offset) {
    if (!now.page_size || (flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)))
        return __real_mmap(start, size, protection, flags, file, offset);
    char *got = __real_mmap(start, size + now.page_size, protection, flags, file, offset);
    if (got == MAP_FAILED)
        return got;
    size_t before = -(uintptr_t)got & (now.page_size - 1);
    if (before)
        (void)__real_munmap(got, before);
    (void)__real_munmap(got + before + size, now.page_size - before);
    return got + before;
}

void *__wrap_mmap(void *start, size_t size, int protection, int flags, int file, off_t offset);
void *__wrap_mmap(void *start, size_t size, int protection, int flags, int file, off_t offset) {
    check_pages(start, size);
    if (flags & MAP_HUGETLB) {
        if (!now.has_hugetlb) {
            if (flags & MAP_FIXED) /* the kernel has unmapped what was there before it looks for pages */
                (void)__real_munmap(start, size);
            errno = ENOMEM;
            return MAP_FAILED;
        }
        if (now.before_hugetlb)
            now.before_hugetlb();
        flags &= (1 << MAP_HUGE_SHIFT) - 1 - MAP_HUGETLB;
    }
    bool is_refused = now.strict_commit && (flags & MAP_TYPE) == MAP_SHARED && size > TOO_MUCH;
    if (is_refused)
        errno = ENOMEM;
    bool is_repair = flags & MAP_FIXED_NOREPLACE;
    if (is_refused || (!is_repair && fails(CALL_MMAP)))
        return MAP_FAILED;
    if (size == now.place_size) {
        now.place_size = 0;
        start = (void *)now.place;
        flags |= MAP_FIXED_NOREPLACE;
    }
    void *got = map_aligned(start, size, protection, flags, file, offset);
    if (got != MAP_FAILED && !(flags & MAP_FIXED) && !is_repair)
        atomic_fetch_add(&mapped, size);
    return got;
}

int __wrap_munmap(void *start, size_t size);
int __wrap_munmap(void *start, size_t size) {
    check_pages(start, size);
    if (fails(CALL_MUNMAP) || __real_munmap(start, size) != 0)
        return -1;
    atomic_fetch_sub(&mapped, size);
    if (now.after_munmap && size == now.place_size)
        now.after_munmap();
    return 0;
}

int __real_mprotect(void *start, size_t size, int protection);
int __wrap_mprotect(void *start, size_t size, int protection);
int __wrap_mprotect(void *start, size_t size, int protection) {
    check_pages(start, size);
    if (start == repaired) {
        repaired = NULL;
        return __real_mprotect(start, size, protection);
    }
    return fails(CALL_MPROTECT) ? -1 : __real_mprotect(start, size, protection);
}

int __real_madvise(void *start, size_t size, int advice);
int __wrap_madvise(void *start, size_t size, int advice);
int __wrap_madvise(void *start, size_t size, int advice) {
    check_pages(start, size);
    if (advice == MADV_HUGEPAGE)
        atomic_fetch_add(&advised, size);
    if (advice == MADV_NOHUGEPAGE)
        atomic_fetch_add(&forbidden, size);
    bool failed = fails(advice == MADV_DONTNEED ? CALL_DONTNEED : CALL_ADVICE);
    return failed ? -1 : __real_madvise(start, size, advice);
}

void __real_os_touch(void *byte);
void __wrap_os_touch(void *byte);
void __wrap_os_touch(void *byte) {
    bool waits = now.touch_wait_in && atomic_load(&touches) % now.touch_wait_in == 2;
    atomic_fetch_add(&touches, 1);
    atomic_store(&touched_last, (uintptr_t)byte);
    atomic_fetch_add(&clock_ns, now.touch_cost_ns + (waits ? now.touch_wait_ns : 0));
    if (!now.touch_cost_ns)
        __real_os_touch(byte);
}

/* A page of somebody else's, in the middle of a hole. */
static void other_maps(void *start) {
    CHECK(losses < sizeof others / sizeof *others);
    size_t size = (size_t)sysconf(_SC_PAGESIZE);
    void *at = (void *)((uintptr_t)start & -size);
    CHECK(__real_mmap(at, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) ==
          at);
    others[losses] = at;
    *others[losses] = OTHERS + losses;
    losses++;
}

unsigned script_losses(void) { return losses; }

bool script_others_are_intact(void) {
    for (unsigned i = 0; i < losses; i++)
        if (*others[i] != OTHERS + i)
            return false;
    return true;
}

void *__real_mremap(void *from, size_t size, size_t new_size, int flags, void *to);
void *__wrap_mremap(void *from, size_t size, size_t new_size, int flags, void *to);
void *__wrap_mremap(void *from, size_t size, size_t new_size, int flags, void *to) {
    check_pages(from, size);
    check_pages(to, new_size);
    if (!fails(CALL_MREMAP))
        return __real_mremap(from, size, new_size, flags, to);
    int error = errno;
    if (now.mremap_unmaps || now.mremap_loses)
        (void)__real_munmap(to, new_size);
    if (now.mremap_loses)
        other_maps((char *)to + new_size / 2);
    repaired = to;
    errno = error;
    return MAP_FAILED;
}

long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);
long __wrap_syscall(long number, ...) {
    long argument[6] = {0};
    va_list list;
    va_start(list, number);
    for (int i = 0; i < (number == SYS_futex ? 6 : 5); i++) /* registers hold five, used or not */
        argument[i] = va_arg(list, long);
    va_end(list);
    if (number == SYS_read && argument[0] >= 0 && (int)argument[0] == atomic_load(&commit_file)) {
        CHECK(argument[2] > 0);
        *(char *)argument[1] = now.strict_commit ? '2' : '0';
        return 1;
    }
    if (number == SYS_membarrier && now.before_membarrier)
        now.before_membarrier();
    long result = __real_syscall(number, argument[0], argument[1], argument[2], argument[3], argument[4], argument[5]);
    if (number == SYS_openat && strcmp((const char *)argument[1], "/proc/sys/vm/overcommit_memory") == 0)
        atomic_store(&commit_file, (int)result);
    return result;
}

unsigned long __real_getauxval(unsigned long type);
unsigned long __wrap_getauxval(unsigned long type);
unsigned long __wrap_getauxval(unsigned long type) {
    return type == AT_PAGESZ && now.page_size ? now.page_size : __real_getauxval(type);
}

int __real_getrlimit(int resource, struct rlimit *limit);
int __wrap_getrlimit(int resource, struct rlimit *limit);
int __wrap_getrlimit(int resource, struct rlimit *limit) {
    int result = __real_getrlimit(resource, limit);
    if (result == 0 && resource == RLIMIT_AS && now.address_limit)
        limit->rlim_cur = now.address_limit;
    return result;
}

void script_pass(uint64_t ns) { atomic_fetch_add(&clock_ns, ns); }

int __real_clock_gettime(clockid_t clock, struct timespec *time);
int __wrap_clock_gettime(clockid_t clock, struct timespec *time);
int __wrap_clock_gettime(clockid_t clock, struct timespec *time) {
    int result = __real_clock_gettime(clock, time);
    if (clock != CLOCK_MONOTONIC_COARSE) {
        uint64_t ns = atomic_load(&clock_ns);
        *time = (struct timespec){(time_t)(ns / 1000000000), (long)(ns % 1000000000)};
    }
    if (clock == CLOCK_MONOTONIC_COARSE)
        time->tv_sec += (time_t)(atomic_load(&clock_offset_ms) / 1000); /* whole seconds are enough */
    return result;
}
