/* librseq.c: a stand-in for librseq, which Debian 12 has no package of, to try `make LIBRSEQ=1` with. It behaves as
 * librseq of 2026 does where that is dangerous: its constructor allocates, holding its lock, before its offset and size
 * are set; and it never sees what the C library registered, as librseq does not where it is searched after it. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "rseq/rseq.h"

enum { AREA_SIZE = 32 };
#if defined(__x86_64__)
enum { SIGNATURE = 0x53053053 };
#else
enum { SIGNATURE = (int)0xd428bc00 };
#endif

ptrdiff_t rseq_offset __attribute__((visibility("default")));
unsigned int rseq_size __attribute__((visibility("default"))) = (unsigned)-1;

static __thread uint32_t area[AREA_SIZE / 4]
    __attribute__((aligned(32), tls_model("initial-exec"))) = {0, (uint32_t)-1};

static __attribute__((constructor)) void librseq_init(void) {
    char *pointer;
    free(malloc(100)); /* as dlsym does for its error */
#if defined(__x86_64__)
    __asm__("mov %%fs:0, %0" : "=r"(pointer));
#else
    __asm__("mrs %0, tpidr_el0" : "=r"(pointer));
#endif
    rseq_offset = (char *)area - pointer;
    rseq_size = 0;
}

__attribute__((visibility("default"))) int rseq_register_current_thread(void) {
    if (rseq_size == (unsigned)-1)
        abort();
    if (syscall(SYS_rseq, area, AREA_SIZE, 0, SIGNATURE) != 0) {
        if (errno == EBUSY || errno == EINVAL)
            abort();
        return -1;
    }
    rseq_size = AREA_SIZE;
    return 0;
}
