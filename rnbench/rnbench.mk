# rnbench.mk: builds the benchmark. Included by the top Makefile, which may set CC, CFLAGS, EXTRA_LDFLAGS and BUILD.
#
#     $(BUILD)/rnbench    the program; --allocator rnalloc finds librnalloc.so beside it
#     rnbench/rnbench     a link to it
#
# The calls to malloc and free are the very thing to be measured, so the compiler must not reason about them
# (-fno-builtin-...), and position independence is asked for because the paths through the PLT differ without it.

BUILD ?= build

RNBENCH_SOURCES := $(wildcard rnbench/*.c)
RNBENCH_OBJECTS := $(RNBENCH_SOURCES:rnbench/%.c=$(BUILD)/rnbench.o/%.o)
RNBENCH_CFLAGS := -std=gnu11 -Wall -Wextra -Wshadow -Wundef -Wcast-qual -Werror -D_GNU_SOURCE -O2 -g -fPIE -pthread \
                  -Iinclude -fno-builtin-malloc -fno-builtin-free

$(BUILD)/rnbench: $(RNBENCH_OBJECTS)
	$(CC) $(CFLAGS) $(RNBENCH_CFLAGS) -pie $(EXTRA_LDFLAGS) -o $@ $^ -lm -ldl

$(BUILD)/rnbench.o/%.o: rnbench/%.c rnbench/rnbench.mk
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(RNBENCH_CFLAGS) -MMD -MP -c -o $@ $<

rnbench/rnbench: $(BUILD)/rnbench
	ln -srf $< $@

-include $(RNBENCH_OBJECTS:.o=.d)
-include tests/bench/bench.mk
-include rnbench/recorder/recorder.mk

bench: $(BUILD)/librncount.so $(BUILD)/librnrecord.so

# Everything under results/: QUICK=1 takes under 5 minutes, else under 40 on 2 cores. RESULTS_FLAGS="--only traces".
.PHONY: results
results: bench lineage
	scripts/results $(if $(QUICK),--quick) $(RESULTS_FLAGS)
