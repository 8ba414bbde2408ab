/* failmap.c: stands between the allocator and mmap, munmap, mprotect, madvise and mremap, counts the calls, and fails
 * some. Preloaded before the allocator. libc's own calls do not come by here. FAILMAP=FIRST:COUNT:ERROR     fails calls
 * FIRST..FIRST+COUNT-1 (the first call is 1), from the start of the process The functions failmap_... do the same from
 * within. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PUBLIC __attribute__((visibility("default")))

extern char **environ;
static atomic_ulong calls, failures;
static atomic_ulong first = 0, count = 0, per_mille = 0, random_state = 0;
static atomic_int error = ENOMEM, is_configured = 0;

PUBLIC unsigned long failmap_calls(void) { return atomic_load(&calls); }

PUBLIC unsigned long failmap_failures(void) { return atomic_load(&failures); }

/* Calls `from`..`from`+`many`-1, counted from now, fail with `number`. */
PUBLIC void failmap_arm(unsigned long from, unsigned long many, int number) {
    atomic_store(&is_configured, 1);
    atomic_store(&error, number);
    atomic_store(&count, many);
    atomic_store(&per_mille, 0);
    atomic_store(&first, from ? atomic_load(&calls) + from : 0);
}

/* Every call fails with this chance. */
PUBLIC void failmap_random(unsigned long seed, unsigned long chance, int number) {
    failmap_arm(0, 0, number);
    atomic_store(&random_state, seed);
    atomic_store(&per_mille, chance);
}

/* The environment is read at the first call after libc has it; before that, calls are only counted. */
static void configure(void) {
    const char *text = environ ? getenv("FAILMAP") : NULL;
    if (!environ)
        return;
    atomic_store(&is_configured, 1);
    if (!text)
        return;
    char *end;
    unsigned long from = strtoul(text, &end, 10), many = *end ? strtoul(end + 1, &end, 10) : 0;
    atomic_store(&error, *end ? (int)strtol(end + 1, NULL, 10) : ENOMEM);
    atomic_store(&count, many);
    atomic_store(&first, from);
}

static int fails(void) {
    if (!atomic_load(&is_configured))
        configure();
    unsigned long number = atomic_fetch_add(&calls, 1) + 1, from = atomic_load(&first),
                  chance = atomic_load(&per_mille);
    int is_hit = from && number >= from && number - from < atomic_load(&count);
    if (chance) {
        uint64_t z = atomic_fetch_add(&random_state, 0x9e3779b97f4a7c15u);
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        is_hit = (z >> 33) % 1000 < chance;
    }
    if (is_hit) {
        atomic_fetch_add(&failures, 1);
        errno = atomic_load(&error);
    }
    return is_hit;
}

PUBLIC void *mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset) {
    if (fails())
        return MAP_FAILED;
    return (void *)syscall(SYS_mmap, address, length, protection, flags, fd, offset);
}

PUBLIC void *mmap64(void *, size_t, int, int, int, off_t) __attribute__((alias("mmap")));

PUBLIC int munmap(void *address, size_t length) { return fails() ? -1 : (int)syscall(SYS_munmap, address, length); }

PUBLIC int mprotect(void *address, size_t length, int protection) {
    return fails() ? -1 : (int)syscall(SYS_mprotect, address, length, protection);
}

PUBLIC int madvise(void *address, size_t length, int advice) {
    return fails() ? -1 : (int)syscall(SYS_madvise, address, length, advice);
}

PUBLIC void *mremap(void *address, size_t old_length, size_t new_length, int flags, ...) {
    va_list arguments;
    va_start(arguments, flags);
    void *target = flags & MREMAP_FIXED ? va_arg(arguments, void *) : NULL;
    va_end(arguments);
    return fails() ? MAP_FAILED : (void *)syscall(SYS_mremap, address, old_length, new_length, flags, target);
}
