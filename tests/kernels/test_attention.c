/* Tiled attention against the formula in double, forward and backward: grouped heads, odd widths,
 * lengths around the tile, queries after a prefix; and the same bits for any number of threads. */
#include "real.h"

typedef struct naive { double *o, *lse, *dq, *dk, *dv; } naive;

static double *doubles(size_t n) {
    double *x = aa_heap_alloc(n + 1, sizeof *x);
    assert_non_null(x);
    return x;
}

typedef struct operands { aa_real *q, *k, *v, *d_o; size_t nq, nk, no; } operands;

static operands operands_of(const aa_attention *a) {
    operands p = {.nq = a->B * a->n_query * a->ld_q,
                  .nk = a->B * a->n_key * a->ld_k,
                  .no = a->B * a->n_query * a->ld_o};
    p.q = numbers(p.nq, 1);
    p.k = numbers(p.nk, 2);
    p.v = numbers(a->B * a->n_key * a->ld_v, 3);
    p.d_o = numbers(p.no, 4);
    return p;
}

static void release(operands *p) {
    aa_heap_free(p->q);
    aa_heap_free(p->k);
    aa_heap_free(p->v);
    aa_heap_free(p->d_o);
}

/* One query of one head: probabilities p[0..n), its output, and what it adds to the gradients. */
static void naive_query(const aa_attention *a, const operands *x, naive *r, size_t b, size_t h,
                        size_t i, double *p, double *dp) {
    size_t kv = h / (a->H / a->K), n = a->n_key - a->n_query + i + 1, row = b * a->n_query + i;
    const aa_real *q = x->q + row * a->ld_q + h * a->D, *d_o = x->d_o + row * a->ld_o + h * a->D;
    double scale = 1 / sqrt((double)a->D), top = -INFINITY, sum = 0, delta = 0,
           *o = r->o + row * a->ld_o + h * a->D;
    for (size_t j = 0; j < n; j++) {
        const aa_real *k = x->k + (b * a->n_key + j) * a->ld_k + kv * a->D;
        p[j] = 0;
        for (size_t d = 0; d < a->D; d++) p[j] += scale * (double)q[d] * (double)k[d];
        top = fmax(top, p[j]);
    }
    for (size_t j = 0; j < n; j++) sum += p[j] = exp(p[j] - top);
    r->lse[row * a->H + h] = top + log(sum);
    for (size_t j = 0; j < n; j++) {
        const aa_real *v = x->v + (b * a->n_key + j) * a->ld_v + kv * a->D;
        p[j] /= sum;
        dp[j] = 0;
        for (size_t d = 0; d < a->D; d++) {
            o[d] += p[j] * (double)v[d];
            dp[j] += (double)d_o[d] * (double)v[d];
        }
        delta += p[j] * dp[j];
    }
    for (size_t j = 0; j < n; j++) {
        size_t at = (b * a->n_key + j) * a->ld_k + kv * a->D,
               at_v = (b * a->n_key + j) * a->ld_v + kv * a->D;
        double ds = scale * p[j] * (dp[j] - delta);
        for (size_t d = 0; d < a->D; d++) {
            r->dq[row * a->ld_q + h * a->D + d] += ds * (double)x->k[at + d];
            r->dk[at + d] += ds * (double)q[d];
            r->dv[at_v + d] += p[j] * (double)d_o[d];
        }
    }
}

static naive naive_of(const aa_attention *a, const operands *x) {
    naive r = {doubles(x->no), doubles(a->B * a->n_query * a->H), doubles(x->nq), doubles(x->nk),
               doubles(a->B * a->n_key * a->ld_v)};
    double *p = doubles(a->n_key), *dp = doubles(a->n_key);
    for (size_t b = 0; b < a->B; b++)
        for (size_t h = 0; h < a->H; h++)
            for (size_t i = 0; i < a->n_query; i++) naive_query(a, x, &r, b, h, i, p, dp);
    aa_heap_free(p);
    aa_heap_free(dp);
    return r;
}

static void release_naive(naive *r) {
    aa_heap_free(r->o);
    aa_heap_free(r->lse);
    aa_heap_free(r->dq);
    aa_heap_free(r->dk);
    aa_heap_free(r->dv);
}

/* Columns 0..width of rows of ld. Inputs are standard normal, so scores and probabilities carry
 * errors of a few eps * sqrt(D), and a sum over n queries n of them: n * eps with a factor of 16
 * covers both. */
static void near_rows(const char *name, const aa_real *got, const double *want, size_t n_rows,
                      size_t ld, size_t width, double tol) {
    for (size_t i = 0; i < n_rows; i++)
        for (size_t j = 0; j < width; j++) {
            double g = (double)got[i * ld + j], w = want[i * ld + j];
            if (!(fabs(g - w) <= tol * (1 + fabs(w))))
                fail_msg("%s[%zu,%zu]: got %.9g, want %.9g, allowed %.3g", name, i, j, g, w, tol);
        }
}

typedef struct outputs { aa_real *o, *lse, *dq, *dk, *dv, *delta; } outputs;

static outputs run(aa_cpu *cpu, const aa_attention *a, const operands *x) {
    size_t n_stat = a->B * a->n_query * a->H;
    outputs y = {numbers(x->no, 9), zeros(n_stat), numbers(x->nq, 9), numbers(x->nk, 9),
                 numbers(a->B * a->n_key * a->ld_v, 9), zeros(n_stat)};
    aa_attention_forward(cpu, y.o, y.lse, x->q, x->k, x->v, a);
    if (a->n_query == a->n_key)
        aa_attention_backward(cpu, y.dq, y.dk, y.dv, x->d_o, x->q, x->k, x->v, y.o, y.lse, y.delta,
                              a);
    return y;
}

static void release_outputs(outputs *y) {
    aa_heap_free(y->o);
    aa_heap_free(y->lse);
    aa_heap_free(y->dq);
    aa_heap_free(y->dk);
    aa_heap_free(y->dv);
    aa_heap_free(y->delta);
}

typedef struct shape { size_t B, n_query, n_key, H, K, D; } shape;
static const shape shapes[] = {
    {1, 1, 1, 1, 1, 2},      {2, 5, 5, 2, 1, 20},      {1, 64, 64, 4, 2, 16}, {1, 65, 65, 2, 2, 64},
    {2, 130, 130, 6, 1, 24}, {1, 200, 200, 10, 2, 33}, {1, 1, 300, 8, 2, 64}, {3, 4, 90, 4, 4, 20},
    {2, 7, 139, 4, 2, 48},   {1, 100, 300, 9, 3, 128}, {1, 70, 70, 1, 1, 256}};
enum { N_SHAPES = sizeof shapes / sizeof *shapes };

static aa_attention attention_of(shape s) {
    return (aa_attention){.B = s.B,
                          .n_query = s.n_query,
                          .n_key = s.n_key,
                          .H = s.H,
                          .K = s.K,
                          .D = s.D,
                          .ld_q = s.H * s.D + 3,
                          .ld_k = s.K * s.D + 1,
                          .ld_v = s.K * s.D + 2,
                          .ld_o = s.H * s.D + 5};
}

static void test_against_formula(void **state) {
    (void)state;
    for (int i = 0; i < N_SHAPES; i++) {
        aa_attention a = attention_of(shapes[i]);
        operands x = operands_of(&a);
        naive want = naive_of(&a, &x);
        EACH_ISA(isa) {
            aa_cpu *cpu = team(2, isa);
            outputs y = run(cpu, &a, &x);
            size_t nq = a.B * a.n_query, nk = a.B * a.n_key;
            double tol = 16 * REAL_EPS * (16 + (double)a.n_key);
            near_rows("o", y.o, want.o, nq, a.ld_o, a.H * a.D, tol);
            near_rows("lse", y.lse, want.lse, nq, a.H, a.H, tol);
            if (a.n_query == a.n_key) {
                double wide = tol * (double)(a.H / a.K) * 4;
                near_rows("dq", y.dq, want.dq, nq, a.ld_q, a.H * a.D, wide);
                near_rows("dk", y.dk, want.dk, nk, a.ld_k, a.K * a.D, wide);
                near_rows("dv", y.dv, want.dv, nk, a.ld_v, a.K * a.D, wide);
            }
            aa_real *untouched = numbers(x.no, 9);
            for (size_t r = 0; r < nq; r++)
                same_bits("beside o", y.o + r * a.ld_o + a.H * a.D,
                          untouched + r * a.ld_o + a.H * a.D, a.ld_o - a.H * a.D);
            aa_heap_free(untouched);
            release_outputs(&y);
            aa_cpu_free(cpu);
        }
        release_naive(&want);
        release(&x);
    }
}

static void test_same_bits(void **state) {
    (void)state;
    static const int teams[] = {2, 3, 5};
    EACH_ISA(isa) {
        aa_cpu *one = team(1, isa);
        for (int i = 0; i < N_SHAPES; i++) {
            aa_attention a = attention_of(shapes[i]);
            operands x = operands_of(&a);
            outputs want = run(one, &a, &x);
            for (int t = 0; t < 3; t++) {
                aa_cpu *many = team(teams[t], isa);
                outputs got = run(many, &a, &x);
                same_bits("o", got.o, want.o, x.no);
                same_bits("lse", got.lse, want.lse, a.B * a.n_query * a.H);
                same_bits("dq", got.dq, want.dq, x.nq);
                same_bits("dk", got.dk, want.dk, x.nk);
                same_bits("dv", got.dv, want.dv, a.B * a.n_key * a.ld_v);
                release_outputs(&got);
                aa_cpu_free(many);
            }
            release_outputs(&want);
            release(&x);
        }
        aa_cpu_free(one);
    }
}

/* Sequences of different lengths in one call: each has the bits it has in a call of its own. */
static void test_different_lengths(void **state) {
    (void)state;
    static const int32_t start[] = {0, 3, 67, 68, 198, 199, 203, 268, 468, 472};
    enum { N_SEQUENCES = sizeof start / sizeof *start - 1, ROWS = 472 };
    static const int teams[] = {1, 2, 3, 5};
    aa_attention all = attention_of((shape){1, ROWS, ROWS, 10, 2, 20});
    operands x = operands_of(&all);
    all.B = N_SEQUENCES;
    all.start = start;
    EACH_ISA(isa)
        for (int t = 0; t < 4; t++) {
            aa_cpu *cpu = team(teams[t], isa), *one = team(1, isa);
            aa_attention whole = all;
            whole.B = 1;
            whole.start = NULL;
            outputs got = run(cpu, &whole, &x);       /* to be overwritten */
            aa_attention_forward(cpu, got.o, got.lse, x.q, x.k, x.v, &all);
            aa_attention_backward(cpu, got.dq, got.dk, got.dv, x.d_o, x.q, x.k, x.v, got.o,
                                  got.lse, got.delta, &all);
            for (int b = 0; b < N_SEQUENCES; b++) {
                size_t r = (size_t)start[b], n = (size_t)start[b + 1] - r;
                aa_attention a = attention_of((shape){1, n, n, 10, 2, 20});
                operands y = {x.q + r * a.ld_q, x.k + r * a.ld_k, x.v + r * a.ld_v,
                              x.d_o + r * a.ld_o, n * a.ld_q, n * a.ld_k, n * a.ld_o};
                outputs want = run(one, &a, &y);
                for (size_t i = 0; i < n; i++) {
                    size_t Q = a.H * a.D, KV = a.K * a.D;
                    same_bits("o", got.o + (r + i) * a.ld_o, want.o + i * a.ld_o, Q);
                    same_bits("lse", got.lse + (r + i) * a.H, want.lse + i * a.H, a.H);
                    same_bits("dq", got.dq + (r + i) * a.ld_q, want.dq + i * a.ld_q, Q);
                    same_bits("dk", got.dk + (r + i) * a.ld_k, want.dk + i * a.ld_k, KV);
                    same_bits("dv", got.dv + (r + i) * a.ld_v, want.dv + i * a.ld_v, KV);
                }
                release_outputs(&want);
            }
            release_outputs(&got);
            aa_cpu_free(cpu);
            aa_cpu_free(one);
        }
    release(&x);
}

/* Large scores: no overflow, and a key that dominates is copied out. */
static void test_large_scores(void **state) {
    (void)state;
    EACH_ISA(isa) {
        aa_cpu *cpu = team(1, isa);
        aa_attention a = attention_of((shape){1, 70, 70, 1, 1, 8});
        operands x = operands_of(&a);
        for (size_t i = 0; i < x.nq; i++) x.q[i] = 100;
        for (size_t i = 0; i < x.nk; i++) x.k[i] = i / a.ld_k == 3 ? 100 : -100;
        outputs y = run(cpu, &a, &x);
        near_real("o", y.o + 69 * a.ld_o, x.v + 3 * a.ld_v, a.D, 4 * REAL_EPS, 0);
        for (size_t i = 0; i < 70; i++)
            assert_true(isfinite((double)y.dq[i * a.ld_q]) && isfinite((double)y.dk[i * a.ld_k]));
        release_outputs(&y);
        release(&x);
        aa_cpu_free(cpu);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_against_formula),
                                       cmocka_unit_test(test_same_bits),
                                       cmocka_unit_test(test_different_lengths),
                                       cmocka_unit_test(test_large_scores)};
    return cmocka_run_group_tests_name("kernels_attention", tests, NULL, NULL);
}
