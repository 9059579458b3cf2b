/* num/attention: causal attention in tiles, so that no square matrix is ever stored.
 *
 * Forward, one task per (sequence, up to FORWARD_HEADS query heads of one key/value head, TILE
 * queries). For each tile of keys in ascending order:
 *
 *     S = Q K^T        m' = max(m, rowmax(scale S))     P = exp(scale S - m')
 *     l = l e^(m-m') + rowsum(P)                        O = O e^(m-m') + P V
 *
 * and at the end O / l, lse = m + log l. Backward, one task per (sequence, key/value head),
 * recomputes P from lse and goes key tile by key tile, within it query head by query head, query
 * tile by query tile:
 *
 *     dV += P^T dO     dP = dO V^T     dS = scale P (dP - delta)     dK += dS^T Q     dQ += dS K
 *
 * with delta = rowsum(dO O). The tile size is fixed, tiles begin at their own sequence's first row,
 * and all sums run in the order of these loops: nothing depends on the team or on what else is in
 * the batch. Products are the tile kernels of the GEMM; beyond the diagonal they are skipped,
 * within a diagonal tile row by row as far as tiles of registers allow. Few queries (generation) do
 * not repay packing: keys and values are then read once, where they lie.
 *
 * Sequences may be of any lengths, so tasks are not counted but laid end to end by what they cost
 * (pairs of query and key): a thread does those that begin in its share of the whole line.
 */
#include <math.h>
#include <string.h>
#include "num/num_int.h"

enum {
    TILE = 64,                            /* queries, and keys, of a tile */
    FORWARD_HEADS = 4,                    /* share one packing of keys and values */
    FEW_QUERIES = 4,
    MAX_D = AA_ATTENTION_MAX_D,
    PANELS = TILE * MAX_D                 /* elements of one packed operand */
};

typedef struct job {
    aa_cpu *cpu;
    const aa_attention *a;
    aa_real *o, *lse;
    const aa_real *q, *k, *v;
    aa_real *dq, *dk, *dv, *delta;
    const aa_real *d_o, *saved_o, *saved_lse;
    aa_real scale;
} job;

/* ---- sequences ------------------------------------------------------------------------------- */

/* Rows query .. query + n_query - 1 of queries, key .. key + n_key - 1 of keys and values. */
typedef struct sequence { size_t query, key, n_query, n_key; } sequence;

static sequence sequence_of(const aa_attention *a, size_t b) {
    if (!a->start) return (sequence){b * a->n_query, b * a->n_key, a->n_query, a->n_key};
    size_t row = (size_t)a->start[b], n = (size_t)(a->start[b + 1] - a->start[b]);
    return (sequence){row, row, n, n};
}

/* ---- products inside a tile ------------------------------------------------------------------ */

/* Which part of a product a causal tile needs. Row r sees columns c < first + r.
 *   ALL; SCORES: the result is cut that way; LEFT: A is; LEFT_TRANSPOSED: A^T is (row r of A holds
 * column r). */
typedef enum { ALL, SCORES, LEFT, LEFT_TRANSPOSED } causal_part;

typedef struct small {
    size_t M, N, K;
    const aa_real *a; size_t a_row, a_k;
    const aa_real *b; size_t b_rows;      /* panels [b_rows][nr] */
    aa_real *c; size_t ldc;
    bool from_zero;
    causal_part part;
    ptrdiff_t first;
} small;

static size_t clamp(ptrdiff_t x, size_t hi) { return x < 0 ? 0 : aa__min((size_t)x, hi); }

static void multiply(const aa_kernels *k, const small *p) {
    size_t mr = k->shape.mr, nr = k->shape.nr;
    aa_tile t = {.a_row = p->a_row, .a_k = p->a_k, .ldc = p->ldc, .from_zero = p->from_zero};
    for (size_t j = 0; j < p->N; j += nr) {
        size_t row0 = p->part == SCORES ? clamp((ptrdiff_t)j - p->first + 1, p->M) : 0;
        size_t n_tiles = aa__ceil_div(p->M - row0, mr);
        t.nr = aa__min(nr, p->N - j);
        for (size_t i = 0; i < n_tiles; i++) {
            size_t r0 = row0 + aa__split(p->M - row0, n_tiles, i),
                   r1 = row0 + aa__split(p->M - row0, n_tiles, i + 1);
            size_t k0 = 0, k1 = p->K;
            if (p->part == LEFT) k1 = clamp(p->first + (ptrdiff_t)r1 - 1, p->K);
            if (p->part == LEFT_TRANSPOSED) k0 = clamp((ptrdiff_t)r0 - p->first + 1, p->K);
            t.mr = r1 - r0;
            t.kc = k1 - k0;
            t.a = p->a + r0 * p->a_row + k0 * p->a_k;
            t.b = p->b + j * p->b_rows + k0 * nr;
            t.c = p->c + r0 * p->ldc + j;
            k->gemm_tile(&t);
        }
    }
}

/* n rows of D as panels [n][nr], one after another over D:
 * the right operand of a sum over the rows. */
static void pack_sum(const aa_kernels *k, aa_real *y, const aa_real *x, size_t ld, size_t n,
                     size_t D) {
    size_t nr = k->shape.nr;
    for (size_t j = 0; j < D; j += nr)
        k->pack_rows(y + j * n, nr, x + j, ld, n, aa__min(nr, D - j), nr, 1);
}

/* The same rows as panels [D][nr], one after another over the rows: for products with each row. */
static void pack_dot(const aa_kernels *k, aa_real *y, const aa_real *x, size_t ld, size_t n,
                     size_t D) {
    size_t nr = k->shape.nr;
    for (size_t j = 0; j < n; j += nr)
        k->pack_transposed(y + j * D, nr, x + j * ld, ld, aa__min(nr, n - j), D, nr, 1);
}

/* ---- forward --------------------------------------------------------------------------------- */

typedef struct forward_task {
    sequence s;
    size_t h0, n_heads, q0, n_q;          /* query heads, queries */
} forward_task;

static size_t head_groups(const aa_attention *a) {
    return a->K * aa__ceil_div(a->H / a->K, FORWARD_HEADS);
}

/* Query tiles from both ends in turn, so that neighbours on the line of tasks cost about the
 * same. */
static forward_task forward_task_of(const aa_attention *a, sequence s, size_t group, size_t i) {
    size_t n_tiles = aa__ceil_div(s.n_query, TILE), per_kv = head_groups(a) / a->K, G = a->H / a->K;
    size_t tile = i % 2 ? n_tiles - 1 - i / 2 : i / 2;
    size_t kv = group / per_kv, h = group % per_kv * FORWARD_HEADS;
    return (forward_task){.s = s,
                          .h0 = kv * G + h,
                          .n_heads = aa__min(FORWARD_HEADS, G - h),
                          .q0 = tile * TILE,
                          .n_q = aa__min(TILE, s.n_query - tile * TILE)};
}

/* Keys that the last query of a task sees. */
static size_t n_seen(const forward_task *t) { return t->s.n_key - t->s.n_query + t->q0 + t->n_q; }

typedef struct forward_space { aa_real *keys, *values, *s, *o, *m, *l, *k16, *v16; } forward_space;

static forward_space forward_space_of(aa_real *scratch) {
    enum { ROWS = FORWARD_HEADS * TILE };
    _Static_assert(4 * PANELS + ROWS * TILE + ROWS * MAX_D + 2 * ROWS <= AA_SCRATCH,
                   "attention fits the scratch");
    forward_space f = {.keys = scratch};
    f.values = f.keys + PANELS;
    f.s = f.values + PANELS;
    f.o = f.s + ROWS * TILE;
    f.m = f.o + ROWS * MAX_D;
    f.l = f.m + ROWS;
    f.k16 = f.l + ROWS;
    f.v16 = f.k16 + PANELS;
    return f;
}

/* One head's n rows of binary16 keys or values, as reals [n][D]. */
static void widen(const aa_kernels *k, aa_real *y, const uint16_t *x, size_t ld, size_t n,
                  size_t D) {
    for (size_t i = 0; i < n; i++) k->from_f16(y + i * D, (const unsigned char *)(x + i * ld), D);
}

static void forward_tile(const job *w, const forward_task *t, const forward_space *f, size_t k0,
                         bool few) {
    const aa_kernels *kern = &w->cpu->k;
    const aa_attention *a = w->a;
    size_t D = a->D, n = aa__min(TILE, t->s.n_key - k0), kv = t->h0 / (a->H / a->K);
    size_t key = (t->s.key + k0) * a->ld_k + kv * D, ld_k = a->k16 ? D : a->ld_k,
           value = (t->s.key + k0) * a->ld_v + kv * D, ld_v = a->v16 ? D : a->ld_v;
    const aa_real *keys = a->k16 ? f->k16 : w->k + key, *values = a->v16 ? f->v16 : w->v + value;
    ptrdiff_t first = (ptrdiff_t)(t->s.n_key - t->s.n_query + t->q0 + 1) - (ptrdiff_t)k0;
    if (a->k16) widen(kern, f->k16, a->k16 + key, a->ld_k, n, D);
    if (a->v16) widen(kern, f->v16, a->v16 + value, a->ld_v, n, D);
    if (!few) {
        pack_dot(kern, f->keys, keys, ld_k, n, D);
        pack_sum(kern, f->values, values, ld_v, n, D);
    }
    for (size_t h = 0; h < t->n_heads; h++) {
        const aa_real *q = w->q + (t->s.query + t->q0) * a->ld_q + (t->h0 + h) * D;
        aa_real *s = f->s + h * TILE * TILE, *o = f->o + h * TILE * D;
        if (few)
            for (size_t r = 0; r < t->n_q; r++)
                kern->dot_rows(s + r * TILE, q + r * a->ld_q, keys, ld_k, n, D);
        else
            multiply(kern, &(small){.M = t->n_q,
                                    .N = n,
                                    .K = D,
                                    .a = q,
                                    .a_row = a->ld_q,
                                    .a_k = 1,
                                    .b = f->keys,
                                    .b_rows = D,
                                    .c = s,
                                    .ldc = TILE,
                                    .from_zero = true,
                                    .part = SCORES,
                                    .first = first});
        kern->softmax_tile(&(aa_softmax){.s = s,
                                         .lds = TILE,
                                         .n_rows = t->n_q,
                                         .n = n,
                                         .first = first,
                                         .scale = w->scale,
                                         .m = f->m + h * TILE,
                                         .l = f->l + h * TILE,
                                         .o = o,
                                         .ldo = D,
                                         .D = D});
        if (few)
            for (size_t r = 0; r < t->n_q; r++)
                kern->sum_rows(o + r * D, s + r * TILE, 1, values, ld_v, n, D);
        else
            multiply(kern, &(small){.M = t->n_q,
                                    .N = D,
                                    .K = n,
                                    .a = s,
                                    .a_row = TILE,
                                    .a_k = 1,
                                    .b = f->values,
                                    .b_rows = n,
                                    .c = o,
                                    .ldc = D,
                                    .part = LEFT,
                                    .first = first});
    }
}

static void forward_one(const job *w, const forward_task *t, aa_real *scratch) {
    const aa_attention *a = w->a;
    forward_space f = forward_space_of(scratch);
    size_t D = a->D, n_rows = t->n_heads * TILE;
    for (size_t r = 0; r < n_rows; r++) {
        f.m[r] = -INFINITY;
        f.l[r] = 0;
    }
    memset(f.o, 0, n_rows * D * sizeof *f.o);
    for (size_t k0 = 0; k0 < n_seen(t); k0 += TILE)
        forward_tile(w, t, &f, k0, t->s.n_query <= FEW_QUERIES);
    for (size_t h = 0; h < t->n_heads; h++)
        for (size_t r = 0; r < t->n_q; r++) {
            size_t row = t->s.query + t->q0 + r, i = h * TILE + r;
            aa_real *o = w->o + row * a->ld_o + (t->h0 + h) * D;
            memcpy(o, f.o + i * D, D * sizeof *o);
            w->cpu->k.scale(o, 1 / f.l[i], D);
            if (w->lse) w->lse[row * a->H + t->h0 + h] = f.m[i] + aa__log(f.l[i]);
        }
}

/* Of all tasks of a sequence. */
static size_t forward_cost(const aa_attention *a, sequence s) {
    size_t sum = 0;
    for (size_t q0 = 0; q0 < s.n_query; q0 += TILE) {
        forward_task t = {.s = s, .q0 = q0, .n_q = aa__min(TILE, s.n_query - q0)};
        sum += t.n_q * n_seen(&t);
    }
    return head_groups(a) * sum;
}

static void forward_sequence(const job *w, sequence s, size_t at, size_t begin, size_t end,
                             int thread) {
    size_t n_groups = head_groups(w->a), n_tiles = aa__ceil_div(s.n_query, TILE);
    for (size_t i = 0; i < n_groups * n_tiles && at < end; i++) {
        forward_task t = forward_task_of(w->a, s, i / n_tiles, i % n_tiles);
        if (at >= begin) forward_one(w, &t, aa__scratch(w->cpu, thread));
        at += t.n_q * n_seen(&t);
    }
}

static void forward_tasks(void *ctx, size_t begin, size_t end, int thread) {
    const job *w = ctx;
    for (size_t b = 0, at = 0; b < w->a->B && at < end; b++) {
        sequence s = sequence_of(w->a, b);
        size_t cost = forward_cost(w->a, s);
        if (at + cost > begin) forward_sequence(w, s, at, begin, end, thread);
        at += cost;
    }
}

static void check_shape(const aa_attention *a) {
    aa_assert(a->K > 0 && a->H % a->K == 0 && a->D > 0 && a->D <= AA_ATTENTION_MAX_D &&
              a->n_key >= a->n_query && !(a->start && a->k16));
}

/* Pairs of query and key that see each other, times the FLOP of one product of length D. */
static double products(const aa_attention *a) {
    double sum = 0;
    for (size_t b = 0; b < a->B; b++) {
        sequence s = sequence_of(a, b);
        double n = (double)s.n_query, before = (double)(s.n_key - s.n_query);
        sum += n * (before + (n + 1) / 2);
    }
    return 2 * (double)(a->H * a->D) * sum;
}

static double bytes(const aa_attention *a, double n_query_sized, double n_key_sized) {
    size_t n_query = a->start ? (size_t)a->start[a->B] : a->B * a->n_query,
           n_key = a->start ? n_query : a->B * a->n_key;
    return (double)sizeof(aa_real) * (double)a->D *
           (n_query_sized * (double)(n_query * a->H) + n_key_sized * (double)(n_key * a->K));
}

void aa_attention_forward(aa_cpu *cpu, aa_real *o, aa_real *lse, const aa_real *q, const aa_real *k,
                          const aa_real *v, const aa_attention *a) {
    check_shape(a);
    double start = aa__begin(cpu);
    job w = {.cpu = cpu, .a = a, .o = o, .lse = lse, .q = q, .k = k, .v = v,
             .scale = AA_R(1 / sqrt((double)a->D))};
    size_t cost = 0;
    for (size_t b = 0; b < a->B; b++) cost += forward_cost(a, sequence_of(a, b));
    aa_pool_run(cpu->pool, cost, forward_tasks, &w);
    aa__end(cpu, AA_PROF_ATTENTION, start, 2 * products(a), bytes(a, 2, 2));
}

/* ---- backward -------------------------------------------------------------------------------- */

typedef struct backward_space {
    aa_real *k_dot, *v_dot, *k_sum, *q_sum, *do_sum, *s, *dp;
} backward_space;

static backward_space backward_space_of(aa_real *scratch) {
    _Static_assert(5 * PANELS + 2 * TILE * TILE <= AA_SCRATCH, "attention fits the scratch");
    backward_space f = {.k_dot = scratch};
    f.v_dot = f.k_dot + PANELS;
    f.k_sum = f.v_dot + PANELS;
    f.q_sum = f.k_sum + PANELS;
    f.do_sum = f.q_sum + PANELS;
    f.s = f.do_sum + PANELS;
    f.dp = f.s + TILE * TILE;
    return f;
}

/* One tile of one query head: queries from q0 on, keys from k0 on, of their sequence. */
static void backward_tile(const job *w, const backward_space *f, sequence s, size_t h, size_t q0,
                          size_t k0) {
    const aa_kernels *kern = &w->cpu->k;
    const aa_attention *a = w->a;
    size_t D = a->D, kv = h / (a->H / a->K), n_q = aa__min(TILE, s.n_query - q0),
           n_k = aa__min(TILE, s.n_query - k0);
    size_t q_row = s.query + q0, k_row = s.query + k0;
    const aa_real *q = w->q + q_row * a->ld_q + h * D, *d_o = w->d_o + q_row * a->ld_o + h * D;
    ptrdiff_t first = (ptrdiff_t)(q0 + 1) - (ptrdiff_t)k0;
    bool new_keys = h % (a->H / a->K) == 0 && q0 == k0;
    small scores = {.M = n_q,
                    .N = n_k,
                    .K = D,
                    .a = q,
                    .a_row = a->ld_q,
                    .a_k = 1,
                    .b = f->k_dot,
                    .b_rows = D,
                    .c = f->s,
                    .ldc = TILE,
                    .from_zero = true,
                    .part = SCORES,
                    .first = first};
    multiply(kern, &scores);
    scores.a = d_o;
    scores.a_row = a->ld_o;
    scores.b = f->v_dot;
    scores.c = f->dp;
    multiply(kern, &scores);
    kern->softmax_grad_tile(&(aa_softmax_grad){.s = f->s,
                                               .dp = f->dp,
                                               .ld = TILE,
                                               .n_rows = n_q,
                                               .n = n_k,
                                               .first = first,
                                               .scale = w->scale,
                                               .lse = w->saved_lse + q_row * a->H + h,
                                               .delta = w->delta + q_row * a->H + h,
                                               .step = a->H});
    multiply(kern, &(small){.M = n_q,
                            .N = D,
                            .K = n_k,
                            .a = f->dp,
                            .a_row = TILE,
                            .a_k = 1,
                            .b = f->k_sum,
                            .b_rows = n_k,
                            .c = w->dq + q_row * a->ld_q + h * D,
                            .ldc = a->ld_q,
                            .from_zero = k0 == 0,
                            .part = LEFT,
                            .first = first});
    pack_sum(kern, f->do_sum, d_o, a->ld_o, n_q, D);
    small sums = {.M = n_k,
                  .N = D,
                  .K = n_q,
                  .a = f->s,
                  .a_row = 1,
                  .a_k = TILE,
                  .b = f->do_sum,
                  .b_rows = n_q,
                  .c = w->dv + k_row * a->ld_v + kv * D,
                  .ldc = a->ld_v,
                  .from_zero = new_keys,
                  .part = LEFT_TRANSPOSED,
                  .first = first};
    multiply(kern, &sums);
    pack_sum(kern, f->q_sum, q, a->ld_q, n_q, D);
    sums.a = f->dp;
    sums.b = f->q_sum;
    sums.c = w->dk + k_row * a->ld_k + kv * D;
    sums.ldc = a->ld_k;
    multiply(kern, &sums);
}

static void backward_one(const job *w, sequence s, size_t kv, aa_real *scratch) {
    const aa_kernels *kern = &w->cpu->k;
    const aa_attention *a = w->a;
    size_t D = a->D, T = s.n_query, G = a->H / a->K;
    backward_space f = backward_space_of(scratch);
    for (size_t h = kv * G; h < (kv + 1) * G; h++)
        for (size_t t = s.query; t < s.query + T; t++) {
            size_t at = t * a->ld_o + h * D;
            kern->dot_rows(w->delta + t * a->H + h, w->d_o + at, w->saved_o + at, D, 1, D);
        }
    for (size_t k0 = 0; k0 < T; k0 += TILE) {
        size_t n_k = aa__min(TILE, T - k0), row = s.query + k0;
        pack_dot(kern, f.k_dot, w->k + row * a->ld_k + kv * D, a->ld_k, n_k, D);
        pack_dot(kern, f.v_dot, w->v + row * a->ld_v + kv * D, a->ld_v, n_k, D);
        pack_sum(kern, f.k_sum, w->k + row * a->ld_k + kv * D, a->ld_k, n_k, D);
        for (size_t h = kv * G; h < (kv + 1) * G; h++)
            for (size_t q0 = k0; q0 < T; q0 += TILE) backward_tile(w, &f, s, h, q0, k0);
    }
}

/* Of one task: about twice the pairs, with those that a diagonal tile has too many. */
static size_t backward_cost(sequence s) { return s.n_query * (s.n_query + TILE); }

static void backward_tasks(void *ctx, size_t begin, size_t end, int thread) {
    const job *w = ctx;
    for (size_t b = 0, at = 0; b < w->a->B; b++) {
        sequence s = sequence_of(w->a, b);
        size_t cost = backward_cost(s);
        for (size_t kv = 0; kv < w->a->K; kv++, at += cost)
            if (cost && at >= begin && at < end)
                backward_one(w, s, kv, aa__scratch(w->cpu, thread));
    }
}

void aa_attention_backward(aa_cpu *cpu, aa_real *dq, aa_real *dk, aa_real *dv, const aa_real *d_o,
                           const aa_real *q, const aa_real *k, const aa_real *v, const aa_real *o,
                           const aa_real *lse, aa_real *delta, const aa_attention *a) {
    check_shape(a);
    aa_assert(a->start || a->n_query == a->n_key);
    double start = aa__begin(cpu);
    job w = {.cpu = cpu,
             .a = a,
             .q = q,
             .k = k,
             .v = v,
             .dq = dq,
             .dk = dk,
             .dv = dv,
             .delta = delta,
             .d_o = d_o,
             .saved_o = o,
             .saved_lse = lse,
             .scale = AA_R(1 / sqrt((double)a->D))};
    size_t cost = 0;
    for (size_t b = 0; b < a->B; b++) cost += a->K * backward_cost(sequence_of(a, b));
    aa_pool_run(cpu->pool, cost, backward_tasks, &w);
    aa__end(cpu, AA_PROF_ATTENTION_BACKWARD, start, 5 * products(a), bytes(a, 4, 4));
}
