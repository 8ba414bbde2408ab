/* lockable.c: a user without privilege locks memory under a small RLIMIT_MEMLOCK. The kernel counts address space,
 * reserved or not, so that soon every mapping is refused (EAGAIN), while what was mapped before stays of use. Blocks
 * are given or are NULL with ENOMEM, kept as they were, and all works again once nothing is locked any more. usage:
 * lockable early|late future|onfault    memory is locked before the first allocation, or amid others */
#define _GNU_SOURCE
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include "../lib/proc.h"
#include "../lib/shadow.h"
#include "../lib/tap.h"

enum { MOST = 20000, THREADS = 4, NOBODY = 65534 };
static unsigned char *blocks[MOST];
static atomic_uint wrong, given;

static size_t size_of(unsigned i) { return i % 50 == 49 ? 300000 : 1 + i * 37 % 3000; }

static void fill(unsigned from, unsigned to) {
    for (unsigned i = from; i < to; i++) {
        errno = 0;
        blocks[i] = i % 3 ? malloc(size_of(i)) : calloc(1, size_of(i));
        if (!blocks[i]) {
            atomic_fetch_add(&wrong, errno != ENOMEM);
            continue;
        }
        for (size_t at = 0; i % 3 == 0 && at < size_of(i); at += 97)
            atomic_fetch_add(&wrong, blocks[i][at] != 0);
        shadow_fill(blocks[i], size_of(i), i);
        atomic_fetch_add(&given, 1);
    }
}

static void drop(unsigned from, unsigned to) {
    for (unsigned i = from; i < to; i++) {
        if (blocks[i])
            atomic_fetch_add(&wrong, !shadow_is_filled(blocks[i], size_of(i), i));
        free(blocks[i]);
        blocks[i] = NULL;
    }
}

static void *thread(void *number) {
    unsigned from = (unsigned)(uintptr_t)number * (MOST / THREADS / 2), to = from + MOST / THREADS / 2;
    for (int round = 0; round < 5; round++) {
        fill(from, to);
        drop(from, to);
    }
    return NULL;
}

/* As many as can be made: their stacks are locked too. */
static unsigned run_threads(void) {
    pthread_t threads[THREADS];
    pthread_attr_t attributes;
    unsigned made = 0;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 64 << 10);
    while (made < THREADS && pthread_create(&threads[made], &attributes, thread, (void *)(uintptr_t)made) == 0)
        made++;
    for (unsigned i = 0; i < made; i++)
        pthread_join(threads[i], NULL);
    return made;
}

/* 0, also where this is nobody special already. */
static int become_nobody(void) {
    if (geteuid() != 0)
        return 0;
    return setresgid(NOBODY, NOBODY, NOBODY) != 0 ? -1 : setresuid(NOBODY, NOBODY, NOBODY);
}

static int lock_within_limit(int flags) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0)
        return -1;
    if (limit.rlim_max > 8 * MIB)
        limit.rlim_max = 8 * MIB;
    limit.rlim_cur = limit.rlim_max;
    return setrlimit(RLIMIT_MEMLOCK, &limit) != 0 ? -1 : mlockall(flags);
}

int main(int argc, char **argv) {
    int is_late = argc == 3 && strcmp(argv[1], "late") == 0;
    if (argc != 3)
        return 2;
    if (is_late)
        fill(0, MOST / 2);
    if (become_nobody() != 0) {
        tap_check_subject();
        tap_skip("this root may not become another user (CAP_SETUID, CAP_SETGID)", "memory locked without privilege");
        return tap_done();
    }
    if (lock_within_limit(strcmp(argv[2], "onfault") == 0 ? MCL_FUTURE | MCL_ONFAULT : MCL_FUTURE) != 0)
        return 3;
    tap_check_subject();
    void *refused = mmap(NULL, 16 * MIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    OK(refused == MAP_FAILED && errno == EAGAIN, "the kernel refuses mappings beyond the limit");
    fill(MOST / 2, MOST);
    unsigned made = run_threads();
    tap_diag("%u blocks given, %u threads made, %zu KiB locked", atomic_load(&given), made,
             proc_status("VmLck:") >> 10);
    if (is_late && tap_expects_rnalloc())
        OK(atomic_load(&given) >= MOST, "what is reserved already serves (%u blocks)", atomic_load(&given));
    drop(0, MOST);
    malloc_trim(0);
    OK(atomic_load(&wrong) == 0 || !tap_expects_rnalloc(), /* glibc says EAGAIN */
       "blocks are given whole, zeroed and kept, or ENOMEM is said (%u were not)", atomic_load(&wrong));
    atomic_store(&wrong, 0);
    munlockall();
    atomic_store(&given, 0);
    fill(0, MOST);
    OK(atomic_load(&given) == MOST, "afterwards every block is given (%u of %u)", atomic_load(&given), MOST);
    OK(run_threads() == THREADS, "and every thread");
    drop(0, MOST);
    OK(atomic_load(&wrong) == 0, "and sound (%u were not)", atomic_load(&wrong));
    return tap_done();
}
