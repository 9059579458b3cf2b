/* Arrays and probes, reference. */
#include <math.h>
#include "num/num_int.h"

void aa_exp_array__scalar(aa_real *y, const aa_real *x, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] = aa__exp(x[i]);
}

double aa_sum_squares__scalar(const aa_real *x, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)x[i] * (double)x[i];
    return sum;
}

void aa_axpy__scalar(aa_real *y, aa_real a, const aa_real *x, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] += a * x[i];
}

void aa_scale__scalar(aa_real *x, aa_real a, size_t n) {
    for (size_t i = 0; i < n; i++) x[i] *= a;
}

void aa_adamw__scalar(aa_real *w, aa_real *grad, aa_real *m, aa_real *v, size_t n,
                      const aa_adamw *h) {
    for (size_t i = 0; i < n; i++) {
        aa_real g = grad[i] * h->grad_scale;
        m[i] = h->beta1 * m[i] + (1 - h->beta1) * g;
        v[i] = h->beta2 * v[i] + (1 - h->beta2) * g * g;
        w[i] -= h->lr * (m[i] / h->c1 / (aa__sqrt(v[i] / h->c2) + h->eps) + h->decay * w[i]);
        grad[i] = 0;
    }
}

void aa_sgd__scalar(aa_real *w, aa_real *grad, aa_real *mom, size_t n, const aa_sgd *h) {
    for (size_t i = 0; i < n; i++) {
        aa_real g = grad[i] * h->grad_scale;
        if (mom) g = mom[i] = h->momentum * mom[i] + g;
        w[i] -= h->lr * (g + h->decay * w[i]);
        grad[i] = 0;
    }
}

/* Sixteen independent multiply-add chains; returns the FLOP done. */
double aa_peak_probe__scalar(size_t n_rounds, aa_real *sink) {
    enum { CHAINS = 16 };
    aa_real acc[CHAINS] = {0}, a = AA_R(0.999), b = AA_R(0.001), sum = 0;
    for (size_t i = 0; i < n_rounds; i++)
        for (int c = 0; c < CHAINS; c++) acc[c] = acc[c] * a + b;
    for (int c = 0; c < CHAINS; c++) sum += acc[c];
    *sink = sum;
    return 2.0 * CHAINS * (double)n_rounds;
}

void aa_read_probe__scalar(const aa_real *x, size_t n, aa_real *sink) {
    aa_real s0 = 0, s1 = 0, s2 = 0, s3 = 0;
    for (size_t i = 0; i + 4 <= n; i += 4) {
        s0 += x[i];
        s1 += x[i + 1];
        s2 += x[i + 2];
        s3 += x[i + 3];
    }
    *sink = s0 + s1 + s2 + s3;
}
