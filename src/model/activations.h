/* model/activations: the buffers of one forward and backward pass.
 *
 * For the passes in forward.c and backward.c, and for backends that take over more than linear
 * maps. N rows (tokens) of a micro-batch, sequence after sequence. A training pass keeps
 * what backward needs, per block, but for n_attn, n_ffn and h, which hold the latest block's
 * values and are computed again in backward. A checkpointed pass keeps x alone per block, all else
 * is shared. An evaluation pass has one set of block buffers which all blocks share, x and x_mid
 * being the same buffer, and the statistics NULL.
 */
#ifndef AA_MODEL_ACTIVATIONS_H
#define AA_MODEL_ACTIVATIONS_H

#include "model/model.h"

typedef struct aa_block_activations {
    aa_real *x;                  /* [N,C]        residual stream entering the block */
    aa_real *n_attn, *rstd_attn; /* [N,C] [N]    its norm */
    aa_real *qkv;                /* [N,(H+2K)D]  Wqkv n + b */
    aa_real *qk;                 /* [N,ld_qk]    q and k as attention sees them, normed, rotated.
                                    Without q/k norm, and in evaluation, this is qkv itself */
    aa_real *rstd_q, *rstd_k;    /* [N,H] [N,K]  of the q/k norms */
    aa_real *o, *lse;            /* [N,HD] [N,H] attention */
    aa_real *x_mid;              /* [N,C]        residual stream between the halves */
    aa_real *n_ffn, *rstd_ffn;   /* [N,C] [N] */
    aa_real *gu;                 /* [N,2F]       gate and up; backward turns it into dgu */
    aa_real *h;                  /* [N,F]        silu(gate) * up */
} aa_block_activations;

struct aa_activations {
    aa_pass pass;
    size_t max_rows, head_rows;           /* N at most; rows of a chunk of logits */
    size_t ld_qkv, ld_qk;
    /* the pass under way */
    size_t B, T, N;
    const int32_t *start;                 /* of the batch */
    aa_kv *kv;                            /* where keys and values live; NULL: in qkv */
    int32_t *pos;                         /* [N]          position of each row in its sequence */
    aa_block_activations *blocks;         /* [L] */
    aa_real *x_final;                     /* [N,C]        residual stream leaving the last block */
    aa_real *n_final, *rstd_final;        /* [N,C] [N] */
    aa_real *logits;                      /* [head_rows,V], then their gradient */
    aa_real *hits;                        /* [N] out: aa_greedy_hits; NULL: nobody asks */
    aa_real *z, *dz;                      /* [head_rows,R] of a low-rank head; dz in training */
    /* backward, shared by all blocks; training only */
    aa_real *dx;                 /* [N,C]        gradient of the residual stream */
    aa_real *dn;                 /* [N,C]        of a norm's output */
    aa_real *dqkv, *dqk;         /* [N,ld_qkv] [N,ld_qk]; the same buffer without q/k norm */
    aa_real *d_o, *delta;        /* [N,HD] [N,H] */
    aa_real *dh;                 /* [N,F] */
    /* an adapter's, as many columns as its widest map has ranks; dp in training */
    aa_real *p, *dp;             /* [N,R]        x A^T, and its gradient */
    aa_real *dgu;                /* [N,2F]       with magnitudes; else NULL, and in gu */
    aa_real *dropped;            /* [N,n_in]     with dropout: x as A sees it, and dp A */
    aa_dropout dropout;          /* of the pass under way; p 0: none */
};

static inline size_t aa__batch_rows(const aa_batch *b) {
    return b->start ? (size_t)b->start[b->B] : b->B * b->T;
}

/* The residual stream leaving block `layer`: what the next block reads. */
static inline aa_real *aa_block_output(const aa_model *m, aa_activations *a, int layer) {
    return layer + 1 < (int)m->config.layers ? a->blocks[layer + 1].x : a->x_final;
}

/* Starts a pass over a batch, whose sequences begin at position `first`. */
void aa__activations_begin(aa_activations *a, const aa_batch *b, size_t first, aa_kv *kv);
/* The forward pass up to the final norm's output, n_final. */
aa_status aa__model_forward(aa_model *m, aa_backend *be, aa_activations *a, const int32_t *ids,
                            aa_err *err);
/* Ids and targets must be in the vocabulary (they come from files), the batch within the plan. */
aa_status aa__check_ids(const aa_model *m, const int32_t *ids, const int32_t *targets, size_t n,
                        aa_err *err);

/* blocks[0].x = the rows of the ids looked up; and what flows back into them. */
void aa__lookup_forward(const aa_model *m, aa_cpu *cpu, const aa_activations *a,
                        const int32_t *ids);
aa_status aa__lookup_backward(aa_model *m, aa_cpu *cpu, const aa_activations *a, const int32_t *ids,
                              aa_err *err);
/* logits [N,V] of h [N,C], N at most head_rows; and back: dh, and the gradients of the table. The
 * backward of a chunk follows its forward. */
aa_status aa__head_forward(aa_model *m, aa_backend *be, aa_activations *a, aa_real *logits,
                           const aa_real *h, size_t N, aa_err *err);
aa_status aa__head_backward(aa_model *m, aa_backend *be, aa_activations *a, aa_real *dh,
                            const aa_real *dlogits, const aa_real *h, size_t N, aa_err *err);

/* loss [N] of n_final, a chunk of logits at a time. */
aa_status aa__head_loss(aa_model *m, aa_backend *be, aa_activations *a, const int32_t *targets,
                        aa_real *loss, aa_err *err);

/* Copies the new rows of k and v behind a layer's earlier ones;
 * turns k, v and `at` to all of them. */
void aa__kv_append(aa_kv *kv, aa_cpu *cpu, int layer, aa_attention *at, const aa_real **k,
                   const aa_real **v);

/* The mask of a map's adapter in the pass under way. */
static inline aa_dropout aa__dropout_of(const aa_activations *a, const aa_linear *lin) {
    aa_dropout d = a->dropout;
    d.index += lin->delta->id;
    return d;
}
/* a->p = x[N,n_in] A^T of the map's adapter: what aa_epilogue.p is; NULL where there is none. Gains
 * are brought up to date. With dropout a->dropped is what A sees. */
const aa_real *aa__delta_input(aa_backend *be, const aa_activations *a, const aa_real *x,
                               aa_linear *lin);
/* Forward of a block from what enters it, as far as backward needs it: all but its last map. */
aa_status aa__block_again(aa_model *m, aa_backend *be, aa_activations *a, int layer, aa_err *err);

#endif
