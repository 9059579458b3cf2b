/* zo/engine: which rows move, what a step asks the objective, and what it makes of the answers. */
#include <math.h>
#include <string.h>
#include "base/rng.h"
#include "zo/zo_int.h"

/* ---- coordinates ----------------------------------------------------------------------------- */

uint32_t aa__zo_first_stream(const aa_zo_config *c) {
    return (uint32_t)(c->client * c->groups * c->streams);
}

/* A pool's directions are those of step 0. Each epoch goes through all of it in a new order, so
 * that no direction comes twice until all have come once; clients go through it in orders of their
 * own.
 */
uint32_t aa__zo_pool_at(const aa_zo_config *c, uint64_t step, uint32_t first, uint32_t i) {
    const uint64_t total = (uint64_t)(c->groups * c->streams), at = step * total + i,
                   pool = (uint64_t)c->pool, epoch = at / pool ^ (uint64_t)(first / total) << 40;
    return (uint32_t)aa_rng_permute((uint64_t)c->seed, epoch, pool, at % pool);
}

zo_place aa__zo_place(const aa_zo *z, uint32_t first, uint32_t i) {
    const uint64_t step = z->now.next_step;
    if (z->config.pool) return (zo_place){0, aa__zo_pool_at(&z->config, step, first, i)};
    return (zo_place){(uint32_t)step, first + i};
}

bool aa_zo_direction(const aa_zo_view *view, size_t row, const aa_zo_probe *probe,
                     aa_direction *out) {
    const aa_zo *z = view->z;
    const zo_state *s = &z->state[row];
    aa_direction d = {.seed = (uint64_t)z->config.seed, .law = z->config.law};
    if (probe->amplitude == 0) return false;
    if (view->estimate) {
        const aa_zo_row *r = &z->space->rows[row];
        if (r->factor != AA_FACTOR_WHOLE || !s->written) return false;
        d.tensor = (uint32_t)r->id | (uint32_t)AA_FACTOR_ESTIMATE << 24;
        d.step = (uint32_t)z->now.next_step, d.stream = probe->stream;
    } else {
        if (!s->moves) return false;
        zo_place at = aa__zo_place(z, aa__zo_first_stream(&z->config), probe->stream);
        d.tensor = s->tensor, d.step = at.step, d.stream = at.stream;
        d.gain = s->gain, d.along = s->along;
        if (s->along) d.shift = s->shift[probe->stream];
    }
    *out = d;
    return true;
}

/* ---- which rows ------------------------------------------------------------------------------ */

bool aa__zo_is_frozen_factor(const aa_zo_config *c, aa_factor factor) {
    if (c->basis == AA_ZO_KEPT) return false;
    return (factor == AA_FACTOR_A && c->space != AA_ZO_A) ||
           (factor == AA_FACTOR_B && c->space != AA_ZO_B);
}

static bool factor_moves(const aa_zo_config *c, aa_factor factor) {
    if (factor == AA_FACTOR_NORM) return c->norms;
    switch ((aa_zo_moves)c->space) {
    case AA_ZO_ADAPTER: return factor == AA_FACTOR_A || factor == AA_FACTOR_B;
    case AA_ZO_B: return factor == AA_FACTOR_B;
    case AA_ZO_A: return factor == AA_FACTOR_A;
    case AA_ZO_CORE: return factor == AA_FACTOR_CORE;
    case AA_ZO_WHOLE: return factor == AA_FACTOR_WHOLE;
    case AA_ZO_SCALE: return factor == AA_FACTOR_SCALE;
    }
    return false;
}

static bool layer_moves(const aa_zo_config *c, const aa_tensor *t) {
    if (c->first_layer > 0 && t->layer < c->first_layer) return false;
    return c->hybrid != AA_ZO_ELASTIC || (t->layer >= 0 && t->layer < c->hybrid_layer);
}

static aa_status choose_row(aa_zo *z, size_t i, aa_err *err) {
    const aa_zo_row *row = &z->space->rows[i];
    const aa_tensor *t = row->tensor;
    zo_state *s = &z->state[i];
    AA_TRY(aa_direction_tensor(&s->tensor, row->id, row->factor, err));
    if (factor_moves(&z->config, row->factor) && layer_moves(&z->config, t)) {
        if (!t->data)
            return aa_fail(err, AA_EUNSUPPORTED,
                           "method '%s' moves %s, which only the model's file holds: it needs the "
                           "weights as floats; adapters and zo-space scale do without",
                           aa__zo_method_name(&z->config), t->name);
        s->moves = s->written = true;
    }
    /* What backpropagation moves is part of the state to go back to. */
    if (z->config.hybrid == AA_ZO_ELASTIC && factor_moves(&z->config, row->factor) &&
        t->layer >= z->config.hybrid_layer && t->data)
        s->written = true;
    for (size_t k = 0; k < i; k++)
        if (z->state[k].tensor == s->tensor)
            return aa_fail(err, AA_EINTERNAL, "%s and %s have the same directions",
                           z->space->rows[k].tensor->name, t->name);
    return AA_OK;
}

/* What else is written for a matrix whose adapter moves over a basis. */
static aa_status choose_basis(aa_zo *z, const aa_zo_matrix *m, aa_err *err) {
    const aa_zo_config *c = &z->config;
    const aa_zo_row *rows = z->space->rows;
    const int moving = c->space == AA_ZO_CORE ? m->core : c->space == AA_ZO_A ? m->a : m->b;
    if (moving < 0 || !z->state[moving].moves || c->basis == AA_ZO_KEPT) return AA_OK;
    if (m->a < 0 || m->b < 0)
        return aa_fail(err, AA_EINTERNAL, "the adapter of %s has one factor",
                       rows[moving].tensor->name);
    const aa_tensor *a = rows[m->a].tensor, *b = rows[m->b].tensor;
    if (a->rows > a->cols || b->cols > b->rows)
        return aa_fail(err, AA_EUNSUPPORTED,
                       "%s has rank %zu, more than its matrix: no basis has so many directions",
                       a->name, a->rows);
    if (c->update == AA_ZO_MUON && z->total < a->rows)
        return aa_fail(err, AA_EUSAGE,
                       "zo-update muon over %zu directions per step would only level the noise of "
                       "rank %zu (%s): give %zu zo-streams or a lower rank",
                       z->total, a->rows, a->name, a->rows);
    for (int f = 0; f < 2; f++) {
        const int i = f ? m->b : m->a;
        if (aa__zo_is_frozen_factor(c, rows[i].factor)) z->state[i].written = true;
    }
    if (!c->refresh && c->basis != AA_ZO_GRADIENT) return AA_OK;
    if (m->whole < 0 || !rows[m->whole].tensor->data)
        return aa_fail(err, AA_EUNSUPPORTED,
                       "method '%s' folds %s into its matrix, which must be there as floats: use "
                       "--zo-refresh 0 with a quantised base",
                       aa__zo_method_name(c), b->name);
    z->state[m->whole].written = true;
    return AA_OK;
}

static aa_status choose(aa_zo *z, aa_err *err) {
    const aa_zo_config *c = &z->config;
    size_t n = 0;
    for (size_t i = 0; i < z->space->n_rows; i++) {
        AA_TRY(choose_row(z, i, err));
        n += z->state[i].moves && z->space->rows[i].factor != AA_FACTOR_NORM;
    }
    for (size_t i = 0; i < z->space->n_matrices; i++)
        AA_TRY(choose_basis(z, &z->space->matrices[i], err));
    if (!n) {
        static const char *const what[] = {"adapters", "adapters' B", "adapters' A",
                                           "adapters' cores", "whole matrices", "row scales"};
        return aa_fail(err, AA_EUNSUPPORTED, "method '%s' moves %s, and there are none to move",
                       aa__zo_method_name(c), what[c->space]);
    }
    if (!z->objective->evaluate) return AA_OK;
    if (c->basis == AA_ZO_ACTIVATION && !z->objective->basis)
        return aa_fail(err, AA_EUNSUPPORTED,
                       "what is trained gives no bases from activations: use --zo-basis random");
    if (c->hybrid != AA_ZO_ALONE && !z->objective->gradient)
        return aa_fail(err, AA_EUNSUPPORTED, "method '%s' needs backpropagation besides",
                       aa__zo_method_name(c));
    return AA_OK;
}

/* ---- memory ---------------------------------------------------------------------------------- */

static size_t most(size_t a, size_t b) { return a > b ? a : b; }

/* What a row that moves needs; returns the scratch that goes with it. */
static size_t layout_moving(aa_zo *z, zo_state *s, const aa_zo_row *row) {
    const aa_zo_config *c = &z->config;
    const size_t n = aa_tensor_size(row->tensor);
    const bool weighted = row->factor != AA_FACTOR_NORM, curved = c->mask == AA_ZO_CURVATURE;
    if (c->update == AA_ZO_MOMENTUM || c->update == AA_ZO_ADAM)
        s->m = aa_arena_new(&z->arena, aa_real, n);
    if (c->update == AA_ZO_ADAM) s->v = aa_arena_new(&z->arena, aa_real, n);
    if (curved) s->curvature = aa_arena_new(&z->arena, aa_real, n);
    if (curved || (c->mask == AA_ZO_SMALL && weighted))
        s->gain = aa_arena_new(&z->arena, aa_real, n);
    if (c->basis == AA_ZO_GRADIENT && weighted) {
        s->along = aa_arena_new(&z->arena, aa_real, n);
        s->shift = aa_arena_new(&z->arena, aa_real, z->total);
    }
    if (c->update == AA_ZO_MUON && row->factor == AA_FACTOR_A)
        return most(n, aa__zo_msign_scratch(row->tensor->rows, row->tensor->cols));
    return c->update != AA_ZO_SGD || curved || s->along ? n : 0;
}

static void layout_row(aa_zo *z, zo_state *s, const aa_zo_row *row, size_t *scratch) {
    const size_t n = aa_tensor_size(row->tensor);
    if (s->moves) *scratch = most(*scratch, layout_moving(z, s, row));
    if (!s->written || !z->config.guard) return;
    /* A basis that is taken once: going back to before it takes it again. */
    if (!z->config.refresh && aa__zo_is_frozen_factor(&z->config, row->factor)) return;
    s->kept = aa_arena_new(&z->arena, aa_real, n);
    if (s->m) s->kept_m = aa_arena_new(&z->arena, aa_real, n);
    if (s->v) s->kept_v = aa_arena_new(&z->arena, aa_real, n);
    if (s->curvature) s->kept_curvature = aa_arena_new(&z->arena, aa_real, n);
    if (s->along) s->kept_along = aa_arena_new(&z->arena, aa_real, n);
}

static void layout(aa_zo *z) {
    const aa_zo_config *c = &z->config;
    const size_t groups = (size_t)c->groups, estimate = (size_t)c->estimate,
                 probes = most(aa_zo_probes(c), 2 * estimate);
    const bool curved = c->estimator == AA_ZO_CURVED;
    size_t scratch = aa__zo_basis_scratch(z);
    z->per_group = (size_t)c->streams * (curved ? 2 : 1) + 1;
    z->probes = aa_arena_new(&z->arena, aa_zo_probe, probes);
    z->losses = aa_arena_new(&z->arena, double, probes);
    z->raw = aa_arena_new(&z->arena, float, groups * z->per_group);
    z->scalars = aa_arena_new(&z->arena, float, most(z->total * (curved ? 2 : 1), estimate));
    z->present = aa_arena_new(&z->arena, unsigned char, groups);
    z->terms = aa_arena_new(&z->arena, aa_direction_term, most(z->total, estimate));
    for (size_t i = 0; i < z->space->n_rows; i++)
        layout_row(z, &z->state[i], &z->space->rows[i], &scratch);
    if (scratch) z->scratch = aa_arena_new(&z->arena, aa_real, scratch);
    if (scratch) z->scratch2 = aa_arena_new(&z->arena, aa_real, scratch);
}

static void begin(aa_zo *z) {
    z->now = (zo_numbers){.beta1_power = 1, .beta2_power = 1};
    z->backoff = 1;
    for (size_t i = 0; i < z->space->n_rows; i++) {
        const size_t n = aa_tensor_size(z->space->rows[i].tensor);
        zo_state *s = &z->state[i];
        for (size_t k = 0; s->curvature && k < n; k++) s->curvature[k] = s->gain[k] = 1;
    }
    aa__zo_thresholds(z);
}

/* Until its rows are chosen: what needs no memory of theirs. */
static aa_status prepare(aa_zo **out, const aa_zo_config *config, const aa_zo_objective *objective,
                         aa_cpu *cpu, aa_err *err) {
    AA_TRY(aa_zo_config_check(config, err));
    aa_zo *z = aa_heap_alloc(1, sizeof *z);
    if (!z) return aa_fail_memory(err, "the zeroth-order engine", sizeof *z);
    *z = (aa_zo){.config = *config, .objective = objective, .space = &objective->space, .cpu = cpu,
                 .n_groups = (size_t)config->groups,
                 .total = (size_t)(config->groups * config->streams)};
    aa_arena_init(&z->arena, "zeroth order");
    z->state = aa_arena_new(&z->arena, zo_state, z->space->n_rows ? z->space->n_rows : 1);
    aa_status st = aa_arena_status(&z->arena, err);
    if (!st) st = choose(z, err);
    if (st) aa_zo_close(z);
    else *out = z;
    return st;
}

aa_status aa_zo_measure_memory(uint64_t *out, const aa_zo_config *config,
                               const aa_zo_objective *objective, aa_err *err) {
    aa_zo *z = NULL;
    AA_TRY(prepare(&z, config, objective, NULL, err));
    aa_arena chosen = z->arena;
    aa_arena_init_measure(&z->arena, "zeroth order");
    layout(z);
    *out = chosen.used_bytes + z->arena.used_bytes;
    z->arena = chosen;
    aa_zo_close(z);
    return AA_OK;
}

aa_status aa_zo_open(aa_zo **out, const aa_zo_config *config, const aa_zo_objective *objective,
                     aa_cpu *cpu, aa_err *err) {
    aa_zo *z = NULL;
    AA_TRY(prepare(&z, config, objective, cpu, err));
    layout(z);
    aa_status st = aa_arena_status(&z->arena, err);
    if (st) {
        aa_zo_close(z);
        return st;
    }
    begin(z);
    *out = z;
    return AA_OK;
}

void aa_zo_close(aa_zo *z) {
    if (!z) return;
    aa_arena_release(&z->arena);
    aa_heap_free(z);
}

const aa_zo_config *aa_zo_config_of(const aa_zo *z) { return &z->config; }
uint64_t aa_zo_size_bytes(const aa_zo *z) { return z->arena.used_bytes; }
uint64_t aa_zo_next_step(const aa_zo *z) { return z->now.next_step; }
size_t aa_zo_raw_size(const aa_zo *z) { return z->per_group; }

static bool check_is_due(const aa_zo *z) {
    return z->config.check && z->now.next_step % (uint64_t)z->config.check == 0;
}

static aa_status write_check(aa_zo *z, aa_err *err) {
    aa_ledger_record r = {.kind = AA_LEDGER_CHECK, .step = z->now.next_step - 1};
    z->owes_check = false;
    r.check = aa_zo_digest(z);
    return aa_ledger_write(z->ledger, &r, err);
}

void aa__zo_owe_check(aa_zo *z) { z->owes_check = check_is_due(z); }

aa_status aa_zo_attach(aa_zo *z, aa_ledger *ledger, aa_err *err) {
    size_t largest = 2 * z->total * sizeof(float);
    for (size_t i = 0; i < z->space->n_rows; i++) {
        const aa_tensor *t = z->space->rows[i].tensor;
        if (z->state[i].written && z->space->rows[i].factor == AA_FACTOR_A)
            largest = most(largest, aa_tensor_size(t) + t->rows * sizeof(float));
    }
    z->ledger = ledger;
    if (!ledger) return AA_OK;
    AA_TRY(aa__ledger_reserve(ledger, largest, err));
    return z->owes_check ? write_check(z, err) : AA_OK;
}

void aa_zo_share(aa_zo *z, size_t first, size_t n) {
    aa_assert(first + n <= (size_t)z->config.groups);
    z->first_group = first, z->n_groups = n;
}

void aa_zo_set_broadcast(aa_zo *z, aa_zo_broadcast *broadcast, void *ctx) {
    z->broadcast = broadcast, z->broadcast_ctx = ctx;
}

size_t aa_zo_moved(const aa_zo *z) {
    size_t n = 0;
    for (size_t i = 0; i < z->space->n_rows; i++)
        if (z->state[i].moves) n += aa_tensor_size(z->space->rows[i].tensor);
    return n;
}

aa_digest aa_zo_digest(const aa_zo *z) {
    aa_digest all = {0};
    for (size_t i = 0; i < z->space->n_rows; i++) {
        const aa_tensor *t = z->space->rows[i].tensor;
        if (!z->state[i].written) continue;
        aa_digest pair[2] = {all, aa_digest_bytes(t->data, aa_tensor_size(t) * sizeof *t->data)};
        all = aa_digest_bytes(pair, sizeof pair);
    }
    return all;
}

/* ---- going back ------------------------------------------------------------------------------ */

typedef void copy_fn(aa_real *kept, aa_real *now, size_t n);
static void keep_one(aa_real *kept, aa_real *now, size_t n) {
    if (kept) memcpy(kept, now, n * sizeof *now);
}
static void restore_one(aa_real *kept, aa_real *now, size_t n) {
    if (kept) memcpy(now, kept, n * sizeof *now);
}

static void copy_all(aa_zo *z, copy_fn *copy) {
    for (size_t i = 0; i < z->space->n_rows; i++) {
        zo_state *s = &z->state[i];
        aa_tensor *t = z->space->rows[i].tensor;
        const size_t n = aa_tensor_size(t);
        if (!s->kept) continue;
        copy(s->kept, t->data, n);
        copy(s->kept_m, s->m, n);
        copy(s->kept_v, s->v, n);
        copy(s->kept_curvature, s->curvature, n);
        copy(s->kept_along, s->along, n);
    }
}

void aa__zo_keep(aa_zo *z) {
    if (!z->config.guard) return;
    copy_all(z, keep_one);
    z->kept = z->now;
    z->has_kept = true;
}

/* The number of the step is not among what goes back: coordinates are never used again. */
void aa__zo_go_back(aa_zo *z) {
    const uint64_t next = z->now.next_step;
    copy_all(z, restore_one);
    for (size_t i = 0; i < z->space->n_rows; i++) {
        zo_state *s = &z->state[i];
        aa_tensor *t = z->space->rows[i].tensor;
        if (s->written) t->version++;
        for (size_t k = 0; s->curvature && k < aa_tensor_size(t); k++)
            s->gain[k] = 1 / sqrtf(s->curvature[k]);
    }
    z->now = z->kept;
    z->now.next_step = next;
}

/* ---- measuring ------------------------------------------------------------------------------- */

aa_status aa__zo_prepare(aa_zo *z, zo_stored *stored, aa_err *err) {
    AA_TRY(aa__zo_refresh(z, stored, err));
    aa__zo_masks(z);
    aa__zo_shifts(z);
    return AA_OK;
}

/* Probes of group g, in the order that aa__zo_differences reads. */
static size_t ask_group(const aa_zo *z, size_t g, aa_zo_probe *p) {
    const aa_zo_config *c = &z->config;
    const size_t S = (size_t)c->streams;
    const aa_real eps = (aa_real)c->eps;
    const bool two = c->estimator == AA_ZO_TWO_SIDED || c->estimator == AA_ZO_CURVED,
               based = c->estimator == AA_ZO_BASE || c->estimator == AA_ZO_CURVED;
    const uint64_t group = z->now.next_step * (uint64_t)c->groups + g;
    size_t n = 0;
    if (based) p[n++] = (aa_zo_probe){.data = group};
    for (size_t i = 0; i < S; i++) {
        const uint64_t data = c->data == AA_ZO_OWN ? group * S + i : group;
        const uint32_t stream = (uint32_t)(g * S + i);
        p[n++] = (aa_zo_probe){stream, eps, data};
        if (two) p[n++] = (aa_zo_probe){stream, -eps, data};
    }
    return n;
}

aa_status aa_zo_measure(aa_zo *z, aa_zo_raw *raw, aa_err *err) {
    const aa_zo_objective *o = z->objective;
    const aa_zo_config *c = &z->config;
    const aa_zo_view view = {z, false};
    const size_t S = (size_t)c->streams, each = aa_zo_probes(c) / (size_t)c->groups;
    size_t n = 0;
    aa_assert(o->evaluate);
    if (z->now.next_step >= UINT32_MAX)
        return aa_fail(err, AA_EUNSUPPORTED, "a run has at most %u steps", UINT32_MAX);
    if (!z->has_kept) aa__zo_keep(z);
    z->step_forwards = 0;
    AA_TRY(aa__zo_prepare(z, NULL, err));
    for (size_t g = 0; g < z->n_groups; g++)
        n += ask_group(z, z->first_group + g, z->probes + n);
    AA_TRY(o->evaluate(o->self, &view, z->probes, n, z->losses, NULL, err));
    z->step_forwards += n * o->n_sequences;
    memset(z->present, 0, (size_t)c->groups);
    for (size_t g = 0; g < z->n_groups; g++) {
        float *values = z->raw + (z->first_group + g) * z->per_group;
        values[z->per_group - 1] = (float)aa__zo_differences(
            c, z->losses + g * each, values, c->estimator == AA_ZO_CURVED ? values + S : NULL);
        z->present[z->first_group + g] = 1;
    }
    *raw = (aa_zo_raw){z->raw, z->present};
    z->measured = true;
    return AA_OK;
}

/* ---- updating -------------------------------------------------------------------------------- */

typedef struct summary { double loss, spread; bool finite; size_t n; } summary;

static summary summarize(const aa_zo *z) {
    const size_t S = (size_t)z->config.streams;
    summary s = {.finite = true};
    for (size_t g = 0; g < (size_t)z->config.groups; g++) {
        const float *values = z->raw + g * z->per_group;
        if (!z->present[g]) continue;
        for (size_t i = 0; i < z->per_group; i++) s.finite = s.finite && isfinite(values[i]);
        s.loss += (double)values[z->per_group - 1];
        s.spread += aa__zo_spread(values, S);
        s.n++;
    }
    if (s.n) s.loss /= (double)s.n, s.spread /= (double)s.n;
    return s;
}

/* Losses below 0 have no scale of their own. */
static bool exploded(const aa_zo *z, const summary *s) {
    if (!s->n) return false;
    if (!s->finite) return true;
    if (!z->config.guard || z->config.guard_factor <= 0 || z->now.updates < 20) return false;
    double usual = z->now.loss / z->now.loss_weight;
    return usual > 0 && s->loss > z->config.guard_factor * usual;
}

static aa_status go_back(aa_zo *z, const summary *s, aa_err *err) {
    enum { MOST = 10 };
    const unsigned long long step = (unsigned long long)z->now.next_step;
    if (!z->config.guard || z->n_backoffs == MOST)
        return aa_fail(err, AA_EDIVERGED,
                       "step %llu: the loss is %g%s; a lower --zo-rho or --zo-lr usually helps",
                       step, s->loss,
                       z->config.guard ? ", after the rate was halved ten times"
                                       : ", and no state is kept to go back to (--zo-guard)");
    z->backoff /= 2;
    z->n_backoffs++;
    aa_ledger_record r = {.kind = AA_LEDGER_REWIND, .step = z->now.next_step};
    r.rewind.to = z->kept.next_step;
    r.rewind.factor = z->backoff;
    aa__zo_go_back(z);
    z->now.next_step++;
    return z->ledger ? aa_ledger_write(z->ledger, &r, err) : AA_OK;
}

static aa_ledger_step decide(aa_zo *z, const summary *s, double factor) {
    const aa_zo_config *c = &z->config;
    const size_t S = (size_t)c->streams;
    const bool curved = c->estimator == AA_ZO_CURVED;
    zo_numbers mean = z->now;
    if (s->n) aa__zo_mean(&mean.spread, &mean.spread_weight, c->ema, s->spread);
    aa__zo_coefficients(c, z->raw, z->present, z->per_group,
                        mean.spread_weight > 0 ? mean.spread / mean.spread_weight : 0,
                        factor * z->backoff, z->scalars);
    for (size_t g = 0; g < (size_t)c->groups && curved; g++)
        for (size_t i = 0; i < S; i++)
            z->scalars[z->total + g * S + i] =
                z->present[g] ? z->raw[g * z->per_group + S + i] : 0;
    return (aa_ledger_step){
        .data = z->now.next_step * (uint64_t)c->groups, .spread = mean.spread,
        .weight = mean.spread_weight, .loss = (float)s->loss,
        .rate = (float)aa__zo_rate(c, z->present, factor * z->backoff),
        .first_stream = aa__zo_first_stream(c), .n = (uint16_t)z->total,
        .present = (uint16_t)aa__zo_present(c, z->present),
        .n_scalars = (uint32_t)(z->total * (curved ? 2 : 1)), .scalars = z->scalars};
}

/* The part of a hybrid that backpropagation has: plain steps along its gradient. */
static aa_status follow_gradient(aa_zo *z, uint64_t data, double factor, aa_err *err) {
    const aa_zo_config *c = &z->config;
    const bool addax = c->hybrid == AA_ZO_ADDAX;
    const double rate = factor * z->backoff * c->hybrid_lr * (addax ? 1 - c->hybrid_alpha : 1);
    if (c->hybrid == AA_ZO_ALONE) return AA_OK;
    AA_TRY(z->objective->gradient(z->objective->self, data, err));
    for (size_t i = 0; i < z->space->n_rows; i++) {
        aa_tensor *t = z->space->rows[i].tensor;
        const bool its = addax ? z->state[i].moves
                               : t->layer >= c->hybrid_layer &&
                                     factor_moves(c, z->space->rows[i].factor);
        if (!t->grad) continue;
        if (its) {
            aa_axpy(z->cpu, t->data, (aa_real)-rate, t->grad, aa_tensor_size(t));
            t->version++;
        }
        aa_zero(z->cpu, t->grad, aa_tensor_size(t));
    }
    return AA_OK;
}

static aa_status record(aa_zo *z, const aa_ledger_step *step, aa_err *err) {
    aa_ledger_record r = {.kind = AA_LEDGER_STEP, .step = z->now.next_step, .step_of = *step};
    return z->ledger ? aa_ledger_write(z->ledger, &r, err) : AA_OK;
}

double aa__zo_shown_rate(const aa_zo *z, double factor) {
    return factor * z->backoff * (z->config.rho > 0 ? z->config.rho : z->config.lr);
}

aa_zo_report aa__zo_report(aa_zo *z, const aa_ledger_step *step) {
    aa_zo_report r = {.step = z->now.next_step, .sequence_forwards = z->step_forwards,
                      .loss = NAN, .rewound = !step, .new_basis = z->new_basis};
    z->new_basis = false;
    if (!step) return r;
    r.loss = (double)step->loss;
    if (step->weight > 0) r.spread = step->spread / step->weight;
    return r;
}

aa_status aa_zo_update(aa_zo *z, double factor, aa_zo_report *out, aa_err *err) {
    const summary s = summarize(z);
    aa_assert(z->measured);
    z->measured = false;
    if (exploded(z, &s)) {
        *out = aa__zo_report(z, NULL);
        return go_back(z, &s, err);
    }
    const aa_ledger_step step = decide(z, &s, factor);
    *out = aa__zo_report(z, &step);
    out->rate = aa__zo_shown_rate(z, factor);
    AA_TRY(record(z, &step, err));
    aa__zo_apply(z, &step);
    AA_TRY(follow_gradient(z, step.data, factor, err));
    if (z->ledger && check_is_due(z)) AA_TRY(write_check(z, err));
    if (z->config.guard && z->now.next_step % (uint64_t)z->config.guard == 0) aa__zo_keep(z);
    return AA_OK;
}

aa_status aa_zo_step(aa_zo *z, double factor, aa_zo_report *out, aa_err *err) {
    aa_zo_raw raw;
    AA_TRY(aa_zo_measure(z, &raw, err));
    return aa_zo_update(z, factor, out, err);
}
