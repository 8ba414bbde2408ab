/* worker.pml: what a thread of the program does to the pool it runs on. Included into the proctype of each thread, as
 * its variables and the text from `next` to `after`. The code's functions stand beside the steps.
 *
 * A thread does what it likes, as often as it likes. With an empty bin it takes an object from the middle tier, with a
 * full one it puts it there. -DBATCH: batches of one and two, which stand for all. -DGROW: one pool's bin changes its
 * size and place. -DFORK: the second pool comes into being. */
#undef RESTART
#define RESTART goto next
    byte pool, n, e, k, room;
    byte batch[2];
next:
    if
    :: goto pop_1
    :: atomic { place[0] == HAND + me -> batch[0] = 0; goto push_1 }
    :: atomic { place[1] == HAND + me -> batch[0] = 1; goto push_1 }
#ifdef BATCH
    :: goto pop_2
    :: atomic { place[0] == HAND + me && place[1] == HAND + me -> batch[0] = 0; batch[1] = 1; goto push_2 }
#endif
#ifdef GROW
    :: goto grow
#endif
#ifdef FORK
    :: goto create
#endif
    :: goto after
    fi;

pop_1: /* malloc, rn_alloc_class */
    BEGIN;
    STEP(n = current[pool]);
    STEP(batch[0] = SLOT(pool, n); if :: batch[0] == MARK -> goto pop_slow :: else fi);
    COMMIT(current[pool] = n - 1; assert(SLOT(pool, n) == batch[0]); take_out(pool, n, HAND + me));
    goto next;
pop_slow: /* pool_refill */
    atomic {
        LEAVE;
        if
        :: place[0] == MIDDLE -> give(0, MIDDLE, HAND + me)
        :: place[1] == MIDDLE -> give(1, MIDDLE, HAND + me)
        :: else
        fi
    }
    goto next;

push_1: /* free */
    BEGIN;
    STEP(n = current[pool]; if :: n >= end_of[pool] -> goto push_slow :: else fi);
    STEP(SLOT(pool, n + 1) = batch[0]; k = 1);
    COMMIT(current[pool] = n + 1; assert(SLOT(pool, n + 1) == batch[0]); give(batch[0], HAND + me, POOL + pool));
    goto next;
push_slow: /* pool_overflow */
    atomic { give(batch[0], HAND + me, MIDDLE); LEAVE }
    goto next;

#ifdef BATCH
pop_2: /* rn_pop_batch */
    BEGIN;
    STEP(n = current[pool]);
    STEP(batch[0] = SLOT(pool, n); if :: batch[0] == MARK -> goto pop_slow :: else -> k = 1 fi);
    STEP(batch[1] = SLOT(pool, n - 1); if :: batch[1] != MARK -> k = 2 :: else fi);
    COMMIT(current[pool] = n - k; take_out(pool, n, HAND + me);
           if :: k == 2 -> take_out(pool, n - 1, HAND + me) :: else fi);
    goto next;

push_2: /* rn_push_batch. What finds no room stays in the hand, to be freed again */
    BEGIN;
    STEP(n = current[pool]; e = end_of[pool]; if :: n >= e -> goto push_slow :: else fi);
    STEP(SLOT(pool, n + 1) = batch[0]; k = 1);
    if
    :: n + 1 < e -> STEP(SLOT(pool, n + 2) = batch[1]; k = 2)
    :: else
    fi;
    COMMIT(current[pool] = n + k; give(batch[0], HAND + me, POOL + pool);
           if :: k == 2 -> give(batch[1], HAND + me, POOL + pool) :: else fi);
    goto next;
#endif

#ifdef GROW
#undef RESTART
#define RESTART goto grow_end
#define TO (ARRAY - base[MINE]) /* its other array */
grow: /* bin_grow, bin_shrink: to any capacity */
    atomic {
        if
        :: !made[MINE] || (lock[MINE] && fork_owner != me) -> goto next
        :: else -> lock[MINE] = true
        fi;
        if
#ifndef FORK
        :: room = 1
#endif
        :: room = 2
        fi;
        if
        :: goto end_set
        :: goto move
        fi
    }

end_set: /* rn_set_end */
    BEGIN;
    STEP(if :: pool != MINE || current[MINE] > base[MINE] + room -> goto grow_end :: else fi);
    COMMIT(end_of[MINE] = base[MINE] + room);
    goto grow_end;

move: /* bin_move: array_take, rn_move_bin. In the code the new array is bigger: that it is too small cannot be there */
    SLOT(MINE, TO) = MARK;
    BEGIN;
    STEP(if :: pool != MINE || current[MINE] > base[MINE] + room -> goto grow_end :: else fi;
         n = current[MINE] - base[MINE]; e = n);
#ifndef OPEN_MOVE
    STEP(end_of[MINE] = 0);
#endif
    do
    :: e > 0 -> STEP(SLOT(MINE, TO + e) = SLOT(MINE, base[MINE] + e); e--)
    :: else -> break
    od;
    COMMIT(current[MINE] = TO + n);
    base[MINE] = TO;
    atomic { SLOT(MINE, TO) = LINK; SLOT(MINE, TO + 1) = NONE; SLOT(MINE, TO + 2) = NONE }
    goto end_set;
grow_end: /* array_give: of the new one if the sequence did not end */
    atomic { LEAVE; SLOT(MINE, TO) = LINK; SLOT(MINE, TO + 1) = NONE; SLOT(MINE, TO + 2) = NONE }
    atomic {
        assert(lock[MINE]); /* nobody else dropped it */
        lock[MINE] = fork_owner == me;
        room = 0
    }
    goto next;
#endif

#ifdef FORK
create: /* pool_get: under drain_lock */
    atomic {
        !drain_lock || fork_owner == me;
        if
        :: !made[1] ->
            pool_init(1);
            current[1] = base[1];
            end_of[1] = base[1];
#ifndef BORN_UNLOCKED
            lock[1] = fork_owner == me
#endif
        :: else
        fi
    }
    goto next;
#endif
after:
