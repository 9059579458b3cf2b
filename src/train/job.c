/* The job: what the options mean once the data are known. Order matters: the tokenizer fixes the
 * vocabulary, the vocabulary completes the model's shape, the shape settles what was left open. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/memory.h"
#include "data/story.h"
#include "num/blas.h"
#include "train/adapter.h"
#include "train/auto.h"
#include "train/cache.h"
#include "train/zo_run.h"

#define FLOOR_MAX_BYTES ((size_t)4 << 20) /* validation text read for the generator's surprisal */

static void say(const aa_job_hooks *h, const char *line) {
    if (h && h->message) h->message(h->ctx, line);
}

/* ---- model shape ----------------------------------------------------------------------------- */

static size_t value_size(aa_opt_type type) {
    switch (type) {
    case AA_OPT_INT: return sizeof(int64_t);
    case AA_OPT_REAL: return sizeof(double);
    case AA_OPT_BOOL: return sizeof(bool);
    case AA_OPT_CHOICE: return sizeof(int);
    default: return 0;
    }
}

static bool is_shape(const aa_opt *row) {
    size_t base = offsetof(aa_train_options, model);
    return row->at >= base && row->at < base + sizeof(aa_config);
}

/* Shape fields that the user left alone come from `from`;
 * what has no option (scaling of rope ...) too. */
static aa_config merge_config(const aa_opts *opts, const aa_config *from) {
    const aa_train_options *o = opts->values;
    aa_config c = *from;
    size_t base = offsetof(aa_train_options, model);
    for (const aa_opt *row = opts->rows; row->key; row++) {
        if (!is_shape(row) || aa_opts_from(opts, row->key) == AA_FROM_DEFAULT) continue;
        memcpy((char *)&c + (row->at - base), (const char *)&o->model + (row->at - base),
               value_size(row->type));
    }
    return c;
}

/* A new width without a new head count or feed-forward width would keep the preset's: these are
 * derived instead. */
static void derive_config(const aa_opts *opts, aa_config *c) {
    bool new_dim = aa_opts_from(opts, "dim") != AA_FROM_DEFAULT;
    if (new_dim && aa_opts_from(opts, "ffn") == AA_FROM_DEFAULT) c->ffn = 0;
    bool new_heads = aa_opts_from(opts, "heads") != AA_FROM_DEFAULT;
    if ((new_dim || new_heads) && aa_opts_from(opts, "head-dim") == AA_FROM_DEFAULT)
        c->head_dim = 0;
    if (new_heads && aa_opts_from(opts, "kv-heads") == AA_FROM_DEFAULT) c->kv_heads = 0;
}

/* What may differ from the base: the window, numbers that no tensor's shape depends on, and how
 * many ids are left of its vocabulary. */
static bool free_of_base(const aa_job *job, const char *key) {
    static const char *const keys[] = {"seq", "rope-theta", "norm-eps", "residual-scale"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (strcmp(key, keys[i]) == 0) return true;
    return job->o->compact_vocab && strcmp(key, "vocab") == 0;
}

static void add_value(aa_text *t, const aa_opt *row, const aa_config *c) {
    const char *at = (const char *)c + (row->at - offsetof(aa_train_options, model));
    if (row->type == AA_OPT_BOOL) aa_text_add(t, *(const bool *)at ? "yes" : "no");
    else if (row->type == AA_OPT_CHOICE) aa_text_add(t, aa_arch_name(*(const int *)at));
    else aa_text_printf(t, "%lld", (long long)*(const int64_t *)at);
}

/* Weights fix the shape: every option that says otherwise is named. */
static aa_status check_base_shape(const aa_job *job, const aa_config *base, aa_err *err) {
    const aa_config *asked = &job->o->model;
    aa_text t = {0};
    for (const aa_opt *row = job->opts->rows; row->key; row++) {
        if (!is_shape(row) || free_of_base(job, row->key) ||
            aa_opts_from(job->opts, row->key) == AA_FROM_DEFAULT)
            continue;
        size_t at = row->at - offsetof(aa_train_options, model);
        if (!memcmp((const char *)asked + at, (const char *)base + at, value_size(row->type)))
            continue;
        aa_text_printf(&t, "--%s is ", row->key);
        add_value(&t, row, asked);
        aa_text_add(&t, ", the base model has ");
        add_value(&t, row, base);
        aa_text_add(&t, "; ");
    }
    aa_status st = aa_text_status(&t, err);
    if (!st && t.len)
        st = aa_fail(err, AA_EUSAGE,
                     "%sthe weights of '%s' fix its shape: leave such options out, or start a new "
                     "model without --base",
                     t.data, job->o->base);
    aa_text_release(&t);
    return st;
}

static const char *preset_name(const void *table, size_t i) {
    return ((const aa_preset *)table)[i].name;
}

static aa_status shape_of(aa_job *job, aa_source **base, aa_err *err) {
    const aa_train_options *o = job->o;
    if (o->base) {
        AA_TRY(aa_source_open(base, o->base, err));
        AA_TRY(aa_source_measure(*base, &job->base, err));
        job->base_vocab = (int64_t)(*base)->full_vocab;
        AA_TRY(check_base_shape(job, &(*base)->config, err));
        job->config = merge_config(job->opts, &(*base)->config);
        job->chat_template = (*base)->chat_template;
        (*base)->chat_template = NULL;
        return AA_OK;
    }
    const aa_preset *p = job->preset;
    if (!p) {
        size_t n = 0;
        while (aa_presets[n].name) n++;
        const char *near = aa_nearest(o->preset ? o->preset : "", preset_name, aa_presets, n);
        return aa_fail(err, AA_EUSAGE,
                       "--preset: there is no preset '%s'%s%s%s; `autoane info presets` lists them",
                       o->preset ? o->preset : "", near ? "; did you mean '" : "", near ? near : "",
                       near ? "'" : "");
    }
    job->config = merge_config(job->opts, &p->config);
    derive_config(job->opts, &job->config);
    return AA_OK;
}

/* ---- tokenizer ------------------------------------------------------------------------------- */

/* About one id per 4 KiB of text, as a power of two: small texts cannot fill a large table; and at
 * most 32 for each unit of width: the head is what a small model spends its time on. */
static size_t auto_vocab(uint64_t text_bytes, size_t width) {
    size_t n = 512;
    while (n < 8192 && n * 4096 < text_bytes && 2 * n <= 32 * width) n *= 2;
    return n;
}

aa_status aa_data_check(const char *path, aa_err *err) {
    aa_sys_info info;
    int no = aa_sys_stat(&info, path);
    if (no) return aa_fail_errno(err, no, "cannot read", path);
    if (info.kind == AA_SYS_ABSENT)
        return aa_fail(err, AA_ENOTFOUND,
                       "--data: there is no '%s'; give a text file, JSONL, directory, token file "
                       "or the word 'stories'",
                       path);
    if (!aa_source_is_file(path)) return AA_OK;
    return aa_fail(err, AA_EUSAGE,
                   "--data: '%s' is a model, not a text or token file; to go on training it, give "
                   "it as --base",
                   path);
}

static aa_status trained_size(const char *spec, size_t *out, aa_err *err) {
    char *end = NULL;
    unsigned long n = strtoul(spec, &end, 10);
    if (end == spec || *end || n < 257 || n > 1000000)
        return aa_fail(err, AA_EUSAGE,
                       "--tokenizer train:%s: want a number of ids from 257 to 1000000", spec);
    *out = n;
    return AA_OK;
}

/* What --tokenizer asks for. *trained: ids to train, or 0 when the tokenizer is at hand in *out. */
static aa_status choose_tokenizer(aa_job *job, const char *source, aa_source *base,
                                  aa_tokenizer **out, size_t *trained, aa_err *err) {
    const char *spec = job->o->tokenizer ? job->o->tokenizer : "auto";
    *trained = 0;
    if (strcmp(spec, "bytes") == 0) return aa_tokenizer_new_bytes(out, err);
    if (strncmp(spec, "train:", 6) == 0) return trained_size(spec + 6, trained, err);
    if (strcmp(spec, "auto") != 0) return aa_tokenizer_load(out, spec, err);
    if (base) return aa_source_tokenizer(base, out, err);
    if (source && aa_tokens_is_file(source)) return AA_OK;
    uint64_t bytes = 0;
    if (source) AA_TRY(aa_source_size(&bytes, source, err));
    *trained = auto_vocab(source ? bytes : (uint64_t)AA_STORIES_MIB << 20,
                          (size_t)job->config.dim);
    return AA_OK;
}

/* A base with a compact vocabulary hands it on, with its tokenizer: other ids have no rows. */
static aa_status keep_compact(aa_job *job, aa_source *base, size_t trained, aa_err *err) {
    bool other = trained > 0;
    if (!base || !base->active_ids) return AA_OK;
    if (job->o->compact_vocab)
        return aa_fail(err, AA_EUSAGE,
                       "--compact-vocab: '%s' has a compact vocabulary already, which is kept; "
                       "leave the option out",
                       base->path);
    if (job->tokenizer) {
        aa_tokenizer *own;
        AA_TRY(aa_source_tokenizer(base, &own, err));
        other = !aa_digest_equal(aa_tokenizer_digest(own), aa_tokenizer_digest(job->tokenizer));
        aa_tokenizer_free(own);
    }
    if (other)
        return aa_fail(err, AA_EUSAGE,
                       "--tokenizer %s: the compact vocabulary of '%s' is one of its own "
                       "tokenizer; leave the option out",
                       job->o->tokenizer, base->path);
    AA_TRY(aa_compact_map(base->active_ids, base->n_active, base->full_vocab, &job->compact_map,
                          err));
    job->active_ids = base->active_ids;
    job->n_active = base->n_active;
    job->full_vocab = base->full_vocab;
    base->active_ids = NULL;
    return AA_OK;
}

/* ---- tokens ---------------------------------------------------------------------------------- */

static aa_digest tokens_identity(const aa_tokens *t) {
    size_t n = t->map.size_bytes < ((size_t)1 << 20) ? t->map.size_bytes : (size_t)1 << 20;
    aa_digest d = aa_digest_bytes(t->map.data, n);
    /* Our own format ends with the digest of everything. */
    if (t->map.size_bytes > n) {
        aa_digest tail = aa_digest_bytes(t->map.data + t->map.size_bytes - 128, 128);
        d.lo ^= tail.lo;
    }
    d.hi ^= t->n_tokens;
    return d;
}

/* A token file names its tokenizer by digest; the file itself is expected beside it. */
static aa_status tokenizer_beside(aa_job *job, const char *path, aa_err *err) {
    const char *slash = strrchr(path, '/');
    char *beside = aa_heap_printf("%.*stokenizer.json", slash ? (int)(slash - path + 1) : 0, path);
    if (!beside) return aa_fail_memory(err, "a path", 0);
    aa_sys_info info;
    aa_status st = AA_OK;
    if (aa_sys_stat(&info, beside) == 0 && info.kind == AA_SYS_FILE)
        st = aa_tokenizer_load(&job->tokenizer, beside, err);
    aa_heap_free(beside);
    return st;
}

static uint64_t full_vocab(const aa_job *job) {
    return job->tokenizer ? aa_tokenizer_vocab(job->tokenizer) : (uint64_t)job->config.vocab;
}

static aa_status open_token_file(aa_job *job, const char *path, aa_err *err) {
    if (!job->tokenizer) AA_TRY(tokenizer_beside(job, path, err));
    uint64_t vocab = full_vocab(job);
    if (!vocab)
        return aa_fail(err, AA_EUSAGE,
                       "'%s' is a token file: say which tokenizer made it (--tokenizer FILE) or, "
                       "without one, how many ids it has (--vocab N)",
                       path);
    AA_TRY(aa_tokens_open(&job->tokens, path, vocab,
                          job->tokenizer ? aa_tokenizer_eos(job->tokenizer) : -1, false, err));
    aa_digest none = {0};
    if (job->tokenizer && !aa_digest_equal(job->tokens.tokenizer, none) &&
        !aa_digest_equal(job->tokens.tokenizer, aa_tokenizer_digest(job->tokenizer)))
        return aa_fail(err, AA_EUSAGE,
                       "'%s' was made with another tokenizer than the one given; tokenize the text "
                       "again with `autoane data tokenize`",
                       path);
    return AA_OK;
}

/* transformers 5 opens every directory of a qwen2 model with Qwen2's pre-tokenizer, whatever its
 * tokenizer.json says (Qwen2Tokenizer is forced on that model_type), so a tokenizer for such a
 * model had better have it. */
static aa_split split_of(aa_arch arch) {
    return arch == AA_ARCH_QWEN2 ? AA_SPLIT_QWEN2 : AA_SPLIT_SMOLLM;
}

static void warn_of_split(const aa_job *job, const aa_job_hooks *hooks) {
    if (job->config.arch == AA_ARCH_QWEN2 && job->tokenizer &&
        aa_tokenizer_kind_of(job->tokenizer) == AA_TOKENIZER_BPE &&
        aa_tokenizer_split(job->tokenizer) != AA_SPLIT_QWEN2)
        say(hooks, "this tokenizer cuts text otherwise than Qwen2's, which AutoTokenizer of "
                   "transformers 5 takes for any qwen2 model: open the tokenizer there with "
                   "PreTrainedTokenizerFast");
}

static aa_status open_data(aa_job *job, const char *source, aa_cpu *cpu, size_t trained,
                           const aa_job_hooks *hooks, aa_err *err) {
    if (aa_tokens_is_file(source)) {
        if (aa_opts_from(job->opts, "train-on") == AA_FROM_COMMAND)
            return aa_fail(err, AA_EUSAGE,
                           "--train-on: what is learned of '%s' was settled when it was tokenized; "
                           "give `autoane data tokenize` the option", source);
        return open_token_file(job, source, err);
    }
    if (trained) {
        say(hooks, "training the tokenizer");
        AA_TRY(aa_cache_tokenizer(&job->tokenizer, source, trained, split_of(job->config.arch),
                                  aa_cpu_pool(cpu), err));
    }
    char *path = NULL;
    const aa_tokenize_options o = {.chat_template = job->chat_template,
                                   .train_on = (aa_train_on)job->o->train_on};
    AA_TRY(aa_cache_tokens(&path, source, job->tokenizer, aa_cpu_pool(cpu), &o, hooks, err));
    aa_status st = open_token_file(job, path, err);
    aa_heap_free(path);
    return st;
}

/* ---- floor ----------------------------------------------------------------------------------- */

/* If the validation text was made by the story generator, its exact surprisal is the floor of any
 * loss on it. */
static aa_status find_floor(aa_job *job, aa_err *err) {
    job->floor_nats_per_byte = NAN;
    const aa_tokens *t = &job->tokens;
    if (!job->tokenizer || job->examples) return AA_OK;
    double bits = 0; size_t bytes = 0;
    aa_text text = {0};
    aa_status st = AA_OK;
    bool generated = true;
    for (uint64_t d = 0; d < t->n_documents && generated && !st && bytes < FLOOR_MAX_BYTES; d++) {
        if (t->part[d] != AA_PART_VALID) continue;
        aa_text_clear(&text);
        for (uint64_t i = t->document[d]; i < t->document[d + 1] && !st; i++) {
            int32_t id = aa_tokens_at(t, i);
            st = aa_decode(job->tokenizer, &id, 1, false, &text, err);
        }
        double b = 0; size_t n_stories = 0;
        if (!st && !(st = aa_text_status(&text, err))) {
            generated = text.len && aa_story_corpus_surprisal(text.data, text.len, &b, &n_stories,
                                                              NULL) == AA_OK;
            bits += b;
            bytes += text.len;
        }
    }
    aa_text_release(&text);
    if (!st && generated && bytes) job->floor_nats_per_byte = bits * log(2) / (double)bytes;
    return st;
}

/* ---- the whole ------------------------------------------------------------------------------- */

static aa_status settle_vocab(aa_job *job, size_t trained, aa_err *err) {
    aa_config *c = &job->config;
    int64_t have = job->tokenizer ? (int64_t)aa_tokenizer_vocab(job->tokenizer) : (int64_t)trained;
    if (job->n_active) have = (int64_t)job->n_active;
    bool asked = aa_opts_from(job->opts, "vocab") != AA_FROM_DEFAULT;
    if (asked && !job->n_active && c->vocab < have)
        return aa_fail(err, AA_EUSAGE, "--vocab %lld is smaller than the tokenizer's %lld ids",
                       (long long)c->vocab, (long long)have);
    if (!have && !c->vocab)
        return aa_fail(err, AA_EUSAGE, "the vocabulary is unknown: give --tokenizer or --vocab");
    int64_t ids = job->n_active ? (int64_t)job->full_vocab : have;
    if (job->o->base && ids > job->base_vocab)
        return aa_fail(err, AA_EUSAGE, "the tokenizer has %lld ids, the base model only %lld rows",
                       (long long)ids, (long long)job->base_vocab);
    if (have && (job->n_active || (!asked && !job->o->base))) c->vocab = have;
    AA_TRY(aa_config_resolve(c, err));
    /* A checkpoint must be expressible before hours go into it. */
    aa_text json = {0};
    aa_status st = aa_hf_config_json(c, NULL, AA_TYPE_F32, &json, err);
    aa_text_release(&json);
    return st;
}

static aa_status check_options(const aa_job *job, bool dry, aa_err *err) {
    const aa_train_options *o = job->o;
    if (!o->data && !dry)
        return aa_fail(err, AA_EUSAGE,
                       "--data is missing: a text file, JSONL, directory, token file or 'stories'");
    if (o->base && o->model.head_rank)
        return aa_fail(err, AA_EUSAGE,
                       "--head-rank starts a new head and --base keeps the model's: use one of "
                       "them");
    /* In a config file the preset always stands, for files are complete: there the base wins. */
    if (o->base && aa_opts_from(job->opts, "preset") == AA_FROM_COMMAND)
        return aa_fail(err, AA_EUSAGE,
                       "--preset and --base both name a model shape: use one of them");
    AA_TRY(aa__adapter_check(o, err));
    if (o->budget.value <= 0)
        return aa_fail(err, AA_EUSAGE,
                       "--budget must be more than nothing: 120s, 500steps, 2Mtok, 1e13flop");
    if (o->warmup + (o->schedule == AA_SCHEDULE_WSD ? o->cooldown : 0) > 1)
        return aa_fail(err, AA_EUSAGE,
                       "--warmup %g and --cooldown %g are shares of one budget: together at most 1",
                       o->warmup, o->cooldown);
    return o->data && strcmp(o->data, "stories") ? aa_data_check(o->data, err) : AA_OK;
}

static aa_status settle(aa_job *job, aa_err *err) {
    const aa_train_options *o = job->o;
    aa_train_options_settle(job->opts, &job->config);
    if (o->min_lr > o->lr)
        return aa_fail(err, AA_EUSAGE, "--min-lr %g is above --lr %g", o->min_lr, o->lr);
    return AA_OK;
}

static aa_status batch_shape(aa_job *job, aa_err *err) {
    aa_train_options *o = job->o;
    job->T = (size_t)job->config.seq;
    if (aa_opts_from(job->opts, "batch-tokens") == AA_FROM_DEFAULT &&
        o->batch_tokens < job->config.seq)
        o->batch_tokens = job->config.seq;
    if (o->batch_tokens < job->config.seq)
        return aa_fail(err, AA_EUSAGE, "--batch-tokens %lld is less than one window of --seq %lld",
                       (long long)o->batch_tokens, (long long)job->config.seq);
    job->B = (size_t)(o->batch_tokens / job->config.seq);
    return AA_OK;
}

/* Weight gradients of bfloat16 products add tokens in pairs or more: a pass must end between them.
 * What 'auto' became is kept: a resumed run needs the same. */
static aa_status settle_compute(aa_job *job, aa_cpu *cpu, aa_err *err) {
    aa_train_options *o = job->o;
    bool may = o->compute == AA_COMPUTE_AUTO;
    AA_TRY(aa_cpu_set_compute(cpu, (aa_compute)o->compute, err));
    size_t unit = aa_cpu_batch_unit(cpu);
    if (job->T % unit && may) AA_TRY(aa_cpu_set_compute(cpu, AA_COMPUTE_F32, err));
    if (job->T % unit && !may)
        return aa_fail(err, AA_EUSAGE,
                       "--compute bf16 needs a --seq that is a multiple of %zu here, not %lld",
                       unit, (long long)job->config.seq);
    o->compute = (int)aa_cpu_compute(cpu);
    return AA_OK;
}

static aa_status open_set(aa_job *job, aa_cpu *cpu, aa_examples *set, aa_part part,
                          const char *name, const aa_job_hooks *hooks, aa_err *err) {
    AA_TRY(aa_examples_init(set, &job->tokens, part, job->T, err));
    set->map = job->compact_map;
    set->packing = job->o->packing && job->o->method == AA_METHOD_BACKPROP;
    set->unit = aa_cpu_batch_unit(cpu);
    if (!set->n)
        return aa_fail(err, AA_EUSAGE,
                       "the %s part has no example with something to learn in its first %zu "
                       "tokens; give more examples or a larger --seq", name, job->T);
    if (!set->n_cut) return AA_OK;
    aa_text line = {0};
    aa_text_printf(&line, "%llu of %llu %s examples are longer than --seq %zu and are cut there",
                   (unsigned long long)set->n_cut, (unsigned long long)(set->n + set->n_empty),
                   name, job->T);
    if (set->n_empty)
        aa_text_printf(&line, "; %llu of them have nothing left to learn and are left out",
                       (unsigned long long)set->n_empty);
    aa_status st = aa_text_status(&line, err);
    if (!st) say(hooks, line.data);
    aa_text_release(&line);
    return st;
}

/* How full the windows are is measured on the first epoch. */
static aa_status open_examples(aa_job *job, aa_cpu *cpu, const aa_job_hooks *hooks,
                               aa_err *err) {
    job->examples = true;
    AA_TRY(open_set(job, cpu, &job->train_set, AA_PART_TRAIN, "training", hooks, err));
    AA_TRY(open_set(job, cpu, &job->valid_set, AA_PART_VALID, "validation", hooks, err));
    uint64_t windows = aa_examples_windows(&job->train_set, (uint64_t)job->o->seed);
    job->n_epoch_tokens = (double)job->train_set.n_rows;
    job->fill = job->n_epoch_tokens / ((double)windows * (double)job->T);
    return AA_OK;
}

static aa_status open_streams(aa_job *job, aa_cpu *cpu, const aa_job_hooks *hooks, aa_err *err) {
    AA_TRY(aa_stream_init(&job->train, &job->tokens, AA_PART_TRAIN, err));
    AA_TRY(aa_stream_init(&job->valid, &job->tokens, AA_PART_VALID, err));
    if (job->compact_map) {
        AA_TRY(aa_stream_restrict(&job->train, job->compact_map, job->tokenizer, err));
        AA_TRY(aa_stream_restrict(&job->valid, job->compact_map, job->tokenizer, err));
    }
    if (job->tokens.unlearned) return open_examples(job, cpu, hooks, err);
    uint64_t windows = aa_stream_windows(&job->train, job->T);
    if (!windows)
        return aa_fail(err, AA_EUSAGE,
                       "the training part has %llu tokens, less than one window of %zu; give more "
                       "text or a smaller --seq",
                       (unsigned long long)job->train.n_tokens, job->T);
    job->n_epoch_tokens = (double)windows * (double)job->T;
    if (!aa_stream_windows(&job->valid, job->T))
        return aa_fail(err, AA_EUSAGE,
                       "the validation part has %llu tokens, less than one window of %zu; give "
                       "more text or a smaller --seq",
                       (unsigned long long)job->valid.n_tokens, job->T);
    return AA_OK;
}

/* A low-rank head wants ids in order of frequency: those of a compact vocabulary, or all. */
static aa_status rank_ids(aa_job *job, aa_err *err) {
    if (!job->n_active) {
        size_t n = (size_t)job->config.vocab;
        job->compact_map = aa_heap_alloc(n, sizeof *job->compact_map);
        job->active_ids = aa_heap_alloc(n, sizeof *job->active_ids);
        if (!job->compact_map || !job->active_ids)
            return aa_fail_memory(err, "the order of token ids", n * 8);
        for (size_t i = 0; i < n; i++) job->active_ids[i] = (int32_t)i;
        job->n_active = job->full_vocab = n;
    }
    return aa_rank_vocabulary(&job->tokens, AA_PART_TRAIN, job->full_vocab, job->compact_map,
                              job->active_ids, job->n_active, err);
}

/* The options keep the preset that was chosen: a run that is repeated or resumed is that run. */
static aa_status choose_preset(aa_job *job, aa_cpu *cpu, bool dry, aa_err *err) {
    aa_train_options *o = job->o;
    uint64_t bytes = 0;
    job->preset = aa_preset_find(o->preset ? o->preset : "");
    if (o->base || !o->preset || strcmp(o->preset, "auto") != 0) return AA_OK;
    if (o->data && strcmp(o->data, "stories") == 0) bytes = (uint64_t)AA_STORIES_MIB << 20;
    else if (o->data) AA_TRY(aa_source_size(&bytes, o->data, err));
    AA_TRY(aa__auto_preset(&job->preset, job->opts, bytes, cpu, job->why, sizeof job->why, err));
    if (dry) return AA_OK;
    char *name = aa_heap_strdup(job->preset->name);
    if (!name) return aa_fail_memory(err, "a name", 0);
    aa_heap_free(o->preset);
    o->preset = name;
    return AA_OK;
}

static aa_status settle_device(aa_job *job, aa_cpu *cpu, aa_err *err) {
    aa_train_options *o = job->o;
    if (o->device != AA_DEVICE_BLAS) return AA_OK;
    if (o->compute == AA_COMPUTE_BF16)
        return aa_fail(err, AA_EUSAGE,
                       "--device blas multiplies floats: use --compute f32, or --device cpu");
    o->compute = AA_COMPUTE_F32;
    return aa_blas_open(&job->blas, cpu, o->blas, err);
}

void aa_job_backend(const aa_job *job, aa_cpu *cpu, aa_backend *out) {
    if (job->blas) aa_backend_blas(out, cpu, job->blas);
    else aa_backend_cpu(out, cpu);
}

/* The weights of the base stay where they are if its files have every row of the model as it is. */
static aa_status settle_adapter(aa_job *job, aa_source **base, aa_err *err) {
    const aa_train_options *o = job->o;
    if (o->adapter == AA_ADAPTER_NONE) return AA_OK;
    AA_TRY(aa__adapter_of_options(o, &job->config, &job->lora_storage, &job->sites, err));
    job->lora = &job->lora_storage;
    if (job->n_active || job->config.head_rank || (*base)->merge) return AA_OK;
    if (o->method == AA_METHOD_ZO && aa_zo_writes_matrices(&o->zo)) return AA_OK;
    job->source = *base;
    *base = NULL;
    return AA_OK;
}

static aa_status open_job(aa_job *job, aa_cpu *cpu, bool dry, const aa_job_hooks *hooks,
                          char **source, aa_source **base, aa_err *err) {
    const aa_train_options *o = job->o;
    AA_TRY(aa_zo_run_settle(job->opts, err));
    AA_TRY(check_options(job, dry, err));
    AA_TRY(choose_preset(job, cpu, dry, err));
    AA_TRY(settle_device(job, cpu, err));
    AA_TRY(aa_cpu_set_compute(cpu, (aa_compute)o->compute, err));  /* refused before work begins */
    AA_TRY(shape_of(job, base, err));
    if (o->template) {
        aa_heap_free(job->chat_template);
        job->chat_template = NULL;
        AA_TRY(aa_file_text(&job->chat_template, o->template, err));
    }
    bool stories = o->data && strcmp(o->data, "stories") == 0;
    if (o->data && !stories && !(*source = aa_heap_strdup(o->data)))
        return aa_fail_memory(err, "a path", 0);
    size_t trained = 0;
    /* A plan without a text takes the vocabulary that is asked for or that the shape came with. */
    bool vocab_known = dry && (aa_opts_from(job->opts, "vocab") != AA_FROM_DEFAULT ||
                               (!o->data && job->config.vocab > 0));
    if (!vocab_known) AA_TRY(choose_tokenizer(job, *source, *base, &job->tokenizer, &trained, err));
    AA_TRY(keep_compact(job, *base, trained, err));
    if (dry) {
        if (*source && !vocab_known && !job->tokenizer && !trained)
            AA_TRY(open_token_file(job, *source, err));
        AA_TRY(settle_vocab(job, trained, err));
        AA_TRY(batch_shape(job, err));
        AA_TRY(settle_compute(job, cpu, err));
        AA_TRY(settle(job, err));
        return settle_adapter(job, base, err);
    }
    if (stories) AA_TRY(aa_cache_stories(source, err));
    AA_TRY(open_data(job, *source, cpu, trained, hooks, err));
    warn_of_split(job, hooks);
    if (o->compact_vocab && !job->tokenizer)
        return aa_fail(err, AA_EUSAGE,
                       "--compact-vocab needs the tokenizer of '%s', whose ids the model is "
                       "written with; give --tokenizer FILE",
                       o->data);
    if (o->compact_vocab) {
        job->full_vocab = full_vocab(job);
        AA_TRY(aa_compact_vocabulary(&job->tokens, job->full_vocab,
                                     aa_tokenizer_eos(job->tokenizer), &job->compact_map,
                                     &job->active_ids, &job->n_active, err));
    }
    AA_TRY(settle_vocab(job, 0, err));
    if (job->config.head_rank) AA_TRY(rank_ids(job, err));
    AA_TRY(batch_shape(job, err));
    AA_TRY(settle_compute(job, cpu, err));
    AA_TRY(open_streams(job, cpu, hooks, err));
    job->tokens_digest = tokens_identity(&job->tokens);
    AA_TRY(settle(job, err));
    AA_TRY(settle_adapter(job, base, err));
    return find_floor(job, err);
}

aa_status aa_job_open(aa_job *out, aa_opts *opts, aa_cpu *cpu, bool dry, const aa_job_hooks *hooks,
                      aa_err *err) {
    /* Opened in place: the streams point at out->tokens. */
    *out = (aa_job){.opts = opts, .o = opts->values, .floor_nats_per_byte = NAN,
                    .n_epoch_tokens = NAN, .fill = 1};
    char *source = NULL;
    aa_source *base = NULL;
    aa_status st = open_job(out, cpu, dry, hooks, &source, &base, err);
    aa_heap_free(source);
    aa_source_close(base);
    if (st) aa_job_close(out);
    return st;
}

void aa_job_close(aa_job *job) {
    aa_blas_close(job->blas);
    aa_source_close(job->source);
    aa_heap_free(job->sites);
    aa_stream_release(&job->train);
    aa_stream_release(&job->valid);
    aa_examples_release(&job->train_set);
    aa_examples_release(&job->valid_set);
    aa_tokens_close(&job->tokens);
    aa_tokenizer_free(job->tokenizer);
    aa_heap_free(job->chat_template);
    aa_heap_free(job->compact_map);
    aa_heap_free(job->active_ids);
    memset(job, 0, sizeof *job);
}
