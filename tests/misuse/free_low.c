/* free_low.c: free of an address near zero, such as a member of a null structure. */
#include "misuse.h"

int main(void) { free(announced((void *)0x40)); }
