/* tests/fuzz: the readers of files from outside, one row each.
 *
 * A target reads a file as hostile as it may be. It must come back: with an error or with what it
 * read, which it then uses as far as anybody would. Nothing may be read or written out of bounds,
 * no memory lost, and no more taken at once than a file of this size could account for.
 *
 *     seeds/NAME/   small good files, which mutation starts from
 *     found/NAME/   files that once did harm
 *     NAME.dict     words of the format, for libFuzzer
 *
 * test_replay.c reads all of seeds/ and found/, whole and cut short, with every build of the tests;
 * fuzzer.c hands the targets to libFuzzer, for `./check --fuzz SECONDS`.
 */
#ifndef AA_TESTS_FUZZ_TARGETS_H
#define AA_TESTS_FUZZ_TARGETS_H

#include <stddef.h>

typedef struct fuzz_target {
    const char *name;
    const char *file;                    /* its name in the directory that is read */
    void (*read)(const char *path);      /* of that file */
} fuzz_target;

extern const fuzz_target fuzz_targets[];      /* ends with name NULL */
const fuzz_target *fuzz_find(const char *name);
/* Writes the bytes as the target's file into dir, and reads it under the limit of memory. */
void fuzz_run(const fuzz_target *t, const char *dir, const void *data, size_t n);

#endif
