/* atfork.c: a library whose fork handlers allocate and free, like those of other libraries do. Preloaded before or
 * after the allocator, its constructor registers them before or after the allocator's own. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { N = 40 };
static void *carried[N], *kept[N];
static int prepares, parents, children;

static size_t size_of(int i) { return i == N - 1 ? 2 << 20 : (size_t)20 << i % 12; }

static void allocate(void **blocks) {
    for (int i = 0; i < N; i++) {
        blocks[i] = malloc(size_of(i));
        if (!blocks[i])
            abort();
        memset(blocks[i], i + 1, size_of(i));
    }
}

static void release(void **blocks) {
    for (int i = 0; i < N; i++) {
        if (!blocks[i])
            continue;
        const unsigned char *bytes = blocks[i];
        if (bytes[0] != i + 1 || bytes[size_of(i) - 1] != i + 1)
            abort();
        free(blocks[i]);
        blocks[i] = NULL;
    }
}

static void prepare(void) {
    prepares++;
    release(kept);
    allocate(carried);
    void *grown = realloc(malloc(100), 100000);
    free(grown);
}

static void parent(void) {
    parents++;
    release(carried);
    allocate(kept);
}

static void child(void) {
    children++;
    release(carried);
    allocate(kept);
}

__attribute__((constructor(101))) static void enter(void) {
    if (pthread_atfork(prepare, parent, child) != 0)
        abort();
}

__attribute__((visibility("default"))) void atfork_counts(int counts[3]) {
    counts[0] = prepares;
    counts[1] = parents;
    counts[2] = children;
}
