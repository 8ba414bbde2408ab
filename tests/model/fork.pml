/* fork.pml: fork(2) at any moment, with a thread and a drainer at work (frontend/fork.c, and pools_lock_all,
 * pools_unlock_all, pools_reset_locks in pool.c).
 *
 * What fork copies is the memory of one moment: pages are write-protected and the TLBs flushed before the parent's
 * threads can write again, so that what is in the child is what was done before the flush. So the child is modelled by
 * the other processes standing still for ever, and the parent by their going on; spin takes both ways. */
#define THREADS 2
#define GROW
#define FORK
#define MINE 1 /* the second pool, which is not there at first */
#include "pool.pml"

byte finished;
bool ended;

#include "drainer.pml"

proctype Worker(byte me) provided (!gone) {
#include "worker.pml"
    finished++
}

/* Forks once. Beside that it allocates between the handlers, as other libraries' do, and in the child; what it does at
 * other times another thread does too. */
proctype Forker(byte me) {
    /* prepare */
#ifndef NO_DRAIN_LOCK
    atomic { !drain_lock -> drain_lock = true }
#endif
#ifndef NO_POOL_LOCKS
    atomic { !lock[0] -> lock[0] = true }
    if
    :: atomic { made[1] && !lock[1] -> lock[1] = true }
    :: !made[1]
    fi;
#endif
    fork_owner = me;
#include "worker.pml"
    if
    :: fork_owner == NONE -> goto end
    :: else
    fi;

    if
    :: true -> /* parent; pools_unlock_all */
        fork_owner = NONE;
        lock[0] = false;
        if
        :: made[1] -> lock[1] = false
        :: else
        fi;
        drain_lock = false;
        goto end
    :: atomic { true -> /* child; pools_reset_locks */
        gone = true;
        fork_owner = NONE;
        cpu_of[OTHER] = NONE;
        entered[OTHER] = NONE;
#ifndef NO_RESET
        lock[0] = false;
        lock[1] = false;
        drain_lock = false;
#endif
        assert(pool_of[0] == 0 && (!made[1] || pool_of[1] == 1)) /* none is left closed */
        }
    fi;
    goto next;

end:
    /* drains all, alone or not: everything that is in a pool comes out */
    atomic { !drain_lock -> drain_lock = true }
    if
    :: gone ->
        atomic { !lock[0] -> pool_empty(0) }
        if
        :: made[1] -> atomic { !lock[1] -> pool_empty(1) }
        :: else
        fi
    :: else
    fi;
    drain_lock = false;
    ended = true;
    finished++
}

/* When nobody can take a step: the forker came to its end, and in the parent all did. (So spin's own check for this,
 * which knows no processes that stand still, is switched off: pan -E.) */
proctype Last() {
    timeout;
    assert(ended && (gone || finished == THREADS + 1))
}

init {
    atomic {
        all_init();
        pool_of[1] = CLOSED;
        end_of[0] = SLOTS;
        run Worker(0);
        run Forker(1);
        run Drainer();
        run Last()
    }
}
