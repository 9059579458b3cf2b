/* autoane info, of an adapter: what it adapts, by how much. */
#include <string.h>
#include "base/file.h"
#include "cli/cli.h"
#include "convert/adapter.h"

/* "q_proj" of "model.layers.3.self_attn.q_proj.weight", "q_proj.bias" of a bias. */
static size_t short_name(const aa_adapter_row *row, const char **out) {
    const char *end = strrchr(row->name, '.'), *from = end;

    while (from > row->name && from[-1] != '.') from--;
    *out = from;
    return strcmp(end, ".weight") == 0 ? (size_t)(end - from) : strlen(from);
}

static bool same_kind(const aa_adapter_row *x, const aa_adapter_row *y) {
    const char *a, *b;
    size_t n = short_name(x, &a), m = short_name(y, &b);

    return n == m && memcmp(a, b, n) == 0 && x->A.rows == y->A.rows && x->alpha == y->alpha &&
           !x->A.data == !y->A.data;
}

typedef struct totals { uint64_t tensors, params, bytes; bool dora; } totals;

static totals totals_of(const aa_adapter *a) {
    totals t = {0};

    for (size_t i = 0; i < a->n_rows; i++) {
        const aa_adapter_row *row = &a->rows[i];
        const aa_stored *const parts[] = {&row->A, &row->B, &row->magnitude, &row->whole};

        for (size_t p = 0; p < 4; p++) {
            if (!parts[p]->data) continue;
            t.tensors++;
            t.params += (uint64_t)parts[p]->rows * parts[p]->cols;
            t.bytes += aa_stored_bytes(parts[p]);
        }
        t.dora |= row->magnitude.data != NULL;
    }
    return t;
}

static void as_json(const aa_adapter *a, const totals *t, aa_text *out) {
    aa_text_add(out, "{");
    cli_key_string(out, "format", a->format);
    if (a->base_name) cli_key_string(out, "base", a->base_name);
    if (a->rank) cli_key_int(out, "rank", (int64_t)a->rank);
    aa_text_json_key(out, "rslora"), aa_text_json_bool(out, a->rslora);
    aa_text_json_key(out, "dora"), aa_text_json_bool(out, t->dora);
    cli_key_int(out, "tensors", (int64_t)t->tensors);
    cli_key_int(out, "params", (int64_t)t->params);
    cli_key_int(out, "bytes", (int64_t)t->bytes);
    aa_text_json_key(out, "rows");
    aa_text_add(out, "[");
    for (size_t i = 0; i < a->n_rows; i++) {
        const aa_adapter_row *row = &a->rows[i];

        aa_text_add(out, i ? ",{" : "{");
        cli_key_string(out, "name", row->name);
        aa_text_json_key(out, "whole"), aa_text_json_bool(out, row->whole.data != NULL);
        if (row->A.data) {
            cli_key_string(out, "dtype", aa_type_name(row->A.type));
            cli_key_int(out, "rank", (int64_t)row->A.rows);
            cli_key_real(out, "alpha", row->alpha);
            cli_key_real(out, "scale", aa_adapter_scale(a, row));
        }
        aa_text_add(out, "}");
    }
    aa_text_add(out, "]}\n");
}

/* One line for what is alike but for the layer. */
static void put_kinds(const aa_adapter *a, aa_text *out) {
    for (size_t i = 0; i < a->n_rows; i++) {
        const aa_adapter_row *row = &a->rows[i];
        const char *name;
        size_t len = short_name(row, &name), n = 0, before = 0;

        for (size_t j = 0; j < a->n_rows; j++)
            if (same_kind(row, &a->rows[j])) n++, before += j < i;
        if (before) continue;
        aa_text_printf(out, "  %-28.*s %3zu x", (int)len, name, n);
        if (row->A.data)
            aa_text_printf(out, " rank %zu, alpha %g, scale %g, %s", row->A.rows, row->alpha,
                           aa_adapter_scale(a, row), aa_type_name(row->A.type));
        if (row->whole.data) aa_text_add(out, row->A.data ? ", and a new value" : " a new value");
        aa_text_add(out, "\n");
    }
}

aa_status cli_info_adapter(cli_call *call, const char *path, aa_err *err) {
    aa_adapter *a = NULL;

    AA_TRY(aa_adapter_open(&a, path, err));
    const totals t = totals_of(a);
    if (call->json) as_json(a, &t, &call->out);
    else {
        aa_text_printf(&call->out, "%s: adapter (%s%s%s)", path, a->format,
                       a->rslora ? ", rsLoRA" : "", t.dora ? ", DoRA" : "");
        if (a->rank)
            aa_text_printf(&call->out, " of rank %zu; what its numbers are for only its base says",
                           a->rank);
        else
            aa_text_printf(&call->out, ", %.3f M parameters in %llu tensors, %llu bytes",
                           (double)t.params * 1e-6, (unsigned long long)t.tensors,
                           (unsigned long long)t.bytes);
        aa_text_printf(&call->out, "\n  made for %s\n", a->base_name ? a->base_name
                                                                     : "a model it does not name");
        put_kinds(a, &call->out);
    }
    aa_adapter_close(a);
    return AA_OK;
}
