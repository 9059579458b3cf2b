/* num/lowrank: see lowrank.h. A task is a stream, some panels of columns and ROWS rows. It makes
 * the panels' part of scale B + scale amplitude D, [columns, rank], packs it as the tile kernel
 * wants it and adds the product to y. Several panels are made together where they are small, so
 * that the generator has whole vectors to do. */
#include "num/lowrank.h"

#include "num/num_int.h"

enum { ROWS = 512, TOGETHER = 2048, DEPTH = 2048 };

typedef struct lowrank {
    aa_cpu *cpu;
    aa_real *y; size_t ldy;
    const aa_real *p; size_t ldp;
    const aa_lowrank *term;
    const aa_lowrank_stream *streams;
    size_t panels, n_groups, n_row_blocks; /* panels of a task; tasks along columns; along rows */
} lowrank;

/* Columns n .. n + n_cols of the matrix, elements k .. k + depth of each. */
static void fill(const lowrank *l, aa_real *m, const aa_lowrank_stream *s, size_t n, size_t n_cols,
                 size_t k, size_t depth) {
    const aa_lowrank *t = l->term;
    const bool whole = depth == t->rank;
    for (size_t j = 0; j < (whole ? 1 : n_cols); j++) {
        size_t at = (n + j) * t->rank + k, size = whole ? n_cols * depth : depth;
        aa_real *mj = m + j * depth;
        if (s->amplitude != 0)
            aa__direction_expand(l->cpu, mj, t->b ? t->b + at : NULL, t->scale,
                                 t->scale * s->amplitude, &s->z, at, size);
        else
            for (size_t i = 0; i < size; i++) mj[i] = t->b ? t->scale * t->b[at + i] : 0;
    }
}

static void multiply(const lowrank *l, const aa_real *panel, size_t n, size_t nr, size_t k,
                     size_t kc, size_t row, size_t end) {
    const aa_gemm_shape shape = l->cpu->k.shape;
    for (; row < end; row += shape.mr) {
        aa_tile t = {.mr = aa__min(shape.mr, end - row), .nr = nr, .kc = kc,
                     .a = l->p + row * l->ldp + k, .a_row = l->ldp, .a_k = 1, .b = panel,
                     .c = l->y + row * l->ldy + n, .ldc = l->ldy,
                     .from_zero = l->term->fresh && k == 0, .scale = 1};
        l->cpu->k.gemm_tile(&t);
    }
}

/* The panels of columns n .. end for rows row .. row_end of a stream. */
static void add_group(const lowrank *l, const aa_lowrank_stream *s, size_t n, size_t end,
                      size_t row, size_t row_end, int thread) {
    const aa_gemm_shape shape = l->cpu->k.shape;
    const size_t rank = l->term->rank;
    aa_real *panel = aa__scratch(l->cpu, thread), *m = panel + AA_SCRATCH_A;
    for (size_t k0 = 0; k0 < rank; k0 += DEPTH) {
        size_t depth = aa__min(rank - k0, DEPTH);
        fill(l, m, s, n, end - n, k0, depth);
        for (size_t j = n; j < end; j += shape.nr)
            for (size_t k = 0; k < depth; k += shape.kc) {
                size_t nr = aa__min(shape.nr, end - j), kc = aa__min(shape.kc, depth - k);
                l->cpu->k.pack_transposed(panel, shape.nr, m + (j - n) * depth + k, depth, nr, kc,
                                          shape.nr, 1);
                multiply(l, panel, j, nr, k0 + k, kc, row, row_end);
            }
    }
}

static void add_tasks(void *ctx, size_t begin, size_t end, int thread) {
    const lowrank *l = ctx;
    const size_t width = l->panels * l->cpu->k.shape.nr;
    for (size_t i = begin; i < end; i++) {
        const aa_lowrank_stream *s = &l->streams[i / (l->n_groups * l->n_row_blocks)];
        size_t n = i / l->n_row_blocks % l->n_groups * width, row = i % l->n_row_blocks * ROWS;
        if (row < s->n_rows)
            add_group(l, s, n, aa__min(n + width, l->term->n_out), s->first + row,
                      s->first + aa__min(row + ROWS, s->n_rows), thread);
    }
}

void aa_lowrank_streams(aa_cpu *cpu, aa_real *y, size_t ldy, const aa_real *p, size_t ldp,
                        const aa_lowrank *term, const aa_lowrank_stream *streams,
                        size_t n_streams) {
    double start = aa__begin(cpu), rows = 0;
    const size_t nr = cpu->k.shape.nr;
    lowrank l = {.cpu = cpu, .y = y, .ldy = ldy, .p = p, .ldp = ldp, .term = term,
                 .streams = streams};
    aa_assert(term->rank > 0 && nr * DEPTH <= AA_SCRATCH_B && nr * cpu->k.shape.kc <= AA_SCRATCH_A);
    for (size_t s = 0; s < n_streams; s++) {
        size_t blocks = aa__ceil_div(streams[s].n_rows, ROWS);
        if (blocks > l.n_row_blocks) l.n_row_blocks = blocks;
        rows += (double)streams[s].n_rows;
    }
    l.panels = TOGETHER / (nr * term->rank);
    if (!l.panels) l.panels = 1;
    l.n_groups = aa__ceil_div(term->n_out, l.panels * nr);
    if (n_streams && l.n_groups && l.n_row_blocks)
        aa_pool_run(cpu->pool, n_streams * l.n_groups * l.n_row_blocks, add_tasks, &l);
    aa__end(cpu, AA_PROF_LOWRANK, start, 2 * rows * (double)term->n_out * (double)term->rank,
            sizeof(aa_real) * (rows * (double)(2 * term->n_out + term->rank) +
                               (double)term->n_out * (double)term->rank));
}

void aa_lowrank_add(aa_cpu *cpu, aa_real *y, size_t ldy, const aa_real *p, size_t ldp, size_t T,
                    const aa_lowrank *term) {
    aa_lowrank_stream all = {.n_rows = T};
    aa_lowrank_streams(cpu, y, ldy, p, ldp, term, &all, 1);
}

/* ---- merging --------------------------------------------------------------------------------- */

typedef struct merging {
    aa_real *w;
    const aa_real *b, *a;
    size_t n_in, rank;
    aa_real scale;
} merging;

static void merge_rows(void *ctx, size_t begin, size_t end, int thread) {
    const merging *m = ctx;
    (void)thread;
    for (size_t n = begin; n < end; n++)
        for (size_t r = 0; r < m->rank; r++)
            aa__direction_axpy(m->w + n * m->n_in, m->scale * m->b[n * m->rank + r],
                               m->a + r * m->n_in, m->n_in);
}

void aa_lowrank_merge(aa_cpu *cpu, aa_real *w, const aa_real *b, const aa_real *a, size_t n_out,
                      size_t n_in, size_t rank, aa_real scale) {
    double start = aa__begin(cpu), size = (double)n_out * (double)n_in;
    merging m = {w, b, a, n_in, rank, scale};
    if (n_out) aa_pool_run(cpu->pool, n_out, merge_rows, &m);
    aa__end(cpu, AA_PROF_LOWRANK, start, 2 * size * (double)rank, 2 * sizeof(aa_real) * size);
}
