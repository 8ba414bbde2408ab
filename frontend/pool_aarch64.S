/* pool_aarch64.S: the fast path and the pool operations for aarch64. Twin of pool_x86_64.S: the same functions in
 * the same order.
 *
 * Rules, from rseq(2) and librseq's documentation: start_ip is the instruction after the store to rseq_cs; inside
 * are the load of the id, of the pool, of the bin, all checks, and as last instruction the single store that
 * commits; no call; no register that is needed at the restart is written inside. abort_ip is outside, preceded by
 * the signature that the C library registered with, and goes back to the store. A branch out of a section needs no
 * care: the kernel looks at the instruction pointer.
 *
 * Memory order: the pool's address comes from pool_of and the bin's from the pool's, so the loads are ordered by
 * address dependency; that pairs with the release stores of pool_of in pool.c. Everything else in a pool was written
 * by whoever had the id before, and the kernel's switch between the two ordered it.
 *
 * Register use in the sections: x3 area, x4 offset of the id in it, x5 pool_of, x6 pool, x1 class, x7 bin, w8 offset
 * in the pool. All are lower than x16: the linker's veneers may change x16 and x17, and x18 is the platform's.
 */
#include "frontend/class_index.h"
#include "frontend/rseq_section_aarch64.h"

	/* At a page's start, as in pool_x86_64.S. */
	.section .text.hot, "ax", %progbits
	.p2align 12

/* The thread's area and what leads from it to a pool, into the registers above. */
.macro LOAD_CONTEXT
	THREAD_PLACE x4, x3
	ldr	x3, [x4, x3]
	ADDRESS_HIDDEN x5, rn_fast
	ldp	x4, x5, [x5]
.endm

/* The section of malloc: the object in x0, and back to the caller. */
.macro POP_OBJECT slow:req
	RSEQ_BEGIN
	ldr	w6, [x3, 4]
	tbnz	w6, 31, \slow
	ldr	w6, [x3, x4]
	ldr	x6, [x5, x6, lsl 3]
	add	x7, x6, x1, lsl 3
	ldr	w8, [x7]
	ldr	x0, [x6, x8]
	tbnz	x0, 0, \slow
	sub	w8, w8, 8
	str	w8, [x7]
	RSEQ_END
	ret
.endm

/* malloc(size in x0):
 *   class = class_table[size <= 1024 ? size : 1008 + ((size + 63) >> 6)]
 *   restart: area->rseq_cs = &pop_cs
 *   start:   if area->cpu_id < 0: slow
 *            pool = pool_of[area->id]
 *            n    = pool.bin[class].current
 *            p    = pool.slot[n]
 *            if p is the bottom mark: slow
 *   commit:  pool.bin[class].current = n - 1
 * p takes the register of the size, which the slow path gets back from x2.
 */
.macro ALLOC_BODY slow:req
	mov	x2, x0
	cmp	x0, CLASS_FINE_MAX
	b.hi	.Lcoarse\@
	ADDRESS_HIDDEN x3, class_table
	ldrb	w1, [x3, x0]
.Lclass\@:
	LOAD_CONTEXT
	POP_OBJECT .Lslow\@
.Lcoarse\@:
	cmp	x0, CLASS_SIZE_MAX
	b.hi	.Llarge\@
	add	x1, x0, 63
	lsr	x1, x1, 6
	add	x1, x1, CLASS_COARSE_BASE
	ADDRESS_HIDDEN x3, class_table
	ldrb	w1, [x3, x1]
	b	.Lclass\@
.Llarge\@:
	mov	w1, 0
.Lslow\@:
	mov	x0, x2
	b	\slow
	RSEQ_ABORT
.endm

	FUNCTION malloc
	ALIAS rnAlloc, malloc
	ALLOC_BODY rn_alloc_slow
	END malloc

	/* operator new(unsigned long); the forms that stand on it are in cxx.c. */
	HIDDEN_FUNCTION rn_new
	WEAK_ALIAS _Znwm, rn_new
	ALLOC_BODY rn_new_slow
	END rn_new

/* rn_alloc_class(size in x0, class in w1): malloc from its class on. */
	HIDDEN_FUNCTION rn_alloc_class
	mov	w1, w1
	mov	x2, x0
	LOAD_CONTEXT
	POP_OBJECT .Lclass_slow
.Lclass_slow:
	mov	x0, x2
	b	rn_alloc_slow
	RSEQ_ABORT
	END rn_alloc_class

/* free(p in x0):
 *   w     = (p - window.base) rotated right by 3: a p that is not a multiple of 8 lands above every window too
 *   if w >= window.words and p is NULL: nothing
 *   class = w < window.words ? window.tags[w >> 10] : p % 8 ? 0 : zero_tags[tag_root[p >> 30] + page in the leaf]
 *   restart: area->rseq_cs = &push_cs
 *   start:   if area->cpu_id < 0: slow
 *            pool = pool_of[area->id]
 *            n = pool.bin[class].current
 *            if n >= pool.bin[class].end: slow
 *            if pool.slot[n] == p: slow (freed twice in a row)
 *            pool.slot[n + 1] = p
 *   commit:  pool.bin[class].current = n + 1
 * Both tests are one branch: ccmp compares slot[n] with p if n < end, and says "equal" if not.
 */
	FUNCTION free
	ALIAS rnFree, free
	/* operator delete, and the aligned one: the others stand on these (cxx.c). The alignment is a hint, the pagemap
	 * decides. */
	WEAK_ALIAS _ZdlPv, free
	WEAK_ALIAS _ZdlPvSt11align_val_t, free
	ADDRESS_HIDDEN x1, pagemap_win
	ldp	x2, x3, [x1]
	ldr	x1, [x1, 16]
	sub	x2, x0, x2
	ror	x2, x2, 3
	cmp	x2, x3
	b.hs	.Lfree_radix
	lsr	x2, x2, 10
	ldrb	w1, [x1, x2]
.Lfree_class:
	LOAD_CONTEXT
	RSEQ_BEGIN
	ldr	w6, [x3, 4]
	tbnz	w6, 31, .Lfree_slow
	ldr	w6, [x3, x4]
	ldr	x6, [x5, x6, lsl 3]
	add	x7, x6, x1, lsl 3
	ldp	w8, w9, [x7]
	ldr	x10, [x6, x8]
	cmp	w8, w9
	ccmp	x10, x0, 4, lo
	b.eq	.Lfree_slow
	add	w8, w8, 8
	str	x0, [x6, x8]
	str	w8, [x7]
	RSEQ_END
	ret
.Lfree_radix:
	cbz	x0, .Lfree_nothing
	tst	x0, 7
	b.ne	.Lfree_foreign
	lsr	x2, x0, 30
	cmp	x2, 1 << (48 - 30)
	b.hs	.Lfree_foreign
	ADDRESS_HIDDEN x1, pagemap_tag_root
	ldr	x1, [x1, x2, lsl 3]
	ADDRESS_HIDDEN x2, pagemap_zero_tags
	add	x1, x1, x2
	ubfx	x2, x0, 13, 17
	ldrb	w1, [x1, x2]
	b	.Lfree_class
.Lfree_nothing:
	ret
.Lfree_foreign:
	mov	w1, 0
.Lfree_slow:
	b	rn_free_slow
	RSEQ_ABORT
	END free

/* Inside a section: the thread's pool, by its area. Goes to `none` if there is no area. Writes x9. */
.macro LOAD_POOL pool:req, area:req, none:req
	ldr	w9, [\area, 4]
	tbnz	w9, 31, \none
	LOAD_HIDDEN x9, rn_fast
	ldr	w9, [\area, x9]
	LOAD_HIDDEN \pool, rn_fast, 8
	ldr	\pool, [\pool, x9, lsl 3]
.endm

/* rn_push_batch(class w0, objects x1, count x2, area x3): pushes as many as there is room for.
 *   room = (end - current) / 8, at least 0; k = min(room, count); slots above current = objects
 *   commit: current += 8 * k
 */
	HIDDEN_FUNCTION rn_push_batch
	mov	w0, w0
	RSEQ_BEGIN_AT x3, x9
	LOAD_POOL x6, x3, .Lpush_none
	add	x7, x6, x0, lsl 3
	ldp	w8, w10, [x7]
	subs	w10, w10, w8
	b.le	.Lpush_none
	lsr	w10, w10, 3
	cmp	x10, x2
	csel	x10, x10, x2, lo
	cbz	x10, .Lpush_none
	mov	x11, 0
.Lpush_next:
	ldr	x9, [x1, x11, lsl 3]
	add	w8, w8, 8
	str	x9, [x6, x8]
	add	x11, x11, 1
	cmp	x11, x10
	b.lo	.Lpush_next
	str	w8, [x7]
	RSEQ_END
	mov	x0, x11
	ret
.Lpush_none:
	mov	x0, 0
	ret
	RSEQ_ABORT
	END rn_push_batch

/* rn_pop_batch(class w0, objects x1, count x2, area x3): pops until the mark or `count`; commit: current -= 8 *
 * popped. */
	HIDDEN_FUNCTION rn_pop_batch
	mov	w0, w0
	RSEQ_BEGIN_AT x3, x9
	LOAD_POOL x6, x3, .Lpop_none
	add	x7, x6, x0, lsl 3
	ldr	w8, [x7]
	mov	x11, 0
.Lpop_next:
	cmp	x11, x2
	b.hs	.Lpop_done
	ldr	x9, [x6, x8]
	tbnz	x9, 0, .Lpop_done
	str	x9, [x1, x11, lsl 3]
	add	x11, x11, 1
	sub	w8, w8, 8
	b	.Lpop_next
.Lpop_done:
	cbz	x11, .Lpop_none
	str	w8, [x7]
	RSEQ_END
	mov	x0, x11
	ret
.Lpop_none:
	mov	x0, 0
	ret
	RSEQ_ABORT
	END rn_pop_batch

/* rn_set_end(class w0, end w1, pool x2, area x3): commit: end = the new one, if the pool is the thread's and current
 * <= end. */
	HIDDEN_FUNCTION rn_set_end
	mov	w0, w0
	RSEQ_BEGIN_AT x3, x9
	LOAD_POOL x6, x3, .Lend_no
	cmp	x6, x2
	b.ne	.Lend_no
	add	x7, x6, x0, lsl 3
	ldr	w8, [x7]
	cmp	w8, w1
	b.hi	.Lend_no
	str	w1, [x7, 4]
	RSEQ_END
	mov	w0, 1
	ret
.Lend_no:
	mov	w0, 0
	ret
	RSEQ_ABORT
	END rn_set_end

/* rn_move_bin(class w0, area x1, pool x2, old_base w3, new_base w4): copies the slots above old_base up to current to
 * above new_base; commit: {current = the new one, end = 0} in one store of 64 bits. */
	HIDDEN_FUNCTION rn_move_bin
	mov	w0, w0
	mov	w3, w3
	mov	w4, w4
	RSEQ_BEGIN_AT x1, x9
	LOAD_POOL x6, x1, .Lmove_no
	cmp	x6, x2
	b.ne	.Lmove_no
	add	x7, x6, x0, lsl 3
	ldr	w8, [x7]
	sub	w8, w8, w3
	add	x10, x6, x3
	add	x11, x6, x4
	mov	w12, w8
.Lmove_next:
	cbz	w12, .Lmove_done
	ldr	x9, [x10, x12]
	str	x9, [x11, x12]
	sub	w12, w12, 8
	b	.Lmove_next
.Lmove_done:
	add	w8, w8, w4
	str	x8, [x7]
	RSEQ_END
	mov	w0, 1
	ret
.Lmove_no:
	mov	w0, 0
	ret
	RSEQ_ABORT
	END rn_move_bin

/* errno = -x0; returns -1 from the function at hand. */
.macro RETURN_ERROR
	stp	x29, x30, [sp, -32]!
	.cfi_adjust_cfa_offset 32
	.cfi_rel_offset x29, 0
	.cfi_rel_offset x30, 8
	mov	x29, sp
	neg	w0, w0
	str	w0, [sp, 16]
	bl	__errno_location
	ldr	w1, [sp, 16]
	str	w1, [x0]
	mov	x0, -1
	ldp	x29, x30, [sp], 32
	.cfi_adjust_cfa_offset -32
	.cfi_restore x29
	.cfi_restore x30
	ret
.endm

/* vfork(2): the child runs in the parent's memory and TLS, but the kernel gave it no rseq, while the ids in the
 * shared TLS stay plausible. So the thread has no area until the parent is back. The return address must survive the
 * child's own returns: it stays in x30, which the system call keeps for both, as it does all registers but x0. The
 * call is clone(2) with CLONE_VM, CLONE_VFORK and SIGCHLD, on the caller's stack. */
	FUNCTION vfork
	THREAD_PLACE x9, x10
	ldr	x11, [x9, x10]
	ADDRESS_HIDDEN x12, rn_no_area
	str	x12, [x9, x10]
	mov	x0, 0x4000 | 0x100 | 17
	mov	x1, 0
	mov	x2, 0
	mov	x3, 0
	mov	x4, 0
	mov	x8, 220
	svc	0
	cbz	x0, .Lvfork_child
	str	x11, [x9, x10]
	tbnz	x0, 63, .Lvfork_error
.Lvfork_child:
	ret
.Lvfork_error:
	RETURN_ERROR
	END vfork

	.section .note.GNU-stack, "", %progbits
