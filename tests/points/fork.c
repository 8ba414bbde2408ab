/* fork.c: one thread forks at each system call that the others make inside the allocator, before it and after it: amid
 * refills, drains, growth, moves, release and the helper's work. Whoever makes the call waits until the fork is done,
 * or until the forking thread sleeps on a lock that is held across that call. The child's heap must be whole, and work.
 * usage: fork [MOST-FORKS] */
#define _GNU_SOURCE
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <rnalloc.h>
#include <sched.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include "../lib/model.h"
#include "../lib/proc.h"
#include "../lib/shadow.h"
#include "../lib/tap.h"
#include "frontend/frontend.h"

enum { WORKERS = 3, KINDS = 8, ROUNDS_MOST = 1000 };

/* The forking thread's work: request n is answered by at_once or by waiting, then by done == n. */
static atomic_uint requested, forked, done;
static atomic_int forker_id, is_forking, is_over;
static atomic_uint at_once, after_a_lock, failed;
static atomic_int is_armed, is_busy;
static unsigned most_forks = 500;
static bool has_rseq;
static _Thread_local int is_forker;

/* Points met, by the call that was made. */
static const char *const kinds[KINDS] = {"mmap", "munmap", "mprotect", "madvise", "mremap", "futex", "membarrier", "?"};
static atomic_uint met[KINDS];

static long raw_call(long number, long a, long b, long c, long d, long e, long f) {
    long result;
#if defined(__x86_64__)
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
#else
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
    result = x0;
#endif
    return result;
}

/* The letter for the forking thread's state; S is asleep, on a lock if it is inside fork. */
static char forker_state(void) {
    char path[64], text[256];
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", atomic_load(&forker_id));
    proc_read(path, text, sizeof text);
    const char *end = strrchr(text, ')');
    return end && end[1] ? end[2] : '?';
}

/* Only a drain makes the last one, and only where pools can be stopped. */
static bool every_kind_met(void) {
    for (int i = 0; i < 5; i++)
        if (!atomic_load(&met[i]))
            return false;
    return atomic_load(&met[6]) || !has_rseq;
}

/* Whether forks took place in both ways. How often the forking thread has to wait for a lock is chance. */
static bool is_enough(void) { return atomic_load(&at_once) > 50 && (atomic_load(&after_a_lock) > 0 || !has_rseq); }

/* A point: one at a time, and not from the forking thread's own allocations. Whoever waits for its turn may hold a
 * lock: the one whose turn it is then sees the forking thread asleep, and goes on. Keeps errno. */
static void point(unsigned kind) {
    int saved = errno;
    if (is_forker || !atomic_load(&is_armed))
        return;
    while (atomic_exchange(&is_busy, 1))
        sched_yield();
    unsigned so_far = atomic_load(&requested);
    if (so_far < most_forks || atomic_load(&met[kind]) == 0 || (so_far < 10 * most_forks && !is_enough())) {
        unsigned number = atomic_fetch_add(&requested, 1) + 1;
        unsigned asleep = 0;
        atomic_fetch_add(&met[kind], 1);
        /* Twice asleep, since it sleeps for moments elsewhere too. */
        while (atomic_load(&forked) < number && asleep < 2) {
            sched_yield();
            asleep += atomic_load(&is_forking) && forker_state() == 'S';
        }
        atomic_fetch_add(atomic_load(&forked) < number ? &after_a_lock : &at_once, 1);
    }
    atomic_store(&is_busy, 0);
    errno = saved;
}

static long pointed_call(unsigned kind, long number, long a, long b, long c, long d, long e, long f) {
    point(kind);
    long result = raw_call(number, a, b, c, d, e, f);
    if (result < 0 && result > -4096) {
        errno = (int)-result;
        result = -1;
    }
    point(kind);
    return result;
}

/* These come before the C library's for the allocator that is linked to this program. */
void *mmap(void *start, size_t size, int protection, int flags, int fd, off_t offset) {
    return (void *)pointed_call(0, SYS_mmap, (long)start, (long)size, protection, flags, fd, offset);
}

int munmap(void *start, size_t size) { return (int)pointed_call(1, SYS_munmap, (long)start, (long)size, 0, 0, 0, 0); }

int mprotect(void *start, size_t size, int protection) {
    return (int)pointed_call(2, SYS_mprotect, (long)start, (long)size, protection, 0, 0, 0);
}

int madvise(void *start, size_t size, int advice) {
    return (int)pointed_call(3, SYS_madvise, (long)start, (long)size, advice, 0, 0, 0);
}

void *mremap(void *start, size_t size, size_t new_size, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    void *target = va_arg(rest, void *);
    va_end(rest);
    return (void *)pointed_call(4, SYS_mremap, (long)start, (long)size, (long)new_size, flags, (long)target, 0);
}

long syscall(long number, ...) {
    long argument[6];
    va_list rest;
    va_start(rest, number);
    for (int i = 0; i < 6; i++)
        argument[i] = va_arg(rest, long);
    va_end(rest);
    unsigned kind = number == SYS_futex ? 5 : number == SYS_membarrier ? 6 : 7;
    return pointed_call(kind, number, argument[0], argument[1], argument[2], argument[3], argument[4], argument[5]);
}

static int child(void *argument) {
    unsigned number = *(unsigned *)argument;
    struct model_plan plan = {.operations = 300, .slots = 40, .largest = 100000, .seed = number};
    atomic_store(&is_armed, 0);
    alarm(120);
    heap_check();
    if (number % 16 == 0)
        plan.largest = 6 << 20;
    if (!model_is_clean(model_run_here(&plan)))
        return 10;
    if (number % 8 == 0) {
        plan.threads = 2;
        if (!model_is_clean(model_run(&plan)))
            return 11;
    }
    malloc_trim(0);
    heap_check();
    return 0;
}

static void fork_at_point(unsigned number) {
    int status = -1;
    atomic_store(&is_forking, 1);
    pid_t pid = fork();
    if (pid == 0)
        _exit(child(&number));
    atomic_store(&is_forking, 0);
    atomic_store(&forked, number);
    if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0) {
        tap_diag("child %u: status %#x", number, (unsigned)status);
        atomic_fetch_add(&failed, 1);
    }
    atomic_store(&done, number);
}

static void *forker(void *unused) {
    is_forker = 1;
    atomic_store(&forker_id, gettid());
    while (!atomic_load(&is_over))
        if (atomic_load(&requested) > atomic_load(&done))
            fork_at_point(atomic_load(&done) + 1);
        else
            sched_yield();
    return unused;
}

/* Every kind of work that leads to the system: growth by small and large blocks, moves, alignment, release. */
static void work_once(unsigned round) {
    enum { SMALL = 1200, LARGE = 6 };
    static _Thread_local unsigned char *blocks[SMALL + LARGE];
    for (unsigned i = 0; i < SMALL; i++)
        *(blocks[i] = malloc(1 + (i * 131 + round * 7) % 12000)) = 1;
    for (unsigned i = SMALL; i < SMALL + LARGE; i++)
        *(blocks[i] = i % 2 ? calloc(1, (size_t)400000 << i % 4) : aligned_alloc((size_t)4096 << i % 8, 900000)) = 1;
    for (unsigned i = SMALL; i < SMALL + LARGE; i++)
        *(blocks[i] = realloc(blocks[i], (size_t)3 << 20)) = 1;
    for (unsigned i = 0; i < SMALL; i += 2)
        free(blocks[i]);
    malloc_trim(round % 2 ? 0 : 1 << 20);
    for (unsigned i = SMALL; i < SMALL + LARGE; i++)
        *(blocks[i] = realloc(blocks[i], i % 2 ? 300000 : (size_t)9 << 20)) = 1;
    for (unsigned i = 1; i < SMALL; i += 2)
        free(blocks[i]);
    for (unsigned i = SMALL; i < SMALL + LARGE; i++)
        free(blocks[i]);
    malloc_trim(0);
}

static void *worker(void *argument) {
    for (unsigned round = 0;
         atomic_load(&requested) < most_forks || (!(every_kind_met() && is_enough()) && round < ROUNDS_MOST); round++) {
        work_once(round + (unsigned)(uintptr_t)argument);
        /* More than is reserved: address space is taken from the system. */
        if (round % 8 == 0 && round / 8 < 6)
            free(malloc((size_t)1200 * MIB * (round / 8 + 1)));
    }
    return NULL;
}

int main(int argc, char **argv) {
    pthread_t threads[WORKERS], fork_thread;
    most_forks = argc > 1 ? (unsigned)atoi(argv[1]) : most_forks;
    if (shadow_init() != 0 || pthread_create(&fork_thread, NULL, forker, NULL) != 0)
        return 3;
    while (atomic_load(&forker_id) == 0)
        sched_yield();
    has_rseq = rnMode().kind != RN_MODE_THREAD;
    atomic_store(&is_armed, 1);
    for (uintptr_t i = 0; i < WORKERS; i++)
        if (pthread_create(&threads[i], NULL, worker, (void *)i) != 0)
            return 3;
    for (int i = 0; i < WORKERS; i++)
        pthread_join(threads[i], NULL);
    while (atomic_load(&done) < atomic_load(&requested))
        sched_yield();
    atomic_store(&is_over, 1);
    pthread_join(fork_thread, NULL);
    atomic_store(&is_armed, 0);
    for (int i = 0; i < KINDS; i++)
        tap_diag("%u points at %s", atomic_load(&met[i]), kinds[i]);
    OK(every_kind_met(), "every kind of call was met");
    OK(is_enough(), "%u forks during a call, %u as soon as its lock was free", atomic_load(&at_once),
       atomic_load(&after_a_lock));
    OK(atomic_load(&failed) == 0, "the heaps of all %u children are whole and work (%u are not)", atomic_load(&done),
       atomic_load(&failed));
    heap_check();
    struct model_plan plan = {.threads = 4, .operations = 10000, .slots = 80, .largest = 40000, .seed = 3};
    MODEL_OK(model_run(&plan), "afterwards");
    return tap_done();
}
