/* drainer.pml: emptying the pools of other ids (drain_ids and pool_empty in frontend/pool.c). Included by drain.pml and
 * fork.pml. */
inline pool_empty(i) {
    assert(base[i] <= current[i] && (current[i] <= end_of[i] || end_of[i] == 0) && end_of[i] <= base[i] + SLOTS);
    n = current[i];
    current[i] = base[i];
#ifdef GROW
    end_of[i] = base[i]; /* till it grows again */
#endif
    do
    :: n > base[i] -> take_out(i, n, MIDDLE); n--
    :: else -> break
    od;
    assert(place[0] != POOL + i && place[1] != POOL + i); /* none was left behind */
    n = 0
}

/* The pool's lock, then the closed pool into the table. One step, as are opening and unlocking: others only try the
 * lock, and to fail is to do nothing. */
inline stop(i) {
#ifndef NO_POOL_LOCK
    !lock[i] -> lock[i] = true;
#endif
#if !defined NO_CLOSE && !defined LATE_CLOSE
    pool_of[i] = CLOSED;
#endif
    skip
}

inline start(i) {
#ifndef NO_REOPEN
    pool_of[i] = i;
#endif
    lock[i] = false
}

/* drain_ids. It runs on a CPU of its own, since it enters no section. Which pools
 * are victims is a matter of policy: here the first, or both. */
proctype Drainer() provided (!gone) {
    byte i, n;
    bool both, stopped;
next:
    if
    :: skip
    :: goto after
    fi;
    atomic { !drain_lock -> drain_lock = true }
    atomic { stop(0) }
#ifndef GROW /* then the second pool's bin is as it was at first */
    if
    :: atomic { stop(1); both = true }
    :: true
    fi;
#endif
    /* os_membarrier: one CPU after the other; or it is refused */
    if
    :: stopped = true;
#if defined CPU_BARRIER
        d_step { interrupt(0) } /* MEMBARRIER_CMD_FLAG_CPU, with the pool's id */
        if
        :: both -> d_step { interrupt(1) }
        :: else
        fi
#elif !defined NO_BARRIER
        d_step { interrupt(0) }
        d_step { interrupt(1) }
#endif
#ifdef REFUSAL_IGNORED
    :: stopped = true
#else
    :: true
#endif
    fi;
#ifdef LATE_CLOSE
    pool_of[0] = CLOSED;
    if
    :: both -> pool_of[1] = CLOSED
    :: else
    fi;
#endif
    do
    :: i <= both && stopped ->
        atomic { assert(QUIET(0, i) && QUIET(1, i)); settled[i] = true }
#ifdef EARLY_OPEN
        atomic { settled[i] = false; pool_of[i] = i }
        n = current[i];
#endif
        atomic { pool_empty(i); settled[i] = false; start(i); i++ }
    :: i <= both && !stopped -> atomic { start(i); i++ }
    :: else -> break
    od;
    atomic { i = 0; both = false; stopped = false; drain_lock = false }
    goto next;
after:
    finished++
}
