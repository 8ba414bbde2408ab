/* count.pml: the drainer sees one thread, and spares itself the membarrier, while the second thread comes to be
 * (process_has_threads and thread_register in frontend/rseq.c, pools_drain in pool.c).
 *
 * Two stores to different words, each followed by a load of the other's: the pattern that needs full fences on both
 * sides. So each side has a store buffer here: a store is at first in its owner's buffer, and reaches memory some time
 * later; a fence waits for that. The new thread's section is one load of the table and the commit.
 *
 * -DVFORK: the drainer is a child of vfork, in the memory of a thread that has no area yet. Left out are: -DNO_FENCE_NEW,
 * -DNO_FENCE_DRAIN: a fence; -DCOUNT_LATE: the thread counts itself after it may use pools; -DUNCOUNTED: the child of
 * vfork does not count its thread. */
#define OPEN 0
#define CLOSED 1

byte seen = 1; /* threads_seen; the first thread, which is the drainer or has created the others */
byte seen_buffer; /* 1: the new thread's increment is on its way */
byte table = OPEN;
bool close_buffer; /* the store of the closed pool is on its way */

bool inside, restarted, emptying;

/* The hardware lets go of what is buffered, whenever it likes. */
proctype Hardware() {
end:
    do
    :: atomic { close_buffer -> close_buffer = false; table = CLOSED }
    :: atomic { seen_buffer == 1 -> seen_buffer = 0; seen++ }
    od
}

inline register() {
    seen_buffer = 1; /* an atomic add, but the text relies on its fence only */
#ifndef NO_FENCE_NEW
    seen_buffer == 0
#else
    skip
#endif
}

/* thread_register, then malloc. With -DVFORK it is the first thread, long counted. */
proctype Thread() {
    byte pool;
#if !defined VFORK && !defined COUNT_LATE
    register();
#endif
again:
    atomic { pool = table; inside = true; restarted = false }
    if
    :: atomic { restarted -> inside = false; goto again }
    :: atomic { !restarted -> inside = false; assert(pool == CLOSED || !emptying) } /* the commit */
    fi;
#ifdef COUNT_LATE
    register()
#endif
}

/* pools_drain. */
proctype Drainer() {
    bool alone;
#if defined VFORK && !defined UNCOUNTED
    seen++; /* rn_thread.is_seen was not set, and the parent, whose it is, is one thread more */
#endif
    close_buffer = true;
#ifndef NO_FENCE_DRAIN
    !close_buffer;
#endif
    alone = seen <= 1;
    if
    :: alone
    :: else -> atomic { !close_buffer -> restarted = restarted || inside } /* membarrier; a fence too */
    fi;
    emptying = true;
    emptying = false;
    atomic { !close_buffer -> table = OPEN }
}

init {
    atomic {
        run Hardware();
        run Thread();
        run Drainer()
    }
}
