/* convert/gguf_write: any source as a GGUF file that llama.cpp opens.
 *
 * Which type a matrix gets is llama.cpp's choice (llama_model_quantize), so that a name like Q4_K_M
 * means the same: the head, or the embedding where that is the head, has Q6_K unless all is Q8_0;
 * in the mixture, attn_v and ffn_down of the first and the last eighth of the layers and of every
 * third between have Q6_K, too. Types whose blocks do not fit a row give way: Q4_K to Q5_0, Q6_K to
 * Q8_0, whatever fits no row to F16.
 * Rows are in the order of the format (gguf_names.c).
 */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/memory.h"
#include "base/number.h"
#include "convert/convert.h"
#include "convert/gguf_int.h"
#include "convert/stream.h"
#include "data/chat.h"

enum { MOSTLY_Q4_K_M = 15 };             /* general.file_type of the mixture */

typedef struct writer {
    aa_source *s;
    const aa_convert_options *o;
    aa_config config;                    /* with the ids that the file has rows for */
    aa_arena arena;
    aa__entry *entries; size_t n;
    aa__stream stream;
} writer;

/* ---- types ----------------------------------------------------------------------------------- */

static bool gets_more_bits(int64_t layer, int64_t layers) {
    return layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2;
}

static aa_type wanted_type(const writer *w, const aa_tensor *row, const aa_stored *from) {
    aa_type type = w->o->type;
    bool head = row->kind == AA_KIND_HEAD || (row->kind == AA_KIND_EMBEDDING && w->config.tied);

    if (aa_tensor_is_vector(row)) return AA_TYPE_F32;
    if (type == AA_TYPE_COUNT) {
        if (aa__gguf_file_type(from->type) >= 0 &&
            (!from->delta || aa_type_can_quantize(from->type)))
            return from->type;
        return from->type == AA_TYPE_F64 ? AA_TYPE_F32 : AA_TYPE_F16;     /* F8: exact */
    }
    if (aa_type_block(type) == 1 || type == AA_TYPE_Q8_0) return type;
    if (head) return AA_TYPE_Q6_K;
    bool sensitive = strstr(row->name, ".v_proj.") || strstr(row->name, ".down_proj.");
    return w->o->mixed && sensitive && gets_more_bits(row->layer, w->config.layers) ? AA_TYPE_Q6_K
                                                                                     : type;
}

static aa_type fitting_type(aa_type type, size_t cols) {
    static const struct { aa_type type, instead; } fallbacks[] = {{AA_TYPE_Q4_K, AA_TYPE_Q5_0},
                                                                  {AA_TYPE_Q6_K, AA_TYPE_Q8_0}};
    for (size_t i = 0; i < 2 && cols % aa_type_block(type); i++)
        if (fallbacks[i].type == type) type = fallbacks[i].instead;
    return cols % aa_type_block(type) ? AA_TYPE_F16 : type;
}

/* ---- what is written ------------------------------------------------------------------------- */

static aa_status check_expressible(const aa_config *c, aa_type type, aa_err *err) {
    const char *what = NULL;

    if (type != AA_TYPE_COUNT && (!aa_type_can_quantize(type) || aa__gguf_file_type(type) < 0))
        return aa_fail(err, AA_EUNSUPPORTED, "weights cannot be written as %s: choose F32, F16, "
                       "BF16, Q8_0, Q4_0, Q4_K or Q6_K", aa_type_name(type));
    if (c->arch == AA_ARCH_QWEN3 && c->qkv_bias) what = "biases";
    if (c->arch != AA_ARCH_LLAMA && c->rope_scaling == AA_ROPE_LLAMA3)
        what = "Llama 3's scaling of rotary frequencies";
    return what ? aa_fail(err, AA_EUNSUPPORTED, "%s models with %s cannot be written as GGUF: "
                          "llama.cpp has none", aa_arch_name(c->arch), what) : AA_OK;
}

static aa_status add_entry(writer *w, const aa_tensor *row, aa_err *err) {
    aa__entry *e = &w->entries[w->n];
    const double scale = aa__residual_scale_of(&w->s->config, row);

    AA_TRY(w->s->find(w->s, row, &e->from, err));
    aa_assert(aa__gguf_name(row->name, e->name));
    e->vector = aa_tensor_is_vector(row);
    e->scale = scale == 1 ? 0 : scale;
    e->mapped = w->s->mapped;
    e->paired = aa__gguf_paired(&w->config, row->name);
    e->to = fitting_type(wanted_type(w, row, &e->from), e->from.cols);
    if (e->vector && aa_type_block(e->from.type) == 1)   /* rows of one element can be ordered */
        e->from.rows *= e->from.cols, e->from.cols = 1;
    w->n++;
    return AA_OK;
}

/* Llama 3's scaling is a tensor of binary32, before those of the layers. */
static aa_status add_divisors(writer *w, aa_err *err) {
    size_t n = (size_t)w->config.head_dim / 2;
    double *wide = aa_arena_new(&w->arena, double, 2 * n);
    float *divisors = aa_arena_new(&w->arena, float, n);
    aa__entry *e = &w->entries[w->n++];

    AA_TRY(aa_arena_status(&w->arena, err));
    aa__gguf_rope_divisors(&w->config, wide);
    for (size_t i = 0; i < n; i++) divisors[i] = (float)wide[i];
    *e = (aa__entry){.name = AA__GGUF_ROPE_FREQS, .to = AA_TYPE_F32, .vector = true,
                 .from = {.type = AA_TYPE_F32, .rows = n, .cols = 1,
                          .data = (const unsigned char *)divisors}};
    return AA_OK;
}

static aa_status list_entries(writer *w, aa_err *err) {
    size_t n = aa_model_rows(&w->s->config, NULL, 0);
    aa_tensor *rows = aa_arena_new(&w->arena, aa_tensor, n);

    w->entries = aa_arena_new(&w->arena, aa__entry, n + 1);
    AA_TRY(aa_arena_status(&w->arena, err));
    aa_model_rows(&w->s->config, rows, n);
    for (size_t i = 0; i < n; i++) AA_TRY(add_entry(w, &rows[i], err));
    if (w->config.rope_scaling == AA_ROPE_LLAMA3) AA_TRY(add_divisors(w, err));
    return w->s->check_all_read ? w->s->check_all_read(w->s, err) : AA_OK;
}

/* ---- keys ------------------------------------------------------------------------------------ */

/* The key of the architecture. */
static const char *key(const writer *w, const char *suffix, char name[AA__GGUF_NAME]) {
    snprintf(name, AA__GGUF_NAME, "%s.%s", aa_arch_name(w->config.arch), suffix);
    return name;
}

/* As others write it: two digits at least, "135M", "3.2K", "1.7B". */
static void put_size_label(aa_gguf_header *h, double n) {
    static const struct { double unit; char letter; } units[] = {{1e12, 'T'}, {1e9, 'B'},
                                                                 {1e6, 'M'}, {0, 'K'}};
    size_t i = 0;
    char text[32];

    while (n <= units[i].unit) i++;
    double scaled = n / (units[i].unit ? units[i].unit : 1e3);
    aa_number_print(text, sizeof text, "%.*f%c",
                    round(scaled) >= 10 ? 0 : round(scaled) >= 1 ? 1 : 2, scaled, units[i].letter);
    aa_gguf_put_string(h, "general.size_label", text);
}

static aa_status put_general(const writer *w, const char *path, aa_gguf_header *h, aa_err *err) {
    const char *slash = strrchr(path, '/');
    char *name = aa_heap_strdup(w->o->name ? w->o->name : slash ? slash + 1 : path);

    if (!name) return aa_fail_memory(err, "a name", 0);
    size_t n = strlen(name);
    if (!w->o->name && n > 5 && strcmp(name + n - 5, ".gguf") == 0) name[n - 5] = 0;
    aa_gguf_put_string(h, "general.architecture", aa_arch_name(w->config.arch));
    aa_gguf_put_string(h, "general.type", "model");
    aa_gguf_put_string(h, "general.name", name);
    put_size_label(h, (double)aa_config_params(&w->config));
    aa_heap_free(name);
    return AA_OK;
}

static void put_config(const writer *w, aa_gguf_header *h) {
    const aa_config *c = &w->config;
    char name[AA__GGUF_NAME];

    for (const aa__gguf_size *z = aa__gguf_sizes; z->suffix; z++)
        aa_gguf_put_int(h, key(w, z->suffix, name), AA_GGUF_U32,
                        *(const int64_t *)(const void *)((const char *)c + z->at));
    aa_gguf_put_f32(h, key(w, "attention.layer_norm_rms_epsilon", name), (float)c->norm_eps);
    aa_gguf_put_f32(h, key(w, "rope.freq_base", name), (float)c->rope_theta);
    if (c->rope_scaling == AA_ROPE_LINEAR) {
        aa_gguf_put_string(h, key(w, "rope.scaling.type", name), "linear");
        aa_gguf_put_f32(h, key(w, "rope.scaling.factor", name), (float)c->rope_factor);
    }
    if (c->rope_scaling != AA_ROPE_LLAMA3) return;
    aa_gguf_put_int(h, key(w, "rope.scaling.original_context_length", name), AA_GGUF_U32,
                    c->rope_original_seq);
    aa_gguf_put_f32(h, key(w, "rope.scaling.low_freq_factor", name), (float)c->rope_low_freq);
    aa_gguf_put_f32(h, key(w, "rope.scaling.high_freq_factor", name), (float)c->rope_high_freq);
}

/* A token that ends an answer and is not the end of text, which llama.cpp stops at, too. */
static void put_end_of_turn(const writer *w, const aa_tokenizer *t, aa_gguf_header *h) {
    int32_t ids[2];
    aa_chat *chat = NULL;

    if (!w->s->chat_template || aa_chat_new(&chat, w->s->chat_template, t, NULL)) return;
    for (size_t n = aa_chat_end_ids(chat, t, ids); n-- > 0;)
        if (ids[n] != aa_tokenizer_eos(t))
            aa_gguf_put_int(h, "tokenizer.ggml.eot_token_id", AA_GGUF_U32, ids[n]);
    aa_chat_free(chat);
}

static void put_vocab(const aa_ggml_vocab *v, aa_gguf_header *h) {
    const struct { const char *key; int32_t id; } roles[] = {
        {"tokenizer.ggml.bos_token_id", v->bos}, {"tokenizer.ggml.eos_token_id", v->eos},
        {"tokenizer.ggml.unknown_token_id", v->unk}, {"tokenizer.ggml.padding_token_id", v->pad}};
    const struct { const char *key; int flag; } flags[] = {
        {"tokenizer.ggml.add_bos_token", v->add_bos},
        {"tokenizer.ggml.add_space_prefix", v->add_space_prefix}};

    aa_gguf_put_string(h, "tokenizer.ggml.model", v->model);
    if (v->pre) aa_gguf_put_string(h, "tokenizer.ggml.pre", v->pre);
    aa_gguf_put_strings(h, "tokenizer.ggml.tokens", v->n_tokens, v->token, v->token_len);
    if (v->score)
        aa_gguf_put_array(h, "tokenizer.ggml.scores", AA_GGUF_F32, v->n_tokens, v->score);
    aa_gguf_put_array(h, "tokenizer.ggml.token_type", AA_GGUF_I32, v->n_tokens, v->type);
    if (!v->score)
        aa_gguf_put_strings(h, "tokenizer.ggml.merges", v->n_merges, v->merge, v->merge_len);
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++)
        if (roles[i].id >= 0) aa_gguf_put_int(h, roles[i].key, AA_GGUF_U32, roles[i].id);
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
        if (flags[i].flag >= 0) aa_gguf_put_int(h, flags[i].key, AA_GGUF_BOOL, flags[i].flag);
}

/* Without a tokenizer, ids may still be bytes; else the file has no vocabulary. */
static aa_status put_tokenizer(const writer *w, aa_gguf_header *h, aa_err *err) {
    enum { BYTES = 257 };
    aa_tokenizer *t = NULL;
    aa_ggml_vocab v = {0};
    aa_arena arena;

    if (!w->s->tokenizer_path && w->s->full_vocab != BYTES) {
        aa_gguf_put_string(h, "tokenizer.ggml.model", "no_vocab");
        return AA_OK;
    }
    AA_TRY(aa_source_tokenizer(w->s, &t, err));
    aa_arena_init(&arena, "writing a tokenizer");
    aa_status st = aa_tokenizer_ggml(t, w->s->full_vocab, &arena, &v, err);
    if (!st) {
        put_vocab(&v, h);
        put_end_of_turn(w, t, h);
        if (w->s->chat_template)
            aa_gguf_put_string(h, "tokenizer.chat_template", w->s->chat_template);
    }
    aa_arena_release(&arena);
    aa_tokenizer_free(t);
    return st;
}

static int file_type(const writer *w) {
    if (w->o->mixed) return MOSTLY_Q4_K_M;
    if (w->o->type != AA_TYPE_COUNT) return aa__gguf_file_type(w->o->type);
    return aa__gguf_file_type(aa__most_common_type(w->entries, w->n));
}

static void put_types(const writer *w, aa_gguf_header *h) {
    bool quantised = false;

    for (size_t i = 0; i < w->n; i++) quantised |= aa_type_block(w->entries[i].to) > 1;
    aa_gguf_put_int(h, "general.file_type", AA_GGUF_U32, file_type(w));
    if (quantised) aa_gguf_put_int(h, "general.quantization_version", AA_GGUF_U32, 2);
}

/* All keys but those that depend on what is written: how it is aligned and split, and, unless all
 * stays as it is, the types. */
static void copy_keys(const writer *w, const aa_gguf *from, aa_gguf_header *h) {
    static const char *const own[] = {"general.alignment", "split.no", "split.count",
                                      "split.tensors.count", "general.file_type",
                                      "general.quantization_version"};
    const aa_gguf_key *skip[sizeof own / sizeof *own];
    bool keep = w->o->type == AA_TYPE_COUNT && aa_gguf_find_key(from, "general.file_type");
    size_t n_skip = keep ? 4 : 6;

    for (size_t j = 0; j < n_skip; j++) skip[j] = aa_gguf_find_key(from, own[j]);
    for (size_t i = 0; i < from->n_keys; i++) {
        bool skipped = false;

        for (size_t j = 0; j < n_skip; j++) skipped |= skip[j] == &from->keys[i];
        if (!skipped) aa_gguf_put_key(h, &from->keys[i]);
    }
    if (!keep) put_types(w, h);
}

static aa_status put_keys(const writer *w, const char *path, aa_gguf_header *h, aa_err *err) {
    if (strcmp(w->s->format, "gguf") == 0) {
        copy_keys(w, aa__gguf_of(w->s), h);
        return AA_OK;
    }
    AA_TRY(put_general(w, path, h, err));
    put_types(w, h);
    put_config(w, h);
    return put_tokenizer(w, h, err);
}

/* ---- files ----------------------------------------------------------------------------------- */

static void put_entry(const aa__entry *e, aa_gguf_header *h) {
    uint64_t n = (uint64_t)e->from.rows * e->from.cols, dims[2] = {e->from.cols, e->from.rows};
    uint32_t type = 0;

    aa_assert(aa_gguf_type_named(aa_type_name(e->to), &type));
    aa_gguf_put_tensor(h, e->name, type, e->vector ? 1 : 2, e->vector ? &n : dims);
}

/* Entries begin .. end as file i of n. */
typedef struct shard { size_t begin, end, i, n; } shard;

static aa_status write_shard(const writer *w, const char *path, const shard *d, aa_err *err) {
    aa_gguf_header h = {0};
    aa_outfile *f = NULL;
    char *name = aa_gguf_split_path(path, d->i, d->n);
    aa_status st = name ? AA_OK : aa_fail_memory(err, "a path", strlen(path));

    if (!st && d->i == 0) st = put_keys(w, path, &h, err);
    if (d->n > 1) {
        aa_gguf_put_int(&h, "split.no", AA_GGUF_U16, (int64_t)d->i);
        aa_gguf_put_int(&h, "split.count", AA_GGUF_U16, (int64_t)d->n);
        aa_gguf_put_int(&h, "split.tensors.count", AA_GGUF_I32, (int64_t)w->n);
    }
    for (size_t i = d->begin; i < d->end; i++) put_entry(&w->entries[i], &h);
    if (!st) st = aa_outfile_open(&f, name, err);
    if (!st) st = aa_gguf_begin(f, &h, err);
    aa_gguf_header_release(&h);
    for (size_t i = d->begin; !st && i < d->end; i++) {
        st = aa__stream_entry(&w->stream, &w->entries[i], f, err);
        aa_gguf_pad(f);
    }
    if (!st) st = aa_outfile_commit(f, NULL, err);
    else if (f) aa_outfile_abort(f);
    aa_heap_free(name);
    return st;
}

/* The last file first: without the first one the others are no model. */
static aa_status write_shards(const writer *w, const char *path, aa_err *err) {
    shard *shards = aa_heap_alloc(w->n, sizeof *shards);
    size_t n = 0;
    aa_status st = AA_OK;

    if (!shards) return aa_fail_memory(err, "the list of files", w->n * sizeof *shards);
    for (size_t at = 0; at < w->n; n++) {
        size_t end = aa__shard_end(w->entries, w->n, at, w->o->shard_bytes);

        shards[n] = (shard){.begin = at, .end = end, .i = n};
        at = end;
    }
    for (size_t i = n; !st && i-- > 0;) {
        shards[i].n = n;
        st = write_shard(w, path, &shards[i], err);
    }
    aa_heap_free(shards);
    return st;
}

aa_status aa_gguf_write(const char *path, aa_source *s, const aa_convert_options *o, aa_err *err) {
    writer w = {.s = s, .o = o, .config = s->config};

    w.config.vocab = (int64_t)s->full_vocab;
    AA_TRY(check_expressible(&w.config, o->type, err));
    aa_arena_init(&w.arena, "writing a model");
    aa_status st = list_entries(&w, err);
    if (!st) aa__stream_init(&w.stream, s->path, o, w.entries, w.n, &w.arena);
    if (!st) st = aa_arena_status(&w.arena, err);
    if (!st) st = write_shards(&w, path, err);
    aa_arena_release(&w.arena);
    return st;
}
