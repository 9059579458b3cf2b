/* Journals for spreadsheets: one row per step line and per validation, in the order of the run. */
#include "report/report_int.h"

#include <math.h>

static void add_real(aa_text *t, double v) {
    aa_text_add(t, ",");
    if (isfinite(v)) aa_text_json_real(t, v);
}

static void add_row(aa_text *t, const char *event, uint64_t step, uint64_t tokens) {
    aa_text_printf(t, "%s,%llu,%llu", event, (unsigned long long)step, (unsigned long long)tokens);
}

void aa_report_csv(const aa_journal *j, aa_text *out) {
    aa_text_add(out, "event,step,tokens,epoch,loss,loss_stderr,bits_per_byte,lr,grad_norm,wall_s,"
                     "tokens_per_s,share_of_peak,best\n");
    size_t s = 0, e = 0;
    while (s < j->n_steps || e < j->n_evals) {
        if (e == j->n_evals || (s < j->n_steps && j->steps[s].step <= j->evals[e].step)) {
            const aa_report_step *l = &j->steps[s++];
            add_row(out, "step", l->step, l->tokens);
            add_real(out, l->epoch);
            add_real(out, l->loss);
            aa_text_add(out, ",,");
            add_real(out, l->lr);
            add_real(out, l->grad_norm);
            add_real(out, l->wall_s);
            add_real(out, l->tokens_per_s);
            add_real(out, l->share_of_peak);
            aa_text_add(out, ",\n");
        } else {
            const aa_report_eval *v = &j->evals[e++];
            add_row(out, "eval", v->step, v->tokens);
            aa_text_add(out, ",");
            add_real(out, v->loss);
            add_real(out, v->loss_stderr);
            add_real(out, v->bits_per_byte);
            aa_text_add(out, ",,");
            add_real(out, v->wall_s);
            aa_text_add(out, ",,");
            aa_text_add(out, v->best ? ",1\n" : ",0\n");
        }
    }
}
