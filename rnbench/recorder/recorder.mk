# recorder.mk: libraries to preload before an allocator. Included by rnbench.mk.
#
#     $(BUILD)/librncount.so     counts the calls that reach it, per executable (scripts/real-programs)
#     $(BUILD)/librnrecord.so    writes every call to a file (rnbench record)

# -fno-builtin: these functions are definitions of what the compiler believes to know.
RECORDER_CFLAGS := -std=gnu11 -Wall -Wextra -Wshadow -Wundef -Wcast-qual -Werror -D_GNU_SOURCE -O2 -g -fPIC \
                   -fvisibility=hidden -fexceptions -fno-builtin -ftls-model=initial-exec -I.

$(BUILD)/librncount.so: rnbench/recorder/forward.c rnbench/recorder/count.c
$(BUILD)/librnrecord.so: rnbench/recorder/forward.c rnbench/recorder/record.c

$(BUILD)/librncount.so $(BUILD)/librnrecord.so: $(wildcard rnbench/recorder/*.h) rnbench/recorder/recorder.mk
	@mkdir -p $(@D)
	$(CC) $(RECORDER_CFLAGS) -shared -Wl,-z,now -o $@ $(filter %.c,$^) -ldl
