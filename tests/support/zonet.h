/* tests/support/zonet: an objective for zeroth-order tests: two layers with adapters, in double.
 *
 *     h = gain * tanh(M1 x),  y = scale * (M2 h),  loss = factor * mean |y - t|^2 / 2 + offset
 *     M = whole + 0.5 B [core] A
 *
 * or, linear, loss = <slope, M1> + <slope, M2> + noise (data) + curvature |M|^2 / 2. Losses are
 * computed in double, one probe after the other, so that what is tested is the engine.
 */
#ifndef AA_TESTS_ZONET_H
#define AA_TESTS_ZONET_H

#include "zo/zo.h"

enum { ZN_IN = 6, ZN_HIDDEN = 8, ZN_OUT = 4, ZN_RANK = 2, ZN_ROWS = 10, ZN_BATCH = 4 };
/* Rows: of layer l (0, 1) WHOLE, A, CORE, B at 4 l + 0 .. 3, then gain, scale. */

typedef struct zonet {
    aa_cpu *cpu;
    aa_tensor tensors[ZN_ROWS];
    aa_zo_row rows[ZN_ROWS];
    aa_zo_matrix matrices[2];
    aa_zo_objective objective;
    aa_real *start[ZN_ROWS];              /* what the rows were in the beginning */
    double factor, offset, noise, curvature;
    bool linear, fixed_data;              /* fixed: every data id is the same batch */
    uint64_t n_losses, n_bases;
    double *slope;                        /* linear: of all elements of both wholes */
} zonet;

/* core: matrices have one (B core A), else B A. */
void zonet_open(zonet *n, int threads, aa_isa isa, bool core);
void zonet_close(zonet *n);
void zonet_reset(zonet *n);               /* rows as in the beginning */
aa_real *zonet_weights(const zonet *n);   /* copy of all rows, after another; aa_heap_free */
size_t zonet_size(void);
double zonet_loss(zonet *n, uint64_t data);                /* at the present point */

#endif
