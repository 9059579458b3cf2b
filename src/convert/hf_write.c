/* convert/hf_write: a model as a Hugging Face directory.
 *
 * Three things our models have and the ecosystem's do not are written away, so that every other
 * program computes the same numbers without knowing of them:
 *
 *   residual scale s   x + s (W h + b) = x + (sW) h + sb: folded into o_proj and down_proj;
 *   compact vocabulary a row for each id of the full tokenizer. Ids never seen in training take the
 *                      head row of the active id with the lowest mean logit. Their logits equal
 *                      that id's, so they can tie with it but never exceed the largest active
 *                      logit. A constant row (zeros, say) would not do: every logit may be below
 *                      its value. The embedding rows of an untied model copy the same id; any would
 *                      do, as these ids are no input the model knows;
 *   low-rank head      its rows multiplied out, in the order of the tokenizer's ids, which is not
 *                      that of the model.
 *
 * Weights stream row by row through one small buffer: writing needs no memory that grows with the
 * model.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/file.h"
#include "base/memory.h"
#include "convert/convert_int.h"
#include "formats/safetensors.h"
#include "model/lora.h"

enum { CHUNK = 1 << 14, IDS = 64 }; /* elements converted, rows multiplied out at a time */

/* ---- the vocabulary: expanded, in the order of ids ------------------------------------------- */

static size_t lowest_logit(const float *mean_logit, size_t n) {
    size_t lowest = 0;

    for (size_t i = 1; i < n; i++)
        if (isnan(mean_logit[lowest]) || mean_logit[i] < mean_logit[lowest]) lowest = i;
    return lowest;
}

/* The rows of the token tables that are written: one for each of n_ids ids, copied from row_of[id]
 * of the model; row_of NULL: as they are. */
typedef struct vocabulary { int32_t *row_of; size_t n_ids; } vocabulary;

static aa_status make_vocabulary(const aa_hf_options *o, size_t n_rows, vocabulary *out,
                                 aa_err *err) {
    vocabulary v = {.n_ids = o->active_ids ? o->full_vocab : n_rows};

    aa_assert(!o->active_ids || (o->n_active == n_rows && v.n_ids >= n_rows));
    v.row_of = aa_heap_alloc(v.n_ids, sizeof *v.row_of);
    if (!v.row_of) return aa_fail_memory(err, "the vocabulary map", v.n_ids * sizeof *v.row_of);
    if (v.n_ids > n_rows) {
        aa_assert(o->mean_logit && n_rows >= 1);
        int32_t stand_in = (int32_t)lowest_logit(o->mean_logit, n_rows);
        for (size_t id = 0; id < v.n_ids; id++) v.row_of[id] = stand_in;
    }
    for (size_t i = 0; i < n_rows; i++) {
        size_t id = o->active_ids ? (size_t)o->active_ids[i] : i;

        aa_assert(id < v.n_ids);
        v.row_of[id] = (int32_t)i;
    }
    *out = v;
    return AA_OK;
}

/* Ascending, in whatever order the model has them. */
static void active_json(const aa_hf_options *o, const vocabulary *v, aa_text *t) {
    const char *between = "";

    aa_text_printf(t, "{\"full_vocab\": %zu,\n \"active_ids\": [", o->full_vocab);
    for (size_t id = 0; id < v->n_ids; id++) {
        if (o->active_ids[v->row_of[id]] != (int32_t)id) continue;      /* a stand-in */
        aa_text_printf(t, "%s%zu", between, id);
        between = ",";
    }
    aa_text_add(t, "]}\n");
}

/* ---- weights --------------------------------------------------------------------------------- */

double aa__residual_scale_of(const aa_config *c, const aa_tensor *row) {
    bool output = strstr(row->name, ".self_attn.o_proj.") || strstr(row->name, ".mlp.down_proj.");

    return output ? c->residual_scale : 1;
}

static void write_values(aa_outfile *f, const aa_real *values, size_t n, double scale,
                         float *chunk) {
    for (size_t at = 0; at < n; at += CHUNK) {
        size_t len = n - at < CHUNK ? n - at : CHUNK;

        for (size_t i = 0; i < len; i++) chunk[i] = (float)((double)values[at + i] * scale);
        aa_outfile_write(f, chunk, len * sizeof *chunk);
    }
}

static bool is_low_rank(const aa_model *m, const aa_tensor *t) {
    return m->basis.n_out && t == m->head.weight;
}

/* Parts of a low-rank head, which is written as one tensor. */
static bool is_factor(const aa_model *m, const aa_tensor *t) {
    return t == m->basis.weight || t == m->code.weight;
}

static aa_status write_low_rank(aa_outfile *f, const aa_model *m, aa_cpu *cpu, const vocabulary *v,
                                float *chunk, aa_err *err) {
    const size_t C = m->head.n_in, R = m->basis.n_out;
    aa_real *rows = aa_heap_alloc(IDS * (C + R), sizeof *rows);

    aa_assert(cpu);
    if (!rows) return aa_fail_memory(err, "rows of the head", IDS * (C + R) * sizeof *rows);
    for (size_t id = 0; id < v->n_ids; id += IDS) {
        size_t n = v->n_ids - id < IDS ? v->n_ids - id : IDS;

        aa_model_head_rows(m, cpu, v->row_of + id, n, rows + IDS * C, rows);
        write_values(f, rows, n * C, 1, chunk);
    }
    aa_heap_free(rows);
    return AA_OK;
}

/* The factors of the term that the model has on top of a matrix of a block, if it has one. */
static bool term_of(const aa_model *m, const aa_tensor *t, aa_stored_delta *out) {
    char name[72];

    for (aa_target target = 0; m->lora && t->layer >= 0 && target < AA_TARGET_COUNT; target++) {
        aa_tensor *A, *B;

        snprintf(name, sizeof name, "model.layers.%d.%s.weight", t->layer,
                 aa_target_module(target));
        if (strcmp(name, t->name) != 0) continue;
        aa_lora_find(m, t->layer, target, &A, &B);
        if (!A) return false;
        *out = (aa_stored_delta){.rank = A->rows, .A = (const float *)A->data,
                                 .B = (const float *)B->data,
                                 .scale = aa_lora_scale(m->lora, aa_lora_site_of(m->lora, t->layer,
                                                                                 target))};
        return true;
    }
    return false;
}

/* W + scale B A, row by row. */
static void write_sum(aa_outfile *f, const aa_model *m, const aa_tensor *t,
                      const aa_stored_delta *term, float *row, float *chunk) {
    const aa_stored w = {.type = AA_TYPE_F32, .rows = t->rows, .cols = t->cols, .delta = term,
                         .data = (const unsigned char *)t->data};

    for (size_t j = 0; j < t->rows; j++) {
        aa_stored_read(&w, j, 1, row);
        write_values(f, row, t->cols, aa__residual_scale_of(&m->config, t), chunk);
    }
}

static aa_status write_tensors(aa_outfile *f, const aa_model *m, const aa_hf_options *o,
                               const vocabulary *v, aa_err *err) {
    float *chunk = aa_heap_alloc(CHUNK, sizeof *chunk);
    aa_status st = AA_OK;

    aa_stored_delta term;
    size_t widest = (size_t)(m->config.ffn > m->config.dim ? m->config.ffn : m->config.dim);
    if (widest < (size_t)(m->config.heads * m->config.head_dim))
        widest = (size_t)(m->config.heads * m->config.head_dim);
    float *row = aa_heap_alloc(widest, sizeof *row);

    if (!chunk || !row) {
        aa_heap_free(chunk);
        aa_heap_free(row);
        return aa_fail_memory(err, "a conversion buffer", CHUNK * sizeof *chunk);
    }
    for (size_t i = 0; !st && i < m->n_base; i++) {
        const aa_tensor *t = &m->tensors[i];

        if (is_factor(m, t)) continue;
        if (term_of(m, t, &term)) write_sum(f, m, t, &term, row, chunk);
        else if (is_low_rank(m, t)) st = write_low_rank(f, m, o->cpu, v, chunk, err);
        else if (!v->row_of || !aa__is_by_id(t))
            write_values(f, t->data, aa_tensor_size(t), aa__residual_scale_of(&m->config, t),
                         chunk);
        else
            for (size_t id = 0; id < v->n_ids; id++)
                write_values(f, t->data + (size_t)v->row_of[id] * t->cols, t->cols, 1, chunk);
    }
    aa_heap_free(chunk);
    aa_heap_free(row);
    return st;
}

static aa_status begin_tensors(aa_outfile *f, const aa_model *m, const vocabulary *v, aa_err *err) {
    aa_st_entry *entries = aa_heap_alloc(m->n_base, sizeof *entries);
    size_t n = 0;

    if (!entries)
        return aa_fail_memory(err, "the list of tensors", m->n_base * sizeof *entries);
    for (size_t i = 0; i < m->n_base; i++) {
        const aa_tensor *t = &m->tensors[i];
        bool vector = aa_tensor_is_vector(t);
        size_t rows = v->row_of && aa__is_by_id(t) ? v->n_ids : t->rows;

        if (is_factor(m, t)) continue;
        entries[n++] = (aa_st_entry){.name = t->name, .dtype = AA_DTYPE_F32,
                                     .n_dims = vector ? 1 : 2,
                                     .shape = {vector ? t->cols : rows, vector ? 0 : t->cols}};
    }
    aa_status st = aa_safetensors_begin(f, entries, n, NULL, 0, err);
    aa_heap_free(entries);
    return st;
}

/* ---- files ----------------------------------------------------------------------------------- */

/* The directory being written. files may be NULL. */
typedef struct target { const char *dir; aa_hf_files *files; } target;

void aa_hf_note(aa_hf_files *files, const char *name, uint64_t size_bytes, aa_digest digest) {
    if (!files) return;
    aa_assert(files->n < AA_HF_MAX_FILES);
    files->file[files->n++] = (aa_hf_file){name, size_bytes, digest};
}

static aa_status write_weights(const target *d, const aa_model *m, const aa_hf_options *o,
                               const vocabulary *v, aa_err *err) {
    aa_outfile *f = NULL;
    aa_digest digest;
    uint64_t size_bytes = 0;
    char *path = aa_path_join(d->dir, AA__HF_WEIGHTS);
    aa_status st = path ? aa_outfile_open(&f, path, err) : aa_fail_memory(err, "a path", 0);

    if (!st) st = begin_tensors(f, m, v, err);
    if (!st) st = write_tensors(f, m, o, v, err);
    if (!st) {
        size_bytes = aa_outfile_size(f);
        st = aa_outfile_commit(f, &digest, err);
    } else if (f) aa_outfile_abort(f);
    if (!st) aa_hf_note(d->files, AA__HF_WEIGHTS, size_bytes, digest);
    aa_heap_free(path);
    return st;
}

/* Writes the text, then clears it for the next file. */
static aa_status write_text(const target *d, const char *name, aa_text *t, aa_err *err) {
    AA_TRY(aa_file_write_text(d->dir, name, t, err));
    aa_hf_note(d->files, name, t->len, aa_digest_bytes(t->data, t->len));
    aa_text_clear(t);
    return AA_OK;
}

static void generation_json(const aa_tokenizer *k, aa_text *t) {
    int32_t bos = k ? aa_tokenizer_bos(k) : -1, eos = k ? aa_tokenizer_eos(k) : -1;

    aa_text_add(t, "{");
    if (bos >= 0) aa_text_json_key(t, "bos_token_id"), aa_text_json_int(t, bos);
    if (eos >= 0) {
        aa_text_json_key(t, "eos_token_id"), aa_text_json_int(t, eos);
        aa_text_json_key(t, "pad_token_id"), aa_text_json_int(t, eos);
    }
    aa_text_json_key(t, "do_sample"), aa_text_json_bool(t, false);
    aa_text_add(t, "}\n");
}

static aa_status write_config(const target *d, const aa_config *c, const aa_tokenizer *k,
                              aa_type type, aa_text *t, aa_err *err) {
    AA_TRY(aa_hf_config_json(c, k, type, t, err));
    AA_TRY(write_text(d, AA__HF_CONFIG, t, err));
    generation_json(k, t);
    return write_text(d, AA__HF_GENERATION, t, err);
}

static aa_status write_tokenizer(const target *d, const aa_config *c, const aa_tokenizer *k,
                                 const char *chat_template, aa_text *t, aa_err *err) {
    AA_TRY(aa_tokenizer_write_json(k, t, err));
    AA_TRY(write_text(d, AA__HF_TOKENIZER, t, err));
    AA_TRY(aa_tokenizer_write_config_json(k, (size_t)c->seq, chat_template, t, err));
    return write_text(d, AA__HF_TOKENIZER_CONFIG, t, err);
}

aa_status aa__hf_write_config(const char *dir, const aa_config *c, const aa_tokenizer *k,
                              aa_type type, aa_err *err) {
    aa_text t = {0};
    aa_status st = write_config(&(target){dir, NULL}, c, k, type, &t, err);

    aa_text_release(&t);
    return st;
}

aa_status aa__hf_write_tokenizer(const char *dir, const aa_config *c, const aa_tokenizer *k,
                                 const char *chat_template, aa_err *err) {
    aa_text t = {0};
    aa_status st = write_tokenizer(&(target){dir, NULL}, c, k, chat_template, &t, err);

    aa_text_release(&t);
    return st;
}

static aa_status write_texts(const target *d, const aa_config *c, const aa_hf_options *o,
                             const vocabulary *v, aa_text *t, aa_err *err) {
    AA_TRY(write_config(d, c, o->tokenizer, AA_TYPE_F32, t, err));
    if (o->tokenizer) AA_TRY(write_tokenizer(d, c, o->tokenizer, o->chat_template, t, err));
    if (o->n_active == o->full_vocab) return AA_OK;
    active_json(o, v, t);
    return write_text(d, AA__HF_ACTIVE, t, err);
}

aa_status aa_hf_write(const char *dir, const aa_model *m, const aa_hf_options *o, bool *out_exact,
                      aa_err *err) {
    static const aa_hf_options none;
    target d = {.dir = dir};
    aa_config c = m->config;
    aa_text t = {0};
    vocabulary v = {0};

    if (!o) o = &none;
    d.files = o->files;
    bool by_id = o->active_ids || c.head_rank;
    aa_status st = by_id ? make_vocabulary(o, (size_t)c.vocab, &v, err) : AA_OK;
    if (!st && by_id) c.vocab = (int64_t)v.n_ids;
    if (!st) st = write_texts(&d, &c, o, &v, &t, err);
    if (!st) st = write_weights(&d, m, o, &v, err);
    aa_text_release(&t);
    aa_heap_free(v.row_of);
    if (st) return st;
    *out_exact = !by_id && c.residual_scale == 1 && sizeof(aa_real) == sizeof(float);
    return AA_OK;
}
