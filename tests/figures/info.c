/* info.c: malloc_info writes XML, and in it the truth about known allocations. */
#define _GNU_SOURCE
#include <errno.h>
#include <malloc.h>
#include "../lib/tap.h"
#include "blocks.h"

/* Element names must nest, as in any XML. Gives the number of elements, 0 when the text is malformed. */
static unsigned xml_elements(const char *text) {
    char stack[32][32];
    unsigned depth = 0, count = 0;
    for (const char *at = strchr(text, '<'); at; at = strchr(at + 1, '<')) {
        const char *end = strchr(at, '>');
        int closing = at[1] == '/';
        size_t length = strcspn(at + 1 + closing, " \t\n/>");
        if (!end || length == 0 || length >= sizeof stack[0] || depth == 32)
            return 0;
        if (closing) {
            if (depth == 0 || strncmp(stack[--depth], at + 2, length) != 0 || stack[depth][length])
                return 0;
        } else if (count++, end[-1] != '/') {
            memcpy(stack[depth], at + 1, length);
            stack[depth++][length] = 0;
        }
        if (depth == 0 && strchr(end, '<'))
            return 0;
    }
    return depth == 0 ? count : 0;
}

static void figures_of_info(void) {
    char *text = NULL;
    size_t length = 0;
    fill();
    FILE *stream = open_memstream(&text, &length);
    int answer = malloc_info(0, stream);
    fclose(stream);
    OK(answer == 0 && strncmp(text, "<malloc version=\"", 17) == 0, "malloc_info(0) writes a <malloc> element");
    OK(xml_elements(text) > 1, "malloc_info writes well-formed XML");
    OK(tells_number(text, BLOCKS_ASKED) || !tap_expects_rnalloc(), "malloc_info tells the bytes in use");
    free(text);
    stream = fopen("/dev/null", "w");
    errno = 0;
    OK(malloc_info(1, stream) != 0, "malloc_info with options that do not exist fails");
    fclose(stream);
    empty();
}

int main(void) {
    tap_check_subject();
    figures_of_info();
    return tap_done();
}
