/* signals.c: a process of one thread forks in a signal handler, wherever in the allocator, or in fork, the signal
 * comes: signal-safety(7) has fork among the functions that a handler may call. */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/time.h>
#include "../lib/proc.h"
#include "../lib/tap.h"

enum { ROUNDS = 300, SLOTS = 64 };
static volatile sig_atomic_t forked, failed;

static int nothing(void *unused) { return unused != NULL; }

static void fork_one(int unused) {
    (void)unused;
    failed += proc_child(nothing, NULL) != 0;
    forked++;
}

static void arm(int round) {
    struct itimerval after = {.it_value = {.tv_usec = 20 + round * 37 % 400}};
    if (setitimer(ITIMER_REAL, &after, NULL) != 0)
        exit(3);
}

/* Sizes of every path, most of them of those that take locks. */
static void churn(void) {
    static const size_t sizes[] = {24, 300, 5000, 70000, 500000, 2500000};
    static unsigned char *blocks[SLOTS];
    static unsigned step;
    unsigned char **slot = &blocks[step % SLOTS];
    free(*slot);
    *slot = malloc(sizes[step * 7 % 6]);
    **slot = 1;
    step++;
}

int main(void) {
    struct sigaction action = {.sa_handler = fork_one, .sa_flags = SA_RESTART};
    tap_check_subject();
    if (sigaction(SIGALRM, &action, NULL) != 0)
        return 3;
    for (int round = 0; round < ROUNDS; round++) {
        int before = forked;
        arm(round);
        while (forked == before) {
            churn();
            if (round % 4 == 0)
                failed += proc_child(nothing, NULL) != 0;
        }
    }
    OK(forked >= ROUNDS && failed == 0, "forks in a signal handler (%d, %d failures)", (int)forked, (int)failed);
    for (int i = 0; i < 10 * SLOTS; i++)
        churn();
    OK(1, "the heap works afterwards");
    return tap_done();
}
