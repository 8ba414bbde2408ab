/* shared_vm.c: children that share the memory but have no rseq registration of their own allocate while the parent's
 * other threads do. usage: shared_vm vfork|clone
 *   vfork  the function vfork()
 *   clone  the function clone(CLONE_VM | CLONE_VFORK), on a stack of its own */
#define _GNU_SOURCE
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include "../lib/model.h"
#include "../lib/shadow.h"
#include "../lib/tap.h"

enum { CHILDREN = 250, KEPT = 24 };
static atomic_int working = 1;
static atomic_uint wrong_elsewhere;
static struct {
    void *block;
    size_t usable;
} kept[KEPT];
static unsigned child_wrong;
static struct model_plan child_plan = {.operations = 3000, .slots = 60, .largest = 4000};

/* In the child: traffic of its own, and blocks left for the parent to check and free. */
__attribute__((noinline)) static int allocate_in_child(void *argument) {
    child_plan.seed = *(unsigned *)argument;
    child_wrong += !model_is_clean(model_run_here(&child_plan));
    for (unsigned i = 0; i < KEPT; i++) {
        size_t size = (size_t)8 << i % 13;
        kept[i].block = malloc(size);
        kept[i].usable = malloc_usable_size(kept[i].block);
        child_wrong += shadow_claim(kept[i].block, kept[i].usable) != 0;
        shadow_fill(kept[i].block, kept[i].usable, i);
    }
    _exit(0);
}

static unsigned take_over(void) {
    unsigned wrong = child_wrong;
    for (unsigned i = 0; i < KEPT; i++) {
        wrong += !kept[i].block || !shadow_is_filled(kept[i].block, kept[i].usable, i);
        wrong += shadow_unclaim(kept[i].block, kept[i].usable) != 0;
        free(kept[i].block);
        kept[i].block = NULL;
    }
    child_wrong = 0;
    return wrong;
}

static pid_t by_vfork(unsigned *number) {
    pid_t pid = vfork();
    if (pid == 0)
        allocate_in_child(number);
    return pid;
}

static pid_t by_clone(unsigned *number) {
    static char *stack;
    if (!stack)
        stack = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return clone(allocate_in_child, stack + (1 << 20), CLONE_VM | CLONE_VFORK | SIGCHLD, number);
}

static void *churn(void *argument) {
    struct model_plan plan = {.operations = 2000, .slots = 60, .largest = 4000};
    for (plan.seed = (uintptr_t)argument * 1000; atomic_load(&working); plan.seed++)
        atomic_fetch_add(&wrong_elsewhere, !model_is_clean(model_run_here(&plan)));
    return NULL;
}

int main(int argc, char **argv) {
    pid_t (*make)(unsigned *) = argc > 1 && strcmp(argv[1], "clone") == 0 ? by_clone : by_vfork;
    pthread_t churners[5];
    unsigned wrong = 0, lost = 0;
    tap_check_subject();
    if (shadow_init() != 0)
        return 3;
    for (unsigned number = 1; number <= 5; number++) {
        int status = -1;
        pid_t pid = make(&number);
        lost += pid <= 0 || waitpid(pid, &status, 0) != pid || status != 0;
        wrong += take_over();
    }
    OK(lost == 0 && wrong == 0, "children of a single-threaded process allocate (%u lost, %u wrong)", lost, wrong);
    for (uintptr_t i = 0; i < 5; i++)
        if (pthread_create(&churners[i], NULL, churn, (void *)(i + 1)) != 0)
            return 3;
    for (unsigned number = 1; number <= CHILDREN; number++) {
        int status = -1;
        pid_t pid = make(&number);
        lost += pid <= 0 || waitpid(pid, &status, 0) != pid || status != 0;
        wrong += take_over();
    }
    atomic_store(&working, 0);
    for (int i = 0; i < 5; i++)
        pthread_join(churners[i], NULL);
    OK(lost == 0, "%d children ended well (%u did not)", CHILDREN, lost);
    OK(wrong == 0, "blocks of the children are sound (%u are not)", wrong);
    OK(atomic_load(&wrong_elsewhere) == 0, "blocks of the other threads are sound (%u are not)",
       atomic_load(&wrong_elsewhere));
    return tap_done();
}
