/* num/magnitude: rows of a linear map brought to lengths of their own (DoRA).
 *
 *     y = g * (W x + s B A x) + b          g_j = m_j / |W_j + s B_j A|
 *
 * W + s B A is never formed:
 *     |W_j + s B_j A|^2 = |W_j|^2 + s B_j . (2 A W_j^T + s (A A^T) B_j^T)
 * The first term is summed in double, once for each base. The others are one forward of the map
 * with the rows of A as tokens, and one of B with those of the Gram matrix: once for each update.
 *
 * Backward needs u = (W + s B A) x in no place of its own. The output has it, scaled:
 *     scale g_j u_j = y_j - residual_j - scale b_j
 * and with m_j = g_j |row j| the gradient of m_j is sum_t dy (y - residual - scale b) / m_j, one
 * pass over what forward left. The subtraction leaves an error of the size of one rounding of the
 * residual; a gain below LEAST would make it too large, and of such rows u is multiplied out.
 */
#include <math.h>
#include "num/num_int.h"

enum { CHUNK = 512, TOKENS = 64 };       /* columns, tokens at a time */
#define LEAST AA_R(0.125)                 /* half that gain has twice the error */

/* One part of a map: R is 0 and there is no m where it has no adapter. */
typedef struct part {
    const aa_tensor *W, *A, *B;
    aa_tensor *m;
    size_t i, column, R;
    aa_real s;
} part;

/* Turns {0} to the first part, and each part to the next; false: there is none. */
static bool next_part(const aa_linear *lin, part *p) {
    const aa_linear_delta *d = lin->delta;
    if (p->W) {
        p->column += p->W->rows;
        p->A += p->R > 0;
        p->i++;
    } else p->A = d->a.weight;
    if (p->i == (size_t)lin->n_parts) return false;
    p->W = &lin->weight[p->i];
    p->R = d->b[p->i].n_in;
    p->B = d->b[p->i].weight;
    p->m = d->magnitudes->m[p->i];
    p->s = d->scale[p->i];
    return true;
}

/* ---- lengths --------------------------------------------------------------------------------- */

typedef struct lengths {
    const aa_cpu *cpu;
    const part *p;
    aa_magnitudes *g;
    size_t n_out;
} lengths;

/* Row j of W, n elements from k on (a multiple of AA_SCRATCH_A); room is for stored ones. */
static const aa_real *row_of(const aa_cpu *cpu, const aa_tensor *W, size_t j, size_t k, size_t n,
                             aa_real *room) {
    if (!W->stored) return W->data + j * W->cols + k;
    aa__stored_floats(cpu, room, W->stored, j, k, n);
    return room;
}

static void square_rows(void *ctx, size_t begin, size_t end, int thread) {
    const lengths *l = ctx;
    const aa_tensor *W = l->p->W;
    for (size_t j = begin; j < end; j++) {
        double sum = 0;
        for (size_t k = 0; k < W->cols; k += AA_SCRATCH_A) {
            size_t n = aa__min(W->cols - k, AA_SCRATCH_A);
            aa_real *room = aa__scratch(l->cpu, thread);
            sum += l->cpu->k.sum_squares(row_of(l->cpu, W, j, k, n, room), n);
        }
        l->g->squares[l->p->column + j] = sum;
    }
}

static void measure_rows(void *ctx, size_t begin, size_t end, int thread) {
    const lengths *l = ctx;
    const part *p = l->p;
    (void)thread;
    for (size_t j = begin; j < end; j++) {
        const size_t column = p->column + j;
        double sum = 0;
        for (size_t r = 0; r < p->R; r++)
            sum += (double)p->B->data[j * p->R + r] *
                   (double)l->g->products[r * l->n_out + column];
        double length = sqrt(fmax(0, l->g->squares[column] + (double)p->s * sum));
        l->g->length[column] = (aa_real)length;
        l->g->gain[column] = l->g->length[column] > 0 ? p->m->data[j] / l->g->length[column] : 0;
    }
}

/* products = 2 A W^T + s (A A^T) B^T */
static void multiply(aa_cpu *cpu, const aa_linear *lin, const part *p) {
    const aa_magnitudes *g = lin->delta->magnitudes;
    const aa_epilogue twice = {.scale = 2}, more = {.scale = p->s, .accumulate = true};
    aa_linear bare = *lin, B = lin->delta->b[p->i];
    bare.bias = NULL;
    aa__linear_part(cpu, g->products, lin->n_out, p->A->data, lin->n_in, p->R, &bare, (int)p->i,
                    &twice);
    aa__product(cpu, g->gram, p->R, p->A->data, lin->n_in, false, p->A->data, lin->n_in, true, 1,
                p->R, p->R, lin->n_in, false);
    aa_linear_forward(cpu, g->products + p->column, lin->n_out, g->gram, p->R, p->R, &B, &more);
}

static uint64_t versions(const aa_linear *lin, uint64_t *base) {
    uint64_t sum = 0;
    *base = 0;
    for (int i = 0; i < lin->n_parts; i++) *base += lin->weight[i].version;
    for (part p = {0}; next_part(lin, &p);)
        if (p.R) sum += p.A->version + p.B->version + p.m->version;
    return sum + *base;
}

void aa_magnitude_refresh(aa_cpu *cpu, aa_linear *lin) {
    aa_magnitudes *g = lin->delta ? lin->delta->magnitudes : NULL;
    uint64_t base, version;
    if (!g || g->version == (version = versions(lin, &base))) return;
    const aa_compute compute = cpu->compute;
    double start = aa__begin(cpu), flop = 0;
    cpu->compute = AA_COMPUTE_F32;
    if (!g->version)
        for (size_t j = 0; j < lin->n_out; j++) g->gain[j] = 1;
    for (part p = {0}; next_part(lin, &p);) {
        lengths l = {cpu, &p, g, lin->n_out};
        if (!p.R) continue;
        if (g->base_version != base) aa_pool_run(cpu->pool, p.W->rows, square_rows, &l);
        multiply(cpu, lin, &p);
        aa_pool_run(cpu->pool, p.W->rows, measure_rows, &l);
        flop += aa__product_flop(p.R, p.W->rows, lin->n_in);
    }
    cpu->compute = compute;
    g->base_version = base;
    g->version = version;
    aa__end(cpu, AA_PROF_MAGNITUDE, start, flop, 0);
}

/* ---- backward -------------------------------------------------------------------------------- */

typedef struct back {
    const aa_cpu *cpu;
    const aa_linear *lin;
    const aa_magnitude_grad *g;
    const part *p;
} back;

/* v = W_j + s B_j A, n elements from k on */
static void sum_row(const back *b, size_t j, size_t k, size_t n, aa_real *v, aa_real *room) {
    const part *p = b->p;
    const aa_real *W = row_of(b->cpu, p->W, j, k, n, room);
    for (size_t i = 0; i < n; i++) v[i] = W[i];
    for (size_t r = 0; r < p->R; r++)
        b->cpu->k.axpy(v, p->s * p->B->data[j * p->R + r], p->A->data + r * b->lin->n_in + k, n);
}

/* The same of one row whose gain is small, by u_t = (W_j + s B_j A) x_t. */
static void gradient_row(const back *b, size_t j, aa_real *dm, aa_real *scratch) {
    const aa_magnitude_grad *g = b->g;
    const size_t n_in = b->lin->n_in, column = b->p->column + j;
    const aa_real length = b->lin->delta->magnitudes->length[column];
    aa_real *v = scratch + AA_SCRATCH_A;
    for (size_t t0 = 0; t0 < g->T; t0 += TOKENS) {
        const size_t end = aa__min(t0 + TOKENS, g->T);
        aa_real u[TOKENS] = {0}, some;
        for (size_t k = 0; k < n_in; k += AA_SCRATCH_A) {
            const size_t n = aa__min(n_in - k, AA_SCRATCH_A);
            sum_row(b, j, k, n, v, scratch);
            for (size_t t = t0; t < end; t++) {
                b->cpu->k.dot_rows(&some, g->x + t * n_in + k, v, n, 1, n);
                u[t - t0] += some;
            }
        }
        for (size_t t = t0; t < end; t++)
            *dm += g->dy[t * b->lin->n_out + column] * (g->scale * u[t - t0] / length);
    }
}

static void gradient_columns(void *ctx, size_t begin, size_t end, int thread) {
    const back *b = ctx;
    const part *p = b->p;
    const aa_magnitude_grad *g = b->g;
    const aa_magnitudes *m = b->lin->delta->magnitudes;
    const aa_real *bias = b->lin->bias ? b->lin->bias->data + p->column : NULL;
    for (size_t j = begin; j < end; j += CHUNK) {
        const size_t n = aa__min(end - j, CHUNK), column = p->column + j;
        aa_real shift[CHUNK], over[CHUNK], nothing[CHUNK] = {0};
        aa_real *dm = p->R ? p->m->grad + j : nothing;
        for (size_t i = 0; i < n; i++) {
            bool small = !(aa__fabs(m->gain[column + i]) >= LEAST);
            shift[i] = bias ? g->scale * bias[j + i] : 0;
            over[i] = small || !p->R ? 0 : 1 / p->m->data[j + i];
            if (small && p->R && m->length[column + i] > 0)
                gradient_row(b, j + i, &dm[i], aa__scratch(b->cpu, thread));
        }
        const aa_magnitude_row row = {m->gain + column, shift, over};
        for (size_t t = 0, at = column; t < g->T; t++, at += b->lin->n_out)
            b->cpu->k.magnitude_row(dm, g->du + at, g->dy + at, g->y + at,
                                    g->residual ? g->residual + at : NULL, &row, n);
    }
}

void aa_magnitude_backward(aa_cpu *cpu, const aa_linear *lin, const aa_magnitude_grad *g) {
    double start = aa__begin(cpu);
    back b = {cpu, lin, g, NULL};
    for (part p = {0}; next_part(lin, &p);) {
        b.p = &p;
        aa__run_columns(cpu, p.W->rows, gradient_columns, &b);
    }
    aa__end(cpu, AA_PROF_MAGNITUDE, start, 0,
            (g->residual ? 4 : 3) * (double)(g->T * lin->n_out) * (double)sizeof(aa_real));
}
