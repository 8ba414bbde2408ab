/* unregistered.c: threads take their own rseq registration away, in the midst of work, and go on allocating beside
 * threads that have theirs. */
#define _GNU_SOURCE
#include <errno.h>
#include <malloc.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include "../lib/model.h"
#include "../lib/shadow.h"
#include "../lib/tap.h"

extern const ptrdiff_t __rseq_offset __attribute__((weak));
extern const unsigned __rseq_size __attribute__((weak));
enum { UNREGISTER = 1 };
#if defined(__aarch64__)
#define SIGNATURE 0xd428bc00u
#else
#define SIGNATURE 0x53053053u
#endif
static atomic_uint gone, kept_it;

/* Every second thread drops its registration after some operations: its pool may be in use by then. */
static void drop(unsigned thread, unsigned operation) {
    if (thread % 2 != 0 || operation != 700 + thread * 10)
        return;
    void *area = (char *)__builtin_thread_pointer() + __rseq_offset;
    if (syscall(SYS_rseq, area, 32, UNREGISTER, SIGNATURE) == 0)
        atomic_fetch_add(&gone, 1);
    else
        atomic_fetch_add(&kept_it, 1);
}

int main(int argc, char **argv) {
    (void)argv;
    tap_check_subject();
    if (shadow_init() != 0)
        return 3;
    struct model_plan plan = {
        .threads = 16, .operations = 150000, .slots = 100, .largest = 5000, .seed = 21, .each_operation = drop};
    if (&__rseq_size == NULL || __rseq_size == 0) {
        tap_skip("glibc registered no rseq here", "threads without their rseq");
        return tap_done();
    }
    if (argc > 1) { /* the only thread has none, before there is another */
        drop(0, 700);
        plan.each_operation = NULL;
        MODEL_OK(model_run_here(&plan), "alone without rseq");
        MODEL_OK(model_run(&plan), "threads of a thread without rseq");
        MODEL_OK(model_run_here(&plan), "afterwards");
        OK(atomic_load(&gone) == 1, "the registration was dropped");
        return tap_done();
    }
    struct model_result result = model_run(&plan);
    OK(atomic_load(&gone) == 8, "8 threads dropped their rseq (%u did, %u could not)", atomic_load(&gone),
       atomic_load(&kept_it));
    MODEL_OK(result, "threads with and without rseq");
    plan.each_operation = NULL;
    MODEL_OK(model_run(&plan), "afterwards");
    drop(0, 700);
    MODEL_OK(model_run_here(&plan), "the main thread without rseq");
    MODEL_OK(model_run(&plan), "threads beside it");
    return tap_done();
}
