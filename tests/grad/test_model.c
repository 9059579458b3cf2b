/* Every gradient of the model against central differences, in double precision.
 *
 * The difference quotient is of fourth order, (8 (f(h) - f(-h)) - (f(2h) - f(-2h))) / 12h, with
 * h = 2e-4: its truncation (h^4 = 2e-15 times a fifth derivative) and its rounding (eps * loss / h
 * = 5e-11) leave errors near 1e-9, far below the bound of 1e-6, which no wrong factor or index
 * survives. Per row: single elements spread over it, and one direction through all of them.
 */
#include <math.h>

#include "support/check.h"
#include "support/toy.h"

#define SHAPE .dim = 16, .layers = 2, .heads = 4, .kv_heads = 2, .ffn = 24, .vocab = 23

static const aa_config plain = {SHAPE};
static const aa_config tied = {SHAPE, .tied = true};

enum { ELEMENTS = 12, T = 8 };

/* The lengths that magnitudes stand over are constants in backward. They follow the versions of A
 * and B, of which nothing else is made: these do not rise. */
static void move(aa_tensor *row, const double *direction, double step) {
    for (size_t i = 0; i < aa_tensor_size(row); i++) row->data[i] += step * direction[i];
    if (row->kind != AA_KIND_LORA_A && row->kind != AA_KIND_LORA_B) row->version++;
}

/* Of the pass that has gradients, where it differs: it drops what evaluation does not. */
static double loss_of(toy *t) {
    return t->model.lora && t->model.lora->dropout > 0 ? toy_gradients(t, 1) : toy_loss(t);
}

static double derivative(toy *t, aa_tensor *row, const double *direction) {
    static const double at[4] = {-2, -1, 1, 2}, weight[4] = {1, -8, 8, -1};
    const double h = 2e-4;
    double sum = 0, where = 0;

    for (int i = 0; i < 4; i++) {
        move(row, direction, (at[i] - where) * h);
        where = at[i];
        sum += weight[i] * loss_of(t);
    }
    move(row, direction, -where * h);
    return sum / (12 * h);
}

/* The relative error of one row's gradient: norm of the differences over norm of the quotients. */
static double row_error(toy *t, aa_tensor *row, const double *grad) {
    const size_t n = aa_tensor_size(row);
    double direction[512] = {0}, along = 0, error = 0, norm = 0;

    assert_true(n <= 512);
    for (size_t k = 0; k < ELEMENTS && k < n; k++) {
        size_t i = n <= ELEMENTS ? k : k * (n - 1) / (ELEMENTS - 1);

        direction[i] = 1;
        double want = derivative(t, row, direction);
        direction[i] = 0;
        error += (grad[i] - want) * (grad[i] - want), norm += want * want;
    }
    for (size_t i = 0; i < n; i++) {
        direction[i] = toy_number("direction", (uint32_t)i);
        along += direction[i] * grad[i];
    }
    double want = derivative(t, row, direction);
    error += (along - want) * (along - want), norm += want * want;
    return sqrt(error / norm);
}

/* The worst row's error; with a bound, the test fails naming the row that exceeds it. */
static double worst_error(toy *t, const double *grads, double bound) {
    double worst = 0;

    for (size_t r = 0; r < t->model.n_tensors; r++) {
        aa_tensor *row = &t->model.tensors[r];
        if (!row->grad) continue;
        double error = row_error(t, row, grads + (row->grad - t->model.grads));

        if (!(error <= bound)) fail_msg("%s: relative error %g", row->name, error);
        if (error > worst) worst = error;
    }
    return worst;
}

static void check_config(const aa_config *c, const char *what) {
    toy t;

    toy_open(&t, c, &(toy_options){.B = 2, .T = T, .head_rows = 5, .masked = true});
    toy_gradients(&t, 1);
    print_message("%-24s %.2g\n", what, worst_error(&t, t.model.grads, 1e-6));
    toy_close(&t);
}

/* In a pass that keeps everything, and in one that makes it again. */
static void check_adapter(const aa_config *c, const aa_lora *lora, const char *what) {
    for (int again = 0; again < 2; again++) {
        toy t;

        toy_open(&t, c, &(toy_options){.B = 2, .T = T, .head_rows = 5, .masked = true,
                                       .lora = lora, .checkpoint = again});
        toy_gradients(&t, 1);
        for (size_t r = 0; r < t.model.n_tensors; r++)
            assert_int_equal(t.model.tensors[r].grad == NULL, t.model.tensors[r].frozen);
        double *grads = aa_arena_new(&t.arena, double, t.model.span);
        assert_non_null(grads);
        memcpy(grads, t.model.grads, t.model.span * sizeof *grads);
        print_message("%-24s %.2g\n", what, worst_error(&t, grads, 1e-6));
        toy_close(&t);
    }
}

static void shapes(void **state) {
    aa_config c;

    (void)state;
    check_config(&plain, "grouped queries");
    c = plain, c.kv_heads = 4, check_config(&c, "multi-head");
    c = plain, c.kv_heads = 1, check_config(&c, "multi-query");
    c = plain, c.head_dim = 6, check_config(&c, "head_dim not C/H");
    check_config(&tied, "tied");
}

static void additions(void **state) {
    aa_config c;

    (void)state;
    c = plain, c.qkv_bias = c.out_bias = c.mlp_bias = true, check_config(&c, "all biases");
    c = tied, c.arch = AA_ARCH_QWEN2, check_config(&c, "qwen2");
    c = plain, c.arch = AA_ARCH_QWEN3, c.head_dim = 6, check_config(&c, "qwen3");
    c = tied, c.residual_scale = 0.5, check_config(&c, "residual 1/sqrt(4)");
}

/* Ranks that differ, targets that are missing, a scale of its own for each. */
static void adapters(void **state) {
    aa_lora_site site[2 * AA_TARGET_COUNT] = {{0}};
    aa_config c;

    (void)state;
    for (int i = 0; i < 2 * AA_TARGET_COUNT; i++)
        site[i] = (aa_lora_site){(size_t)(i * 5 % 4), 1 + i % 3};
    c = plain, c.qkv_bias = c.out_bias = c.mlp_bias = true;
    check_adapter(&c, &(aa_lora){.site = site}, "LoRA");
    c = tied, c.residual_scale = 0.5;
    check_adapter(&c, &(aa_lora){.site = site, .norms = true, .embedding = true},
                  "LoRA, norms, embedding");
    c = plain, c.arch = AA_ARCH_QWEN3, c.head_dim = 6;
    check_adapter(&c, &(aa_lora){.site = site, .freeze_a = true, .head = true}, "LoRA-FA, head");
    check_adapter(&c, &(aa_lora){.site = site, .dora = true, .norms = true}, "DoRA, q/k norms");
    c = plain, c.qkv_bias = c.out_bias = c.mlp_bias = true;
    check_adapter(&c, &(aa_lora){.site = site, .dora = true, .rslora = true}, "DoRA, biases");
    c = tied, c.residual_scale = 0.5;
    check_adapter(&c, &(aa_lora){.site = site, .dora = true, .embedding = true}, "DoRA, tied");
    check_adapter(&c, &(aa_lora){.site = site, .dropout = 0.3, .seed = 9, .norms = true},
                  "dropout");
}

static void low_rank_heads(void **state) {
    aa_config c;

    (void)state;
    c = tied, c.head_rank = 5, c.head_full = 9, check_config(&c, "low-rank, tied");
    c = plain, c.head_rank = 5, c.head_full = 9, check_config(&c, "low-rank, untied");
    c = tied, c.head_rank = 15, c.head_full = 22, check_config(&c, "low-rank, one code");
}

static void rope_scalings(void **state) {
    aa_config c = plain;

    (void)state;
    c.rope_scaling = AA_ROPE_LINEAR, c.rope_factor = 3;
    check_config(&c, "rope linear");
    c.rope_scaling = AA_ROPE_LLAMA3, c.rope_low_freq = 1, c.rope_high_freq = 4;
    c.rope_original_seq = 64;
    check_config(&c, "rope llama3");
}

/* A backward pass with the wrong kv head for a query head
 * must not pass for the gradient of this forward. */
static void wrong_kv_mapping_is_noticed(void **state) {
    toy t;

    (void)state;
    toy_open(&t, &plain, &(toy_options){.B = 2, .T = T});
    double right = toy_loss(&t);
    toy_exchange_heads(&t.model);
    assert_true(fabs(toy_loss(&t) - right) > 1e-3);
    toy_gradients(&t, 2);
    toy_exchange_heads(&t.model);
    assert_true(fabs(toy_loss(&t) - right) < 1e-12 * fabs(right));
    assert_true(worst_error(&t, t.model.grads, INFINITY) > 1e-3);
    toy_close(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shapes),
        cmocka_unit_test(additions),
        cmocka_unit_test(adapters),
        cmocka_unit_test(low_rank_heads),
        cmocka_unit_test(rope_scalings),
        cmocka_unit_test(wrong_kv_mapping_is_noticed),
    };

    return cmocka_run_group_tests_name("grad_model", tests, NULL, NULL);
}
