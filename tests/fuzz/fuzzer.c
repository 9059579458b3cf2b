/* The targets for libFuzzer: AA_FUZZ_TARGET names the one. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "fuzz/targets.h"
#include "sys/sys.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const fuzz_target *target;
static char dir[] = "/dev/shm/aa-fuzz-XXXXXX";     /* memory: a disk would be most of the time */

static void remove_dir(void) { (void)aa_sys_remove_tree(dir); }

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    const char *name = getenv("AA_FUZZ_TARGET");
    (void)argc, (void)argv;
    target = name ? fuzz_find(name) : NULL;
    if (!target || !mkdtemp(dir)) {
        fprintf(stderr, "AA_FUZZ_TARGET must name a target of tests/fuzz/targets.c\n");
        exit(2);
    }
    atexit(remove_dir);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    fuzz_run(target, dir, data, n);
    return 0;
}
