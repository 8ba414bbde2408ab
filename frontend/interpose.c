/* interpose.c: calls of the C library that this library stands in front of. Only in the shared library. vfork is in the
 * assembly.
 *
 * pthread_create: the helper thread is born after it (helper.c).
 * dlopen: RTLD_DEEPBIND binds a library's calls of free to the C library's own, while its blocks come from here; the
 * flag is cleared. The real function is tail-called, since it finds the caller's RUNPATH by its return address. clone:
 * a child that shares the memory and the thread's TLS has no rseq, like vfork's; if it runs beside its parent, neither
 *   may use a pool again.
 * setrlimit, prlimit: what is reserved would be in the way of a limit on the address space that comes late. */
#include "frontend/interpose.h"

#include <dlfcn.h>
#include <errno.h>
#include <sched.h>
#include <stdarg.h>
#include <sys/resource.h>
#include <unistd.h>

#include "backend/backend.h"
#include "base/options.h"
#include "base/os.h"
#include "frontend/alloc.h"
#include "frontend/pool.h"

typedef int (*create_function)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
typedef void *(*dlopen_function)(const char *, int);
typedef int (*clone_function)(int (*)(void *), void *, int, void *, ...);
typedef int (*setrlimit_function)(int, const void *);
typedef int (*prlimit_function)(pid_t, int, const void *, void *);

/* The next definition of a function after ours. Racing threads find the same. */
static void *next_function(void *_Atomic *cache, const char *name) {
    void *function = atomic_load_explicit(cache, memory_order_relaxed);
    if (!function) {
        function = dlsym(RTLD_NEXT, name);
        atomic_store_explicit(cache, function, memory_order_relaxed);
    }
    return function;
}

static void *_Atomic next_create;
static void *_Atomic next_dlopen;
static void *_Atomic next_clone;
static void *_Atomic next_setrlimit;
static void *_Atomic next_prlimit;

int real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument) {
    void *function = next_function(&next_create, "pthread_create");
    return function ? ((create_function)(uintptr_t)function)(thread, attributes, start, argument) : EAGAIN;
}

RN_EXPORT int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *),
                             void *argument) {
    library_init();
    if (!process_has_threads())
        stop_prepare();
    pools_note_others();
    thread_count();
    int error = real_pthread_create(thread, attributes, start, argument);
    if (error == EAGAIN && trim_retreat(0)) /* perhaps our free memory is what its stack wants */
        error = real_pthread_create(thread, attributes, start, argument);
    if (!error)
        helper_start();
    return error;
}

RN_EXPORT void *dlopen(const char *file, int mode) {
    void *function = next_function(&next_dlopen, "dlopen");
    if (!function)
        return NULL;
    library_init();
    if (!option_get(OPT_DEEPBIND))
        mode &= ~RTLD_DEEPBIND;
    return ((dlopen_function)(uintptr_t)function)(file, mode);
}

RN_EXPORT int clone(int (*run)(void *), void *stack, int flags, void *argument, ...) {
    va_list rest;
    va_start(rest, argument);
    void *parent_tid = va_arg(rest, void *);
    void *tls = va_arg(rest, void *);
    void *child_tid = va_arg(rest, void *);
    va_end(rest);
    void *function = next_function(&next_clone, "clone");
    if (!function) {
        errno = ENOSYS;
        return -1;
    }
    struct area *area = rn_thread.area;
    bool shares = (flags & CLONE_VM) && !(flags & CLONE_SETTLS);
    if (shares)
        rn_thread.area = &rn_no_area;
    if ((flags & (CLONE_VM | CLONE_VFORK)) == CLONE_VM)
        lock_never_alone();
    int result = ((clone_function)(uintptr_t)function)(run, stack, flags, argument, parent_tid, tls, child_tid);
    if (shares && (result < 0 || (flags & CLONE_VFORK)))
        rn_thread.area = area;
    return result;
}

/* Whether the limit is one of the heap's. Not for a thread without an area: a child of vfork limits itself, not the
 * process whose memory it runs in. */
static bool limits_heap(int resource) {
    return resource == RLIMIT_AS && library_is_ready() && rn_thread.area != &rn_no_area;
}

/* What address space tells of the system is asked for while there is any. */
static void limit_comes(int resource) {
    if (limits_heap(resource))
        (void)os_strict_commit();
}

static int limit_was_set(int result, int resource) {
    if (result == 0 && limits_heap(resource)) {
        backend_limit_changed();
        if (os_address_limit() != SIZE_MAX)
            (void)pools_retreat();
    }
    return result;
}

static int limit_set(int resource, const void *limit) {
    void *function = next_function(&next_setrlimit, "setrlimit");
    if (!function) {
        errno = ENOSYS;
        return -1;
    }
    limit_comes(resource);
    return limit_was_set(((setrlimit_function)(uintptr_t)function)(resource, limit), resource);
}

static int limit_exchange(pid_t process, int resource, const void *limit, void *old) {
    void *function = next_function(&next_prlimit, "prlimit");
    if (!function) {
        errno = ENOSYS;
        return -1;
    }
    bool is_ours = limit && (process == 0 || process == getpid());
    if (is_ours)
        limit_comes(resource);
    int result = ((prlimit_function)(uintptr_t)function)(process, resource, limit, old);
    return is_ours ? limit_was_set(result, resource) : result;
}

/* Where off_t has 64 bits, the two of each kind are the same call with the same structure. */
RN_EXPORT int(setrlimit)(__rlimit_resource_t resource, const struct rlimit *limit) {
    return limit_set((int)resource, limit);
}

RN_EXPORT int(setrlimit64)(__rlimit_resource_t resource, const struct rlimit64 *limit) {
    return limit_set((int)resource, limit);
}

RN_EXPORT int(prlimit)(pid_t process, __rlimit_resource_t resource, const struct rlimit *limit, struct rlimit *old) {
    return limit_exchange(process, (int)resource, limit, old);
}

RN_EXPORT int(prlimit64)(pid_t process, __rlimit_resource_t resource, const struct rlimit64 *limit,
                         struct rlimit64 *old) {
    return limit_exchange(process, (int)resource, limit, old);
}
