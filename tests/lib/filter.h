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

enum { FILTER_MAX = 512 };

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

static inline void filter_load_half(struct filter *filter, unsigned index, unsigned half) {
    unsigned offset = (unsigned)offsetof(struct seccomp_data, args) + 8 * index + 4 * half; /* little endian */
    filter_emit(filter, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offset));
}

/* For one call number: is (argument & mask) == value? An answer of 0 goes on to the next rule. */
static inline void filter_argument(struct filter *filter, long number, unsigned index, unsigned long mask,
                                   unsigned long value, unsigned if_so, unsigned if_not) {
    filter_emit(filter, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)number, 0, 9));
    for (unsigned half = 0; half < 2; half++) {
        filter_load_half(filter, index, half);
        filter_emit(filter, (struct sock_filter)BPF_STMT(BPF_ALU | BPF_AND | BPF_K, (unsigned)(mask >> 32 * half)));
        filter_emit(filter, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)(value >> 32 * half), 0,
                                                         half ? 1 : 4));
    }
    filter_emit(filter, if_so ? (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, if_so)
                              : (struct sock_filter)BPF_STMT(BPF_JMP | BPF_JA, 1));
    filter_emit(filter, if_not ? (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, if_not)
                               : (struct sock_filter)BPF_STMT(BPF_JMP | BPF_JA, 0));
    filter_emit(filter, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)));
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
