/* threads: threads that end while others hold their blocks, that allocate in their last destructors, and fork amid all
 * this, for whatever allocator is preloaded. One line per failure; exit status 1 if there was any.
 *
 * With an argument, the process must be served by the design that the argument describes ("freelist structure=tree"):
 * otherwise a preload that did not happen would pass.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int failures;

#define CHECK(condition)                                                        \
    do {                                                                        \
        if (!(condition)) {                                                     \
            fprintf(stderr, "# line %d: not true: %s\n", __LINE__, #condition); \
            failures++;                                                         \
        }                                                                       \
    } while (0)

static int is_filled(const unsigned char *block, size_t size, int byte) {
    for (size_t i = 0; i < size; i++) {
        if (block[i] != byte)
            return 0;
    }
    return 1;
}

static void check_design(const char *expected) {
    const char *(*describe)(void) = (const char *(*)(void))dlsym(RTLD_DEFAULT, "lineage_describe");
    CHECK(describe != NULL);
    if (describe && strcmp(describe(), expected) != 0) {
        fprintf(stderr, "# served by '%s', not by '%s'\n", describe(), expected);
        failures++;
    }
}

/* A thread that ends with blocks allocated, in a key's destructor too; others free them. */
static pthread_key_t key;

static void key_end(void *block) {
    free(block);
    static __thread int rounds;
    if (rounds++ < 2)
        pthread_setspecific(key, malloc(200));
}

static void *thread_body(void *unused) {
    (void)unused;
    pthread_setspecific(key, malloc(100));
    void **blocks = malloc(1000 * sizeof *blocks);
    for (size_t i = 0; i < 1000; i++) {
        blocks[i] = malloc(i * 3);
        memset(blocks[i], (int)i, i * 3);
    }
    return blocks;
}

static void check_threads(void) {
    pthread_key_create(&key, key_end);
    for (int round = 0; round < 5; round++) {
        pthread_t threads[8];
        for (int t = 0; t < 8; t++)
            CHECK(pthread_create(&threads[t], NULL, thread_body, NULL) == 0);
        for (int t = 0; t < 8; t++) {
            void *result;
            pthread_join(threads[t], &result);
            void **blocks = result;
            for (size_t i = 0; i < 1000; i++) {
                CHECK(is_filled(blocks[i], i * 3, (unsigned char)i));
                free(blocks[i]);
            }
            free(blocks);
        }
    }
}

/* Fork while other threads allocate; handlers registered on both sides of the allocator's own allocate as well. */
static volatile int churning;

static void *churn(void *unused) {
    (void)unused;
    void *blocks[64] = {0};
    for (size_t i = 0; churning; i++) {
        free(blocks[i % 64]);
        blocks[i % 64] = malloc(i * 7919 % 20000);
    }
    for (size_t i = 0; i < 64; i++)
        free(blocks[i]);
    return NULL;
}

static void fork_allocates(void) {
    for (size_t size = 1; size < 1000000; size *= 3)
        free(malloc(size));
}

/* This constructor may run before the first allocation of the process, so before the allocator registers its
 * handlers. */
__attribute__((constructor)) static void register_early(void) {
    pthread_atfork(fork_allocates, fork_allocates, fork_allocates);
}

static void check_fork(void) {
    pthread_atfork(fork_allocates, fork_allocates, fork_allocates);
    churning = 1;
    pthread_t threads[3];
    for (int t = 0; t < 3; t++)
        pthread_create(&threads[t], NULL, churn, NULL);
    for (int round = 0; round < 10; round++) {
        char *block = malloc(5000);
        strcpy(block, "kept over fork");
        pid_t child = fork();
        if (child == 0) {
            alarm(120); /* a guard: a lock that stays held ends the child by a signal */
            if (strcmp(block, "kept over fork") != 0)
                _exit(1);
            free(block);
            for (int i = 0; i < 1000; i++)
                free(malloc((size_t)i * 37));
            pthread_t thread;
            void *result;
            if (pthread_create(&thread, NULL, thread_body, NULL) != 0 || pthread_join(thread, &result) != 0)
                _exit(2);
            _exit(0);
        }
        int status;
        CHECK(child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
        free(block);
    }
    churning = 0;
    for (int t = 0; t < 3; t++)
        pthread_join(threads[t], NULL);
}

int main(int argc, char **argv) {
    if (argc > 1)
        check_design(argv[1]);
    check_threads();
    check_fork();
    return failures != 0;
}
