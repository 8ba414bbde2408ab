/* streams.c: fork while another thread allocates under a stream's lock, and a third waits for that stream amid
 * fflush(NULL). fork waits for the flush, and the flush for the allocation: which therefore must not wait for fork. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include "../lib/proc.h"
#include "../lib/tap.h"

enum { ROUNDS = 20 };
static atomic_int reading, flusher, forker;
static FILE *stream;

/* Waits until the thread of that id is known and sleeps, which is in the lock that the next step needs. */
static void wait_asleep(atomic_int *id) {
    char name[64], text[512];
    for (;;) {
        snprintf(name, sizeof name, "/proc/self/task/%d/stat", atomic_load(id));
        const char *state = atomic_load(id) && proc_read(name, text, sizeof text) ? strrchr(text, ')') : NULL;
        if (state && state[2] == 'S')
            return;
        sched_yield();
    }
}

/* Called with the stream locked. */
static ssize_t read_slowly(void *unused, char *bytes, size_t size) {
    static const size_t sizes[] = {8, 200, 3000, 60000, 400000, 3 << 20, 40 << 20};
    (void)unused;
    atomic_store(&reading, 1);
    wait_asleep(&flusher);
    wait_asleep(&forker);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        void *blocks[40];
        size_t count = sizes[i] > MIB ? 2 : 40;
        for (size_t j = 0; j < count; j++)
            blocks[j] = malloc(sizes[i]);
        for (size_t j = 0; j < count; j++)
            free(blocks[j]);
    }
    memset(bytes, 'x', size);
    return (ssize_t)size;
}

static void *read_one(void *unused) { return getc(stream) == 'x' ? unused : &reading; }

static void *flush_all(void *unused) {
    while (!atomic_load(&reading))
        sched_yield();
    atomic_store(&flusher, (int)syscall(SYS_gettid));
    return fflush(NULL) == 0 ? unused : &flusher;
}

/* The last of the program's own steps before fork; runs before the handlers that were registered earlier. */
static void prepare(void) { atomic_store(&forker, (int)syscall(SYS_gettid)); }

static int child(void *unused) {
    void *block = malloc(100000);
    (void)unused;
    OPAQUE(block);
    free(block);
    return fflush(NULL) != 0; /* the streams' locks are free here */
}

static void *fork_one(void *unused) {
    wait_asleep(&flusher);
    return proc_child(child, NULL) == 0 ? unused : &forker;
}

static int play_round(void) {
    void *(*const steps[])(void *) = {read_one, flush_all, fork_one};
    cookie_io_functions_t functions = {.read = read_slowly};
    pthread_t threads[3];
    int failed = 0;
    stream = fopencookie(NULL, "r", functions);
    if (!stream)
        return 1;
    atomic_store(&reading, 0);
    atomic_store(&flusher, 0);
    atomic_store(&forker, 0);
    for (int i = 0; i < 3; i++)
        if (pthread_create(&threads[i], NULL, steps[i], NULL) != 0)
            exit(3);
    for (int i = 0; i < 3; i++) {
        void *result;
        pthread_join(threads[i], &result);
        failed |= result != NULL;
    }
    return fclose(stream) != 0 || failed;
}

int main(void) {
    int failed = 0;
    tap_check_subject();
    if (pthread_atfork(prepare, NULL, NULL) != 0)
        return 3;
    for (int i = 0; i < ROUNDS; i++)
        failed += play_round();
    OK(failed == 0, "%d forks amid reading and flushing (%d failures)", ROUNDS, failed);
    return tap_done();
}
