/* Every row of kernels.def against the scalar reference, for every instruction set of this machine,
 * at sizes around the vector and tile widths and at addresses that no vector likes. A row without a
 * check_<op> here does not compile. Guard values behind every output catch a store too far. */
#include "real.h"

static const size_t sizes[] = {1,  2,  3,  7,  8,  9,   15,  16,  17,  31,  32,
                               33, 47, 63, 64, 65, 100, 127, 129, 200, 1003};
enum {
    N_SIZES = sizeof sizes / sizeof *sizes,
    MAX_N = 1003,
    MAX_ROWS = 20,
    SPACE = MAX_ROWS * (MAX_N + 8) + 64
};
#define EACH_SIZE(n) for (size_t i_ = 0, n; i_ < N_SIZES && (n = sizes[i_], true); i_++)

typedef struct pair { const aa_kernels *ref, *got; } pair;

/* Two equal outputs and inputs that both versions read. All begin one element off a cache line. */
typedef struct space { aa_real *a, *b, *x, *y, *z, *fresh; } space;

static space begin(void) {
    space s = {numbers(SPACE, 1), NULL, numbers(SPACE, 2), numbers(SPACE, 3),
               numbers(SPACE, 4), NULL};
    s.b = copy_of(s.a, SPACE);
    s.fresh = copy_of(s.a, SPACE);
    return s;
}

static void restart(space *s) {
    memcpy(s->a, s->fresh, SPACE * sizeof *s->a);
    memcpy(s->b, s->fresh, SPACE * sizeof *s->b);
}

/* Whole spaces: what a kernel must not touch must be equal in bits,
 * so abs is for what it computes. */
static void compare(const char *name, const space *s, double rel, double abs) {
    near_real(name, s->b, s->a, SPACE, rel, abs);
}

static void end(space *s) {
    aa_heap_free(s->a);
    aa_heap_free(s->b);
    aa_heap_free(s->x);
    aa_heap_free(s->y);
    aa_heap_free(s->z);
    aa_heap_free(s->fresh);
}

static void check_gemm_shape(pair k) {
    aa_gemm_shape s = k.got->gemm_shape();
    assert_true(s.mr > 0 && s.mr <= s.mc && s.nr <= s.nc && 64 % s.nr == 0 &&
                AA_ATTENTION_MAX_D % s.nr == 0);
}

/* The two sets may differ in nr: each gets its own packing of the same B. */
static void check_gemm_tile(pair k) {
    enum { K = 37, LDA = 41, LDC = 70 };
    space s = begin();
    aa_real panel_ref[K * 64], panel_got[K * 64];
    size_t mr_max = aa__min(k.got->shape.mr, 64),
           nr_max = aa__min(k.got->shape.nr, k.ref->shape.nr);
    for (size_t mr = 1; mr <= mr_max; mr++)
        for (size_t nr = 1; nr <= nr_max; nr++)
            for (int form = 0; form < 12; form++) {
                restart(&s);
                aa_tile t = {.mr = mr,
                             .nr = nr,
                             .kc = form % 3 == 2 ? 0 : K,
                             .a = s.x + 1,
                             .a_row = form & 1 ? LDA : 1,
                             .a_k = form & 1 ? 1 : LDA,
                             .ldc = LDC,
                             .from_zero = form % 4 == 1,
                             .scale = AA_R(0.7),
                             .gain = form & 2 ? s.y + 17 : NULL,
                             .bias = form & 1 ? s.y + 3 : NULL,
                             .residual = form & 2 ? s.z + 5 : NULL,
                             .ld_residual = 33};
                k.ref->pack_rows(panel_ref, k.ref->shape.nr, s.y + 9, 40, K, nr, k.ref->shape.nr,
                                 1);
                k.got->pack_rows(panel_got, k.got->shape.nr, s.y + 9, 40, K, nr, k.got->shape.nr,
                                 1);
                for (int which = 0; which < 2; which++) {
                    aa_real *out = which ? s.b : s.a;
                    t.b = which ? panel_got : panel_ref;
                    t.c = out + 1;
                    t.y = form >= 6 ? out + 5001 : NULL;
                    t.ldy = LDC;
                    for (size_t r = 0; r < mr; r++) { /* the reference has fewer rows */
                        aa_tile one = t;
                        one.mr = 1;
                        one.a += r * t.a_row;
                        one.c += r * LDC;
                        if (one.y) one.y += r * LDC;
                        if (one.residual) one.residual += r * 33;
                        if (!which) k.ref->gemm_tile(&one);
                    }
                    if (which) k.got->gemm_tile(&t);
                }
                compare("gemm_tile", &s, 0, (K + 4) * REAL_EPS * 40);
            }
    end(&s);
}

static void check_pack_rows(pair k) {
    space s = begin();
    EACH_SIZE(n) {
        restart(&s);
        k.ref->pack_rows(s.a + 1, n + 5, s.x + 1, n + 2, 7, n, n + 5, AA_R(0.5));
        k.got->pack_rows(s.b + 1, n + 5, s.x + 1, n + 2, 7, n, n + 5, AA_R(0.5));
        compare("pack_rows", &s, 0, 0);
    }
    end(&s);
}

static void check_pack_transposed(pair k) {
    space s = begin();
    EACH_SIZE(n)
        for (size_t n_rows = 1; n_rows <= MAX_ROWS - 2; n_rows += 3) {
            restart(&s);
            k.ref->pack_transposed(s.a + 1, MAX_ROWS, s.x + 1, n + 1, n_rows, n, n_rows + 2,
                                   AA_R(0.5));
            k.got->pack_transposed(s.b + 1, MAX_ROWS, s.x + 1, n + 1, n_rows, n, n_rows + 2,
                                   AA_R(0.5));
            compare("pack_transposed", &s, 0, 0);
        }
    end(&s);
}

/* Numbers whose products, sums and roundings also fall below the normal floats. */
static void make_small(aa_real *x) {
    for (size_t i = 0; i < SPACE; i += 3)
        x[i] *= i % 2 ? AA_R(1e-20) : i % 5 ? AA_R(1.5e-39) : AA_R(1.2e-38);
}

static void check_bf16_shape(pair k) {
    aa_gemm_shape s = k.got->bf16_shape();
    assert_true(s.mr > 0 && s.mr <= s.mc && s.nr <= s.nc && 64 % s.nr == 0);
}

static void (*bf16_model(pair k))(const aa_tile *) {
    if (k.got->bf16_tile == k.ref->bf16_tile) return k.ref->bf16_tile;
#ifdef __aarch64__
    return aa__bf16_tile_odd;
#endif
    return k.got->bf16_shape().unit == 1 ? k.ref->bf16_tile : aa__bf16_tile_units;
}

/* The reference is the arithmetic of the instructions, so bits are equal. */
static void check_bf16_tile(pair k) {
    enum { K = 37, N_PAIRS = 19, LDC = 70 };
    space s = begin();
    aa_gemm_shape ref = k.ref->bf16_shape(), got = k.got->bf16_shape();
    size_t lda = aa__round_up(N_PAIRS, got.unit);
    aa_real panel_ref[N_PAIRS * 64], panel_got[N_PAIRS * 64], *rows = zeros(64 * lda);
    void (*model)(const aa_tile *) = bf16_model(k);
    make_small(s.x);
    make_small(s.fresh);
    k.ref->bf16_pack_copy(rows, lda, s.x + 1, K, aa__min(got.mr, 64), K, lda, 1);
    for (size_t mr = 1; mr <= aa__min(got.mr, 64); mr++)
        for (size_t nr = 1; nr <= aa__min(got.nr, ref.nr); nr++)
            for (int form = 0; form < 6; form++) {
                restart(&s);
                k.ref->bf16_pack_rows(panel_ref, ref.nr, s.y + 9, 40, K, nr, ref.nr, 1);
                k.got->bf16_pack_rows(panel_got, got.nr, s.y + 9, 40, K, nr, got.nr, 1);
                aa_tile t = {.mr = mr, .nr = nr, .kc = N_PAIRS, .a = rows, .a_row = lda,
                             .a_k = 1, .b = panel_got, .c = s.b + 7, .ldc = LDC,
                             .from_zero = form & 1, .y = form < 2 ? NULL : s.b + 4001, .ldy = LDC,
                             .scale = AA_R(0.5), .gain = form & 4 ? s.y + 17 : NULL,
                             .bias = form & 2 ? s.y + 3 : NULL,
                             .residual = form & 4 ? s.z + 5 : NULL, .ld_residual = 33};
                k.got->bf16_tile(&t);
                t.b = panel_ref;
                t.c = s.a + 7;
                t.y = t.y ? s.a + 4001 : NULL;
                for (size_t r = 0; r < mr; r++) {
                    aa_tile one = t;
                    one.mr = 1;
                    one.a += r * lda;
                    one.c += r * LDC;
                    if (one.y) one.y += r * LDC;
                    if (one.residual) one.residual += r * 33;
                    model(&one);
                }
                /* With an epilogue c is not written back. */
                same_bits("bf16_tile", s.b, s.a, SPACE);
            }
    aa_heap_free(rows);
    end(&s);
}

static void check_bf16_pack_rows(pair k) {
    space s = begin();
    make_small(s.x);
    EACH_SIZE(n)
        for (size_t n_rows = 6; n_rows < 8; n_rows++) {
            restart(&s);
            k.ref->bf16_pack_rows(s.a + 1, n + 5, s.x + 1, n + 2, n_rows, n, n + 5, AA_R(0.7));
            k.got->bf16_pack_rows(s.b + 1, n + 5, s.x + 1, n + 2, n_rows, n, n + 5, AA_R(0.7));
            same_bits("bf16_pack_rows", s.b, s.a, SPACE);
        }
    end(&s);
}

static void check_bf16_pack_copy(pair k) {
    space s = begin();
    make_small(s.x);
    EACH_SIZE(n) {
        size_t width = (n + 1) / 2 + 3;
        restart(&s);
        k.ref->bf16_pack_copy(s.a + 1, width + 2, s.x + 1, n + 1, 7, n, width, AA_R(0.7));
        k.got->bf16_pack_copy(s.b + 1, width + 2, s.x + 1, n + 1, 7, n, width, AA_R(0.7));
        same_bits("bf16_pack_copy", s.b, s.a, SPACE);
    }
    end(&s);
}

static void check_bf16_pack_transposed(pair k) {
    space s = begin();
    make_small(s.x);
    EACH_SIZE(n)
        for (size_t n_rows = 1; n_rows <= MAX_ROWS - 2; n_rows += 3) {
            restart(&s);
            k.ref->bf16_pack_transposed(s.a + 1, MAX_ROWS, s.x + 1, n + 1, n_rows, n, n_rows + 2,
                                        AA_R(0.7));
            k.got->bf16_pack_transposed(s.b + 1, MAX_ROWS, s.x + 1, n + 1, n_rows, n, n_rows + 2,
                                        AA_R(0.7));
            same_bits("bf16_pack_transposed", s.b, s.a, SPACE);
        }
    end(&s);
}

static void check_bf16_pack_columns(pair k) {
    space s = begin();
    make_small(s.x);
    EACH_SIZE(n)
        for (size_t n_rows = 1; n_rows <= MAX_ROWS - 2; n_rows += 3) {
            size_t width = (n_rows + 1) / 2 + 3;
            restart(&s);
            k.ref->bf16_pack_columns(s.a + 1, width + 2, s.x + 1, n + 1, n_rows, n, width,
                                     AA_R(0.7));
            k.got->bf16_pack_columns(s.b + 1, width + 2, s.x + 1, n + 1, n_rows, n, width,
                                     AA_R(0.7));
            same_bits("bf16_pack_columns", s.b, s.a, SPACE);
        }
    end(&s);
}

static void check_dot_rows(pair k) {
    space s = begin();
    EACH_SIZE(n) {
        restart(&s);
        k.ref->dot_rows(s.a + 1, s.y + 1, s.x + 1, n + 1, 9, n);
        k.got->dot_rows(s.b + 1, s.y + 1, s.x + 1, n + 1, 9, n);
        compare("dot_rows", &s, 0, (double)n * REAL_EPS * (double)n);
    }
    end(&s);
}

static void check_sum_rows(pair k) {
    space s = begin();
    EACH_SIZE(n)
        for (size_t step = 0; step < 3; step++) {
            restart(&s);
            k.ref->sum_rows(s.a + 1, s.y + 1, step, s.x + 1, n + 1, 9, n);
            k.got->sum_rows(s.b + 1, s.y + 1, step, s.x + 1, n + 1, 9, n);
            compare("sum_rows", &s, 0, 10 * REAL_EPS * 60);
        }
    end(&s);
}

static void check_rmsnorm_rows(pair k) {
    space s = begin();
    EACH_SIZE(n) {
        restart(&s);
        aa_real r[2][4];
        k.ref->rmsnorm_rows(s.a + 1, n + 1, r[0], s.x + 1, n + 2, s.y + 1, 4, n, AA_R(1e-5));
        k.got->rmsnorm_rows(s.b + 1, n + 1, r[1], s.x + 1, n + 2, s.y + 1, 4, n, AA_R(1e-5));
        compare("rmsnorm_rows", &s, (4 + (double)n) * REAL_EPS, 0);
        near_real("rstd", r[1], r[0], 4, (2 + (double)n) * REAL_EPS, 0);
        k.got->rmsnorm_rows(s.b + 1, n + 1, NULL, s.x + 1, n + 2, s.y + 1, 4, n, AA_R(1e-5));
    }
    end(&s);
}

static void check_rmsnorm_dx_rows(pair k) {
    space s = begin();
    const aa_real rstd[4] = {AA_R(0.5), 1, AA_R(1.5), 2};
    EACH_SIZE(n)
        for (int accumulate = 0; accumulate < 2; accumulate++) {
            restart(&s);
            k.ref->rmsnorm_dx_rows(s.a + 1, n + 1, s.x + 1, n + 2, s.y + 1, n, s.z + 1, rstd, 4, n,
                                   accumulate);
            k.got->rmsnorm_dx_rows(s.b + 1, n + 1, s.x + 1, n + 2, s.y + 1, n, s.z + 1, rstd, 4, n,
                                   accumulate);
            compare("rmsnorm_dx_rows", &s, 0, ((double)n + 20) * REAL_EPS * 40);
        }
    end(&s);
}

static void check_rmsnorm_dw(pair k) {
    space s = begin();
    EACH_SIZE(n)
        for (size_t step = 1; step < 3; step++) {
            restart(&s);
            k.ref->rmsnorm_dw(s.a + 1, s.x + 1, n + 2, s.y + 1, n, s.z + 1, step, 6, n);
            k.got->rmsnorm_dw(s.b + 1, s.x + 1, n + 2, s.y + 1, n, s.z + 1, step, 6, n);
            compare("rmsnorm_dw", &s, 0, 8 * REAL_EPS * 60);
        }
    end(&s);
}

static void check_magnitude_row(pair k) {
    space s = begin();
    EACH_SIZE(n)
        for (int form = 0; form < 4; form++) {
            const aa_magnitude_row m = {s.x + 2, s.y + 3, s.z + 4};
            const aa_real *residual = form & 1 ? s.fresh + 5 : NULL;
            if (2 * n + 2 > SPACE) continue;
            restart(&s);
            for (int got = 0; got < 2; got++) {
                aa_real *out = got ? s.b : s.a, *du = out + n + 2;
                (got ? k.got : k.ref)->magnitude_row(out + 1, du, form & 2 ? du : s.z + 1, s.x + 1,
                                                     residual, &m, n);
            }
            compare("magnitude_row", &s, 0, 8 * REAL_EPS * 8);
        }
    end(&s);
}

static void check_rope_row(pair k) {
    space s = begin();
    EACH_SIZE(n) {
        if (2 * n * 3 > SPACE) continue;
        restart(&s);
        aa_real sign = n % 2 ? -1 : 1;
        k.ref->rope_row(s.a + 1, 3, 2 * n, s.x + 1, s.y + 1, sign);
        k.got->rope_row(s.b + 1, 3, 2 * n, s.x + 1, s.y + 1, sign);
        compare("rope_row", &s, 0, 4 * REAL_EPS * 20);
    }
    end(&s);
}

static void check_softmax_tile(pair k) {
    enum { ROWS = 9, D = 21 };
    space s = begin();
    EACH_SIZE(n)
        for (ptrdiff_t first = -3; first <= (ptrdiff_t)n + 2; first += n < 20 ? 1 : 13) {
            restart(&s);
            for (int which = 0; which < 2; which++) {
                aa_real *out = which ? s.b : s.a, *m = out + SPACE - 40, *l = out + SPACE - 20;
                for (size_t r = 0; r < ROWS; r++) {
                    m[r] = r % 3 ? AA_R(0.1) : -INFINITY;
                    l[r] = r % 3 ? 2 : 0;
                    if (r % 3 == 0)
                        memset(out + 1 + 5 + ROWS * (n + 1) + r * D, 0, D * sizeof *out);
                }
                aa_softmax t = {
                    out + 1, n + 1, ROWS, n, first, AA_R(0.3), m, l, out + 6 + ROWS * (n + 1),
                    D,       D};
                (which ? k.got : k.ref)->softmax_tile(&t);
            }
            compare("softmax_tile", &s, (8 + (double)n) * REAL_EPS, 8 * REAL_EPS);
        }
    end(&s);
}

static void check_softmax_grad_tile(pair k) {
    enum { ROWS = 9 };
    space s = begin();
    EACH_SIZE(n) {
        if (2 * ROWS * (n + 1) > SPACE) continue;
        for (ptrdiff_t first = -3; first <= (ptrdiff_t)n + 2; first += n < 20 ? 1 : 13) {
            restart(&s);
            for (int which = 0; which < 2; which++) {
                aa_real *out = which ? s.b : s.a;
                aa_softmax_grad t = {
                    out + 1, out + 1 + ROWS * (n + 1), n + 1, ROWS, n, first, AA_R(0.3), s.x, s.y,
                    2};
                (which ? k.got : k.ref)->softmax_grad_tile(&t);
            }
            compare("softmax_grad_tile", &s, 20 * REAL_EPS, 200 * REAL_EPS);
        }
    }
    end(&s);
}

static void check_swiglu_row(pair k) {
    space s = begin();
    EACH_SIZE(n) {
        restart(&s);
        s.x[1] = 100;
        s.x[n / 2 + 1] = -100;
        k.ref->swiglu_row(s.a + 1, s.x + 1, s.y + 1, n);
        k.got->swiglu_row(s.b + 1, s.x + 1, s.y + 1, n);
        compare("swiglu_row", &s, 10 * REAL_EPS, 1e-40);
    }
    end(&s);
}

static void check_swiglu_grad_row(pair k) {
    space s = begin();
    EACH_SIZE(n) {
        restart(&s);
        memcpy(s.a + 1, s.x, 2 * n * sizeof *s.a);         /* in place: dgate, dup over gate, up */
        memcpy(s.b + 1, s.x, 2 * n * sizeof *s.b);
        k.ref->swiglu_grad_row(s.a + 1, s.a + 1 + n, s.y + 1, s.a + 1, s.a + 1 + n, n);
        k.got->swiglu_grad_row(s.b + 1, s.b + 1 + n, s.y + 1, s.b + 1, s.b + 1 + n, n);
        compare("swiglu_grad_row", &s, 0, 20 * REAL_EPS * 16);
    }
    end(&s);
}

static void check_cross_entropy_row(pair k) {
    space s = begin();
    EACH_SIZE(n)
        for (int gradient = 0; gradient < 2; gradient++) {
            restart(&s);
            aa_real scale = gradient ? AA_R(0.25) : 0;
            aa_real want = k.ref->cross_entropy_row(s.a + 1, n, n / 2, scale);
            aa_real got = k.got->cross_entropy_row(s.b + 1, n, n / 2, scale);
            near_real("loss", &got, &want, 1, 4 * REAL_EPS, ((double)n + 8) * REAL_EPS);
            compare("cross_entropy_row", &s, ((double)n + 8) * REAL_EPS, 2 * REAL_EPS);
        }
    end(&s);
}

static void check_exp_array(pair k) {
    space s = begin();
    EACH_SIZE(n) {
        restart(&s);
        k.ref->exp_array(s.a + 1, s.x + 1, n);
        k.got->exp_array(s.b + 1, s.x + 1, n);
        compare("exp_array", &s, 2 * REAL_EPS, 0);
    }
    end(&s);
}

static void check_sum_squares(pair k) {
    space s = begin();
    EACH_SIZE(n) {
        double want = k.ref->sum_squares(s.x + 1, n), got = k.got->sum_squares(s.x + 1, n);
        if (fabs(got - want) > (double)n * DBL_EPSILON * want)
            fail_msg("sum_squares(%zu): %.17g, want %.17g", n, got, want);
    }
    end(&s);
}

static void check_axpy(pair k) {
    space s = begin();
    EACH_SIZE(n) {
        restart(&s);
        k.ref->axpy(s.a + 1, AA_R(0.3), s.x + 1, n);
        k.got->axpy(s.b + 1, AA_R(0.3), s.x + 1, n);
        compare("axpy", &s, 0, 2 * REAL_EPS * 6);
    }
    end(&s);
}

static void check_scale(pair k) {
    space s = begin();
    EACH_SIZE(n) {
        restart(&s);
        k.ref->scale(s.a + 1, AA_R(0.3), n);
        k.got->scale(s.b + 1, AA_R(0.3), n);
        compare("scale", &s, 0, 0);
    }
    end(&s);
}

static void check_adamw(pair k) {
    space s = begin();
    aa_adamw h = {.lr = AA_R(0.01),
                  .beta1 = AA_R(0.9),
                  .beta2 = AA_R(0.95),
                  .eps = AA_R(1e-8),
                  .decay = AA_R(0.1),
                  .c1 = AA_R(0.19),
                  .c2 = AA_R(0.0975),
                  .grad_scale = AA_R(0.5)};
    EACH_SIZE(n) {
        restart(&s);
        for (int which = 0; which < 2; which++) {
            aa_real *out = which ? s.b : s.a, *v = out + 4 + 3 * n;
            for (size_t i = 0; i < n; i++) v[i] = AA_R(fabs((double)v[i]));
            (which ? k.got : k.ref)->adamw(out + 1, out + 2 + n, out + 3 + 2 * n, v, n, &h);
        }
        compare("adamw", &s, 8 * REAL_EPS, 8 * REAL_EPS);
    }
    end(&s);
}

static void check_sgd(pair k) {
    space s = begin();
    aa_sgd h = {
        .lr = AA_R(0.01), .momentum = AA_R(0.9), .decay = AA_R(0.1), .grad_scale = AA_R(0.5)};
    EACH_SIZE(n)
        for (int momentum = 0; momentum < 2; momentum++) {
            restart(&s);
            k.ref->sgd(s.a + 1, s.a + 2 + n, momentum ? s.a + 3 + 2 * n : NULL, n, &h);
            k.got->sgd(s.b + 1, s.b + 2 + n, momentum ? s.b + 3 + 2 * n : NULL, n, &h);
            compare("sgd", &s, 4 * REAL_EPS, 4 * REAL_EPS);
        }
    end(&s);
}

static void check_peak_probe(pair k) {
    aa_real sink = 0;
    assert_true(k.got->peak_probe(10, &sink) >= 10 * 2 * 10);
    assert_true(isfinite((double)sink));
}

static void check_bf16_peak_probe(pair k) {
    aa_real sink = 0;
    assert_true(k.got->bf16_peak_probe(10, &sink) >= 4 * 10);
    assert_true(isfinite((double)sink));
}

static void check_read_probe(pair k) {
    space s = begin();
    aa_real sum = 0;
    k.got->read_probe(s.x + 1, 128, &sum);
    double want = 0, size = 0;
    for (int i = 1; i <= 128; i++) {
        want += (double)s.x[i];
        size += fabs((double)s.x[i]);
    }
    if (fabs((double)sum - want) > 128 * REAL_EPS * size)
        fail_msg("read_probe: %g, want %g", (double)sum, want);
    end(&s);
}

/* ---- directions: the same bits in every set -------------------------------------------------- */

static void check_philox(pair k) {
    static uint32_t ref[4 * 200 + 1], got[4 * 200 + 1];
    const uint32_t ctr[4] = {0xfffffff0u, 0x01abcdefu, 7, 0xffffffffu},
                   key[2] = {0xdeadbeefu, 0x12345678u};
    for (size_t n = 0; n <= 200; n++) {
        memset(ref, 0, sizeof ref);
        memset(got, 0, sizeof got);
        k.ref->philox(ref, ctr, key, n);
        k.got->philox(got, ctr, key, n);
        assert_memory_equal(ref, got, sizeof ref);
    }
}

static void check_sign_expand(pair k) {
    space s = begin();
    unsigned char bits[256];
    for (size_t i = 0; i < sizeof bits; i++) bits[i] = (unsigned char)(i * 2654435761u >> 9);
    EACH_SIZE(n)
        for (size_t bit = 0; bit < 130; bit += 13)
            for (int form = 0; form < 3; form++) {
                restart(&s);
                for (int which = 0; which < 2; which++) {
                    aa_real *y = (which ? s.b : s.a) + 1;
                    (which ? k.got : k.ref)
                        ->sign_expand(y, form == 0 ? NULL : form == 1 ? s.x + 1 : y, AA_R(0.3),
                                      AA_R(0.7), bits, bit, n);
                }
                same_bits("sign_expand", s.b, s.a, SPACE);
            }
    end(&s);
}

static void check_sign_sum(pair k) {
    enum { STEP = 140 };
    space s = begin();
    unsigned char bits[20 * STEP];
    for (size_t i = 0; i < sizeof bits; i++) bits[i] = (unsigned char)(i * 2654435761u >> 11);
    EACH_SIZE(n)
        for (size_t terms = 0; terms <= 19; terms += terms < 3 ? 1 : 8) {
            restart(&s);
            k.ref->sign_sum(s.a + 1, bits, STEP, s.x + 1, terms, n);
            k.got->sign_sum(s.b + 1, bits, STEP, s.x + 1, terms, n);
            same_bits("sign_sum", s.b, s.a, SPACE);
        }
    end(&s);
}

/* ---- stored weights -------------------------------------------------------------------------- */

enum { FILE_BYTES = 1 << 16 };

/* Bytes as a file might hold them: any, or halves of ordinary size. */
static unsigned char *file_bytes(uint64_t stream, bool bf16) {
    unsigned char *x = aa_heap_alloc(FILE_BYTES, 1);
    aa_real *values = numbers(FILE_BYTES / 2, stream);
    assert_non_null(x);
    for (size_t i = 0; i < FILE_BYTES / 2 - 1; i++) {
        float value = (float)values[i];
        uint16_t half;
        if (bf16) aa_bf16_from_f32(&half, &value, 1);
        else aa_f16_from_f32(&half, &value, 1);
        memcpy(x + 1 + 2 * i, &half, sizeof half);         /* at odd addresses */
    }
    aa_heap_free(values);
    return x;
}

typedef void dot_fn(aa_real *, const aa_real *, size_t, size_t, const unsigned char *, size_t);

static void check_dot(const char *name, dot_fn *ref, dot_fn *got, const unsigned char *x) {
    space s = begin();
    EACH_SIZE(n)
        for (size_t n_q = 1; n_q <= 9; n_q += 2) {
            restart(&s);
            ref(s.a + 1, s.x + 1, n + 3, n_q, x + 1, n);
            got(s.b + 1, s.x + 1, n + 3, n_q, x + 1, n);
            compare(name, &s, 0, (double)n * REAL_EPS * 4 * (double)n);
        }
    end(&s);
}

static void check_dot_f16(pair k) {
    unsigned char *x = file_bytes(11, false);
    check_dot("dot_f16", k.ref->dot_f16, k.got->dot_f16, x);
    aa_heap_free(x);
}

static void check_dot_bf16(pair k) {
    unsigned char *x = file_bytes(12, true);
    check_dot("dot_bf16", k.ref->dot_bf16, k.got->dot_bf16, x);
    aa_heap_free(x);
}

static void check_dot_f32(pair k) {
    unsigned char *x = aa_heap_alloc(FILE_BYTES, 1);
    aa_real *values = numbers(MAX_N, 13);
    for (size_t i = 0; i < MAX_N; i++) memcpy(x + 1 + 4 * i, &(float){(float)values[i]}, 4);
    check_dot("dot_f32", k.ref->dot_f32, k.got->dot_f32, x);
    aa_heap_free(values);
    aa_heap_free(x);
}

/* Every half there is. */
static void check_halves(const char *name, void (*ref)(aa_real *, const unsigned char *, size_t),
                         void (*got)(aa_real *, const unsigned char *, size_t)) {
    space s = begin();
    unsigned char x[2 * 1003 + 1];
    for (size_t first = 0; first < 65536; first += 1003) {
        restart(&s);
        for (size_t i = 0; i < 1003; i++)
            memcpy(x + 1 + 2 * i, &(uint16_t){(uint16_t)(first + i)}, 2);
        ref(s.a + 1, x + 1, 1003);
        got(s.b + 1, x + 1, 1003);
        compare(name, &s, 0, 0);
    }
    end(&s);
}

static void check_from_f16(pair k) { check_halves("from_f16", k.ref->from_f16, k.got->from_f16); }
static void check_from_bf16(pair k) {
    check_halves("from_bf16", k.ref->from_bf16, k.got->from_bf16);
}

static void check_to_f16(pair k) {
    space s = begin();
    uint16_t ref[MAX_N + 1], got[MAX_N + 1];
    s.x[1] = AA_R(70000), s.x[2] = AA_R(-INFINITY), s.x[3] = AA_R(1e-7), s.x[4] = AA_R(65519);
    EACH_SIZE(n) {
        memset(ref, 1, sizeof ref);
        memset(got, 1, sizeof got);
        k.ref->to_f16(ref, s.x + 1, n);
        k.got->to_f16(got, s.x + 1, n);
        assert_memory_equal(ref, got, sizeof ref);
    }
    end(&s);
}

enum { INT_N = 4 * AA_INT8_DEPTH, INT_GROUPS = INT_N / 16 };
typedef struct int_rows {
    int8_t q[6][INT_N + 64];
    aa_real d[6][INT_GROUPS], s[6][INT_GROUPS];
    int32_t sum[6][INT_GROUPS];
} int_rows;

static aa_int8_row view(int_rows *x, size_t r) {
    return (aa_int8_row){x->q[r], x->d[r], x->s[r], x->sum[r]};
}

/* Equal in bits, but for d and s of groups with what is no number. */
static void check_int8_quantize(pair k) {
    space s = begin();
    int_rows *ref = aa_heap_alloc(1, sizeof *ref), *got = aa_heap_alloc(1, sizeof *got);
    aa_int8_row ref_row = view(ref, 1), got_row = view(got, 1);
    for (int i = 33; i < 64; i++) s.x[i + 1] = 0;
    for (int i = 64; i < 96; i++) s.x[i + 1] *= AA_R(1e-35);
    for (size_t group = 16; group <= 32; group *= 2)
        for (size_t n = group; n <= INT_N; n *= 2) {
            k.ref->int8_quantize(&ref_row, s.x + 1, n, group);
            k.got->int8_quantize(&got_row, s.x + 1, n, group);
            assert_memory_equal(ref, got, sizeof *ref);
        }
    for (int bad = 0; bad < 2; bad++) {
        s.x[20] = bad ? AA_R(INFINITY) : AA_R(NAN);
        k.got->int8_quantize(&got_row, s.x + 1, 64, 32);
        assert_true(!isfinite((double)got_row.d[0]) && isfinite((double)got_row.d[1]));
    }
    aa_heap_free(ref);
    aa_heap_free(got);
    end(&s);
}

typedef struct apart { int8_t q[3][AA_INT8_DEPTH + 8]; aa_real d[3][17], m[3][17]; } apart;

static void check_int8_unpack(pair k) {
    unsigned char *x = aa_heap_alloc(FILE_BYTES, 1);
    aa_rng rng;
    aa_rng_init(&rng, 1, AA_RNG_TEST, 0);
    for (size_t i = 0; i < FILE_BYTES; i++) x[i] = (unsigned char)aa_rng_below(&rng, 256);
    for (int t = 0; t < AA_TYPE_COUNT; t++) {
        aa_type type = (aa_type)t;
        if (!aa__type_group(type)) continue;
        for (size_t n = aa_type_block(type); n <= AA_INT8_DEPTH; n += aa_type_block(type)) {
            apart ref, got;
            memset(&ref, 0, sizeof ref);
            memset(&got, 0, sizeof got);
            for (int which = 0; which < 2; which++) {
                apart *a = which ? &got : &ref;
                aa_int8_unpack u = {.type = type, .x = x + 1, .step = aa_type_bytes(type, n) + 5,
                                    .n_rows = 3, .n = n, .ahead = 64, .q = a->q[0],
                                    .ldq = sizeof a->q[0], .d = a->d[0], .ld = 17,
                                    .m = aa__type_has_min(type) ? a->m[0] : NULL};
                (which ? k.got : k.ref)->int8_unpack(&u);
            }
            assert_memory_equal(ref.q, got.q, sizeof ref.q);
            near_real("int8_unpack d", got.d[0], ref.d[0], 51, 0, 0);
            near_real("int8_unpack m", got.m[0], ref.m[0], 51, 0, 0);
        }
    }
    aa_heap_free(x);
}

static void check_int8_shape(pair k) {
    aa_gemm_shape s = k.got->int8_shape();
    assert_true(s.mr > 0 && s.mr <= 6 && s.nr > 0 && 32 % s.nr == 0);
}

/* Packing has a form of its own in each set: what it is good for shows in the tile. */
static void check_int8_pack(pair k) { assert_true(k.got->int8_pack && k.got->int8_tile); }

/* A panel of one set: w rows of n bytes, scales of columns. */
typedef struct int_panel {
    int8_t b[32 * INT_N];
    aa_real d[32 * INT_GROUPS], m[32 * INT_GROUPS];
} int_panel;

static void fill_panel(const aa_kernels *k, int_panel *p, const int8_t *w, const aa_real *scales,
                       size_t n_rows, size_t n, size_t groups) {
    size_t nr = k->int8_shape().nr;
    k->int8_pack(p->b, w, INT_N + 64, n_rows, n);
    k->pack_transposed(p->d, nr, scales, groups, n_rows, groups, nr, 1);
    k->pack_transposed(p->m, nr, scales + 7, groups, n_rows, groups, nr, 1);
}

static void check_int8_tile_at(pair k, space *s, const int8_t *w, size_t n, size_t group,
                               int form) {
    int_panel *ref = aa_heap_alloc(1, sizeof *ref), *got = aa_heap_alloc(1, sizeof *got);
    int_rows *a = aa_heap_alloc(1, sizeof *a);
    size_t mr_max = k.got->int8_shape().mr, groups = n / group,
           nr_max = aa__min(k.got->int8_shape().nr, k.ref->int8_shape().nr);
    for (size_t r = 0; r < mr_max; r++) {
        aa_int8_row row = view(a, r);
        k.ref->int8_quantize(&row, s->x + 1 + r * 1100, n, group);
        if (form == 0) memset(row.q, r % 2 ? -127 : 127, n); /* the largest sums */
        for (size_t g = 0; form == 0 && g < groups; g++)
            row.sum[g] = (r % 2 ? -127 : 127) * (int32_t)group;
    }
    for (size_t mr = 1; mr <= mr_max; mr++)
        for (size_t nr = 1; nr <= nr_max; nr += form == 1 ? 1 : 3) {
            restart(s);
            fill_panel(k.ref, ref, w, s->y, nr, n, groups);
            fill_panel(k.got, got, w, s->y, nr, n, groups);
            aa_int8_tile t = {.t = {.mr = mr, .nr = nr, .ldc = 70, .from_zero = form & 1,
                                    .ldy = 70, .scale = AA_R(0.7),
                                    .gain = form & 2 ? s->y + 17 : NULL,
                                    .bias = form & 2 ? s->y + 3 : NULL,
                                    .residual = form & 2 ? s->z + 5 : NULL, .ld_residual = 33},
                              .group = group, .n_groups = groups,
                              .lda = INT_N + 64, .ld = INT_GROUPS};
            for (size_t r = 0; r < mr; r++) {
                aa_int8_tile one = t;
                one.t.mr = 1;
                one.a = view(a, r);
                one.b = ref->b, one.b_d = ref->d, one.b_m = form & 2 ? ref->m : NULL;
                one.t.c = s->a + 1 + r * 70;
                one.t.y = form & 2 ? s->a + 5001 + r * 70 : NULL;
                if (one.t.residual) one.t.residual += r * 33;
                k.ref->int8_tile(&one);
            }
            t.a = view(a, 0);
            t.b = got->b, t.b_d = got->d, t.b_m = form & 2 ? got->m : NULL;
            t.t.c = s->b + 1;
            t.t.y = form & 2 ? s->b + 5001 : NULL;
            k.got->int8_tile(&t);
            compare("int8_tile", s, 0, 0);
        }
    aa_heap_free(ref);
    aa_heap_free(got);
    aa_heap_free(a);
}

/* The same bits in every set. */
static void check_int8_tile(pair k) {
    space s = begin();
    int8_t *w = aa_heap_alloc(32, INT_N + 64);
    for (size_t i = 0; i < 32 * (INT_N + 64); i++) w[i] = (int8_t)(i * 2654435761u >> 24);
    w[0] = -128, w[5] = 127;
    for (int form = 0; form < 4; form++)
        for (size_t n = 32; n <= 96; n += 32) {
            check_int8_tile_at(k, &s, w, n, 16, form);
            check_int8_tile_at(k, &s, w, n, 32, form);
        }
    memset(w, -128, 32 * (INT_N + 64));
    check_int8_tile_at(k, &s, w, 64, 32, 0);
    aa_heap_free(w);
    end(&s);
}

/* The tile's bits, from the same rows taken apart. */
static void check_int8_dot_of(pair k, aa_type type, unsigned char *x, size_t n, space *s) {
    const size_t step = aa_type_bytes(type, n) + 6, group = aa__type_group(type), nr = 8;
    int_rows *a = aa_heap_alloc(1, sizeof *a);
    int_panel *p = aa_heap_alloc(1, sizeof *p);
    apart w;
    aa_real want[16], got[16];
    aa_int8_row row = view(a, 0);
    for (size_t r = 0; r < 16; r++)       /* scales that are numbers */
        for (size_t at = 0; at < step; at++) x[r * step + at] &= at % 2 ? 0xbf : 0xff;
    k.ref->int8_quantize(&row, s->x + 1, n, group);
    for (size_t r = 0; r < 16; r++) want[r] = got[r] = s->y[r];
    aa_int8_dot t = {.type = type, .x = x, .step = step, .n = n, .fetch = x, .a = row, .y = got};
    if (k.got->int8_dot(&t)) {
        const bool min = aa__type_has_min(type);
        for (size_t r = 0; r < 16; r++) {
            memset(p, 0, sizeof *p);
            k.ref->int8_unpack(&(aa_int8_unpack){.type = type, .x = x + r * step, .n_rows = 1,
                                                 .n = n, .q = w.q[0], .d = w.d[0], .m = w.m[0]});
            k.ref->int8_pack(p->b, w.q[0], sizeof w.q[0], 1, n);
            for (size_t g = 0; g < n / group; g++) {
                p->d[g * nr] = w.d[0][g];
                p->m[g * nr] = min ? w.m[0][g] : 0;
            }
            k.ref->int8_tile(&(aa_int8_tile){.t = {.mr = 1, .nr = 1, .c = want + r}, .group = group,
                                             .n_groups = n / group, .a = row, .b = p->b,
                                             .b_d = p->d, .b_m = min ? p->m : NULL});
        }
    }
    same_bits("int8_dot", got, want, 16);
    aa_heap_free(a);
    aa_heap_free(p);
}

static void check_int8_dot(pair k) {
    space s = begin();
    unsigned char *x = aa_heap_alloc(FILE_BYTES, 1);
    aa_rng rng;
    aa_rng_init(&rng, 2, AA_RNG_TEST, 0);
    for (size_t i = 0; i < FILE_BYTES; i++) x[i] = (unsigned char)aa_rng_below(&rng, 256);
    for (int t = 0; t < AA_TYPE_COUNT; t++)
        for (size_t n = 32; n <= AA_INT8_DEPTH && aa__type_group((aa_type)t); n += 32)
            if (n % aa_type_block((aa_type)t) == 0)
                check_int8_dot_of(k, (aa_type)t, x + 1, n, &s);
    aa_heap_free(x);
    end(&s);
}

/* ---- the walk -------------------------------------------------------------------------------- */

typedef struct row { const char *op; aa_isa isa; void (*check)(pair); } row;
#define scalar_ISA AA_ISA_SCALAR
#define neon_ISA AA_ISA_NEON
#define avx2_ISA AA_ISA_AVX2
#define avx512_ISA AA_ISA_AVX512
#define avx512bf16_ISA AA_ISA_AVX512 /* or the scalar row, where there is no such set */
#define avx512vnni_ISA AA_ISA_AVX512
#define amx_ISA AA_ISA_AMX
#define neonbf16_ISA AA_ISA_NEON
static const row all_rows[] = {
#define KERNEL(op, type, parameters, isa) {#op, isa##_ISA, check_##op},
#include "num/kernels.def"
};

static void test_all(void **state) {
    (void)state;
    aa_kernels ref;
    size_t n_run = 0;
    aa__kernels_choose(&ref, AA_ISA_SCALAR);
    for (size_t i = 0; i < sizeof all_rows / sizeof *all_rows; i++) {
        if (!aa_isa_available(all_rows[i].isa)) {
            print_message("skipped: %s on %s, not on this processor\n", all_rows[i].op,
                          aa_isa_name(all_rows[i].isa));
            continue;
        }
        aa_kernels got;
        aa__kernels_choose(&got, all_rows[i].isa);
        all_rows[i].check((pair){&ref, &got});
        n_run++;
    }
    assert_true(n_run >= 20);
}

/* Vector exp: within 2 ulp of the true value wherever
 * that is a normal float, and right at the edges. */
static void test_exp(void **state) {
    (void)state;
    EACH_ISA(isa) {
        aa_kernels k;
        aa__kernels_choose(&k, isa);
        double worst = 0;
        for (int block = 0; block < 1750; block++) {
            aa_real x[101], y[101];
            for (int i = 0; i < 101; i++) x[i] = AA_R(-87.3 + 0.1 * block + 0.00099 * i);
            k.exp_array(y, x, 101);
            for (int i = 0; i < 101; i++) {
                if (x[i] > AA_R(88.6)) continue;
                double want = exp((double)x[i]), off = fabs((double)y[i] - want) / want / REAL_EPS;
                if (off > worst) worst = off;
            }
        }
        print_message("exp on %s: worst error %.2f eps\n", aa_isa_name(isa), worst);
        assert_true(worst <= 2);
        aa_real x[8] = {-INFINITY, INFINITY, NAN, -1000, 1000, 0, -0.0f, AA_R(-103)}, y[8];
        k.exp_array(y, x, 8);
        assert_true(y[0] == 0 && isinf((double)y[1]) && isnan((double)y[2]) && y[5] == 1 &&
                    y[6] == 1);
        if (sizeof(aa_real) == 4) assert_true(y[3] == 0 && isinf((double)y[4]));
        assert_true((double)y[7] < 1e-44 && y[7] >= 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_all), cmocka_unit_test(test_exp)};
    return cmocka_run_group_tests_name("kernels_table", tests, NULL, NULL);
}
