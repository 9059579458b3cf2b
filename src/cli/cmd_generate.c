/* autoane generate: text from a model. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/memory.h"
#include "base/file.h"
#include "cli/cli.h"
#include "formats/safetensors.h"
#include "infer/infer.h"

enum { MAX_STOPS = 16, ANSWER_TOKENS = 4096 };

typedef struct generate_values {
    char *prompt, *stop, *logits, *system, *template, *adapter;
    int64_t tokens, seed, threads, top_k, window, context;
    double temperature, top_p, min_p, penalty; bool greedy, ignore_eos, shift, chat, raw;
    int compute, kv;
} generate_values;

#define AT(field) offsetof(generate_values, field)
static const aa_opt generate_rows[] = {
    {"prompt", "text", AA_OPT_STRING, AT(prompt), "", 0, 0, 0, "TEXT",
     "what to continue; empty: start freely"},
    {"tokens", "text", AA_OPT_INT, AT(tokens), "200", 1, 1e9, 0, "N", "new tokens at most"},
    {"stop", "text", AA_OPT_STRING, AT(stop), NULL, 0, 0, 0, "TEXT|TEXT...",
     "end before any of these texts"},
    {"ignore-eos", "text", AA_OPT_BOOL, AT(ignore_eos), "no", 0, 0, 0, NULL,
     "go on after the end-of-text token"},
    {"context", "text", AA_OPT_INT, AT(context), "0", 0, 1e9, 0, "N",
     "positions to keep; 0: the model's window"},
    {"shift", "text", AA_OPT_BOOL, AT(shift), "yes", 0, 0, 0, NULL,
     "go on with the last half of the context when it is full"},
    {"logits", "text", AA_OPT_STRING, AT(logits), NULL, 0, 0, 0, "FILE",
     "also write what follows the prompt: safetensors with `ids` and `logits`"},
    {"chat", "chat", AA_OPT_BOOL, AT(chat), "no", 0, 0, 0, NULL,
     "hold a conversation: a line is a message"},
    {"system", "chat", AA_OPT_STRING, AT(system), NULL, 0, 0, 0, "TEXT",
     "the system prompt, which is never forgotten"},
    {"template", "chat", AA_OPT_STRING, AT(template), NULL, 0, 0, 0, "FILE",
     "Jinja source of a chat template, instead of the model's"},
    {"raw", "chat", AA_OPT_BOOL, AT(raw), "no", 0, 0, 0, NULL,
     "use no template: messages and answers are lines of one text"},
    {"greedy", "sampling", AA_OPT_BOOL, AT(greedy), "no", 0, 0, 0, NULL,
     "always the likeliest token"},
    {"temperature", "sampling", AA_OPT_REAL, AT(temperature), "0.8", 0, 100, 0, "X",
     "flattens (>1) or sharpens (<1); 0: greedy"},
    {"top-k", "sampling", AA_OPT_INT, AT(top_k), "40", 0, 1e9, 0, "N",
     "only the N likeliest; 0: off"},
    {"top-p", "sampling", AA_OPT_REAL, AT(top_p), "0.95", 0, 1, 0, "X",
     "only the likeliest that together reach X; 1: off"},
    {"min-p", "sampling", AA_OPT_REAL, AT(min_p), "0", 0, 1, 0, "X",
     "only tokens at least X times as likely as the best"},
    {"repetition-penalty", "sampling", AA_OPT_REAL, AT(penalty), "1", 0.01, 100, 0, "X",
     "divides the logits of recent tokens; 1: off"},
    {"repetition-window", "sampling", AA_OPT_INT, AT(window), "64", 0, 1e6, 0, "N",
     "how many tokens are recent"},
    {"seed", "sampling", AA_OPT_INT, AT(seed), "0", 0, 9e15, 0, "N", "same seed, same text"},
    {"adapter", "run", AA_OPT_STRING, AT(adapter), NULL, 0, 0, 0, "DIR|FILE",
     "run this adapter (PEFT, GGUF, LoRA sidecar) beside the model's weights"},
    {"kv", "run", AA_OPT_CHOICE, AT(kv), "f32", 0, 0, 0, "f32|f16",
     "keys and values kept; f16: half the memory of a long context"},
    CLI_COMPUTE_ROW(AT(compute)),
    CLI_THREADS_ROW(AT(threads)),
    {0}};

/* The prompt comes first, once it is known to fit. */
static bool stream(void *ctx, const char *text, size_t n) {
    const char **prompt = ctx;
    if (*prompt) fputs(*prompt, stdout);
    *prompt = NULL;
    return fwrite(text, 1, n, stdout) == n && fflush(stdout) == 0;
}

/* Cuts `list`, which check_stops has seen, at '|' in place. */
static size_t split_stops(char *list, const char **stops) {
    size_t n = 0;
    for (char *s = list; s && *s;) {
        char *bar = strchr(s, '|');
        if (bar) *bar++ = 0;
        if (*s) stops[n++] = s;
        s = bar;
    }
    return n;
}

static void print_json(const aa_generated *g, const char *prompt, aa_text *out) {
    static const char *const reasons[] = {"length", "eos", "stop", "caller", "context"};
    aa_text_add(out, "{");
    cli_key_string(out, "prompt", prompt);
    cli_key_ids(out, "prompt_ids", g->prompt_ids.data, g->prompt_ids.len);
    cli_key_ids(out, "ids", g->ids.data, g->ids.len);
    aa_text_json_key(out, "text");
    aa_text_json_string(out, g->text.data ? g->text.data : "", g->text.len);
    cli_key_string(out, "stop_reason", reasons[g->reason]);
    cli_key_real(out, "prefill_s", g->prefill_s);
    cli_key_real(out, "prefill_tokens_per_s",
                 g->prefill_s > 0 ? (double)g->prompt_ids.len / g->prefill_s : 0);
    cli_key_real(out, "tokens_per_s",
                 g->decode_s > 0 && g->ids.len > 1 ? (double)(g->ids.len - 1) / g->decode_s : 0);
    aa_text_add(out, "}\n");
}

/* One logit for each id of the tokenizer; -inf for those outside a compact vocabulary. */
static void add_logits(aa_outfile *f, const aa_session *s, size_t V) {
    static const float absent = -INFINITY;
    if (!s->compact_map) aa_outfile_write(f, s->logits, V * sizeof *s->logits);
    for (size_t id = 0; s->compact_map && id < V; id++) {
        int32_t row = s->compact_map[id];
        aa_outfile_write(f, row < 0 ? &absent : &s->logits[row], sizeof absent);
    }
}

static aa_status write_logits(const aa_session *s, const aa_ids *ids, const char *path,
                              aa_err *err) {
    size_t V = s->compact_map ? aa_tokenizer_vocab(s->tokenizer) : (size_t)s->model->config.vocab;
    const aa_st_entry entries[] = {
        {.name = "ids", .dtype = AA_DTYPE_I32, .n_dims = 1, .shape = {ids->len}},
        {.name = "logits", .dtype = AA_DTYPE_F32, .n_dims = 1, .shape = {V}}};
    aa_outfile *f;
    AA_TRY(aa_outfile_open(&f, path, err));
    aa_status st = aa_safetensors_begin(f, entries, 2, NULL, 0, err);
    if (st) {
        aa_outfile_abort(f);
        return st;
    }
    aa_outfile_write(f, ids->data, ids->len * sizeof *ids->data);
    add_logits(f, s, V);
    return aa_outfile_commit(f, NULL, err);
}

/* Before the generation, which reads the prompt again. */
static aa_status save_logits(const generate_values *v, aa_session *s, aa_err *err) {
    aa_ids ids = {0};
    aa_status st = aa_session_read(s, v->prompt ? v->prompt : "", &ids, err);
    if (!st) st = write_logits(s, &ids, v->logits, err);
    aa_ids_release(&ids);
    return st;
}

static aa_generation generation_of(generate_values *v, const char **stops) {
    return (aa_generation){.max_tokens = (size_t)v->tokens,
                           .stop = stops,
                           .n_stop = split_stops(v->stop, stops),
                           .ignore_eos = v->ignore_eos,
                           .shift = v->shift,
                           .sampling = {.temperature = v->greedy ? 0 : v->temperature,
                                        .top_k = v->top_k, .top_p = v->top_p, .min_p = v->min_p,
                                        .repetition_penalty = v->penalty,
                                        .repetition_window = v->window,
                                        .seed = (uint64_t)v->seed}};
}

static aa_status generate(cli_call *call, aa_session *s, aa_err *err) {
    generate_values *v = call->opts.values;
    const char *stops[MAX_STOPS], *prompt = v->prompt ? v->prompt : "", *unsaid = prompt;
    aa_generation g = generation_of(v, stops);
    aa_generated out = {0};
    if (v->logits) AA_TRY(save_logits(v, s, err));
    g.on_text = call->json ? NULL : stream;
    g.ctx = &unsaid;
    AA_TRY(aa_generate(s, prompt, &g, &out, err));
    if (call->json) print_json(&out, prompt, &call->out);
    else {
        (void)stream(&unsaid, "\n", 1);
        fprintf(stderr, "[%zu tokens; prompt %zu in %.3f s; %.1f tokens/s]\n", out.ids.len,
                out.prompt_ids.len, out.prefill_s,
                out.decode_s > 0 && out.ids.len > 1 ? (double)(out.ids.len - 1) / out.decode_s
                                                    : 0.0);
    }
    aa_generated_release(&out);
    return AA_OK;
}

/* An answer ends where the model ends it: --tokens counts only when it is given. */
static aa_status chat(cli_call *call, aa_session *s, aa_err *err) {
    generate_values *v = call->opts.values;
    const char *stops[MAX_STOPS];
    aa_generation g = generation_of(v, stops);
    char *jinja = NULL;
    aa_chat *c = NULL;
    if (aa_opts_from(&call->opts, "tokens") == AA_FROM_DEFAULT) g.max_tokens = ANSWER_TOKENS;
    if (v->template) AA_TRY(aa_file_text(&jinja, v->template, err));
    aa_status st = v->raw ? aa_chat_new_raw(&c, s->tokenizer, err)
                          : aa_chat_new(&c, jinja ? jinja : s->chat_template, s->tokenizer, err);
    if (!st) st = cli_chat(s, c, v->system, *v->prompt ? v->prompt : NULL, &g, err);
    aa_chat_free(c);
    aa_heap_free(jinja);
    return st;
}

static aa_status check_chat(const cli_call *call, aa_err *err) {
    const generate_values *v = call->opts.values;
    if (v->chat && (call->json || v->logits))
        return aa_fail(err, AA_EUSAGE, "--chat does not go together with %s",
                       call->json ? "--json" : "--logits");
    if (!v->chat && (v->system || v->template))
        return aa_fail(err, AA_EUSAGE, "--%s is for --chat", v->system ? "system" : "template");
    return AA_OK;
}

static aa_status check_stops(const char *list, aa_err *err) {
    size_t n = 1;
    for (const char *s = list; s && (s = strchr(s, '|')); s++) n++;
    return n <= MAX_STOPS ? AA_OK
                          : aa_fail(err, AA_EUSAGE, "--stop has %zu texts; at most %d are possible",
                                    n, MAX_STOPS);
}

static aa_status run_generate(cli_call *call, aa_err *err) {
    generate_values *v = call->opts.values;
    aa_cpu *cpu = NULL;
    aa_session s;
    AA_TRY(check_chat(call, err));
    AA_TRY(check_stops(v->stop, err));
    AA_TRY(cli_open_cpu(&cpu, v->threads, err));
    const aa_session_options o = {.capacity = (size_t)v->context, .half_kv = v->kv,
                                  .adapter = v->adapter};
    aa_status st = aa_cpu_set_compute(cpu, (aa_compute)v->compute, err);
    if (!st) st = aa_session_open_with(&s, call->positional[0], cpu, &o, err);
    if (!st) {
        st = v->chat ? chat(call, &s, err) : generate(call, &s, err);
        aa_session_close(&s);
    }
    aa_cpu_free(cpu);
    return st;
}

const cli_command cli_generate = {
    .words = "generate",
    .group = "use",
    .arguments = "MODEL",
    .summary = "continue a text with a model",
    .rows = generate_rows,
    .values_size = sizeof(generate_values),
    .min_positional = 1,
    .max_positional = 1,
    .run = run_generate,
    .notes = "MODEL is a run, checkpoint or Hugging Face directory, or a file: GGUF, BLZT, "
             "llama2.c.\n"
             "In a chat, Ctrl-C stops an answer, Ctrl-D ends the chat, /help lists its commands;\n"
             "a backslash at the end of a line continues the message. The history of what was\n"
             "typed is $XDG_STATE_HOME/autoane/chat-history.\n",
};
