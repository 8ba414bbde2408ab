/* free_code.c: free of a function's address. */
#include "misuse.h"

int main(void) { free(announced((const void *)(uintptr_t)&main)); }
