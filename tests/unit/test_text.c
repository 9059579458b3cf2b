/* Text buffers: what is written is what was meant, whatever the bytes and numbers. */
#include "base/text.h"
#include "base/json.h"
#include "base/rng.h"
#include "support/check.h"

#include <math.h>
#include <stdlib.h>

static void text_is(aa_text *t, const char *want) {
    assert_string_equal(t->data, want);
    assert_int_equal(t->len, strlen(want));
    aa_text_clear(t);
}

static void texts_grow(void **state) {
    (void)state;
    aa_text t = {0};
    aa_err err = {0};
    aa_text_clear(&t);
    aa_text_add(&t, "");
    text_is(&t, "");
    for (int i = 0; i < 10000; i++) aa_text_printf(&t, "%d,", i % 10);
    assert_int_equal(t.len, 20000);
    assert_int_equal(strlen(t.data), 20000);
    aa_text_clear(&t);
    aa_text_add_bytes(&t, "a\0b", 3);
    assert_int_equal(t.len, 3);
    check_ok(aa_text_status(&t, &err));
    aa_text_add_bytes(&t, "x", SIZE_MAX - 1);
    assert_int_equal(aa_text_status(&t, &err), AA_ENOMEM);
    aa_text_release(&t);
    assert_null(t.data);
}

static void json_pieces(void **state) {
    (void)state;
    aa_text t = {0};
    aa_text_add(&t, "{");
    aa_text_json_key(&t, "a");
    aa_text_json_int(&t, INT64_MIN);
    aa_text_json_key(&t, "b");
    aa_text_add(&t, "[{");
    aa_text_json_key(&t, "\"");
    aa_text_json_bool(&t, true);
    aa_text_add(&t, "}]");
    aa_text_json_key(&t, "c");
    aa_text_json_real(&t, NAN);
    aa_text_add(&t, "}");
    text_is(&t, "{\"a\":-9223372036854775808,\"b\":[{\"\\\"\":true}],\"c\":null}");
    aa_text_release(&t);
}

static void strings_are_escaped(void **state) {
    (void)state;
    static const struct {
        const char *in, *want;
    } rows[] = {
        {"", "\"\""},
        {"a\"b\\c/d", "\"a\\\"b\\\\c/d\""},
        {"\n\r\t\b\x01\x7f", "\"\\n\\r\\t\\u0008\\u0001\\u007f\""},
        {"\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80", "\"\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\""},
        {"a\xFFz", "\"a\\ufffdz\""},
        {"\xC0\x80", "\"\\ufffd\\ufffd\""},            /* overlong */
        {"\xED\xA0\x80", "\"\\ufffd\\ufffd\\ufffd\""}, /* a surrogate */
        {"\xF4\x90\x80\x80", "\"\\ufffd\\ufffd\\ufffd\\ufffd\""},
        {"\xE2\x82", "\"\\ufffd\\ufffd\""}, /* cut short */
        {"\xE2\x82z", "\"\\ufffd\\ufffdz\""}};
    aa_text t = {0};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        aa_text_json_string(&t, rows[i].in, strlen(rows[i].in));
        text_is(&t, rows[i].want);
    }
    aa_text_json_string(&t, "a\0b", 3);
    text_is(&t, "\"a\\u0000b\"");
    aa_text_release(&t);
}

/* Whatever the bytes, a JSON reader takes the string. */
static void any_bytes_make_json(void **state) {
    (void)state;
    aa_rng r;
    aa_text t = {0};
    aa_err err = {0};
    aa_rng_init(&r, 1, AA_RNG_TEST, 0);
    for (int i = 0; i < 500; i++) {
        char bytes[40];
        /* From a few lead and follow bytes, so that near misses are common; never NUL. */
        static const unsigned char some[] = "\xC2\xE0\xED\xF0\xF4\x80\x8F\x90\xA0\xBF\x9F z\"\\";
        for (size_t k = 0; k < sizeof bytes; k++)
            bytes[k] = (char)some[aa_rng_below(&r, sizeof some - 1)];
        aa_text_add(&t, "[");
        aa_text_json_string(&t, bytes, sizeof bytes);
        aa_text_add(&t, "]");
        json_t *o;
        check_ok(aa_json_parse(&o, t.data, t.len, "bytes", &err));
        json_decref(o);
        aa_text_clear(&t);
    }
    aa_text_release(&t);
}

static void reals_are_short(void **state) {
    (void)state;
    static const struct {
        double v;
        const char *want;
    } rows[] = {{0, "0"},           {-0.0, "-0"},
                {1, "1"},           {0.1, "0.1"},
                {1e300, "1e+300"},  {5e-324, "5e-324"},
                {100000, "100000"}, {1.0 / 3, "0.3333333333333333"},
                {INFINITY, "null"}, {-INFINITY, "null"},
                {0.5, "0.5"},       {123456789, "123456789"}};
    aa_text t = {0};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        aa_text_json_real(&t, rows[i].v);
        text_is(&t, rows[i].want);
    }
    aa_text_release(&t);
}

/* Digits of the significand, without zeros at its ends. */
static size_t digits(const char *s) {
    size_t n = 0, zeros = 0;
    for (; *s && *s != 'e'; s++) {
        if (*s < '0' || *s > '9' || (!n && *s == '0')) continue;
        n++;
        zeros = *s == '0' ? zeros + 1 : 0;
    }
    return n - zeros;
}

static void reals_come_back(void **state) {
    (void)state;
    aa_rng r;
    aa_text t = {0};
    aa_rng_init(&r, 2, AA_RNG_TEST, 0);
    for (int i = 0; i < 20000; i++) {
        uint64_t bits = aa_rng_u64(&r);
        double v;
        if (i % 3 == 1)
            bits &= (uint64_t)0x800FFFFFFFFFFFFF >> (bits % 50 ? 0 : 30); /* subnormal */
        memcpy(&v, &bits, sizeof v);
        if (i % 3 == 2) v = (double)(int64_t)(bits >> 40) / 1000;
        if (!isfinite(v)) continue;
        aa_text_clear(&t);
        aa_text_json_real(&t, v);
        double back = strtod(t.data, NULL);
        assert_memory_equal(&back, &v, sizeof v);
        size_t n = digits(t.data);
        if (n < 2) continue;
        char shorter[40];
        snprintf(shorter, sizeof shorter, "%.*e", (int)n - 2, v);
        assert_true(strtod(shorter, NULL) != v);
    }
    aa_text_release(&t);
}

static void html_is_escaped(void **state) {
    (void)state;
    aa_text t = {0};
    aa_text_add_html(&t, "<a href=\"x\">'&amp;\xC3\xA9</a>");
    text_is(&t, "&lt;a href=&quot;x&quot;&gt;&#39;&amp;amp;\xC3\xA9&lt;/a&gt;");
    aa_text_release(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_grow),          cmocka_unit_test(json_pieces),
        cmocka_unit_test(strings_are_escaped), cmocka_unit_test(any_bytes_make_json),
        cmocka_unit_test(reals_are_short),     cmocka_unit_test(reals_come_back),
        cmocka_unit_test(html_is_escaped),
    };
    return cmocka_run_group_tests_name("unit_text", tests, NULL, NULL);
}
