/* Every seed and every file that once did harm, whole and cut short at many places. */
#include <errno.h>
#include "base/file.h"
#include "base/memory.h"
#include "convert/adapter.h"
#include "data/tokens.h"
#include "zo/ledger.h"
#include "fuzz/targets.h"
#include "support/check.h"

enum { CUTS = 400 };                     /* of a file; all places of a small one */

typedef struct folder { const fuzz_target *target; const char *path, *dir; size_t n; } folder;

static int replay_file(void *ctx, const char *name) {
    folder *f = ctx;
    aa_sys_map map;
    aa_err err = {0};
    char *path = aa_path_join(f->path, name);
    check_ok(aa_map_open(&map, path, &err));
    fuzz_run(f->target, f->dir, map.data, map.size_bytes);
    size_t step = map.size_bytes / CUTS + 1;
    for (size_t n = 0; n < map.size_bytes; n += step)
        fuzz_run(f->target, f->dir, map.data, n);
    aa_sys_map_close(&map);
    aa_heap_free(path);
    f->n++;
    return 0;
}

static size_t replay(const fuzz_target *t, const char *kind) {
    char *path = aa_heap_printf("%s/fuzz/%s/%s", AA_TEST_DIR, kind, t->name);
    char *dir = aa_path_join(check_temp_dir(), t->name);
    folder f = {t, path, dir, 0};
    aa_err err = {0};
    check_ok(aa_make_dirs(dir, &err));
    int no = aa_sys_list_dir(path, replay_file, &f);
    assert_true(no == 0 || (no == ENOENT && strcmp(kind, "found") == 0));
    aa_heap_free(path);
    aa_heap_free(dir);
    return f.n;
}

static void seeds_and_found(void **state) {
    (void)state;
    for (const fuzz_target *t = fuzz_targets; t->name; t++) {
        assert_true(replay(t, "seeds") > 0);
        replay(t, "found");
    }
}

/* A seed that is refused would be a poor beginning. */
static void seeds_are_good(void **state) {
    (void)state;
    aa_err err = {0};
    aa_config c;
    aa_tokenizer *t;
    aa_adapter *a;
    check_ok(aa_hf_config_parse(&c, AA_TEST_DIR "/fuzz/seeds/config/llama.json", &err));
    check_ok(aa_tokenizer_load(&t, AA_TEST_DIR "/fuzz/seeds/tokenizer/llama3.json", &err));
    aa_tokenizer_free(t);
    check_ok(aa_adapter_open(&a, AA_TEST_DIR "/fuzz/seeds/adapter/pair.gguf", &err));
    aa_adapter_close(a);
    static const char *const models[] = {"blzt/trained", "blzt/converted", "llama2c/v0-tied",
                                         "llama2c/v0-untied", "llama2c/v1-tied",
                                         "llama2c/v1-untied"};
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        aa_source *s;
        char *path = aa_heap_printf(AA_TEST_DIR "/fuzz/seeds/%s.bin", models[i]);
        check_ok(aa_source_open(&s, path, &err));
        aa_source_close(s);
        aa_heap_free(path);
    }
    static const char *const tokens[] = {"raw.bin", "llmc-u16.bin", "llmc-u32.bin", "ours.tok",
                                         "examples.tok"};
    for (size_t i = 0; i < sizeof tokens / sizeof *tokens; i++) {
        aa_tokens k;
        char *path = aa_heap_printf(AA_TEST_DIR "/fuzz/seeds/tokens/%s", tokens[i]);
        check_ok(aa_tokens_open(&k, path, 300, 0, true, &err));
        aa_tokens_close(&k);
        aa_heap_free(path);
    }
    static const char *const ledgers[] = {"auto", "p-gap", "hizoo", "pool", "guard"};
    for (size_t i = 0; i < sizeof ledgers / sizeof *ledgers; i++) {
        aa_ledger_summary s;
        char *path = aa_heap_printf(AA_TEST_DIR "/fuzz/seeds/ledger/%s.ledger", ledgers[i]);
        check_ok(aa_ledger_verify(path, &s, &err));
        aa_heap_free(path);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(seeds_and_found),
                                       cmocka_unit_test(seeds_are_good)};
    return cmocka_run_group_tests_name("fuzz_replay", tests, NULL, NULL);
}
