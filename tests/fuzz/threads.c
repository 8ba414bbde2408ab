/* threads.c: see threads.h. */
#include "tests/fuzz/threads.h"

#include "frontend/frontend.h"
#include "tests/fuzz/fuzz.h"

static struct area areas[ACTORS - 1];

void actors_begin(void) {
    for (uint32_t i = 0; i < ACTORS - 1; i++)
        areas[i] = (struct area){.cpu_id_start = i, .cpu_id = (int32_t)i, .mm_cid = i};
    CHECK(rn_mode.ids >= ACTORS - 1);
    actor_switch(0);
}

void actor_switch(unsigned actor) { rn_thread.area = actor < ACTORS - 1 ? &areas[actor] : &rn_no_area; }

void caches_empty(void) {
    for (unsigned i = 0; i < ACTORS; i++) {
        actor_switch(i);
        (void)pools_drain(true);
    }
    (void)locked_drain();
    (void)middle_flush();
    actor_switch(0);
}

void pools_check(void) {
    for (unsigned id = 0; id < ACTORS - 1; id++) {
        struct pool *pool = atomic_load(&rn_fast.pool_of[id]);
        if ((const void *)pool == &rn_closed_pool)
            continue; /* the id was never used */
        CHECK(pool_open_for(pool) == id);
        size_t bytes = 0;
        for (unsigned i = 1; i < RN_CLASSES; i++) {
            const struct bin_room *room = &pool->room[i];
            uint32_t current = bin_current(pool, i), end = bin_end(pool, i);
            CHECK(room->base <= current && current <= room->base + SLOT * room->slots);
            CHECK(room->capacity == 0 ? end <= room->base : end == room->base + SLOT * room->capacity);
            CHECK(room->capacity == 0 || current <= end);
            CHECK(room->capacity <= room->slots || room->capacity == 0);
            void **mark = (void **)(void *)((char *)pool + room->base);
            CHECK(*mark == (char *)mark + 1);
            for (void **slot = mark + 1; slot <= mark + (current - room->base) / SLOT; slot++)
                CHECK(((uintptr_t)*slot & 7) == 0 && *slot);
            bytes += room->capacity * (size_t)size_classes[i].size;
        }
        CHECK(bytes == pool->capacity_bytes && pool->next_free <= pool->committed && pool->committed <= pool->limit);
    }
}
