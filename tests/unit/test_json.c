/* The JSON door: what it refuses, and that getters say what they found and wanted. */
#include "base/json.h"
#include "base/text.h"
#include "support/check.h"

static json_t *parse(const char *s) {
    aa_err err = {0};
    json_t *o = NULL;
    check_ok(aa_json_parse(&o, s, strlen(s), "f.json", &err));
    return o;
}

static void refused(const char *s, size_t n, const char *message) {
    aa_err err = {0};
    json_t *o = NULL;
    assert_int_equal(aa_json_parse(&o, s, n, "f.json", &err), AA_EFORMAT);
    assert_null(o);
    assert_int_equal(strncmp(err.message, "f.json: ", 8), 0);
    if (!strstr(err.message, message)) print_error("'%s' lacks '%s'\n", err.message, message);
    assert_non_null(strstr(err.message, message));
}

static void bad_files_are_refused(void **state) {
    (void)state;
    static const char *const rows[][2] = {
        {"", "line 1"},
        {"{", "line 1"},
        {"{\n\"a\":1,\n\"a\":2}", "line 3"},
        {"{\"a\":\"\\u0000\"}", "u0000"},
        {"{\"a\":1} x", "end of file"},
        {"[1e999]", "real number overflow"},
        {"[99999999999999999999]", "too big integer"},
        {"5", "'[' or '{'"},
        {"[\"\xFF\"]", "unable to decode byte 0xff"},
        {"[\"\\ud800\"]", "Unicode"},
        {"[NaN]", "line 1"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        refused(rows[i][0], strlen(rows[i][0]), rows[i][1]);
    refused("[\"a\0b\"]", 7, "line 1");
    refused(NULL, 0, "line 1");
    refused("{}", ((size_t)1 << 30) + 1, "the limit is 1073741824");
}

static void depth_is_limited(void **state) {
    (void)state;
    for (int depth = 255; depth <= 257; depth++) {
        aa_text t = {0};
        for (int i = 0; i < depth; i++) aa_text_add(&t, i % 2 ? "{\"[{\\\"[\":" : "[");
        aa_text_add(&t, "1");
        for (int i = depth; i-- > 0;) aa_text_add(&t, i % 2 ? "}" : "]");
        if (depth <= 256) json_decref(parse(t.data));
        else refused(t.data, t.len, "nested deeper than 256");
        aa_text_release(&t);
    }
    char deep[100001];
    memset(deep, '[', sizeof deep - 1);
    deep[sizeof deep - 1] = 0;
    refused(deep, sizeof deep - 1, "nested deeper");
}

static void getters_get(void **state) {
    (void)state;
    aa_err err = {0};
    json_t *o = parse("{\"n\":5,\"x\":1.5,\"yes\":true,\"s\":\"text\",\"nil\":null}");
    int64_t n = 0;
    double x = 0;
    bool b = false;
    const char *s = NULL;
    check_ok(aa_json_int(o, "n", "f", 5, 5, 9, &n, &err));
    assert_int_equal(n, 5);
    check_ok(aa_json_int(o, "nil", "f", 0, 1, 9, &n, &err));
    assert_int_equal(n, 9);
    check_ok(aa_json_int_need(o, "n", "f", 0, 10, &n, &err));
    assert_int_equal(n, 5);
    check_ok(aa_json_real(o, "x", "f", 1.5, 1.5, 9, &x, &err));
    assert_true(x == 1.5);
    check_ok(aa_json_real(o, "n", "f", 0, 10, 9, &x, &err));
    assert_true(x == 5);
    check_ok(aa_json_real(o, "none", "f", 0, 1, 9, &x, &err));
    assert_true(x == 9);
    check_ok(aa_json_flag(o, "yes", "f", false, &b, &err));
    assert_true(b);
    check_ok(aa_json_flag(o, "none", "f", false, &b, &err));
    assert_false(b);
    check_ok(aa_json_str(o, "s", "f", NULL, &s, &err));
    assert_string_equal(s, "text");
    check_ok(aa_json_str(o, "nil", "f", NULL, &s, &err));
    assert_null(s);
    json_decref(o);
}

#define FAILS(call, text)                                                                          \
    do {                                                                                           \
        aa_err err = {0};                                                                          \
        assert_int_equal(call, AA_EFORMAT);                                                        \
        assert_string_equal(err.message, text);                                                    \
    } while (0)

static void getters_explain(void **state) {
    (void)state;
    json_t *o = parse("{\"n\":5,\"x\":1.5,\"s\":\"\xC3\xA9\",\"o\":{\"a\":1},\"l\":[1]}");
    int64_t n = -7;
    double x = -7;
    bool b = true;
    const char *s = "kept";
    FAILS(aa_json_int(o, "n", "f", 6, 8, 7, &n, &err),
          "f: \"n\" must be an integer from 6 to 8; found 5");
    FAILS(aa_json_int(o, "x", "f", 0, 8, 7, &n, &err),
          "f: \"x\" must be an integer from 0 to 8; found 1.5");
    FAILS(aa_json_int_need(o, "none", "f", 0, 8, &n, &err),
          "f: \"none\" must be an integer from 0 to 8; found nothing");
    FAILS(aa_json_real(o, "x", "f", 2, 3, 2, &x, &err),
          "f: \"x\" must be a number from 2 to 3; found 1.5");
    FAILS(aa_json_real(o, "s", "f", 2, 3, 2, &x, &err),
          "f: \"s\" must be a number from 2 to 3; found \"\xC3\xA9\"");
    FAILS(aa_json_flag(o, "n", "f", true, &b, &err), "f: \"n\" must be true or false; found 5");
    FAILS(aa_json_str(o, "o", "f", NULL, &s, &err), "f: \"o\" must be a string; found an object");
    FAILS(aa_json_str(o, "l", "f", NULL, &s, &err), "f: \"l\" must be a string; found an array");
    assert_true(n == -7 && x == -7 && b && strcmp(s, "kept") == 0);
    json_decref(o);
}

static void written_as_read(void **state) {
    (void)state;
    static const char text[] = "{\"a\":[1,-2.5,true,false,null,{}],\"b\":{\"\xC3\xA9\":\"x\\n\"},"
                               "\"c\":[],\"d\":1e-05}";
    json_t *o = parse(text);
    aa_text out = {0};
    aa_json_write(o, &out);
    assert_string_equal(out.data, text);
    aa_text_release(&out);
    json_decref(o);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_files_are_refused),
        cmocka_unit_test(depth_is_limited),
        cmocka_unit_test(getters_get),
        cmocka_unit_test(getters_explain),
        cmocka_unit_test(written_as_read),
    };
    return cmocka_run_group_tests_name("unit_json", tests, NULL, NULL);
}
