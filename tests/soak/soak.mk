# soak.mk: the soak, linked to the library as it is preloaded, wrappers included, but with its invariants checked: to
# unit.mk's objects. Included by the top Makefile, after unit.mk.
#   scripts/soak runs it; make check does for some seconds (soak.t)
SOAK := $(T)/soak/soak
SOAK_OBJECTS := $(OBJECTS:$(BUILD)/%=$(U)/%)

$(SOAK): $(wildcard tests/soak/*.c tests/soak/*.h) $(black_shadow) $(black_headers) $(SOAK_OBJECTS)
	@mkdir -p $(@D)
	$(CC) $(BLACK_CFLAGS) -I. -DRN_DEBUG $(BLACK_LDFLAGS) -o $@ $(filter %.c,$^) $(black_shadow) $(SOAK_OBJECTS) -ldl

.PHONY: soak
soak: $(SOAK) $(T)/plugin/libguest.so
check-black: soak
