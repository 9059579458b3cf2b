/* num/orthogonal: the nearest matrix with orthonormal rows (or columns), by products alone.
 *
 * For X = U S V^T this is U V^T. Newton-Schulz raises all singular values towards 1 by an odd
 * polynomial, X <- (a I + b G + c G^2) X with G = X X^T. The coefficients are those of Jordan et
 * al. 2024 ("Muon"): steep at 0, so that few steps suffice, at the price of values that end
 * anywhere in about 0.7 .. 1.2, which training does not mind. Three steps bring those above |X|/30
 * there, five those above |X|/300.
 *
 * Everything but the last product happens on the short side m of X. With P_k = a I + b G_k + c
 * G_k^2, the Gram matrices follow G_(k+1) = P_k G_k P_k, and the result is (P_last ... P_0) X:
 * all of them are polynomials in G_0, so they are symmetric and commute. Half of each is
 * computed, by blocks of rows from the left edge to the diagonal, and mirrored.
 *
 *     multiply-adds, m x n, 5 steps, halves at 1/2     plain  15 m^2 n + 5 m^3
 *                                                      Gram    3 m^2 n + 17 m^3 / 2
 *
 * Rounding leaves G_0 with eigenvalues down to -eps where X has none, and each step multiplies
 * those by up to a^2 = 12: hence AA_ORTHOGONAL_MAX_STEPS.
 */
#include <math.h>
#include "num/num_int.h"

enum { BLOCK = 64 };                      /* rows of a half product, side of a mirrored square */
static const double A = 3.4445, B = -4.7750, C = 2.0315;

/* c[n,n] = (accumulate ? c : 0) + scale op(a) b, known to be symmetric. a is [n,K], or [K,n] when
 * transposed; b is [K,n], or [n,K] when transposed. */
typedef struct half_product {
    aa_cpu *cpu;
    aa_real *c;
    const aa_real *a, *b;
    size_t lda, ldb, n, K;
    bool transpose_a, transpose_b, accumulate;
    aa_real scale;
} half_product;

static size_t block_end(const half_product *h, size_t begin) {
    return aa__min(begin + BLOCK, h->n);
}

static void mirror_blocks(void *ctx, size_t begin, size_t end, int thread) {
    const half_product *h = ctx;
    (void)thread;
    for (size_t i = begin; i < end; i++) {
        size_t row = i * BLOCK, next = block_end(h, row), rest = h->n - next;
        if (rest)
            h->cpu->k.pack_transposed(h->c + row * h->n + next, h->n, h->c + next * h->n + row,
                                      h->n, rest, next - row, rest, 1);
    }
}

static void multiply(half_product h) {
    for (size_t row = 0; row < h.n; row += BLOCK) {
        size_t end = block_end(&h, row);
        aa__product(h.cpu, h.c + row * h.n, h.n, h.a + (h.transpose_a ? row : row * h.lda),
                    h.lda, h.transpose_a, h.b, h.ldb, h.transpose_b, h.scale, end - row, end,
                    h.K, h.accumulate);
    }
    aa_pool_run(h.cpu->pool, aa__ceil_div(h.n, BLOCK), mirror_blocks, &h);
}

static double half_flop(size_t n, size_t K) {
    double sum = 0;
    for (size_t row = 0; row < n; row += BLOCK) {
        size_t end = aa__min(row + BLOCK, n);
        sum += 2.0 * (double)(end - row) * (double)end * (double)K;
    }
    return sum;
}

/* out = x y for symmetric matrices that commute. */
static void multiply_square(aa_cpu *cpu, aa_real *out, const aa_real *x, const aa_real *y,
                            size_t m) {
    multiply((half_product){.cpu = cpu, .c = out, .a = x, .b = y, .lda = m, .ldb = m, .n = m,
                             .K = m, .scale = 1});
}

/* p = a I + b g + c g g */
static void polynomial(aa_cpu *cpu, aa_real *p, const aa_real *g, size_t m) {
    for (size_t i = 0; i < m * m; i++) p[i] = AA_R(B) * g[i];
    for (size_t i = 0; i < m; i++) p[i * m + i] += AA_R(A);
    multiply((half_product){.cpu = cpu, .c = p, .a = g, .b = g, .lda = m, .ldb = m, .n = m, .K = m,
                             .scale = AA_R(C), .accumulate = true});
}

static void swap(aa_real **x, aa_real **y) {
    aa_real *t = *x;
    *x = *y;
    *y = t;
}

size_t aa_orthogonal_scratch(size_t rows, size_t cols) {
    size_t m = aa__min(rows, cols);
    return 4 * m * m;
}

double aa_orthogonal_flop(size_t rows, size_t cols, int steps) {
    size_t m = aa__min(rows, cols), n = rows * cols / m;
    double squares = 4.0 * steps - 3;     /* all steps 4, but the first has no Q, the last no G */
    return half_flop(m, n) + squares * half_flop(m, m) +
           2.0 * (double)m * (double)m * (double)n;
}

void aa_orthogonalize(aa_cpu *cpu, aa_real *y, aa_real *x, size_t rows, size_t cols, int steps,
                      aa_real *scratch) {
    bool wide = rows <= cols;
    size_t m = wide ? rows : cols, size = rows * cols;
    aa_real *g = scratch, *p = g + m * m, *q = p + m * m, *t = q + m * m;
    double norm = sqrt(aa_sum_squares(cpu, x, size));
    aa_assert(steps >= 1 && steps <= AA_ORTHOGONAL_MAX_STEPS);
    if (!(norm > 1e-30)) {                /* nothing has a direction */
        aa_zero(cpu, y, size);
        return;
    }
    aa_scale(cpu, x, (aa_real)(1 / norm), size);
    double start = aa__begin(cpu);
    multiply((half_product){.cpu = cpu, .c = g, .a = x, .b = x, .lda = cols, .ldb = cols, .n = m,
                             .K = size / m, .transpose_a = !wide, .transpose_b = wide, .scale = 1});
    for (int k = 0; k < steps; k++) {
        polynomial(cpu, p, g, m);
        if (k) {
            multiply_square(cpu, t, p, q, m);
            swap(&q, &t);
        }
        if (k + 1 < steps) {
            multiply_square(cpu, t, p, g, m);
            multiply_square(cpu, g, t, p, m);
        }
        if (!k) swap(&q, &p);
    }
    if (wide) aa__product(cpu, y, cols, q, m, false, x, cols, false, 1, rows, cols, m, false);
    else aa__product(cpu, y, cols, x, cols, false, q, m, false, 1, rows, cols, m, false);
    aa__end(cpu, AA_PROF_ORTHOGONAL, start, aa_orthogonal_flop(rows, cols, steps),
            (double)sizeof(aa_real) * (2.0 * (double)size + 4.0 * (double)(m * m)));
}
