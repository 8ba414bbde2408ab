# fuzz.mk: the fuzz targets (fuzz.h). Included by the top Makefile.
#   make check-fuzz       every target over its stored corpus, in every variant: seconds
#   scripts/fuzz          the search itself: builds them with a fuzzer's instrumentation (FUZZ_MAIN, BUILD, CC)

FUZZ_TARGETS := $(patsubst tests/fuzz/corpus/%,%,$(wildcard tests/fuzz/corpus/*))
FUZZ_PROGRAMS := $(FUZZ_TARGETS:%=$(U)/fuzz-%)
# What drives a target: main.c, or the library of libFuzzer.
FUZZ_MAIN ?= $(U)/tests/fuzz/main.o
F := $(U)/tests/fuzz
FUZZ_SYSTEM := $(F)/system.o $(U)/tests/unit/script.o
FUZZ_LINK = $(CC) $(UNIT_CFLAGS) -o $@ $(filter %.o,$^) $(filter-out %.o,$(FUZZ_MAIN))

$(FUZZ_PROGRAMS): $(filter %.o,$(FUZZ_MAIN)) $(F)/common.o $(U)/tests/unit/check.o

$(U)/fuzz-pagemap: $(F)/pagemap.o $(FUZZ_SYSTEM) $(call unit_objects,base pagemap)
	$(FUZZ_LINK) $(UNIT_LDFLAGS)
$(U)/fuzz-backend: $(F)/backend.o $(FUZZ_SYSTEM) $(UNIT_RUNS) $(UNIT_BACKEND)
	$(FUZZ_LINK) $(UNIT_LDFLAGS)
$(U)/fuzz-middle: $(F)/middle.o $(FUZZ_SYSTEM) $(UNIT_MIDDLE)
	$(FUZZ_LINK) $(UNIT_LDFLAGS)
$(U)/fuzz-pools: $(F)/pools.o $(FUZZ_SYSTEM) $(F)/threads.o $(U)/rnalloc.o
	$(FUZZ_LINK) $(UNIT_LDFLAGS)
$(U)/fuzz-api: $(F)/api.o $(FUZZ_SYSTEM) $(F)/threads.o $(U)/rnalloc.o
	$(FUZZ_LINK) $(UNIT_LDFLAGS)
$(U)/fuzz-options: $(F)/options.o $(call unit_objects,base)
	$(FUZZ_LINK) -Wl,--wrap=syscall $(EXTRA_LDFLAGS)
FUZZ_BENCH := $(F)/bench_stubs.o $(U)/rnbench/trace_file.o $(U)/rnbench/trace_rep.o
$(U)/fuzz-trace: $(F)/trace.o $(FUZZ_BENCH)
	$(FUZZ_LINK) $(EXTRA_LDFLAGS)
$(U)/fuzz-record: $(F)/record.o $(FUZZ_BENCH)
	$(FUZZ_LINK) $(EXTRA_LDFLAGS)

.PHONY: check-fuzz fuzz-programs
fuzz-programs: $(FUZZ_PROGRAMS)
check-fuzz: $(FUZZ_PROGRAMS)
	prove --exec 'timeout -k 5 300' $(PROVEFLAGS) $(FUZZ_PROGRAMS)

-include $(wildcard $(F)/*.d)
