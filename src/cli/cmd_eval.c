/* autoane eval: how well a model predicts a text; two models on the same windows, paired; how often
 * it picks the right one of several answers. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/memory.h"
#include "cli/cli.h"
#include "infer/infer.h"
#include "train/choices.h"
#include "train/score.h"

typedef struct eval_values {
    char *data, *against, *choices, *delimiter, *adapter;
    int64_t tokens, seq, threads;
    int part, compute;
} eval_values;

#define AT(field) offsetof(eval_values, field)
static const aa_opt eval_rows[] = {
    {"data", "data", AA_OPT_STRING, AT(data), NULL, 0, 0, 0, "FILE|DIR|stories",
     "text, JSONL, directory or token file"},
    {"part", "data", AA_OPT_CHOICE, AT(part), "all", 0, 0, 0, "train|valid|test|all",
     "which documents; the split a run uses"},
    {"tokens", "data", AA_OPT_INT, AT(tokens), "0", 0, 1e15, 0, "N",
     "evaluate about N tokens, spread evenly; 0: everything"},
    {"seq", "data", AA_OPT_INT, AT(seq), "0", 0, 1048576, 0, "N",
     "window, or context of choices; 0: the model's"},
    {"against", "compare", AA_OPT_STRING, AT(against), NULL, 0, 0, 0, "MODEL",
     "second model with the same tokenizer: paired difference"},
    {"choices", "choices", AA_OPT_STRING, AT(choices), NULL, 0, 0, 0, "FILE",
     "multiple choice instead of a text: JSON Lines of query, choices, gold"},
    {"delimiter", "choices", AA_OPT_STRING, AT(delimiter), " ", 0, 0, 0, "TEXT",
     "between query and choice"},
    {"adapter", "run", AA_OPT_STRING, AT(adapter), NULL, 0, 0, 0, "DIR|FILE",
     "run this adapter beside the weights of MODEL (not of the second model)"},
    CLI_COMPUTE_ROW(AT(compute)),
    CLI_THREADS_ROW(AT(threads)),
    {0}};

/* ---- comparison ------------------------------------------------------------------------------ */

typedef struct paired { double difference, stderr_, low, high; } paired;

/* Mean of b - a over windows, with a normal 95 % interval: there are many windows. */
static paired compare(const double *a, const double *b, size_t n) {
    double sum = 0, sq = 0;
    for (size_t i = 0; i < n; i++) sum += b[i] - a[i];
    double mean = sum / (double)n;
    for (size_t i = 0; i < n; i++) sq += (b[i] - a[i] - mean) * (b[i] - a[i] - mean);
    double se = n > 1 ? sqrt(sq / (double)(n - 1) / (double)n) : NAN;
    return (paired){mean, se, mean - 1.96 * se, mean + 1.96 * se};
}

static void fields(aa_text *out, const aa_eval_result *r) {
    cli_key_real(out, "loss", r->loss);
    cli_key_real(out, "loss_stderr", r->loss_stderr);
    cli_key_real(out, "bits_per_byte", r->bits_per_byte);
    cli_key_real(out, "perplexity", r->perplexity);
    cli_key_int(out, "tokens", (int64_t)r->tokens);
    cli_key_int(out, "bytes", (int64_t)r->bytes);
    cli_key_int(out, "windows", (int64_t)r->n_windows);
    cli_key_real(out, "wall_s", r->wall_s);
}

static void line(aa_text *out, const char *name, const aa_eval_result *r) {
    aa_text_printf(out,
                   "%s\n  loss          %.4f%s nats per token\n  perplexity    %.3f\n  bits "
                   "per byte %.4f\n  over          %llu tokens, "
                   "%llu bytes, %zu windows in %.1f s\n",
                   name, r->loss, cli_plus_minus(r->loss_stderr).text, r->perplexity,
                   r->bits_per_byte,
                   (unsigned long long)r->tokens, (unsigned long long)r->bytes, r->n_windows,
                   r->wall_s);
}

static void print_both(cli_call *call, const aa_eval_result *a, const aa_eval_result *b,
                       const paired *p) {
    const eval_values *v = call->opts.values;
    aa_text *out = &call->out;
    if (call->json) {
        aa_text_add(out, "{");
        fields(out, a);
        if (b) {
            aa_text_json_key(out, "against");
            aa_text_add(out, "{");
            fields(out, b);
            aa_text_add(out, "}");
            cli_key_real(out, "difference", p->difference);
            cli_key_real(out, "difference_stderr", p->stderr_);
            cli_key_real(out, "difference_low", p->low);
            cli_key_real(out, "difference_high", p->high);
        }
        aa_text_add(out, "}\n");
        return;
    }
    line(out, call->positional[0], a);
    if (!b) return;
    line(out, v->against, b);
    aa_text_printf(out,
                   "difference (second minus first), paired over windows\n  %+.4f%s nats per token",
                   p->difference, cli_plus_minus(p->stderr_).text);
    if (!isfinite(p->stderr_)) aa_text_add(out, "\n  one window cannot tell\n");
    else
        aa_text_printf(out, ", 95 %% interval %+.4f to %+.4f\n  %s\n", p->low, p->high,
                       p->low > 0    ? "the first is better"
                       : p->high < 0 ? "the second is better"
                                     : "no difference can be told");
}

static aa_status with_second(cli_call *call, const aa_score *score, const aa_session *first,
                             const aa_eval_result *a, double *losses, aa_err *err) {
    const eval_values *v = call->opts.values;
    aa_session s;
    aa_eval_result b;
    AA_TRY(aa_session_open(&s, v->against, first->cpu, 1, err));
    aa_status st = AA_OK;
    if (!aa_digest_equal(aa_tokenizer_digest(first->tokenizer), aa_tokenizer_digest(s.tokenizer)))
        st = aa_fail(err, AA_EUSAGE,
                     "the two models have different tokenizers, so their losses are not paired; "
                     "compare bits_per_byte "
                     "of two runs of eval");
    else if ((size_t)s.model->config.seq < score->T)
        st = aa_fail(err, AA_EUSAGE, "'%s' has %lld positions; give --seq of at most that",
                     v->against, (long long)s.model->config.seq);
    if (!st) st = aa_score_run(score, &s, losses + score->n_windows, &b, err);
    aa_session_close(&s);
    if (st) return st;
    paired p = compare(losses, losses + score->n_windows, score->n_windows);
    print_both(call, a, &b, &p);
    return AA_OK;
}

/* ---- choices --------------------------------------------------------------------------------- */

static void print_item(const aa_choice_item *item, aa_text *out) {
    aa_text_add(out, "{");
    cli_key_int(out, "line", (int64_t)item->line);
    cli_key_int(out, "gold", (int64_t)item->gold);
    cli_key_int(out, "pick", (int64_t)item->pick);
    cli_key_int(out, "pick_norm", (int64_t)item->pick_norm);
    aa_text_json_key(out, "choices");
    aa_text_add(out, "[");
    for (size_t i = 0; i < item->n; i++) {
        aa_text_add(out, i ? ",{" : "{");
        cli_key_real(out, "logprob", item->choice[i].logprob);
        cli_key_int(out, "tokens", (int64_t)item->choice[i].n_tokens);
        cli_key_int(out, "bytes", (int64_t)item->choice[i].n_bytes);
        aa_text_add(out, "}");
    }
    aa_text_add(out, "]}");
}

static void print_choices(cli_call *call, const aa_choices *c) {
    const eval_values *v = call->opts.values;
    aa_text *out = &call->out;
    if (!call->json) {
        aa_text_printf(out,
                       "%s\n  acc           %.4f%s   highest log-probability\n"
                       "  acc_norm      %.4f%s   highest per byte\n"
                       "  chance        %.4f\n"
                       "  over          %zu questions; %llu of their %llu tokens read in %.1f s\n",
                       v->choices, c->acc, cli_plus_minus(c->acc_stderr).text, c->acc_norm,
                       cli_plus_minus(c->acc_norm_stderr).text, c->chance, c->n,
                       (unsigned long long)c->n_read, (unsigned long long)c->n_scored, c->wall_s);
        return;
    }
    aa_text_add(out, "{");
    cli_key_real(out, "acc", c->acc);
    cli_key_real(out, "acc_stderr", c->acc_stderr);
    cli_key_real(out, "acc_norm", c->acc_norm);
    cli_key_real(out, "acc_norm_stderr", c->acc_norm_stderr);
    cli_key_real(out, "chance", c->chance);
    cli_key_int(out, "tokens", (int64_t)c->n_scored);
    cli_key_int(out, "tokens_read", (int64_t)c->n_read);
    cli_key_real(out, "wall_s", c->wall_s);
    aa_text_json_key(out, "items");
    aa_text_add(out, "[");
    for (size_t i = 0; i < c->n; i++) {
        if (i) aa_text_add(out, ",");
        print_item(&c->item[i], out);
    }
    aa_text_add(out, "]}\n");
}

static aa_status eval_choices(cli_call *call, aa_session *s, aa_err *err) {
    const eval_values *v = call->opts.values;
    aa_choices c;
    AA_TRY(aa_choices_run(&c, s, v->choices, v->delimiter, err));
    print_choices(call, &c);
    aa_choices_release(&c);
    return AA_OK;
}

/* ---- the command ----------------------------------------------------------------------------- */

static aa_status eval_text(cli_call *call, aa_session *s, aa_err *err) {
    const eval_values *v = call->opts.values;
    const aa_job_hooks hooks = {.message = cli_message};
    aa_score score;
    aa_eval_result a;
    const aa_score_options o = {v->part, (uint64_t)v->tokens, (size_t)v->seq};
    AA_TRY(aa_score_open(&score, s, v->data, &o, &hooks, err));
    double *losses = aa_heap_alloc(2 * score.n_windows, sizeof *losses);
    aa_status st = losses ? aa_score_run(&score, s, losses, &a, err)
                          : aa_fail_memory(err, "the windows' losses", 16 * score.n_windows);
    if (!st && v->against) st = with_second(call, &score, s, &a, losses, err);
    else if (!st) print_both(call, &a, NULL, NULL);
    aa_heap_free(losses);
    aa_score_close(&score);
    return st;
}

static aa_status run_eval(cli_call *call, aa_err *err) {
    const eval_values *v = call->opts.values;
    aa_cpu *cpu;
    aa_session s;
    if (v->choices && (v->data || v->against))
        return aa_fail(err, AA_EUSAGE, "--choices goes without --%s: it is another evaluation",
                       v->data ? "data" : "against");
    if (!v->choices) AA_TRY(cli_need(v->data, "data", "the text to evaluate on", err));
    AA_TRY(cli_open_cpu(&cpu, v->threads, err));
    aa_status st = aa_cpu_set_compute(cpu, (aa_compute)v->compute, err);
    if (!st)
        st = aa_session_open_with(
            &s, call->positional[0], cpu,
            &(aa_session_options){.capacity = v->choices ? (size_t)v->seq : 1,
                                  .adapter = v->adapter}, err);
    if (!st) {
        st = (v->choices ? eval_choices : eval_text)(call, &s, err);
        aa_session_close(&s);
    }
    aa_cpu_free(cpu);
    return st;
}

const cli_command cli_eval = {
    .words = "eval",
    .group = "use",
    .arguments = "MODEL",
    .summary = "loss, perplexity and bits per byte of a model on a text; multiple choice",
    .rows = eval_rows,
    .values_size = sizeof(eval_values),
    .min_positional = 1,
    .max_positional = 1,
    .run = run_eval,
    .notes = "The error is the standard error over windows. --against B evaluates both on the same "
             "windows and gives the\n"
             "difference with its interval: far sharper than comparing two means.\n"
             "Of a model with a compact vocabulary only the ids it was trained with count, as in "
             "training; a text with others is refused.\n"
             "--choices scores each choice by the log-probability of what it adds to the query, as "
             "lm-evaluation-harness does.\n",
};
