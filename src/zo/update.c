/* zo/update: what a record does to the rows.
 *
 *     sgd        w += sum_s c_s D_s                              rate and sign are in c
 *     momentum   m = beta m + (1 - beta) g;  w -= rate m         g = sum_s c_s D_s
 *     adam       m and v of g, corrected;    w -= rate m/(sqrt v + 1e-8)
 *     muon       w -= rate msign(g)                              other rows: w -= rate g
 *
 * One function of (rows, record): the live run, the ranks beside it, a resume and a replay call it,
 * and nothing else writes rows but bases and merges. No fused multiply-adds (see CMakeLists.txt),
 * no library function but sqrt, so the bits are the same wherever IEEE 754 holds.
 */
#include <math.h>
#include <string.h>
#include "base/rng.h"
#include "zo/zo_int.h"

void aa__zo_mean(double *mean, double *weight, double memory, double value) {
    *mean = memory * *mean + (1 - memory) * value;
    *weight = memory * *weight + (1 - memory);
}

static aa_direction direction_of(const aa_zo *z, size_t row) {
    const zo_state *s = &z->state[row];
    return (aa_direction){.seed = (uint64_t)z->config.seed, .tensor = s->tensor,
                          .law = z->config.law, .gain = s->gain, .along = s->along};
}

static void momentum(aa_zo *z, aa_tensor *t, zo_state *s, const aa_real *g, double rate) {
    const aa_real beta = (aa_real)z->config.momentum, rest = 1 - beta, eta = (aa_real)rate;
    for (size_t i = 0; i < aa_tensor_size(t); i++) {
        s->m[i] = beta * s->m[i] + rest * g[i];
        t->data[i] -= eta * s->m[i];
    }
}

static void adam(aa_zo *z, aa_tensor *t, zo_state *s, const aa_real *g, double rate) {
    const aa_real b1 = (aa_real)z->config.momentum, r1 = 1 - b1, b2 = (aa_real)z->config.beta2,
                  r2 = 1 - b2, c1 = (aa_real)(1 - z->now.beta1_power),
                  c2 = (aa_real)(1 - z->now.beta2_power), eta = (aa_real)rate,
                  tiny = (aa_real)1e-8;
    for (size_t i = 0; i < aa_tensor_size(t); i++) {
        s->m[i] = b1 * s->m[i] + r1 * g[i];
        s->v[i] = b2 * s->v[i] + r2 * (g[i] * g[i]);
        t->data[i] -= eta * (s->m[i] / c1) / (sqrtf(s->v[i] / c2) + tiny);
    }
}

static void muon(aa_zo *z, size_t row, aa_real *g, double rate) {
    aa_tensor *t = z->space->rows[row].tensor;
    const aa_real eta = (aa_real)rate;
    if (z->space->rows[row].factor == AA_FACTOR_A)
        aa__zo_msign(z->cpu, g, t->rows, t->cols, z->scratch2);
    for (size_t i = 0; i < aa_tensor_size(t); i++) t->data[i] -= eta * g[i];
}

static void move(aa_zo *z, size_t row, size_t n_terms, double rate) {
    const aa_zo_row *r = &z->space->rows[row];
    zo_state *s = &z->state[row];
    aa_tensor *t = r->tensor;
    const size_t n = aa_tensor_size(t);
    const bool plain = z->config.update == AA_ZO_SGD;
    aa_direction d = direction_of(z, row);
    d.step = aa__zo_place(z, 0, 0).step;
    for (size_t i = 0; i < n_terms && s->along; i++) z->terms[i].shift = s->shift[i];
    aa_direction_sum(z->cpu, plain ? t->data : z->scratch, plain, &d, z->terms, n_terms, n);
    switch ((aa_zo_update_kind)z->config.update) {
    case AA_ZO_SGD: break;
    case AA_ZO_MOMENTUM: momentum(z, t, s, z->scratch, rate); break;
    case AA_ZO_ADAM: adam(z, t, s, z->scratch, rate); break;
    case AA_ZO_MUON: muon(z, row, z->scratch, rate); break;
    }
    for (size_t i = 0; i < n && r->factor == AA_FACTOR_SCALE; i++)
        if (!(t->data[i] > 0)) t->data[i] = 0;
    t->version++;
}

/* H = (1 - a) H + a mean_s h_s H z_s^2, and the factor on directions from now on. */
static void curve(aa_zo *z, size_t row, const aa_ledger_step *step) {
    zo_state *s = &z->state[row];
    const size_t n = aa_tensor_size(z->space->rows[row].tensor);
    const aa_real a = (aa_real)z->config.curvature_rate, rest = 1 - a;
    aa_direction d = direction_of(z, row);
    d.gain = NULL;
    if (!step->present) return;
    memset(z->scratch, 0, n * sizeof *z->scratch);
    for (uint32_t i = 0; i < step->n; i++) {
        const zo_place at = aa__zo_place(z, step->first_stream, i);
        const aa_real h = step->scalars[step->n + i] / (aa_real)step->present;
        d.step = at.step, d.stream = at.stream;
        aa_direction_add(z->cpu, z->scratch2, NULL, 0, 1, &d, 0, n);
        for (size_t k = 0; k < n; k++) z->scratch[k] += h * (z->scratch2[k] * z->scratch2[k]);
    }
    for (size_t k = 0; k < n; k++) {
        s->curvature[k] = rest * s->curvature[k] + a * (z->scratch[k] * s->curvature[k]);
        s->gain[k] = 1 / sqrtf(s->curvature[k]);
    }
}

void aa__zo_apply(aa_zo *z, const aa_ledger_step *step) {
    zo_numbers *now = &z->now;
    for (uint32_t i = 0; i < step->n; i++)
        z->terms[i] = (aa_direction_term){
            .c = step->scalars[i], .stream = aa__zo_place(z, step->first_stream, i).stream};
    now->updates++;
    now->beta1_power *= (double)(aa_real)z->config.momentum;
    now->beta2_power *= (double)(aa_real)z->config.beta2;
    for (size_t i = 0; i < z->space->n_rows; i++)
        if (z->state[i].moves && step->present) move(z, i, step->n, (double)step->rate);
    for (size_t i = 0; i < z->space->n_rows; i++)
        if (z->state[i].moves && z->state[i].curvature) curve(z, i, step);
    now->spread = step->spread;
    now->spread_weight = step->weight;
    if (step->present) aa__zo_mean(&now->loss, &now->loss_weight, 0.9, (double)step->loss);
    now->next_step++;
}

aa_status aa__zo_apply_pool(aa_zo *z, const double *sums, size_t n, aa_err *err) {
    enum { AT_ONCE = 1024 };
    aa_direction_term *terms = aa_heap_alloc(AT_ONCE, sizeof *terms);
    if (!terms) return aa_fail_memory(err, "the directions of a pool", AT_ONCE * sizeof *terms);
    for (size_t first = 0; first < n; first += AT_ONCE) {
        size_t k = n - first < AT_ONCE ? n - first : AT_ONCE;
        for (size_t i = 0; i < k; i++)
            terms[i] = (aa_direction_term){.c = (aa_real)sums[first + i],
                                           .stream = (uint32_t)(first + i)};
        for (size_t row = 0; row < z->space->n_rows; row++) {
            aa_tensor *t = z->space->rows[row].tensor;
            const aa_direction d = direction_of(z, row);
            if (!z->state[row].moves) continue;
            aa_direction_sum(z->cpu, t->data, true, &d, terms, k, aa_tensor_size(t));
            t->version++;
        }
    }
    aa_heap_free(terms);
    return AA_OK;
}
