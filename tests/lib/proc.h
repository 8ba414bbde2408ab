/* proc.h: what the kernel says about this process, read without allocating, and children whose end is judged. */
#ifndef TESTS_PROC_H
#define TESTS_PROC_H

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
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

#define MIB ((size_t)1 << 20)

#endif
