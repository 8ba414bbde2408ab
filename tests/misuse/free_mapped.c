/* free_mapped.c: free of memory from mmap. */
#include "misuse.h"

int main(void) { free(announced(mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))); }
