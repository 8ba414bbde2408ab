/* system.c: the scripted system under the targets that have one. See fuzz.h. */
#include <string.h>

#include "base/os.h"
#include "tests/fuzz/fuzz.h"

static struct script system_script;

void system_begin(const char *variant) {
    if (strcmp(variant, "strict") == 0)
        system_script.strict_commit = true;
    else if (strcmp(variant, "limited") == 0)
        system_script.address_limit = (size_t)1 << 30;
    else if (strcmp(variant, "pages") == 0)
        system_script.page_size = 64 << 10;
    else if (strcmp(variant, "unmaps") == 0)
        system_script.mremap_unmaps = true;
    else if (strcmp(variant, "loses") == 0)
        system_script.mremap_loses = true;
    script_play(&system_script);
    os_init();
}

enum { LOSSES_MOST = 150 }; /* script.c notes 200 in a process */

void input_script(struct input *input) {
    struct script script = system_script;
    unsigned what = input_byte(input);
    script.fail_at = what & 1 ? 1 + input_byte(input) : 0;
    script.one_in = what & 2 ? 2 + input_byte(input) % 16 : 0;
    script.seed = script.one_in ? input_number(input, 2) : 0;
    script.always = what & 4 ? input_byte(input) % (1 << CALL_KINDS) : 0;
    script.has_hugetlb = what & 8;
    script.mremap_loses &= script_losses() < LOSSES_MOST;
    script_play(&script);
}
