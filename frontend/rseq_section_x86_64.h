/* rseq_section_x86_64.h: how a restartable sequence is written for x86-64. For assembly only; the next sequence of a
 * function begins behind the RSEQ_ABORT of its last. */
#ifndef FRONTEND_RSEQ_SECTION_X86_64_H
#define FRONTEND_RSEQ_SECTION_X86_64_H

.macro FUNCTION name:req
	.globl	\name
	.type	\name, @function
	.p2align 6
\name:
	.cfi_startproc
.endm

.macro HIDDEN_FUNCTION name:req
	.hidden	\name
	FUNCTION \name
.endm

/* Another name of the function at hand. */
.macro ALIAS name:req, target:req
	.globl	\name
	.type	\name, @function
	.set	\name, \target
.endm

.macro WEAK_ALIAS name:req, target:req
	.weak	\name
	.type	\name, @function
	.set	\name, \target
.endm

.macro END name:req
	.cfi_endproc
	.size	\name, . - \name
.endm

.macro CFI_ADJUST bytes:req
	.cfi_adjust_cfa_offset \bytes
.endm

/* The store to rseq_cs, through the registers given; sets `section` for the labels of this sequence. The descriptor is
 * struct rseq_cs of linux/rseq.h; its pointer array is for debuggers, which must not stop inside. */
.set section, 0
.macro RSEQ_BEGIN_AT area:req, scratch:req
	.set section, section + 1
	RSEQ_OPEN %section, \area, \scratch
.endm

.macro RSEQ_BEGIN
	RSEQ_BEGIN_AT rdx, r10
.endm

/* A sequence that begins before the store, so that what is seldom needed stands out of the way of the rest: first
 * RSEQ_BEGIN_EARLY and that, then RSEQ_RESTART, where an aborted sequence begins anew, then RSEQ_STORE. What lies
 * between these is aborted, too, if rseq_cs still says so since the thread's last sequence; so until the store only
 * registers may change, and none that is needed at the restart. */
.macro RSEQ_BEGIN_EARLY
	.set section, section + 1
	RSEQ_OPEN_EARLY %section
.endm

.macro RSEQ_RESTART
	RSEQ_RESTART_AT %section
.endm

.macro RSEQ_STORE
	RSEQ_STORE_AT %section, rdx, r10
.endm

.macro RSEQ_END
	RSEQ_CLOSE %section
.endm

.macro RSEQ_ABORT
	RSEQ_ABORT_AT %section
.endm

	.altmacro

.macro RSEQ_DESCRIBE n
	.pushsection __rseq_cs, "aw"
	.balign 32
.Lcs_\n\():
	.long	0, 0
	.quad	.Lstart_\n, .Lcommit_\n - .Lstart_\n, .Labort_\n
	.popsection
	.pushsection __rseq_cs_ptr_array, "aw"
	.quad	.Lcs_\n
	.popsection
.endm

.macro RSEQ_OPEN n, area, scratch
	RSEQ_DESCRIBE \n
.Lrestart_\n\():
	lea	.Lcs_\n\()(%rip), %\scratch
	mov	%\scratch, 8(%\area)
.Lstart_\n\():
.endm

.macro RSEQ_OPEN_EARLY n
	RSEQ_DESCRIBE \n
.Lstart_\n\():
.endm

.macro RSEQ_RESTART_AT n
.Lrestart_\n\():
.endm

.macro RSEQ_STORE_AT n, area, scratch
	lea	.Lcs_\n\()(%rip), %\scratch
	mov	%\scratch, 8(%\area)
.endm

.macro RSEQ_CLOSE n
.Lcommit_\n\():
.endm

/* The signature is an undefined instruction (ud1), as in librseq. */
.macro RSEQ_ABORT_AT n
	.byte	0x0f, 0xb9, 0x3d
	.long	0x53053053
.Labort_\n\():
	jmp	.Lrestart_\n
.endm

#endif
