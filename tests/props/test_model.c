/* What holds for every model, whatever its numbers: causality, independence of batch, threads,
 * chunks and packing to the bit, incremental reading equals one pass, the plan equals the layout.
 */
#include <math.h>
#include <stdlib.h>

#include "model/activations.h"
#include "support/check.h"
#include "support/toy.h"

#define SHAPE                                                                                      \
    .dim = 48, .layers = 2, .heads = 4, .kv_heads = 2, .head_dim = 16, .ffn = 80, .vocab = 101

static const aa_config untied = {SHAPE};
static const aa_config tied = {SHAPE, .tied = true};
static const aa_config qwen3 = {SHAPE, .arch = AA_ARCH_QWEN3, .tied = true};
static const aa_config biased = {SHAPE, .qkv_bias = true, .out_bias = true, .mlp_bias = true,
                                 .residual_scale = 0.5};
static const aa_config ranked = {SHAPE, .tied = true, .head_rank = 10, .head_full = 37};
static const aa_config ranked_head = {SHAPE, .head_rank = 47, .head_full = 1};
static const aa_config *const configs[] = {&untied, &tied,   &qwen3,
                                           &biased, &ranked, &ranked_head};

enum { N_CONFIGS = sizeof configs / sizeof *configs, T = 19 };

#define for_each_isa(isa)                                                                          \
    for (aa_isa isa = AA_ISA_SCALAR; isa <= AA_ISA_AVX512; isa = (aa_isa)(isa + 1))                \
        if (aa_isa_available(isa))

static void *copy(const void *p, size_t n_bytes) {
    void *q = malloc(n_bytes);

    assert_non_null(q);
    return memcpy(q, p, n_bytes);
}

/* ---- the same bits --------------------------------------------------------------------------- */

/* Losses and gradients of a toy with 8 sequences, taken `step` at a time. */
typedef struct outcome { float *loss, *grads; size_t N, span; } outcome;

static outcome run(const aa_config *c, toy_options o, size_t step) {
    outcome out;
    toy t;

    o.B = 8, o.T = T, o.masked = true;
    toy_open(&t, c, &o);
    toy_gradients(&t, step);
    out = (outcome){copy(t.loss, t.N * sizeof(float)),
                    copy(t.model.grads, t.model.span * sizeof(float)), t.N, t.model.span};
    toy_close(&t);
    return out;
}

static void check_same(const aa_config *c, aa_isa isa, toy_options o, size_t step,
                       const char *what) {
    outcome want = run(c, (toy_options){.isa = isa}, 8), got;

    o.isa = isa;
    got = run(c, o, step);
    check_same_bits(what, got.loss, want.loss, want.N * sizeof(float));
    check_same_bits(what, got.grads, want.grads, want.span * sizeof(float));
    free(want.loss), free(want.grads), free(got.loss), free(got.grads);
}

static void micro_batches_leave_the_same_bits(void **state) {
    (void)state;
    for_each_isa(isa) for (size_t i = 0; i < N_CONFIGS; i++) {
        check_same(configs[i], isa, (toy_options){0}, 4, "2 x 4");
        check_same(configs[i], isa, (toy_options){0}, 3, "3 + 3 + 2");
        check_same(configs[i], isa, (toy_options){0}, 1, "8 x 1");
    }
}

static void threads_leave_the_same_bits(void **state) {
    (void)state;
    for_each_isa(isa) for (size_t i = 0; i < N_CONFIGS; i++) {
        check_same(configs[i], isa, (toy_options){.threads = 2}, 8, "2 threads");
        check_same(configs[i], isa, (toy_options){.threads = 3}, 8, "3 threads");
    }
}

static void chunks_and_packing_leave_the_same_bits(void **state) {
    (void)state;
    for_each_isa(isa) for (size_t i = 0; i < N_CONFIGS; i++) {
        check_same(configs[i], isa, (toy_options){.head_rows = 7}, 8, "chunks of 7");
        check_same(configs[i], isa, (toy_options){.unpacked = true}, 8, "not packed");
    }
}

static void a_sequence_does_not_see_its_batch(void **state) {
    (void)state;
    for_each_isa(isa) for (size_t i = 0; i < N_CONFIGS; i++) {
        aa_err err = {0};
        float alone[T];
        toy t;

        toy_open(&t, configs[i], &(toy_options){.isa = isa, .B = 4, .T = T});
        toy_loss(&t);
        float *together = copy(t.loss, t.N * sizeof(float));
        for (size_t b = 0; b < t.B; b++) {
            aa_batch one = {.B = 1, .T = T, .ids = t.ids + b * T, .targets = t.targets + b * T};

            check_ok(aa_model_loss(&t.model, &t.backend, t.eval, &one, alone, &err));
            check_same_bits("alone", alone, together + b * T, sizeof alone);
        }
        toy_gradients(&t, 4);
        check_same_bits("training pass", t.loss, together, t.N * sizeof(float));
        free(together);
        toy_close(&t);
    }
}

/* Sequences of different lengths, in one pass or each in its own: losses, and what two updates
 * leave in the gradients. */
static void lengths_of_sequences_leave_the_same_bits(void **state) {
    static const int32_t start[] = {0, 1, 4, 23, 30, 49, 53, 72, 76};
    enum { N = 8, ROWS = 76 };

    (void)state;
    for_each_isa(isa) for (size_t i = 0; i < N_CONFIGS; i++) {
        const toy_options o = {.isa = isa, .threads = 3, .B = 4, .T = T, .masked = true};
        aa_err err = {0};
        float alone[ROWS];
        toy t;

        toy_open(&t, configs[i], &o);
        aa_batch all = {.B = N, .T = T, .ids = t.ids, .targets = t.targets, .start = start};
        check_ok(aa_model_loss_and_grad(&t.model, &t.backend, t.train, &all, t.loss, 1, &err));
        aa_model_finish_grads(&t.model, t.cpu);
        float *grads = copy(t.model.grads, t.model.span * sizeof(float));
        check_ok(aa_model_loss(&t.model, &t.backend, t.eval, &all, alone, &err));
        check_same_bits("evaluation", alone, t.loss, sizeof alone);

        aa_zero(t.cpu, t.model.grads, t.model.span);
        for (size_t b = 0; b < N; b++) {
            aa_batch one = {.B = 1, .T = (size_t)(start[b + 1] - start[b]),
                            .ids = t.ids + start[b], .targets = t.targets + start[b]};

            check_ok(aa_model_loss_and_grad(&t.model, &t.backend, t.train, &one, alone + start[b],
                                            1, &err));
        }
        aa_model_finish_grads(&t.model, t.cpu);
        check_same_bits("alone", alone, t.loss, sizeof alone);
        check_same_bits("gradients", t.model.grads, grads, t.model.span * sizeof(float));
        free(grads);
        toy_close(&t);
    }
}

static void the_past_does_not_see_the_future(void **state) {
    (void)state;
    for_each_isa(isa) for (size_t i = 0; i < N_CONFIGS; i++) {
        toy t;

        toy_open(&t, configs[i], &(toy_options){.isa = isa, .B = 1, .T = T});
        toy_loss(&t);
        float *before = copy(t.loss, t.N * sizeof(float));
        for (size_t changed = T - 1; changed > 0; changed--) {
            t.ids[changed] = (t.ids[changed] + 1) % (int32_t)t.model.config.vocab;
            toy_loss(&t);
            check_same_bits("past", t.loss, before, changed * sizeof(float));
            assert_true(t.loss[changed] != before[changed]);
        }
        free(before);
        toy_close(&t);
    }
}

/* ---- incremental ----------------------------------------------------------------------------- */

/* Logits after each token, reading `step` tokens at a time (only at the ends of steps). */
static void extend_all(toy *t, size_t step, float *logits) {
    const size_t V = (size_t)t->model.config.vocab;
    aa_err err = {0};
    aa_kv kv;

    check_ok(aa_kv_init(&kv, &t->model, T, false, &t->arena, &err));
    for (size_t n = 0; n < T; n += step) {
        size_t part = T - n < step ? T - n : step;

        check_ok(aa_model_extend(&t->model, &t->backend, t->eval, &kv, t->ids + n, part,
                                 logits + (n + part - 1) * V, &err));
        assert_int_equal(kv.len, n + part);
    }
}

/* Attention may tile its keys differently in the two ways of reading, so not always the same bits:
 * the bound is that of a few dozen roundings. */
static void reading_in_parts_equals_one_pass(void **state) {
    (void)state;
    for_each_isa(isa) for (size_t i = 0; i < N_CONFIGS; i++) {
        const size_t V = 101;
        float one[T * 101], parts[T * 101], whole[T * 101], loss[T];
        toy t;

        toy_open(&t, configs[i], &(toy_options){.isa = isa, .B = 1, .T = T});
        extend_all(&t, 1, one);
        for (size_t step = 2; step <= T; step += 5) {
            extend_all(&t, step, parts);
            check_near_f32("logits", parts + (T - 1) * V, one + (T - 1) * V, V, 1e-5, 1e-5);
        }
        extend_all(&t, T, whole);
        check_near_f32("prefill", whole + (T - 1) * V, one + (T - 1) * V, V, 1e-5, 1e-5);
        toy_loss(&t);
        aa_cross_entropy(t.cpu, loss, one, V, t.targets, T, V, 0);
        check_near_f32("loss", loss, t.loss, T, 1e-5, 1e-5);
        toy_close(&t);
    }
}

/* ---- tied lookups ---------------------------------------------------------------------------- */

static void lookups_kept_apart_add_up(void **state) {
    toy a, b;

    (void)state;
    toy_open(&a, &tied, &(toy_options){.B = 4, .T = T});
    toy_open(&b, &tied, &(toy_options){.B = 4, .T = T, .no_lookup = true});
    toy_gradients(&a, 2), toy_gradients(&b, 4);
    check_near_f32("embedding", a.model.embedding->grad, b.model.embedding->grad,
                   aa_tensor_size(a.model.embedding), 1e-4, 1e-5);
    float *once = copy(a.model.grads, a.model.span * sizeof(float));
    aa_model_finish_grads(&a.model, a.cpu);
    check_same_bits("finished twice", a.model.grads, once, a.model.span * sizeof(float));
    toy_gradients(&a, 1);
    check_same_bits("next update", a.model.grads, once, a.model.span * sizeof(float));
    free(once);
    toy_close(&a), toy_close(&b);
}

/* ---- low-rank heads -------------------------------------------------------------------------- */

/* The bound is that of a few dozen roundings. */
static void a_low_rank_head_is_a_whole_one_with_its_rows(void **state) {
    const aa_config *const both[] = {&ranked, &ranked_head};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        aa_config c = *both[i];
        const size_t V = (size_t)c.vocab, R = (size_t)c.head_rank;
        float *codes = malloc(V * R * sizeof *codes);
        int32_t ids[101];
        toy a, b;

        assert_non_null(codes);
        toy_open(&a, &c, &(toy_options){.B = 4, .T = T});
        c.head_rank = c.head_full = 0;
        toy_open(&b, &c, &(toy_options){.B = 4, .T = T});
        for (size_t v = 0; v < V; v++) ids[v] = (int32_t)v;
        aa_model_head_rows(&a.model, a.cpu, ids, V, codes, b.model.head.weight->data);
        aa_model_changed(&b.model);
        check_same_bits("whole rows", a.model.head.weight->data, b.model.head.weight->data,
                        aa_tensor_size(a.model.head.weight) * sizeof(float));
        toy_loss(&a), toy_loss(&b);
        check_near_f32("loss", a.loss, b.loss, a.N, 1e-5, 1e-5);
        free(codes);
        toy_close(&a), toy_close(&b);
    }
}

/* ---- the plan -------------------------------------------------------------------------------- */

static void lay_out(const aa_config *c, aa_cpu *cpu, aa_pass pass, aa_arena *arena) {
    unsigned parts = pass == AA_PASS_TRAIN ? AA_MODEL_GRADS | AA_MODEL_PACKED : AA_MODEL_PACKED;
    aa_activations *a;
    aa_err err = {0};
    aa_model m;
    aa_kv kv;

    check_ok(aa_model_init(&m, c, parts, 77, cpu, arena, &err));
    check_ok(aa_model_lookup_init(&m, 190, arena, &err));
    check_ok(aa_activations_new(&a, &m, pass, 5, T, 0, arena, &err));
    check_ok(aa_kv_init(&kv, &m, 77, false, arena, &err));
}

static void the_plan_measures_what_the_layout_takes(void **state) {
    aa_err err = {0};
    aa_cpu *cpu;

    (void)state;
    check_ok(aa_cpu_new(&cpu, 1, AA_ISA_AUTO, &err));
    for (size_t i = 0; i < 2 * N_CONFIGS; i++) {
        aa_pass pass = i % 2 ? AA_PASS_EVAL : AA_PASS_TRAIN;
        aa_config c = *configs[i / 2];
        aa_arena measure, real;

        check_ok(aa_config_resolve(&c, &err));
        aa_arena_init_measure(&measure, "plan");
        lay_out(&c, cpu, pass, &measure);
        aa_arena_init(&real, "real");
        check_ok(aa_arena_reserve(&real, measure.used_bytes, &err));
        lay_out(&c, cpu, pass, &real);
        assert_true(measure.used_bytes > 0);
        assert_int_equal(measure.used_bytes, real.used_bytes);
        aa_arena_release(&real);
    }
    aa_cpu_free(cpu);
}

static void rows_that_form_one_map_are_adjacent(void **state) {
    toy t;

    (void)state;
    toy_open(&t, &biased, &(toy_options){.B = 1, .T = 2});
    for (size_t r = 0; r < t.model.n_tensors; r++) {
        aa_tensor *row = &t.model.tensors[r], *next = row + 1;
        bool joined = strstr(row->name, "q_proj") || strstr(row->name, "k_proj") ||
                      strstr(row->name, "gate_proj");
        bool same_kind = r + 1 < t.model.n_tensors && next->kind == row->kind;

        if (joined && same_kind) assert_ptr_equal(row->data + aa_tensor_size(row), next->data);
        if (joined && same_kind) assert_ptr_equal(row->grad + aa_tensor_size(row), next->grad);
        if (!strstr(row->name, "k_proj") && !strstr(row->name, "v_proj") &&
            !strstr(row->name, "up_proj"))
            assert_int_equal((uintptr_t)row->data % AA_ALIGN, 0);
    }
    toy_close(&t);
}

/* ---- initial weights ------------------------------------------------------------------------- */

static double spread(const aa_tensor *row) {
    double squares = 0;

    for (size_t i = 0; i < aa_tensor_size(row); i++)
        squares += (double)row->data[i] * (double)row->data[i];
    return sqrt(squares / (double)aa_tensor_size(row));
}

static void check_spread(const toy *t, const char *name, double want) {
    const aa_tensor *row = aa_model_find(&t->model, name);

    assert_non_null(row);                        /* 4 standard errors of a standard deviation */
    assert_true(fabs(spread(row) - want) <= 4 * want / sqrt(2 * (double)aa_tensor_size(row)));
}

static void initial_weights(void **state) {
    toy a, b, low;

    (void)state;
    toy_open(&a, &untied, &(toy_options){.B = 1, .T = 2});
    toy_open(&b, &biased, &(toy_options){.B = 1, .T = 2});
    aa_model_init_weights(&a.model, 7, AA_INIT_SCALED);
    aa_model_init_weights(&b.model, 7, AA_INIT_ZERO_OUT);
    check_spread(&a, "model.embed_tokens.weight", 0.02);
    check_spread(&a, "model.layers.1.self_attn.q_proj.weight", 1 / sqrt(3 * 48));
    check_spread(&a, "model.layers.0.mlp.down_proj.weight", 0.2 / sqrt(3 * 80) / 2);
    check_spread(&b, "model.layers.0.mlp.down_proj.weight", 0);
    check_spread(&b, "model.layers.0.mlp.up_proj.bias", 0);
    check_spread(&b, "model.norm.weight", 1);
    for (size_t r = 0; r < a.model.n_tensors;
         r++) { /* other rows came and went; these did not move */
        aa_tensor *row = &a.model.tensors[r], *same = aa_model_find(&b.model, row->name);

        if (strstr(row->name, "o_proj") || strstr(row->name, "down_proj")) continue;
        check_same_bits(row->name, row->data, same->data, aa_tensor_size(row) * sizeof(float));
    }
    toy_open(&low, &ranked, &(toy_options){.B = 1, .T = 2});
    aa_model_init_weights(&low.model, 7, AA_INIT_SCALED);
    check_spread(&low, "model.embed_tokens.code", 0.02);
    check_spread(&low, "model.embed_tokens.basis", 1 / sqrt(10));
    toy_close(&low);
    aa_model_init_weights(&b.model, 8, AA_INIT_SCALED);
    assert_true(a.model.embedding->data[0] != b.model.embedding->data[0]);
    toy_close(&a), toy_close(&b);
}

/* ---- backends that take over more ------------------------------------------------------------ */

static int calls;

static aa_status skip_attention(void *self, aa_model *m, aa_activations *a, int layer,
                                aa_err *err) {
    (void)self, (void)err, calls++;
    memmove(a->blocks[layer].x_mid, a->blocks[layer].x,
            a->N * (size_t)m->config.dim * sizeof(aa_real));
    return AA_OK;
}

static aa_status skip_ffn(void *self, aa_model *m, aa_activations *a, int layer, aa_err *err) {
    (void)self, (void)err, calls++;
    memmove(aa_block_output(m, a, layer), a->blocks[layer].x_mid,
            a->N * (size_t)m->config.dim * sizeof(aa_real));
    return AA_OK;
}

static aa_status skip_blocks(void *self, aa_model *m, aa_activations *a, int first, int end,
                             aa_err *err) {
    for (int layer = first; layer < end; layer++) {
        skip_attention(self, m, a, layer, err);
        skip_ffn(self, m, a, layer, err);
    }
    calls = 100;
    return AA_OK;
}

static aa_status broken(void *self, aa_err *err) {
    (void)self;
    return aa_fail(err, AA_EIO, "the device went away");
}

/* A branch whose last map is zero adds nothing: the same as a backend that skips the half. */
static void a_backend_takes_over_what_it_offers(void **state) {
    toy t;

    (void)state;
    toy_open(&t, &tied, &(toy_options){.B = 2, .T = T});
    t.backend.ffn_half = skip_ffn, calls = 0;
    double skipped = toy_loss(&t);
    assert_int_equal(calls, 2);
    t.backend.ffn_half = NULL;
    for (int l = 0; l < 2; l++) {
        aa_tensor *w = t.model.blocks[l].down.weight;

        memset(w->data, 0, aa_tensor_size(w) * sizeof(aa_real)), w->version++;
    }
    assert_true(toy_loss(&t) == skipped);

    t.backend.attention_half = skip_attention, calls = 0;
    double both = toy_loss(&t);
    assert_int_equal(calls, 2);
    assert_true(both != skipped);
    t.backend.blocks_forward = skip_blocks;
    assert_true(toy_loss(&t) == both);
    assert_int_equal(calls, 100);
    toy_close(&t);
}

/* ---- what is refused ------------------------------------------------------------------------- */

static void refusals(void **state) {
    const aa_batch bad_id = {.B = 1, .T = 2, .ids = (const int32_t[]){5, 101},
                             .targets = (const int32_t[]){1, 1}};
    const aa_batch bad_target = {.B = 1, .T = 2, .ids = (const int32_t[]){5, 6},
                                 .targets = (const int32_t[]){-1, 101}};
    const int32_t negative = -1;
    float logits[101];
    aa_err err = {0};
    aa_kv kv;
    toy t;

    (void)state;
    toy_open(&t, &tied, &(toy_options){.B = 1, .T = 2});
    assert_int_equal(aa_model_loss(&t.model, &t.backend, t.eval, &bad_id, t.loss, &err),
                     AA_EFORMAT);
    assert_non_null(strstr(err.message, "101"));
    assert_int_equal(
        aa_model_loss_and_grad(&t.model, &t.backend, t.train, &bad_target, t.loss, 1, NULL),
        AA_EFORMAT);
    err = (aa_err){0};
    check_ok(aa_kv_init(&kv, &t.model, 3, false, &t.arena, &err));
    assert_int_equal(aa_model_extend(&t.model, &t.backend, t.eval, &kv, &negative, 1, logits, NULL),
                     AA_EFORMAT);
    check_ok(aa_model_extend(&t.model, &t.backend, t.eval, &kv, t.ids, 2, logits, &err));
    assert_int_equal(aa_model_extend(&t.model, &t.backend, t.eval, &kv, t.ids, 2, logits, NULL),
                     AA_EUSAGE);
    assert_int_equal(kv.len, 2);
    t.model.lookup.max_tokens = 1;
    const aa_batch two = {.B = 1, .T = 2, .ids = t.ids, .targets = t.targets};
    assert_int_equal(aa_model_loss_and_grad(&t.model, &t.backend, t.train, &two, t.loss, 1, NULL),
                     AA_EINTERNAL);
    t.backend.wait = broken;
    assert_int_equal(aa_model_loss(&t.model, &t.backend, t.eval, &two, t.loss, NULL), AA_EIO);
    toy_close(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(micro_batches_leave_the_same_bits),
        cmocka_unit_test(threads_leave_the_same_bits),
        cmocka_unit_test(chunks_and_packing_leave_the_same_bits),
        cmocka_unit_test(a_sequence_does_not_see_its_batch),
        cmocka_unit_test(lengths_of_sequences_leave_the_same_bits),
        cmocka_unit_test(the_past_does_not_see_the_future),
        cmocka_unit_test(reading_in_parts_equals_one_pass),
        cmocka_unit_test(lookups_kept_apart_add_up),
        cmocka_unit_test(a_low_rank_head_is_a_whole_one_with_its_rows),
        cmocka_unit_test(the_plan_measures_what_the_layout_takes),
        cmocka_unit_test(rows_that_form_one_map_are_adjacent),
        cmocka_unit_test(initial_weights),
        cmocka_unit_test(a_backend_takes_over_what_it_offers),
        cmocka_unit_test(refusals),
    };

    return cmocka_run_group_tests_name("props_model", tests, NULL, NULL);
}
