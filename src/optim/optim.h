/* optim: from gradients to new parameters, over parameter rows.
 *
 * One pass over memory per step: the clip factor is folded into the update, which also zeroes the
 * gradient. Decay only where the row is a matrix, embedding or head. Knows rows, not transformers.
 */
#ifndef AA_OPTIM_OPTIM_H
#define AA_OPTIM_OPTIM_H

#include "base/memory.h"
#include "num/num.h"

/* Muon updates the matrices of the blocks; everything else stays with AdamW. So does APOLLO-Mini,
 * which keeps of a matrix the moments of one random row (Zhu et al. 2024, arXiv:2412.05270). BAdam
 * is AdamW of one block at a time (Luo, Yu, Li 2024, arXiv:2404.02827): the rows of a layer, or
 * those of none, have gradients for some updates, then others. */
typedef enum {
    AA_OPTIM_ADAMW, AA_OPTIM_MUON, AA_OPTIM_SGD, AA_OPTIM_APOLLO_MINI, AA_OPTIM_BADAM
} aa_optim_kind;

typedef struct aa_optim_options {
    int kind;                              /* aa_optim_kind */
    double beta1, beta2, eps;              /* SGD: beta1 is the momentum, the others unused */
    double weight_decay, clip;             /* clip: global L2 norm, 0 = off */
    double embed_factor;                   /* on the rate of the embedding */
    double lora_b_factor;                  /* on the rate of B (LoRA+: arXiv:2402.12354) */
    double muon_factor, muon_momentum;     /* on the rate of Muon's rows */
    int muon_steps;                        /* of Newton-Schulz */
    uint64_t seed;                         /* of APOLLO's rows and of BAdam's order of blocks */
    uint64_t block_updates;                /* BAdam: updates that a block stays */
} aa_optim_options;

enum { AA_OPTIM_SLOTS = 2 };              /* state arrays per row, at most */

typedef struct aa_optim {
    aa_optim_options options;
    aa_tensor *tensors; size_t n_tensors;  /* borrowed from the model */
    aa_real **slot[AA_OPTIM_SLOTS];        /* slot[s][row]: state in the row's shape, or NULL */
    aa_real *shared[AA_OPTIM_SLOTS];       /* BAdam: the state of whatever block it is */
    size_t n_shared; int n_blocks;
    aa_real *scratch;                      /* Muon: one direction and its Gram matrices. APOLLO: a
                                            * random column and the row that it makes */
    uint64_t t;                            /* updates done */
    uint64_t size_bytes;                   /* what it took from the arena */
    double flop;                           /* of matrix products, per update */
} aa_optim;

aa_status aa_optim_init(aa_optim *o, const aa_optim_options *options, aa_tensor *tensors,
                        size_t n_tensors, aa_arena *arena, aa_err *err) AA_MUST_USE;
/* "exp_avg", "momentum", ...; NULL where the row has no such state, as frozen ones have none. */
const char *aa_optim_slot_name(const aa_optim *o, size_t slot, size_t row);
size_t aa_optim_slot_size(const aa_optim *o, size_t slot, size_t row);  /* elements of it */
/* BAdam: the block of the next update, whose rows must have gradients before they are computed, a
 * layer, or the number of layers for the rest; -1 with other methods. Where a block begins, the
 * state is cleared. */
int aa_optim_begin(aa_optim *o);

typedef struct aa_optim_result { double grad_norm, clip_factor; } aa_optim_result;
/* One update with learning rate lr: t += 1, clip, update, zero gradients, raise versions. A
 * gradient that is not finite changes nothing and returns AA_EDIVERGED naming it. */
aa_status aa_optim_step(aa_optim *o, aa_cpu *cpu, double lr, aa_optim_result *out,
                        aa_err *err) AA_MUST_USE;

/* ---- schedules: pure functions of the fraction of the budget used ---------------------------- */

typedef enum { AA_SCHEDULE_WSD, AA_SCHEDULE_COSINE, AA_SCHEDULE_CONSTANT } aa_schedule_kind;
typedef struct aa_schedule {
    int kind;
    double lr, min_lr;       /* min_lr: where the decay ends */
    double warmup, cooldown; /* fractions of the budget; cooldown: of WSD, at its end */
} aa_schedule;
double aa_schedule_lr(const aa_schedule *s, double fraction);     /* fraction in [0,1], clamped */

#endif
