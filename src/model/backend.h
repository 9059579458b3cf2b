/* model/backend: who computes the halves of a block.
 *
 * The forward and backward pass of the model are written once, in forward.c and backward.c, as
 * calls through this table. A backend takes over as coarse a piece as it can: an entry that is NULL
 * falls to the next finer level, and the CPU implements the finest one completely. A Neural Engine
 * that runs whole feed-forward halves, or only the linear maps while the CPU works on something
 * else, is one more table, never a second forward pass.
 *
 *     blocks ............ a range of blocks, forward
 *       attention_half .. x + s * attn(norm(x))           (optional)
 *       ffn_half ........ x + s * ffn(norm(x))            (optional)
 *         linear_* ...... y = x W^T + b and its two gradients, begun and waited for
 *     head .............. linear_* on chunks of tokens; the loss is computed on the CPU
 *
 * begin/wait: between them the caller may run other CPU work that does not touch the operands. The
 * CPU does the work in begin. params_changed tells a backend that rows' versions rose, so that
 * staging can start early.
 */
#ifndef AA_MODEL_BACKEND_H
#define AA_MODEL_BACKEND_H

#include "num/num.h"

struct aa_model;
struct aa_activations;
struct aa_block;

typedef struct aa_backend {
    const char *name;
    void *self;
    aa_cpu *cpu; /* everything a backend does not do runs here */
    /* optional: forward of blocks first..end-1 for the a->N rows of the pass, all that a training
     * pass keeps included */
    aa_status (*blocks_forward)(void *self, struct aa_model *m, struct aa_activations *a, int first,
                                int end, aa_err *err);
    aa_status (*attention_half)(void *self, struct aa_model *m, struct aa_activations *a, int layer,
                                aa_err *err);
    aa_status (*ffn_half)(void *self, struct aa_model *m, struct aa_activations *a, int layer,
                          aa_err *err);
    /* required */
    aa_status (*linear_forward_begin)(void *self, aa_real *y, size_t ldy, const aa_real *x,
                                      size_t ldx, size_t T, aa_linear *lin, const aa_epilogue *e,
                                      aa_err *err);
    aa_status (*linear_dx_begin)(void *self, aa_real *dx, size_t lddx, const aa_real *dy,
                                 size_t lddy, size_t T, const aa_linear *lin, aa_real scale,
                                 bool accumulate, const aa_real *dp, aa_err *err);
    aa_status (*linear_dw_begin)(void *self, const aa_linear *lin, const aa_real *dy, size_t lddy,
                                 const aa_real *x, size_t ldx, size_t T, aa_real scale,
                                 aa_err *err);
    aa_status (*wait)(void *self, aa_err *err); /* everything begun so far is done */
    void (*params_changed)(void *self, struct aa_model *m); /* optional */
    /* optional, forward only, else the CPU: what stands between halves and linear maps, for a
     * backend whose rows see weights of their own. x of block 0 from the ids; y = rmsnorm(x) with
     * gain w; p = x A^T of lin->delta. */
    void (*lookup)(void *self, struct aa_model *m, struct aa_activations *a, const int32_t *ids);
    void (*norm)(void *self, aa_real *y, size_t ldy, aa_real *rstd, const aa_real *x,
                 const aa_tensor *w, aa_rows rows, aa_real eps);
    void (*delta_input)(void *self, aa_real *p, const aa_real *x, size_t T, aa_linear *lin);
    void (*release)(void *self);                            /* optional */
} aa_backend;

void aa_backend_cpu(aa_backend *out, aa_cpu *cpu);
/* Linear maps by a library (num/blas.h); it wants no packed copies of weights. */
struct aa_blas;
void aa_backend_blas(aa_backend *out, aa_cpu *cpu, struct aa_blas *blas);

#endif
