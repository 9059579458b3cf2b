/* Journals as they come from runs, from crashes,
 * from resumes, and from people with bad intentions. */
#include "base/file.h"
#include "base/memory.h"
#include "report/report.h"
#include "support/check.h"

#include <math.h>
#include <stdlib.h>

/* There are a thousand of these: no fsync,
 * and no truncation, which ext4 takes for a wish to sync. */
static char *write_journal(const char *name, const char *text) {
    char *path = aa_path_join(check_temp_dir(), name);
    assert_non_null(path);
    remove(path);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, strlen(text), f), strlen(text));
    assert_int_equal(fclose(f), 0);
    return path;
}

static void open_journal(aa_journal *j, const char *text) {
    aa_err err = {0};
    char *path = write_journal("journal.jsonl", text);
    check_ok(aa_journal_open(j, path, &err));
    aa_heap_free(path);
}

static const char whole_run[] =
    "{\"event\":\"run\",\"schema\":1,\"options\":{\"lr\":0.001},\"model\":{\"params\":1000,"
    "\"flop_per_token\":6000},\"host\":{\"cpu\":\"c\",\"threads\":2}}\n"
    "{\"event\":\"step\",\"step\":10,\"tokens\":1000,\"epoch\":0.5,\"loss\":3.5,\"lr\":0.001,"
    "\"grad_norm\":1.5,\"time\":{\"wall_s\":2,\"tokens_per_s\":500,\"share_of_peak\":0.5}}\n"
    "{\"event\":\"eval\",\"step\":10,\"tokens\":1000,\"loss\":3.6,\"loss_stderr\":0.1,"
    "\"bits_per_byte\":1.5,\"best\":true,\"time\":{\"wall_s\":2.5}}\n"
    "{\"event\":\"sample\",\"step\":10,\"text\":\"a \\\"b\\\"\\nc\\u0000\\u0000d\\u0000\"}\n"
    "{\"event\":\"weather\",\"sun\":true}\n"
    "{\"event\":\"step\",\"step\":20,\"tokens\":2000,\"epoch\":1,\"loss\":null,\"lr\":0.002,"
    "\"time\":{\"wall_s\":4}}\n"
    "{\"event\":\"end\",\"reason\":\"budget\",\"step\":20,\"tokens\":2000,\"flop\":1.2e7}\n";

static void test_a_whole_run(void **state) {
    (void)state;
    aa_journal j;
    open_journal(&j, whole_run);
    assert_int_equal(j.n_steps, 2);
    assert_int_equal(j.n_evals, 1);
    assert_int_equal(j.n_samples, 1);
    assert_int_equal(j.n_skipped, 1);
    assert_non_null(j.run);
    assert_non_null(j.end);
    assert_int_equal(j.steps[0].step, 10);
    assert_int_equal(j.steps[0].tokens, 1000);
    assert_true(j.steps[0].epoch == 0.5 && j.steps[0].loss == 3.5 && j.steps[0].lr == 0.001);
    assert_true(j.steps[0].grad_norm == 1.5 && j.steps[0].wall_s == 2);
    assert_true(j.steps[0].tokens_per_s == 500 && j.steps[0].share_of_peak == 0.5);
    assert_true(isnan(j.steps[1].loss) && isnan(j.steps[1].grad_norm));
    assert_true(isnan(j.steps[1].tokens_per_s));
    assert_true(j.evals[0].loss == 3.6 && j.evals[0].loss_stderr == 0.1 && j.evals[0].best);
    assert_true(j.evals[0].bits_per_byte == 1.5 && j.evals[0].wall_s == 2.5);
    assert_string_equal(j.samples[0].text,
                        "a \"b\"\nc\xE2\x90\x80\xE2\x90\x80"
                        "d\xE2\x90\x80");
    aa_journal_release(&j);
}

static void test_a_directory_means_its_journal(void **state) {
    (void)state;
    aa_err err = {0};
    aa_journal j;
    aa_heap_free(write_journal("journal.jsonl", whole_run));
    check_ok(aa_journal_open(&j, check_temp_dir(), &err));
    assert_int_equal(j.n_steps, 2);
    aa_journal_release(&j);
}

/* Cut anywhere, a journal opens: the lines before the cut are all there. */
static void test_every_cut_is_tolerated(void **state) {
    (void)state;
    char text[sizeof whole_run];
    for (size_t n = 0; n < sizeof whole_run; n++) {
        memcpy(text, whole_run, n);
        text[n] = '\0';
        size_t lines = 0; /* complete ones, the last perhaps without its newline */
        for (size_t i = 0; i < n; i++) lines += text[i] == '\n';
        bool open = n > 0 && text[n - 1] != '\n',
             torn = open && whole_run[n] != '\n' && whole_run[n];
        lines += open && !torn;
        aa_journal j;
        open_journal(&j, text);
        assert_int_equal(j.n_skipped, (lines >= 5) + torn);
        assert_int_equal(j.n_steps, (lines >= 2) + (lines >= 6));
        assert_int_equal(j.end != NULL, lines >= 7);
        aa_journal_release(&j);
    }
}

static void check_bad(const char *text, const char *place, const char *about) {
    aa_err err = {0};
    aa_journal j = {.n_skipped = 77};
    char *path = write_journal("bad.jsonl", text);
    assert_int_equal(aa_journal_open(&j, path, &err), AA_EFORMAT);
    assert_int_equal(j.n_skipped, 77); /* untouched */
    if (!strstr(err.message, place) || !strstr(err.message, about))
        fail_msg("'%s' names neither %s nor %s", err.message, place, about);
    aa_heap_free(path);
}

static void test_bad_lines_are_errors_with_their_place(void **state) {
    (void)state;
    check_bad("{\"event\":\"step\",\"step\":1}\n{\"event\":\"st\n{\"event\":\"step\",\"step\":3}\n",
              "bad.jsonl:2", "");
    check_bad("{\"event\":\"step\"}\n\n[1,2]\n{}\n", "bad.jsonl:3", "object");
    check_bad("{\"event\":\"step\",\"step\":\"x\"}\n{}\n", "bad.jsonl:1", "step");
    check_bad("{\"event\":\"step\",\"step\":-1}\n{}\n", "bad.jsonl:1", "step");
    check_bad("{\"event\":\"step\",\"step\":1,\"loss\":\"low\"}\n{}\n", "bad.jsonl:1", "loss");
    check_bad("{\"event\":\"eval\",\"step\":1,\"best\":3}\n{}\n", "bad.jsonl:1", "best");
    check_bad("{\"event\":7}\n{}\n", "bad.jsonl:1", "event");
    check_bad("{\"event\":\"step\",\"event\":\"step\"}\n{}\n", "bad.jsonl:1", "");
}

static void test_absent_files(void **state) {
    (void)state;
    aa_err err = {0};
    aa_journal j;
    char *path = aa_path_join(check_temp_dir(), "nothing.jsonl");
    assert_int_equal(aa_journal_open(&j, path, &err), AA_ENOTFOUND);
    assert_non_null(strstr(err.message, "nothing.jsonl"));
    aa_heap_free(path);
}

static void test_empty_and_blank(void **state) {
    (void)state;
    const char *texts[] = {"", "\n", "  \r\n\n", "{}\n", "\n\n{}"};
    for (int i = 0; i < 5; i++) {
        aa_journal j;
        open_journal(&j, texts[i]);
        assert_int_equal(j.n_steps + j.n_evals + j.n_samples, 0);
        assert_int_equal(j.n_skipped, i >= 3);
        assert_null(j.run);
        assert_null(j.end);
        aa_journal_release(&j);
    }
}

static void test_a_resume_replaces_what_it_repeats(void **state) {
    (void)state;
    aa_journal j;
    open_journal(
        &j,
        "{\"event\":\"step\",\"step\":1,\"loss\":4}\n{\"event\":\"step\",\"step\":2,\"loss\":3}\n"
        "{\"event\":\"eval\",\"step\":2,\"loss\":3}\n{\"event\":\"sample\",\"step\":2,\"text\":"
        "\"x\"}\n"
        "{\"event\":\"step\",\"step\":3,\"loss\":2}\n{\"event\":\"eval\",\"step\":3,\"loss\":2}\n"
        "{\"event\":\"sample\",\"step\":3,\"text\":\"y\"}\n"
        "{\"event\":\"end\",\"reason\":\"interrupted\",\"step\":3}\n"
        "{\"event\":\"step\",\"step\":2,\"loss\":3.5}\n{\"event\":\"step\",\"step\":3,\"loss\":2.5}"
        "\n");
    assert_int_equal(j.n_steps, 3);
    assert_true(j.steps[0].loss == 4 && j.steps[1].loss == 3.5 && j.steps[2].loss == 2.5);
    assert_int_equal(j.n_evals, 1);
    assert_int_equal(j.n_samples, 1);
    assert_null(j.end);
    aa_journal_release(&j);
}

static void test_many_lines(void **state) {
    (void)state;
    aa_text t = {0};
    aa_journal j;
    for (int i = 1; i <= 5000; i++)
        aa_text_printf(
            &t,
            "{\"event\":\"step\",\"step\":%d,\"loss\":%d}\n{\"event\":\"eval\",\"step\":%d,"
            "\"loss\":1}\n{\"event\":\"sample\",\"step\":%d,\"text\":\"s%d\"}\n",
            i, i, i, i, i);
    open_journal(&j, t.data);
    assert_int_equal(j.n_steps, 5000);
    assert_int_equal(j.n_evals, 5000);
    assert_int_equal(j.n_samples, 5000);
    assert_true(j.steps[4999].loss == 5000);
    assert_string_equal(j.samples[4321].text, "s4322");
    aa_journal_release(&j);
    aa_text_release(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_whole_run),
        cmocka_unit_test(test_a_directory_means_its_journal),
        cmocka_unit_test(test_every_cut_is_tolerated),
        cmocka_unit_test(test_bad_lines_are_errors_with_their_place),
        cmocka_unit_test(test_absent_files),
        cmocka_unit_test(test_empty_and_blank),
        cmocka_unit_test(test_a_resume_replaces_what_it_repeats),
        cmocka_unit_test(test_many_lines),
    };
    return cmocka_run_group_tests_name("unit_journal", tests, NULL, NULL);
}
