/* dlopened.c: the library is loaded by dlopen, RTLD_LOCAL, into a process that has its own malloc: its native functions
 * serve beside it, in threads older and younger than the library. usage: dlopened LIBRARY */
#define _GNU_SOURCE
#include <pthread.h>
#include <rnalloc.h>
#include <stdatomic.h>
#include "../lib/tap.h"

static void *(*alloc)(size_t);
static void (*release)(void *);
static size_t (*usable)(const void *);
static struct rn_mode (*mode)(void);
static atomic_uint wrong;
static pthread_barrier_t loaded;

static void use(unsigned seed) {
    static _Thread_local unsigned char *blocks[500];
    for (int round = 0; round < 20; round++) {
        for (unsigned i = 0; i < 500; i++) {
            size_t size = 1 + (i * 37 + seed) % 3000 * (i % 97 == 0 ? 300 : 1);
            blocks[i] = alloc(size);
            if (!blocks[i] || usable(blocks[i]) < size)
                atomic_fetch_add(&wrong, 1);
            memset(blocks[i], (int)(i + seed), size);
            free(malloc(size));
        }
        for (unsigned i = 0; i < 500; i++) {
            if (*blocks[i] != (unsigned char)(i + seed))
                atomic_fetch_add(&wrong, 1);
            release(blocks[i]);
        }
    }
}

static void *old_thread(void *argument) {
    free(malloc(100));
    pthread_barrier_wait(&loaded);
    use((unsigned)(uintptr_t)argument);
    return NULL;
}

static void *young_thread(void *argument) {
    use((unsigned)(uintptr_t)argument);
    return NULL;
}

int main(int argc, char **argv) {
    pthread_t old[6], young[6];
    if (argc < 2)
        return 2;
    pthread_barrier_init(&loaded, NULL, 7);
    for (uintptr_t i = 0; i < 6; i++)
        if (pthread_create(&old[i], NULL, old_thread, (void *)i) != 0)
            return 3;
    void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    if (!OK(library, "dlopen of the library works%s%s", library ? "" : ": ", library ? "" : dlerror()))
        return tap_done();
    void *symbols[4] = {dlsym(library, "rnAlloc"), dlsym(library, "rnFree"), dlsym(library, "rnUsableSize"),
                        dlsym(library, "rnMode")};
    memcpy(&alloc, &symbols[0], sizeof alloc);
    memcpy(&release, &symbols[1], sizeof release);
    memcpy(&usable, &symbols[2], sizeof usable);
    memcpy(&mode, &symbols[3], sizeof mode);
    if (!OK(symbols[0] && symbols[1] && symbols[2] && symbols[3], "the native functions are there"))
        return tap_done();
    tap_diag("mode %s: %s", mode().name, mode().reason);
    pthread_barrier_wait(&loaded);
    for (uintptr_t i = 0; i < 6; i++)
        if (pthread_create(&young[i], NULL, young_thread, (void *)(i + 10)) != 0)
            return 3;
    use(99);
    for (int i = 0; i < 6; i++) {
        pthread_join(old[i], NULL);
        pthread_join(young[i], NULL);
    }
    OK(atomic_load(&wrong) == 0, "blocks are sound in threads older and younger than the library (%u are not)",
       atomic_load(&wrong));
    void *kept = alloc(1000);
    OK(dlclose(library) == 0, "dlclose");
    release(kept);
    use(7);
    OK(atomic_load(&wrong) == 0, "the library stays after dlclose");
    return tap_done();
}
