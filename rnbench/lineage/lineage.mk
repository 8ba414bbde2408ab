# lineage.mk: the lineage's allocators, build/lineage/NAME.so, and the programs of tests/lineage. Included by the
# Makefile; works alone too: make -f rnbench/lineage/lineage.mk lineage
CC ?= cc
CFLAGS ?= -O2 -g
BUILD ?= build

LINEAGE_NAMES := freelist lockfree threadcache arenas buddy pagemap-hash
LINEAGE_DIR := rnbench/lineage
LINEAGE_STD := -std=gnu11 -D_GNU_SOURCE -Wall -Wextra -Wshadow -Wundef -Wcast-qual -Werror
LINEAGE_LIBS := $(LINEAGE_NAMES:%=$(BUILD)/lineage/%.so)
LINEAGE_TESTS := $(patsubst tests/lineage/%.c,$(BUILD)/lineage/test-%,$(wildcard tests/lineage/*.c))

# The lock-free stack compares and swaps 16 bytes; only x86-64 has to be told that it can.
LINEAGE_ARCH := $(if $(filter x86_64%,$(shell $(CC) -dumpmachine)),-mcx16)

.PHONY: lineage lineage-tests
lineage: $(LINEAGE_LIBS)
lineage-tests: $(LINEAGE_TESTS)

$(BUILD)/lineage:
	mkdir -p $@

$(LINEAGE_LIBS): $(BUILD)/lineage/%.so: $(LINEAGE_DIR)/%.c $(wildcard $(LINEAGE_DIR)/*.h) \
		$(LINEAGE_DIR)/common.c $(LINEAGE_DIR)/heap.c | $(BUILD)/lineage
	$(CC) $(LINEAGE_STD) $(CFLAGS) $(LINEAGE_ARCH) -fvisibility=hidden -fexceptions -ffunction-sections -fPIC \
		-ftls-model=initial-exec -shared -Wl,-soname,$*.so -Wl,--gc-sections -Wl,-z,nodelete -o $@ \
		$< $(LINEAGE_DIR)/common.c $(LINEAGE_DIR)/heap.c -pthread

# The compiler must not reason about malloc in a program that tests it. The tests of invariants contain the design.
LINEAGE_INSIDE := $(addprefix $(BUILD)/lineage/test-,heap-walk buddy-tree pagemap-table)
LINEAGE_SHARED := $(LINEAGE_DIR)/common.c $(LINEAGE_DIR)/heap.c
$(LINEAGE_INSIDE): $(wildcard $(LINEAGE_DIR)/*.[ch])
$(LINEAGE_TESTS): $(BUILD)/lineage/test-%: tests/lineage/%.c | $(BUILD)/lineage
	$(CC) $(LINEAGE_STD) $(CFLAGS) -fno-builtin -I. -I$(LINEAGE_DIR) -o $@ $< \
		$(if $(filter $@,$(LINEAGE_INSIDE)),$(LINEAGE_SHARED)) -pthread
