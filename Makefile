# rnAlloc. `make help` lists the targets.
VERSION := 0.1.0
SOVERSION := 0
BUILD := build
CC := gcc
CXX := g++
AR := ar
ARCH := $(shell $(CC) -dumpmachine | cut -d- -f1)

WARN := -Wall -Wextra -Wshadow -Wundef -Wcast-qual -Werror
CFLAGS := -std=gnu11 -D_GNU_SOURCE -O2 -g -fPIC -fvisibility=hidden -fexceptions -fno-builtin-malloc $(WARN) $(EXTRA_CFLAGS)
CPPFLAGS := -I. -Iinclude
LDFLAGS := -Wl,-z,nodelete -Wl,-z,relro -Wl,-z,now -Wl,--no-undefined $(EXTRA_LDFLAGS)

SOURCES := $(wildcard base/*.c pagemap/*.c backend/*.c middle/*.c frontend/*.c)
OBJECTS := $(SOURCES:%.c=$(BUILD)/%.o) $(BUILD)/frontend/pool_$(ARCH).o
# Wrappers of the C library's functions need a next definition behind them: only a shared library has one.
STATIC_OBJECTS := $(filter-out $(BUILD)/frontend/interpose.o,$(OBJECTS)) $(BUILD)/frontend/static/no_interpose.o
LIBS := $(BUILD)/librnalloc.so $(BUILD)/librnalloc.a

ifeq ($(LIBRSEQ),1)
CFLAGS += -DRN_LIBRSEQ
LDLIBS += -lrseq
endif

.PHONY: all bench check lint asan ubsan tsan debug install uninstall help clean
all: $(LIBS)

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c $< -o $@

$(BUILD)/%.o: %.S
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) -g -fPIC -MMD -MP -c $< -o $@

$(BUILD)/librnalloc.so: $(OBJECTS) scripts/librnalloc.map
	$(CC) -shared -o $@ -Wl,-soname,librnalloc.so.$(SOVERSION) -Wl,--version-script=scripts/librnalloc.map \
	    $(CFLAGS) $(OBJECTS) $(LDFLAGS) $(LDLIBS)
	ln -sf librnalloc.so $(BUILD)/librnalloc.so.$(SOVERSION)

$(BUILD)/librnalloc.a: $(STATIC_OBJECTS)
	rm -f $@
	$(AR) rcs $@ $^

-include $(OBJECTS:.o=.d)

clean:
	rm -rf $(BUILD)
