/* pool_locked.c: malloc and free without restartable sequences. Stands in for pool_ARCH.S, with the same names, where a
 * tool must see every access: ThreadSanitizer does not see into assembly (make tsan). Every thread is one without an
 * area, so that locked.c serves all; vfork and syscall then need no care, and are the C library's. */
#include "frontend/alloc.h"
#include "frontend/pool.h"
#include "pagemap/pagemap.h"

/* Threads get areas when they are registered; here that is undone at each entry. */
static void leave_pools(void) {
    if (library_is_ready())
        rn_thread.area = &rn_no_area;
}

RN_EXPORT void *rnAlloc(size_t size) {
    leave_pools();
    return rn_alloc_slow(size, class_of(size));
}

RN_EXPORT void rnFree(void *block) {
    leave_pools();
    if (block)
        rn_free_slow(block, pagemap_tag(block));
}

void *rn_new(size_t size) {
    leave_pools();
    return rn_new_slow(size, class_of(size));
}

RN_EXPORT void *malloc(size_t size) __attribute__((alias("rnAlloc"), malloc, alloc_size(1)));
RN_EXPORT void free(void *block) __attribute__((alias("rnFree")));
/* The operators that the others stand on (cxx.c). */
RN_EXPORT void *_Znwm(size_t size) __attribute__((weak, alias("rn_new")));
RN_EXPORT void _ZdlPv(void *block) __attribute__((weak, alias("rnFree")));
RN_EXPORT void _ZdlPvSt11align_val_t(void *block) __attribute__((weak, alias("rnFree")));

void *rn_alloc_class(size_t size, unsigned class_index) {
    leave_pools();
    return rn_alloc_slow(size, class_index);
}

/* No thread has a pool, so nothing is done: as the assembly answers a thread that has none. */
size_t rn_push_batch(unsigned class_index, void *const *objects, size_t count, struct area *area) {
    (void)class_index, (void)objects, (void)count, (void)area;
    return 0;
}

size_t rn_pop_batch(unsigned class_index, void **objects, size_t count, struct area *area) {
    (void)class_index, (void)objects, (void)count, (void)area;
    return 0;
}

int rn_set_end(unsigned class_index, uint32_t end, struct pool *pool, struct area *area) {
    (void)class_index, (void)end, (void)pool, (void)area;
    return 0;
}

int rn_move_bin(unsigned class_index, struct area *area, struct pool *pool, uint32_t old_base, uint32_t new_base) {
    (void)class_index, (void)area, (void)pool, (void)old_base, (void)new_base;
    return 0;
}
