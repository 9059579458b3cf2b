/* convert: adapters, read, merged and written. PEFT itself is asked in tests/interop/adapter.py. */
#include <math.h>
#include <stdlib.h>
#include "base/file.h"
#include "base/memory.h"
#include "convert/adapter.h"
#include "formats/safetensors.h"
#include "support/check.h"
#include "support/models.h"
#include "support/toy.h"

#define Q0 "model.layers.0.self_attn.q_proj"
#define Q1 "model.layers.1.self_attn.q_proj"
#define UP1 "model.layers.1.mlp.up_proj"
enum { C = 64, F = 256, V = 257, MOST = 16 };

/* A PEFT directory: a config, and tensors filled by name. */
typedef struct part { const char *name; size_t rows, cols; } part;
typedef struct peft { const char *config; part parts[MOST]; } peft;

#define A_B(module, in, out, r) {module ".lora_A.weight", r, in}, {module ".lora_B.weight", out, r}
#define LORA "{\"peft_type\":\"LORA\",\"r\":3,\"lora_alpha\":6,"
static const peft plain = {LORA "\"target_modules\":[\"q_proj\",\"up_proj\"],"
                                "\"layers_to_transform\":[1]}",
                           {A_B(Q1, C, C, 3), A_B(UP1, C, F, 3)}};

static double value_of(const char *name, size_t i) {
    return (double)(float)(0.25 * toy_number(name, (uint32_t)i));
}

static void write_weights(const char *path, const part *parts) {
    char names[MOST][128];
    aa_st_entry entries[MOST];
    aa_outfile *f;
    aa_err err = {0};
    size_t n = 0;

    for (; n < MOST && parts[n].name; n++) {
        bool vector = parts[n].rows == 0;

        snprintf(names[n], sizeof names[n], "base_model.model.%s", parts[n].name);
        entries[n] = (aa_st_entry){.name = names[n], .dtype = AA_DTYPE_F32,
                                   .n_dims = vector ? 1 : 2,
                                   .shape = {vector ? parts[n].cols : parts[n].rows,
                                             parts[n].cols}};
    }
    check_ok(aa_outfile_open(&f, path, &err));
    check_ok(aa_safetensors_begin(f, entries, n, NULL, 0, &err));
    for (size_t k = 0; k < n; k++)
        for (size_t i = 0; i < (parts[k].rows ? parts[k].rows : 1) * parts[k].cols; i++) {
            float v = (float)value_of(parts[k].name, i);
            aa_outfile_write(f, &v, sizeof v);
        }
    check_ok(aa_outfile_commit(f, NULL, &err));
}

/* The directory; the caller frees it. */
static char *put(const char *name, const peft *p) {
    char *dir = model_path(name), *file;
    aa_err err = {0};

    assert_int_equal(aa_sys_remove_tree(dir), 0);
    check_ok(aa_make_dirs(dir, &err));
    check_ok(aa_file_write((file = aa_path_join(dir, "adapter_config.json")), p->config,
                           strlen(p->config), &err));
    aa_heap_free(file);
    write_weights((file = aa_path_join(dir, "adapter_model.safetensors")), p->parts);
    aa_heap_free(file);
    return dir;
}

static aa_adapter *opened(const char *name, const peft *p) {
    char *dir = put(name, p);
    aa_adapter *a = NULL;
    aa_err err = {0};

    assert_true(aa_adapter_is(dir));
    check_ok(aa_adapter_open(&a, dir, &err));
    aa_heap_free(dir);
    return a;
}

/* ---- the config ------------------------------------------------------------------------------ */

/* Rank and alpha of one module, as PEFT 0.21 gives them (get_pattern_key). */
static void test_patterns(void **state) {
    (void)state;
    static const struct { const char *ranks, *alphas; size_t r; double alpha; } cases[] = {
        {"{}", "{}", 3, 6},
        {"{\"q_proj\":5}", "{\"q_proj\":1}", 5, 1},
        {"{\"k_proj\":5}", "{\"proj\":9}", 3, 6},            /* whole parts of the name only */
        {"{\".*_proj\":4,\"q_proj\":5}", "{}", 4, 6},        /* the first that matches */
        {"{\"layers.1.self_attn.q_proj\":5}", "{\"1.self_attn.q_proj\":2.5}", 5, 2.5},
        {"{\"layers\\\\.[02]\\\\..*\":5}", "{\"model.*\":7}", 3, 7},
        {"{\"(q|k)_proj\":2}", "{\"^model.layers.1.self_attn.q_proj\":8}", 2, 8},
        {"null", "{\"self_attn\":8}", 3, 6},                 /* to the end of the name */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char config[512];
        peft p = {config, {A_B(Q1, C, C, cases[i].r)}};

        snprintf(config, sizeof config, LORA "\"target_modules\":[\"q_proj\"],\"rank_pattern\":%s,"
                 "\"alpha_pattern\":%s}", cases[i].ranks, cases[i].alphas);
        aa_adapter *a = opened("patterns", &p);
        assert_int_equal(a->n_rows, 1);
        assert_string_equal(a->rows[0].name, Q1 ".weight");
        check_near_f64("alpha", &a->rows[0].alpha, &cases[i].alpha, 1, 0, 0);
        double scale = aa_adapter_scale(a, a->rows), wanted = cases[i].alpha / (double)cases[i].r;
        check_near_f64("scale", &scale, &wanted, 1, 0, 0);
        a->rslora = true;
        scale = aa_adapter_scale(a, a->rows), wanted = cases[i].alpha / sqrt((double)cases[i].r);
        check_near_f64("rsLoRA scale", &scale, &wanted, 1, 0, 0);
        aa_adapter_close(a);
    }
}

static void test_targets(void **state) {
    (void)state;
    static const struct { const char *keys; bool taken; } cases[] = {
        {"\"target_modules\":[\"q_proj\"]", true},
        {"\"target_modules\":[\"proj\"]", false},
        {"\"target_modules\":[\"" Q1 "\"]", true},
        {"\"target_modules\":\"q_proj\"", false},                    /* a regex of all of it */
        {"\"target_modules\":\".*\\\\.q_proj\"", true},
        {"\"target_modules\":\"all-linear\"", true},
        {"\"target_modules\":[\"q_proj\"],\"exclude_modules\":[\"q_proj\"]", false},
        {"\"target_modules\":[\"q_proj\"],\"exclude_modules\":\".*\\\\.0\\\\..*\"", true},
        {"\"target_modules\":[\"q_proj\"],\"modules_to_save\":[\"self_attn\"]", false},
        {"\"target_modules\":[\"q_proj\"],\"layers_to_transform\":1", true},
        {"\"target_modules\":[\"q_proj\"],\"layers_to_transform\":[0,2]", false},
        {"\"target_modules\":[\"q_proj\"],\"layers_to_transform\":[]", true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char config[512];
        peft p = {config, {A_B(Q1, C, C, 3)}};
        aa_adapter *a = NULL;
        aa_err err = {0};

        snprintf(config, sizeof config, LORA "%s}", cases[i].keys);
        char *dir = put("targets", &p);
        aa_status st = aa_adapter_open(&a, dir, &err);
        if (cases[i].taken) check_ok(st);
        else assert_non_null(strstr(err.message, "target_modules"));
        assert_int_equal(st == AA_OK, cases[i].taken);
        if (!st) aa_adapter_close(a);
        aa_heap_free(dir);
    }
}

/* ---- merging --------------------------------------------------------------------------------- */

/* The base's row with the terms on top, by plain loops in double; magnitude: NULL or a name. */
static void naive(double *w, size_t rows, size_t cols, const char *module, size_t r, double scale,
                  const char *magnitude) {
    char a[128], b[128];

    snprintf(a, sizeof a, "%s.lora_A.weight", module);
    snprintf(b, sizeof b, "%s.lora_B.weight", module);
    for (size_t i = 0; i < rows; i++) {
        double squares = 0;

        for (size_t j = 0; j < cols; j++) {
            double sum = 0;
            for (size_t k = 0; k < r; k++)
                sum += value_of(b, i * r + k) * value_of(a, k * cols + j);
            w[i * cols + j] += scale * sum;
            squares += w[i * cols + j] * w[i * cols + j];
        }
        for (size_t j = 0; magnitude && j < cols; j++)
            w[i * cols + j] *= value_of(magnitude, i) / sqrt(squares);
    }
}

static float *read_row(aa_source *s, const char *name, aa_kind kind, size_t rows, size_t cols) {
    aa_tensor t = {.kind = kind, .rows = rows, .cols = cols};
    float *values = malloc(rows * cols * sizeof *values);
    aa_err err = {0};

    snprintf(t.name, sizeof t.name, "%s.weight", name);
    check_ok(aa_source_read(s, &t, values, &err));
    return values;
}

static void test_merge(void **state) {
    (void)state;
    static const char m_name[] = UP1 ".lora_magnitude_vector";
    const peft dora = {LORA "\"target_modules\":[\"up_proj\"],\"layers_to_transform\":1,"
                            "\"use_dora\":true,\"use_rslora\":true}",
                       {A_B(UP1, C, F, 3), {m_name, 0, F}}};
    aa_source *s = model_source(&model_base);
    float *up = read_row(s, UP1, AA_KIND_MATRIX, F, C), *other, *merged;
    double *w = malloc(F * C * sizeof *w);
    aa_err err = {0};

    other = read_row(s, Q0, AA_KIND_MATRIX, C, C);
    for (size_t i = 0; i < F * C; i++) w[i] = (double)up[i];
    naive(w, F, C, UP1, 3, 2, NULL);
    check_ok(aa_source_merge(s, opened("one", &plain), &err));
    merged = read_row(s, UP1, AA_KIND_MATRIX, F, C);
    for (size_t i = 0; i < F * C; i++) up[i] = (float)w[i];
    check_near_f32("W + s B A", merged, up, F * C, 0x1p-24, 0);  /* rounded once */
    free(merged);

    /* Another one on top; its factors have the same names, so the same values. */
    for (size_t i = 0; i < F * C; i++) w[i] = (double)up[i];
    naive(w, F, C, UP1, 3, 6 / sqrt(3), m_name);
    check_ok(aa_source_merge(s, opened("two", &dora), &err));
    merged = read_row(s, UP1, AA_KIND_MATRIX, F, C);
    for (size_t i = 0; i < F * C; i++) up[i] = (float)w[i];
    check_near_f32("DoRA", merged, up, F * C, 0x1p-22, 0);      /* twice, and the length's own */
    free(merged);

    merged = read_row(s, Q0, AA_KIND_MATRIX, C, C);
    check_same_bits("no target", merged, other, C * C * sizeof *merged);
    free(merged), free(other), free(up), free(w);
    aa_source_close(s);
}

/* Of the merged source all writers see the same values. */
static void test_merged_is_written(void **state) {
    (void)state;
    static const aa_convert_options keep = {.type = AA_TYPE_COUNT};
    aa_source *s = model_source(&model_base), *back = NULL;
    char *hf = model_path("merged"), *gguf = model_path("merged.gguf");
    aa_err err = {0};

    check_ok(aa_source_merge(s, opened("one", &plain), &err));
    check_ok(aa_hf_convert(hf, s, &keep, &err));
    check_ok(aa_gguf_write(gguf, s, &keep, &err));
    check_ok(aa_source_open(&back, hf, &err));
    check_same_rows(s, back, 0);
    aa_source_close(back);
    check_ok(aa_source_open(&back, gguf, &err));
    check_same_rows(s, back, 0);
    aa_source_close(back);
    aa_source_close(s);

    /* Another pass over the GGUF file: rows of Q and K are in pairs there. */
    aa_source *a = model_source(&model_base), *b = NULL;
    check_ok(aa_gguf_write(gguf, a, &keep, &err));
    check_ok(aa_source_open(&b, gguf, &err));
    check_ok(aa_source_merge(a, opened("one", &plain), &err));
    check_ok(aa_source_merge(b, opened("one", &plain), &err));
    check_same_rows(a, b, 0);
    aa_source_close(a), aa_source_close(b);
    aa_heap_free(hf), aa_heap_free(gguf);
}

static void check_filled(const char *name, const float *row, size_t n) {
    for (size_t i = 0; i < n; i++)
        if ((double)row[i] != value_of(name, i))
            fail_msg("%s[%zu] is %g", name, i, (double)row[i]);
}

/* New tables and norms; a tied table is parted by what concerns one of its uses. */
static void test_whole_rows(void **state) {
    (void)state;
    static const char E[] = "model.embed_tokens.weight", H[] = "lm_head.weight";
    static const char N[] = "model.norm.weight";
#define SAVES(list) LORA "\"target_modules\":[\"q_proj\"],\"layers_to_transform\":1," list "}"
#define EMBED "\"modules_to_save\":[\"embed_tokens\"]"
    const struct { peft p; bool tied, new_embedding, new_head; } cases[] = {
        {{SAVES(EMBED), {A_B(Q1, C, C, 3), {E, V, C}, {N, 0, C}}}, false, true, false},
        {{SAVES(EMBED ",\"ensure_weight_tying\":true"), {A_B(Q1, C, C, 3), {E, V, C}, {N, 0, C}}},
         true, true, true},
        {{SAVES("\"modules_to_save\":[\"lm_head\"]"), {A_B(Q1, C, C, 3), {H, V, C}, {N, 0, C}}},
         false, false, true}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        aa_source *s = model_source(&model_base);
        float *table = read_row(s, "model.embed_tokens", AA_KIND_EMBEDDING, V, C), *x;
        aa_err err = {0};

        check_ok(aa_source_merge(s, opened("whole", &cases[i].p), &err));
        assert_int_equal(s->config.tied, cases[i].tied);
        x = read_row(s, "model.embed_tokens", AA_KIND_EMBEDDING, V, C);
        if (cases[i].new_embedding) check_filled(E, x, V * C);
        else check_same_bits("embedding", x, table, V * C * sizeof *x);
        free(x);
        if (!cases[i].tied) {
            x = read_row(s, "lm_head", AA_KIND_HEAD, V, C);
            if (cases[i].new_head) check_filled(H, x, V * C);
            else check_same_bits("head", x, table, V * C * sizeof *x);
            free(x);
        }
        x = read_row(s, "model.norm", AA_KIND_NORM, 1, C);
        check_filled(N, x, C);
        check_same_rows(s, s, 0);                        /* and nothing is left over */
        free(x), free(table);
        aa_source_close(s);
    }
}

/* ---- writing --------------------------------------------------------------------------------- */

static void check_same_stored(const char *name, const aa_stored *a, const aa_stored *b) {
    assert_int_equal(a->data != NULL, b->data != NULL);
    if (!a->data) return;
    assert_int_equal(a->rows, b->rows);
    assert_int_equal(a->cols, b->cols);
    float *x = malloc(a->rows * a->cols * sizeof *x), *y = malloc(a->rows * a->cols * sizeof *y);
    aa_stored_read(a, 0, a->rows, x), aa_stored_read(b, 0, b->rows, y);
    check_same_bits(name, x, y, a->rows * a->cols * sizeof *x);
    free(x), free(y);
}

static void check_same_adapter(const aa_adapter *a, const aa_adapter *b) {
    assert_int_equal(a->n_rows, b->n_rows);
    for (size_t i = 0; i < a->n_rows; i++) {
        const aa_adapter_row *x = &a->rows[i], *y = aa_adapter_find(b, x->name);

        assert_non_null(y);
        check_same_stored(x->name, &x->A, &y->A);
        check_same_stored(x->name, &x->B, &y->B);
        check_same_stored(x->name, &x->magnitude, &y->magnitude);
        check_same_stored(x->name, &x->whole, &y->whole);
        if (!x->A.data) continue;
        double p = aa_adapter_scale(a, x), q = aa_adapter_scale(b, y);
        check_near_f64("scale", &p, &q, 1, 0, 0);
    }
}

static void through(aa_adapter_writer *write, const char *name, aa_adapter *a,
                    const aa_config *base) {
    static const aa_convert_options keep = {.type = AA_TYPE_COUNT};
    char *path = model_path(name);
    aa_adapter *b = NULL;
    aa_err err = {0};

    assert_int_equal(aa_sys_remove_tree(path), 0);
    check_ok(aa_adapter_bind(a, base, &err));
    check_ok(write(path, a, base, &keep, &err));
    assert_true(aa_adapter_is(path));
    check_ok(aa_adapter_open(&b, path, &err));
    check_ok(aa_adapter_bind(b, base, &err));
    check_same_adapter(a, b);
    aa_adapter_close(b);
    aa_heap_free(path);
}

static void test_writers(void **state) {
    (void)state;
    const peft all = {LORA "\"target_modules\":\".*(q|up)_proj\",\"rank_pattern\":{\"up_proj\":2},"
                           "\"alpha_pattern\":{\"0.self_attn.q_proj\":5},\"use_dora\":true,"
                           "\"modules_to_save\":[\"norm\"],\"use_rslora\":true}",
                      {A_B(Q0, C, C, 3), {Q0 ".lora_magnitude_vector", 0, C},
                       A_B(Q1, C, C, 3), {Q1 ".lora_magnitude_vector", 0, C},
                       A_B("model.layers.0.mlp.up_proj", C, F, 2),
                       {"model.layers.0.mlp.up_proj.lora_magnitude_vector", 0, F},
                       A_B(UP1, C, F, 2), {UP1 ".lora_magnitude_vector", 0, F},
                       {UP1 ".base_layer.weight", F, C}, {"model.norm.weight", 0, C}}};
    static const aa_convert_options keep = {.type = AA_TYPE_COUNT};
    aa_source *s = model_source(&model_base);
    aa_adapter *a = opened("all", &all), *b = opened("plain", &plain);
    char *path = model_path("refused.gguf");
    aa_err err = {0};

    through(aa_peft_write, "all-again", a, &s->config);
    through(aa_peft_write, "plain-again", b, &s->config);
    through(aa_adapter_gguf_write, "plain.gguf", b, &s->config);
    assert_int_equal(aa_adapter_gguf_write(path, a, &s->config, &keep, &err), AA_EUNSUPPORTED);
    assert_non_null(strstr(err.message, "--merge"));
    aa_heap_free(path);
    aa_adapter_close(a), aa_adapter_close(b);
    aa_source_close(s);
}

/* ---- damage ---------------------------------------------------------------------------------- */

#define Q_OF_1 "\"target_modules\":[\"q_proj\"],\"layers_to_transform\":1"
static void test_refused(void **state) {
    (void)state;
    static const struct { peft p; const char *says; } cases[] = {
        {{"[]", {A_B(Q1, C, C, 3)}}, "object"},
        {{"{}", {A_B(Q1, C, C, 3)}}, "peft_type"},
        {{LORA Q_OF_1 ",\"r\":0}", {A_B(Q1, C, C, 3)}}, "r"},
        {{LORA "\"target_modules\":[3]}", {A_B(Q1, C, C, 3)}}, "target_modules"},
        {{LORA Q_OF_1 ",\"lora_bias\":true}", {A_B(Q1, C, C, 3)}}, "lora_bias"},
        {{LORA Q_OF_1 ",\"init_lora_weights\":\"olora\"}", {A_B(Q1, C, C, 3)}},
         "init_lora_weights"},
        {{LORA Q_OF_1 ",\"rank_pattern\":{\"(\":3}}", {A_B(Q1, C, C, 3)}}, "no regex"},
        {{LORA Q_OF_1 ",\"rank_pattern\":{\"q\":\"3\"}}", {A_B(Q1, C, C, 3)}}, "number"},
        {{LORA Q_OF_1 ",\"alpha_pattern\":{\"(.*)*(.*)*(.*)*q\":3}}", {A_B(Q1, C, C, 3)}},
         "too long"},
        {{LORA Q_OF_1 "}", {A_B(Q1, C, C, 4)}}, "rank"},
        {{LORA Q_OF_1 "}", {{Q1 ".lora_A.weight", 3, C}}}, "the B"},
        {{LORA Q_OF_1 "}", {{Q1 ".lora_B.weight", C, 3}}}, "lora_B"},
        {{LORA Q_OF_1 "}", {{Q1 ".lora_A.weight", 3, C}, {Q1 ".lora_B.weight", C, 2}}}, "rank"},
        {{LORA Q_OF_1 "}", {A_B(Q1, C, C, 3), {Q1 ".lora_B.bias", 0, C}}}, "lora_B.bias"},
        {{LORA Q_OF_1 ",\"use_dora\":true}", {A_B(Q1, C, C, 3)}}, "magnitude"},
        {{LORA Q_OF_1 "}", {A_B(Q1, C, C, 3), {Q1 ".lora_magnitude_vector", 0, C}}}, "use_dora"},
        {{LORA Q_OF_1 "}", {A_B(Q1, C, C, 0)}}, "not empty"},
        {{LORA Q_OF_1 "}", {{NULL, 0, 0}}}, "no tensors"},
        /* What only the base can tell. */
        {{LORA Q_OF_1 "}", {A_B(Q1, C + 1, C, 3)}}, "[3,65]"},
        {{LORA Q_OF_1 "}", {A_B(Q1, C, C + 1, 3)}}, "[64,3]"},
        {{LORA "\"target_modules\":[\"q_proj\"]}", {A_B(Q1, C, C, 3)}}, "lacks the tensors of"},
        {{LORA Q_OF_1 "}", {A_B(Q1, C, C, 3), {"score.weight", 2, C}}}, "score.weight"},
        {{LORA Q_OF_1 "}", {A_B(Q1, C, C, 3), {"model.norm.weight", 0, C - 1}}}, "[1,63]"},
        {{LORA Q_OF_1 "}", {A_B(Q1, C, C, 3), {Q0 ".weight", C, C}, {Q0 ".base_layer.weight", C,
                                                                    C}}}, "twice"},
        {{LORA "\"target_modules\":[\"embed_tokens\"]}", {A_B("model.embed_tokens", C, V, 3)}},
         "no matrix of a linear map"},
    };
    aa_source *s = model_source(&model_base);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *dir = put("refused", &cases[i].p);
        aa_adapter *a = NULL;
        aa_err err = {0};
        aa_status st = aa_adapter_open(&a, dir, &err);

        if (!st) {
            st = aa_adapter_bind(a, &s->config, &err);
            aa_adapter_close(a);
        }
        if (!st || !strstr(err.message, cases[i].says))
            fail_msg("case %zu, '%s': %s", i, cases[i].says, err.message);
        aa_heap_free(dir);
    }
    aa_source_close(s);
}

/* A GGUF adapter and a sidecar, cut at every 7th byte, and with every header byte changed. */
static void test_damaged_files(void **state) {
    (void)state;
    static const aa_convert_options keep = {.type = AA_TYPE_COUNT};
    enum { SIDECAR = 16 + 4 * 2 * 2 * (C + C + C + C / 2 + C + C / 2 + C + C) };
    aa_source *s = model_source(&model_base);
    aa_adapter *a = opened("plain", &plain);
    char *gguf = model_path("whole.gguf"), *path = model_path("damaged");
    unsigned char *sidecar = calloc(1, SIDECAR);
    aa_sys_map map;
    aa_err err = {0};

    check_ok(aa_adapter_bind(a, &s->config, &err));
    check_ok(aa_adapter_gguf_write(gguf, a, &s->config, &keep, &err));
    aa_adapter_close(a);
    check_ok(aa_map_open(&map, gguf, &err));
    memcpy(sidecar, (const int32_t[]){0x4C4F5241, 2, 2, 0}, 16);
    const struct { const unsigned char *data; size_t n; } files[] = {{map.data, map.size_bytes},
                                                                     {sidecar, SIDECAR}};
    for (size_t f = 0; f < 2; f++)
        for (size_t n = 0; n <= files[f].n; n += n + 7 < files[f].n ? 7 : 1) {
            aa_status st = AA_EFORMAT;

            err = (aa_err){0};
            check_ok(aa_file_write(path, files[f].data, n, &err));
            a = NULL;
            if (aa_adapter_is(path)) st = aa_adapter_open(&a, path, &err);
            if (!st) st = aa_adapter_bind(a, &s->config, &err);
            assert_int_equal(st == AA_OK, n == files[f].n);
            aa_adapter_close(a);
            if (n > 1000) n += 997;
        }
    aa_sys_map_close(&map);
    free(sidecar);
    aa_heap_free(gguf), aa_heap_free(path);
    aa_source_close(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_patterns),    cmocka_unit_test(test_targets),
        cmocka_unit_test(test_merge),       cmocka_unit_test(test_merged_is_written),
        cmocka_unit_test(test_whole_rows),  cmocka_unit_test(test_writers),
        cmocka_unit_test(test_refused),     cmocka_unit_test(test_damaged_files),
    };
    return cmocka_run_group_tests_name("unit_adapter", tests, NULL, NULL);
}
