/* train: the main job, from a source of text to a trained, checked model in a run directory.
 *
 * options -> job -> plan -> run. The job is what the options mean once the data are known
 * (tokenizer, token file, model config); the plan fixes every size and predicts memory and time;
 * the run allocates once and then only loops. Nothing is decided inside the step loop and no heap
 * call is made there.
 *
 * A run directory holds
 *     config.ini          every option, complete: `autoane train config.ini` repeats the run
 *     journal.jsonl       one event per line (schema: report/report.h)
 *     step-N/             checkpoints: Hugging Face directories that resume (checkpoint.h)
 *     last, best          links to two of them
 *     ledger              of zeroth order: all steps (zo/ledger.h), from which it resumes
 *     report.html         written when the run ends
 */
#ifndef AA_TRAIN_TRAIN_H
#define AA_TRAIN_TRAIN_H

#include "base/option.h"
#include "data/examples.h"
#include "infer/infer.h"
#include "model/lora.h"
#include "optim/optim.h"
#include "zo/zo.h"

/* --device: who computes linear maps. */
typedef enum { AA_DEVICE_CPU, AA_DEVICE_BLAS } aa_device;
/* --method, --objective, --adapter, --checkpointing */
typedef enum {
    AA_OBJECTIVE_LOSS, AA_OBJECTIVE_ACCURACY, AA_OBJECTIVE_EXACT, AA_OBJECTIVE_COMMAND
} aa_objective_kind;
typedef enum { AA_METHOD_BACKPROP, AA_METHOD_ZO } aa_method;
typedef enum { AA_ADAPTER_NONE, AA_ADAPTER_LORA, AA_ADAPTER_DORA } aa_adapter_kind;
typedef enum { AA_CHECKPOINTING_AUTO, AA_CHECKPOINTING_YES, AA_CHECKPOINTING_NO } aa_checkpointing;

typedef struct aa_train_options {          /* rows: aa_train_rows in options.c, one per field */
    char *preset, *data, *tokenizer, *template, *out;
    int train_on; bool packing;            /* of data with examples */
    aa_config model; /* fields still at their default come from preset or base */
    bool compact_vocab;
    int64_t batch_tokens, micro_batch;
    double lr, min_lr, warmup, cooldown; int schedule;
    double weight_decay, beta1, beta2, eps, clip, embed_lr, muon_lr, muon_momentum;
    int64_t muon_steps;
    int64_t block_updates;
    int optimizer, compute, method, adapter, device, init, checkpointing;
    int64_t rank; double alpha, lora_plus, lora_dropout; bool rslora, freeze_a, train_norms;
    char *targets, *rank_pattern, *train_tables;
    char *base, *blas;
    aa_zo_config zo;                       /* of --method zo, and the next two lines */
    int objective; char *objective_command;
    int64_t objective_tokens; double objective_timeout, objective_rate;
    int64_t seed, threads, keep, eval_tokens;
    aa_amount budget, eval_every, checkpoint_every, log_every, sample_every;
    char *sample_prompt;
} aa_train_options;

extern const aa_opt aa_train_rows[];
/* Intervals and learning rates that were left open follow from budget and model; afterwards the
 * options are complete (what config.ini records). */
void aa_train_options_settle(aa_opts *opts, const aa_config *config);

/* ---- job: options with the data known -------------------------------------------------------- */

typedef struct aa_job {
    aa_opts *opts; aa_train_options *o;    /* borrowed */
    aa_config config;                      /* resolved, vocab known */
    aa_tokenizer *tokenizer;
    char *chat_template;                   /* of --template or the base; or NULL */
    aa_tokens tokens; aa_digest tokens_digest;
    aa_stream train, valid;
    bool examples;                         /* the data are, and are read as, the next two */
    aa_examples train_set, valid_set;
    /* Where the model's ids are not the tokenizer's (a compact vocabulary, or one in order of
     * frequency, or both): row i of the model is id active_ids[i] of full_vocab, and compact_map is
     * the way back, -1 for ids without a row. Else NULL and 0. */
    int32_t *compact_map, *active_ids; size_t n_active, full_vocab;
    struct aa_blas *blas;                  /* --device blas; NULL: the CPU's own kernels */
    double floor_nats_per_byte;            /* of the generated validation text; NAN: unknown */
    aa_source_weights base; int64_t base_vocab;    /* of --base: what it is made of, and its ids */
    aa_source *source;                     /* of --base, if its weights stay in its files */
    aa_lora *lora, lora_storage; aa_lora_site *sites;      /* lora NULL: the whole model trains */
    size_t B, T;                           /* sequences per update, window */
    double n_epoch_tokens;                 /* rows of all training windows, or examples */
    double fill;                           /* share of windows that examples fill; else 1 */
    const aa_preset *preset;               /* NULL with a base */
    char why[256];                         /* what --preset auto chose, and why; or empty */
} aa_job;

typedef struct aa_job_hooks {
    void *ctx;
    void (*message)(void *ctx, const char *line);
} aa_job_hooks;

/* Fails where --data names nothing, or a model, which could be read as text. */
aa_status aa_data_check(const char *path, aa_err *err) AA_MUST_USE;
/* Finds or makes tokenizer and token file (cached by digest), resolves the config. dry: only what a
 * plan needs (config; no data are read when the vocabulary is known otherwise). */
aa_status aa_job_open(aa_job *out, aa_opts *opts, aa_cpu *cpu, bool dry, const aa_job_hooks *hooks,
                      aa_err *err) AA_MUST_USE;
void aa_job_close(aa_job *job);
void aa_job_backend(const aa_job *job, aa_cpu *cpu, aa_backend *out);      /* of --device */

/* ---- plan ------------------------------------------------------------------------------------ */

typedef struct aa_plan {
    uint64_t params;
    size_t B, micro_B, T, n_micro, head_rows, n_eval_windows;
    size_t forwards;                       /* of a sequence, in an update; B but for zeroth order */
    unsigned parts;                        /* aa_model_parts: whether packed copies are kept */
    aa_pass pass;                          /* TRAIN or CHECKPOINT */
    uint64_t trained;                      /* of params: those that train */
    /* bytes by lifetime and kind */
    uint64_t params_bytes, grads_bytes, optim_bytes, packed_bytes, activation_bytes, scratch_bytes,
        data_bytes, base_bytes, other_bytes, peak_bytes, available_bytes;
    double flop_per_token;                 /* training: forward + backward */
    double flop_per_update;                /* B*T of these, and the optimizer's matrix products */
    double peak_gflops, predicted_tokens_per_s, predicted_wall_s, predicted_tokens,
        predicted_updates;
    /* Of zeroth order: seconds of a forward pass of a sequence; and what a sequence takes if an
     * adapter follows gradients: seconds, and memory in all (0: it does not fit). */
    double pass_s, rival_s; uint64_t rival_bytes;
    const char *isa, *compute, *device; int threads;
    const char *blas;                      /* the library of device blas; NULL: none */
} aa_plan;

/* Chooses the micro-batch (the largest that keeps the whole under the memory that is available) and
 * refuses with AA_ETOOBIG and advice when nothing fits. probe_s: seconds for the FMA peak probe (0:
 * skip). */
aa_status aa_plan_make(aa_plan *out, const aa_job *job, aa_cpu *cpu, double probe_s,
                       aa_err *err) AA_MUST_USE;
/* Matrix work at that speed, against a peak in GFLOP/s; NAN where the peak is not known (0). */
double aa_plan_share_of_peak(const aa_plan *p, double tokens_per_s, double peak_gflops);
void aa_plan_text(const aa_plan *p, const aa_job *job, aa_text *out);
void aa_plan_json(const aa_plan *p, const aa_job *job, aa_text *out);

/* ---- evaluation ------------------------------------------------------------------------------ */

typedef struct aa_eval_result {
    double loss, loss_stderr, bits_per_byte, perplexity;   /* nats per token; stderr over windows */
    uint64_t tokens, bytes; size_t n_windows; double wall_s;
} aa_eval_result;

/* Mean loss over n_windows fixed windows of a stream, or over n_windows examples spread evenly over
 * a set of them. window_loss (may be NULL) gets the mean of each, for paired comparisons. Windows
 * go through `a` (pass EVAL or TRAIN) max_B at a time, examples as many as fit there. */
typedef struct aa_evaluator {
    aa_model *model; aa_backend *backend; aa_activations *activations;
    const aa_stream *stream; const aa_examples *examples;      /* examples NULL: the stream */
    const aa_tokenizer *tokenizer; const int32_t *active_ids;
    size_t max_B, T, n_windows; int32_t *ids, *targets; aa_real *loss;   /* [max_B*T] each */
    int32_t *start;                        /* [max_B*T + 1], for examples */
} aa_evaluator;
/* Windows of `tokens` rows (0: all there are), or examples. */
size_t aa_eval_windows(const aa_stream *s, const aa_examples *e, size_t T, uint64_t tokens);
aa_status aa_evaluate(const aa_evaluator *e, double *window_loss, aa_eval_result *out,
                      aa_err *err) AA_MUST_USE;

/* ---- run ------------------------------------------------------------------------------------- */

typedef struct aa_train_progress {
    uint64_t step, tokens; double epoch, fraction, loss, loss_smooth, lr, grad_norm, bits_per_byte;
    double wall_s, tokens_per_s, share_of_peak, left_s;
    uint64_t sequence_forwards; double spread;     /* of zeroth order, else 0: so far; what scalars
                                                      are divided by. lr is then its rate */
} aa_train_progress;

typedef struct aa_train_hooks {            /* all optional; called on the training thread */
    void *ctx;
    void (*message)(void *ctx, const char *line);
    void (*progress)(void *ctx, const aa_train_progress *p);            /* every update */
    void (*evaluated)(void *ctx, const aa_train_progress *p, const aa_eval_result *r, bool best);
    void (*sampled)(void *ctx, uint64_t step, const aa_text *text);
    bool (*stop)(void *ctx);               /* true: write a checkpoint and return AA_EINTERRUPTED */
} aa_train_hooks;

typedef struct aa_train_result {
    uint64_t step, tokens, sequence_forwards;
    double epoch, flop, wall_s, train_s, eval_s, checkpoint_s, tokens_per_s, share_of_peak;
    double session_train_s;                /* of train_s, since this start or resume */
    aa_eval_result final, best; uint64_t best_step; double floor_loss;
} aa_train_result;

/* Starts a run (o->out must not hold one) or, with resume, continues the one in o->out from its
 * last checkpoint. */
aa_status aa_train(aa_job *job, const aa_plan *plan, aa_cpu *cpu, bool resume,
                   const aa_train_hooks *hooks, aa_train_result *out, aa_err *err) AA_MUST_USE;
/* Reads the options a run was started with (config.ini), as from a config file. Only options that
 * do not change what is learned may differ on the command line. */
aa_status aa_train_resume_options(aa_opts *opts, const char *run_dir, aa_text *problems,
                                  aa_err *err) AA_MUST_USE;

#endif
