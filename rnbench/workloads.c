/* workloads.c: the table of workloads. To add one: a file that exports a struct workload, and its two lines here. */
#include <string.h>

#include "rnbench.h"

extern const struct workload workload_slots, workload_pair, workload_bulk, workload_large, workload_idle,
    workload_release, workload_waste;

/* The first is the default. */
const struct workload *const workloads[] = {
    &workload_slots, &workload_pair,    &workload_bulk,  &workload_large,
    &workload_idle,  &workload_release, &workload_waste, NULL,
};

const struct workload *workload_find(const char *name) {
    for (const struct workload *const *entry = workloads; *entry; entry++)
        if (strcmp((*entry)->name, name) == 0)
            return *entry;
    return NULL;
}
