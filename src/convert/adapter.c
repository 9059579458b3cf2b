/* convert/adapter: finding out what a path is, and comparing an adapter with its base. */
#include "convert/adapter.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/file.h"
#include "base/memory.h"
#include "convert/adapter_int.h"
#include "formats/gguf.h"

/* ---- what a path is -------------------------------------------------------------------------- */

typedef aa_status open_fn(aa_adapter *a, aa_err *err);

static bool begins_with(const char *path, const char *magic) {
    aa_sys_map map;
    size_t n = strlen(magic);

    if (aa_sys_map_open(&map, path)) return false;
    bool same = map.size_bytes >= n && memcmp(map.data, magic, n) == 0;
    aa_sys_map_close(&map);
    return same;
}

/* Some programs leave an adapter's config beside a merged model, which is then what is meant. */
static bool is_peft(const char *dir) {
    aa_sys_kind config, model, index;

    return !aa__kind_of(&config, dir, AA__PEFT_CONFIG, NULL) && config == AA_SYS_FILE &&
           !aa__kind_of(&model, dir, AA__HF_WEIGHTS, NULL) && model == AA_SYS_ABSENT &&
           !aa__kind_of(&index, dir, AA__HF_INDEX, NULL) && index == AA_SYS_ABSENT;
}

/* NULL: no adapter. */
static open_fn *reader_of(const char *path) {
    aa_sys_info info;

    if (aa_sys_stat(&info, path)) return NULL;
    if (info.kind == AA_SYS_DIR) return is_peft(path) ? aa__peft_open : NULL;
    if (info.kind != AA_SYS_FILE) return NULL;
    if (begins_with(path, AA__SIDECAR_MAGIC)) return aa__sidecar_open;
    return begins_with(path, AA_GGUF_MAGIC) && aa__gguf_is_adapter(path) ? aa__adapter_gguf_open
                                                                         : NULL;
}

/* The checkpoint of a run, if it has one; else path. */
static aa_status resolve(const char *path, char **out, aa_err *err) {
    aa_sys_info info;

    *out = NULL;
    if (!aa_sys_stat(&info, path) && info.kind == AA_SYS_DIR)
        AA_TRY(aa__follow_links(path, out, err));
    if (!*out) *out = aa_heap_strdup(path);
    return *out ? AA_OK : aa_fail_memory(err, "a path", strlen(path));
}

/* Without the heap: a lack of memory is no answer. */
bool aa_adapter_is(const char *path) {
    static const char *const links[] = {"best", "last"};
    aa_sys_kind kind;
    char at[AA_SYS_PATH];

    for (size_t i = 0; i < sizeof links / sizeof *links; i++) {
        int n = snprintf(at, sizeof at, "%s/%s", path, links[i]);

        if (n >= (int)sizeof at || aa__kind_of(&kind, path, links[i], NULL)) return false;
        if (kind == AA_SYS_DIR) return reader_of(at) != NULL;
    }
    return reader_of(path) != NULL;
}

aa_status aa_adapter_open(aa_adapter **out, const char *path, aa_err *err) {
    aa_adapter *a = aa_heap_alloc(1, sizeof *a);

    if (!a) return aa_fail_memory(err, "an adapter", sizeof *a);
    aa_status st = resolve(path, &a->path, err);
    open_fn *read = st ? NULL : reader_of(a->path);
    if (!st && !read)
        st = aa_fail(err, AA_ENOTFOUND, "'%s' is no adapter: that is a directory with "
                     AA__PEFT_CONFIG " and " AA__PEFT_WEIGHTS " (PEFT), a GGUF file whose "
                     "general.type is 'adapter', or a LoRA sidecar (_lora.bin)", path);
    if (!st) st = read(a, err);
    if (st) aa_adapter_close(a);
    else *out = a;
    return st;
}

static aa_status check_base(const aa_adapter *a, aa_source *s, aa_err *err) {
    aa_digest got;

    if (aa_digest_equal(a->base_digest, (aa_digest){0})) return AA_OK;
    AA_TRY(aa_source_weights_digest(s, &got, err));
    if (aa_digest_equal(got, a->base_digest)) return AA_OK;
    return aa_fail(err, AA_EFORMAT, "its weights are not those that the adapter was trained on");
}

aa_status aa_adapter_open_base(const aa_adapter *a, aa_source **out, aa_err *err) {
    aa_source *s = NULL;

    if (!a->base_name)
        return aa_fail(err, AA_EUSAGE, "'%s' does not say what model it was made for: name both, "
                       "the model and the adapter", a->path);
    aa_status st = aa_source_open(&s, a->base_name, err);
    if (!st) st = check_base(a, s, err);
    if (!st) {
        *out = s;
        return AA_OK;
    }
    aa_source_close(s);
    aa_err_context(err, "'%s', the base of the adapter '%s' (another can be named beside the "
                   "adapter)", a->base_name, a->path);
    return st;
}

void aa_adapter_close(aa_adapter *a) {
    if (!a) return;
    if (a->close && a->self) a->close(a);
    aa_heap_free(a->path);
    aa_heap_free(a->base_name);
    aa_heap_free(a->rows);
    aa_heap_free(a);
}

/* ---- rows ------------------------------------------------------------------------------------ */

aa_status aa__adapter_add(aa_adapter *a, const char *name, size_t n, const char *end,
                          aa_adapter_row **out, aa_err *err) {
    aa_adapter_row *row = &a->rows[a->n_rows];
    size_t len = n + strlen(end);

    if (len >= sizeof row->name)
        return aa_fail(err, AA_EFORMAT, "'%s': the tensor of '%.40s...' has a name of %zu bytes, "
                       "longer than any of a model", a->path, name, len);
    *row = (aa_adapter_row){0};
    memcpy(row->name, name, n);
    memcpy(row->name + n, end, len - n);
    a->n_rows++;
    *out = row;
    return AA_OK;
}

double aa_adapter_scale(const aa_adapter *a, const aa_adapter_row *row) {
    double r = (double)row->A.rows;

    return row->alpha / (a->rslora ? sqrt(r) : r);
}

const aa_adapter_row *aa_adapter_find(const aa_adapter *a, const char *name) {
    for (size_t i = 0; i < a->n_rows; i++)
        if (strcmp(a->rows[i].name, name) == 0) return &a->rows[i];
    return NULL;
}

/* ---- the base -------------------------------------------------------------------------------- */

aa_status aa__base_rows(const aa_config *base, aa_tensor **out, size_t *n, aa_err *err) {
    aa_config c = *base;

    c.tied = false;
    *n = aa_model_rows(&c, NULL, 0);
    *out = aa_heap_alloc(*n, sizeof **out);
    if (!*out) return aa_fail_memory(err, "the table of the base model", *n * sizeof **out);
    aa_model_rows(&c, *out, *n);
    return AA_OK;
}

static aa_status bad_shape(const aa_adapter *a, const aa_adapter_row *row, const char *part,
                           const aa_stored *m, size_t rows, size_t cols, aa_err *err) {
    return aa_fail(err, AA_EFORMAT, "'%s': %s of '%s' is [%zu,%zu], of this base it must be "
                   "[%zu,%zu]: the adapter was made for another model", a->path, part, row->name,
                   m->rows, m->cols, rows, cols);
}

static aa_status check_row(const aa_adapter *a, const aa_adapter_row *row, const aa_tensor *base,
                           aa_err *err) {
    const size_t r = row->A.rows;

    if (row->whole.data && (row->whole.rows != base->rows || row->whole.cols != base->cols))
        return bad_shape(a, row, "the new value", &row->whole, base->rows, base->cols, err);
    if (!row->A.data) return AA_OK;
    if (base->kind != AA_KIND_MATRIX && base->kind != AA_KIND_HEAD)
        return aa_fail(err, AA_EUNSUPPORTED, "'%s' adapts '%s', which is no matrix of a linear "
                       "map", a->path, row->name);
    if (row->A.cols != base->cols) return bad_shape(a, row, "A", &row->A, r, base->cols, err);
    if (row->B.rows != base->rows || row->B.cols != r)
        return bad_shape(a, row, "B", &row->B, base->rows, r, err);
    if (row->magnitude.data && row->magnitude.cols != base->rows)
        return bad_shape(a, row, "the magnitude", &row->magnitude, 1, base->rows, err);
    return AA_OK;
}

static aa_status check_rows(const aa_adapter *a, const aa_tensor *base, size_t n, bool *used,
                            aa_err *err) {
    for (size_t i = 0; i < a->n_rows; i++) {
        size_t b = 0;

        while (b < n && strcmp(base[b].name, a->rows[i].name) != 0) b++;
        if (b == n)
            return aa_fail(err, AA_EFORMAT, "'%s' has values for '%s', which this base has not: "
                           "the adapter was made for another model", a->path, a->rows[i].name);
        if (used[b])
            return aa_fail(err, AA_EFORMAT, "'%s' has values for '%s' twice", a->path,
                           a->rows[i].name);
        used[b] = true;
        AA_TRY(check_row(a, &a->rows[i], &base[b], err));
    }
    return AA_OK;
}

aa_status aa_adapter_bind(aa_adapter *a, const aa_config *base, aa_err *err) {
    aa_tensor *rows = NULL;
    size_t n = 0;

    if (a->bind) AA_TRY(a->bind(a, base, err));
    AA_TRY(aa__base_rows(base, &rows, &n, err));
    bool *used = aa_heap_alloc(n, sizeof *used);
    aa_status st = used ? check_rows(a, rows, n, used, err) : aa_fail_memory(err, "marks", n);
    aa_heap_free(used);
    aa_heap_free(rows);
    return st;
}
