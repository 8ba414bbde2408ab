/* main.c: a fuzz target without a fuzzer.
 *
 *     fuzz-TARGET FILE            plays one input in this process: what AFL++ runs, and how a crash is looked into
 *     fuzz-TARGET                 plays every input of the stored corpus in every variant, each in a process of its
 * own; writes TAP fuzz-TARGET --variants      names the variants
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/fuzz/fuzz.h"

enum { INPUT_MOST = 1 << 20 };

/* Exactly as large as its contents, so that a sanitizer sees a step beyond. */
static uint8_t *read_input(const char *path, size_t *size) {
    static uint8_t buffer[INPUT_MOST];
    FILE *file = fopen(path, "rb");
    if (!file) {
        perror(path);
        exit(2);
    }
    *size = fread(buffer, 1, sizeof buffer, file);
    (void)fclose(file);
    uint8_t *data = malloc(*size ? *size : 1);
    CHECK(data);
    memcpy(data, buffer, *size);
    return data;
}

static void play(const char *path) {
    size_t size;
    uint8_t *data = read_input(path, &size);
    (void)LLVMFuzzerTestOneInput(data, size);
    free(data);
}

struct job {
    const char *variant, *path;
};

static void play_job(void *argument) {
    const struct job *job = argument;
    fuzz_begin(job->variant);
    play(job->path);
}

static int is_input(const struct dirent *entry) { return entry->d_name[0] != '.'; }

/* The corpus of this target, whose name is the program's. */
static int replay_all(const char *program) {
    char folder[200], path[500];
    const char *base = strrchr(program, '/');
    const char *target = strstr(base ? base : program, "fuzz-");
    struct dirent **entries;
    CHECK(target);
    snprintf(folder, sizeof folder, "tests/fuzz/corpus/%s", target + strlen("fuzz-"));
    int count = scandir(folder, &entries, is_input, alphasort), variants = 0, failed = 0, number = 0;
    if (count < 0) {
        perror(folder);
        return 2;
    }
    while (fuzz_variants[variants])
        variants++;
    printf("1..%d\n", count * variants);
    for (int i = 0; i < count; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, entries[i]->d_name);
        for (int v = 0; v < variants; v++) {
            int status = child_fails(play_job, &(struct job){fuzz_variants[v], path});
            printf("%sok %d - %s: %s\n", status ? "not " : "", ++number, fuzz_variants[v], path);
            failed += status != 0;
        }
        free(entries[i]);
    }
    free(entries);
    return failed != 0;
}

int main(int argc, char **argv) {
    if (argc == 1)
        return replay_all(argv[0]);
    if (argc != 2) {
        fprintf(stderr, "usage: %s [FILE | --variants]\n", argv[0]);
        return 2;
    }
    if (strcmp(argv[1], "--variants") == 0) {
        for (int i = 0; fuzz_variants[i]; i++)
            printf("%s\n", fuzz_variants[i]);
        return 0;
    }
    (void)LLVMFuzzerInitialize(&argc, &argv);
    play(argv[1]);
    return 0;
}
