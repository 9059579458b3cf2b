/* train/memory: everything a run allocates, laid out by one function that the plan runs on
 * measuring arenas and the run on real ones. */
#ifndef AA_TRAIN_MEMORY_H
#define AA_TRAIN_MEMORY_H

#include "train/train.h"

typedef struct aa_train_shape {
    size_t B, micro_B, T, head_rows;
    unsigned parts;                       /* aa_model_parts */
    aa_pass pass;
    const aa_lora *lora;
} aa_train_shape;

typedef struct aa_train_memory {
    aa_arena run, step; /* weights, gradients, moments, token buffers; activations */
    aa_model model;
    aa_optim optim;
    aa_activations *activations;
    int32_t *ids, *targets;               /* [B*T] of one update */
    int32_t *eval_ids, *eval_targets;     /* [micro_B*T] */
    aa_real *loss;                        /* [B*T] */
    /* of one update of examples: where their sequences begin, in each pass anew */
    int32_t *start;                       /* [B*T + B] */
    aa_batch *batch; size_t n_batches;    /* [B] its passes, rows of ids and targets in turn */
} aa_train_memory;

/* optim NULL: nobody follows gradients. measure: no memory is taken; only run.used_bytes and
 * step.used_bytes mean anything afterwards. */
aa_status aa_train_memory_init(aa_train_memory *m, const aa_config *c,
                               const aa_optim_options *optim, const aa_train_shape *shape,
                               aa_cpu *cpu, bool measure, aa_err *err) AA_MUST_USE;
void aa_train_memory_release(aa_train_memory *m);
/* Before the gradients of an update: those that train get theirs. */
void aa_train_memory_begin(aa_train_memory *m);

aa_optim_options aa_train_optim_options(const aa_train_options *o);
aa_train_shape aa_train_shape_of(const aa_plan *p, const aa_job *job);

#endif
