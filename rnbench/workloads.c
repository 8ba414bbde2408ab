/* workloads.c: the table of workloads. To add one: a file that exports a struct workload, and its two lines here. */
#include <string.h>

#include "rnbench.h"

extern const struct workload workload_slots, workload_sequential, workload_strided, workload_pair, workload_bulk,
    workload_bucket, workload_larson, workload_lifetimes, workload_producer, workload_false_active,
    workload_false_passive, workload_strings, workload_vectors, workload_calloc, workload_aligned, workload_large,
    workload_phase, workload_waste, workload_idle, workload_release, workload_start;

/* The first is the default. */
const struct workload *const workloads[] = {
    &workload_slots,         &workload_sequential,
    &workload_strided,       &workload_pair,
    &workload_bulk,          &workload_bucket,
    &workload_larson,        &workload_lifetimes,
    &workload_producer,      &workload_false_active,
    &workload_false_passive, &workload_strings,
    &workload_vectors,       &workload_calloc,
    &workload_aligned,       &workload_large,
    &workload_phase,         &workload_waste,
    &workload_idle,          &workload_release,
    &workload_start,         NULL,
};

const struct workload *workload_find(const char *name) {
    for (const struct workload *const *entry = workloads; *entry; entry++)
        if (strcmp((*entry)->name, name) == 0)
            return *entry;
    return NULL;
}
