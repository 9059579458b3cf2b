/* num/direction: random directions that are never stored.
 *
 * Element i of a direction is a function of five coordinates and of nothing else:
 *
 *     key     = seed of the run
 *     counter = (block of the tensor, tensor id | factor << 24, step, stream)
 *
 * through Philox4x32-10 (base/rng.h). A block of 128 bits is 128 signs (Rademacher: bit i % 128 of
 * block i / 128; 1 is -1), or four standard normals (i % 4 of block i / 4). So a forward pass, the
 * update and another machine read the same numbers in any order, by any tiling, on any number of
 * threads; samplers of data cannot shift them, and no two coordinates collide.
 *
 * Signs are spread over floats by XOR of the sign bit. Normals are Box-Muller in double by
 * operations that IEEE 754 rounds in one way only (no library's log or cosine), then rounded to
 * real. What is written to parameters is made of additions and products without contraction, in
 * ascending order of streams: the same bits in every instruction set.
 *
 * Mean 0, variance 1 per element. Signs have |z|^2 = n exactly, which makes the variance of an
 * estimate smaller than with normals (n - 1 in the place of n + 1), and cost one bit.
 */
#ifndef AA_NUM_DIRECTION_H
#define AA_NUM_DIRECTION_H

#include "num/num.h"

/* Which part of a tensor's life a direction belongs to. The numbers are part of ledgers. */
typedef enum aa_factor {
    AA_FACTOR_WHOLE,                      /* the matrix itself */
    AA_FACTOR_A,                          /* [rank, n_in] of an adapter */
    AA_FACTOR_B,                          /* [n_out, rank] */
    AA_FACTOR_CORE,                       /* [rank, rank] between them */
    AA_FACTOR_NORM,                       /* a gain or bias */
    AA_FACTOR_SCALE,                      /* one factor per output row */
    AA_FACTOR_BASIS_A, AA_FACTOR_BASIS_B, /* random bases, drawn once in a while */
    AA_FACTOR_ESTIMATE,                   /* probes that a basis is estimated from */
    AA_FACTOR_COUNT
} aa_factor;

typedef enum aa_law { AA_LAW_SIGNS, AA_LAW_NORMAL } aa_law;

enum { AA_DIRECTION_BLOCK = 128, AA_DIRECTION_GENERATOR = 1 }; /* 1: what this page says */
#define AA_DIRECTION_MOST_TENSORS ((uint64_t)1 << 24)

/* D[i] = gain[i] * z[i] + shift * along[i] */
typedef struct aa_direction {
    uint64_t seed;
    uint32_t tensor;                      /* aa_direction_tensor */
    uint32_t step, stream;
    aa_law law;
    const aa_real *gain;                  /* of the tensor's size, or NULL: 1 */
    const aa_real *along;                 /* of the tensor's size, or NULL: nothing is added */
    aa_real shift;
} aa_direction;

/* Ids from 2^24 on are refused: they would collide with factors. */
aa_status aa_direction_tensor(uint32_t *out, uint64_t id, aa_factor factor,
                              aa_err *err) AA_MUST_USE;

/* y[i] = scale * w[i] + a * D[first + i] for i < n; w may be NULL (nothing) or y. first + n at most
 * 2^39 with signs, 2^34 with normals. Two roundings per element, then one for the sum. */
void aa_direction_add(aa_cpu *cpu, aa_real *y, const aa_real *w, aa_real scale, aa_real a,
                      const aa_direction *z, uint64_t first, size_t n);

/* One element of a sum over streams: coefficient, coordinates, and what replaces z->shift. */
typedef struct aa_direction_term { aa_real c, shift; uint32_t stream; } aa_direction_term;

/* y[i] = (add ? y[i] : 0) + sum_s c_s D_s[i] over the whole tensor of n elements, D_s being z with
 * the stream and shift of term s. The sum begins at 0 and ascends in s; gain multiplies it once;
 * then y is added. One pass over y. Same bits for any threads and instruction set. */
void aa_direction_sum(aa_cpu *cpu, aa_real *y, bool add, const aa_direction *z,
                      const aa_direction_term *terms, size_t n_terms, size_t n);

#endif
