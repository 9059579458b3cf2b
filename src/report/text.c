/* A report for a terminal: what the run came to, its loss drawn in braille dots (2 x 4 per
 * character) with validation points on top, sparklines of the rest, and the newest sample. */
#include "report/report_int.h"

#include <math.h>
#include <string.h>

enum { ROWS = 14, LABEL = 9, MAX_WIDTH = 200, MIN_WIDTH = 40, NAME = 16 };

/* ---- sparkline ------------------------------------------------------------------------------- */

/* Mean of the finite values of column c when n values are spread over `columns` of them. */
static double column_mean(const double *v, size_t n, size_t columns, size_t c) {
    size_t begin = n / columns * c + n % columns * c / columns;
    size_t end = n / columns * (c + 1) + n % columns * (c + 1) / columns, count = 0;
    double sum = 0;
    for (size_t i = begin; i < end; i++)
        if (isfinite(v[i])) {
            sum += v[i];
            count++;
        }
    return count ? sum / (double)count : NAN;
}

void aa_sparkline(const double *v, size_t n, size_t width, aa_text *out) {
    size_t columns = n < width ? n : width;
    double lo = NAN, hi = NAN;
    for (size_t c = 0; c < columns; c++) {
        double m = column_mean(v, n, columns, c);
        if (!isfinite(m)) continue;
        if (!(lo <= m)) lo = m;
        if (!(hi >= m)) hi = m;
    }
    for (size_t c = 0; c < columns; c++) {
        double m = column_mean(v, n, columns, c);
        if (!isfinite(m)) {
            aa_text_add(out, " ");
            continue;
        }
        int level = hi > lo ? (int)((m - lo) / (hi - lo) * 7.999) : 3;
        char block[4] = {(char)0xE2, (char)0x96, (char)(0x81 + level), 0};
        aa_text_add(out, block);
    }
}

/* ---- the chart ------------------------------------------------------------------------------- */

typedef struct canvas {
    int columns;
    aa__scale x, y;
    unsigned char dots[ROWS][MAX_WIDTH];
    bool point[ROWS][MAX_WIDTH];
} canvas;

static void set_dot(canvas *c, int x, int y) {
    static const unsigned char bit[4][2] = {{0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}};
    if (x < 0 || y < 0 || x >= 2 * c->columns || y >= 4 * ROWS) return;
    c->dots[y / 4][x / 2] |= bit[y % 4][x % 2];
}

static int place(const aa__scale *s, double v, int n) {
    double at = aa__scale_at(s, v);
    return (int)((at < 0 ? 0 : at > 1 ? 1 : at) * (n - 1) + 0.5);
}

static void draw_curve(canvas *c, const aa_journal *j) {
    size_t kept[AA__THIN_MAX], n = aa__thin(j, AA__Y_LOSS, kept);
    int x0 = -1, y0 = 0;
    for (size_t i = 0; i < n; i++) {
        const aa_report_step *s = &j->steps[kept[i]];
        if (!isfinite(s->loss)) {
            x0 = -1;
            continue;
        }
        int x1 = place(&c->x, (double)s->step, 2 * c->columns);
        int y1 = 4 * ROWS - 1 - place(&c->y, s->loss, 4 * ROWS);
        int far = x0 < 0 ? 0 : x1 - x0;
        if (x0 >= 0 && (y1 > y0 ? y1 - y0 : y0 - y1) > far) far = y1 > y0 ? y1 - y0 : y0 - y1;
        for (int k = 1; k < far; k++)
            set_dot(c, x0 + (x1 - x0) * k / far, y0 + (y1 - y0) * k / far);
        set_dot(c, x1, y1);
        x0 = x1;
        y0 = y1;
    }
    for (size_t i = 0; i < j->n_evals; i++) {
        const aa_report_eval *e = &j->evals[i];
        if (!isfinite(e->loss)) continue;
        c->point[ROWS - 1 - place(&c->y, e->loss, ROWS)]
                [place(&c->x, (double)e->step, c->columns)] = true;
    }
}

static bool choose_axes(canvas *c, const aa_journal *j, double floor_loss) {
    double lo = NAN, hi = NAN, last = 0;
    for (size_t i = 0; i < j->n_steps + j->n_evals; i++) {
        bool step = i < j->n_steps;
        double v = step ? j->steps[i].loss : j->evals[i - j->n_steps].loss;
        double at = (double)(step ? j->steps[i].step : j->evals[i - j->n_steps].step);
        if (!isfinite(v)) continue;
        if (!(lo <= v)) lo = v;
        if (!(hi >= v)) hi = v;
        if (at > last) last = at;
    }
    if (isnan(lo)) return false;
    if (floor_loss >= lo / 2 && floor_loss < lo)
        lo = floor_loss; /* farther away it would flatten all */
    c->y = aa__scale_make(lo, hi, hi / lo >= 3.5 ? AA__LOG : AA__ROUND, 6);
    c->x = aa__scale_make(0, last, AA__TIGHT, c->columns / 12 > 2 ? c->columns / 12 : 2);
    return true;
}

/* s right-aligned in `width` columns; s is ASCII. */
static void add_right(aa_text *t, const aa_text *s, size_t width) {
    aa_text_printf(t, "%*s", (int)width, s->data ? s->data : "");
}

static void add_chart_row(const canvas *c, int row, double floor_loss, aa_text *t) {
    aa_text label = {0};
    for (int i = 0; i < c->y.n_ticks; i++)
        if (ROWS - 1 - place(&c->y, c->y.tick[i], ROWS) == row) {
            aa_text_clear(&label);
            aa__add_tick(&label, c->y.tick[i], c->y.log ? 0 : c->y.step);
        }
    add_right(t, &label, LABEL - 2);
    aa_text_add(t, label.len ? " \xE2\x94\xA4" : " \xE2\x94\x82");
    if (label.failed) t->failed = true;
    aa_text_release(&label);
    bool is_floor = floor_loss >= c->y.lo && ROWS - 1 - place(&c->y, floor_loss, ROWS) == row;
    int end = c->columns;
    while (end > 0 && !is_floor && !c->dots[row][end - 1] && !c->point[row][end - 1]) end--;
    for (int i = 0; i < end; i++) {
        unsigned char d = c->dots[row][i];
        char braille[4] = {(char)0xE2, (char)(0xA0 + (d >> 6)), (char)(0x80 + (d & 0x3F)), 0};
        if (c->point[row][i]) aa_text_add(t, "\xE2\x97\x8F");
        else if (d) aa_text_add(t, braille);
        else aa_text_add(t, is_floor ? "\xE2\x94\x88" : " ");
    }
    aa_text_add(t, "\n");
}

static void add_x_axis(const canvas *c, aa_text *t) {
    char line[MAX_WIDTH + 32];
    memset(line, ' ', sizeof line);
    size_t used = 0;
    aa_text_printf(t, "%*s\xE2\x94\x94", LABEL - 1, "");
    for (int i = 0; i < c->columns; i++) {
        bool tick = false;
        for (int k = 0; k < c->x.n_ticks; k++) tick |= place(&c->x, c->x.tick[k], c->columns) == i;
        aa_text_add(t, tick ? "\xE2\x94\xAC" : "\xE2\x94\x80");
    }
    for (int k = 0; k < c->x.n_ticks; k++) {
        aa_text label = {0};
        aa__add_tick(&label, c->x.tick[k], c->x.step);
        size_t at = LABEL + (size_t)place(&c->x, c->x.tick[k], c->columns);
        at -= label.len / 2;
        if (at >= used && at + label.len < sizeof line && label.len > 0) {
            memcpy(line + at, label.data, label.len);
            used = at + label.len + 1;
        }
        if (label.failed) t->failed = true;
        aa_text_release(&label);
    }
    aa_text_add(t, "\n");
    aa_text_add_bytes(t, line, used ? used - 1 : 0);
    aa_text_add(t, " steps\n");
}

static void add_chart(const aa_journal *j, const aa__summary *s, int width, aa_text *t) {
    canvas c = {.columns = width - LABEL - 8}; /* the axis is labelled beyond its end */
    if (!choose_axes(&c, j, s->floor)) {
        aa_text_add(t, "\n  no step with a finite loss yet\n");
        return;
    }
    draw_curve(&c, j);
    aa_text_printf(t, "\n%*sloss, nats per token%s\n", LABEL, "", c.y.log ? ", log scale" : "");
    if (j->n_evals > 0)
        aa_text_printf(t, "  \xE2\xA0\x92 training  \xE2\x97\x8F validation%s\n",
                       s->floor >= c.y.lo ? "  \xE2\x94\x88 floor" : "");
    for (int row = 0; row < ROWS; row++) add_chart_row(&c, row, s->floor, t);
    add_x_axis(&c, t);
}

/* ---- the rest -------------------------------------------------------------------------------- */

static void name(aa_text *t, const char *label) { aa_text_printf(t, "  %-*s", NAME, label); }

static void add_run(const aa_journal *j, const aa__summary *s, aa_text *t) {
    name(t, "run");
    aa__add_clean(t, j->path ? j->path : "", false);
    aa_text_add(t, s->reason ? ", ended: " : ", no end recorded\n");
    if (s->reason) {
        aa__add_clean(t, s->reason, false);
        aa_text_add(t, "\n");
    }
    if (isfinite(s->params)) {
        name(t, "parameters");
        aa__add_si(t, s->params, "");
        aa_text_add(t, "\n");
    }
    const char *cpu = aa__run_string(j, "host", "cpu"), *isa = aa__run_string(j, "host", "isa");
    if (!cpu) return;
    name(t, "machine");
    aa__add_clean(t, cpu, false);
    if (isa) {
        aa_text_add(t, ", ");
        aa__add_clean(t, isa, false);
    }
    double threads = aa__run_real(j, "host", "threads");
    if (isfinite(threads)) {
        aa_text_add(t, ", ");
        aa__add_fixed(t, threads, 0);
        aa_text_add(t, threads == 1 ? " thread" : " threads");
    }
    aa_text_add(t, "\n");
}

static void add_losses(const aa__summary *s, aa_text *t) {
    if (isfinite(s->loss)) {
        name(t, "validation loss");
        aa__add_fixed(t, s->loss, 4);
        if (isfinite(s->loss_stderr)) {
            aa_text_add(t, " \xC2\xB1 ");
            aa__add_fixed(t, s->loss_stderr, 4);
        }
        aa_text_add(t, ", perplexity ");
        aa__add_short(t, s->perplexity, 4);
        if (isfinite(s->bits_per_byte)) {
            aa_text_add(t, ", ");
            aa__add_fixed(t, s->bits_per_byte, 4);
            aa_text_add(t, " bits per byte");
        }
        aa_text_add(t, "\n");
    }
    if (isfinite(s->best_loss)) {
        name(t, "best");
        aa__add_fixed(t, s->best_loss, 4);
        aa_text_add(t, " at step ");
        aa__add_count(t, s->best_step);
        if (s->floor > 0) {
            aa_text_add(t, ", floor ");
            aa__add_fixed(t, s->floor, 4);
        }
        aa_text_add(t, "\n");
    }
    if (isfinite(s->train_loss)) {
        name(t, "training loss");
        aa__add_fixed(t, s->train_loss, 4);
        aa_text_add(t, "\n");
    }
}

static void add_work(const aa__summary *s, aa_text *t) {
    name(t, "work");
    aa__add_count(t, s->steps);
    aa_text_add(t, s->steps == 1 ? " step, " : " steps, ");
    aa__add_si(t, (double)s->tokens, "");
    aa_text_add(t, " tokens");
    if (isfinite(s->epochs)) {
        aa_text_add(t, " (");
        aa__add_short(t, s->epochs, 3);
        aa_text_add(t, " epochs)");
    }
    if (isfinite(s->flop)) {
        aa_text_add(t, ", ");
        aa__add_si(t, s->flop, "FLOP");
    }
    aa_text_add(t, "\n");
    if (!isfinite(s->wall_s) && !isfinite(s->tokens_per_s)) return;
    name(t, "time");
    aa__add_duration(t, s->wall_s);
    if (isfinite(s->tokens_per_s)) {
        aa_text_add(t, ", ");
        aa__add_si(t, s->tokens_per_s, "");
        aa_text_add(t, " tokens/s");
    }
    if (isfinite(s->share_of_peak)) {
        aa_text_add(t, ", ");
        aa__add_fixed(t, s->share_of_peak * 100, 1);
        aa_text_add(t, " % of peak");
    }
    aa_text_add(t, "\n");
}

static void add_sparklines(const aa_journal *j, int width, aa_text *t) {
    static const struct {
        const char *label;
        aa__y y;
    } lines[] = {{"learning rate", AA__Y_LR},
                 {"gradient norm", AA__Y_GRAD_NORM},
                 {"tokens/s", AA__Y_RATE},
                 {"% of peak", AA__Y_SHARE}};
    size_t room = (size_t)(width - NAME - 2 - 24);
    if (room > 60) room = 60;
    for (size_t l = 0; l < sizeof lines / sizeof *lines; l++) {
        size_t kept[AA__THIN_MAX], n = aa__thin(j, lines[l].y, kept);
        double v[AA__THIN_MAX], lo = NAN, hi = NAN;
        for (size_t i = 0; i < n; i++) {
            v[i] = aa__step_y(&j->steps[kept[i]], lines[l].y);
            if (!isfinite(v[i])) continue;
            if (!(lo <= v[i])) lo = v[i];
            if (!(hi >= v[i])) hi = v[i];
        }
        if (isnan(lo)) continue;
        name(t, lines[l].label);
        if (width >= 60) {
            aa_sparkline(v, n, room, t);
            aa_text_add(t, "  ");
        }
        if (lines[l].y == AA__Y_RATE) aa__add_si(t, lo, "");
        else aa__add_short(t, lo, 3);
        aa_text_add(t, " \xE2\x80\xA6 ");
        if (lines[l].y == AA__Y_RATE) aa__add_si(t, hi, "");
        else aa__add_short(t, hi, 3);
        aa_text_add(t, "\n");
    }
}

/* Breaks lines at spaces so that none is longer than width characters; indents by two. */
static void add_wrapped(const char *s, int width, aa_text *t) {
    while (*s) {
        const char *at = s, *space = NULL;
        int used = 0;
        while (*at && *at != '\n' && used < width - 4) {
            if (*at == ' ') space = at;
            at++;
            while ((*at & 0xC0) == 0x80) at++;
            used++;
        }
        const char *end = *at && *at != '\n' && *at != ' ' && space ? space : at;
        aa_text_add(t, "  ");
        aa_text_add_bytes(t, s, (size_t)(end - s));
        aa_text_add(t, "\n");
        s = end;
        if (*s == ' ' || *s == '\n') s++;
    }
}

void aa_report_text(const aa_journal *j, int width, aa_text *out) {
    int w = width < MIN_WIDTH ? MIN_WIDTH : width > MAX_WIDTH ? MAX_WIDTH : width;
    aa__summary s;
    aa__summarize(j, &s);
    add_run(j, &s, out);
    add_losses(&s, out);
    add_work(&s, out);
    add_chart(j, &s, w, out);
    aa_text_add(out, "\n");
    add_sparklines(j, w, out);
    if (j->n_samples > 0) {
        const aa_report_sample *last = &j->samples[j->n_samples - 1];
        aa_text clean = {0};
        aa__add_clean(&clean, last->text, false);
        aa_text_printf(out, "\n  sample at step %llu\n\n", (unsigned long long)last->step);
        if (clean.data) add_wrapped(clean.data, w, out);
        if (clean.failed) out->failed = true;
        aa_text_release(&clean);
    }
    if (j->n_skipped)
        aa_text_printf(out, "\n  %zu unknown or torn %s skipped\n", j->n_skipped,
                       j->n_skipped == 1 ? "line" : "lines");
}
