/* moments.c: allocation at every moment of a process: before constructors, in them, in signal handlers that interrupted
 * nothing, at thread exit, at exit, after main. The last destructor reports. */
#define _GNU_SOURCE
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include "../lib/tap.h"

enum { N = 50 };
static void *from_preinit[N], *from_constructor[N], *from_signal[N], *from_atexit[N];
static unsigned preinit_calls, atexit_calls;
static atomic_uint key_calls;
static atomic_uint unsound;

static void allocate(void **blocks) {
    for (int i = 0; i < N; i++) {
        blocks[i] = malloc((size_t)8 << i % 18);
        if (blocks[i])
            memset(blocks[i], i, (size_t)8 << i % 18);
        else
            atomic_fetch_add(&unsound, 1);
    }
}

static void release(void **blocks) {
    for (int i = 0; i < N; i++) {
        const unsigned char *bytes = blocks[i];
        if (!bytes || bytes[0] != i || bytes[((size_t)8 << i % 18) - 1] != i)
            atomic_fetch_add(&unsound, 1);
        free(blocks[i]);
        blocks[i] = NULL;
    }
}

/* Runs before the constructors of every library, the allocator's own included. */
static void preinit(void) {
    preinit_calls++;
    allocate(from_preinit);
}

__attribute__((section(".preinit_array"), used)) static void (*const preinit_entry)(void) = preinit;

__attribute__((constructor(101))) static void first_constructor(void) {
    release(from_preinit);
    allocate(from_constructor);
}

/* Runs after every atexit handler and every other destructor of the program. */
__attribute__((destructor(101))) static void last_destructor(void) {
    release(from_atexit);
    allocate(from_atexit);
    release(from_atexit);
    OK(atexit_calls == 2, "atexit handlers allocate");
    OK(atomic_load(&unsound) == 0, "every block of every moment was sound (%u were not)", atomic_load(&unsound));
    _exit(tap_done());
}

static void at_exit(void) {
    atexit_calls++;
    if (atexit_calls == 1)
        allocate(from_atexit);
    free(realloc(malloc(10), 100000));
}

static void on_signal(int number) {
    (void)number;
    allocate(from_signal);
    release(from_signal);
    allocate(from_signal);
}

/* A key's destructor runs when the thread's own allocator state may be gone already; it sets the key again, up to
 * glibc's limit of rounds, and so outlives destructors of any order. */
static pthread_key_t keys[60];

static void key_destructor(void *value) {
    unsigned char *bytes = value;
    atomic_fetch_add(&key_calls, 1);
    if (bytes[0] != 7)
        atomic_fetch_add(&unsound, 1);
    free(value);
    bytes = malloc(3000);
    bytes[0] = 7;
    free(realloc(calloc(1, 50), 70000));
    static _Thread_local unsigned rounds;
    if (++rounds <= 120)
        pthread_setspecific(keys[rounds % 60], bytes);
    else
        free(bytes);
}

static void *thread(void *argument) {
    for (int i = 0; i < 60; i++) {
        unsigned char *value = malloc(100 + (size_t)i);
        value[0] = 7;
        pthread_setspecific(keys[i], value);
    }
    free(argument);
    return malloc(12345);
}

static void *thread_that_is_cancelled(void *argument) {
    void *mine = malloc(100);
    pthread_cleanup_push(free, mine);
    atomic_store((atomic_int *)argument, 1);
    for (;;)
        pause();
    pthread_cleanup_pop(1);
    return NULL;
}

int main(void) {
    tap_check_subject();
    OK(preinit_calls == 1, "the program's preinit function ran");
    release(from_constructor);
    signal(SIGUSR1, on_signal);
    raise(SIGUSR1);
    release(from_signal);
    OK(1, "a signal handler allocates");

    for (int i = 0; i < 60; i++)
        if (pthread_key_create(&keys[i], key_destructor) != 0)
            return 3;
    for (int i = 0; i < 30; i++) {
        pthread_t id;
        void *result = NULL;
        if (pthread_create(&id, NULL, thread, malloc(500)) != 0)
            return 3;
        pthread_join(id, &result);
        if (malloc_usable_size(result) < 12345)
            atomic_fetch_add(&unsound, 1);
        free(result);
    }
    OK(atomic_load(&key_calls) >= 30 * 60, "destructors of thread keys allocate and free (%u calls)",
       atomic_load(&key_calls));
    for (int i = 0; i < 10; i++) {
        pthread_t id;
        atomic_int running = 0;
        if (pthread_create(&id, NULL, thread_that_is_cancelled, &running) != 0)
            return 3;
        while (!atomic_load(&running))
            sched_yield();
        pthread_cancel(id);
        pthread_join(id, NULL);
    }
    OK(1, "cancelled threads leave a heap that works");
    atexit(at_exit);
    clearenv();
    atexit(at_exit);
    return 0;
}
