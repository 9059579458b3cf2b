/* num: the numerical kernels, and the team that runs them.
 *
 * Owns all arithmetic on arrays: matrix products, normalisation, rotary embedding, attention,
 * SwiGLU, cross-entropy, optimizer updates, half precision. It does not know what a transformer is.
 *
 * Three layers: num/scalar is the mathematics, naive and portable, in aa_real; num/avx2,
 * num/avx512, num/neon are the same functions for one instruction set, single-threaded, over rows
 * or tiles (kernels.def lists them all, one row each); the functions below split the work over the
 * pool and call the kernels chosen once in aa_cpu_new.
 *
 * Same bits for any number of threads and for any split of a batch into micro-batches: every output
 * element is one chain of operations whose order depends on shapes only. Matrix products: one FMA
 * chain over the reduction index in ascending order, carried through the output tile in memory.
 * Sums over tokens (weight gradients, norm and bias gradients, embedding gradient): ascending
 * token, accumulated into the given buffer. Sums over a whole array: fixed chunks, then chunks in
 * order.
 *
 * Matrices are row-major; ld* is the distance in elements between rows. T is the number of rows
 * (tokens) of an operand. No function allocates; scratch belongs to aa_cpu. Overlap of operands is
 * forbidden unless a contract allows it.
 */
#ifndef AA_NUM_NUM_H
#define AA_NUM_NUM_H

#include "base/memory.h"
#include "base/pool.h"
#include "base/status.h"
#include "num/tensor.h"

/* ---- the team -------------------------------------------------------------------------------- */

/* AMX is AVX-512 with bfloat16 products in tile registers; floats have the same bits in both. */
typedef enum {
    AA_ISA_AUTO, AA_ISA_SCALAR, AA_ISA_NEON, AA_ISA_AVX2, AA_ISA_AVX512, AA_ISA_AMX
} aa_isa;
const char *aa_isa_name(aa_isa isa);

typedef struct aa_cpu aa_cpu;            /* kernels chosen + pool + per-thread scratch + profile */

/* n_threads 0 = all cores. AUTO takes the widest set this processor has; the environment variable
 * AA_ISA=scalar|neon|avx2|avx512|amx overrides AUTO; an unavailable set is AA_EUNSUPPORTED naming
 * what there is. */
aa_status aa_cpu_new(aa_cpu **out, int n_threads, aa_isa isa, aa_err *err) AA_MUST_USE;
void aa_cpu_free(aa_cpu *cpu);
aa_isa aa_cpu_isa(const aa_cpu *cpu);
int aa_cpu_threads(const aa_cpu *cpu);
aa_pool *aa_cpu_pool(aa_cpu *cpu);
size_t aa_cpu_scratch_bytes(int n_threads);         /* what aa_cpu_new takes, for the plan */
bool aa_isa_available(aa_isa isa);

/* What linear maps multiply. F32: floats. BF16: x, dy and W rounded to bfloat16 (nearest even) on
 * their way into the kernels; products exact, sums, results, parameters and everything else in
 * float, in the order and with the rounding of num/scalar/bf16.c: a batch gives the same weight
 * gradients in parts if they begin at multiples of aa_cpu_batch_unit. AUTO is BF16 where the
 * processor multiplies it faster than floats. INT8: weights that a file stores as small
 * integers meet x rounded to 8 bits in integers (linear_stored.c), everything else is as with F32.
 * A team starts with F32; packed copies and their size belong to one setting, so choose before the
 * first is made. */
typedef enum { AA_COMPUTE_F32, AA_COMPUTE_BF16, AA_COMPUTE_AUTO, AA_COMPUTE_INT8 } aa_compute;
enum { AA_COMPUTE_COUNT = AA_COMPUTE_AUTO };
const char *aa_compute_name(aa_compute compute);
/* BF16 without such instructions is AA_EUNSUPPORTED, except in the scalar set, which is the model
 * of them. */
aa_status aa_cpu_set_compute(aa_cpu *cpu, aa_compute compute, aa_err *err) AA_MUST_USE;
aa_compute aa_cpu_compute(const aa_cpu *cpu);
size_t aa_cpu_batch_unit(const aa_cpu *cpu);   /* tokens that parts of a batch are multiples of */

/* Profile: one row per operation, wall seconds on the calling thread. Off by default; costs two
 * clock reads per operation. FLOP counts multiply-adds as 2; bytes are compulsory traffic. */
typedef struct aa_profile_row {
    const char *op;
    uint64_t calls;
    double wall_s, flop, bytes;
} aa_profile_row;
void aa_cpu_profile(aa_cpu *cpu, bool on);           /* on: also clears */
bool aa_cpu_profile_switch(aa_cpu *cpu, bool on);    /* clears nothing; what it was before */
size_t aa_cpu_profile_rows(const aa_cpu *cpu, aa_profile_row *out, size_t max);  /* slowest first */

/* Measured limits of this machine with the chosen kernels and threads: registers-only FMA chains
 * (of bfloat16 pairs if that is what linear maps multiply), and reading an array far larger than
 * the caches. Best of short repeats within about `seconds`, several times as long on a machine that
 * others disturb; of the peak the best that this team has ever shown. */
double aa_cpu_peak_gflops(aa_cpu *cpu, double seconds);
double aa_cpu_read_gbs(aa_cpu *cpu, double seconds);

/* ---- linear maps ----------------------------------------------------------------------------- */

size_t aa_linear_packed_size(const aa_cpu *cpu, const aa_linear *lin);   /* elements */

typedef struct aa_epilogue {             /* {0} with scale 1 is plain y = x W^T + b */
    aa_real scale;                       /* on the product and bias */
    const aa_real *residual; size_t ld_residual; /* added after scaling; NULL: none. May be y. */
    bool accumulate;                     /* y += instead of y =; not together with residual */
    const aa_real *p;                    /* [T,R] x A^T of lin->delta, NULL: without the adapter */
} aa_epilogue;

/* y[T,n_out] = residual + scale * (gain (x[T,n_in] W^T + p B^T) + b), as lin->delta says; gains are
 * those of the last aa_magnitude_refresh, 1 without magnitudes, and stay away without p. An
 * out-of-date packed copy is refreshed; there must be none where there is p. The chain of a sum
 * goes on from the last place of x to the first of p. */
void aa_linear_forward(aa_cpu *cpu, aa_real *y, size_t ldy, const aa_real *x, size_t ldx, size_t T,
                       aa_linear *lin, const aa_epilogue *e);
/* dx[T,n_in] = (accumulate ? dx : 0) + scale * dy[T,n_out] W + dp[T,R] A, A of lin->delta; dp NULL:
 * without. Weights may be stored. */
void aa_linear_dx(aa_cpu *cpu, aa_real *dx, size_t lddx, const aa_real *dy, size_t lddy, size_t T,
                  const aa_linear *lin, aa_real scale, bool accumulate, const aa_real *dp);
/* W.grad[n_out,n_in] += scale * dy^T x;  b.grad += scale * sum_t dy. Not of stored weights. */
void aa_linear_dw(aa_cpu *cpu, const aa_linear *lin, const aa_real *dy, size_t lddy,
                  const aa_real *x, size_t ldx, size_t T, aa_real scale);
/* The general product for everything else: C[M,N] = (accumulate ? C : 0) + A op(B), op = none: B is
 * [K,N]; op = transpose: B is [N,K]. */
void aa_gemm(aa_cpu *cpu, aa_real *c, size_t ldc, const aa_real *a, size_t lda, const aa_real *b,
             size_t ldb, bool transpose_b, size_t M, size_t N, size_t K, bool accumulate);

/* Brings the gains of lin's magnitudes up to date, if there are any, with W, A, B and m, whose
 * versions tell. In floats, whatever the team multiplies. A row of length 0 gets gain 0. */
void aa_magnitude_refresh(aa_cpu *cpu, aa_linear *lin);
/* Backward of y = residual + scale (gain u + b) with u = W x + s B A x, as far as the magnitudes
 * are concerned; lengths count as constants (Liu et al. 2024, section 4.3).
 *   m.grad += scale sum_t dy u / length;  du = gain dy
 * u is not needed: it is taken from y, or where a gain is too small for that made again from x. */
typedef struct aa_magnitude_grad {
    const aa_real *y, *residual, *dy;    /* [T,n_out]; residual NULL: none */
    const aa_real *x;                    /* [T,n_in] */
    aa_real *du;                         /* [T,n_out], may be dy */
    size_t T;
    aa_real scale;
} aa_magnitude_grad;
void aa_magnitude_backward(aa_cpu *cpu, const aa_linear *lin, const aa_magnitude_grad *g);

/* Dropout (Srivastava et al. 2014): y[T,n] = (accumulate ? y : 0) + keep x / (1 - p), where keep is
 * 1 with probability 1 - p, else 0; p counts in steps of 2^-16. Element (t,j) has the j-th 16 bits
 * of row first + t of a stream (base/rng.h). y may be x unless it accumulates. first + T < 2^32. */
typedef struct aa_dropout {
    double p;                            /* 0 <= p < 1 */
    uint64_t seed, index;                /* of the stream, purpose AA_RNG_DROPOUT */
    size_t first;
} aa_dropout;
void aa_dropout_apply(aa_cpu *cpu, aa_real *y, const aa_real *x, size_t T, size_t n,
                      bool accumulate, const aa_dropout *d);

/* ---- normalisation --------------------------------------------------------------------------- */

/* Rows of width C; with heads > 1, each of T rows holds `heads` groups of C normalised on their own
 * (q/k norm), so there are T*heads statistics, token-major. */
typedef struct aa_rows { size_t T, heads, C, ld; } aa_rows;

/* y = x * rstd * w, rstd = 1/sqrt(mean(x^2) + eps). f64 sum of squares in the scalar reference,
 * fixed lane order in SIMD. y may be x. Zhang & Sennrich 2019, arXiv:1910.07467, eq. 4. y
 * [T,heads,C] out (ldy), rstd [T,heads] out (NULL: not kept), x in (rows.ld), w [C] in */
void aa_rmsnorm_forward(aa_cpu *cpu, aa_real *y, size_t ldy, aa_real *rstd, const aa_real *x,
                        const aa_real *w, aa_rows rows, aa_real eps);
/* dx = (accumulate ? dx : 0) + rstd * (w dy - x * rstd^2/C * sum(w dy x));  dw += sum dy x rstd,
 * unless dw is NULL
 *   dy (lddy) in; dx (rows.ld) may be dy when accumulate is false and lddy == rows.ld */
void aa_rmsnorm_backward(aa_cpu *cpu, aa_real *dx, aa_real *dw, const aa_real *dy, size_t lddy,
                         const aa_real *x, const aa_real *w, const aa_real *rstd, aa_rows rows,
                         bool accumulate);

/* ---- rotary position embedding --------------------------------------------------------------- */

/* Pairs are (i, i + D/2), the "rotate half" order of Hugging Face. table [n_pos][D]: cos of D/2
 * angles, then sin. In place on heads*D columns of each row; pos[t] < n_pos. inverse: the transpose
 * rotation (backward). Su et al. 2021, arXiv:2104.09864. */
void aa_rope(aa_cpu *cpu, aa_real *x, size_t ld, size_t T, size_t heads, size_t D,
             const aa_real *table, const int32_t *pos, bool inverse);

/* ---- attention ------------------------------------------------------------------------------- */

/* B independent sequences. Query row i (0..n_query-1) of a sequence sees keys 0 .. n_key-n_query+i.
 * Query head h uses key/value head h / (H/K). Scale 1/sqrt(D). Rows of sequence b begin at
 * b*n_query (queries, outputs) and b*n_key (keys, values); or, with start, at start[b] of all four
 * and end before start[b+1], ascending from 0: then as many queries as keys, whatever n_query and
 * n_key say. A sequence's results have the bits they have without the others. Tiled: scratch does
 * not grow with n_key.
 * Dao et al. 2022, arXiv:2205.14135; Milakov & Gimelshein 2018, arXiv:1805.02867. */
enum { AA_ATTENTION_MAX_D = 256 };        /* widest head */
typedef struct aa_attention {
    size_t B, n_query, n_key, H, K, D;
    size_t ld_q, ld_k, ld_v, ld_o;
    const int32_t *start;                 /* [B+1] sequences of different lengths; or NULL */
    const uint16_t *k16, *v16;            /* keys and values in binary16, in the place of k and v */
} aa_attention;

/* o out [queries, H*D]; lse [queries, H] out: log-sum-exp of scaled scores (NULL: not kept). */
void aa_attention_forward(aa_cpu *cpu, aa_real *o, aa_real *lse, const aa_real *q, const aa_real *k,
                          const aa_real *v, const aa_attention *a);
/* n_query == n_key, or start. dq, dk, dv overwritten, same strides as q, k, v. o, d_o use ld_o.
 * delta [queries, H] is scratch from the caller (row sums of d_o * o). */
void aa_attention_backward(aa_cpu *cpu, aa_real *dq, aa_real *dk, aa_real *dv, const aa_real *d_o,
                           const aa_real *q, const aa_real *k, const aa_real *v, const aa_real *o,
                           const aa_real *lse, aa_real *delta, const aa_attention *a);

/* ---- feed-forward, embedding, loss ----------------------------------------------------------- */

/* gu [T,2F] holds gate then up. y[T,F] = silu(gate) * up. Shazeer 2020, arXiv:2002.05202. */
void aa_swiglu_forward(aa_cpu *cpu, aa_real *y, const aa_real *gu, size_t T, size_t F);
/* dgu [T,2F] overwritten; may be gu. */
void aa_swiglu_backward(aa_cpu *cpu, aa_real *dgu, const aa_real *dy, const aa_real *gu, size_t T,
                        size_t F);

void aa_embedding_forward(aa_cpu *cpu, aa_real *x, const aa_real *table, const int32_t *ids,
                          size_t T, size_t C);
/* The same from a table in a file. */
void aa_embedding_stored(aa_cpu *cpu, aa_real *x, const aa_stored *table, const int32_t *ids,
                         size_t T);
/* table gradient rows: dtable[ids[t]] += dx[t], ascending t. */
void aa_embedding_backward(aa_cpu *cpu, aa_real *dtable, const aa_real *dx, const int32_t *ids,
                           size_t T, size_t C);

/* loss[t] = logsumexp(logits[t,:]) - logits[t,target[t]]; target < 0: masked, loss 0 and gradient
 * 0. gradient_scale != 0: logits is overwritten by gradient_scale * (softmax - onehot). */
void aa_cross_entropy(aa_cpu *cpu, aa_real *loss, aa_real *logits, size_t ld, const int32_t *target,
                      size_t T, size_t V, aa_real gradient_scale);

/* hit[t] = 1 where greedy sampling would draw target[t] (no larger logit, no equal one of a lower
 * id), else 0; masked: 0. Logits that are no number are hit by nobody. */
void aa_greedy_hits(aa_cpu *cpu, aa_real *hit, const aa_real *logits, size_t ld,
                    const int32_t *target, size_t T, size_t V);

/* ---- arrays ---------------------------------------------------------------------------------- */

/* f64, fixed chunks; NaN and Inf propagate. */
double aa_sum_squares(aa_cpu *cpu, const aa_real *x, size_t n);
void aa_zero(aa_cpu *cpu, aa_real *x, size_t n);
void aa_axpy(aa_cpu *cpu, aa_real *y, aa_real a, const aa_real *x, size_t n);     /* y += a x */
void aa_scale(aa_cpu *cpu, aa_real *x, aa_real a, size_t n);

/* One pass over parameter, gradient and moments:
 *   g = grad * grad_scale;  m = b1 m + (1-b1) g;  v = b2 v + (1-b2) g^2;
 *   w -= lr * (m/c1 / (sqrt(v/c2) + eps) + decay * w);  grad = 0
 * c1 = 1 - b1^t, c2 = 1 - b2^t. Loshchilov & Hutter 2019, arXiv:1711.05101 (decoupled decay). */
typedef struct aa_adamw { aa_real lr, beta1, beta2, eps, decay, c1, c2, grad_scale; } aa_adamw;
void aa_adamw_update(aa_cpu *cpu, aa_real *w, aa_real *grad, aa_real *m, aa_real *v, size_t n,
                     const aa_adamw *h);
/* w -= lr * (mom + decay*w), mom = momentum*mom + grad*grad_scale (mom NULL: plain); grad = 0. */
void aa_sgd_update(aa_cpu *cpu, aa_real *w, aa_real *grad, aa_real *mom, size_t n, aa_real lr,
                   aa_real momentum, aa_real decay, aa_real grad_scale);

/* y [rows,cols] = about U V^T for x = U S V^T: after 5 steps of Newton-Schulz every singular value
 * above |x|/300 has become one in 0.6 .. 1.3. x is scaled to norm 1; a zero x gives zero.
 * scratch: aa_orthogonal_scratch elements. Jordan et al. 2024, "Muon"; the Gram form: orthogonal.c.
 * _flop: of the matrix products, what is computed. */
enum { AA_ORTHOGONAL_MAX_STEPS = 6 };
size_t aa_orthogonal_scratch(size_t rows, size_t cols);
double aa_orthogonal_flop(size_t rows, size_t cols, int steps);
void aa_orthogonalize(aa_cpu *cpu, aa_real *y, aa_real *x, size_t rows, size_t cols, int steps,
                      aa_real *scratch);

/* Half precision, round to nearest even; NaN stays NaN. IEEE binary16 and bfloat16 as uint16_t. */
void aa_f16_from_f32(uint16_t *y, const float *x, size_t n);
void aa_f32_from_f16(float *y, const uint16_t *x, size_t n);
void aa_bf16_from_f32(uint16_t *y, const float *x, size_t n);
void aa_f32_from_bf16(float *y, const uint16_t *x, size_t n);
void aa_to_f16(const aa_cpu *cpu, uint16_t *y, const aa_real *x, size_t n); /* the first, faster */

#endif
