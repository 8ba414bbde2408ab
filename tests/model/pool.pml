/* pool.pml: pools, threads, and the kernel beneath them; included by drain.pml and fork.pml.
 *
 * A step is one access to memory that others write, or several that nobody can tell from one. The kernel may stop a
 * thread at every step, and let it go on on any free CPU; stopped inside a section, it starts that again, as rseq(2)
 * says. One size class, two ids, two CPUs, arrays of two slots: the smallest sizes at which bins are empty, partly
 * full, full, and move between arrays. Memory is sequentially consistent here: a pool's words have one writer at a
 * time, and between two stands a switch by the kernel, or the membarrier. Where that is not so, the other models have
 * store buffers (count.pml).
 *
 * Ghost state, which no step depends on: place[], where each object is; settled[], whether a drainer relies on a pool. */

#define OBJECTS 2
#define IDS 2
#define CLOSED IDS /* the closed pool: its bin is empty and full at once, and it is never written */
#define SLOTS 2
#define ARRAY (SLOTS + 1) /* the mark, then the slots */
#define WORDS (2 * ARRAY) /* of a pool: two arrays, one of them in use, the other spare */
#define NONE 99
#define MARK 98 /* below the first object of an array in use */
#define LINK 97 /* in its place in a spare one */

/* place[] */
#define MIDDLE 0
#define POOL 1
#define HAND 10

#ifndef MINE
#define MINE 0 /* the pool whose bin grows: pools[id] of the code, by an id that is but a hint */
#endif

#define SLOT(pool, n) slot[(pool) * WORDS + (n)]

byte current[IDS + 1];
byte end_of[IDS + 1];
byte slot[(IDS + 1) * WORDS];
byte base[IDS];
bool lock[IDS]; /* of each pool */
bool drain_lock;
byte pool_of[IDS]; /* the table that sections read: the pool of its id, or CLOSED */
bool made[IDS];    /* pools[id] of the code: the pool is there */

byte cpu_of[THREADS]; /* NONE: stopped, or outside of sections */
byte id_of[THREADS];  /* the id in its area */
byte entered[THREADS]; /* the pool that its section loaded; NONE: outside of sections */
bool interrupted[THREADS]; /* the kernel will restart its section */

byte fork_owner = NONE; /* the thread that forks, for which all locks read as taken and its own */
bool gone;              /* this is fork's child: the other threads are not here */

byte place[OBJECTS];
bool settled[IDS];

/* ---- The kernel ---- */

#define OTHER (1 - me)

/* Lets the thread run on a free CPU. With mm_cid its id says nothing of the CPU: any that no running thread has. */
inline run_somewhere() {
    if
    :: cpu_of[OTHER] != 0 -> cpu_of[me] = 0
    :: cpu_of[OTHER] != 1 -> cpu_of[me] = 1
    fi;
#ifdef CID
    if
    :: cpu_of[OTHER] == NONE || id_of[OTHER] != 0 -> id_of[me] = 0
    :: cpu_of[OTHER] == NONE || id_of[OTHER] != 1 -> id_of[me] = 1
    fi
#else
    id_of[me] = cpu_of[me]
#endif
}

/* The interrupt that membarrier(2) sends to one CPU. */
inline interrupt(cpu) {
    interrupted[0] = interrupted[0] || (entered[0] != NONE && cpu_of[0] == cpu);
    interrupted[1] = interrupted[1] || (entered[1] != NONE && cpu_of[1] == cpu)
}

/* ---- Sections ---- */

#define LEAVE entered[me] = NONE; cpu_of[me] = NONE; id_of[me] = 0; interrupted[me] = false; \
    pool = 0; n = 0; e = 0; k = 0; batch[0] = 0; batch[1] = 0

/* The store to rseq_cs, behind which the section is; the load of the id; the load of the pool of the id. One step: a
 * thread that is stopped between them starts again, and nobody else writes its id. */
#if defined ID_OUTSIDE
#define BEGIN                                                                         \
    atomic { run_somewhere(); n = id_of[me]; cpu_of[me] = NONE }                      \
    atomic { run_somewhere(); pool = pool_of[n]; entered[me] = pool; n = 0 }
#elif defined POOL_OUTSIDE
#define BEGIN                                                                         \
    atomic { run_somewhere(); pool = pool_of[id_of[me]]; cpu_of[me] = NONE }          \
    atomic { run_somewhere(); entered[me] = pool }
#else
#define BEGIN atomic { run_somewhere(); pool = pool_of[id_of[me]]; entered[me] = pool }
#endif

/* What a section that is given up left above the top: nobody reads it, and states that differ in it are one. */
inline wipe() {
    if
    :: k > 0 && SLOT(pool, n + 1) == batch[0] && place[batch[0]] == HAND + me -> SLOT(pool, n + 1) = NONE
    :: else
    fi
}

/* One step inside; or the kernel stops the thread there, or interrupted it, and it starts again: as it left no trace,
 * it may as well do something else then: RESTART, of worker.pml. */
#ifndef NO_ABORT
#define STEP(action)                                                                  \
    if                                                                                \
    :: atomic { !interrupted[me] -> action }                                          \
    :: atomic { true -> wipe(); LEAVE; RESTART }                                      \
    fi
#else
#define STEP(action)                                                                  \
    if                                                                                \
    :: atomic { !interrupted[me] -> action }                                          \
    :: atomic { interrupted[me] -> wipe(); LEAVE; RESTART }                           \
    :: atomic { true -> cpu_of[me] = NONE }; atomic { run_somewhere(); action }       \
    fi
#endif

/* The last instruction, after which the kernel finds the thread outside. Nobody may commit to a pool that a drainer
 * relies on. */
#define COMMIT(action) STEP(assert(entered[me] == CLOSED || !settled[entered[me]]); action; LEAVE)

/* ---- Ghost state ---- */

inline give(object, giver, owner) {
    assert(object < OBJECTS && place[object] == giver);
    place[object] = owner
}

/* Taken out: the slot is wiped, so that what is there by mistake is no object, and states that differ in it are one. */
inline take_out(from_pool, at, taker) {
    give(SLOT(from_pool, at), POOL + from_pool, taker);
    SLOT(from_pool, at) = NONE
}

/* Whoever is in a section with the pool will start again, and nobody else is. */
#define QUIET(t, i) (entered[t] != (i) || interrupted[t])

/* ---- The start of all ---- */

inline pool_init(i) {
    SLOT(i, 0) = MARK;
    SLOT(i, ARRAY) = LINK;
    pool_of[i] = i;
    made[i] = true
}

inline all_init() {
    SLOT(CLOSED, 0) = MARK;
    cpu_of[0] = NONE;
    cpu_of[1] = NONE;
    entered[0] = NONE;
    entered[1] = NONE;
    pool_init(0)
#ifdef ONE
    ;place[1] = NONE /* a single object, for a smaller search */
#endif
}
