/* known.c: makes calls that the recorder's test knows: sizes that nothing else asks for name them. */
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void *volatile handed;

static void *worker(void *unused) {
    free(handed); /* given by the first thread */
    handed = malloc(70001);
    return unused;
}

int main(int argc, char **argv) {
    int status;
    void *volatile first = malloc(70003);
    void *volatile zeroed = calloc(7, 10001);
    void *volatile aligned = NULL;
    void *block;
    if (posix_memalign(&block, 4096, 70009) != 0)
        return 1;
    aligned = block;
    first = realloc(first, 70019);
    free(zeroed);
    free(aligned);
    handed = realloc(NULL, 70027);
    pthread_t thread;
    if (pthread_create(&thread, NULL, worker, NULL) != 0 || pthread_join(thread, NULL) != 0)
        return 1;
    free(handed);
    if (fork() == 0) {
        free(malloc(70039)); /* a child's calls are not the trace's */
        _exit(0);
    }
    wait(&status);
    void *volatile impossible = realloc(first, PTRDIFF_MAX); /* fails, and leaves the block */
    if (impossible)
        return 1;
    free(first);
    free(malloc(70051));
    if (argc > 1 && strcmp(argv[1], "kill") == 0)
        kill(getpid(), 9);
    _exit(7); /* no handler runs */
}
