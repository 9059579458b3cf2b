#include "train/zo_run.h"

#include <math.h>
#include <string.h>
#include "base/file.h"
#include "base/memory.h"
#include "train/zo_replay.h"
#include "zo/ledger.h"

enum { PASS_ROWS = 1024 };                /* as fast as more, on processors */

/* ---- options --------------------------------------------------------------------------------- */

static bool left_open(const aa_opts *opts, const char *key) {
    return aa_opts_from(opts, key) == AA_FROM_DEFAULT;
}

/* Constant, over the last fifth to nothing. */
static void settle_schedule(aa_opts *opts) {
    aa_train_options *o = opts->values;
    if (left_open(opts, "warmup")) o->warmup = 0;
    if (left_open(opts, "cooldown")) o->cooldown = 0.2;
}

/* What the method moves says which adapter it wants. */
static void settle_space(aa_opts *opts) {
    aa_train_options *o = opts->values;
    const bool scale = o->zo.space == AA_ZO_SCALE;
    if (left_open(opts, "adapter") && o->zo.space != AA_ZO_WHOLE)
        o->adapter = scale ? AA_ADAPTER_DORA : AA_ADAPTER_LORA;
    if (left_open(opts, "rank") && scale) o->rank = 1;       /* its factors stay 0 */
    if (o->zo.norms && o->adapter) o->train_norms = true;
}

static aa_status check_others(const aa_opts *opts, aa_err *err) {
    static const struct { const char *key, *instead; } rows[] = {
        {"lr", "--zo-rho, or --zo-lr"}, {"min-lr", "--cooldown"}, {"optimizer", "--zo-update"},
        {"freeze-a", "--zo-space b"}, {"lora-plus", "--zo-space"},
        {"train-tables", "--zo-space whole"},
        {"clip", "--zo-clip"}, {"weight-decay", "nothing"}, {"lora-dropout", "nothing"}};
    const aa_train_options *o = opts->values;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (aa_opts_from(opts, rows[i].key) == AA_FROM_COMMAND)
            return aa_fail(err, AA_EUSAGE,
                           "--%s belongs to backpropagation; with --method zo use %s", rows[i].key,
                           rows[i].instead);
    if ((o->objective == AA_OBJECTIVE_COMMAND) != (o->objective_command != NULL))
        return aa_fail(err, AA_EUSAGE,
                       "--objective command and --objective-command COMMAND go together");
    if (!o->base)
        return aa_fail(err, AA_EUSAGE,
                       "--method zo needs --base MODEL: from differences of losses nothing learns "
                       "a language from scratch");
    if (o->device == AA_DEVICE_BLAS)
        return aa_fail(err, AA_EUSAGE, "--device blas has no directions: use --device cpu");
    return AA_OK;
}

aa_status aa_zo_run_settle(aa_opts *opts, aa_err *err) {
    aa_train_options *o = opts->values;
    if (o->method != AA_METHOD_ZO && o->objective != AA_OBJECTIVE_LOSS)
        return aa_fail(err, AA_EUSAGE,
                       "--objective: only the loss has gradients; the others need --method zo");
    if (o->method != AA_METHOD_ZO) return AA_OK;
    AA_TRY(check_others(opts, err));
    if (left_open(opts, "zo-seed")) o->zo.seed = o->seed;
    if (left_open(opts, "zo-horizon") && o->budget.unit == AA_UNIT_STEPS)
        o->zo.horizon = (int64_t)o->budget.value;
    AA_TRY(aa_zo_settle(opts, err));
    if (o->objective != AA_OBJECTIVE_LOSS && o->zo.hybrid != AA_ZO_ALONE)
        return aa_fail(err, AA_EUSAGE,
                       "a hybrid follows gradients as well, and only --objective loss has some");
    /* Nothing but a loss in nats is so steady that its double is an explosion. */
    if (o->objective != AA_OBJECTIVE_LOSS && left_open(opts, "zo-guard-factor"))
        o->zo.guard_factor = 0;
    settle_schedule(opts);
    settle_space(opts);
    return AA_OK;
}

bool aa_zo_writes_matrices(const aa_zo_config *c) {
    return c->space == AA_ZO_WHOLE || c->refresh > 0 || c->basis == AA_ZO_GRADIENT;
}

size_t aa_zo_pass_sequences(size_t T) { return T < PASS_ROWS ? PASS_ROWS / T : 1; }

/* ---- the run --------------------------------------------------------------------------------- */

static aa_status start_ledger(aa_zo_run *z, const aa_train_options *o, aa_digest base,
                              aa_err *err) {
    aa_ledger_header header = aa_ledger_header_of(z->engine, base);
    aa_text about = {0};
    /* One without a checkpoint is of a run that was killed before it began. */
    int no = aa_sys_remove_tree(z->path);
    if (no) return aa_fail_errno(err, no, "cannot remove", z->path);
    aa_status st = aa_zo_about_write(o, &about, err);
    header.about = about.data;
    header.n_about = about.len;
    if (!st) st = aa_ledger_create(&z->ledger, z->path, &header, err);
    aa_text_release(&about);
    return st ? st : aa_zo_attach(z->engine, z->ledger, err);
}

static aa_status follow_ledger(aa_zo_run *z, aa_digest base, uint64_t step, aa_err *err) {
    aa_zo_report report;
    AA_TRY(aa_zo_playback_open(&z->playback, z->engine, z->path, &base, true, err));
    while (aa_zo_next_step(z->engine) < step) {
        if (!aa_zo_playback_more(z->playback))
            return aa_fail(err, AA_ECORRUPT,
                           "'%s' ends at step %llu, and the run is at %llu: steps are missing",
                           z->path, (unsigned long long)aa_zo_next_step(z->engine),
                           (unsigned long long)step);
        AA_TRY(aa_zo_playback_step(z->playback, 1, &report, err));
    }
    aa_lm_objective_sync(z->objective);
    return AA_OK;
}

static aa_status open_ledger(aa_zo_run *z, const aa_job *job, aa_digest base, bool resume,
                             uint64_t step, aa_err *err) {
    const bool hybrid = job->o->zo.hybrid != AA_ZO_ALONE;
    if (hybrid && resume)
        return aa_fail(err, AA_EUNSUPPORTED,
                       "'%s': a hybrid run cannot be resumed: it has no ledger, for gradients by "
                       "backpropagation are in no record", job->o->out);
    if (hybrid) return AA_OK;
    z->path = aa_path_join(job->o->out, "ledger");
    if (!z->path) return aa_fail_memory(err, "a path", 0);
    return resume ? follow_ledger(z, base, step, err) : start_ledger(z, job->o, base, err);
}

aa_status aa_zo_run_open(aa_zo_run *out, const aa_job *job, const aa_plan *plan,
                         aa_train_memory *mem, aa_cpu *cpu, aa_digest base, bool resume,
                         uint64_t step, aa_err *err) {
    const aa_train_options *o = job->o;
    const aa_zo_config *c = &o->zo;
    const aa_lm_data data = {.stream = &job->train,
                             .examples = job->examples ? &job->train_set : NULL,
                             .seed = (uint64_t)o->seed, .T = plan->T, .n = job->B,
                             .objective = (aa_objective_kind)o->objective,
                             .command = o->objective_command, .timeout_s = o->objective_timeout,
                             .most_per_s = o->objective_rate,
                             .text_tokens = (size_t)o->objective_tokens,
                             .tokenizer = job->tokenizer, .active_ids = job->active_ids,
                             .compact_map = job->compact_map};
    aa_zo_run z = {.basis_forwards = aa_lm_basis_forwards(c, job->B)};
    aa_status st = aa_lm_objective_open(&z.objective, c, &mem->model, mem->activations, cpu, &data,
                                        plan->micro_B, err);
    if (!st) st = aa_zo_open(&z.engine, c, aa_lm_objective_of(z.objective), cpu, err);
    if (!st) st = open_ledger(&z, job, base, resume, step, err);
    if (st) aa_zo_run_close(&z);
    else *out = z;
    return st;
}

void aa_zo_run_close(aa_zo_run *z) {
    aa_zo_playback_close(z->playback);
    aa_zo_close(z->engine);
    aa_ledger_close(z->ledger);
    aa_lm_objective_close(z->objective);
    aa_heap_free(z->path);
    *z = (aa_zo_run){0};
}

aa_status aa_zo_run_prepare(aa_zo_run *z, aa_err *err) {
    if (!z->playback || aa_zo_playback_more(z->playback)) return AA_OK;
    const uint64_t good = aa_zo_playback_good(z->playback);
    aa_zo_playback_close(z->playback);
    z->playback = NULL;
    AA_TRY(aa_ledger_append(&z->ledger, z->path, good, err));
    return aa_zo_attach(z->engine, z->ledger, err);
}

aa_status aa_zo_run_step(aa_zo_run *z, double factor, aa_zo_report *out, aa_err *err) {
    AA_TRY(z->playback ? aa_zo_playback_step(z->playback, factor, out, err)
                       : aa_zo_step(z->engine, factor, out, err));
    if (out->new_basis) out->sequence_forwards += z->basis_forwards;
    aa_lm_objective_sync(z->objective);
    return AA_OK;
}

aa_status aa_zo_run_sync(aa_zo_run *z, aa_err *err) {
    return z->ledger ? aa_ledger_sync(z->ledger, err) : AA_OK;
}
