/* later.c: the kernel refuses calls that it granted before, in a process whose threads and pools are at work: one call
 * always, then some of the time, then no more. Blocks stay whole throughout, only refused mappings may mean refused
 * blocks, and when the kernel is kind again all works as before, with nothing lost. A thread of the process itself is
 * the kernel's conscience: the filter asks it about each call (seccomp_unotify(2)).
 * usage: later CALL[,CALL...] ERROR-NUMBER
 *        later hold      no memory comes or goes any more: what is free stays of use, whatever was refused in between
 *        later kill      ends the process at any call that the README promises malloc and free not to make */
#define _GNU_SOURCE
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include "../lib/filter.h"
#include "../lib/model.h"
#include "../lib/proc.h"
#include "../lib/shadow.h"
#include "../lib/tap.h"

enum { THREADS = 6, NEWCOMERS = 3, OPERATIONS = 6000, ALWAYS = 256, STACK = 256 << 10, KEPT_MOST = 12 << 10 };
enum call { MEMBARRIER, MADVISE, MMAP, MUNMAP, MREMAP, MPROTECT, RSEQ, AFFINITY, CALLS };
static const struct {
    const char *name;
    long number;
} calls[CALLS] = {
    [MEMBARRIER] = {"membarrier", SYS_membarrier},
    [MADVISE] = {"madvise", SYS_madvise},
    [MMAP] = {"mmap", SYS_mmap},
    [MUNMAP] = {"munmap", SYS_munmap},
    [MREMAP] = {"mremap", SYS_mremap},
    [MPROTECT] = {"mprotect", SYS_mprotect},
    [RSEQ] = {"rseq", SYS_rseq},
    [AFFINITY] = {"sched_getaffinity", SYS_sched_getaffinity},
};

/* glibc ends a process whose threads cannot all be registered as the first one was. */
extern const unsigned int __rseq_size __attribute__((weak));

static unsigned chosen; /* set of calls */
static int error_number;
static atomic_uint chance; /* of 256 chosen calls */
static atomic_int listener = -1;
static atomic_ulong refusals;

static int is_refused(int number, uint64_t *random) {
    for (unsigned i = 0; i < CALLS; i++)
        if (calls[i].number == number && chosen >> i & 1)
            return shadow_random(random) % 256 < atomic_load(&chance);
    return 0;
}

/* Makes none of the calls that it answers for. */
static void *answer(void *unused) {
    uint64_t random = 5;
    while (atomic_load(&listener) < 0)
        usleep(1000);
    for (;;) {
        struct seccomp_notif question = {0};
        struct seccomp_notif_resp reply = {0};
        if (ioctl(atomic_load(&listener), SECCOMP_IOCTL_NOTIF_RECV, &question) != 0)
            continue;
        reply.id = question.id;
        if (is_refused(question.data.nr, &random)) {
            reply.error = -error_number;
            atomic_fetch_add(&refusals, 1);
        } else {
            reply.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
        }
        ioctl(atomic_load(&listener), SECCOMP_IOCTL_NOTIF_SEND, &reply);
    }
    return unused;
}

/* For every thread there is and will be. 0, or -1 where the kernel (before Linux 5.7) cannot. */
static int ask_about_chosen(void) {
    struct filter filter;
    filter_load_number(&filter);
    for (unsigned i = 0; i < CALLS; i++)
        if (chosen >> i & 1)
            filter_answer(&filter, calls[i].number, SECCOMP_RET_USER_NOTIF);
    int fd = filter_install(
        &filter, SECCOMP_RET_ALLOW,
        SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_TSYNC_ESRCH | SECCOMP_FILTER_FLAG_NEW_LISTENER);
    atomic_store(&listener, fd);
    return fd < 0 ? -1 : 0;
}

static struct model_result results[THREADS + NEWCOMERS];
static char rooms[THREADS + NEWCOMERS][MODEL_ROOM] __attribute__((aligned(64)));
static pthread_barrier_t turn;
static atomic_int is_over;
static unsigned phase;

static void work(unsigned number) {
    struct model_plan plan = {.operations = OPERATIONS, .slots = 80, .largest = 60000};
    plan.room = rooms[number];
    plan.seed = 100 * phase + number;
    if (number % 3 == 0) {
        plan.slots = 6;
        plan.largest = 5 << 20;
        plan.operations /= 10;
    }
    results[number] = model_run_here(&plan);
}

static void *worker(void *number) {
    for (;;) {
        pthread_barrier_wait(&turn);
        if (atomic_load(&is_over))
            return NULL;
        work((unsigned)(uintptr_t)number);
        pthread_barrier_wait(&turn);
    }
}

static void *newcomer(void *number) {
    work((unsigned)(uintptr_t)number);
    return NULL;
}

static int start(pthread_t *id, void *(*body)(void *), uintptr_t number) {
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK);
    int error = pthread_create(id, &attributes, body, (void *)number);
    pthread_attr_destroy(&attributes);
    return error;
}

static int refuses_memory(void) { return atomic_load(&chance) && chosen & (1u << MMAP | 1u << MPROTECT); }

/* Threads that meet the refusal with their first allocation. Gives how many could not be made although memory is to be
 * had. */
static unsigned run_newcomers(void) {
    pthread_t ids[NEWCOMERS];
    unsigned made = 0;
    if (atomic_load(&chance) && chosen >> RSEQ & 1 && &__rseq_size && __rseq_size)
        return 0;
    while (made < NEWCOMERS && start(&ids[made], newcomer, THREADS + made) == 0)
        made++;
    for (unsigned i = 0; i < made; i++)
        pthread_join(ids[i], NULL);
    return refuses_memory() ? 0 : NEWCOMERS - made;
}

struct account {
    size_t units, used, resident; /* claimed in the shadow, in use, resident; the last two in KiB */
};

/* Of a moment at which the program owns nothing. */
static struct account account_now(void) {
    struct account account = {.units = shadow_reset()};
    malloc_trim(0);
    struct mallinfo2 info = mallinfo2();
    account.used = (info.uordblks + info.hblkhd) >> 10;
    account.resident = proc_rss() >> 10;
    return account;
}

static void run_phase(const char *name, unsigned new_chance) {
    unsigned wrong = 0, refused = 0;
    unsigned long before = atomic_load(&refusals), done = 0;
    memset(results, 0, sizeof results);
    atomic_store(&chance, new_chance);
    phase++;
    pthread_barrier_wait(&turn);
    for (int i = 0; i < 5; i++) /* empties pools and gives memory back under the feet of the workers */
        malloc_trim(0);
    wrong += run_newcomers();
    pthread_barrier_wait(&turn);
    malloc_trim(0);
    for (unsigned i = 0; i < THREADS + NEWCOMERS; i++) {
        struct model_result *r = &results[i];
        wrong += r->overlaps + r->damaged + r->misplaced + r->dirty + (r->leftover != 0);
        refused += r->refused;
        done += r->done;
    }
    OK(wrong == 0 && done > 0, "%s: blocks are sound (%lu operations, %lu calls refused, %u faults)", name, done,
       atomic_load(&refusals) - before, wrong);
    OK(refused == 0 || refuses_memory(), "%s: and given (%u were not)", name, refused);
}

static int parse(const char *list) {
    for (; *list; list += strcspn(list, ","), list += *list == ',') {
        unsigned i = 0;
        while (i < CALLS && strncmp(calls[i].name, list, strcspn(list, ",")) != 0)
            i++;
        if (i == CALLS)
            return -1;
        chosen |= 1u << i;
    }
    return chosen ? 0 : -1;
}

static int refuse_some(void) {
    pthread_t ids[THREADS], other;
    tap_check_subject();
    if (shadow_init() != 0 || pthread_barrier_init(&turn, NULL, THREADS + 1) != 0 || start(&other, answer, 0) != 0)
        return 3;
    for (uintptr_t i = 0; i < THREADS; i++)
        if (start(&ids[i], worker, i) != 0)
            return 3;
    run_phase("before", 0);
    if (ask_about_chosen() != 0) {
        tap_skip("the kernel cannot ask a process about its calls (Linux 5.7)", "calls refused late");
        return tap_done();
    }
    run_phase("asked", 0);
    struct account before = account_now();
    run_phase("refused", ALWAYS);
    run_phase("granted again", 0);
    for (unsigned i = 0; i < 3; i++)
        run_phase("refused at times", i == 0 ? 128 : i == 1 ? 24 : 4);
    run_phase("granted for good", 0);
    size_t units = shadow_reset();
    struct account after;
    /* For moments, the allocator's own thread may have a block in hand. */
    EVENTUALLY((after = account_now()).used <= before.used + 64 && after.resident <= before.resident + KEPT_MOST)
    OK(units == 0 && after.used <= before.used + 64, "nothing is lost (%zu KiB in use before, %zu now)", before.used,
       after.used);
    OK(after.resident <= before.resident + KEPT_MOST, "nor kept (%zu KiB resident before, %zu now)", before.resident,
       after.resident);
    atomic_store(&is_over, 1);
    pthread_barrier_wait(&turn);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(ids[i], NULL);
    return tap_done();
}

enum { HELD = 64 };

static unsigned take_and_drop(size_t size) {
    void *blocks[HELD];
    unsigned given = 0;
    for (unsigned i = 0; i < HELD; i++) {
        blocks[i] = i % 2 ? malloc(size) : calloc(1, size);
        given += blocks[i] != NULL;
        for (size_t at = 0; blocks[i] && i % 2 == 0 && at < size; at += 512)
            given -= ((char *)blocks[i])[at] != 0 ? HELD : 0;
        if (blocks[i])
            memset(blocks[i], 7, size);
    }
    for (unsigned i = 0; i < HELD; i++)
        free(blocks[i]);
    return given;
}

/* A block that would take all that is reserved is refused, and nothing can be unmapped or dropped for it. */
static int hold(void) {
    struct filter filter;
    tap_check_subject();
    OK(take_and_drop(MIB) == HELD, "blocks are given");
    void *kept = malloc(40 * MIB);
    filter_load_number(&filter);
    filter_answer(&filter, SYS_mmap, SECCOMP_RET_ERRNO | EPERM);
    filter_answer(&filter, SYS_munmap, SECCOMP_RET_ERRNO | EPERM);
    filter_answer(&filter, SYS_madvise, SECCOMP_RET_ERRNO | EPERM);
    if (filter_install(&filter, SECCOMP_RET_ALLOW, 0) != 0)
        return 4;
    for (unsigned round = 0; round < 3; round++) {
        void *most = malloc(1000 * MIB);
        OK(!most, "more than is reserved is refused");
        free(most);
        unsigned given = take_and_drop(MIB);
        OK(given == HELD, "blocks are given as before (%u of %d)", given, HELD);
    }
    free(kept);
    return tap_done();
}

/* What malloc and free call in a process with threads; and what the test itself needs. */
static int promised(void *unused) {
    static const long allowed[] = {SYS_mmap,  SYS_munmap, SYS_mprotect,   SYS_madvise,       SYS_mremap,
                                   SYS_futex, SYS_write,  SYS_exit_group, SYS_clock_gettime, SYS_rt_sigreturn,
    SYS_restart_syscall /* a wait goes on by it when the process was stopped meanwhile */};
    struct filter filter;
    pthread_t ids[THREADS];
    unsigned bad = 0;
    const char *options = getenv("RNALLOC_OPTIONS") ? getenv("RNALLOC_OPTIONS") : "";
    if (pthread_barrier_init(&turn, NULL, THREADS + 1) != 0)
        return 3;
    for (uintptr_t i = 0; i < THREADS; i++)
        if (start(&ids[i], worker, i) != 0)
            return 3;
    for (phase = 0; phase < 6; phase++) {
        pthread_barrier_wait(&turn);
        pthread_barrier_wait(&turn);
        for (unsigned i = 0; i < THREADS; i++)
            bad += !model_is_clean(results[i]);
        if (phase != 0)
            continue;
        filter_load_number(&filter);
        for (unsigned i = 0; i < sizeof allowed / sizeof *allowed; i++)
            filter_answer(&filter, allowed[i], SECCOMP_RET_ALLOW);
        if (strstr(options, "hardened=1"))
            filter_answer(&filter, SYS_getrandom, SECCOMP_RET_ALLOW);
        if (filter_install(&filter, SECCOMP_RET_KILL_PROCESS, SECCOMP_FILTER_FLAG_TSYNC) != 0)
            return 4;
    }
    return unused || bad ? 5 : 0;
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "kill") == 0) {
        tap_check_subject();
        if (shadow_init() != 0)
            return 3;
        int status = proc_child(promised, NULL);
        OK(status == 0, "threads at work make no call that is not named (status %#x)", (unsigned)status);
        return tap_done();
    }
    if (argc == 2 && strcmp(argv[1], "hold") == 0)
        return hold();
    error_number = argc == 3 ? atoi(argv[2]) : 0;
    if (error_number <= 0 || parse(argv[1]) != 0)
        return 2;
    return refuse_some();
}
