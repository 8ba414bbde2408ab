/* empty.c: a library that is no allocator: preloading it has no effect, which RnBench has to notice. */
__attribute__((visibility("default"))) int nothing_here;
