/* double_free_batch.c: an entry occurs twice in one batch. */
#include "misuse.h"

int main(void) {
    void rnFreeBatch(void **, size_t) __attribute__((weak));
    void *batch[3] = {malloc(64), malloc(64), NULL};
    batch[2] = announced(batch[1]);
    rnFreeBatch(batch, 3);
    malloc_trim(0);
}
