/* stats.c: what the heap holds, for rnStats and for glibc's own interfaces: mallinfo(3), malloc_stats(3),
 * malloc_info(3). */
#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <stdio.h>
#include <string.h>

#include "backend/backend.h"
#include "base/fatal.h"
#include "base/meta.h"
#include "frontend/alloc.h"
#include "frontend/frontend.h"
#include "frontend/hardened.h"
#include "frontend/pool.h"

static size_t minus(size_t a, size_t b) { return a > b ? a - b : 0; }

/* In hardened mode the runs are its own: what is inaccessible is in nobody's use, and not resident. */
static void hardened_share(struct rn_stats *stats, struct backend_stats *pages) {
    struct hardened_stats share;
    hardened_stats(&share);
    pages->in_use = minus(pages->in_use, share.guards + share.waiting);
    stats->in_use = share.small_live + share.large_live;
    stats->span_free = share.small_free;
    stats->large_in_use = share.large_live;
    stats->large_blocks = share.large_blocks;
}

RN_EXPORT void rnStats(struct rn_stats *stats) {
    struct backend_stats pages;
    struct middle_stats objects;
    library_init();
    backend_stats(&pages);
    middle_stats(&objects);
    memset(stats, 0, sizeof *stats);
    stats->span_free = objects.span_free;
    stats->large_in_use = pages.block_bytes;
    stats->large_blocks = pages.blocks;
    stats->reserved = pages.reserved;
    stats->committed = pages.committed;
    stats->pool_free = pools_free_bytes() + locked_free_bytes();
    stats->transfer_free = objects.transfer_free;
    stats->in_use = minus(pages.in_use, stats->pool_free + stats->transfer_free + stats->span_free);
    if (rn_hardened)
        hardened_share(stats, &pages);
    stats->resident = pages.in_use + pages.free_resident;
    stats->page_free = pages.free_resident;
    stats->page_released = minus(pages.reserved, pages.in_use + pages.free_resident);
    stats->metadata = meta_bytes();
    stats->pools = pools_count();
    stats->released_total = pages.released_total;
    stats->mappings = pages.mappings;
}

static const char *mode_name(void) {
    if (rn_hardened)
        return "hardened";
    return rn_mode.kind == RN_MODE_RSEQ_CID ? "rseq-cid" : rn_mode.kind == RN_MODE_RSEQ_CPU ? "rseq-cpu" : "thread";
}

static const char *mode_reason(void) { return rn_hardened ? "option hardened=1" : rn_mode.reason; }

RN_EXPORT struct rn_mode rnMode(void) {
    library_init();
    if (rn_hardened)
        return (struct rn_mode){RN_MODE_HARDENED, mode_name(), mode_reason(), 0};
    struct rn_mode mode = {(enum rn_mode_kind)rn_mode.kind, mode_name(), mode_reason(), rn_mode.ids};
    return mode;
}

/* What glibc would have in fastbins: small objects that nobody joined with their neighbours. */
enum { FAST_MOST = 64 * sizeof(size_t) / 4 }; /* M_MXFAST's default, mallopt(3) */

struct free_blocks {
    size_t fast, fast_bytes;
    size_t other;
};

static void count_free_blocks(struct free_blocks *blocks) {
    size_t cached[RN_CLASSES] = {0}, in_spans[RN_CLASSES] = {0};
    memset(blocks, 0, sizeof *blocks);
    blocks->other = backend_free_runs();
    if (rn_hardened) {
        blocks->other += hardened_free_slots();
        return;
    }
    pools_count_free(cached);
    locked_count_free(cached);
    blocks->other += middle_count_free(cached, in_spans);
    for (unsigned i = 1; i < RN_CLASSES; i++) {
        bool is_fast = size_classes[i].size <= FAST_MOST;
        blocks->fast += is_fast ? cached[i] : 0;
        blocks->fast_bytes += is_fast ? cached[i] * size_classes[i].size : 0;
        blocks->other += in_spans[i] + (is_fast ? 0 : cached[i]);
    }
}

/* mallinfo2: arena is what the heap holds of the system's memory apart from large blocks, which are hblkhd as mmapped
 * ones are in glibc; objects in caches count as free, small ones as fastbins' (fsmblks, part of fordblks); ordblks are
 * the other free objects and runs of pages. */
RN_EXPORT struct mallinfo2 mallinfo2(void) {
    struct rn_stats stats;
    struct mallinfo2 info;
    struct free_blocks blocks;
    rnStats(&stats);
    count_free_blocks(&blocks);
    memset(&info, 0, sizeof info);
    info.arena = minus(stats.resident, stats.large_in_use);
    info.hblks = stats.large_blocks;
    info.hblkhd = stats.large_in_use;
    info.ordblks = blocks.other;
    info.smblks = blocks.fast;
    info.fsmblks = blocks.fast_bytes;
    info.uordblks = minus(stats.in_use, stats.large_in_use);
    info.fordblks = minus(info.arena, info.uordblks);
    info.keepcost = stats.page_free;
    return info;
}

static int clip(size_t value) { return value > INT_MAX ? INT_MAX : (int)value; }

/* mallinfo(3): the fields are int; what does not fit is INT_MAX here rather than wrapped. */
RN_EXPORT struct mallinfo mallinfo(void) {
    struct mallinfo2 wide = mallinfo2();
    struct mallinfo info;
    memset(&info, 0, sizeof info);
    info.arena = clip(wide.arena);
    info.hblks = clip(wide.hblks);
    info.ordblks = clip(wide.ordblks);
    info.smblks = clip(wide.smblks);
    info.hblkhd = clip(wide.hblkhd);
    info.fsmblks = clip(wide.fsmblks);
    info.uordblks = clip(wide.uordblks);
    info.fordblks = clip(wide.fordblks);
    info.keepcost = clip(wide.keepcost);
    return info;
}

static void print_row(const char *name, size_t value) {
    struct line line = {.used = 0};
    line_text(&line, name);
    for (size_t i = strlen(name); i < 34; i++)
        line_text(&line, " ");
    line_number(&line, value);
    line_warn(&line);
}

void stats_print(void) {
    struct rn_stats stats;
    struct line line = {.used = 0};
    rnStats(&stats);
    line_text(&line, "mode ");
    line_text(&line, mode_name());
    line_text(&line, ": ");
    line_text(&line, mode_reason());
    line_warn(&line);
    print_row("bytes in use", stats.in_use);
    print_row("  of them in large blocks", stats.large_in_use);
    print_row("bytes free in pools", stats.pool_free);
    print_row("bytes free in transfer caches", stats.transfer_free);
    print_row("bytes free in spans", stats.span_free);
    print_row("bytes free in pages, resident", stats.page_free);
    print_row("bytes resident", stats.resident);
    print_row("bytes of metadata", stats.metadata);
    print_row("bytes given back since the start", stats.released_total);
    print_row("bytes of address space reserved", stats.reserved);
    print_row("pools", stats.pools);
}

RN_EXPORT void malloc_stats(void) { stats_print(); }

/* malloc_info(3): XML with glibc's element names where they fit, and the tiers by their own. */
RN_EXPORT int malloc_info(int options, FILE *stream) {
    struct rn_stats stats;
    struct free_blocks blocks;
    if (options != 0)
        return EINVAL;
    rnStats(&stats);
    count_free_blocks(&blocks);
    size_t free_bytes = stats.pool_free + stats.transfer_free + stats.span_free + stats.page_free;
    fprintf(stream, "<malloc version=\"rnalloc-1\">\n");
    fprintf(stream, "<mode name=\"%s\"/>\n", mode_name());
    fprintf(stream, "<heap nr=\"0\">\n");
    fprintf(stream, "<cache type=\"pools\" count=\"%zu\" size=\"%zu\"/>\n", stats.pools, stats.pool_free);
    fprintf(stream, "<cache type=\"transfer\" size=\"%zu\"/>\n", stats.transfer_free);
    fprintf(stream, "<cache type=\"spans\" size=\"%zu\"/>\n", stats.span_free);
    fprintf(stream, "</heap>\n");
    fprintf(stream, "<total type=\"fast\" count=\"%zu\" size=\"%zu\"/>\n", blocks.fast, blocks.fast_bytes);
    fprintf(stream, "<total type=\"rest\" count=\"%zu\" size=\"%zu\"/>\n", blocks.other,
            minus(free_bytes, blocks.fast_bytes));
    fprintf(stream, "<total type=\"mmap\" count=\"%zu\" size=\"%zu\"/>\n", stats.large_blocks, stats.large_in_use);
    fprintf(stream, "<total type=\"inuse\" size=\"%zu\"/>\n", stats.in_use);
    fprintf(stream, "<system type=\"current\" size=\"%zu\"/>\n", stats.resident);
    fprintf(stream, "<system type=\"metadata\" size=\"%zu\"/>\n", stats.metadata);
    fprintf(stream, "<aspace type=\"total\" size=\"%zu\"/>\n", stats.reserved);
    fprintf(stream, "<aspace type=\"mprotect\" size=\"%zu\"/>\n", stats.committed);
    fprintf(stream, "</malloc>\n");
    return 0;
}

/* mallopt(3): glibc's parameters describe glibc's heap. Those that ask for less retention are moot here; all are
 * accepted. */
RN_EXPORT int mallopt(int parameter, int value) {
    (void)parameter;
    (void)value;
    return 1;
}

void heap_check(void) {
    middle_check();
    hardened_check();
    backend_check();
}
