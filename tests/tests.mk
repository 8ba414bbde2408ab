# tests.mk: the black-box tests: programs run under the preloaded library, or linked to it. Included by the top Makefile.
#   make check-black          everything, against $(BUILD)/librnalloc.so and .a
#   make check-black-glibc    the tests themselves tried on glibc's malloc (what only rnAlloc has is left out, and said so)
#   make check-black TESTS="stress/shadow-calm fork/storm"    some of them

BUILD ?= build
T := $(BUILD)/tests
BLACK_DIR := tests
BLACK_WARN := -Wall -Wextra -Wshadow -Wundef -Wcast-qual -Werror
# -fno-builtin: the compiler must not reason away the calls that are being tested.
BLACK_CFLAGS := -std=gnu11 $(BLACK_WARN) -fvisibility=hidden -fexceptions -O2 -g -fno-builtin -pthread -Iinclude
BLACK_CXXFLAGS := -std=gnu++17 -fsized-deallocation $(BLACK_WARN) -fvisibility=hidden -O2 -g -fno-builtin -pthread -Iinclude
BLACK_LDFLAGS := -rdynamic

black_c := $(filter-out $(BLACK_DIR)/lib/%,$(wildcard $(BLACK_DIR)/api/*.c $(BLACK_DIR)/figures/*.c $(BLACK_DIR)/cxx/*.c $(BLACK_DIR)/misuse/*.c \
	$(BLACK_DIR)/fork/*.c $(BLACK_DIR)/rseq/*.c $(BLACK_DIR)/stress/*.c $(BLACK_DIR)/env/*.c $(BLACK_DIR)/fault/*.c))
black_native := $(wildcard $(BLACK_DIR)/native/*.c)
black_libs := $(patsubst $(BLACK_DIR)/plugin/%.c,$(T)/plugin/lib%.so,$(wildcard $(BLACK_DIR)/plugin/*.c)) \
	$(patsubst $(BLACK_DIR)/plugin/%.cc,$(T)/plugin/lib%.so,$(wildcard $(BLACK_DIR)/plugin/*.cc))
black_programs := $(patsubst $(BLACK_DIR)/%.c,$(T)/%,$(black_c)) $(patsubst $(BLACK_DIR)/%.cc,$(T)/%,$(wildcard $(BLACK_DIR)/cxx/*.cc))
black_linked := $(patsubst $(BLACK_DIR)/native/%.c,$(T)/native/%-shared,$(black_native)) \
	$(patsubst $(BLACK_DIR)/native/%.c,$(T)/native/%-static,$(black_native))
black_shadow := $(T)/lib/shadow.o $(T)/lib/model.o $(T)/lib/disturb.o
black_headers := $(wildcard $(BLACK_DIR)/lib/*.h $(BLACK_DIR)/misuse/*.h $(BLACK_DIR)/figures/*.h) include/rnalloc.h

# The drivers, each of which names the programs it runs.
TESTS ?= $(patsubst $(BLACK_DIR)/%,%,$(wildcard $(patsubst %,$(BLACK_DIR)/%/*.t,api cxx env fault figures fork house \
	lineage misuse native points rseq smoke soak stress trace)))
black_tests = $(patsubst %,$(BLACK_DIR)/%.t,$(patsubst %.t,%,$(TESTS)))

$(T)/lib/%.o: $(BLACK_DIR)/lib/%.c $(black_headers)
	@mkdir -p $(@D)
	$(CC) $(BLACK_CFLAGS) -fPIC -c -o $@ $<

$(T)/%: $(BLACK_DIR)/%.c $(black_shadow) $(black_headers)
	@mkdir -p $(@D)
	$(CC) $(BLACK_CFLAGS) $(BLACK_LDFLAGS) -o $@ $< $(black_shadow) -ldl

$(T)/%: $(BLACK_DIR)/%.cc $(black_headers)
	@mkdir -p $(@D)
	$(CXX) $(BLACK_CXXFLAGS) $(BLACK_LDFLAGS) -o $@ $<

$(T)/plugin/lib%.so: $(BLACK_DIR)/plugin/%.c $(black_headers)
	@mkdir -p $(@D)
	$(CC) $(BLACK_CFLAGS) -fPIC -shared -Wl,-rpath,'$$ORIGIN' -o $@ $< -ldl

$(T)/plugin/lib%.so: $(BLACK_DIR)/plugin/%.cc $(black_headers)
	@mkdir -p $(@D)
	$(CXX) $(BLACK_CXXFLAGS) -fPIC -shared -o $@ $<

$(T)/native/%-shared: $(BLACK_DIR)/native/%.c $(black_shadow) $(black_headers) $(BUILD)/librnalloc.so
	@mkdir -p $(@D)
	$(CC) $(BLACK_CFLAGS) $(BLACK_LDFLAGS) -o $@ $< $(black_shadow) -L$(BUILD) -Wl,-rpath,$(abspath $(BUILD)) -l:librnalloc.so

$(T)/native/%-static: $(BLACK_DIR)/native/%.c $(black_shadow) $(black_headers) $(BUILD)/librnalloc.a
	@mkdir -p $(@D)
	$(CC) $(BLACK_CFLAGS) $(BLACK_LDFLAGS) -o $@ $< $(black_shadow) $(BUILD)/librnalloc.a -ldl $(LDLIBS)

# The library as `make LIBRSEQ=1` builds it, with a stand-in for librseq.
LIBRSEQ_DIR := $(BUILD)/librseq
$(LIBRSEQ_DIR)/librseq.so: $(BLACK_DIR)/librseq/librseq.c $(BLACK_DIR)/librseq/rseq/rseq.h
	@mkdir -p $(@D)
	$(CC) $(BLACK_CFLAGS) -I$(BLACK_DIR)/librseq -fPIC -shared -Wl,-soname,librseq.so -o $@ $<

$(LIBRSEQ_DIR)/librnalloc.so: $(LIBRSEQ_DIR)/librseq.so FORCE
	$(MAKE) BUILD=$(LIBRSEQ_DIR) LIBRSEQ=1 EXTRA_CFLAGS="$(EXTRA_CFLAGS) -I$(BLACK_DIR)/librseq" \
	    EXTRA_LDFLAGS="$(EXTRA_LDFLAGS) -L$(LIBRSEQ_DIR) -Wl,-rpath,'\$$\$$ORIGIN'" $@

.PHONY: FORCE
FORCE:

.PHONY: check-black check-black-glibc black-programs
black-programs: $(black_programs) $(black_libs)

check-black: black-programs $(black_linked) $(BUILD)/librnalloc.so $(LIBRSEQ_DIR)/librnalloc.so bench lineage
	RNALLOC_TEST=rnalloc RNALLOC_TEST_BIN=$(T) RNALLOC_TEST_LIB=$(abspath $(BUILD)) \
	RNALLOC_TEST_PRELOAD=$(abspath $(BUILD))/librnalloc.so prove --exec $(BLACK_DIR)/run $(PROVEFLAGS) $(black_tests)

check-black-glibc: black-programs lineage
	RNALLOC_TEST=glibc RNALLOC_TEST_BIN=$(T) RNALLOC_TEST_LIB=$(abspath $(BUILD)) \
	RNALLOC_TEST_PRELOAD= prove --exec $(BLACK_DIR)/run $(PROVEFLAGS) $(black_tests)
