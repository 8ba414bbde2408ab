#include "base/os.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/attr.h"

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4 /* Linux 5.7; mremap(2) */
#endif
#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif
#ifndef MAP_HUGE_SHIFT
#define MAP_HUGE_SHIFT 26
#endif

static size_t page_size = 4096;
/* Not known before the first release; relaxed, since whoever asks finds the same. */
static _Atomic enum { STRICT_UNKNOWN, STRICT_NO, STRICT_YES } strict_commit;
static _Atomic size_t address_limit = SIZE_MAX;

/* Every function keeps errno: free() promises it, and the callers' errors travel in return values. */
static int result_of(int saved, int failed) {
    int error = failed ? -errno : 0;
    errno = saved;
    return error;
}

size_t os_page_size(void) { return page_size; }

size_t os_huge_size(void) { return page_size / sizeof(uint64_t) * page_size; }

/* A sandbox may know no MAP_NORESERVE and say EINVAL (OpenSSH's does). What is mapped without access is not charged
 * anyway, and what becomes writable then counts towards the commit limit. */
static void *try_map(uintptr_t hint, size_t size, int protection, int flags) {
    flags |= MAP_PRIVATE | MAP_ANONYMOUS;
    void *start = mmap((void *)hint, size, protection, flags | MAP_NORESERVE, -1, 0);
    if (start == MAP_FAILED && errno == EINVAL)
        start = mmap((void *)hint, size, protection, flags, -1, 0);
    return start;
}

static void *map(uintptr_t hint, size_t size, int protection, int flags) {
    int saved = errno;
    void *start = try_map(hint, size, protection, flags);
    errno = saved;
    return start == MAP_FAILED ? NULL : start;
}

int os_unreserve(void *start, size_t size) {
    int saved = errno;
    return result_of(saved, munmap(start, size) != 0);
}

/* What could not be given back, as page number and length in pages; 0: nothing. Relaxed: a word says all there is to
 * know, and whoever takes one out of here owns it. */
enum { OWED = 16, OWED_LENGTH_BITS = 64 - (RN_ADDRESS_BITS - 12) };
static _Atomic uint64_t owed[OWED];

/* Without room it stays mapped for ever, as address space only. */
static void owe(uint64_t word) {
    for (size_t i = 0; i < OWED; i++) {
        uint64_t none = 0;
        if (atomic_compare_exchange_strong_explicit(&owed[i], &none, word, memory_order_relaxed, memory_order_relaxed))
            return;
    }
}

void os_discard(void *start, size_t size) {
    uint64_t length = size / page_size;
    if (os_unreserve(start, size) != 0 && length >> OWED_LENGTH_BITS == 0)
        owe((uintptr_t)start / page_size << OWED_LENGTH_BITS | length);
}

void os_settle(void) {
    for (size_t i = 0; i < OWED; i++) {
        uint64_t word = atomic_load_explicit(&owed[i], memory_order_relaxed);
        if (word)
            word = atomic_exchange_explicit(&owed[i], 0, memory_order_relaxed);
        if (word)
            os_discard((void *)(uintptr_t)((word >> OWED_LENGTH_BITS) * page_size),
                       (size_t)(word & (((uint64_t)1 << OWED_LENGTH_BITS) - 1)) * page_size);
    }
}

void *os_reserve(uintptr_t hint, size_t size, size_t align) {
    void *start = map(hint, size, PROT_NONE, 0);
    if (!start || ((uintptr_t)start & (align - 1)) == 0)
        return start;
    os_discard(start, size);
    if (size + align < size)
        return NULL;
    start = map(0, size + align, PROT_NONE, 0);
    if (!start)
        return NULL;
    uintptr_t low = (uintptr_t)start;
    uintptr_t aligned = round_up(low, align);
    if (aligned > low)
        os_discard(start, aligned - low);
    os_discard((void *)(aligned + size), low + align - aligned);
    return (void *)aligned;
}

void *os_reserve_zeros(size_t size) { return map(0, size, PROT_READ, 0); }

int os_commit(void *start, size_t size) {
    int saved = errno;
    return result_of(saved, mprotect(start, size, PROT_READ | PROT_WRITE) != 0);
}

int os_protect(void *start, size_t size) {
    int saved = errno;
    return result_of(saved, mprotect(start, size, PROT_NONE) != 0);
}

int os_release(void *start, size_t size, bool *still_committed) {
    if (os_strict_commit()) {
        *still_committed = false;
        return map((uintptr_t)start, size, PROT_NONE, MAP_FIXED) ? 0 : -ENOMEM;
    }
    *still_committed = true;
    int saved = errno;
    return result_of(saved, madvise(start, size, MADV_DONTNEED) != 0);
}

int os_advise_huge(void *start, size_t size) {
    int saved = errno;
    return result_of(saved, madvise(start, size, MADV_HUGEPAGE) != 0);
}

void os_touch(void *byte) { *(volatile char *)byte = 0; }

int os_advise_base(void *start, size_t size) {
    int saved = errno;
    return result_of(saved, madvise(start, size, MADV_NOHUGEPAGE) != 0);
}

/* Whether the word is mapped: futex(2) reads it before it waits, and says EFAULT where nothing is. Unlike mincore(2) it
 * is allowed in every sandbox, and unlike the calls that change mappings it does not fail for lack of memory. Changes
 * errno. */
static bool is_mapped(void *word) {
    struct timespec none = {0, 0};
    return syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, 1, &none, NULL, 0) == 0 || errno != EFAULT;
}

/* Whether the destination of a move that failed is mapped, or is now. mremap(2) unmaps it, all of it, before it can
 * fail for lack of memory. The hole is filled again; another mapping can hardly have come to lie in it, since the
 * kernel looks from the top of the address space, and is not replaced. Changes errno. */
static bool is_whole_again(char *start, size_t size) {
    return (is_mapped(start) && is_mapped(start + size - sizeof(uint64_t))) ||
           try_map((uintptr_t)start, size, PROT_READ | PROT_WRITE, MAP_FIXED_NOREPLACE) == start;
}

/* mmap(2) with MAP_FIXED unmaps what was there before it looks for huge pages: when there are none, the hole is filled
 * again. */
int os_map_hugetlb(void *start, size_t size, unsigned shift) {
    int saved = errno;
    int error = 0;
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_FIXED | (int)(shift << MAP_HUGE_SHIFT);
    if (mmap(start, size, PROT_READ | PROT_WRITE, flags, -1, 0) == MAP_FAILED) {
        error = -errno;
        (void)is_whole_again(start, size);
    }
    errno = saved;
    return error;
}

int os_move(void *from, void *to, size_t size) {
    int saved = errno;
    void *at = mremap(from, size, size, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, to);
    int error = 0;
    if (at == MAP_FAILED)
        error = is_whole_again(to, size) ? -EAGAIN : -ENOMEM;
    errno = saved;
    return error;
}

void os_wait(uint32_t *word, uint32_t expected, unsigned timeout_ms) {
    int saved = errno;
    struct timespec span = {.tv_sec = timeout_ms / 1000, .tv_nsec = (long)(timeout_ms % 1000) * 1000000};
    (void)syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, timeout_ms ? &span : NULL, NULL, 0);
    errno = saved;
}

void os_wake(uint32_t *word, int count) {
    int saved = errno;
    (void)syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);
    errno = saved;
}

static int membarrier(int command) {
    int saved = errno;
    return result_of(saved, syscall(SYS_membarrier, command, 0, 0) != 0);
}

int os_membarrier_register(void) { return membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ); }

int os_membarrier(void) {
    int error = membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ);
    if (error != -EPERM)
        return error;
    error = os_membarrier_register(); /* not registered yet, or forgotten by an exec-like event */
    return error ? error : membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ);
}

/* The raw call gives the size of the kernel's mask in bytes, which glibc's wrapper hides. sched_getaffinity(2), "C
 * library/kernel differences". */
unsigned os_cpu_bound(unsigned *usable) {
    int saved = errno;
    unsigned long mask[8192 / (8 * sizeof(unsigned long))];
    long bytes = syscall(SYS_sched_getaffinity, 0, sizeof mask, mask);
    errno = saved;
    *usable = 0;
    for (long i = 0; i < bytes / (long)sizeof mask[0]; i++)
        *usable += (unsigned)__builtin_popcountl(mask[i]);
    return bytes > 0 ? (unsigned)bytes * 8 : 64;
}

uint64_t os_now_ns(void) {
    struct timespec now = {0, 0};
    int saved = errno;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    errno = saved;
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

uint64_t os_now_ms(void) {
    struct timespec now = {0, 0};
    int saved = errno;
    (void)clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    errno = saved;
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

size_t os_address_limit(void) { return atomic_load_explicit(&address_limit, memory_order_relaxed); }

void os_read_address_limit(void) {
    struct rlimit limit;
    int saved = errno;
    if (getrlimit(RLIMIT_AS, &limit) == 0)
        atomic_store_explicit(&address_limit, limit.rlim_cur == RLIM_INFINITY ? SIZE_MAX : limit.rlim_cur,
                              memory_order_relaxed);
    errno = saved;
}

uint64_t os_random(void) {
    uint64_t value = 0;
    const void *bytes = (const void *)getauxval(AT_RANDOM);
    if (bytes)
        memcpy(&value, bytes, sizeof value);
    return value * 0x9e3779b97f4a7c15u; /* the same bytes seed the stack protector: do not show them */
}

/* Early at boot, or in a sandbox, there is only what the kernel gave at exec. Each call then differs by the count. */
void os_entropy(void *bytes, size_t size) {
    static _Atomic uint64_t count;
    int saved = errno;
    /* Through syscall(2): getrandom is a cancellation point in glibc, and the caller may hold locks. */
    long got = syscall(SYS_getrandom, bytes, size, GRND_NONBLOCK);
    errno = saved;
    for (size_t at = got > 0 ? (size_t)got : 0; at < size; at++) {
        uint64_t mixed = (os_random() + atomic_fetch_add_explicit(&count, 1, memory_order_relaxed)) *
                         0xd1342543de82ef95u;
        mixed = (mixed ^ mixed >> 31) * 0x9e3779b97f4a7c15u;
        ((unsigned char *)bytes)[at] = (unsigned char)(mixed >> 56);
    }
}

bool os_is_secure(void) { return getauxval(AT_SECURE) != 0; }

enum { KERNEL_SIGSET = 8 };

void os_block_signals(struct os_signals *saved) {
    int error = errno;
    sigset_t all;
    memset(&all, 0xff, sizeof all);
    memset(saved, 0, sizeof *saved);
    (void)syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, saved->mask, KERNEL_SIGSET);
    errno = error;
}

void os_restore_signals(const struct os_signals *saved) {
    int error = errno;
    (void)syscall(SYS_rt_sigprocmask, SIG_SETMASK, saved->mask, NULL, KERNEL_SIGSET);
    errno = error;
}

void os_name_thread(const char *name) { (void)prctl(PR_SET_NAME, name); }

/* Through syscall(2): open, read and close are cancellation points, and the caller may hold locks. */
static int read_overcommit(void) {
    char mode = '0';
    int file = (int)syscall(SYS_openat, AT_FDCWD, "/proc/sys/vm/overcommit_memory", O_RDONLY | O_CLOEXEC, 0);
    if (file < 0)
        return STRICT_NO;
    if (syscall(SYS_read, file, &mode, (size_t)1) != 1)
        mode = '0';
    (void)syscall(SYS_close, file);
    return mode == '2' ? STRICT_YES : STRICT_NO;
}

/* Whether address space without access, shared or private, is refused for lack of memory. */
static bool space_is_refused(int flags, size_t size) {
    void *probe = mmap(NULL, size, PROT_NONE, flags | MAP_ANONYMOUS, -1, 0);
    bool refused = probe == MAP_FAILED && errno == ENOMEM;
    if (probe != MAP_FAILED)
        os_discard(probe, size);
    return refused;
}

/* Under overcommit 2 the kernel ignores MAP_NORESERVE, so it refuses a shared mapping of more memory than there is,
 * even without access; the other modes give it, and a sandbox may refuse it in other words. Private address space
 * without access is never counted: where that is refused, it is for a limit, or too large for the processor, and the
 * answer is no; likewise where a single page is refused. The probe is not writable, since mlockall(MCL_FUTURE) would
 * fill it with pages. It needs no file, which a sandbox may forbid by now. proc(5), vm.overcommit_memory; mm/shmem.c of
 * Linux, shmem_acct_size. Not where os_init read the file. */
bool os_strict_commit(void) {
    int known = atomic_load_explicit(&strict_commit, memory_order_relaxed);
    if (known == STRICT_UNKNOWN) {
        int saved = errno;
        size_t much = (size_t)1 << (RN_ADDRESS_BITS - 2); /* more than any machine has memory */
        bool is_strict = space_is_refused(MAP_SHARED | MAP_NORESERVE, much) &&
                         !space_is_refused(MAP_PRIVATE | MAP_NORESERVE, much) &&
                         !space_is_refused(MAP_SHARED | MAP_NORESERVE, page_size);
        known = is_strict ? STRICT_YES : STRICT_NO;
        errno = saved;
        atomic_store_explicit(&strict_commit, known, memory_order_relaxed);
    }
    return known == STRICT_YES;
}

/* Of shared memory without MAP_NORESERVE the kernel counts what it maps, whoever may read it; so it answers as it would
 * for memory to be written, and nothing becomes resident, not even under mlockall. Where as much private address space
 * is refused too, it is that which is missing. */
bool os_is_too_much(size_t size) {
    int saved = errno;
    size = round_up(size, page_size);
    bool refused = size >= OS_ASK_FROM && space_is_refused(MAP_SHARED, size) &&
                   !space_is_refused(MAP_PRIVATE | MAP_NORESERVE, size);
    errno = saved;
    return refused;
}

/* Without the kernel's vDSO this is an emulator, such as qemu-user before 8.2, which may keep a record for each page of
 * a mapping: of one of many TiB it would run out of memory. */
static bool is_emulated(void) { return getauxval(AT_SYSINFO_EHDR) == 0; }

void os_init(void) {
    int saved = errno;
    size_t size = (size_t)getauxval(AT_PAGESZ);
    if (is_power_of_two(size))
        page_size = size;
    os_read_address_limit();
    if (os_address_limit() != SIZE_MAX || is_emulated()) /* a mapping as a probe would prove nothing, or do harm */
        atomic_store_explicit(&strict_commit, read_overcommit(), memory_order_relaxed);
    errno = saved;
}
