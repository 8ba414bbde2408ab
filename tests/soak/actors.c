/* actors.c: see actors.h. Whatever is allocated here is accounted for in the shadow (lib/shadow.h), so that a block
 * given twice is seen whichever two actors got it. */
#define _GNU_SOURCE
#include "actors.h"
#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "../lib/disturb.h"
#include "../lib/model.h"
#include "../lib/proc.h"
#include "../lib/shadow.h"
#include "frontend/frontend.h"

struct soak_counts soak_counts;
const char *soak_plugin;
extern char **environ;

static void count(atomic_ulong *counter, unsigned long more) {
    atomic_fetch_add_explicit(counter, more, memory_order_relaxed);
}

/* Tells what went wrong at once: the soak may run for an hour yet. */
static void wrong_if(int is_wrong, const char *what, unsigned long detail) {
    if (!is_wrong)
        return;
    count(&soak_counts.wrong, 1);
    dprintf(STDERR_FILENO, "soak: %s (%#lx)\n", what, detail);
}

static void rest(long milliseconds) {
    struct timespec span = {milliseconds / 1000, milliseconds % 1000 * 1000000};
    nanosleep(&span, NULL);
}

/* A block that is accounted for. */
struct block {
    void *start;
    size_t usable;
    uint64_t id;
};

static struct block take(void *start, uint64_t id) {
    struct block block = {start, malloc_usable_size(start), id};
    wrong_if(!start, "memory was refused", 0);
    wrong_if(shadow_claim(start, block.usable) != 0, "a block was given twice", (unsigned long)(uintptr_t)start);
    shadow_fill(start, block.usable, id);
    return block;
}

static void release(struct block block) {
    if (!block.start)
        return;
    wrong_if(!shadow_is_filled(block.start, block.usable, block.id), "a block was changed",
             (unsigned long)(uintptr_t)block.start);
    wrong_if(shadow_unclaim(block.start, block.usable) != 0, "a block had two owners",
             (unsigned long)(uintptr_t)block.start);
    free(block.start);
}

static size_t some_size(uint64_t random) {
    unsigned bits = 3 + (unsigned)(random >> 8) % 12;
    return ((random >> 16) & (((size_t)1 << bits) - 1)) + 1;
}

static void run_model(const struct model_plan *plan) {
    struct model_result result = model_run(plan);
    count(&soak_counts.operations, result.done);
    count(&soak_counts.threads, plan->threads);
    wrong_if(!model_is_clean(result) || result.leftover, "the shadow model found faults",
             result.overlaps + result.damaged + result.misplaced + result.dirty);
}

/* Random traffic of threads that exchange blocks, struck by signals whose handlers allocate, moved between CPUs. */
static void churn(unsigned long round) {
    struct model_plan plan = {.threads = 4, .operations = 40000, .slots = 200, .largest = 40000, .seed = round};
    if (round % 2 == 0) {
        plan.each_thread = disturb_timer_start;
        plan.end_thread = disturb_timer_end;
    }
    plan.each_operation = round % 3 == 0 ? disturb_migrate : NULL;
    run_model(&plan);
}

static void churn_large(unsigned long round) {
    run_model(
        &(struct model_plan){.threads = 2, .operations = 400, .slots = 10, .largest = 12 << 20, .seed = round + 77});
}

/* One thread makes what another takes: blocks flow one way. */
enum { RING = 1024, FLOW = 60000 };

struct ring {
    struct block blocks[RING];
    atomic_ulong made, taken;
};

static void *consume(void *argument) {
    struct ring *ring = argument;
    for (unsigned long i = 0; i < FLOW; i++) {
        while (atomic_load_explicit(&ring->made, memory_order_acquire) == i)
            sched_yield();
        release(ring->blocks[i % RING]);
        atomic_store_explicit(&ring->taken, i + 1, memory_order_release);
    }
    return NULL;
}

static void produce(unsigned long round) {
    static struct ring ring;
    pthread_t consumer;
    uint64_t random = round;
    atomic_store(&ring.made, 0);
    atomic_store(&ring.taken, 0);
    if (pthread_create(&consumer, NULL, consume, &ring) != 0)
        abort();
    for (unsigned long i = 0; i < FLOW; i++) {
        while (i - atomic_load_explicit(&ring.taken, memory_order_acquire) == RING)
            sched_yield();
        ring.blocks[i % RING] = take(malloc(some_size(shadow_random(&random))), random);
        atomic_store_explicit(&ring.made, i + 1, memory_order_release);
    }
    pthread_join(consumer, NULL);
    count(&soak_counts.handed_over, FLOW);
    count(&soak_counts.threads, 1);
}

/* Blocks that grow step by step from a few bytes to many MiB, and shrink again. */
enum { CHAINS = 4 };

static struct block resize(struct block block, size_t size) {
    size_t kept = size < block.usable ? size : block.usable;
    wrong_if(!shadow_is_filled(block.start, block.usable, block.id), "a growing block was changed", size);
    wrong_if(shadow_unclaim(block.start, block.usable) != 0, "a growing block had two owners", size);
    shadow_fill(block.start, kept, block.id); /* what is sampled depends on the length */
    void *moved = realloc(block.start, size);
    wrong_if(!moved || !shadow_is_filled(moved, kept, block.id), "realloc lost contents", size);
    count(&soak_counts.resizes, 1);
    return take(moved, block.id + 1);
}

static void resize_chains(unsigned long round) {
    struct block blocks[CHAINS];
    uint64_t random = round * 3;
    for (unsigned i = 0; i < CHAINS; i++)
        blocks[i] = take(malloc(16), round + i);
    for (size_t size = 24; size < 24 << 20; size += size / 2)
        for (unsigned i = 0; i < CHAINS; i++)
            blocks[i] = resize(blocks[i], size + shadow_random(&random) % 100);
    for (size_t size = 24 << 20; size > 100; size /= 3)
        for (unsigned i = 0; i < CHAINS; i++)
            blocks[i] = resize(blocks[i], size);
    for (unsigned i = 0; i < CHAINS; i++)
        release(blocks[i]);
    rest(20);
}

/* Threads that begin, allocate, leave a block to whoever joins them and one to a key's destructor, and end. */
enum { CROWD = 40, EACH = 25 };

static pthread_key_t crowd_key;
static pthread_once_t crowd_once = PTHREAD_ONCE_INIT;

static void destroy(void *value) { free(value); }

static void make_key(void) {
    if (pthread_key_create(&crowd_key, destroy) != 0)
        abort();
}

static void *live_shortly(void *argument) {
    struct block blocks[EACH];
    uint64_t random = (uintptr_t)argument;
    pthread_setspecific(crowd_key, malloc(300));
    for (unsigned i = 0; i < EACH; i++)
        blocks[i] = take(malloc(some_size(shadow_random(&random))), random);
    for (unsigned i = 0; i < EACH; i++)
        release(blocks[i]);
    return malloc(1 + random % 5000);
}

static void come_and_go(unsigned long round) {
    pthread_t threads[CROWD];
    pthread_once(&crowd_once, make_key);
    for (uintptr_t i = 0; i < CROWD; i++)
        if (pthread_create(&threads[i], NULL, live_shortly, (void *)(round * CROWD + i)) != 0)
            abort();
    for (unsigned i = 0; i < CROWD; i++) {
        void *left = NULL;
        pthread_join(threads[i], &left);
        wrong_if(!left, "a thread left nothing", i);
        free(left);
    }
    count(&soak_counts.threads, CROWD);
}

/* Processes. A child that hangs is ended by its alarm, and counts as wrong. */
static int grandchild(void *argument) {
    struct model_plan plan = {.operations = 500, .slots = 30, .largest = 8000, .seed = *(unsigned long *)argument + 7};
    return !model_is_clean(model_run_here(&plan));
}

static int child(void *argument) {
    unsigned long number = *(unsigned long *)argument;
    struct model_plan plan = {.operations = 2000, .slots = 100, .largest = 100000, .seed = number};
    alarm(300);
    heap_check();
    if (!model_is_clean(model_run_here(&plan)))
        return 11;
    if (number % 3 == 0) {
        plan.threads = 3;
        plan.operations = 500;
        if (!model_is_clean(model_run(&plan)))
            return 12;
    }
    if (number % 5 == 0 && proc_child(grandchild, &number) != 0)
        return 13;
    malloc_trim(0);
    heap_check();
    return 0;
}

static void spawn(void) {
    char *arguments[] = {(char[]){"/bin/true"}, NULL};
    pid_t pid;
    int status = -1;
    if (posix_spawn(&pid, "/bin/true", NULL, NULL, arguments, environ) != 0 || waitpid(pid, &status, 0) != pid)
        status = -1;
    wrong_if(status != 0, "a spawned program failed", (unsigned long)status);
}

/* SIGALRM is blocked in all threads, and kills a child only when it is not. */
static int child_with_alarm(void *argument) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGALRM);
    signal(SIGALRM, SIG_DFL);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    return child(argument);
}

static void fork_some(unsigned long round) {
    for (unsigned long i = 0; i < 4; i++) {
        unsigned long number = round * 4 + i;
        int status = proc_child(child_with_alarm, &number);
        wrong_if(status != 0, "a child failed", (unsigned long)status);
        rest(15);
    }
    spawn();
    count(&soak_counts.children, 5);
}

/* A library that allocates as it comes, and frees as it goes. */
static void load_and_unload(unsigned long round) {
    for (unsigned i = 0; i < 5; i++) {
        void *library = dlopen(soak_plugin, round % 2 ? RTLD_NOW : RTLD_LAZY);
        void *symbol = library ? dlsym(library, "guest_work") : NULL;
        int (*work)(void) = NULL;
        memcpy(&work, &symbol, sizeof symbol);
        wrong_if(!work || work() != 0, "a loaded library failed", round);
        wrong_if(!library || dlclose(library) != 0, "a library could not be unloaded", round);
        rest(10);
    }
    count(&soak_counts.loads, 5);
}

/* Caches are emptied, pages released, threads confined to one CPU and let go, while the others work. */
static void press(unsigned long round) {
    malloc_trim(round % 3 == 0 ? 0 : 4 << 20);
    (void)mallinfo2();
    count(&soak_counts.trims, 1);
    if (round % 8 == 0) {
        wrong_if(disturb_confine((int)(round / 8 % disturb_cpus())) == 0, "no thread could be bound", round);
        rest(50);
        wrong_if(disturb_confine(-1) == 0, "no thread could be let go", round);
    }
    rest(40);
}

static void check(unsigned long round) {
    (void)round;
    heap_check();
    count(&soak_counts.checks, 1);
    rest(25);
}

const struct actor soak_actors[] = {
    {"churn", churn},          {"more churn", churn},    {"large", churn_large}, {"produce", produce},
    {"chains", resize_chains}, {"threads", come_and_go}, {"fork", fork_some},    {"more forks", fork_some},
    {"load", load_and_unload}, {"press", press},         {"check", check},
};
const size_t soak_actors_count = sizeof soak_actors / sizeof *soak_actors;
