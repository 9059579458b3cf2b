/* The plan: every size, before anything is taken.
 *
 * Memory is measured by running the real layout code on counting arenas, once per line of the
 * table. Time is predicted from four figures: the FLOP of linear maps and of attention against the
 * probed FMA peak, both less efficient where they are narrow, and the elementwise traffic of
 * activations and of the optimizer. The constants were fitted to measured steps of 64 to 960 wide
 * models and windows of 128 to 8192 (docs/performance.md) and are good to about 15 %. */
#include <math.h>
#include <string.h>
#include "num/blas.h"
#include "sys/sys.h"
#include "train/memory.h"
#include "train/zo_run.h"

#define LINEAR_EFFICIENCY 0.88            /* of the FMA peak, in the step, of a wide model */
#define LINEAR_WIDTH 13.0                 /* places of a packed row at which half of it is lost */
#define ATTENTION_EFFICIENCY 0.60         /* of the float peak, of wide heads */
#define ATTENTION_WIDTH 5.0
#define ELEMENT_NS 0.33 /* one thread, per element of the activations, forward and backward */
#define UPDATE_NS 2.0                     /* one thread, per parameter: clip, AdamW, packing */
#define HEAD_CHUNK_TOKENS 256             /* logits in flight */
#define BASE_BYTES ((uint64_t)6 << 20)    /* program, libraries' tables, journal, stacks */
#define ID_BYTES 150                      /* a tokenizer, for each id */
#define STORED_NS 1.5                     /* one thread, to make a float of a quantised weight */
#define STORED_ROWS 256.0                 /* of activations, for which it is made once */
#define DIRECTION_NS 0.2                  /* one thread, per parameter that moves and direction */
/* Forward passes of zeroth order that bring what backpropagation of one sequence does: the least
 * that was ever found, on a toy with the best recipe; here it was 370 (docs/zeroth-order.md). */
#define PASSES_OF_A_GRADIENT 65.0

static bool is_zo(const aa_job *job) { return job->o->method == AA_METHOD_ZO; }

static size_t eval_windows(const aa_job *job) {
    uint64_t tokens = (uint64_t)job->o->eval_tokens;
    if (!job->tokens.n_tokens) return (size_t)((tokens + job->T - 1) / job->T);
    return aa_eval_windows(&job->valid, job->examples ? &job->valid_set : NULL, job->T, tokens);
}

/* Token pages that random windows will touch: the file is read through a mapping. */
static uint64_t touched_bytes(const aa_job *job, double tokens) {
    double file = (double)job->tokens.map.size_bytes;
    double around = 65536;                /* the kernel maps pages by 64 KiB */
    if (file == 0 || !isfinite(tokens)) return (uint64_t)file;
    double windows = tokens / (double)job->T;
    return (uint64_t)(file * (1 - exp(-windows * around / file)));
}

static aa_status measure(aa_plan *p, const aa_job *job, aa_cpu *cpu, unsigned parts,
                         uint64_t *run, uint64_t *step, aa_err *err) {
    aa_train_memory m;
    aa_optim_options optim = aa_train_optim_options(job->o);
    aa_train_shape s = aa_train_shape_of(p, job);
    s.parts = parts;
    AA_TRY(aa_train_memory_init(&m, &job->config, is_zo(job) ? NULL : &optim, &s, cpu, true, err));
    *run = m.run.used_bytes;
    *step = m.step.used_bytes;
    p->optim_bytes = m.optim.size_bytes;
    p->flop_per_update = (double)(p->B * p->T) * p->flop_per_token + m.optim.flop;
    return AA_OK;
}

/* Bytes of the session that writes samples and measures the mean logits of a compact vocabulary: KV
 * cache and one chunk of activations. */
static aa_status measure_session(const aa_job *job, aa_cpu *cpu, uint64_t *out, aa_err *err) {
    aa_arena model_arena, arena;
    aa_model m;
    aa_kv kv;
    aa_activations *a;
    *out = 0;
    if (job->o->sample_every.value <= 0 && !job->o->compact_vocab &&
        job->n_active == job->full_vocab && job->o->objective != AA_OBJECTIVE_COMMAND)
        return AA_OK;
    aa_arena_init_measure(&model_arena, "model");
    aa_arena_init_measure(&arena, "session");
    AA_TRY(aa_model_init(&m, &job->config, AA_MODEL_PARAMS, job->T, cpu, &model_arena, err));
    AA_TRY(aa_kv_init(&kv, &m, job->T, false, &arena, err));
    AA_TRY(aa_activations_new(&a, &m, AA_PASS_EVAL, 1, job->T, 0, &arena, err));
    *out = arena.used_bytes;
    return AA_OK;
}

static unsigned parts_of(const aa_job *job) {
    const bool forward = is_zo(job) && job->o->zo.hybrid == AA_ZO_ALONE;
    const bool blocks = !is_zo(job) && job->o->optimizer == AA_OPTIM_BADAM;
    return (forward ? AA_MODEL_PARAMS : AA_MODEL_GRADS) |
           (blocks ? (unsigned)AA_MODEL_BLOCK_GRADS : 0) |
           (job->source ? (unsigned)AA_MODEL_STORED : 0);
}

/* Of a token that an update sees, in all the passes that it goes through. */
static double zo_flop(const aa_plan *p, const aa_job *job, double forward) {
    const double back = p->flop_per_token, lora = job->lora
        ? 2.0 * (double)aa_lora_params(job->lora, &job->config) : 0;
    const bool hybrid = job->o->zo.hybrid != AA_ZO_ALONE;
    return (double)p->forwards / (double)p->B * (forward + lora) + (hybrid ? back : 0);
}

/* Forward, and backward to what flows back and, of what trains, to the weights. */
static void count_flop(aa_plan *p, const aa_job *job) {
    double forward = aa_config_flop_forward(&job->config, job->T);
    double head = 2.0 * (double)job->config.dim * (double)job->config.vocab;
    double before = p->flop_per_token;
    p->flop_per_token = 3 * forward;
    if (p->parts & AA_MODEL_BLOCK_GRADS)   /* back to the block: half of the way on average */
        p->flop_per_token = (1.5 + 1.0 / (double)(job->config.layers + 1)) * forward;
    if (job->lora)
        p->flop_per_token = 2 * forward + 6.0 * (double)aa_lora_params(job->lora, &job->config);
    if (p->pass == AA_PASS_CHECKPOINT) p->flop_per_token += forward - head;
    if (is_zo(job)) p->flop_per_token = zo_flop(p, job, forward);
    p->flop_per_update += (double)(p->B * p->T) * (p->flop_per_token - before);
}

/* Engine and objective, in the place of an optimizer. */
static aa_status measure_zo(aa_plan *p, const aa_job *job, aa_err *err) {
    const aa_lm_data data = {.T = p->T, .n = job->B};
    return aa_lm_objective_measure(&p->optim_bytes, &job->o->zo, &job->config, job->lora,
                                   job->source != NULL, &data, p->micro_B, err);
}

static aa_status measure_all(aa_plan *p, const aa_job *job, aa_cpu *cpu, aa_err *err) {
    uint64_t params, with_grads, with_packed, step, session;
    const unsigned stored = p->parts & AA_MODEL_STORED;
    AA_TRY(measure(p, job, cpu, AA_MODEL_PARAMS | stored, &params, &step, err));
    AA_TRY(measure(p, job, cpu, parts_of(job), &with_grads, &step, err));
    AA_TRY(measure(p, job, cpu, p->parts, &with_packed, &step, err));
    AA_TRY(measure_session(job, cpu, &session, err));
    p->params_bytes = params;
    p->grads_bytes = with_grads - params - p->optim_bytes;
    p->packed_bytes = with_packed - with_grads;
    p->activation_bytes = step;
    p->scratch_bytes = aa_cpu_scratch_bytes(aa_cpu_threads(cpu));
    if (job->blas) p->scratch_bytes += (uint64_t)aa_cpu_threads(cpu) * AA_BLAS_THREAD_BYTES;
    p->other_bytes = BASE_BYTES + (uint64_t)job->config.vocab * ID_BYTES + session;
    if (is_zo(job)) AA_TRY(measure_zo(p, job, err));
    p->base_bytes = stored ? job->base.size_bytes : 0;
    p->peak_bytes = with_packed + step + p->scratch_bytes + p->data_bytes + p->base_bytes +
                    p->other_bytes;
    if (is_zo(job)) p->peak_bytes += p->optim_bytes;
    return AA_OK;
}

/* Advice for a job that does not fit: the largest line is what to shrink, but no pass is small
 * enough for a model that does not fit by itself. */
static aa_status refuse(const aa_plan *p, aa_err *err) {
    uint64_t states = p->params_bytes + p->grads_bytes + p->optim_bytes + p->packed_bytes;
    double least = fmin((double)p->activation_bytes,
                        AA_MEMORY_SHARE * (double)p->available_bytes);
    const char *advice = (double)states > least
                             ? "make the model smaller (--dim, --layers, --vocab, another "
                               "--preset) or use --optimizer badam"
                             : "make the pass smaller (--seq, --vocab)";
    return aa_fail(err, AA_ETOOBIG,
                   "this job needs %.2f GiB and %.2f GiB are available: %.1f M parameters take "
                   "%.2f GiB with gradients "
                   "and optimizer state, one pass of %zu tokens takes %.2f GiB; %s",
                   (double)p->peak_bytes / 0x1p30, (double)p->available_bytes / 0x1p30,
                   (double)p->params * 1e-6, (double)states / 0x1p30, p->micro_B * p->T,
                   (double)p->activation_bytes / 0x1p30, advice);
}

/* Who asks for little memory gets no second copy of the weights. */
static bool may_pack(const aa_job *job) {
    const int kind = job->o->optimizer;
    return !job->blas && !job->lora && !is_zo(job) && kind != AA_OPTIM_APOLLO_MINI &&
           kind != AA_OPTIM_BADAM;
}

/* The largest micro-batch that fits, halving from the whole batch, in equal passes so that none is
 * a small rest. Packed copies are given up before the pass is made smaller: at this width they cost
 * more memory than time, and a BLAS library has no use for them. */
static aa_status choose_micro_batch(aa_plan *p, const aa_job *job, aa_cpu *cpu, bool *fits,
                                    aa_err *err) {
    const size_t all = is_zo(job) ? p->forwards : p->B;
    size_t most = job->o->micro_batch ? (size_t)job->o->micro_batch / p->T
                  : is_zo(job)        ? aa_zo_pass_sequences(p->T) : p->B;
    if (most > all) most = all;
    if (most < 1) most = 1;
    for (size_t pass = most; pass; pass /= 2) {
        p->n_micro = (all + pass - 1) / pass;
        p->micro_B = (all + p->n_micro - 1) / p->n_micro;
        for (int packed = may_pack(job); packed >= 0; packed--) {
            p->parts = parts_of(job) | (packed ? AA_MODEL_PACKED : 0);
            AA_TRY(measure_all(p, job, cpu, err));
            *fits = (double)p->peak_bytes <= AA_MEMORY_SHARE * (double)p->available_bytes;
            if (*fits) return AA_OK;
        }
    }
    return AA_OK;
}

/* Blocks are run forward twice only where even the smallest pass that keeps them does not fit: it
 * costs a third of a step, small passes next to nothing. */
static aa_status choose_passes(aa_plan *p, const aa_job *job, aa_cpu *cpu, aa_err *err) {
    const int asked = job->o->checkpointing;
    bool fits = false;
    p->pass = asked == AA_CHECKPOINTING_YES ? AA_PASS_CHECKPOINT : AA_PASS_TRAIN;
    if (is_zo(job) && job->o->zo.hybrid == AA_ZO_ALONE) p->pass = AA_PASS_EVAL;
    AA_TRY(choose_micro_batch(p, job, cpu, &fits, err));
    if (!fits && asked == AA_CHECKPOINTING_AUTO && p->pass == AA_PASS_TRAIN) {
        p->pass = AA_PASS_CHECKPOINT;
        AA_TRY(choose_micro_batch(p, job, cpu, &fits, err));
    }
    return fits ? AA_OK : refuse(p, err);
}

static double element_work(const aa_config *c) {
    double block = 8.0 * (double)c->dim +
                   3.0 * (double)((c->heads + 2 * c->kv_heads) * c->head_dim) +
                   6.0 * (double)c->ffn;
    return (double)c->layers * block + 3.0 * (double)c->vocab;
}

/* Seconds of an update's products; step: elements in the place of a float. */
static double product_s(const aa_plan *p, const aa_config *c, double step) {
    double tokens = (double)(p->forwards * p->T), peak = p->peak_gflops * 1e9;
    double attention = aa_config_flop_forward(c, p->T) - aa_config_flop_forward(c, 0);
    double linear = LINEAR_EFFICIENCY * (double)c->dim / ((double)c->dim + LINEAR_WIDTH * step);
    double heads = ATTENTION_EFFICIENCY * (double)c->head_dim /
                   ((double)c->head_dim + ATTENTION_WIDTH);
    attention *= p->pass == AA_PASS_EVAL ? tokens : 3 * tokens;
    return (p->flop_per_update - attention) / (peak * linear) + attention / (peak / step * heads);
}

/* A base of small integers becomes floats block by block, in each product anew. */
static double stored_s(const aa_plan *p, const aa_job *job) {
    const double products = p->pass == AA_PASS_EVAL ? 1 : p->pass == AA_PASS_TRAIN ? 2 : 3;
    if (!job->source || !job->base.quantised) return 0;
    return products * (double)job->base.n_values * STORED_NS * 1e-9 *
           ceil((double)(p->forwards * p->T) / STORED_ROWS);
}

/* Everything else, by one thread. */
static double elements_s(const aa_plan *p, const aa_job *job) {
    const double element = element_work(&job->config) * ELEMENT_NS * 1e-9;
    if (!is_zo(job))
        return element * (double)(p->B * p->T) + (double)p->trained * UPDATE_NS * 1e-9 +
               stored_s(p, job);
    return stored_s(p, job) + element / 3 * (double)(p->forwards * p->T) +
           (double)p->trained * DIRECTION_NS * 1e-9 * (double)aa_zo_probes(&job->o->zo);
}

/* Before the first update; bases that come again are part of updates, where they are a tenth. */
static double bases_s(const aa_plan *p, const aa_job *job, double update_s) {
    if (!is_zo(job) || job->o->zo.basis != AA_ZO_ACTIVATION) return 0;
    return update_s * (double)aa_lm_basis_forwards(&job->o->zo, job->B) / (double)p->forwards;
}

static void predict_time(aa_plan *p, const aa_job *job) {
    const aa_train_options *o = job->o;
    double threads = (double)p->threads;
    double update_tokens = (double)(p->B * p->T), rows = update_tokens * job->fill;
    double step = job->o->compute == AA_COMPUTE_F32 ? 1 : 2;
    double update_s = product_s(p, &job->config, step) + elements_s(p, job) / threads;
    p->predicted_tokens_per_s = update_tokens / update_s;
    switch (o->budget.unit) {
    case AA_UNIT_STEPS: p->predicted_tokens = o->budget.value * rows; break;
    case AA_UNIT_TOKENS: p->predicted_tokens = o->budget.value; break;
    case AA_UNIT_FLOP:
        p->predicted_tokens = o->budget.value / p->flop_per_update * update_tokens;
        break;
    case AA_UNIT_EPOCHS: p->predicted_tokens = o->budget.value * job->n_epoch_tokens; break;
    default: p->predicted_tokens = o->budget.value * p->predicted_tokens_per_s; break;
    }
    p->predicted_updates = p->predicted_tokens / rows;
    p->predicted_wall_s = p->predicted_tokens / p->predicted_tokens_per_s +
                          bases_s(p, job, update_s);
}

/* What the same data would take by backpropagation of an adapter. */
static aa_status plan_rival(aa_plan *p, const aa_job *job, aa_cpu *cpu, double probe_s,
                            aa_err *err) {
    aa_train_options o = *job->o;
    aa_opts view = {job->opts->rows, &o, job->opts->from};
    aa_job rival;
    aa_plan plan;
    aa_err here = {0};
    o.method = AA_METHOD_BACKPROP;
    o.objective = AA_OBJECTIVE_LOSS;
    o.adapter = AA_ADAPTER_LORA;
    o.data = NULL;                        /* its shape is known */
    AA_TRY(aa_job_open(&rival, &view, cpu, true, NULL, err));
    aa_status st = aa_plan_make(&plan, &rival, cpu, probe_s, &here);
    aa_job_close(&rival);
    if (st && st != AA_ETOOBIG) {
        if (err) *err = here;
        return st;
    }
    p->pass_s = p->predicted_wall_s > 0
                    ? (double)(p->B * p->T) / p->predicted_tokens_per_s / (double)p->forwards : 0;
    if (st) return AA_OK;
    p->rival_bytes = plan.peak_bytes;
    p->rival_s = (double)plan.T / plan.predicted_tokens_per_s;
    return AA_OK;
}

aa_status aa_plan_make(aa_plan *out, const aa_job *job, aa_cpu *cpu, double probe_s, aa_err *err) {
    aa_plan p = {.params = aa_config_params(&job->config),
                 .B = job->B,
                 .T = job->T,
                 .n_eval_windows = eval_windows(job)};
    p.forwards = p.B;
    if (is_zo(job)) {
        const aa_zo_config *z = &job->o->zo;
        p.forwards = job->B * aa_zo_probes(z);
        p.B = job->B * (size_t)(z->groups * (z->data == AA_ZO_OWN ? z->streams : 1));
    }
    p.head_rows = is_zo(job) ? 0 : HEAD_CHUNK_TOKENS;       /* 0: as few as inference has */
    p.micro_B = 1;
    p.parts = parts_of(job);
    p.trained = is_zo(job) && !job->lora ? p.params : aa_model_trained(&job->config, job->lora);
    uint64_t run, step;
    count_flop(&p, job);
    AA_TRY(measure(&p, job, cpu, p.parts, &run, &step, err)); /* the optimizer's work */
    p.isa = aa_isa_name(aa_cpu_isa(cpu));
    p.device = job->blas ? "blas" : "cpu";
    p.blas = job->blas ? aa_blas_name(job->blas) : NULL;
    p.compute = aa_compute_name(aa_cpu_compute(cpu));
    p.threads = aa_cpu_threads(cpu);
    p.available_bytes = aa_sys_memory_available();
    if (probe_s > 0) {
        p.peak_gflops = aa_cpu_peak_gflops(cpu, probe_s);
        predict_time(&p, job);             /* the time that a mapped text is read for */
    }
    p.data_bytes = touched_bytes(job, probe_s > 0 ? p.predicted_tokens : 0);
    AA_TRY(choose_passes(&p, job, cpu, err));
    count_flop(&p, job);
    if (probe_s > 0) predict_time(&p, job);
    if (probe_s > 0 && is_zo(job)) AA_TRY(plan_rival(&p, job, cpu, probe_s, err));
    *out = p;
    return AA_OK;
}

double aa_plan_share_of_peak(const aa_plan *p, double tokens_per_s, double peak_gflops) {
    double updates_per_s = tokens_per_s / (double)(p->B * p->T);
    return peak_gflops > 0 ? updates_per_s * p->flop_per_update / (peak_gflops * 1e9) : NAN;
}

/* ---- printing -------------------------------------------------------------------------------- */

static void memory_line(aa_text *out, const char *what, uint64_t bytes) {
    aa_text_printf(out, "    %-34s %10.1f MiB\n", what, (double)bytes / 0x1p20);
}

/* Training takes the values that quantised weights stand for; those they were before are gone. */
static void base_line(const aa_job *job, aa_text *out) {
    const aa_source_weights *w = &job->base;
    if (!job->o->base) return;
    aa_text_printf(out, "base      %s: %.1f MiB (", job->o->base, (double)w->size_bytes / 0x1p20);
    aa_source_types(w, out);
    aa_text_add(out, ")");
    if (job->source) aa_text_add(out, " stays in its file");
    else if (w->size_bytes != w->n_values * sizeof(float))
        aa_text_printf(out, " become %.1f MiB of floats, the same values",
                       (double)(w->n_values * sizeof(float)) / 0x1p20);
    aa_text_add(out, w->quantised ? "; what rounding took from them stays lost\n" : "\n");
}

static void rival_line(const aa_plan *p, aa_text *out) {
    const double longer = PASSES_OF_A_GRADIENT * p->pass_s / p->rival_s;
    if (p->pass_s <= 0) return;
    aa_text_printf(out, "instead   backpropagation of LoRA ");
    if (!p->rival_bytes) {
        aa_text_add(out, "does not fit into memory: zeroth order does\n");
        return;
    }
    aa_text_printf(out,
                   "takes %.1f MiB, and %.3g s for a sequence; a forward pass takes %.3g s, and at "
                   "least %.0f of them bring as much: %.2g times as long.%s\n",
                   (double)p->rival_bytes / 0x1p20, p->rival_s, p->pass_s, PASSES_OF_A_GRADIENT,
                   longer, longer > 1 ? " Recommended: --method backprop --adapter lora" : "");
}

void aa_plan_text(const aa_plan *p, const aa_job *job, aa_text *out) {
    const aa_config *c = &job->config;
    if (*job->why) aa_text_printf(out, "%s\n", job->why);
    aa_text_printf(out,
                   "model     %s, %.2f M parameters: width %lld, %lld blocks, %lld heads (%lld kv) "
                   "of %lld, ffn %lld, vocabulary %lld%s",
                   aa_arch_name(c->arch), (double)p->params * 1e-6, (long long)c->dim,
                   (long long)c->layers, (long long)c->heads, (long long)c->kv_heads,
                   (long long)c->head_dim, (long long)c->ffn, (long long)c->vocab,
                   c->tied ? ", tied" : "");
    if (c->head_rank)
        aa_text_printf(out, ", %lld whole rows, the others of rank %lld", (long long)c->head_full,
                       (long long)c->head_rank);
    aa_text_add(out, "\n");
    base_line(job, out);
    aa_text_printf(out, "update    %zu tokens = %zu windows of %zu, in %zu pass%s of up to %zu\n",
                   p->B * p->T, p->B, p->T, p->n_micro, p->n_micro == 1 ? "" : "es",
                   p->micro_B * p->T);
    if (job->examples)
        aa_text_printf(out, "examples  %llu to train on, %.0f %% of a window filled; %llu to "
                       "validate on, %zu of them each time\n",
                       (unsigned long long)job->train_set.n, 100 * job->fill,
                       (unsigned long long)job->valid_set.n, p->n_eval_windows);
    if (p->pass == AA_PASS_CHECKPOINT)
        aa_text_add(out, "          blocks run forward twice: only what enters them is kept\n");
    if (job->lora)
        aa_text_printf(out, "adapter   %.2f M parameters train, %.2f %% as many as the model has\n",
                       (double)p->trained * 1e-6, 100 * (double)p->trained / (double)p->params);
    if (p->blas) aa_text_printf(out, "device    blas: %s\n", p->blas);
    aa_text_add(out, "memory\n");
    if (p->base_bytes) memory_line(out, "file: weights, mapped", p->base_bytes);
    memory_line(out, "run: parameters", p->params_bytes);
    memory_line(out, "run: gradients and token buffers", p->grads_bytes);
    memory_line(out, "run: optimizer state", p->optim_bytes);
    memory_line(out, "run: packed weights", p->packed_bytes);
    memory_line(out, "step: activations", p->activation_bytes);
    memory_line(out, "scratch: threads", p->scratch_bytes);
    memory_line(out, "data: mapped tokens", p->data_bytes);
    memory_line(out, "process: program, samples", p->other_bytes);
    memory_line(out, "peak", p->peak_bytes);
    memory_line(out, "available", p->available_bytes);
    double optim = p->flop_per_update - (double)(p->B * p->T) * p->flop_per_token;
    aa_text_printf(out, "work      %.2f MFLOP per token, ", p->flop_per_token * 1e-6);
    if (is_zo(job)) aa_text_printf(out, "%zu times forward", p->forwards / p->B);
    else aa_text_add(out, "forward and backward");
    if (optim > 0)
        aa_text_printf(out, "; %.1f MFLOP per update by the optimizer, %.1f %%", optim * 1e-6,
                       100 * optim / p->flop_per_update);
    aa_text_add(out, "\n");
    if (p->peak_gflops > 0)
        aa_text_printf(out,
                       "time      %.0f tokens/s predicted (%s %s, %d thread%s, peak %.0f GFLOP/s)",
                       p->predicted_tokens_per_s, p->isa, p->compute, p->threads,
                       p->threads == 1 ? "" : "s",
                       p->peak_gflops);
    if (p->peak_gflops > 0 && isfinite(p->predicted_tokens))
        aa_text_printf(out, ": %.3g tokens, %.3g updates, %.0f s", p->predicted_tokens,
                       p->predicted_updates, p->predicted_wall_s);
    if (p->peak_gflops > 0) aa_text_add(out, "\n");
    rival_line(p, out);
}

static void json_text(aa_text *out, const char *key, const char *value) {
    if (!value || !*value) return;
    aa_text_json_key(out, key);
    aa_text_json_string(out, value, strlen(value));
}

void aa_plan_json(const aa_plan *p, const aa_job *job, aa_text *out) {
    const struct { const char *key; double value; } rows[] = {
        {"params", (double)p->params},
        {"params_bytes", (double)p->params_bytes},
        {"grads_bytes", (double)p->grads_bytes},
        {"optim_bytes", (double)p->optim_bytes},
        {"packed_bytes", (double)p->packed_bytes},
        {"activation_bytes", (double)p->activation_bytes},
        {"scratch_bytes", (double)p->scratch_bytes},
        {"data_bytes", (double)p->data_bytes},
        {"other_bytes", (double)p->other_bytes},
        {"base_mapped_bytes", (double)p->base_bytes},
        {"trained_params", (double)p->trained},
        {"checkpointing", p->pass == AA_PASS_CHECKPOINT},
        {"peak_bytes", (double)p->peak_bytes},
        {"sequence_forwards", (double)p->forwards},
        {"sequence_forward_s", p->pass_s},
        {"backprop_peak_bytes", (double)p->rival_bytes},
        {"backprop_sequence_s", p->rival_s},
        {"available_bytes", (double)p->available_bytes},
        {"tokens_per_update", (double)(p->B * p->T)},
        {"micro_batch", (double)(p->micro_B * p->T)},
        {"flop_per_token", p->flop_per_token},
        {"flop_per_update", p->flop_per_update},
        {"peak_gflops", p->peak_gflops},
        {"predicted_tokens_per_s", p->predicted_tokens_per_s},
        {"predicted_tokens", p->predicted_tokens},
        {"predicted_updates", p->predicted_updates},
        {"predicted_wall_s", p->predicted_wall_s},
        {"threads", (double)p->threads},
        {"base_bytes", (double)job->base.size_bytes},
        {"base_floats_bytes", (double)(job->base.n_values * sizeof(float))},
    };
    aa_text_add(out, "{");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        aa_text_json_key(out, rows[i].key);
        aa_text_json_real(out, rows[i].value);
    }
    json_text(out, "preset", job->preset ? job->preset->name : NULL);
    json_text(out, "why", job->why);
    json_text(out, "isa", p->isa);
    json_text(out, "compute", p->compute);
    json_text(out, "device", p->device);
    json_text(out, "blas", p->blas);
    aa_text_add(out, "}\n");
}
