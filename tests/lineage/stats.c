/* stats: mallinfo2 and malloc_stats of the buddy design count what the program holds; and by them: memory that an ended
 * thread's arena holds serves others. */
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define COUNT 1000
#define SIZE 512
#define LARGE ((size_t)3 << 20)
#define MANY 40000
#define SUPERBLOCK ((size_t)2 << 20)

static int failures;

#define CHECK(condition)                                                        \
    do {                                                                        \
        if (!(condition)) {                                                     \
            fprintf(stderr, "# line %d: not true: %s\n", __LINE__, #condition); \
            failures++;                                                         \
        }                                                                       \
    } while (0)

static void *many[MANY];

static void *fill(void *unused) {
    for (int i = 0; i < MANY; i++)
        many[i] = malloc(SIZE);
    return unused;
}

/* The blocks come from the arena of a thread that has ended when they are freed. */
static void check_ended_thread(void) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, fill, NULL) == 0 && pthread_join(thread, NULL) == 0);
    size_t held = mallinfo2().arena;
    for (int i = 0; i < MANY; i++)
        free(many[i]);
    fill(NULL);
    CHECK(mallinfo2().arena <= held + SUPERBLOCK);
    for (int i = 0; i < MANY; i++)
        free(many[i]);
}

int main(void) {
    static void *blocks[COUNT];
    struct mallinfo2 before = mallinfo2();
    for (int i = 0; i < COUNT; i++)
        blocks[i] = malloc(SIZE);
    void *large = malloc(LARGE);
    struct mallinfo2 held = mallinfo2();
    CHECK(held.uordblks - before.uordblks == (size_t)COUNT * SIZE);
    CHECK(held.arena >= held.uordblks && held.arena == held.uordblks + held.fordblks);
    CHECK(held.hblks == before.hblks + 1 && held.hblkhd >= before.hblkhd + LARGE);
    malloc_stats();
    free(large);
    for (int i = 0; i < COUNT; i++)
        free(blocks[i]);
    struct mallinfo2 after = mallinfo2();
    CHECK(after.uordblks == before.uordblks && after.hblks == before.hblks && after.hblkhd == before.hblkhd);
    check_ended_thread();
    return failures != 0;
}
