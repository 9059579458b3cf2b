/* Matrix products, reference: one multiply-add chain per output element, ascending k. */
#include "num/num_int.h"

enum { MR = 4, NR = 8 };

aa_gemm_shape aa_gemm_shape__scalar(void) {
    return (aa_gemm_shape){.mr = MR, .nr = NR, .kc = 256, .mc = 64, .nc = 128, .unit = 1};
}

void aa__tile_finish(const aa_tile *t, size_t r, const aa_real *acc) {
    for (size_t j = 0; j < t->nr; j++) {
        aa_real v = acc[j];
        if (!t->y) {
            t->c[r * t->ldc + j] = v;
            continue;
        }
        if (t->gain) v *= t->gain[j];
        if (t->bias) v += t->bias[j];
        v *= t->scale;
        if (t->residual) v += t->residual[r * t->ld_residual + j];
        t->y[r * t->ldy + j] = v;
    }
}

void aa_gemm_tile__scalar(const aa_tile *t) {
    for (size_t r = 0; r < t->mr; r++) {
        aa_real acc[NR] = {0};
        if (!t->from_zero)
            for (size_t j = 0; j < t->nr; j++) acc[j] = t->c[r * t->ldc + j];
        const aa_real *a = t->a + r * t->a_row, *b = t->b;
        for (size_t k = 0; k < t->kc; k++, a += t->a_k, b += NR)
            for (size_t j = 0; j < NR; j++) acc[j] += *a * b[j];
        aa__tile_finish(t, r, acc);
    }
}

void aa_pack_rows__scalar(aa_real *y, size_t ldy, const aa_real *x, size_t ldx, size_t n_rows,
                          size_t n, size_t width, aa_real scale) {
    for (size_t i = 0; i < n_rows; i++)
        for (size_t j = 0; j < width; j++) y[i * ldy + j] = j < n ? scale * x[i * ldx + j] : 0;
}

void aa_pack_transposed__scalar(aa_real *y, size_t ldy, const aa_real *x, size_t ldx, size_t n_rows,
                                size_t n, size_t width, aa_real scale) {
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < width; j++) y[i * ldy + j] = j < n_rows ? scale * x[j * ldx + i] : 0;
}

void aa_dot_rows__scalar(aa_real *s, const aa_real *q, const aa_real *x, size_t ldx, size_t n_rows,
                         size_t n) {
    for (size_t i = 0; i < n_rows; i++) {
        aa_real sum = 0;
        for (size_t j = 0; j < n; j++) sum += q[j] * x[i * ldx + j];
        s[i] = sum;
    }
}

void aa_sum_rows__scalar(aa_real *y, const aa_real *p, size_t p_step, const aa_real *x, size_t ldx,
                         size_t n_rows, size_t n) {
    for (size_t i = 0; i < n_rows; i++)
        for (size_t j = 0; j < n; j++) y[j] += p[i * p_step] * x[i * ldx + j];
}
