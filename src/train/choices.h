/* train/choices: multiple-choice questions, scored as lm-evaluation-harness does.
 *
 * A file holds one JSON object a line: {"query": "...", "choices": ["...", ...], "gold": 0}
 * ("context" may stand for "query"). The text of a choice is the query, the delimiter and the
 * choice; its score is the log-probability of the tokens that it has more than the query alone,
 * white space at the end of the query counting to the choice. Picked is the highest score (acc), or
 * the highest per byte of the choice, the delimiter not counted (acc_norm); of equals the first. An
 * empty query is the token that begins a text. What exceeds the context is cut from the left.
 */
#ifndef AA_TRAIN_CHOICES_H
#define AA_TRAIN_CHOICES_H

#include "infer/infer.h"

typedef struct aa_choice { double logprob; size_t n_tokens, n_bytes; } aa_choice;

typedef struct aa_choice_item {
    size_t line, gold, n, pick, pick_norm;   /* line of the file, from 1 */
    aa_choice *choice;                       /* [n] */
} aa_choice_item;

typedef struct aa_choices {                  /* release with aa_choices_release */
    aa_choice_item *item; size_t n;
    double acc, acc_stderr, acc_norm, acc_norm_stderr;   /* sample error of the mean; NAN of one */
    double chance;                           /* what picking blindly gives */
    uint64_t n_read, n_scored;               /* tokens through the model; tokens of all texts */
    double wall_s;
    aa_arena arena;
} aa_choices;

/* The context is the session's capacity. */
aa_status aa_choices_run(aa_choices *out, aa_session *s, const char *path, const char *delimiter,
                         aa_err *err) AA_MUST_USE;
void aa_choices_release(aa_choices *c);

#endif
