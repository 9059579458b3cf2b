/* zo/basis: the factors that stand still while others move, and what happens when they change.
 *
 *     random       orthonormal rows of normals at (step, factor BASIS): replayed from the seed
 *     activation   from the objective, as 8-bit integers with a scale per row, which the ledger
 *                  stores; the run itself uses what these say, so that a replay has the same bits
 *     gradient     from h two-sided dense probes: G = mean c_i Z_i per matrix, then its top
 *                  singular subspaces by power iterations; replayed from the h scalars
 *
 * Before a basis changes, what moved over the old one is folded into the whole matrix, and begins
 * at 0 again: W += s B core A. A random basis has captured energy and dimension in the same
 * proportion, so it saves memory, not forwards; one from activations holds most of a gradient,
 * whose rows are combinations of the inputs.
 */
#include <math.h>
#include <string.h>
#include "zo/zo_int.h"

enum { POWER_ITERATIONS = 4 };

static aa_tensor *tensor_of(const aa_zo *z, int row) {
    return row < 0 ? NULL : z->space->rows[row].tensor;
}

static size_t most(size_t a, size_t b) { return a > b ? a : b; }

size_t aa__zo_basis_scratch(const aa_zo *z) {
    size_t size = z->config.mask == AA_ZO_SMALL ? 65536 * sizeof(size_t) / sizeof(aa_real) : 0;
    for (size_t i = 0; i < z->space->n_matrices && z->config.basis != AA_ZO_KEPT; i++) {
        const aa_zo_matrix *m = &z->space->matrices[i];
        const aa_tensor *a = tensor_of(z, m->a), *b = tensor_of(z, m->b),
                        *whole = tensor_of(z, m->whole);
        if (a) size = most(size, aa_tensor_size(a) + a->rows);
        if (b) size = most(size, aa_tensor_size(b));
        if (whole && a && z->config.basis == AA_ZO_GRADIENT)
            size = most(size, most(aa_tensor_size(whole), a->rows * (whole->rows + whole->cols)));
    }
    return size;
}

static void zero(aa_tensor *t) {
    memset(t->data, 0, aa_tensor_size(t) * sizeof *t->data);
    t->version++;
}

static bool is_zero(const aa_tensor *t) {
    for (size_t i = 0; i < aa_tensor_size(t); i++)
        if (t->data[i] != 0) return false;
    return true;
}

static int moving_factor(const aa_zo *z, const aa_zo_matrix *m) {
    return z->config.space == AA_ZO_CORE ? m->core : z->config.space == AA_ZO_A ? m->a : m->b;
}

/* ---- merging --------------------------------------------------------------------------------- */

static void merge(aa_zo *z, const aa_zo_matrix *m) {
    aa_tensor *whole = tensor_of(z, m->whole), *a = tensor_of(z, m->a), *b = tensor_of(z, m->b),
              *core = tensor_of(z, m->core);
    const aa_real *left = b->data;
    if (core) {
        aa__zo_product(z->cpu, z->scratch, b->data, core->data, b->rows, b->cols, b->cols, false);
        left = z->scratch;
    }
    aa_lowrank_merge(z->cpu, whole->data, left, a->data, whole->rows, whole->cols, a->rows,
                     m->scale);
    whole->version++;
}

/* An adapter that already says something would say something else over another basis. */
static aa_status check_empty(const aa_zo *z, const aa_zo_matrix *m, aa_err *err) {
    const aa_tensor *a = tensor_of(z, m->a), *b = tensor_of(z, m->b), *core = tensor_of(z, m->core);
    if (is_zero(a) || is_zero(b) || (core && is_zero(core))) return AA_OK;
    return aa_fail(err, AA_EUNSUPPORTED,
                   "the adapter %s is not zero, and method '%s' gives it another basis: merge it "
                   "into the model first, or use --zo-basis kept",
                   b->name, aa__zo_method_name(&z->config));
}

static aa_status start_factors(aa_zo *z, aa_err *err) {
    for (size_t i = 0; i < z->space->n_matrices; i++) {
        const aa_zo_matrix *m = &z->space->matrices[i];
        const int moving = moving_factor(z, m);
        if (moving < 0 || !z->state[moving].moves) continue;
        if (!z->now.has_basis) AA_TRY(check_empty(z, m, err));
        else merge(z, m);
    }
    for (size_t i = 0; i < z->space->n_matrices; i++) {
        const int moving = moving_factor(z, &z->space->matrices[i]);
        if (moving < 0 || !z->state[moving].moves) continue;
        zo_state *s = &z->state[moving];
        aa_tensor *t = tensor_of(z, moving);
        zero(t);                          /* and what was learnt over the old basis */
        if (s->m) memset(s->m, 0, aa_tensor_size(t) * sizeof *s->m);
        if (s->v) memset(s->v, 0, aa_tensor_size(t) * sizeof *s->v);
    }
    return AA_OK;
}

/* ---- where bases come from ------------------------------------------------------------------- */

/* `rank` vectors of length n, orthonormal: their entries are about 1/sqrt(n). */
static void resize(const aa_zo *z, aa_real *x, size_t rank, size_t n) {
    const double by = z->config.basis_size == AA_ZO_SIZE_ENTRIES ? sqrt((double)n)
                      : z->config.basis_size == AA_ZO_SIZE_CORE  ? sqrt((double)n / (double)rank)
                                                                 : 1;
    if (z->config.basis_size == AA_ZO_SIZE_ONE) return;
    for (size_t i = 0; i < rank * n; i++) x[i] = (aa_real)((double)x[i] * by);
}

static aa_status random_basis(aa_zo *z, size_t row, aa_err *err) {
    const aa_zo_row *r = &z->space->rows[row];
    aa_tensor *t = r->tensor;
    const bool is_b = r->factor == AA_FACTOR_B;
    const size_t rank = is_b ? t->cols : t->rows, n = is_b ? t->rows : t->cols;
    aa_real *x = is_b ? z->scratch : t->data;
    aa_direction d = {.seed = (uint64_t)z->config.seed, .step = (uint32_t)z->now.next_step,
                      .law = AA_LAW_NORMAL};
    AA_TRY(aa_direction_tensor(&d.tensor, r->id, is_b ? AA_FACTOR_BASIS_B : AA_FACTOR_BASIS_A,
                               err));
    aa_direction_add(z->cpu, x, NULL, 0, 1, &d, 0, rank * n);
    aa_zo_orthonormalize(x, rank, n);
    resize(z, x, rank, n);
    if (is_b) aa__zo_transpose(t->data, x, rank, n);
    t->version++;
    return AA_OK;
}

static void to_int8(int8_t *q, float *scale, const aa_real *x, size_t rank, size_t n) {
    for (size_t r = 0; r < rank; r++, x += n, q += n) {
        float largest = 0;
        for (size_t i = 0; i < n; i++) largest = fmaxf(largest, fabsf(x[i]));
        scale[r] = largest / 127;
        for (size_t i = 0; i < n; i++)
            q[i] = scale[r] > 0 ? (int8_t)lrintf(fminf(fmaxf(x[i] / scale[r], -127), 127)) : 0;
    }
}

static void from_int8(aa_real *x, const int8_t *q, const float *scale, size_t rank, size_t n) {
    for (size_t r = 0; r < rank; r++)
        for (size_t i = 0; i < n; i++) x[r * n + i] = scale[r] * (float)q[r * n + i];
}

static aa_status asked_basis(aa_zo *z, size_t row, aa_ledger_record *record, aa_err *err) {
    const aa_zo_objective *o = z->objective;
    aa_tensor *t = z->space->rows[row].tensor;
    const size_t rank = t->rows, n = t->cols;
    float *scale = z->scratch;
    int8_t *q = (int8_t *)(z->scratch + rank);
    AA_TRY(o->basis(o->self, row, rank, z->now.next_step, t->data, err));
    for (size_t i = 0; i < rank * n; i++)
        if (!isfinite(t->data[i]))
            return aa_fail(err, AA_EDIVERGED, "step %llu: the basis of %s is not finite",
                           (unsigned long long)z->now.next_step, t->name);
    to_int8(q, scale, t->data, rank, n);
    if (z->broadcast) {
        AA_TRY(z->broadcast(z->broadcast_ctx, scale, rank * sizeof *scale, err));
        AA_TRY(z->broadcast(z->broadcast_ctx, q, rank * n, err));
    }
    *record = (aa_ledger_record){.kind = AA_LEDGER_BASIS, .step = z->now.next_step};
    record->basis.row = (uint32_t)row;
    record->basis.rank = (uint32_t)rank;
    record->basis.n = (uint32_t)n;
    record->basis.scale = scale;
    record->basis.q = q;
    return z->ledger ? aa_ledger_write(z->ledger, record, err) : AA_OK;
}

static aa_status stored_basis(const aa_zo *z, size_t row, zo_stored *stored,
                              aa_ledger_record *record, aa_err *err) {
    const aa_tensor *t = z->space->rows[row].tensor;
    const unsigned long long step = (unsigned long long)z->now.next_step;
    if (stored->next == stored->n_bases)
        return aa_fail(err, AA_EFORMAT, "the ledger has no basis of %s for step %llu", t->name,
                       step);
    *record = stored->bases[stored->next++];
    if (record->basis.row != row || record->basis.rank != t->rows || record->basis.n != t->cols)
        return aa_fail(err, AA_EFORMAT,
                       "record %u of the ledger is a basis [%u,%u] of row %u; step %llu needs one "
                       "[%zu,%zu] of row %zu (%s)",
                       record->index, record->basis.rank, record->basis.n, record->basis.row, step,
                       t->rows, t->cols, row, t->name);
    return AA_OK;
}

static aa_status activation_basis(aa_zo *z, size_t row, zo_stored *stored, aa_err *err) {
    aa_ledger_record record;
    aa_tensor *t = z->space->rows[row].tensor;
    AA_TRY(stored ? stored_basis(z, row, stored, &record, err)
                  : asked_basis(z, row, &record, err));
    from_int8(t->data, record.basis.q, record.basis.scale, t->rows, t->cols);
    resize(z, t->data, t->rows, t->cols);
    t->version++;
    return AA_OK;
}

/* ---- from gradients -------------------------------------------------------------------------- */

static aa_status estimate(aa_zo *z, float *scalars, aa_err *err) {
    const aa_zo_objective *o = z->objective;
    const size_t h = (size_t)z->config.estimate;
    const aa_zo_view view = {z, true};
    for (size_t i = 0; i < 2 * h; i++)
        z->probes[i] = (aa_zo_probe){.stream = (uint32_t)(i / 2), .data = z->now.next_step,
                                     .amplitude = (aa_real)(i % 2 ? -z->config.eps
                                                                  : z->config.eps)};
    AA_TRY(o->evaluate(o->self, &view, z->probes, 2 * h, z->losses, NULL, err));
    z->step_forwards += 2 * h * o->n_sequences;
    for (size_t i = 0; i < h; i++) {
        double c = (z->losses[2 * i] - z->losses[2 * i + 1]) / (2 * z->config.eps);
        if (!isfinite(c))
            return aa_fail(err, AA_EDIVERGED,
                           "step %llu: probe %zu of the basis has a loss that is no number",
                           (unsigned long long)z->now.next_step, i);
        scalars[i] = (float)(c / (double)h);
    }
    if (z->broadcast) AA_TRY(z->broadcast(z->broadcast_ctx, scalars, h * sizeof *scalars, err));
    aa_ledger_record r = {.kind = AA_LEDGER_ESTIMATE, .step = z->now.next_step};
    r.estimate.n = (uint32_t)h;
    r.estimate.scalars = scalars;
    return z->ledger ? aa_ledger_write(z->ledger, &r, err) : AA_OK;
}

/* A [R,n_in] and B [n_out,R] = the top subspaces of G, S = B^T G A^T. A begins at random. */
static aa_status gradient_factors(aa_zo *z, const aa_zo_matrix *m, const float *scalars,
                                  aa_err *err) {
    aa_tensor *whole = tensor_of(z, m->whole), *a = tensor_of(z, m->a), *b = tensor_of(z, m->b);
    const size_t out = whole->rows, in = whole->cols, R = a->rows, h = (size_t)z->config.estimate;
    zo_state *core = &z->state[m->core];
    aa_real *g = z->scratch, *y = z->scratch2;
    aa_direction d = {.seed = (uint64_t)z->config.seed, .step = (uint32_t)z->now.next_step,
                      .law = AA_LAW_NORMAL};
    AA_TRY(aa_direction_tensor(&d.tensor, z->space->rows[m->whole].id, AA_FACTOR_ESTIMATE, err));
    for (size_t i = 0; i < h; i++)
        z->terms[i] = (aa_direction_term){.c = scalars[i], .stream = (uint32_t)i};
    AA_TRY(random_basis(z, (size_t)m->a, err));
    aa_direction_sum(z->cpu, g, false, &d, z->terms, h, out * in);
    for (int k = 0; k < POWER_ITERATIONS; k++) {
        aa__zo_product(z->cpu, y, a->data, g, R, out, in, true);       /* (G A^T)^T */
        aa_zo_orthonormalize(y, R, out);
        if (k + 1 < POWER_ITERATIONS) {
            aa__zo_product(z->cpu, a->data, y, g, R, in, out, false);
            aa_zo_orthonormalize(a->data, R, in);
        }
    }
    aa__zo_transpose(b->data, y, R, out);
    aa__zo_product(z->cpu, y + R * out, y, g, R, in, out, false);      /* B^T G */
    aa__zo_product(z->cpu, core->along, y + R * out, a->data, R, R, in, true);
    a->version++, b->version++;
    return AA_OK;
}

static aa_status gradient_bases(aa_zo *z, zo_stored *stored, aa_err *err) {
    const float *scalars = z->scalars;
    if (!stored) AA_TRY(estimate(z, z->scalars, err));
    else if (!stored->estimate || stored->estimate->estimate.n != (uint32_t)z->config.estimate)
        return aa_fail(err, AA_EFORMAT, "the ledger has no estimate of %lld scalars for step %llu",
                       (long long)z->config.estimate, (unsigned long long)z->now.next_step);
    else scalars = stored->estimate->estimate.scalars;
    for (size_t i = 0; i < z->space->n_matrices; i++) {
        const aa_zo_matrix *m = &z->space->matrices[i];
        if (m->core >= 0 && z->state[m->core].moves)
            AA_TRY(gradient_factors(z, m, scalars, err));
    }
    return AA_OK;
}

/* ---- when it is due -------------------------------------------------------------------------- */

static aa_status new_bases(aa_zo *z, zo_stored *stored, aa_err *err) {
    if (z->config.basis == AA_ZO_GRADIENT) return gradient_bases(z, stored, err);
    for (size_t i = 0; i < z->space->n_rows; i++) {
        const aa_zo_row *row = &z->space->rows[i];
        if (!z->state[i].written || !aa__zo_is_frozen_factor(&z->config, row->factor)) continue;
        if (z->config.basis == AA_ZO_ACTIVATION && row->factor == AA_FACTOR_A)
            AA_TRY(activation_basis(z, i, stored, err));
        else AA_TRY(random_basis(z, i, err));
    }
    return AA_OK;
}

aa_status aa__zo_refresh(aa_zo *z, zo_stored *stored, aa_err *err) {
    const uint64_t step = z->now.next_step, every = (uint64_t)z->config.refresh;
    if (z->config.basis == AA_ZO_KEPT || (z->now.has_basis && z->basis_step == step)) return AA_OK;
    if (z->now.has_basis && !(every && step % every == 0)) return AA_OK;
    AA_TRY(start_factors(z, err));
    AA_TRY(new_bases(z, stored, err));
    z->now.has_basis = true;
    z->new_basis = z->config.basis == AA_ZO_ACTIVATION;
    z->basis_step = step;
    return AA_OK;
}

/* ---- masks by magnitude ---------------------------------------------------------------------- */

static uint32_t magnitude(aa_real x) {
    float f = x;
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits & 0x7fffffffu;            /* ascends with |x| */
}

/* The k-th smallest magnitude, by its upper and then its lower sixteen bits. */
static uint32_t percentile(const aa_real *w, size_t n, size_t k, size_t *count) {
    uint32_t high = 0, low = 0;
    memset(count, 0, 65536 * sizeof *count);
    for (size_t i = 0; i < n; i++) count[magnitude(w[i]) >> 16]++;
    for (; high < 65535 && k > count[high]; high++) k -= count[high];
    memset(count, 0, 65536 * sizeof *count);
    for (size_t i = 0; i < n; i++)
        if (magnitude(w[i]) >> 16 == high) count[magnitude(w[i]) & 0xffff]++;
    for (; low < 65535 && k > count[low]; low++) k -= count[low];
    return high << 16 | low;
}

void aa__zo_thresholds(aa_zo *z) {
    if (z->config.mask != AA_ZO_SMALL) return;
    for (size_t i = 0; i < z->space->n_rows; i++) {
        const aa_tensor *t = z->space->rows[i].tensor;
        size_t n = aa_tensor_size(t), keep = (size_t)((1 - z->config.sparsity) * (double)n);
        if (z->state[i].gain)
            z->state[i].threshold = percentile(t->data, n, keep ? keep : 1,
                                               (size_t *)(void *)z->scratch2);
    }
}

void aa__zo_masks(aa_zo *z) {
    if (z->config.mask != AA_ZO_SMALL) return;
    for (size_t i = 0; i < z->space->n_rows; i++) {
        const aa_tensor *t = z->space->rows[i].tensor;
        aa_real *gain = z->state[i].gain;
        for (size_t k = 0; gain && k < aa_tensor_size(t); k++)
            gain[k] = magnitude(t->data[k]) <= z->state[i].threshold;
    }
}

/* ---- directions with a pinned part ----------------------------------------------------------- */

/* D = Z + shift S has <D, S> = sqrt(delta) |S|; delta falls from 2 to 0 over the horizon. */
void aa__zo_shifts(aa_zo *z) {
    const double progress = (double)z->now.next_step / (double)z->config.horizon,
                 delta = 2 * (progress < 1 ? 1 - progress : 0);
    for (size_t i = 0; i < z->space->n_rows && z->config.basis == AA_ZO_GRADIENT; i++) {
        const zo_state *s = &z->state[i];
        const size_t n = aa_tensor_size(z->space->rows[i].tensor);
        double square = 0;
        if (!s->along) continue;
        for (size_t k = 0; k < n; k++) square += (double)s->along[k] * (double)s->along[k];
        for (uint32_t stream = 0; stream < z->total; stream++) {
            zo_place at = aa__zo_place(z, aa__zo_first_stream(&z->config), stream);
            aa_direction d = {.seed = (uint64_t)z->config.seed, .tensor = s->tensor,
                              .step = at.step, .stream = at.stream, .law = z->config.law};
            double along = 0;
            aa_direction_add(z->cpu, z->scratch2, NULL, 0, 1, &d, 0, n);
            for (size_t k = 0; k < n; k++) along += (double)s->along[k] * (double)z->scratch2[k];
            s->shift[stream] = (aa_real)(square > 0 ? (sqrt(delta * square) - along) / square : 0);
        }
    }
}
