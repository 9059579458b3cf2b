/* One chart as inline SVG: axes with round ticks, a thin curve per run, validation points with
 * error bars of one standard error, the floor, and strips that show the values under the pointer.
 *
 * Coordinates are user units of a fixed viewBox; the page scales the picture. Colours, widths and
 * fonts are classes of the page's style, so that light and dark need one drawing. r0, r1 ... are
 * the runs.
 */
#include "report/report_int.h"

#include <math.h>
#include <string.h>

enum { LEFT = 58, RIGHT = 16, TOP = 30, BOTTOM = 46, MAX_POINTS = 80, STRIP_WIDTH = 9 };

typedef struct view {
    const aa__chart *c;
    aa__scale x, y;
    double x_size; /* what one unit of the x axis is: 60 for minutes */
    const char *x_unit;
} view;

static void span_add(double v, double *lo, double *hi) {
    if (!isfinite(v)) return;
    if (!(*lo <= v)) *lo = v;
    if (!(*hi >= v)) *hi = v;
}

/* Extent of everything that will be drawn; NaN where there is nothing. */
static void extent(const aa__chart *c, double x[2], double y[2]) {
    x[0] = x[1] = y[0] = y[1] = NAN;
    for (size_t r = 0; r < c->n; r++) {
        const aa_journal *j = c->j[r];
        for (size_t i = 0; i < j->n_steps; i++) {
            double v = aa__step_y(&j->steps[i], c->y);
            if (!isfinite(v)) continue;
            span_add(v, &y[0], &y[1]);
            span_add(aa__step_x(&j->steps[i], c->x), &x[0], &x[1]);
        }
        for (size_t i = 0; c->evals && i < j->n_evals; i++) {
            const aa_report_eval *e = &j->evals[i];
            if (!isfinite(e->loss)) continue;
            double error = isfinite(e->loss_stderr) ? e->loss_stderr : 0;
            span_add(e->loss - error, &y[0], &y[1]);
            span_add(e->loss + error, &y[0], &y[1]);
            span_add(aa__eval_x(e, c->x), &x[0], &x[1]);
        }
    }
}

bool aa__chart_has(const aa__chart *c) {
    double x[2], y[2];
    extent(c, x, y);
    return !isnan(x[0]) && !isnan(y[0]);
}

static void choose_x(view *v, double lo, double hi) {
    const aa__chart *c = v->c;
    v->x_size = 1;
    v->x_unit = c->x == AA__X_STEP ? "steps" : c->x == AA__X_TOKENS ? "tokens" : "seconds";
    if (c->x == AA__X_SECONDS && hi > 7200) {
        v->x_size = 3600;
        v->x_unit = "hours";
    } else if (c->x == AA__X_SECONDS && hi > 240) {
        v->x_size = 60;
        v->x_unit = "minutes";
    }
    if (lo > 0 && (lo < hi * 0.2 || lo == hi)) lo = 0;
    int most = c->width > 600 ? 10 : 6;
    do v->x = aa__scale_make(lo / v->x_size, hi / v->x_size, AA__TIGHT, most);
    while (c->x != AA__X_SECONDS && v->x.step != floor(v->x.step) && --most > 1); /* whole steps */
}

static void choose_y(view *v, double lo, double hi) {
    const aa__chart *c = v->c;
    double least = lo;
    for (size_t r = 0; c->evals && r < c->n; r++) /* a floor far away would flatten the curves */
        if (c->s[r].floor >= least / 2) span_add(c->s[r].floor, &lo, &hi);
    aa__scale_kind kind = AA__ROUND;
    if (c->y == AA__Y_LOSS && hi / lo >= 3.5) kind = AA__LOG;
    else if (c->y == AA__Y_GRAD_NORM && hi / lo >= 30) kind = AA__LOG;
    else if (c->y != AA__Y_LOSS && lo > 0) lo = 0;
    v->y = aa__scale_make(lo, hi, kind, c->height > 300 ? 8 : 5);
}

static double to_x(const view *v, double x) {
    return LEFT + (v->c->width - LEFT - RIGHT) * aa__scale_at(&v->x, x / v->x_size);
}

static double to_y(const view *v, double y) {
    double at = aa__scale_at(&v->y, y);
    at = at < 0 ? 0 : at > 1 ? 1 : at;
    return TOP + (v->c->height - TOP - BOTTOM) * (1 - at);
}

static void add_xy(aa_text *t, const char *before, double x, double y) {
    aa_text_add(t, before);
    aa__add_fixed(t, x, 1);
    aa_text_add(t, " ");
    aa__add_fixed(t, y, 1);
}

static void attribute(aa_text *t, const char *name, double value) {
    aa_text_printf(t, " %s=\"", name);
    aa__add_fixed(t, value, 1);
    aa_text_add(t, "\"");
}

static void add_axes(const view *v, aa_text *t) {
    const aa__chart *c = v->c;
    double bottom = c->height - BOTTOM, right = c->width - RIGHT;
    aa_text_add(t, "<g class=\"grid\"><path d=\"");
    for (int i = 0; i < v->y.n_ticks; i++) {
        add_xy(t, "M", LEFT, to_y(v, v->y.tick[i]));
        aa_text_add(t, "H");
        aa__add_fixed(t, right, 1);
    }
    aa_text_add(t, "\"/></g><path class=\"axis\" d=\"");
    add_xy(t, "M", LEFT, bottom);
    aa_text_add(t, "H");
    aa__add_fixed(t, right, 1);
    for (int i = 0; i < v->x.n_ticks; i++) {
        add_xy(t, "M", to_x(v, v->x.tick[i] * v->x_size), bottom);
        aa_text_add(t, "v5");
    }
    aa_text_add(t, "\"/><g class=\"ty\">");
    for (int i = 0; i < v->y.n_ticks; i++) {
        aa_text_add(t, "<text");
        attribute(t, "x", LEFT - 9);
        attribute(t, "y", to_y(v, v->y.tick[i]) + 4);
        aa_text_add(t, ">");
        aa__add_tick(t, v->y.tick[i], v->y.log ? 0 : v->y.step);
        aa_text_add(t, "</text>");
    }
    aa_text_add(t, "</g><g class=\"tx\">");
    for (int i = 0; i < v->x.n_ticks; i++) {
        aa_text_add(t, "<text");
        attribute(t, "x", to_x(v, v->x.tick[i] * v->x_size));
        attribute(t, "y", bottom + 19);
        aa_text_add(t, ">");
        aa__add_tick(t, v->x.tick[i], v->x.step);
        aa_text_add(t, "</text>");
    }
    aa_text_add(t, "<text class=\"name\"");
    attribute(t, "x", (LEFT + right) / 2);
    attribute(t, "y", bottom + 39);
    aa_text_printf(t, ">%s</text></g><text class=\"name\" x=\"%d\" y=\"14\">%s%s</text>", v->x_unit,
                   6, c->unit, v->y.log ? " (log scale)" : "");
}

static void add_floor(const view *v, aa_text *t) {
    for (size_t r = 0; r < v->c->n; r++) {
        double floor_loss = v->c->s[r].floor;
        if (!(floor_loss > 0) || !isfinite(floor_loss)) continue;
        double y = to_y(v, floor_loss);
        aa_text_printf(t, "<g class=\"floor r%zu\"><path d=\"", r);
        add_xy(t, "M", LEFT, y);
        aa_text_add(t, "H");
        aa__add_fixed(t, v->c->width - RIGHT, 1);
        aa_text_add(t, "\"/><text");
        attribute(t, "x", v->c->width - RIGHT - 4);
        attribute(t, "y", y - 6);
        aa_text_add(t, floor_loss < v->y.lo ? ">\xE2\x86\x93 floor " : ">floor ");
        aa__add_fixed(t, floor_loss, 3);
        aa_text_add(t, "</text></g>");
    }
}

static void add_curve(const view *v, size_t run, aa_text *t) {
    const aa_journal *j = v->c->j[run];
    size_t kept[AA__THIN_MAX], n = aa__thin(j, v->c->y, kept), drawn = 0;
    double x = 0, y = 0;
    bool pen = false;
    for (size_t i = 0; i < n; i++) {
        const aa_report_step *s = &j->steps[kept[i]];
        double x1 = aa__step_x(s, v->c->x), y1 = aa__step_y(s, v->c->y);
        if (!isfinite(x1) || !isfinite(y1)) {
            pen = false;
            continue;
        }
        x = to_x(v, x1);
        y = to_y(v, y1);
        if (drawn++ == 0) aa_text_printf(t, "<path class=\"t r%zu\" d=\"", run);
        add_xy(t, pen ? "L" : "M", x, y);
        if (!pen) aa_text_add(t, "h0"); /* a point between gaps is a dot of the line's width */
        pen = true;
    }
    if (drawn) aa_text_add(t, "\"/>");
    if (drawn != 1) return;
    aa_text_printf(t, "<circle class=\"d r%zu\"", run);
    attribute(t, "cx", x);
    attribute(t, "cy", y);
    aa_text_add(t, " r=\"3\"/>");
}

/* Whether validation i is drawn: all of a short run;
 * evenly spaced ones of a long run, its last and best. */
static bool shows_eval(const aa_journal *j, size_t i, uint64_t best_step) {
    size_t stride = (j->n_evals + MAX_POINTS - 1) / MAX_POINTS;
    const aa_report_eval *e = &j->evals[i];
    return isfinite(e->loss) && (i % stride == 0 || i + 1 == j->n_evals || e->step == best_step);
}

static void add_eval_point(const view *v, size_t run, const aa_report_eval *e, bool best,
                           aa_text *t) {
    aa_text_printf(t, "<circle class=\"p%s r%zu\"", best ? " best" : "", run);
    attribute(t, "cx", to_x(v, aa__eval_x(e, v->c->x)));
    attribute(t, "cy", to_y(v, e->loss));
    aa_text_printf(t, " r=\"%s\"><title>step ", best ? "4.5" : "3");
    aa__add_count(t, e->step);
    aa_text_add(t, "\nvalidation ");
    aa__add_fixed(t, e->loss, 4);
    if (isfinite(e->loss_stderr)) {
        aa_text_add(t, " \xC2\xB1 ");
        aa__add_fixed(t, e->loss_stderr, 4);
    }
    if (isfinite(e->bits_per_byte)) {
        aa_text_add(t, "\n");
        aa__add_fixed(t, e->bits_per_byte, 4);
        aa_text_add(t, " bits per byte");
    }
    aa_text_add(t, best ? "\nbest of the run</title></circle>" : "</title></circle>");
}

static void add_evals(const view *v, size_t run, aa_text *t) {
    const aa_journal *j = v->c->j[run];
    uint64_t best_step = v->c->s[run].best_step;
    bool any = false;
    for (size_t i = 0; i < j->n_evals; i++) {
        const aa_report_eval *e = &j->evals[i];
        if (!shows_eval(j, i, best_step) || !isfinite(aa__eval_x(e, v->c->x))) continue;
        if (!any) aa_text_printf(t, "<path class=\"v r%zu\" d=\"", run);
        add_xy(t, any ? "L" : "M", to_x(v, aa__eval_x(e, v->c->x)), to_y(v, e->loss));
        any = true;
    }
    if (!any) return;
    aa_text_printf(t, "\"/><path class=\"e r%zu\" d=\"", run);
    for (size_t i = 0; i < j->n_evals; i++) {
        const aa_report_eval *e = &j->evals[i];
        double x = aa__eval_x(e, v->c->x);
        if (!shows_eval(j, i, best_step) || !isfinite(x) || !(e->loss_stderr > 0)) continue;
        double y0 = to_y(v, e->loss - e->loss_stderr), y1 = to_y(v, e->loss + e->loss_stderr);
        add_xy(t, "M", to_x(v, x) - 3, y0);
        add_xy(t, "h6M", to_x(v, x), y0);
        aa_text_add(t, "V");
        aa__add_fixed(t, y1, 1);
        add_xy(t, "M", to_x(v, x) - 3, y1);
        aa_text_add(t, "h6");
    }
    aa_text_add(t, "\"/>");
}

static void add_eval_points(const view *v, size_t run, aa_text *t) {
    const aa_journal *j = v->c->j[run];
    uint64_t best_step = v->c->s[run].best_step;
    for (size_t i = 0; i < j->n_evals; i++) {
        const aa_report_eval *e = &j->evals[i];
        if (shows_eval(j, i, best_step) && isfinite(aa__eval_x(e, v->c->x)))
            add_eval_point(v, run, e, e->step == best_step, t);
    }
}

/* ---- what is under the pointer --------------------------------------------------------------- */

static void add_value(const view *v, double y, aa_text *t) {
    switch (v->c->y) {
    case AA__Y_LOSS: aa__add_fixed(t, y, 4); break;
    case AA__Y_RATE: aa__add_si(t, y, ""); break;
    case AA__Y_SHARE:
        aa__add_fixed(t, y, 1);
        aa_text_add(t, " %");
        break;
    default: aa__add_short(t, y, 4);
    }
}

/* The last line of a run at or before x: walks on from *at, for x only grows. */
static const aa_report_step *line_at(const view *v, size_t run, double x, size_t *at) {
    const aa_journal *j = v->c->j[run];
    while (*at < j->n_steps && !(aa__step_x(&j->steps[*at], v->c->x) > x)) ++*at;
    return *at > 0 ? &j->steps[*at - 1] : NULL;
}

static void add_readout(const view *v, double x, size_t *at, aa_text *t) {
    const aa__chart *c = v->c;
    if (c->x == AA__X_SECONDS) aa__add_duration(t, x);
    else if (c->x == AA__X_TOKENS) {
        aa__add_si(t, x, "");
        aa_text_add(t, " tokens");
    } else {
        aa_text_add(t, "step ");
        aa__add_count(t, (uint64_t)(x + 0.5));
    }
    for (size_t r = 0; r < c->n && r < 6; r++) {
        const aa_report_step *s = line_at(v, r, x, &at[r]);
        double y = s ? aa__step_y(s, c->y) : NAN;
        if (isnan(y)) continue;
        aa_text_printf(t, "<tspan class=\"k r%zu\" dx=\"10\">\xE2\x97\x8F</tspan><tspan dx=\"3\">",
                       r);
        add_value(v, y, t);
        aa_text_add(t, "</tspan>");
    }
}

static void add_strips(const view *v, aa_text *t) {
    double left = LEFT, width = v->c->width - LEFT - RIGHT;
    int n = (int)(width / STRIP_WIDTH);
    size_t at[6] = {0};
    aa_text_add(t, "<g class=\"strips\">");
    for (int i = 0; i < n; i++) {
        double mid = (i + 0.5) / n, x = (v->x.lo + mid * (v->x.hi - v->x.lo)) * v->x_size;
        aa_text_add(t, "<g><rect");
        attribute(t, "x", left + width * i / n);
        aa_text_printf(t, " y=\"%d\"", TOP);
        attribute(t, "width", width / n);
        aa_text_printf(t, " height=\"%d\"/><path d=\"", v->c->height - TOP - BOTTOM);
        add_xy(t, "M", left + width * mid, TOP);
        aa_text_printf(t, "v%d\"/><text x=\"%d\" y=\"14\">", v->c->height - TOP - BOTTOM,
                       v->c->width - RIGHT);
        add_readout(v, x, at, t);
        aa_text_add(t, "</text></g>");
    }
    aa_text_add(t, "</g>");
}

void aa__chart_svg(const aa__chart *c, aa_text *t) {
    view v = {.c = c};
    double x[2], y[2];
    extent(c, x, y);
    choose_x(&v, x[0], x[1]);
    choose_y(&v, y[0], y[1]);
    aa_text_printf(t, "<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"%s\">", c->width,
                   c->height, c->title);
    add_axes(&v, t);
    if (c->evals) add_floor(&v, t);
    for (size_t r = 0; r < c->n; r++) add_curve(&v, r, t);
    for (size_t r = 0; c->evals && r < c->n; r++) add_evals(&v, r, t);
    add_strips(&v, t);
    for (size_t r = 0; c->evals && r < c->n; r++) add_eval_points(&v, r, t);
    aa_text_add(t, "</svg>\n");
}
