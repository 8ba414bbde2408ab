/* guest.c: a library that is loaded and unloaded while others work: it allocates as it comes, has thread-local storage
 * that the C library allocates, and frees as it goes. */
#include <stdlib.h>
#include <string.h>

enum { BLOCKS = 40 };

static char *blocks[BLOCKS];
static _Thread_local char own[5000] __attribute__((tls_model("global-dynamic")));

__attribute__((constructor)) static void come(void) {
    for (int i = 0; i < BLOCKS; i++) {
        blocks[i] = malloc((size_t)8 << i % 14);
        if (blocks[i])
            memset(blocks[i], i, (size_t)8 << i % 14);
    }
}

__attribute__((destructor)) static void go(void) {
    for (int i = 0; i < BLOCKS; i++)
        free(blocks[i]);
}

__attribute__((visibility("default"))) int guest_work(void) {
    int wrong = 0;
    memset(own, 1, sizeof own);
    for (int i = 0; i < BLOCKS; i++)
        wrong += !blocks[i] || blocks[i][0] != i || blocks[i][((size_t)8 << i % 14) - 1] != i;
    return wrong + (own[sizeof own / 2] != 1);
}
