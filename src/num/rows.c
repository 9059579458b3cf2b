/* num/rows: normalisation, rotation, SwiGLU, embedding and loss over the team: tokens are split
 * over the threads, except in sums over tokens, where columns are. */
#include <string.h>
#include "num/num_int.h"

static double bytes(double elements) { return elements * (double)sizeof(aa_real); }

/* ---- RMS norm -------------------------------------------------------------------------------- */

typedef struct norm {
    aa_cpu *cpu;
    aa_real *y; size_t ldy;               /* y, or dx */
    aa_real *rstd, *dw;
    const aa_real *dy; size_t lddy;
    const aa_real *x, *w, *saved;
    aa_rows rows;
    aa_real eps;
    bool accumulate;
} norm;

static void norm_tokens(void *ctx, size_t begin, size_t end, int thread) {
    const norm *n = ctx;
    aa_rows r = n->rows;
    (void)thread;
    for (size_t t = begin; t < end; t++)
        n->cpu->k.rmsnorm_rows(n->y + t * n->ldy, r.C, n->rstd ? n->rstd + t * r.heads : NULL,
                               n->x + t * r.ld, r.C, n->w, r.heads, r.C, n->eps);
}

void aa_rmsnorm_forward(aa_cpu *cpu, aa_real *y, size_t ldy, aa_real *rstd, const aa_real *x,
                        const aa_real *w, aa_rows rows, aa_real eps) {
    double start = aa__begin(cpu), n_elements = (double)(rows.T * rows.heads * rows.C);
    norm n = {
        .cpu = cpu, .y = y, .ldy = ldy, .rstd = rstd, .x = x, .w = w, .rows = rows, .eps = eps};
    if (rows.T) aa_pool_run(cpu->pool, rows.T, norm_tokens, &n);
    aa__end(cpu, AA_PROF_RMSNORM, start, 4 * n_elements, bytes(2 * n_elements));
}

static void norm_dw_columns(void *ctx, size_t begin, size_t end, int thread) {
    const norm *n = ctx;
    aa_rows r = n->rows;
    (void)thread;
    if (r.heads == 1) {
        n->cpu->k.rmsnorm_dw(n->dw + begin, n->dy + begin, n->lddy, n->x + begin, r.ld, n->saved, 1,
                             r.T, end - begin);
        return;
    }
    for (size_t t = 0; t < r.T; t++)
        n->cpu->k.rmsnorm_dw(n->dw + begin, n->dy + t * n->lddy + begin, r.C,
                             n->x + t * r.ld + begin, r.C, n->saved + t * r.heads, 1, r.heads,
                             end - begin);
}

static void norm_dx_tokens(void *ctx, size_t begin, size_t end, int thread) {
    const norm *n = ctx;
    aa_rows r = n->rows;
    (void)thread;
    for (size_t t = begin; t < end; t++)
        n->cpu->k.rmsnorm_dx_rows(n->y + t * r.ld, r.C, n->dy + t * n->lddy, r.C, n->x + t * r.ld,
                                  r.C, n->w, n->saved + t * r.heads, r.heads, r.C, n->accumulate);
}

void aa_rmsnorm_backward(aa_cpu *cpu, aa_real *dx, aa_real *dw, const aa_real *dy, size_t lddy,
                         const aa_real *x, const aa_real *w, const aa_real *rstd, aa_rows rows,
                         bool accumulate) {
    double start = aa__begin(cpu), n_elements = (double)(rows.T * rows.heads * rows.C);
    norm n = {.cpu = cpu, .y = dx, .dw = dw, .dy = dy, .lddy = lddy, .x = x, .w = w, .saved = rstd,
              .rows = rows, .accumulate = accumulate};
    /* dw first: dx may be dy. */
    if (rows.T) {
        if (dw) aa__run_columns(cpu, rows.C, norm_dw_columns, &n);
        aa_pool_run(cpu->pool, rows.T, norm_dx_tokens, &n);
    }
    aa__end(cpu, AA_PROF_RMSNORM_BACKWARD, start, 11 * n_elements,
            bytes((accumulate ? 4 : 3) * n_elements));
}

/* ---- rotary embedding ------------------------------------------------------------------------ */

typedef struct rotation {
    aa_cpu *cpu;
    aa_real *x; size_t ld, heads, D;
    const aa_real *table; const int32_t *pos;
    aa_real sign;
} rotation;

static void rope_tokens(void *ctx, size_t begin, size_t end, int thread) {
    const rotation *r = ctx;
    (void)thread;
    for (size_t t = begin; t < end; t++) {
        const aa_real *angles = r->table + (size_t)r->pos[t] * r->D;
        r->cpu->k.rope_row(r->x + t * r->ld, r->heads, r->D, angles, angles + r->D / 2, r->sign);
    }
}

void aa_rope(aa_cpu *cpu, aa_real *x, size_t ld, size_t T, size_t heads, size_t D,
             const aa_real *table, const int32_t *pos, bool inverse) {
    double start = aa__begin(cpu), n_elements = (double)(T * heads * D);
    rotation r = {cpu, x, ld, heads, D, table, pos, inverse ? -1 : 1};
    if (T) aa_pool_run(cpu->pool, T, rope_tokens, &r);
    aa__end(cpu, AA_PROF_ROPE, start, 3 * n_elements, bytes(2 * n_elements));
}

/* ---- SwiGLU ---------------------------------------------------------------------------------- */

typedef struct glu { aa_cpu *cpu; aa_real *y; const aa_real *dy, *gu; size_t F; } glu;

static void swiglu_tokens(void *ctx, size_t begin, size_t end, int thread) {
    const glu *g = ctx;
    (void)thread;
    for (size_t t = begin; t < end; t++) {
        const aa_real *gate = g->gu + t * 2 * g->F;
        g->cpu->k.swiglu_row(g->y + t * g->F, gate, gate + g->F, g->F);
    }
}

void aa_swiglu_forward(aa_cpu *cpu, aa_real *y, const aa_real *gu, size_t T, size_t F) {
    double start = aa__begin(cpu), n_elements = (double)(T * F);
    glu g = {.cpu = cpu, .y = y, .gu = gu, .F = F};
    if (T) aa_pool_run(cpu->pool, T, swiglu_tokens, &g);
    aa__end(cpu, AA_PROF_SWIGLU, start, 20 * n_elements, bytes(3 * n_elements));
}

static void swiglu_grad_tokens(void *ctx, size_t begin, size_t end, int thread) {
    const glu *g = ctx;
    (void)thread;
    for (size_t t = begin; t < end; t++) {
        const aa_real *gate = g->gu + t * 2 * g->F;
        aa_real *dgate = g->y + t * 2 * g->F;
        g->cpu->k.swiglu_grad_row(dgate, dgate + g->F, g->dy + t * g->F, gate, gate + g->F, g->F);
    }
}

void aa_swiglu_backward(aa_cpu *cpu, aa_real *dgu, const aa_real *dy, const aa_real *gu, size_t T,
                        size_t F) {
    double start = aa__begin(cpu), n_elements = (double)(T * F);
    glu g = {.cpu = cpu, .y = dgu, .dy = dy, .gu = gu, .F = F};
    if (T) aa_pool_run(cpu->pool, T, swiglu_grad_tokens, &g);
    aa__end(cpu, AA_PROF_SWIGLU_BACKWARD, start, 28 * n_elements, bytes(5 * n_elements));
}

/* ---- embedding ------------------------------------------------------------------------------- */

typedef struct lookup {
    aa_cpu *cpu;
    aa_real *y;
    const aa_real *x;
    const int32_t *ids;
    size_t T, C;
} lookup;

static void embedding_tokens(void *ctx, size_t begin, size_t end, int thread) {
    const lookup *l = ctx;
    (void)thread;
    for (size_t t = begin; t < end; t++)
        memcpy(l->y + t * l->C, l->x + (size_t)l->ids[t] * l->C, l->C * sizeof(aa_real));
}

void aa_embedding_forward(aa_cpu *cpu, aa_real *x, const aa_real *table, const int32_t *ids,
                          size_t T, size_t C) {
    double start = aa__begin(cpu);
    lookup l = {cpu, x, table, ids, T, C};
    if (T) aa_pool_run(cpu->pool, T, embedding_tokens, &l);
    aa__end(cpu, AA_PROF_EMBEDDING, start, 0, bytes(2 * (double)(T * C)));
}

/* Threads share every row, each its own columns: the same id may come twice. */
static void embedding_columns(void *ctx, size_t begin, size_t end, int thread) {
    const lookup *l = ctx;
    (void)thread;
    for (size_t t = 0; t < l->T; t++)
        l->cpu->k.axpy(l->y + (size_t)l->ids[t] * l->C + begin, 1, l->x + t * l->C + begin,
                       end - begin);
}

void aa_embedding_backward(aa_cpu *cpu, aa_real *dtable, const aa_real *dx, const int32_t *ids,
                           size_t T, size_t C) {
    double start = aa__begin(cpu);
    lookup l = {cpu, dtable, dx, ids, T, C};
    aa__run_columns(cpu, C, embedding_columns, &l);
    aa__end(cpu, AA_PROF_EMBEDDING_BACKWARD, start, (double)(T * C), bytes(3 * (double)(T * C)));
}

/* ---- cross-entropy --------------------------------------------------------------------------- */

typedef struct entropy {
    aa_cpu *cpu;
    aa_real *loss, *logits; size_t ld;
    const int32_t *target; size_t V;
    aa_real gradient_scale;
} entropy;

static void entropy_tokens(void *ctx, size_t begin, size_t end, int thread) {
    const entropy *e = ctx;
    (void)thread;
    for (size_t t = begin; t < end; t++) {
        aa_real *row = e->logits + t * e->ld;
        if (e->target[t] < 0) {
            e->loss[t] = 0;
            if (e->gradient_scale != 0) memset(row, 0, e->V * sizeof(aa_real));
        } else {
            e->loss[t] =
                e->cpu->k.cross_entropy_row(row, e->V, (size_t)e->target[t], e->gradient_scale);
        }
    }
}

void aa_cross_entropy(aa_cpu *cpu, aa_real *loss, aa_real *logits, size_t ld, const int32_t *target,
                      size_t T, size_t V, aa_real gradient_scale) {
    double start = aa__begin(cpu), n_elements = (double)(T * V);
    entropy e = {cpu, loss, logits, ld, target, V, gradient_scale};
    if (T) aa_pool_run(cpu->pool, T, entropy_tokens, &e);
    aa__end(cpu, AA_PROF_CROSS_ENTROPY, start, 15 * n_elements,
            bytes((gradient_scale != 0 ? 2 : 1) * n_elements));
}

static bool is_hit(const aa_real *row, size_t V, size_t target) {
    const aa_real best = row[target];
    bool hit = true;
    for (size_t v = 0; v < target; v++) hit &= row[v] < best;
    for (size_t v = target + 1; v < V; v++) hit &= row[v] <= best;
    return hit;
}

static void hit_tokens(void *ctx, size_t begin, size_t end, int thread) {
    const entropy *e = ctx;
    (void)thread;
    for (size_t t = begin; t < end; t++)
        e->loss[t] = e->target[t] >= 0 &&
                     is_hit(e->logits + t * e->ld, e->V, (size_t)e->target[t]);
}

void aa_greedy_hits(aa_cpu *cpu, aa_real *hit, const aa_real *logits, size_t ld,
                    const int32_t *target, size_t T, size_t V) {
    double start = aa__begin(cpu), n_elements = (double)(T * V);
    entropy e = {.loss = hit, .logits = (aa_real *)(uintptr_t)logits, .ld = ld, .target = target,
                 .V = V};
    if (T) aa_pool_run(cpu->pool, T, hit_tokens, &e);
    aa__end(cpu, AA_PROF_CROSS_ENTROPY, start, n_elements, bytes(n_elements));
}
