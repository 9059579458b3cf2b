/* train/objective: a language model as what zeroth-order training sees (zo/objective.h).
 *
 * Rows are the model's parameters, those that a file holds included (they cannot be moved), and,
 * for methods that move them, what the model has no row for: cores between the factors of adapters,
 * and scales of rows. Of these the model has what they come to: B times core in B, and scale times
 * length in a DoRA magnitude. An id is the number of the matrix or vector in the base's table.
 *
 * Data id d is the sequences d * n .. d * n + n - 1 of the training order. All probes of a step go
 * through the blocks together (train/probe.h), as many sequences in a pass as were planned; which
 * go together changes no bit. No logits are kept. A loss is nats per token that is learned, or 1
 * less the share of these tokens, or of sequences with all of them, that greedy sampling would get
 * right, or -1 times the mean of what a program says of texts that are generated from where what is
 * learned begins (of running text: from the middle).
 */
#ifndef AA_TRAIN_OBJECTIVE_H
#define AA_TRAIN_OBJECTIVE_H

#include "data/examples.h"
#include "train/train.h"
#include "zo/zo.h"
#include "train/probe.h"

/* Sequences in the order of training: windows of T tokens of a stream, or examples, one a sequence
 * (their `packing` is off). */
typedef struct aa_lm_data {
    const aa_stream *stream; const aa_examples *examples;      /* examples NULL: the stream */
    uint64_t seed;
    size_t T, n;                          /* tokens at most; sequences behind a data id */
    aa_objective_kind objective;
    /* of COMMAND: see judge.h; and to make texts of ids (maps: as of aa_session_init) */
    const char *command; double timeout_s, most_per_s;
    size_t text_tokens;
    const aa_tokenizer *tokenizer; const int32_t *active_ids, *compact_map;
} aa_lm_data;

typedef struct aa_lm_objective aa_lm_objective;

/* Borrows all of it but config and data. data NULL: it can only be replayed. activations: for
 * `pass` sequences of T, EVAL or, for hybrids, of training. Refuses what the method cannot move in
 * this model, with the remedy. */
aa_status aa_lm_objective_open(aa_lm_objective **out, const aa_zo_config *config, aa_model *model,
                               aa_activations *activations, aa_cpu *cpu, const aa_lm_data *data,
                               size_t pass, aa_err *err) AA_MUST_USE;
void aa_lm_objective_close(aa_lm_objective *o);
const aa_zo_objective *aa_lm_objective_of(const aa_lm_objective *o);
/* The model's B and magnitudes from cores and scales: before it is used otherwise. */
void aa_lm_objective_sync(aa_lm_objective *o);
/* What open, and aa_zo_open on it, would take. stored: matrices stay in a file. */
aa_status aa_lm_objective_measure(uint64_t *out, const aa_zo_config *config, const aa_config *c,
                                  const aa_lora *lora, bool stored, const aa_lm_data *data,
                                  size_t pass, aa_err *err) AA_MUST_USE;
/* Forward passes of a sequence behind the bases of one step. */
size_t aa_lm_basis_forwards(const aa_zo_config *c, size_t n_sequences);

#endif
