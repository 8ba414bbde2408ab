# bench.mk: tests of RnBench itself. Included by rnbench/rnbench.mk.
#   make check-bench    a fake allocator measured as what it is, the histogram, the command line, the scripts
BENCH_T := $(BUILD)/tests/bench
BENCH_TEST_CFLAGS := -std=gnu11 -Wall -Wextra -Wshadow -Wundef -Wcast-qual -Werror -D_GNU_SOURCE -fvisibility=hidden \
                     -fexceptions -fno-builtin -O2 -g

$(BENCH_T)/histogram: tests/bench/histogram.c rnbench/histogram.h rnbench/random.h tests/lib/tap.h
	@mkdir -p $(@D)
	$(CC) $(BENCH_TEST_CFLAGS) -o $@ $<

$(BENCH_T)/%.so: tests/bench/%.c
	@mkdir -p $(@D)
	$(CC) $(BENCH_TEST_CFLAGS) -fPIC -shared -o $@ $<

.PHONY: check-bench
check-bench: bench $(BENCH_T)/histogram $(BENCH_T)/fake.so $(BENCH_T)/empty.so
	RNALLOC_TEST_BIN=$(abspath $(BUILD)/tests) RNBENCH=$(abspath $(BUILD))/rnbench RNALLOC_TEST_PRELOAD= \
	prove --exec tests/run $(PROVEFLAGS) $(BENCH_T)/histogram $(wildcard tests/bench/*.t)

check: check-bench
