/* generations.c: each child of a fork forks the next. Nothing may pile up: not in a thousand generations that fork when
 * their threads have ended, and in those that fork amid two busy threads no more than what these held between tiers.
 * And the thread that gives memory back, which a child does not have, comes back with the child's own threads.
 * usage: generations quiet|busy|helper */
#define _GNU_SOURCE
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include "../lib/proc.h"
#include "../lib/shadow.h"
#include "../lib/tap.h"

enum {
    QUIET = 1000,
    BUSY = 200,
    WARM = 20, /* generations before the first is measured */
    THREADS = 2,
    SLOTS = 300,
    LARGEST = 8000,
    MOST_FORKS = 1000, /* for one in which nothing stirred */
    SPARE = 48 << 10,  /* what the tails of spans vary by */
    HELD = 64 << 10,   /* a thread holds less between tiers: a batch or two, and a block */
};

/* What a generation tells the first. */
struct account {
    unsigned generation, wrong;
    size_t in_use, resident;
};

static unsigned char *volatile slots[THREADS][SLOTS];
static atomic_int stopping, running;
static unsigned wrong;

static size_t in_use(void) {
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

/* A slot holds its block's only owner: NULL before the block is freed, set after it was allocated. */
static void *churn(void *argument) {
    unsigned number = (unsigned)(uintptr_t)argument;
    uint64_t random = number + 1;
    atomic_fetch_add(&running, 1);
    for (unsigned i = 0; i < 3000 || !atomic_load(&stopping); i++) {
        uint64_t r = shadow_random(&random);
        unsigned char *volatile *slot = &slots[number][r % SLOTS];
        unsigned char *block = *slot;
        *slot = NULL;
        if (block && *block != (unsigned char)(r % SLOTS))
            wrong++;
        free(block);
        if (block)
            continue;
        block = malloc(1 + (r >> 20) % LARGEST);
        *block = (unsigned char)(r % SLOTS);
        *slot = block;
    }
    return NULL;
}

static void free_slots(void) {
    for (unsigned i = 0; i < THREADS * SLOTS; i++) {
        free(slots[i / SLOTS][i % SLOTS]);
        slots[i / SLOTS][i % SLOTS] = NULL;
    }
}

static void start(pthread_t *threads, int are_endless) {
    atomic_store(&running, 0);
    atomic_store(&stopping, !are_endless);
    for (uintptr_t i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, churn, (void *)i) != 0)
            _exit(3);
    while (atomic_load(&running) < THREADS)
        sched_yield();
}

/* Whether no thread is there but the caller, or the one that gives memory back alone, and asleep. */
static int is_still(unsigned long *sleeps) {
    int task;
    *sleeps = 0;
    return proc_tasks(NULL, &task) == 1 || !tap_expects_rnalloc() || proc_helper_rests(sleeps);
}

/* A fork that took place while all was still. What the helper takes from one tier to give to another is lost to a child
 * made meanwhile, which then ends, for another to be made. */
static pid_t fork_still(void) {
    for (unsigned tries = 0; tries < MOST_FORKS; tries++) {
        unsigned long before, after;
        int ends[2];
        EVENTUALLY(is_still(&before))
        if (!is_still(&before) || pipe(ends) != 0)
            return -1;
        pid_t pid = fork();
        close(ends[pid == 0]);
        if (pid == 0) {
            char word;
            if (read(ends[0], &word, 1) != 1)
                _exit(0);
            close(ends[0]);
            return 0;
        }
        int was_still = is_still(&after) && after == before;
        if (pid > 0 && was_still && write(ends[1], "", 1) != 1)
            return -1;
        close(ends[1]);
        if (pid < 0 || was_still)
            return pid;
        waitpid(pid, NULL, 0);
    }
    return -1;
}

/* One generation: traffic of threads, then the account, then the next generation, which alone goes on. */
static void generations(unsigned count, int is_busy, int pipe_end) {
    pthread_t threads[THREADS];
    for (unsigned generation = 1; generation <= count; generation++) {
        start(threads, is_busy);
        for (int i = 0; i < THREADS && !is_busy; i++)
            pthread_join(threads[i], NULL);
        if (!is_busy)
            free_slots();
        pid_t pid = is_busy ? fork() : fork_still();
        if (pid != 0)
            _exit(pid < 0);
        free_slots();
        struct account account = {generation, wrong, in_use(), proc_status("VmRSS:")};
        if ((generation == WARM || generation == count) && write(pipe_end, &account, sizeof account) != sizeof account)
            _exit(4);
    }
    _exit(0);
}

static void run_generations(unsigned count, int is_busy) {
    struct account first = {0}, last = {0};
    int ends[2], failed = 0, status;
    if (pipe(ends) != 0 || prctl(PR_SET_CHILD_SUBREAPER, 1) != 0)
        exit(3);
    pid_t pid = fork();
    if (pid == 0)
        generations(count, is_busy, ends[1]);
    close(ends[1]);
    int is_told = read(ends[0], &first, sizeof first) == sizeof first &&
                  read(ends[0], &last, sizeof last) == sizeof last;
    for (unsigned i = 0; waitpid(-1, &status, 0) > 0; i++)
        failed += status != 0;
    size_t lost = last.in_use > first.in_use ? last.in_use - first.in_use : 0;
    OK(is_told && failed == 0 && last.wrong == 0, "%u generations of %s threads came and went (%d failed)", count,
       is_busy ? "busy" : "ended", failed);
    OK(lost <= (is_busy ? (size_t)count * THREADS * HELD : SPARE),
       "in use: %zu KiB in generation %u, %zu KiB in the last: %zu bytes lost per generation", first.in_use >> 10,
       first.generation, last.in_use >> 10, lost / count);
    size_t more = last.resident > first.resident ? last.resident - first.resident : 0;
    OK(more <= lost + 8 * MIB, "resident: %zu KiB, and %zu KiB in the end", first.resident >> 10, last.resident >> 10);
}

static unsigned helpers_now(void) {
    int helper;
    return proc_tasks(PROC_HELPER, &helper);
}

static int child_without_threads(void *unused) {
    int task;
    (void)unused;
    return proc_tasks(NULL, &task) != 1;
}

static int child_with_threads(void *unused) {
    enum { BLOCKS = 3000 };
    static unsigned char *blocks[BLOCKS];
    pthread_t threads[THREADS];
    (void)unused;
    start(threads, 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    EVENTUALLY(helpers_now() == 1)
    if (helpers_now() != 1)
        return 1;
    for (int i = 0; i < BLOCKS; i++)
        memset(blocks[i] = malloc(20000), 1, 20000);
    size_t full = proc_rss();
    for (int i = 0; i < BLOCKS; i++)
        free(blocks[i]);
    EVENTUALLY(proc_rss() < full - full / 2)
    return proc_rss() < full - full / 2 ? 0 : 2;
}

static void run_helper(void) {
    pthread_t threads[THREADS];
    start(threads, 1);
    EVENTUALLY(helpers_now() == 1)
    OK(helpers_now() == 1, "a process with threads has the thread that gives memory back");
    OK(proc_child(child_without_threads, NULL) == 0, "its child has no thread but its own");
    int status = proc_child(child_with_threads, NULL);
    OK(status == 0, "a child that makes threads has it again, and it works (status %#x)", (unsigned)status);
    atomic_store(&stopping, 1);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    tap_check_subject();
    if (strcmp(what, "quiet") == 0)
        run_generations(QUIET, 0);
    else if (strcmp(what, "busy") == 0)
        run_generations(BUSY, 1);
    else if (strcmp(what, "helper") == 0 && tap_expects_rnalloc())
        run_helper();
    else if (strcmp(what, "helper") == 0)
        tap_skip("glibc has no such thread", "the helper");
    else
        return 2;
    return tap_done();
}
