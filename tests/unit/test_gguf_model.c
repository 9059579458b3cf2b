/* convert: models as GGUF files, written and read back, and what is refused of other people's. */
#include <math.h>
#include <stdlib.h>
#include "base/file.h"
#include "base/memory.h"
#include "convert/convert.h"
#include "formats/gguf.h"
#include "support/check.h"
#include "support/models.h"
#include "support/toy.h"

static aa_source *written(aa_source *from, const aa_convert_options *o, size_t n_files) {
    char *path = model_path("model.gguf"), *first = aa_gguf_split_path(path, n_files - 1, n_files);
    aa_source *s = NULL;
    aa_err err = {0};

    check_ok(aa_gguf_write(path, from, o, &err));
    check_ok(aa_source_open(&s, first, &err));
    assert_string_equal(s->format, "gguf");
    aa_heap_free(path);
    aa_heap_free(first);
    return s;
}

static void test_round_trips(void **state) {
    (void)state;
    aa_config c[] = {model_base, model_base, model_base, model_base, model_base, model_base};
    c[1].tied = false, c[1].qkv_bias = c[1].out_bias = c[1].mlp_bias = true;
    c[2].arch = AA_ARCH_QWEN2, c[2].rope_theta = 1e6, c[2].norm_eps = 1e-6;
    c[3].arch = AA_ARCH_QWEN3, c[3].head_dim = 24, c[3].tied = false;
    c[4].rope_scaling = AA_ROPE_LINEAR, c[4].rope_factor = 2.5;
    c[5].rope_scaling = AA_ROPE_LLAMA3, c[5].rope_factor = 32, c[5].rope_low_freq = 1;
    c[5].rope_high_freq = 4, c[5].rope_original_seq = 48;
    for (size_t i = 0; i < sizeof c / sizeof *c; i++)
        for (uint64_t shard = 0; shard <= 100000; shard += 100000) {
            const aa_convert_options o = {.type = AA_TYPE_COUNT, .shard_bytes = shard};
            aa_source *from = model_source(&c[i]);
            aa_sys_info info;
            size_t n = 0;
            char *first = model_path("model.gguf"), *name = NULL;

            assert_int_equal(aa_sys_remove_tree(first), 0);
            aa_err err = {0};
            check_ok(aa_gguf_write(first, from, &o, &err));
            do {
                aa_heap_free(name);
                name = aa_gguf_split_path(first, 0, ++n);
                assert_int_equal(aa_sys_stat(&info, name), 0);
            } while (info.kind == AA_SYS_ABSENT && n < 50);
            assert_true(shard ? n > 2 && n < 50 : n == 1);
            aa_source *s = written(from, &o, n);
            check_same_config(&s->config, &from->config);
            check_same_rows(from, s, 0);
            aa_source_close(s);
            aa_source_close(from);
            assert_int_equal(aa_sys_remove_tree(name), 0);
            aa_heap_free(name);
            aa_heap_free(first);
        }
}

/* The order of rows: arch llama has rotary pairs side by side. */
static void test_order(void **state) {
    (void)state;
    const aa_convert_options o = {.type = AA_TYPE_COUNT};
    aa_config c = model_base;
    c.qkv_bias = c.out_bias = true;
    aa_source *from = model_source(&c), *s = written(from, &o, 1);
    char *path = model_path("model.gguf");
    aa_gguf g;
    aa_err err = {0};
    float first, second, want;

    check_ok(aa_gguf_open(&g, path, &err));
    const aa_gguf_tensor *q = aa_gguf_find_tensor(&g, "blk.1.attn_q.weight");
    const aa_gguf_tensor *bias = aa_gguf_find_tensor(&g, "blk.1.attn_k.bias");
    assert_true(q->dims[0] == 64 && q->dims[1] == 64 && bias->n_dims == 1 && bias->dims[0] == 32);
    memcpy(&first, q->data + 4 * 64 * 17, 4);            /* row 17: head 1, pair 0, second half */
    want = (float)toy_number("model.layers.1.self_attn.q_proj.weight", 64 * (16 + 8)) / 4;
    assert_true(first == want);
    memcpy(&second, bias->data + 4 * 3, 4);              /* pair 1, second half: 8 + 1 */
    assert_true(second == (float)toy_number("model.layers.1.self_attn.k_proj.bias", 9) / 4);
    aa_gguf_close(&g);
    aa_source_close(s), aa_source_close(from);
    aa_heap_free(path);
}

static aa_type type_in_file(const char *name) {
    char *path = model_path("model.gguf");
    aa_gguf g;
    aa_err err = {0};

    check_ok(aa_gguf_open(&g, path, &err));
    const aa_gguf_tensor *t = aa_gguf_find_tensor(&g, name);
    assert_non_null(t);
    aa_type type = AA_TYPE_COUNT;
    for (int i = 0; i < AA_TYPE_COUNT; i++)
        if (strcmp(aa_type_name((aa_type)i), aa_gguf_type_name(t->type)) == 0) type = (aa_type)i;
    aa_gguf_close(&g);
    aa_heap_free(path);
    return type;
}

static void test_types(void **state) {
    (void)state;
    static const struct {
        aa_type type; bool mixed; double most; aa_type q, down0, down1, embedding;
    } cases[] = {
        {AA_TYPE_F32, false, 0, AA_TYPE_F32, AA_TYPE_F32, AA_TYPE_F32, AA_TYPE_F32},
        {AA_TYPE_F16, false, 1e-3, AA_TYPE_F16, AA_TYPE_F16, AA_TYPE_F16, AA_TYPE_F16},
        {AA_TYPE_BF16, false, 4e-3, AA_TYPE_BF16, AA_TYPE_BF16, AA_TYPE_BF16, AA_TYPE_BF16},
        {AA_TYPE_Q8_0, false, 5e-3, AA_TYPE_Q8_0, AA_TYPE_Q8_0, AA_TYPE_Q8_0, AA_TYPE_Q8_0},
        {AA_TYPE_Q4_0, false, 0.14, AA_TYPE_Q4_0, AA_TYPE_Q4_0, AA_TYPE_Q4_0, AA_TYPE_Q8_0},
        /* Rows of 64 are too short for blocks of 256. */
        {AA_TYPE_Q4_K, false, 0.12, AA_TYPE_Q5_0, AA_TYPE_Q4_K, AA_TYPE_Q4_K, AA_TYPE_Q8_0},
        {AA_TYPE_Q4_K, true, 0.12, AA_TYPE_Q5_0, AA_TYPE_Q4_K, AA_TYPE_Q6_K, AA_TYPE_Q8_0},
        {AA_TYPE_Q6_K, false, 0.04, AA_TYPE_Q8_0, AA_TYPE_Q6_K, AA_TYPE_Q6_K, AA_TYPE_Q8_0},
    };
    aa_source *from = model_source(&model_base);

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const aa_convert_options o = {.type = cases[i].type, .mixed = cases[i].mixed};
        aa_source *s = written(from, &o, 1);

        check_same_rows(from, s, cases[i].most);
        assert_int_equal(type_in_file("blk.0.attn_norm.weight"), AA_TYPE_F32);
        assert_int_equal(type_in_file("blk.0.attn_q.weight"), cases[i].q);
        assert_int_equal(type_in_file("blk.0.ffn_down.weight"), cases[i].down0);
        assert_int_equal(type_in_file("blk.1.ffn_down.weight"), cases[i].down1);
        assert_int_equal(type_in_file("token_embd.weight"), cases[i].embedding);
        aa_source_close(s);
    }
    aa_source_close(from);
}

/* The same bytes by any number of threads. */
static void test_threads(void **state) {
    (void)state;
    aa_source *from = model_source(&model_base);
    char *path[2] = {model_path("one.gguf"), model_path("three.gguf")};
    aa_sys_map map[2];
    aa_err err = {0};

    for (int i = 0; i < 2; i++) {
        aa_convert_options o = {.type = AA_TYPE_Q4_K, .mixed = true, .name = "x"};

        if (i) check_ok(aa_pool_new(&o.pool, 3, &err));
        check_ok(aa_gguf_write(path[i], from, &o, &err));
        check_ok(aa_map_open(&map[i], path[i], &err));
        aa_pool_free(o.pool);
        aa_heap_free(path[i]);
    }
    assert_int_equal(map[0].size_bytes, map[1].size_bytes);
    check_same_bits("file", map[0].data, map[1].data, map[0].size_bytes);
    aa_sys_map_close(&map[0]), aa_sys_map_close(&map[1]);
    aa_source_close(from);
}

/* A float that the type cannot hold is no model. */
static void test_values(void **state) {
    (void)state;
    static const struct { float value; aa_type type; bool good; } cases[] = {
        {70000, AA_TYPE_F16, false}, {70000, AA_TYPE_BF16, true}, {NAN, AA_TYPE_Q8_0, false},
        {INFINITY, AA_TYPE_BF16, false}, {NAN, AA_TYPE_COUNT, true}};
    char *path = model_path("values.gguf");

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const aa_convert_options o = {.type = cases[i].type};
        aa_source *from = model_source(&model_base);
        aa_tensor rows[MODEL_ROWS];
        aa_stored view;
        aa_err err = {0};

        aa_model_rows(&from->config, rows, MODEL_ROWS);
        check_ok(from->find(from, &rows[2], &view, &err));
        char *weights = aa_path_join(from->path, "model.safetensors");
        aa_sys_map map;
        check_ok(aa_map_open(&map, weights, &err));
        size_t at = 0;                       /* of the view, in the same file mapped anew */
        while (memcmp(map.data + at, view.data, 64) != 0) at++;
        aa_sys_map_close(&map);
        aa_source_close(from);
        FILE *f = fopen(weights, "r+b");
        assert_true(f && fseek(f, (long)at, SEEK_SET) == 0 &&
                    fwrite(&cases[i].value, 4, 1, f) == 1 && fclose(f) == 0);
        aa_heap_free(weights);
        weights = model_path("toy");
        check_ok(aa_source_open(&from, weights, &err));
        aa_status st = aa_gguf_write(path, from, &o, &err);
        if ((st == AA_OK) != cases[i].good) fail_msg("case %zu: %d %s", i, st, err.message);
        if (st) assert_non_null(strstr(err.message, "'blk.0."));
        aa_source_close(from);
        aa_heap_free(weights);
    }
    aa_heap_free(path);
}

static void test_not_expressible(void **state) {
    (void)state;
    const aa_convert_options o = {.type = AA_TYPE_COUNT};
    char *path = model_path("never.gguf");
    aa_config c = model_base;
    aa_err err = {0};

    c.arch = AA_ARCH_QWEN3, c.qkv_bias = c.out_bias = true;
    aa_source *from = model_source(&c);
    assert_int_equal(aa_gguf_write(path, from, &o, &err), AA_EUNSUPPORTED);
    assert_non_null(strstr(err.message, "biases"));
    aa_source_close(from);
    from = model_source(&model_base);
    err = (aa_err){0};
    assert_int_equal(aa_gguf_write(path, from, &(aa_convert_options){.type = AA_TYPE_Q2_K}, &err),
                     AA_EUNSUPPORTED);
    assert_non_null(strstr(err.message, "Q2_K"));
    aa_source_close(from);
    aa_heap_free(path);
}

/* ---- other people's -------------------------------------------------------------------------- */

/* A file as the writer makes it, but for one key or tensor. */
typedef struct foreign {
    const char *key; aa_gguf_kind kind; double number; const char *text;    /* replaced or added */
    const char *drop;                                                       /* or left out */
    const char *tensor; uint64_t dims[2];                                   /* or added */
    const char *message;                                                    /* NULL: accepted */
} foreign;

static const foreign others[] = {
    {.key = "general.architecture", .text = "gpt2", .message = "'gpt2'"},
    {.key = "general.architecture", .text = "qwen2", .message = "'qwen2.block_count'"},
    {.key = "general.architecture", .kind = AA_GGUF_U32, .number = 1, .message = "a string"},
    {.key = "general.type", .text = "adapter", .message = "'adapter'"},
    {.drop = "general.type"},
    {.drop = "llama.vocab_size"},
    {.drop = "llama.attention.key_length"},
    {.drop = "llama.rope.freq_base"},
    {.drop = "llama.block_count", .message = "llama.block_count"},
    {.drop = "llama.attention.layer_norm_rms_epsilon", .message = "rms_epsilon"},
    {.key = "llama.block_count", .kind = AA_GGUF_F32, .number = 2, .message = "whole number"},
    {.key = "llama.block_count", .kind = AA_GGUF_I32, .number = -2, .message = "is -2"},
    {.key = "llama.block_count", .kind = AA_GGUF_U64, .number = 2},
    {.key = "llama.block_count", .kind = AA_GGUF_U32, .number = 3, .message = "blk.2.attn_norm"},
    {.key = "llama.block_count", .kind = AA_GGUF_U32, .number = 1, .message = "'blk.1."},
    {.key = "llama.block_count", .kind = AA_GGUF_U32, .number = 1e9, .message = "layers"},
    {.key = "llama.vocab_size", .kind = AA_GGUF_U32, .number = 256, .message = "is 256"},
    {.key = "llama.attention.value_length", .kind = AA_GGUF_U32, .number = 8,
     .message = "value_length' is 8"},
    {.key = "llama.rope.dimension_count", .kind = AA_GGUF_U32, .number = 8, .message = "is 8"},
    {.key = "llama.expert_count", .kind = AA_GGUF_U32, .number = 8, .message = "expert_count"},
    {.key = "llama.expert_count", .kind = AA_GGUF_U32, .number = 0},
    {.key = "llama.attention.sliding_window", .kind = AA_GGUF_U32, .number = 64,
     .message = "sliding_window"},
    {.key = "llama.attention.causal", .kind = AA_GGUF_BOOL, .number = 0, .message = "future"},
    {.key = "llama.logit_scale", .kind = AA_GGUF_F32, .number = 2, .message = "logit_scale"},
    {.key = "llama.rope.freq_base", .kind = AA_GGUF_F32, .number = NAN, .message = "no number"},
    {.key = "llama.rope.freq_base", .kind = AA_GGUF_F32, .number = 0.5, .message = "rope-theta"},
    {.key = "llama.rope.scaling.type", .text = "yarn", .message = "'yarn'"},
    {.key = "llama.rope.scaling.type", .text = "none"},
    {.key = "tokenizer.chat_template", .kind = AA_GGUF_U8, .number = 1, .message = "a string"},
    {.tensor = "blk.0.attn_gate.weight", .dims = {64, 4}, .message = "'blk.0.attn_gate.weight'"},
    {.tensor = "output.weight", .dims = {64, 258}, .message = "[64,258]; by"},
    {.tensor = "rope_freqs.weight", .dims = {9, 0}, .message = "must be 8 numbers"},
    {.tensor = "rope_freqs.weight", .dims = {8, 0}, .message = "frequency"},
};

static void put_number(aa_gguf_header *h, const foreign *o) {
    if (o->text) aa_gguf_put_string(h, o->key, o->text);
    else if (o->kind == AA_GGUF_F32) aa_gguf_put_f32(h, o->key, (float)o->number);
    else aa_gguf_put_int(h, o->key, o->kind, (int64_t)o->number);
}

static void write_foreign(const char *path, const aa_gguf *good, const foreign *o) {
    aa_gguf_header h = {0};
    aa_outfile *f;
    aa_err err = {0};

    for (size_t i = 0; i < good->n_keys; i++) {
        const aa_gguf_key *k = &good->keys[i];
        if ((!o->drop || aa_gguf_find_key(good, o->drop) != k) &&
            (!o->key || aa_gguf_find_key(good, o->key) != k))
            aa_gguf_put_key(&h, k);
    }
    if (o->key) put_number(&h, o);
    for (size_t i = 0; i < good->n_tensors; i++) {
        const aa_gguf_tensor *t = &good->tensors[i];
        char name[64];
        snprintf(name, sizeof name, "%.*s", (int)t->name.n, t->name.s);
        aa_gguf_put_tensor(&h, name, t->type, t->n_dims, t->dims);
    }
    if (o->tensor) aa_gguf_put_tensor(&h, o->tensor, 0, o->dims[1] ? 2 : 1, o->dims);
    check_ok(aa_outfile_open(&f, path, &err));
    check_ok(aa_gguf_begin(f, &h, &err));
    for (size_t i = 0; i < good->n_tensors; i++) {
        aa_outfile_write(f, good->tensors[i].data, good->tensors[i].size_bytes);
        aa_gguf_pad(f);
    }
    for (uint64_t i = 0; o->tensor && i < o->dims[0] * (o->dims[1] ? o->dims[1] : 1); i++)
        aa_outfile_write(f, &(float){(float)(i + 1)}, 4);
    check_ok(aa_outfile_commit(f, NULL, &err));
    aa_gguf_header_release(&h);
}

/* Opens, finds every row, asks for the rest. */
static aa_status read_all(const char *path, aa_err *err) {
    aa_source *s = NULL;
    aa_tensor rows[MODEL_ROWS];
    aa_status st = aa_source_open(&s, path, err);
    size_t n = st ? 0 : aa_model_rows(&s->config, rows, MODEL_ROWS);

    for (size_t i = 0; !st && i < n; i++) st = s->find(s, &rows[i], &(aa_stored){0}, err);
    if (!st) st = s->check_all_read(s, err);
    aa_source_close(s);
    return st;
}

static void test_foreign(void **state) {
    (void)state;
    aa_source *from = model_source(&model_base);
    char *good = model_path("good.gguf"), *path = model_path("foreign.gguf");
    const aa_convert_options o = {.type = AA_TYPE_COUNT};
    aa_gguf g;
    aa_err err = {0};

    check_ok(aa_gguf_write(good, from, &o, &err));
    check_ok(aa_gguf_open(&g, good, &err));
    check_ok(read_all(good, &err));
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        err = (aa_err){0};
        write_foreign(path, &g, &others[i]);
        aa_status st = read_all(path, &err);
        const char *what = others[i].key ? others[i].key : others[i].drop ? others[i].drop
                                                                          : others[i].tensor;
        if (!others[i].message) {
            if (st) fail_msg("%s: %s", what, err.message);
        } else if (!st || !strstr(err.message, others[i].message))
            fail_msg("%zu %s: %d '%s' lacks '%s'", i, what, st, err.message, others[i].message);
    }
    aa_gguf_close(&g);
    aa_source_close(from);
    aa_heap_free(good), aa_heap_free(path);
}

/* A number of the file is the decimal it was written as. */
static void test_decimals(void **state) {
    (void)state;
    aa_config c = model_base;
    const aa_convert_options o = {.type = AA_TYPE_COUNT};

    c.norm_eps = 1e-5, c.rope_theta = 12345.678;
    aa_source *from = model_source(&c), *s = written(from, &o, 1);
    assert_true(s->config.norm_eps == 1e-5);
    assert_true(s->config.rope_theta == 12345.678);
    aa_source_close(s), aa_source_close(from);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trips), cmocka_unit_test(test_order),
        cmocka_unit_test(test_types),       cmocka_unit_test(test_threads),
        cmocka_unit_test(test_values),      cmocka_unit_test(test_not_expressible),
        cmocka_unit_test(test_foreign),     cmocka_unit_test(test_decimals),
    };
    return cmocka_run_group_tests_name("unit_gguf_model", tests, NULL, NULL);
}
