/* rseq_section_aarch64.h: how a restartable sequence is written for aarch64. For assembly only; one sequence per
 * function. */
#ifndef FRONTEND_RSEQ_SECTION_AARCH64_H
#define FRONTEND_RSEQ_SECTION_AARCH64_H

.macro FUNCTION name:req
	.globl	\name
	.type	\name, %function
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
	.type	\name, %function
	.set	\name, \target
.endm

.macro WEAK_ALIAS name:req, target:req
	.weak	\name
	.type	\name, %function
	.set	\name, \target
.endm

.macro END name:req
	.cfi_endproc
	.size	\name, . - \name
.endm

/* A word of the library's own, which the linker resolves without the GOT. */
.macro LOAD_HIDDEN register:req, name:req, offset=0
	.hidden	\name
	adrp	\register, \name + \offset
	ldr	\register, [\register, :lo12:\name + \offset]
.endm

.macro ADDRESS_HIDDEN register:req, name:req
	.hidden	\name
	adrp	\register, \name
	add	\register, \register, :lo12:\name
.endm

/* The place of rn_thread.area: [base, offset]. Initial-exec TLS, as RN_TLS in base/attr.h. */
.macro THREAD_PLACE base:req, offset:req
	adrp	\offset, :gottprel:rn_thread
	ldr	\offset, [\offset, :gottprel_lo12:rn_thread]
	mrs	\base, tpidr_el0
.endm

/* The store to rseq_cs, through the registers given; sets `section` for the labels of this sequence. The descriptor
 * is struct rseq_cs of linux/rseq.h; its pointer array is for debuggers, which must not stop inside. */
.set section, 0
.macro RSEQ_BEGIN_AT area:req, scratch:req
	.set section, section + 1
	RSEQ_OPEN %section, \area, \scratch
.endm

.macro RSEQ_BEGIN
	RSEQ_BEGIN_AT x3, x6
.endm

.macro RSEQ_END
	RSEQ_CLOSE %section
.endm

.macro RSEQ_ABORT
	RSEQ_ABORT_AT %section
.endm

	.altmacro

.macro RSEQ_OPEN n, area, scratch
	.pushsection __rseq_cs, "aw"
	.balign 32
.Lcs_\n\():
	.word	0, 0
	.xword	.Lstart_\n, .Lcommit_\n - .Lstart_\n, .Labort_\n
	.popsection
	.pushsection __rseq_cs_ptr_array, "aw"
	.balign 8
	.xword	.Lcs_\n
	.popsection
.Lrestart_\n\():
	adrp	\scratch, .Lcs_\n
	add	\scratch, \scratch, :lo12:.Lcs_\n
	str	\scratch, [\area, 8]
.Lstart_\n\():
.endm

.macro RSEQ_CLOSE n
.Lcommit_\n\():
.endm

/* The signature is a break instruction (brk #0x45e0), as in librseq. */
.macro RSEQ_ABORT_AT n
	.inst	0xd428bc00
.Labort_\n\():
	b	.Lrestart_\n
.endm

#endif
