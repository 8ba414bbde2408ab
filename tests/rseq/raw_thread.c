/* raw_thread.c: threads made by clone with thread-local storage of their own, but without the C library's thread:
 * nobody registered rseq for them, and their area says CPU 0. They allocate beside threads that have theirs. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include "../lib/model.h"
#include "../lib/shadow.h"
#include "../lib/tap.h"

enum { RAW = 5, STACK = 256 << 10 };
static uint32_t alive[RAW]; /* the kernel clears it at the thread's end, and wakes */
static unsigned wrong[RAW];

static int work(void *argument) {
    uintptr_t number = (uintptr_t)argument;
    struct model_plan plan = {.operations = 300000, .slots = 100, .largest = 5000, .seed = 90 + number};
    wrong[number] = !model_is_clean(model_run_here(&plan));
    return 0;
}

#if defined(__x86_64__)
/* The static thread-local storage of all libraries, by the loader's own function, and the few fields of the thread's
 * head that the ABI and the stack protector want. */
static void *own_storage(void) {
    void *symbol = dlvsym(RTLD_DEFAULT, "_dl_allocate_tls", "GLIBC_PRIVATE");
    void *(*allocate)(void *) = NULL;
    memcpy(&allocate, &symbol, sizeof symbol);
    uintptr_t *head = allocate ? allocate(NULL) : NULL, *mine = __builtin_thread_pointer();
    if (!head)
        return NULL;
    head[0] = head[2] = (uintptr_t)head;
    head[5] = mine[5];
    head[6] = mine[6];
    return head;
}
#else
static void *own_storage(void) { return NULL; }
#endif

static int start(unsigned number) {
    void *storage = own_storage();
    char *stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_SETTLS |
                CLONE_CHILD_CLEARTID;
    if (!storage || stack == MAP_FAILED)
        return -1;
    alive[number] = 1;
    return clone(work, stack + STACK, flags, (void *)(uintptr_t)number, NULL, storage, &alive[number]);
}

static void await(unsigned number) {
    while (__atomic_load_n(&alive[number], __ATOMIC_ACQUIRE) != 0)
        syscall(SYS_futex, &alive[number], FUTEX_WAIT, 1, NULL, NULL, 0);
}

int main(void) {
    struct model_plan plan = {.threads = 5, .operations = 300000, .slots = 100, .largest = 5000, .seed = 8};
    unsigned bad = 0, made = 0;
    tap_check_subject();
    if (shadow_init() != 0)
        return 3;
    while (made < RAW && start(made) > 0)
        made++;
    if (made == 0) {
        tap_skip("storage of their own cannot be made for them here", "threads by clone");
        return tap_done();
    }
    struct model_result result = model_run(&plan);
    for (unsigned i = 0; i < made; i++) {
        await(i);
        bad += wrong[i];
    }
    OK(made == RAW && bad == 0, "%u threads by clone allocate (%u went wrong)", made, bad);
    MODEL_OK(result, "threads beside them");
    return tap_done();
}
