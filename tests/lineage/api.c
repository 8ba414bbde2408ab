/* api: the malloc API against its man pages, for whatever allocator is preloaded. One line per failure; exit status 1
 * if there was any.
 *
 * With an argument, the process must be served by the design that the argument describes ("freelist structure=tree"):
 * otherwise a preload that did not happen would pass.
 */
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
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

#define TOO_MUCH ((size_t)PTRDIFF_MAX + 1)

static int is_aligned(const void *block, size_t align) { return ((uintptr_t)block & (align - 1)) == 0; }

static int is_filled(const unsigned char *block, size_t size, int byte) {
    for (size_t i = 0; i < size; i++) {
        if (block[i] != byte)
            return 0;
    }
    return 1;
}

/* Through a volatile, or the compiler would see the impossible sizes and warn. */
static size_t hidden(size_t size) {
    volatile size_t value = size;
    return value;
}

static void check_design(const char *expected) {
    const char *(*describe)(void) = (const char *(*)(void))dlsym(RTLD_DEFAULT, "lineage_describe");
    CHECK(describe != NULL);
    if (describe && strcmp(describe(), expected) != 0) {
        fprintf(stderr, "# served by '%s', not by '%s'\n", describe(), expected);
        failures++;
    }
}

static void check_malloc(void) {
    for (size_t size = 0; size < 3000000; size = size < 300 ? size + 1 : size + size / 3) {
        unsigned char *block = malloc(size), *other = malloc(size);
        CHECK(block && other && block != other);
        CHECK(is_aligned(block, 16));
        CHECK(malloc_usable_size(block) >= size);
        memset(block, 0x5a, malloc_usable_size(block));
        memset(other, 0xa5, malloc_usable_size(other));
        CHECK(is_filled(block, size, 0x5a));
        free(block);
        CHECK(is_filled(other, size, 0xa5));
        free(other);
    }
    errno = 0;
    CHECK(malloc(hidden(TOO_MUCH)) == NULL && errno == ENOMEM);
    errno = 0;
    CHECK(malloc(hidden(SIZE_MAX)) == NULL && errno == ENOMEM);
    errno = 0;
    CHECK(malloc(hidden(PTRDIFF_MAX)) == NULL && errno == ENOMEM);
    CHECK(malloc_usable_size(NULL) == 0);
}

static void check_free(void) {
    void *small = malloc(100), *large = malloc(5000000);
    errno = 4711;
    free(NULL);
    free(small);
    free(large);
    CHECK(errno == 4711);
}

static void check_calloc(void) {
    for (size_t size = 1; size < 2000000; size = size * 3 + 1) {
        unsigned char *dirty = malloc(size);
        memset(dirty, 0xff, size);
        free(dirty);
        unsigned char *block = calloc(size, 1);
        CHECK(block && is_filled(block, size, 0));
        free(block);
    }
    void *none = calloc(0, 8), *other = calloc(8, 0);
    CHECK(none && other && none != other);
    free(none);
    free(other);
    errno = 0;
    CHECK(calloc(hidden(SIZE_MAX / 2), 3) == NULL && errno == ENOMEM);
    errno = 0;
    CHECK(calloc(hidden((size_t)1 << 32), (size_t)1 << 32) == NULL && errno == ENOMEM);
}

static void check_realloc(void) {
    unsigned char *block = realloc(NULL, 1);
    CHECK(block != NULL);
    block[0] = 0x11;
    size_t had = 1;
    for (size_t size = 2; size < 3000000; size = size * 2 + 5) {
        block = realloc(block, size);
        CHECK(block && is_aligned(block, 16) && is_filled(block, had, 0x11));
        memset(block, 0x11, size);
        had = size;
    }
    for (size_t size = had / 3; size > 0; size /= 3) {
        block = realloc(block, size);
        CHECK(block && is_filled(block, size, 0x11));
    }
    errno = 0;
    CHECK(realloc(block, hidden(TOO_MUCH)) == NULL && errno == ENOMEM);
    CHECK(block[0] == 0x11);
    CHECK(realloc(block, 0) == NULL);
    errno = 0;
    CHECK(reallocarray(NULL, hidden(SIZE_MAX / 4), 5) == NULL && errno == ENOMEM);
    block = reallocarray(NULL, 10, 10);
    CHECK(block && malloc_usable_size(block) >= 100);
    free(block);
}

static void check_aligned_at(size_t align, size_t size) {
    void *block = NULL;
    CHECK(posix_memalign(&block, align, size) == 0 && block && is_aligned(block, align));
    CHECK(malloc_usable_size(block) >= size);
    memset(block, 0x77, malloc_usable_size(block));
    void *second = aligned_alloc(align, size), *third = memalign(align, size);
    CHECK(second && is_aligned(second, align) && third && is_aligned(third, align));
    memset(second, 0x88, malloc_usable_size(second));
    memset(third, 0x99, malloc_usable_size(third));
    CHECK(is_filled(block, malloc_usable_size(block), 0x77));
    free(second);
    block = realloc(block, size * 2 + 100);
    CHECK(block && is_filled(block, size, 0x77));
    free(block);
    free(third);
}

static void check_aligned(void) {
    static const size_t sizes[] = {0, 1, 17, 64, 1000, 5000, 70000, 300000, 1200000};
    for (size_t align = sizeof(void *); align <= (size_t)16 << 20; align *= 2) {
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            if (sizes[i] < 10000 || align < 128 || align > 500000)
                check_aligned_at(align, sizes[i]);
        }
    }
    void *block = &block;
    errno = 4711;
    CHECK(posix_memalign(&block, hidden(24), 8) == EINVAL && block == &block);
    CHECK(posix_memalign(&block, hidden(4), 8) == EINVAL);
    CHECK(posix_memalign(&block, hidden(0), 8) == EINVAL);
    CHECK(posix_memalign(&block, 64, hidden(TOO_MUCH)) == ENOMEM && block == &block);
    CHECK(posix_memalign(&block, hidden((size_t)1 << 63), 8) == ENOMEM);
    CHECK(errno == 4711);
    errno = 0;
    CHECK(memalign(hidden(SIZE_MAX), 8) == NULL && errno == EINVAL);
    errno = 0;
    CHECK(aligned_alloc(64, hidden(SIZE_MAX - 32)) == NULL && errno == ENOMEM);
    block = memalign(hidden(24), 8);
    CHECK(block && is_aligned(block, 32));
    free(block);
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    block = valloc(10);
    CHECK(block && is_aligned(block, page));
    free(block);
    block = pvalloc(page + 1);
    CHECK(block && is_aligned(block, page) && malloc_usable_size(block) >= 2 * page);
    free(block);
    errno = 0;
    CHECK(pvalloc(hidden(SIZE_MAX - 5)) == NULL && errno == ENOMEM);
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
            alarm(20); /* a lock that stays held ends the child by a signal */
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
    check_malloc();
    check_free();
    check_calloc();
    check_realloc();
    check_aligned();
    check_threads();
    check_fork();
    return failures != 0;
}
