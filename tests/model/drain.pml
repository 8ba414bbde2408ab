/* drain.pml: two threads, and a drainer that empties the pools of their ids under their feet (drain_ids and pool_empty
 * in frontend/pool.c). DESIGN.md, "Stopping a pool", says what stands for what.
 *
 * -DCID: ids are concurrency ids, else CPU numbers. The other definitions each leave one step out: see scripts/model. */
#define THREADS 2
#include "pool.pml"

byte finished;

proctype Worker(byte me) {
#include "worker.pml"
    finished++
}

#include "drainer.pml"

/* What holds when all have ended: they do end, whatever happened, or this waits for ever, which spin reports. */
proctype Last() {
    byte i;
    atomic {
        finished == THREADS + 1;
        assert(!drain_lock);
        do
        :: i < IDS ->
            assert(pool_of[i] == i && !lock[i] && SLOT(i, base[i]) == MARK);
            assert(base[i] <= current[i] && (current[i] <= end_of[i] || end_of[i] == 0) && end_of[i] <= base[i] + SLOTS);
            assert((place[0] == POOL + i) + (place[1] == POOL + i) == current[i] - base[i]);
            assert(current[i] < base[i] + 1 || place[SLOT(i, base[i] + 1)] == POOL + i);
            assert(current[i] < base[i] + 2 || place[SLOT(i, base[i] + 2)] == POOL + i);
            i++
        :: else -> break
        od
    }
}

init {
    atomic {
        all_init();
        pool_init(1);
        end_of[0] = SLOTS;
        end_of[1] = SLOTS;
        run Worker(0);
        run Worker(1);
        run Drainer();
        run Last()
    }
}
