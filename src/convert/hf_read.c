/* convert/hf_read: a Hugging Face directory as a source.
 *
 * Weights are in model.safetensors, or in several files listed by model.safetensors.index.json.
 * Every tensor must be used: a bias that nobody asked for is a model we would compute wrongly.
 * Ignored are only tensors that hold nothing: precomputed rotary frequencies, and the head of a
 * tied model where it is the embedding again. Files saved from the bare model leave out the prefix
 * "model.".
 */
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "convert/convert_int.h"
#include "formats/safetensors.h"

enum { MAX_SHARDS = 1024 };

typedef struct shard { char *name; aa_safetensors file; bool *used; } shard;
typedef struct hf_self { shard *shards; size_t n_shards; } hf_self;

static void hf_close(aa_source *s) {
    hf_self *self = s->self;

    for (size_t i = 0; i < self->n_shards; i++) {
        aa_heap_free(self->shards[i].name);
        aa_heap_free(self->shards[i].used);
        aa_safetensors_close(&self->shards[i].file);
    }
    aa_heap_free(self->shards);
    aa_heap_free(self);
    s->self = NULL;
}

/* ---- opening --------------------------------------------------------------------------------- */

/* Opens dir/name as the next shard; there is room for it. */
static aa_status open_shard(hf_self *self, const char *dir, const char *name, aa_err *err) {
    shard *h = &self->shards[self->n_shards];
    char *path = aa_path_join(dir, name);

    if (!path) return aa_fail_memory(err, "a path", 0);
    aa_status st = aa_safetensors_open(&h->file, path, err);
    aa_heap_free(path);
    if (st) return st;
    self->n_shards++;
    h->name = aa_heap_strdup(name);
    h->used = aa_heap_alloc(h->file.n_tensors + 1, sizeof *h->used);
    if (!h->name || !h->used)
        return aa_fail_memory(err, "the list of tensors", h->file.n_tensors * sizeof *h->used);
    return AA_OK;
}

static shard *shard_named(hf_self *self, const char *name) {
    for (size_t i = 0; i < self->n_shards; i++)
        if (strcmp(self->shards[i].name, name) == 0) return &self->shards[i];
    return NULL;
}

/* A plain file name, so that an index cannot lead out of its directory. */
static bool is_plain(const char *name) {
    return name && *name && *name != '.' && !strchr(name, '/') && !strchr(name, '\\');
}

/* The index and the files must tell the same story: each tensor listed once, where it is. */
static aa_status open_listed(hf_self *self, const char *dir, const char *path, const json_t *map,
                             aa_err *err) {
    size_t n_tensors = 0;
    const char *tensor;
    json_t *value;

    if (!json_is_object(map))
        return aa_fail(err, AA_EFORMAT, "'%s': \"weight_map\" must be an object", path);
    self->shards = aa_heap_alloc(MAX_SHARDS, sizeof *self->shards);
    if (!self->shards) return aa_fail_memory(err, "the list of weight files", 0);
    json_object_foreach((json_t *)(uintptr_t)map, tensor, value) {
        const char *name = json_string_value(value);

        if (!is_plain(name))
            return aa_fail(err, AA_EFORMAT, "'%s': \"weight_map\": the file of '%.80s' must be a "
                           "plain file name", path, tensor);
        shard *h = shard_named(self, name);
        if (!h && self->n_shards == MAX_SHARDS)
            return aa_fail(err, AA_EFORMAT, "'%s' lists more than %d files", path, MAX_SHARDS);
        if (!h) {
            AA_TRY(open_shard(self, dir, name, err));
            h = &self->shards[self->n_shards - 1];
            n_tensors += h->file.n_tensors;
        }
        if (!aa_safetensors_find(&h->file, tensor))
            return aa_fail(err, AA_EFORMAT, "'%s' says that '%.80s' is in '%.80s', where it is not",
                           path, tensor, name);
    }
    if (n_tensors != json_object_size(map))
        return aa_fail(err, AA_EFORMAT, "'%s' lists %zu tensors, its files hold %zu", path,
                       json_object_size(map), n_tensors);
    return AA_OK;
}

static aa_status open_index(hf_self *self, const char *dir, aa_err *err) {
    char *path = aa_path_join(dir, AA__HF_INDEX);
    json_t *o = NULL;
    aa_status st = path ? aa_json_load(&o, path, err) : aa_fail_memory(err, "a path", 0);

    if (!st) st = open_listed(self, dir, path, json_object_get(o, "weight_map"), err);
    json_decref(o);
    aa_heap_free(path);
    return st;
}

static aa_status open_weights(hf_self *self, const char *dir, aa_err *err) {
    aa_sys_kind one, index;

    AA_TRY(aa__kind_of(&one, dir, AA__HF_WEIGHTS, err));
    if (one == AA_SYS_FILE) {
        self->shards = aa_heap_alloc(1, sizeof *self->shards);
        if (!self->shards) return aa_fail_memory(err, "the list of weight files", 0);
        return open_shard(self, dir, AA__HF_WEIGHTS, err);
    }
    AA_TRY(aa__kind_of(&index, dir, AA__HF_INDEX, err));
    if (index == AA_SYS_FILE) return open_index(self, dir, err);
    return aa_fail(err, AA_ENOTFOUND, "'%s' has neither " AA__HF_WEIGHTS " nor " AA__HF_INDEX
                   "; weights in other formats must be saved as safetensors first", dir);
}

static aa_status parse_active(aa_source *s, const json_t *o, const char *path, aa_err *err) {
    const json_t *ids = json_object_get(o, "active_ids");
    size_t n = json_array_size(ids);
    int64_t full_vocab;

    AA_TRY(aa_json_int_need(o, "full_vocab", path, 1, INT32_MAX, &full_vocab, err));
    if ((size_t)full_vocab != s->full_vocab)
        return aa_fail(err, AA_EFORMAT, "'%s': \"full_vocab\" is %lld, the model has %zu ids",
                       path, (long long)full_vocab, s->full_vocab);
    if (n == 0) return aa_fail(err, AA_EFORMAT, "'%s': \"active_ids\" must be a list of ids", path);
    s->active_ids = aa_heap_alloc(n, sizeof *s->active_ids);
    if (!s->active_ids) return aa_fail_memory(err, "the active vocabulary", n * 4);
    for (size_t i = 0; i < n; i++) {
        const json_t *id = json_array_get(ids, i);
        json_int_t v = json_is_integer(id) ? json_integer_value(id) : -1;

        if (v < 0 || v >= full_vocab || (i && v <= s->active_ids[i - 1]))
            return aa_fail(err, AA_EFORMAT, "'%s': \"active_ids\"[%zu] must be an integer below "
                           "%lld and above the one before", path, i, (long long)full_vocab);
        s->active_ids[i] = (int32_t)v;
    }
    s->n_active = n;
    s->config.vocab = (int64_t)n;
    return AA_OK;
}

static aa_status read_active(aa_source *s, const char *dir, aa_err *err) {
    aa_sys_kind kind;

    AA_TRY(aa__kind_of(&kind, dir, AA__HF_ACTIVE, err));
    if (kind == AA_SYS_ABSENT) return AA_OK;
    char *path = aa_path_join(dir, AA__HF_ACTIVE);
    json_t *o = NULL;
    aa_status st = path ? aa_json_load(&o, path, err) : aa_fail_memory(err, "a path", 0);

    if (!st) st = parse_active(s, o, path, err);
    json_decref(o);
    aa_heap_free(path);
    return st;
}

static aa_status read_config(aa_source *s, const char *dir, aa_err *err) {
    char *path = aa_path_join(dir, AA__HF_CONFIG);
    aa_status st = path ? aa_hf_config_parse(&s->config, path, err)
                        : aa_fail_memory(err, "a path", 0);

    aa_heap_free(path);
    return st;
}

/* ---- reading tensors ------------------------------------------------------------------------- */

static const aa_type type_of[AA_DTYPE_COUNT] = {
    [AA_DTYPE_F64] = AA_TYPE_F64, [AA_DTYPE_F32] = AA_TYPE_F32, [AA_DTYPE_F16] = AA_TYPE_F16,
    [AA_DTYPE_BF16] = AA_TYPE_BF16, [AA_DTYPE_F8_E4M3] = AA_TYPE_F8_E4M3,
    [AA_DTYPE_F8_E5M2] = AA_TYPE_F8_E5M2,
};

static const aa_st_tensor *find(hf_self *self, const char *name, shard **out) {
    for (size_t i = 0; i < self->n_shards; i++) {
        const aa_st_tensor *t = aa_safetensors_find(&self->shards[i].file, name);

        *out = &self->shards[i];
        if (t) return t;
    }
    return NULL;
}

/* With our name, or without the prefix. */
static const aa_st_tensor *find_row(hf_self *self, const char *name, shard **out) {
    const aa_st_tensor *t = find(self, name, out);

    return t || strncmp(name, "model.", 6) ? t : find(self, name + 6, out);
}

static void shape_text(char *out, size_t size, const uint64_t *shape, int n_dims) {
    size_t at = 0;

    out[0] = 0;
    for (int i = 0; i < n_dims && at < size; i++)
        at += (size_t)snprintf(out + at, size - at, "%s%llu", i ? "," : "",
                               (unsigned long long)shape[i]);
}

static aa_status hf_find(aa_source *s, const aa_tensor *row, aa_stored *out, aa_err *err) {
    shard *h;
    const aa_st_tensor *t = find_row(s->self, row->name, &h);
    bool vector = aa_tensor_is_vector(row);
    size_t rows = aa__is_by_id(row) ? s->full_vocab : row->rows;
    uint64_t wanted[2] = {vector ? row->cols : rows, row->cols};
    int n_dims = vector ? 1 : 2;
    char want_text[48], have_text[96];

    if (!t) return aa_fail(err, AA_ENOTFOUND, "'%s' has no tensor '%s', which its config.json asks "
                           "for", s->path, row->name);
    if (t->n_dims != n_dims || memcmp(t->shape, wanted, (size_t)n_dims * sizeof *wanted)) {
        shape_text(want_text, sizeof want_text, wanted, n_dims);
        shape_text(have_text, sizeof have_text, t->shape, t->n_dims);
        return aa_fail(err, AA_EFORMAT, "'%s': tensor '%s' is [%s], by its config.json it is [%s]",
                       h->file.path, row->name, have_text, want_text);
    }
    if (t->dtype > AA_DTYPE_F8_E5M2)
        return aa_fail(err, AA_EUNSUPPORTED, "'%s': tensor '%s' is of dtype %s; weights must be "
                       "F32, F16, BF16, F8 or F64", h->file.path, row->name,
                       aa_dtype_name(t->dtype));
    *out = (aa_stored){.type = type_of[t->dtype], .rows = rows, .cols = row->cols,
                       .data = aa_safetensors_data(&h->file, t)};
    h->used[t - h->file.tensors] = true;
    return AA_OK;
}

static aa_status hf_tokenizer(aa_source *s, aa_tokenizer **out, aa_err *err) {
    return aa_tokenizer_load(out, s->tokenizer_path, err);
}

static bool same_bytes(const shard *a, const aa_st_tensor *x, const shard *b,
                       const aa_st_tensor *y) {
    return x->dtype == y->dtype && x->size_bytes == y->size_bytes &&
           memcmp(aa_safetensors_data(&a->file, x), aa_safetensors_data(&b->file, y),
                  x->size_bytes) == 0;
}

static aa_status check_left_over(aa_source *s, const shard *h, const aa_st_tensor *t, aa_err *err) {
    static const char frequencies[] = "rotary_emb.inv_freq";
    size_t n = strlen(t->name), m = sizeof frequencies - 1;
    shard *e = NULL;

    if (n >= m && strcmp(t->name + n - m, frequencies) == 0) return AA_OK;
    if (s->config.tied && strcmp(t->name, "lm_head.weight") == 0) {
        const aa_st_tensor *embedding = find_row(s->self, "model.embed_tokens.weight", &e);

        if (embedding && same_bytes(h, t, e, embedding)) return AA_OK;
        return aa_fail(err, AA_EFORMAT, "'%s': \"tie_word_embeddings\" is true, but lm_head.weight "
                       "differs from the embedding: one of the two is wrong", h->file.path);
    }
    return aa_fail(err, AA_EUNSUPPORTED, "'%s': tensor '%.80s' is no part of the %s model that "
                   "config.json describes", h->file.path, t->name, aa_arch_name(s->config.arch));
}

static aa_status hf_check_all_read(aa_source *s, aa_err *err) {
    hf_self *self = s->self;

    for (size_t i = 0; i < self->n_shards; i++)
        for (size_t j = 0; j < self->shards[i].file.n_tensors; j++)
            if (!self->shards[i].used[j])
                AA_TRY(check_left_over(s, &self->shards[i], &self->shards[i].file.tensors[j], err));
    return AA_OK;
}

static aa_status each_member(const json_t *o, aa_source_key *each, void *ctx, aa_err *err) {
    aa_text text = {0};
    aa_status st = AA_OK;
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)(uintptr_t)o, key, value) {
        aa_text_clear(&text);
        aa_json_write(value, &text);
        st = aa_text_status(&text, err);
        if (st) break;
        each(ctx, key, text.data);
    }
    aa_text_release(&text);
    return st;
}

static aa_status hf_metadata(aa_source *s, aa_source_key *each, void *ctx, aa_err *err) {
    char *path = aa_path_join(s->path, AA__HF_CONFIG);
    json_t *o = NULL;
    aa_status st = path ? aa_json_load(&o, path, err) : aa_fail_memory(err, "a path", 0);

    if (!st) st = each_member(o, each, ctx, err);
    json_decref(o);
    aa_heap_free(path);
    return st;
}

/* ---- the chat template ----------------------------------------------------------------------- */

/* tokenizer_config.json's "chat_template": a string, or a list of named ones of which the one named
 * "default" is meant. */
static aa_status template_of_config(aa_source *s, const char *path, aa_err *err) {
    json_t *o = NULL;
    size_t i;
    json_t *named;

    AA_TRY(aa_json_load(&o, path, err));
    const json_t *v = json_object_get(o, "chat_template");
    const char *text = json_string_value(v);
    json_array_foreach(v, i, named) {
        const char *name = json_string_value(json_object_get(named, "name"));

        if (name && strcmp(name, "default") == 0)
            text = json_string_value(json_object_get(named, "template"));
    }
    if (text) s->chat_template = aa_heap_strdup(text);
    aa_status st = text && !s->chat_template ? aa_fail_memory(err, "a chat template", strlen(text))
                                             : AA_OK;
    json_decref(o);
    return st;
}

static aa_status template_of_file(aa_source *s, const char *path, aa_err *err) {
    aa_sys_map map;

    AA_TRY(aa_map_open(&map, path, err));
    s->chat_template = aa_heap_alloc(map.size_bytes + 1, 1);
    if (s->chat_template && map.size_bytes) memcpy(s->chat_template, map.data, map.size_bytes);
    aa_sys_map_close(&map);
    return s->chat_template ? AA_OK : aa_fail_memory(err, "a chat template", map.size_bytes);
}

/* The file of its own is the newer custom, and wins in transformers, too. */
aa_status aa__hf_read_template(aa_source *s, const char *dir, aa_err *err) {
    static const struct {
        const char *name;
        aa_status (*read)(aa_source *s, const char *path, aa_err *err);
    } places[] = {{AA__HF_TEMPLATE, template_of_file}, {AA__HF_TOKENIZER_CONFIG,
                                                        template_of_config}};
    aa_sys_kind kind;

    for (size_t i = 0; i < 2; i++) {
        AA_TRY(aa__kind_of(&kind, dir, places[i].name, err));
        if (kind != AA_SYS_FILE) continue;
        char *path = aa_path_join(dir, places[i].name);
        aa_status st = path ? places[i].read(s, path, err) : aa_fail_memory(err, "a path", 0);

        aa_heap_free(path);
        if (st || s->chat_template) return st;
    }
    return AA_OK;
}

aa_status aa__hf_open(aa_source *s, const char *dir, aa_err *err) {
    hf_self *self = aa_heap_alloc(1, sizeof *self);
    aa_sys_kind tokenizer;

    if (!self) return aa_fail_memory(err, "a model source", sizeof *self);
    s->self = self;
    s->close = hf_close;
    s->format = "huggingface";
    s->find = hf_find;
    s->mapped = true;
    s->tokenizer = hf_tokenizer;
    s->check_all_read = hf_check_all_read;
    s->metadata = hf_metadata;
    AA_TRY(read_config(s, dir, err));
    s->full_vocab = (size_t)s->config.vocab;
    AA_TRY(open_weights(self, dir, err));
    AA_TRY(read_active(s, dir, err));
    AA_TRY(aa__hf_read_template(s, dir, err));
    AA_TRY(aa__kind_of(&tokenizer, dir, AA__HF_TOKENIZER, err));
    if (tokenizer == AA_SYS_ABSENT) return AA_OK;
    s->tokenizer_path = aa_path_join(dir, AA__HF_TOKENIZER);
    return s->tokenizer_path ? AA_OK : aa_fail_memory(err, "a path", 0);
}
