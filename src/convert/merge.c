/* convert/merge: a source with adapters merged into it.
 *
 * The source stays what it is; its find is taken over. Of a matrix with a low-rank term it gives
 * the file's values with the term on top (num/stored.h), so that nothing is multiplied out before
 * somebody reads, a row at a time: a merged model takes no memory but that of A and B as floats.
 *
 * A tied model is one table for two uses. An adapter that changes one of them alone parts them, as
 * it does in PEFT: the merged model is untied, and both uses begin as the base's table.
 */
#include <string.h>
#include "base/memory.h"
#include "convert/adapter_int.h"

#define HEAD "lm_head.weight"
#define EMBEDDING "model.embed_tokens.weight"

struct aa__merge {
    aa_adapter *adapter;
    aa_arena arena;                      /* deltas and their floats */
    aa_stored_delta *deltas;             /* one per row of the adapter, filled when it is found */
    bool parted;                         /* the source is tied, the merged model is not */
    struct aa__merge *under;             /* what was there before */
    aa_status (*find)(aa_source *s, const aa_tensor *row, aa_stored *out, aa_err *err);
    aa_status (*check_all_read)(aa_source *s, aa_err *err);
    void (*close)(aa_source *s);
};

/* ---- one row --------------------------------------------------------------------------------- */

static aa_status floats_of(aa_arena *arena, const aa_stored *m, const float **out, aa_err *err) {
    float *values = aa_arena_new(arena, float, m->rows * m->cols);

    AA_TRY(aa_arena_status(arena, err));
    aa_stored_read(m, 0, m->rows, values);
    *out = values;
    return AA_OK;
}

static aa_status make_delta(struct aa__merge *m, const aa_adapter_row *row, aa_stored_delta *d,
                            aa_err *err) {
    aa_stored_delta made = {.rank = row->A.rows, .scale = aa_adapter_scale(m->adapter, row)};

    AA_TRY(floats_of(&m->arena, &row->A, &made.A, err));
    AA_TRY(floats_of(&m->arena, &row->B, &made.B, err));
    if (row->magnitude.data) AA_TRY(floats_of(&m->arena, &row->magnitude, &made.magnitude, err));
    *d = made;
    return AA_OK;
}

/* The row as it was before this merge: the table of a tied model under either name. */
static aa_status find_before(aa_source *s, struct aa__merge *m, const aa_tensor *row,
                             aa_stored *out, aa_err *err) {
    aa_tensor table = *row;

    if (m->parted && strcmp(row->name, HEAD) == 0) {
        memcpy(table.name, EMBEDDING, sizeof EMBEDDING);
        table.kind = AA_KIND_EMBEDDING;
    }
    s->merge = m->under;
    aa_status st = m->find(s, &table, out, err);
    s->merge = m;
    return st;
}

static aa_status merged_find(aa_source *s, const aa_tensor *row, aa_stored *out, aa_err *err) {
    struct aa__merge *m = s->merge;
    const aa_adapter_row *change = aa_adapter_find(m->adapter, row->name);

    AA_TRY(find_before(s, m, row, out, err));
    if (!change) return AA_OK;
    if (change->whole.data) *out = change->whole;
    if (!change->A.data) return AA_OK;
    aa_stored_delta *d = &m->deltas[change - m->adapter->rows];
    if (!d->rank) AA_TRY(make_delta(m, change, d, err));
    d->under = out->delta;
    out->delta = d;
    return AA_OK;
}

/* ---- the source ------------------------------------------------------------------------------ */

/* What the files hold is judged by what the files say. */
static aa_status merged_check(aa_source *s, aa_err *err) {
    struct aa__merge *m = s->merge;
    bool tied = s->config.tied;

    if (!m->check_all_read) return AA_OK;
    s->merge = m->under;
    s->config.tied |= m->parted;
    aa_status st = m->check_all_read(s, err);
    s->merge = m;
    s->config.tied = tied;
    return st;
}

static void release(struct aa__merge *m) {
    aa_adapter_close(m->adapter);
    aa_arena_release(&m->arena);
    aa_heap_free(m);
}

static void merged_close(aa_source *s) {
    struct aa__merge *m = s->merge;

    s->merge = m->under;
    s->close = m->close;
    release(m);
    s->close(s);
}

static bool same_values(const aa_stored *a, const aa_stored *b) {
    return a->data && b->data && a->type == b->type && a->rows == b->rows && a->cols == b->cols &&
           memcmp(a->data, b->data, a->rows * aa_type_bytes(a->type, a->cols)) == 0;
}

static bool parts(const aa_adapter *a) {
    const aa_adapter_row *head = aa_adapter_find(a, HEAD);
    const aa_adapter_row *embedding = aa_adapter_find(a, EMBEDDING);

    if (head) return head->A.data || !embedding || !same_values(&head->whole, &embedding->whole);
    return embedding && a->splits_table;
}

aa_status aa_source_merge(aa_source *s, aa_adapter *a, aa_err *err) {
    aa_config base = s->config;

    base.vocab = (int64_t)s->full_vocab;
    AA_TRY(aa_adapter_bind(a, &base, err));
    struct aa__merge *m = aa_heap_alloc(1, sizeof *m);
    if (!m) return aa_fail_memory(err, "a merge", sizeof *m);
    aa_arena_init(&m->arena, "merging an adapter");
    m->deltas = aa_arena_new(&m->arena, aa_stored_delta, a->n_rows + 1);
    aa_status st = aa_arena_status(&m->arena, err);
    if (st) {
        release(m);
        return st;
    }
    m->parted = s->config.tied && parts(a);
    m->adapter = a;
    m->under = s->merge, m->find = s->find, m->check_all_read = s->check_all_read;
    m->close = s->close;
    s->merge = m, s->find = merged_find, s->check_all_read = merged_check;
    s->close = merged_close;
    s->config.tied &= !m->parted;
    return AA_OK;
}
