/* pool_layout.h: where the assembly of x86-64 finds what pool.h and pagemap.h declare; pool.c asserts it. Macros and
 * nothing else. */
#ifndef FRONTEND_POOL_LAYOUT_H
#define FRONTEND_POOL_LAYOUT_H

#define POOL_END 1040          /* struct pool: `end` of the bins, */
#define POOL_OPEN 1560         /* and behind them `open`, */
#define POOL_OPEN_CHECKED 1564 /* in the same eight bytes `open_checked`, */
#define POOL_OPEN_CPU 1568     /* and `open_cpu` */
#define AREA_CPU 4             /* struct area: cpu_id */
#define AREA_CID 24            /* and mm_cid */

#define PAGEMAP_WHOLE_BASE 32       /* struct pagemap_window: whole_base */
#define PAGEMAP_WHOLE_TAGS 40       /* and whole_tags */
#define PAGEMAP_WHOLE_PAGES 8388608 /* PAGEMAP_WINDOW_PAGES */

#endif
