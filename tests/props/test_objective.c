/* A language model as an objective of zeroth order: the loss of a probe is that of weights really
 * moved, streams do not see each other, and nothing depends on how they are put into passes. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "support/check.h"
#include "support/toy.h"
#include "train/objective.h"

#define SHAPE .dim = 32, .layers = 2, .heads = 4, .kv_heads = 2, .ffn = 48, .vocab = 257
static const aa_config untied = {SHAPE, .head_dim = 8, .qkv_bias = true, .out_bias = true},
                       tied = {SHAPE, .head_dim = 12, .tied = true, .residual_scale = 0.5,
                               .arch = AA_ARCH_QWEN3, .qk_norm = true};
static const aa_config *const configs[] = {&untied, &tied};

enum { B = 2, T = 12, PASS = 5, SITES = 2 * AA_TARGET_COUNT };
static aa_lora_site sites[SITES], thin[SITES];
static const aa_lora lora = {sites, .norms = true}, dora = {thin, .dora = true};

static aa_tokens tokens, masked;
static aa_stream stream;
static aa_examples examples;

static void open_tokens(aa_tokens *out, const char *name, const char *text) {
    aa_err err = {0};
    aa_tokenizer *t = NULL;
    char *source = aa_path_join(check_temp_dir(), name), *path = aa_heap_printf("%s.tok", source);

    check_ok(aa_tokenizer_new_bytes(&t, &err));
    check_ok(aa_file_write(source, text, strlen(text), &err));
    check_ok(aa_tokenize(source, t, NULL, path, NULL, &err));
    check_ok(aa_tokens_open(out, path, aa_tokenizer_vocab(t), -1, true, &err));
    aa_tokenizer_free(t);
    aa_heap_free(source);
    aa_heap_free(path);
}

static int open_data(void **state) {
    aa_err err = {0};
    char text[2048];

    (void)state;
    for (int i = 0; i < SITES; i++) {
        sites[i] = (aa_lora_site){(size_t)(1 + i * 5 % 3), 2 + i % 3};
        thin[i] = (aa_lora_site){1, 2};
    }
    for (size_t i = 0; i + 1 < sizeof text; i++)
        text[i] = (char)('a' + (int)(12.5 * (1 + toy_number("text", (uint32_t)i))));
    text[sizeof text - 1] = 0;
    open_tokens(&tokens, "text.txt", text);
    open_tokens(&masked, "rows.jsonl",
                "{\"prompt\":\"one\",\"completion\":\" two\"}\n"
                "{\"prompt\":\"three\",\"completion\":\" is more\"}\n"
                "{\"prompt\":\"\",\"completion\":\"x\"}\n");
    check_ok(aa_stream_init(&stream, &tokens, AA_PART_COUNT, &err));
    check_ok(aa_examples_init(&examples, &masked, AA_PART_COUNT, T, &err));
    return 0;
}

static int close_data(void **state) {
    (void)state;
    aa_examples_release(&examples);
    aa_stream_release(&stream);
    aa_tokens_close(&masked);
    aa_tokens_close(&tokens);
    return 0;
}

/* ---- a method over a small model ------------------------------------------------------------- */

typedef struct method { const char *name, *settings; bool adapter, scale; } method;
static const method methods[] = {
    {"auto", "eps=0.02 streams=4", true, false},
    {"mezo", "eps=0.02", true, false},
    {"mezo-lora-split", "eps=0.02 streams=3", true, false},
    {"grzo", "eps=0.02 streams=4", true, false},
    {"hizoo", "eps=0.02", true, false},
    {"zo-muon", "eps=0.2 streams=4 refresh=100", true, false},
    {"subzero+", "eps=0.2 streams=30", true, false},
    {"qzo", "eps=0.05", true, true},
    {"mezo-full", "eps=0.002", false, false},
    {"sparse-mezo", "eps=0.004", false, false},
    {"p-gap", "eps=0.02 horizon=10 estimate=2", true, false},
};
enum { N_METHODS = sizeof methods / sizeof *methods };

typedef struct bench {
    toy toy;
    aa_lm_objective *objective;
    aa_zo *engine;
    aa_zo_objective outer;                /* its own, or one around it */
    void (*look)(struct bench *b, const aa_zo_view *view, const aa_zo_probe *probes, size_t n,
                 double *losses);
    int n_looks;
    const char *name;
} bench;

static aa_status around(void *self, const aa_zo_view *view, const aa_zo_probe *probes, size_t n,
                        double *losses, double *each, aa_err *err) {
    bench *b = self;
    const aa_zo_objective *o = aa_lm_objective_of(b->objective);
    AA_TRY(o->evaluate(o->self, view, probes, n, losses, each, err));
    if (b->look) b->look(b, view, probes, n, losses);
    b->n_looks++;
    return AA_OK;
}

static aa_status around_basis(void *self, size_t row, size_t rank, uint64_t data, aa_real *a,
                              aa_err *err) {
    const aa_zo_objective *o = aa_lm_objective_of(((bench *)self)->objective);
    return o->basis(o->self, row, rank, data, a, err);
}

/* Bases are for factors that say nothing yet. */
static void clear_factors(aa_model *m, const aa_zo_config *c, bool scale) {
    for (size_t i = m->n_base; i < m->n_tensors; i++) {
        aa_tensor *t = &m->tensors[i];
        const bool b = t->kind == AA_KIND_LORA_B, a = t->kind == AA_KIND_LORA_A;
        if ((b && (scale || c->basis != AA_ZO_KEPT)) || (a && c->space == AA_ZO_A))
            memset(t->data, 0, aa_tensor_size(t) * sizeof *t->data);
        for (size_t k = 0; t->kind == AA_KIND_MAGNITUDE && k < t->cols; k++)
            t->data[k] = (aa_real)(1 + 0.1 * toy_number(t->name, (uint32_t)k));
    }
    aa_model_changed(m);
}

static void open_bench(bench *b, const aa_config *c, const method *m, toy_options o, size_t pass) {
    aa_err err = {0};
    aa_zo_config zo;
    const aa_lm_data data = {.stream = &stream, .seed = 3, .T = T, .n = B};

    *b = (bench){.name = m->name};
    o.B = PASS, o.T = T, o.unpacked = true;
    o.lora = m->scale ? &dora : m->adapter ? &lora : NULL;
    check_ok(aa_zo_configure(&zo, m->name, m->settings, &err));
    toy_open(&b->toy, c, &o);
    clear_factors(&b->toy.model, &zo, m->scale);
    check_ok(aa_lm_objective_open(&b->objective, &zo, &b->toy.model, b->toy.eval, b->toy.cpu, &data,
                                  pass, &err));
    b->outer = *aa_lm_objective_of(b->objective);
    b->outer.self = b;
    b->outer.evaluate = around;
    b->outer.basis = b->outer.basis ? around_basis : NULL;
    check_ok(aa_zo_open(&b->engine, &zo, &b->outer, b->toy.cpu, &err));
}

static void close_bench(bench *b) {
    aa_zo_close(b->engine);
    aa_lm_objective_close(b->objective);
    toy_close(&b->toy);
}

/* ---- probes ---------------------------------------------------------------------------------- */

/* Mean loss of the sequences of a data id, by nothing of the objective. */
static double plain_loss(bench *b, uint64_t data) {
    toy *t = &b->toy;
    aa_err err = {0};
    const aa_batch batch = {.B = B, .T = T, .ids = t->ids, .targets = t->targets};
    double sum = 0;

    aa_lm_objective_sync(b->objective);
    for (size_t s = 0; s < B; s++)
        aa_stream_window(&stream, 3, data * B + s, T, t->ids + s * T, t->targets + s * T);
    check_ok(aa_model_loss(&t->model, &t->backend, t->eval, &batch, t->loss, &err));
    for (size_t i = 0; i < B * T; i++) sum += (double)t->loss[i];
    return sum / (B * T);
}

static void move(bench *b, const aa_zo_view *view, const aa_zo_probe *probe) {
    const aa_zo_space *s = &b->outer.space;

    for (size_t r = 0; r < s->n_rows; r++) {
        aa_tensor *t = s->rows[r].tensor;
        aa_direction z;

        if (!aa_zo_direction(view, r, probe, &z)) continue;
        aa_direction_add(b->toy.cpu, t->data, t->data, 1, probe->amplitude, &z, 0,
                         aa_tensor_size(t));
        t->version++;
    }
}

static aa_real *rows_now(const bench *b, aa_real *restore) {
    const aa_zo_space *s = &b->outer.space;
    size_t n = 0, at = 0;

    for (size_t r = 0; r < s->n_rows; r++) n += aa_tensor_size(s->rows[r].tensor);
    aa_real *kept = restore ? restore : malloc(n * sizeof *kept);
    assert_non_null(kept);
    for (size_t r = 0; r < s->n_rows; at += aa_tensor_size(s->rows[r++].tensor)) {
        aa_tensor *t = s->rows[r].tensor;
        memcpy(restore ? t->data : kept + at, restore ? kept + at : t->data,
               aa_tensor_size(t) * sizeof *kept);
        t->version += restore != NULL;
    }
    return kept;
}

static void against_moved(bench *b, const aa_zo_view *view, const aa_zo_probe *probes, size_t n,
                          double *losses) {
    double least = INFINITY;

    for (size_t i = 0; i < n; i++) {
        const double here = plain_loss(b, probes[i].data);
        aa_real *kept = rows_now(b, NULL);
        move(b, view, &probes[i]);
        const double moved = plain_loss(b, probes[i].data);
        rows_now(b, kept);
        free(kept);
        if (fabs(losses[i] - moved) > 2e-6 * moved)
            fail_msg("%s, probe %zu: %.9g, and %.9g of weights moved (%.9g here)", b->name, i,
                     losses[i], moved, here);
        if (probes[i].amplitude != 0) least = fmin(least, fabs(moved - here));
    }
    /* A probe that changes nothing would pass. */
    if (!(least > 2e-5)) fail_msg("%s: a probe moved the loss by %g alone", b->name, least);
}

static void losses_of_weights_moved(void **state) {
    (void)state;
    for (size_t i = 0; i < 2 * N_METHODS; i++) {
        bench b;
        aa_zo_report report;
        aa_err err = {0};
        open_bench(&b, configs[i % 2], &methods[i / 2], (toy_options){0}, PASS);
        b.look = against_moved;
        for (int step = 0; step < 2; step++) check_ok(aa_zo_step(b.engine, 1, &report, &err));
        assert_int_equal(b.n_looks, 2 + !strcmp(methods[i / 2].name, "p-gap"));
        close_bench(&b);
    }
}

static void one_by_one(bench *b, const aa_zo_view *view, const aa_zo_probe *probes, size_t n,
                       double *losses) {
    const aa_zo_objective *o = aa_lm_objective_of(b->objective);
    aa_err err = {0};

    for (size_t i = 0; i < n; i++) {
        double one;
        check_ok(o->evaluate(o->self, view, &probes[i], 1, &one, NULL, &err));
        check_same_bits("a probe by itself", &one, &losses[i], sizeof one);
    }
}

static aa_digest steps(const aa_config *c, const method *m, toy_options o, size_t pass,
                       double *loss) {
    bench b;
    aa_zo_report report;
    aa_err err = {0};

    open_bench(&b, c, m, o, pass);
    b.look = one_by_one;
    for (int step = 0; step < 3; step++) check_ok(aa_zo_step(b.engine, 1, &report, &err));
    const aa_digest digest = aa_zo_digest(b.engine);
    *loss = report.loss;
    close_bench(&b);
    return digest;
}

static void streams_do_not_see_each_other(void **state) {
    (void)state;
    for (aa_isa isa = AA_ISA_SCALAR; isa <= AA_ISA_AVX512; isa = (aa_isa)(isa + 1)) {
        if (!aa_isa_available(isa)) continue;
        for (size_t i = 0; i < N_METHODS; i++) {
            const aa_config *c = configs[i % 2];
            double want, got;
            const aa_digest first = steps(c, &methods[i], (toy_options){.isa = isa}, PASS, &want);
            for (size_t pass = 1; pass < PASS; pass += 2) {
                const toy_options o = {.isa = isa, .threads = (int)pass, .head_rows = 4 + pass};
                const aa_digest other = steps(c, &methods[i], o, pass, &got);
                check_same_bits(methods[i].name, &got, &want, sizeof want);
                assert_true(aa_digest_equal(first, other));
            }
        }
    }
}

/* ---- the rest -------------------------------------------------------------------------------- */

static const method *method_of(const char *name) {
    for (size_t i = 0; i < N_METHODS; i++)
        if (!strcmp(methods[i].name, name)) return &methods[i];
    fail();
    return NULL;
}

static void examples_are_sequences(void **state) {
    aa_err err = {0};
    aa_zo_config zo;
    toy t;
    const aa_lm_data data = {.examples = &examples, .seed = 3, .T = T, .n = 3};
    double all, each[3], want = 0, sum = 0;
    size_t counts[3], n = 0;
    const aa_zo_probe probe = {0};
    aa_lm_objective *o;

    (void)state;
    check_ok(aa_zo_configure(&zo, "mezo", "", &err));
    toy_open(&t, &untied, &(toy_options){.B = PASS, .T = T, .lora = &lora});
    check_ok(aa_lm_objective_open(&o, &zo, &t.model, t.eval, t.cpu, &data, 2, &err));
    const aa_zo_objective *zo_of = aa_lm_objective_of(o);
    assert_int_equal(zo_of->n_sequences, 3);
    check_ok(zo_of->evaluate(zo_of->self, NULL, &probe, 1, &all, each, &err));
    for (uint64_t i = 0; i < 3; i++) {     /* in the order of the file */
        int32_t start[2] = {0};
        aa_packed p = {.ids = t.ids, .targets = t.targets, .start = start};
        aa_examples_read(&examples, i, &p);
        const aa_batch batch = {.B = 1, .T = T, .ids = t.ids, .targets = t.targets, .start = start};
        check_ok(aa_model_loss(&t.model, &t.backend, t.eval, &batch, t.loss, &err));
        counts[i] = 0, sum = 0;
        for (size_t k = 0; k < p.n_rows; k++) {
            sum += (double)t.loss[k];
            counts[i] += t.targets[k] >= 0;
        }
        want += sum;
        n += counts[i];
        sum /= (double)counts[i];
        assert_true(fabs(sum - each[0]) < 1e-6 || fabs(sum - each[1]) < 1e-6 ||
                    fabs(sum - each[2]) < 1e-6);
    }
    assert_true(counts[0] != counts[1]);
    assert_true(fabs(all - want / (double)n) < 1e-6);
    aa_lm_objective_close(o);
    toy_close(&t);
}

/* The share of tokens, and of sequences, that greedy sampling would get right. */
static void hits_are_counted(void **state) {
    aa_err err = {0};
    aa_zo_config zo;
    toy t;
    double accuracy, exact, wrong = 0;
    const aa_zo_probe probe = {0};
    aa_lm_objective *o;

    (void)state;
    check_ok(aa_zo_configure(&zo, "mezo", "", &err));
    toy_open(&t, &untied, &(toy_options){.B = PASS, .T = T, .lora = &lora});
    /* The head prefers few ids, so that some are hit. */
    for (size_t i = 0; i < aa_tensor_size(t.model.head.weight); i++)
        if (i / 32 < 'a' || i / 32 > 'e') t.model.head.weight->data[i] = 0;
    t.model.head.weight->version++;
    const size_t n = 100;
    for (int kind = 0; kind < 2; kind++) {
        const aa_lm_data data = {.stream = &stream, .seed = 3, .T = 2, .n = n,
                                 .objective = kind ? AA_OBJECTIVE_EXACT : AA_OBJECTIVE_ACCURACY};
        check_ok(aa_lm_objective_open(&o, &zo, &t.model, t.eval, t.cpu, &data, PASS, &err));
        const aa_zo_objective *of = aa_lm_objective_of(o);
        check_ok(of->evaluate(of->self, NULL, &probe, 1, kind ? &exact : &accuracy, NULL, &err));
        aa_lm_objective_close(o);
    }
    size_t both = 0;
    for (size_t s = 0; s < n; s++) {
        const aa_batch batch = {.B = 1, .T = 2, .ids = t.ids, .targets = t.targets};
        int missed = 0;
        aa_stream_window(&stream, 3, s, 2, t.ids, t.targets);
        const int32_t want[2] = {t.targets[0], t.targets[1]};
        for (int i = 0; i < 2; i++) {      /* whose loss is the least of all ids' */
            aa_real best = INFINITY;
            int32_t id = -1;
            for (int32_t v = 0; v < 257; v++) {
                t.targets[i] = v;
                check_ok(aa_model_loss(&t.model, &t.backend, t.eval, &batch, t.loss, &err));
                if (t.loss[i] < best) best = t.loss[i], id = v;
            }
            t.targets[i] = want[i];
            missed += id != want[i];
        }
        wrong += missed;
        both += missed > 0;
    }
    assert_true(fabs(accuracy - wrong / (2.0 * (double)n)) < 1e-12);
    assert_true(fabs(exact - (double)both / (double)n) < 1e-12);
    assert_true(wrong > 0 && wrong < 2.0 * (double)n);
    toy_close(&t);
}

/* |X A^T|^2 over |X|^2 of what enters the first block, whose norm has been done. */
static double energy(bench *b, const aa_real *a, size_t rank) {
    const size_t C = (size_t)b->toy.model.config.dim;
    double within = 0, all = 0;

    for (size_t i = 0; i < 200; i++) {
        int32_t id;
        double square = 0;
        aa_stream_read(&stream, i, 1, &id);
        const aa_real *x = b->toy.model.embedding->data + (size_t)id * C;
        for (size_t k = 0; k < C; k++) square += (double)x[k] * (double)x[k];
        for (size_t r = 0; r < rank; r++) {
            double along = 0;
            for (size_t k = 0; k < C; k++)
                along += (double)a[r * C + k] * (double)x[k] *
                         (double)b->toy.model.blocks[0].norm_attn->data[k];
            within += along * along / square;
        }
        all += 1;
    }
    return within / all;
}

static void bases_hold_what_enters(void **state) {
    bench b;
    aa_zo_report report;
    aa_err err = {0};
    aa_tensor *A, *B_;

    (void)state;
    open_bench(&b, &untied, method_of("auto"), (toy_options){0}, PASS);
    aa_lora_find(&b.toy.model, 0, AA_TARGET_K, &A, &B_);
    check_ok(aa_zo_step(b.engine, 1, &report, &err));
    assert_true(report.new_basis);
    for (size_t i = 0; i < A->rows; i++)
        for (size_t j = 0; j <= i; j++) {
            double dot = 0;
            for (size_t k = 0; k < A->cols; k++)
                dot += (double)A->data[i * A->cols + k] * (double)A->data[j * A->cols + k];
            assert_true(fabs(dot - (i == j)) < 0.02);      /* 8 bits */
        }
    aa_real random[3 * 32];
    for (size_t i = 0; i < 3 * 32; i++)
        random[i] = (aa_real)(toy_number("random", (uint32_t)i));
    aa_zo_orthonormalize(random, A->rows, A->cols);
    const double got = energy(&b, A->data, A->rows), chance = energy(&b, random, A->rows);
    if (!(got > 1.5 * chance)) fail_msg("energy %.3f in the basis, %.3f by chance", got, chance);
    check_ok(aa_zo_step(b.engine, 1, &report, &err));
    assert_false(report.new_basis);
    close_bench(&b);
}

/* (f(+eps z) - f(-eps z)) / 2 eps against z . g by backpropagation. */
static void a_difference_is_a_derivative(bench *b, const aa_zo_view *view,
                                         const aa_zo_probe *probes, size_t n, double *losses) {
    const aa_zo_objective *o = aa_lm_objective_of(b->objective);
    const aa_zo_space *s = &b->outer.space;
    aa_err err = {0};
    aa_real *d = malloc(sizeof *d * 65536);
    double along = 0;

    assert_int_equal(n, 2);
    check_ok(o->gradient(o->self, probes[0].data, &err));
    for (size_t r = 0; r < s->n_rows; r++) {
        const aa_tensor *t = s->rows[r].tensor;
        aa_direction z;
        if (!aa_zo_direction(view, r, &probes[0], &z)) continue;
        assert_non_null(t->grad);
        aa_direction_add(b->toy.cpu, d, NULL, 0, 1, &z, 0, aa_tensor_size(t));
        for (size_t k = 0; k < aa_tensor_size(t); k++)
            along += (double)d[k] * (double)t->grad[k];
        memset(t->grad, 0, aa_tensor_size(t) * sizeof *t->grad);
    }
    free(d);
    const double eps = (double)probes[0].amplitude,
                 difference = (losses[0] - losses[1]) / (2 * eps);
    if (fabs(difference - along) > 2e-3 * fabs(along) + 1e-4)
        fail_msg("difference %.6g, derivative %.6g", difference, along);
}

static void differences_are_derivatives(void **state) {
    static const method rows[] = {{"mezo", "eps=1e-3", true, false},
                                  {"mezo-lora-split", "eps=1e-3", true, false}};
    (void)state;
    for (size_t i = 0; i < 4; i++) {
        bench b;
        aa_zo_report report;
        aa_err err = {0};
        open_bench(&b, configs[i % 2], &rows[i / 2], (toy_options){.checkpoint = i % 2 == 0}, PASS);
        aa_lm_objective_close(b.objective);
        aa_zo_config zo;
        const aa_lm_data data = {.stream = &stream, .seed = 3, .T = T, .n = B};
        check_ok(aa_zo_configure(&zo, rows[i / 2].name, rows[i / 2].settings, &err));
        check_ok(aa_lm_objective_open(&b.objective, &zo, &b.toy.model, b.toy.train, b.toy.cpu,
                                      &data, PASS, &err));
        aa_zo_close(b.engine);
        b.outer.space = aa_lm_objective_of(b.objective)->space;
        check_ok(aa_zo_open(&b.engine, &zo, &b.outer, b.toy.cpu, &err));
        aa_zero(b.toy.cpu, b.toy.model.grads, b.toy.model.span);
        b.look = a_difference_is_a_derivative;
        check_ok(aa_zo_step(b.engine, 1, &report, &err));
        assert_int_equal(b.n_looks, 1);
        close_bench(&b);
    }
}

static void refused(void **state) {
    static const struct { const char *name; const aa_lora *lora; } rows[] = {
        {"qzo", &lora}, {"auto", &dora}};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        aa_err err = {0};
        aa_zo_config zo;
        aa_lm_objective *o;
        toy t;
        check_ok(aa_zo_configure(&zo, rows[i].name, "", &err));
        toy_open(&t, &untied, &(toy_options){.B = 1, .T = T, .lora = rows[i].lora});
        assert_int_equal(aa_lm_objective_open(&o, &zo, &t.model, t.eval, t.cpu, NULL, 1, &err),
                         AA_EUSAGE);
        assert_non_null(strstr(err.message, "--adapter"));
        toy_close(&t);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(losses_of_weights_moved),
        cmocka_unit_test(streams_do_not_see_each_other),
        cmocka_unit_test(examples_are_sequences),
        cmocka_unit_test(hits_are_counted),
        cmocka_unit_test(bases_hold_what_enters),
        cmocka_unit_test(differences_are_derivatives),
        cmocka_unit_test(refused),
    };
    return cmocka_run_group_tests(tests, open_data, close_data);
}
