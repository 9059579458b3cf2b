/* How failures travel: the first one wins,
 * context goes in front, every code has its exit status. */
#include "support/check.h"

#include <errno.h>

static aa_status inner(aa_err *err) { return aa_fail(err, AA_EFORMAT, "byte %d is wrong", 7); }

static aa_status outer(aa_err *err) {
    AA_TRY(inner(err));
    return AA_OK;
}

static void first_failure_wins(void **state) {
    (void)state;
    aa_err err = {0};
    assert_int_equal(outer(&err), AA_EFORMAT);
    assert_int_equal(aa_fail(&err, AA_EIO, "later"), AA_EIO);
    assert_int_equal(err.code, AA_EFORMAT);
    assert_string_equal(err.message, "byte 7 is wrong");
    assert_non_null(strstr(err.file, "test_status.c"));
    assert_int_equal(outer(NULL), AA_EFORMAT);
}

static void context_goes_in_front(void **state) {
    (void)state;
    aa_err err = {0}, clean = {0};
    inner(&err) ? (void)0 : fail();
    aa_err_context(&err, "file '%s'", "a");
    assert_string_equal(err.message, "file 'a': byte 7 is wrong");
    aa_err_context(&clean, "nothing");
    assert_string_equal(clean.message, "");
    aa_err_context(NULL, "nothing");
    for (int i = 0; i < 100; i++) aa_err_context(&err, "a longer and longer way to the reader");
    assert_int_equal(strlen(err.message), sizeof err.message - 1);
    char big[2000];
    memset(big, 'x', sizeof big);
    big[sizeof big - 1] = 0;
    aa_err_context(&err, "%s", big);
    assert_true(strlen(err.message) < sizeof err.message);
}

static void errno_is_translated(void **state) {
    (void)state;
    static const struct {
        int no;
        aa_status code;
    } rows[] = {{ENOENT, AA_ENOTFOUND}, {ENOMEM, AA_ENOMEM}, {EACCES, AA_EIO}, {ENOSPC, AA_EIO}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        aa_err err = {0};
        assert_int_equal(aa_fail_errno(&err, rows[i].no, "cannot read", "x/y"), rows[i].code);
        assert_non_null(strstr(err.message, "cannot read 'x/y': "));
        assert_int_equal(rows[i].no == ENOSPC, strstr(err.message, "disk full") != NULL);
    }
}

static void every_code_has_text_and_exit(void **state) {
    (void)state;
    for (int st = 0; st < AA_STATUS_COUNT; st++) assert_true(*aa_status_text((aa_status)st));
    assert_int_equal(aa_status_exit(AA_OK), 0);
    assert_int_equal(aa_status_exit(AA_EIO), 1);
    assert_int_equal(aa_status_exit(AA_EUSAGE), 2);
    assert_int_equal(aa_status_exit(AA_ETOOBIG), 2);
    assert_int_equal(aa_status_exit(AA_EDIVERGED), 3);
    assert_int_equal(aa_status_exit(AA_EINTERRUPTED), 130);
    assert_int_equal(aa_status_exit(AA_STATUS_COUNT), 1);
    assert_string_equal(aa_status_text(AA_STATUS_COUNT), "unknown status");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_failure_wins),
        cmocka_unit_test(context_goes_in_front),
        cmocka_unit_test(errno_is_translated),
        cmocka_unit_test(every_code_has_text_and_exit),
    };
    return cmocka_run_group_tests_name("unit_status", tests, NULL, NULL);
}
