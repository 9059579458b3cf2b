/* Rows, reference: normalisation, rotation, softmax,
 * SwiGLU, cross-entropy as the formulas stand. */
#include <math.h>
#include "num/num_int.h"

void aa_rmsnorm_rows__scalar(aa_real *y, size_t ldy, aa_real *rstd, const aa_real *x, size_t ldx,
                             const aa_real *w, size_t n_rows, size_t n, aa_real eps) {
    for (size_t i = 0; i < n_rows; i++, x += ldx, y += ldy) {
        double sum = 0;
        for (size_t c = 0; c < n; c++) sum += (double)x[c] * (double)x[c];
        aa_real r = AA_R(1 / sqrt(sum / (double)n + (double)eps));
        for (size_t c = 0; c < n; c++) y[c] = x[c] * r * w[c];
        if (rstd) rstd[i] = r;
    }
}

void aa_rmsnorm_dx_rows__scalar(aa_real *dx, size_t lddx, const aa_real *dy, size_t lddy,
                                const aa_real *x, size_t ldx, const aa_real *w, const aa_real *rstd,
                                size_t n_rows, size_t n, bool accumulate) {
    for (size_t i = 0; i < n_rows; i++, dx += lddx, dy += lddy, x += ldx) {
        double sum = 0;
        for (size_t c = 0; c < n; c++) sum += (double)w[c] * (double)dy[c] * (double)x[c];
        aa_real r = rstd[i], mean = AA_R(sum / (double)n) * r * r;
        for (size_t c = 0; c < n; c++)
            dx[c] = (accumulate ? dx[c] : 0) + r * (w[c] * dy[c] - x[c] * mean);
    }
}

void aa_rmsnorm_dw__scalar(aa_real *dw, const aa_real *dy, size_t lddy, const aa_real *x,
                           size_t ldx, const aa_real *rstd, size_t rstd_step, size_t n_rows,
                           size_t n) {
    for (size_t i = 0; i < n_rows; i++)
        for (size_t c = 0; c < n; c++)
            dw[c] += dy[i * lddy + c] * (x[i * ldx + c] * rstd[i * rstd_step]);
}

void aa_magnitude_row__scalar(aa_real *dm, aa_real *du, const aa_real *dy, const aa_real *y,
                              const aa_real *residual, const aa_magnitude_row *m, size_t n) {
    for (size_t j = 0; j < n; j++) {
        aa_real u = residual ? y[j] - residual[j] : y[j];
        dm[j] += dy[j] * ((u - m->shift[j]) * m->over[j]);
        du[j] = m->gain[j] * dy[j];
    }
}

void aa_rope_row__scalar(aa_real *x, size_t heads, size_t D, const aa_real *cosines,
                         const aa_real *sines, aa_real sign) {
    size_t half = D / 2;
    for (size_t h = 0; h < heads; h++, x += D)
        for (size_t i = 0; i < half; i++) {
            aa_real a = x[i], b = x[i + half], c = cosines[i], s = sign * sines[i];
            x[i] = a * c - b * s;
            x[i + half] = b * c + a * s;
        }
}

static size_t visible(ptrdiff_t first, size_t r, size_t n) {
    ptrdiff_t limit = first + (ptrdiff_t)r;
    return limit <= 0 ? 0 : aa__min((size_t)limit, n);
}

void aa_softmax_tile__scalar(const aa_softmax *t) {
    for (size_t r = 0; r < t->n_rows; r++) {
        aa_real *s = t->s + r * t->lds, *o = t->o + r * t->ldo;
        size_t n = visible(t->first, r, t->n);
        for (size_t c = n; c < t->n; c++) s[c] = 0;
        if (n == 0) continue;
        aa_real top = s[0], sum = 0;
        for (size_t c = 1; c < n; c++)
            if (s[c] > top) top = s[c];
        top *= t->scale;
        if (top > t->m[r]) {
            aa_real shrink = aa__exp(t->m[r] - top);
            t->m[r] = top;
            t->l[r] *= shrink;
            for (size_t d = 0; d < t->D; d++) o[d] *= shrink;
        }
        for (size_t c = 0; c < n; c++) {
            s[c] = aa__exp(s[c] * t->scale - t->m[r]);
            sum += s[c];
        }
        t->l[r] += sum;
    }
}

void aa_softmax_grad_tile__scalar(const aa_softmax_grad *t) {
    for (size_t r = 0; r < t->n_rows; r++) {
        aa_real *s = t->s + r * t->ld, *dp = t->dp + r * t->ld;
        size_t n = visible(t->first, r, t->n);
        aa_real lse = t->lse[r * t->step], delta = t->delta[r * t->step];
        for (size_t c = 0; c < n; c++) {
            s[c] = aa__exp(s[c] * t->scale - lse);
            dp[c] = t->scale * s[c] * (dp[c] - delta);
        }
        for (size_t c = n; c < t->n; c++) s[c] = dp[c] = 0;
    }
}

static aa_real sigmoid(aa_real x) { return 1 / (1 + aa__exp(-x)); }

void aa_swiglu_row__scalar(aa_real *y, const aa_real *gate, const aa_real *up, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] = gate[i] * sigmoid(gate[i]) * up[i];
}

void aa_swiglu_grad_row__scalar(aa_real *dgate, aa_real *dup, const aa_real *dy,
                                const aa_real *gate, const aa_real *up, size_t n) {
    for (size_t i = 0; i < n; i++) {
        aa_real g = gate[i], u = up[i], s = sigmoid(g);
        dgate[i] = dy[i] * u * (s * (1 + g * (1 - s)));
        dup[i] = dy[i] * (g * s);
    }
}

aa_real aa_cross_entropy_row__scalar(aa_real *logits, size_t n, size_t target,
                                     aa_real gradient_scale) {
    aa_real top = logits[0], wanted = logits[target];
    double sum = 0;
    for (size_t i = 1; i < n; i++)
        if (logits[i] > top) top = logits[i];
    for (size_t i = 0; i < n; i++) sum += (double)aa__exp(logits[i] - top);
    if (gradient_scale != 0) {
        aa_real factor = AA_R((double)gradient_scale / sum);
        for (size_t i = 0; i < n; i++) logits[i] = aa__exp(logits[i] - top) * factor;
        logits[target] -= gradient_scale;
    }
    return AA_R(log(sum)) + (top - wanted);
}
