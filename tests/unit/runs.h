/* runs.h: page runs of the backend with a model beside them: contents, zeroing, overlap and the count of pages in use.
 */
#ifndef TESTS_UNIT_RUNS_H
#define TESTS_UNIT_RUNS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { RUNS = 64 };

struct run {
    uintptr_t start; /* 0: none */
    size_t pages;
    uint64_t stamp;
};

struct runs {
    struct run run[RUNS];
    size_t pages; /* of all */
    uint64_t random;
    bool retreats; /* backend_retreat is among the operations */
    unsigned long done, refused, zeroed;
};

/* Each does what its name says and checks what it sees; false or -1 when the backend refused. */
bool run_alloc(struct runs *runs, struct run *run, size_t pages, size_t align);
void run_free(struct runs *runs, struct run *run);
void run_free_part(struct runs *runs, struct run *run, size_t keep);
bool run_extend(struct runs *runs, struct run *run, size_t pages);
bool run_move(struct runs *runs, struct run *run, size_t pages);
bool run_grow(struct runs *runs, struct run *run, size_t pages);
void runs_free_all(struct runs *runs);

/* `count` random operations, calls for release among them. */
void runs_churn(struct runs *runs, unsigned count);

/* backend_stats says that exactly the model's pages are in use (and what failing moves lost); and backend_check. For
 * one thread. */
void runs_check(const struct runs *runs);

#endif
