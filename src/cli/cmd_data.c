/* autoane data tokenize|inspect|stories|batches */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "base/memory.h"
#include "cli/cli.h"
#include "data/story.h"
#include "formats/safetensors.h"
#include "train/cache.h"

/* What is done with conversations. */
#define TRAIN_ON_ROW                                                                               \
    {"train-on", "data", AA_OPT_CHOICE, AT(train_on), "assistant", 0, 0, 0, "assistant|all",       \
     "what is learned of a conversation or a prompt with its completion: the answers, or all"}
#define TEMPLATE_ROW                                                                               \
    {"template", "data", AA_OPT_STRING, AT(template), NULL, 0, 0, 0, "FILE",                       \
     "Jinja chat template for conversations, instead of the model's"}

/* ---- tokenize -------------------------------------------------------------------------------- */

typedef struct tokenize_values {
    char *data, *tokenizer, *template, *out;
    int64_t threads;
    int train_on;
} tokenize_values;
#define AT(field) offsetof(tokenize_values, field)
static const aa_opt tokenize_rows[] = {
    {"data", "data", AA_OPT_STRING, AT(data), NULL, 0, 0, 0, "FILE|DIR",
     "text, JSONL (texts, conversations, prompts with completions) or directory"},
    {"tokenizer", "data", AA_OPT_STRING, AT(tokenizer), NULL, 0, 0, 0, "FILE|MODEL|bytes",
     "tokenizer.json, or the model whose tokenizer and chat template are wanted"},
    TRAIN_ON_ROW, TEMPLATE_ROW,
    {"out", "data", AA_OPT_STRING, AT(out), "data.tok", 0, 0, 0, "FILE", "token file to write"},
    CLI_THREADS_ROW(AT(threads)),
    {0}};
#undef AT

static void show_tokenizing(void *ctx, aa_tokenize_progress p) {
    double *last = ctx, now = aa_sys_clock_s();
    if (!aa_sys_is_terminal(2) || now - *last < 0.2) return;
    fprintf(stderr, "\rtokenizing %3.0f%%",
            p.total_bytes ? 100.0 * (double)p.done_bytes / (double)p.total_bytes : 100.0);
    *last = now;
}

static aa_status tokenize(cli_call *call, const aa_tokenizer *t, const char *jinja, aa_pool *pool,
                          aa_err *err) {
    const tokenize_values *v = call->opts.values;
    aa_tokens tokens;
    double last = 0, start_s = aa_sys_clock_s();
    aa_sys_interrupt_install();
    const aa_tokenize_options o = {.chat_template = jinja,
                                   .train_on = (aa_train_on)v->train_on,
                                   .progress = show_tokenizing,
                                   .ctx = &last};
    AA_TRY(aa_tokenize(v->data, t, pool, v->out, &o, err));
    if (last > 0) fputs("\r\x1b[K", stderr);
    AA_TRY(aa_tokens_open(&tokens, v->out, aa_tokenizer_vocab(t), aa_tokenizer_eos(t), false, err));
    double s = aa_sys_clock_s() - start_s;
    if (call->json) {
        aa_text_add(&call->out, "{");
        cli_key_string(&call->out, "out", v->out);
        cli_key_int(&call->out, "tokens", (int64_t)tokens.n_tokens);
        cli_key_int(&call->out, "documents", (int64_t)tokens.n_documents);
        cli_key_int(&call->out, "bytes", (int64_t)tokens.n_bytes);
        cli_key_real(&call->out, "wall_s", s);
        aa_text_add(&call->out, "}\n");
    } else
        aa_text_printf(
            &call->out, "%s: %llu tokens of %llu documents, %.2f bytes per token, %.1f MB/s\n",
            v->out, (unsigned long long)tokens.n_tokens, (unsigned long long)tokens.n_documents,
            (double)tokens.n_bytes / (double)tokens.n_tokens, (double)tokens.n_bytes * 1e-6 / s);
    aa_tokens_close(&tokens);
    return AA_OK;
}

static aa_status run_tokenize(cli_call *call, aa_err *err) {
    const tokenize_values *v = call->opts.values;
    aa_tokenizer *t = NULL;
    char *jinja = NULL;
    aa_pool *pool = NULL;
    AA_TRY(cli_need(v->data, "data", "the text to tokenize", err));
    AA_TRY(cli_open_tokenizer_and_template(&t, &jinja, v->tokenizer, v->template, err));
    aa_status st = aa_pool_new(&pool, (int)v->threads, err);
    if (!st) st = tokenize(call, t, jinja, pool, err);
    aa_pool_free(pool);
    aa_tokenizer_free(t);
    aa_heap_free(jinja);
    return st;
}

const cli_command cli_data_tokenize = {
    .words = "data tokenize",
    .group = "data",
    .arguments = "",
    .summary = "make a token file from text",
    .rows = tokenize_rows,
    .values_size = sizeof(tokenize_values),
    .run = run_tokenize,
    .notes = "train does this by itself and keeps the result in its cache; make a token file to "
             "share or inspect it.\n",
};

/* ---- inspect --------------------------------------------------------------------------------- */

typedef struct inspect_values {
    char *tokenizer, *template;
    int64_t samples, seq, seed;
    int train_on;
    bool mask;
} inspect_values;
#define AT(field) offsetof(inspect_values, field)
static const aa_opt inspect_rows[] = {
    {"tokenizer", "data", AA_OPT_STRING, AT(tokenizer), NULL, 0, 0, 0, "FILE|bytes",
     "to decode the samples with; of a text or JSONL, whose token file is made, the model's"},
    {"mask", "data", AA_OPT_BOOL, AT(mask), "no", 0, 0, 0, NULL,
     "show the first examples with what is learned of them"},
    TRAIN_ON_ROW, TEMPLATE_ROW,
    {"samples", "data", AA_OPT_INT, AT(samples), "3", 0, 1000000, 0, "N",
     "training windows to show, or examples"},
    {"seq", "data", AA_OPT_INT, AT(seq), "64", 1, 65536, 0, "N", "tokens of a window"},
    {"seed", "data", AA_OPT_INT, AT(seed), "1", 0, 9e15, 0, "N", "which windows"},
    {0}};
#undef AT

static const char *const part_names[AA_PART_COUNT] = {"train", "validation", "locked test"};

static void count_parts(const aa_tokens *t, uint64_t documents[AA_PART_COUNT],
                        uint64_t tokens[AA_PART_COUNT]) {
    for (uint64_t d = 0; d < t->n_documents; d++) {
        documents[t->part[d]]++;
        tokens[t->part[d]] += t->document[d + 1] - t->document[d];
    }
}

static uint64_t count_learned(const aa_tokens *t) {
    uint64_t n = 0;
    for (uint64_t i = 0; i < t->n_tokens; i++) n += aa_tokens_learned(t, i);
    return n;
}

/* One token per cell; targets without loss are shown in parentheses,
 * so that the mask can be read off. */
static aa_status show_window(const aa_tokenizer *t, const int32_t *ids, const int32_t *targets,
                             size_t n, aa_text *out, aa_err *err) {
    for (size_t i = 0; i < n; i++) {
        bool masked = i > 0 && targets[i - 1] < 0;
        if (i) aa_text_add(out, "|");
        if (masked) aa_text_add(out, "(");
        if (t) AA_TRY(aa_decode(t, &ids[i], 1, true, out, err));
        else aa_text_printf(out, "%d", (int)ids[i]);
        if (masked) aa_text_add(out, ")");
    }
    aa_text_add(out, "\n");
    return AA_OK;
}

static aa_status show_samples(const aa_tokens *tokens, const aa_tokenizer *t,
                              const inspect_values *v, aa_text *out, aa_err *err) {
    aa_stream s;
    AA_TRY(aa_stream_init(&s, tokens, AA_PART_TRAIN, err));
    size_t n = (size_t)v->seq;
    int32_t *ids = aa_heap_alloc(2 * n, sizeof *ids);
    aa_status st = ids ? AA_OK : aa_fail_memory(err, "a window", 0);
    if (!st && aa_stream_windows(&s, n))
        for (int64_t i = 0; i < v->samples && !st; i++) {
            aa_stream_window(&s, (uint64_t)v->seed, (uint64_t)i, n, ids, ids + n);
            aa_text_printf(out, "\nwindow %lld (tokens between bars; in parentheses: no loss)\n",
                           (long long)i);
            st = show_window(t, ids, ids + n, n, out, err);
        }
    aa_heap_free(ids);
    aa_stream_release(&s);
    return st;
}

/* The next run of tokens that are learned, or are not. */
static uint64_t run_end(const aa_tokens *t, uint64_t at, uint64_t end) {
    bool learned = aa_tokens_learned(t, at);
    while (at < end && aa_tokens_learned(t, at) == learned) at++;
    return at;
}

static aa_status show_example(const aa_tokens *t, uint64_t d, const aa_tokenizer *tokenizer,
                              aa_text *out, aa_err *err) {
    bool color = aa_sys_is_terminal(1);
    const char *on = color ? "\x1b[1;32m" : "\xE2\x9F\xA6",
               *off = color ? "\x1b[0m" : "\xE2\x9F\xA7";
    uint64_t begin = t->document[d], end = t->document[d + 1], n_learned = 0;
    for (uint64_t i = begin; i < end; i++) n_learned += aa_tokens_learned(t, i);
    aa_text_printf(out, "\nexample %llu (%s): %llu tokens, %llu learned\n", (unsigned long long)d,
                   part_names[t->part[d]], (unsigned long long)(end - begin),
                   (unsigned long long)n_learned);
    for (uint64_t at = begin, next; at < end; at = next) {
        bool learned = aa_tokens_learned(t, at);
        next = run_end(t, at, end);
        if (learned) aa_text_add(out, on);
        for (; at < next; at++) {
            int32_t id = aa_tokens_at(t, at);
            AA_TRY(aa_decode(tokenizer, &id, 1, AA_DECODE_SPECIALS, out, err));
        }
        if (learned) aa_text_add(out, off);
    }
    aa_text_add(out, "\n");
    return AA_OK;
}

static void example_json(const aa_tokens *t, uint64_t d, aa_text *out) {
    static const char *const parts[AA_PART_COUNT] = {"train", "valid", "test"};
    aa_text_add(out, "{");
    cli_key_string(out, "part", parts[t->part[d]]);
    for (int mask = 0; mask < 2; mask++) {
        aa_text_json_key(out, mask ? "learned" : "ids");
        for (uint64_t i = t->document[d]; i < t->document[d + 1]; i++)
            aa_text_printf(out, "%s%d", i > t->document[d] ? "," : "[",
                           mask ? aa_tokens_learned(t, i) : aa_tokens_at(t, i));
        aa_text_add(out, "]");
    }
    aa_text_add(out, "}");
}

static aa_status show_examples(cli_call *call, const aa_tokens *t, const aa_tokenizer *tokenizer,
                               aa_err *err) {
    const inspect_values *v = call->opts.values;
    uint64_t n = t->n_documents < (uint64_t)v->samples ? t->n_documents : (uint64_t)v->samples;
    if (!call->json && !tokenizer)
        return aa_fail(err, AA_EUSAGE, "--mask shows text: give the --tokenizer it was made with");
    for (uint64_t d = 0; d < n; d++) {
        if (call->json) {
            aa_text_add(&call->out, d ? "," : "");
            example_json(t, d, &call->out);
        } else AA_TRY(show_example(t, d, tokenizer, &call->out, err));
    }
    return AA_OK;
}

static aa_status inspect(cli_call *call, const aa_tokens *t, const aa_tokenizer *tokenizer,
                         aa_err *err) {
    uint64_t documents[AA_PART_COUNT] = {0}, tokens[AA_PART_COUNT] = {0};
    const inspect_values *v = call->opts.values;
    aa_text *out = &call->out;
    count_parts(t, documents, tokens);
    if (call->json) {
        aa_text_add(out, "{");
        cli_key_int(out, "tokens", (int64_t)t->n_tokens);
        cli_key_int(out, "documents", (int64_t)t->n_documents);
        cli_key_int(out, "bytes", (int64_t)t->n_bytes);
        cli_key_int(out, "vocab", (int64_t)t->vocab);
        static const char *const keys[] = {"train_tokens", "valid_tokens", "test_tokens"};
        for (int p = 0; p < AA_PART_COUNT; p++) cli_key_int(out, keys[p], (int64_t)tokens[p]);
        cli_key_int(out, "learned_tokens", (int64_t)count_learned(t));
        if (v->mask) {
            aa_text_json_key(out, "examples");
            aa_text_add(out, "[");
            AA_TRY(show_examples(call, t, tokenizer, err));
            aa_text_add(out, "]");
        }
        aa_text_add(out, "}\n");
        return AA_OK;
    }
    aa_text_printf(
        out,
        "%s\n  tokens          %llu (%d bytes each), vocabulary %llu\n  documents       %llu\n",
        call->positional[0], (unsigned long long)t->n_tokens, t->u16 ? 2 : 4,
        (unsigned long long)t->vocab, (unsigned long long)t->n_documents);
    if (t->n_bytes)
        aa_text_printf(out, "  text            %llu bytes, %.3f per token\n",
                       (unsigned long long)t->n_bytes, (double)t->n_bytes / (double)t->n_tokens);
    for (int p = 0; p < AA_PART_COUNT; p++)
        aa_text_printf(out, "  %-15s %llu tokens in %llu documents\n", part_names[p],
                       (unsigned long long)tokens[p], (unsigned long long)documents[p]);
    if (t->unlearned)
        aa_text_printf(out, "  learned         %llu tokens; each document is an example\n",
                       (unsigned long long)count_learned(t));
    if (v->mask || (t->unlearned && tokenizer)) return show_examples(call, t, tokenizer, err);
    if (t->unlearned) return AA_OK;
    return show_samples(t, tokenizer, v, out, err);
}

/* For --mask a text becomes a token file as it does for a training run; else a file that is none is
 * damaged, and opening it says so. */
static aa_status token_file_of(const cli_call *call, const aa_tokenizer *t, const char *jinja,
                               char **out, aa_err *err) {
    const inspect_values *v = call->opts.values;
    const aa_job_hooks hooks = {.message = cli_message};
    const aa_tokenize_options o = {.chat_template = jinja, .train_on = (aa_train_on)v->train_on};
    const char *path = call->positional[0];
    if (v->mask && t && !aa_tokens_is_file(path))
        return aa_cache_tokens(out, path, t, NULL, &o, &hooks, err);
    *out = aa_heap_strdup(path);
    return *out ? AA_OK : aa_fail_memory(err, "a path", 0);
}

static aa_status run_inspect(cli_call *call, aa_err *err) {
    const inspect_values *v = call->opts.values;
    aa_tokenizer *t = NULL;
    char *jinja = NULL, *path = NULL;
    aa_tokens tokens;
    if (v->tokenizer)
        AA_TRY(cli_open_tokenizer_and_template(&t, &jinja, v->tokenizer, v->template, err));
    aa_status st = token_file_of(call, t, jinja, &path, err);
    if (!st)
        st = aa_tokens_open(&tokens, path, t ? aa_tokenizer_vocab(t) : 0,
                            t ? aa_tokenizer_eos(t) : -1, true, err);
    if (!st) {
        st = inspect(call, &tokens, t, err);
        aa_tokens_close(&tokens);
    }
    aa_tokenizer_free(t);
    aa_heap_free(jinja);
    aa_heap_free(path);
    return st;
}

const cli_command cli_data_inspect = {
    .words = "data inspect",
    .group = "data",
    .arguments = "TOKENS|FILE",
    .summary = "verify a token file and look into it; what is learned of examples",
    .rows = inspect_rows,
    .values_size = sizeof(inspect_values),
    .min_positional = 1,
    .max_positional = 1,
    .run = run_inspect,
};

/* ---- stories --------------------------------------------------------------------------------- */

typedef struct stories_values { char *out, *surprisal; int64_t seed, count, first; } stories_values;
#define AT(field) offsetof(stories_values, field)
static const aa_opt stories_rows[] = {
    {"count", "stories", AA_OPT_INT, AT(count), "20000", 1, 1e12, 0, "N", "how many"},
    {"seed", "stories", AA_OPT_INT, AT(seed), "1", 0, 9e15, 0, "N", "which sequence of stories"},
    {"first", "stories", AA_OPT_INT, AT(first), "0", 0, 1e15, 0, "N", "number of the first one"},
    {"out", "stories", AA_OPT_STRING, AT(out), "-", 0, 0, 0, "FILE",
     "text file to write; -: standard output"},
    {"surprisal", "stories", AA_OPT_STRING, AT(surprisal), NULL, 0, 0, 0, "FILE",
     "instead: exact bits of the stories in FILE under the grammar"},
    {0}};
#undef AT

static aa_status measure(cli_call *call, const char *path, aa_err *err) {
    aa_sys_map map;
    double bits;
    size_t n;
    AA_TRY(aa_map_open(&map, path, err));
    aa_status st =
        aa_story_corpus_surprisal((const char *)map.data, map.size_bytes, &bits, &n, err);
    if (st) aa_err_context(err, "%s", path);
    size_t bytes = map.size_bytes;
    aa_sys_map_close(&map);
    if (st) return st;
    if (call->json) {
        aa_text_add(&call->out, "{");
        cli_key_int(&call->out, "stories", (int64_t)n);
        cli_key_int(&call->out, "bytes", (int64_t)bytes);
        cli_key_real(&call->out, "bits", bits);
        cli_key_real(&call->out, "bits_per_byte", bits / (double)bytes);
        aa_text_add(&call->out, "}\n");
    } else
        aa_text_printf(&call->out,
                       "%zu stories, %zu bytes, %.1f bits: %.5f bits per byte is the floor of any "
                       "model's loss\n",
                       n, bytes, bits, bits / (double)bytes);
    return AA_OK;
}

/* Chunks of stories to a file (atomic) or to standard output. */
static aa_status write_stories(cli_call *call, aa_outfile *f, aa_err *err) {
    const stories_values *v = call->opts.values;
    enum { CHUNK = 256 };
    aa_text t = {0};
    aa_status st = AA_OK;
    for (int64_t n = 0; n < v->count && !st; n += CHUNK) {
        int64_t left = v->count - n;
        aa_text_clear(&t);
        if (n) aa_text_add(&t, "\n");
        aa_story_corpus(&t, (uint64_t)v->seed, (uint64_t)(v->first + n),
                        (uint64_t)(left < CHUNK ? left : CHUNK));
        st = aa_text_status(&t, err);
        if (!st && f) aa_outfile_write(f, t.data, t.len);
        else if (!st && fwrite(t.data, 1, t.len, stdout) != t.len)
            st = aa_fail(err, AA_EIO, "cannot write to standard output");
        if (!st && f && aa_sys_interrupt_pending())
            st = aa_fail(err, AA_EINTERRUPTED, "interrupted; '%s' was not written", v->out);
    }
    aa_text_release(&t);
    return st;
}

static aa_status run_stories(cli_call *call, aa_err *err) {
    const stories_values *v = call->opts.values;
    if (v->surprisal) return measure(call, v->surprisal, err);
    bool to_file = v->out && strcmp(v->out, "-") != 0;
    if (call->json && !to_file)
        return aa_fail(err, AA_EUSAGE,
                       "--json and stories on standard output do not mix; give --out FILE");
    if (!to_file) return write_stories(call, NULL, err);
    aa_outfile *f = NULL;
    aa_sys_interrupt_install();
    AA_TRY(aa_outfile_open(&f, v->out, err));
    aa_status st = write_stories(call, f, err);
    uint64_t size = aa_outfile_size(f);
    if (!st) st = aa_outfile_commit(f, NULL, err);
    else aa_outfile_abort(f);
    if (st) return st;
    if (call->json) {
        aa_text_add(&call->out, "{");
        cli_key_string(&call->out, "out", v->out);
        cli_key_int(&call->out, "stories", v->count);
        cli_key_int(&call->out, "bytes", (int64_t)size);
        cli_key_real(&call->out, "log2_distinct_stories", aa_story_log2_count());
        cli_key_real(&call->out, "entropy_bits", aa_story_entropy_bits());
        aa_text_add(&call->out, "}\n");
    } else
        aa_text_printf(
            &call->out,
            "%s: %lld stories, %.1f MB; the grammar makes 2^%.0f different ones, %.1f bits each\n",
            v->out, (long long)v->count, (double)size * 1e-6, aa_story_log2_count(),
            aa_story_entropy_bits());
    return AA_OK;
}

const cli_command cli_data_stories = {
    .words = "data stories",
    .group = "data",
    .arguments = "",
    .summary = "write a corpus of generated stories, or measure one",
    .rows = stories_rows,
    .values_size = sizeof(stories_values),
    .run = run_stories,
    .notes = "The grammar is unambiguous, so the surprisal of a text under it is exact: the floor "
             "a loss can be read against.\n",
};

/* ---- batches --------------------------------------------------------------------------------- */

typedef struct batches_values { char *run, *out; int64_t steps; } batches_values;
#define AT(field) offsetof(batches_values, field)
static const aa_opt batches_rows[] = {
    {"run", "data", AA_OPT_STRING, AT(run), NULL, 0, 0, 0, "DIR", "run directory"},
    {"steps", "data", AA_OPT_INT, AT(steps), "10", 1, 1e6, 0, "N", "first updates"},
    {"out", "data", AA_OPT_STRING, AT(out), "batches.safetensors", 0, 0, 0, "FILE",
     "where to write ids, targets (-1: not learned) and positions [N, B, T]"},
    {0}};
#undef AT

enum { IDS, TARGETS, POSITIONS, N_ROWS };

/* The window that begins with number n of the order, and how many numbers it takes. Behind examples
 * it is filled with rows of id 0 without a target, each at position 0. */
static uint64_t read_batch_window(const aa_job *job, uint64_t n, int32_t *row[N_ROWS],
                                  int32_t *start) {
    const size_t T = job->T;
    const uint64_t seed = (uint64_t)job->o->seed;
    aa_packed p = {.ids = row[IDS], .targets = row[TARGETS], .start = start};
    uint64_t count = 1;
    *start = 0;
    if (job->examples) count = aa_examples_window(&job->train_set, seed, n, &p);
    else {
        aa_stream_window(&job->train, seed, n, T, row[IDS], row[TARGETS]);
        p.start[++p.n_sequences] = (int32_t)T;
    }
    for (size_t s = 0; s < p.n_sequences; s++)
        for (int32_t t = p.start[s]; t < p.start[s + 1]; t++) {
            row[POSITIONS][t] = t - p.start[s];
            for (int which = IDS; job->active_ids && which <= TARGETS; which++)
                if (row[which][t] >= 0) row[which][t] = job->active_ids[row[which][t]];
        }
    for (size_t t = (size_t)p.start[p.n_sequences]; t < T; t++) {
        row[IDS][t] = row[POSITIONS][t] = 0;
        row[TARGETS][t] = -1;
    }
    return count;
}

static aa_status write_batches(const aa_job *job, const batches_values *v, aa_err *err) {
    const size_t T = job->T;
    aa_outfile *f = NULL;
    aa_st_entry ids = {.name = "ids", .dtype = AA_DTYPE_I32, .n_dims = 3,
                       .shape = {(uint64_t)v->steps, job->B, T}};
    aa_st_entry entries[N_ROWS] = {ids, ids, ids};
    entries[TARGETS].name = "targets";
    entries[POSITIONS].name = "positions";
    int32_t *room = aa_heap_alloc((N_ROWS + 1) * T + 1, sizeof *room), *row[N_ROWS];
    if (!room) return aa_fail_memory(err, "a window", 0);
    for (size_t i = 0; i < N_ROWS; i++) row[i] = room + i * T;
    aa_status st = aa_outfile_open(&f, v->out, err);
    if (!st) st = aa_safetensors_begin(f, entries, N_ROWS, NULL, 0, err);
    for (int which = 0; which < N_ROWS && !st; which++) {
        uint64_t n = 0;
        for (size_t i = 0; i < (size_t)v->steps * job->B; i++) {
            n += read_batch_window(job, n, row, room + N_ROWS * T);
            aa_outfile_write(f, row[which], T * sizeof *room);
        }
    }
    if (!st) st = aa_outfile_commit(f, NULL, err);
    else if (f) aa_outfile_abort(f);
    aa_heap_free(room);
    return st;
}

static aa_status run_batches(cli_call *call, aa_err *err) {
    const batches_values *v = call->opts.values;
    aa_train_options o;
    aa_opts opts;
    aa_text problems = {0};
    aa_cpu *cpu = NULL;
    aa_job job;
    AA_TRY(cli_need(v->run, "run", "a run directory", err));
    AA_TRY(aa_opts_init(&opts, aa_train_rows, &o, err));
    aa_status st = aa_train_resume_options(&opts, v->run, &problems, err);
    if (!st) st = cli_problems(&problems, err);
    if (!st) st = cli_open_cpu(&cpu, 1, err);
    if (!st && !(st = aa_job_open(&job, &opts, cpu, false, NULL, err))) {
        st = write_batches(&job, v, err);
        aa_job_close(&job);
    }
    if (!st && call->json) {
        aa_text_add(&call->out, "{");
        cli_key_string(&call->out, "out", v->out);
        cli_key_int(&call->out, "steps", v->steps);
        aa_text_add(&call->out, "}\n");
    } else if (!st)
        aa_text_printf(&call->out, "%s: ids and targets of the first %lld updates\n", v->out,
                       (long long)v->steps);
    aa_text_release(&problems);
    aa_cpu_free(cpu);
    aa_opts_release(&opts);
    return st;
}

const cli_command cli_data_batches = {
    .words = "data batches",
    .group = "data",
    .arguments = "",
    .summary = "the exact batches of a run's first updates, for comparisons",
    .rows = batches_rows,
    .values_size = sizeof(batches_values),
    .run = run_batches,
};
