/* amid.c: the only thread ends its rseq registration, and is stopped amid malloc while the C library makes another
 * thread by itself, for a timer, which allocates too. No block is given to both. Each round is a process of its own, on
 * one CPU, so that both threads have one id.
 * usage: amid [again]: the first one takes a registration again before the other comes */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <ucontext.h>
#include "../lib/proc.h"
#include "../lib/tap.h"

extern const ptrdiff_t __rseq_offset __attribute__((weak));
extern const unsigned __rseq_size __attribute__((weak));
enum { ROUNDS = 12, PAIRS = 20000000, THEIRS = 2000, SIZE = 64, WARM = 40, CODE = 160, UNREGISTER = 1 };
#if defined(__aarch64__)
#define SIGNATURE 0xd428bc00u
#else
#define SIGNATURE 0x53053053u
#endif

/* In memory that parent and child share. */
struct counts {
    atomic_uint stopped, came;
};
static struct counts *shared;

static atomic_bool is_stopped, is_done;
static bool takes_again;
static void *theirs[THEIRS];
static timer_t clock_of_another;

static long rseq(int flags) {
    return syscall(SYS_rseq, (char *)__builtin_thread_pointer() + __rseq_offset, 32, flags, SIGNATURE);
}

static void other_thread(union sigval unused) {
    (void)unused;
    for (int i = 0; i < THEIRS; i++)
        theirs[i] = malloc(SIZE);
    atomic_store(&is_done, true);
}

static uintptr_t at(const ucontext_t *context) {
#if defined(__aarch64__)
    return (uintptr_t)context->uc_mcontext.pc;
#else
    return (uintptr_t)context->uc_mcontext.gregs[REG_RIP];
#endif
}

/* Where malloc is, if it is in its first instructions: there it stays till the other thread has its blocks. */
static void stop_amid(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)info;
    void *symbol = dlsym(RTLD_DEFAULT, "malloc");
    if (atomic_load(&is_stopped) || at(context) - (uintptr_t)symbol >= CODE)
        return;
    if (takes_again && rseq(0) != 0)
        return;
    atomic_store(&is_stopped, true);
    (void)timer_settime(clock_of_another, 0, &(struct itimerspec){.it_value = {0, 1000000}}, NULL);
    EVENTUALLY(atomic_load(&is_done));
}

static void warm_up(void) {
    void *blocks[WARM];
    for (int round = 0; round < 50; round++) {
        for (int i = 0; i < WARM; i++)
            blocks[i] = malloc(SIZE);
        for (int i = 0; i < WARM; i++)
            free(blocks[i]);
    }
}

static int round_in_child(void *unused) {
    (void)unused;
    struct sigevent event = {.sigev_notify = SIGEV_THREAD};
    event.sigev_notify_function = other_thread;
    struct sigaction action = {.sa_sigaction = stop_amid, .sa_flags = SA_SIGINFO | SA_RESTART};
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    (void)sched_setaffinity(0, sizeof one, &one);
    warm_up();
    if (timer_create(CLOCK_MONOTONIC, &event, &clock_of_another) != 0 || sigaction(SIGALRM, &action, NULL) != 0)
        return 2;
    if (rseq(UNREGISTER) != 0)
        return 2;
    (void)setitimer(ITIMER_REAL, &(struct itimerval){{0, 100}, {0, 100}}, NULL);
    void *mine = NULL;
    for (int pairs = 0; pairs < PAIRS && !atomic_load(&is_done); pairs++) {
        mine = malloc(SIZE);
        if (atomic_load(&is_done))
            break;
        free(mine);
        mine = NULL;
    }
    (void)setitimer(ITIMER_REAL, &(struct itimerval){{0, 0}, {0, 0}}, NULL);
    atomic_fetch_add(&shared->stopped, atomic_load(&is_stopped));
    atomic_fetch_add(&shared->came, atomic_load(&is_done));
    int both = 0;
    for (int i = 0; i < THEIRS && mine; i++)
        both += theirs[i] == mine;
    return both;
}

int main(int argc, char **argv) {
    (void)argv;
    tap_check_subject();
    takes_again = argc > 1;
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        return 3;
    if (&__rseq_size == NULL || __rseq_size == 0) {
        tap_skip("glibc registered no rseq here", "amid malloc without rseq");
        return tap_done();
    }
    int bad = 0;
    for (int i = 0; i < ROUNDS; i++)
        bad += proc_child(round_in_child, NULL) != 0;
    OK(bad == 0, "amid malloc without rseq (%d of %d rounds went wrong)", bad, ROUNDS);
    unsigned stopped = atomic_load(&shared->stopped), came = atomic_load(&shared->came);
    OK(stopped != 0 && came != 0, "the first thread was stopped there (%u times), and another came (%u)", stopped,
       came);
    return tap_done();
}
