/* test-aarch64.c: the program that scripts/test-aarch64 and scripts/test-aarch64-system run on the other machine.
 *
 *     test-aarch64 [calm | storm] [OPERATIONS] [MODE]
 *
 * Prints TAP. MODE is how the name of rnMode's answer should begin: rseq, rseq-cid, rseq-cpu or thread.
 *
 * storm: each thread has a timer of its own that interrupts it, and threads change the CPUs they may use, so that
 * restartable sequences are aborted all the time. Started as process 1 of a system, it is that system's only
 * program: see init.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/auxv.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>

#include "rnalloc.h"
#include "tests/lib/tap.h"

extern struct rn_mode rnMode(void) __attribute__((weak));
extern void *_Znwm(size_t size) __attribute__((weak));
extern void _ZdlPv(void *block) __attribute__((weak));
extern const unsigned __rseq_size __attribute__((weak));

enum { THREADS = 8, SLOTS = 400, BOXES = 64, STORM_NANOSECONDS = 200000, PAIRS = 50 };
static const uint32_t SIGNATURE = 0xd428bc00; /* RSEQ_SIG */

static unsigned operations = 100000;
static bool storm;
static atomic_ulong damaged, misplaced, refused, signals, aborts;
static void *_Atomic boxes[BOXES]; /* blocks on their way to another thread */

static uint64_t random_next(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    return *state ^= *state << 17;
}

/* A block's first two words say its size and, by its address, that it is itself; its last byte is a mark. */
static void block_fill(void *block, size_t size) {
    uint64_t head[2] = {size, (uintptr_t)block ^ size};
    memcpy(block, head, sizeof head);
    ((unsigned char *)block)[size - 1] = (unsigned char)(size * 7 + 1);
}

static size_t block_check(void *block) {
    uint64_t head[2];
    memcpy(head, block, sizeof head);
    size_t size = head[0];
    if (head[1] != ((uintptr_t)block ^ size) || ((unsigned char *)block)[size - 1] != (unsigned char)(size * 7 + 1)) {
        atomic_fetch_add(&damaged, 1);
        return 0;
    }
    memset(block, 0xdd, 16);
    return size;
}

static void block_drop(void *block, uint64_t way) {
    if (!block)
        return;
    (void)block_check(block);
    if (way % 4 == 0 && _ZdlPv)
        _ZdlPv(block);
    else
        free(block);
}

static bool is_zero(const unsigned char *bytes, size_t size) {
    for (size_t i = 0; i < size; i++)
        if (bytes[i])
            return false;
    return true;
}

static void *block_make(uint64_t r) {
    size_t size = 17 + (r >> 8) % ((size_t)1 << (5 + (r >> 40) % 9));
    size_t align = (size_t)16 << (r >> 50) % 6;
    void *block = NULL;
    if ((r >> 56) == 0)
        size += 300000; /* above every class */
    switch (r % 8) {
    case 0:
        block = calloc(1, size);
        if (block && !is_zero(block, size))
            atomic_fetch_add(&misplaced, 1);
        break;
    case 1:
        block = aligned_alloc(align, size);
        if ((uintptr_t)block % align)
            atomic_fetch_add(&misplaced, 1);
        break;
    case 2:
        block = _Znwm ? _Znwm(size) : malloc(size);
        break;
    default:
        block = malloc(size);
    }
    if (!block) {
        atomic_fetch_add(&refused, 1);
        return NULL;
    }
    if ((uintptr_t)block % 16 || malloc_usable_size(block) < size)
        atomic_fetch_add(&misplaced, 1);
    block_fill(block, size);
    return block;
}

static void *block_resize(void *block, uint64_t r) {
    size_t size = 17 + (r >> 16) % 5000;
    uint64_t head[2];
    size_t old = block_check(block);
    if (old == 0)
        return block;
    ((unsigned char *)block)[16] = 0x5a;
    void *moved = realloc(block, size);
    if (!moved) {
        atomic_fetch_add(&refused, 1);
        return NULL;
    }
    memcpy(head, moved, sizeof head);
    if (head[0] != 0xddddddddddddddddu || head[1] != head[0] || ((unsigned char *)moved)[16] != 0x5a)
        atomic_fetch_add(&damaged, 1);
    block_fill(moved, size);
    return moved;
}

/* ---- The storm ---- */

/* Onto one CPU, the next time onto another: with more threads than CPUs each hop also pushes somebody off. */
static void storm_hop(uint64_t r) {
    static long cpus;
    cpu_set_t one;
    if (!cpus)
        cpus = sysconf(_SC_NPROCESSORS_CONF);
    CPU_ZERO(&one);
    CPU_SET(r % (uint64_t)cpus, &one);
    (void)sched_setaffinity(0, sizeof one, &one);
}

/* A signal that aborts a sequence finds the thread at the abort address, behind the signature. The handler lets
 * others onto the CPU, or moves: should the sequence go on after it, it would overwrite what they did. */
static void on_signal(int number, siginfo_t *info, void *context) {
    const ucontext_t *interrupted = context;
    int saved = errno;
    uint32_t before;
    (void)number;
    (void)info;
    memcpy(&before, (const void *)(uintptr_t)(interrupted->uc_mcontext.pc - sizeof before), sizeof before);
    atomic_fetch_add_explicit(&signals, 1, memory_order_relaxed);
    if (before == SIGNATURE)
        atomic_fetch_add_explicit(&aborts, 1, memory_order_relaxed);
    if (signals % 4 == 0)
        storm_hop(signals / 4);
    else
        sched_yield();
    errno = saved;
}

static timer_t storm_start(unsigned thread) {
    timer_t timer = NULL;
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGRTMIN};
    event._sigev_un._tid = (pid_t)syscall(SYS_gettid);
    struct itimerspec period = {{0, STORM_NANOSECONDS + thread * 7000}, {0, STORM_NANOSECONDS}};
    if (timer_create(CLOCK_MONOTONIC, &event, &timer) != 0 || timer_settime(timer, 0, &period, NULL) != 0)
        abort();
    return timer;
}

/* ---- Traffic ---- */

static void traffic(uint64_t seed, unsigned count, bool shared, bool hop) {
    static _Thread_local void *slots[SLOTS];
    uint64_t state = seed * 0x9e3779b97f4a7c15u + 1;
    for (unsigned i = 0; i < count; i++) {
        uint64_t r = random_next(&state);
        void **slot = &slots[(r >> 20) % SLOTS];
        if (hop && r % 64 == 0)
            storm_hop(r >> 32);
        if (!*slot) {
            *slot = block_make(random_next(&state));
        } else if (r % 16 == 0) {
            *slot = block_resize(*slot, r);
        } else if (shared && r % 16 < 5) {
            *slot = atomic_exchange(&boxes[(r >> 40) % BOXES], *slot);
        } else {
            block_drop(*slot, r);
            *slot = NULL;
        }
    }
    for (unsigned i = 0; i < SLOTS; i++) {
        block_drop(slots[i], i);
        slots[i] = NULL;
    }
}

/* Little but malloc and free, so that signals and switches strike inside their sequences. Blocks of few classes,
 * since the threads shall fight for the same bins. */
static void pairs(uint64_t seed, unsigned count, bool hop) {
    uint64_t *blocks[4] = {NULL};
    for (unsigned i = 0; i < count; i++) {
        uint64_t **block = &blocks[i % 4];
        if (*block && ((*block)[0] != (uintptr_t)*block || (*block)[1] != seed + i - 4))
            atomic_fetch_add(&damaged, 1);
        free(*block);
        *block = malloc(32 + (i & 16));
        (*block)[0] = (uintptr_t)*block;
        (*block)[1] = seed + i;
        if (hop && i % 512 == 0)
            storm_hop(seed + i / 512);
    }
    for (unsigned i = 0; i < 4; i++)
        free(blocks[i]);
}

static void *thread_run(void *number) {
    unsigned thread = (unsigned)(uintptr_t)number;
    timer_t timer = storm ? storm_start(thread) : NULL;
    traffic(thread + 1, operations, true, storm);
    pairs((uint64_t)thread << 32, operations * PAIRS, storm);
    if (storm)
        timer_delete(timer);
    return NULL;
}

static bool is_clean(void) { return damaged + misplaced + refused == 0; }

static void check_threads(const char *what) {
    pthread_t threads[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, thread_run, (void *)i) != 0)
            abort();
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (unsigned i = 0; i < BOXES; i++)
        block_drop(atomic_exchange(&boxes[i], NULL), i);
    OK(is_clean(), "%s: %u threads, %u operations each (%lu damaged, %lu misplaced, %lu refused; %lu signals)", what,
       THREADS, operations, damaged, misplaced, refused, signals);
}

/* ---- Processes ---- */

static int child_status(pid_t child) {
    int status;
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            return -1;
    return status;
}

static void *fork_run(void *unused) {
    unsigned long bad = 0;
    (void)unused;
    for (unsigned i = 0; i < 20; i++) {
        pid_t child = fork();
        if (child == 0) {
            traffic(i + 77, operations / 50, false, false);
            _exit(is_clean() ? 0 : 1);
        }
        bad += child < 0 || child_status(child) != 0;
    }
    return (void *)bad;
}

static void check_fork(void) {
    pthread_t busy, forker;
    void *bad;
    pthread_create(&busy, NULL, thread_run, (void *)(uintptr_t)40);
    pthread_create(&forker, NULL, fork_run, NULL);
    pthread_join(busy, NULL);
    pthread_join(forker, &bad);
    for (unsigned i = 0; i < BOXES; i++)
        block_drop(atomic_exchange(&boxes[i], NULL), i);
    OK(!bad && is_clean(), "20 forks beside a busy thread, children allocate (%lu failed)", (unsigned long)bad);
}

/* The child allocates deeper and shallower than the call, so that a return address on the stack would not survive. */
static __attribute__((noinline)) void vfork_child(volatile unsigned *done, unsigned seed) {
    volatile char deep[2000];
    memset((char *)(uintptr_t)deep, 0x55, sizeof deep);
    traffic(seed, 2000, false, false);
    *done += 1;
}

static __attribute__((noinline)) pid_t vfork_once(volatile unsigned *done, unsigned seed) {
    pid_t child = vfork();
    if (child == 0) {
        vfork_child(done, seed);
        _exit(is_clean() ? 7 : 1);
    }
    return child;
}

static void check_vfork(void) {
    volatile unsigned done = 0, bad = 0;
    for (unsigned i = 0; i < 50; i++) {
        pid_t child = vfork_once(&done, i + 500);
        int status = child > 0 ? child_status(child) : -1;
        bad += !(WIFEXITED(status) && WEXITSTATUS(status) == 7);
        traffic(i + 900, 2000, false, false);
    }
    /* qemu-user makes vfork a fork: then nothing is done in the parent's memory */
    OK(bad == 0 && (done == 50 || done == 0) && is_clean(),
       "50 children of vfork allocate, %u of them in the parent's memory", done);
}

static void check_mode(const char *expected) {
    struct utsname name;
    if (!rnMode) {
        OK(false, "rnAlloc is loaded");
        return;
    }
    struct rn_mode mode = rnMode();
    uname(&name);
    tap_diag("Linux %s %s, %ld CPUs, __rseq_size %u, AT_RSEQ_FEATURE_SIZE %lu", name.release, name.machine,
             sysconf(_SC_NPROCESSORS_ONLN), &__rseq_size ? __rseq_size : 0, getauxval(27));
    OK(strncmp(mode.name, expected, strlen(expected)) == 0, "the mode is %s (%s: %s)", expected, mode.name,
       mode.reason);
}

/* ---- Process 1 ---- */

static int system_run(const char *preload, const char *options, const char *tunables, char *const *arguments) {
    pid_t child = fork();
    if (child == 0) {
        setenv("LD_PRELOAD", preload, 1);
        /* from the kernel's command line, whose settings are process 1's environment */
        const char *trust = getenv("TEST_ARM64_RSEQ");
        char all[64];
        snprintf(all, sizeof all, "arm64_rseq=%s%s%s", trust ? trust : "0", *options ? "," : "", options);
        setenv("RNALLOC_OPTIONS", all, 1);
        setenv("GLIBC_TUNABLES", tunables, 1);
        execv("/init", arguments);
        _exit(127);
    }
    return child_status(child);
}

/* All variants, a line each for the script to read, and the end of the machine. It is told the operations on the
 * kernel's command line, as arguments after "--". */
static void init(int argc, char **argv) {
    static const struct {
        const char *name, *options, *tunables, *mode;
    } variants[] = {
        {"default", "", "", "rseq"},
        {"cpu_id", "cid=0", "", "rseq-cpu"},
        {"own area", "", "glibc.pthread.rseq=0", "rseq"},
        {"without rseq", "rseq=0", "", "thread"},
    };
    char *count = argc > 1 ? argv[1] : (char *)(uintptr_t) "1000";
    mount("proc", "/proc", "proc", 0, NULL);
    mount("sys", "/sys", "sysfs", 0, NULL);
    mount("dev", "/dev", "devtmpfs", 0, NULL);
    int console = open("/dev/console", O_RDWR);
    for (int i = 0; i < 3; i++)
        dup2(console, i);
    for (size_t i = 0; i < sizeof variants / sizeof variants[0]; i++) {
        char *arguments[] = {argv[0], (char *)(uintptr_t) "storm", count, (char *)(uintptr_t)variants[i].mode, NULL};
        tap_diag("variant: %s", variants[i].name);
        int status = system_run("/librnalloc.so", variants[i].options, variants[i].tunables, arguments);
        tap_diag("variant %s: wait status %d", variants[i].name, status);
    }
    tap_diag("all variants ran");
    sync();
    reboot(RB_POWER_OFF);
}

int main(int argc, char **argv) {
    if (getpid() == 1)
        init(argc, argv);
    storm = argc > 1 && strcmp(argv[1], "storm") == 0;
    if (argc > 2)
        operations = (unsigned)atoi(argv[2]);
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_RESTART | SA_SIGINFO};
    sigaction(SIGRTMIN, &action, NULL);
    check_mode(argc > 3 ? argv[3] : "");
    traffic(1, operations, false, false);
    OK(is_clean(), "one thread: %u operations", operations);
    check_threads(storm ? "storm" : "calm");
    if (storm)
        OK(signals > 100, "the storm blew: %lu signals", signals);
    if (storm && rnMode && rnMode().kind != RN_MODE_THREAD)
        OK(aborts > 0, "signals aborted %lu sequences", aborts);
    check_fork();
    check_vfork();
    check_threads("again, after the processes");
    return tap_done();
}
