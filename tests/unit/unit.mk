# unit.mk: the tests of each tier against its door, over a scripted operating system. Included by the top Makefile.
#   make check-unit       all of them, and the stress
#   make unit-stress      the whole library, its invariants checked while threads run (what the sanitizers watch, too)
# The tiers are compiled once more, with their invariants checked. tests/unit/TIER-NAME.c is a program over the tiers
# up to that one.

U := $(BUILD)/unit
UNIT_CFLAGS := $(filter-out -O2,$(CFLAGS)) -O1 -DRN_DEBUG -pthread
UNIT_WRAPS := mmap munmap mprotect madvise mremap syscall getauxval getrlimit clock_gettime os_touch
UNIT_LDFLAGS := $(UNIT_WRAPS:%=-Wl,--wrap=%) $(EXTRA_LDFLAGS)

unit_objects = $(patsubst %.c,$(U)/%.o,$(wildcard $(1:%=%/*.c)))
UNIT_BASE := $(call unit_objects,base)
UNIT_BACKEND := $(call unit_objects,base pagemap backend)
UNIT_MIDDLE := $(call unit_objects,base pagemap backend middle)
UNIT_ALL := $(STATIC_OBJECTS:$(BUILD)/%=$(U)/%)
UNIT_LIB := $(U)/tests/unit/script.o $(U)/tests/unit/check.o
UNIT_RUNS := $(U)/tests/unit/runs.o
UNIT_OBJECTS := $(U)/tests/unit/objects.o
UNIT_PROGRAMS := $(patsubst tests/unit/%.c,$(U)/%,\
    $(wildcard tests/unit/base-*.c tests/unit/backend-*.c tests/unit/middle-*.c tests/unit/frontend-*.c))

$(U)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(UNIT_CFLAGS) -MMD -MP -c $< -o $@

$(U)/%.o: %.S
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) -g -fPIC -MMD -MP -c $< -o $@

# The black-box tests' account of who owns which byte; it defines _GNU_SOURCE itself.
$(U)/shadow.o: tests/lib/shadow.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(filter-out -D_GNU_SOURCE,$(UNIT_CFLAGS)) -MMD -MP -c $< -o $@

# The whole library under its own names only: the test's surroundings, and the sanitizers, keep the standard ones.
UNIT_STANDARD := malloc free calloc realloc reallocarray memalign aligned_alloc posix_memalign valloc pvalloc \
    malloc_usable_size mallinfo mallinfo2 malloc_info malloc_stats malloc_trim mallopt free_sized free_aligned_sized \
    vfork _Znw* _Zna* _Zdl* _Zda*
$(U)/rnalloc.o: $(UNIT_ALL)
	$(LD) -r -o $@ $^
	objcopy --wildcard $(foreach name,$(UNIT_STANDARD),--localize-symbol='$(name)') $@

$(U)/base-%: $(U)/tests/unit/base-%.o $(UNIT_LIB) $(UNIT_BASE)
	$(CC) $(UNIT_CFLAGS) -o $@ $^ $(UNIT_LDFLAGS) -lcmocka $(LDLIBS)

$(U)/backend-%: $(U)/tests/unit/backend-%.o $(UNIT_LIB) $(UNIT_RUNS) $(UNIT_BACKEND)
	$(CC) $(UNIT_CFLAGS) -o $@ $^ $(UNIT_LDFLAGS) -lcmocka $(LDLIBS)

$(U)/middle-%: $(U)/tests/unit/middle-%.o $(UNIT_LIB) $(UNIT_OBJECTS) $(UNIT_MIDDLE)
	$(CC) $(UNIT_CFLAGS) -o $@ $^ $(UNIT_LDFLAGS) -lcmocka $(LDLIBS)

$(U)/frontend-%: $(U)/tests/unit/frontend-%.o $(UNIT_LIB) $(U)/rnalloc.o
	$(CC) $(UNIT_CFLAGS) -o $@ $^ $(UNIT_LDFLAGS) -lcmocka -ldl $(LDLIBS)

$(U)/stress: $(U)/tests/unit/stress.o $(U)/shadow.o $(U)/tests/unit/check.o $(U)/rnalloc.o
	$(CC) $(UNIT_CFLAGS) -o $@ $^ $(EXTRA_LDFLAGS) -ldl $(LDLIBS)

.SECONDARY: $(UNIT_PROGRAMS:$(U)/%=$(U)/tests/unit/%.o)
.PHONY: check-unit unit-stress
check-unit: $(UNIT_PROGRAMS) unit-stress
	CMOCKA_MESSAGE_OUTPUT=TAP prove --exec 'timeout -k 5 300' $(PROVEFLAGS) $(UNIT_PROGRAMS)

UNIT_MODES ?= rseq=1 rseq=0 cid=0 hardened=1
# The sanitizers' shadows do not go with every random layout; containers may forbid to ask for another.
UNIT_LAYOUT := $(if $(findstring -fsanitize,$(EXTRA_CFLAGS)),setarch -R)
unit-stress: $(U)/stress
	for mode in $(UNIT_MODES); do RNALLOC_OPTIONS=$$mode $(UNIT_LAYOUT) timeout -k 5 600 $< || exit 1; done

-include $(wildcard $(U)/*.d $(U)/*/*.d $(U)/*/*/*.d)
