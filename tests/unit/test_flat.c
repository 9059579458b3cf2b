/* formats/flat, convert/flat: BLZT and llama2.c's model.bin, by files packed here by hand, and back
 * and forth. What the first AutoANE did wrong with such files is marked "first AutoANE". */
#include <math.h>
#include <stdlib.h>
#include <unistd.h>
#include "base/file.h"
#include "base/memory.h"
#include "convert/convert.h"
#include "formats/flat.h"
#include "support/check.h"
#include "support/models.h"

static const aa_convert_options keep = {.type = AA_TYPE_COUNT};
static aa_model_writer *const writers[AA_FLAT_KIND_COUNT] = {aa_blzt_write, aa_llama2c_write,
                                                             aa_llama2c_v1_write};

/* ---- files packed by hand -------------------------------------------------------------------- */

/* C 4, F 6, L 2, H 2, K 1, D 2, V 5, T 3. Value i of a tensor is 1000 * its number + i, the
 * tensors being numbered from 1 in the order of the file. */
enum { C = 4, F = 6, L = 2, H = 2, K = 1, D = 2, V = 5, T = 3, MOST_BYTES = 8192 };

typedef struct pack { unsigned char data[MOST_BYTES]; size_t n; int tensors; } pack;

static void put_int(pack *p, int32_t v) {
    memcpy(p->data + p->n, &v, 4);
    p->n += 4;
}
static void put_f32(pack *p, float v) {
    memcpy(p->data + p->n, &v, 4);
    p->n += 4;
}
static void put_f64(pack *p, double v) {
    memcpy(p->data + p->n, &v, 8);
    p->n += 8;
}
static void put_tensor(pack *p, int rows, int cols) {
    p->tensors++;
    for (int i = 0; i < rows * cols; i++) put_f32(p, (float)(1000 * p->tensors + i));
}
static void put_zeros(pack *p, int n) {
    for (int i = 0; i < n; i++) put_f32(p, 0);
}

static void pack_blzt(pack *p, int32_t step, int32_t adam_t) {
    *p = (pack){0};
    const int32_t head[10] = {0x424C5A54, 4, step, 10000, L, V, C, F, H, T};
    for (int i = 0; i < 10; i++) put_int(p, head[i]);
    put_f32(p, 3e-4f), put_f32(p, 2.5f);
    put_f64(p, 0), put_f64(p, 12.5), put_f64(p, 13);
    put_int(p, step), put_int(p, 0), put_int(p, adam_t), put_int(p, K), put_int(p, D);
    put_int(p, H * D);
    assert_int_equal(p->n, 96);
    for (int l = 0; l < L; l++) {
        size_t begin = p->n;
        put_tensor(p, H * D, C), put_tensor(p, K * D, C), put_tensor(p, K * D, C);
        put_tensor(p, C, H * D), put_tensor(p, F, C), put_tensor(p, C, F), put_tensor(p, F, C);
        put_tensor(p, 1, C), put_tensor(p, 1, C);
        for (int n = (int)(p->n - begin) / 2; n > 0; n--) put_f32(p, 7);     /* moments */
    }
    put_tensor(p, 1, C), put_zeros(p, 2 * C);
    put_tensor(p, V, C), put_zeros(p, 2 * V * C);
}

static void put_matrices(pack *p, int first, int end) {
    static const int shape[7][2] = {{H * D, C}, {K * D, C}, {K * D, C}, {C, H * D},
                                    {F, C},     {C, F},     {F, C}};
    for (int i = first; i < end; i++)
        for (int l = 0; l < L; l++) put_tensor(p, shape[i][0], shape[i][1]);
}

static void pack_llama2c(pack *p, bool v1, bool tied) {
    *p = (pack){0};
    const int32_t head[7] = {C, F, L, H, K, v1 || tied ? V : -V, T};
    if (v1) put_int(p, 0x616b3432), put_int(p, 1);
    for (int i = 0; i < 7; i++) put_int(p, head[i]);
    if (v1) {
        p->data[p->n++] = tied;
        p->n = 256;
        for (int i = 0; i < 2 * L; i++) put_tensor(p, 1, C);
        put_tensor(p, 1, C), put_tensor(p, V, C);
        put_matrices(p, 0, 7);
    } else {
        put_tensor(p, V, C);
        for (int l = 0; l < L; l++) put_tensor(p, 1, C);
        put_matrices(p, 0, 4);
        for (int l = 0; l < L; l++) put_tensor(p, 1, C);
        put_matrices(p, 4, 7);
        put_tensor(p, 1, C);
        put_zeros(p, 2 * T * D / 2);
    }
    if (!tied) put_tensor(p, V, C);
}

static char *save(const pack *p, const char *name, size_t n) {
    aa_err err = {0};
    char *dir = model_path("packed"), *path = aa_path_join(dir, name);
    check_ok(aa_make_dirs(dir, &err));
    check_ok(aa_file_write(path, p->data, n, &err));
    aa_heap_free(dir);
    return path;
}

static aa_source *open_packed(const pack *p) {
    aa_source *s = NULL;
    aa_err err = {0};
    char *path = save(p, "x.bin", p->n);
    assert_true(aa_source_is_file(path));
    check_ok(aa_source_open(&s, path, &err));
    aa_heap_free(path);
    return s;
}

/* The row holds the tensor of that number. Heads are two wide: pairs are in place. */
static void check_row(aa_source *s, const char *name, int number) {
    aa_tensor rows[MODEL_ROWS];
    float x[64];
    aa_err err = {0};
    size_t n = aa_model_rows(&s->config, rows, MODEL_ROWS), found = 0;
    for (size_t i = 0; i < n; i++) {
        if (strcmp(rows[i].name, name) != 0) continue;
        check_ok(aa_source_read(s, &rows[i], x, &err));
        for (size_t k = 0; k < aa_tensor_size(&rows[i]); k++)
            if (x[k] != (float)(1000 * number + (int)k))
                fail_msg("%s[%zu] is %g", name, k, (double)x[k]);
        found++;
    }
    assert_int_equal(found, 1);
}

#define LAYER(l, name) "model.layers." #l "." name ".weight"
#define ATTN(l, name) LAYER(l, "self_attn." name "_proj")
#define MLP(l, name) LAYER(l, "mlp." name "_proj")

static void test_blzt(void **state) {
    static const char *const second[] = {
        ATTN(1, "q"),   ATTN(1, "k"),    ATTN(1, "v"),  ATTN(1, "o"), MLP(1, "gate"),
        MLP(1, "down"), MLP(1, "up"),    LAYER(1, "input_layernorm"),
        LAYER(1, "post_attention_layernorm"), "model.norm.weight", "model.embed_tokens.weight"};
    pack p;
    (void)state;
    pack_blzt(&p, 300, 30);
    aa_source *s = open_packed(&p);
    assert_string_equal(s->format, "blzt");
    check_row(s, ATTN(0, "q"), 1), check_row(s, LAYER(0, "post_attention_layernorm"), 9);
    for (int i = 0; i < 11; i++) check_row(s, second[i], 10 + i);
    const aa_config *c = &s->config;
    assert_true(c->dim == C && c->ffn == F && c->layers == L && c->heads == H && c->kv_heads == K);
    assert_true(c->head_dim == D && c->vocab == V && c->seq == T && c->tied);
    assert_true(c->rope_theta == 1e4 && c->norm_eps == 1e-5 && !s->tokenizer_path);
    aa_source_close(s);
}

static void test_llama2c(void **state) {
    pack p;
    (void)state;
    for (int tied = 0; tied < 2; tied++) {
        pack_llama2c(&p, false, tied);
        aa_source *s = open_packed(&p);
        assert_string_equal(s->format, "llama2c");
        assert_true(s->config.tied == (bool)tied && s->config.residual_scale == 1);
        check_row(s, "model.embed_tokens.weight", 1), check_row(s, LAYER(1, "input_layernorm"), 3);
        check_row(s, ATTN(0, "q"), 4), check_row(s, ATTN(1, "k"), 7), check_row(s, ATTN(0, "v"), 8);
        check_row(s, ATTN(1, "o"), 11), check_row(s, LAYER(0, "post_attention_layernorm"), 12);
        check_row(s, MLP(0, "gate"), 14), check_row(s, MLP(1, "down"), 17);
        check_row(s, MLP(1, "up"), 19), check_row(s, "model.norm.weight", 20);
        if (!tied) check_row(s, "lm_head.weight", 21);
        aa_source_close(s);

        pack_llama2c(&p, true, tied);
        s = open_packed(&p);
        assert_string_equal(s->format, "llama2c-v1");
        assert_true(s->config.tied == (bool)tied);
        check_row(s, LAYER(1, "input_layernorm"), 2);
        check_row(s, LAYER(0, "post_attention_layernorm"), 3);
        check_row(s, "model.norm.weight", 5), check_row(s, "model.embed_tokens.weight", 6);
        check_row(s, ATTN(0, "q"), 7), check_row(s, ATTN(1, "o"), 14);
        check_row(s, MLP(0, "gate"), 15), check_row(s, MLP(0, "down"), 17);
        check_row(s, MLP(1, "up"), 20);
        if (!tied) check_row(s, "lm_head.weight", 21);
        aa_source_close(s);
    }
}

/* Sizes of the first AutoANE's models, and the bytes its programs look at. */
static void test_known_sizes(void **state) {
    const aa_flat_shape a36 = {512, 1408, 4, 8, 2, 64, 49152, 128, true};
    const aa_flat_shape b360 = {960, 2560, 32, 15, 5, 64, 49152, 256, true};
    unsigned char h[AA_FLAT_MAX_HEADER];
    (void)state;
    assert_true(aa_flat_size(AA_FLAT_BLZT, &a36) == 437311584);
    assert_true(aa_flat_size(AA_FLAT_BLZT, &b360) == 4341853536);
    assert_int_equal(aa_flat_header(AA_FLAT_BLZT, &a36, h), 96);
    assert_memory_equal(h, "\x54\x5A\x4C\x42\x04\0\0\0", 8);
    assert_true(h[84] == 2 && h[88] == 64 && h[92] == 0 && h[93] == 2);       /* 512 */
}

/* Version 0 of llama2.c has no magic: what begins with 16-bit tokens must not look like it. */
static void test_tokens_are_no_model(void **state) {
    uint16_t ids[256];
    uint32_t x = 1;
    (void)state;
    for (int most = 16; most <= 65536; most *= 16)
        for (int n = 0; n < 1000; n++) {
            for (int i = 0; i < 256; i++) {
                x = x * 1664525 + 1013904223;
                ids[i] = (uint16_t)(n < 100 ? n : 1 + (int)(x >> 16) % (most - 1));
            }
            assert_false(aa_flat_is((const unsigned char *)ids, sizeof ids));
        }
}

/* ---- damage ---------------------------------------------------------------------------------- */

static void expect(const pack *p, size_t n, aa_status want, const char *say) {
    aa_source *s = NULL;
    aa_err err = {0};
    char *path = save(p, "bad.bin", n);
    aa_status st = aa_source_open(&s, path, &err);
    if (st != want || !strstr(err.message, say))
        fail_msg("wanted '%s', got %d: %s", say, (int)st, err.message);
    assert_non_null(strstr(err.message, "bad.bin"));
    aa_heap_free(path);
}

static void set(pack *p, size_t at, int32_t v) { memcpy(p->data + at, &v, 4); }

/* The first AutoANE loads truncated files, and its Python tools any that is long enough for the
 * weights. */
static void test_cut_short(void **state) {
    pack p;
    (void)state;
    for (int kind = 0; kind < 3; kind++) {
        if (kind == 0) pack_blzt(&p, 0, 0);
        else pack_llama2c(&p, kind == 2, true);
        size_t n = p.n, header = kind == 0 ? 96 : kind == 1 ? 28 : 256;
        for (size_t cut = header; cut < n; cut += 4) expect(&p, cut, AA_EFORMAT, "cut short");
        expect(&p, n - 1, AA_EFORMAT, "cut short");
        expect(&p, n + 1, AA_EFORMAT, "overwritten");
        if (kind == 1) expect(&p, header - 1, AA_EUNSUPPORTED, "another kind");
        else expect(&p, header - 1, AA_EFORMAT, "too few");
    }
}

static void test_bad_headers(void **state) {
    static const struct { int kind; size_t at; int32_t v; aa_status st; const char *say; } bad[] = {
        {0, 0, 0x424C5A55, AA_EUNSUPPORTED, "another kind"},
        {0, 4, 3, AA_EUNSUPPORTED, "version 3 at byte 4"},
        {0, 8, -1, AA_EFORMAT, "step at byte 8"},
        {0, 8, 10000001, AA_EFORMAT, "step at byte 8"},
        {0, 16, 0, AA_EFORMAT, "n_layers at byte 16"},
        {0, 16, INT32_MAX, AA_EFORMAT, "n_layers at byte 16"},
        {0, 16, 1024, AA_EFORMAT, "asks for"},
        {0, 20, V - 1, AA_EFORMAT, "asks for"},
        {0, 24, INT32_MIN, AA_EFORMAT, "dim at byte 24"},
        {0, 24, C + 2, AA_EFORMAT, "asks for"},
        {0, 32, 3, AA_EFORMAT, "q_dim"},
        {0, 84, 3, AA_EFORMAT, "no multiple"},
        {0, 88, 3, AA_EFORMAT, "odd"},
        {0, 92, 1 << 20, AA_EFORMAT, "q_dim"},
        {1, 4, F + 1, AA_EFORMAT, "asks for"},
        {1, 20, -V, AA_EFORMAT, "cut short"},
        {1, 8, 0, AA_EUNSUPPORTED, "another kind"},
        {1, 24, 1 << 24, AA_EFORMAT, "asks for"},
        {2, 4, 2, AA_EUNSUPPORTED, "8-bit"},
        {2, 4, 7, AA_EUNSUPPORTED, "version 7"},
        {2, 36, 2, AA_EFORMAT, "shared head"},
        {2, 20, 3, AA_EFORMAT, "no multiple"},
        {2, 28, -V, AA_EFORMAT, "vocab_size at byte 28"}};
    pack p;
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (bad[i].kind == 0) pack_blzt(&p, 0, 0);
        else pack_llama2c(&p, bad[i].kind == 2, true);
        set(&p, bad[i].at, bad[i].v);
        expect(&p, p.n, bad[i].st, bad[i].say);
    }
    pack_blzt(&p, 0, 0);                     /* the largest there can be */
    const struct { size_t at; int32_t v; } most[] = {{16, 1024}, {20, 1 << 24}, {24, 1 << 17},
                                                     {28, 1 << 20}, {32, 1024}, {36, 1 << 24},
                                                     {84, 1024}, {88, 1024}, {92, 1 << 20}};
    for (size_t i = 0; i < 9; i++) set(&p, most[i].at, most[i].v);
    const uint64_t layer = 7ull << (17 + 20), rest = 2ull * 1024 << 17;
    const uint64_t bytes = 96 + 12 * (1024 * layer + rest + (1ull << 17) + (1ull << (24 + 17)));
    char say[64];
    snprintf(say, sizeof say, "asks for %llu bytes", (unsigned long long)bytes);
    expect(&p, p.n, AA_EFORMAT, say);
    pack_blzt(&p, 0, 0);
    p.data[96 + 2] = 0x80, p.data[96 + 3] = 0x7F;        /* infinite */
    aa_source *s = open_packed(&p);
    aa_model m;
    aa_arena arena;
    aa_cpu *cpu = NULL;
    aa_err err = {0};
    aa_arena_init(&arena, "test");
    check_ok(aa_cpu_new(&cpu, 1, AA_ISA_AUTO, &err));
    check_ok(aa_model_init(&m, &s->config, AA_MODEL_PARAMS, 8, cpu, &arena, &err));
    assert_int_equal(aa_source_load(s, &m, &err), AA_EFORMAT);
    assert_non_null(strstr(err.message, "infinite"));
    aa_cpu_free(cpu);
    aa_arena_release(&arena);
    aa_source_close(s);
}

/* ---- what BLZT does not say ------------------------------------------------------------------ */

/* The first AutoANE's demo takes a scale of 1 for models that were trained with 1/sqrt(2L), its
 * GGUF export leaves the scale out. Here it is known, and folded into what is written. */
static void test_residual_scale(void **state) {
    static const struct { int32_t step, adam_t; bool scratch; } files[] = {
        {0, 0, false}, {300, 30, true}, {300, 0, true}};
    pack p;
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        pack_blzt(&p, files[i].step, files[i].adam_t);
        aa_source *s = open_packed(&p), *back = NULL;
        aa_err err = {0};
        const double scale = files[i].scratch ? 0.5 : 1;
        assert_true(s->config.residual_scale == scale);
        for (int gguf = 0; gguf < 2; gguf++) {
            char *path = model_path(gguf ? "x.gguf" : "x");
            assert_int_equal(aa_sys_remove_tree(path), 0);
            check_ok((gguf ? aa_gguf_write : aa_hf_convert)(path, s, &keep, &err));
            check_ok(aa_source_open(&back, path, &err));
            assert_true(back->config.residual_scale == 1);
            aa_tensor rows[MODEL_ROWS];
            size_t n = aa_model_rows(&s->config, rows, MODEL_ROWS);
            for (size_t r = 0; r < n; r++) {
                bool out = strstr(rows[r].name, "o_proj") || strstr(rows[r].name, "down_proj");
                float x[64], y[64];
                check_ok(aa_source_read(s, &rows[r], x, &err));
                check_ok(aa_source_read(back, &rows[r], y, &err));
                for (size_t k = 0; k < aa_tensor_size(&rows[r]); k++)
                    assert_true((double)y[k] == (double)x[k] * (out ? scale : 1));
            }
            aa_source_close(back);
            aa_heap_free(path);
        }
        aa_source_close(s);
    }
}

static aa_source *open_shape(const aa_flat_shape *shape) {
    aa_source *s = NULL;
    aa_err err = {0};
    unsigned char head[AA_FLAT_MAX_HEADER];
    char *path = model_path("shape.bin");
    size_t n = aa_flat_header(AA_FLAT_BLZT, shape, head);
    aa_outfile *f = NULL;
    check_ok(aa_outfile_open(&f, path, &err));
    aa_outfile_write(f, head, n);
    check_ok(aa_outfile_commit(f, NULL, &err));
    assert_int_equal(truncate(path, (off_t)aa_flat_size(AA_FLAT_BLZT, shape)), 0);
    check_ok(aa_source_open(&s, path, &err));
    assert_int_equal(remove(path), 0);
    aa_heap_free(path);
    return s;
}

/* The first AutoANE has a base of 10000 in its fused kernels, whatever the model (a file of zeros
 * of that shape: holes, no blocks of a disk). */
static void test_rope_base(void **state) {
    const aa_flat_shape smollm2 = {576, 1536, 30, 9, 3, 64, 49152, 256, true};
    (void)state;
    aa_source *s = open_shape(&smollm2);
    assert_true(s->config.rope_theta == 1e5 && s->config.residual_scale == 1);
    aa_source_close(s);
}

static void test_config_beside(void **state) {
    static const char text[] =
        "{\"model_type\":\"llama\",\"hidden_size\":4,\"num_hidden_layers\":2,"
        "\"num_attention_heads\":2,\"num_key_value_heads\":1,\"intermediate_size\":%d,"
        "\"vocab_size\":5,\"max_position_embeddings\":64,\"rms_norm_eps\":1e-5,"
        "\"rope_theta\":5e5,\"tie_word_embeddings\":true}";
    pack p;
    aa_err err = {0};
    (void)state;
    pack_blzt(&p, 300, 30);
    char *config = model_path("packed/config.json"), said[400];
    snprintf(said, sizeof said, text, F);
    check_ok(aa_file_write(config, said, strlen(said), &err));
    aa_source *s = open_packed(&p);
    assert_true(s->config.rope_theta == 5e5 && s->config.seq == 64);
    assert_true(s->config.residual_scale == 1);
    aa_source_close(s);
    snprintf(said, sizeof said, text, F + 2);
    check_ok(aa_file_write(config, said, strlen(said), &err));
    expect(&p, p.n, AA_EFORMAT, "describes another model");
    assert_int_equal(remove(config), 0);
    aa_heap_free(config);
}

/* ---- there and back -------------------------------------------------------------------------- */

static bool same_bytes(const char *a, const char *b) {
    aa_sys_map x, y;
    aa_err err = {0};
    check_ok(aa_map_open(&x, a, &err));
    check_ok(aa_map_open(&y, b, &err));
    bool same = x.size_bytes == y.size_bytes && memcmp(x.data, y.data, x.size_bytes) == 0;
    aa_sys_map_close(&x), aa_sys_map_close(&y);
    return same;
}

static char *fresh(const char *folder, const char *name) {
    aa_err err = {0};
    char *dir = model_path(folder), *path = aa_path_join(dir, name);
    assert_int_equal(aa_sys_remove_tree(dir), 0);
    check_ok(aa_make_dirs(dir, &err));
    aa_heap_free(dir);
    return path;
}

static void round_trip(const aa_config *c, aa_flat_kind kind) {
    aa_source *from = model_source(c), *s = NULL, *back = NULL;
    aa_err err = {0};
    char *path = fresh("flat", "m.bin"), *again = fresh("again", "m.bin"), *hf = model_path("hf");
    check_ok(writers[kind](path, from, &keep, &err));
    check_ok(aa_source_open(&s, path, &err));
    assert_string_equal(s->format, aa_flat_kind_name(kind));
    check_same_config(&s->config, &from->config);
    assert_int_equal(aa_sys_remove_tree(hf), 0);
    check_ok(aa_hf_convert(hf, s, &keep, &err));
    check_ok(aa_source_open(&back, hf, &err));
    check_same_config(&back->config, &from->config);
    check_same_rows(from, back, 0);
    check_ok(writers[kind](again, back, &keep, &err));
    assert_true(same_bytes(path, again));
    aa_source_close(back), aa_source_close(s), aa_source_close(from);
    aa_heap_free(path), aa_heap_free(again), aa_heap_free(hf);
}

static void test_round_trips(void **state) {
    aa_config c = model_base;
    (void)state;
    for (int kind = 0; kind < AA_FLAT_KIND_COUNT; kind++) round_trip(&c, (aa_flat_kind)kind);
    c.tied = false;
    round_trip(&c, AA_FLAT_LLAMA2C);
    round_trip(&c, AA_FLAT_LLAMA2C_V1);
    c.tied = true, c.rope_theta = 1e5, c.head_dim = 24, c.seq = 512;
    round_trip(&c, AA_FLAT_BLZT);
}

/* llama2.c's tables: cosines of all positions, then sines. */
static void test_rotations(void **state) {
    aa_source *from = model_source(&model_base);
    char *path = fresh("flat", "m.bin");
    aa_err err = {0};
    aa_flat f;
    aa_flat_place at;
    (void)state;
    check_ok(aa_llama2c_write(path, from, &keep, &err));
    check_ok(aa_flat_open(&f, path, &err));
    assert_true(aa_flat_find(f.kind, &f.shape, 'R', 0, &at) && at.rows == 256 && at.cols == 8);
    for (int t = 0; t < 128; t++)
        for (int i = 0; i < 8; i++) {
            float x[2];
            memcpy(&x[0], f.map.data + at.offset + (size_t)(t * 8 + i) * 4, 4);
            memcpy(&x[1], f.map.data + at.offset + (size_t)((128 + t) * 8 + i) * 4, 4);
            double angle = t * pow(10000, -2.0 * i / 16);
            assert_true(fabs((double)x[0] - cos(angle)) < 1e-6);
            assert_true(fabs((double)x[1] - sin(angle)) < 1e-6);
        }
    aa_flat_close(&f);
    aa_source_close(from);
    aa_heap_free(path);
}

/* The first AutoANE drops what its format cannot say. */
static void test_inexpressible(void **state) {
    aa_config c[8];
    const char *say[8] = {"biases", "norms of queries", "scaling of rotary", "epsilon",
                          "head that is not", "rotary base", "wide", "Q8_0"};
    (void)state;
    for (int i = 0; i < 8; i++) c[i] = model_base;
    c[0].qkv_bias = c[0].out_bias = true;
    c[1].arch = AA_ARCH_QWEN3;
    c[2].rope_scaling = AA_ROPE_LINEAR, c[2].rope_factor = 2;
    c[3].norm_eps = 1e-6;
    c[4].tied = false;
    c[5].rope_theta = 1e5;
    c[6].head_dim = 24;
    for (int i = 0; i < 8; i++) {
        aa_convert_options o = keep;
        aa_source *from = model_source(&c[i]);
        aa_err err = {0};
        aa_sys_info info;
        char *path = fresh("flat", "m.bin"), *beside = model_path("flat/config.json");
        if (i == 7) o.type = AA_TYPE_Q8_0;
        aa_model_writer *write = i == 5 || i == 6 ? aa_llama2c_write : aa_blzt_write;
        assert_int_equal(write(path, from, &o, &err), AA_EUNSUPPORTED);
        assert_non_null(strstr(err.message, say[i]));
        assert_true(!aa_sys_stat(&info, path) && info.kind == AA_SYS_ABSENT);
        assert_true(!aa_sys_stat(&info, beside) && info.kind == AA_SYS_ABSENT);
        aa_source_close(from);
        aa_heap_free(path), aa_heap_free(beside);
    }
}

static void test_files_of_others(void **state) {
    aa_source *from = model_source(&model_base);
    aa_err err = {0};
    aa_sys_info info;
    char *path = fresh("flat", "m.bin"), *config = model_path("flat/config.json");
    (void)state;
    check_ok(aa_file_write(config, "{}", 2, &err));
    assert_int_equal(aa_blzt_write(path, from, &keep, &err), AA_EUSAGE);
    assert_non_null(strstr(err.message, "belongs to another model"));
    assert_true(!aa_sys_stat(&info, path) && info.kind == AA_SYS_ABSENT);
    assert_int_equal(remove(config), 0);
    err = (aa_err){0};
    check_ok(aa_blzt_write(path, from, &keep, &err));
    check_ok(aa_blzt_write(path, from, &keep, &err));    /* its own may be there */
    aa_source_close(from);
    aa_heap_free(path), aa_heap_free(config);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_blzt),          cmocka_unit_test(test_llama2c),
        cmocka_unit_test(test_known_sizes),   cmocka_unit_test(test_tokens_are_no_model),
        cmocka_unit_test(test_cut_short),
        cmocka_unit_test(test_bad_headers),   cmocka_unit_test(test_residual_scale),
        cmocka_unit_test(test_rope_base),     cmocka_unit_test(test_config_beside),
        cmocka_unit_test(test_round_trips),   cmocka_unit_test(test_rotations),
        cmocka_unit_test(test_inexpressible), cmocka_unit_test(test_files_of_others),
    };
    return cmocka_run_group_tests_name("unit_flat", tests, NULL, NULL);
}
