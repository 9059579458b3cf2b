/* convert/adapter_gguf: a GGUF adapter, as llama.cpp reads them.
 *
 * Tensors go by the base's names with .lora_a [r,in] and .lora_b [out,r]; one alpha is for all of
 * them, 0 standing for a scale of 1. Rows of B are in the order of the base's rows, which for arch
 * llama is in pairs by heads: how wide those are the file does not say, only its base.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/memory.h"
#include "convert/adapter_int.h"
#include "convert/gguf_int.h"

static bool key_is(const aa_gguf *g, const char *name, const char *value) {
    const aa_gguf_key *k = aa_gguf_find_key(g, name);

    if (!k || k->array || k->kind != AA_GGUF_STRING) return false;
    const unsigned char *at = k->data;
    aa_gguf_name s = aa_gguf_string(&at);
    return s.n == strlen(value) && memcmp(s.s, value, s.n) == 0;
}

bool aa__gguf_is_adapter(const char *path) {
    aa_gguf g;

    if (aa_gguf_open(&g, path, NULL)) return false;
    bool is = key_is(&g, "general.type", "adapter");
    aa_gguf_close(&g);
    return is;
}

/* ---- tensors --------------------------------------------------------------------------------- */

static aa_status stored_of(const aa_adapter *a, const aa_gguf_tensor *t, aa_stored *out,
                           aa_err *err) {
    aa_type type;

    if (t->n_dims != 2 || !t->dims[0] || !t->dims[1])
        return aa_fail(err, AA_EFORMAT, "'%s': tensor '%.*s' must be a matrix, and not empty",
                       a->path, (int)t->name.n, t->name.s);
    if (!aa__gguf_type_of(t->type, &type))
        return aa_fail(err, AA_EUNSUPPORTED, "'%s': tensor '%.*s' is of type %s, which is not "
                       "supported", a->path, (int)t->name.n, t->name.s,
                       aa_gguf_type_name(t->type));
    *out = (aa_stored){.type = type, .rows = t->dims[1], .cols = t->dims[0], .data = t->data};
    return AA_OK;
}

static const char A_END[] = ".lora_a", B_END[] = ".lora_b";

/* The other tensor of the pair t belongs to, whose name ends like this. */
static const aa_gguf_tensor *other(const aa_gguf *g, const aa_gguf_tensor *t, const char *end) {
    char name[AA__GGUF_NAME];
    size_t n = t->name.n - strlen(end);
    int len = snprintf(name, sizeof name, "%.*s%s", (int)n, t->name.s, end);

    return len < (int)sizeof name ? aa_gguf_find_tensor(g, name) : NULL;
}

/* t is the A of a row. */
static aa_status read_pair(aa_adapter *a, const aa_gguf_tensor *t, double alpha, aa_err *err) {
    const aa_gguf_tensor *b = other(a->self, t, B_END);
    char theirs[AA__GGUF_NAME], ours[AA__GGUF_NAME];
    size_t n = t->name.n - strlen(A_END);
    aa_adapter_row *row;

    if (!b)
        return aa_fail(err, AA_EFORMAT, "'%s' has the tensor '%.*s', but not the B that goes with "
                       "it", a->path, (int)t->name.n, t->name.s);
    snprintf(theirs, sizeof theirs, "%.*s", (int)n, t->name.s);
    if (n >= sizeof theirs || !aa__gguf_ours(theirs, ours))
        return aa_fail(err, AA_EUNSUPPORTED, "'%s': tensor '%.*s' is for no tensor of a llama, "
                       "qwen2 or qwen3 model", a->path, (int)t->name.n, t->name.s);
    AA_TRY(aa__adapter_add(a, ours, strlen(ours), "", &row, err));
    AA_TRY(stored_of(a, t, &row->A, err));
    AA_TRY(stored_of(a, b, &row->B, err));
    if (row->A.rows != row->B.cols)
        return aa_fail(err, AA_EFORMAT, "'%s': '%s': A is [%zu,%zu] and B is [%zu,%zu]: their rank "
                       "is not the same", a->path, theirs, row->A.rows, row->A.cols, row->B.rows,
                       row->B.cols);
    row->alpha = alpha != 0 ? alpha : (double)row->A.rows;
    return AA_OK;
}

static aa_status read_tensors(aa_adapter *a, const aa_gguf *g, double alpha, aa_err *err) {
    a->rows = aa_heap_alloc(g->n_tensors / 2 + 1, sizeof *a->rows);
    if (!a->rows) return aa_fail_memory(err, "rows", g->n_tensors * sizeof *a->rows);
    for (size_t i = 0; i < g->n_tensors; i++) {
        const aa_gguf_tensor *t = &g->tensors[i];

        if (aa__ends_with(t->name.s, t->name.n, B_END) && other(g, t, A_END)) continue;
        if (!aa__ends_with(t->name.s, t->name.n, A_END))
            return aa_fail(err, AA_EUNSUPPORTED, "'%s': tensor '%.*s' is no half of a pair of "
                           ".lora_a and .lora_b", a->path, (int)t->name.n, t->name.s);
        AA_TRY(read_pair(a, t, alpha, err));
    }
    if (a->n_rows) return AA_OK;
    return aa_fail(err, AA_EFORMAT, "'%s' holds no tensors", a->path);
}

/* ---- the adapter ----------------------------------------------------------------------------- */

static aa_status gguf_bind(aa_adapter *a, const aa_config *base, aa_err *err) {
    const char *arch = aa_arch_name(base->arch);

    if (!key_is(a->self, "general.architecture", arch))
        return aa_fail(err, AA_EFORMAT, "'%s': general.architecture is not that of the base model, "
                       "%s", a->path, arch);
    for (size_t i = 0; i < a->n_rows; i++) {
        aa_stored *b = &a->rows[i].B;
        size_t head = aa__gguf_paired(base, a->rows[i].name);

        b->paired_head = head && b->rows % head == 0 ? head : 0;
    }
    return AA_OK;
}

static void gguf_close(aa_adapter *a) {
    aa_gguf_close(a->self);
    aa_heap_free(a->self);
    a->self = NULL;
}

aa_status aa__adapter_gguf_open(aa_adapter *a, aa_err *err) {
    aa_gguf *g = aa_heap_alloc(1, sizeof *g);
    double alpha = NAN;

    if (!g) return aa_fail_memory(err, "an adapter", sizeof *g);
    a->self = g;
    a->close = gguf_close;
    a->bind = gguf_bind;
    a->format = "gguf";
    AA_TRY(aa_gguf_open(g, a->path, err));
    if (!key_is(g, "adapter.type", "lora"))
        return aa_fail(err, AA_EUNSUPPORTED, "'%s': adapter.type must be 'lora'", a->path);
    if (aa_gguf_find_key(g, "adapter.alora.invocation_tokens"))
        return aa_fail(err, AA_EUNSUPPORTED, "'%s' is to be applied after certain tokens only "
                       "(adapter.alora.invocation_tokens), which is not supported", a->path);
    const aa_gguf_key *k = aa_gguf_find_key(g, "adapter.lora.alpha");
    if (!k || k->array || !aa_gguf_real(k, 0, &alpha) || !isfinite(alpha))
        return aa_fail(err, AA_EFORMAT, "'%s' lacks the number adapter.lora.alpha", a->path);
    return read_tensors(a, g, alpha, err);
}
