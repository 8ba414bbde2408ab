/* cancel.c: no function of the allocator is a cancellation point. A thread with a cancellation pending uses each of
 * them, the ones that report and the ones that give memory back too, and is cancelled only where it asks to be. */
#define _GNU_SOURCE
#include <malloc.h>
#include <pthread.h>
#include "../lib/proc.h"
#include "../lib/tap.h"

static int report = -1; /* what was written to stderr meanwhile */
static int passed;      /* the steps that the thread came through */

static void use_blocks(void) {
    static const size_t sizes[] = {1, 100, 5000, 70000, 3 << 20, 80 << 20};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char *p = malloc(sizes[i]), *q = calloc(1, sizes[i]), *r = NULL;
        int error = posix_memalign((void **)&r, 4096, sizes[i]);
        OPAQUE(p);
        if (!p || !q || error)
            exit(3);
        memset(p, 1, sizes[i]);
        p = realloc(p, sizes[i] * 2);
        free(p);
        free(q);
        free(r);
    }
}

static void *use_while_cancelled(void *unused) {
    pthread_cancel(pthread_self());
    use_blocks();
    passed++;
    malloc_trim(0);
    passed++;
    (void)mallinfo2();
    (void)malloc_usable_size(unused);
    passed++;
    malloc_stats();
    passed++;
    use_blocks();
    malloc_trim(0);
    passed++;
    pthread_testcancel();
    passed++;
    return unused;
}

/* With stderr in a file, so that the claims can read what malloc_stats wrote. */
static int cancel_one(void) {
    char name[] = "/tmp/rnalloc-cancel-XXXXXX";
    int kept = dup(STDERR_FILENO);
    pthread_t thread;
    void *result = NULL;
    report = mkstemp(name);
    if (report < 0 || kept < 0 || unlink(name) != 0 || dup2(report, STDERR_FILENO) < 0)
        return 3;
    if (pthread_create(&thread, NULL, use_while_cancelled, NULL) != 0)
        return 3;
    pthread_join(thread, &result);
    dup2(kept, STDERR_FILENO);
    close(kept);
    OK(passed == 5, "a thread with a cancellation pending comes through every call (%d of 5 steps)", passed);
    OK(result == PTHREAD_CANCELED, "and is cancelled where it asks to be");
    return 0;
}

int main(void) {
    char text[8192];
    tap_check_subject();
    if (cancel_one() != 0)
        return 3;
    ssize_t length = pread(report, text, sizeof text - 1, 0);
    text[length < 0 ? 0 : length] = 0;
    const char *last = tap_expects_rnalloc() ? "rnalloc: pools " : "max mmap bytes";
    OK(strstr(text, last) != NULL, "malloc_stats wrote its report to the end");
    use_blocks();
    OK(malloc_trim(0) >= 0, "the heap works afterwards");
    return tap_done();
}
