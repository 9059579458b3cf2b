/* The progress of a training run on standard error:
 * one live line on a terminal, plain lines elsewhere. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "cli/cli.h"
#include "report/report.h"
#include "sys/sys.h"

#define DRAW_EVERY_S 0.1
#define PLAIN_EVERY_S 10.0
#define SPARK_WIDTH 24

void cli_progress_init(cli_progress *p, bool quiet) {
    *p = (cli_progress){.terminal = aa_sys_is_terminal(2),
                        .quiet = quiet,
                        .width = aa_sys_terminal_width(2),
                        .curve_every = 1};
    p->last_line_s = aa_sys_clock_s();
}

void cli_progress_release(cli_progress *p) {
    if (p->line_open) fputc('\n', stderr);
    p->line_open = false;
    aa_text_release(&p->text);
}

/* The curve keeps at most its capacity: when full, every second point goes. */
static void add_to_curve(cli_progress *p, const aa_train_progress *t) {
    enum { CAPACITY = sizeof p->curve / sizeof *p->curve };
    if (t->step % p->curve_every) return;
    if (p->n_curve == CAPACITY) {
        for (size_t i = 0; i < CAPACITY / 2; i++) p->curve[i] = p->curve[2 * i];
        p->n_curve = CAPACITY / 2;
        p->curve_every *= 2;
    }
    p->curve[p->n_curve++] = t->loss_smooth;
}

void cli_duration(double s, char *out, size_t n) {
    if (!isfinite(s)) snprintf(out, n, "?");
    else if (s < 100) snprintf(out, n, "%.0fs", s);
    else if (s < 6000) snprintf(out, n, "%.0fm%02.0fs", floor(s / 60), floor(fmod(s, 60)));
    else snprintf(out, n, "%.0fh%02.0fm", floor(s / 3600), floor(fmod(s, 3600) / 60));
}

cli_error cli_plus_minus(double standard_error) {
    cli_error e = {""};
    if (isfinite(standard_error)) snprintf(e.text, sizeof e.text, " ± %.4f", standard_error);
    return e;
}

static void describe(cli_progress *p, const aa_train_progress *t, bool spark) {
    char left[32];
    cli_duration(t->left_s, left, sizeof left);
    aa_text_clear(&p->text);
    aa_text_printf(&p->text, "%3.0f%%  step %llu  loss %.3f", 100 * t->fraction,
                   (unsigned long long)t->step, t->loss_smooth);
    if (isfinite(t->bits_per_byte))
        aa_text_printf(&p->text, "  val %.3f bits/byte", t->bits_per_byte);
    aa_text_add(&p->text, "  ");
    if (spark) {
        aa_sparkline(p->curve, p->n_curve, SPARK_WIDTH, &p->text);
        aa_text_add(&p->text, "  ");
    }
    aa_text_printf(&p->text, "%.0f tok/s", t->tokens_per_s);
    if (isfinite(t->share_of_peak))
        aa_text_printf(&p->text, "  %.0f%% of peak", 100 * t->share_of_peak);
    aa_text_printf(&p->text, "  %s left", left);
}

/* Bytes of s that fill at most `columns` terminal columns;
 * everything we print is one column a character. */
static size_t fit(const char *s, int columns) {
    size_t i = 0;
    for (int c = 0; s[i] && c < columns; c++) {
        i++;
        while (((unsigned char)s[i] & 0xC0) == 0x80) i++;
    }
    return i;
}

static void draw(cli_progress *p) {
    if (!p->text.data) return;
    fprintf(stderr, "\r%.*s\x1b[K", (int)fit(p->text.data, p->width - 1), p->text.data);
    fflush(stderr);
    p->line_open = true;
}

static void clear_line(cli_progress *p) {
    if (p->line_open) fputs("\r\x1b[K", stderr);
    p->line_open = false;
}

bool cli_progress_due(cli_progress *p, bool last) {
    double now = aa_sys_clock_s(), *before = p->terminal ? &p->last_draw_s : &p->last_line_s;
    double every = p->terminal ? DRAW_EVERY_S : PLAIN_EVERY_S;
    if (p->quiet || (now - *before < every && !(p->terminal && last))) return false;
    *before = now;
    return true;
}

void cli_progress_show(cli_progress *p) {
    if (p->terminal) draw(p);
    else fprintf(stderr, "%s\n", p->text.data ? p->text.data : "");
}

void cli_progress_step(void *ctx, const aa_train_progress *t) {
    cli_progress *p = ctx;
    add_to_curve(p, t);
    if (!cli_progress_due(p, t->fraction >= 1)) return;
    describe(p, t, p->terminal && p->width > 100);
    cli_progress_show(p);
}

void cli_progress_eval(void *ctx, const aa_train_progress *t, const aa_eval_result *r, bool best) {
    cli_progress *p = ctx;
    if (p->quiet) return;
    clear_line(p);
    fprintf(stderr, "step %-7llu %6.1fs  validation loss %.4f%s", (unsigned long long)t->step,
            t->wall_s, r->loss, cli_plus_minus(r->loss_stderr).text);
    if (isfinite(r->bits_per_byte)) fprintf(stderr, "  %.4f bits/byte", r->bits_per_byte);
    fprintf(stderr, "%s\n", best ? "  best" : "");
    fflush(stderr);
}

void cli_progress_sample(void *ctx, uint64_t step, const aa_text *text) {
    cli_progress *p = ctx;
    if (p->quiet) return;
    clear_line(p);
    fprintf(stderr, "step %-7llu sample: ", (unsigned long long)step);
    for (size_t i = 0; i < text->len; i++)
        if (text->data[i]) fputc(text->data[i], stderr);
        else fputs("\xE2\x90\x80", stderr); /* NUL would not show: its picture */
    fputc('\n', stderr);
}

void cli_progress_message(void *ctx, const char *line) {
    cli_progress *p = ctx;
    if (p->quiet) return;
    clear_line(p);
    fprintf(stderr, "%s\n", line);
}

bool cli_progress_stop(void *ctx) {
    (void)ctx;
    return aa_sys_interrupt_pending();
}
