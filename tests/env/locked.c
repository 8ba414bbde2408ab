/* locked.c: mlockall(MCL_CURRENT | MCL_FUTURE), "onfault" MCL_ONFAULT too: what is resident stays near what is used,
 * zeroed memory is zero although locked pages cannot be dropped, and nothing fails. */
#define _GNU_SOURCE
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include "../lib/proc.h"
#include "../lib/tap.h"

enum { N = 30000 };
static unsigned char *blocks[N];
static atomic_uint dirty;

static void check_zeroed(size_t size, unsigned count) {
    for (int round = 0; round < 3; round++) {
        for (unsigned i = 0; i < count; i++) {
            blocks[i] = calloc(1, size);
            for (size_t b = 0; b<size; b += size> 4096 ? 61 : 1)
                if (!blocks[i] || blocks[i][b])
                    atomic_fetch_add(&dirty, 1);
            memset(blocks[i], 0xee, size);
        }
        for (unsigned i = 0; i < count; i++)
            free(blocks[i]);
        malloc_trim(0);
    }
}

static void *in_thread(void *unused) {
    unsigned char *mine[200];
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < 200; i++) {
            mine[i] = calloc(1, (size_t)16 << i % 12);
            for (size_t b = 0; b < (size_t)16 << i % 12; b++)
                if (mine[i][b])
                    atomic_fetch_add(&dirty, 1);
            memset(mine[i], 0xdd, (size_t)16 << i % 12);
        }
        for (int i = 0; i < 200; i++)
            free(mine[i]);
    }
    return unused;
}

/* Should a mapping of terabytes be locked, the machine must not suffer: the test goes on in a child, which is killed
 * when it has far too much. No limit does that without changing what is tested. */
static void watched(void) {
    char name[64], text[64];
    int status;
    pid_t child = fork();
    if (child == 0)
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (child <= 0)
        return;
    (void)snprintf(name, sizeof name, "/proc/%d/statm", (int)child);
    while (waitpid(child, &status, WNOHANG) == 0) {
        FILE *file = fopen(name, "r");
        size_t pages = file && fgets(text, sizeof text, file) ? strtoul(strchr(text, ' '), NULL, 10) : 0;
        if (file)
            (void)fclose(file);
        if (pages > (size_t)1536 * MIB / (size_t)sysconf(_SC_PAGESIZE))
            (void)kill(child, SIGKILL);
        (void)usleep(2000);
    }
    exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128);
}

int main(int argc, char **argv) {
    int flags = argc > 1 && strcmp(argv[1], "onfault") == 0 ? MCL_ONFAULT : 0;
    watched();
    if (mlockall(MCL_CURRENT | MCL_FUTURE | flags) != 0) {
        tap_skip("this user may not lock memory", "mlockall");
        return tap_done();
    }
    tap_check_subject();
    free(malloc(100));
    size_t base = proc_status("VmRSS:");
    OK(base <= 24 * MIB, "the first allocation locks little (%zu KiB resident)", base >> 10);
    size_t live = 0;
    for (int i = 0; i < N; i++) {
        blocks[i] = malloc(1000);
        if (!blocks[i])
            return 4;
        memset(blocks[i], 1, 1000);
        live += 1000;
    }
    size_t full = proc_status("VmRSS:");
    OK(full - base <= live + live / 4 + 8 * MIB, "%zu KiB of blocks: %zu KiB more resident", live >> 10,
       (full - base) >> 10);
    for (int i = 0; i < N; i++)
        free(blocks[i]);
    check_zeroed(1000, 20000);
    check_zeroed(100000, 200);
    check_zeroed(5 << 20, 6);
    OK(atomic_load(&dirty) == 0, "calloc gives zeroes from locked memory that was in use");
    pthread_t threads[4];
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 256 << 10);
    for (int i = 0; i < 4; i++)
        if (pthread_create(&threads[i], &attributes, in_thread, NULL) != 0)
            return 3;
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    OK(atomic_load(&dirty) == 0, "in threads too");
    size_t end = proc_status("VmRSS:");
    OK(end <= base + 110 * MIB, "in the end %zu KiB are resident", end >> 10);
    return tap_done();
}
