/* num/lowrank: a low-rank term added to a linear map's output, one per stream of rows.
 *
 *   y[t,:] += scale * (B + amplitude * Z) p[t,:]        p = x A^T, [T,R]
 *
 * B is [n_out,R] (NULL: zero). Z is [n_out,R] standard normal, never stored: element (n,r) is
 * number n*R + r of the counter stream (seed, AA_RNG_PERTURB, stream), so that a forward pass, the
 * update and another machine replay the same Z. amplitude = 0 is LoRA (Hu et al. 2021,
 * arXiv:2106.09685); B fixed and amplitude = +-eps is a two-sided zeroth-order probe in the
 * adapter's space (Spall 1992; Malladi et al. 2023, arXiv:2305.17333).
 */
#ifndef AA_NUM_LOWRANK_H
#define AA_NUM_LOWRANK_H

#include "num/num.h"

typedef struct aa_lowrank {
    size_t n_out, rank;                    /* rank in 1..AA_LOWRANK_MAX */
    const aa_real *b;                      /* [n_out, rank] or NULL */
    aa_real scale, amplitude;
    uint64_t seed, stream;                 /* of Z; unused when amplitude is 0 */
} aa_lowrank;

enum { AA_LOWRANK_MAX = 256 };

void aa_lowrank_add(aa_cpu *cpu, aa_real *y, size_t ldy, const aa_real *p, size_t ldp, size_t T,
                    const aa_lowrank *term);
/* b[n,r] += a * Z[n,r]: the update along a probe that was evaluated earlier. */
void aa_lowrank_step(aa_cpu *cpu, aa_real *b, aa_real a, const aa_lowrank *term);

#endif
