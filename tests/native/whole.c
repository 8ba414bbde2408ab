/* whole.c: the native API of rnalloc.h, linked to the shared or the static library. "whole secure" only tells
 * AT_SECURE. */
#define _GNU_SOURCE
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <rnalloc.h>
#include <sys/auxv.h>
#include "../lib/model.h"
#include "../lib/proc.h"
#include "../lib/shadow.h"
#include "../lib/tap.h"

static size_t opaque(size_t size) {
    OPAQUE(size);
    return size;
}

static void single_blocks(void) {
    unsigned wrong = 0, good = 0;
    for (size_t size = 0; size < 3000000; size += 1 + size / 7) {
        unsigned char *p = rnAlloc(size), *q = rnCalloc(1, size);
        struct rn_sized_block s = rnAllocSized(size);
        wrong += !p || !q || !s.block || (uintptr_t)p % (size > 8 ? 16 : 8) || (uintptr_t)q % (size > 8 ? 16 : 8) ||
                 (uintptr_t)s.block % (size > 8 ? 16 : 8);
        wrong += rnUsableSize(p) < size || rnUsableSize(q) < size || s.size < size || rnUsableSize(s.block) != s.size;
        good += rnGoodSize(size) < size || rnGoodSize(size) > rnUsableSize(p) ||
                rnUsableSize(p) > rnGoodSize(size) + rnGoodSize(size) / 8 || malloc_usable_size(p) != rnUsableSize(p);
        for (size_t i = 0; i < size; i++)
            wrong += q[i] != 0;
        memset(p, 1, rnUsableSize(p));
        memset(s.block, 2, s.size);
        p = rnRealloc(p, size + 1000);
        for (size_t i = 0; i < size; i++)
            wrong += p[i] != 1;
        rnFree(p);
        free(q);
        rnFreeSized(s.block, size);
    }
    OK(wrong == 0, "rnAlloc, rnCalloc, rnAllocSized, rnRealloc give sound blocks (%u wrong)", wrong);
    OK(good == 0, "rnGoodSize is a bound of rnUsableSize that is kept to an eighth (%u times not)", good);
    OK(rnUsableSize(NULL) == 0, "rnUsableSize(NULL) is 0");
    void *a = rnAlloc(0), *b = rnAlloc(0);
    OK(a && b && a != b, "rnAlloc(0) is unique");
    OK(rnRealloc(a, 0) == NULL, "rnRealloc(block, 0) frees and gives NULL");
    rnFree(b);
    errno = 4711;
    rnFree(NULL);
    rnFreeSized(NULL, 10);
    rnFree(rnRealloc(NULL, 100));
    OK(errno == 4711, "rnFree ignores NULL and keeps errno");
    OK(rnGoodSize(opaque(SIZE_MAX)) == 0 && rnGoodSize((size_t)PTRDIFF_MAX + 1) == 0,
       "rnGoodSize of an impossible size is 0");
}

static void aligned_blocks(void) {
    unsigned wrong = 0;
    for (size_t alignment = 1; alignment <= 64 << 20; alignment *= 2)
        for (size_t size = 0; size < 300000; size += 1 + size * 2) {
            char *p = rnAllocAligned(alignment, size);
            wrong += !p || (uintptr_t)p % alignment || rnUsableSize(p) < size;
            memset(p, 1, size);
            rnFree(p);
        }
    OK(wrong == 0, "rnAllocAligned aligns to 1 up to 64 MiB");
    static const size_t odd[] = {0, 3, 5, 6, 7, 9, 24, 100, 4095, SIZE_MAX, SIZE_MAX / 2};
    for (unsigned i = 0; i < sizeof odd / sizeof *odd; i++) {
        void *p = (errno = 0, rnAllocAligned(opaque(odd[i]), 100));
        wrong += p != NULL || errno != EINVAL;
    }
    OK(wrong == 0, "rnAllocAligned says EINVAL to what is no power of two");
}

static void failures(void) {
    static const size_t sizes[] = {(size_t)PTRDIFF_MAX, (size_t)PTRDIFF_MAX + 1, SIZE_MAX - 4096, SIZE_MAX - 8,
                                   SIZE_MAX};
    char *kept = rnAlloc(100);
    void *batch[4] = {0};
    unsigned wrong = 0;
    strcpy(kept, "kept");
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t size = opaque(sizes[i]);
        void *p = (errno = 0, rnAlloc(size));
        wrong += p != NULL || errno != ENOMEM;
        p = (errno = 0, rnCalloc(size, 1));
        wrong += p != NULL || errno != ENOMEM;
        p = (errno = 0, rnCalloc(size, 8));
        wrong += p != NULL || errno != ENOMEM;
        p = (errno = 0, rnAllocAligned(64, size));
        wrong += p != NULL || errno != ENOMEM;
        p = (errno = 0, rnRealloc(kept, size));
        wrong += p != NULL || errno != ENOMEM;
        struct rn_sized_block s = (errno = 0, rnAllocSized(size));
        wrong += s.block != NULL || s.size != 0 || errno != ENOMEM;
        size_t got = (errno = 0, rnAllocBatch(size, batch, 4));
        wrong += got != 0 || errno != ENOMEM;
    }
    OK(wrong == 0, "impossible sizes give NULL and ENOMEM in every function (%u do not)", wrong);
    OK(strcmp(kept, "kept") == 0, "rnRealloc leaves the block as it was");
    rnFree(kept);
}

static void batches(void) {
    enum { MOST = 3000 };
    static void *blocks[MOST];
    unsigned wrong = 0;
    for (size_t size = 0; size < 400000; size = size * 3 + 1)
        for (size_t count = 0; count <= MOST; count = count * 5 + 1) {
            if (size * count > 200 << 20)
                break;
            size_t got = rnAllocBatch(size, blocks, count);
            wrong += got != count;
            for (size_t i = 0; i < got; i++) {
                size_t room = rnUsableSize(blocks[i]);
                wrong += !blocks[i] || room < size || (uintptr_t)blocks[i] % (size > 8 ? 16 : 8) ||
                         shadow_claim(blocks[i], room);
                shadow_fill(blocks[i], room, i);
            }
            for (size_t i = 0; i < got; i++)
                wrong += !shadow_is_filled(blocks[i], rnUsableSize(blocks[i]), i) ||
                         shadow_unclaim(blocks[i], rnUsableSize(blocks[i]));
            errno = 4711;
            rnFreeBatch(blocks, got);
            wrong += errno != 4711;
        }
    OK(wrong == 0, "batches give distinct sound blocks (%u wrong)", wrong);
    for (size_t i = 0; i < MOST; i++)
        blocks[i] = i % 7 == 0 ? NULL : i % 2 ? rnAlloc(i * 5) : malloc(i * 300);
    errno = 4711;
    rnFreeBatch(blocks, MOST);
    OK(errno == 4711, "rnFreeBatch takes mixed sizes and NULLs and keeps errno");
    rnFreeBatch(blocks, 0);
}

static void figures(void) {
    enum { N = 50000 };
    static void *blocks[N];
    struct rn_stats before, full, after;
    rnReleaseMemory(0);
    size_t rss = proc_rss();
    rnStats(&before);
    for (int i = 0; i < N; i++)
        memset(blocks[i] = rnAlloc(1024), 1, 1024);
    void *large = rnAlloc(20 << 20);
    memset(large, 1, 20 << 20);
    rnStats(&full);
    size_t asked = (size_t)N * 1024 + (20 << 20), used = full.in_use - before.in_use;
    OK(used >= asked && used <= asked + asked / 8, "in_use: %zu asked, %zu counted", asked, used);
    OK(full.large_blocks == before.large_blocks + 1 && full.large_in_use - before.large_in_use >= 20 << 20,
       "large blocks are counted");
    OK(full.reserved >= full.committed && full.committed >= full.in_use && full.resident <= full.committed,
       "reserved >= committed >= in use");
    OK(full.metadata > 0 && full.metadata < asked / 8, "metadata: %zu bytes", full.metadata);
    OK((full.pools > 0) == (rnMode().kind != RN_MODE_HARDENED) && full.mappings > 0,
       "pools and mappings are counted (%zu, %zu)", full.pools, full.mappings);
    for (int i = 0; i < N; i++)
        rnFree(blocks[i]);
    rnFree(large);
    rnStats(&after);
    OK(after.in_use <= before.in_use + 65536, "in_use falls back (%zu, %zu)", before.in_use, after.in_use);
    size_t resident = proc_rss(), given = rnReleaseMemory(0), now = proc_rss();
    rnStats(&after);
    OK(now <= rss + 3 * MIB, "rnReleaseMemory(0) gives memory back (%zu KiB before, %zu freed, %zu now)", rss >> 10,
       resident >> 10, now >> 10);
    OK(given + 2 * MIB >= resident - now && given <= resident - now + 2 * MIB, "it tells how much (%zu KiB of %zu)",
       given >> 10, (resident - now) >> 10);
    OK(after.released_total >= asked - 2 * MIB, "released_total: %zu", after.released_total);
    OK(after.pool_free + after.transfer_free + after.span_free <= 2 * MIB, "caches are empty after it");
    for (int i = 0; i < N; i++)
        memset(blocks[i] = rnAlloc(1024), 1, 1024);
    for (int i = 0; i < N; i++)
        rnFree(blocks[i]);
    rnReleaseMemory(32 * MIB);
    rnStats(&after);
    OK(after.page_free + after.pool_free + after.transfer_free + after.span_free <= 33 * MIB,
       "rnReleaseMemory(keep) leaves at most that");
}

static void *release_in_thread(void *unused) {
    for (int i = 0; i < 200; i++)
        rnReleaseMemory((size_t)(i % 4) * MIB);
    return unused;
}

/* The caches are emptied under the feet of working threads, and statistics are read. */
static void read_statistics(unsigned thread, unsigned operation) {
    struct rn_stats stats;
    if ((operation + thread * 13) % 512 == 0) {
        rnStats(&stats);
        if (stats.in_use > stats.reserved)
            abort();
    }
    if ((operation + thread * 13) % 5000 == 0)
        malloc_trim(0);
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "secure") == 0) {
        rnFree(rnAlloc(100));
        printf("secure %lu\n", getauxval(AT_SECURE));
        return 0;
    }
    tap_check_subject();
    if (shadow_init() != 0)
        return 3;
    single_blocks();
    aligned_blocks();
    failures();
    batches();
    figures();
    struct rn_mode mode = rnMode();
    OK(mode.name && mode.reason && (mode.pools > 0) == (mode.kind != RN_MODE_HARDENED), "rnMode: %s, %s, %u pools",
       mode.name, mode.reason, mode.pools);
    pthread_t releaser;
    struct model_plan plan = {.threads = 12,
                              .operations = 60000,
                              .slots = 150,
                              .largest = 60000,
                              .seed = 51,
                              .each_operation = read_statistics};
    if (pthread_create(&releaser, NULL, release_in_thread, NULL) != 0)
        return 3;
    MODEL_OK(model_run(&plan), "with releases and statistics beside");
    pthread_join(releaser, NULL);
    return tap_done();
}
