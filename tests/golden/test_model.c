/* Logits, loss and every gradient of two-layer toys against values computed by the transformers
 * library in float64 (make_golden.py), on every instruction set this machine has.
 *
 * Tolerance: relative to the norm of the whole array, 1e-5. Chains of a few dozen roundings of 6e-8
 * stay an order of magnitude below it; a wrong factor, index or frequency is orders above.
 */
#include <math.h>
#include <stdlib.h>

#include "support/check.h"
#include "support/toy.h"

#define SHAPE .dim = 16, .layers = 2, .heads = 4, .kv_heads = 2, .ffn = 28, .vocab = 29

static const struct { const char *name; aa_config config; } cases[] = {
    {"llama", {SHAPE, .head_dim = 8}},
    {"llama_tied", {SHAPE, .head_dim = 8, .tied = true}},
    {"llama_bias", {SHAPE, .head_dim = 8, .qkv_bias = true, .out_bias = true, .mlp_bias = true}},
    {"llama_rope_linear", {SHAPE, .head_dim = 8, .rope_scaling = AA_ROPE_LINEAR, .rope_factor = 4}},
    {"llama_rope_llama3",
     {SHAPE, .head_dim = 8, .rope_scaling = AA_ROPE_LLAMA3, .rope_factor = 8, .rope_low_freq = 1,
      .rope_high_freq = 4, .rope_original_seq = 128}},
    {"llama_residual", {SHAPE, .head_dim = 8, .tied = true, .residual_scale = 0.5}},
    {"qwen2", {SHAPE, .arch = AA_ARCH_QWEN2, .tied = true, .rope_theta = 1e6}},
    {"qwen3", {SHAPE, .arch = AA_ARCH_QWEN3, .head_dim = 8, .rope_theta = 1e6}},
};

enum { N_CASES = sizeof cases / sizeof *cases };

/* ---- the files ------------------------------------------------------------------------------- */

typedef struct golden { unsigned char *data; size_t size; } golden;

static golden golden_open(const char *name) {
    golden g = {0};
    char path[512];

    snprintf(path, sizeof path, "%s/golden/data/%s.bin", AA_TEST_DIR, name);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    assert_int_equal(fseek(f, 0, SEEK_END), 0);
    g.size = (size_t)ftell(f);
    rewind(f);
    g.data = malloc(g.size);
    assert_non_null(g.data);
    assert_int_equal(fread(g.data, 1, g.size, f), g.size);
    fclose(f);
    return g;
}

/* The values of one entry; fails the test unless it is there with n values. */
static void golden_read(const golden *g, const char *name, float *out, size_t n) {
    for (size_t at = 0; at < g->size;) {
        uint64_t count;

        assert_true(at + 80 <= g->size);
        memcpy(&count, g->data + at + 72, 8);
        if (strcmp((const char *)g->data + at, name) == 0) {
            assert_int_equal(count, n);
            memcpy(out, g->data + at + 80, n * sizeof *out);
            return;
        }
        at += 80 + count * sizeof *out;
    }
    fail_msg("the golden file has no %s", name);
}

static size_t golden_count(const golden *g) {
    size_t entries = 0;
    uint64_t count;

    for (size_t at = 0; at < g->size; at += 80 + count * 4, entries++)
        memcpy(&count, g->data + at + 72, 8);
    return entries;
}

/* ---- comparison ------------------------------------------------------------------------------ */

static double worst;

static double norm_error(const golden *g, const char *name, const float *got, size_t n) {
    float *want = malloc(n * sizeof *want);
    double error = 0, norm = 0;

    assert_non_null(want);
    golden_read(g, name, want, n);
    for (size_t i = 0; i < n; i++) {
        double d = (double)got[i] - (double)want[i];

        error += d * d;
        norm += (double)want[i] * (double)want[i];
    }
    free(want);
    return sqrt(error / norm);
}

static void check_norm(const golden *g, const char *where, const char *name, const float *got,
                       size_t n) {
    double relative = norm_error(g, name, got, n);

    if (relative > worst) worst = relative;
    if (!(relative <= 1e-5)) fail_msg("%s, %s: relative error %g", where, name, relative);
}

static void check_logits(toy *t, const golden *g, const char *where) {
    const size_t V = (size_t)t->model.config.vocab;
    float *logits = malloc(t->N * V * sizeof *logits);
    aa_err err = {0};
    aa_kv kv;

    assert_non_null(logits);
    check_ok(aa_kv_init(&kv, &t->model, t->T, false, &t->arena, &err));
    for (size_t n = 0; n < t->N; n++) {
        if (n % t->T == 0) kv.len = 0;
        check_ok(aa_model_extend(&t->model, &t->backend, t->eval, &kv, t->ids + n, 1,
                                 logits + n * V, &err));
    }
    check_norm(g, where, "logits", logits, t->N * V);
    free(logits);
}

static void check_case(size_t i, aa_isa isa) {
    golden g = golden_open(cases[i].name);
    char where[64];
    toy t;

    snprintf(where, sizeof where, "%s on %s", cases[i].name, aa_isa_name(isa));
    toy_open(&t, &cases[i].config, &(toy_options){.isa = isa, .B = 2, .T = 12, .masked = true});
    float loss = (float)toy_gradients(&t, 2);
    check_norm(&g, where, "loss", &loss, 1);
    loss = (float)toy_loss(&t);
    check_norm(&g, where, "loss", &loss, 1);
    check_logits(&t, &g, where);
    assert_int_equal(golden_count(&g), t.model.n_tensors + 2);
    for (size_t r = 0; r < t.model.n_tensors; r++) {
        aa_tensor *row = &t.model.tensors[r];

        check_norm(&g, where, row->name, row->grad, aa_tensor_size(row));
    }
    toy_close(&t);
    free(g.data);
}

static void matches_transformers(void **state) {
    (void)state;
    for (int isa = AA_ISA_SCALAR; isa <= AA_ISA_AVX512; isa++) {
        if (!aa_isa_available((aa_isa)isa)) continue;
        worst = 0;
        for (size_t i = 0; i < N_CASES; i++) check_case(i, (aa_isa)isa);
        print_message("%s: largest relative error %.2g\n", aa_isa_name((aa_isa)isa), worst);
    }
}

/* The golden numbers must tell which kv head belongs to a query head. */
static void wrong_kv_mapping_is_noticed(void **state) {
    golden g = golden_open("llama");
    toy t;

    (void)state;
    toy_open(&t, &cases[0].config, &(toy_options){.B = 2, .T = 12, .masked = true});
    toy_exchange_heads(&t.model);
    float loss = (float)toy_gradients(&t, 2);
    assert_true(norm_error(&g, "loss", &loss, 1) > 1e-4);
    assert_true(norm_error(&g, "model.embed_tokens.weight", t.model.embedding->grad,
                           aa_tensor_size(t.model.embedding)) > 1e-3);
    toy_close(&t);
    free(g.data);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(matches_transformers),
                                       cmocka_unit_test(wrong_kv_mapping_is_noticed)};

    return cmocka_run_group_tests_name("golden_model", tests, NULL, NULL);
}
