/* free_noncanonical.c: free of an address no processor can have. */
#include "misuse.h"

int main(void) { free(announced((void *)0x5a5a5a5a5a5a5a50)); }
