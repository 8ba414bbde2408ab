/* middle-faults.c: objects and large blocks while calls to the system fail, and large blocks that move. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backend/backend.h"
#include "base/os.h"
#include "middle/middle.h"
#include "pagemap/pagemap.h"
#include "tests/unit/check.h"
#include "tests/unit/cmock.h"
#include "tests/unit/script.h"

enum { SLOTS = 48, DONE_WITHOUT_FAILURE = 77 };

struct block {
    char *start;
    size_t size;
    uint64_t stamp;
};

struct blocks {
    struct block block[SLOTS];
    uint64_t random;
    unsigned long refused, moved;
};

static const struct backend_config plain = {.hugepages = true, .release = true, .retain = 1 << 20};

/* A stamp at both ends and every 64 KiB. */
static void stamp_all(const struct block *block) {
    for (size_t at = 0; at < block->size; at += 1 << 16)
        memcpy(block->start + at, &block->stamp, 8);
    memcpy(block->start + block->size - 8, &block->stamp, 8);
}

static void check_stamps(const struct block *block, size_t upto) {
    for (size_t at = 0; at < upto; at += 1 << 16)
        CHECK(memcmp(block->start + at, &block->stamp, 8) == 0);
}

static void check_zero(const struct block *block) {
    uint64_t zero = 0;
    for (size_t at = 0; at < block->size; at += 4096)
        CHECK(memcmp(block->start + at, &zero, 8) == 0);
    check_stamps(&(struct block){block->start, block->size, 0}, block->size);
    CHECK(memcmp(block->start + block->size - 8, &zero, 8) == 0);
}

static bool block_take(struct blocks *blocks, struct block *block, size_t size, size_t alignment) {
    bool zeroed = false;
    char *start = large_alloc(size, alignment, &zeroed);
    if (!start) {
        blocks->refused++;
        return false;
    }
    CHECK((uintptr_t)start % alignment == 0 && large_size(start) >= size && large_size(start) < size + RN_PAGE);
    CHECK(large_size(start + 8) == 0 && (size <= RN_PAGE || large_size(start + RN_PAGE) == 0));
    *block = (struct block){start, large_size(start), random_next(&blocks->random)};
    if (zeroed)
        check_zero(block);
    stamp_all(block);
    return true;
}

static void block_give(struct block *block) {
    check_stamps(block, block->size);
    CHECK(large_free(block->start));
    CHECK(!large_free(block->start) && large_size(block->start) == 0);
    block->start = NULL;
}

static void block_resize(struct blocks *blocks, struct block *block, size_t size) {
    size_t before = block->size;
    char *start = large_resize(block->start, size);
    if (!start) {
        CHECK(large_size(block->start) == before);
        check_stamps(block, before);
        return;
    }
    blocks->moved += start != block->start;
    block->start = start;
    block->size = large_size(start);
    CHECK(block->size >= size && block->size < size + RN_PAGE);
    check_stamps(block, before < block->size ? before : block->size);
    stamp_all(block);
}

/* What is in use is the blocks, page by page; the counters of large blocks say the same. */
static void check_counts(const struct blocks *blocks) {
    struct backend_stats stats;
    size_t bytes = 0, count = 0;
    for (const struct block *block = blocks->block; block < blocks->block + SLOTS; block++)
        if (block->start) {
            bytes += block->size;
            count++;
        }
    backend_stats(&stats);
    CHECK(stats.block_bytes == bytes && stats.blocks == count);
    CHECK(backend_in_use() == bytes || (backend_in_use() > bytes && script_losses() != 0));
    CHECK(script_others_are_intact());
    backend_check();
}

static void churn(struct blocks *blocks, unsigned count) {
    for (; count > 0; count--) {
        uint64_t r = random_next(&blocks->random);
        struct block *block = &blocks->block[r % SLOTS];
        size_t size = 1 + (r >> 16) % ((size_t)1 << (12 + (r >> 8) % 12));
        if (!block->start)
            (void)block_take(blocks, block, size, (r >> 50) % 4 ? 1 : (size_t)1 << (r >> 52) % 23);
        else if ((r >> 60) < 8)
            block_resize(blocks, block, size);
        else
            block_give(block);
        if (r % 40 == 0)
            (void)backend_release(0, r >> 7 & 1);
    }
}

static void give_all(struct blocks *blocks) {
    for (struct block *block = blocks->block; block < blocks->block + SLOTS; block++)
        if (block->start)
            block_give(block);
}

static void large(void *script) {
    static struct blocks blocks;
    if (script)
        script_play(script);
    os_init();
    backend_init(&plain);
    for (int i = 0; i < 25; i++) {
        churn(&blocks, 100);
        check_counts(&blocks);
    }
    struct script *played = script;
    CHECK(played && (played->one_in || played->always >> CALL_MREMAP & 1 || played->strict_commit) ? true
                                                                                                   : blocks.moved > 0);
    give_all(&blocks);
    check_counts(&blocks);
    script_stop();
    script_sleep(20000);
    churn(&blocks, 1000);
    give_all(&blocks);
    check_counts(&blocks);
    CHECK(backend_in_use() == 0 || script_losses() != 0);
}

static void test_large(void **state) {
    (void)state;
    assert_int_equal(child_fails(large, NULL), 0);
    assert_int_equal(child_fails(large, &(struct script){.strict_commit = true}), 0);
}

static void test_large_mremap_fails(void **state) {
    (void)state;
    assert_int_equal(child_fails(large, &(struct script){.always = 1u << CALL_MREMAP}), 0);
}

/* Before Linux 6.17 a mremap that fails has unmapped its target. */
static void test_large_mremap_unmaps(void **state) {
    (void)state;
    assert_int_equal(child_fails(large, &(struct script){.always = 1u << CALL_MREMAP, .mremap_unmaps = true}), 0);
}

/* And another thread's mapping may come to lie there. */
static void test_large_mremap_loses(void **state) {
    (void)state;
    assert_int_equal(child_fails(large, &(struct script){.always = 1u << CALL_MREMAP, .mremap_loses = true}), 0);
}

static void test_large_locked(void **state) {
    (void)state;
    assert_int_equal(child_fails(large, &(struct script){.always = 1u << CALL_DONTNEED}), 0);
}

static void test_large_chance(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed < 8; seed++)
        assert_int_equal(child_fails(large, &(struct script){.one_in = 3 + (unsigned)seed, .seed = seed << 40}), 0);
}

/* ---- Objects, each call of a reference run failing once ---- */

static size_t take_some(unsigned class_index, void **objects, size_t count) {
    size_t taken = 0;
    for (size_t got;
         taken < count && (got = middle_take(0, class_index, objects + taken, count - taken, count - taken)) != 0;
         taken += got)
        CHECK(got <= count - taken);
    for (size_t i = 0; i < taken; i++)
        memset(objects[i], 0xa5, size_classes[class_index].size);
    return taken;
}

static void reference(bool everything) {
    static void *objects[RN_CLASSES][100];
    size_t taken[RN_CLASSES];
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 1; i < RN_CLASSES; i += everything ? 1 : 3) {
            taken[i] = take_some(i, objects[i], 20);
            CHECK(!everything || taken[i] == 20);
        }
        middle_check();
        for (unsigned i = 1; i < RN_CLASSES; i += everything ? 1 : 3)
            middle_put(0, i, objects[i], taken[i]);
        middle_check();
        if (round == 0)
            middle_flush();
    }
    middle_flush();
    middle_check();
    backend_check();
    CHECK(backend_in_use() == 0);
}

static void fail_at(void *script) {
    script_play(script);
    os_init();
    backend_init(&plain);
    errno = 4711;
    reference(false);
    CHECK(errno == 4711);
    bool failed = script_failures() != 0;
    script_stop();
    reference(true);
    exit(failed ? 0 : DONE_WITHOUT_FAILURE);
}

static void test_each(void **state) {
    (void)state;
    struct script script = {.fail_at = 1};
    for (; script.fail_at < 500; script.fail_at++) {
        int status = run_child(fail_at, &script);
        if (status == DONE_WITHOUT_FAILURE << 8)
            break;
        if (status != 0)
            fail_msg("call %lu failing: status %#x: %s", script.fail_at, (unsigned)status, child_output);
    }
    assert_in_range(script.fail_at, 10, 499);
}

static void objects_by_chance(void *script) {
    script_play(script);
    os_init();
    backend_init(&plain);
    for (int i = 0; i < 10; i++) {
        reference(false);
        (void)backend_release(0, true); /* so that memory has to be asked for again */
    }
    script_stop();
    reference(true);
}

static void test_chance(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed < 6; seed++)
        assert_int_equal(
            child_fails(objects_by_chance, &(struct script){.one_in = 2 + (unsigned)seed, .seed = seed << 40}), 0);
    assert_int_equal(child_fails(objects_by_chance, &(struct script){.one_in = 3, .seed = 9, .strict_commit = true}),
                     0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_large),
        cmocka_unit_test(test_large_mremap_fails),
        cmocka_unit_test(test_large_mremap_unmaps),
        cmocka_unit_test(test_large_mremap_loses),
        cmocka_unit_test(test_large_locked),
        cmocka_unit_test(test_large_chance),
        cmocka_unit_test(test_each),
        cmocka_unit_test(test_chance),
    };
    return cmocka_run_group_tests_name("objects and large blocks, calls failing", tests, NULL, NULL);
}
