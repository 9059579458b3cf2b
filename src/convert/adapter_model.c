/* convert/adapter_model: an adapter as the rows of a model (model/lora.h), and back. */
#include <stdio.h>
#include <string.h>
#include "base/memory.h"
#include "convert/adapter_int.h"
#include "model/lora.h"

static aa_stored floats_of(const aa_tensor *t) {
    return (aa_stored){.type = AA_TYPE_F32, .rows = t->rows, .cols = t->cols,
                       .data = (const unsigned char *)t->data};
}

/* ---- of a model ------------------------------------------------------------------------------ */

static void add_term(aa_adapter *a, const aa_model *m, int layer, aa_target target) {
    aa_tensor *A, *B, *magnitude = aa_lora_magnitude(m, layer, target);

    aa_lora_find(m, layer, target, &A, &B);
    if (!A) return;
    aa_adapter_row *row = &a->rows[a->n_rows++];
    *row = (aa_adapter_row){.A = floats_of(A), .B = floats_of(B),
                            .alpha = aa_lora_site_of(m->lora, layer, target)->alpha};
    if (magnitude) row->magnitude = floats_of(magnitude);
    snprintf(row->name, sizeof row->name, "model.layers.%d.%s.weight", layer,
             aa_target_module(target));
}

static void add_whole(aa_adapter *a, const char *name, const aa_tensor *t) {
    aa_adapter_row *row = &a->rows[a->n_rows++];

    *row = (aa_adapter_row){.whole = floats_of(t)};
    snprintf(row->name, sizeof row->name, "%s", name);
}

aa_status aa_adapter_of_model(aa_adapter **out, const aa_model *m, const char *base_name,
                              aa_err *err) {
    aa_adapter *a = aa_heap_alloc(1, sizeof *a);

    aa_assert(m->lora && sizeof(aa_real) == sizeof(float));
    if (!a) return aa_fail_memory(err, "an adapter", sizeof *a);
    *a = (aa_adapter){.format = "peft", .rslora = m->lora->rslora, .dropout = m->lora->dropout};
    a->path = aa_heap_strdup("the model in memory");
    a->base_name = base_name ? aa_heap_strdup(base_name) : NULL;
    a->rows = aa_heap_alloc(m->n_tensors + 1, sizeof *a->rows);
    if (!a->path || !a->rows || (base_name && !a->base_name)) {
        aa_adapter_close(a);
        return aa_fail_memory(err, "rows", m->n_tensors * sizeof *a->rows);
    }
    for (int layer = 0; layer < m->config.layers; layer++)
        for (aa_target t = 0; t < AA_TARGET_COUNT; t++) add_term(a, m, layer, t);
    for (size_t i = 0; i < m->n_base; i++)
        if (!m->tensors[i].frozen) add_whole(a, m->tensors[i].name, &m->tensors[i]);
    /* A tied table is two modules to PEFT, and both become this one. */
    if (m->config.tied && m->lora->embedding) add_whole(a, "lm_head.weight", m->embedding);
    *out = a;
    return AA_OK;
}

/* ---- into a model ---------------------------------------------------------------------------- */

/* The site of a matrix by its name, or NULL. */
static aa_lora_site *site_named(aa_lora_site *sites, const aa_config *c, const char *name) {
    int layer, n = 0;

    if (sscanf(name, "model.layers.%9d.%n", &layer, &n) != 1 || !n) return NULL;
    if (layer < 0 || layer >= c->layers) return NULL;
    for (aa_target t = 0; t < AA_TARGET_COUNT; t++) {
        const char *module = aa_target_module(t);
        const size_t len = strlen(module);

        if (strncmp(name + n, module, len) == 0 && strcmp(name + n + len, ".weight") == 0)
            return &sites[(size_t)layer * AA_TARGET_COUNT + t];
    }
    return NULL;
}

static bool same_values(const aa_stored *x, const aa_stored *y) {
    return x->type == y->type && x->rows == y->rows && x->cols == y->cols &&
           memcmp(x->data, y->data, aa_stored_bytes(x)) == 0;
}

/* A new head beside the embedding of a tied model must be that embedding. */
static bool splits(const aa_adapter *a, const aa_config *c) {
    const aa_adapter_row *e = aa_adapter_find(a, "model.embed_tokens.weight"),
                         *h = aa_adapter_find(a, "lm_head.weight");

    if (!c->tied || (!e && !h)) return false;
    return !e || !h || !e->whole.data || !h->whole.data || !same_values(&e->whole, &h->whole);
}

static aa_status take_row(const aa_adapter *a, const aa_adapter_row *row, const aa_config *c,
                          aa_lora *lora, aa_lora_site *sites, aa_err *err) {
    aa_lora_site *site = site_named(sites, c, row->name);

    if (row->A.data && site && !row->whole.data) {
        *site = (aa_lora_site){row->A.rows, row->alpha};
        lora->dora |= row->magnitude.data != NULL;
        return AA_OK;
    }
    if (row->A.data || site)
        return aa_fail(err, AA_EUNSUPPORTED, "'%s' has %s '%s', which a model does not run beside "
                       "its files: write the merged model (`autoane convert MODEL OUT --merge %s`)",
                       a->path, row->A.data ? "a low-rank term on" : "new values of", row->name,
                       a->path);
    if (strcmp(row->name, "model.embed_tokens.weight") == 0) lora->embedding = true;
    else if (strcmp(row->name, "lm_head.weight") == 0) lora->head = !c->tied;
    return AA_OK;
}

aa_status aa_adapter_lora(const aa_adapter *a, const aa_config *c, aa_lora *out,
                          aa_lora_site **out_sites, aa_err *err) {
    const size_t n = (size_t)c->layers * AA_TARGET_COUNT;
    aa_lora_site *sites = aa_heap_alloc(n, sizeof *sites);
    aa_lora lora = {.rslora = a->rslora, .norms = true};
    aa_status st = AA_OK;

    if (!sites) return aa_fail_memory(err, "the sites of an adapter", n * sizeof *sites);
    if (splits(a, c))
        st = aa_fail(err, AA_EUNSUPPORTED, "'%s' gives head and embedding, which are one table in "
                     "this model, different values: write the merged model "
                     "(`autoane convert MODEL OUT --merge %s`)", a->path, a->path);
    for (size_t i = 0; !st && i < a->n_rows; i++)
        st = take_row(a, &a->rows[i], c, &lora, sites, err);
    if (st) {
        aa_heap_free(sites);
        return st;
    }
    lora.site = *out_sites = sites;
    *out = lora;
    return AA_OK;
}

static void read_values(aa_tensor *t, const aa_stored *from) {
    aa_stored_read(from, 0, from->rows, (float *)(void *)t->data);
    t->version++;
}

aa_status aa_adapter_load(const aa_adapter *a, aa_model *m, aa_err *err) {
    aa_assert(sizeof(aa_real) == sizeof(float));
    for (size_t i = 0; i < a->n_rows; i++) {
        const aa_adapter_row *row = &a->rows[i];
        aa_tensor *A = NULL, *B = NULL, *magnitude = NULL, *whole = aa_model_find(m, row->name);

        for (aa_target t = 0; row->A.data && !A && t < AA_TARGET_COUNT; t++) {
            int layer = 0;

            if (!strstr(row->name, aa_target_module(t))) continue;
            (void)sscanf(row->name, "model.layers.%9d.", &layer);
            aa_lora_find(m, layer, t, &A, &B);
            magnitude = aa_lora_magnitude(m, layer, t);
        }
        if (row->A.data && (!A || A->rows != row->A.rows))
            return aa_fail(err, AA_EFORMAT, "'%s' has a term of rank %zu on '%s', this run %s",
                           a->path, row->A.rows, row->name,
                           A ? "one of another rank" : "none");
        if (row->A.data && (magnitude != NULL) != (row->magnitude.data != NULL))
            return aa_fail(err, AA_EFORMAT, "'%s' has %s magnitudes (DoRA) on '%s', which this "
                           "run %s", a->path, magnitude ? "no" : "the", row->name,
                           magnitude ? "needs" : "has not");
        if (row->A.data) {
            read_values(A, &row->A);
            read_values(B, &row->B);
            if (magnitude) read_values(magnitude, &row->magnitude);
        } else if (whole && whole->data) read_values(whole, &row->whole);
    }
    return AA_OK;
}
