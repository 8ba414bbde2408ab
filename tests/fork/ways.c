/* ways.c: the other ways to make a process: posix_spawn, popen, system, daemon, vfork and exec; from threads, amid
 * churn. */
#define _GNU_SOURCE
#include <malloc.h>
#include <pthread.h>
#include <spawn.h>
#include <stdatomic.h>
#include "../lib/model.h"
#include "../lib/proc.h"
#include "../lib/shadow.h"
#include "../lib/tap.h"

extern char **environ;
enum { ROUNDS = 25 };
static atomic_int failed, spawning;

static void spawn_once(void) {
    char *arguments[] = {(char[]){"/bin/cat"}, NULL};
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    pid_t pid;
    int status = -1, error = posix_spawn(&pid, "/bin/cat", &actions, NULL, arguments, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (error || waitpid(pid, &status, 0) != pid || status != 0)
        atomic_fetch_add(&failed, 1);
}

static void popen_once(void) {
    char line[64] = "";
    FILE *pipe = popen("echo through a pipe", "r");
    if (!pipe || !fgets(line, sizeof line, pipe) || strcmp(line, "through a pipe\n") != 0 || pclose(pipe) != 0)
        atomic_fetch_add(&failed, 1);
}

static void vfork_exec_once(void) {
    int status = -1;
    pid_t pid = vfork();
    if (pid == 0) {
        execl("/bin/true", "true", (char *)NULL);
        _exit(1);
    }
    if (waitpid(pid, &status, 0) != pid || status != 0)
        atomic_fetch_add(&failed, 1);
}

static void *make_processes(void *unused) {
    for (int i = 0; i < ROUNDS; i++) {
        spawn_once();
        popen_once();
        vfork_exec_once();
        if (system("exit 7") != 7 << 8)
            atomic_fetch_add(&failed, 1);
    }
    atomic_fetch_sub(&spawning, 1);
    return unused;
}

static void *churn(void *unused) {
    for (size_t i = 0; atomic_load(&spawning); i++) {
        char *p = malloc(1 + i * 37 % 3000), *q = malloc(1 + i * 101 % 100000);
        *p = *q = 1;
        free(p);
        free(q);
    }
    return unused;
}

static int become_daemon(void *argument) {
    int *pipes = argument;
    struct model_plan plan = {.threads = 4, .operations = 5000, .slots = 60, .largest = 40000, .seed = 5};
    void *before = malloc(5000);
    if (daemon(1, 1) != 0)
        return 1;
    free(before);
    char verdict = model_is_clean(model_run(&plan)) ? 'y' : 'n';
    return write(pipes[1], &verdict, 1) != 1;
}

static void daemonize(const char *when) {
    int pipes[2];
    char verdict = '?';
    if (pipe(pipes) != 0)
        return;
    int status = proc_child(become_daemon, pipes);
    close(pipes[1]);
    ssize_t got = read(pipes[0], &verdict, 1);
    close(pipes[0]);
    OK(status == 0 && got == 1 && verdict == 'y', "a daemon's heap works (%s)", when);
}

int main(void) {
    pthread_t makers[2], churners[3];
    tap_check_subject();
    if (shadow_init() != 0)
        return 3;
    daemonize("made by a single thread");
    atomic_store(&spawning, 2);
    for (int i = 0; i < 3; i++)
        if (pthread_create(&churners[i], NULL, churn, NULL) != 0)
            return 3;
    for (int i = 0; i < 2; i++)
        if (pthread_create(&makers[i], NULL, make_processes, NULL) != 0)
            return 3;
    daemonize("made amid churn");
    for (int i = 0; i < 2; i++)
        pthread_join(makers[i], NULL);
    for (int i = 0; i < 3; i++)
        pthread_join(churners[i], NULL);
    OK(atomic_load(&failed) == 0, "posix_spawn, popen, vfork and system work amid churn (%d failures)",
       atomic_load(&failed));
    return tap_done();
}
