/* backend.h: RnBackend, the source of page runs. The door of this tier.
 *
 * Runs of 8 KiB pages, packed into hugepages. The backend knows pages, never size classes. Address space is reserved
 * without access in steps that shrink when refused, and committed as it is used. All functions are thread-safe; failure
 * is 0 or a negative errno, and leaves everything as it was.
 */
#ifndef BACKEND_BACKEND_H
#define BACKEND_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/lock.h"

enum {
    BACKEND_HUGE_SIZE = 2 << 20, /* bytes of a hugepage, by which pages are moved */
    BACKEND_OWNERS = 33,         /* of runs of a few pages, 1 to 32; 0: nobody in particular */
};

extern struct lock backend_lock;
extern struct lock backend_release_lock;

struct backend_config {
    bool hugepages;       /* ask for transparent huge pages once the heap is big */
    unsigned hugetlb_mib; /* 0, 2 or 1024: explicit huge pages to try first */
    bool release;         /* give memory back at all */
    size_t retain;        /* free resident bytes that are never given back unasked */
};

/* Sets the policy. Caller: initialisation, once. Nothing is reserved before the first run is asked for. */
void backend_init(const struct backend_config *config);

/* A run of `pages` pages, aligned to `align_pages` pages (a power of two, at least 1); *zeroed tells whether its bytes
 * are known to be zero. The pagemap's entries of the run may be written. 0 when memory is short. */
uintptr_t backend_alloc(size_t pages, size_t align_pages, bool *zeroed);
/* The same for a block, which is counted as one, as long as it is. */
uintptr_t backend_alloc_block(size_t pages, size_t align_pages, bool *zeroed);
/* A run for an owner, in hugepages of his while little is free in others'. */
uintptr_t backend_alloc_owned(size_t pages, unsigned owner);
/* The same where it needs no further hugepage. *new_memory: it needs one, or the run was never resident. */
uintptr_t backend_alloc_packed(size_t pages, unsigned owner, bool *new_memory);
/* The same where there is no such need: else 0. */
uintptr_t backend_alloc_resident(size_t pages, unsigned owner);
/* For a block that grows, where it can be extended later. The first `filled` pages (whole hugepages) are those that the
 * caller will move others to with backend_move; *clean: that throws nothing away. */
uintptr_t backend_alloc_growing(size_t pages, size_t filled, bool *clean);
/* Gives back any part of runs that are no blocks: whole pages that backend_alloc gave. The caller cleared their pagemap
 * entries. */
void backend_free(uintptr_t start, size_t pages);
/* Gives back a block, of which the caller cleared them; or all but its first `kept` pages. */
void backend_free_block(uintptr_t start, size_t pages);
void backend_shrink(uintptr_t start, size_t pages, size_t kept);
/* A block of so many pages was lost in backend_move: they stay in use, but are a block's no more. */
void backend_lose_block(size_t pages);

/* backend_free of pages that the caller released (os_release), or that nobody touched: they read as zeros. */
void backend_free_released(uintptr_t start, size_t pages);

/* Lengthens the block at `start` in place from `pages` to `wanted`; the new part's bytes are undefined. 0 or -ENOMEM.
 */
int backend_extend(uintptr_t start, size_t pages, size_t wanted);

/* Moves the contents of the run at `from` to the run at `to`, of at least as many pages, by moving its pages; `from`
 * stays in use, its bytes undefined. 0; -EAGAIN: nothing moved; -ENOMEM: nothing moved, and the run at `to` is lost:
 * never free it. */
int backend_move(uintptr_t from, uintptr_t to, size_t pages);

/* True if the address lies in memory that the backend reserved. For diagnosis. */
bool backend_owns(const void *pointer);

/* Gives free resident memory back to the system until at most `keep` bytes of it stay. Returns the bytes given back.
 * Slow: system calls, outside backend_lock. `deep`: also parts of hugepages that are in use elsewhere. */
size_t backend_release(size_t keep, bool deep);

/* Gives free hugepages back with their address space, until at most `keep` bytes of free ones stay reserved: for
 * processes at a limit of address space or data. Returns the bytes of address space given back. */
size_t backend_retreat(size_t keep);

/* Where address space itself is short: gives that of the tables back which nothing needs now. Look-ups may take longer
 * from then on. Under a limit below BACKEND_SCARCE backend_retreat does it too. Returns the bytes. */
size_t backend_spare_space(void);
#define BACKEND_SCARCE ((size_t)4 << 30) /* address space of which 8 MiB of tags are no small part */

/* The program set its RLIMIT_AS: what is reserved beyond a share of it goes back, if nobody is at work here. */
void backend_limit_changed(void);

/* One step of the gradual return that follows recent demand; cheap when nothing is due. Returns the bytes given back.
 */
size_t backend_release_step(void);

/* The most bytes in use by runs lately, relaxed. */
size_t backend_demand(void);

/* Free bytes that are resident and exceed what recent demand justifies. Reads counters only. */
size_t backend_excess(void);

struct backend_stats {
    size_t reserved, committed, released_total, mappings;
    size_t in_use, block_bytes, blocks, free_resident; /* all of one moment; block_bytes are a part of in_use (I19) */
};
/* Takes the lock. */
void backend_stats(struct backend_stats *stats);

/* Bytes in use by runs now, relaxed: what callers scale their own caches by. */
size_t backend_in_use(void);

/* Bytes that became resident because runs needed them, since the start, relaxed: a clock that stands still while the
 * heap lives on what it has. */
size_t backend_fresh(void);

/* Free bytes that are resident now, relaxed. */
size_t backend_free_resident(void);
/* The number of free runs of pages, in hugepages in use and between them. Walks the lists of both, with the lock. */
size_t backend_free_runs(void);
/* Free hugepages that have resident pages now, relaxed. */
size_t backend_spare_hugepages(void);

/* Debug: checks every hugepage's counts and lists (I5, I6, I18). Takes backend_lock. */
void backend_check(void);

#endif
