#include "train/probe.h"

#include <string.h>
#include "model/activations.h"

static const aa_real one = 1;

static size_t index_of(const aa_prober *p, const aa_tensor *t) {
    return (size_t)(t - p->model->tensors);
}

static const aa_probe_rows *rows_of(const aa_prober *p, const aa_tensor *t) {
    return &p->rows[index_of(p, t)];
}

/* Rows of stream s in the pass; the last one's may be more than there are. */
static size_t stream_rows(const aa_prober *p, size_t s) {
    const size_t left = p->activations->N - p->streams[s].first;
    return p->streams[s].n_rows < left ? p->streams[s].n_rows : left;
}

static aa_real amplitude(const aa_prober *p, size_t s) { return p->streams[s].probe->amplitude; }

static bool direction(const aa_prober *p, int row, size_t s, aa_direction *z) {
    return row >= 0 && aa_zo_direction(p->view, (size_t)row, p->streams[s].probe, z);
}

/* Streams whose weights differ in a row of the space, as far as they are among `n` rows of the pass
 * from row `first` on, which is row 0 of the operands. */
static size_t list_streams(const aa_prober *p, int row, size_t first, size_t n) {
    size_t count = 0;

    if (!p->view || row < 0) return 0;
    for (size_t s = 0; s < p->n_streams; s++) {
        const size_t begin = p->streams[s].first, end = begin + p->streams[s].n_rows,
                     from = begin > first ? begin : first,
                     to = end < first + n ? end : first + n;
        aa_lowrank_stream *l = &p->list[count];

        if (from >= to || !direction(p, row, s, &l->z)) continue;
        l->first = from - first;
        l->n_rows = to - from;
        l->amplitude = amplitude(p, s);
        count++;
    }
    return count;
}

/* y[n,n_out] += scale amplitude D x[n,n_in] for the streams among these rows. */
static void add(const aa_prober *p, int row, aa_real *y, size_t ldy, const aa_real *x, size_t ldx,
                size_t n_out, size_t n_in, aa_real scale, size_t first, size_t n) {
    const aa_lowrank term = {.n_out = n_out, .rank = n_in, .scale = scale};
    const size_t count = list_streams(p, row, first, n);

    if (count) aa_lowrank_streams(p->cpu, y, ldy, x, ldx, &term, p->list, count);
}

/* y[n,n_out] += scale B (amplitude D q), q [n,R] */
static void add_core(const aa_prober *p, const aa_linear *b, aa_real *y, size_t ldy,
                     const aa_real *q, size_t ldq, aa_real scale, size_t n) {
    const size_t i = index_of(p, b->weight), R = b->n_in,
                 count = list_streams(p, p->rows[i].core, 0, n);
    const aa_lowrank inner = {.n_out = R, .rank = R, .scale = 1, .fresh = true},
                     outer = {.n_out = b->n_out, .rank = R, .b = count ? p->parts[i][0].data : NULL,
                              .scale = scale};

    if (!count) return;
    aa_lowrank_streams(p->cpu, p->inner, R, q, ldq, &inner, p->list, count);
    for (size_t s = 0; s < count; s++) p->list[s].amplitude = 0;
    aa_lowrank_streams(p->cpu, y, ldy, p->inner, R, &outer, p->list, count);
}

/* ---- linear maps ----------------------------------------------------------------------------- */

/* Gains of the map's rows in stream s, into p->vector; false: they are not perturbed. */
static bool stream_gains(const aa_prober *p, const aa_linear *lin, size_t s) {
    const aa_real *length = lin->delta->magnitudes->length;
    aa_real *to = p->vector;
    bool any = false;
    aa_direction z;

    memcpy(to, lin->delta->magnitudes->gain, lin->n_out * sizeof *to);
    for (int i = 0; i < lin->n_parts; i++) {
        const size_t at = index_of(p, &lin->weight[i]), n = lin->weight[i].rows;
        const aa_tensor *parts = p->parts[at];

        if (direction(p, p->rows[at].scale, s, &z)) {
            aa_direction_add(p->cpu, to, parts[1].data, 1, amplitude(p, s), &z, 0, n);
            for (size_t j = 0; j < n; j++)
                to[j] = length[j] > 0 ? to[j] * parts[0].data[j] / length[j] : 0;
            any = true;
        }
        to += n;
        length += n;
    }
    return any;
}

static bool scales_move(const aa_prober *p, const aa_linear *lin) {
    bool any = false;

    if (!p->view || !lin->delta || !lin->delta->magnitudes) return false;
    for (int i = 0; i < lin->n_parts; i++) any = any || rows_of(p, &lin->weight[i])->scale >= 0;
    return any;
}

/* The map, stream by stream with the gains of each. */
static void scaled_forward(const aa_prober *p, aa_real *y, size_t ldy, const aa_real *x, size_t ldx,
                           aa_linear *lin, const aa_epilogue *e) {
    aa_real *gain = lin->delta->magnitudes->gain;

    for (size_t s = 0; s < p->n_streams; s++) {
        const size_t first = p->streams[s].first;
        aa_epilogue here = *e;

        if (e->residual) here.residual += first * e->ld_residual;
        if (e->p) here.p += first * lin->delta->a.n_out;
        if (stream_gains(p, lin, s)) lin->delta->magnitudes->gain = p->vector;
        aa_linear_forward(p->cpu, y + first * ldy, ldy, x + first * ldx, ldx, stream_rows(p, s),
                          lin, &here);
        lin->delta->magnitudes->gain = gain;
    }
}

static aa_status forward_begin(void *self, aa_real *y, size_t ldy, const aa_real *x, size_t ldx,
                               size_t T, aa_linear *lin, const aa_epilogue *e, aa_err *err) {
    const aa_prober *p = self;
    const aa_linear_delta *d = lin->delta;
    const bool head = lin == &p->model->head;      /* a chunk of the pass's rows */
    const size_t first = head ? (size_t)(x - p->activations->n_final) / lin->n_in : 0;
    size_t column = 0, rank = 0;

    (void)err;
    if (scales_move(p, lin)) scaled_forward(p, y, ldy, x, ldx, lin, e);
    else aa_linear_forward(p->cpu, y, ldy, x, ldx, T, lin, e);
    for (int i = 0; i < lin->n_parts && p->view; i++) {
        const size_t n_out = lin->weight[i].rows;
        aa_real *to = y + column;

        add(p, rows_of(p, &lin->weight[i])->own, to, ldy, x, ldx, n_out, lin->n_in, e->scale, first,
            T);
        if (lin->bias)
            add(p, rows_of(p, &lin->bias[i])->own, to, ldy, &one, 0, n_out, 1, e->scale, first, T);
        if (e->p && d->b[i].n_in) {
            const aa_real scale = e->scale * d->scale[i], *q = e->p + rank;

            add(p, rows_of(p, d->b[i].weight)->own, to, ldy, q, d->a.n_out, n_out, d->b[i].n_in,
                scale, 0, T);
            add_core(p, &d->b[i], to, ldy, q, d->a.n_out, scale, T);
            rank += d->b[i].n_in;
        }
        column += n_out;
    }
    return AA_OK;
}

static aa_status dx_begin(void *self, aa_real *dx, size_t lddx, const aa_real *dy, size_t lddy,
                          size_t T, const aa_linear *lin, aa_real scale, bool accumulate,
                          const aa_real *dp, aa_err *err) {
    const aa_prober *p = self;
    (void)err;
    aa_linear_dx(p->cpu, dx, lddx, dy, lddy, T, lin, scale, accumulate, dp);
    return AA_OK;
}

static aa_status dw_begin(void *self, const aa_linear *lin, const aa_real *dy, size_t lddy,
                          const aa_real *x, size_t ldx, size_t T, aa_real scale, aa_err *err) {
    const aa_prober *p = self;
    (void)err;
    aa_linear_dw(p->cpu, lin, dy, lddy, x, ldx, T, scale);
    return AA_OK;
}

static aa_status wait(void *self, aa_err *err) {
    (void)self, (void)err;
    return AA_OK;
}

/* ---- what stands around them ----------------------------------------------------------------- */

/* One step of a power iteration for the bases of the map. */
static void watch(const aa_prober *p, const aa_real *q, const aa_real *x, size_t T,
                  const aa_linear *a) {
    aa_tensor sum = {.rows = a->n_out, .cols = a->n_in,
                     .grad = p->watch->sum + p->watch->at[index_of(p, a->weight)]};
    const aa_linear lin = {.weight = &sum, .n_parts = 1, .n_out = a->n_out, .n_in = a->n_in};

    aa_linear_dw(p->cpu, &lin, q, a->n_out, x, a->n_in, T, 1);
}

static void delta_input(void *self, aa_real *q, const aa_real *x, size_t T, aa_linear *lin) {
    const aa_prober *p = self;
    const aa_epilogue plain = {.scale = 1};
    aa_linear *a = &lin->delta->a;
    size_t column = 0;

    aa_linear_forward(p->cpu, q, a->n_out, x, a->n_in, T, a, &plain);
    if (p->watch) watch(p, q, x, T, a);
    for (int i = 0; i < a->n_parts; column += a->weight[i].rows, i++)
        add(p, rows_of(p, &a->weight[i])->own, q + column, a->n_out, x, a->n_in,
            a->weight[i].rows, a->n_in, 1, 0, T);
}

static void norm(void *self, aa_real *y, size_t ldy, aa_real *rstd, const aa_real *x,
                 const aa_tensor *w, aa_rows rows, aa_real eps) {
    const aa_prober *p = self;
    const int row = rows_of(p, w)->own;

    if (!p->view || row < 0) {
        aa_rmsnorm_forward(p->cpu, y, ldy, rstd, x, w->data, rows, eps);
        return;
    }
    for (size_t s = 0; s < p->n_streams; s++) {
        const size_t first = p->streams[s].first;
        const aa_real *gain = w->data;
        aa_direction z;

        if (direction(p, row, s, &z)) {
            aa_direction_add(p->cpu, p->vector, w->data, 1, amplitude(p, s), &z, 0, rows.C);
            gain = p->vector;
        }
        rows.T = stream_rows(p, s);
        aa_rmsnorm_forward(p->cpu, y + first * ldy, ldy, rstd ? rstd + first * rows.heads : NULL,
                           x + first * rows.ld, gain, rows, eps);
    }
}

static void lookup(void *self, aa_model *m, aa_activations *a, const int32_t *ids) {
    const aa_prober *p = self;
    const size_t C = (size_t)m->config.dim;
    const int row = rows_of(p, m->embedding)->own;

    aa__lookup_forward(m, p->cpu, a, ids);
    for (size_t s = 0; s < p->n_streams && p->view && row >= 0; s++) {
        const aa_probe_stream *t = &p->streams[s];
        aa_direction z;

        if (!direction(p, row, s, &z)) continue;
        for (size_t i = t->first; i < t->first + stream_rows(p, s); i++) {
            aa_real *x = a->blocks[0].x + i * C;
            aa_direction_add(p->cpu, x, x, 1, amplitude(p, s), &z, (uint64_t)ids[i] * C, C);
        }
    }
}

void aa_prober_init(aa_prober *p) {
    p->backend = (aa_backend){
        .name = "probe",
        .self = p,
        .cpu = p->cpu,
        .linear_forward_begin = forward_begin,
        .linear_dx_begin = dx_begin,
        .linear_dw_begin = dw_begin,
        .wait = wait,
        .lookup = lookup,
        .norm = norm,
        .delta_input = delta_input,
    };
}
