/* filter.h: seccomp filters for the tests: calls refused with an error, or a list outside which every call kills. */
#ifndef TESTS_FILTER_H
#define TESTS_FILTER_H

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { FILTER_MAX = 128 };

struct filter {
    struct sock_filter code[FILTER_MAX];
    unsigned short length;
};

static inline void filter_emit(struct filter *filter, struct sock_filter instruction) {
    filter->code[filter->length++] = instruction;
}

static inline void filter_load_number(struct filter *filter) {
    filter->length = 0;
    filter_emit(filter, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)));
}

/* `answer` for one call number; others go on to the next instruction. */
static inline void filter_answer(struct filter *filter, long number, unsigned answer) {
    filter_emit(filter, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)number, 0, 1));
    filter_emit(filter, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, answer));
}

/* `answer` for every call that came so far, then the filter holds: for this thread, or for all with
 * SECCOMP_FILTER_FLAG_TSYNC. */
static inline int filter_install(struct filter *filter, unsigned answer, unsigned flags) {
    filter_emit(filter, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, answer));
    struct sock_fprog program = {filter->length, filter->code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return -1;
    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
}

#endif
