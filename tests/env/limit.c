/* limit.c: the address space ends. NULL and ENOMEM come, and after frees everything works again.
 * usage: limit outer|space|data|set|raw MIB LEAST-PERCENT
 *   outer        a limit on address space of MIB was set before the start
 *   space, data  the program sets a limit on address space or data, that much above what is used, after its first
 *                allocation
 *   set, raw     the program limits its address space to what it has mapped itself and MIB, with blocks in use already,
 *                by setrlimit and prlimit, or by a system call that nobody sees: what the heap reserved is in the way
 */
#define _GNU_SOURCE
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include "../lib/proc.h"
#include "../lib/tap.h"

enum { MOST = 1 << 20 };
static void **blocks;

/* Allocates until refused; gives the bytes got. */
static size_t exhaust(size_t size, unsigned *count, int *error) {
    size_t got = 0;
    errno = 0;
    for (*count = 0; *count < MOST && (blocks[*count] = malloc(size)); ++*count) {
        memset(blocks[*count], 1, size < 4096 ? size : 4096);
        got += size;
    }
    *error = errno;
    return got;
}

static void release(unsigned count) {
    for (unsigned i = 0; i < count; i++)
        free(blocks[i]);
}

/* Address space that the heap reserved early cannot be told from outside, hence `smallest`: reserved space is used up
 * by blocks large enough that a table of MOST holds them. */
static void at_every_size(size_t room, unsigned least, size_t smallest) {
    static const size_t sizes[] = {128, 1000, 30000, 300000, 1 << 20, 5 << 20};
    for (unsigned round = 0; round < 2; round++)
        for (unsigned s = 0; s < sizeof sizes / sizeof *sizes; s++) {
            if (sizes[s] < smallest)
                continue;
            unsigned count;
            int error;
            size_t got = exhaust(sizes[s], &count, &error);
            OK(error == ENOMEM && got >= room / 100 * least,
               "blocks of %zu: %zu KiB of %zu KiB before ENOMEM (errno %d)", sizes[s], got >> 10, room >> 10, error);
            void *p = (errno = 0, calloc(1, got * 2));
            int calloc_error = errno;
            void *q = (errno = 0, aligned_alloc(4096, got * 2));
            int aligned_error = errno;
            char *kept = count ? blocks[0] : NULL;
            void *r = kept ? (errno = 0, realloc(kept, got * 2)) : NULL;
            OK(!p && calloc_error == ENOMEM && !q && aligned_error == ENOMEM && !r && errno == ENOMEM && kept &&
                   kept[0] == 1,
               "calloc, aligned_alloc and realloc say ENOMEM too, and the block stays");
            free(p);
            free(q);
            if (r)
                blocks[0] = r;
            release(count);
        }
}

/* What a round of growth and release leaves behind would add up to the limit. */
static void round_after_round(size_t room) {
    const size_t size = 3 << 20;
    unsigned count = (unsigned)(room / 2 / size), refused = 0, rounds = 0;
    for (; rounds < 4000 && !refused; rounds++) {
        for (unsigned i = 0; i < count; i++) {
            blocks[i] = malloc(size + rounds % 7 * 4096);
            refused += !blocks[i];
        }
        release(count);
    }
    OK(refused == 0, "half of the room, again and again (refused in round %u)", rounds);
}

static void *in_thread(void *unused) {
    for (int i = 0; i < 2000; i++) {
        void *p = malloc(1 + (size_t)i * 37 % 20000);
        if (!p)
            return &blocks;
        free(p);
    }
    return unused;
}

static unsigned run_threads(unsigned count) {
    pthread_t threads[8];
    unsigned bad = 0, made = 0;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 256 << 10);
    while (made < count && pthread_create(&threads[made], &attributes, in_thread, NULL) == 0)
        made++;
    for (unsigned i = 0; i < made; i++) {
        void *answer = NULL;
        pthread_join(threads[i], &answer);
        bad += answer != NULL;
    }
    return bad + count - made;
}

/* What the heap holds of a limited address space must leave the program its own: stacks, libraries, mappings. */
static void leaves_room(size_t room) {
    free(malloc(1 << 20));
    void *mapped = mmap(NULL, room / 2, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    OK(mapped != MAP_FAILED, "a small heap leaves half of the room to mmap");
    if (mapped != MAP_FAILED)
        munmap(mapped, room / 2);
    OK(run_threads(4) == 0, "threads can be made and work");
}

/* Bytes of the mappings with a name: the program, libraries, stacks; not what a heap reserved. */
static size_t named_mappings(void) {
    char text[65536];
    size_t sum = 0;
    proc_read("/proc/self/maps", text, sizeof text);
    for (char *line = text, *next; *line; line = next) {
        char *rest;
        size_t start = strtoul(line, &rest, 16);
        next = line + strcspn(line, "\n");
        sum += memchr(line, '/', (size_t)(next - line)) ? strtoul(rest + 1, NULL, 16) - start : 0;
        next += *next != 0;
    }
    return sum + 2 * MIB; /* stack, vdso */
}

/* The address space limited beneath a heap that works: the limit is that of a program which mapped nothing else. */
static void limited_late(size_t room, unsigned least, int is_raw) {
    enum { KEPT = 2000 };
    char *kept[KEPT];
    for (unsigned i = 0; i < KEPT; i++)
        memset(kept[i] = malloc(1 + i), (int)i, 1 + i);
    struct rlimit limit = {named_mappings() + MOST * sizeof *blocks + KEPT * KEPT + room, RLIM_INFINITY};
    int set = is_raw ? (int)syscall(SYS_prlimit64, 0, RLIMIT_AS, &limit, NULL) : setrlimit(RLIMIT_AS, &limit);
    OK(set == 0, "the address space is limited to %zu MiB", (size_t)limit.rlim_cur / MIB);
    if (!is_raw) {
        leaves_room(room);
        limit.rlim_cur += 8 * MIB;
        struct rlimit old;
        OK(prlimit(0, RLIMIT_AS, &limit, &old) == 0 && old.rlim_cur == limit.rlim_cur - 8 * MIB, "and by prlimit");
    }
    at_every_size(room, least, 300000);
    round_after_round(room);
    unsigned bad = 0;
    for (unsigned i = 0; i < KEPT; i++) {
        for (unsigned b = 0; b <= i; b++)
            bad += kept[i][b] != (char)i;
        free(kept[i]);
    }
    OK(bad == 0, "blocks from before kept their contents");
}

int main(int argc, char **argv) {
    if (argc < 4)
        return 2;
    size_t room = strtoul(argv[2], NULL, 10) * MIB, smallest = 0;
    unsigned least = (unsigned)strtoul(argv[3], NULL, 10);
    tap_check_subject();
    blocks = mmap(NULL, MOST * sizeof *blocks, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
                  0);
    if (blocks == MAP_FAILED)
        return 3;
    if (strcmp(argv[1], "set") == 0 || strcmp(argv[1], "raw") == 0) {
        limited_late(room, least, strcmp(argv[1], "raw") == 0);
        OK(run_threads(4) == 0, "threads can be made and work afterwards");
        return tap_done();
    }
    if (strcmp(argv[1], "outer") == 0) {
        /* The program itself and the table take some of it. */
        room -= 8 * MIB + MOST * sizeof *blocks;
        leaves_room(room);
    } else {
        int is_space = strcmp(argv[1], "space") == 0;
        free(malloc(100));
        struct rlimit limit = {proc_status(is_space ? "VmSize:" : "VmData:") + room, RLIM_INFINITY};
        if (setrlimit(is_space ? RLIMIT_AS : RLIMIT_DATA, &limit) != 0)
            return 3;
        smallest = is_space ? 300000 : 0;
    }
    at_every_size(room, least, smallest);
    round_after_round(room);
    OK(run_threads(4) == 0, "threads can be made and work afterwards");
    return tap_done();
}
