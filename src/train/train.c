/* The run: one loop, in which everything was decided before.
 *
 * Two clocks. The *position* (position.step, .tokens, .flop, and for budgets in seconds .elapsed_s)
 * says how far the run is; the schedule and every interval are functions of it, so a run counted in
 * steps, tokens or FLOP is a pure function of its options. The wall clock only measures.
 *
 * The order after an update is fixed: journal line, evaluation, sample, checkpoint. Whatever a
 * checkpoint records (offsets, sums, what is due next) is brought up to date before it is written,
 * so that a resumed run cannot tell that it was interrupted. */
#include "train/train.h"
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/file.h"
#include "base/memory.h"
#include "report/report.h"
#include "train/checkpoint.h"
#include "train/journal.h"
#include "train/memory.h"
#include "train/zo_run.h"

#define SMOOTHING 0.98                    /* of the loss shown on the progress line, per update */
#define DIVERGED_NATS 3.0                 /* smoothed loss this far above the first one: give up */
#define DIVERGED_AFTER 50                 /* updates before that guard looks */
#define MEAN_LOGIT_WINDOWS 16
#define SAMPLE_TOKENS 120

typedef struct run {
    aa_job *job; const aa_plan *plan; aa_cpu *cpu; const aa_train_hooks *hooks;
    const char *dir;
    int lock;                             /* held on the journal for the whole run; -1: not yet */
    aa_train_memory mem;
    aa_backend backend;
    aa_schedule schedule;
    aa_zo_run zo;                         /* --method zo */
    aa_position at;
    aa_train_progress progress;
    aa_session session; bool has_session;
    float *mean_logit;                    /* compact vocabulary only */
    aa_journal_writer journal;
    double start_s, elapsed_before_s;     /* clock when this session began; time of earlier ones */
    double train_before_s, eval_s, checkpoint_s;
    uint64_t saved_step, evaluated_step;  /* UINT64_MAX: not yet */
    uint64_t tokens_before;
    aa_eval_result best_eval;
} run;

/* ---- clocks and intervals -------------------------------------------------------------------- */

static double now_s(const run *r) { return r->elapsed_before_s + aa_sys_clock_s() - r->start_s; }

static double epochs(const run *r) {
    return r->job->examples ? (double)r->at.windows / (double)r->job->train_set.n
                            : (double)r->at.tokens / r->job->n_epoch_tokens;
}

static double clock_in(const run *r, aa_unit unit) {
    switch (unit) {
    case AA_UNIT_STEPS: return (double)r->at.step;
    case AA_UNIT_TOKENS: return (double)r->at.tokens;
    case AA_UNIT_FLOP: return r->at.flop;
    case AA_UNIT_EPOCHS: return epochs(r);
    default: return r->at.elapsed_s;
    }
}

static double next_after(double t, aa_amount every) {
    return (floor(t / every.value) + 1) * every.value;
}

static bool due(const run *r, aa_amount every, double *next) {
    if (every.value <= 0) return false;
    double t = clock_in(r, every.unit);
    if (t < *next) return false;
    *next = next_after(t, every);
    return true;
}

/* What takes long must not become due again while it is being done: in seconds, count from its end;
 * and unless the user chose the interval, leave nine tenths of the time to training. */
static void postpone_eval(run *r) {
    aa_amount every = r->job->o->eval_every;
    if (every.unit != AA_UNIT_SECONDS) return;
    double gap = every.value;
    if (aa_opts_from(r->job->opts, "eval-every") == AA_FROM_DEFAULT)
        gap = fmax(gap, 9 * r->at.last_eval.wall_s);
    r->at.next_eval = fmax(r->at.next_eval, now_s(r) + gap);
}

static double fraction_done(const run *r) {
    aa_amount budget = r->job->o->budget;
    return clock_in(r, budget.unit) / budget.value;
}

/* The schedule is read in the middle of the coming update: the first is not wasted on rate 0, nor
 * the last. */
static double fraction_ahead(const run *r) {
    aa_amount budget = r->job->o->budget;
    double half;
    switch (budget.unit) {
    case AA_UNIT_STEPS: half = 0.5; break;
    case AA_UNIT_TOKENS: half = 0.5 * (double)(r->plan->B * r->plan->T); break;
    case AA_UNIT_FLOP: half = 0.5 * r->plan->flop_per_update; break;
    case AA_UNIT_EPOCHS: half = r->at.step ? 0.5 * epochs(r) / (double)r->at.step : 0; break;
    default: half = r->at.step ? 0.5 * r->at.train_s / (double)r->at.step : 0; break;
    }
    return fmin(1, (clock_in(r, budget.unit) + half) / budget.value);
}

/* ---- one update ------------------------------------------------------------------------------ */

/* What an update sees: rows, those with a loss, and windows of the stream or examples. */
typedef struct seen { size_t rows, targets; uint64_t windows; } seen;

/* A pass of n windows, its rows behind those before it. */
static aa_batch fill_pass(run *r, size_t n, int32_t *start, seen *s) {
    const size_t T = r->plan->T;
    const uint64_t seed = r->at.rng_seed;
    aa_packed p = {.ids = r->mem.ids + s->rows, .targets = r->mem.targets + s->rows,
                   .start = start};
    *start = 0;
    for (size_t b = 0; b < n; b++) {
        uint64_t at = r->at.windows + s->windows, count = 1;
        if (r->job->examples) count = aa_examples_window(&r->job->train_set, seed, at, &p);
        else {
            aa_stream_window(&r->job->train, seed, at, T, p.ids + b * T, p.targets + b * T);
            p.n_rows += T;
            p.n_sequences++;
        }
        s->windows += count;
    }
    for (size_t i = 0; i < p.n_rows; i++) s->targets += p.targets[i] >= 0;
    s->rows += p.n_rows;
    return (aa_batch){.B = p.n_sequences, .T = T, .ids = p.ids, .targets = p.targets,
                      .start = r->job->examples ? start : NULL};
}

static seen fill_update(run *r) {
    const size_t B = r->plan->B, most = r->plan->micro_B;
    int32_t *start = r->mem.start;
    seen s = {0};
    r->mem.n_batches = 0;
    for (size_t b = 0; b < B; b += most) {
        aa_batch pass = fill_pass(r, B - b < most ? B - b : most, start, &s);
        start += pass.B + 1;
        r->mem.batch[r->mem.n_batches++] = pass;
    }
    return s;
}

static aa_status gradients(run *r, size_t n_targets, aa_err *err) {
    for (size_t i = 0; i < r->mem.n_batches; i++) {
        aa_batch pass = r->mem.batch[i];
        pass.update = r->at.step;
        pass.first = (size_t)(pass.ids - r->mem.ids);
        AA_TRY(aa_model_loss_and_grad(&r->mem.model, &r->backend, r->mem.activations, &pass,
                                      r->mem.loss + pass.first, (aa_real)(1.0 / (double)n_targets),
                                      err));
    }
    aa_model_finish_grads(&r->mem.model, r->cpu);
    return AA_OK;
}

static bool is_zo(const run *r) { return r->job->o->method == AA_METHOD_ZO; }

static aa_status check_loss(run *r, double loss, aa_err *err) {
    aa_position *at = &r->at;
    if (!isfinite(loss))
        return aa_fail(
            err, AA_EDIVERGED,
            "the loss of update %llu is not finite; start again with a smaller --lr",
            (unsigned long long)at->step + 1);
    if (!at->step) at->first_loss = at->smooth_loss = loss;
    /* Bias-corrected like Adam's moments,
     * so that the first updates are not stuck at the first loss. */
    double keep = fmin(SMOOTHING, (double)at->step / ((double)at->step + 1));
    at->smooth_loss = keep * at->smooth_loss + (1 - keep) * loss;
    if (at->step >= DIVERGED_AFTER && at->smooth_loss > at->first_loss + DIVERGED_NATS)
        return aa_fail(
            err, AA_EDIVERGED,
            "the loss rose from %.3f to %.3f (smoothed) by update %llu; lower %s or lengthen "
            "--warmup",
            at->first_loss, at->smooth_loss, (unsigned long long)at->step + 1,
            is_zo(r) ? "--zo-rho (or --zo-lr)" : "--lr");
    return AA_OK;
}

/* What an update was like. */
typedef struct learned {
    seen seen;
    double loss, rate, grad_norm, spread; /* loss NAN: none was applied */
    uint64_t sequence_forwards;
} learned;

static void report_progress(run *r, const learned *l) {
    aa_train_progress *p = &r->progress;
    const aa_position *at = &r->at;
    double train_s = at->train_s - r->train_before_s,
           tokens = (double)(at->tokens - r->tokens_before);
    *p = (aa_train_progress){.step = at->step,
                             .tokens = at->tokens,
                             .epoch = epochs(r),
                             .fraction = fmin(1, fraction_done(r)),
                             .loss = l->loss,
                             .loss_smooth = at->smooth_loss,
                             .lr = l->rate,
                             .grad_norm = l->grad_norm,
                             .spread = l->spread,
                             .sequence_forwards = at->sequence_forwards,
                             .bits_per_byte =
                                 r->at.last_eval.tokens ? r->at.last_eval.bits_per_byte : NAN,
                             .wall_s = at->elapsed_s,
                             .tokens_per_s = tokens / train_s};
    p->share_of_peak = aa_plan_share_of_peak(r->plan, p->tokens_per_s, r->plan->peak_gflops);
    p->left_s = p->fraction > 0 ? at->elapsed_s * (1 - p->fraction) / p->fraction : NAN;
    if (r->hooks->progress) r->hooks->progress(r->hooks->ctx, p);
}

static aa_status follow_gradient(run *r, double lr, learned *l, aa_err *err) {
    double sum = 0;
    aa_optim_result o;
    const seen s = l->seen = fill_update(r);
    aa_train_memory_begin(&r->mem);
    AA_TRY(gradients(r, s.targets ? s.targets : 1, err));
    for (size_t i = 0; i < s.rows; i++) sum += (double)r->mem.loss[i];
    l->loss = sum / (double)(s.targets ? s.targets : 1);
    AA_TRY(check_loss(r, l->loss, err));
    AA_TRY(aa_optim_step(&r->mem.optim, r->cpu, lr, &o, err));
    r->at.optim_t = r->mem.optim.t;
    l->rate = lr;
    l->grad_norm = o.grad_norm;
    return AA_OK;
}

/* Of examples, which are not as long as windows, the mean length counts. */
static aa_status follow_losses(run *r, double factor, learned *l, aa_err *err) {
    aa_zo_report report;
    AA_TRY(aa_zo_run_step(&r->zo, factor, &report, err));
    const double rows = (double)(r->plan->B * r->plan->T) * r->job->fill;
    *l = (learned){.seen = {.rows = (size_t)rows, .windows = r->plan->B},
                   .loss = report.loss, .rate = report.rate, .grad_norm = NAN,
                   .spread = report.spread, .sequence_forwards = report.sequence_forwards};
    return report.rewound ? AA_OK : check_loss(r, report.loss, err);
}

static aa_status update(run *r, aa_err *err) {
    double start_s = aa_sys_clock_s(), rate = aa_schedule_lr(&r->schedule, fraction_ahead(r));
    aa_position *at = &r->at;
    learned l = {0};
    if (is_zo(r)) AA_TRY(aa_zo_run_prepare(&r->zo, err));
    /* Texts that a program judges grow as they please. */
    if (r->job->o->objective != AA_OBJECTIVE_COMMAND) aa_heap_guard("training step");
    aa_status st = is_zo(r) ? follow_losses(r, rate, &l, err) : follow_gradient(r, rate, &l, err);
    if (!st && r->backend.params_changed) r->backend.params_changed(r->backend.self, &r->mem.model);
    aa_heap_guard(NULL);
    if (st) return st;
    double missing = (double)(r->plan->B * r->plan->T - l.seen.rows);     /* rows to full windows */
    at->step++;
    at->windows += l.seen.windows;
    at->tokens += l.seen.rows;
    at->sequence_forwards += l.sequence_forwards;
    at->flop += r->plan->flop_per_update - missing * r->plan->flop_per_token;
    if (isfinite(l.loss)) {
        at->log_loss_sum += l.loss;
        at->log_steps++;
    }
    at->train_s += aa_sys_clock_s() - start_s;
    at->elapsed_s = now_s(r);
    report_progress(r, &l);
    return AA_OK;
}

/* ---- what happens between updates ------------------------------------------------------------ */

static aa_status log_line(run *r, aa_err *err) {
    double mean = r->at.log_steps ? r->at.log_loss_sum / (double)r->at.log_steps : NAN;
    r->at.log_loss_sum = 0;
    r->at.log_steps = 0;
    return aa_journal_step(&r->journal, &r->progress, mean, err);
}

static aa_status evaluate(run *r, aa_err *err) {
    const aa_evaluator e = {.model = &r->mem.model,
                            .backend = &r->backend,
                            .activations = r->mem.activations,
                            .stream = &r->job->valid,
                            .examples = r->job->examples ? &r->job->valid_set : NULL,
                            .start = r->mem.start,
                            .tokenizer = r->job->tokenizer,
                            .active_ids = r->job->active_ids,
                            .max_B = r->plan->micro_B,
                            .T = r->plan->T,
                            .n_windows = r->plan->n_eval_windows,
                            .ids = r->mem.eval_ids,
                            .targets = r->mem.eval_targets,
                            .loss = r->mem.loss};
    AA_TRY(aa_evaluate(&e, NULL, &r->at.last_eval, err));
    if (!isfinite(r->at.last_eval.loss))
        return aa_fail(err, AA_EDIVERGED,
                       "the validation loss after update %llu is not finite; start again with a "
                       "smaller --lr",
                       (unsigned long long)r->at.step);
    r->eval_s += r->at.last_eval.wall_s;
    r->evaluated_step = r->at.step;
    bool best = !(r->at.last_eval.loss >= r->at.best_loss); /* best_loss NAN: the first is best */
    if (best) {
        r->best_eval = r->at.last_eval;
        r->at.best_loss = r->at.last_eval.loss;
        r->at.best_step = r->at.step;
    }
    r->progress.bits_per_byte = r->at.last_eval.bits_per_byte;
    r->progress.wall_s = r->at.elapsed_s = now_s(r);
    if (r->hooks->evaluated)
        r->hooks->evaluated(r->hooks->ctx, &r->progress, &r->at.last_eval, best);
    return aa_journal_eval(&r->journal, &r->progress, &r->at.last_eval, best, err);
}

static aa_status write_sample(run *r, aa_err *err) {
    aa_generation g = {.max_tokens = SAMPLE_TOKENS, .shift = true};
    aa_generated out = {0};
    aa_sampling_defaults(&g.sampling);
    g.sampling.seed = r->at.rng_seed;
    const char *prompt = r->job->o->sample_prompt ? r->job->o->sample_prompt : "";
    AA_TRY(aa_generate(&r->session, prompt, &g, &out, err));
    aa_text all = {0};
    aa_text_add(&all, prompt);
    aa_text_add_bytes(&all, out.text.data, out.text.len);
    aa_status st = aa_text_status(&all, err);
    if (!st && r->hooks->sampled) r->hooks->sampled(r->hooks->ctx, r->at.step, &all);
    if (!st) st = aa_journal_sample(&r->journal, r->at.step, &all, err);
    aa_text_release(&all);
    aa_generated_release(&out);
    return st;
}

/* Rows of validation example i. */
static size_t read_example(run *r, uint64_t i) {
    aa_packed p = {.ids = r->mem.eval_ids, .targets = r->mem.eval_targets, .start = r->mem.start};
    aa_examples_read(&r->job->valid_set, i, &p);
    return p.n_rows;
}

/* Mean over the last positions of fixed validation windows: which active id is least expected. */
static aa_status measure_mean_logit(run *r, aa_err *err) {
    size_t V = (size_t)r->mem.model.config.vocab, n = r->plan->n_eval_windows, T = r->plan->T;
    aa_session *s = &r->session;
    if (n > MEAN_LOGIT_WINDOWS) n = MEAN_LOGIT_WINDOWS;
    memset(r->mean_logit, 0, V * sizeof *r->mean_logit);
    for (size_t i = 0; i < n; i++) {
        if (r->job->examples) T = read_example(r, i);
        else aa_stream_eval_window(&r->job->valid, i, n, T, r->mem.eval_ids, r->mem.eval_targets);
        s->kv.len = 0;
        for (size_t at = 0; at < T; at += s->chunk)
            AA_TRY(aa_model_extend(&r->mem.model, &r->backend, s->activations, &s->kv,
                                   r->mem.eval_ids + at, T - at < s->chunk ? T - at : s->chunk,
                                   s->logits, err));
        for (size_t v = 0; v < V; v++) r->mean_logit[v] += s->logits[v] / (aa_real)n;
    }
    return AA_OK;
}

/* What the checkpoint of an adapter calls its base, in whatever folder that is read; NULL where
 * matrices are written. */
static const char *base_name(const run *r, char path[AA_SYS_PATH]) {
    const char *base = r->job->o->base;
    if (!base || (is_zo(r) && aa_zo_writes_matrices(&r->job->o->zo))) return NULL;
    return aa_sys_real_path(path, base) ? base : path;
}

static aa_status save(run *r, aa_err *err) {
    double start_s = aa_sys_clock_s();
    char path[AA_SYS_PATH];
    const aa_hf_options hf = {.tokenizer = r->job->tokenizer,
                              .chat_template = r->job->chat_template,
                              .active_ids = r->job->active_ids,
                              .n_active = r->job->n_active,
                              .full_vocab = r->job->full_vocab,
                              .mean_logit = r->mean_logit,
                              .cpu = r->cpu};
    if (r->mean_logit) AA_TRY(measure_mean_logit(r, err));
    if (is_zo(r)) AA_TRY(aa_zo_run_sync(&r->zo, err));
    AA_TRY(aa_journal_sync(&r->journal, err));
    r->at.journal_bytes = r->journal.size_bytes;
    r->at.elapsed_s = now_s(r);
    AA_TRY(aa_checkpoint_write(r->dir, &r->mem.model, &hf, base_name(r, path), &r->mem.optim,
                               &r->at, err));
    AA_TRY(aa_checkpoint_mark(r->dir, r->at.step, "last", err));
    if (r->at.best_step == r->at.step && r->evaluated_step == r->at.step)
        AA_TRY(aa_checkpoint_mark(r->dir, r->at.step, "best", err));
    AA_TRY(aa_checkpoint_prune(r->dir, r->job->o->keep, err));
    r->saved_step = r->at.step;
    r->checkpoint_s += aa_sys_clock_s() - start_s;
    return AA_OK;
}

static aa_status after_update(run *r, aa_err *err) {
    const aa_train_options *o = r->job->o;
    bool finished = fraction_done(r) >= 1;
    if (due(r, o->log_every, &r->at.next_log) || finished) AA_TRY(log_line(r, err));
    bool evaluated = due(r, o->eval_every, &r->at.next_eval) || finished;
    if (evaluated) {
        AA_TRY(evaluate(r, err));
        postpone_eval(r);
    }
    if (due(r, o->sample_every, &r->at.next_sample) || (finished && o->sample_every.value > 0))
        AA_TRY(write_sample(r, err));
    bool best = evaluated && r->at.best_step == r->at.step;
    if (due(r, o->checkpoint_every, &r->at.next_checkpoint) || best || finished)
        AA_TRY(save(r, err));
    return AA_OK;
}

/* ---- beginning and end ----------------------------------------------------------------------- */

static aa_status write_config(const run *r, aa_err *err) {
    aa_text t = {0};
    aa_opts_write_ini(r->job->opts, &t);
    aa_status st = aa_file_write_text(r->dir, "config.ini", &t, err);
    aa_text_release(&t);
    return st;
}

/* *digest: what an adapter or a ledger knows the base by; 0 for other runs. */
static aa_status load_base(run *r, aa_digest *digest, aa_err *err) {
    aa_source *s = NULL;
    bool needed = is_zo(r) || r->job->lora;
    *digest = (aa_digest){0};
    if (r->job->source) {
        if (needed) AA_TRY(aa_source_weights_digest(r->job->source, digest, err));
        return aa_source_load(r->job->source, &r->mem.model, err);
    }
    AA_TRY(aa_source_open(&s, r->job->o->base, err));
    aa_status st = needed ? aa_source_weights_digest(s, digest, err) : AA_OK;
    if (!st && r->job->o->compact_vocab)
        st = aa_source_restrict(s, r->job->active_ids, r->job->n_active, err);
    if (!st) st = aa_source_load(s, &r->mem.model, err);
    aa_source_close(s);
    aa_model_changed(&r->mem.model);
    return st;
}

static aa_status begin_new(run *r, const char *journal, aa_err *err) {
    const aa_train_options *o = r->job->o;
    aa_sys_info info;
    char *last = aa_path_join(r->dir, "last");
    if (!last) return aa_fail_memory(err, "a path", 0);
    bool taken = aa_sys_stat(&info, last) == 0 && info.kind != AA_SYS_ABSENT;
    aa_heap_free(last);
    if (taken)
        return aa_fail(err, AA_EUSAGE,
                       "'%s' already holds a run; continue it with `autoane train --resume %s` or "
                       "choose another --out",
                       r->dir, r->dir);
    AA_TRY(write_config(r, err));
    AA_TRY(aa_journal_writer_open(&r->journal, journal, 0, err));
    r->at = (aa_position){.rng_seed = (uint64_t)o->seed,
                          .best_loss = NAN,
                          .tokens_digest = r->job->tokens_digest,
                          .next_eval = o->eval_every.value,
                          .next_checkpoint = o->checkpoint_every.value,
                          .next_log = o->log_every.value,
                          .next_sample = o->sample_every.value};
    if (o->base) AA_TRY(load_base(r, &r->at.base_digest, err));
    else aa_model_init_weights(&r->mem.model, (uint64_t)o->seed, (aa_init_scheme)o->init);
    if (r->job->lora) aa_model_init_adapter(&r->mem.model, r->cpu, (uint64_t)o->seed);
    if (is_zo(r))
        AA_TRY(aa_zo_run_open(&r->zo, r->job, r->plan, &r->mem, r->cpu, r->at.base_digest, false, 0,
                              err));
    AA_TRY(aa_journal_run(&r->journal, r->job, r->plan, err));
    return save(r, err);
}

/* An interval that the resuming command line sets begins anew, in its own unit. Where it sets what
 * the run had, this is what the checkpoint says. */
static void restart_intervals(run *r) {
    const aa_train_options *o = r->job->o;
    const struct { const char *key; aa_amount every; double *next; } rows[] = {
        {"eval-every", o->eval_every, &r->at.next_eval},
        {"checkpoint-every", o->checkpoint_every, &r->at.next_checkpoint},
        {"log-every", o->log_every, &r->at.next_log},
        {"sample-every", o->sample_every, &r->at.next_sample}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (aa_opts_from(r->job->opts, rows[i].key) == AA_FROM_COMMAND && rows[i].every.value > 0)
            *rows[i].next = next_after(clock_in(r, rows[i].every.unit), rows[i].every);
}

/* The weights of a run by zeroth order are its ledger. */
static aa_status follow_ledger(run *r, aa_digest base, aa_err *err) {
    if (r->job->lora) aa_model_init_adapter(&r->mem.model, r->cpu, (uint64_t)r->job->o->seed);
    return aa_zo_run_open(&r->zo, r->job, r->plan, &r->mem, r->cpu, base, true, r->at.step, err);
}

static aa_status begin_resumed(run *r, const char *journal, aa_err *err) {
    char *last = aa_path_join(r->dir, "last");
    aa_digest base = {0};
    if (!last) return aa_fail_memory(err, "a path", 0);
    aa_status st = r->job->lora || is_zo(r) ? load_base(r, &base, err) : AA_OK;
    if (!st)
        st = is_zo(r) ? aa_checkpoint_read(last, NULL, NULL, &r->at, err)
                      : aa_checkpoint_read(last, &r->mem.model, &r->mem.optim, &r->at, err);
    aa_heap_free(last);
    if (st) return st;
    bool known = !aa_digest_equal(r->at.base_digest, (aa_digest){0});
    if (known && !aa_digest_equal(r->at.base_digest, base))
        return aa_fail(err, AA_EUSAGE, "the weights of '%s' are not those that the run in '%s' was "
                       "started with; give the right --base", r->job->o->base, r->dir);
    if (is_zo(r)) AA_TRY(follow_ledger(r, base, err));
    if (!aa_digest_equal(r->at.tokens_digest, r->job->tokens_digest))
        return aa_fail(err, AA_EUSAGE, "the data of '%s' are not those the run was started with",
                       r->dir);
    if (r->at.rng_seed != (uint64_t)r->job->o->seed)
        return aa_fail(err, AA_EUSAGE, "the run in '%s' was started with --seed %llu", r->dir,
                       (unsigned long long)r->at.rng_seed);
    r->saved_step = r->at.step;
    restart_intervals(r);
    AA_TRY(aa_checkpoint_sweep(r->dir, err));
    /* A run killed between the two links has only the first. */
    if (isfinite(r->at.best_loss) && r->at.best_step == r->at.step)
        AA_TRY(aa_checkpoint_mark(r->dir, r->at.step, "best", err));
    /* What was changed now must hold for the next resume too. */
    AA_TRY(write_config(r, err));
    return aa_journal_writer_open(&r->journal, journal, r->at.journal_bytes, err);
}

/* A prompt that cannot be read is refused before the run begins, not at its first sample. */
static aa_status try_prompt(run *r, aa_err *err) {
    aa_ids ids = {0};
    const char *prompt = r->job->o->sample_prompt;
    if (r->job->o->sample_every.value <= 0) return AA_OK;
    aa_status st = aa_session_read(&r->session, prompt ? prompt : "", &ids, err);
    aa_ids_release(&ids);
    return st;
}

static aa_status make_session(run *r, aa_err *err) {
    const aa_job *job = r->job;
    /* ids that need a stand-in in the model that is written */
    const bool whole = !job->lora || (is_zo(r) && aa_zo_writes_matrices(&job->o->zo)),
               unseen = job->n_active < job->full_vocab && whole;
    if (job->o->sample_every.value <= 0 && !unseen) return AA_OK;
    AA_TRY(aa_session_init(&r->session, &r->mem.model, job->tokenizer, r->cpu, r->plan->T,
                           job->active_ids, job->compact_map, err));
    r->has_session = true;
    AA_TRY(try_prompt(r, err));
    if (!unseen) return AA_OK;
    r->mean_logit = aa_heap_alloc((size_t)r->mem.model.config.vocab, sizeof *r->mean_logit);
    return r->mean_logit ? AA_OK : aa_fail_memory(err, "the mean logits", 0);
}

/* One process at a time in a run directory. */
static aa_status lock_run(run *r, const char *journal, bool resume, aa_err *err) {
    if (!resume) AA_TRY(aa_make_dirs(r->dir, err));
    int no = aa_sys_lock(journal, &r->lock);
    if (no == EWOULDBLOCK)
        return aa_fail(err, AA_EBUSY, "another process is training in '%s'", r->dir);
    return no ? aa_fail_errno(err, no, "cannot lock", journal) : AA_OK;
}

static aa_status begin(run *r, bool resume, aa_err *err) {
    const aa_train_options *o = r->job->o;
    aa_optim_options optim = aa_train_optim_options(o);
    aa_train_shape shape = aa_train_shape_of(r->plan, r->job);
    if (o->sample_every.value > 0 && !r->job->tokenizer)
        return aa_fail(err, AA_EUSAGE,
                       "--sample-every needs a tokenizer to write text with; give --tokenizer");
    AA_TRY(aa_train_memory_init(&r->mem, &r->job->config, is_zo(r) ? NULL : &optim, &shape, r->cpu,
                                false, err));
    aa_job_backend(r->job, r->cpu, &r->backend);
    AA_TRY(make_session(r, err));
    r->schedule = (aa_schedule){.kind = o->schedule,
                                .lr = is_zo(r) ? 1 : o->lr,
                                .min_lr = is_zo(r) ? 0 : o->min_lr,
                                .warmup = o->warmup,
                                .cooldown = o->cooldown};
    r->saved_step = r->evaluated_step = UINT64_MAX;
    r->start_s = aa_sys_clock_s();
    char *journal = aa_path_join(r->dir, "journal.jsonl");
    if (!journal) return aa_fail_memory(err, "a path", 0);
    aa_status st = lock_run(r, journal, resume, err);
    if (!st) st = resume ? begin_resumed(r, journal, err) : begin_new(r, journal, err);
    aa_heap_free(journal);
    r->elapsed_before_s = r->at.elapsed_s;
    r->train_before_s = r->at.train_s;
    r->tokens_before = r->at.tokens;
    r->start_s = aa_sys_clock_s();
    return st;
}

static void fill_result(const run *r, aa_train_result *out) {
    double train_s = r->at.train_s - r->train_before_s,
           tokens = (double)(r->at.tokens - r->tokens_before);
    *out = (aa_train_result){.step = r->at.step,
                             .tokens = r->at.tokens,
                             .sequence_forwards = r->at.sequence_forwards,
                             .epoch = epochs(r),
                             .flop = r->at.flop,
                             .wall_s = r->at.elapsed_s,
                             .train_s = r->at.train_s,
                             .session_train_s = train_s,
                             .eval_s = r->eval_s,
                             .checkpoint_s = r->checkpoint_s,
                             .tokens_per_s = train_s > 0 ? tokens / train_s : 0,
                             .final = r->at.last_eval,
                             .best = r->best_eval,
                             .best_step = r->at.best_step};
    out->best.loss = r->at.best_loss;
    if (!r->at.last_eval.tokens) /* it ended before its first evaluation */
        out->final.loss = out->final.loss_stderr = out->final.bits_per_byte =
            out->final.perplexity = NAN;
    out->share_of_peak = aa_plan_share_of_peak(r->plan, out->tokens_per_s, r->plan->peak_gflops);
    double bytes_per_token = r->at.last_eval.tokens
                                 ? (double)r->at.last_eval.bytes / (double)r->at.last_eval.tokens
                                 : NAN;
    out->floor_loss = r->job->floor_nats_per_byte * bytes_per_token;
}

static aa_status write_report(const run *r, aa_err *err) {
    aa_journal j = {0};
    const aa_journal *list[] = {&j};
    aa_text html = {0};
    AA_TRY(aa_journal_open(&j, r->dir, err));
    aa_report_html(list, 1, &html);
    aa_journal_release(&j);
    aa_status st = aa_file_write_text(r->dir, "report.html", &html, err);
    aa_text_release(&html);
    return st;
}

/* Interrupted: a checkpoint now, and the journal's end lies behind the offset it records, to be cut
 * by a resume. */
static aa_status finish(run *r, aa_status st, aa_train_result *out, aa_err *err) {
    const char *reason = st == AA_EINTERRUPTED ? "interrupted"
                         : st == AA_EDIVERGED  ? "diverged"
                                               : "budget";
    if (st && st != AA_EINTERRUPTED && st != AA_EDIVERGED) return st;
    aa_err second = {0}, *late = st ? &second : err;
    aa_status end = AA_OK;
    if (st == AA_EINTERRUPTED && r->saved_step != r->at.step) end = save(r, late);
    fill_result(r, out);
    if (!end) end = aa_journal_end(&r->journal, reason, out, late);
    if (!end) end = aa_journal_sync(&r->journal, late);
    if (!end) end = write_report(r, late);
    if (end && st == AA_EINTERRUPTED)
        return aa_fail(err, end, "interrupted, and then: %s", second.message);
    return st ? st : end;
}

static void release(run *r) {
    aa_journal_writer_close(&r->journal);
    aa_zo_run_close(&r->zo);
    if (r->has_session) aa_session_close(&r->session);
    if (r->backend.release) r->backend.release(r->backend.self);
    aa_heap_free(r->mean_logit);
    aa_train_memory_release(&r->mem);
    if (r->lock >= 0) aa_sys_unlock(r->lock);
}

aa_status aa_train(aa_job *job, const aa_plan *plan, aa_cpu *cpu, bool resume,
                   const aa_train_hooks *hooks, aa_train_result *out, aa_err *err) {
    run r = {.job = job, .plan = plan, .cpu = cpu, .hooks = hooks, .dir = job->o->out, .lock = -1};
    /* A profile is one of updates: what happens between them is not in their time. */
    bool profiling = aa_cpu_profile_switch(cpu, false);
    aa_status st = begin(&r, resume, err);
    bool began = st == AA_OK;
    while (!st && fraction_done(&r) < 1) {
        if (hooks->stop && hooks->stop(hooks->ctx)) {
            st = aa_fail(err, AA_EINTERRUPTED,
                         "interrupted; continue with `autoane train --resume %s`", r.dir);
            break;
        }
        aa_cpu_profile_switch(cpu, profiling);
        st = update(&r, err);
        aa_cpu_profile_switch(cpu, false);
        if (!st) st = after_update(&r, err);
    }
    if (began) st = finish(&r, st, out, err);
    release(&r);
    return st;
}

/* ---- resume ---------------------------------------------------------------------------------- */

static bool may_change(const char *key) {
    static const char *const free_keys[] = {
        "out",        "budget",           "threads",   "micro-batch",  "keep",
        "eval-every", "checkpoint-every", "log-every", "sample-every", "sample-prompt",
        "blas",       "base"};
    for (size_t i = 0; i < sizeof free_keys / sizeof *free_keys; i++)
        if (strcmp(key, free_keys[i]) == 0) return true;
    return false;
}

aa_status aa_train_resume_options(aa_opts *opts, const char *run_dir, aa_text *problems,
                                  aa_err *err) {
    for (const aa_opt *row = opts->rows; row->key; row++)
        if (aa_opts_from(opts, row->key) == AA_FROM_COMMAND && !may_change(row->key))
            aa_text_printf(problems,
                           "--%s cannot change when a run is resumed: it decides what is learned\n",
                           row->key);
    (void)aa_opts_set(opts, "out", run_dir, AA_FROM_COMMAND, "command line", problems);
    char *path = aa_path_join(run_dir, "config.ini");
    if (!path) return aa_fail_memory(err, "a path", 0);
    aa_status st = aa_opts_read_ini(opts, path, problems, err);
    aa_heap_free(path);
    return st;
}
