/* train/journal: writes the events that report/report.h describes. Lines are flushed as they are
 * made; sync makes them durable and tells the offset that a checkpoint records, so that a resume
 * can cut what came after it. */
#ifndef AA_TRAIN_JOURNAL_H
#define AA_TRAIN_JOURNAL_H

#include <stdio.h>
#include "train/checkpoint.h"

typedef struct aa_journal_writer {
    FILE *file;
    char *path;
    aa_text line;
    uint64_t size_bytes;
} aa_journal_writer;

/* Opens for appending at exactly at_bytes:
 * a longer file is cut there, a shorter one is AA_ECORRUPT. */
aa_status aa_journal_writer_open(aa_journal_writer *w, const char *path, uint64_t at_bytes,
                                 aa_err *err) AA_MUST_USE;
void aa_journal_writer_close(aa_journal_writer *w);
aa_status aa_journal_sync(aa_journal_writer *w, aa_err *err) AA_MUST_USE;

aa_status aa_journal_run(aa_journal_writer *w, const aa_job *job, const aa_plan *plan,
                         aa_err *err) AA_MUST_USE;
aa_status aa_journal_step(aa_journal_writer *w, const aa_train_progress *p, double mean_loss,
                          aa_err *err) AA_MUST_USE;
aa_status aa_journal_eval(aa_journal_writer *w, const aa_train_progress *p, const aa_eval_result *r,
                          bool best, aa_err *err) AA_MUST_USE;
aa_status aa_journal_sample(aa_journal_writer *w, uint64_t step, const aa_text *text,
                            aa_err *err) AA_MUST_USE;
aa_status aa_journal_end(aa_journal_writer *w, const char *reason, const aa_train_result *r,
                         aa_err *err) AA_MUST_USE;

#endif
