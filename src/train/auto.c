/* --preset auto: which of the small presets suits the budget, this machine and the text.
 *
 * A small model is soon as good as it gets, a large one sees too little. So: the largest preset of
 * the ladder that fits into memory and, as planned for this machine, sees TOKENS_PER_PARAM tokens
 * for each parameter (docs/recipes.md: at equal seconds it beats the next larger one, which sees
 * fewer). Text read more than MAX_EPOCHS times counts no further (Muennighoff et al. 2023,
 * arXiv:2305.16264).
 *
 * Longer runs want larger updates: from LONG tokens on, twice the default (docs/recipes.md). */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/number.h"
#include "train/auto.h"

#define TOKENS_PER_PARAM 6.0
#define MAX_EPOCHS 4.0
#define BYTES_PER_TOKEN 3.5               /* of text whose tokens are not counted yet */
#define PROBE_S 0.05
#define LONG 1.5e6
#define LONG_BATCH 1024

typedef struct forecast { double params, tokens, tokens_per_s; } forecast;

/* What the options would do with another preset. */
static aa_status foresee(const aa_opts *opts, const char *preset, uint64_t text_bytes, aa_cpu *cpu,
                         forecast *out, aa_err *err) {
    aa_train_options o = *(const aa_train_options *)opts->values;
    aa_opts view = {opts->rows, &o, opts->from};
    char name[32];
    snprintf(name, sizeof name, "%s", preset);
    o.preset = name;
    aa_job job;
    aa_plan plan;
    AA_TRY(aa_job_open(&job, &view, cpu, true, NULL, err));
    aa_status st = aa_plan_make(&plan, &job, cpu, PROBE_S, err);
    aa_job_close(&job);
    if (st) return st;
    *out = (forecast){(double)plan.params, plan.predicted_tokens, plan.predicted_tokens_per_s};
    if (o.budget.unit == AA_UNIT_EPOCHS)
        out->tokens = o.budget.value * (double)text_bytes / BYTES_PER_TOKEN;
    return AA_OK;
}

aa_status aa__auto_preset(const aa_preset **out, aa_opts *opts, uint64_t text_bytes, aa_cpu *cpu,
                          char *why, size_t why_size, aa_err *err) {
    aa_train_options *o = opts->values;
    const double most = text_bytes ? MAX_EPOCHS * (double)text_bytes / BYTES_PER_TOKEN : INFINITY;
    const aa_preset *chosen = NULL;
    forecast best = {0}, next = {0};
    bool above = false, too_big = false;

    if (aa_opts_from(opts, "compute") == AA_FROM_DEFAULT) o->compute = AA_COMPUTE_AUTO;
    for (const aa_preset *p = aa_presets; p->name && p->ladder; p++) {
        aa_err here = {0};
        aa_status st = foresee(opts, p->name, text_bytes, cpu, &next, &here);
        too_big = chosen && st == AA_ETOOBIG;
        above = chosen && !st && fmin(next.tokens, most) < TOKENS_PER_PARAM * next.params;
        if (too_big || above) break;
        if (st) {
            if (err && !err->code) *err = here;
            return st;
        }
        chosen = p;
        best = next;
    }
    char larger[64] = "";
    if (above)
        aa_number_print(larger, sizeof larger, "; the next larger would see %.2g for each",
                        fmin(next.tokens, most) / next.params);
    aa_number_print(why, why_size,
                    "auto: preset '%s', %.2g M parameters: at %.0f tokens/s the budget is %.3g M "
                    "tokens, %.0f for each%s",
                    chosen->name, best.params * 1e-6, best.tokens_per_s, best.tokens * 1e-6,
                    best.tokens / best.params,
                    too_big ? "; the next larger does not fit into memory" : larger);
    if (best.tokens >= LONG && aa_opts_from(opts, "batch-tokens") == AA_FROM_DEFAULT)
        o->batch_tokens = LONG_BATCH;
    *out = chosen;
    return AA_OK;
}
