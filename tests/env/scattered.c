/* scattered.c: of many blocks one in a hundred stays. What is free between them is given back on request, whatever
 * limits the process has: a limit is not a system that counts commitments strictly. usage: scattered none|as|data
 *   as      RLIMIT_AS is set after the first allocation
 *   data    RLIMIT_DATA */
#define _GNU_SOURCE
#include <malloc.h>
#include <string.h>
#include <sys/resource.h>
#include "../lib/proc.h"
#include "../lib/tap.h"

enum { BLOCKS = 20000, SIZE = 4000, EACH = 100 };
static char *blocks[BLOCKS];

int main(int argc, char **argv) {
    const char *kind = argc > 1 ? argv[1] : "none";
    struct rlimit limit = {(rlim_t)8 << 30, (rlim_t)8 << 30};
    tap_check_subject();
    free(malloc(1));
    if (strcmp(kind, "none") != 0 && setrlimit(strcmp(kind, "as") == 0 ? RLIMIT_AS : RLIMIT_DATA, &limit) != 0)
        return 3;
    for (int i = 0; i < BLOCKS; i++) {
        blocks[i] = malloc(SIZE);
        if (!blocks[i])
            return 4;
        memset(blocks[i], 1, SIZE);
    }
    size_t full = proc_status("VmRSS:");
    for (int i = 0; i < BLOCKS; i++)
        if (i % EACH)
            free(blocks[i]);
    malloc_trim(0);
    size_t left = proc_status("VmRSS:");
    OK(full >= (size_t)BLOCKS * SIZE && left <= full / 4, "limit %s: of %zu KiB %zu are resident after a trim", kind,
       full >> 10, left >> 10);
    return tap_done();
}
