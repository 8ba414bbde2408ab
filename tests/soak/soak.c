/* soak.c: everything at once (actors.c) over the whole library with its invariants checked, lap by lap. After each lap
 * all is freed and at rest, and memory must be where it was after the first. One line a lap.
 * usage: soak LAPS SECONDS-PER-LAP PLUGIN [SEED] */
#define _GNU_SOURCE
#include <malloc.h>
#include <pthread.h>
#include <rnalloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include "../lib/disturb.h"
#include "../lib/proc.h"
#include "../lib/shadow.h"
#include "actors.h"
#include "frontend/frontend.h"

enum { STACK = 256 << 10, MOST_ACTORS = 32, POOL_KIB = 384 }; /* what a pool with a few short bins has */

/* What the process holds when all is freed. */
struct rest {
    size_t in_use, resident, metadata, pools, rss, mappings, claimed;
};

static atomic_int stopping;
static unsigned long seed = 1;
static unsigned long rounds[MOST_ACTORS]; /* each actor's own, over all laps */

static void *act(void *argument) {
    size_t number = (uintptr_t)argument;
    do
        soak_actors[number].play(seed * 1000003 + number * 100003 + rounds[number]++);
    while (!atomic_load(&stopping));
    return NULL;
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static size_t count_mappings(void) {
    char part[4096];
    size_t lines = 0;
    int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    for (ssize_t got; fd >= 0 && (got = read(fd, part, sizeof part)) > 0;)
        for (ssize_t i = 0; i < got; i++)
            lines += part[i] == '\n';
    close(fd);
    return lines;
}

/* Runs all actors for so long; gives the most bytes resident on the way. */
static size_t run_lap(double seconds) {
    pthread_t threads[MOST_ACTORS];
    size_t most = 0;
    double end = now() + seconds;
    atomic_store(&stopping, 0);
    for (uintptr_t i = 0; i < soak_actors_count; i++)
        if (pthread_create(&threads[i], NULL, act, (void *)i) != 0)
            abort();
    while (now() < end) {
        size_t resident = proc_status("VmRSS:");
        most = resident > most ? resident : most;
        nanosleep(&(struct timespec){0, 100000000}, NULL);
    }
    atomic_store(&stopping, 1);
    for (size_t i = 0; i < soak_actors_count; i++)
        pthread_join(threads[i], NULL);
    return most;
}

static struct rest come_to_rest(void) {
    struct rn_stats stats;
    struct rest rest = {.claimed = shadow_reset()};
    heap_check();
    malloc_trim(0);
    heap_check();
    rnStats(&stats);
    rest.in_use = stats.in_use;
    rest.resident = stats.resident;
    rest.metadata = stats.metadata;
    rest.pools = stats.pools;
    rest.rss = proc_rss();
    rest.mappings = count_mappings();
    return rest;
}

static void report(unsigned lap, double minutes, size_t most, const struct rest *rest) {
    printf(
        "lap %u, %.1f min: %lu operations, %lu handed over, %lu resizes, %lu threads, %lu children, %lu loads, "
        "%lu trims, %lu signals, %lu checks; peak %zu MiB; at rest: in use %zu KiB, heap %zu KiB, metadata %zu KiB, "
        "%zu pools, RSS %zu KiB, %zu mappings; %lu wrong\n",
        lap, minutes, soak_counts.operations, soak_counts.handed_over, soak_counts.resizes, soak_counts.threads,
        soak_counts.children, soak_counts.loads, soak_counts.trims, atomic_load(&disturb_signals), soak_counts.checks,
        most >> 20, rest->in_use >> 10, rest->resident >> 10, rest->metadata >> 10, rest->pools, rest->rss >> 10,
        rest->mappings, soak_counts.wrong);
    fflush(stdout);
}

/* One claim about the end against the state after the first lap. */
static unsigned beyond(const char *what, size_t first, size_t last, size_t slack) {
    if (last <= first + slack)
        return 0;
    printf("soak: %s grew from %zu to %zu KiB (slack %zu)\n", what, first >> 10, last >> 10, slack >> 10);
    return 1;
}

/* Slack: in use, what the C library keeps (a few cached stacks' descriptors); resident, the parts of pages around it;
 * metadata, structures that peaks higher than the first lap's needed, and which are kept for the next, and pools where
 * more threads than ever happened to run at once; RSS, all of it and the C library's cached stacks. */
static unsigned judge(const struct rest *first, const struct rest *last) {
    size_t metadata = first->metadata + MIB + (last->pools - first->pools) * (POOL_KIB << 10);
    unsigned wrong = beyond("in use", first->in_use, last->in_use, 256 << 10);
    wrong += beyond("the heap", first->resident, last->resident, 2 * MIB);
    wrong += beyond("metadata", first->metadata, last->metadata, metadata);
    wrong += beyond("RSS", first->rss, last->rss, metadata + 11 * MIB);
    if (last->mappings > 2 * first->mappings + 4096) {
        printf("soak: mappings grew from %zu to %zu\n", first->mappings, last->mappings);
        wrong++;
    }
    return wrong;
}

int main(int argc, char **argv) {
    if (argc < 4) {
        fprintf(stderr, "usage: soak LAPS SECONDS-PER-LAP PLUGIN [SEED]\n");
        return 2;
    }
    unsigned laps = (unsigned)atoi(argv[1]), bad = 0;
    double began = now();
    struct rest first = {0}, last = {0};
    pthread_attr_t attributes;
    soak_plugin = argv[3];
    seed = argc > 4 ? strtoul(argv[4], NULL, 0) : 1;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK);
    pthread_setattr_default_np(&attributes);
    if (laps == 0 || shadow_init() != 0 || soak_actors_count > MOST_ACTORS)
        return 2;
    disturb_init();
    printf("# mode %s: %s; %zu actors, seed %lu\n", rnMode().name, rnMode().reason, soak_actors_count, seed);
    for (unsigned lap = 1; lap <= laps; lap++) {
        size_t most = run_lap(atof(argv[2]));
        last = come_to_rest();
        first = lap == 1 ? last : first;
        if (last.claimed) {
            printf("soak: %zu units were lost in lap %u\n", last.claimed, lap);
            bad++;
        }
        report(lap, (now() - began) / 60, most, &last);
    }
    bad += judge(&first, &last);
    unsigned long wrong = atomic_load(&soak_counts.wrong) + atomic_load(&disturb_faults) + bad;
    printf("soak: %u laps in %.1f minutes, %lu heap checks: %s\n", laps, (now() - began) / 60, soak_counts.checks,
           wrong ? "FAILED" : "every block sound, nothing lost, memory where it was");
    return wrong != 0;
}
