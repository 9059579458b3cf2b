/* train/zo_run: a run by zeroth order: the engine, its objective, and the ledger that is its
 * checkpoint. Private to train.
 *
 * A run that goes on starts at the base, follows its ledger up to where the position is that it
 * resumes from, and takes the steps behind that from the ledger as well, until there are none: what
 * happens between steps happens then as it did, and no measurement is made twice.
 */
#ifndef AA_TRAIN_ZO_RUN_H
#define AA_TRAIN_ZO_RUN_H

#include "train/memory.h"
#include "train/objective.h"

typedef struct aa_zo_run {
    aa_lm_objective *objective;
    aa_zo *engine;
    aa_ledger *ledger;                    /* NULL: hybrids have none */
    aa_zo_playback *playback;             /* NULL: the ledger is at its end */
    char *path;                           /* of the ledger */
    size_t basis_forwards;                /* of new bases */
} aa_zo_run;

/* Settings that follow from other options; before anything else of the job is settled. */
aa_status aa_zo_run_settle(aa_opts *opts, aa_err *err) AA_MUST_USE;
/* Whether the whole matrices must be there as floats. */
bool aa_zo_writes_matrices(const aa_zo_config *c);
/* Sequences of one pass, unless --micro-batch says how many. */
size_t aa_zo_pass_sequences(size_t T);

/* base: digest of the weights in memory. resume: plays the ledger until step `step`. */
aa_status aa_zo_run_open(aa_zo_run *out, const aa_job *job, const aa_plan *plan,
                         aa_train_memory *mem, aa_cpu *cpu, aa_digest base, bool resume,
                         uint64_t step, aa_err *err) AA_MUST_USE;
void aa_zo_run_close(aa_zo_run *z);
/* Before each step, where memory may be taken: goes from the ledger's steps to new ones. */
aa_status aa_zo_run_prepare(aa_zo_run *z, aa_err *err) AA_MUST_USE;
/* One step; sequence_forwards includes bases. The model is as it is afterwards. */
aa_status aa_zo_run_step(aa_zo_run *z, double factor, aa_zo_report *out,
                         aa_err *err) AA_MUST_USE;
/* Before a checkpoint. */
aa_status aa_zo_run_sync(aa_zo_run *z, aa_err *err) AA_MUST_USE;

#endif
