# checked.mk: programs linked to the library as it is preloaded, wrappers included, but with its invariants checked: to
# unit.mk's objects. Included by the top Makefile, after unit.mk.
#   tests/soak     everything at once; scripts/soak runs it, and make check for some seconds
#   tests/points   stands at each of the library's system calls, since its own definitions of them come first
CHECKED_OBJECTS := $(OBJECTS:$(BUILD)/%=$(U)/%)
SOAK := $(T)/soak/soak
CHECKED := $(SOAK) $(patsubst tests/%.c,$(T)/%,$(wildcard tests/points/*.c))
CHECKED_LINK = $(CC) $(BLACK_CFLAGS) -I. -DRN_DEBUG $(BLACK_LDFLAGS) -o $@ $(filter %.c,$^) $(black_shadow) \
	$(CHECKED_OBJECTS) -ldl $(LDLIBS)

$(SOAK): $(wildcard tests/soak/*.c tests/soak/*.h) $(black_shadow) $(black_headers) $(CHECKED_OBJECTS)
	@mkdir -p $(@D)
	$(CHECKED_LINK)

$(T)/points/%: tests/points/%.c $(black_shadow) $(black_headers) $(CHECKED_OBJECTS)
	@mkdir -p $(@D)
	$(CHECKED_LINK)

.PHONY: soak
soak: $(SOAK) $(T)/plugin/libguest.so
check-black: soak $(CHECKED)
