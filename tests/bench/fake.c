/* fake.c: an allocator whose cost, leak and faults are known, to see whether RnBench measures and finds them.
 *
 *     FAKE_ALLOC_NS, FAKE_FREE_NS    a call takes at least so long
 *     FAKE_FAULT    overlap, scribble, dirty, misaligned, lost: what goes wrong with every 100th block of 40 bytes or
 * more
 *
 * Nothing is ever reused, and every page is touched: what a workload allocates is what it leaks. Blocks have a header
 * of 16 bytes with their size.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { HEADER = 16, CHUNK = 64 << 20, SMALLEST_FAULTY = 40, FAULT_PERIOD = 100 };

#define EXPORT __attribute__((visibility("default")))

EXPORT void *malloc(size_t size);
EXPORT void *calloc(size_t count, size_t size);
EXPORT void *realloc(void *block, size_t size);
EXPORT void *aligned_alloc(size_t alignment, size_t size);
EXPORT void free(void *block);

static char *place, *end;
static int lock;
static unsigned served;
static char *previous;
static long alloc_ns = -1, free_ns;
static const char *fault = "";

static long number_of(const char *name) {
    const char *text = getenv(name);
    return text ? atol(text) : 0;
}

static void begin(void) {
    if (alloc_ns >= 0)
        return;
    fault = getenv("FAKE_FAULT") ? getenv("FAKE_FAULT") : "";
    free_ns = number_of("FAKE_FREE_NS");
    alloc_ns = number_of("FAKE_ALLOC_NS");
}

static long now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000L + now.tv_nsec;
}

static void spend(long ns) {
    for (long start = ns > 0 ? now_ns() : 0; ns > 0 && now_ns() - start < ns;)
        ;
}

static char *bump(size_t alignment, size_t size) {
    while (__atomic_exchange_n(&lock, 1, __ATOMIC_ACQUIRE))
        ;
    char *block = (char *)(((uintptr_t)place + HEADER + alignment - 1) & ~(alignment - 1));
    if (!place || block + size > end) {
        size_t chunk = size + alignment + HEADER > CHUNK ? size + alignment + HEADER : CHUNK;
        place = mmap(NULL, chunk, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        end = place + chunk;
        (void)madvise(place, chunk, MADV_NOHUGEPAGE); /* each page is one fault, and resident by itself, everywhere */
        block = (char *)(((uintptr_t)place + HEADER + alignment - 1) & ~(alignment - 1));
    }
    place = (char *)(((uintptr_t)block + size + 15) & ~(uintptr_t)15);
    __atomic_store_n(&lock, 0, __ATOMIC_RELEASE);
    memcpy(block - HEADER, &size, sizeof size);
    return block;
}

static size_t size_of(const void *block) {
    size_t size;
    memcpy(&size, (const char *)block - HEADER, sizeof size);
    return size;
}

static int faulty(const char *kind, size_t size) {
    return size >= SMALLEST_FAULTY && strcmp(fault, kind) == 0 && ++served % FAULT_PERIOD == 0;
}

static char *serve(size_t alignment, size_t size) {
    begin();
    char *block = bump(alignment, size);
    for (size_t at = 0; at < size; at += 4096)
        block[at] = 0;
    if (previous && faulty("scribble", size))
        previous[1] ^= 1;
    previous = size >= SMALLEST_FAULTY ? block : NULL;
    return block;
}

void *malloc(size_t size) {
    begin();
    spend(alloc_ns);
    if (previous && faulty("overlap", size))
        return previous + 16;
    char *block = serve(16, size);
    return faulty("misaligned", size) ? block + 8 : block;
}

void *calloc(size_t count, size_t size) {
    char *block = serve(16, count * size);
    if (faulty("dirty", count * size))
        block[count * size - 1] = 1;
    return block;
}

void *realloc(void *block, size_t size) {
    if (!block)
        return malloc(size);
    size_t old = size_of(block), kept = old < size ? old : size;
    char *moved = serve(16, size);
    memcpy(moved, block, kept);
    if (faulty("lost", kept))
        moved[kept - 1] ^= 1;
    return moved;
}

void *aligned_alloc(size_t alignment, size_t size) {
    char *block = serve(alignment < 16 ? 16 : alignment, size);
    return faulty("misaligned", size) ? block + 8 : block;
}

void free(void *block) {
    if (block)
        spend(free_ns);
}
