/* num/num_int: what the files of this room share: the kernel table, the team, the small product.
 *
 * Kernels are single-threaded functions over a row, some rows or one tile. Contracts of the row and
 * array kernels are those of num.h for the part they do; the ones that need more words are below.
 */
#ifndef AA_NUM_NUM_INT_H
#define AA_NUM_NUM_INT_H

#include "num/direction.h"
#include "num/stored.h"

/* Blocking of the matrix products. A tile is mr x nr outputs in registers; kc reduction steps of a
 * panel of B (nr wide) stay in L1; mc rows of A and nc columns of B stay in L2. None of these
 * numbers changes a bit of any result. unit, if not 1: the kernel takes so many places of k at
 * once, and A as rows whose last unit is filled up with zeros (a_k 1); every block of k but the
 * last is whole units. */
typedef struct aa_gemm_shape { size_t mr, nr, kc, mc, nc, unit; } aa_gemm_shape;

/* One tile: for r < mr, j < nr
 *   acc(r,j) = (from_zero ? 0 : c[r*ldc + j]), then for k = 0 .. kc-1 ascending
 *   acc(r,j) = fma(a[r*a_row + k*a_k], b[k*NR + j], acc(r,j))
 * and then, if y is NULL, c[r*ldc + j] = acc, else
 *   y[r*ldy + j] = scale * (gain[j] * acc + bias[j]) + residual[r*ld_residual + j]
 * with gain, bias and residual optional. b is a packed panel, zero in columns from nr to NR. */
typedef struct aa_tile {
    size_t mr, nr, kc;
    const aa_real *a; size_t a_row, a_k;
    const aa_real *b;
    aa_real *c; size_t ldc;
    bool from_zero;
    aa_real *y; size_t ldy;
    const aa_real *gain, *bias, *residual; size_t ld_residual;
    aa_real scale;
    /* Hints, not operands: sums that the next tile starts from (NULL: none; same ldc), and memory
     * to have near soon, of which step k fetches the line at next_b + k*next_step (bytes). */
    const aa_real *next_c;
    const aa_real *next_b; size_t next_step;
} aa_tile;

/* Packing. All fill y[i*ldy + j] for j < width, zero from the given count on.
 *   pack_rows:        y[i*ldy + j] = scale * x[i*ldx + j],  i < n_rows, j < n
 *   pack_transposed:  y[i*ldy + j] = scale * x[j*ldx + i],  i < n,      j < n_rows
 * For bf16_tile a and b hold pairs (2k, 2k+1) of bfloat16 in the places of floats, the even one in
 * the lower half, and kc counts pairs. With p = n_rows or n halved upwards, a missing odd half 0,
 * and r rounding scale * x to nearest even:
 *   bf16_pack_rows:       y[i*ldy + j] = r(x[2i*ldx + j], x[(2i+1)*ldx + j]),   2i < n_rows, j < n
 *   bf16_pack_copy:       y[i*ldy + j] = r(x[i*ldx + 2j], x[i*ldx + 2j + 1]),   i < n_rows, 2j < n
 *   bf16_pack_transposed: y[i*ldy + j] = r(x[j*ldx + 2i], x[j*ldx + 2i + 1]),   2i < n, j < n_rows
 *   bf16_pack_columns:    y[j*ldy + i] = r(x[2i*ldx + j], x[(2i+1)*ldx + j]),   2i < n_rows, j < n;
 *                         width counts i
 * Rows that are read once:
 *   dot_rows:         s[i] = q . x_i
 *   sum_rows:         y += p[i*p_step] x_i,  ascending i, one chain per element */

/* Backward of magnitudes, one row of tokens (magnitude.c); residual may be NULL, du may be dy:
 *   dm += dy ((y - residual) - shift) over;  du = gain dy */
typedef struct aa_magnitude_row { const aa_real *gain, *shift, *over; } aa_magnitude_row;

/* Streaming softmax of one tile of scores. Row r sees columns c < first + r (clamped to 0..n).
 *   m' = max(m, max_c scale*s);  s = exp(scale*s - m') (0 where not seen);  l = l*e^(m-m') + sum s;
 *   o[r] *= e^(m-m')
 * m starts at -infinity, l and o at 0. */
typedef struct aa_softmax {
    aa_real *s; size_t lds, n_rows, n;
    ptrdiff_t first;
    aa_real scale;
    aa_real *m, *l, *o; size_t ldo, D;
} aa_softmax;

/* p = exp(scale*s - lse[r]) into s, scale * p * (dp - delta[r]) into dp; both 0 where not seen. */
typedef struct aa_softmax_grad {
    aa_real *s, *dp; size_t ld, n_rows, n;
    ptrdiff_t first;
    aa_real scale;
    const aa_real *lse, *delta; size_t step;
} aa_softmax_grad;

typedef struct aa_sgd { aa_real lr, momentum, decay, grad_scale; } aa_sgd;

/* Stored rows, at x as in a file (not aligned, no vector behind the end may be read).
 *   dot_*:            s[i] = q_i . x,  i < n_q
 *   from_*, to_f16:   conversions, as those of num.h
 *
 * Integers: n elements are x = d[g] q + m[g], g counting groups of `group` (16 or 32) elements.
 * Activations have m = 0, and with each group the sum of its q and s = d * sum.
 *   int8_quantize:    d = max |x| / 127, q = x / d to nearest even; n a multiple of the group. Not
 *                     finite: d is no number, or infinite.
 *   int8_unpack:      what rows of a type are in these terms, exactly; see stored.c.
 *   int8_pack:        n_rows rows of q as a panel for the tile: y[k][j] the four bytes x[j][4k ..],
 *                     as the set likes them, 0 from n_rows to nr; n a multiple of 16, x readable
 *                     to the next 64.
 *   int8_tile:        for each group ascending, with i the exact integer sum of its products,
 *                         acc = fma(a.d, float(i) * b.d, acc)
 *                         acc = fma(a.s, b.m, acc)          where there is a b.m
 *                     and c, y, gain, bias, residual and scale as in aa_tile, of which a, b, kc
 *                     and the hints are not used. The same bits in every set. */
#define AA_INT8_LEAST 0x1p-100             /* smaller x are zero: 127 / x must be finite */
typedef struct aa_int8_row { int8_t *q; aa_real *d, *s; int32_t *sum; } aa_int8_row;

enum { AA_INT8_DEPTH = 256 };             /* elements of a row taken apart at a time, at most */
typedef struct aa_int8_unpack {
    aa_type type;
    const unsigned char *x; size_t step;  /* bytes from row to row */
    size_t n_rows, n;                     /* n: a multiple of the block */
    size_t ahead;                         /* bytes from here to what to have near soon; 0: nothing*/
    int8_t *q; size_t ldq;
    aa_real *d, *m; size_t ld;            /* m NULL: the type has none (aa__type_has_min) */
} aa_int8_unpack;

typedef struct aa_int8_tile {
    aa_tile t;
    size_t group, n_groups;
    aa_int8_row a; size_t lda, ld;        /* distance of rows of q, and of d, s and sum */
    const int8_t *b;                      /* [n_groups * group / 4][nr][4] */
    const aa_real *b_d, *b_m;             /* [n_groups][nr]; b_m may be NULL */
} aa_int8_tile;

/* One row of activations times sixteen rows: what int8_tile makes of them, in y[16], which is also
 * what the sums go on from. False, and nothing done, for a type or set that has no such kernel. */
typedef struct aa_int8_dot {
    aa_type type;
    const unsigned char *x; size_t step, n;               /* as in aa_int8_unpack */
    const unsigned char *fetch; size_t n_fetch, far;      /* bytes to have in L1 soon, and from */
                                          /* so many bytes behind them on, in L2 */
    aa_int8_row a;                        /* readable to the next 64 */
    bool from_zero;
    aa_real *y;
} aa_int8_dot;

/* Directions (direction.h). The same bits in every set: additions and products, not contracted.
 *   philox:       blocks of 128 bits whose counters have ctr[0] + 0, 1, .. in the first word
 *   sign_expand:  y[i] = scale * w[i] + z_i, or z_i without w; z_i = -a where bit `bit` + i is set,
 *                 else a. y may be w. Four bytes behind the last are readable.
 *   sign_sum:     y[i] = (.. (y[i] + z_0i) ..) + z_(n_terms-1)i, z_si = +-c[s] by bit i of the row
 *                 at bits + s * step; four bytes behind each row are readable.
 * And beside the table, because there is no other version of them: */
void aa__direction_normals(aa_real *y, const uint32_t *words, size_t n_blocks);     /* 4 each */
/* y = scale * w + a * (gain * y + shift * along), what is NULL left out */
void aa__direction_shape(aa_real *y, const aa_real *w, aa_real scale, aa_real a,
                         const aa_real *gain, const aa_real *along, aa_real shift, size_t n);
/* y = (add ? y : 0) + gain * sum */
void aa__direction_finish(aa_real *y, bool add, const aa_real *sum, const aa_real *gain, size_t n);
void aa__direction_axpy(aa_real *restrict y, aa_real a, const aa_real *restrict x, size_t n);
/* What aa_direction_add computes, by the calling thread. */
void aa__direction_expand(const aa_cpu *cpu, aa_real *y, const aa_real *w, aa_real scale, aa_real a,
                          const aa_direction *z, uint64_t first, size_t n);

size_t aa__type_group(aa_type type);      /* 0: not made of small integers */
bool aa__type_has_min(aa_type type);

#define KERNEL(op, type, parameters, isa) type aa_##op##__##isa parameters;
#include "num/kernels.def"

/* What a product is made of: the kernels for floats, or those for bfloat16, with `step` elements of
 * K in the place of one float. */
typedef struct aa_operands {
    size_t step;
    aa_gemm_shape shape;
    void (*tile)(const aa_tile *t);
    void (*pack_rows)(aa_real *y, size_t ldy, const aa_real *x, size_t ldx, size_t n_rows, size_t n,
                      size_t width, aa_real scale);
    void (*pack_copy)(aa_real *y, size_t ldy, const aa_real *x, size_t ldx, size_t n_rows, size_t n,
                      size_t width, aa_real scale);
    void (*pack_transposed)(aa_real *y, size_t ldy, const aa_real *x, size_t ldx, size_t n_rows,
                            size_t n, size_t width, aa_real scale);
    void (*pack_columns)(aa_real *y, size_t ldy, const aa_real *x, size_t ldx, size_t n_rows,
                         size_t n, size_t width, aa_real scale);      /* if shape.unit is not 1 */
} aa_operands;

typedef struct aa_kernels {
#define AA_FIELD_scalar(op, type, parameters) type (*op) parameters;
#define AA_FIELD_avx2(op, type, parameters)
#define AA_FIELD_avx512(op, type, parameters)
#define AA_FIELD_avx512bf16(op, type, parameters)
#define AA_FIELD_avx512vnni(op, type, parameters)
#define AA_FIELD_amx(op, type, parameters)
#define AA_FIELD_neon(op, type, parameters)
#define AA_FIELD_neonbf16(op, type, parameters)
#define KERNEL(op, type, parameters, isa) AA_FIELD_##isa(op, type, parameters)
#include "num/kernels.def"
    aa_gemm_shape shape;                  /* of float products */
    aa_operands linear[AA_COMPUTE_COUNT];
} aa_kernels;

void aa__kernels_choose(aa_kernels *out, aa_isa isa);     /* isa must be available, not AUTO */

/* The arithmetic of other processors than the scalar bf16_tile's, with its panels: that of AMX,
 * where shape.unit is AA_BF16_UNIT, and that of Armv8.6. For tests. */
enum { AA_BF16_UNIT = 16 };
void aa__bf16_tile_units(const aa_tile *t);
void aa__bf16_tile_odd(const aa_tile *t);

void aa__tile_finish(const aa_tile *t, size_t r, const aa_real *acc);   /* scalar, one row */

/* ---- the team -------------------------------------------------------------------------------- */

/* Elements of one thread's scratch: a block of A, a slab of B, sums in waiting, stored rows on
 * their way into the slab. aa__kernels_choose checks that every set's blocking fits; attention uses
 * the whole. And of what all threads share: an operand as bytes. */
enum {
    AA_SCRATCH_A = 256 * 256, AA_SCRATCH_B = 256 * 512, AA_SCRATCH_C = 256 * 256,
    AA_SCRATCH_ROWS = 32 * 512,
    AA_SCRATCH = AA_SCRATCH_A + AA_SCRATCH_B + AA_SCRATCH_C + AA_SCRATCH_ROWS,
    AA_OPERAND = 512 * 1024
};

typedef enum {
    AA_PROF_PACK,
    AA_PROF_LINEAR_FORWARD,
    AA_PROF_LINEAR_DX,
    AA_PROF_LINEAR_DW,
    AA_PROF_GEMM,
    AA_PROF_RMSNORM,
    AA_PROF_RMSNORM_BACKWARD,
    AA_PROF_ROPE,
    AA_PROF_ATTENTION,
    AA_PROF_ATTENTION_BACKWARD,
    AA_PROF_SWIGLU,
    AA_PROF_SWIGLU_BACKWARD,
    AA_PROF_EMBEDDING,
    AA_PROF_EMBEDDING_BACKWARD,
    AA_PROF_CROSS_ENTROPY,
    AA_PROF_SUM_SQUARES,
    AA_PROF_ZERO,
    AA_PROF_AXPY,
    AA_PROF_SCALE,
    AA_PROF_ADAMW,
    AA_PROF_SGD,
    AA_PROF_ORTHOGONAL,
    AA_PROF_LOWRANK,
    AA_PROF_DIRECTION,
    AA_PROF_MAGNITUDE,
    AA_PROF_DROPOUT,
    AA_PROF_COUNT
} aa_prof;

enum { AA_CHUNKS_MAX = 8192 };            /* partial sums of one pass over an array */

struct aa_cpu {
    aa_kernels k;
    aa_isa isa;
    aa_compute compute;
    int n_threads;
    bool profiling;
    double peak_gflops[AA_COMPUTE_INT8 + 1];      /* best that a probe has shown; 0: none yet */
    aa_pool *pool;
    aa_arena arena;
    aa_real *scratch;                     /* [n_threads][AA_SCRATCH] */
    aa_real *operand;                     /* [AA_OPERAND] */
    double *chunks;                       /* [AA_CHUNKS_MAX] */
    aa_profile_row profile[AA_PROF_COUNT];
};

static inline aa_real *aa__scratch(const aa_cpu *cpu, int thread) {
    return cpu->scratch + (size_t)thread * AA_SCRATCH;
}

double aa__clock(void);
void aa__profile_add(aa_cpu *cpu, aa_prof row, double start_s, double flop, double bytes);
static inline double aa__begin(const aa_cpu *cpu) { return cpu->profiling ? aa__clock() : 0; }
static inline void aa__end(aa_cpu *cpu, aa_prof row, double start_s, double flop, double bytes) {
    if (cpu->profiling) aa__profile_add(cpu, row, start_s, flop, bytes);
}

static inline size_t aa__min(size_t a, size_t b) { return a < b ? a : b; }
static inline size_t aa__ceil_div(size_t a, size_t b) { return (a + b - 1) / b; }
static inline size_t aa__round_up(size_t a, size_t b) { return aa__ceil_div(a, b) * b; }

/* The i-th of `parts` nearly equal pieces of n begins here; the longer ones come first. */
static inline size_t aa__split(size_t n, size_t parts, size_t i) {
    return n / parts * i + aa__min(i, n % parts);
}

/* Columns 0..n split over the threads in units of a cache line, for sums that run down the rows. */
void aa__run_columns(aa_cpu *cpu, size_t n, aa_pool_fn *fn, void *ctx);
enum { AA_COLUMN_UNIT = 16 };

/* C[M,N] = (accumulate ? C : 0) + scale op(A) op(B), without a row in the profile. op: A is [M,K],
 * or [K,M] when transposed; B is [K,N], or [N,K] when transposed. */
void aa__product(aa_cpu *cpu, aa_real *c, size_t ldc, const aa_real *a, size_t lda,
                 bool transpose_a, const aa_real *b, size_t ldb, bool transpose_b, aa_real scale,
                 size_t M, size_t N, size_t K, bool accumulate);

/* Linear maps over stored weights. The second: one part, wherever it lies, as GEMM multiplies for
 * many rows; with x NULL what the adapter adds (e->p) alone. The last: n elements of our row from
 * the first on (a multiple of the block), as reals. */
void aa__linear_stored(aa_cpu *cpu, aa_real *y, size_t ldy, const aa_real *x, size_t ldx, size_t T,
                       const aa_linear *lin, const aa_epilogue *e);
void aa__linear_part(aa_cpu *cpu, aa_real *y, size_t ldy, const aa_real *x, size_t ldx, size_t T,
                     const aa_linear *lin, int part, const aa_epilogue *e);
/* Gains of the columns of y where the adapter takes part; NULL: all 1. */
static inline const aa_real *aa__gain_of(const aa_linear *lin, const aa_epilogue *e) {
    return e->p && lin->delta->magnitudes ? lin->delta->magnitudes->gain : NULL;
}
void aa__stored_floats(const aa_cpu *cpu, aa_real *y, const aa_stored *s, size_t row, size_t first,
                       size_t n);

/* What a linear map does besides its products; nothing without a bias. */
void aa__bias_gradient(aa_cpu *cpu, const aa_linear *lin, const aa_real *dy, size_t lddy, size_t T,
                       aa_real scale);
double aa__product_flop(size_t M, size_t N, size_t K);
double aa__product_bytes(size_t M, size_t N, size_t K);

/* ---- reals ----------------------------------------------------------------------------------- */

#ifdef AA_REAL_DOUBLE
#define aa__exp exp
#define aa__log log
#define aa__sqrt sqrt
#define aa__fma fma
#define aa__fabs fabs
#else
#define aa__exp expf
#define aa__log logf
#define aa__sqrt sqrtf
#define aa__fma fmaf
#define aa__fabs fabsf
#endif
#define AA_R(x) ((aa_real)(x))

#endif
