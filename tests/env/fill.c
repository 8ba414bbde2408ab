/* fill.c: takes small blocks until there are no more, and prints the bytes, for env.t, which sets the limit. Gives half
 * of them back and takes as many again: what was once to be had is to be had later. usage: fill [FIRST], the MiB of a
 * block that is taken before, if it can be had */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { BLOCK = 256 };

int main(int argc, char **argv) {
    size_t before = argc > 1 ? strtoul(argv[1], NULL, 10) << 20 : 0;
    void *first = NULL, **last = NULL;
    size_t blocks = 0, again = 0;
    before = before && malloc(before) ? before : 0;
    for (void **block; (block = malloc(BLOCK)) != NULL; blocks++) {
        *block = first;
        first = block;
    }
    for (size_t i = 0; i < blocks / 2; i++) {
        last = first;
        first = *last;
        free(last);
    }
    while (again < blocks / 2 && malloc(BLOCK))
        again++;
    char line[64]; /* nothing is left for stdio */
    int length = snprintf(line, sizeof line, "%zu %zu\n", before + blocks * BLOCK, (blocks / 2 - again) * BLOCK);
    return write(1, line, (size_t)length) == length ? 0 : 1;
}
