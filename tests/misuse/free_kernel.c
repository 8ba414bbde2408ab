/* free_kernel.c: free of an address in the kernel's half. */
#include "misuse.h"

int main(void) { free(announced((void *)(UINTPTR_MAX - 4095))); }
