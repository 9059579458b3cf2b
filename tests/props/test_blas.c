/* A BLAS library as the oracle of our own products: every epilogue of a linear map, and losses and
 * gradients of whole models. Skipped where no library is found (AA_BLAS names one).
 *
 * Tolerance: two orders of one sum of K terms of size 1 or less differ by at most K^2 eps; rounding
 * errors of either sign leave about sqrt(K) eps times the sum's size. K eps stands between.
 */
#include <float.h>
#include <math.h>

#include "num/blas.h"
#include "support/check.h"
#include "support/toy.h"

enum { T = 37, OUT = 83, IN = 59, PAD = 5 };

static bool no_library(aa_cpu *cpu, aa_blas **blas) {
    aa_err err = {0};
    aa_status st = aa_blas_open(blas, cpu, NULL, &err);

    if (st == AA_ENOTFOUND) print_message("%s\n", err.message);
    else check_ok(st);
    return st != AA_OK;
}

static void fill(float *x, size_t n, const char *name) {
    for (size_t i = 0; i < n; i++) x[i] = (float)toy_number(name, (uint32_t)i);
}

typedef struct operands {
    float w[OUT * IN], dw[OUT * IN], b[OUT], db[OUT];
    float x[T * (IN + PAD)], y[T * (OUT + PAD)], residual[T * OUT], dx[T * (IN + PAD)];
} operands;

static void fill_operands(operands *p) {
    fill(p->w, OUT * IN, "w"), fill(p->dw, OUT * IN, "dw");
    fill(p->b, OUT, "b"), fill(p->db, OUT, "db");
    fill(p->x, T * (IN + PAD), "x"), fill(p->y, T * (OUT + PAD), "y");
    fill(p->residual, T * OUT, "r"), fill(p->dx, T * (IN + PAD), "dx");
}

static aa_linear map_of(operands *p, aa_tensor *w, aa_tensor *b, bool biased) {
    *w = (aa_tensor){.rows = OUT, .cols = IN, .data = p->w, .grad = p->dw, .version = 1};
    *b = (aa_tensor){.rows = 1, .cols = OUT, .data = p->b, .grad = p->db, .version = 1};
    return (aa_linear){.weight = w, .bias = biased ? b : NULL, .n_parts = 1, .n_out = OUT,
                       .n_in = IN};
}

static void forward_both(aa_cpu *cpu, aa_blas *blas, bool biased, int onto, float scale) {
    static operands p, q;
    aa_tensor w, b;
    aa_err err = {0};
    const size_t ld = OUT + PAD, ldx = IN + PAD;

    fill_operands(&p), fill_operands(&q);
    aa_linear lin = map_of(&p, &w, &b, biased);
    aa_epilogue e = {.scale = scale};
    aa_epilogue mine = e;
    if (onto == 1) e.residual = mine.residual = p.residual, e.ld_residual = mine.ld_residual = OUT;
    if (onto == 2) {
        e.residual = q.y, mine.residual = p.y;
        e.ld_residual = mine.ld_residual = ld;
    }
    if (onto == 3) e.accumulate = mine.accumulate = true;
    aa_linear_forward(cpu, p.y, ld, p.x, ldx, T, &lin, &mine);
    check_ok(aa_blas_linear_forward(blas, q.y, ld, p.x, ldx, T, &lin, &e, &err));
    check_near_f32("y", q.y, p.y, T * ld, 0, IN * FLT_EPSILON * (1 + fabsf(scale)));
}

static void linear_maps_agree(void **state) {
    aa_cpu *cpu;
    aa_blas *blas;
    aa_err err = {0};

    (void)state;
    check_ok(aa_cpu_new(&cpu, 2, AA_ISA_AUTO, &err));
    if (no_library(cpu, &blas)) {
        aa_cpu_free(cpu);
        skip();
    }
    for (int biased = 0; biased < 2; biased++)
        for (int onto = 0; onto < 4; onto++) {
            forward_both(cpu, blas, biased, onto, 1);
            forward_both(cpu, blas, biased, onto, -0.75f);
        }
    for (int biased = 0; biased < 2; biased++) {
        static operands p, q;
        aa_tensor w, b, w2, b2;
        const size_t ld = OUT + PAD, ldx = IN + PAD;

        fill_operands(&p), fill_operands(&q);
        aa_linear lin = map_of(&p, &w, &b, biased), other = map_of(&q, &w2, &b2, biased);
        aa_linear_dx(cpu, p.dx, ldx, p.y, ld, T, &lin, 0.5f, biased, NULL);
        check_ok(aa_blas_linear_dx(blas, q.dx, ldx, q.y, ld, T, &other, 0.5f, biased, &err));
        check_near_f32("dx", q.dx, p.dx, T * ldx, 0, OUT * FLT_EPSILON);
        aa_linear_dw(cpu, &lin, p.y, ld, p.x, ldx, T, 0.5f);
        check_ok(aa_blas_linear_dw(blas, &other, q.y, ld, q.x, ldx, T, 0.5f, &err));
        check_near_f32("dW", q.dw, p.dw, OUT * IN, 0, T * FLT_EPSILON);
        check_near_f32("db", q.db, p.db, OUT, 0, T * FLT_EPSILON);
    }
    aa_blas_close(blas);
    aa_cpu_free(cpu);
}

static double largest(const aa_tensor *t) {
    double most = 0;

    for (size_t i = 0; i < aa_tensor_size(t); i++) most = fmax(most, fabs((double)t->grad[i]));
    return most;
}

static void gradients_agree_of(const aa_config *c, int threads) {
    toy ours, theirs;
    toy_options o = {.B = 4, .T = 32, .threads = threads, .masked = true};
    aa_blas *blas;

    toy_open(&ours, c, &o);
    toy_open(&theirs, c, &(toy_options){.B = 4, .T = 32, .threads = threads, .masked = true,
                                        .unpacked = true});
    if (no_library(theirs.cpu, &blas)) {
        toy_close(&ours), toy_close(&theirs);
        skip();
    }
    aa_backend_blas(&theirs.backend, theirs.cpu, blas);
    double want = toy_gradients(&ours, 2), got = toy_gradients(&theirs, 4);
    assert_true(fabs(got - want) <= 1e-5 * fabs(want));
    for (size_t r = 0; r < ours.model.n_tensors; r++) {
        const aa_tensor *a = &ours.model.tensors[r], *b = &theirs.model.tensors[r];
        check_near_f32(a->name, b->grad, a->grad, aa_tensor_size(a), 1e-4, 2e-5 * largest(a));
    }
    aa_blas_close(blas);
    toy_close(&ours), toy_close(&theirs);
}

static void gradients_agree(void **state) {
    static const aa_config plain = {.dim = 96, .layers = 2, .heads = 4, .kv_heads = 2,
                                    .head_dim = 24, .ffn = 256, .vocab = 331, .tied = true};
    aa_config biased = plain;

    (void)state;
    biased.tied = false, biased.qkv_bias = biased.out_bias = biased.mlp_bias = true;
    biased.residual_scale = 0.5;
    for (int threads = 1; threads <= 3; threads++) {
        gradients_agree_of(&plain, threads);
        gradients_agree_of(&biased, threads);
    }
}

/* What is no BLAS library is refused with a sentence, before anything is called in it. */
static void refusals(void **state) {
    aa_cpu *cpu;
    aa_blas *blas = NULL;
    aa_err err = {0}, other = {0};

    (void)state;
    check_ok(aa_cpu_new(&cpu, 1, AA_ISA_AUTO, &err));
    assert_int_equal(aa_blas_open(&blas, cpu, "/no/such/libblas.so", &err), AA_ENOTFOUND);
    assert_non_null(strstr(err.message, "/no/such/libblas.so"));
#ifdef __linux__
    assert_int_equal(aa_blas_open(&blas, cpu, "libm.so.6", &other), AA_EUNSUPPORTED);
    assert_non_null(strstr(other.message, "cblas_sgemm"));
#endif
    (void)other;
    assert_null(blas);
    aa_cpu_free(cpu);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(linear_maps_agree),
        cmocka_unit_test(gradients_agree),
        cmocka_unit_test(refusals),
    };

    return cmocka_run_group_tests_name("props_blas", tests, NULL, NULL);
}
