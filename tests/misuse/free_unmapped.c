/* free_unmapped.c: free of an address where nothing was ever mapped. */
#include "misuse.h"

int main(void) { free(announced((void *)0x10000000)); }
