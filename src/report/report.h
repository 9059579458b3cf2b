/* report: journals to things people look at. It reads files only, so old and foreign runs stay
 * reportable.
 *
 * A journal is JSON Lines, one event per line; anything that depends on the clock or machine sits
 * in "time" or "host", so that two runs of the same work differ there only:
 *
 *   {"event":"run","schema":1,"options":{...},"model":{"params":n,"flop_per_token":x,
 *    "flop_per_update":x},
 *    "data":{"tokens":n,...,"train_examples":n,"valid_examples":n,"cut_examples":n},
 *    "host":{"cpu":"...","isa":"avx512","threads":2,"peak_gflops":x,"version":"0.1.0"}}
 *   {"event":"step","step":n,"tokens":n,"epoch":x,"loss":x,"lr":x,"grad_norm":x,
 *    "time":{"wall_s":x,"tokens_per_s":x,"share_of_peak":x}}        loss: mean since the last such
 *        by zeroth order, "sequence_forwards":n,"spread":x in the place of grad_norm
 *   {"event":"eval","step":n,"tokens":n,"loss":x,"loss_stderr":x,"bits_per_byte":x,"perplexity":x,
 *    "eval_tokens":n,"best":true,"time":{"wall_s":x}}
 *   {"event":"sample","step":n,"text":"..."}
 *   {"event":"end","reason":"budget|interrupted|diverged","step":n,"tokens":n,"epoch":x,"flop":x,
 *    "loss":x,"floor":x|null,"time":{"wall_s":x,"train_s":x,"eval_s":x,"checkpoint_s":x}}
 *
 * Unknown events and fields are skipped; a torn last line (a crash) is tolerated and counted. A
 * journal that goes back in steps was resumed: later lines replace those they repeat.
 */
#ifndef AA_REPORT_REPORT_H
#define AA_REPORT_REPORT_H

#include "base/file.h"
#include "base/text.h"

typedef struct aa_report_step { /* NaN: the line has no such number */
    uint64_t step, tokens;
    double epoch, loss, lr, grad_norm, wall_s, tokens_per_s, share_of_peak;
} aa_report_step;

typedef struct aa_report_eval {
    uint64_t step, tokens;
    double loss, loss_stderr, bits_per_byte, wall_s;
    bool best;
} aa_report_eval;

typedef struct aa_report_sample {
    uint64_t step;
    char *text;             /* NUL in it became its picture, U+2400 */
} aa_report_sample;

typedef struct aa_journal { /* a journal in memory; release with aa_journal_release */
    char *path;
    void *run, *end;        /* json_t of the run and end events, or NULL */
    aa_report_step *steps;
    size_t n_steps;
    aa_report_eval *evals;
    size_t n_evals;
    aa_report_sample *samples;
    size_t n_samples;
    size_t n_skipped;       /* unknown or torn lines */
} aa_journal;

/* path: a journal, or a run directory that holds journal.jsonl. A bad line in the middle is
 * AA_EFORMAT with file:line. */
aa_status aa_journal_open(aa_journal *out, const char *path, aa_err *err) AA_MUST_USE;
void aa_journal_release(aa_journal *j);

/* For a terminal of `width` columns: what the run came to, the loss in braille dots, sparklines. */
void aa_report_text(const aa_journal *j, int width, aa_text *out);
/* One row per step line and eval, in the order of the run. */
void aa_report_csv(const aa_journal *j, aa_text *out);
/* One self-contained HTML page: no script, no network; inline SVG of loss against steps, tokens and
 * seconds (train thin, validation with error bars, floor line), learning rate, gradient norm,
 * throughput; samples; every option. Several journals are drawn together and compared in a table.
 */
void aa_report_html(const aa_journal *const *j, size_t n, aa_text *out);
/* The summary as one JSON object. */
void aa_report_json(const aa_journal *j, aa_text *out);
/* Sparkline of values in 8 block characters, newest at the right; blank where not finite. */
void aa_sparkline(const double *v, size_t n, size_t width, aa_text *out);

#endif
