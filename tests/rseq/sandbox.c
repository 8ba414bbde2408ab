/* sandbox.c: after the first allocation a filter kills at every system call outside a list; then the heap works hard.
 * Two lists: a short one, and OpenSSH's own, which looks at arguments too. Programs with several threads may call
 * membarrier, and do in no such sandbox; it is added to their list. */
#define _GNU_SOURCE
#include <malloc.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include "../lib/filter.h"
#include "../lib/model.h"
#include "../lib/proc.h"
#include "../lib/shadow.h"
#include "../lib/tap.h"

/* What a privilege-separated server keeps: memory, pipes, signals' return, the end. No sched_yield, no
 * sched_getaffinity, no open, no gettid, no prctl, and of clocks what the vDSO has. */
static const long allowed[] = {SYS_brk,
                               SYS_close,
                               SYS_exit,
                               SYS_exit_group,
                               SYS_futex,
                               SYS_getpid,
                               SYS_getrandom,
                               SYS_madvise,
                               SYS_mmap,
                               SYS_mprotect,
                               SYS_mremap,
                               SYS_munmap,
                               SYS_nanosleep,
                               SYS_ppoll,
                               SYS_clock_nanosleep,
                               SYS_pselect6,
                               SYS_read,
                               SYS_write,
                               SYS_rt_sigprocmask,
                               SYS_rt_sigreturn,
                               SYS_shutdown,
                               SYS_gettimeofday,
                               SYS_restart_syscall /* a wait goes on by it when the process was stopped meanwhile */};

/* What sshd lets its process do that talks to strangers (openssh-portable, sandbox-seccomp-filter.c of 2026-08), on
 * x86-64: as above, some calls more, some refused without harm; and of mmap only private anonymous memory without
 * further flags, of mprotect and mmap nothing executable, of madvise six kinds of advice. */
static int enter_openssh(void) {
    static const long more[] = {
        SYS_getuid,
        SYS_geteuid,
        SYS_getpgid,
        SYS_gettid,
        SYS_clock_gettime,
        SYS_writev,
        SYS_uname,
        SYS_getsockname,
        SYS_getpeername,
        SYS_getsockopt,
#if defined(__x86_64__)
        SYS_poll,
        SYS_select,
        SYS_time,
#endif
    };
    static const long refused[] = {SYS_fstat, SYS_openat, SYS_newfstatat, SYS_statx, SYS_shmget, SYS_shmat, SYS_shmdt};
    static const unsigned long advice[] = {MADV_NORMAL,   MADV_FREE,     MADV_DONTNEED,
                                           MADV_DONTFORK, MADV_DONTDUMP, MADV_WIPEONFORK};
    const unsigned long flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_FIXED_NOREPLACE;
    const unsigned long writable = PROT_READ | PROT_WRITE;
    struct filter filter;
    filter_load_number(&filter);
    for (unsigned i = 0; i < sizeof refused / sizeof *refused; i++)
        filter_answer(&filter, refused[i], SECCOMP_RET_ERRNO | EACCES);
    for (unsigned i = 0; i < sizeof advice / sizeof *advice; i++)
        filter_argument(&filter, SYS_madvise, 2, ~0ul, advice[i], SECCOMP_RET_ALLOW, 0);
    filter_answer(&filter, SYS_madvise, SECCOMP_RET_ERRNO | EINVAL);
    filter_argument(&filter, SYS_mmap, 3, ~flags, 0, 0, SECCOMP_RET_ERRNO | EINVAL);
    filter_argument(&filter, SYS_mmap, 2, ~writable, 0, SECCOMP_RET_ALLOW, SECCOMP_RET_KILL_PROCESS);
    filter_argument(&filter, SYS_mprotect, 2, ~writable, 0, SECCOMP_RET_ALLOW, SECCOMP_RET_KILL_PROCESS);
    for (unsigned i = 0; i < sizeof more / sizeof *more; i++)
        filter_answer(&filter, more[i], SECCOMP_RET_ALLOW);
    for (unsigned i = 0; i < sizeof allowed / sizeof *allowed; i++)
        if (allowed[i] != SYS_rt_sigreturn) /* "as above", but that: no handler returns there */
            filter_answer(&filter, allowed[i], SECCOMP_RET_ALLOW);
    return filter_install(&filter, SECCOMP_RET_KILL_PROCESS, 0);
}

static int enter(int is_threaded) {
    struct filter filter;
    filter_load_number(&filter);
    for (unsigned i = 0; i < sizeof allowed / sizeof *allowed; i++)
        filter_answer(&filter, allowed[i], SECCOMP_RET_ALLOW);
    if (is_threaded) {
        filter_answer(&filter, SYS_membarrier, SECCOMP_RET_ALLOW);
        filter_answer(&filter, SYS_set_robust_list, SECCOMP_RET_ALLOW);
    }
    return filter_install(&filter, SECCOMP_RET_KILL_PROCESS, is_threaded ? SECCOMP_FILTER_FLAG_TSYNC : 0);
}

struct entry {
    size_t first_size;
    int is_openssh;
    int is_hopeless; /* nothing is to be had there */
    size_t space;    /* what the address space is limited to before the sandbox is entered; 0: not limited */
};

static int enter_after(const struct entry *entry) {
    free(malloc(entry->first_size));
    struct rlimit limit = {entry->space, RLIM_INFINITY};
    if (entry->space && syscall(SYS_prlimit64, 0, RLIMIT_AS, &limit, NULL) != 0) /* by none of the C library's names */
        return -1;
    return entry->is_openssh ? enter_openssh() : enter(0);
}

/* Memory is refused in the sandbox: whatever the allocator then tries, it is not killed, and goes on afterwards. */
static int until_refused(void *argument) {
    static char *blocks[2000];
    static const size_t sizes[] = {40, 3000, 100000, 700000, 5 << 20};
    if (enter_after(argument) != 0)
        return 4;
    for (int round = 0; round < 15; round++) {
        unsigned count = 0;
        size_t size = sizes[round % 5];
        while (count < 2000 && (blocks[count] = malloc(size)) != NULL)
            *blocks[count++] = 1;
        for (unsigned i = 0; i < count; i++) {
            char *moved = realloc(blocks[i], size * (i % 7 + 1));
            blocks[i] = moved ? moved : blocks[i];
            if (*blocks[i] != 1)
                return 5;
        }
        malloc_trim(0);
        for (unsigned i = 0; i < count; i++)
            free(blocks[i]);
    }
    if (((struct entry *)argument)->is_hopeless)
        return 0;
    for (unsigned i = 0; i < 2000; i++)
        if (!(blocks[i] = malloc(1 + i)))
            return 6;
    for (unsigned i = 0; i < 2000; i++)
        free(blocks[i]);
    return 0;
}

static int single(void *argument) {
    struct model_plan plan = {.operations = 200000, .slots = 500, .largest = 300000, .seed = 31};
    if (enter_after(argument) != 0)
        return 4;
    if (!model_is_clean(model_run_here(&plan)))
        return 5;
    plan = (struct model_plan){.operations = 3000, .slots = 12, .largest = 30 << 20, .seed = 32};
    if (!model_is_clean(model_run_here(&plan)))
        return 6;
    /* Phases: all allocated, all freed, with what that releases to the system. */
    static char *blocks[100000];
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < 100000; i++)
            *(blocks[i] = malloc(500)) = 1;
        for (int i = 0; i < 100000; i++)
            free(blocks[i]);
    }
    malloc_trim(0);
    /* More than the address space that was reserved before. */
    char *huge = malloc((size_t)1200 * MIB);
    if (!huge)
        return 7;
    *huge = 1;
    free(huge);
    return 0;
}

static pthread_barrier_t filtered;
static int thread_failures[6];

static void *in_thread(void *argument) {
    unsigned number = (unsigned)(uintptr_t)argument;
    struct model_plan plan = {.operations = 60000, .slots = 200, .largest = 100000, .seed = 41 + number};
    free(malloc(100));
    pthread_barrier_wait(&filtered);
    pthread_barrier_wait(&filtered);
    thread_failures[number] = !model_is_clean(model_run_here(&plan));
    pthread_barrier_wait(&filtered);
    return NULL;
}

static int threads(void *unused) {
    pthread_t ids[6];
    int failures = unused != NULL;
    pthread_barrier_init(&filtered, NULL, 7);
    for (uintptr_t i = 0; i < 6; i++)
        if (pthread_create(&ids[i], NULL, in_thread, (void *)i) != 0)
            return 3;
    pthread_barrier_wait(&filtered);
    /* The allocator's own thread, too, must have done what a thread does once: no list allows that. */
    unsigned long sleeps;
    EVENTUALLY(proc_helper_rests(&sleeps))
    if (!proc_helper_rests(&sleeps))
        return 6;
    if (enter(1) != 0)
        return 4;
    pthread_barrier_wait(&filtered);
    pthread_barrier_wait(&filtered);
    for (int i = 0; i < 6; i++)
        failures += thread_failures[i];
    return failures;
}

int main(void) {
    size_t first_sizes[] = {0, 100, 4000, 100000, 3 << 20};
    tap_check_subject();
    if (shadow_init() != 0)
        return 3;
    for (unsigned i = 0; i < sizeof first_sizes / sizeof *first_sizes; i++)
        for (int is_openssh = 0; is_openssh <= (i % 3 == 1); is_openssh++) {
            struct entry entry = {.first_size = first_sizes[i], .is_openssh = is_openssh};
            int status = proc_child(single, &entry);
            OK(status == 0, "a single thread works in %s sandbox entered after malloc(%zu) (status %#x)",
               is_openssh ? "OpenSSH's" : "a", entry.first_size, (unsigned)status);
        }
    /* At a limit below what is reserved already, the kernel refuses every mapping and every move. The smaller room is
     * less than the tables of an unlimited heap take (some 80 MiB of address space). */
    for (unsigned i = 0; i < 3; i++) {
        size_t now = proc_status("VmSize:");
        struct entry entry = {.first_size = 100, .is_openssh = 1, .is_hopeless = i == 0};
        entry.space = i == 0 ? now / 2 : now + 16 * MIB * (i == 1 ? 1 : 10);
        int status = proc_child(until_refused, &entry);
        OK(status == 0, "and goes on after refusals, with %zu MiB of address space (status %#x)", entry.space / MIB,
           (unsigned)status);
    }
    if (!tap_expects_rnalloc()) {
        tap_skip("glibc reads a file of /proc when it shrinks an arena", "six threads work in a sandbox");
        return tap_done();
    }
    int status = proc_child(threads, NULL);
    OK(status == 0, "six threads work in a sandbox (status %#x)", (unsigned)status);
    return tap_done();
}
