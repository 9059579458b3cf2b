/* num/linear_stored: linear maps over weights as files hold them, mapped and never copied whole.
 *
 * Weights of small integers, with compute INT8: x is rounded to 8 bits in groups of 16 or 32, as
 * the weights' scales go (error at most max |x| / 254 in each group), and meets them in integers.
 * A panel of rows of W is taken apart and packed, DEPTH elements of K at a time, in L1, and the
 * tile kernel runs down the rows of x. The sums of groups are exact and are scaled and added in
 * ascending order: the same bits for any threads, instruction set, and rows beside a row. One row
 * is bound by memory even so: taking a byte of weights apart costs less than to fetch it.
 *
 * Everything else is made into floats: for many rows panel by panel where GEMM packs them (with
 * compute BF16 into pairs); for up to FEW rows each row of W is read once and multiplied where it
 * lies, in two chains per vector lane instead of one, so that few and many rows differ in rounding.
 *
 * The parts of a map (q|k|v) may be of different types. Threads share the panels of all parts.
 */
#include <string.h>
#include "num/num_int.h"

enum {
    FEW = 8,
    DEPTH = AA_INT8_DEPTH,
    GROUPS = DEPTH / 16,                  /* in DEPTH elements, at most */
    MAX_NR = 32,
    MAX_ROWS = 1024,                      /* of x rounded at a time */
    LDQ = DEPTH + 64                      /* of rows taken apart: not all in one set of the cache */
};

/* The compiler knows n, and makes vectors of it. */
static inline void one_group(aa_real *restrict y, const int8_t *restrict q, aa_real d, aa_real m,
                             size_t n) {
    for (size_t i = 0; i < n; i++) {
        aa_real product = d * (aa_real)q[i];
        y[i] = product + m;
    }
}

/* n <= DEPTH elements of small integers; the same bits as aa_dequantize. */
static void from_integers(const aa_cpu *cpu, aa_real *y, aa_type type, const unsigned char *x,
                          size_t n) {
    const size_t group = aa__type_group(type);
    int8_t q[DEPTH];
    aa_real d[GROUPS], m[GROUPS] = {0};
    cpu->k.int8_unpack(&(aa_int8_unpack){.type = type, .x = x, .n_rows = 1, .n = n, .q = q, .d = d,
                                         .m = aa__type_has_min(type) ? m : NULL});
    for (size_t i = 0; i < n; i += group)
        if (group == 32) one_group(y + i, q + i, d[i / 32], m[i / 32], 32);
        else one_group(y + i, q + i, d[i / group], m[i / group], 16);
}

void aa__stored_floats(const aa_cpu *cpu, aa_real *y, const aa_stored *s, size_t row, size_t first,
                       size_t n) {
    const unsigned char *x = aa_stored_row(s, row) + aa_type_bytes(s->type, first);
    float some[DEPTH];
    if (s->type == AA_TYPE_F16) {
        cpu->k.from_f16(y, x, n);
        return;
    }
    if (s->type == AA_TYPE_BF16) {
        cpu->k.from_bf16(y, x, n);
        return;
    }
    for (size_t at = 0; at < n; at += DEPTH) {
        size_t len = aa__min(DEPTH, n - at);
        const unsigned char *from = x + aa_type_bytes(s->type, at);
        if (aa__type_group(s->type)) {
            from_integers(cpu, y + at, s->type, from, len);
            continue;
        }
        aa_dequantize(some, s->type, from, len);
        for (size_t i = 0; i < len; i++) y[at + i] = some[i];
    }
}

/* ---- the map --------------------------------------------------------------------------------- */

typedef struct map {
    aa_cpu *cpu;
    const aa_linear *lin;
    aa_epilogue e; bool plain;
    aa_real *y; size_t ldy;
    const aa_real *x; size_t ldx;
    size_t T, panel;                      /* rows of x; rows of W of a panel */
    bool integers[AA_LINEAR_PARTS];
    size_t n_panels[AA_LINEAR_PARTS];           /* to be done here */
    aa_int8_row rounded[2]; size_t ldq, ld[2];       /* x in groups of 16, of 32 */
} map;

/* Up to a panel of rows of one part, and their columns of y. */
typedef struct piece { int part; const aa_stored *w; size_t row, n, column; } piece;

static piece piece_of(const map *m, size_t i) {
    size_t column = 0;
    int part = 0;
    for (; i >= m->n_panels[part]; part++) {
        i -= m->n_panels[part];
        column += m->lin->weight[part].rows;
    }
    const aa_stored *w = m->lin->weight[part].stored;
    size_t row = i * m->panel;
    return (piece){part, w, row, aa__min(m->panel, w->rows - row), column + row};
}

/* Where sums of tokens from t on and of the piece's columns from j on go when they are complete. */
static void set_output(const map *m, const piece *p, aa_tile *t, size_t token, size_t j) {
    size_t column = p->column + j;
    const aa_epilogue *e = &m->e;
    t->y = m->y + token * m->ldy + column;
    t->ldy = m->ldy;
    t->scale = e->scale;
    t->gain = aa__gain_of(m->lin, e) ? aa__gain_of(m->lin, e) + column : NULL;
    t->bias = m->lin->bias ? m->lin->bias->data + column : NULL;
    t->residual = e->accumulate ? t->y
                  : e->residual ? e->residual + token * e->ld_residual + column
                                : NULL;
    t->ld_residual = e->accumulate ? m->ldy : e->ld_residual;
}

/* ---- integers -------------------------------------------------------------------------------- */

typedef struct round_job { const map *m; int which; } round_job;

static aa_int8_row row_at(const aa_int8_row *r, size_t q, size_t group) {
    return (aa_int8_row){r->q + q, r->d + group, r->s + group, r->sum + group};
}

static void round_rows(void *ctx, size_t begin, size_t end, int thread) {
    const round_job *j = ctx;
    const map *m = j->m;
    (void)thread;
    for (size_t t = begin; t < end; t++) {
        aa_int8_row to = row_at(&m->rounded[j->which], t * m->ldq, t * m->ld[j->which]);
        m->cpu->k.int8_quantize(&to, m->x + t * m->ldx, m->lin->n_in, 16u << j->which);
    }
}

static size_t rounded_bytes(const map *m, int which) {
    return m->ldq + m->ld[which] * (2 * sizeof(aa_real) + sizeof(int32_t));
}

/* The first m->T rows of x. */
static void round_x(map *m, const bool wanted[2]) {
    unsigned char *at = (unsigned char *)m->cpu->operand;
    for (int i = 0; i < 2; i++) {
        if (!wanted[i]) continue;
        aa_int8_row *r = &m->rounded[i];
        r->d = (aa_real *)(void *)at;
        r->s = r->d + m->T * m->ld[i];
        r->sum = (int32_t *)(void *)(r->s + m->T * m->ld[i]);
        r->q = (int8_t *)(r->sum + m->T * m->ld[i]);
        at += aa__round_up(m->T * rounded_bytes(m, i), AA_ALIGN);
        round_job j = {m, i};
        aa_pool_run(m->cpu->pool, m->T, round_rows, &j);
    }
}

typedef struct space {                    /* one thread's */
    int8_t *q, *b;                        /* [nr][LDQ] rows; [DEPTH/4][nr][4] the panel */
    aa_real *d_rows, *m_rows, *d, *m;     /* [nr][GROUPS]; [GROUPS][nr] */
    aa_real *sums;                        /* [MAX_ROWS][nr] */
} space;

static space space_of(aa_real *scratch) {
    enum { BYTES = MAX_NR * (LDQ + DEPTH), SCALES = MAX_NR * GROUPS };
    _Static_assert(BYTES / 4 + 4 * SCALES + MAX_ROWS * MAX_NR <= AA_SCRATCH, "a panel fits");
    space s = {.q = (int8_t *)scratch};
    s.b = s.q + MAX_NR * LDQ;
    s.d_rows = scratch + BYTES / sizeof *scratch;
    s.m_rows = s.d_rows + SCALES;
    s.d = s.m_rows + SCALES;
    s.m = s.d + SCALES;
    s.sums = s.m + SCALES;
    return s;
}

/* Rows at even distances: all, or as many as stay in one half of a head. */
static size_t even_rows(const aa_stored *w, size_t row, size_t n) {
    size_t half = w->paired_head / 2;
    return half ? aa__min(n, half - row % half) : n;
}

static void take_apart(const map *m, const piece *p, const space *s, size_t k0, size_t n) {
    size_t row_bytes = aa_type_bytes(p->w->type, p->w->cols);
    bool has_min = aa__type_has_min(p->w->type);
    for (size_t i = 0, some; i < p->n; i += some) {
        some = even_rows(p->w, p->row + i, p->n - i);
        m->cpu->k.int8_unpack(&(aa_int8_unpack){
            .type = p->w->type,
            .x = aa_stored_row(p->w, p->row + i) + aa_type_bytes(p->w->type, k0),
            .step = p->w->paired_head ? 2 * row_bytes : row_bytes,
            .n_rows = some,
            .n = n,
            .ahead = m->panel * row_bytes,
            .q = s->q + i * LDQ,
            .ldq = LDQ,
            .d = s->d_rows + i * GROUPS,
            .m = has_min ? s->m_rows + i * GROUPS : NULL,
            .ld = GROUPS});
    }
}

/* The same for one row of x, sixteen rows of W at a time where the set has a kernel for them. */
static bool one_row(const map *m, const piece *p) {
    const size_t K = m->lin->n_in, row_bytes = aa_type_bytes(p->w->type, K);
    const size_t group = aa__type_group(p->w->type);
    aa_real y[16];
    if (p->n % 16) return false;
    for (size_t i = 0; i < p->n; i += 16) {
        if (even_rows(p->w, p->row + i, 16) != 16) return false;
        const unsigned char *next = p->w->data + (p->row + i + 16) * row_bytes;
        for (size_t k0 = 0; k0 < K; k0 += DEPTH) {
            aa_int8_dot dot = {
                .type = p->w->type,
                .x = aa_stored_row(p->w, p->row + i) + aa_type_bytes(p->w->type, k0),
                .step = p->w->paired_head ? 2 * row_bytes : row_bytes,
                .n = aa__min(DEPTH, K - k0),
                .fetch = next + k0 * 16 * row_bytes / K,
                .n_fetch = 16 * aa_type_bytes(p->w->type, aa__min(DEPTH, K - k0)),
                .far = 32 * row_bytes,
                .a = row_at(&m->rounded[group == 32], k0, k0 / group),
                .from_zero = k0 == 0,
                .y = y};
            if (!m->cpu->k.int8_dot(&dot)) return false;
        }
        aa_tile t = {.nr = 16};
        set_output(m, p, &t, 0, i);
        aa__tile_finish(&t, 0, y);
    }
    return true;
}

static void integer_piece(const map *m, const piece *p, const space *s) {
    const aa_kernels *k = &m->cpu->k;
    const aa_gemm_shape shape = k->int8_shape();
    const size_t K = m->lin->n_in, group = aa__type_group(p->w->type), nr = shape.nr;
    const size_t n_tiles = aa__ceil_div(m->T, shape.mr);
    const int which = group == 32;
    const bool has_min = aa__type_has_min(p->w->type);
    for (size_t k0 = 0; k0 < K; k0 += DEPTH) {
        size_t n = aa__min(DEPTH, K - k0), groups = n / group;
        take_apart(m, p, s, k0, n);
        k->int8_pack(s->b, s->q, LDQ, p->n, n);
        k->pack_transposed(s->d, nr, s->d_rows, GROUPS, p->n, groups, nr, 1);
        if (has_min) k->pack_transposed(s->m, nr, s->m_rows, GROUPS, p->n, groups, nr, 1);
        for (size_t i = 0; i < n_tiles; i++) {
            size_t t0 = aa__split(m->T, n_tiles, i);
            aa_int8_tile tile = {
                .t = {.mr = aa__split(m->T, n_tiles, i + 1) - t0, .nr = p->n, .from_zero = k0 == 0},
                .group = group,
                .n_groups = groups,
                .a = row_at(&m->rounded[which], t0 * m->ldq + k0, t0 * m->ld[which] + k0 / group),
                .lda = m->ldq,
                .ld = m->ld[which],
                .b = s->b,
                .b_d = s->d,
                .b_m = has_min ? s->m : NULL};
            tile.t.c = m->plain ? m->y + t0 * m->ldy + p->column : s->sums + t0 * nr;
            tile.t.ldc = m->plain ? m->ldy : nr;
            if (!m->plain && k0 + n == K) set_output(m, p, &tile.t, t0, 0);
            k->int8_tile(&tile);
        }
    }
}

/* ---- floats, few rows ------------------------------------------------------------------------ */

/* s[t] = x_t . our row */
static void dot_row(const map *m, const aa_stored *w, size_t row, aa_real *s, aa_real *scratch) {
    const aa_kernels *k = &m->cpu->k;
    const unsigned char *at = aa_stored_row(w, row);
    const size_t K = w->cols;
    aa_real part[FEW];
    if (w->type == AA_TYPE_F32) k->dot_f32(s, m->x, m->ldx, m->T, at, K);
    else if (w->type == AA_TYPE_F16) k->dot_f16(s, m->x, m->ldx, m->T, at, K);
    else if (w->type == AA_TYPE_BF16) k->dot_bf16(s, m->x, m->ldx, m->T, at, K);
    else {
        for (size_t t = 0; t < m->T; t++) s[t] = 0;
        for (size_t k0 = 0; k0 < K; k0 += DEPTH) {
            size_t n = aa__min(DEPTH, K - k0);
            aa__stored_floats(m->cpu, scratch, w, row, k0, n);
            for (size_t t = 0; t < m->T; t++) {
                k->dot_rows(part + t, m->x + t * m->ldx + k0, scratch, n, 1, n);
                s[t] += part[t];
            }
        }
    }
}

static void float_piece(const map *m, const piece *p, aa_real *scratch) {
    aa_real sums[FEW];
    for (size_t j = 0; j < p->n; j++) {
        dot_row(m, p->w, p->row + j, sums, scratch);
        for (size_t t = 0; t < m->T; t++) {
            aa_tile tile = {.nr = 1};
            set_output(m, p, &tile, t, j);
            aa__tile_finish(&tile, 0, sums + t);
        }
    }
}

/* ---- all of it ------------------------------------------------------------------------------- */

static void run_pieces(void *ctx, size_t begin, size_t end, int thread) {
    const map *m = ctx;
    aa_real *scratch = aa__scratch(m->cpu, thread);
    const space s = space_of(scratch);
    for (size_t i = begin; i < end; i++) {
        piece p = piece_of(m, i);
        if (m->integers[p.part] && m->T == 1 && one_row(m, &p)) continue;
        if (m->integers[p.part]) integer_piece(m, &p, &s);
        else float_piece(m, &p, scratch);
    }
}

/* Rows of x that are rounded at a time. */
static size_t rows_at_a_time(const map *m, const bool wanted[2], size_t T) {
    size_t bytes = 2 * AA_ALIGN, room = AA_OPERAND * sizeof(aa_real) - 4 * AA_ALIGN;
    for (int i = 0; i < 2; i++)
        if (wanted[i]) bytes += rounded_bytes(m, i);
    aa_assert(bytes <= room);
    return aa__min(aa__min(T, MAX_ROWS), room / bytes);
}

void aa__linear_stored(aa_cpu *cpu, aa_real *y, size_t ldy, const aa_real *x, size_t ldx, size_t T,
                       const aa_linear *lin, const aa_epilogue *e) {
    const size_t K = lin->n_in;
    bool wanted[2] = {false, false};
    map m = {.cpu = cpu, .lin = lin, .e = *e, .ldy = ldy, .ldx = ldx,
             .plain = e->scale == 1 && !e->residual && !e->accumulate && !lin->bias &&
                      !aa__gain_of(lin, e),
             .panel = cpu->k.int8_shape().nr, .ldq = aa__round_up(K, 64) + 64,
             .ld = {K / 16, K / 32}};
    size_t n_panels = 0;
    aa_assert(lin->n_parts <= AA_LINEAR_PARTS);
    for (int i = 0; i < lin->n_parts; i++) {
        const aa_stored *w = lin->weight[i].stored;
        size_t group = aa__type_group(w->type);
        m.integers[i] = group && cpu->compute == AA_COMPUTE_INT8;
        if (m.integers[i]) wanted[group == 32] = true;
        m.n_panels[i] = m.integers[i] || T <= FEW ? aa__ceil_div(w->rows, m.panel) : 0;
        n_panels += m.n_panels[i];
        if (!m.n_panels[i]) aa__linear_part(cpu, y, ldy, x, ldx, T, lin, i, e);
    }
    if (!n_panels) return;
    for (size_t t = 0; t < T; t += m.T) {
        m.T = rows_at_a_time(&m, wanted, T - t);
        m.x = x + t * ldx;
        m.y = y + t * ldy;
        if (e->residual) m.e.residual = e->residual + t * e->ld_residual;
        round_x(&m, wanted);
        aa_pool_run(cpu->pool, n_panels, run_pieces, &m);
    }
    if (!e->p) return;
    const aa_epilogue on_top = {.scale = e->scale, .accumulate = true, .p = e->p};
    for (int i = 0; i < lin->n_parts; i++)
        if (m.n_panels[i]) aa__linear_part(cpu, y, ldy, NULL, 0, T, lin, i, &on_top);
}

/* ---- lookup ---------------------------------------------------------------------------------- */

typedef struct lookup {
    const aa_cpu *cpu;
    aa_real *x;
    const aa_stored *w;
    const int32_t *ids;
} lookup;

static void look_up(void *ctx, size_t begin, size_t end, int thread) {
    const lookup *l = ctx;
    size_t C = l->w->cols;
    (void)thread;
    for (size_t t = begin; t < end; t++)
        aa__stored_floats(l->cpu, l->x + t * C, l->w, (size_t)l->ids[t], 0, C);
}

void aa_embedding_stored(aa_cpu *cpu, aa_real *x, const aa_stored *table, const int32_t *ids,
                         size_t T) {
    double start = aa__begin(cpu), size = (double)(T * table->cols);
    lookup l = {cpu, x, table, ids};
    if (T) aa_pool_run(cpu->pool, T, look_up, &l);
    aa__end(cpu, AA_PROF_EMBEDDING, start, 0, 2 * size * (double)sizeof(aa_real));
}
