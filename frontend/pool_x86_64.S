/* pool_x86_64.S: the fast path and the pool operations for x86-64. Twin of pool_aarch64.S: the same functions in the
 * same order.
 *
 * Rules, from rseq(2) and librseq's documentation: start_ip is the instruction after the store to rseq_cs, or one
 * before (RSEQ_BEGIN_EARLY); inside are the load of the id, then of the pool, or of what it is open for, then of the
 * bin, all checks, and as last instruction the single store that commits (rn_move_bin alone also closes the bin inside,
 * which does no harm unfinished); no call; no register that is needed at the restart is written inside. abort_ip is
 * outside, preceded by the signature that the C library registered with, and goes back to the store or before it. A
 * branch out of a section needs no care: the kernel looks at the instruction pointer.
 *
 * The pool of malloc and free is the one that the thread used last, if it is open for the thread's id: a comparison
 * leads there, not an address made from the id. What these two store last is a slot, whose address came by the id, the
 * pool and the bin; the next call's loads are sometimes held until that store's address is known (a CPU foresees which
 * load needs which store, and is wrong where addresses are equal in their low bits). With the id's load held, each call
 * waits for the whole of the last one: 5 ns each instead of 1.5 and 2. A load that only a branch needs holds nobody up.
 * Loads are in order on this machine, so those of the bin come after that of `open`.
 *
 * Malloc and free compare mm_cid first, whose place is a number in the code, and look at nothing else if that fits:
 * where a thread has no registration mm_cid is 0, and no pool's `open` is 0 while other threads are known
 * (pool_set_open); in a stand-in that leads nowhere it is no pool's. Who is not let in comes to CHECK_POOL, which looks
 * at the sign of cpu_id, and compares again, with `open_checked`, that was loaded with `open` at once. It stands before
 * the function, since there it is out of the way.
 *
 * Register use in the sections: rdx area, rsi pool, rcx class, r11 the bin's `current`, r10 what it holds, a slot's
 * address; r9 what the pool is open for, then free; r8 is free but in rn_pop_batch and the like.
 */
#include "frontend/class_index.h"
#include "frontend/pool_layout.h"
#include "frontend/rseq_section_x86_64.h"

	/* At a page's start: where the code lies in its page was worth 10 % of the time of `sequential`, by chance. */
	.section .text.hot, "ax", @progbits
	.p2align 12

/* The way of those that the first comparison did not let in, where `name`'s sequence begins: before its function. The
 * upper half of r9 is open_checked. */
.macro CHECK_POOL name:req
.Lchecked_\name:
	cmpl	$0, AREA_CPU(%rdx)
	js	.Lslow_\name
	shr	$32, %r9
	cmp	%r9d, %r10d
	je	.Lopen_\name
	mov	AREA_CPU(%rdx), %r10d
	cmp	%r10d, POOL_OPEN_CPU(%rsi)
	je	.Lopen_\name
	jmp	.Lother_\name
.endm

/* A function that begins with what it was called with if its sequence is aborted, wherever that was. */
.macro POOL_FUNCTION name:req
	.p2align 6
	.type	\name\().check, @function
\name\().check:
	.cfi_startproc
	RSEQ_BEGIN_EARLY
	CHECK_POOL \name
	.cfi_endproc
	.size	\name\().check, . - \name\().check
	FUNCTION \name
	RSEQ_RESTART
.endm

/* What the operation does, with the class in ecx, on the thread's own pool; and back to the caller. */
.macro ENTER_POOL name:req, operation:req
.Lenter_\name:
	mov	rn_thread@gottpoff(%rip), %r9
	mov	%fs:(%r9), %rdx
	mov	%fs:8(%r9), %rsi
	RSEQ_STORE
	mov	AREA_CID(%rdx), %r10d
	mov	POOL_OPEN(%rsi), %r9
	cmp	%r9d, %r10d
	jne	.Lchecked_\name
.Lopen_\name:
	\operation .Lslow_\name
	RSEQ_END
	ret
	RSEQ_ABORT
/* The thread has another id than the pool it used last, or that is stopped, or a signal handler ended the thread's
 * registration just now. Takes the id's pool, and starts again; if that is the closed one, slow. */
.Lother_\name:
	mov	rn_fast(%rip), %r8
	mov	(%rdx,%r8), %r10d
	test	%r10d, %r10d
	js	.Lslow_\name
	mov	rn_fast+8(%rip), %r11
	mov	(%r11,%r10,8), %rsi
	mov	rn_thread@gottpoff(%rip), %r9
	mov	%rsi, %fs:8(%r9)
	cmp	%r10d, POOL_OPEN_CHECKED(%rsi)
	je	.Lenter_\name
	cmp	%r10d, POOL_OPEN_CPU(%rsi)
	je	.Lenter_\name
	jmp	.Lslow_\name
.endm

/* Of malloc: the object in rax. `current` and the slot are addressed by a register alone: so Intel's CPUs (Golden Cove
 * and later) hand what is stored to the next load of it at once, and with an index in the address they do not, or at
 * times. The object below is fetched into the near caches: it is the class's next, and where many were freed it has
 * long left them. Of an empty bin that is the mark itself. */
.macro POP_OBJECT slow:req
	lea	(%rsi,%rcx,8), %r11
	mov	(%r11), %r10
	mov	(%r10), %rax
	test	$1, %al
	jne	\slow
	sub	$8, %r10
	mov	(%r10), %r9
	prefetcht0	(%r9)
	mov	%r10, (%r11)
.endm

/* Of free: the object is in rdi. `current` is written by a plain store, since what an addition in memory leaves there
 * is not handed on at once either. */
.macro PUSH_OBJECT slow:req
	lea	(%rsi,%rcx,8), %r11
	mov	(%r11), %r10
	cmp	POOL_END(%rsi,%rcx,4), %r10d
	jae	\slow
	cmp	%rdi, (%r10)
	je	\slow
	add	$8, %r10
	mov	%rdi, (%r10)
	mov	%r10, (%r11)
.endm

/* malloc(size in rdi); the section begins before all of this:
 *   restart: class = class_table[size <= 1024 ? size : 1008 + ((size + 63) >> 6)]
 *   enter:   area = thread.area, pool = thread.pool
 *            area->rseq_cs = &pop_cs
 *            if pool.open != area->mm_cid:
 *              if area->cpu_id < 0: slow
 *              if pool.open_checked != area->mm_cid and pool.open_cpu != area->cpu_id: other
 *            slot = pool.current[class]
 *            p    = *slot
 *            if p is the bottom mark: slow
 *            prefetch slot[-1]
 *   commit:  pool.current[class] = slot - 1
 *   other:   thread.pool = pool_of[area->id]
 *            if thread.pool is open for the id: enter, else: slow
 */
.macro ALLOC_BODY name:req, slow:req
	cmp	$CLASS_FINE_MAX, %rdi
	ja	.Lcoarse\@
	lea	class_table(%rip), %rcx
	movzbl	(%rcx,%rdi), %ecx
.Lclass\@:
	ENTER_POOL \name, POP_OBJECT
.Lcoarse\@:
	cmp	$CLASS_SIZE_MAX, %rdi
	ja	.Llarge\@
	lea	CLASS_COARSE_STEP-1(%rdi), %ecx
	shr	$CLASS_COARSE_SHIFT, %ecx
	lea	class_table+CLASS_COARSE_BASE(%rip), %rsi
	movzbl	(%rsi,%rcx), %ecx
	jmp	.Lclass\@
.Llarge\@:
	xor	%ecx, %ecx
.Lslow_\name:
	mov	%ecx, %esi
	jmp	\slow
.endm

	POOL_FUNCTION malloc
	ALIAS rnAlloc, malloc
	ALLOC_BODY malloc, rn_alloc_slow
	END malloc

	/* operator new(unsigned long); the forms that stand on it are in cxx.c. */
	.hidden	rn_new
	POOL_FUNCTION rn_new
	WEAK_ALIAS _Znwm, rn_new
	ALLOC_BODY rn_new, rn_new_slow
	END rn_new

/* rn_alloc_class(size in rdi, class in esi): malloc from its class on. */
	HIDDEN_FUNCTION rn_alloc_class
	mov	%esi, %ecx
	jmp	.Lenter_rn_alloc_class
	RSEQ_BEGIN_EARLY
	CHECK_POOL rn_alloc_class
	RSEQ_RESTART
	ENTER_POOL rn_alloc_class, POP_OBJECT
.Lslow_rn_alloc_class:
	mov	%ecx, %esi
	jmp	rn_alloc_slow
	END rn_alloc_class

/* free(p in rdi):
 *   restart:
 *   page  = (p - window.whole_base) rotated right by 3, >> 10: a p that is no multiple of 8 lands above the window too
 *   if page >= window's pages and p is NULL: nothing
 *   class = page < window's pages ? window.whole_tags[page]
 *         : p % 8 ? 0 : zero_tags[tag_root[p >> 30] + page in the leaf]
 *   enter:   area = thread.area, pool = thread.pool
 *            area->rseq_cs = &push_cs
 *            if pool.open != area->mm_cid: as malloc
 *            slot = pool.current[class]
 *            if low half of slot >= pool.end[class]: slow
 *            if *slot == p: slow (freed twice in a row)
 *            slot[1] = p
 *   commit:  pool.current[class] = slot + 1
 */
	POOL_FUNCTION free
	ALIAS rnFree, free
	/* operator delete, and the aligned one: the others stand on these (cxx.c). The alignment is a hint, the pagemap
	 * decides. */
	WEAK_ALIAS _ZdlPv, free
	WEAK_ALIAS _ZdlPvSt11align_val_t, free
	mov	%rdi, %rdx
	sub	pagemap_win+PAGEMAP_WHOLE_BASE(%rip), %rdx
	ror	$3, %rdx
	shr	$10, %rdx
	cmp	$PAGEMAP_WHOLE_PAGES, %rdx
	jae	.Lfree_radix
	mov	pagemap_win+PAGEMAP_WHOLE_TAGS(%rip), %rcx
	movzbl	(%rcx,%rdx), %ecx
.Lfree_class:
	ENTER_POOL free, PUSH_OBJECT
.Lfree_radix:
	test	%rdi, %rdi
	je	.Lfree_nothing
	test	$7, %dil
	jne	.Lfree_foreign
	mov	%rdi, %rdx
	shr	$30, %rdx
	cmp	$131072, %rdx
	jae	.Lfree_foreign
	lea	pagemap_tag_root(%rip), %rcx
	mov	(%rcx,%rdx,8), %rcx
	lea	pagemap_zero_tags(%rip), %rdx
	add	%rdx, %rcx
	mov	%rdi, %rdx
	shr	$13, %rdx
	and	$131071, %edx
	movzbl	(%rcx,%rdx), %ecx
	jmp	.Lfree_class
.Lfree_nothing:
	ret
.Lfree_foreign:
	xor	%ecx, %ecx
.Lslow_free:
	mov	%ecx, %esi
	jmp	rn_free_slow
	END free

/* rn_push_batch(class edi, objects rsi, count rdx, area rcx): pushes as many as there is room for.
 *   room = (end - current) / 8, at least 0; k = min(room, count); slots above current = objects;
 *   commit: current += 8 * k
 * Halves of addresses have no sign.
 */
	HIDDEN_FUNCTION rn_push_batch
	mov	%edi, %edi
	RSEQ_BEGIN_AT rcx, rax
	cmpl	$0, 4(%rcx)
	js	.Lpush_none
	mov	rn_fast(%rip), %rax
	mov	(%rcx,%rax), %eax
	mov	rn_fast+8(%rip), %r8
	mov	(%r8,%rax,8), %rax
	mov	(%rax,%rdi,8), %r10
	mov	POOL_END(%rax,%rdi,4), %r11d
	sub	%r10d, %r11d
	jbe	.Lpush_none
	shr	$3, %r11d
	cmp	%rdx, %r11
	cmova	%rdx, %r11
	xor	%r8d, %r8d
	test	%r11, %r11
	je	.Lpush_none
.Lpush_next:
	mov	(%rsi,%r8,8), %r9
	add	$8, %r10
	mov	%r9, (%r10)
	inc	%r8
	cmp	%r11, %r8
	jb	.Lpush_next
	mov	%r10, (%rax,%rdi,8)
	RSEQ_END
	mov	%r8, %rax
	ret
.Lpush_none:
	xor	%eax, %eax
	ret
	RSEQ_ABORT
	END rn_push_batch

/* rn_pop_batch(class edi, objects rsi, count rdx, area rcx): pops until the mark or `count`; the closed pool has none;
 *   commit: current -= 8 * popped */
	HIDDEN_FUNCTION rn_pop_batch
	mov	%edi, %edi
	RSEQ_BEGIN_AT rcx, rax
	cmpl	$0, 4(%rcx)
	js	.Lpop_none
	mov	rn_fast(%rip), %rax
	mov	(%rcx,%rax), %eax
	mov	rn_fast+8(%rip), %r8
	mov	(%r8,%rax,8), %rax
	mov	(%rax,%rdi,8), %r10
	xor	%r8d, %r8d
	test	%r10, %r10
	je	.Lpop_none
.Lpop_next:
	cmp	%rdx, %r8
	jae	.Lpop_done
	mov	(%r10), %r9
	test	$1, %r9b
	jne	.Lpop_done
	mov	%r9, (%rsi,%r8,8)
	inc	%r8
	sub	$8, %r10
	jmp	.Lpop_next
.Lpop_done:
	test	%r8, %r8
	je	.Lpop_none
	mov	%r10, (%rax,%rdi,8)
	RSEQ_END
	mov	%r8, %rax
	ret
.Lpop_none:
	xor	%eax, %eax
	ret
	RSEQ_ABORT
	END rn_pop_batch

/* rn_set_end(class edi, end esi, pool rdx, area rcx):
 *   commit: end = the new one, if the pool is the thread's and current <= end */
	HIDDEN_FUNCTION rn_set_end
	mov	%edi, %edi
	add	%edx, %esi
	RSEQ_BEGIN_AT rcx, rax
	cmpl	$0, 4(%rcx)
	js	.Lend_no
	mov	rn_fast(%rip), %rax
	mov	(%rcx,%rax), %eax
	mov	rn_fast+8(%rip), %r8
	cmp	%rdx, (%r8,%rax,8)
	jne	.Lend_no
	cmp	%esi, (%rdx,%rdi,8)
	ja	.Lend_no
	mov	%esi, POOL_END(%rdx,%rdi,4)
	RSEQ_END
	mov	$1, %eax
	ret
.Lend_no:
	xor	%eax, %eax
	ret
	RSEQ_ABORT
	END rn_set_end

/* rn_move_bin(class edi, area rsi, pool rdx, old_base ecx, new_base r8d): end = 0; copies the slots above old_base up
 * to current to above new_base;
 *   commit: current = the new one */
	HIDDEN_FUNCTION rn_move_bin
	mov	%edi, %edi
	mov	%ecx, %ecx
	add	%rdx, %rcx
	mov	%r8d, %r8d
	add	%rdx, %r8
	RSEQ_BEGIN_AT rsi, rax
	cmpl	$0, 4(%rsi)
	js	.Lmove_no
	mov	rn_fast(%rip), %rax
	mov	(%rsi,%rax), %eax
	mov	rn_fast+8(%rip), %r10
	cmp	%rdx, (%r10,%rax,8)
	jne	.Lmove_no
	mov	%edx, POOL_END(%rdx,%rdi,4)
	mov	(%rdx,%rdi,8), %rax
	sub	%rcx, %rax
	lea	(%r8,%rax), %r11
.Lmove_next:
	test	%rax, %rax
	je	.Lmove_done
	mov	(%rcx,%rax), %r10
	mov	%r10, (%r8,%rax)
	sub	$8, %rax
	jmp	.Lmove_next
.Lmove_done:
	mov	%r11, (%rdx,%rdi,8)
	RSEQ_END
	mov	$1, %eax
	ret
.Lmove_no:
	xor	%eax, %eax
	ret
	RSEQ_ABORT
	END rn_move_bin

/* vfork(2): the child runs in the parent's memory and TLS, but the kernel gave it no rseq, while the ids in the shared
 * TLS stay plausible. So the thread has no area until the parent is back. The return address must survive the child's
 * own returns: it waits in a register, which the system call keeps for both. */
	FUNCTION vfork
	pop	%rdi
	CFI_ADJUST -8
	.cfi_register rip, rdi
	mov	rn_thread@gottpoff(%rip), %rsi
	mov	%fs:(%rsi), %rdx
	lea	rn_no_area(%rip), %rax
	mov	%rax, %fs:(%rsi)
	mov	$58, %eax
	syscall
	push	%rdi
	CFI_ADJUST 8
	.cfi_offset rip, -8
	test	%eax, %eax
	je	.Lvfork_child
	mov	%rdx, %fs:(%rsi)
	js	.Lvfork_error
.Lvfork_child:
	ret
.Lvfork_error:
	neg	%eax
	push	%rax
	CFI_ADJUST 8
	call	__errno_location@PLT
	pop	%rdx
	CFI_ADJUST -8
	mov	%edx, (%rax)
	mov	$-1, %eax
	ret
	END vfork

	.section .note.GNU-stack, "", @progbits
