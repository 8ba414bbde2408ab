/* pool_layout.h: where the assembly of x86-64 finds what pool.h declares; pool.c asserts it. Macros and nothing else.
 */
#ifndef FRONTEND_POOL_LAYOUT_H
#define FRONTEND_POOL_LAYOUT_H

#define POOL_END 1040  /* struct pool: `end` of the bins, */
#define POOL_OPEN 1560 /* and `open` behind them */

#endif
