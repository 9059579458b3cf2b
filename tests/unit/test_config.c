#include <math.h>

#include "model/model.h"
#include "support/check.h"

/* The published sizes (one V*C, not two: the embedding is the head). */
static void parameter_counts(void **state) {
    static const struct { const char *preset; int64_t vocab; uint64_t params; } known[] = {
        {"reference", 49152, 36442624},
        {"reference-1024", 49152, 95429632},
        {"reference-1536", 49152, 176961024},
        {"reference-2048", 49152, 281036800},
        {"stories110m", 0, 109529856},
        {"smollm2-135m", 0, 134515008},
        {"smollm2-360m", 0, 361821120},
        {"qwen2.5-0.5b", 0, 494032768},
        /* the original's table plus the q and k norms it left out: 28 * 2 * 128 */
        {"qwen3-0.6b", 0, 596042752 + 7168},
    };

    (void)state;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        const aa_preset *p = aa_preset_find(known[i].preset);
        aa_err err = {0};

        assert_non_null(p);
        aa_config c = p->config;
        if (known[i].vocab) c.vocab = known[i].vocab;
        check_ok(aa_config_resolve(&c, &err));
        if (aa_config_params(&c) != known[i].params)
            fail_msg("%s has %llu parameters", p->name, (unsigned long long)aa_config_params(&c));
    }
}

static void every_preset_resolves(void **state) {
    (void)state;
    for (const aa_preset *p = aa_presets; p->name; p++) {
        aa_config c = p->config;
        aa_err err = {0};

        if (!c.vocab) c.vocab = 4096;
        check_ok(aa_config_resolve(&c, &err));
        assert_ptr_equal(aa_preset_find(p->name), p);
        assert_true(strlen(p->what) > 3);
    }
    assert_null(aa_preset_find("no such preset"));
}

static void what_is_left_open_is_filled_in(void **state) {
    aa_config c = {.dim = 200, .layers = 1, .heads = 4, .vocab = 10};
    aa_err err = {0};

    (void)state;
    check_ok(aa_config_resolve(&c, &err));
    assert_int_equal(c.kv_heads, 4);
    assert_int_equal(c.head_dim, 50);
    assert_int_equal(c.ffn, 576);                    /* 533.3 up to the next multiple of 64 */
    assert_true(c.rope_theta == 10000 && c.norm_eps == 1e-5 && c.residual_scale == 1);
    c = (aa_config){.arch = AA_ARCH_QWEN2, .dim = 64, .layers = 1, .vocab = 10};
    check_ok(aa_config_resolve(&c, &err));
    assert_true(c.qkv_bias && !c.out_bias && c.norm_eps == 1e-6);
    c = (aa_config){.arch = AA_ARCH_QWEN3, .dim = 64, .layers = 1, .vocab = 10};
    check_ok(aa_config_resolve(&c, &err));
    assert_true(c.qk_norm && !c.qkv_bias);
}

static void all_problems_are_named_at_once(void **state) {
    aa_config c = {.dim = 100, .layers = -3, .heads = 6, .kv_heads = 4, .norm_eps = -1,
                   .rope_theta = NAN, .qk_norm = true};
    static const char *const named[] = {"layers is -3", "vocab is 0", "give head-dim",
                                        "heads 6 is no multiple of kv-heads 4", "norm-eps is -1",
                                        "rope-theta is nan", "use qwen3"};
    const aa_config before = c;
    aa_err err = {0};

    (void)state;
    assert_int_equal(aa_config_resolve(&c, &err), AA_EUSAGE);
    for (size_t i = 0; i < sizeof named / sizeof *named; i++)
        if (!strstr(err.message, named[i])) fail_msg("'%s' is not in: %s", named[i], err.message);
    assert_memory_equal(&c, &before, sizeof c);
}

static void check_refused(aa_config c, const char *why) {
    aa_err err = {0};

    assert_int_equal(aa_config_resolve(&c, &err), AA_EUSAGE);
    if (!strstr(err.message, why)) fail_msg("'%s' is not in: %s", why, err.message);
}

static void hostile_values(void **state) {
    const aa_config good = {.dim = 64, .layers = 2, .heads = 4, .vocab = 10};
    aa_config c;

    (void)state;
    c = good, c.dim = INT64_MAX, check_refused(c, "dim is 9223372036854775807");
    c = good, c.vocab = INT64_MIN, check_refused(c, "vocab is");
    c = good, c.heads = -4, check_refused(c, "heads is -4");
    c = good, c.head_dim = 7, check_refused(c, "must be even");
    c = good, c.kv_heads = INT64_MAX, check_refused(c, "kv-heads is");
    c = good, c.arch = 99, check_refused(c, "architecture number 99");
    c = good, c.rope_scaling = 9, check_refused(c, "rope scaling number 9");
    c = good, c.rope_scaling = AA_ROPE_LINEAR, check_refused(c, "rope factor is 0");
    c = good, c.rope_scaling = AA_ROPE_LLAMA3, c.rope_factor = 8,
    check_refused(c, "frequency factors");
    c = good, c.residual_scale = INFINITY, check_refused(c, "residual-scale is inf");
    c = good, c.qkv_bias = true, check_refused(c, "on all four");
    c = good, c.head_rank = 64, c.head_full = 5;
    check_refused(c, "head-rank is 64, allowed 1 to 63");
    c = good, c.head_rank = -1, check_refused(c, "head-rank is -1, allowed 1 to 63");
    c = good, c.head_rank = 8, check_refused(c, "head-full is 2000, allowed 1 to 9");
    c.head_full = 10, check_refused(c, "head-full is 10, allowed 1 to 9");
    c = good, c.head_full = 5, check_refused(c, "give head-rank");
    c = good, c.head_rank = 1, c.vocab = INT64_MIN, check_refused(c, "vocab is");
    c = good, c.arch = AA_ARCH_QWEN2, c.out_bias = true,
    check_refused(c, "no bias on the attention");
}

/* facts of the reference shape: 121.11 MFLOP per token for training at T = 128 and 16893 tokens */
static void flop(void **state) {
    aa_config c = aa_preset_find("reference")->config;
    aa_err err = {0};

    (void)state;
    c.vocab = 16893;
    check_ok(aa_config_resolve(&c, &err));
    assert_true(fabs(3 * aa_config_flop_forward(&c, 128) - 121.11e6) < 0.01e6);
    c.head_rank = 128;
    check_ok(aa_config_resolve(&c, &err));
    const double saved = 14893 * 512.0 - (14893 * 128.0 + 128 * 512.0);
    assert_true(fabs(3 * aa_config_flop_forward(&c, 128) + 6 * saved - 121.11e6) < 0.01e6);
}

static void rope_frequencies(void **state) {
    aa_config c = {.head_dim = 8, .rope_theta = 1e4};
    double f[4];

    (void)state;
    aa_config_rope_frequencies(&c, f);
    check_near_f64("plain", f, (const double[]){1, 0.1, 0.01, 0.001}, 4, 1e-15, 0);
    c.rope_scaling = AA_ROPE_LINEAR, c.rope_factor = 4;
    aa_config_rope_frequencies(&c, f);
    check_near_f64("linear", f, (const double[]){0.25, 0.025, 0.0025, 0.00025}, 4, 1e-15, 0);
    c.rope_scaling = AA_ROPE_LLAMA3, c.rope_factor = 8, c.rope_original_seq = 128;
    c.rope_low_freq = 1, c.rope_high_freq = 4;
    aa_config_rope_frequencies(&c, f);
    /* wavelengths 6.3 (kept, below 128/4), 62.8 (blended:
     * 128/62.83 - 1 over 3), 628 and 6283 (stretched) */
    double blend = (128 / (2 * 3.14159265358979323846 / 0.1) - 1) / 3;
    check_near_f64("llama3", f,
                   (const double[]){1, 0.1 * ((1 - blend) / 8 + blend), 0.01 / 8, 0.001 / 8}, 4,
                   1e-14, 0);
}

static void the_table(void **state) {
    aa_config c = {.arch = AA_ARCH_QWEN3,
                   .dim = 32,
                   .layers = 2,
                   .heads = 4,
                   .kv_heads = 2,
                   .head_dim = 10,
                   .ffn = 40,
                   .vocab = 11};
    static const char *const first[] = {
        "model.embed_tokens.weight",
        "model.layers.0.input_layernorm.weight",
        "model.layers.0.self_attn.q_proj.weight",
        "model.layers.0.self_attn.k_proj.weight",
        "model.layers.0.self_attn.v_proj.weight",
        "model.layers.0.self_attn.o_proj.weight",
        "model.layers.0.self_attn.q_norm.weight",
        "model.layers.0.self_attn.k_norm.weight",
        "model.layers.0.post_attention_layernorm.weight",
        "model.layers.0.mlp.gate_proj.weight",
        "model.layers.0.mlp.up_proj.weight",
        "model.layers.0.mlp.down_proj.weight",
        "model.layers.1.input_layernorm.weight",
    };
    aa_tensor rows[32];
    aa_err err = {0};
    uint64_t params = 0;

    (void)state;
    check_ok(aa_config_resolve(&c, &err));
    size_t n = aa_model_rows(&c, rows, 32);
    assert_int_equal(n, 1 + 2 * 11 + 2);
    assert_int_equal(aa_model_rows(&c, NULL, 0), n);
    for (size_t i = 0; i < sizeof first / sizeof *first; i++)
        assert_string_equal(rows[i].name, first[i]);
    assert_string_equal(rows[n - 2].name, "model.norm.weight");
    assert_string_equal(rows[n - 1].name, "lm_head.weight");
    assert_int_equal(rows[3].rows, 20);
    assert_int_equal(rows[3].cols, 32);
    assert_int_equal(rows[12].layer, 1);
    assert_int_equal(rows[6].kind, AA_KIND_NORM);
    for (size_t i = 0; i < n; i++) params += aa_tensor_size(&rows[i]);
    assert_int_equal(params, aa_config_params(&c));
    uint64_t whole = params;
    c.head_rank = 3, c.head_full = 4;
    check_ok(aa_config_resolve(&c, &err));
    assert_int_equal(aa_model_rows(&c, rows, 32), n + 2);
    assert_string_equal(rows[n - 1].name, "lm_head.weight");
    assert_string_equal(rows[n].name, "lm_head.code");
    assert_string_equal(rows[n + 1].name, "lm_head.basis");
    assert_int_equal(aa_config_params(&c), whole - 7 * 32 + 7 * 3 + 3 * 32);
    c.tied = true;
    assert_int_equal(aa_model_rows(&c, rows, 32), n + 1);
    assert_string_equal(rows[1].name, "model.embed_tokens.code");
    assert_true(rows[1].rows == 7 && rows[1].cols == 3 && rows[1].kind == AA_KIND_EMBEDDING);
    assert_string_equal(rows[2].name, "model.embed_tokens.basis");
    assert_true(rows[2].rows == 3 && rows[2].cols == 32 && rows[2].kind == AA_KIND_MATRIX);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parameter_counts),
        cmocka_unit_test(every_preset_resolves),
        cmocka_unit_test(what_is_left_open_is_filled_in),
        cmocka_unit_test(all_problems_are_named_at_once),
        cmocka_unit_test(hostile_values),
        cmocka_unit_test(flop),
        cmocka_unit_test(rope_frequencies),
        cmocka_unit_test(the_table),
    };

    return cmocka_run_group_tests_name("unit_config", tests, NULL, NULL);
}
