// replaced_arrays.cc: as replaced.cc, but the forms of arrays are replaced.
#define REPLACE_ARRAY
#include "replaced.cc"
