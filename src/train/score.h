/* train/score: a finished model against a text: which tokens, which windows, what loss. */
#ifndef AA_TRAIN_SCORE_H
#define AA_TRAIN_SCORE_H

#include "train/train.h"

typedef struct aa_score_options {
    int part;                              /* aa_part, AA_PART_COUNT: all documents */
    uint64_t tokens; size_t seq;           /* 0: everything; 0: the model's window */
} aa_score_options;

typedef struct aa_score { /* a text cut into the windows that models are scored on */
    aa_tokens tokens; aa_stream stream;
    aa_examples examples;                  /* n 0: the text is none of examples */
    size_t T, n_windows;
} aa_score;

/* data: text, JSONL, directory, token file or 'stories' (tokenized with s's tokenizer, cached).
 * Opened in place: do not copy an aa_score. */
aa_status aa_score_open(aa_score *out, const aa_session *s, const char *data,
                        const aa_score_options *o, const aa_job_hooks *hooks,
                        aa_err *err) AA_MUST_USE;
void aa_score_close(aa_score *score);
/* window_loss [n_windows] may be NULL. A second session must have the same tokenizer. */
aa_status aa_score_run(const aa_score *score, aa_session *s, double *window_loss,
                       aa_eval_result *out, aa_err *err) AA_MUST_USE;

#endif
