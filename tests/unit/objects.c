#include "tests/unit/objects.h"

#include <stdlib.h>
#include <string.h>

#include "backend/backend.h"
#include "middle/middle.h"
#include "pagemap/pagemap.h"
#include "tests/unit/check.h"

_Thread_local unsigned objects_id;

void heap_settled(void) {
    middle_check();
    backend_check();
}

void objects_take(unsigned class_index, void **objects, size_t count, uint64_t stamp) {
    size_t size = size_classes[class_index].size;
    for (size_t taken = 0; taken < count;) {
        size_t got = middle_take(objects_id, class_index, objects + taken, count - taken, count - taken);
        CHECK(got > 0 && got <= count - taken);
        taken += got;
    }
    for (size_t i = 0; i < count; i++) {
        char *object = objects[i];
        unsigned own = pagemap_tag(object);
        size_t room = size_classes[own].size;
        CHECK(own >= class_index && room <= size + size / 8 && pagemap_tag(object + room - 1) == own);
        CHECK(object_is_start(own, object) && !object_is_start(own, object + room - 1) &&
              !object_is_start(own, object + 1));
        CHECK((uintptr_t)object % (size > 8 ? 16 : 8) == 0 && !object_is_free(own, object));
        CHECK(large_size(object) == 0);
        memcpy(object, &stamp, 8);
        memcpy(object + size - 8, &stamp, 8);
    }
}

void objects_put(unsigned class_index, void **objects, size_t count, uint64_t stamp) {
    size_t size = size_classes[class_index].size;
    for (size_t i = 0; i < count; i++)
        CHECK(memcmp(objects[i], &stamp, 8) == 0 && memcmp((char *)objects[i] + size - 8, &stamp, 8) == 0);
    middle_put(objects_id, class_index, objects, count);
}

static int by_address(const void *a, const void *b) {
    uintptr_t left = (uintptr_t) * (void *const *)a, right = (uintptr_t) * (void *const *)b;
    return (left > right) - (left < right);
}

void check_disjoint(void **objects, size_t count, size_t size) {
    qsort(objects, count, sizeof *objects, by_address);
    for (size_t i = 1; i < count; i++)
        CHECK((uintptr_t)objects[i] - (uintptr_t)objects[i - 1] >= size);
}

void *block_of_domains;

void domains_begin(void) {
    bool zeroed;
    middle_init(64);
    middle_follow(true);
    CHECK((block_of_domains = large_alloc((size_t)256 << 20, 1, &zeroed)) != NULL);
    middle_trim(); /* domains are counted */
}

void domains_end(void) {
    middle_flush();
    middle_check();
    backend_check();
    CHECK(large_free(block_of_domains));
    CHECK(backend_in_use() == 0);
}
