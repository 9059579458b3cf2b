/* autoane bench step|gemm|decode: speed beside what this machine can do, probed in the same run. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/memory.h"
#include "cli/cli.h"
#include "infer/infer.h"
#include "train/memory.h"

typedef struct bench_values {
    aa_train_options train;
    double seconds;
    int64_t context;
    char *model;
} bench_values;

#define PROBE_S 0.5
#define WARMUP 2                           /* uncounted runs of what is timed */
enum { MAX_TIMES = 4096 };

#define AT(field) offsetof(bench_values, field)
static const aa_opt step_rows[] = {
    {"seconds", "bench", AA_OPT_REAL, AT(seconds), "10", 0.01, 1e5, 0, "X", "how long to measure"},
    {0}};
static const aa_opt decode_rows[] = {
    {"seconds", "bench", AA_OPT_REAL, AT(seconds), "5", 0.01, 1e5, 0, "X", "how long to measure"},
    {"context", "bench", AA_OPT_INT, AT(context), "64", 1, 1e6, 0, "N",
     "prompt tokens before the decoded ones"},
    {"model", "bench", AA_OPT_STRING, AT(model), NULL, 0, 0, 0, "MODEL",
     "a model's file as generate runs it, in the place of a shape"},
    {0}};
#undef AT

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(double *v, size_t n) {
    qsort(v, n, sizeof *v, ascending);
    return n % 2 ? v[n / 2] : 0.5 * (v[n / 2 - 1] + v[n / 2]);
}

/* The larger of two probes, before and after:
 * neighbours on a shared machine only ever slow it down. */
static double best_peak(aa_cpu *cpu, double before) {
    return fmax(before, aa_cpu_peak_gflops(cpu, PROBE_S));
}

/* A job without data: the shape, with a stand-in vocabulary if none is given. */
static aa_status open_shape(cli_call *call, aa_opts *opts, aa_cpu *cpu, aa_job *job, aa_err *err) {
    aa_text problems = {0};
    const aa_train_options *o = call->opts.values;
    const aa_preset *p = aa_preset_find(o->preset ? o->preset : "");
    if (!o->data && !o->base && (!p || !p->config.vocab) && strcmp(o->tokenizer, "auto") == 0 &&
        aa_opts_from(opts, "vocab") == AA_FROM_DEFAULT)
        (void)aa_opts_set(opts, "vocab", "4096", AA_FROM_FILE, "bench", &problems);
    aa_text_release(&problems);
    return aa_job_open(job, opts, cpu, true, NULL, err);
}

static void fill_random_ids(int32_t *ids, int32_t *targets, size_t n, int64_t vocab) {
    aa_rng r;
    aa_rng_init(&r, 1, AA_RNG_TEST, 0);
    for (size_t i = 0; i < n; i++) {
        ids[i] = (int32_t)aa_rng_below(&r, (uint64_t)vocab);
        targets[i] = (int32_t)aa_rng_below(&r, (uint64_t)vocab);
    }
}

/* ---- step ------------------------------------------------------------------------------------ */

static aa_status one_update(aa_train_memory *m, const aa_plan *p, aa_backend *be, aa_cpu *cpu,
                            double lr, aa_err *err) {
    aa_optim_result r;
    aa_train_memory_begin(m);
    for (size_t b = 0; b < p->B; b += p->micro_B) {
        size_t n = p->B - b < p->micro_B ? p->B - b : p->micro_B;
        aa_batch batch = {
            .B = n, .T = p->T, .ids = m->ids + b * p->T, .targets = m->targets + b * p->T};
        AA_TRY(aa_model_loss_and_grad(&m->model, be, m->activations, &batch, m->loss,
                                      (aa_real)(1.0 / (double)(p->B * p->T)), err));
    }
    aa_model_finish_grads(&m->model, cpu);
    return aa_optim_step(&m->optim, cpu, lr, &r, err);
}

/* Billions per second; 0 for what was too short to be timed. */
static double giga_rate(double amount, double wall_s) {
    return wall_s > 0 ? amount / wall_s * 1e-9 : 0;
}

static void print_profile(cli_call *call, aa_cpu *cpu, double total_s, double peak) {
    aa_profile_row rows[64];
    size_t n = aa_cpu_profile_rows(cpu, rows, 64);
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += rows[i].wall_s;
    if (call->json) {
        aa_text_json_key(&call->out, "kernels");
        aa_text_add(&call->out, "[");
        for (size_t i = 0; i < n; i++) {
            aa_text_add(&call->out, i ? ",{" : "{");
            cli_key_string(&call->out, "op", rows[i].op);
            cli_key_real(&call->out, "share", rows[i].wall_s / total_s);
            cli_key_real(&call->out, "gflops", giga_rate(rows[i].flop, rows[i].wall_s));
            cli_key_real(&call->out, "gbs", giga_rate(rows[i].bytes, rows[i].wall_s));
            aa_text_add(&call->out, "}");
        }
        aa_text_add(&call->out, "]");
        cli_key_real(&call->out, "outside_kernels", 1 - sum / total_s);
        return;
    }
    for (size_t i = 0; i < n; i++)
        aa_text_printf(&call->out, "  %-24s %5.1f%%  %8.1f GFLOP/s  %5.1f%% of peak  %7.1f GB/s\n",
                       rows[i].op, 100 * rows[i].wall_s / total_s,
                       giga_rate(rows[i].flop, rows[i].wall_s),
                       100 * giga_rate(rows[i].flop, rows[i].wall_s) / peak,
                       giga_rate(rows[i].bytes, rows[i].wall_s));
    aa_text_printf(&call->out, "  %-24s %5.1f%%\n", "outside kernels", 100 * (1 - sum / total_s));
}

static aa_status time_updates(cli_call *call, const aa_plan *p, const aa_job *job, aa_cpu *cpu,
                              aa_train_memory *m, aa_err *err) {
    const bench_values *v = call->opts.values;
    static double times[MAX_TIMES];
    aa_backend be;
    size_t n = 0;
    double total = 0, tokens = (double)(p->B * p->T);
    aa_job_backend(job, cpu, &be);
    if (job->source) AA_TRY(aa_source_load(job->source, &m->model, err));
    else aa_model_init_weights(&m->model, 1, AA_INIT_SCALED);
    aa_model_init_adapter(&m->model, cpu, 1);
    fill_random_ids(m->ids, m->targets, p->B * p->T, job->config.vocab);
    for (int i = 0; i < WARMUP; i++) AA_TRY(one_update(m, p, &be, cpu, 1e-4, err));
    double before = aa_cpu_peak_gflops(cpu, PROBE_S);
    aa_cpu_profile(cpu, true);
    while (n < 3 || (total < v->seconds && n < MAX_TIMES)) {
        double start = aa_sys_clock_s();
        AA_TRY(one_update(m, p, &be, cpu, 1e-4, err));
        total += times[n++] = aa_sys_clock_s() - start;
    }
    double peak = best_peak(cpu, before), mid = tokens / median(times, n), best = tokens / times[0];
    if (call->json) {
        aa_text_add(&call->out, "{");
        cli_key_real(&call->out, "tokens_per_s_median", mid);
        cli_key_real(&call->out, "tokens_per_s_best", best);
        cli_key_real(&call->out, "flop_per_token", p->flop_per_token);
        cli_key_real(&call->out, "peak_gflops", peak);
        cli_key_real(&call->out, "share_of_peak", aa_plan_share_of_peak(p, mid, peak));
        cli_key_real(&call->out, "share_of_peak_best", aa_plan_share_of_peak(p, best, peak));
        cli_key_string(&call->out, "isa", p->isa);
        cli_key_string(&call->out, "compute", p->compute);
        cli_key_string(&call->out, "device", p->device);
        if (p->blas) cli_key_string(&call->out, "blas", p->blas);
        cli_key_int(&call->out, "threads", p->threads);
        cli_key_int(&call->out, "updates", (int64_t)n);
        cli_key_int(&call->out, "tokens_per_update", (int64_t)tokens);
        cli_key_int(&call->out, "params", (int64_t)p->params);
        cli_key_int(&call->out, "peak_rss_bytes", (int64_t)aa_sys_peak_rss());
        print_profile(call, cpu, total, peak);
        aa_text_add(&call->out, "}\n");
        return AA_OK;
    }
    aa_text_printf(&call->out,
                   "%.2f M parameters, %.0f tokens per update, %.2f MFLOP per token; %s %s %s, "
                   "%d threads, FMA peak %.0f GFLOP/s\n",
                   (double)p->params * 1e-6, tokens, p->flop_per_token * 1e-6, p->device, p->isa,
                   p->compute, p->threads, peak);
    aa_text_printf(
        &call->out,
        "median %.0f tokens/s, %.1f%% of peak; best %.0f tokens/s, %.1f%%; %zu updates\n", mid,
        100 * aa_plan_share_of_peak(p, mid, peak), best, 100 * aa_plan_share_of_peak(p, best, peak),
        n);
    print_profile(call, cpu, total, peak);
    return AA_OK;
}

static aa_status run_step(cli_call *call, aa_err *err) {
    bench_values *v = call->opts.values;
    aa_opts opts = cli_train_opts(call);
    aa_cpu *cpu = NULL;
    aa_job job;
    aa_plan plan;
    aa_train_memory m;
    AA_TRY(cli_open_cpu(&cpu, v->train.threads, err));
    aa_status st = open_shape(call, &opts, cpu, &job, err);
    if (!st) {
        st = aa_plan_make(&plan, &job, cpu, 0, err);
        aa_train_shape shape = aa_train_shape_of(&plan, &job);
        aa_optim_options optim = aa_train_optim_options(&v->train);
        if (!st && !(st = aa_train_memory_init(&m, &job.config, &optim, &shape, cpu, false, err))) {
            st = time_updates(call, &plan, &job, cpu, &m, err);
            aa_train_memory_release(&m);
        }
        aa_job_close(&job);
    }
    aa_cpu_free(cpu);
    return st;
}

const cli_command cli_bench_step = {
    .words = "bench step",
    .group = "measure",
    .arguments = "",
    .summary = "speed of training updates on random tokens",
    .shared = aa_train_rows,
    .rows = step_rows,
    .values_size = sizeof(bench_values),
    .run = run_step,
    .notes = "Shape options are those of train; --vocab is 4096 if nothing decides it.\n",
};

/* ---- gemm ------------------------------------------------------------------------------------ */

typedef struct gemm_values {
    int64_t threads, tokens, rows, cols;
    double seconds;
    int compute;
} gemm_values;
#define AT(field) offsetof(gemm_values, field)
static const aa_opt gemm_rows[] = {
    {"tokens", "shape", AA_OPT_INT, AT(tokens), "0", 0, 1e6, 0, "N",
     "rows of the activations; 0: 128 and 1280"},
    {"rows", "shape", AA_OPT_INT, AT(rows), "0", 0, 1e6, 0, "N",
     "outputs of the linear map; 0: a list of usual shapes"},
    {"cols", "shape", AA_OPT_INT, AT(cols), "0", 0, 1e6, 0, "N", "inputs of the linear map"},
    {"seconds", "bench", AA_OPT_REAL, AT(seconds), "0.15", 0.001, 1000, 0, "X", "per product"},
    {"compute", "bench", AA_OPT_CHOICE, AT(compute), "f32", 0, 0, 0, "f32|bf16|auto",
     "what is multiplied"},
    CLI_THREADS_ROW(AT(threads)),
    {0}};
#undef AT

typedef struct product { aa_cpu *cpu; aa_linear lin; aa_real *x, *y, *dx; size_t T; } product;
typedef enum { FORWARD, DX, DW, N_OPS } product_op;
static const char *const op_names[N_OPS] = {"forward", "dx", "dW"};

static void run_product(product *p, product_op op) {
    aa_epilogue plain = {.scale = 1};
    size_t N = p->lin.n_out, K = p->lin.n_in;
    if (op == FORWARD) aa_linear_forward(p->cpu, p->y, N, p->x, K, p->T, &p->lin, &plain);
    else if (op == DX) aa_linear_dx(p->cpu, p->dx, K, p->y, N, p->T, &p->lin, 1, false, NULL);
    else aa_linear_dw(p->cpu, &p->lin, p->y, N, p->x, K, p->T, 1);
}

static void time_product(product *p, product_op op, double seconds, double *mid, double *best) {
    static double times[MAX_TIMES];
    size_t n = 0;
    double flop = 2.0 * (double)p->T * (double)p->lin.n_out * (double)p->lin.n_in, total = 0;
    run_product(p, op);
    while (n < 3 || (total < seconds && n < MAX_TIMES)) {
        double start = aa_sys_clock_s();
        run_product(p, op);
        total += times[n++] = aa_sys_clock_s() - start;
    }
    *mid = flop / median(times, n) * 1e-9;
    *best = flop / times[0] * 1e-9;
}

static aa_status lay_out_product(product *p, aa_tensor *w, aa_arena *a, aa_err *err) {
    size_t N = w->rows, K = w->cols;
    w->data = aa_arena_new(a, aa_real, N * K);
    w->grad = aa_arena_new(a, aa_real, N * K);
    p->lin.packed = aa_arena_new(a, aa_real, aa_linear_packed_size(p->cpu, &p->lin));
    p->x = aa_arena_new(a, aa_real, p->T * K);
    p->dx = aa_arena_new(a, aa_real, p->T * K);
    p->y = aa_arena_new(a, aa_real, p->T * N);
    return aa_arena_status(a, err);
}

static aa_status time_shape(cli_call *call, aa_cpu *cpu, size_t T, size_t N, size_t K, double peak,
                            bool first, aa_err *err) {
    const gemm_values *v = call->opts.values;
    aa_arena a;
    aa_tensor w = {.name = "w", .kind = AA_KIND_MATRIX, .rows = N, .cols = K, .version = 1};
    product p = {.cpu = cpu, .T = T, .lin = {.weight = &w, .n_parts = 1, .n_out = N, .n_in = K}};
    aa_arena_init_measure(&a, "products");
    AA_TRY(lay_out_product(&p, &w, &a, err));
    AA_TRY(aa_memory_check("this product", a.used_bytes,
                           "make it smaller (--tokens, --rows, --cols)", err));
    aa_arena_init(&a, "products");
    aa_status st = lay_out_product(&p, &w, &a, err);
    if (!st) {
        for (size_t i = 0; i < N * K; i++) w.data[i] = (aa_real)((double)(i % 17) * 0.01 - 0.08);
        for (size_t i = 0; i < T * K; i++) p.x[i] = (aa_real)((double)(i % 13) * 0.01 - 0.06);
        for (int op = 0; op < N_OPS; op++) {
            double mid, best;
            time_product(&p, (product_op)op, v->seconds, &mid, &best);
            if (call->json) {
                aa_text_add(&call->out, first && op == 0 ? "{" : ",{");
                cli_key_string(&call->out, "op", op_names[op]);
                cli_key_int(&call->out, "tokens", (int64_t)T);
                cli_key_int(&call->out, "rows", (int64_t)N);
                cli_key_int(&call->out, "cols", (int64_t)K);
                cli_key_real(&call->out, "gflops_median", mid);
                cli_key_real(&call->out, "gflops_best", best);
                cli_key_real(&call->out, "share_of_peak", mid / peak);
                aa_text_add(&call->out, "}");
            } else
                aa_text_printf(
                    &call->out, "%6zu x %6zu x %6zu  %-8s %8.1f  %8.1f GFLOP/s  %5.1f%%  %5.1f%%\n",
                    T, N, K, op_names[op], mid, best, 100 * mid / peak, 100 * best / peak);
        }
    }
    aa_arena_release(&a);
    return st;
}

static aa_status time_shapes(cli_call *call, aa_cpu *cpu, aa_err *err) {
    static const size_t shapes[][2] = {{512, 512},   {1536, 512}, {512, 1536},
                                       {16893, 512}, {1536, 576}, {2560, 960},
                                       {2048, 768},  {352, 128},  {192, 64}};
    static const size_t tokens[] = {128, 1280};
    const gemm_values *v = call->opts.values;
    if (!v->rows != !v->cols) return aa_fail(err, AA_EUSAGE, "--rows and --cols go together");
    double peak = aa_cpu_peak_gflops(cpu, PROBE_S);
    if (call->json) {
        aa_text_add(&call->out, "{");
        cli_key_real(&call->out, "peak_gflops", peak);
        cli_key_string(&call->out, "isa", aa_isa_name(aa_cpu_isa(cpu)));
        cli_key_string(&call->out, "compute", aa_compute_name(aa_cpu_compute(cpu)));
        cli_key_int(&call->out, "threads", aa_cpu_threads(cpu));
        aa_text_json_key(&call->out, "products");
        aa_text_add(&call->out, "[");
    } else
        aa_text_printf(&call->out,
                       "FMA peak %.1f GFLOP/s (%s, %d threads)\n%24s  %-8s %8s  %8s %16s %6s\n",
                       peak, aa_isa_name(aa_cpu_isa(cpu)), aa_cpu_threads(cpu), "tokens x out x in",
                       "", "median", "best", "median", "best");
    bool first = true;
    for (size_t s = 0; s < (v->rows ? 1 : sizeof shapes / sizeof *shapes); s++)
        for (size_t t = 0; t < (v->tokens ? 1 : 2); t++) {
            size_t T = v->tokens ? (size_t)v->tokens : tokens[t];
            AA_TRY(time_shape(call, cpu, T, v->rows ? (size_t)v->rows : shapes[s][0],
                              v->rows ? (size_t)v->cols : shapes[s][1], peak, first, err));
            first = false;
        }
    if (call->json) aa_text_add(&call->out, "]}\n");
    return AA_OK;
}

static aa_status run_gemm(cli_call *call, aa_err *err) {
    aa_cpu *cpu = NULL;
    AA_TRY(cli_open_cpu(&cpu, ((const gemm_values *)call->opts.values)->threads, err));
    aa_compute compute = (aa_compute)((const gemm_values *)call->opts.values)->compute;
    aa_status st = aa_cpu_set_compute(cpu, compute, err);
    if (!st) st = time_shapes(call, cpu, err);
    aa_cpu_free(cpu);
    return st;
}

const cli_command cli_bench_gemm = {
    .words = "bench gemm",
    .group = "measure",
    .arguments = "",
    .summary = "speed of the three products of a linear map",
    .rows = gemm_rows,
    .values_size = sizeof(gemm_values),
    .run = run_gemm,
};

/* ---- decode ---------------------------------------------------------------------------------- */

/* What decodes: a model of random weights in one arena, or a session over a file. */
typedef struct decoder {
    aa_arena arena;
    aa_model random;
    aa_kv random_kv;
    aa_session session;                   /* with --model */
    aa_model *model;
    aa_kv *kv;
    aa_activations *activations; size_t chunk;
    int32_t *ids;
    aa_real *logits;
} decoder;

static aa_status lay_out_decoder(decoder *d, const aa_config *c, size_t n_prompt, aa_cpu *cpu,
                                 aa_arena *arena, aa_err *err) {
    size_t seq = (size_t)c->seq, n_pos = seq > n_prompt ? seq : n_prompt + 1;
    d->model = &d->random;
    d->kv = &d->random_kv;
    d->chunk = n_prompt;
    AA_TRY(aa_model_init(d->model, c, AA_MODEL_PACKED, n_pos, cpu, arena, err));
    AA_TRY(aa_kv_init(d->kv, d->model, n_pos, false, arena, err));
    AA_TRY(aa_activations_new(&d->activations, d->model, AA_PASS_EVAL, 1, n_prompt, 0, arena, err));
    d->ids = aa_arena_new(arena, int32_t, 2 * n_prompt);
    d->logits = aa_arena_new(arena, aa_real, (size_t)c->vocab);
    return aa_arena_status(arena, err);
}

static aa_status make_decoder(decoder *d, const aa_config *c, size_t n_prompt, aa_cpu *cpu,
                              aa_err *err) {
    aa_arena counted;
    aa_arena_init_measure(&counted, "decode");
    AA_TRY(lay_out_decoder(d, c, n_prompt, cpu, &counted, err));
    AA_TRY(aa_memory_check("this model", counted.used_bytes,
                           "make it smaller (--dim, --layers, --vocab, --seq) or shorten "
                           "--context",
                           err));
    AA_TRY(lay_out_decoder(d, c, n_prompt, cpu, &d->arena, err));
    aa_model_init_weights(d->model, 1, AA_INIT_SCALED);
    return AA_OK;
}

static aa_status open_decoder(decoder *d, const char *path, size_t n_prompt, aa_cpu *cpu,
                              aa_err *err) {
    const aa_session_options o = {.capacity = n_prompt + 256};
    AA_TRY(aa_session_open_with(&d->session, path, cpu, &o, err));
    d->model = d->session.model;
    d->kv = &d->session.kv;
    d->activations = d->session.activations;
    d->chunk = d->session.chunk;
    d->logits = d->session.logits;
    d->ids = aa_arena_new(&d->arena, int32_t, 2 * n_prompt);
    return aa_arena_status(&d->arena, err);
}

/* Every weight is read once per token, the embedding as the head. */
static double bytes_per_token(const aa_model *m) {
    double sum = 0;
    for (size_t i = 0; i < m->n_tensors; i++) {
        const aa_tensor *t = &m->tensors[i];
        if (t == m->embedding && !m->config.tied) continue;
        sum += t->stored ? (double)t->rows * (double)aa_type_bytes(t->stored->type, t->cols)
                         : (double)aa_tensor_size(t) * sizeof(aa_real);
    }
    return sum;
}

/* Reads the prompt again. */
static aa_status time_prefill(decoder *d, aa_backend *be, size_t n, double *wall_s, aa_err *err) {
    double start = aa_sys_clock_s();
    d->kv->len = 0;
    for (size_t at = 0; at < n; at += d->chunk)
        AA_TRY(aa_model_extend(d->model, be, d->activations, d->kv, d->ids + at,
                               n - at < d->chunk ? n - at : d->chunk, d->logits, err));
    *wall_s = aa_sys_clock_s() - start;
    return AA_OK;
}

static aa_status time_decode(cli_call *call, decoder *d, aa_cpu *cpu, aa_err *err) {
    const bench_values *v = call->opts.values;
    static double times[MAX_TIMES];
    size_t n_prompt = (size_t)v->context, n = 0;
    double start, total = 0, prefill_s;
    aa_backend be;
    aa_backend_cpu(&be, cpu);
    fill_random_ids(d->ids, d->ids + n_prompt, n_prompt, d->model->config.vocab);
    for (int i = 0; i < WARMUP; i++) AA_TRY(time_prefill(d, &be, n_prompt, &prefill_s, err));
    while (n < 3 || (total < v->seconds && n < MAX_TIMES)) {
        if (d->kv->len == d->kv->capacity) d->kv->len = n_prompt;
        start = aa_sys_clock_s();
        AA_TRY(aa_model_extend(d->model, &be, d->activations, d->kv, d->ids, 1, d->logits, err));
        total += times[n++] = aa_sys_clock_s() - start;
    }
    double mid = median(times, n), gbs = aa_cpu_read_gbs(cpu, PROBE_S);
    double bytes = bytes_per_token(d->model);
    if (call->json) {
        aa_text_add(&call->out, "{");
        cli_key_real(&call->out, "tokens_per_s_median", 1 / mid);
        cli_key_real(&call->out, "tokens_per_s_best", 1 / times[0]);
        cli_key_real(&call->out, "prefill_tokens_per_s", (double)n_prompt / prefill_s);
        cli_key_real(&call->out, "weight_bytes", bytes);
        cli_key_real(&call->out, "gbs", bytes / mid * 1e-9);
        cli_key_real(&call->out, "read_gbs", gbs);
        cli_key_string(&call->out, "isa", aa_isa_name(aa_cpu_isa(cpu)));
        cli_key_string(&call->out, "compute", aa_compute_name(aa_cpu_compute(cpu)));
        cli_key_int(&call->out, "threads", aa_cpu_threads(cpu));
        aa_text_add(&call->out, "}\n");
    } else
        aa_text_printf(&call->out,
                       "decode: median %.1f tokens/s, best %.1f; reads %.1f MB of weights per "
                       "token at %.1f GB/s; this machine reads %.1f GB/s\n"
                       "prefill of %zu tokens: %.1f tokens/s\n",
                       1 / mid, 1 / times[0], bytes * 1e-6, bytes / mid * 1e-9, gbs, n_prompt,
                       (double)n_prompt / prefill_s);
    return AA_OK;
}

static aa_status decode_shape(cli_call *call, decoder *d, aa_cpu *cpu, aa_err *err) {
    bench_values *v = call->opts.values;
    aa_opts opts = cli_train_opts(call);
    aa_job job;
    AA_TRY(open_shape(call, &opts, cpu, &job, err));
    aa_status st = make_decoder(d, &job.config, (size_t)v->context, cpu, err);
    if (!st) st = time_decode(call, d, cpu, err);
    aa_job_close(&job);
    return st;
}

static aa_status decode_model(cli_call *call, decoder *d, aa_cpu *cpu, aa_err *err) {
    bench_values *v = call->opts.values;
    bool open = aa_opts_from(&call->opts, "compute") == AA_FROM_DEFAULT;
    AA_TRY(aa_cpu_set_compute(cpu, open ? AA_COMPUTE_INT8 : (aa_compute)v->train.compute, err));
    AA_TRY(open_decoder(d, v->model, (size_t)v->context, cpu, err));
    aa_status st = time_decode(call, d, cpu, err);
    aa_session_close(&d->session);
    return st;
}

static aa_status run_decode(cli_call *call, aa_err *err) {
    bench_values *v = call->opts.values;
    aa_cpu *cpu = NULL;
    decoder d = {0};
    AA_TRY(cli_open_cpu(&cpu, v->train.threads, err));
    aa_arena_init(&d.arena, "decode");
    aa_status st = v->model ? decode_model(call, &d, cpu, err) : decode_shape(call, &d, cpu, err);
    aa_arena_release(&d.arena);
    aa_cpu_free(cpu);
    return st;
}

const cli_command cli_bench_decode = {
    .words = "bench decode",
    .group = "measure",
    .arguments = "",
    .summary = "speed of generation beside memory bandwidth",
    .shared = aa_train_rows,
    .rows = decode_rows,
    .values_size = sizeof(bench_values),
    .run = run_decode,
};
