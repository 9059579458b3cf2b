/* convert: models of any source as Hugging Face directories. */
#include <signal.h>
#include <stdlib.h>
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "convert/convert.h"
#include "support/check.h"
#include "support/models.h"
#include "support/toy.h"

static const aa_convert_options keep = {.type = AA_TYPE_COUNT};

static aa_source *opened(const char *path) {
    aa_source *s = NULL;
    aa_err err = {0};

    check_ok(aa_source_open(&s, path, &err));
    return s;
}

/* Writes `from` by that writer, in the place of what was there, and opens it. */
static aa_source *through(aa_model_writer *write, const char *name, aa_source *from,
                          const aa_convert_options *o) {
    char *path = model_path(name);
    aa_err err = {0};

    assert_int_equal(aa_sys_remove_tree(path), 0);
    check_ok(write(path, from, o, &err));
    aa_source *s = opened(path);
    aa_heap_free(path);
    return s;
}

static void check_same_file(const char *a_dir, const char *b_dir, const char *name) {
    char *a = aa_path_join(a_dir, name), *b = aa_path_join(b_dir, name);
    aa_sys_map x, y;
    aa_err err = {0};

    check_ok(aa_map_open(&x, a, &err));
    check_ok(aa_map_open(&y, b, &err));
    assert_int_equal(x.size_bytes, y.size_bytes);
    check_same_bits(name, x.data, y.data, x.size_bytes);
    aa_sys_map_close(&x), aa_sys_map_close(&y);
    aa_heap_free(a), aa_heap_free(b);
}

static bool is_there(const char *dir, const char *name) {
    char *path = aa_path_join(dir, name);
    aa_sys_info info;

    assert_int_equal(aa_sys_stat(&info, path), 0);
    aa_heap_free(path);
    return info.kind != AA_SYS_ABSENT;
}

static void test_round_trips(void **state) {
    (void)state;
    aa_config c[] = {model_base, model_base, model_base, model_base};
    c[1].tied = false, c[1].qkv_bias = c[1].out_bias = c[1].mlp_bias = true;
    c[2].arch = AA_ARCH_QWEN2, c[2].rope_theta = 1e6;
    c[3].arch = AA_ARCH_QWEN3, c[3].head_dim = 24, c[3].tied = false;
    for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
        aa_source *from = model_source(&c[i]);
        aa_source *gguf = through(aa_gguf_write, "m.gguf", from, &keep);
        aa_source *back = through(aa_hf_convert, "back", gguf, &keep);

        check_same_config(&back->config, &from->config);
        check_same_rows(from, back, 0);
        check_same_file(from->path, back->path, "model.safetensors");
        aa_source_close(gguf), aa_source_close(back), aa_source_close(from);
    }
}

static void check_index(const char *dir, uint64_t weights) {
    char *path = aa_path_join(dir, "model.safetensors.index.json");
    json_t *o = NULL;
    aa_err err = {0};

    check_ok(aa_json_load(&o, path, &err));
    const json_t *total = json_object_get(json_object_get(o, "metadata"), "total_size");
    assert_int_equal(json_integer_value(total), weights);
    json_decref(o);
    aa_heap_free(path);
}

static void test_shards(void **state) {
    (void)state;
    aa_source *from = model_source(&model_base);
    const aa_convert_options o = {.type = AA_TYPE_COUNT, .shard_bytes = 100000};
    aa_source *parts = through(aa_hf_convert, "parts", from, &o);
    uint64_t weights = 4 * (uint64_t)aa_config_params(&from->config);

    check_same_rows(from, parts, 0);
    assert_false(is_there(parts->path, "model.safetensors"));
    check_index(parts->path, weights);
    aa_source *whole = through(aa_hf_convert, "whole", parts, &keep);
    check_same_file(from->path, whole->path, "model.safetensors");
    assert_false(is_there(whole->path, "model.safetensors.index.json"));
    aa_source_close(from), aa_source_close(parts), aa_source_close(whole);
}

static void test_types(void **state) {
    (void)state;
    static const struct { aa_type type; double most; } cases[] = {
        {AA_TYPE_F32, 0}, {AA_TYPE_BF16, 1.0 / 256}, {AA_TYPE_F16, 1.0 / 2048}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const aa_convert_options o = {.type = cases[i].type};
        aa_source *from = model_source(&model_base);
        aa_source *s = through(aa_hf_convert, "typed", from, &o);
        aa_tensor rows[MODEL_ROWS];
        size_t n = aa_model_rows(&s->config, rows, MODEL_ROWS);
        aa_stored stored;
        aa_err err = {0};

        check_same_rows(from, s, cases[i].most);
        for (size_t r = 0; r < n; r++) {                 /* vectors, too */
            check_ok(s->find(s, &rows[r], &stored, &err));
            assert_int_equal(stored.type, cases[i].type);
        }
        /* Through a GGUF file, whose vectors are F32, and back: the same file. */
        aa_source *gguf = through(aa_gguf_write, "typed.gguf", s, &o);
        aa_source *back = through(aa_hf_convert, "back", gguf, &o);
        check_same_file(s->path, back->path, "model.safetensors");
        aa_source_close(from), aa_source_close(s), aa_source_close(gguf), aa_source_close(back);
    }
}

static void test_quantised(void **state) {
    (void)state;
    const aa_convert_options q8 = {.type = AA_TYPE_Q8_0};
    aa_source *from = model_source(&model_base);
    aa_source *gguf = through(aa_gguf_write, "q8.gguf", from, &q8);
    aa_source *s = through(aa_hf_convert, "floats", gguf, &keep);
    aa_err err = {0};

    check_same_rows(gguf, s, 0);                         /* as F32, exactly */
    char *path = model_path("refused");
    assert_int_equal(aa_hf_convert(path, from, &q8, &err), AA_EUNSUPPORTED);
    assert_non_null(strstr(err.message, "GGUF"));
    assert_false(is_there(check_temp_dir(), "refused"));
    aa_heap_free(path);
    aa_source_close(from), aa_source_close(gguf), aa_source_close(s);
}

static void write_beside(const aa_source *s, const char *name, const char *text) {
    char *path = aa_path_join(s->path, name);
    aa_err err = {0};

    check_ok(aa_file_write(path, text, strlen(text), &err));
    aa_heap_free(path);
}

static void test_companions(void **state) {
    (void)state;
    static const char *const names[] = {"generation_config.json", "special_tokens_map.json",
                                        "chat_template.jinja", "merges.txt"};
    aa_source *from = model_source(&model_base);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        write_beside(from, names[i], "{\"top_k\": 7}");
    aa_source *s = through(aa_hf_convert, "copy", from, &keep);

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        check_same_file(from->path, s->path, names[i]);
    aa_source_close(from), aa_source_close(s);
}

static void test_never_half(void **state) {
    (void)state;
    aa_source *from = model_source(&model_base);
    char *path = model_path("taken");
    aa_err err = {0};

    assert_int_equal(aa_sys_remove_tree(path), 0);
    check_ok(aa_hf_convert(path, from, &keep, &err));
    assert_int_equal(aa_hf_convert(path, from, &keep, &err), AA_EUSAGE);
    assert_non_null(strstr(err.message, "is there already"));
    write_beside(from, "config.json", "{");              /* was read, matters no more */
    check_ok(aa_make_dirs((aa_heap_free(path), path = model_path("empty")), &err));
    err = (aa_err){0};
    check_ok(aa_hf_convert(path, from, &keep, &err));    /* into an empty directory */
    aa_heap_free(path);
    aa_source_close(from);
}

static int note_remains(void *ctx, const char *name) {
    *(bool *)ctx |= strncmp(name, "gone", 4) == 0;
    return 0;
}

static void test_interrupted(void **state) {
    (void)state;
    aa_source *from = model_source(&model_base);
    char *path = model_path("gone");
    aa_convert_options o = {.type = AA_TYPE_COUNT, .stoppable = true};
    aa_err err = {0};
    bool remains = false;

    aa_sys_interrupt_install();
    assert_int_equal(raise(SIGINT), 0);
    assert_int_equal(aa_hf_convert(path, from, &o, &err), AA_EINTERRUPTED);
    assert_int_equal(aa_sys_list_dir(check_temp_dir(), note_remains, &remains), 0);
    assert_false(remains);
    o.stoppable = false, err = (aa_err){0};              /* as a run's last checkpoint is written */
    check_ok(aa_hf_convert(path, from, &o, &err));
    aa_sys_interrupt_release();
    aa_heap_free(path);
    aa_source_close(from);
}

/* A directory of somebody else is not taken for a temporary, and OUT/ is OUT. */
static void test_names(void **state) {
    (void)state;
    aa_source *from = model_source(&model_base);
    char *theirs = model_path("named.tmp"), *slash = model_path("named/");
    char *file = aa_path_join(theirs, "precious");
    aa_err err = {0};

    check_ok(aa_make_dirs(theirs, &err));
    check_ok(aa_file_write(file, "x", 1, &err));
    check_ok(aa_hf_convert(slash, from, &keep, &err));
    assert_true(is_there(theirs, "precious"));
    assert_true(is_there(slash, "model.safetensors"));
    aa_heap_free(theirs), aa_heap_free(slash), aa_heap_free(file);
    aa_source_close(from);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trips), cmocka_unit_test(test_shards),
        cmocka_unit_test(test_types),       cmocka_unit_test(test_quantised),
        cmocka_unit_test(test_companions),  cmocka_unit_test(test_never_half),
        cmocka_unit_test(test_interrupted), cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests_name("unit_convert", tests, NULL, NULL);
}
