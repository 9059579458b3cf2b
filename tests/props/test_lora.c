/* What holds for every adapter: the bits do not depend on how a batch is cut, on threads, or on
 * what backward kept; split equals merged; an adapter is counted once; a base in a file is the same
 * base. */
#include <math.h>
#include <stdlib.h>

#include "support/check.h"
#include "support/toy.h"

#define SHAPE                                                                                      \
    .dim = 48, .layers = 3, .heads = 4, .kv_heads = 2, .head_dim = 16, .ffn = 96, .vocab = 101

static const aa_config untied = {SHAPE, .qkv_bias = true, .out_bias = true};
static const aa_config tied = {SHAPE, .tied = true, .residual_scale = 0.5};
static const aa_config *const configs[] = {&untied, &tied};

enum { N_CONFIGS = 2, B = 6, T = 19, SITES = 3 * AA_TARGET_COUNT };

#define for_each_isa(isa)                                                                          \
    for (aa_isa isa = AA_ISA_SCALAR; isa <= AA_ISA_AVX512; isa = (aa_isa)(isa + 1))                \
        if (aa_isa_available(isa))

static aa_lora_site site[SITES];

static int make_sites(void **state) {
    (void)state;
    for (int i = 0; i < SITES; i++)
        site[i] = (aa_lora_site){(size_t)(i * 5 % 7), 2 + i % 3};
    return 0;
}

static const aa_lora whole = {site, .norms = true, .embedding = true},
                     dora = {site, .norms = true, .dora = true},
                     dropping = {site, .dropout = 0.25, .seed = 3};
static const aa_lora *const kinds[] = {&whole, &dora, &dropping};
enum { N_KINDS = 3 };

static void *copy(const void *p, size_t n_bytes) {
    void *q = malloc(n_bytes);

    assert_non_null(q);
    return memcpy(q, p, n_bytes);
}

typedef struct outcome { float *loss, *grads; size_t N, span; } outcome;

static outcome run(const aa_config *c, toy_options o, size_t step) {
    outcome out;
    toy t;

    o.B = B, o.T = T, o.masked = true;
    toy_open(&t, c, &o);
    toy_gradients(&t, step);
    out = (outcome){copy(t.loss, t.N * sizeof(float)),
                    copy(t.model.grads, t.model.span * sizeof(float)), t.N, t.model.span};
    toy_close(&t);
    return out;
}

static void check_same(const aa_config *c, aa_isa isa, toy_options o, size_t step,
                       const char *what) {
    outcome want = run(c, (toy_options){.isa = isa, .lora = o.lora}, B), got;

    o.isa = isa;
    got = run(c, o, step);
    check_same_bits(what, got.loss, want.loss, want.N * sizeof(float));
    check_same_bits(what, got.grads, want.grads, want.span * sizeof(float));
    free(want.loss), free(want.grads), free(got.loss), free(got.grads);
}

static void the_same_bits(void **state) {
    (void)state;
    for_each_isa(isa) for (size_t i = 0; i < N_CONFIGS * N_KINDS; i++) {
        const aa_config *c = configs[i / N_KINDS];
        const aa_lora *lora = kinds[i % N_KINDS];

        check_same(c, isa, (toy_options){.lora = lora}, 4, "4 + 2");
        check_same(c, isa, (toy_options){.lora = lora}, 1, "6 x 1");
        check_same(c, isa, (toy_options){.lora = lora, .threads = 3}, B, "3 threads");
        check_same(c, isa, (toy_options){.lora = lora, .checkpoint = true}, B, "checkpointed");
        check_same(c, isa, (toy_options){.lora = lora, .checkpoint = true, .threads = 2}, 2,
                   "checkpointed 3 x 2, 2 threads");
    }
}

/* Dropout is there in training alone, and another one in another update. */
static void masks(void **state) {
    (void)state;
    enum { ROWS = 40, COLS = 300, N = ROWS * COLS };
    static float x[N], all[N], parts[N], other[N];
    const toy_options o = {.B = B, .T = T, .lora = &dropping};
    aa_dropout d = {.p = 0.25, .seed = 3, .index = 8, .first = 100};
    size_t kept = 0;
    toy t;

    toy_open(&t, configs[0], &o);
    const double evaluated = toy_loss(&t);
    assert_true(fabs(toy_gradients(&t, B) - evaluated) > 1e-4 * evaluated);
    assert_true(toy_loss(&t) == evaluated);
    for (size_t i = 0; i < N; i++) x[i] = 1 + (float)i;
    aa_dropout_apply(t.cpu, all, x, ROWS, COLS, false, &d);
    for (size_t i = 0; i < N; i++) {
        assert_true(all[i] == 0 || all[i] == x[i] * (float)(1 / 0.75));
        kept += all[i] != 0;
    }
    /* 9000 expected, a standard deviation of 47 */
    assert_true(kept > 8700 && kept < 9300);
    aa_dropout_apply(t.cpu, parts, x, 7, COLS, false, &d);
    d.first += 7;
    aa_dropout_apply(t.cpu, parts + 7 * COLS, x + 7 * COLS, ROWS - 7, COLS, false, &d);
    check_same_bits("rows in two calls", parts, all, sizeof all);
    d.index++, d.first -= 7;
    memcpy(other, x, sizeof x);
    aa_dropout_apply(t.cpu, other, other, ROWS, COLS, false, &d);
    assert_memory_not_equal(other, all, sizeof all);
    toy_close(&t);
}

static void copy_base(toy *to, const toy *from) {
    for (size_t i = 0; i < from->model.n_base; i++)
        memcpy(to->model.tensors[i].data, from->model.tensors[i].data,
               aa_tensor_size(&from->model.tensors[i]) * sizeof(aa_real));
    aa_model_changed(&to->model);
}

/* Row n at the length that the magnitudes say. */
static void set_length(aa_tensor *W, size_t n, double magnitude) {
    double sum = 0;

    for (size_t k = 0; k < W->cols; k++)
        sum += (double)W->data[n * W->cols + k] * (double)W->data[n * W->cols + k];
    for (size_t k = 0; k < W->cols; k++)
        W->data[n * W->cols + k] *= (aa_real)(magnitude / sqrt(sum));
}

/* W += s B A, in double, and lengths. */
static void merge(toy *to, const toy *from) {
    for (int i = 0; i < SITES; i++) {
        const int layer = i / AA_TARGET_COUNT;
        const aa_target target = (aa_target)(i % AA_TARGET_COUNT);
        aa_tensor *A, *B_, *W, *m = aa_lora_magnitude(&from->model, layer, target);
        char name[96];

        aa_lora_find(&from->model, layer, target, &A, &B_);
        assert_int_equal(A != NULL, site[i].rank != 0);
        if (!A) continue;
        snprintf(name, sizeof name, "model.layers.%d.%s.weight", layer, aa_target_module(target));
        W = aa_model_find(&to->model, name);
        for (size_t n = 0; n < W->rows; n++)
            for (size_t k = 0; k < W->cols; k++) {
                double sum = 0;
                for (size_t r = 0; r < A->rows; r++)
                    sum += (double)B_->data[n * A->rows + r] * (double)A->data[r * A->cols + k];
                W->data[n * W->cols + k] += (aa_real)(site[i].alpha / (double)A->rows * sum);
            }
        for (size_t n = 0; m && n < W->rows; n++) set_length(W, n, (double)m->data[n]);
    }
    aa_model_changed(&to->model);
}

/* A fresh adapter changes no bit, and a trained one what it says: once. */
static void split_equals_merged(void **state) {
    (void)state;
    for (size_t i = 0; i < N_CONFIGS * N_KINDS; i++) {
        const toy_options o = {.B = B, .T = T, .unpacked = true};
        toy_options with = o;
        toy base, split;

        with.lora = kinds[i % N_KINDS];
        toy_open(&base, configs[i / N_KINDS], &o);
        toy_open(&split, configs[i / N_KINDS], &with);
        copy_base(&base, &split);
        const double loss = toy_loss(&split);

        assert_true(fabs(toy_loss(&base) - loss) > 1e-3 * loss);
        merge(&base, &split);
        assert_true(fabs(toy_loss(&base) - loss) < 1e-6 * loss);
        merge(&base, &split);
        assert_true(fabs(toy_loss(&base) - loss) > 1e-4 * loss); /* what counting twice is */
        copy_base(&base, &split);
        aa_model_init_adapter(&split.model, split.cpu, 7);
        toy_loss(&base), toy_loss(&split);
        check_same_bits("a fresh adapter", split.loss, base.loss, split.N * sizeof(float));
        toy_close(&base);
        toy_close(&split);
    }
}

/* The same base as floats in memory and as rows of a file: floats that lie as in memory, floats of
 * which each head's rows are in pairs (as GGUF has them), and not aligned. */
static void a_stored_base_is_the_same(void **state) {
    (void)state;
    for_each_isa(isa) for (size_t i = 0; i < N_CONFIGS * 2; i++) {
        const aa_config *c = configs[i / 2];
        aa_lora lora = {site, .norms = true, .dora = i % 2};
        const toy_options o = {.isa = isa, .threads = 2, .B = B, .T = T, .lora = &lora};
        toy want, got;
        aa_err err = {0};

        toy_open(&want, c, &o);
        toy_open(&got, c, &o);
        for (size_t r = 0; r < got.model.n_base; r++) {
            aa_tensor *row = &got.model.tensors[r];
            aa_stored *s;

            if (aa_tensor_is_vector(row)) continue;
            s = aa_arena_new(&got.arena, aa_stored, 1);
            unsigned char *bytes =
                aa_arena_new(&got.arena, unsigned char, aa_tensor_size(row) * sizeof(float) + 1);
            check_ok(aa_arena_status(&got.arena, &err));
            *s = (aa_stored){.type = AA_TYPE_F32, .rows = row->rows, .cols = row->cols,
                             .data = bytes + r % 2};
            if (strstr(row->name, "q_proj")) s->paired_head = 16;
            for (size_t n = 0; n < row->rows; n++)
                memcpy((unsigned char *)bytes + (aa_stored_row(s, n) - bytes),
                       row->data + n * row->cols, row->cols * sizeof(float));
            row->stored = s;
            row->data = NULL;
        }
        toy_gradients(&want, 4);
        toy_gradients(&got, 4);
        check_same_bits("loss", got.loss, want.loss, want.N * sizeof(float));
        check_same_bits("gradients", got.model.grads, want.model.grads,
                        want.model.span * sizeof(float));
        toy_close(&want);
        toy_close(&got);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_bits),
        cmocka_unit_test(masks),
        cmocka_unit_test(split_equals_merged),
        cmocka_unit_test(a_stored_base_is_the_same),
    };
    return cmocka_run_group_tests_name("props_lora", tests, make_sites, NULL);
}
