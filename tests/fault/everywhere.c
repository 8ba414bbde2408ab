/* everywhere.c: the memory calls of the kernel fail at the n-th time, from the n-th time on, or at random
 * (plugin/failmap.c). Each allocation then succeeds or gives NULL and ENOMEM, no block is harmed, nothing is lost, and
 * afterwards everything works again. usage: everywhere startup            armed by FAILMAP from the process's start
 *        everywhere count              tells the number of calls of a run without failures
 *        everywhere at FROM TO ERROR   for each n of FROM..TO, in a child: the n-th call fails, or all from the n-th on
 *        everywhere sweep ERROR        the same one after the other in one process, which must not lose memory by it
 *        everywhere random SEED ERROR  at random, in one process, single-threaded and threaded */
#define _GNU_SOURCE
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include "../lib/proc.h"
#include "../lib/shadow.h"
#include "../lib/tap.h"

extern unsigned long failmap_calls(void) __attribute__((weak));
extern unsigned long failmap_failures(void) __attribute__((weak));
extern void failmap_arm(unsigned long, unsigned long, int) __attribute__((weak));
extern void failmap_random(unsigned long, unsigned long, int) __attribute__((weak));

enum { SMALL = 1500, LARGE = 12 };
static const unsigned long forever = 1ul << 60;

struct account {
    unsigned char *blocks[SMALL + LARGE];
    size_t sizes[SMALL + LARGE];
    unsigned wrong, refused;
};

static void take(struct account *a, unsigned i, void *block, size_t size) {
    a->blocks[i] = block;
    a->sizes[i] = size;
    if (block) {
        shadow_fill(block, size, i);
        return;
    }
    a->wrong += errno != ENOMEM;
    a->refused++;
}

static void check(struct account *a, unsigned i) {
    if (a->blocks[i])
        a->wrong += !shadow_is_filled(a->blocks[i], a->sizes[i], i);
}

static void drop(struct account *a, unsigned i) {
    check(a, i);
    errno = 4711;
    free(a->blocks[i]);
    a->wrong += errno != 4711;
    a->blocks[i] = NULL;
}

static void resize(struct account *a, unsigned i, size_t size) {
    if (!a->blocks[i])
        return;
    size_t kept = size < a->sizes[i] ? size : a->sizes[i];
    check(a, i);
    shadow_fill(a->blocks[i], kept, i);
    errno = 0;
    void *moved = realloc(a->blocks[i], size);
    if (!moved) {
        a->wrong += errno != ENOMEM || !shadow_is_filled(a->blocks[i], kept, i);
        a->refused++;
        a->sizes[i] = kept;
        return;
    }
    a->wrong += !shadow_is_filled(moved, kept, i);
    take(a, i, moved, size);
}

static void take_zeroed(struct account *a, unsigned i, size_t size) {
    errno = 0;
    unsigned char *p = calloc(1, size);
    for (size_t at = 0; p && at < size; at += at < 4096 ? 1 : 511)
        a->wrong += p[at] != 0;
    take(a, i, p, size);
}

/* Every kind of call to the kernel that the heap makes: first use, growth, large blocks, alignment, moves, release. */
static void work(struct account *a) {
    for (unsigned i = 0; i < SMALL; i++)
        errno = 0, take(a, i, malloc(1 + (i * 131) % 6000), 1 + (i * 131) % 6000);
    for (unsigned i = 0; i < LARGE; i++) {
        size_t size = (size_t)300000 << i % 4;
        if (i % 3 == 0)
            errno = 0, take(a, SMALL + i, malloc(size), size);
        else if (i % 3 == 1)
            take_zeroed(a, SMALL + i, size);
        else
            errno = 0, take(a, SMALL + i, aligned_alloc((size_t)4096 << i % 10, size), size);
    }
    for (unsigned i = 0; i < LARGE; i++)
        resize(a, SMALL + i, a->sizes[SMALL + i] * 3);
    for (unsigned i = 0; i < SMALL; i += 2)
        drop(a, i);
    malloc_trim(0);
    for (unsigned i = 0; i < LARGE; i++)
        resize(a, SMALL + i, a->sizes[SMALL + i] / 5 + 1);
    for (unsigned i = 0; i < SMALL; i += 2)
        take_zeroed(a, i, 1 + (i * 37) % 40000);
    for (unsigned i = 0; i < SMALL; i += 5)
        resize(a, i, a->sizes[i] * 2);
    for (unsigned i = 0; i < LARGE; i += 2)
        drop(a, SMALL + i);
    for (unsigned i = 0; i < SMALL + LARGE; i++)
        drop(a, i);
    malloc_trim(0);
}

static unsigned works_again(void) {
    static struct account again;
    again.wrong = again.refused = 0;
    work(&again);
    return again.wrong + again.refused;
}

static int one_run(unsigned long n, unsigned long many, int error) {
    static struct account account;
    failmap_arm(n, many, error);
    work(&account);
    failmap_arm(0, 0, 0);
    if (account.wrong)
        return 1;
    return works_again() ? 2 : 0;
}

struct at {
    unsigned long n, many;
    int error;
};

static int in_child(void *argument) {
    const struct at *at = argument;
    return one_run(at->n, at->many, at->error);
}

static void each_in_a_child(unsigned long from, unsigned long to, int error) {
    static const char *const verdicts[] = {"", "a wrong answer, or a harmed block", "does not work afterwards"};
    unsigned bad = 0, made = 0;
    free(malloc(100));
    for (unsigned long n = from; n <= to; n++)
        for (unsigned form = 0; form < 3; form++, made++) {
            struct at at = {n, form == 0 ? 1 : form == 1 ? 5 : forever, error};
            int status = proc_child(in_child, &at);
            if (status != 0 && bad++ < 20)
                tap_diag("call %lu%s fails with %s: status %#x %s", n,
                         form == 0   ? ""
                         : form == 1 ? " and 4 more"
                                     : " and all later ones",
                         strerrorname_np(error), (unsigned)status,
                         WIFEXITED(status) && WEXITSTATUS(status) < 3 ? verdicts[WEXITSTATUS(status)] : "");
        }
    OK(bad == 0, "calls %lu..%lu failing with %s: %u runs (%u went wrong)", from, to, strerrorname_np(error), made,
       bad);
}

static size_t in_use(void) {
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

static void sweep(int error) {
    unsigned wrong = works_again();
    size_t before = in_use();
    unsigned long calls = failmap_calls();
    works_again();
    calls = failmap_calls() - calls;
    for (unsigned long n = 1; n <= calls + 5; n++)
        for (unsigned form = 0; form < 2; form++)
            wrong += one_run(n, form ? forever : 1, error) != 0;
    OK(wrong == 0, "%lu calls failing with %s one after the other in one process (%u runs went wrong)", calls,
       strerrorname_np(error), wrong);
    OK(in_use() <= before + 4096, "no block is lost by it (%zu in use before, %zu now)", before, in_use());
}

static atomic_uint thread_wrong;

static void *random_thread(void *argument) {
    struct account *a = argument;
    for (int round = 0; round < 5; round++)
        work(a);
    atomic_fetch_add(&thread_wrong, a->wrong);
    return NULL;
}

static void at_random(unsigned long seed, int error) {
    static struct account account, accounts[6];
    pthread_t threads[6];
    unsigned wrong = works_again();
    size_t before = in_use();
    for (unsigned round = 0; round < 30; round++) {
        failmap_random(seed + round, round % 3 == 0 ? 500 : round % 3 == 1 ? 100 : 10, error);
        work(&account);
        failmap_arm(0, 0, 0);
        wrong += works_again();
    }
    OK(wrong + account.wrong == 0, "calls failing at random with %s (%lu did)", strerrorname_np(error),
       failmap_failures());
    OK(in_use() <= before + 4096, "no block is lost by it (%zu in use before, %zu now)", before, in_use());
    for (int i = 0; i < 6; i++)
        if (pthread_create(&threads[i], NULL, random_thread, &accounts[i]) != 0)
            return;
    failmap_random(seed, 100, error);
    for (int i = 0; i < 6; i++)
        pthread_join(threads[i], NULL);
    failmap_arm(0, 0, 0);
    wrong = works_again();
    OK(atomic_load(&thread_wrong) == 0 && wrong == 0, "and amid six threads (%lu failed, %u wrong)", failmap_failures(),
       atomic_load(&thread_wrong) + wrong);
}

static void from_startup(void) {
    static struct account account;
    work(&account);
    failmap_arm(0, 0, 0);
    OK(account.wrong == 0, "allocations fail cleanly or succeed (%u refused)", account.refused);
    OK(works_again() == 0, "and all works afterwards");
}

int main(int argc, char **argv) {
    if (argc < 2 || !failmap_arm)
        return 2;
    if (strcmp(argv[1], "count") == 0) {
        unsigned bad = works_again();
        unsigned long startup = failmap_calls();
        bad += works_again();
        OK(bad == 0, "without failures all is well");
        tap_diag("calls: %lu startup, %lu steady", startup, failmap_calls() - startup);
    } else if (strcmp(argv[1], "startup") == 0) {
        from_startup();
    } else if (strcmp(argv[1], "at") == 0 && argc == 5) {
        each_in_a_child(strtoul(argv[2], NULL, 10), strtoul(argv[3], NULL, 10), atoi(argv[4]));
    } else if (strcmp(argv[1], "sweep") == 0 && argc == 3) {
        sweep(atoi(argv[2]));
    } else if (strcmp(argv[1], "random") == 0 && argc == 4) {
        at_random(strtoul(argv[2], NULL, 10), atoi(argv[3]));
    } else {
        return 2;
    }
    return tap_done();
}
