/* train/checkpoint: a Hugging Face directory that resumes exactly, or, of a model with an adapter,
 * a PEFT directory with what was trained: the base stays where it is. Where the base's own matrices
 * were trained as well, the whole is written, the adapter in its matrices. A run by zeroth order
 * resumes from its ledger; its directories hold no train_state.
 *
 * Beside what aa_hf_write or aa_peft_write makes:
 *   train_state.safetensors   optimizer slots "<slot>.<row>", and "master.<row>" where
 *                             model.safetensors does not hold the very weights (folded, expanded,
 *                             multiplied out)
 *   run.json                  position: step, window counter, elapsed time, best so far, journal
 *                             offset; name, size and digest of every other file
 *
 * Written into step-N.tmp, every file and the directory flushed, then renamed: a directory named
 * step-N is whole. Reading verifies every digest first.
 */
#ifndef AA_TRAIN_CHECKPOINT_H
#define AA_TRAIN_CHECKPOINT_H

#include "train/train.h"

typedef struct aa_position {               /* everything about a run that is not an array */
    uint64_t step, windows, tokens, optim_t, journal_bytes, rng_seed, sequence_forwards;
    double elapsed_s, train_s;             /* since the start, all in; of it in updates */
    double flop;                           /* of matrices, done */
    aa_eval_result last_eval;              /* tokens 0: none yet */
    double best_loss; uint64_t best_step;  /* best_loss NAN: none yet */
    double first_loss, smooth_loss;        /* divergence guard and progress */
    double log_loss_sum; uint64_t log_steps;   /* since the last journal line */
    /* when each is due, in its interval's unit */
    double next_eval, next_checkpoint, next_log, next_sample;
    aa_digest tokens_digest;
    aa_digest base_digest;                 /* of the weights it began with; 0: not asked */
} aa_position;

/* base_name NULL: an adapter goes into the matrices. */
aa_status aa_checkpoint_write(const char *run_dir, const aa_model *m, const aa_hf_options *hf,
                              const char *base_name, const aa_optim *optim,
                              const aa_position *at, aa_err *err) AA_MUST_USE;
/* Verifies the digests and reads the position, and, with m and optim (laid out for the same
 * config), the arrays. Of a model with an adapter the base must have been loaded. */
aa_status aa_checkpoint_read(const char *checkpoint_dir, aa_model *m, aa_optim *optim,
                             aa_position *at, aa_err *err) AA_MUST_USE;
aa_status aa_checkpoint_mark(const char *run_dir, uint64_t step, const char *link,
                             aa_err *err) AA_MUST_USE;
/* Removes what a killed run left unfinished: entries of the run directory that end in .tmp. */
aa_status aa_checkpoint_sweep(const char *run_dir, aa_err *err) AA_MUST_USE;
/* Removes all but the newest `keep` checkpoints, never one that last or best points at; keep <= 0
 * keeps all. */
aa_status aa_checkpoint_prune(const char *run_dir, int64_t keep, aa_err *err) AA_MUST_USE;

#endif
