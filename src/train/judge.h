/* train/judge: a user's program that scores texts.
 *
 * It is started anew for each step, by `sh -c`, reads a JSON object per line,
 *     {"prompt": ..., "text": what the model wrote, "reference": what the data has there}
 * and writes a number per line, in the same order; more is better. Its standard error is ours. It
 * is given timeout_s seconds and, if most_per_s is set, started at most so often. What fails (it
 * ends with another status than 0, is killed, takes too long, or says less, more or no numbers) is
 * asked again, twice; then AA_EIO says what happened. Private to train.
 */
#ifndef AA_TRAIN_JUDGE_H
#define AA_TRAIN_JUDGE_H

#include "base/text.h"

typedef struct aa_judge {
    const char *command;
    double timeout_s, most_per_s;         /* 0: as often as there are steps */
    aa_text lines; size_t n_texts;        /* to be judged */
    double last_s;                        /* when it was started last */
} aa_judge;

void aa_judge_add(aa_judge *j, const aa_text *prompt, const aa_text *text,
                  const aa_text *reference);
/* scores [n_texts] out, finite; forgets the texts. AA_EINTERRUPTED: an interrupt is pending. */
aa_status aa_judge_scores(aa_judge *j, double *scores, aa_err *err) AA_MUST_USE;
void aa_judge_release(aa_judge *j);

#endif
