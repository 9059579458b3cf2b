/* The page: one file that needs nothing else, readable by a person years later. It is well-formed
 * XML as well as HTML, carries no script, and shows foreign text (samples, paths, options) only
 * escaped. The same journals always give the same bytes. */
#include "base/json.h"
#include "base/memory.h"
#include "report/report_int.h"

#include <math.h>
#include <string.h>

enum { MAX_EVAL_ROWS = 60, NEW_SAMPLES = 6, OLD_SAMPLES = 48 };

typedef struct page {
    const aa_journal *const *j;
    const aa__summary *s;
    size_t n;
    aa_text *t;
} page;

static void add_name(const aa_journal *j, aa_text *t) {
    size_t n;
    const char *name = aa__run_name(j, &n);
    char copy[200];
    if (n >= sizeof copy) n = sizeof copy - 1;
    memcpy(copy, name, n);
    copy[n] = '\0';
    aa__add_clean(t, n ? copy : "run", true);
}

/* ---- what the run came to -------------------------------------------------------------------- */

static void add_string_of(const aa_journal *j, const char *object, const char *key, aa_text *t) {
    const char *s = aa__run_string(j, object, key);
    aa__add_clean(t, s ? s : "\xE2\x80\x93", true);
}

static const char *state_of(const aa__summary *s) {
    if (!s->reason) return "no end recorded";
    return strcmp(s->reason, "budget") ? s->reason : "finished";
}

static void add_with_error(double v, double error, aa_text *t) {
    aa__add_fixed(t, v, 4);
    if (!isfinite(error)) return;
    aa_text_add(t, " <small>\xC2\xB1 ");
    aa__add_fixed(t, error, 4);
    aa_text_add(t, "</small>");
}

typedef enum {
    BEST_LOSS,
    FINAL_LOSS,
    BITS,
    PERPLEXITY,
    TRAIN_LOSS,
    FLOOR,
    STEPS,
    TOKENS,
    EPOCHS,
    FLOP,
    WALL,
    RATE,
    SHARE,
    PARAMS,
    STATE,
    CPU,
    ISA,
    THREADS,
    PEAK,
    VERSION,
    N_FACTS
} fact;

static const char *const fact_name[N_FACTS] = {"Best validation loss",
                                               "Final validation loss",
                                               "Bits per byte",
                                               "Perplexity",
                                               "Training loss",
                                               "Floor",
                                               "Steps",
                                               "Tokens",
                                               "Epochs",
                                               "Training compute",
                                               "Wall time",
                                               "Tokens per second",
                                               "Share of peak",
                                               "Parameters",
                                               "State",
                                               "Processor",
                                               "Instruction set",
                                               "Threads",
                                               "Measured peak",
                                               "Version"};

/* A number with its unit, or a dash alone. */
static void add_si_fact(double v, const char *unit, aa_text *t) {
    aa__add_si(t, v, isfinite(v) ? unit : "");
}

static void add_fact(fact f, const aa_journal *j, const aa__summary *s, aa_text *t) {
    switch (f) {
    case BEST_LOSS:
        aa__add_fixed(t, s->best_loss, 4);
        if (isnan(s->best_loss)) break;
        aa_text_add(t, " <small>at step ");
        aa__add_count(t, s->best_step);
        aa_text_add(t, "</small>");
        break;
    case FINAL_LOSS:
        add_with_error(s->loss, s->loss_stderr, t);
        break;
    case BITS:
        aa__add_fixed(t, s->bits_per_byte, 4);
        break;
    case PERPLEXITY:
        aa__add_short(t, s->perplexity, 4);
        break;
    case TRAIN_LOSS:
        aa__add_fixed(t, s->train_loss, 4);
        break;
    case FLOOR:
        aa__add_fixed(t, s->floor, 4);
        break;
    case STEPS:
        aa__add_count(t, s->steps);
        break;
    case TOKENS:
        aa__add_count(t, s->tokens);
        break;
    case EPOCHS:
        aa__add_fixed(t, s->epochs, 2);
        break;
    case FLOP:
        add_si_fact(s->flop, "FLOP", t);
        break;
    case WALL:
        aa__add_duration(t, s->wall_s);
        break;
    case RATE:
        add_si_fact(s->tokens_per_s, "", t);
        break;
    case SHARE:
        aa__add_fixed(t, s->share_of_peak * 100, 1);
        if (isfinite(s->share_of_peak)) aa_text_add(t, " %");
        break;
    case PARAMS:
        add_si_fact(s->params, "", t);
        break;
    case STATE:
        aa__add_clean(t, state_of(s), true);
        break;
    case CPU:
        add_string_of(j, "host", "cpu", t);
        break;
    case ISA:
        add_string_of(j, "host", "isa", t);
        break;
    case THREADS:
        aa__add_fixed(t, aa__run_real(j, "host", "threads"), 0);
        break;
    case PEAK:
        add_si_fact(aa__run_real(j, "host", "peak_gflops") * 1e9, "FLOP/s", t);
        break;
    case VERSION:
        add_string_of(j, "host", "version", t);
        break;
    case N_FACTS:
        break;
    }
}

static double fact_value(fact f, const aa__summary *s) {
    switch (f) {
    case BEST_LOSS:
        return s->best_loss;
    case FINAL_LOSS:
        return s->loss;
    case BITS:
        return s->bits_per_byte;
    case PERPLEXITY:
        return s->perplexity;
    case RATE:
        return -s->tokens_per_s;
    case SHARE:
        return -s->share_of_peak;
    default:
        return NAN;
    }
}

/* Whether run r is the best of several in f (smaller is better; fact_value sees to that). */
static bool wins(const page *p, size_t r, fact f) {
    double v = fact_value(f, &p->s[r]);
    if (p->n < 2 || isnan(v)) return false;
    for (size_t i = 0; i < p->n; i++)
        if (fact_value(f, &p->s[i]) < v) return false;
    return true;
}

/* ---- head ------------------------------------------------------------------------------------ */

static void add_tiles(const page *p) {
    aa_text *t = p->t;
    const aa__summary s = p->s[0];
    const struct {
        fact f;
        const char *label;
        double v;
    } tiles[] = {{FINAL_LOSS, "Validation loss", s.loss},
                 {TRAIN_LOSS, "Training loss", isnan(s.loss) ? s.train_loss : NAN},
                 {BITS, "Bits per byte", s.bits_per_byte},
                 {PERPLEXITY, "Perplexity", s.perplexity},
                 {TOKENS, "Tokens", s.tokens ? (double)s.tokens : NAN},
                 {WALL, "Wall time", s.wall_s},
                 {RATE, "Tokens per second", s.tokens_per_s},
                 {SHARE, "Share of peak", s.share_of_peak},
                 {PARAMS, "Parameters", s.params}};
    aa_text_add(t, "<section class=\"tiles\">\n");
    for (size_t i = 0; i < sizeof tiles / sizeof *tiles; i++) {
        if (!isfinite(tiles[i].v)) continue;
        aa_text_printf(t, "<div><span>%s</span><b>", tiles[i].label);
        if (tiles[i].f == TOKENS) {
            aa__add_si(t, (double)s.tokens, "");
            if (s.epochs > 0) {
                aa_text_add(t, " <small>");
                aa__add_short(t, s.epochs, s.epochs < 10 ? 2 : 3);
                aa_text_add(t, " epochs</small>");
            }
        } else {
            add_fact(tiles[i].f, p->j[0], &s, t);
        }
        aa_text_add(t, "</b></div>\n");
    }
    aa_text_add(t, "</section>\n");
}

/* What is being trained, on what, as one sentence of facts that exist. */
static void add_subtitle(const aa_journal *j, aa_text *t) {
    static const struct {
        const char *object, *key;
    } parts[] = {{"options", "preset"}, {"options", "data"}, {"host", "cpu"}, {"host", "isa"}};
    const char *between = "";
    aa_text_add(t, "<p class=\"sub\">");
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        const char *s = aa__run_string(j, parts[i].object, parts[i].key);
        if (!s || !*s) continue;
        aa_text_add(t, between);
        aa__add_clean(t, s, true);
        between = " \xC2\xB7 ";
    }
    double threads = aa__run_real(j, "host", "threads");
    if (isfinite(threads)) {
        aa_text_add(t, between);
        aa__add_fixed(t, threads, 0);
        aa_text_add(t, threads == 1 ? " thread" : " threads");
    }
    aa_text_add(t, "</p>\n");
}

static void add_compare(const page *p) {
    static const fact columns[] = {BEST_LOSS, FINAL_LOSS, BITS,  PERPLEXITY, TOKENS,
                                   WALL,      RATE,       SHARE, PARAMS};
    static const char *const heads[] = {"best loss",  "final loss", "bits/byte",
                                        "perplexity", "tokens",     "wall",
                                        "tokens/s",   "of peak",    "params"};
    const size_t n = sizeof columns / sizeof *columns;
    aa_text *t = p->t;
    aa_text_add(
        t,
        "<section class=\"card scroll\" style=\"margin-top:26px\"><table><thead><tr><th>run</th>");
    for (size_t c = 0; c < n; c++) aa_text_printf(t, "<th class=\"n\">%s</th>", heads[c]);
    aa_text_add(t, "</tr></thead><tbody>\n");
    for (size_t r = 0; r < p->n; r++) {
        const aa__summary s = p->s[r];
        aa_text_printf(t, "<tr><th><span class=\"swatch r%zu\"></span>", r);
        add_name(p->j[r], t);
        aa_text_add(t, "</th>");
        for (size_t c = 0; c < n; c++) {
            aa_text_printf(t, "<td class=\"n%s\">", wins(p, r, columns[c]) ? " win" : "");
            if (columns[c] == BEST_LOSS) aa__add_fixed(t, s.best_loss, 4);
            else if (columns[c] == FINAL_LOSS) aa__add_fixed(t, s.loss, 4);
            else if (columns[c] == TOKENS) aa__add_si(t, (double)s.tokens, "");
            else add_fact(columns[c], p->j[r], &s, t);
            aa_text_add(t, "</td>");
        }
        aa_text_add(t, "</tr>\n");
    }
    aa_text_add(t, "</tbody></table></section>\n");
}

static void add_top(const page *p) {
    aa_text *t = p->t;
    if (p->n == 1) {
        bool bad = p->s->reason && !strcmp(p->s->reason, "diverged");
        aa_text_add(t, "<h1>");
        add_name(p->j[0], t);
        aa_text_printf(t, "<span class=\"state%s\">", bad ? " bad" : "");
        aa__add_clean(t, state_of(p->s), true);
        aa_text_add(t, "</span></h1>\n");
        add_subtitle(p->j[0], t);
        add_tiles(p);
    } else {
        aa_text_printf(t, "<h1>%zu runs compared</h1>\n", p->n);
        if (p->n > 0) add_subtitle(p->j[0], t);
        if (p->n > 0) add_compare(p);
    }
}

/* ---- charts ---------------------------------------------------------------------------------- */

#define LINE_KEY(classes, more)                                                                    \
    "<svg viewBox=\"0 0 26 10\" aria-hidden=\"true\">"                                             \
    "<path class=\"" classes "\" d=\"M1 5H25\"/>" more "</svg>"

static void add_legend(const page *p, bool loss) {
    aa_text *t = p->t;
    aa_text_add(t, "<ul class=\"legend\">");
    if (p->n == 1) {
        aa_text_add(
            t, "<li>" LINE_KEY("t r0", "") "training</li><li>" LINE_KEY(
                   "v r0",
                   "<circle class=\"p r0\" cx=\"13\" cy=\"5\" r=\"3\"/>") "validation \xC2\xB1 1 "
                                                                          "standard error</li>");
    } else {
        for (size_t r = 0; r < p->n; r++) {
            aa_text_printf(
                t,
                "<li><svg viewBox=\"0 0 26 10\" aria-hidden=\"true\"><path class=\"v r%zu\" "
                "d=\"M1 5H25\"/></svg>",
                r);
            add_name(p->j[r], t);
            aa_text_add(t, "</li>");
        }
        if (loss)
            aa_text_add(t, "<li>thin: training, bold: validation \xC2\xB1 1 standard error</li>");
    }
    aa_text_add(t, "</ul>\n");
}

static void add_loss(const page *p) {
    static const char *const names[] = {"Steps", "Tokens", "Time"};
    aa_text *t = p->t;
    aa__chart c = {.j = p->j,
                   .s = p->s,
                   .n = p->n,
                   .unit = "nats per token",
                   .y = AA__Y_LOSS,
                   .evals = true,
                   .width = 1000,
                   .height = 420};
    bool has[3];
    int first = -1;
    for (int i = 0; i < 3; i++) {
        c.x = (aa__x)i;
        has[i] = aa__chart_has(&c);
        if (has[i] && first < 0) first = i;
    }
    if (first < 0) {
        aa_text_add(
            t, "<h2>Loss</h2><section class=\"card\"><p class=\"sub\">Nothing has been measured "
               "yet: the journal holds no step with a finite loss.</p></section>\n");
        return;
    }
    aa_text_add(t, "<section class=\"card tabs loss\" style=\"margin-top:16px\">\n");
    for (int i = 0; i < 3; i++)
        if (has[i])
            aa_text_printf(t, "<input type=\"radio\" name=\"by\" id=\"by%d\"%s/>", i,
                           i == first ? " checked=\"checked\"" : "");
    aa_text_add(t, "\n<div class=\"bar\"><h2>Loss</h2><div class=\"pick\">");
    for (int i = 0; i < 3; i++)
        if (has[i])
            aa_text_printf(t, "<label class=\"l%d\" for=\"by%d\">%s</label>", i, i, names[i]);
    aa_text_add(t, "</div></div>\n");
    add_legend(p, true);
    for (int i = 0; i < 3; i++) {
        if (!has[i]) continue;
        static const char *const titles[] = {"Loss against steps", "Loss against tokens",
                                             "Loss against time"};
        c.x = (aa__x)i;
        c.title = titles[i];
        aa_text_printf(t, "<div class=\"pane plot wide p%d\">", i);
        aa__chart_svg(&c, t);
        aa_text_add(t, "</div>\n");
    }
    aa_text_add(t, "</section>\n");
}

static void add_other_charts(const page *p) {
    static const struct {
        const char *title, *unit;
        aa__y y;
    } charts[] = {{"Learning rate", "", AA__Y_LR},
                  {"Gradient norm", "", AA__Y_GRAD_NORM},
                  {"Throughput", "tokens per second", AA__Y_RATE},
                  {"Share of peak", "% of measured FMA peak", AA__Y_SHARE}};
    aa_text *t = p->t;
    aa_text_add(t, "<div class=\"pair\">\n");
    for (size_t i = 0; i < sizeof charts / sizeof *charts; i++) {
        aa__chart c = {.j = p->j,
                       .s = p->s,
                       .n = p->n,
                       .title = charts[i].title,
                       .unit = charts[i].unit,
                       .y = charts[i].y,
                       .x = AA__X_STEP,
                       .width = 520,
                       .height = 250};
        if (!aa__chart_has(&c)) continue;
        aa_text_printf(t, "<section class=\"card\"><h3>%s</h3>", charts[i].title);
        if (p->n > 1) add_legend(p, false);
        aa_text_add(t, "<div class=\"plot half\">");
        aa__chart_svg(&c, t);
        aa_text_add(t, "</div></section>\n");
    }
    aa_text_add(t, "</div>\n");
}

/* ---- samples --------------------------------------------------------------------------------- */

static void add_sample(const page *p, size_t run, const aa_report_sample *s) {
    aa_text *t = p->t;
    aa_text_add(t, "<figure class=\"card sample\"><figcaption>");
    if (p->n > 1) {
        aa_text_printf(t, "<span class=\"swatch r%zu\"></span>", run);
        add_name(p->j[run], t);
        aa_text_add(t, " \xC2\xB7 ");
    }
    aa_text_add(t, "step ");
    aa__add_count(t, s->step);
    aa_text_add(t, "</figcaption><div dir=\"auto\">");
    aa__add_clean(t, s->text, true);
    aa_text_add(t, "</div></figure>\n");
}

static void add_samples(const page *p) {
    aa_text *t = p->t;
    bool any = false;
    for (size_t r = 0; r < p->n; r++) any |= p->j[r]->n_samples > 0;
    if (!any) return;
    size_t newest = p->n == 1 ? NEW_SAMPLES : 2, older = 0;
    aa_text_add(t, "<h2>Samples</h2><section class=\"samples\">\n");
    for (size_t r = 0; r < p->n; r++) {
        const aa_journal *j = p->j[r];
        for (size_t i = 0; i < newest && i < j->n_samples; i++)
            add_sample(p, r, &j->samples[j->n_samples - 1 - i]);
        if (j->n_samples > newest) older += j->n_samples - newest;
    }
    aa_text_add(t, "</section>\n");
    if (older == 0) return;
    size_t shown = 0;
    aa_text_printf(
        t, "<details><summary>%zu earlier samples</summary><section class=\"samples\">\n", older);
    for (size_t r = 0; r < p->n; r++) {
        const aa_journal *j = p->j[r];
        for (size_t i = newest; i < j->n_samples && shown < OLD_SAMPLES; i++, shown++)
            add_sample(p, r, &j->samples[j->n_samples - 1 - i]);
    }
    aa_text_add(t, "</section>");
    if (shown < older)
        aa_text_printf(t, "<p class=\"sub\">%zu more are in the journal.</p>", older - shown);
    aa_text_add(t, "</details>\n");
}

/* ---- tables ---------------------------------------------------------------------------------- */

static void add_run_heads(const page *p) {
    if (p->n < 2) return;
    aa_text_add(p->t, "<thead><tr><th></th>");
    for (size_t r = 0; r < p->n; r++) {
        aa_text_printf(p->t, "<th><span class=\"swatch r%zu\"></span>", r);
        add_name(p->j[r], p->t);
        aa_text_add(p->t, "</th>");
    }
    aa_text_add(p->t, "</tr></thead>");
}

static void add_summary(const page *p) {
    aa_text *t = p->t;
    aa_text_add(t, "<h2>Summary</h2><section class=\"card scroll\"><table>");
    add_run_heads(p);
    aa_text_add(t, "<tbody>\n");
    for (int f = 0; f < N_FACTS; f++) {
        aa_text_printf(t, "<tr><th>%s</th>", fact_name[f]);
        for (size_t r = 0; r < p->n; r++) {
            aa_text_add(t, wins(p, r, (fact)f) ? "<td class=\"win\">" : "<td>");
            add_fact((fact)f, p->j[r], &p->s[r], t);
            aa_text_add(t, "</td>");
        }
        aa_text_add(t, "</tr>\n");
    }
    aa_text_add(t, "</tbody></table></section>\n");
}

static void add_eval_table(const page *p, size_t run) {
    const aa_journal *j = p->j[run];
    aa_text *t = p->t;
    if (j->n_evals == 0) return;
    size_t stride = (j->n_evals + MAX_EVAL_ROWS - 1) / MAX_EVAL_ROWS;
    aa_text_printf(t, "<details><summary>Validation results: %zu", j->n_evals);
    if (p->n > 1) {
        aa_text_add(t, " of ");
        add_name(j, t);
    }
    if (stride > 1) aa_text_printf(t, ", every %zuth shown", stride);
    aa_text_add(
        t,
        "</summary><div class=\"card scroll\"><table><thead><tr><th class=\"n\">step</th>"
        "<th class=\"n\">tokens</th><th class=\"n\">loss</th><th class=\"n\">\xC2\xB1</th>"
        "<th class=\"n\">bits per byte</th><th class=\"n\">perplexity</th></tr></thead><tbody>\n");
    for (size_t i = 0; i < j->n_evals; i++) {
        if ((j->n_evals - 1 - i) % stride) continue;
        const aa_report_eval *e = &j->evals[i];
        aa_text_add(t, "<tr><td class=\"n\">");
        aa__add_count(t, e->step);
        aa_text_add(t, "</td><td class=\"n\">");
        aa__add_count(t, e->tokens);
        aa_text_printf(t, "</td><td class=\"n%s\">", e->best ? " win" : "");
        aa__add_fixed(t, e->loss, 4);
        aa_text_add(t, "</td><td class=\"n\">");
        aa__add_fixed(t, e->loss_stderr, 4);
        aa_text_add(t, "</td><td class=\"n\">");
        aa__add_fixed(t, e->bits_per_byte, 4);
        aa_text_add(t, "</td><td class=\"n\">");
        aa__add_short(t, exp(e->loss), 4);
        aa_text_add(t, "</td></tr>\n");
    }
    aa_text_add(t, "</tbody></table></div></details>\n");
}

static void add_value(const json_t *v, aa_text *t) {
    if (!v || json_is_null(v)) aa_text_add(t, "\xE2\x80\x93");
    else if (json_is_string(v)) aa__add_clean(t, json_string_value(v), true);
    else if (json_is_integer(v)) aa_text_json_int(t, json_integer_value(v));
    else if (json_is_real(v)) aa_text_json_real(t, json_real_value(v));
    else if (json_is_boolean(v)) aa_text_add(t, json_is_true(v) ? "yes" : "no");
    else {
        aa_text json = {0};
        aa_json_write(v, &json);
        if (json.failed) t->failed = true;
        else aa__add_clean(t, json.data, true);
        aa_text_release(&json);
    }
}

static const json_t *object_of(const aa_journal *j, const char *object) {
    return j->run ? json_object_get(j->run, object) : NULL;
}

/* One row per key of the run events' object, each key once;
 * rows that differ between runs are marked. */
static void add_keys(const page *p, const char *object, const char *title) {
    aa_text *t = p->t;
    bool any = false;
    for (size_t r = 0; r < p->n; r++) {
        const char *key;
        json_t *value;
        json_object_foreach((json_t *)(uintptr_t)object_of(p->j[r], object), key, value) {
            bool seen = false, differs = false;
            for (size_t i = 0; i < p->n; i++) {
                const json_t *other = json_object_get(object_of(p->j[i], object), key);
                seen |= other && i < r;
                differs |= !other || !json_equal(other, value);
            }
            if (seen) continue;
            if (!any) {
                aa_text_printf(t,
                               "<details%s><summary>%s</summary><div class=\"card scroll\"><table>",
                               strcmp(object, "options") ? "" : " open=\"open\"", title);
                add_run_heads(p);
                aa_text_add(t, "<tbody>\n");
            }
            any = true;
            aa_text_printf(t, "<tr%s><th class=\"key\">",
                           p->n > 1 && differs ? " class=\"diff\"" : "");
            aa__add_clean(t, key, true);
            aa_text_add(t, "</th>");
            for (size_t i = 0; i < p->n; i++) {
                aa_text_add(t, "<td class=\"key\">");
                add_value(json_object_get(object_of(p->j[i], object), key), t);
                aa_text_add(t, "</td>");
            }
            aa_text_add(t, "</tr>\n");
        }
    }
    if (any) aa_text_add(t, "</tbody></table></div></details>\n");
}

static void add_recorded(const page *p) {
    bool any = false;
    for (size_t r = 0; r < p->n; r++) any |= p->j[r]->run != NULL;
    if (!any) return;
    aa_text_add(p->t, "<h2>What the run recorded</h2>\n");
    add_keys(p, "options", "Every option");
    add_keys(p, "model", "Model");
    add_keys(p, "data", "Data");
    add_keys(p, "host", "Machine");
}

static void add_footer(const page *p) {
    aa_text *t = p->t;
    aa_text_add(t, "<footer>Made by autoane " AA_VERSION " from");
    for (size_t r = 0; r < p->n; r++) {
        aa_text_add(t, r ? ", " : " ");
        aa__add_clean(t, p->j[r]->path ? p->j[r]->path : "a journal", true);
        if (p->j[r]->n_skipped)
            aa_text_printf(t, " (%zu unknown or torn %s skipped)", p->j[r]->n_skipped,
                           p->j[r]->n_skipped == 1 ? "line" : "lines");
    }
    aa_text_add(t, ".</footer>\n");
}

static void add_page(const page *p) {
    aa_text *t = p->t;
    aa_text_add(
        t, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n"
           "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n<title>");
    if (p->n == 1) add_name(p->j[0], t);
    else aa_text_printf(t, "%zu runs", p->n);
    aa_text_add(t, " \xC2\xB7 training report</title>\n<style>\n");
    aa__style(p->n, t);
    aa_text_printf(t, "</style>\n</head>\n<body class=\"%s\">\n<main>\n",
                   p->n == 1 ? "one" : "many");
    add_top(p);
    add_loss(p);
    add_other_charts(p);
    add_samples(p);
    if (p->n > 0) add_summary(p);
    for (size_t r = 0; r < p->n; r++) add_eval_table(p, r);
    add_recorded(p);
    add_footer(p);
    aa_text_add(t, "</main>\n</body>\n</html>\n");
}

void aa_report_html(const aa_journal *const *j, size_t n, aa_text *out) {
    aa__summary *s = aa_heap_alloc(n ? n : 1, sizeof *s);
    if (!s) {
        out->failed = true;
        return;
    }
    for (size_t r = 0; r < n; r++) aa__summarize(j[r], &s[r]);
    const page p = {.j = j, .s = s, .n = n, .t = out};
    add_page(&p);
    aa_heap_free(s);
}
