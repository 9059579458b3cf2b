/* convert: configurations of Hugging Face (what is taken, what is refused and by which words), and
 * directories written and read back. */
#include <math.h>
#include <stdlib.h>
#include <unistd.h>
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "convert/source.h"
#include "formats/safetensors.h"
#include "support/check.h"

/* A fresh directory inside the test's; the caller frees the path. */
static char *make_dir(const char *name) {
    aa_err err = {0};
    char *path = aa_path_join(check_temp_dir(), name);

    assert_non_null(path);
    assert_int_equal(aa_sys_remove_tree(path), 0);
    check_ok(aa_make_dirs(path, &err));
    return path;
}

static void put(const char *dir, const char *name, const char *text) {
    aa_err err = {0};
    char *path = aa_path_join(dir, name);

    check_ok(aa_file_write(path, text, strlen(text), &err));
    aa_heap_free(path);
}

/* ---- configurations -------------------------------------------------------------------------- */

#define SIZES \
    "\"hidden_size\":64,\"num_hidden_layers\":2,\"num_attention_heads\":4," \
    "\"intermediate_size\":96,\"vocab_size\":300,\"max_position_embeddings\":128," \
    "\"num_key_value_heads\":2"
#define LLAMA "{\"model_type\":\"llama\"," SIZES
#define QWEN2 "{\"model_type\":\"qwen2\"," SIZES
#define QWEN3 "{\"model_type\":\"qwen3\"," SIZES
#define MISTRAL "{\"model_type\":\"mistral\"," SIZES
#define LINEAR "{\"rope_type\":\"linear\",\"factor\":4.0}"
#define LLAMA3 \
    "\"factor\":8,\"low_freq_factor\":1,\"high_freq_factor\":4," \
    "\"original_max_position_embeddings\":32"

static aa_status parse(const char *text, aa_config *c, aa_err *err) {
    char *path = aa_path_join(check_temp_dir(), "config.json");

    assert_non_null(path);
    if (aa_file_write(path, text, strlen(text), err)) fail_msg("%s", err->message);
    aa_status st = aa_hf_config_parse(c, path, err);
    aa_heap_free(path);
    return st;
}

static aa_config parsed(const char *text) {
    aa_config c;
    aa_err err = {0};

    check_ok(parse(text, &c, &err));
    return c;
}

static void test_defaults(void **state) {
    (void)state;
    aa_config c = parsed(LLAMA "}");

    assert_int_equal(c.arch, AA_ARCH_LLAMA);
    assert_int_equal(c.dim, 64);
    assert_int_equal(c.layers, 2);
    assert_int_equal(c.heads, 4);
    assert_int_equal(c.kv_heads, 2);
    assert_int_equal(c.head_dim, 16);
    assert_int_equal(c.ffn, 96);
    assert_int_equal(c.vocab, 300);
    assert_int_equal(c.seq, 128);
    assert_true(!c.tied && !c.qkv_bias && !c.out_bias && !c.mlp_bias && !c.qk_norm);
    assert_true(c.rope_theta == 10000 && c.norm_eps == 1e-6 && c.residual_scale == 1);
    assert_int_equal(c.rope_scaling, AA_ROPE_PLAIN);

    c = parsed(QWEN2 "}");
    assert_true(c.qkv_bias && !c.out_bias && c.head_dim == 16);
    c = parsed(QWEN3 "}");
    assert_true(c.qk_norm && !c.qkv_bias && c.head_dim == 128);
    c = parsed(QWEN3 ",\"head_dim\":32,\"attention_bias\":true,\"tie_word_embeddings\":true}");
    assert_true(c.qkv_bias && c.out_bias && c.tied && c.head_dim == 32);
    c = parsed(LLAMA ",\"attention_bias\":true,\"mlp_bias\":true,\"rms_norm_eps\":1e-05}");
    assert_true(c.qkv_bias && c.out_bias && c.mlp_bias && c.norm_eps == 1e-5);

    static const char *const mistral[] = {
        MISTRAL "}", MISTRAL ",\"sliding_window\":null}",
        "{\"architectures\":[\"MistralForCausalLM\"],\"sliding_window\":128," SIZES "}"};
    for (size_t i = 0; i < sizeof mistral / sizeof *mistral; i++) {
        aa_config plain = parsed(LLAMA "}");
        c = parsed(mistral[i]);
        check_same_bits("config", &c, &plain, sizeof c);
    }
}

static void test_rope(void **state) {
    (void)state;
    static const char *const linear[] = {
        LLAMA ",\"rope_theta\":50000,\"rope_scaling\":" LINEAR "}",
        LLAMA ",\"rope_theta\":50000,\"rope_scaling\":{\"type\":\"linear\",\"factor\":4}}",
        LLAMA ",\"rope_parameters\":{\"rope_type\":\"linear\",\"factor\":4,\"rope_theta\":5e4}}",
        LLAMA ",\"rope_theta\":50000,\"rope_scaling\":" LINEAR
              ",\"rope_parameters\":{\"rope_type\":\"linear\",\"factor\":4,\"rope_theta\":50000}}",
    };
    for (size_t i = 0; i < 4; i++) {
        aa_config c = parsed(linear[i]);
        assert_int_equal(c.rope_scaling, AA_ROPE_LINEAR);
        assert_true(c.rope_theta == 50000 && c.rope_factor == 4);
    }
    aa_config c = parsed(LLAMA ",\"rope_theta\":5e5,\"rope_scaling\":{\"rope_type\":\"llama3\","
                         LLAMA3 "},\"eos_token_id\":[1,2]}");
    assert_int_equal(c.rope_scaling, AA_ROPE_LLAMA3);
    assert_true(c.rope_factor == 8 && c.rope_low_freq == 1 && c.rope_high_freq == 4);
    assert_int_equal(c.rope_original_seq, 32);
    c = parsed(LLAMA ",\"rope_parameters\":{\"rope_type\":\"default\",\"rope_theta\":1e6}}");
    assert_true(c.rope_scaling == AA_ROPE_PLAIN && c.rope_theta == 1e6);
}

static void test_refused_configs(void **state) {
    (void)state;
    static const struct { const char *text, *word; } bad[] = {
        {"[]", "object"},
        {"{", "config.json"},
        {"{}", "model_type"},
        {"{\"model_type\":\"gemma\"," SIZES "}", "'gemma'"},
        {MISTRAL ",\"sliding_window\":127}", "\"sliding_window\""},
        {MISTRAL ",\"architectures\":[\"LlamaForCausalLM\"]}", "MistralForCausalLM"},
        {LLAMA ",\"architectures\":[\"LlamaForSequenceClassification\"]}", "\"architectures\""},
        {LLAMA ",\"architectures\":[\"Qwen2ForCausalLM\"]}", "\"architectures\""},
        {LLAMA ",\"architectures\":[\"LlamaForCausalLM\",\"X\"]}", "\"architectures\""},
        {"{\"model_type\":\"llama\",\"hidden_size\":64}", "num_hidden_layers"},
        {LLAMA ",\"hidden_act\":\"gelu\"}", "\"hidden_act\""},
        {LLAMA ",\"sliding_window\":64}", "\"sliding_window\""},
        {QWEN2 ",\"use_sliding_window\":true,\"max_window_layers\":1}", "\"use_sliding_window\""},
        {QWEN2 ",\"use_sliding_window\":true,\"sliding_window\":9,\"max_window_layers\":0}",
         "\"sliding_window\""},
        {QWEN3 ",\"layer_types\":[\"full_attention\",\"sliding_attention\"]}", "\"layer_types\""},
        {QWEN3 ",\"layer_types\":[\"full_attention\"]}", "\"layer_types\""},
        {LLAMA ",\"num_local_experts\":8}", "\"num_local_experts\""},
        {LLAMA ",\"partial_rotary_factor\":0.5}", "\"partial_rotary_factor\""},
        {LLAMA ",\"rope_interleaved\":true}", "\"rope_interleaved\""},
        {LLAMA ",\"quantization_config\":{\"bits\":4}}", "\"quantization_config\""},
        {LLAMA ",\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":4}}", "'yarn'"},
        {LLAMA ",\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":4}}", "'dynamic'"},
        {LLAMA ",\"rope_scaling\":{\"rope_type\":\"linear\"}}", "\"factor\""},
        {LLAMA ",\"rope_scaling\":{\"rope_type\":\"linear\",\"factor\":0.5}}", "factor"},
        {LLAMA ",\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8}}", "\"low_freq_factor\""},
        {LLAMA ",\"rope_scaling\":7}", "\"rope_scaling\""},
        {LLAMA ",\"rope_theta\":10000,\"rope_parameters\":{\"rope_theta\":500000}}",
         "\"rope_theta\""},
        {LLAMA ",\"rope_scaling\":" LINEAR ",\"rope_parameters\":{\"rope_type\":\"default\"}}",
         "differs from \"rope_scaling\""},
        {LLAMA ",\"rope_parameters\":{\"full_attention\":{\"rope_theta\":1e4}}}", "by layer type"},
        {LLAMA ",\"rope_parameters\":{\"partial_rotary_factor\":0.25}}", "partial rotation"},
        {QWEN3 ",\"mlp_bias\":true}", "\"mlp_bias\""},
        {LLAMA ",\"rms_norm_eps\":0}", "rms_norm_eps"},
        {LLAMA ",\"rms_norm_eps\":\"x\"}", "rms_norm_eps"},
        {LLAMA ",\"head_dim\":15}", "head-dim"},
        {LLAMA ",\"head_dim\":-4}", "head_dim"},
        {"{\"model_type\":\"llama\",\"hidden_size\":64,\"num_hidden_layers\":2,"
         "\"num_attention_heads\":4,\"intermediate_size\":96,\"vocab_size\":1e3}", "vocab_size"},
        {"{\"model_type\":\"llama\",\"hidden_size\":64,\"num_hidden_layers\":2147483647,"
         "\"num_attention_heads\":4,\"intermediate_size\":96,\"vocab_size\":300,"
         "\"max_position_embeddings\":9}", "layers"},
        {"{\"model_type\":\"qwen2\",\"hidden_size\":64,\"num_hidden_layers\":2,"
         "\"num_attention_heads\":4,\"intermediate_size\":96,\"vocab_size\":300,"
         "\"max_position_embeddings\":9}", "kv-heads 32"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        aa_config c = {.dim = 77};
        aa_err err = {0};
        aa_status st = parse(bad[i].text, &c, &err);

        if (st != AA_EFORMAT && st != AA_EUNSUPPORTED)
            fail_msg("%s: status %d '%s'", bad[i].text, st, err.message);
        if (!strstr(err.message, bad[i].word) || !strstr(err.message, "config.json"))
            fail_msg("%s: '%s' lacks '%s'", bad[i].text, err.message, bad[i].word);
        assert_int_equal(c.dim, 77);             /* untouched */
    }
}

static void test_harmless_keys(void **state) {
    (void)state;
    parsed(LLAMA ",\"pretraining_tp\":1,\"sliding_window\":null,\"num_experts\":0,"
                 "\"rope_interleaved\":false,\"partial_rotary_factor\":1.0,\"rope_scaling\":null,"
                 "\"quantization_config\":null,\"transformers_version\":\"4.40.0\"}");
    parsed(QWEN2 ",\"use_sliding_window\":false,\"sliding_window\":4096,\"max_window_layers\":1}");
    parsed(QWEN2 ",\"use_sliding_window\":true,\"sliding_window\":null,\"max_window_layers\":0}");
    parsed(QWEN3 ",\"use_sliding_window\":true,\"sliding_window\":9,\"max_window_layers\":2}");
    parsed(QWEN3 ",\"layer_types\":[\"full_attention\",\"full_attention\"],\"sliding_window\":4}");
    parsed("{\"architectures\":[\"LlamaForCausalLM\"]," SIZES "}");
}

static aa_config toy(int arch) {
    aa_config c = {.arch = arch, .dim = 24, .layers = 2, .heads = 4, .kv_heads = 2, .head_dim = 10,
                   .ffn = 20, .vocab = 11, .seq = 40, .norm_eps = 1e-5, .rope_theta = 123456.5};
    aa_err err = {0};

    check_ok(aa_config_resolve(&c, &err));
    return c;
}

/* Field by field: structs have padding. */
static void check_same_config(const char *what, const aa_config *a, const aa_config *b) {
    static const size_t wide[] = {
        offsetof(aa_config, dim), offsetof(aa_config, layers), offsetof(aa_config, heads),
        offsetof(aa_config, kv_heads), offsetof(aa_config, head_dim), offsetof(aa_config, ffn),
        offsetof(aa_config, vocab), offsetof(aa_config, seq),
        offsetof(aa_config, rope_original_seq), offsetof(aa_config, rope_theta),
        offsetof(aa_config, rope_factor), offsetof(aa_config, rope_low_freq),
        offsetof(aa_config, rope_high_freq), offsetof(aa_config, norm_eps),
        offsetof(aa_config, residual_scale),
    };
    for (size_t i = 0; i < sizeof wide / sizeof *wide; i++)
        check_same_bits(what, (const char *)a + wide[i], (const char *)b + wide[i], 8);
    assert_int_equal(a->arch, b->arch);
    assert_int_equal(a->rope_scaling, b->rope_scaling);
    assert_true(a->tied == b->tied && a->qkv_bias == b->qkv_bias && a->out_bias == b->out_bias &&
                a->mlp_bias == b->mlp_bias && a->qk_norm == b->qk_norm);
}

static void check_config_round_trip(const aa_config *c) {
    aa_text t = {0};
    aa_err err = {0};

    check_ok(aa_hf_config_json(c, NULL, AA_TYPE_F32, &t, &err));
    aa_config back = parsed(t.data);
    check_same_config(t.data, &back, c);
    aa_text_release(&t);
}

static void test_config_round_trip(void **state) {
    (void)state;
    for (int arch = 0; arch < AA_ARCH_COUNT; arch++)
        for (int scaling = AA_ROPE_PLAIN; scaling <= AA_ROPE_LLAMA3; scaling++) {
            aa_config c = toy(arch);

            c.rope_scaling = scaling;
            c.tied = scaling == AA_ROPE_LINEAR;
            if (scaling != AA_ROPE_PLAIN) c.rope_factor = 8;
            if (scaling == AA_ROPE_LLAMA3)
                c.rope_low_freq = 1, c.rope_high_freq = 4, c.rope_original_seq = 16;
            check_config_round_trip(&c);
            if (arch != AA_ARCH_QWEN2) c.qkv_bias = c.out_bias = true;
            c.mlp_bias = arch == AA_ARCH_LLAMA;
            check_config_round_trip(&c);
        }
    for (const aa_preset *p = aa_presets; p->name; p++) {
        aa_config c = p->config;
        aa_text t = {0};
        aa_err err = {0};

        if (!c.vocab) c.vocab = 512;
        check_ok(aa_config_resolve(&c, &err));
        check_ok(aa_hf_config_json(&c, NULL, AA_TYPE_F32, &t, &err));
        aa_config back = parsed(t.data);
        back.residual_scale = c.residual_scale;  /* folded into the weights */
        check_same_config(p->name, &back, &c);
        aa_text_release(&t);
    }
}

static void test_inexpressible(void **state) {
    (void)state;
    aa_config c = toy(AA_ARCH_LLAMA);
    aa_text t = {0};
    aa_err err = {0};

    c.heads = 7, c.kv_heads = 1;                 /* 24 is no multiple of 7 */
    assert_int_equal(aa_hf_config_json(&c, NULL, AA_TYPE_F32, &t, &err), AA_EUNSUPPORTED);
    assert_non_null(strstr(err.message, "heads (7)"));
    aa_text_release(&t);
}

/* ---- directories ----------------------------------------------------------------------------- */

typedef struct fixture { aa_arena arena; aa_model model; } fixture;

static void open_model(fixture *f, const aa_config *c) {
    aa_err err = {0};

    aa_arena_init(&f->arena, "test");
    check_ok(aa_model_init(&f->model, c, AA_MODEL_PARAMS, 1, NULL, &f->arena, &err));
}

/* Element i of row r: a number of its own, exact in bf16 and f16. */
static float value_at(size_t r, size_t i) { return (float)((r * 31 + i * 7) % 251) / 64 - 2; }

static void fill(aa_model *m) {
    for (size_t r = 0; r < m->n_tensors; r++)
        for (size_t i = 0; i < aa_tensor_size(&m->tensors[r]); i++)
            m->tensors[r].data[i] = value_at(r, i);
}

static aa_status load(const char *dir, fixture *f, aa_err *err) {
    aa_source *s;

    AA_TRY(aa_source_open(&s, dir, err));
    open_model(f, &s->config);
    aa_status st = aa_source_load(s, &f->model, err);
    aa_source_close(s);
    if (st) aa_arena_release(&f->arena);
    return st;
}

static void test_weights_round_trip(void **state) {
    (void)state;
    for (int arch = 0; arch < AA_ARCH_COUNT; arch++) {
        aa_config c = toy(arch);
        aa_hf_files files = {0};
        aa_hf_options o = {.files = &files};
        aa_err err = {0};
        bool exact = false;
        fixture a, b;
        char *dir = make_dir("model");

        c.tied = arch == AA_ARCH_QWEN3;
        c.mlp_bias = arch == AA_ARCH_LLAMA;
        if (arch == AA_ARCH_LLAMA) c.qkv_bias = c.out_bias = true;
        open_model(&a, &c);
        fill(&a.model);
        check_ok(aa_hf_write(dir, &a.model, &o, &exact, &err));
        assert_true(exact);
        check_ok(load(dir, &b, &err));
        check_same_config("config", &b.model.config, &c);
        assert_int_equal(a.model.n_tensors, b.model.n_tensors);
        for (size_t r = 0; r < a.model.n_tensors; r++)
            check_same_bits(a.model.tensors[r].name, b.model.tensors[r].data,
                            a.model.tensors[r].data, aa_tensor_size(&a.model.tensors[r]) * 4);
        assert_int_equal(files.n, 3);
        for (size_t i = 0; i < files.n; i++) {
            char *path = aa_path_join(dir, files.file[i].name);
            aa_sys_info info;
            aa_digest digest;

            check_ok(aa_digest_file(&digest, path, &err));
            assert_true(aa_digest_equal(digest, files.file[i].digest));
            assert_int_equal(aa_sys_stat(&info, path), 0);
            assert_int_equal(info.size_bytes, files.file[i].size_bytes);
            aa_heap_free(path);
        }
        aa_arena_release(&a.arena);
        aa_arena_release(&b.arena);
        aa_heap_free(dir);
    }
}

static void test_residual_scale(void **state) {
    (void)state;
    aa_config c = toy(AA_ARCH_LLAMA);
    aa_err err = {0};
    bool exact = true;
    fixture a, b;
    char *dir = make_dir("model");

    c.qkv_bias = c.out_bias = c.mlp_bias = true;
    c.residual_scale = 0.5;
    open_model(&a, &c);
    fill(&a.model);
    check_ok(aa_hf_write(dir, &a.model, NULL, &exact, &err));
    assert_false(exact);
    check_ok(load(dir, &b, &err));
    assert_true(b.model.config.residual_scale == 1);
    size_t n_scaled = 0;
    for (size_t r = 0; r < a.model.n_tensors; r++) {
        const aa_tensor *x = &a.model.tensors[r], *y = &b.model.tensors[r];
        bool output = strstr(x->name, "o_proj") || strstr(x->name, "down_proj");

        n_scaled += output;
        for (size_t i = 0; i < aa_tensor_size(x); i++)
            assert_true(y->data[i] == x->data[i] * (output ? 0.5f : 1.0f));
    }
    assert_int_equal(n_scaled, 8);
    aa_arena_release(&a.arena);
    aa_arena_release(&b.arena);
    aa_heap_free(dir);
}

static void test_compact_vocabulary(void **state) {
    (void)state;
    static const int32_t active[11] = {0, 1, 4, 5, 6, 9, 10, 11, 12, 17, 19};
    static const float mean[11] = {3, 1, NAN, 2, -1, 0, -4, 5, 6, 7, 8};
    enum { LOWEST = 6 };                         /* of row 6, id 10 */

    for (int tied = 0; tied < 2; tied++) {
        aa_config c = toy(AA_ARCH_QWEN3);
        aa_hf_files files = {0};
        aa_hf_options o = {.active_ids = active, .n_active = 11, .full_vocab = 20,
                           .mean_logit = mean, .files = &files};
        aa_err err = {0};
        bool exact = true;
        fixture a, b;
        aa_source *s;
        char *dir = make_dir("model");

        c.tied = tied;
        open_model(&a, &c);
        fill(&a.model);
        check_ok(aa_hf_write(dir, &a.model, &o, &exact, &err));
        assert_false(exact);
        assert_int_equal(files.n, 4);
        check_ok(aa_source_open(&s, dir, &err));
        assert_int_equal(s->config.vocab, 11);
        assert_int_equal(s->full_vocab, 20);
        assert_int_equal(s->n_active, 11);
        assert_memory_equal(s->active_ids, active, sizeof active);
        aa_source_close(s);
        check_ok(load(dir, &b, &err));           /* the model as it was trained */
        assert_int_equal(b.model.config.vocab, 11);
        check_same_bits("embedding", b.model.embedding->data, a.model.embedding->data, 11 * 24 * 4);
        check_same_bits("head", b.model.head.weight->data, a.model.head.weight->data, 11 * 24 * 4);
        aa_arena_release(&b.arena);
        char *list = aa_path_join(dir, "active_vocabulary.json");
        assert_int_equal(remove(list), 0);
        aa_heap_free(list);
        check_ok(load(dir, &b, &err));           /* as other programs see it */
        assert_int_equal(b.model.config.vocab, 20);
        for (size_t id = 0; id < 20; id++) {
            size_t from = LOWEST;

            for (size_t k = 0; k < 11; k++)
                if ((size_t)active[k] == id) from = k;
            check_same_bits("embedding", b.model.embedding->data + id * 24,
                            a.model.embedding->data + from * 24, 24 * 4);
            check_same_bits("head", b.model.head.weight->data + id * 24,
                            a.model.head.weight->data + from * 24, 24 * 4);
        }
        put(dir, "active_vocabulary.json", "{\"full_vocab\":20,\"active_ids\":[3,3]}");
        assert_int_equal(aa_source_open(&s, dir, &err), AA_EFORMAT);
        assert_non_null(strstr(err.message, "active_ids"));
        aa_arena_release(&a.arena);
        aa_arena_release(&b.arena);
        aa_heap_free(dir);
    }
}

/* Rows in an order of their own, the head multiplied out; with ids that have no row, and without.
 */
static void test_low_rank_head(void **state) {
    (void)state;
    static const int32_t order[11] = {9, 0, 17, 4, 5, 1, 19, 6, 12, 11, 10};
    static const int32_t all[11] = {9, 0, 7, 4, 5, 1, 2, 6, 3, 8, 10};
    static const float mean[11] = {3, 1, 4, 2, -1, 0, -4, 5, 6, 7, 8};
    enum { R = 5 };
    aa_err err = {0};
    aa_cpu *cpu;

    check_ok(aa_cpu_new(&cpu, 1, AA_ISA_AUTO, &err));
    for (int variant = 0; variant < 4; variant++) {
        const bool tied = variant % 2, compact = variant / 2;
        const size_t V = compact ? 20 : 11;
        aa_config c = toy(AA_ARCH_LLAMA);
        bool exact = true;
        fixture a, b;
        char *dir = make_dir("model");

        c.tied = tied, c.head_rank = R, c.head_full = 4;
        open_model(&a, &c);
        fill(&a.model);
        aa_hf_options o = {.active_ids = compact ? order : all, .n_active = 11, .full_vocab = V,
                           .mean_logit = compact ? mean : NULL, .cpu = cpu};
        check_ok(aa_hf_write(dir, &a.model, &o, &exact, &err));
        assert_false(exact);
        aa_source *s;
        check_ok(aa_source_open(&s, dir, &err));
        assert_int_equal(s->config.head_rank, 0);
        assert_int_equal(s->n_active, compact ? 11 : 0);
        for (size_t i = 1; i < s->n_active; i++)
            assert_true(s->active_ids[i] > s->active_ids[i - 1]);
        check_ok(load(dir, &b, &err));
        for (size_t i = 0; i < 11; i++) {
            size_t id = compact ? (size_t)s->active_ids[i] : i;
            float row[24], codes[R];
            int32_t from = -1;

            for (int32_t k = 0; k < 11; k++)
                if ((size_t)o.active_ids[k] == id) from = k;
            assert_true(from >= 0);
            aa_model_head_rows(&a.model, cpu, &from, 1, codes, row);
            check_same_bits("head", b.model.head.weight->data + i * 24, row, sizeof row);
            if (!tied)
                check_same_bits("embedding", b.model.embedding->data + i * 24,
                                a.model.embedding->data + from * 24, sizeof row);
        }
        aa_source_close(s);
        aa_arena_release(&a.arena);
        aa_arena_release(&b.arena);
        aa_heap_free(dir);
    }
    aa_cpu_free(cpu);
}

/* ---- weights of others ----------------------------------------------------------------------- */

typedef struct variant {
    aa_dtype dtype; bool bare_names;
    const char *extra;                           /* one more tensor of 11x24, or NULL */
    bool extra_is_embedding;                     /* with the embedding's bytes, else with zeros */
    const char *skip;                            /* leaves this row out */
    size_t from, to;                             /* rows from..to-1 */
} variant;

static void write_element(aa_outfile *f, aa_dtype dtype, float x) {
    uint16_t half;
    double wide = x;

    if (dtype == AA_DTYPE_F16) aa_f16_from_f32(&half, &x, 1);
    else aa_bf16_from_f32(&half, &x, 1);
    if (dtype == AA_DTYPE_F32) aa_outfile_write(f, &x, 4);
    else if (dtype == AA_DTYPE_F64) aa_outfile_write(f, &wide, 8);
    else aa_outfile_write(f, &half, 2);
}

static void write_variant(const char *dir, const char *name, const aa_model *m, const variant *v) {
    aa_st_entry entries[64];
    size_t rows[64], n = 0;
    aa_err err = {0};
    aa_outfile *f;
    char *path = aa_path_join(dir, name);

    for (size_t r = v->from; r < v->to && r < m->n_tensors; r++) {
        const aa_tensor *t = &m->tensors[r];
        bool vector = aa_tensor_is_vector(t);
        const char *at = v->bare_names && !strncmp(t->name, "model.", 6) ? t->name + 6 : t->name;

        if (v->skip && strcmp(t->name, v->skip) == 0) continue;
        rows[n] = r;
        entries[n++] = (aa_st_entry){at, v->dtype, vector ? 1 : 2,
                                     {vector ? t->cols : t->rows, vector ? 0 : t->cols}};
    }
    if (v->extra) {
        rows[n] = v->extra_is_embedding ? 0 : SIZE_MAX;
        entries[n++] = (aa_st_entry){v->extra, v->dtype, 2, {11, 24}};
    }
    check_ok(aa_outfile_open(&f, path, &err));
    check_ok(aa_safetensors_begin(f, entries, n, NULL, 0, &err));
    for (size_t k = 0; k < n; k++) {
        size_t size = entries[k].shape[0] * (entries[k].n_dims == 2 ? entries[k].shape[1] : 1);

        for (size_t i = 0; i < size; i++)
            write_element(f, v->dtype, rows[k] == SIZE_MAX ? 0 : m->tensors[rows[k]].data[i]);
    }
    check_ok(aa_outfile_commit(f, NULL, &err));
    aa_heap_free(path);
}

/* A directory with a config.json and a filled model to take weights from. */
static char *foreign_dir(const aa_config *c, fixture *a) {
    aa_text t = {0};
    aa_err err = {0};
    char *dir = make_dir("foreign");

    open_model(a, c);
    fill(&a->model);
    check_ok(aa_hf_config_json(c, NULL, AA_TYPE_F32, &t, &err));
    put(dir, "config.json", t.data);
    aa_text_release(&t);
    return dir;
}

static void check_loads(const char *dir, const aa_model *want) {
    fixture b;
    aa_err err = {0};

    check_ok(load(dir, &b, &err));
    for (size_t r = 0; r < want->n_tensors; r++)
        check_same_bits(want->tensors[r].name, b.model.tensors[r].data, want->tensors[r].data,
                        aa_tensor_size(&want->tensors[r]) * 4);
    aa_arena_release(&b.arena);
}

static void check_refused(const char *dir, const char *word) {
    fixture b;
    aa_err err = {0};
    aa_status st = load(dir, &b, &err);

    if (!st || !strstr(err.message, word))
        fail_msg("status %d '%s' lacks '%s'", st, err.message, word);
}

static void test_foreign_weights(void **state) {
    (void)state;
    static const aa_dtype dtypes[] = {AA_DTYPE_F32, AA_DTYPE_F16, AA_DTYPE_BF16, AA_DTYPE_F64};
    aa_config c = toy(AA_ARCH_QWEN2);
    fixture a;
    char *dir;

    c.tied = true;
    dir = foreign_dir(&c, &a);
    const char *name = "model.safetensors";
    variant v = {.to = SIZE_MAX};
    for (size_t i = 0; i < 4; i++) {
        v.dtype = dtypes[i], v.bare_names = i % 2;
        write_variant(dir, name, &a.model, &v);
        check_loads(dir, &a.model);
    }
    v = (variant){.dtype = AA_DTYPE_F32, .to = SIZE_MAX, .extra = "lm_head.weight",
                  .extra_is_embedding = true};
    write_variant(dir, name, &a.model, &v);
    check_loads(dir, &a.model);
    v.extra_is_embedding = false;
    write_variant(dir, name, &a.model, &v);
    check_refused(dir, "lm_head.weight differs");
    v.extra = "model.layers.1.self_attn.rotary_emb.inv_freq";
    write_variant(dir, name, &a.model, &v);
    check_loads(dir, &a.model);
    v.extra = "model.layers.0.self_attn.o_proj.bias";
    write_variant(dir, name, &a.model, &v);
    check_refused(dir, "'model.layers.0.self_attn.o_proj.bias' is no part of the qwen2 model");
    v.extra = "embed_tokens.weight";             /* with and without prefix: which one counts? */
    write_variant(dir, name, &a.model, &v);
    check_refused(dir, "'embed_tokens.weight'");
    v.extra = NULL, v.skip = "model.layers.1.self_attn.k_proj.bias";
    write_variant(dir, name, &a.model, &v);
    check_refused(dir, "has no tensor 'model.layers.1.self_attn.k_proj.bias'");
    v.skip = NULL;
    a.model.tensors[3].data[5] = NAN;
    write_variant(dir, name, &a.model, &v);
    check_refused(dir, "element 5 is not a number");
    aa_heap_free(dir);
    aa_arena_release(&a.arena);
}

static void test_wrong_shape(void **state) {
    (void)state;
    aa_config c = toy(AA_ARCH_LLAMA);
    fixture a;
    char *dir = foreign_dir(&c, &a);
    aa_text t = {0};
    aa_err err = {0};

    write_variant(dir, "model.safetensors", &a.model, &(variant){AA_DTYPE_F32, .to = SIZE_MAX});
    check_loads(dir, &a.model);
    c.vocab = 12;
    check_ok(aa_hf_config_json(&c, NULL, AA_TYPE_F32, &t, &err));
    put(dir, "config.json", t.data);
    check_refused(dir, "'model.embed_tokens.weight' is [11,24], by its config.json it is [12,24]");
    aa_text_release(&t);
    aa_heap_free(dir);
    aa_arena_release(&a.arena);
}

static void write_index(const char *dir, const aa_model *m, size_t cut, const char *second,
                        const char *extra) {
    aa_text t = {0};

    aa_text_add(&t, "{\"metadata\":{\"total_size\":1},\"weight_map\":{");
    for (size_t r = 0; r < m->n_tensors; r++) {
        const char *file = r < cut ? "model-00001-of-00002.safetensors" : second;

        aa_text_json_key(&t, m->tensors[r].name);
        aa_text_json_string(&t, file, strlen(file));
    }
    aa_text_add(&t, extra);
    aa_text_add(&t, "}}");
    put(dir, "model.safetensors.index.json", t.data);
    aa_text_release(&t);
}

static void test_shards(void **state) {
    (void)state;
    aa_config c = toy(AA_ARCH_QWEN3);
    fixture a;
    char *dir = foreign_dir(&c, &a);
    const char *first = "model-00001-of-00002.safetensors";
    const char *second = "model-00002-of-00002.safetensors";

    check_refused(dir, "neither model.safetensors nor");
    write_variant(dir, first, &a.model, &(variant){AA_DTYPE_BF16, .to = 7});
    write_variant(dir, second, &a.model, &(variant){AA_DTYPE_F32, .from = 7, .to = SIZE_MAX});
    write_index(dir, &a.model, 7, second, "");
    check_loads(dir, &a.model);
    write_index(dir, &a.model, 8, second, "");
    check_refused(dir, "where it is not");
    write_index(dir, &a.model, 7, second, ",\"absent\":\"model-00001-of-00002.safetensors\"");
    check_refused(dir, "'absent'");
    write_index(dir, &a.model, 7, "../model-00002-of-00002.safetensors", "");
    check_refused(dir, "plain file name");
    write_index(dir, &a.model, 7, "no-such.safetensors", "");
    check_refused(dir, "no-such.safetensors");
    write_variant(dir, second, &a.model, &(variant){AA_DTYPE_F32, .from = 6, .to = SIZE_MAX});
    write_index(dir, &a.model, 7, second, "");
    check_refused(dir, "its files hold");
    put(dir, "model.safetensors.index.json", "{\"weight_map\":[]}");
    check_refused(dir, "weight_map");
    aa_heap_free(dir);
    aa_arena_release(&a.arena);
}

/* ---- paths ----------------------------------------------------------------------------------- */

static void test_run_directory(void **state) {
    (void)state;
    aa_config c = toy(AA_ARCH_LLAMA);
    aa_err err = {0};
    aa_source *s;
    bool exact;
    fixture a;
    char *run = make_dir("run"), *first = make_dir("run/step-1"), *second = make_dir("run/step-2");
    char *last = aa_path_join(run, "last"), *best = aa_path_join(run, "best");

    assert_int_equal(aa_source_open(&s, run, &err), AA_ENOTFOUND);
    assert_non_null(strstr(err.message, "is no model"));
    put(run, "journal.jsonl", "");
    err = (aa_err){0};
    assert_int_equal(aa_source_open(&s, run, &err), AA_ENOTFOUND);
    assert_non_null(strstr(err.message, "no checkpoint yet"));

    open_model(&a, &c);
    err = (aa_err){0};
    check_ok(aa_hf_write(first, &a.model, NULL, &exact, &err));
    check_ok(aa_hf_write(second, &a.model, NULL, &exact, &err));
    assert_int_equal(aa_sys_link_replace("step-2", last), 0);
    check_ok(aa_source_open(&s, run, &err));
    assert_string_equal(s->path, second);
    aa_source_close(s);
    assert_int_equal(aa_sys_link_replace("step-1", best), 0);
    check_ok(aa_source_open(&s, run, &err));
    assert_string_equal(s->path, first);
    assert_string_equal(s->format, "huggingface");
    assert_null(s->tokenizer_path);
    assert_null(s->active_ids);
    aa_source_close(s);
    check_ok(aa_source_open(&s, last, &err));    /* a link itself is a path too */
    aa_source_close(s);
    assert_int_equal(aa_sys_link_replace("step-9", best), 0);
    check_ok(aa_source_open(&s, run, &err));     /* dangling best: last */
    assert_string_equal(s->path, second);
    aa_source_close(s);

    assert_int_equal(aa_source_open(&s, "no/such/place", &err), AA_ENOTFOUND);
    err = (aa_err){0};
    char *file = aa_path_join(first, "model.safetensors");
    assert_int_equal(aa_source_open(&s, file, &err), AA_EUNSUPPORTED);
    aa_arena_release(&a.arena);
    char *all[] = {run, first, second, last, best, file};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) aa_heap_free(all[i]);
}

static void test_tokenizer(void **state) {
    (void)state;
    aa_config c = toy(AA_ARCH_LLAMA);
    aa_err err = {0};
    aa_source *s;
    aa_tokenizer *bytes, *t;
    bool exact;
    fixture a;
    char *dir = make_dir("model");

    check_ok(aa_tokenizer_new_bytes(&bytes, &err));
    for (int with = 0; with < 2; with++) {
        c.vocab = 300;
        open_model(&a, &c);
        check_ok(aa_hf_write(dir, &a.model, &(aa_hf_options){.tokenizer = with ? bytes : NULL},
                             &exact, &err));
        check_ok(aa_source_open(&s, dir, &err));
        assert_int_equal(s->tokenizer_path != NULL, with);
        check_ok(aa_source_tokenizer(s, &t, &err));
        assert_int_equal(aa_tokenizer_vocab(t), 257);
        assert_int_equal(aa_tokenizer_kind_of(t), AA_TOKENIZER_BYTES);
        aa_tokenizer_free(t);
        s->full_vocab = 256;
        assert_int_not_equal(aa_source_tokenizer(s, &t, &err), AA_OK);
        assert_non_null(strstr(err.message, "256"));
        err = (aa_err){0};
        aa_source_close(s);
        aa_arena_release(&a.arena);
    }
    /* Ids of a compact vocabulary beyond the tokenizer's could not be written again. */
    put(dir, "active_vocabulary.json", "{\"full_vocab\":300,\"active_ids\":[3,299]}");
    check_ok(aa_source_open(&s, dir, &err));
    assert_int_equal(aa_source_tokenizer(s, &t, &err), AA_EFORMAT);
    assert_non_null(strstr(err.message, "active_vocabulary.json"));
    err = (aa_err){0};
    aa_source_close(s);
    json_t *o = NULL;
    char *path = aa_path_join(dir, "config.json");
    check_ok(aa_json_load(&o, path, &err));
    assert_int_equal(json_integer_value(json_object_get(o, "eos_token_id")), 256);
    json_decref(o);
    aa_heap_free(path);
    aa_tokenizer_free(bytes);
    aa_heap_free(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_rope),
        cmocka_unit_test(test_refused_configs),
        cmocka_unit_test(test_harmless_keys),
        cmocka_unit_test(test_config_round_trip),
        cmocka_unit_test(test_inexpressible),
        cmocka_unit_test(test_weights_round_trip),
        cmocka_unit_test(test_residual_scale),
        cmocka_unit_test(test_compact_vocabulary),
        cmocka_unit_test(test_low_rank_head),
        cmocka_unit_test(test_foreign_weights),
        cmocka_unit_test(test_wrong_shape),
        cmocka_unit_test(test_shards),
        cmocka_unit_test(test_run_directory),
        cmocka_unit_test(test_tokenizer),
    };
    return cmocka_run_group_tests_name("unit_hf", tests, NULL, NULL);
}
