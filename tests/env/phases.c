/* phases.c: a program that fills memory, frees it and goes on, with other sizes each time; so that a bound on memory
 * that holds one phase must hold them all. usage: phases MIB ROUNDS */
#define _GNU_SOURCE
#include <malloc.h>
#include <pthread.h>
#include <sys/mman.h>
#include "../lib/proc.h"
#include "../lib/tap.h"

enum { MOST = 1 << 20 };
static unsigned char **blocks;
static size_t bytes;

static unsigned fill(size_t size) {
    unsigned count = 0;
    for (size_t sum = 0; sum + size <= bytes && count < MOST; sum += size, count++) {
        unsigned char *block = malloc(size);
        if (!block)
            break;
        memset(block, (int)count, size);
        blocks[count] = block;
    }
    return count;
}

static unsigned empty(unsigned count, size_t size) {
    unsigned damaged = 0;
    for (unsigned i = 0; i < count; i++) {
        damaged += blocks[i][0] != (unsigned char)i || blocks[i][size - 1] != (unsigned char)i;
        free(blocks[i]);
    }
    return damaged;
}

/* One in a new thread each, so that caches of ended threads would show. */
static void *phase(void *argument) {
    size_t size = *(size_t *)argument;
    unsigned count = fill(size);
    OK((size_t)count * size + size > bytes, "%u blocks of %zu bytes", count, size);
    OK(empty(count, size) == 0, "they kept their contents");
    return argument;
}

int main(int argc, char **argv) {
    if (argc < 3)
        return 2;
    static const size_t sizes[] = {64, 300, 5000, 70000, 1 << 20, 8 << 20};
    bytes = strtoul(argv[1], NULL, 10) * MIB;
    blocks = mmap(NULL, MOST * sizeof *blocks, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (blocks == MAP_FAILED)
        return 3;
    tap_check_subject();
    for (unsigned round = 0; round < strtoul(argv[2], NULL, 10); round++)
        for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            pthread_t thread;
            size_t size = sizes[(i * 5 + round) % 6];
            if (pthread_create(&thread, NULL, phase, &size) != 0 || pthread_join(thread, NULL) != 0)
                return 3;
        }
    malloc_trim(0);
    tap_diag("resident at the end: %zu KiB; locked %zu KiB; in huge pages %zu KiB", proc_rss() >> 10,
             proc_status("VmLck:") >> 10, proc_status("HugetlbPages:") >> 10);
    return tap_done();
}
