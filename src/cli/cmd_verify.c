/* autoane verify: a self-test on the user's own machine, with the very kernels that will train.
 *
 *   kernels     loss and gradients of a small model, each instruction set against the scalar one
 *   threads     the same bits with 1, 2 and 3 threads, and with the batch split
 *   gradients   a directional derivative by central differences against the gradient
 *   resume      a run interrupted and continued against one that was not, byte for byte
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "base/memory.h"
#include "cli/cli.h"
#include "convert/source.h"

typedef struct verify_values { char *dir; } verify_values;
static const aa_opt verify_rows[] = {
    {"dir", "run", AA_OPT_STRING, offsetof(verify_values, dir), NULL, 0, 0, 0, "DIR",
     "where to put the trial runs; a temporary directory if not given"},
    {0}};

/* ---- one pass of a small model --------------------------------------------------------------- */

enum { B = 4, T = 32, V = 300 };

typedef struct pass {
    aa_cpu *cpu;
    aa_arena arena;
    aa_model model;
    aa_backend backend;
    aa_activations *activations;
    int32_t ids[B * T], targets[B * T];
    aa_real loss[B * T];
} pass;

static aa_status pass_open(pass *p, aa_isa isa, int threads, aa_err *err) {
    aa_config c = {.arch = AA_ARCH_QWEN3, .dim = 64, .layers = 2, .heads = 4, .kv_heads = 2,
                   .head_dim = 24, .ffn = 96, .vocab = V, .seq = T, .tied = true, .qk_norm = true,
                   .rope_theta = 10000, .norm_eps = 1e-6, .residual_scale = 1};
    *p = (pass){0};
    aa_arena_init(&p->arena, "verify");
    AA_TRY(aa_config_resolve(&c, err));
    AA_TRY(aa_cpu_new(&p->cpu, threads, isa, err));
    AA_TRY(
        aa_model_init(&p->model, &c, AA_MODEL_GRADS | AA_MODEL_PACKED, T, p->cpu, &p->arena, err));
    AA_TRY(aa_model_lookup_init(&p->model, B * T, &p->arena, err));
    AA_TRY(aa_activations_new(&p->activations, &p->model, AA_PASS_TRAIN, B, T, 0, &p->arena, err));
    AA_TRY(aa_arena_status(&p->arena, err));
    aa_backend_cpu(&p->backend, p->cpu);
    aa_model_init_weights(&p->model, 7, AA_INIT_SCALED);
    aa_rng r;
    aa_rng_init(&r, 7, AA_RNG_TEST, 0);
    for (int i = 0; i < B * T; i++) {
        p->ids[i] = (int32_t)aa_rng_below(&r, V);
        p->targets[i] = (int32_t)aa_rng_below(&r, V);
    }
    return AA_OK;
}

static void pass_close(pass *p) {
    aa_arena_release(&p->arena);
    aa_cpu_free(p->cpu);
}

/* Mean loss; gradients of it, in `parts` calls. */
static aa_status pass_run(pass *p, int parts, double *loss, aa_err *err) {
    size_t n = B / (size_t)parts;
    aa_zero(p->cpu, p->model.grads, p->model.span);
    for (size_t b = 0; b < B; b += n) {
        aa_batch batch = {.B = n, .T = T, .ids = p->ids + b * T, .targets = p->targets + b * T};
        AA_TRY(aa_model_loss_and_grad(&p->model, &p->backend, p->activations, &batch,
                                      p->loss + b * T, (aa_real)(1.0 / (B * T)), err));
    }
    aa_model_finish_grads(&p->model, p->cpu);
    *loss = 0;
    for (int i = 0; i < B * T; i++) *loss += (double)p->loss[i] / (B * T);
    return AA_OK;
}

static double relative_distance(const aa_real *a, const aa_real *b, size_t n) {
    double d = 0, s = 0;
    for (size_t i = 0; i < n; i++) {
        d += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        s += (double)b[i] * (double)b[i];
    }
    return sqrt(d / s);
}

/* ---- reporting ------------------------------------------------------------------------------- */

typedef struct verdicts { cli_call *call; int passed, failed; } verdicts;

static void verdict(verdicts *v, bool good, const char *what, const char *detail) {
    good ? v->passed++ : v->failed++;
    fprintf(v->call->json ? stderr : stdout, "%s  %-32s %s\n", good ? "ok  " : "FAIL", what,
            detail);
    fflush(stdout);
}

/* ---- checks ---------------------------------------------------------------------------------- */

/* Single precision over sums of a few hundred terms: 1e-5 is some hundred roundings, a wrong kernel
 * is off by 1. */
#define KERNEL_TOLERANCE 1e-5

static aa_status check_kernels(verdicts *v, aa_err *err) {
    static const aa_isa sets[] = {AA_ISA_NEON, AA_ISA_AVX2, AA_ISA_AVX512, AA_ISA_AMX};
    pass reference, p;
    double want, loss;
    aa_status st = pass_open(&reference, AA_ISA_SCALAR, 1, err);
    if (!st) st = pass_run(&reference, 1, &want, err);
    for (size_t i = 0; !st && i < sizeof sets / sizeof *sets; i++) {
        if (!aa_isa_available(sets[i])) continue;
        st = pass_open(&p, sets[i], 0, err);
        if (!st && !(st = pass_run(&p, 1, &loss, err))) {
            char what[64], detail[128];
            double d = relative_distance(p.model.grads, reference.model.grads, p.model.span);
            snprintf(what, sizeof what, "%s against scalar", aa_isa_name(sets[i]));
            snprintf(detail, sizeof detail, "loss off by %.1e, gradients by %.1e",
                     fabs(loss - want), d);
            verdict(v, fabs(loss - want) < KERNEL_TOLERANCE * want && d < KERNEL_TOLERANCE, what,
                    detail);
        }
        pass_close(&p);
    }
    pass_close(&reference);
    return st;
}

static aa_status check_threads(verdicts *v, aa_err *err) {
    static const struct { int threads, parts; const char *what; } cases[] = {
        {2, 1, "same bits with 2 threads"},
        {3, 1, "same bits with 3 threads"},
        {2, 4, "same bits with the batch split"}};
    pass one, p;
    double want, loss;
    aa_status st = pass_open(&one, AA_ISA_AUTO, 1, err);
    if (!st) st = pass_run(&one, 1, &want, err);
    for (size_t i = 0; !st && i < sizeof cases / sizeof *cases; i++) {
        st = pass_open(&p, AA_ISA_AUTO, cases[i].threads, err);
        if (!st && !(st = pass_run(&p, cases[i].parts, &loss, err)))
            verdict(v,
                    loss == want &&
                        memcmp(p.model.grads, one.model.grads, p.model.span * sizeof(aa_real)) == 0,
                    cases[i].what, "loss and every gradient");
        pass_close(&p);
    }
    pass_close(&one);
    return st;
}

/* d/dt loss(w + t g/|g|) at 0 is |g|. The step balances truncation (t^2) and single-precision
 * rounding (1/t). */
static aa_status check_gradient(verdicts *v, aa_err *err) {
    pass p;
    double loss, up, down, norm, step = 3e-3;
    aa_status st = pass_open(&p, AA_ISA_AUTO, 0, err);
    if (!st) st = pass_run(&p, 1, &loss, err);
    aa_real *g = st ? NULL : aa_arena_new(&p.arena, aa_real, p.model.span);
    if (!st && !g) st = aa_fail_memory(err, "a gradient", p.model.span * sizeof *g);
    if (!st) {
        memcpy(g, p.model.grads, p.model.span * sizeof *g);
        norm = sqrt(aa_sum_squares(p.cpu, g, p.model.span));
        aa_axpy(p.cpu, p.model.params, (aa_real)(step / norm), g, p.model.span);
        aa_model_changed(&p.model);
        st = pass_run(&p, 1, &up, err);
        aa_axpy(p.cpu, p.model.params, (aa_real)(-2 * step / norm), g, p.model.span);
        aa_model_changed(&p.model);
        if (!st) st = pass_run(&p, 1, &down, err);
    }
    if (!st) {
        char detail[128];
        double slope = (up - down) / (2 * step), off = fabs(slope - norm) / norm;
        snprintf(detail, sizeof detail, "slope %.6f, gradient norm %.6f", slope, norm);
        verdict(v, off < 5e-3, "gradient against differences", detail);
    }
    pass_close(&p);
    return st;
}

/* ---- resume ---------------------------------------------------------------------------------- */

typedef struct stop_at { uint64_t step, seen; } stop_at;
static void note_step(void *ctx, const aa_train_progress *p) { ((stop_at *)ctx)->seen = p->step; }
static bool stop_here(void *ctx) { return ((stop_at *)ctx)->seen >= ((stop_at *)ctx)->step; }

static aa_status trial_run(const char *dir, const char *text, bool resume, uint64_t stop,
                           aa_err *err) {
    static const char *const settings[][2] = {{"tokenizer", "bytes"}, {"dim", "32"},
                                              {"layers", "1"},        {"heads", "2"},
                                              {"kv-heads", "1"},      {"ffn", "48"},
                                              {"seq", "32"},          {"batch-tokens", "128"},
                                              {"budget", "24steps"},  {"checkpoint-every", "0"},
                                              {"eval-tokens", "256"}, {"log-every", "1steps"}};
    aa_train_options o;
    aa_opts opts;
    aa_text problems = {0};
    aa_cpu *cpu = NULL;
    aa_job job;
    aa_plan plan;
    aa_train_result result;
    stop_at at = {.step = stop};
    aa_train_hooks hooks = {.ctx = &at, .progress = note_step, .stop = stop ? stop_here : NULL};
    AA_TRY(aa_opts_init(&opts, aa_train_rows, &o, err));
    bool good = aa_opts_set(&opts, "data", text, AA_FROM_FILE, "verify", &problems) &&
                aa_opts_set(&opts, "out", dir, AA_FROM_FILE, "verify", &problems);
    for (size_t i = 0; good && i < sizeof settings / sizeof *settings; i++)
        good = aa_opts_set(&opts, settings[i][0], settings[i][1], AA_FROM_FILE, "verify",
                           &problems);
    aa_status st = good ? aa_cpu_new(&cpu, 0, AA_ISA_AUTO, err) : cli_problems(&problems, err);
    if (!st && !(st = aa_job_open(&job, &opts, cpu, false, NULL, err))) {
        st = aa_plan_make(&plan, &job, cpu, 0, err);
        if (!st) st = aa_train(&job, &plan, cpu, resume, &hooks, &result, err);
        aa_job_close(&job);
    }
    aa_text_release(&problems);
    aa_cpu_free(cpu);
    aa_opts_release(&opts);
    return st;
}

static aa_status same_files(const char *a, const char *b, const char *name, bool *same,
                            aa_err *err) {
    char *pa = aa_heap_printf("%s/last/%s", a, name), *pb = aa_heap_printf("%s/last/%s", b, name);
    aa_digest da, db;
    aa_status st = pa && pb ? aa_digest_file(&da, pa, err) : aa_fail_memory(err, "a path", 0);
    if (!st) st = aa_digest_file(&db, pb, err);
    if (!st) *same = aa_digest_equal(da, db);
    aa_heap_free(pa);
    aa_heap_free(pb);
    return st;
}

static aa_status compare_runs(const char *dir, bool *same, aa_err *err) {
    char *text = aa_path_join(dir, "text.txt"), *whole = aa_path_join(dir, "whole"),
         *cut = aa_path_join(dir, "cut");
    aa_text words = {0};
    for (int i = 0; i < 4000; i++)
        aa_text_printf(&words, "%d sheep and %d goats%s", i * 7 % 100, i * i % 89,
                       i % 40 == 39 ? ".\n\n" : ", ");
    aa_status st =
        text && whole && cut ? aa_text_status(&words, err) : aa_fail_memory(err, "a path", 0);
    if (!st) st = aa_file_write(text, words.data, words.len, err);
    if (!st) st = trial_run(whole, text, false, 0, err);
    aa_err ignored = {0};
    if (!st && trial_run(cut, text, false, 11, &ignored) != AA_EINTERRUPTED)
        st = aa_fail(err, AA_EINTERNAL, "the trial run was not interrupted: %s", ignored.message);
    if (!st) st = trial_run(cut, text, true, 0, err);
    bool weights = false, state = false;
    if (!st) st = same_files(whole, cut, "model.safetensors", &weights, err);
    if (!st) st = same_files(whole, cut, "train_state.safetensors", &state, err);
    *same = weights && state;
    aa_text_release(&words);
    aa_heap_free(text);
    aa_heap_free(whole);
    aa_heap_free(cut);
    return st;
}

static aa_status check_resume(verdicts *v, aa_err *err) {
    const verify_values *o = v->call->opts.values;
    const char *base = getenv("TMPDIR");
    char *dir = o->dir ? aa_heap_strdup(o->dir)
                       : aa_heap_printf("%s/autoane-verify-%lld", base && *base ? base : "/tmp",
                                        (long long)aa_sys_unix_ms());
    bool same = false;
    if (!dir) return aa_fail_memory(err, "a path", 0);
    aa_status st = aa_make_dirs(dir, err);
    if (!st) st = compare_runs(dir, &same, err);
    if (!st) verdict(v, same, "resume after an interruption", "weights and moments, byte for byte");
    if (!o->dir) (void)aa_sys_remove_tree(dir);
    aa_heap_free(dir);
    return st;
}

static aa_status run_verify(cli_call *call, aa_err *err) {
    verdicts v = {.call = call};
    AA_TRY(check_kernels(&v, err));
    AA_TRY(check_threads(&v, err));
    AA_TRY(check_gradient(&v, err));
    AA_TRY(check_resume(&v, err));
    if (call->json) {
        aa_text_add(&call->out, "{");
        cli_key_int(&call->out, "passed", v.passed);
        cli_key_int(&call->out, "failed", v.failed);
        aa_text_add(&call->out, "}\n");
    } else aa_text_printf(&call->out, "%d passed, %d failed\n", v.passed, v.failed);
    return v.failed ? aa_fail(err, AA_EINTERNAL,
                              "this program does not compute correctly on this machine; please "
                              "report the lines above")
                    : AA_OK;
}

const cli_command cli_verify = {
    .words = "verify",
    .group = "measure",
    .arguments = "",
    .summary = "check kernels, gradients, threads and resume on this machine",
    .rows = verify_rows,
    .values_size = sizeof(verify_values),
    .run = run_verify,
};
