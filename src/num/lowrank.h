/* num/lowrank: a low-rank term added to a linear map's output, with a direction of its own for each
 * stream of rows.
 *
 *   y[t,:] += scale * (B + amplitude_s * D_s) p[t,:]        t a row of stream s, p = x A^T, [T,R]
 *
 * B is [n_out,R] (NULL: zero), D_s a direction of it (direction.h) that is never stored: forward
 * pass, update and another machine replay the same numbers. Without streams it is LoRA (Hu et al.
 * 2021, arXiv:2106.09685); B fixed and amplitude = +-eps is a two-sided zeroth-order probe in the
 * adapter's space (Spall 1992; Malladi et al. 2023, arXiv:2305.17333), with many streams in one
 * pass over the weights the scheme of MobiZO (arXiv:2409.15520).
 *
 * Nothing of the arithmetic asks for R to be small: A + amplitude D_s over x instead of p is a
 * probe of the other factor, and a whole matrix with a direction of its size is a dense probe
 * without a write to the weights.
 */
#ifndef AA_NUM_LOWRANK_H
#define AA_NUM_LOWRANK_H

#include "num/direction.h"

typedef struct aa_lowrank_stream {
    size_t first, n_rows;                  /* of y and p */
    aa_real amplitude;                     /* 0: z is not looked at */
    aa_direction z;                        /* gain and along: of B's size */
} aa_lowrank_stream;

typedef struct aa_lowrank {
    size_t n_out, rank;
    const aa_real *b;                      /* [n_out, rank] or NULL */
    aa_real scale;
    bool fresh;                            /* y = instead of y += */
} aa_lowrank;

/* One task per stream, rows and columns of y; of each tile scale B + scale amplitude D is made in
 * cache, and multiplied as a product of depth `rank`: one chain of FMA per element of y, ascending
 * r, beginning at y. So the bits of a stream's rows depend on nothing but the stream. Streams share
 * no row; rows that no stream has stay as they are. */
void aa_lowrank_streams(aa_cpu *cpu, aa_real *y, size_t ldy, const aa_real *p, size_t ldp,
                        const aa_lowrank *term, const aa_lowrank_stream *streams,
                        size_t n_streams);
/* T rows without a direction. */
void aa_lowrank_add(aa_cpu *cpu, aa_real *y, size_t ldy, const aa_real *p, size_t ldp, size_t T,
                    const aa_lowrank *term);

/* w[n_out,n_in] += B A with B [n_out,rank] times scale, A [rank,n_in]: ascending r, two roundings
 * per term, the same bits in every instruction set. */
void aa_lowrank_merge(aa_cpu *cpu, aa_real *w, const aa_real *b, const aa_real *a, size_t n_out,
                      size_t n_in, size_t rank, aa_real scale);

#endif
