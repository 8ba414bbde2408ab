/* shadow.c: the shadow-model stress, in its variants: calm, large, signals, interval, migration, confined, trim,
 * trim-signals, crowd, throng, storm, again. usage: shadow VARIANT [SEED [DIVISOR]]: operations are divided by DIVISOR,
 * for slow machines and slow allocators. */
#define _GNU_SOURCE
#include "../lib/shadow.h"
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include "../lib/disturb.h"
#include "../lib/model.h"
#include "../lib/proc.h"
#include "../lib/tap.h"

enum { GENERATIONS = 12 };

/* Caches are emptied and pages released under the feet of working threads. */
static void trim(unsigned thread, unsigned operation) {
    if ((operation + thread * 37) % 2000 != 0)
        return;
    model_inside = 1;
    malloc_trim(operation % 3 == 0 ? 0 : 1 << 20);
    model_inside = 0;
}

static void yield(unsigned thread, unsigned operation) {
    if ((operation + thread) % 16 == 0)
        sched_yield();
}

/* The CPUs that the process may use shrink to one, another each time, and come back. */
static atomic_uint confined;

static void confine(unsigned thread, unsigned operation) {
    if (thread != 0 || operation % 4000 != 0)
        return;
    unsigned round = operation / 4000, bound = disturb_confine(round % 2 ? -1 : (int)(round / 2));
    atomic_fetch_add(&confined, bound > 1);
}

/* What the variant is about did happen: how often in so many operations is chance. */
static int did_strike(void) { return atomic_load(&disturb_signals) > 100 && atomic_load(&disturb_nested) > 10; }

static int did_strike_confined(void) { return did_strike() && atomic_load(&confined) > 10; }

static size_t in_use(void) {
    malloc_trim(0);
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

/* Generations of threads, one after the other, whose blocks all die: later ones have to find their memory in what the
 * earlier left. No statistics are asked, so every allocator can be. Writable memory grows in steps, of 4 MiB here, and
 * which thread meets which is chance: a step may come late, but not in each round. A generation allocates some hundred
 * MiB. */
static void again(const struct model_plan *plan) {
    enum { ROUND = GENERATIONS / 2, ROUNDS_MOST = 6 };
    struct model_plan each = *plan;
    size_t before, now = 0;
    unsigned unclean = 0, rounds = 0;
    do {
        before = now;
        for (unsigned i = 0; i < ROUND; i++, each.seed++) {
            each.operations = plan->operations / GENERATIONS;
            unclean += !model_is_clean(model_run(&each));
        }
        now = proc_status("VmData:");
        tap_diag("again: %zu KiB after %u generations", now >> 10, ++rounds * ROUND);
    } while (rounds < 2 || (now > before + 4 * MIB && rounds < ROUNDS_MOST));
    OK(unclean == 0, "again: %u generations of threads, each clean (%u not)", rounds * ROUND, unclean);
    OK(now <= before + 4 * MIB, "again: later ones take no more memory (%zu KiB, and %zu after %d generations more)",
       before >> 10, now >> 10, ROUND);
}

int main(int argc, char **argv) {
    const char *variant = argc > 1 ? argv[1] : "calm";
    struct model_plan plan = {.threads = 16, .operations = 600000, .slots = 200, .largest = 40000, .seed = 1};
    plan.seed = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
    tap_check_subject();
    if (shadow_init() != 0)
        return 3;
    disturb_init();
    if (strcmp(variant, "large") == 0) {
        plan = (struct model_plan){
            .threads = 8, .operations = 20000, .slots = 12, .largest = 12 << 20, .seed = plan.seed};
    } else if (strcmp(variant, "signals") == 0) {
        plan.each_thread = disturb_timer_start;
        plan.end_thread = disturb_timer_end;
        plan.operations = 400000;
    } else if (strcmp(variant, "interval") == 0) {
        plan.each_thread = disturb_interval_start;
        plan.end_thread = disturb_interval_end;
    } else if (strcmp(variant, "migration") == 0) {
        plan.each_operation = disturb_migrate;
        plan.operations = 500000;
    } else if (strcmp(variant, "confined") == 0) {
        plan.each_thread = disturb_timer_start;
        plan.end_thread = disturb_timer_end;
        plan.each_operation = confine;
        plan.is_enough = did_strike_confined;
        plan.operations = 120000;
    } else if (strcmp(variant, "trim") == 0) {
        plan.each_operation = trim;
        plan.operations = 200000;
    } else if (strcmp(variant, "trim-signals") == 0) {
        plan.each_thread = disturb_timer_start;
        plan.end_thread = disturb_timer_end;
        plan.each_operation = trim;
        plan.operations = 30000;
    } else if (strcmp(variant, "crowd") == 0) {
        plan.threads = 200;
        plan.operations = 40000;
        plan.slots = 50;
        plan.each_operation = yield;
    } else if (strcmp(variant, "throng") == 0) {
        plan.threads = 500;
        plan.operations = 10000;
        plan.slots = 50;
        plan.each_operation = disturb_migrate;
    } else if (strcmp(variant, "storm") == 0) {
        plan.threads = 48;
        plan.operations = 120000;
        plan.each_thread = disturb_timer_start;
        plan.end_thread = disturb_timer_end;
        plan.each_operation = disturb_migrate;
    } else if (strcmp(variant, "again") == 0) {
        plan.operations = 240000;
    } else if (strcmp(variant, "calm") != 0) {
        return 2;
    }
    if (argc > 3)
        plan.operations /= (unsigned)strtoul(argv[3], NULL, 0);
    if (strcmp(variant, "again") == 0) {
        again(&plan);
        return tap_done();
    }
    if (plan.each_thread && !plan.is_enough)
        plan.is_enough = did_strike;
    size_t before = in_use(), after;
    struct model_result result = model_run(&plan);
    disturb_confine(-1);
    tap_diag("seed %llu, %lu operations, %lu signals, %lu handlers allocated", (unsigned long long)plan.seed,
             result.done, atomic_load(&disturb_signals), atomic_load(&disturb_nested));
    MODEL_OK(result, variant);
    OK(atomic_load(&disturb_faults) == 0, "%s: blocks of signal handlers are sound", variant);
    if (plan.each_thread)
        OK(did_strike(), "%s: signals did strike", variant);
    if (plan.each_operation == confine)
        OK(atomic_load(&confined) > 10, "%s: the CPUs of all threads changed %u times", variant,
           atomic_load(&confined));
    if (!tap_is_of_malloc("mallinfo2"))
        return tap_done(); /* it has no statistics to be asked; tests/figures claims that it has, where it should */
    /* What the C library keeps for the stacks of ended threads remains; for moments, what the allocator's own thread
     * has in hand. */
    EVENTUALLY((after = in_use()) <= before + (64 << 10))
    OK(after <= before + (64 << 10), "%s: no object is lost (%zu KiB in use before, %zu after)", variant, before >> 10,
       after >> 10);
    return tap_done();
}
