/* class_index.h: from a size to its index in the class table. Included by the assembly too, hence macros and nothing
 * else.
 *
 *     size <= CLASS_FINE_MAX:  size
 *     up to CLASS_SIZE_MAX:    CLASS_COARSE_BASE + ((size + CLASS_COARSE_STEP - 1) >> CLASS_COARSE_SHIFT)
 */
#ifndef FRONTEND_CLASS_INDEX_H
#define FRONTEND_CLASS_INDEX_H

#define CLASS_FINE_MAX 1024
#define CLASS_COARSE_SHIFT 6
#define CLASS_COARSE_STEP 64
#define CLASS_COARSE_BASE 1008
#define CLASS_SIZE_MAX 262144

#endif
