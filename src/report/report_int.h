/* report/report_int: what the files of this room share: numbers as people read them, scales and
 * ticks, thinning of long curves, the summary of a run. */
#ifndef AA_REPORT_REPORT_INT_H
#define AA_REPORT_REPORT_INT_H

#include "report/report.h"

/* ---- numbers (number.c): no locale, the same bytes everywhere -------------------------------- */

/* 1.50; e-notation from 1e15 on; a dash for NaN */
void aa__add_fixed(aa_text *t, double v, int decimals);
/* at most so many significant digits: 0.0006, 12.5, 1.23e-5 */
void aa__add_short(aa_text *t, double v, int digits);
/* 1.23 M, 16.9 k, 812 */
void aa__add_si(aa_text *t, double v, const char *unit);
/* 12,345,678 */
void aa__add_count(aa_text *t, uint64_t v);
/* 4.20 s, 2 m 32 s, 2 h 05 m */
void aa__add_duration(aa_text *t, double seconds);
/* As many digits as ticks `step` apart need; step 0: as many as v itself needs. */
void aa__add_tick(aa_text *t, double v, double step);
/* Text from outside: control characters become their pictures, bidirectional overrides vanish; as
 * HTML, the five special characters are escaped as well. */
void aa__add_clean(aa_text *t, const char *s, bool html);

/* ---- scales (scale.c) ------------------------------------------------------------------------ */

typedef struct aa__scale {
    double lo, hi; /* domain; lo < hi always, both > 0 when log */
    bool log;
    int n_ticks;
    double tick[16], step;
} aa__scale;

typedef enum {
    AA__ROUND, /* linear, from tick to tick */
    AA__TIGHT, /* linear, exactly lo to hi */
    AA__LOG    /* logarithmic where the values allow it, else as AA__ROUND */
} aa__scale_kind;

/* An axis for values from lo to hi (anything, also not finite) with at most max_ticks + 1 ticks. */
aa__scale aa__scale_make(double lo, double hi, aa__scale_kind kind, int max_ticks);
double aa__scale_at(const aa__scale *s, double v); /* 0 at lo, 1 at hi */

/* What a curve shows of a step line, and against what. */
typedef enum { AA__X_STEP, AA__X_TOKENS, AA__X_SECONDS } aa__x;
typedef enum { AA__Y_LOSS, AA__Y_LR, AA__Y_GRAD_NORM, AA__Y_RATE, AA__Y_SHARE } aa__y;
double aa__step_x(const aa_report_step *s, aa__x x);
double aa__step_y(const aa_report_step *s, aa__y y);
double aa__eval_x(const aa_report_eval *e, aa__x x);

/* Picks indices of a curve, ascending, such that no extreme is lost: the first, the last, and the
 * smallest and largest of each of AA__THIN / 2 stretches. Returns how many; all if they fit. */
enum { AA__THIN = 600, AA__THIN_MAX = AA__THIN + 2 };
size_t aa__thin(const aa_journal *j, aa__y y, size_t out[AA__THIN_MAX]);

/* ---- summary (summary.c) --------------------------------------------------------------------- */

typedef struct aa__summary { /* NaN: not in the journal */
    uint64_t steps, tokens, best_step;
    double loss, loss_stderr, bits_per_byte, perplexity; /* last validation */
    double best_loss, best_bits_per_byte, train_loss, floor;
    double wall_s, tokens_per_s, share_of_peak, epochs, params, flop;
    const char *reason; /* why it ended, or NULL: still running, or killed */
} aa__summary;
void aa__summarize(const aa_journal *j, aa__summary *out);

/* Values of the run event by path, such as ("host", "cpu"); NULL or NaN if absent. */
const char *aa__run_string(const aa_journal *j, const char *object, const char *key);
double aa__run_real(const aa_journal *j, const char *object, const char *key);
/* A run's short name for titles and legends: its directory's name. Not NUL-terminated: *n bytes. */
const char *aa__run_name(const aa_journal *j, size_t *n);

/* ---- charts (chart.c) and page (html.c, style.c) --------------------------------------------- */

typedef struct aa__chart {
    const aa_journal *const *j;
    const aa__summary *s;
    size_t n;
    const char *title, *unit; /* unit names the vertical axis */
    aa__x x;
    aa__y y;
    bool evals; /* validation points with error bars; floor line */
    int width, height;
} aa__chart;
void aa__chart_svg(const aa__chart *c, aa_text *out);
bool aa__chart_has(const aa__chart *c); /* anything finite to draw */

void aa__style(size_t n_runs, aa_text *out); /* content of the style element */

#endif
