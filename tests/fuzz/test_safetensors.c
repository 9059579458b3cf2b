/* Hostile safetensors files: each is refused with a message that says why, and no input, however
 * damaged, leads outside its bytes. Files are parsed in blocks of exactly their size, so that a
 * sanitizer sees every read beyond them. */
#include <stdlib.h>
#include "base/rng.h"
#include "base/text.h"
#include "formats/safetensors_int.h"
#include "support/check.h"

/* Parses n bytes. What is accepted must be consistent in itself. */
static aa_status parse(const void *bytes, size_t n, aa_err *err) {
    unsigned char *copy = malloc(n ? n : 1);
    char path[] = "model.safetensors";
    aa_safetensors st = {.path = path, .map = {copy, n}};
    size_t at = 0;

    assert_non_null(copy);
    if (n) memcpy(copy, bytes, n);
    aa_status status = aa__safetensors_parse(&st, err);
    for (size_t i = 0; i < st.n_tensors; i++) {
        const aa_st_tensor *t = &st.tensors[i];
        uint64_t n_elements = 1;

        for (int d = 0; d < t->n_dims; d++) n_elements *= t->shape[d];
        assert_true(n_elements == t->n_elements);
        assert_true(t->size_bytes == n_elements * aa_dtype_size(t->dtype));
        assert_true(i == 0 || t->offset == at);
        at = t->offset + t->size_bytes;
        assert_true(at <= n);
        assert_ptr_equal(aa_safetensors_find(&st, t->name), t);
    }
    if (status) {
        assert_true(st.n_tensors == 0 && !st.json && !st.index && !st.tensors);
        assert_true(err->code == status && strlen(err->message) > 10);
        assert_non_null(strstr(err->message, "model.safetensors"));
    }
    st.map = (aa_sys_map){0};
    st.path = NULL;
    aa_safetensors_close(&st);
    free(copy);
    return status;
}

/* 8-byte length, header, then n_data bytes. */
static aa_text make_file(const char *header, size_t header_len, size_t n_data) {
    aa_text t = {0};
    unsigned char length[8];

    for (int i = 0; i < 8; i++) length[i] = (unsigned char)((uint64_t)header_len >> 8 * i);
    aa_text_add_bytes(&t, length, 8);
    aa_text_add_bytes(&t, header, header_len);
    for (size_t i = 0; i < n_data; i++) aa_text_add_bytes(&t, "\x3f", 1);
    assert_false(t.failed);
    return t;
}

static aa_status parse_header(const char *header, size_t n_data, aa_err *err) {
    aa_text t = make_file(header, strlen(header), n_data);
    aa_status st = parse(t.data, t.len, err);

    aa_text_release(&t);
    return st;
}

#define T(dtype, shape, begin_end) \
    "{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" begin_end "}"

typedef struct hostile { const char *what, *header; size_t n_data; const char *message; } hostile;

static const hostile files[] = {
    {"no object", "[1,2]", 0, "no JSON object"},
    {"space first", " {}", 0, "no JSON object"},
    {"open object", "{\"a\":", 0, ""},
    {"trailing words", "{} x", 0, ""},
    {"duplicate name", "{\"a\":" T("F32", "[1]", "[0,4]") ",\"a\":" T("F32", "[1]", "[4,8]") "}", 8,
     ""},
    {"duplicate in disguise",
     "{\"a\":" T("F32", "[1]", "[0,4]") ",\"\\u0061\":" T("F32", "[1]", "[4,8]") "}", 8, ""},
    {"entry no object", "{\"a\":7}", 0, "'a'"},
    {"no dtype", "{\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "'a': \"dtype\""},
    {"dtype a number", "{\"a\":{\"dtype\":1,\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "dtype"},
    {"unknown dtype", "{\"a\":" T("F4_E2M1", "[4]", "[0,4]") "}", 4, "'F4_E2M1'"},
    {"no shape", "{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, "'a': \"shape\""},
    {"shape an object", "{\"a\":" T("F32", "{}", "[0,4]") "}", 4, "\"shape\""},
    {"shape NaN", "{\"a\":" T("F32", "[NaN]", "[0,4]") "}", 4, ""},
    {"shape real", "{\"a\":" T("F32", "[1.0]", "[0,4]") "}", 4, "integer"},
    {"shape null", "{\"a\":" T("F32", "[null]", "[0,4]") "}", 4, "integer"},
    {"shape negative", "{\"a\":" T("F32", "[-1]", "[0,4]") "}", 4, "integer"},
    {"shape beyond 64 bits", "{\"a\":" T("F32", "[99999999999999999999]", "[0,4]") "}", 4, ""},
    {"shape overflows", "{\"a\":" T("F32", "[4294967296,4294967296]", "[0,0]") "}", 0, "overflow"},
    {"bytes overflow", "{\"a\":" T("F32", "[4611686018427387904]", "[0,0]") "}", 0, "elements"},
    {"nine dimensions", "{\"a\":" T("F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]") "}", 4, "sizes"},
    {"no offsets", "{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "data_offsets"},
    {"one offset", "{\"a\":" T("F32", "[1]", "[0]") "}", 4, "data_offsets"},
    {"three offsets", "{\"a\":" T("F32", "[1]", "[0,4,8]") "}", 4, "data_offsets"},
    {"offsets text", "{\"a\":" T("F32", "[1]", "[\"0\",\"4\"]") "}", 4, "data_offsets"},
    {"offset negative", "{\"a\":" T("F32", "[1]", "[-4,0]") "}", 4, "rise"},
    {"offsets fall", "{\"a\":" T("F32", "[1]", "[4,0]") "}", 4, "rise"},
    {"offsets huge", "{\"a\":" T("F32", "[1]", "[9223372036854775800,9223372036854775804]") "}", 4,
     "cut short"},
    {"beyond the end", "{\"a\":" T("F32", "[2]", "[0,8]") "}", 4, "cut short"},
    {"too few bytes", "{\"a\":" T("F32", "[2]", "[0,4]") "}", 4, "2 elements of F32 but 4 bytes"},
    {"too many bytes", "{\"a\":" T("BF16", "[]", "[0,4]") "}", 4, "1 elements of BF16 but 4 bytes"},
    {"hole at the start", "{\"a\":" T("F32", "[1]", "[4,8]") "}", 8, "a hole before tensor 'a'"},
    {"hole inside", "{\"a\":" T("U8", "[1]", "[0,1]") ",\"b\":" T("U8", "[1]", "[2,3]") "}", 3,
     "a hole before tensor 'b'"},
    {"hole at the end", "{\"a\":" T("U8", "[1]", "[0,1]") "}", 2, "1 bytes follow"},
    {"data of nobody", "{}", 1, "1 bytes follow"},
    {"overlap", "{\"a\":" T("U8", "[2]", "[0,2]") ",\"b\":" T("U8", "[2]", "[1,3]") "}", 3,
     "an overlap before tensor 'b'"},
    {"same bytes twice", "{\"a\":" T("U8", "[2]", "[0,2]") ",\"b\":" T("U8", "[2]", "[0,2]") "}", 2,
     "an overlap before tensor 'b'"},
    {"metadata no object", "{\"__metadata__\":[]}", 0, "__metadata__"},
    {"metadata a number", "{\"__metadata__\":{\"k\":1}}", 0, "'k'"},
    {"escape sequence in a name", "{\"\\u001b[2Jx\":7}", 0, "'?[2Jx'"},
};

static void test_refused(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        aa_err err = {0};
        aa_status st = parse_header(files[i].header, files[i].n_data, &err);

        if (st != AA_EFORMAT && st != AA_EUNSUPPORTED)
            fail_msg("%s: status %d (%s)", files[i].what, st, err.message);
        if (!strstr(err.message, files[i].message))
            fail_msg("%s: '%s' lacks '%s'", files[i].what, err.message, files[i].message);
    }
}

static void test_accepted(void **state) {
    (void)state;
    static const hostile good[] = {
        {"empty", "{}", 0, ""},
        {"padding", "{}     ", 0, ""},
        {"metadata alone", "{\"__metadata__\":{\"format\":\"pt\"}}", 0, ""},
        {"a scalar", "{\"a\":" T("F64", "[]", "[0,8]") "}", 8, ""},
        {"empty tensors", "{\"a\":" T("F32", "[0,9]", "[0,0]") ",\"b\":" T("U8", "[3]", "[0,3]")
         ",\"c\":" T("F32", "[0]", "[3,3]") "}", 3, ""},
        {"backwards", "{\"b\":" T("U8", "[2]", "[1,3]") ",\"a\":" T("BOOL", "[1]", "[0,1]") "}", 3,
         ""},
        {"empty name", "{\"\":" T("I16", "[1]", "[0,2]") "}", 2, ""},
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        aa_err err = {0};
        if (parse_header(good[i].header, good[i].n_data, &err))
            fail_msg("%s: %s", good[i].what, err.message);
    }
}

static void test_lengths(void **state) {
    (void)state;
    static const unsigned char huge[][16] = {
        {255, 255, 255, 255, 255, 255, 255, 255, '{', '}'},
        {0, 0, 0, 0, 0, 0, 0, 128, '{', '}'},
        {9, 0, 0, 0, 0, 0, 0, 0, '{', '}', ' ', ' ', ' ', ' ', ' ', ' '},
        {0, 0, 0, 0, 0, 0, 0, 0, '{', '}'},
        {1, 0, 0, 0, 0, 0, 0, 0, '{', '}'},
    };
    aa_err err = {0};

    for (size_t i = 0; i < sizeof huge / sizeof *huge; i++) {
        err = (aa_err){0};
        assert_int_equal(parse(huge[i], sizeof huge[i], &err), AA_EFORMAT);
    }
    for (size_t n = 0; n < 8; n++) {
        err = (aa_err){0};
        assert_int_equal(parse(huge[0], n, &err), AA_EFORMAT);
    }
}

static void test_deep(void **state) {
    (void)state;
    aa_text t = {0};
    aa_err err = {0};

    aa_text_add(&t, "{\"a\":");
    for (int i = 0; i < 100000; i++) aa_text_add(&t, "[");
    assert_int_not_equal(parse_header(t.data, 0, &err), AA_OK);
    aa_text_clear(&t);
    for (int i = 0; i < 100000; i++) aa_text_add(&t, "{\"a\":");
    err = (aa_err){0};
    assert_int_not_equal(parse_header(t.data, 0, &err), AA_OK);
    aa_text_release(&t);
}

static const char small[] =
    "{\"__metadata__\":{\"format\":\"pt\"},"
    "\"model.embed\":" T("F32", "[3,2]", "[0,24]") ",\"b\":" T("BF16", "[2]", "[24,28]")
    ",\"c\":" T("F16", "[]", "[28,30]") "}   ";

/* Cut at every length: never accepted, never read beyond the cut. */
static void test_truncated(void **state) {
    (void)state;
    aa_text t = make_file(small, strlen(small), 30);
    aa_err err = {0};

    assert_int_equal(parse(t.data, t.len, &err), AA_OK);
    for (size_t n = 0; n < t.len; n++) {
        err = (aa_err){0};
        assert_int_not_equal(parse(t.data, n, &err), AA_OK);
    }
    aa_text_release(&t);
}

static void test_flipped(void **state) {
    (void)state;
    aa_text t = make_file(small, strlen(small), 30);
    size_t n_accepted = 0;

    for (size_t bit = 0; bit < 8 * (8 + strlen(small)); bit++) {
        aa_err err = {0};
        t.data[bit / 8] = (char)(t.data[bit / 8] ^ 1 << bit % 8);
        n_accepted += parse(t.data, t.len, &err) == AA_OK;
        t.data[bit / 8] = (char)(t.data[bit / 8] ^ 1 << bit % 8);
    }
    /* A flip in a name, a metadata string or the padding can be harmless; most others are not. */
    assert_true(n_accepted < 8 * (8 + strlen(small)) / 3);
    aa_text_release(&t);
}

/* Pieces of JSON pasted over a good file at random places. */
static void test_pasted(void **state) {
    (void)state;
    static const char *const pieces[] = {"0", "-", "9", "99999", "[", "]", "{", "}", "\"", ":", ",",
                                         "null", "1e9", "\\u0000", "\\", "F32", "F64", "U8"};
    aa_rng rng;

    aa_rng_init(&rng, 1, AA_RNG_TEST, 0);
    for (int round = 0; round < 6000; round++) {
        aa_text t = make_file(small, strlen(small), 30);
        aa_err err = {0};

        for (uint64_t k = 1 + aa_rng_below(&rng, 3); k > 0; k--) {
            const char *piece = pieces[aa_rng_below(&rng, sizeof pieces / sizeof *pieces)];
            size_t at = 8 + (size_t)aa_rng_below(&rng, strlen(small) - strlen(piece));
            memcpy(t.data + at, piece, strlen(piece));
        }
        if (parse(t.data, t.len, &err)) assert_int_not_equal(err.code, AA_OK);
        aa_text_release(&t);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused),   cmocka_unit_test(test_accepted),
        cmocka_unit_test(test_lengths),   cmocka_unit_test(test_deep),
        cmocka_unit_test(test_truncated), cmocka_unit_test(test_flipped),
        cmocka_unit_test(test_pasted),
    };
    return cmocka_run_group_tests_name("fuzz_safetensors", tests, NULL, NULL);
}
