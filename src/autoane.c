/* The public door: include/autoane.h over the rooms, and nothing else. */
#include "autoane.h"
#include <stdio.h>
#include <string.h>
#include "base/memory.h"
#include "infer/infer.h"
#include "train/score.h"
#include "train/train.h"

struct aa_lm { aa_cpu *cpu; aa_session session; };

static int answer(aa_status st, const aa_err *err, char *error) {
    if (st && error)
        snprintf(error, AA_LM_ERROR, "%s", *err->message ? err->message : aa_status_text(st));
    return aa_status_exit(st);
}

const char *aa_lm_version(void) { return AA_VERSION; }

int aa_lm_open(aa_lm **out, const char *path, int threads, char *error) {
    aa_err err = {0};
    aa_lm *lm = aa_heap_alloc(1, sizeof *lm);
    aa_status st = lm ? aa_cpu_new(&lm->cpu, threads, AA_ISA_AUTO, &err)
                      : aa_fail_memory(&err, "a model", sizeof *lm);
    if (!st) st = aa_cpu_set_compute(lm->cpu, AA_COMPUTE_INT8, &err);
    if (!st) st = aa_session_open(&lm->session, path, lm->cpu, 0, &err);
    if (!st) *out = lm;
    else if (lm) {
        aa_cpu_free(lm->cpu);
        aa_heap_free(lm);
    }
    return answer(st, &err, error);
}

void aa_lm_close(aa_lm *lm) {
    if (!lm) return;
    aa_session_close(&lm->session);
    aa_cpu_free(lm->cpu);
    aa_heap_free(lm);
}

void aa_lm_describe(const aa_lm *lm, aa_lm_info *out) {
    const aa_config *c = &lm->session.model->config;
    *out = (aa_lm_info){.params = aa_config_params(c),
                        .dim = c->dim,
                        .layers = c->layers,
                        .heads = c->heads,
                        .kv_heads = c->kv_heads,
                        .vocab = c->vocab,
                        .positions = c->seq};
}

int aa_lm_generate(aa_lm *lm, const char *prompt, const aa_lm_options *o, char **out_text,
                   char *error) {
    aa_err err = {0};
    aa_generated g = {0};
    aa_generation want = {.max_tokens = o->max_tokens > 0 ? (size_t)o->max_tokens
                                                          : (size_t)lm->session.model->config.seq,
                          .stop = &o->stop,
                          .n_stop = o->stop && *o->stop ? 1 : 0,
                          .shift = true};
    aa_sampling_defaults(&want.sampling);
    want.sampling.temperature = o->temperature;
    want.sampling.top_k = o->top_k;
    want.sampling.top_p = o->top_p > 0 ? o->top_p : 1;
    want.sampling.min_p = o->min_p;
    want.sampling.seed = o->seed;
    aa_status st = aa_generate(&lm->session, prompt, &want, &g, &err);
    char *text = st ? NULL : aa_heap_strdup(g.text.data ? g.text.data : "");
    if (!st && !text) st = aa_fail_memory(&err, "the text", g.text.len);
    aa_generated_release(&g);
    if (!st) *out_text = text;
    return answer(st, &err, error);
}

void aa_lm_text_free(char *text) { aa_heap_free(text); }

static aa_lm_loss loss_of(const aa_eval_result *r) {
    return (aa_lm_loss){.loss = r->loss,
                        .loss_stderr = r->loss_stderr,
                        .bits_per_byte = r->bits_per_byte,
                        .perplexity = r->perplexity,
                        .tokens = r->tokens,
                        .bytes = r->bytes};
}

int aa_lm_evaluate(aa_lm *lm, const char *data, aa_lm_loss *out, char *error) {
    aa_err err = {0};
    aa_score score = {0};
    aa_eval_result r;
    aa_status st = aa_score_open(&score, &lm->session, data,
                                 &(aa_score_options){.part = AA_PART_COUNT}, NULL, &err);
    if (!st) {
        st = aa_score_run(&score, &lm->session, NULL, &r, &err);
        aa_score_close(&score);
    }
    if (!st) *out = loss_of(&r);
    return answer(st, &err, error);
}

/* ---- training -------------------------------------------------------------------------------- */

typedef struct watcher { aa_lm_on_progress *fn; void *ctx; bool stop; } watcher;

static void on_progress(void *ctx, const aa_train_progress *p) {
    watcher *w = ctx;
    aa_lm_progress q = {.step = p->step,
                        .tokens = p->tokens,
                        .fraction = p->fraction,
                        .loss = p->loss,
                        .tokens_per_s = p->tokens_per_s,
                        .left_s = p->left_s};
    if (w->fn && w->fn(w->ctx, &q)) w->stop = true;
}

static bool should_stop(void *ctx) { return ((watcher *)ctx)->stop; }

static aa_status train(aa_opts *opts, watcher *w, aa_lm_loss *out, aa_err *err) {
    aa_cpu *cpu = NULL;
    aa_job job;
    aa_plan plan;
    aa_train_result r;
    aa_train_hooks hooks = {.ctx = w, .progress = on_progress, .stop = should_stop};
    const aa_train_options *o = opts->values;
    AA_TRY(aa_cpu_new(&cpu, (int)o->threads, AA_ISA_AUTO, err));
    aa_status st = aa_job_open(&job, opts, cpu, false, NULL, err);
    if (!st) {
        st = aa_plan_make(&plan, &job, cpu, 0, err);
        if (!st) st = aa_train(&job, &plan, cpu, false, &hooks, &r, err);
        if (!st && out) *out = loss_of(&r.final);
        aa_job_close(&job);
    }
    aa_cpu_free(cpu);
    return st;
}

int aa_lm_train(const char *const *options, aa_lm_on_progress *fn, void *ctx, aa_lm_loss *out,
                char *error) {
    aa_err err = {0};
    aa_train_options o;
    aa_opts opts;
    aa_text problems = {0};
    watcher w = {.fn = fn, .ctx = ctx};
    aa_status st = aa_opts_init(&opts, aa_train_rows, &o, &err);
    if (st) return answer(st, &err, error);
    for (; options && options[0]; options += 2) {
        if (!options[1]) { aa_text_printf(&problems, "'%s' has no value\n", options[0]); break; }
        (void)aa_opts_set(&opts, options[0], options[1], AA_FROM_COMMAND, "options", &problems);
    }
    st = aa_text_status(&problems, &err);
    if (!st && problems.len) st = aa_fail(&err, AA_EUSAGE, "%s", problems.data);
    if (!st) st = train(&opts, &w, out, &err);
    aa_text_release(&problems);
    aa_opts_release(&opts);
    return answer(st, &err, error);
}
