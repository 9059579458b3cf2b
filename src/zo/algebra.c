/* zo/algebra: the little linear algebra that bases and msign need, in an order that never changes.
 *
 * num has faster products, but theirs are chains of fused multiply-adds in some instruction sets
 * and not in others; what is computed here ends up in weights that a ledger must bring back on any
 * machine. So sums are in double, ascending, and a thread computes whole elements.
 */
#include <math.h>
#include <string.h>
#include "zo/zo_int.h"

typedef struct product {
    aa_real *c;
    const aa_real *a, *b;
    size_t n, k;
    bool transpose_b;
} product;

static void product_rows(void *ctx, size_t begin, size_t end, int thread) {
    enum { WIDTH = 256 };
    const product *p = ctx;
    (void)thread;
    for (size_t i = begin; i < end; i++) {
        const aa_real *a = p->a + i * p->k;
        for (size_t j0 = 0; j0 < p->n; j0 += WIDTH) {
            size_t n = p->n - j0 < WIDTH ? p->n - j0 : WIDTH;
            double sum[WIDTH] = {0};
            if (p->transpose_b)
                for (size_t j = 0; j < n; j++) {
                    const aa_real *b = p->b + (j0 + j) * p->k;
                    for (size_t k = 0; k < p->k; k++) sum[j] += (double)a[k] * (double)b[k];
                }
            else
                for (size_t k = 0; k < p->k; k++) {
                    const double ak = (double)a[k];
                    const aa_real *b = p->b + k * p->n + j0;
                    for (size_t j = 0; j < n; j++) sum[j] += ak * (double)b[j];
                }
            for (size_t j = 0; j < n; j++) p->c[i * p->n + j0 + j] = (aa_real)sum[j];
        }
    }
}

void aa__zo_product(aa_cpu *cpu, aa_real *c, const aa_real *a, const aa_real *b, size_t m, size_t n,
                    size_t k, bool transpose_b) {
    product p = {c, a, b, n, k, transpose_b};
    if (m) aa_pool_run(aa_cpu_pool(cpu), m, product_rows, &p);
}

void aa__zo_transpose(aa_real *y, const aa_real *x, size_t rows, size_t cols) {
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < cols; j++) y[j * rows + i] = x[i * cols + j];
}

static double dot(const aa_real *x, const aa_real *y, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)x[i] * (double)y[i];
    return sum;
}

void aa_zo_orthonormalize(aa_real *y, size_t rank, size_t n) {
    for (size_t r = 0; r < rank; r++) {
        aa_real *yr = y + r * n;
        const double before = sqrt(dot(yr, yr, n));
        for (int pass = 0; pass < 2; pass++)
            for (size_t q = 0; q < r; q++) {
                const aa_real *yq = y + q * n;
                const double along = dot(yr, yq, n);
                for (size_t i = 0; i < n; i++)
                    yr[i] = (aa_real)((double)yr[i] - along * (double)yq[i]);
            }
        const double norm = sqrt(dot(yr, yr, n));
        /* What is left of a dependent row is rounding. */
        const double by = isfinite(norm) && norm > 1e-5 * before ? 1 / norm : 0;
        for (size_t i = 0; i < n; i++) yr[i] = by > 0 ? (aa_real)(by * (double)yr[i]) : 0;
    }
}

/* ---- msign ----------------------------------------------------------------------------------- */

size_t aa__zo_msign_scratch(size_t rows, size_t cols) { return 3 * rows * rows + rows * cols; }

/* x [rows,cols], rows <= cols, becomes about U V^T of its x = U S V^T: five steps of Newton-Schulz
 * (coefficients of Jordan et al. 2024) on x / |x|: x <- (a + b G + c G^2) x, G = x x^T. */
void aa__zo_msign(aa_cpu *cpu, aa_real *x, size_t rows, size_t cols, aa_real *scratch) {
    const double a = 3.4445, b = -4.7750, c = 2.0315;
    const size_t n = rows * cols, m = rows * rows;
    aa_real *gram = scratch, *square = gram + m, *p = square + m, *y = p + m;
    const double norm = sqrt(dot(x, x, n));
    if (!(norm > 0)) return;
    for (size_t i = 0; i < n; i++) x[i] = (aa_real)((double)x[i] / norm);
    for (int step = 0; step < 5; step++) {
        aa__zo_product(cpu, gram, x, x, rows, rows, cols, true);
        aa__zo_product(cpu, square, gram, gram, rows, rows, rows, false);
        for (size_t i = 0; i < m; i++)
            p[i] = (aa_real)((i % (rows + 1) ? 0 : a) + b * (double)gram[i] +
                             c * (double)square[i]);
        aa__zo_product(cpu, y, p, x, rows, cols, rows, false);
        memcpy(x, y, n * sizeof *x);
    }
}
