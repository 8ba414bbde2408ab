/* threads.c: children of fork in which another library's handler (plugin/forkthread.c) has made a thread, perhaps
 * before the allocator's own handler ran. All of a child's threads go on, and it ends. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include "../lib/model.h"
#include "../lib/proc.h"
#include "../lib/shadow.h"
#include "../lib/tap.h"

enum { CHILDREN = 25, TOO_LONG_S = 60 };
static atomic_int forking = 1;
static int (*join)(void);

static void *churn(void *unused) {
    while (atomic_load(&forking)) {
        void *block = malloc(100);
        free(block);
    }
    return unused;
}

static int child(void *argument) {
    struct model_plan plan = {.operations = 2000, .slots = 80, .largest = 100000, .seed = *(unsigned *)argument};
    alarm(TOO_LONG_S);
    int bad = !model_is_clean(model_run_here(&plan));
    bad |= !join();
    plan.threads = 2;
    return bad | !model_is_clean(model_run(&plan));
}

int main(void) {
    pthread_t churners[2];
    tap_check_subject();
    void *symbol = dlsym(RTLD_DEFAULT, "forkthread_join");
    memcpy(&join, &symbol, sizeof symbol);
    if (shadow_init() != 0 || !join)
        return 3;
    for (int i = 0; i < 2; i++)
        if (pthread_create(&churners[i], NULL, churn, NULL) != 0)
            return 3;
    int failed = 0;
    for (unsigned number = 1; number <= CHILDREN && failed == 0; number++)
        failed += proc_child(child, &number) != 0;
    atomic_store(&forking, 0);
    for (int i = 0; i < 2; i++)
        pthread_join(churners[i], NULL);
    OK(failed == 0, "children go on with a thread that a fork handler made");
    return tap_done();
}
