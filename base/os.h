/* os.h: every call to the operating system that the allocator makes, behind one contract, so that tests can script
 * failure.
 *
 * Functions that give memory return its address or NULL. The others return 0 or a negative errno. None touches errno,
 * none allocates, all are thread-safe. Addresses and sizes are multiples of os_page_size() unless said otherwise. Named
 * exceptions, elsewhere: the registration of rseq (frontend/rseq.c) and the fatal message (base/fatal.c).
 */
#ifndef BASE_OS_H
#define BASE_OS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The kernel's page size: 4, 16 or 64 KiB. */
size_t os_page_size(void);

/* What the kernel backs by one huge page: as much as one page of page table entries maps (hpage_pmd_size, without its
 * file). */
size_t os_huge_size(void);

/* Address space without access, costing no memory and no commit charge; mapped at `hint` if that is free (hint 0:
 * anywhere), aligned to `align` (a power of two). */
void *os_reserve(uintptr_t hint, size_t size, size_t align);

/* Address space that reads as zeros until os_commit makes parts of it writable; same terms as os_reserve. */
void *os_reserve_zeros(size_t size);

/* Gives address space back. -ENOMEM when that would split a mapping and the map count is reached: nothing changed. */
int os_unreserve(void *start, size_t size);

/* The same for what is the caller's no longer, whatever the system says: what it refuses is noted, and os_settle asks
 * again. A mapping that joined both neighbours has to be split; the map count may forbid that for a while. */
void os_discard(void *start, size_t size);
void os_settle(void);

/* Makes reserved memory readable and writable; it reads as zeros. -ENOMEM when the commit limit or map count is
 * reached. */
int os_commit(void *start, size_t size);

/* Takes all access away from committed memory; os_commit gives it back, contents as they were. -ENOMEM at the map
 * count, -EINVAL on parts of explicit huge pages: then nothing changed. */
int os_protect(void *start, size_t size);

/* Drops the contents and, where the system counts commitments (overcommit 2), their charge; the memory reads as zeros
 * after the next os_commit. `still_committed`: whether the range stays committed (MADV_DONTNEED) or must be committed
 * again. */
int os_release(void *start, size_t size, bool *still_committed);

/* Makes the page of a byte that is 0 resident, as a write of the program's would: without the lock of the mappings, and
 * in every sandbox, which MADV_POPULATE_WRITE is not. */
void os_touch(void *byte);

/* Asks for, or forbids, huge pages in the range. Advice only: failure changes nothing. */
int os_advise_huge(void *start, size_t size);
int os_advise_base(void *start, size_t size);

/* Replaces a reserved range by explicit huge pages of 2^shift bytes. On failure the range, in which nothing was
 * resident, may be committed as a whole. */
int os_map_hugetlb(void *start, size_t size, unsigned shift);

/* Moves the pages of [from, from + size) to `to` (both committed), leaving `from` committed but empty; what `to` held
 * is gone. 0; or -EAGAIN: nothing moved and `to` is committed and empty; or another error: `to` is lost and must never
 * be used. */
int os_move(void *from, void *to, size_t size);

/* Futex on a private 32-bit word. os_wait returns on a wake-up, on a changed word, on a signal, or after timeout_ms (0:
 * none). */
void os_wait(uint32_t *word, uint32_t expected, unsigned timeout_ms);
void os_wake(uint32_t *word, int count);

/* membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ): every section running on any CPU is restarted. */
int os_membarrier_register(void);
int os_membarrier(void);

/* An upper bound on CPU ids: bits in the kernel's CPU mask, by sched_getaffinity(2); at least 1. *usable: how many CPUs
 * the thread may run on; 0 where that is not known. */
unsigned os_cpu_bound(unsigned *usable);

/* For the measure of short times; monotonic, from the vDSO: a thread's own clock would be a system call, which not
 * every sandbox allows. */
uint64_t os_now_ns(void);
/* Monotonic milliseconds, from the vDSO. */
uint64_t os_now_ms(void);

/* RLIMIT_AS in bytes as os_init or the last os_read_address_limit found it, SIZE_MAX if unlimited. */
size_t os_address_limit(void);
void os_read_address_limit(void);

/* True when the system counts commitments strictly (vm.overcommit_memory = 2). */
bool os_strict_commit(void);

/* Whether the system would refuse so much memory if it were asked for at once, be there address space: more than there
 * is, where it guesses (vm.overcommit_memory = 0), or than is left to promise. What is reserved first and committed in
 * parts is not asked so. Of less than OS_ASK_FROM bytes it is not asked; else that is two or three system calls. */
enum { OS_ASK_FROM = 1 << 30 };
bool os_is_too_much(size_t size);

/* 8 random bytes that the kernel gave at exec. */
uint64_t os_random(void);

/* Fills [bytes, bytes + size) with secret random bytes of the kernel's; where it has none to give yet, with what can be
 * derived from those of os_random. At most 256 bytes. */
void os_entropy(void *bytes, size_t size);

/* True for set-user-ID and the like: the environment is not to be trusted (AT_SECURE). */
bool os_is_secure(void);

/* Blocks all signals for the calling thread, keeping the old mask; and puts it back. */
struct os_signals {
    uint64_t mask[16];
};
void os_block_signals(struct os_signals *saved);
void os_restore_signals(const struct os_signals *saved);

/* Names the calling thread, in at most 15 bytes. */
void os_name_thread(const char *name);

/* Reads the facts above that need a system call. Called once, before any other function here; later none opens a file.
 */
void os_init(void);

#endif
