/* free_literal.c: free of a string literal. */
#include "misuse.h"

int main(void) { free(announced("a literal that nobody allocated")); }
