/* convert/gguf_read: a GGUF file as a source.
 *
 * Reading is a search for reasons to refuse, as for config.json: a key that changes what the model
 * computes, and that is ignored, gives a model that runs and is wrong. So such keys are refused
 * unless they say what is done anyway, and every tensor must be used.
 *
 * Numbers are binary32 in the file where the model's author wrote decimals: they are read as the
 * shortest decimal that is the same binary32, which gives back 1e-05 for an epsilon.
 *
 * Llama 3's scaling of frequencies is no key but a tensor of divisors. Ours is a formula, whose
 * parameters llama.cpp does not need and other converters do not write: where they are absent those
 * of Llama 3 are taken, and the tensor must say the same.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/memory.h"
#include "base/number.h"
#include "convert/gguf_int.h"

typedef struct gguf_self { aa_gguf file; bool *used; } gguf_self;

const aa_gguf *aa__gguf_of(const aa_source *s) { return &((const gguf_self *)s->self)->file; }

static void gguf_close(aa_source *s) {
    gguf_self *self = s->self;

    aa_gguf_close(&self->file);
    aa_heap_free(self->used);
    aa_heap_free(self);
    s->self = NULL;
}

/* ---- keys ------------------------------------------------------------------------------------ */

/* The key "<arch>.suffix", or the suffix as it is if that names no architecture. */
static const aa_gguf_key *key_of(const aa_source *s, const char *suffix, char name[AA__GGUF_NAME]) {
    bool whole = strncmp(suffix, "general.", 8) == 0 || strncmp(suffix, "tokenizer.", 10) == 0;

    snprintf(name, AA__GGUF_NAME, "%s%s%s", whole ? "" : aa_arch_name(s->config.arch),
             whole ? "" : ".", suffix);
    return aa_gguf_find_key(aa__gguf_of(s), name);
}

static aa_status wrong_kind(const aa_source *s, const aa_gguf_key *k, const char *wanted,
                            aa_err *err) {
    return aa_fail(err, AA_EFORMAT, "'%s': key '%.*s' is %s%s; it must be %s", s->path,
                   (int)k->name.n, k->name.s, k->array ? "an array of " : "of kind ",
                   aa_gguf_kind_name(k->kind), wanted);
}

/* Values of absent keys stay as they are. */
static aa_status get_int(const aa_source *s, const char *suffix, int64_t lo, int64_t *out,
                         aa_err *err) {
    char name[AA__GGUF_NAME];
    const aa_gguf_key *k = key_of(s, suffix, name);
    int64_t v;

    if (!k) return AA_OK;
    if (k->array || !aa_gguf_int(k, 0, &v)) return wrong_kind(s, k, "a whole number", err);
    if (v < lo || v > INT32_MAX)
        return aa_fail(err, AA_EFORMAT, "'%s': key '%s' is %lld; allowed are %lld to %d", s->path,
                       name, (long long)v, (long long)lo, INT32_MAX);
    *out = v;
    return AA_OK;
}

/* The shortest decimal that is the same binary32. */
static double shortest(float v) {
    char text[32];

    for (int digits = 1; digits < 9; digits++) {
        aa_number_print(text, sizeof text, "%.*g", digits, (double)v);
        if ((float)aa_number_read(text, NULL) == v) return aa_number_read(text, NULL);
    }
    return (double)v;
}

static aa_status get_real(const aa_source *s, const char *suffix, double *out, aa_err *err) {
    char name[AA__GGUF_NAME];
    const aa_gguf_key *k = key_of(s, suffix, name);
    double v;

    if (!k) return AA_OK;
    if (k->array || !aa_gguf_real(k, 0, &v)) return wrong_kind(s, k, "a number", err);
    if (!isfinite(v)) return aa_fail(err, AA_EFORMAT, "'%s': key '%s' is no number", s->path, name);
    *out = k->kind == AA_GGUF_F32 ? shortest((float)v) : v;
    return AA_OK;
}

static aa_status get_bool(const aa_source *s, const char *suffix, int *out, aa_err *err) {
    char name[AA__GGUF_NAME];
    const aa_gguf_key *k = key_of(s, suffix, name);
    bool v;

    if (!k) return AA_OK;
    if (k->array || !aa_gguf_bool(k, 0, &v)) return wrong_kind(s, k, "a bool", err);
    *out = v;
    return AA_OK;
}

/* Into out, a heap string, which must be empty. */
static aa_status get_string(const aa_source *s, const char *suffix, char **out, aa_err *err) {
    char name[AA__GGUF_NAME];
    const aa_gguf_key *k = key_of(s, suffix, name);

    if (!k) return AA_OK;
    if (k->array || k->kind != AA_GGUF_STRING) return wrong_kind(s, k, "a string", err);
    const unsigned char *at = k->data;
    aa_gguf_name v = aa_gguf_string(&at);
    if (memchr(v.s, 0, v.n))
        return aa_fail(err, AA_EFORMAT, "'%s': key '%s' holds a zero byte", s->path, name);
    *out = aa_heap_alloc(v.n + 1, 1);
    if (!*out) return aa_fail_memory(err, "the value of a key", v.n);
    memcpy(*out, v.s, v.n);
    return AA_OK;
}

/* ---- configuration --------------------------------------------------------------------------- */

static aa_status check_kind(const aa_source *s, const char *kind, aa_err *err) {
    if (!kind || strcmp(kind, "model") == 0) return AA_OK;
    return aa_fail(err, AA_EUNSUPPORTED, "'%s' is no model: its general.type is '%.40s'", s->path,
                   kind);
}

static aa_status check_arch(aa_source *s, const char *arch, aa_err *err) {
    for (int a = 0; arch && a < AA_ARCH_COUNT; a++)
        if (strcmp(arch, aa_arch_name(a)) == 0) {
            s->config.arch = a;
            return AA_OK;
        }
    return aa_fail(err, AA_EUNSUPPORTED, "'%s': general.architecture is '%.40s'; supported are "
                   "llama, qwen2 and qwen3", s->path, arch ? arch : "missing");
}

static aa_status read_arch(aa_source *s, aa_err *err) {
    char *arch = NULL, *kind = NULL;
    aa_status st = get_string(s, "general.architecture", &arch, err);

    if (!st) st = get_string(s, "general.type", &kind, err);
    if (!st) st = check_kind(s, kind, err);
    if (!st) st = check_arch(s, arch, err);
    aa_heap_free(arch);
    aa_heap_free(kind);
    return st;
}

/* Keys that change what is computed, and the value that changes nothing. */
static aa_status refuse_foreign_features(const aa_source *s, aa_err *err) {
    static const struct { const char *suffix; double neutral; } keys[] = {
        {"expert_count", 0}, {"attention.sliding_window", 0}, {"attn_logit_softcapping", 0},
        {"final_logit_softcapping", 0}, {"attention.clamp_kqv", 0}, {"logit_scale", 1},
        {"residual_scale", 1}, {"embedding_scale", 1}, {"attention.scale", 0},
        {"rope.scaling.attn_factor", 1}, {"pooling_type", 0}, {"no_rope_layer_interval", 0},
        {"use_parallel_residual", 0},
    };
    int causal = 1;

    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        double v = keys[i].neutral;
        int flag = 0;
        char name[AA__GGUF_NAME];
        const aa_gguf_key *k = key_of(s, keys[i].suffix, name);

        if (k && k->kind == AA_GGUF_BOOL) AA_TRY(get_bool(s, keys[i].suffix, &flag, err));
        else AA_TRY(get_real(s, keys[i].suffix, &v, err));
        if (v != keys[i].neutral || flag)
            return aa_fail(err, AA_EUNSUPPORTED, "'%s': key '%s': this feature is not supported",
                           s->path, name);
    }
    AA_TRY(get_bool(s, "attention.causal", &causal, err));
    if (!causal)
        return aa_fail(err, AA_EUNSUPPORTED, "'%s': attention that sees the future is not "
                       "supported", s->path);
    return AA_OK;
}

static bool has(const aa_source *s, const char *tensor) {
    return aa_gguf_find_tensor(aa__gguf_of(s), tensor) != NULL;
}

static aa_status read_sizes(aa_source *s, aa_err *err) {
    const aa_gguf_tensor *embedding = aa_gguf_find_tensor(aa__gguf_of(s), "token_embd.weight");

    if (!embedding || embedding->n_dims != 2 || embedding->dims[1] > INT32_MAX)
        return aa_fail(err, AA_EFORMAT, "'%s' lacks the tensor 'token_embd.weight', or it is no "
                       "matrix", s->path);
    s->config.vocab = (int64_t)embedding->dims[1];
    for (const aa__gguf_size *z = aa__gguf_sizes; z->suffix; z++) {
        int64_t *field = (int64_t *)(void *)((char *)&s->config + z->at), v = 0;

        AA_TRY(get_int(s, z->suffix, 1, &v, err));
        if (!v && z->needed)
            return aa_fail(err, AA_EFORMAT, "'%s' lacks the key '%s.%s'", s->path,
                           aa_arch_name(s->config.arch), z->suffix);
        if (v && *field && v != *field)
            return aa_fail(err, AA_EUNSUPPORTED, "'%s': key '%s.%s' is %lld, other keys or tensors "
                           "say %lld", s->path, aa_arch_name(s->config.arch), z->suffix,
                           (long long)v, (long long)*field);
        if (v) *field = v;
    }
    return AA_OK;
}

void aa__gguf_rope_divisors(const aa_config *c, double *out) {
    aa_config plain = *c;
    size_t n = (size_t)c->head_dim / 2;

    plain.rope_scaling = AA_ROPE_PLAIN;
    aa_config_rope_frequencies(c, out);
    aa_config_rope_frequencies(&plain, out + n);
    for (size_t i = 0; i < n; i++) out[i] = out[n + i] / out[i];
}

/* What a tensor of divisors says must be what the formula gives: to the rounding of binary32, in
 * which others compute it (1e-4: the blend of llama3 subtracts nearly equal numbers). */
static aa_status check_divisors(const aa_source *s, const aa_gguf_tensor *t, const double *wanted,
                                aa_err *err) {
    for (size_t i = 0; i < t->dims[0]; i++) {
        float found;

        memcpy(&found, t->data + 4 * i, 4);
        if (!(fabs((double)found - wanted[i]) <= 1e-4 * wanted[i]))
            return aa_fail(err, AA_EUNSUPPORTED, "'%s': tensor '" AA__GGUF_ROPE_FREQS "' divides "
                           "frequency %zu by %g; the scaling of Llama 3 with its factor divides it "
                           "by %g, and no other is supported", s->path, i, (double)found,
                           wanted[i]);
    }
    return AA_OK;
}

static aa_status read_divisors(aa_source *s, const aa_gguf_tensor *t, aa_err *err) {
    aa_config *c = &s->config;
    double wanted[1024];
    float factor = 1;

    if (c->head_dim > 1024 || t->type != 0 || t->n_dims != 1 ||
        t->dims[0] != (uint64_t)c->head_dim / 2)
        return aa_fail(err, AA_EFORMAT, "'%s': tensor '" AA__GGUF_ROPE_FREQS "' must be %lld "
                       "numbers of type F32", s->path, (long long)c->head_dim / 2);
    ((gguf_self *)s->self)->used[t - aa__gguf_of(s)->tensors] = true;
    for (size_t i = 0; i < t->dims[0]; i++) {
        float v;

        memcpy(&v, t->data + 4 * i, 4);
        if (v > factor) factor = v;
    }
    if (factor == 1) c->rope_scaling = AA_ROPE_PLAIN;
    else {
        c->rope_scaling = AA_ROPE_LLAMA3;
        c->rope_factor = shortest(factor);
        c->rope_low_freq = 1, c->rope_high_freq = 4, c->rope_original_seq = 8192;
        AA_TRY(get_int(s, "rope.scaling.original_context_length", 1, &c->rope_original_seq, err));
        AA_TRY(get_real(s, "rope.scaling.low_freq_factor", &c->rope_low_freq, err));
        AA_TRY(get_real(s, "rope.scaling.high_freq_factor", &c->rope_high_freq, err));
    }
    aa__gguf_rope_divisors(c, wanted);
    return check_divisors(s, t, wanted, err);
}

static aa_status read_rope(aa_source *s, aa_err *err) {
    aa_config *c = &s->config;
    double factor = 0;
    char *type = NULL;

    c->rope_theta = 10000;
    AA_TRY(get_real(s, "rope.freq_base", &c->rope_theta, err));
    AA_TRY(get_real(s, "rope.scale_linear", &factor, err));
    AA_TRY(get_real(s, "rope.scaling.factor", &factor, err));
    AA_TRY(get_string(s, "rope.scaling.type", &type, err));
    bool none = type && strcmp(type, "none") == 0, linear = !type || strcmp(type, "linear") == 0;
    aa_status st = AA_OK;
    if (!none && !linear)
        st = aa_fail(err, AA_EUNSUPPORTED, "'%s': rope.scaling.type is '%.40s'; supported are none "
                     "and linear, and Llama 3's by a tensor", s->path, type);
    aa_heap_free(type);
    if (st) return st;
    if (linear && factor != 0 && factor != 1) {
        c->rope_scaling = AA_ROPE_LINEAR;
        c->rope_factor = factor;
    }
    return AA_OK;
}

static aa_status resolve_config(aa_source *s, aa_err *err) {
    aa_err problem = {0};
    aa_status st = aa_config_resolve(&s->config, &problem);

    if (!st) return AA_OK;
    return aa_fail(err, st == AA_EUSAGE ? AA_EFORMAT : st, "'%s': %s", s->path, problem.message);
}

static aa_status read_config(aa_source *s, aa_err *err) {
    aa_config *c = &s->config;

    AA_TRY(read_arch(s, err));
    AA_TRY(refuse_foreign_features(s, err));
    AA_TRY(read_sizes(s, err));
    AA_TRY(read_rope(s, err));
    AA_TRY(get_real(s, "attention.layer_norm_rms_epsilon", &c->norm_eps, err));
    if (c->norm_eps == 0)
        return aa_fail(err, AA_EFORMAT, "'%s' lacks the key '%s.attention.layer_norm_rms_epsilon'",
                       s->path, aa_arch_name(c->arch));
    c->tied = !has(s, "output.weight");
    c->qkv_bias = has(s, "blk.0.attn_q.bias");
    c->out_bias = has(s, "blk.0.attn_output.bias");
    c->mlp_bias = has(s, "blk.0.ffn_up.bias");
    AA_TRY(resolve_config(s, err));
    const aa_gguf_tensor *divisors = aa_gguf_find_tensor(aa__gguf_of(s), AA__GGUF_ROPE_FREQS);
    if (!divisors) return AA_OK;
    if (c->rope_scaling != AA_ROPE_PLAIN)
        return aa_fail(err, AA_EUNSUPPORTED, "'%s' scales frequencies by a key and by the tensor '"
                       AA__GGUF_ROPE_FREQS "'", s->path);
    AA_TRY(read_divisors(s, divisors, err));
    return resolve_config(s, err);
}

/* ---- tensors --------------------------------------------------------------------------------- */

static aa_status gguf_find(aa_source *s, const aa_tensor *row, aa_stored *out, aa_err *err) {
    gguf_self *self = s->self;
    char name[AA__GGUF_NAME], found[AA__GGUF_NAME] = "";
    bool vector = aa_tensor_is_vector(row);
    size_t rows = aa__is_by_id(row) ? s->full_vocab : row->rows;
    aa_type type;

    const aa_gguf_tensor *t =
        aa__gguf_name(row->name, name) ? aa_gguf_find_tensor(&self->file, name) : NULL;
    if (!t)
        return aa_fail(err, AA_ENOTFOUND, "'%s' has no tensor '%s' (%s), which its keys ask for",
                       s->path, name, row->name);
    if (t->n_dims != (vector ? 1 : 2) || t->dims[0] != row->cols ||
        (!vector && t->dims[1] != rows)) {
        for (int d = 0; d < t->n_dims; d++)
            snprintf(found + strlen(found), sizeof found - strlen(found), "%s%llu", d ? "," : "",
                     (unsigned long long)t->dims[d]);
        return aa_fail(err, AA_EFORMAT, "'%s': tensor '%s' is [%s]; by the keys it is [%zu%s%.0zu]",
                       s->path, name, found, row->cols, vector ? "" : ",", vector ? 0 : rows);
    }
    if (!aa__gguf_type_of(t->type, &type))
        return aa_fail(err, AA_EUNSUPPORTED, "'%s': tensor '%s' is of type %s, which is not "
                       "supported: convert the model to another type, Q4_K for example", s->path,
                       name, aa_gguf_type_name(t->type));
    *out = (aa_stored){.type = type, .rows = rows, .cols = row->cols, .data = t->data,
                       .paired_head = aa__gguf_paired(&s->config, row->name)};
    if (vector && out->paired_head) {            /* elements are in pairs, so they are the rows */
        if (aa_type_block(type) != 1)
            return aa_fail(err, AA_EUNSUPPORTED, "'%s': tensor '%s' is of type %s; biases must be "
                           "floats", s->path, name, aa_gguf_type_name(t->type));
        out->rows = row->cols, out->cols = 1;
    }
    self->used[t - self->file.tensors] = true;
    return AA_OK;
}

static aa_status gguf_check_all_read(aa_source *s, aa_err *err) {
    const gguf_self *self = s->self;

    for (size_t i = 0; i < self->file.n_tensors; i++)
        if (!self->used[i])
            return aa_fail(err, AA_EUNSUPPORTED, "'%s': tensor '%.*s' is no part of the %s model "
                           "that its keys describe", s->path, (int)self->file.tensors[i].name.n,
                           self->file.tensors[i].name.s, aa_arch_name(s->config.arch));
    return AA_OK;
}

/* ---- tokenizer ------------------------------------------------------------------------------- */

/* An array of strings, as pointers into the file. */
static aa_status get_strings(const aa_source *s, const char *name, aa_arena *arena, size_t *n,
                             const char *const **out, const size_t **out_len, aa_err *err) {
    const aa_gguf_key *k = aa_gguf_find_key(aa__gguf_of(s), name);

    if (!k) return AA_OK;
    if (!k->array || k->kind != AA_GGUF_STRING) return wrong_kind(s, k, "strings", err);
    const char **text = aa_arena_alloc(arena, k->n, sizeof *text);
    size_t *len = aa_arena_alloc(arena, k->n, sizeof *len);
    AA_TRY(aa_arena_status(arena, err));
    const unsigned char *at = k->data;
    for (size_t i = 0; i < k->n; i++) {
        aa_gguf_name v = aa_gguf_string(&at);

        text[i] = v.s;
        len[i] = v.n;
    }
    *n = (size_t)k->n, *out = text, *out_len = len;
    return AA_OK;
}

/* An array with a number for each token, or NULL. Its numbers take 4 bytes, as those of the file
 * do, which need not be aligned. */
static aa_status get_by_token(const aa_source *s, const char *name, aa_gguf_kind kind, size_t n,
                              aa_arena *arena, const void **out, aa_err *err) {
    const aa_gguf_key *k = aa_gguf_find_key(aa__gguf_of(s), name);

    if (!k) return AA_OK;
    if (!k->array || k->kind != kind)
        return wrong_kind(s, k, kind == AA_GGUF_F32 ? "an array of f32" : "an array of i32", err);
    if (k->n != n)
        return aa_fail(err, AA_EFORMAT, "'%s': key '%s' has %llu entries for %zu tokens", s->path,
                       name, (unsigned long long)k->n, n);
    void *copy = aa_arena_alloc(arena, n, 4);
    AA_TRY(aa_arena_status(arena, err));
    memcpy(copy, k->data, k->size_bytes);
    *out = copy;
    return AA_OK;
}

static aa_status get_id(const aa_source *s, const char *name, size_t n, int32_t *out, aa_err *err) {
    int64_t v = -1;

    AA_TRY(get_int(s, name, 0, &v, err));
    if (v >= (int64_t)n)
        return aa_fail(err, AA_EFORMAT, "'%s': key '%s' is %lld; there are %zu tokens", s->path,
                       name, (long long)v, n);
    *out = (int32_t)v;
    return AA_OK;
}

static aa_status read_vocab(aa_source *s, aa_arena *arena, aa_ggml_vocab *v, aa_err *err) {
    const void *type = NULL, *score = NULL;

    AA_TRY(get_strings(s, "tokenizer.ggml.tokens", arena, &v->n_tokens, &v->token, &v->token_len,
                       err));
    AA_TRY(get_strings(s, "tokenizer.ggml.merges", arena, &v->n_merges, &v->merge, &v->merge_len,
                       err));
    AA_TRY(get_by_token(s, "tokenizer.ggml.token_type", AA_GGUF_I32, v->n_tokens, arena, &type,
                        err));
    AA_TRY(get_by_token(s, "tokenizer.ggml.scores", AA_GGUF_F32, v->n_tokens, arena, &score, err));
    v->type = type;
    v->score = score;
    AA_TRY(get_id(s, "tokenizer.ggml.bos_token_id", v->n_tokens, &v->bos, err));
    AA_TRY(get_id(s, "tokenizer.ggml.eos_token_id", v->n_tokens, &v->eos, err));
    AA_TRY(get_id(s, "tokenizer.ggml.padding_token_id", v->n_tokens, &v->pad, err));
    AA_TRY(get_id(s, "tokenizer.ggml.unknown_token_id", v->n_tokens, &v->unk, err));
    AA_TRY(get_bool(s, "tokenizer.ggml.add_bos_token", &v->add_bos, err));
    return get_bool(s, "tokenizer.ggml.add_space_prefix", &v->add_space_prefix, err);
}

static aa_status gguf_tokenizer(aa_source *s, aa_tokenizer **out, aa_err *err) {
    aa_ggml_vocab v = {.add_bos = -1, .add_space_prefix = -1};
    char *model = NULL, *pre = NULL;
    aa_arena arena;

    aa_arena_init(&arena, "reading a tokenizer");
    aa_status st = get_string(s, "tokenizer.ggml.model", &model, err);
    if (!st) st = get_string(s, "tokenizer.ggml.pre", &pre, err);
    if (!st) st = read_vocab(s, &arena, &v, err);
    v.model = model ? model : "missing";
    v.pre = pre;
    if (!st) {
        st = aa_tokenizer_new_ggml(out, &v, err);
        if (st) aa_err_context(err, "'%s'", s->path);
    }
    aa_arena_release(&arena);
    aa_heap_free(model);
    aa_heap_free(pre);
    return st;
}

/* ---- all keys -------------------------------------------------------------------------------- */

enum { SHORT_ARRAY = 8 };                /* elements that are shown */

static void add_element(const aa_gguf_key *k, uint64_t i, const unsigned char **at, aa_text *out) {
    int64_t whole;
    double real;
    bool flag;

    if (k->kind == AA_GGUF_STRING) {
        aa_gguf_name v = aa_gguf_string(at);

        aa_text_json_string(out, v.s, v.n);
    } else if (aa_gguf_bool(k, i, &flag)) aa_text_json_bool(out, flag);
    else if (aa_gguf_int(k, i, &whole)) aa_text_json_int(out, whole);
    else aa_text_json_real(out, aa_gguf_real(k, i, &real) ? k->kind == AA_GGUF_F32
                                                            ? shortest((float)real) : real : NAN);
}

static void add_value(const aa_gguf_key *k, aa_text *out) {
    const unsigned char *at = k->data;

    if (k->n > SHORT_ARRAY) {
        aa_text_printf(out, "{\"array\":\"%s\",\"n\":%llu}", aa_gguf_kind_name(k->kind),
                       (unsigned long long)k->n);
        return;
    }
    if (k->array) aa_text_add(out, "[");
    for (uint64_t i = 0; i < k->n; i++) {
        if (i) aa_text_add(out, ",");
        add_element(k, i, &at, out);
    }
    if (k->array) aa_text_add(out, "]");
}

static aa_status gguf_metadata(aa_source *s, aa_source_key *each, void *ctx, aa_err *err) {
    const aa_gguf *file = aa__gguf_of(s);
    aa_text name = {0}, value = {0};
    aa_status st = AA_OK;

    for (size_t i = 0; !st && i < file->n_keys; i++) {
        const aa_gguf_key *k = &file->keys[i];

        aa_text_clear(&name), aa_text_clear(&value);
        aa_text_add_bytes(&name, k->name.s, k->name.n);
        add_value(k, &value);
        st = aa_text_status(name.failed ? &name : &value, err);
        if (!st) each(ctx, name.data, value.data);
    }
    aa_text_release(&name);
    aa_text_release(&value);
    return st;
}

aa_status aa__gguf_open(aa_source *s, const char *path, aa_err *err) {
    gguf_self *self = aa_heap_alloc(1, sizeof *self);

    if (!self) return aa_fail_memory(err, "a model source", sizeof *self);
    s->self = self;
    s->close = gguf_close;
    s->format = "gguf";
    s->find = gguf_find;
    s->mapped = true;
    s->tokenizer = gguf_tokenizer;
    s->check_all_read = gguf_check_all_read;
    s->metadata = gguf_metadata;
    AA_TRY(aa_gguf_open(&self->file, path, err));
    self->used = aa_heap_alloc(self->file.n_tensors + 1, sizeof *self->used);
    if (!self->used) return aa_fail_memory(err, "the list of tensors", self->file.n_tensors);
    AA_TRY(read_config(s, err));
    s->full_vocab = (size_t)s->config.vocab;
    AA_TRY(get_string(s, "tokenizer.chat_template", &s->chat_template, err));
    if (!aa_gguf_find_key(&self->file, "tokenizer.ggml.tokens")) return AA_OK;
    s->tokenizer_path = aa_heap_strdup(path);
    return s->tokenizer_path ? AA_OK : aa_fail_memory(err, "a path", strlen(path));
}
