/* rseq.c: which mode the process runs in, and each thread's area.
 *
 * The C library's registration is used where there is one (__rseq_offset, __rseq_size: glibc >= 2.35). Where it made
 * none, each thread registers an area of its own at its first slow path. Where the kernel refuses, threads get stand-in
 * areas with ids of our own, and so pools of their own. See rseq(2) in librseq, and the kernel's
 * Documentation/userspace-api/rseq.rst. */
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/meta.h"
#include "base/options.h"
#include "base/os.h"
#include "frontend/pool.h"
#include "rnalloc.h"

#ifdef RN_LIBRSEQ
#include <rseq/rseq.h>
#endif

#ifndef AT_RSEQ_FEATURE_SIZE
#define AT_RSEQ_FEATURE_SIZE 27 /* linux/auxvec.h since 6.3 */
#endif

enum {
    AREA_SIZE = 32,
    CID_END = 28,       /* the end of mm_cid in the area */
    THREAD_POOLS = 512, /* pools for threads without rseq; more threads share locked ones */
#if defined(__x86_64__)
    SIGNATURE = 0x53053053,
#elif defined(__aarch64__)
    SIGNATURE = (int)0xd428bc00,
#endif
    RSEQ_UNREGISTERED = -1, /* as cpu_id */
    RSEQ_UNREGISTER = 1,    /* as flag: RSEQ_FLAG_UNREGISTER */
};

/* Exported by glibc >= 2.35; bits of its <sys/rseq.h>. */
extern const ptrdiff_t __rseq_offset __attribute__((weak));
extern const unsigned int __rseq_size __attribute__((weak));

struct area rn_new_area = {.cpu_id = RSEQ_UNREGISTERED, .mm_cid = UINT32_MAX};
struct area rn_no_area = {.cpu_id = RSEQ_UNREGISTERED, .mm_cid = UINT32_MAX};
RN_TLS struct thread rn_thread = {.area = &rn_new_area, .pool = &rn_closed_pool};

struct mode_state rn_mode;

static RN_TLS struct area own_area; /* registered by ourselves, where the C library did not */
static enum { AREA_LIBC, AREA_OWN, AREA_STANDIN } area_source;
static pthread_key_t exit_key;
static bool exit_key_made; /* at the first pthread_create, or for the first stand-in */

/* Threads that run and were counted: those that called pthread_create, or were given an area after the first did. */
static _Atomic uint32_t threads_live;

/* Stand-ins' ids, under drain_lock: a stack of those that dying threads gave back. */
static RN_TABLE uint32_t ids_back[THREAD_POOLS];
static uint32_t ids_back_count, ids_used;

/* Threads that were ever given an area, or drained pools: a process with one never needs a membarrier. */
static _Atomic uint32_t threads_seen;

/* seq_cst: pairs with the fence in thread_see. Either the drainer sees the new thread, or that thread sees the
 * pools stopped. */
bool process_has_threads(void) {
    atomic_thread_fence(memory_order_seq_cst);
    return atomic_load_explicit(&threads_seen, memory_order_relaxed) > 1;
}

static char *thread_pointer(void) {
    char *pointer;
#if defined(__x86_64__)
    __asm__("mov %%fs:0, %0" : "=r"(pointer));
#elif defined(__aarch64__)
    __asm__("mrs %0, tpidr_el0" : "=r"(pointer));
#endif
    return pointer;
}

#ifdef RN_LIBRSEQ
/* Before librseq's constructor is through, which may allocate, its offset leads to the thread's control block, and its
 * lock is held. */
static bool is_librseq_ready(void) { return rseq_size != (unsigned)-1; }
#endif

static struct area *libc_area(void) {
    /* The C library's goes first: librseq does not find it where it comes after the C library in the order of search.
     */
    if (!&__rseq_size || __rseq_size == 0) {
#ifdef RN_LIBRSEQ
        if (is_librseq_ready())
            return (struct area *)(void *)(thread_pointer() + rseq_offset);
#endif
        return NULL;
    }
    return (struct area *)(void *)(thread_pointer() + __rseq_offset);
}

/* Registers the thread's own area. 0 or -errno. Signals are blocked: a handler that allocated here would register too.
 */
static int own_register(void) {
    struct os_signals signals;
    int saved = errno;
    os_block_signals(&signals);
    int error = 0;
    own_area.cpu_id = RSEQ_UNREGISTERED;
    if (syscall(SYS_rseq, &own_area, AREA_SIZE, 0, SIGNATURE) != 0)
        error = -errno;
    rn_thread.registered = error == 0;
    os_restore_signals(&signals);
    errno = saved;
    return error;
}

static void own_unregister(void) {
    int saved = errno;
    (void)syscall(SYS_rseq, &own_area, AREA_SIZE, RSEQ_UNREGISTER, SIGNATURE);
    rn_thread.registered = false;
    errno = saved;
}

/* The kernel's version as 1000 * major + minor; 0 if it cannot be told. */
static unsigned kernel_version(void) {
    struct utsname name;
    unsigned part[2] = {0, 0};
    if (uname(&name) != 0)
        return 0;
    const char *at = name.release;
    for (int i = 0; i < 2; i++, at += *at == '.')
        while (*at >= '0' && *at <= '9')
            part[i] = part[i] * 10 + (unsigned)(*at++ - '0');
    return part[0] * 1000 + part[1];
}

#if defined(__aarch64__)
enum { IS_ARM64 = 1 };
#else
enum { IS_ARM64 = 0 };
#endif

/* arm64 kernels from 6.19 on did not abort sections on preemption within one CPU, up to a fix that no version number
 * tells. */
static bool is_kernel_trusted(void) { return !IS_ARM64 || option_get(OPT_ARM64_RSEQ) || kernel_version() < 6019; }

/* The area that glibc or librseq registered for this thread, if the kernel took it. */
static bool has_libc_area(void) {
    const struct area *area = libc_area();
    return area && area->cpu_id >= 0;
}

/* librseq ends the process where a thread has an area already, or where the kernel refuses one to a later thread: so it
 * is asked only where it will succeed. True if it made the area. */
static bool librseq_register(void) {
#ifdef RN_LIBRSEQ
    if (!is_librseq_ready() || own_register() != 0)
        return false;
    own_unregister();
    return rseq_register_current_thread() == 0;
#else
    return false;
#endif
}

static bool use_rseq(void) {
    if (!option_get(OPT_RSEQ)) {
        rn_mode.reason = "the option rseq=0 was given";
        return false;
    }
    if (!is_kernel_trusted()) {
        rn_mode.reason = "this arm64 kernel may miss aborts of restartable sequences (option arm64_rseq=1 uses them)";
        return false;
    }
    bool by_librseq = librseq_register();
    if (has_libc_area()) {
        area_source = AREA_LIBC;
        rn_mode.reason = by_librseq ? "the C library registered no rseq; librseq did, and its area is used"
                                    : "the C library registered rseq, and its area is used";
        return true;
    }
    int error = own_register();
    if (error == 0) {
        if (rn_thread.area == &rn_no_area)
            own_unregister(); /* a child of vfork is the first to come here: its parent's TLS must not look registered
                               */
        area_source = AREA_OWN;
        rn_mode.reason = "the C library registered no rseq; threads register areas of their own";
        return true;
    }
    rn_mode.reason = error == -ENOSYS  ? "the kernel, an emulator or a sandbox has no rseq"
                     : error == -EPERM ? "a sandbox refuses rseq"
                                       : "somebody else registered rseq for this thread";
    return false;
}

/* Before 6.9 a barrier was missing where a CPU switches between processes, which arm64 does not supply by itself: two
 * threads could hold one mm_cid for a moment. */
static bool has_cid(void) {
    size_t feature = getauxval(AT_RSEQ_FEATURE_SIZE);
    return option_get(OPT_CID) && feature >= CID_END && (!IS_ARM64 || kernel_version() >= 6009);
}

void mode_init(void) {
    int saved = errno;
    unsigned usable, cpus = os_cpu_bound(&usable);
    middle_init(usable ? usable : cpus);
    if (use_rseq()) {
        bool cid = has_cid();
        rn_mode.kind = cid ? RN_MODE_RSEQ_CID : RN_MODE_RSEQ_CPU;
        rn_fast.id_offset = cid ? offsetof(struct area, mm_cid) : offsetof(struct area, cpu_id);
        rn_mode.ids = cpus;
        rn_mode.can_stop = true;
    } else {
        area_source = AREA_STANDIN;
        rn_mode.kind = RN_MODE_THREAD;
        rn_fast.id_offset = offsetof(struct area, mm_cid);
        rn_mode.ids = THREAD_POOLS;
        rn_mode.can_stop = false;
    }
    errno = saved;
}

/* A dying thread's stand-in goes to the next thread that needs one; the objects in its pool go back at once. */
static void standin_give(void) {
    rn_thread.area = &rn_no_area;
    pool_abandon((uint32_t)own_area.cpu_id);
    lock_take(&drain_lock);
    ids_back[ids_back_count++] = (uint32_t)own_area.cpu_id;
    lock_drop(&drain_lock);
}

static void thread_exit(void *unused) {
    (void)unused;
    if (area_source == AREA_STANDIN && rn_thread.area == &own_area)
        standin_give();
    if (rn_thread.counted != COUNTED)
        return;
    rn_thread.counted = COUNTED_NOT_YET;
    if (atomic_fetch_sub_explicit(&threads_live, 1, memory_order_relaxed) == 1)
        helper_end();
}

static bool exit_key_make(void) {
    lock_take(&drain_lock);
    if (!exit_key_made)
        exit_key_made = pthread_key_create(&exit_key, thread_exit) == 0;
    bool made = exit_key_made;
    lock_drop(&drain_lock);
    return made;
}

void thread_count(void) {
    if (rn_thread.counted != COUNTED_NOT_YET || !exit_key_make())
        return;
    rn_thread.counted = COUNTED;
    atomic_fetch_add_explicit(&threads_live, 1, memory_order_relaxed);
    (void)pthread_setspecific(exit_key, &rn_thread);
}

void thread_count_never(void) { rn_thread.counted = COUNTED_NEVER; }

static void standin_register(void) {
    lock_take(&drain_lock);
    uint32_t id = UINT32_MAX;
    if (ids_back_count)
        id = ids_back[--ids_back_count];
    else if (ids_used < rn_mode.ids)
        id = ids_used++;
    lock_drop(&drain_lock);
    if (id == UINT32_MAX || !exit_key_make()) {
        rn_thread.area = &rn_no_area;
        return;
    }
    own_area.mm_cid = id;
    own_area.cpu_id = (int32_t)id;
    rn_thread.area = &own_area; /* before pthread_setspecific, which may allocate */
    (void)pthread_setspecific(exit_key, &rn_thread);
}

/* A thread made by clone with storage of its own has an area that nobody registered, and its zeros read like CPU 0. So
 * zeros are not believed: where the kernel has the area it refuses to take it again, with EINVAL if it is longer. */
static bool is_registered(struct area *area) {
    if (area->cpu_id != 0 || area->cpu_id_start != 0 || area->mm_cid != 0)
        return true;
    if (syscall(SYS_rseq, area, AREA_SIZE, 0, SIGNATURE) != 0)
        return errno == EBUSY || errno == EINVAL;
    (void)syscall(SYS_rseq, area, AREA_SIZE, RSEQ_UNREGISTER, SIGNATURE);
    return false;
}

/* Made behind the C library's back. */
static void doubt_alone(void) {
    if (lock_is_alone())
        lock_never_alone();
}

/* Under drain_lock: in a child of fork no new thread is counted before thread_forget_others has been there. Not
 * inlined: ThreadSanitizer's build refuses fences inside of other functions. */
__attribute__((noinline)) void thread_see(void) {
    if (rn_thread.is_seen)
        return;
    if (atomic_load_explicit(&threads_seen, memory_order_relaxed) != 0)
        doubt_alone(); /* before the lock, which else would be taken as if by the only thread */
    lock_take(&drain_lock);
    rn_thread.is_seen = true;
    if (atomic_fetch_add_explicit(&threads_seen, 1, memory_order_relaxed) == 0) {
        pools_note_alone(true);
    } else {
        doubt_alone();
        pools_end_alone();
    }
    lock_drop(&drain_lock);
    atomic_thread_fence(memory_order_seq_cst); /* pairs with process_has_threads */
}

void thread_register(void) {
    int saved = errno;
    thread_see();
    rn_thread.area = &rn_no_area; /* whatever allocates meanwhile */
    if (area_source == AREA_STANDIN) {
        standin_register();
    } else if (area_source == AREA_LIBC) {
        (void)librseq_register();
        if (has_libc_area() && is_registered(libc_area()))
            rn_thread.area = libc_area();
    } else if (rn_thread.registered || own_register() == 0) {
        rn_thread.area = &own_area;
    }
    if (exit_key_made)
        thread_count();
    errno = saved;
}

/* A thread that never allocated before it forked is yet to be counted: twice would look like two threads. Holds all
 * locks, as fork's prepare took them. */
void thread_forget_others(void) {
    atomic_store_explicit(&threads_seen, rn_thread.is_seen, memory_order_relaxed);
    atomic_store_explicit(&threads_live, rn_thread.counted == COUNTED, memory_order_relaxed);
    ids_back_count = 0;
    for (uint32_t id = 0; area_source == AREA_STANDIN && id < ids_used; id++) {
        if (rn_thread.area == &own_area && (uint32_t)own_area.cpu_id == id)
            continue;
        pool_abandon(id);
        ids_back[ids_back_count++] = id;
    }
    pools_forget_others(rn_thread.is_seen);
}
