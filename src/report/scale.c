/* Axes and curves: round ticks, where a value lies on an axis, and how a curve of a million points
 * becomes one of six hundred that looks the same. */
#include "report/report_int.h"

#include <math.h>

/* The round number (1, 2, 2.5 or 5 times a power of ten) not below v. */
static double round_step(double v) {
    double p = pow(10, floor(log10(v))), m = v / p;
    static const double round[] = {1, 2, 2.5, 5, 10};
    int i = 0;
    while (i < 4 && m > round[i] * (1 + 1e-9)) i++;
    return round[i] * p;
}

/* Ticks at multiples of a round step; unless the axis is tight, it grows to the ticks around it. */
static void linear_ticks(aa__scale *s, bool tight, int max_ticks) {
    double range = s->hi - s->lo;
    s->step = round_step(range / (max_ticks - 1));
    double first = floor(s->lo / s->step + 1e-9), last = ceil(s->hi / s->step - 1e-9);
    while (last - first > max_ticks) {
        s->step = round_step(s->step * 1.01);
        first = floor(s->lo / s->step + 1e-9);
        last = ceil(s->hi / s->step - 1e-9);
    }
    if (!tight) {
        s->lo = first * s->step;
        s->hi = last * s->step;
    }
    double slack = 1e-9 * (s->hi - s->lo);
    for (double i = first; i <= last && s->n_ticks < 16; i++)
        if (i * s->step >= s->lo - slack && i * s->step <= s->hi + slack)
            s->tick[s->n_ticks++] = i * s->step;
}

/* Ticks of a logarithmic axis: the densest of these sets that fits. */
static void log_ticks(aa__scale *s, int max_ticks) {
    static const double sets[][10] = {{1, 1.2, 1.4, 1.6, 2, 2.5, 3, 4, 6, 8},
                                      {1, 1.5, 2, 3, 4, 5, 6, 8},
                                      {1, 1.5, 2, 3, 5, 7},
                                      {1, 2, 3, 5},
                                      {1, 3},
                                      {1}};
    int e0 = (int)floor(log10(s->lo)), e1 = (int)ceil(log10(s->hi));
    for (int set = 0; set < 6; set++) {
        s->n_ticks = 0;
        int stride = 1;
        bool fits = true;
        if (set == 5) { /* whole decades, or every n-th of them */
            e0 = (int)ceil(log10(s->lo) - 1e-9);
            e1 = (int)floor(log10(s->hi) + 1e-9);
            stride = (e1 - e0) / max_ticks + 1;
        }
        for (int e = e0; e <= e1 && fits; e += stride) {
            for (int i = 0; i < 10 && sets[set][i] > 0 && fits; i++) {
                double v = sets[set][i] * pow(10, e);
                if (v < s->lo * (1 - 1e-9) || v > s->hi * (1 + 1e-9)) continue;
                fits = s->n_ticks < max_ticks && s->n_ticks < 16;
                if (fits) s->tick[s->n_ticks++] = v;
            }
        }
        if (fits && s->n_ticks > 0) return;
    }
}

/* Keeps the arithmetic of axes away from overflow and denormals. */
static double tame(double v) {
    if (fabs(v) < 1e-280) return 0;
    return v > 1e300 ? 1e300 : v < -1e300 ? -1e300 : v;
}

aa__scale aa__scale_make(double lo, double hi, aa__scale_kind kind, int max_ticks) {
    aa__scale s = {.lo = tame(lo), .hi = tame(hi)};
    if (isnan(lo) || isnan(hi)) {
        s.lo = 0;
        s.hi = 1;
    }
    if (s.lo > s.hi) {
        double other = s.lo;
        s.lo = s.hi;
        s.hi = other;
    }
    if (s.hi - s.lo <= fmax(fabs(s.hi), fabs(s.lo)) * 1e-9) { /* one value: room around it */
        double room = s.hi != 0 ? fabs(s.hi) * 0.1 : 1;
        s.lo -= s.lo == 0 ? 0 : room;
        s.hi += room;
    }
    s.log = kind == AA__LOG && s.lo > 0;
    if (!s.log) {
        linear_ticks(&s, kind == AA__TIGHT, max_ticks);
        return s;
    }
    double room = 1 + 0.04 * (log(s.hi) - log(s.lo));
    s.lo /= room;
    s.hi *= room;
    log_ticks(&s, max_ticks);
    return s;
}

double aa__scale_at(const aa__scale *s, double v) {
    if (s->log) return v > 0 ? (log(v) - log(s->lo)) / (log(s->hi) - log(s->lo)) : 0;
    return (v - s->lo) / (s->hi - s->lo);
}

double aa__step_x(const aa_report_step *s, aa__x x) {
    return x == AA__X_STEP ? (double)s->step : x == AA__X_TOKENS ? (double)s->tokens : s->wall_s;
}

double aa__eval_x(const aa_report_eval *e, aa__x x) {
    return x == AA__X_STEP ? (double)e->step : x == AA__X_TOKENS ? (double)e->tokens : e->wall_s;
}

double aa__step_y(const aa_report_step *s, aa__y y) {
    switch (y) {
    case AA__Y_LOSS:
        return s->loss;
    case AA__Y_LR:
        return s->lr;
    case AA__Y_GRAD_NORM:
        return s->grad_norm;
    case AA__Y_RATE:
        return s->tokens_per_s;
    case AA__Y_SHARE:
        return s->share_of_peak * 100;
    }
    return NAN;
}

size_t aa__thin(const aa_journal *j, aa__y y, size_t out[AA__THIN_MAX]) {
    size_t n = j->n_steps, kept = 0;
    if (n <= AA__THIN_MAX) {
        for (size_t i = 0; i < n; i++) out[i] = i;
        return n;
    }
    const size_t stretches = AA__THIN / 2;
    out[kept++] = 0;
    for (size_t b = 0; b < stretches; b++) {
        size_t begin = n / stretches * b + n % stretches * b / stretches;
        size_t end = n / stretches * (b + 1) + n % stretches * (b + 1) / stretches;
        size_t least = begin, most = begin;
        for (size_t i = begin; i < end; i++) {
            double v = aa__step_y(&j->steps[i], y);
            if (!(aa__step_y(&j->steps[least], y) <= v)) least = isnan(v) ? least : i;
            if (!(aa__step_y(&j->steps[most], y) >= v)) most = isnan(v) ? most : i;
        }
        size_t first = least < most ? least : most, second = least < most ? most : least;
        if (first > out[kept - 1]) out[kept++] = first;
        if (second > out[kept - 1]) out[kept++] = second;
    }
    if (out[kept - 1] != n - 1) out[kept++] = n - 1;
    return kept;
}
