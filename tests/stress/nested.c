/* nested.c: signals strike inside the restartable sequences of the allocator's fast paths. The kernel then resumes at
 * the sequence's abort address, which a handler sees as the interrupted instruction: so it knows that nothing was
 * committed and no lock is held. There it allocates and frees, or leaves by siglongjmp for good; the interrupted call
 * has then not happened. It leaves the program's own code, too. Nowhere else: to leave a slow path, which may hold a
 * lock, is the program's mistake, as with glibc. */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <malloc.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include "../lib/proc.h"
#include "../lib/shadow.h"
#include "../lib/tap.h"

enum { THREADS = 6, OPERATIONS = 1000000, SLOTS = 400, NESTED = 30, MOST_SECTIONS = 64, PATIENCE = 60 };

/* The kernel's rseq_cs, rseq(2). */
struct section {
    uint32_t version, flags;
    uint64_t start, length, abort;
};

static uint64_t abort_addresses[MOST_SECTIONS];
static unsigned sections;
static atomic_ulong strikes, in_section, left, left_own, wrong;
static int has_sections;
static _Thread_local sigjmp_buf way_out;
static _Thread_local volatile int may_leave, is_own_code, handlers;

/* Only malloc, free and the operators nest at any time; the sequences of slow paths run with more at stake. */
static int is_fast_path(uint64_t address) {
    Dl_info info;
    void *at;
    memcpy(&at, &address, sizeof at);
    return dladdr(at, &info) && info.dli_sname &&
           (strcmp(info.dli_sname, "malloc") == 0 || strcmp(info.dli_sname, "rnAlloc") == 0 ||
            strcmp(info.dli_sname, "free") == 0 || strcmp(info.dli_sname, "rnFree") == 0 ||
            strncmp(info.dli_sname, "_Z", 2) == 0);
}

/* Reads the descriptors from the loaded image, found by the section's name in the library's file. */
static int find_sections(struct dl_phdr_info *object, size_t size, void *unused) {
    (void)size;
    (void)unused;
    struct stat status;
    int fd = strstr(object->dlpi_name, "librnalloc") ? open(object->dlpi_name, O_RDONLY) : -1;
    if (fd < 0 || fstat(fd, &status) != 0)
        return 0;
    const char *file = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    if (file == MAP_FAILED)
        return 0;
    const ElfW(Ehdr) *header = (const void *)file;
    const ElfW(Shdr) *table = (const void *)(file + header->e_shoff);
    const char *names = file + table[header->e_shstrndx].sh_offset;
    for (unsigned i = 0; i < header->e_shnum; i++) {
        if (strcmp(names + table[i].sh_name, "__rseq_cs") != 0)
            continue;
        const struct section *found = (const void *)(object->dlpi_addr + table[i].sh_addr);
        for (size_t n = 0; n < table[i].sh_size / sizeof *found && sections < MOST_SECTIONS; n++) {
            if (is_fast_path(found[n].abort))
                abort_addresses[sections++] = found[n].abort;
        }
    }
    return 1;
}

static uint64_t interrupted_address(const ucontext_t *context) {
#if defined(__x86_64__)
    return (uint64_t)context->uc_mcontext.gregs[REG_RIP];
#else
    return context->uc_mcontext.pc;
#endif
}

static void allocate_here(uint64_t salt) {
    void *blocks[NESTED];
    size_t usable[NESTED];
    for (unsigned i = 0; i < NESTED; i++) {
        blocks[i] = malloc(1 + (salt * 131 + i * 67) % 1500);
        usable[i] = malloc_usable_size(blocks[i]);
        if (!blocks[i] || shadow_claim(blocks[i], usable[i]))
            atomic_fetch_add(&wrong, 1);
        shadow_fill(blocks[i], usable[i], salt + i);
    }
    for (unsigned i = 0; i < NESTED; i++) {
        if (!shadow_is_filled(blocks[i], usable[i], salt + i) || shadow_unclaim(blocks[i], usable[i]))
            atomic_fetch_add(&wrong, 1);
        free(blocks[i]);
    }
}

/* Handlers interrupt handlers; then the inner one does not leave, for the outer one holds blocks. */
static void on_signal(int number, siginfo_t *info, void *context) {
    handlers = handlers + 1;
    (void)number;
    (void)info;
    int saved = errno, is_inside = 0;
    uint64_t at = interrupted_address(context), strike = atomic_fetch_add(&strikes, 1);
    for (unsigned i = 0; i < sections; i++)
        is_inside |= abort_addresses[i] == at;
    if (is_inside) {
        atomic_fetch_add(&in_section, 1);
        allocate_here(strike);
        if (strike % 3 == 0 && may_leave && handlers == 1) {
            atomic_fetch_add(&left, 1);
            handlers = 0;
            siglongjmp(way_out, 1);
        }
    }
    if (is_own_code && strike % 3 == 1 && handlers == 1) {
        is_own_code = 0;
        allocate_here(strike);
        atomic_fetch_add(&left_own, 1);
        handlers = 0;
        siglongjmp(way_out, 1);
    }
    handlers = handlers - 1;
    errno = saved;
}

struct slot {
    void *volatile block;
    volatile size_t usable;
    volatile uint64_t id;
};

/* A call that a handler left by siglongjmp has not happened: no block came of malloc, and none went by free. */
static void operate(struct slot *slot, uint64_t random) {
    if (sigsetjmp(way_out, 0) != 0) {
        may_leave = 0;
        if (slot->block && shadow_claim(slot->block, slot->usable))
            atomic_fetch_add(&wrong, 1);
        return;
    }
    if (slot->block) {
        if (!shadow_is_filled(slot->block, slot->usable, slot->id) || shadow_unclaim(slot->block, slot->usable))
            atomic_fetch_add(&wrong, 1);
        may_leave = 1;
        free(slot->block);
        may_leave = 0;
        slot->block = NULL;
        return;
    }
    may_leave = 1;
    void *block = malloc(1 + (random >> 20) % 600);
    may_leave = 0;
    slot->usable = malloc_usable_size(block);
    slot->id = random;
    if (!block || shadow_claim(block, slot->usable))
        atomic_fetch_add(&wrong, 1);
    shadow_fill(block, slot->usable, random);
    slot->block = block;
}

/* The program's own work on a block that it owns, from which a handler may return here at any moment. */
static void use(struct slot *slot) {
    if (sigsetjmp(way_out, 0) != 0)
        return;
    is_own_code = 1;
    if (!shadow_is_filled(slot->block, slot->usable, slot->id))
        atomic_fetch_add(&wrong, 1);
    is_own_code = 0;
}

static int did_strike(void) { return atomic_load(&in_section) > 20 && atomic_load(&left) > 3; }

/* Where signals strike is chance: the threads go on until enough of them struck everywhere. */
static int is_enough(void) { return atomic_load(&left_own) > 20 && (!has_sections || did_strike()); }

static void *work(void *argument) {
    struct slot *slots = mmap(NULL, SLOTS * sizeof *slots, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint64_t random = (uintptr_t)argument;
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGRTMIN};
    event._sigev_un._tid = (pid_t)syscall(SYS_gettid);
    struct itimerspec period = {{0, 50000}, {0, 50000}};
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    if (slots == MAP_FAILED || timer_create(CLOCK_MONOTONIC, &event, &timer) != 0 ||
        timer_settime(timer, 0, &period, NULL) != 0)
        abort();
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    for (unsigned i = 0; i < OPERATIONS || (i < OPERATIONS * PATIENCE && !is_enough()); i++) {
        uint64_t r = shadow_random(&random);
        operate(&slots[r % SLOTS], r);
        if (slots[r % SLOTS].block)
            use(&slots[r % SLOTS]);
    }
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    timer_delete(timer);
    for (unsigned i = 0; i < SLOTS; i++) {
        if (slots[i].block)
            operate(&slots[i], 0);
    }
    return NULL;
}

static size_t in_use(void) {
    malloc_trim(0);
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

int main(void) {
    pthread_t threads[THREADS];
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_NODEFER | SA_RESTART};
    sigset_t set;
    tap_check_subject();
    dl_iterate_phdr(find_sections, NULL);
    if (shadow_init() != 0)
        return 3;
    OK(sections >= 2 || !tap_expects_rnalloc(), "the library shows its restartable sequences (%u)", sections);
    sigaction(SIGRTMIN, &action, NULL);
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    const char *options = getenv("RNALLOC_OPTIONS");
    has_sections = tap_expects_rnalloc() && !(options && strstr(options, "rseq=0"));
    size_t before = in_use(), after;
    for (uintptr_t i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, work, (void *)(i + 1)) != 0)
            return 3;
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    EVENTUALLY((after = in_use()) <= before + (64 << 10)) /* the allocator's own thread may have some in hand */
    tap_diag("%lu signals, %lu of them in a section, %lu left by longjmp, and %lu times the program's own code",
             atomic_load(&strikes), atomic_load(&in_section), atomic_load(&left), atomic_load(&left_own));
    OK(atomic_load(&wrong) == 0, "every block is sound (%lu are not)", atomic_load(&wrong));
    OK(after <= before + (64 << 10), "no object is lost (%zu KiB in use before, %zu after)", before >> 10, after >> 10);
    OK(atomic_load(&left_own) > 20, "handlers left the program's own code");
    OK(!has_sections || did_strike(), "signals did strike inside the sections");
    return tap_done();
}
