/* mode.c: tells the frontend's mode and checks that the heap works in it. usage: mode EXPECTED-KIND [SHARE]
 * EXPECTED-KIND is rseq-cid, rseq-cpu, rseq, thread or any; SHARE divides the work, for emulators */
#define _GNU_SOURCE
#include <malloc.h>
#include <rnalloc.h>
#include "../lib/model.h"
#include "../lib/shadow.h"
#include "../lib/tap.h"

extern struct rn_mode rnMode(void) __attribute__((weak));

static void check_mode(const char *expected) {
    static const char *const names[] = {"?", "rseq-cid", "rseq-cpu", "thread"};
    if (!rnMode) {
        tap_skip("glibc has no modes", "the mode");
        return;
    }
    struct rn_mode mode = rnMode();
    OK(mode.kind >= RN_MODE_RSEQ_CID && mode.kind <= RN_MODE_THREAD && strcmp(mode.name, names[mode.kind]) == 0,
       "the mode has its name (%s)", mode.name);
    OK(strcmp(expected, "any") == 0 || strncmp(mode.name, expected, strlen(expected)) == 0,
       "the mode is %s, as it should (%s: %s)", mode.name, expected, mode.reason ? mode.reason : "");
    OK(mode.reason && strlen(mode.reason) > 3 && mode.pools > 0, "a reason is given, and the number of pools (%u)",
       mode.pools);
}

int main(int argc, char **argv) {
    const char *expected = argc > 1 ? argv[1] : "any";
    unsigned share = argc > 2 ? (unsigned)atoi(argv[2]) : 1;
    if (share == 0)
        return 2;
    tap_check_subject();
    if (shadow_init() != 0)
        return 3;
    check_mode(expected);
    struct model_plan plan = {.threads = 1, .operations = 50000 / share, .slots = 300, .largest = 100000, .seed = 11};
    MODEL_OK(model_run_here(&plan), "a single thread");
    plan.threads = 12;
    MODEL_OK(model_run(&plan), "twelve threads");
    plan.threads = 120;
    plan.operations = 1500 / share;
    plan.slots = 40;
    MODEL_OK(model_run(&plan), "more threads than pools");
    MODEL_OK(model_run_here(&plan), "a single thread again");
    malloc_trim(0);
    if (rnMode)
        OK(strcmp(expected, "any") == 0 || strncmp(rnMode().name, expected, strlen(expected)) == 0,
           "the mode did not change");
    return tap_done();
}
