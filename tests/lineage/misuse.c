/* misuse: frees what must not be freed, as the argument says. The allocator has to end the process with its line. */
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv) {
    const char *misdeed = argc == 2 ? argv[1] : "";
    /* The compiler must not see what is freed here. */
    char *volatile block = malloc(100);
    if (strcmp(misdeed, "double") == 0) {
        free(block);
        free(block);
    } else if (strcmp(misdeed, "interior") == 0) {
        memset(block, 0, 100);
        block += 32;
        free(block);
    } else {
        return 2;
    }
    return 0;
}
