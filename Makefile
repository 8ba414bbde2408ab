# rnAlloc. `make help` lists the targets.
VERSION := 0.1.0
SOVERSION := 0
BUILD := build
CC := gcc
CXX := g++
AR := ar
ARCH := $(shell $(CC) -dumpmachine | cut -d- -f1)

WARN := -Wall -Wextra -Wshadow -Wundef -Wcast-qual -Werror
CFLAGS := -std=gnu11 -D_GNU_SOURCE -O2 -g -fPIC -fvisibility=hidden -fexceptions -fno-builtin-malloc $(WARN) \
    $(EXTRA_CFLAGS)
CPPFLAGS := -I. -Iinclude
LDFLAGS := -Wl,-z,nodelete -Wl,-z,relro -Wl,-z,now -Wl,--no-undefined -Wl,--sort-section=name $(EXTRA_LDFLAGS)

TIERS := base pagemap backend middle frontend
# The fast path: assembly, or pool_locked, which ThreadSanitizer can see into.
POOL := pool_$(ARCH)
SOURCES := $(filter-out frontend/pool_locked.c,$(wildcard $(TIERS:%=%/*.c)))
OBJECTS := $(SOURCES:%.c=$(BUILD)/%.o) $(BUILD)/frontend/$(POOL).o
# Wrappers of the C library's functions need a next definition behind them: only a shared library has one.
STATIC_OBJECTS := $(filter-out $(BUILD)/frontend/interpose.o,$(OBJECTS)) $(BUILD)/frontend/static/no_interpose.o
# What the shared library exports; the sanitizers' builds leave the standard names to the sanitizers.
MAP := scripts/librnalloc.map
LIBS := $(BUILD)/librnalloc.so $(BUILD)/librnalloc.a

ifeq ($(LIBRSEQ),1)
CFLAGS += -DRN_LIBRSEQ
LDLIBS += -lrseq
endif

.PHONY: all bench check lint analyze format asan ubsan tsan debug install uninstall help clean
all: $(LIBS)

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c $< -o $@

$(BUILD)/%.o: %.S
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) -g -fPIC -MMD -MP -c $< -o $@

$(BUILD)/librnalloc.so: $(OBJECTS) $(MAP)
	$(CC) -shared -o $@ -Wl,-soname,librnalloc.so.$(SOVERSION) -Wl,--version-script=$(MAP) \
	    $(CFLAGS) $(OBJECTS) $(LDFLAGS) $(LDLIBS)
	ln -sf librnalloc.so $(BUILD)/librnalloc.so.$(SOVERSION)

$(BUILD)/librnalloc.a: $(STATIC_OBJECTS)
	rm -f $@
	$(AR) rcs $@ $^

bench: $(LIBS) $(BUILD)/rnbench rnbench/rnbench

-include rnbench/rnbench.mk
-include rnbench/lineage/lineage.mk
-include tests/tests.mk
-include tests/unit/unit.mk
-include tests/checked.mk
-include tests/fuzz/fuzz.mk
-include scripts/install.mk
-include $(OBJECTS:.o=.d)

check: check-unit check-fuzz check-black

# The fast path of the other architecture is counted too where there is a compiler for it.
OTHER := $(if $(filter x86_64,$(ARCH)),aarch64,x86_64)
ifneq ($(and $(wildcard frontend/pool_$(OTHER).S),$(shell command -v $(OTHER)-linux-gnu-gcc)),)
OTHER_LIBRARY := $(BUILD)/$(OTHER)/librnalloc.so
endif
lint: $(LIBS)
	$(if $(OTHER_LIBRARY),$(MAKE) -s BUILD=$(BUILD)/$(OTHER) CC=$(OTHER)-linux-gnu-gcc $(OTHER_LIBRARY))
	scripts/lint $(BUILD)/librnalloc.so $(OTHER_LIBRARY)

# Too slow for lint: minutes.
analyze:
	scripts/analyze

format:
	clang-format -i $$(find $(TIERS) include rnbench tests -name '*.[ch]' -exec grep -L '^\.macro' {} +)

debug:
	$(MAKE) BUILD=$(BUILD)/debug EXTRA_CFLAGS="-DRN_DEBUG -O1" all unit-stress

# Each sanitizer watches RnBench on the library's own names, and the tests that can run under it; thread without the
# assembly: it cannot see into it.
SANITIZED = $(MAKE) BUILD=$(BUILD)/$@ MAP=scripts/rnalloc-names.map EXTRA_CFLAGS="-DRN_DEBUG $(1)" $(2)
asan:
	$(call SANITIZED,-fsanitize=address,watched-0 watched-1 check-unit)
ubsan:
	$(call SANITIZED,-fsanitize=undefined -fno-sanitize-recover=all,watched-0 watched-1 check-unit)
tsan:
	$(call SANITIZED,-fsanitize=thread,POOL=pool_locked UNIT_MODES="rseq=1 hardened=1" watched-1 unit-stress)

watched-%: $(BUILD)/librnalloc.so $(BUILD)/rnbench
	export RNALLOC_OPTIONS=rseq=$*; for workload in slots bulk large release; do \
	    setarch -R $(BUILD)/rnbench --workload $$workload --threads 4 --allocator rnalloc || exit 1; \
	done

help:
	@echo "make            $(LIBS)"
	@echo "make bench      the benchmark: rnbench/rnbench (scripts/run compares with other allocators)"
	@echo "make lineage    the classic designs: $(BUILD)/lineage/NAME.so"
	@echo "make results    everything under results/; QUICK=1, RESULTS_FLAGS=\"--only traces\" (scripts/results --help)"
	@echo "make check      the tests; make check-bench those of the benchmark"
	@echo "make check-fuzz  the fuzz targets over their stored inputs (scripts/fuzz searches for more)"
	@echo "make lint       what is checked without running: tiers, fast path, style, warnings"
	@echo "make analyze    clang-tidy, cppcheck and gcc -fanalyzer over all that is shipped; minutes"
	@echo "make format     clang-format over the C sources"
	@echo "make asan, ubsan, tsan    RnBench under a sanitizer"
	@echo "make debug      the libraries with their invariants checked, under $(BUILD)/debug"
	@echo "make install    PREFIX=$(PREFIX), DESTDIR, LIBDIR, INCLUDEDIR, MANDIR; make uninstall"
	@echo "make clean      removes $(BUILD)/"
	@echo "Variables: BUILD, CC, EXTRA_CFLAGS, EXTRA_LDFLAGS, LIBRSEQ=1 (rseq registered through librseq)"

clean:
	rm -rf $(BUILD) rnbench/rnbench
