/* actors.h: what goes on at once during a soak, each in a thread of its own until it is told to stop. */
#ifndef TESTS_SOAK_ACTORS_H
#define TESTS_SOAK_ACTORS_H

#include <stdatomic.h>
#include <stddef.h>

/* What was done, counted, and what went wrong. */
struct soak_counts {
    atomic_ulong operations, handed_over, resizes, threads, children, loads, trims, checks;
    atomic_ulong wrong;
};
extern struct soak_counts soak_counts;

struct actor {
    const char *name;
    void (*play)(unsigned long round); /* one round: a fraction of a second, and nothing is owned after it */
};
extern const struct actor soak_actors[];
extern const size_t soak_actors_count;

/* The plugin that one of the actors loads and unloads; before any of them runs. */
extern const char *soak_plugin;

#endif
