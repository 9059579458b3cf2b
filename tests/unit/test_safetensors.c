/* formats/safetensors: what is written is read back, and the layout other programs rely on. */
#include "base/file.h"
#include "base/memory.h"
#include "formats/safetensors.h"
#include "support/check.h"

static char *in_temp_dir(const char *name) {
    char *path = aa_path_join(check_temp_dir(), name);
    assert_non_null(path);
    return path;
}

static void write_file(const char *path, const aa_st_entry *entries, size_t n, const void *data,
                       size_t n_data) {
    static const aa_st_pair metadata[] = {{"step", "7"}, {"note", "a \"quoted\" word"}};
    aa_err err = {0};
    aa_outfile *f;

    check_ok(aa_outfile_open(&f, path, &err));
    check_ok(aa_safetensors_begin(f, entries, n, metadata, 2, &err));
    if (n_data) aa_outfile_write(f, data, n_data);
    check_ok(aa_outfile_commit(f, NULL, &err));
}

static void test_round_trip(void **state) {
    (void)state;
    static const aa_st_entry entries[] = {
        {"model.embed_tokens.weight", AA_DTYPE_F32, 2, {3, 2}},
        {"empty", AA_DTYPE_BF16, 2, {0, 7}},
        {"scalar", AA_DTYPE_F32, 0, {0}},
        {"bytes", AA_DTYPE_U8, 1, {5}},
    };
    float values[9] = {1, 2, 3, 4, 5, 6, 7};
    aa_err err = {0};
    aa_safetensors st;
    char *path = in_temp_dir("round.safetensors");

    memcpy(&values[7], "hello", 5);
    write_file(path, entries, 4, values, 33);
    check_ok(aa_safetensors_open(&st, path, &err));
    assert_int_equal(st.n_tensors, 4);
    for (size_t i = 0; i < 4; i++) {
        const aa_st_tensor *t = aa_safetensors_find(&st, entries[i].name);

        assert_non_null(t);
        assert_int_equal(t->dtype, entries[i].dtype);
        assert_int_equal(t->n_dims, entries[i].n_dims);
        assert_memory_equal(t->shape, entries[i].shape, (size_t)t->n_dims * sizeof *t->shape);
    }
    assert_int_equal(st.tensors[0].offset % 64, 0);
    check_same_bits("embedding", aa_safetensors_data(&st, &st.tensors[0]), values, 24);
    check_same_bits("scalar", aa_safetensors_data(&st, aa_safetensors_find(&st, "scalar")),
                    &values[6], 4);
    check_same_bits("bytes", aa_safetensors_data(&st, aa_safetensors_find(&st, "bytes")), "hello",
                    5);
    assert_int_equal(aa_safetensors_find(&st, "scalar")->n_elements, 1);
    assert_int_equal(aa_safetensors_find(&st, "empty")->n_elements, 0);
    assert_null(aa_safetensors_find(&st, "absent"));
    assert_null(aa_safetensors_find(&st, "__metadata__"));
    assert_string_equal(aa_safetensors_metadata(&st, "format"), "pt");
    assert_string_equal(aa_safetensors_metadata(&st, "step"), "7");
    assert_string_equal(aa_safetensors_metadata(&st, "note"), "a \"quoted\" word");
    assert_null(aa_safetensors_metadata(&st, "absent"));
    aa_safetensors_close(&st);
    aa_heap_free(path);
}

/* Whatever the length of the names: 8 + N is a multiple of 64, and the header ends in spaces. */
static void test_alignment(void **state) {
    (void)state;
    char name[80] = "", *path = in_temp_dir("aligned.safetensors");

    for (int n = 0; n < 70; n++) {
        aa_st_entry entry = {name, AA_DTYPE_I64, 1, {1}};
        aa_err err = {0};
        aa_safetensors st;

        name[n] = 'x';
        write_file(path, &entry, 1, "12345678", 8);
        check_ok(aa_safetensors_open(&st, path, &err));
        assert_int_equal(st.tensors[0].offset % 64, 0);
        assert_int_equal(st.map.size_bytes, st.tensors[0].offset + 8);
        aa_safetensors_close(&st);
    }
    aa_heap_free(path);
}

static void test_many_names(void **state) {
    (void)state;
    enum { N = 3000 };
    static char names[N][40];
    static aa_st_entry entries[N];
    static uint16_t data[N];
    aa_err err = {0};
    aa_safetensors st;
    char *path = in_temp_dir("many.safetensors");

    for (int i = 0; i < N; i++) {
        snprintf(names[i], sizeof names[i], "model.layers.%d.mlp.weight", i);
        entries[i] = (aa_st_entry){names[i], AA_DTYPE_U16, 1, {1}};
        data[i] = (uint16_t)i;
    }
    write_file(path, entries, N, data, sizeof data);
    check_ok(aa_safetensors_open(&st, path, &err));
    for (int i = 0; i < N; i++) {
        const aa_st_tensor *t = aa_safetensors_find(&st, names[i]);

        assert_non_null(t);
        assert_ptr_equal(t, &st.tensors[i]);
        assert_memory_equal(aa_safetensors_data(&st, t), &data[i], 2);
    }
    assert_null(aa_safetensors_find(&st, "model.layers.3000.mlp.weight"));
    aa_safetensors_close(&st);
    aa_heap_free(path);
}

static void test_failures(void **state) {
    (void)state;
    aa_err err = {0};
    aa_safetensors st = {.n_tensors = 77};
    char *path = in_temp_dir("no-such-file");

    assert_int_equal(aa_safetensors_open(&st, path, &err), AA_ENOTFOUND);
    assert_non_null(strstr(err.message, "no-such-file"));
    err = (aa_err){0};
    assert_int_not_equal(aa_safetensors_open(&st, check_temp_dir(), &err), AA_OK);
    err = (aa_err){0};
    check_ok(aa_file_write(path, "", 0, &err));
    assert_int_equal(aa_safetensors_open(&st, path, &err), AA_EFORMAT);
    assert_int_equal(st.n_tensors, 77);          /* untouched */

    aa_st_entry large = {"large", AA_DTYPE_F32, 3, {1u << 31, 1u << 31, 4}};
    aa_outfile *f;
    err = (aa_err){0};
    check_ok(aa_outfile_open(&f, path, &err));
    assert_int_equal(aa_safetensors_begin(f, &large, 1, NULL, 0, &err), AA_ETOOBIG);
    aa_outfile_abort(f);
    aa_heap_free(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_alignment),
        cmocka_unit_test(test_many_names),
        cmocka_unit_test(test_failures),
    };
    return cmocka_run_group_tests_name("unit_safetensors", tests, NULL, NULL);
}
