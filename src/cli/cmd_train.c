/* autoane train, autoane plan: the same options, run or only planned. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/memory.h"
#include "cli/cli.h"
#include "sys/sys.h"

#define PROBE_S 0.05 /* seconds for the FMA peak, so that shares of peak mean something */

typedef struct train_values {
    aa_train_options train;
    char *resume;
    bool profile, quiet;
} train_values;

#define AT(field) offsetof(train_values, field)
static const aa_opt train_rows[] = {
    {"resume", "run", AA_OPT_STRING, AT(resume), NULL, 0, 0, 0, "DIR",
     "continue the run in DIR from its last checkpoint"},
    {"profile", "run", AA_OPT_BOOL, AT(profile), "no", 0, 0, 0, NULL,
     "print time per kernel at the end"},
    {"quiet", "run", AA_OPT_BOOL, AT(quiet), "no", 0, 0, 0, NULL, "no progress"},
    {0}};
static const aa_opt plan_rows[] = {
    {"resume", "run", AA_OPT_STRING, AT(resume), NULL, 0, 0, 0, "DIR",
     "plan the continuation of the run in DIR"},
    {0}};

static aa_status read_options(cli_call *call, aa_opts *opts, aa_err *err) {
    train_values *v = call->opts.values;
    aa_text problems = {0};
    aa_status st = AA_OK;
    if (call->n_positional && v->resume)
        aa_text_add(&problems,
                    "a config file starts a new run and --resume continues one: use one of them\n");
    else if (call->n_positional) st = aa_opts_read_ini(opts, call->positional[0], &problems, err);
    else if (v->resume) st = aa_train_resume_options(opts, v->resume, &problems, err);
    if (!st) return cli_problems(&problems, err);
    aa_text_release(&problems);
    return st;
}

/* ---- results --------------------------------------------------------------------------------- */

static void print_profile(const aa_cpu *cpu, const aa_train_result *r, double peak_gflops) {
    aa_profile_row rows[64];
    size_t n = aa_cpu_profile_rows(cpu, rows, 64);
    double sum = 0, train_s = r->session_train_s > 0 ? r->session_train_s : NAN;
    fprintf(stderr, "\n%-24s %10s %10s %7s %10s %7s %9s\n", "kernel", "calls", "seconds", "share",
            "GFLOP/s", "peak", "GB/s");
    for (size_t i = 0; i < n; i++) {
        const aa_profile_row *p = &rows[i];
        double gflops = p->wall_s > 0 ? p->flop / p->wall_s * 1e-9 : 0;
        sum += p->wall_s;
        fprintf(stderr, "%-24s %10llu %10.3f %6.1f%% %10.1f %6.1f%% %9.1f\n", p->op,
                (unsigned long long)p->calls, p->wall_s, 100 * p->wall_s / train_s, gflops,
                peak_gflops > 0 ? 100 * gflops / peak_gflops : 0,
                p->wall_s > 0 ? p->bytes / p->wall_s * 1e-9 : 0);
    }
    fprintf(stderr, "%-24s %10s %10.3f %6.1f%%\n", "updates", "", train_s, 100.0);
    fprintf(stderr, "%-24s %10s %10.3f %6.1f%%\n", "outside kernels", "", train_s - sum,
            100 * (train_s - sum) / train_s);
}

static void print_result(const aa_train_options *o, const aa_train_result *r) {
    fprintf(stderr, "\ndone: %llu updates, %.2f M tokens, %.2f epochs, %.3g FLOP in %.1f s\n",
            (unsigned long long)r->step, (double)r->tokens * 1e-6, r->epoch, r->flop, r->wall_s);
    fprintf(stderr,
            "      %.0f tokens/s, %.0f%% of the FMA peak; updates %.1f s, validation %.1f s, "
            "checkpoints %.1f s\n",
            r->tokens_per_s, 100 * r->share_of_peak, r->train_s, r->eval_s, r->checkpoint_s);
    if (r->sequence_forwards)
        fprintf(stderr, "      %llu forward passes of a sequence\n",
                (unsigned long long)r->sequence_forwards);
    fprintf(stderr, "      validation loss %.4f%s, %.4f bits/byte; best at step %llu\n",
            r->final.loss, cli_plus_minus(r->final.loss_stderr).text, r->final.bits_per_byte,
            (unsigned long long)r->best_step);
    if (isfinite(r->floor_loss))
        fprintf(stderr,
                "      floor %.4f, %.4f bits/byte: the exact surprisal of the generated text\n",
                r->floor_loss, r->floor_loss * r->final.bits_per_byte / r->final.loss);
    fprintf(stderr, "      %s/best   %s/report.html\n", o->out, o->out);
}

static void result_json(const aa_train_options *o, const aa_train_result *r, aa_text *out) {
    aa_text_add(out, "{");
    cli_key_string(out, "out", o->out);
    cli_key_int(out, "steps", (int64_t)r->step);
    cli_key_int(out, "tokens", (int64_t)r->tokens);
    if (r->sequence_forwards)
        cli_key_int(out, "sequence_forwards", (int64_t)r->sequence_forwards);
    cli_key_real(out, "epochs", r->epoch);
    cli_key_real(out, "flop", r->flop);
    cli_key_real(out, "loss", r->final.loss);
    cli_key_real(out, "loss_stderr", r->final.loss_stderr);
    cli_key_real(out, "bits_per_byte", r->final.bits_per_byte);
    cli_key_real(out, "perplexity", r->final.perplexity);
    cli_key_real(out, "best_loss", r->best.loss);
    cli_key_int(out, "best_step", (int64_t)r->best_step);
    cli_key_real(out, "floor_loss", r->floor_loss);
    cli_key_real(out, "wall_s", r->wall_s);
    cli_key_real(out, "train_s", r->train_s);
    cli_key_real(out, "eval_s", r->eval_s);
    cli_key_real(out, "checkpoint_s", r->checkpoint_s);
    cli_key_real(out, "tokens_per_s", r->tokens_per_s);
    cli_key_real(out, "share_of_peak", r->share_of_peak);
    aa_text_add(out, "}\n");
}

/* ---- train ----------------------------------------------------------------------------------- */

/* An impossible job is refused before any text is read. */
static aa_status refuse_early(aa_opts *opts, aa_cpu *cpu, aa_err *err) {
    aa_job dry;
    aa_plan plan;
    /* A copy, for the real job settles the open options again. */
    aa_train_options copy = *(const aa_train_options *)opts->values;
    aa_opts view = {.rows = opts->rows, .values = &copy, .from = opts->from};
    /* Only the text tells how large the model is, or the choice is of what is possible. */
    if (copy.compact_vocab || (copy.preset && strcmp(copy.preset, "auto") == 0)) return AA_OK;
    AA_TRY(aa_job_open(&dry, &view, cpu, true, NULL, err));
    aa_status st = aa_plan_make(&plan, &dry, cpu, 0, err);
    aa_job_close(&dry);
    return st;
}

static aa_status train(cli_call *call, aa_opts *opts, aa_cpu *cpu, cli_progress *progress,
                       aa_err *err) {
    train_values *v = call->opts.values;
    aa_job job;
    aa_plan plan;
    aa_train_result result;
    aa_job_hooks job_hooks = {.ctx = progress, .message = cli_progress_message};
    aa_sys_interrupt_install();
    AA_TRY(aa_job_open(&job, opts, cpu, false, &job_hooks, err));
    aa_status st = aa_plan_make(&plan, &job, cpu, PROBE_S, err);
    aa_text text = {0};
    if (!st) aa_plan_text(&plan, &job, &text);
    if (!st) st = aa_text_status(&text, err);
    if (!st) cli_progress_message(progress, text.data);
    aa_text_release(&text);
    aa_train_hooks hooks = {.ctx = progress,
                            .message = cli_progress_message,
                            .progress = cli_progress_step,
                            .evaluated = cli_progress_eval,
                            .sampled = cli_progress_sample,
                            .stop = cli_progress_stop};
    if (!st) {
        if (v->profile) aa_cpu_profile(cpu, true);
        st = aa_train(&job, &plan, cpu, v->resume != NULL, &hooks, &result, err);
        cli_progress_release(progress);
        if (!st && !v->quiet) print_result(job.o, &result);
        if (!st && v->profile) print_profile(cpu, &result, plan.peak_gflops);
        if (!st && call->json) result_json(job.o, &result, &call->out);
    }
    aa_job_close(&job);
    return st;
}

static aa_status run_train(cli_call *call, aa_err *err) {
    train_values *v = call->opts.values;
    aa_opts opts = cli_train_opts(call);
    aa_cpu *cpu = NULL;
    cli_progress progress;
    AA_TRY(read_options(call, &opts, err));
    AA_TRY(cli_open_cpu(&cpu, v->train.threads, err));
    cli_progress_init(&progress, v->quiet);
    aa_status st = refuse_early(&opts, cpu, err);
    if (!st) st = train(call, &opts, cpu, &progress, err);
    cli_progress_release(&progress);
    aa_cpu_free(cpu);
    return st;
}

const cli_command cli_train = {
    .words = "train",
    .group = "train",
    .arguments = "[CONFIG]",
    .summary = "train a model from text, or continue a run",
    .shared = aa_train_rows,
    .rows = train_rows,
    .values_size = sizeof(train_values),
    .max_positional = 1,
    .run = run_train,
    .notes = "CONFIG is an ini file of these options (a run directory's config.ini repeats the "
             "run); options override it.\n"
             "Ctrl-C writes a checkpoint and stops; `autoane train --resume DIR` continues to the "
             "same bits.\n",
};

/* ---- plan ------------------------------------------------------------------------------------ */

static aa_status run_plan(cli_call *call, aa_err *err) {
    train_values *v = call->opts.values;
    aa_opts opts = cli_train_opts(call);
    aa_cpu *cpu = NULL;
    aa_job job;
    aa_plan plan;
    AA_TRY(read_options(call, &opts, err));
    AA_TRY(cli_open_cpu(&cpu, v->train.threads, err));
    aa_status st = aa_job_open(&job, &opts, cpu, true, NULL, err);
    if (!st) {
        st = aa_plan_make(&plan, &job, cpu, 0, err); /* refuse before the probe takes its time */
        if (!st) st = aa_plan_make(&plan, &job, cpu, PROBE_S, err);
        if (!st && call->json) aa_plan_json(&plan, &job, &call->out);
        else if (!st) aa_plan_text(&plan, &job, &call->out);
        aa_job_close(&job);
    }
    aa_cpu_free(cpu);
    return st;
}

const cli_command cli_plan = {
    .words = "plan",
    .group = "train",
    .arguments = "[CONFIG]",
    .summary = "what a training run will take: parameters, memory, work, time",
    .shared = aa_train_rows,
    .rows = plan_rows,
    .values_size = sizeof(train_values),
    .max_positional = 1,
    .run = run_plan,
    .notes = "Nothing is trained and no large memory is taken. A job that does not fit is refused "
             "with advice.\n",
};
