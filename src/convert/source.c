/* convert/source: finding out what a path is, and filling a model from it. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "base/file.h"
#include "base/memory.h"
#include "convert/convert_int.h"
#include "formats/flat.h"
#include "formats/gguf.h"

aa_status aa__kind_of(aa_sys_kind *out, const char *dir, const char *name, aa_err *err) {
    aa_sys_info info;
    char path[4096];                     /* not of the heap: a lack of memory is no answer */
    int n = snprintf(path, sizeof path, "%s/%s", dir, name);
    int no = n < 0 || (size_t)n >= sizeof path ? ENAMETOOLONG : aa_sys_stat(&info, path);

    if (no) return aa_fail_errno(err, no, "cannot open", dir);
    *out = info.kind;
    return AA_OK;
}

/* A run's link is resolved once, so that a run that is still going and moves its links cannot give
 * us the config of one checkpoint and the weights of another. */
static char *follow(const char *run, const char *link) {
    char target[512], *path = aa_path_join(run, link);
    ssize_t n = path ? readlink(path, target, sizeof target - 1) : -1;

    if (n <= 0 || target[0] == '/') return path;
    target[n] = 0;
    aa_heap_free(path);
    return aa_path_join(run, target);
}

aa_status aa__follow_links(const char *run, char **out, aa_err *err) {
    static const char *const links[] = {"best", "last"};
    aa_sys_kind kind;

    *out = NULL;
    for (size_t i = 0; i < sizeof links / sizeof *links; i++) {
        AA_TRY(aa__kind_of(&kind, run, links[i], err));
        if (kind != AA_SYS_DIR) continue;
        *out = follow(run, links[i]);
        return *out ? AA_OK : aa_fail_memory(err, "a path", 0);
    }
    return AA_OK;
}

/* The directory with the config.json that path, a directory, means. */
static aa_status resolve(const char *path, char **out, aa_err *err) {
    aa_sys_kind config, journal;

    AA_TRY(aa__kind_of(&config, path, AA__HF_CONFIG, err));
    if (config == AA_SYS_FILE) {
        *out = aa_heap_strdup(path);
        return *out ? AA_OK : aa_fail_memory(err, "a path", 0);
    }
    AA_TRY(aa__follow_links(path, out, err));
    if (*out) return AA_OK;
    AA_TRY(aa__kind_of(&journal, path, "journal.jsonl", err));
    if (journal == AA_SYS_FILE)
        return aa_fail(err, AA_ENOTFOUND, "the run '%s' has no checkpoint yet", path);
    return aa_fail(err, AA_ENOTFOUND, "'%s' is no model: it holds neither config.json nor a "
                   "checkpoint `best` or `last`", path);
}

static bool is_gguf(const unsigned char *data, size_t n) {
    return n >= strlen(AA_GGUF_MAGIC) && memcmp(data, AA_GGUF_MAGIC, strlen(AA_GGUF_MAGIC)) == 0;
}

/* Formats that are one file, told by how it begins. */
typedef struct format {
    bool (*is)(const unsigned char *data, size_t n);
    aa_status (*open)(aa_source *s, const char *path, aa_err *err);
} format;
static const format formats[] = {{is_gguf, aa__gguf_open}, {aa_flat_is, aa__flat_open}};

static aa_status format_of(const char *path, const format **out, aa_err *err) {
    aa_sys_map map;

    *out = NULL;
    AA_TRY(aa_map_open(&map, path, err));
    for (size_t i = 0; i < sizeof formats / sizeof *formats && !*out; i++)
        if (formats[i].is(map.data, map.size_bytes)) *out = &formats[i];
    aa_sys_map_close(&map);
    return AA_OK;
}

bool aa_source_is_file(const char *path) {
    const format *f;

    return !format_of(path, &f, NULL) && f;
}

static aa_status open_file(aa_source *s, const char *path, aa_err *err) {
    const format *f;

    s->path = aa_heap_strdup(path);
    if (!s->path) return aa_fail_memory(err, "a path", strlen(path));
    AA_TRY(format_of(path, &f, err));
    if (f) return f->open(s, path, err);
    return aa_fail(err, AA_EUNSUPPORTED, "'%s' is a file of another kind; a model is a GGUF file, "
                   "a run directory, a directory with config.json and model.safetensors, or a file "
                   "of the first AutoANE (BLZT) or of llama2.c: give that", path);
}

static aa_status open_directory(aa_source *s, const char *path, aa_err *err) {
    AA_TRY(resolve(path, &s->path, err));
    return aa__hf_open(s, s->path, err);
}

aa_status aa_source_open(aa_source **out, const char *path, aa_err *err) {
    aa_sys_info info;
    int no = aa_sys_stat(&info, path);

    if (no) return aa_fail_errno(err, no, "cannot open", path);
    if (info.kind == AA_SYS_ABSENT)
        return aa_fail(err, AA_ENOTFOUND, "there is no model '%s'", path);
    aa_source *s = aa_heap_alloc(1, sizeof *s);
    if (!s) return aa_fail_memory(err, "a model source", sizeof *s);
    aa_status st = (info.kind == AA_SYS_DIR ? open_directory : open_file)(s, path, err);
    if (st) aa_source_close(s);
    else *out = s;
    return st;
}

void aa_source_close(aa_source *s) {
    if (!s) return;
    if (s->close && s->self) s->close(s);
    aa_heap_free(s->path);
    aa_heap_free(s->tokenizer_path);
    aa_heap_free(s->chat_template);
    aa_heap_free(s->active_ids);
    aa_heap_free(s);
}

static aa_status check_finite(const aa_source *s, const aa_tensor *t, aa_err *err) {
    for (size_t i = 0; i < aa_tensor_size(t); i++)
        if (!isfinite(t->data[i]))
            return aa_fail(err, AA_EFORMAT, "'%s': tensor '%s': element %zu is %s", s->path,
                           t->name, i, isnan(t->data[i]) ? "not a number" : "infinite");
    return AA_OK;
}

/* What was read once need not stay resident: a copy of the whole file would count as ours. */
static void drop(const aa_source *s, const aa_stored *m) {
    if (s->mapped) aa_sys_map_drop(m->data, aa_stored_bytes(m));
}

aa_status aa_source_read(aa_source *s, const aa_tensor *row, float *dst, aa_err *err) {
    aa_stored stored;

    AA_TRY(s->find(s, row, &stored, err));
    if (!s->active_ids || !aa__is_by_id(row))
        aa_stored_read(&stored, 0, stored.rows, dst);
    else
        for (size_t i = 0; i < s->n_active; i++)
            aa_stored_read(&stored, (size_t)s->active_ids[i], 1, dst + i * stored.cols);
    drop(s, &stored);
    return AA_OK;
}

static aa_status read_row(aa_source *s, aa_model *m, size_t row, float *buffer, aa_err *err) {
    aa_tensor *t = &m->tensors[row];

    if (t->stored) {
        AA_TRY(s->find(s, t, &m->stored[row], err));
        return m->stored[row].delta ? aa_fail(err, AA_EUNSUPPORTED, "a model with adapters cannot "
                                              "run from its files: write the merged model first")
                                    : AA_OK;
    }
    AA_TRY(aa_source_read(s, t, buffer ? buffer : (float *)(void *)t->data, err));
    for (size_t i = 0; buffer && i < aa_tensor_size(t); i++) t->data[i] = (aa_real)buffer[i];
    return check_finite(s, t, err);
}

aa_status aa_source_load(aa_source *s, aa_model *m, aa_err *err) {
    float *buffer = NULL;
    size_t largest = 1;
    aa_status st = AA_OK;

    /* Straight into the rows, unless the model computes in another type than the sources give. */
    if (sizeof(aa_real) != sizeof(float)) {
        for (size_t i = 0; i < m->n_base; i++)
            if (aa_tensor_size(&m->tensors[i]) > largest) largest = aa_tensor_size(&m->tensors[i]);
        buffer = aa_heap_alloc(largest, sizeof *buffer);
        if (!buffer) return aa_fail_memory(err, "a conversion buffer", largest * sizeof *buffer);
    }
    aa_assert(!m->stored || !s->active_ids);
    for (size_t i = 0; !st && i < m->n_base; i++) st = read_row(s, m, i, buffer, err);
    if (!st && s->check_all_read) st = s->check_all_read(s, err);
    aa_model_changed(m);
    aa_heap_free(buffer);
    return st;
}

aa_status aa_source_each(aa_source *s, aa_source_row *each, void *ctx, aa_err *err) {
    aa_config c = s->config;
    aa_stored m;

    c.vocab = (int64_t)s->full_vocab;
    size_t n = aa_model_rows(&c, NULL, 0);
    aa_tensor *rows = aa_heap_alloc(n, sizeof *rows);
    if (!rows) return aa_fail_memory(err, "the list of tensors", n * sizeof *rows);
    aa_model_rows(&c, rows, n);
    aa_status st = AA_OK;
    for (size_t i = 0; !st && i < n; i++) {
        st = s->find(s, &rows[i], &m, err);
        if (!st) st = each(ctx, &rows[i], &m, err);
    }
    aa_heap_free(rows);
    return st;
}

static aa_status add_size(void *ctx, const aa_tensor *row, const aa_stored *m, aa_err *err) {
    aa_source_weights *z = ctx;

    (void)row, (void)err;
    z->n_tensors[m->type]++;
    z->size_bytes += aa_stored_bytes(m);
    z->n_values += (uint64_t)m->rows * m->cols;
    z->quantised |= aa_type_block(m->type) > 1;
    return AA_OK;
}

aa_status aa_source_measure(aa_source *s, aa_source_weights *out, aa_err *err) {
    aa_source_weights z = {0};

    AA_TRY(aa_source_each(s, add_size, &z, err));
    *out = z;
    return AA_OK;
}

typedef struct digesting { const aa_source *source; aa_digester *digester; } digesting;

static aa_status add_digest(void *ctx, const aa_tensor *row, const aa_stored *m, aa_err *err) {
    const digesting *g = ctx;
    aa_digester *d = g->digester;
    const uint64_t shape[3] = {(uint64_t)m->type, m->rows, m->cols};

    (void)err;
    aa_digester_add(d, row->name, strlen(row->name) + 1);
    aa_digester_add(d, shape, sizeof shape);
    aa_digester_add(d, m->data, aa_stored_bytes(m));
    drop(g->source, m);
    return AA_OK;
}

aa_status aa_source_weights_digest(aa_source *s, aa_digest *out, aa_err *err) {
    aa_digester *d;

    AA_TRY(aa_digester_new(&d, err));
    aa_status st = aa_source_each(s, add_digest, &(digesting){s, d}, err);
    if (!st) *out = aa_digester_get(d);
    aa_digester_free(d);
    return st;
}

void aa_source_types(const aa_source_weights *z, aa_text *out) {
    const char *comma = "";

    for (int t = 0; t < AA_TYPE_COUNT; t++)
        if (z->n_tensors[t]) {
            aa_text_printf(out, "%s%llu %s", comma, (unsigned long long)z->n_tensors[t],
                           aa_type_name((aa_type)t));
            comma = ", ";
        }
}

aa_status aa_source_restrict(aa_source *s, const int32_t *ids, size_t n, aa_err *err) {
    if (s->active_ids)
        return aa_fail(err, AA_EUSAGE, "'%s' has a compact vocabulary already, which stays as it "
                       "is", s->path);
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0 || (size_t)ids[i] >= s->full_vocab)
            return aa_fail(err, AA_EUSAGE, "'%s' has no row for id %d: it has %zu ids", s->path,
                           (int)ids[i], s->full_vocab);
    s->active_ids = aa_heap_alloc(n, sizeof *ids);
    if (!s->active_ids) return aa_fail_memory(err, "the active vocabulary", n * sizeof *ids);
    memcpy(s->active_ids, ids, n * sizeof *ids);
    s->n_active = n;
    s->config.vocab = (int64_t)n;
    return AA_OK;
}

aa_status aa_source_tokenizer(aa_source *s, aa_tokenizer **out, aa_err *err) {
    aa_tokenizer *t = NULL;

    if (s->tokenizer_path) AA_TRY(s->tokenizer(s, &t, err));
    else AA_TRY(aa_tokenizer_new_bytes(&t, err));
    size_t n = aa_tokenizer_vocab(t);
    if (s->active_ids && n != s->full_vocab) {
        aa_tokenizer_free(t);
        return aa_fail(err, AA_EFORMAT, "'%s': " AA__HF_ACTIVE " is for a tokenizer of %zu ids, "
                       "the one beside it has %zu", s->path, s->full_vocab, n);
    }
    if (n > s->full_vocab) {
        aa_tokenizer_free(t);
        if (!s->tokenizer_path)
            return aa_fail(err, AA_ENOTFOUND, "'%s' has no tokenizer, and its vocabulary of "
                           "%zu ids is too small for bytes, which take %zu", s->path,
                           s->full_vocab, n);
        return aa_fail(err, AA_EFORMAT, "'%s' has %zu ids, but the model beside it only %zu",
                       s->tokenizer_path, n, s->full_vocab);
    }
    *out = t;
    return AA_OK;
}
