/* handlers.c: fork amid churn with handlers that allocate: of preloaded libraries (plugin/atfork.c), of the program
 * before its first allocation and after. A bounded number of forks. */
#define _GNU_SOURCE
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include "../lib/model.h"
#include "../lib/proc.h"
#include "../lib/shadow.h"
#include "../lib/tap.h"

enum { FORKS = 150 };
static void *early_block, *late_block;
static int early_calls, late_calls;
static atomic_int forking = 1;

static void early_prepare(void) { early_block = calloc(3, 333); }
static void early_after(void) { early_calls++, free(early_block); }
static void late_prepare(void) { late_block = aligned_alloc(256, 70000); }
static void late_after(void) { late_calls++, late_block = realloc(late_block, 300000), free(late_block); }

__attribute__((constructor(102))) static void before_first_allocation(void) {
    if (pthread_atfork(early_prepare, early_after, early_after) != 0)
        abort();
}

static void *churn(void *unused) {
    unsigned char *blocks[64] = {0};
    for (size_t i = 0; atomic_load(&forking); i++) {
        free(blocks[i % 64]);
        blocks[i % 64] = malloc(1 + i * 7919 % (i % 50 == 0 ? 200000 : 2000));
        *blocks[i % 64] = 1;
    }
    for (int i = 0; i < 64; i++)
        free(blocks[i]);
    return unused;
}

static int child(void *argument) {
    unsigned number = *(unsigned *)argument;
    struct model_plan plan = {.operations = 2000, .slots = 80, .largest = 100000, .seed = number};
    if (early_calls != (int)number || late_calls != (int)number)
        return 20;
    return !model_is_clean(model_run_here(&plan));
}

int main(void) {
    pthread_t churners[4];
    tap_check_subject();
    if (shadow_init() != 0 || pthread_atfork(late_prepare, late_after, late_after) != 0)
        return 3;
    for (int i = 0; i < 4; i++)
        if (pthread_create(&churners[i], NULL, churn, NULL) != 0)
            return 3;
    int failed = 0;
    for (unsigned number = 1; number <= FORKS; number++)
        failed += proc_child(child, &number) != 0;
    atomic_store(&forking, 0);
    for (int i = 0; i < 4; i++)
        pthread_join(churners[i], NULL);
    OK(failed == 0, "%d forks with handlers that allocate (%d failures)", FORKS, failed);
    OK(early_calls == FORKS && late_calls == FORKS, "the program's handlers ran every time");
    void *symbol = dlsym(RTLD_DEFAULT, "atfork_counts");
    if (symbol) {
        int counts[3];
        void (*atfork_counts)(int[3]);
        memcpy(&atfork_counts, &symbol, sizeof symbol);
        atfork_counts(counts);
        OK(counts[0] == FORKS && counts[1] == FORKS && counts[2] == 0, "the library's handlers ran every time");
    }
    struct model_plan plan = {.threads = 4, .operations = 10000, .slots = 80, .largest = 40000, .seed = 3};
    MODEL_OK(model_run(&plan), "afterwards");
    return tap_done();
}
