/* proc.h: what the kernel says about this process and its threads, read without allocating, and children whose end is
 * judged. */
#ifndef TESTS_PROC_H
#define TESTS_PROC_H

#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Reads a small file of /proc into a buffer as a string; gives its length, 0 when there is none. */
static inline size_t proc_read(const char *path, char *buffer, size_t capacity) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t length = 0;
    if (fd >= 0) {
        ssize_t got;
        while (length + 1 < capacity && (got = read(fd, buffer + length, capacity - 1 - length)) > 0)
            length += (size_t)got;
        close(fd);
    }
    buffer[length] = 0;
    return length;
}

/* A line of /proc/self/status in bytes, such as "VmRSS:" or "VmLck:". */
static inline size_t proc_status(const char *name) {
    char text[8192];
    proc_read("/proc/self/status", text, sizeof text);
    const char *line = strstr(text, name);
    return line ? strtoul(line + strlen(name), NULL, 10) * 1024 : 0;
}

/* Resident bytes. smaps_rollup counts page by page; the counters behind VmRSS lag by some pages per CPU. */
static inline size_t proc_rss(void) {
    char text[4096];
    if (proc_read("/proc/self/smaps_rollup", text, sizeof text) == 0)
        return proc_status("VmRSS:");
    const char *line = strstr(text, "\nRss:");
    return line ? strtoul(line + 5, NULL, 10) * 1024 : 0;
}

/* Runs body(argument) in a forked child; gives the wait status. The child's body gives its exit status. */
static inline int proc_child(int (*body)(void *), void *argument) {
    pid_t pid = fork();
    if (pid == 0)
        _exit(body(argument));
    int status = -1;
    while (pid > 0 && waitpid(pid, &status, 0) < 0)
        ;
    return status;
}

/* Waits until the condition holds. That it ever does is the claim; how long it takes is not. */
#define EVENTUALLY(condition)                                         \
    for (unsigned waits = 0; !(condition) && waits < 2500; waits++) { \
        nanosleep(&(struct timespec){0, 20000000}, NULL);             \
    }

/* A file of one of this process's threads. */
static inline size_t proc_task_read(int task, const char *file, char *buffer, size_t capacity) {
    char path[64];
    snprintf(path, sizeof path, "/proc/self/task/%d/%s", task, file);
    return proc_read(path, buffer, capacity);
}

/* The kernel's linux_dirent64, getdents64(2). */
struct proc_entry {
    uint64_t inode;
    int64_t offset;
    unsigned short length;
    unsigned char type;
    char name[];
};

/* The number of this process's threads of that name, or of all for NULL; *last: the id of one of them. */
static inline unsigned proc_tasks(const char *name, int *last) {
    uint64_t room[512];
    const char *entries = (const char *)room;
    int directory = open("/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    unsigned count = 0;
    long got;
    while ((got = syscall(SYS_getdents64, directory, room, sizeof room)) > 0)
        for (long at = 0; at < got; at += ((const struct proc_entry *)(entries + at))->length) {
            int id = atoi(entries + at + offsetof(struct proc_entry, name));
            char of_id[32];
            if (id == 0)
                continue;
            proc_task_read(id, "comm", of_id, sizeof of_id);
            of_id[strcspn(of_id, "\n")] = 0;
            if (name && strcmp(of_id, name) != 0)
                continue;
            count++;
            *last = id;
        }
    close(directory);
    return count;
}

/* The thread that gives memory back (frontend/helper.c), which has its name before it registers for rseq. */
#define PROC_HELPER "rnalloc-helper"

/* Whether it is there and sleeps till it is needed or a while has passed: then it has registered, and holds neither
 * a lock nor memory. Only that sleep has a limit (the futex's fourth argument), none for a lock has. *sleeps: how often
 * it has slept so far. */
static inline int proc_helper_rests(unsigned long *sleeps) {
    static const char counter[] = "\nvoluntary_ctxt_switches:";
    char text[4096];
    int id = 0;
    long number = -1;
    unsigned long limit = 0;
    if (proc_tasks(PROC_HELPER, &id) != 1)
        return 0;
    proc_task_read(id, "status", text, sizeof text);
    const char *line = strstr(text, counter);
    *sleeps = line ? strtoul(line + sizeof counter - 1, NULL, 10) : 0;
    int sleeps_somewhere = strstr(text, "\nState:\tS") != NULL;
    if (proc_task_read(id, "syscall", text, sizeof text) == 0) /* "running", or number and arguments */
        return sleeps_somewhere; /* which a kernel without tracing, or a sandbox, does not tell */
    return sscanf(text, "%ld %*x %*x %*x %lx", &number, &limit) == 2 && limit != 0 &&
           (number == SYS_futex || number == SYS_restart_syscall);
}

#define MIB ((size_t)1 << 20)

#endif
