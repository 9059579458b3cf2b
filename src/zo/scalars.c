/* zo/scalars: from losses to coefficients. Nothing here knows a direction.
 *
 *     two-sided   c_i = (f(+eps) - f(-eps)) / (2 eps)           odd in eps: curvature cancels
 *     base        c_i = (f_i - f_0) / eps                       adds (eps/2) D^T H D to each
 *     loo         c_i = (f_i - mean of the other f) / eps       unbiased, as D_i is independent of
 *                     = S/(S-1) (f_i - mean f) / eps            the other losses; takes out what is
 *                                                               common, (eps/2) tr H among it
 *     curved      two-sided, and h_i = |f(+) + f(-) - 2 f_0| / (2 eps^2)
 *
 * A coefficient is what multiplies a direction in the update, rate and sign inside:
 *
 *     a_i = clip(c_i / spread),   -(rate / N) a_i,   rate = lr, or rho sqrt(N) a step of rho per
 *                                                    element, as N independent directions add up
 *
 * with N the directions that are there. Losses come in double and differences are taken there.
 */
#include <math.h>
#include "zo/zo_int.h"

double aa__zo_differences(const aa_zo_config *c, const double *losses, float *scalars,
                          float *curvature) {
    const size_t S = (size_t)c->streams, each = c->estimator == AA_ZO_LOO ||
                                                c->estimator == AA_ZO_BASE ? 1 : 2;
    const bool based = c->estimator == AA_ZO_BASE || c->estimator == AA_ZO_CURVED;
    const double *f = losses + based;     /* the base loss comes first */
    double sum = 0, mean;
    for (size_t i = 0; i < each * S; i++) sum += f[i];
    mean = based ? losses[0] : sum / (double)(each * S);
    for (size_t i = 0; i < S; i++) {
        double d = each == 2 ? (f[2 * i] - f[2 * i + 1]) / 2 : f[i] - mean;
        if (c->estimator == AA_ZO_LOO) d *= (double)S / (double)(S - 1);
        scalars[i] = (float)(d / c->eps);
        if (curvature)
            curvature[i] = (float)(fabs(f[2 * i] + f[2 * i + 1] - 2 * mean) /
                                   (2 * c->eps * c->eps));
    }
    return mean;
}

/* Around the first value, so that what is common to all costs no digits. */
double aa__zo_spread(const float *scalars, size_t n) {
    double sum = 0, squares = 0;
    for (size_t i = 0; i < n; i++) {
        double d = (double)scalars[i] - (double)scalars[0];
        sum += d, squares += d * d;
    }
    double variance = (squares - sum * sum / (double)n) / (double)n;
    return variance > 0 ? sqrt(variance) : 0;
}

size_t aa__zo_present(const aa_zo_config *c, const unsigned char *present) {
    size_t n = 0;
    for (int64_t g = 0; g < c->groups; g++) n += present[g] != 0;
    return n * (size_t)c->streams;
}

static double rate(const aa_zo_config *c, size_t n, double factor) {
    return c->rho > 0 ? factor * c->rho * (c->update == AA_ZO_ADAM ? 1 : sqrt((double)n))
                      : factor * c->lr;
}

double aa__zo_rate(const aa_zo_config *c, const unsigned char *present, double factor) {
    return c->update == AA_ZO_SGD ? 0 : rate(c, aa__zo_present(c, present), factor);
}

void aa__zo_coefficients(const aa_zo_config *c, const float *raw, const unsigned char *present,
                         size_t per_group, double spread, double factor, float *out) {
    const size_t S = (size_t)c->streams, n = aa__zo_present(c, present);
    const double alpha = c->hybrid == AA_ZO_ADDAX ? c->hybrid_alpha : 1,
                 step = (c->update == AA_ZO_SGD ? -rate(c, n, factor) : 1) * alpha / (double)n;
    for (size_t g = 0; g < (size_t)c->groups; g++) {
        const float *scalars = raw + g * per_group;
        double by = c->combiner == AA_ZO_RAW ? 1
                    : c->combiner == AA_ZO_STD && present[g] ? aa__zo_spread(scalars, S)
                                                             : spread;
        for (size_t i = 0; i < S; i++) {
            double a = present[g] && by > 0 ? (double)scalars[i] / by : 0;
            if (c->clip > 0) a = fmin(fmax(a, -c->clip), c->clip);
            out[g * S + i] = (float)(step * a);
            if (!present[g] || !isfinite(out[g * S + i])) out[g * S + i] = 0;
        }
    }
}
