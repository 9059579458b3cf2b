/* Numbers keep their point, also in a program whose locale writes a comma. */
#include "base/number.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/option.h"
#include "support/check.h"

#include <locale.h>
#include <math.h>
#include <stdlib.h>

static void numbers_are_read_and_written(void **state) {
    (void)state;
    char s[40], *end;
    const char *text = "-1.25e3,5";
    assert_true(aa_number_read(text, &end) == -1250);
    assert_string_equal(end, ",5");
    assert_int_equal(aa_number_print(s, sizeof s, "%.3f|%g|%d|%s", 1234.5, 1e-7, 7, "x"), 18);
    assert_string_equal(s, "1234.500|1e-07|7|x");
    assert_int_equal(aa_number_print(s, 4, "%d", 123456), 6);
    assert_string_equal(s, "123");
}

/* A locale with a comma: one of the system's, or one made here. */
static bool set_comma_locale(void) {
    static const char *const names[] = {"de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8", "fr_FR.utf8",
                                        "de_DE",       "fr_FR",      "aa_comma.UTF-8"};
    char command[512];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (i + 1 == sizeof names / sizeof *names) {
            const char *dir = check_temp_dir();
            snprintf(command, sizeof command,
                     "localedef -i de_DE -f UTF-8 '%s/aa_comma.UTF-8' >/dev/null 2>&1", dir);
            if (system(command) || setenv("LOCPATH", dir, 1)) return false;
        }
        if (setlocale(LC_ALL, names[i]) && strcmp(localeconv()->decimal_point, ",") == 0)
            return true;
    }
    return false;
}

typedef struct values { double lr; aa_amount budget; } values;
static const aa_opt rows[] = {
    {"lr", "g", AA_OPT_REAL, offsetof(values, lr), "0.001", 0, 10.5, 0, "X", "rate"},
    {"budget", "g", AA_OPT_AMOUNT, offsetof(values, budget), "1.5s", 0, 1e30, 0, "X", "time"},
    {0}};

static void options_in_any_locale(void) {
    aa_err err = {0};
    aa_text problems = {0}, ini = {0};
    values v;
    aa_opts o;
    check_ok(aa_opts_init(&o, rows, &v, &err));
    assert_true(v.lr == 0.001 && v.budget.value == 1.5);
    assert_true(aa_opts_set(&o, "lr", "2.5e-1", AA_FROM_COMMAND, "", &problems));
    assert_true(v.lr == 0.25);
    assert_false(aa_opts_set(&o, "lr", "0,5", AA_FROM_COMMAND, "here", &problems));
    assert_non_null(strstr(problems.data, "from 0 to 10.5"));
    aa_opts_write_ini(&o, &ini);
    assert_non_null(strstr(ini.data, "lr = 0.25"));
    aa_opts_release(&o);
    aa_text_release(&problems);
    aa_text_release(&ini);
}

static void a_comma_changes_nothing(void **state) {
    char plain[40];
    if (!set_comma_locale()) skip();
    snprintf(plain, sizeof plain, "%.1f", 0.5);
    assert_string_equal(plain, "0,5"); /* or the rest would prove nothing */
    numbers_are_read_and_written(state);
    options_in_any_locale();
    aa_err err = {0};
    aa_text t = {0};
    aa_text_printf(&t, "%.2f ", 0.25);
    aa_text_json_real(&t, 0.1);
    assert_string_equal(t.data, "0.25 0.1");
    aa_text_release(&t);
    char *s = aa_heap_printf("%g", 1.5);
    assert_string_equal(s, "1.5");
    aa_heap_free(s);
    assert_int_equal(aa_fail(&err, AA_EUSAGE, "%g", 2.5), AA_EUSAGE);
    aa_err_context(&err, "%g", 3.5);
    assert_string_equal(err.message, "3.5: 2.5");
    err = (aa_err){0};
    json_t *o;
    double x = 0;
    check_ok(aa_json_parse(&o, "{\"x\":1.25}", 10, "text", &err));
    check_ok(aa_json_real(o, "x", "text", 0, 2, 0, &x, &err));
    assert_true(x == 1.25);
    assert_int_equal(aa_json_real(o, "x", "text", 0, 0.5, 0, &x, &err), AA_EFORMAT);
    assert_non_null(strstr(err.message, "a number from 0 to 0.5; found 1.25"));
    json_decref(o);
    assert_string_equal(localeconv()->decimal_point, ","); /* the program keeps its locale */
    setlocale(LC_ALL, "C");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_read_and_written),
        cmocka_unit_test(a_comma_changes_nothing),
    };
    return cmocka_run_group_tests_name("unit_number", tests, NULL, NULL);
}
