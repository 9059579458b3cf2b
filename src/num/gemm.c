/* num/gemm: matrix products over the team, and linear maps as three of them.
 *
 * All of them are C[M,N] (+)= A[M,K] B[K,N]. The rows are cut into tiles of at most mr, the columns
 * into panels of nr; a tile kernel computes one tile of one panel. Around it (after Goto & van de
 * Geijn 2008, "Anatomy of high-performance matrix multiplication") stand loops that keep kc steps
 * of a panel in L1 and a block of each operand in L2:
 *
 *     for each group of panels (nc columns)
 *       for each range of rows
 *         for each block of k                  pack that slab of B: group x kc
 *           for each block of tiles (mc rows)  pack that block of A where it pays
 *             for each panel, each tile:       the kernel
 *
 * Between blocks of k the sums wait in memory, in C itself or, when an epilogue must see the
 * finished product (residual, scale, bias), in per-thread scratch. A float loses nothing by being
 * stored, so an element is one chain of multiply-adds in ascending k whatever the blocks, the
 * threads and the rows beside it: a token gets the same bits alone and in a batch.
 *
 * The forms of B:  packed panels (the resident copy of a linear map's weight: [panel][K][nr],
 * zero beyond the last column); row-major [K,N], whose slabs are copied; row-major [N,K], whose
 * slabs are transposed; both of these in a file, whose slabs are made into floats before. A is read
 * where it lies, unless its rows are so far apart that they fall into the same cache sets, or it is
 * a transpose (weight gradients) that many panels read.
 *
 * C may be the sum of several such products (terms): the parts of a map whose weights lie apart,
 * and what an adapter adds. The chain of an element runs through them one after the other.
 *
 * Operands are floats or pairs of bfloat16 (num_int.h). Pairs are made while packing, so A is then
 * always copied; k counts places of the packed operands, floats or pairs.
 *
 * Threads get a grid of row and column ranges, fixed by shape and team; each packs what it needs
 * itself, so that nobody waits for anybody.
 */
#include "num/num_int.h"

typedef enum { B_PACKED, B_ROWS, B_TRANSPOSED, B_STORED, B_STORED_ROWS } b_form;
typedef enum { A_DIRECT, A_COPIED, A_TRANSPOSED, A_COLUMNS } a_form;

/* A B over K; the places of all terms are one chain, in their order. */
typedef struct term {
    size_t K, n_k;                        /* n_k: places along K */
    a_form a_is; const aa_real *a; size_t lda; aa_real a_scale;
    size_t a_row, a_k;                    /* A_DIRECT: from row to row, from k to k */
    b_form b_is; const aa_real *b; size_t ldb; aa_real b_scale;
    const aa_stored *stored; size_t unit; /* places that blocks of k begin at multiples of */
} term;

enum { MAX_TERMS = AA_LINEAR_PARTS + 1 };

typedef struct product {
    const aa_cpu *cpu;
    const aa_operands *o;
    size_t M, N;
    term term[MAX_TERMS]; int n_terms;
    aa_real *c; size_t ldc;
    bool from_zero;                       /* the chain starts at 0, not at C */
    const aa_epilogue *epilogue;          /* NULL: C is the plain sum */
    const aa_real *gain, *bias;
    size_t grid_m, grid_n;
} product;

/* One thread's share: a rectangle of tiles and panels, and where it is in the loops. */
typedef struct share {
    const product *p;
    const term *t;
    const aa_gemm_shape *s;               /* p->o->shape */
    aa_real *slab_a, *slab_b, *sums, *rows_b;
    size_t n_tiles; /* in all of M; the first n_longer are rows + 1 high, the rest rows */
    size_t rows, n_longer;
    size_t k0, kc, kc_max; bool first_k, last_k;
    size_t panel0, row0;                  /* of the group and the row range */
    size_t range_rows;
} share;

static size_t tile_row(const share *h, size_t tile) {
    return h->rows * tile + aa__min(tile, h->n_longer);
}

/* Rows are packed a few at a time across all panels or tiles,
 * so that memory is read in long pieces. */
enum { PACK_ROWS = 8 };

/* n_rows of n elements will be packed soon. */
static void fetch_rows(const aa_real *x, size_t ldx, size_t n_rows, size_t n) {
    for (size_t i = 0; i < n_rows; i++, x += ldx)
        for (size_t j = 0; j < n; j += 64 / sizeof *x) __builtin_prefetch(x + j, 0, 2);
}

/* Elements of K in n places from place k on: the last pair may be half empty. */
static size_t depth(const share *h, size_t k, size_t n) {
    size_t step = h->p->o->step;
    return aa__min(n * step, h->t->K - k * step);
}

/* Panels of rows in a file: columns of the product. */
static void pack_stored(const share *h, size_t panel_end) {
    const product *p = h->p;
    const term *t = h->t;
    size_t nr = h->s->nr, n = depth(h, h->k0, h->kc);
    for (size_t panel = h->panel0; panel < panel_end; panel++) {
        size_t n_rows = aa__min(nr, p->N - panel * nr);
        for (size_t i = 0; i < n_rows; i++)
            aa__stored_floats(p->cpu, h->rows_b + i * n, t->stored, panel * nr + i,
                              h->k0 * p->o->step, n);
        p->o->pack_transposed(h->slab_b + (panel - h->panel0) * h->kc_max * nr, nr, h->rows_b, n,
                              n_rows, n, nr, t->b_scale);
    }
}

/* The same rows as places of K: of each, whole blocks around the columns of the panels. */
static void pack_stored_rows(const share *h, size_t panel_end) {
    const product *p = h->p;
    const term *t = h->t;
    size_t nr = h->s->nr, slab = h->kc_max * nr, block = aa_type_block(t->stored->type);
    size_t column = h->panel0 * nr, end = aa__min(panel_end * nr, p->N);
    size_t first = column / block * block, width = aa__round_up(end, block) - first;
    size_t rows = AA_SCRATCH_ROWS / width / p->o->step;     /* places at a time */
    for (size_t i = 0; i < h->kc; i += rows) {
        size_t n = depth(h, h->k0 + i, aa__min(rows, h->kc - i));
        for (size_t j = 0; j < n; j++)
            aa__stored_floats(p->cpu, h->rows_b + j * width, t->stored,
                              (h->k0 + i) * p->o->step + j, first, width);
        for (size_t panel = h->panel0; panel < panel_end; panel++)
            p->o->pack_rows(h->slab_b + (panel - h->panel0) * slab + i * nr, nr,
                            h->rows_b + panel * nr - first, width, n,
                            aa__min(nr, p->N - panel * nr), nr, t->b_scale);
    }
}

static void pack_b(const share *h, size_t panel_end) {
    const product *p = h->p;
    const aa_operands *o = p->o;
    const term *t = h->t;
    size_t nr = h->s->nr, slab = h->kc_max * nr;
    if (t->b_is == B_STORED) {
        pack_stored(h, panel_end);
        return;
    }
    if (t->b_is == B_STORED_ROWS) {
        pack_stored_rows(h, panel_end);
        return;
    }
    if (t->b_is == B_TRANSPOSED) {
        for (size_t panel = h->panel0; panel < panel_end; panel++)
            o->pack_transposed(h->slab_b + (panel - h->panel0) * slab, nr,
                               t->b + panel * nr * t->ldb + h->k0 * o->step, t->ldb,
                               aa__min(nr, p->N - panel * nr), depth(h, h->k0, h->kc), nr,
                               t->b_scale);
        return;
    }
    size_t n = aa__min(panel_end * nr, p->N) - h->panel0 * nr;
    for (size_t i = 0; i < h->kc; i += PACK_ROWS) {
        const aa_real *b = t->b + (h->k0 + i) * o->step * t->ldb;
        size_t n_rows = depth(h, h->k0 + i, aa__min(PACK_ROWS, h->kc - i));
        if (i + 2 * PACK_ROWS <= h->kc)
            fetch_rows(b + n_rows * t->ldb + h->panel0 * nr, t->ldb, n_rows, n);
        for (size_t panel = h->panel0; panel < panel_end; panel++)
            o->pack_rows(h->slab_b + (panel - h->panel0) * slab + i * nr, nr, b + panel * nr,
                         t->ldb, n_rows, aa__min(nr, p->N - panel * nr), nr, t->b_scale);
    }
}

/* A block's rows in scratch: as [tile][k][mr, in whole vectors] for a transpose, as rows of kc and
 * a cache line for a copy, or a transpose whose kernel wants rows. */
static size_t tile_stride(const share *h) { return aa__round_up(h->s->mr, 4); }
static size_t copy_stride(const share *h) { return aa__round_up(h->kc_max, 16) + 16; }

static void pack_a(const share *h, size_t tile0, size_t tile1) {
    const aa_operands *o = h->p->o;
    const term *t = h->t;
    size_t row0 = tile_row(h, tile0), mr_max = tile_stride(h), slab = h->kc_max * mr_max;
    size_t width = aa__round_up(h->kc, h->s->unit);
    if (t->a_is == A_COPIED) {
        o->pack_copy(h->slab_a, copy_stride(h), t->a + row0 * t->lda + h->k0 * o->step, t->lda,
                     tile_row(h, tile1) - row0, depth(h, h->k0, h->kc), width, 1);
        return;
    }
    if (t->a_is == A_COLUMNS) {
        o->pack_columns(h->slab_a, copy_stride(h), t->a + h->k0 * o->step * t->lda + row0, t->lda,
                        depth(h, h->k0, h->kc), tile_row(h, tile1) - row0, width, t->a_scale);
        return;
    }
    for (size_t i = 0; i < h->kc; i += PACK_ROWS) {
        const aa_real *a = t->a + (h->k0 + i) * o->step * t->lda;
        size_t n_rows = depth(h, h->k0 + i, aa__min(PACK_ROWS, h->kc - i)), row = row0;
        if (i + 2 * PACK_ROWS <= h->kc)
            fetch_rows(a + n_rows * t->lda + row0, t->lda, n_rows, tile_row(h, tile1) - row0);
        for (size_t tile = tile0; tile < tile1; tile++) {
            size_t end = tile_row(h, tile + 1);
            o->pack_rows(h->slab_a + (tile - tile0) * slab + i * mr_max, mr_max, a + row, t->lda,
                         n_rows, end - row, mr_max, t->a_scale);
            row = end;
        }
    }
}

static void set_a(const share *h, aa_tile *to, size_t block_tile, size_t tile) {
    const term *t = h->t;
    size_t row = tile_row(h, tile);
    to->mr = tile_row(h, tile + 1) - row;
    if (t->a_is == A_TRANSPOSED) {
        to->a = h->slab_a + (tile - block_tile) * h->kc_max * tile_stride(h);
        to->a_row = 1;
        to->a_k = tile_stride(h);
    } else if (t->a_is != A_DIRECT) {
        to->a = h->slab_a + (row - tile_row(h, block_tile)) * copy_stride(h);
        to->a_row = copy_stride(h);
        to->a_k = 1;
    } else {
        to->a = t->a + row * t->a_row + h->k0 * t->a_k;
        to->a_row = t->a_row;
        to->a_k = t->a_k;
    }
}

/* Where the sums of this tile wait, and what happens to them after the last k. */
static void set_c(const share *h, aa_tile *t, size_t panel, size_t row) {
    const product *p = h->p;
    size_t j = panel * h->s->nr;
    aa_real *c = p->c + row * p->ldc + j;
    t->nr = aa__min(h->s->nr, p->N - j);
    t->c = c;
    t->ldc = p->ldc;
    t->y = NULL;
    if (!p->epilogue) return;
    const aa_epilogue *e = p->epilogue;
    t->c = h->sums + ((panel - h->panel0) * h->range_rows + (row - h->row0)) * h->s->nr;
    t->ldc = h->s->nr;
    if (!h->last_k) return;
    t->y = c;
    t->ldy = p->ldc;
    t->scale = e->scale;
    t->gain = p->gain ? p->gain + j : NULL;
    t->bias = p->bias ? p->bias + j : NULL;
    t->residual = e->accumulate ? c : e->residual ? e->residual + row * e->ld_residual + j : NULL;
    t->ld_residual = e->accumulate ? p->ldc : e->ld_residual;
}

/* The resident slab after this one: next panel, or first panel of the next block of k. Its fetching
 * is spread over the tiles of this one. */
static void set_ahead(const share *h, aa_tile *t, size_t panel, size_t panel_end, size_t n_tiles) {
    const term *of = h->t;
    size_t nr = h->s->nr, at = panel + 1 < panel_end ? (panel + 1) * of->n_k + h->k0
                                                     : h->panel0 * of->n_k + h->k0 + h->kc;
    bool last = panel + 1 == panel_end && h->k0 + h->kc == of->n_k;
    t->next_b = of->b_is == B_PACKED && !last ? of->b + at * nr : NULL;
    t->next_step = aa__ceil_div(nr * sizeof(aa_real), n_tiles);
}

static void run_block(const share *h, size_t tile0, size_t tile1, size_t panel_end) {
    const product *p = h->p;
    const term *of = h->t;
    if (of->a_is != A_DIRECT) pack_a(h, tile0, tile1);
    aa_tile t = {.kc = h->kc, .from_zero = h->first_k && p->from_zero};
    for (size_t panel = h->panel0; panel < panel_end; panel++) {
        t.b = of->b_is == B_PACKED ? of->b + (panel * of->n_k + h->k0) * h->s->nr
                                   : h->slab_b + (panel - h->panel0) * h->kc_max * h->s->nr;
        set_ahead(h, &t, panel, panel_end, tile1 - tile0);
        for (size_t tile = tile0; tile < tile1; tile++) {
            set_a(h, &t, tile0, tile);
            set_c(h, &t, panel, tile_row(h, tile));
            t.next_c = t.from_zero || tile + 1 == tile1 ? NULL : t.c + t.mr * t.ldc;
            p->o->tile(&t);
            if (t.next_b) t.next_b += h->kc * t.next_step / sizeof(aa_real);
        }
    }
}

/* Tiles whose rows run through all of k before the next ones. In place, sums travel to memory once
 * per block of k, B is packed once per range: the larger of the two decides which to do rarely. */
static size_t range_tiles(const share *h, size_t n_tiles, size_t n_panels) {
    const term *t = h->p->term;
    size_t block = h->s->mc / h->s->mr;
    if (h->p->epilogue) return block;
    size_t rows = n_tiles * h->s->mr;
    return t->b_is != B_PACKED && rows > t->K && n_panels > 0 ? 2 * block : n_tiles;
}

/* Blocks of k of a term. One tile of rows uses every panel once: nothing to keep in L1, so one long
 * block. */
static size_t k_blocks(const share *h, const term *t, size_t n_tiles) {
    bool stream = n_tiles == 1 && t->b_is == B_PACKED && t->a_is == A_DIRECT;
    if (stream || t->K == 0) return 1;
    return aa__ceil_div(aa__ceil_div(t->n_k, t->unit), h->s->kc / t->unit);
}

/* One term for a group of panels and a range of rows. */
static void run_term(share *h, const term *t, size_t n_blocks, size_t tile0, size_t tile1,
                     size_t panel_end) {
    const product *p = h->p;
    size_t n_units = aa__ceil_div(t->n_k, t->unit), block = h->s->mc / h->s->mr;
    h->t = t;
    h->kc_max = aa__ceil_div(n_units, n_blocks) * t->unit;
    for (size_t i = 0; i < n_blocks; i++) {
        h->k0 = aa__split(n_units, n_blocks, i) * t->unit;
        h->kc = aa__min(aa__split(n_units, n_blocks, i + 1) * t->unit, t->n_k) - h->k0;
        h->first_k = t == p->term && i == 0;
        h->last_k = t + 1 == p->term + p->n_terms && i + 1 == n_blocks;
        if (t->b_is != B_PACKED) pack_b(h, panel_end);
        for (size_t t0 = tile0; t0 < tile1; t0 += block)
            run_block(h, t0, aa__min(t0 + block, tile1), panel_end);
    }
}

static void run_share(const product *p, size_t i_m, size_t i_n, int thread) {
    const aa_gemm_shape *s = &p->o->shape;
    aa_real *scratch = aa__scratch(p->cpu, thread);
    share h = {.p = p, .s = s, .slab_a = scratch, .slab_b = scratch + AA_SCRATCH_A,
               .sums = scratch + AA_SCRATCH_A + AA_SCRATCH_B,
               .rows_b = scratch + AA_SCRATCH - AA_SCRATCH_ROWS,
               .n_tiles = aa__ceil_div(p->M, s->mr)};
    h.rows = p->M / h.n_tiles;
    h.n_longer = p->M % h.n_tiles;
    size_t n_panels = aa__ceil_div(p->N, s->nr), group = s->nc / s->nr;
    size_t tile_begin = aa__split(h.n_tiles, p->grid_m, i_m),
           tile_end = aa__split(h.n_tiles, p->grid_m, i_m + 1);
    size_t panel_begin = aa__split(n_panels, p->grid_n, i_n),
           panel_end = aa__split(n_panels, p->grid_n, i_n + 1);
    size_t range = range_tiles(&h, tile_end - tile_begin, panel_end - panel_begin);
    for (h.panel0 = panel_begin; h.panel0 < panel_end; h.panel0 += group) {
        size_t group_end = aa__min(h.panel0 + group, panel_end);
        for (size_t range0 = tile_begin; range0 < tile_end; range0 += range) {
            size_t range_end = aa__min(range0 + range, tile_end);
            h.row0 = tile_row(&h, range0);
            h.range_rows = tile_row(&h, range_end) - h.row0;
            for (int i = 0; i < p->n_terms; i++)
                run_term(&h, &p->term[i], k_blocks(&h, &p->term[i], tile_end - tile_begin), range0,
                         range_end, group_end);
        }
    }
}

static void run_task(void *ctx, size_t begin, size_t end, int thread) {
    const product *p = ctx;
    for (size_t i = begin; i < end; i++) run_share(p, i / p->grid_n, i % p->grid_n, thread);
}

/* The grid with the least work for the busiest thread, packing included: copying an element costs
 * about as much as PACK_COST multiply-adds. */
static void choose_grid(product *p) {
    enum { PACK_COST = 12 };
    const aa_gemm_shape *s = &p->o->shape;
    const term *t = p->term;
    size_t n_threads = (size_t)p->cpu->n_threads;
    size_t n_tiles = aa__ceil_div(p->M, s->mr), n_panels = aa__ceil_div(p->N, s->nr);
    double best = 0;
    for (size_t m = 1; m <= n_threads; m++) {
        size_t n = n_threads / m;
        double rows = (double)aa__min(aa__ceil_div(n_tiles, m) * s->mr, p->M);
        double columns = (double)(aa__ceil_div(n_panels, n) * s->nr);
        double cost = rows * columns +
                      (t->b_is != B_PACKED ? PACK_COST * columns : PACK_COST / 4 * columns) +
                      (t->a_is != A_DIRECT ? PACK_COST * rows : 0);
        if (m > 1 && cost >= best) continue;
        best = cost;
        p->grid_m = m;
        p->grid_n = n;
    }
}

/* Where A may stay: rows a multiple of 4 KiB apart meet in one set of an L1 cache, and copying a
 * transpose pays only where many panels read the copy. */
static void choose_a(const product *p, term *t) {
    enum { NARROW = 16 };
    const aa_gemm_shape *s = &p->o->shape;
    bool colliding = t->lda * sizeof(aa_real) % 4096 == 0;
    t->a_row = t->lda;
    t->a_k = 1;
    if (t->a_is == A_DIRECT) {
        bool copy = colliding && p->M > s->mr && p->N >= 4 * s->nr;
        if (p->o->step > 1 || copy) t->a_is = A_COPIED;
    } else if (s->unit > 1) {
        t->a_is = A_COLUMNS;
    } else if (p->o->step == 1 && t->a_scale == 1 && !colliding && p->N <= NARROW * s->nr) {
        t->a_is = A_DIRECT;
        t->a_row = 1;
        t->a_k = t->lda;
    }
}

static void run_product(aa_cpu *cpu, product *p, const aa_operands *o) {
    if (p->M == 0 || p->N == 0) return;
    p->cpu = cpu;
    p->o = o;
    for (int i = 0; i < p->n_terms; i++) {
        term *t = &p->term[i];
        t->n_k = aa__ceil_div(t->K, o->step);
        t->unit = o->shape.unit;
        size_t block = t->b_is == B_STORED ? aa_type_block(t->stored->type) / o->step : 1;
        if (block > t->unit) t->unit = block;
        choose_a(p, t);
    }
    choose_grid(p);
    aa_pool_run(cpu->pool, p->grid_m * p->grid_n, run_task, p);
}

double aa__product_bytes(size_t M, size_t N, size_t K) {
    return (double)sizeof(aa_real) *
           ((double)M * (double)K + (double)N * (double)K + (double)M * (double)N);
}

double aa__product_flop(size_t M, size_t N, size_t K) {
    return 2.0 * (double)M * (double)N * (double)K;
}

/* ---- the resident copy ----------------------------------------------------------------------- */

static const aa_operands *operands_of(const aa_cpu *cpu) {
    return &cpu->k.linear[cpu->compute == AA_COMPUTE_BF16 ? AA_COMPUTE_BF16 : AA_COMPUTE_F32];
}

size_t aa_linear_packed_size(const aa_cpu *cpu, const aa_linear *lin) {
    const aa_operands *o = operands_of(cpu);
    return aa__round_up(lin->n_out, o->shape.nr) * aa__ceil_div(lin->n_in, o->step);
}

static uint64_t version_of(const aa_linear *lin) {
    uint64_t sum = 0;
    for (int i = 0; i < lin->n_parts; i++) sum += lin->weight[i].version;
    return sum;
}

typedef struct packing { const aa_cpu *cpu; const aa_linear *lin; } packing;

static void pack_panels(void *ctx, size_t begin, size_t end, int thread) {
    const packing *p = ctx;
    const aa_linear *lin = p->lin;
    const aa_operands *o = operands_of(p->cpu);
    size_t nr = o->shape.nr, K = lin->n_in, n_k = aa__ceil_div(K, o->step);
    (void)thread;
    for (size_t i = begin; i < end; i++)
        o->pack_transposed(lin->packed + i * nr * n_k, nr, lin->weight->data + i * nr * K, K,
                           aa__min(nr, lin->n_out - i * nr), K, nr, 1);
}

/* If the copy is there and out of date. */
static void refresh_packed(aa_cpu *cpu, aa_linear *lin) {
    uint64_t version = version_of(lin);
    if (!lin->packed || (lin->packed_version != 0 && lin->packed_version == version)) return;
    double start = aa__begin(cpu);
    packing p = {cpu, lin};
    aa_pool_run(cpu->pool, aa__ceil_div(lin->n_out, operands_of(cpu)->shape.nr), pack_panels, &p);
    lin->packed_version = version;
    aa__end(cpu, AA_PROF_PACK, start, 0,
            (1 + 1.0 / (double)operands_of(cpu)->step) * (double)sizeof(aa_real) *
                (double)lin->n_out * (double)lin->n_in);
}

/* ---- the public products --------------------------------------------------------------------- */

static bool is_plain(const aa_epilogue *e, const product *p) {
    return e->scale == 1 && !e->residual && !e->accumulate && !p->bias && !p->gain;
}

static double stored_bytes(const aa_linear *lin) {
    double sum = 0;
    for (int i = 0; i < lin->n_parts; i++) {
        const aa_stored *s = lin->weight[i].stored;
        sum += (double)s->rows * (double)aa_type_bytes(s->type, s->cols);
    }
    return sum;
}

/* B as rows of W in memory or in a file: [N,K] for forward, [K,N] for dx. Floats in a file are read
 * where they lie if they lie as floats in memory would. */
static term weight_term(const aa_tensor *w, bool transposed, aa_real scale) {
    term t = {.b = w->data, .ldb = w->cols, .b_scale = scale};
    const aa_stored *s = w->stored;
    t.b_is = transposed ? B_TRANSPOSED : B_ROWS;
    if (!s) return t;
    if (s->type == AA_TYPE_F32 && !s->paired_head && sizeof(aa_real) == sizeof(float) &&
        (uintptr_t)s->data % sizeof(float) == 0) {
        t.b = (const aa_real *)(const void *)s->data;
        return t;
    }
    t.stored = s;
    t.b_is = transposed ? B_STORED : B_STORED_ROWS;
    return t;
}

/* What the adapter adds to part i, from p = x A^T; `columns` of p come before. */
static term delta_term(const aa_linear *lin, int i, const aa_epilogue *e, size_t columns) {
    const aa_linear_delta *d = lin->delta;
    return (term){.K = d->b[i].n_in, .a = e->p + columns, .lda = d->a.n_out, .b_is = B_TRANSPOSED,
                  .b = d->b[i].weight->data, .ldb = d->b[i].n_in, .b_scale = d->scale[i]};
}

void aa__linear_part(aa_cpu *cpu, aa_real *y, size_t ldy, const aa_real *x, size_t ldx, size_t T,
                     const aa_linear *lin, int part, const aa_epilogue *e) {
    size_t column = 0, rank = 0;
    for (int i = 0; i < part; i++) {
        column += lin->weight[i].rows;
        if (lin->delta) rank += lin->delta->b[i].n_in;
    }
    aa_epilogue shifted = *e;
    if (e->residual) shifted.residual += column;
    product p = {.M = T, .N = lin->weight[part].rows, .c = y + column, .ldc = ldy,
                 .from_zero = true, .bias = lin->bias && x ? lin->bias->data + column : NULL};
    if (x) {
        term *t = &p.term[p.n_terms++];
        *t = weight_term(&lin->weight[part], true, 1);
        t->K = lin->n_in;
        t->a = x;
        t->lda = ldx;
    }
    if (e->p && lin->delta->b[part].n_in) p.term[p.n_terms++] = delta_term(lin, part, e, rank);
    if (!p.n_terms) return;
    if (aa__gain_of(lin, e)) p.gain = aa__gain_of(lin, e) + column;
    p.epilogue = is_plain(e, &p) ? NULL : &shifted;
    run_product(cpu, &p, operands_of(cpu));
}

void aa_linear_forward(aa_cpu *cpu, aa_real *y, size_t ldy, const aa_real *x, size_t ldx, size_t T,
                       aa_linear *lin, const aa_epilogue *e) {
    aa_assert(!(e->accumulate && e->residual) && !(e->p && lin->packed));
    refresh_packed(cpu, lin);
    double start = aa__begin(cpu);
    if (lin->weight->stored) {
        aa__linear_stored(cpu, y, ldy, x, ldx, T, lin, e);
        aa__end(cpu, AA_PROF_LINEAR_FORWARD, start, aa__product_flop(T, lin->n_out, lin->n_in),
                stored_bytes(lin) + aa__product_bytes(T, lin->n_out + lin->n_in, 1));
        return;
    }
    if (e->p) {
        for (int i = 0; i < lin->n_parts; i++) aa__linear_part(cpu, y, ldy, x, ldx, T, lin, i, e);
    } else {
        product p = {.M = T, .N = lin->n_out, .c = y, .ldc = ldy, .from_zero = true, .n_terms = 1,
                     .bias = lin->bias ? lin->bias->data : NULL};
        p.term[0] = (term){.K = lin->n_in, .a = x, .lda = ldx, .b_scale = 1,
                           .b_is = lin->packed ? B_PACKED : B_TRANSPOSED,
                           .b = lin->packed ? lin->packed : lin->weight->data, .ldb = lin->n_in};
        p.epilogue = is_plain(e, &p) ? NULL : e;
        run_product(cpu, &p, operands_of(cpu));
    }
    aa__end(cpu, AA_PROF_LINEAR_FORWARD, start, aa__product_flop(T, lin->n_out, lin->n_in),
            aa__product_bytes(T, lin->n_out, lin->n_in));
}

/* The parts of W as terms of dy W: one, unless they lie apart in a file. */
static void weight_terms(product *p, const aa_linear *lin, const aa_real *dy, size_t lddy,
                         aa_real scale) {
    bool apart = lin->weight->stored;
    for (int i = 0; i < (apart ? lin->n_parts : 1); i++) {
        term *t = &p->term[p->n_terms++];
        *t = weight_term(&lin->weight[i], false, scale);
        t->K = apart ? lin->weight[i].rows : lin->n_out;
        t->a = dy;
        t->lda = lddy;
        dy += t->K;
    }
}

void aa_linear_dx(aa_cpu *cpu, aa_real *dx, size_t lddx, const aa_real *dy, size_t lddy, size_t T,
                  const aa_linear *lin, aa_real scale, bool accumulate, const aa_real *dp) {
    double start = aa__begin(cpu);
    product p = {.M = T, .N = lin->n_in, .c = dx, .ldc = lddx, .from_zero = !accumulate};
    weight_terms(&p, lin, dy, lddy, scale);
    if (dp) {
        const aa_linear *a = &lin->delta->a;
        p.term[p.n_terms++] = (term){.K = a->n_out, .a = dp, .lda = a->n_out, .b_is = B_ROWS,
                                     .b = a->weight->data, .ldb = a->n_in, .b_scale = 1};
    }
    run_product(cpu, &p, operands_of(cpu));
    aa__end(cpu, AA_PROF_LINEAR_DX, start, aa__product_flop(T, lin->n_in, lin->n_out),
            aa__product_bytes(T, lin->n_in, lin->n_out));
}

typedef struct bias_gradient {
    aa_cpu *cpu;
    aa_real *db;
    const aa_real *dy;
    size_t lddy, T;
    aa_real scale;
} bias_gradient;

static void bias_columns(void *ctx, size_t begin, size_t end, int thread) {
    const bias_gradient *g = ctx;
    (void)thread;
    g->cpu->k.sum_rows(g->db + begin, &g->scale, 0, g->dy + begin, g->lddy, g->T, end - begin);
}

void aa__bias_gradient(aa_cpu *cpu, const aa_linear *lin, const aa_real *dy, size_t lddy, size_t T,
                       aa_real scale) {
    if (!lin->bias) return;
    bias_gradient g = {cpu, lin->bias->grad, dy, lddy, T, scale};
    aa__run_columns(cpu, lin->n_out, bias_columns, &g);
}

void aa_linear_dw(aa_cpu *cpu, const aa_linear *lin, const aa_real *dy, size_t lddy,
                  const aa_real *x, size_t ldx, size_t T, aa_real scale) {
    aa_assert(!lin->weight->stored);
    double start = aa__begin(cpu);
    product p = {.M = lin->n_out, .N = lin->n_in, .c = lin->weight->grad, .ldc = lin->n_in,
                 .n_terms = 1};
    p.term[0] = (term){.K = T, .a_is = A_TRANSPOSED, .a = dy, .lda = lddy, .a_scale = scale,
                       .b_is = B_ROWS, .b = x, .ldb = ldx, .b_scale = 1};
    run_product(cpu, &p, operands_of(cpu));
    aa__bias_gradient(cpu, lin, dy, lddy, T, scale);
    aa__end(cpu, AA_PROF_LINEAR_DW, start, aa__product_flop(T, p.M, p.N),
            aa__product_bytes(T, p.M, p.N));
}

void aa__product(aa_cpu *cpu, aa_real *c, size_t ldc, const aa_real *a, size_t lda,
                 bool transpose_a, const aa_real *b, size_t ldb, bool transpose_b, aa_real scale,
                 size_t M, size_t N, size_t K, bool accumulate) {
    product p = {.M = M, .N = N, .c = c, .ldc = ldc, .from_zero = !accumulate, .n_terms = 1};
    p.term[0] = (term){.K = K, .a_is = transpose_a ? A_TRANSPOSED : A_DIRECT, .a = a, .lda = lda,
                       .a_scale = 1, .b_is = transpose_b ? B_TRANSPOSED : B_ROWS, .b = b,
                       .ldb = ldb, .b_scale = scale};
    run_product(cpu, &p, &cpu->k.linear[AA_COMPUTE_F32]);
}

void aa_gemm(aa_cpu *cpu, aa_real *c, size_t ldc, const aa_real *a, size_t lda, const aa_real *b,
             size_t ldb, bool transpose_b, size_t M, size_t N, size_t K, bool accumulate) {
    double start = aa__begin(cpu);
    aa__product(cpu, c, ldc, a, lda, false, b, ldb, transpose_b, 1, M, N, K, accumulate);
    aa__end(cpu, AA_PROF_GEMM, start, aa__product_flop(M, N, K), aa__product_bytes(M, N, K));
}
