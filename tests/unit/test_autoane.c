/* The public door: the program in the head of autoane.h, in small, and how failures arrive. */
#include "autoane.h"
#include <math.h>
#include <stdlib.h>
#include "base/file.h"
#include "base/memory.h"
#include "base/text.h"
#include "support/check.h"

static char *text, *out;

static int setup(void **state) {
    (void)state;
    aa_err err = {0};
    aa_text words = {0};
    text = aa_path_join(check_temp_dir(), "text.txt");
    out = aa_path_join(check_temp_dir(), "run");
    setenv("XDG_CACHE_HOME", check_temp_dir(), 1);
    for (int i = 0; i < 1200; i++) aa_text_printf(&words, "%d is more than %d. %s", i + 1, i,
                                                  i % 12 ? "" : "\n\n");
    check_ok(aa_file_write(text, words.data, words.len, &err));
    aa_text_release(&words);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    aa_heap_free(text);
    aa_heap_free(out);
    return 0;
}

static int count(void *ctx, const aa_lm_progress *p) {
    *(uint64_t *)ctx = p->step;
    return 0;
}

static void trains_and_speaks(void **state) {
    (void)state;
    char error[AA_LM_ERROR] = "";
    uint64_t steps = 0;
    aa_lm_loss trained, read;
    const char *job[] = {"data", text, "out", out, "tokenizer", "bytes", "dim", "32", "layers", "1",
                         "heads", "2", "ffn", "48", "seq", "32", "batch-tokens", "256",
                         "eval-tokens", "1024", "budget", "60steps", NULL};
    assert_int_equal(aa_lm_train(job, count, &steps, &trained, error), 0);
    assert_int_equal(steps, 60);
    assert_true(trained.loss < log(257));
    aa_lm *lm;
    aa_lm_info info;
    assert_int_equal(aa_lm_open(&lm, out, 1, error), 0);
    aa_lm_describe(lm, &info);
    assert_int_equal(info.dim, 32);
    assert_int_equal(info.vocab, 257);
    char *first, *again;
    aa_lm_options options = {.max_tokens = 20, .temperature = 1, .seed = 5};
    assert_int_equal(aa_lm_generate(lm, "7 is", &options, &first, error), 0);
    assert_int_equal(aa_lm_generate(lm, "7 is", &options, &again, error), 0);
    assert_string_equal(first, again);
    assert_true(strlen(first) > 0);
    aa_lm_text_free(first);
    aa_lm_text_free(again);
    assert_int_equal(aa_lm_evaluate(lm, text, &read, error), 0);
    assert_true(fabs(read.loss - trained.loss) < 0.3);
    assert_true(read.bits_per_byte > 0);
    aa_lm_close(lm);
}

static void says_what_is_wrong(void **state) {
    (void)state;
    char error[AA_LM_ERROR] = "";
    aa_lm *lm = NULL;
    assert_int_equal(aa_lm_open(&lm, "no/such/model", 1, error), 1);
    assert_null(lm);
    assert_non_null(strstr(error, "no/such/model"));
    const char *typo[] = {"data", text, "layerz", "2", NULL};
    assert_int_equal(aa_lm_train(typo, NULL, NULL, NULL, error), 2);
    assert_non_null(strstr(error, "layers"));
    const char *odd[] = {"data", NULL};
    assert_int_equal(aa_lm_train(odd, NULL, NULL, NULL, NULL), 2);
}

static int stop_at_once(void *ctx, const aa_lm_progress *p) {
    (void)ctx;
    return p->step >= 3;
}

static void stops_when_asked(void **state) {
    (void)state;
    char error[AA_LM_ERROR] = "", *dir = aa_path_join(check_temp_dir(), "stopped");
    const char *job[] = {"data", text, "out", dir, "tokenizer", "bytes", "dim", "32", "layers", "1",
                         "heads", "2", "ffn", "48", "seq", "32", "batch-tokens", "64",
                         "eval-tokens", "64", "budget", "500steps", NULL};
    assert_int_equal(aa_lm_train(job, stop_at_once, NULL, NULL, error), 130);
    assert_non_null(strstr(error, "--resume"));
    aa_heap_free(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(trains_and_speaks),
        cmocka_unit_test(says_what_is_wrong),
        cmocka_unit_test(stops_when_asked),
    };
    return cmocka_run_group_tests_name("unit_autoane", tests, setup, teardown);
}
