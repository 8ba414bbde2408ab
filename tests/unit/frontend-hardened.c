/* frontend-hardened.c: hardened mode over a system that says no, and what it promises beside messages: places at
 * random, reuse delayed, zeros, guards, figures. tests/misuse has the messages. Each test is a child. */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "backend/backend.h"
#include "base/random.h"
#include "frontend/frontend.h"
#include "rnalloc.h"
#include "tests/unit/check.h"
#include "tests/unit/cmock.h"
#include "tests/unit/script.h"

enum { SLOTS = 200 };

static void begin(void) {
    CHECK(setenv("RNALLOC_OPTIONS", "hardened=1", 1) == 0);
    CHECK(rnMode().kind == RN_MODE_HARDENED && strcmp(rnMode().name, "hardened") == 0 && rnMode().pools == 0);
}

static void check_nothing_in_use(void) {
    (void)rnReleaseMemory(0);
    heap_check();
    struct rn_stats stats;
    rnStats(&stats);
    CHECK(stats.in_use == 0 && stats.span_free == 0 && stats.large_blocks == 0 && stats.large_in_use == 0);
    CHECK(stats.page_free == 0 && stats.pool_free == 0 && backend_in_use() == 0);
}

/* ---- ChaCha ---- */

/* draft-strombergson-chacha-test-vectors-01, TC1: 8 rounds, key and nonce of zeros. */
static void test_chacha(void **state) {
    (void)state;
    static const unsigned char expected[] = {0x3e, 0x00, 0xef, 0x2f, 0x89, 0x5f, 0x40, 0xd6,
                                             0x7f, 0x5b, 0xb8, 0xe8, 0x1f, 0x09, 0xa5, 0xa1};
    struct random random = {.left = 0};
    uint32_t words[4];
    for (int i = 0; i < 4; i++)
        words[i] = random_next_word(&random);
    assert_memory_equal(words, expected, sizeof expected);
    unsigned counts[10] = {0};
    random_seed(&random);
    for (int i = 0; i < 10000; i++)
        counts[random_below(&random, 10)]++;
    for (int i = 0; i < 10; i++)
        assert_in_range(counts[i], 800, 1200);
}

/* ---- Churn under a script ---- */

struct block {
    unsigned char *start;
    size_t size;
    unsigned char stamp;
};

static struct block blocks[SLOTS];

static void check_block(const struct block *block, size_t size) {
    CHECK((uintptr_t)block->start % 16 == 0 && rnUsableSize(block->start) == block->size);
    for (size_t i = 0; i < size; i += 1 + size / 50)
        CHECK(block->start[i] == block->stamp);
}

static void stamp(struct block *block, uint64_t random) {
    block->stamp = (unsigned char)(random >> 40 | 1);
    memset(block->start, block->stamp, block->size);
}

static size_t some_size(uint64_t random) { return (random >> 20) % ((size_t)1 << (4 + (random >> 8) % 18)); }

static void block_step(struct block *block, uint64_t random) {
    size_t size = some_size(random);
    if (!block->start) {
        size_t alignment = (size_t)1 << (random >> 55) % 15;
        block->start = random & 1 << 19 ? rnCalloc(1, size) : rnAllocAligned(alignment, size);
        block->size = size;
        if (!block->start)
            return;
        for (size_t i = 0; random & 1 << 19 && i < size; i++)
            CHECK(block->start[i] == 0);
        CHECK(random & 1 << 19 || (uintptr_t)block->start % alignment == 0);
        stamp(block, random);
    } else if (random & 1 << 18) {
        check_block(block, block->size);
        unsigned char *resized = rnRealloc(block->start, size + 1);
        if (!resized)
            return;
        block->start = resized;
        size_t kept = size + 1 < block->size ? size + 1 : block->size;
        block->size = size + 1;
        check_block(block, kept);
        stamp(block, random);
    } else {
        check_block(block, block->size);
        rnFree(block->start);
        block->start = NULL;
    }
}

static unsigned churn(unsigned steps, uint64_t seed) {
    unsigned live = 0;
    for (unsigned i = 0; i < steps; i++) {
        uint64_t random = random_next(&seed);
        struct block *block = &blocks[random % SLOTS];
        block_step(block, random);
        live += block->start != NULL;
        if (random >> 54 == 0)
            (void)rnReleaseMemory(0);
    }
    return live;
}

static void free_all(void) {
    for (struct block *block = blocks; block < blocks + SLOTS; block++) {
        if (block->start)
            check_block(block, block->size);
        rnFree(block->start);
        block->start = NULL;
    }
}

/* What was refused is NULL, what is live stays whole, and when the system gives again everything works and nothing is
 * lost. */
static void scripted(void *script) {
    const struct script *played = script;
    script_play(played);
    begin();
    (void)churn(6000, 7);
    heap_check();
    script_stop();
    script_sleep(20000);
    CHECK(played->one_in == 0 || script_failures() > 10);
    CHECK(churn(3000, 11) > 1000);
    heap_check();
    free_all();
    check_nothing_in_use();
}

static void test_scripts(void **state) {
    (void)state;
    struct script scripts[] = {
        {.one_in = 0},
        {.one_in = 3, .seed = 1},
        {.one_in = 10, .seed = 2},
        {.always = 1 << CALL_DONTNEED}, /* locked memory */
        {.always = 1 << CALL_ADVICE},
        {.always = 1 << CALL_MREMAP},
        {.strict_commit = true},
        {.strict_commit = true, .one_in = 10, .seed = 3},
        {.address_limit = (size_t)512 << 20},
        {.page_size = 16 << 10},
        {.page_size = 64 << 10},
        {.page_size = 64 << 10, .one_in = 10, .seed = 4},
    };
    for (unsigned i = 0; i < sizeof scripts / sizeof *scripts; i++)
        if (child_fails(scripted, &scripts[i]))
            fail_msg("script %u", i);
}

/* Every single call of the first steps fails once. */
static void failing_call(void *number) {
    struct script script = {.fail_at = *(unsigned long *)number};
    script_play(&script);
    begin();
    (void)churn(300, 5);
    script_stop();
    CHECK(churn(300, 6) > 50);
    free_all();
    check_nothing_in_use();
}

static void test_every_call(void **state) {
    (void)state;
    for (unsigned long n = 1; n <= 60; n++)
        if (child_fails(failing_call, &n))
            fail_msg("call %lu", n);
}

/* ---- Placement and reuse ---- */

static void placement(void *unused) {
    enum { N = 200 };
    (void)unused;
    begin();
    char *at[N];
    unsigned ascending = 0, adjacent = 0;
    for (int i = 0; i < N; i++)
        at[i] = rnAlloc(40);
    for (int i = 1; i < N; i++) {
        ascending += at[i] > at[i - 1];
        adjacent += at[i] - at[i - 1] == 48 || at[i - 1] - at[i] == 48;
    }
    CHECK(ascending > N / 4 && ascending < 3 * N / 4 && adjacent < N / 10);
    /* None of the last 300 freed blocks of a size comes back at once: more than 600 of it wait. */
    char *freed = at[7];
    rnFree(freed);
    unsigned after = 0;
    for (int i = 0; i < 300; i++) {
        char *p = rnAlloc(40);
        after += p == freed;
        rnFree(p);
    }
    CHECK(after == 0);
    /* And none of a large size. */
    char *large = rnAlloc(1 << 20);
    rnFree(large);
    for (int i = 0; i < 50; i++) {
        char *p = rnAlloc(1 << 20);
        CHECK(p != large);
        rnFree(p);
    }
}

/* A child and its parent, and two children, choose different places. */
static void forked(void *unused) {
    (void)unused;
    begin();
    rnFree(rnAlloc(40));
    uintptr_t sums[3];
    int ends[2];
    CHECK(pipe(ends) == 0);
    for (int child = 0; child < 3; child++) {
        pid_t pid = child < 2 ? fork() : 0;
        if (pid == 0) {
            uintptr_t sum = 0;
            for (unsigned i = 1; i <= 50; i++)
                sum += i * (uintptr_t)rnAlloc(40);
            CHECK(write(ends[1], &sum, sizeof sum) == sizeof sum);
            if (child < 2)
                _exit(0);
        } else {
            CHECK(waitpid(pid, NULL, 0) == pid);
        }
    }
    CHECK(read(ends[0], sums, sizeof sums) == sizeof sums);
    CHECK(sums[0] != sums[1] && sums[1] != sums[2] && sums[0] != sums[2]);
}

/* ---- Contents ---- */

static void zeroed(void *unused) {
    (void)unused;
    begin();
    for (size_t size = 1; size < 200000; size = size * 3 + 1) {
        unsigned char *p = rnAlloc(size);
        memset(p, 0xa5, size);
        rnFree(p);
        for (size_t i = 0; i < size; i++)
            CHECK(p[i] == 0);
        p = rnAlloc(size);
        p = rnRealloc(p, size + 3); /* where it grows in place, what it gains must not tell the canary */
        for (size_t i = size; i < size + 3; i++)
            CHECK(p[i] == 0);
        rnFree(p);
    }
}

static bool faults(volatile char *at) {
    pid_t pid = fork();
    if (pid == 0) {
        (void)signal(SIGSEGV, SIG_DFL);
        (void)*at;
        _exit(0);
    }
    int status;
    CHECK(waitpid(pid, &status, 0) == pid);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV;
}

static void guards(void *unused) {
    (void)unused;
    begin();
    for (size_t size = 300000; size < 20 << 20; size = size * 3 + 16 - size % 16) {
        char *p = rnAlloc(size);
        CHECK(!faults(p) && !faults(p + size - 1));
        CHECK(faults(p + size) && faults(p + size + 4096) && faults(p - RN_PAGE));
        rnFree(p);
        CHECK(faults(p) && faults(p + size / 2));
    }
    char *aligned = rnAllocAligned(1 << 20, 300000);
    CHECK((uintptr_t)aligned % (1 << 20) == 0 && faults(aligned + round_up(300000, RN_PAGE)));
    /* A guard behind every 32 KiB of small blocks. */
    char *p = rnAlloc(1000);
    unsigned found = 0;
    for (size_t at = 0; at < 5 * RN_PAGE; at += RN_PAGE)
        found += faults(p + at);
    CHECK(found == 1);
    rnFree(aligned);
    rnFree(p);
    check_nothing_in_use();
}

/* With more large blocks than guards: those without have a canary there instead, and all goes back. */
static void many_guards(void *unused) {
    enum { N = 9000 };
    (void)unused;
    static char *many[N];
    begin();
    for (int i = 0; i < N; i++)
        CHECK((many[i] = rnAlloc(300000)) != NULL);
    CHECK(faults(many[0] + 300000) && !faults(many[N - 1] + 300000));
    for (int i = 0; i < N; i++)
        rnFree(many[i]);
    check_nothing_in_use();
}

/* A large buffer that grows and shrinks by little keeps its contents, and nothing is lost of what moved. */
static void grown(void *unused) {
    (void)unused;
    begin();
    size_t size = 2 << 20;
    unsigned char *p = rnAlloc(size);
    memset(p, 1, size);
    while (size < 6 << 20) {
        p = rnRealloc(p, size + 5000);
        CHECK(p && p[0] == 1 && p[size - 1] == 1 && rnUsableSize(p) == size + 5000);
        memset(p + size, 1, 5000);
        size += 5000;
    }
    while (size > 1 << 20) {
        p = rnRealloc(p, size -= 77777);
        CHECK(p && p[0] == 1 && p[size - 1] == 1 && rnUsableSize(p) == size);
    }
    rnFree(p);
    check_nothing_in_use();
}

static void figures(void *unused) {
    enum { N = 1000 };
    (void)unused;
    static char *many[N];
    struct rn_stats stats;
    begin();
    for (int i = 0; i < N; i++)
        many[i] = rnAlloc(1000); /* 1008 bytes with the canary */
    char *large = rnAlloc(1 << 20);
    rnStats(&stats);
    CHECK(stats.large_blocks == 1 && stats.large_in_use == 1 << 20);
    CHECK(stats.in_use - stats.large_in_use >= N * 1008 && stats.in_use - stats.large_in_use <= N * 1024);
    CHECK(stats.resident >= stats.in_use && stats.resident <= stats.committed && stats.pools == 0);
    size_t before = stats.resident;
    rnFree(large);
    rnStats(&stats);
    CHECK(stats.large_blocks == 0 && stats.large_in_use == 0 && stats.resident + (1 << 20) == before);
    for (int i = 0; i < N; i++)
        rnFree(many[i]);
    rnStats(&stats);
    CHECK(stats.in_use == 0);
    check_nothing_in_use();
}

static void test_promises(void **state) {
    (void)state;
    assert_int_equal(child_fails(placement, NULL), 0);
    assert_int_equal(child_fails(forked, NULL), 0);
    assert_int_equal(child_fails(zeroed, NULL), 0);
    assert_int_equal(child_fails(guards, NULL), 0);
    assert_int_equal(child_fails(many_guards, NULL), 0);
    assert_int_equal(child_fails(grown, NULL), 0);
    assert_int_equal(child_fails(figures, NULL), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chacha),
        cmocka_unit_test(test_scripts),
        cmocka_unit_test(test_every_call),
        cmocka_unit_test(test_promises),
    };
    return cmocka_run_group_tests_name("frontend-hardened", tests, NULL, NULL);
}
