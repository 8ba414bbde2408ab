/* stats: mallinfo2 and malloc_stats of the buddy design count what the program holds. */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>

#define COUNT 1000
#define SIZE 512
#define LARGE ((size_t)3 << 20)

static int failures;

#define CHECK(condition)                                                        \
    do {                                                                        \
        if (!(condition)) {                                                     \
            fprintf(stderr, "# line %d: not true: %s\n", __LINE__, #condition); \
            failures++;                                                         \
        }                                                                       \
    } while (0)

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
    return failures != 0;
}
