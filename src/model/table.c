/* model/table: from ids to vectors, and from vectors to logits.
 *
 * The table of the head, [V,C], is most of a small model's work. It may be low-rank by frequency:
 * ids are ordered by falling frequency, the first N (head_full) have a row E[id] of full width, and
 * each of the rest has R (head_rank) numbers in a basis that all of them share:
 *
 *     row(id) = E[id]                  id <  N        E     [N,C]
 *             = code[id-N] basis       id >= N        code  [V-N,R], basis [R,C]
 *
 *     logits[:N] = E h,   z = basis h,   logits[N:] = code z
 *
 * under one softmax, so that the likelihood is exact. A token costs NC + RC + (V-N)R multiply-adds
 * instead of VC, and the frequent ids, which are most of a text, keep all of their freedom. A tied
 * table serves the lookup with the same rows; untied, the lookup (which multiplies nothing) has a
 * whole table of its own. Compare adaptive input and softmax: Grave et al. 2017, arXiv:1609.04309;
 * Baevski & Auli 2019, arXiv:1809.10853; these split the softmax in two or project every id.
 *
 * Gradients of a tied table's lookups are kept apart, by id, until the update is complete
 * (aa_lookup). Only then do those of rare ids go through the basis, once for each id that occurred:
 * less work, and the same bits for any split into micro-batches.
 */
#include <string.h>
#include "model/activations.h"
#include "model/lora.h"

static const aa_epilogue plain = {.scale = 1};

/* ---- rows ------------------------------------------------------------------------------------ */

/* rows[n,C] of the ids, from memory or from a file */
static void read_rows(aa_cpu *cpu, aa_real *rows, const aa_tensor *table, const int32_t *ids,
                      size_t n) {
    if (table->stored) aa_embedding_stored(cpu, rows, table->stored, ids, n);
    else aa_embedding_forward(cpu, rows, table->data, ids, n, table->cols);
}

void aa_model_head_rows(const aa_model *m, aa_cpu *cpu, const int32_t *ids, size_t n,
                        aa_real *codes, aa_real *rows) {
    const size_t C = m->head.n_in, R = m->basis.n_out, full = m->head.n_out;

    if (!R) {
        read_rows(cpu, rows, m->head.weight, ids, n);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        size_t id = (size_t)ids[i];
        aa_real *row = rows + i * C, *code = codes + i * R;

        if (id < full) {
            memcpy(row, m->head.weight->data + id * C, C * sizeof *row);
            memset(code, 0, R * sizeof *code);
        } else {
            memset(row, 0, C * sizeof *row);
            memcpy(code, m->code.weight->data + (id - full) * R, R * sizeof *code);
        }
    }
    aa_linear_dx(cpu, rows, C, codes, R, n, &m->basis, 1, true, NULL);
}

/* ---- lookup ---------------------------------------------------------------------------------- */

void aa__lookup_forward(const aa_model *m, aa_cpu *cpu, const aa_activations *a,
                        const int32_t *ids) {
    aa_block_activations *b = &a->blocks[0];

    /* The first norm's output is not yet in use, and wider than a code. */
    if (m->config.tied) aa_model_head_rows(m, cpu, ids, a->N, b->n_attn, b->x);
    else read_rows(cpu, b->x, m->embedding, ids, a->N);
}

aa_status aa_model_lookup_init(aa_model *m, size_t update_tokens, aa_arena *arena, aa_err *err) {
    const size_t V = (size_t)m->config.vocab, C = (size_t)m->config.dim;
    aa_lookup k = {.max_tokens = update_tokens, .max_rows = update_tokens < V ? update_tokens : V};

    if (!m->config.tied || (m->lora && !m->lora->embedding)) return AA_OK;
    k.slot = aa_arena_new(arena, int32_t, V);
    k.ids = aa_arena_new(arena, int32_t, k.max_rows);
    k.token_slot = aa_arena_new(arena, int32_t, update_tokens);
    k.grads = aa_arena_new(arena, aa_real, k.max_rows * C);
    if (m->basis.n_out) k.codes = aa_arena_new(arena, aa_real, k.max_rows * m->basis.n_out);
    AA_TRY(aa_arena_status(arena, err));
    m->lookup = k;
    return AA_OK;
}

/* The rows of the lookup buffer for this call's tokens, new ids getting the next free row: from the
 * front if they have a row of their own in the table, from the back if they have a code. */
static aa_status lookup_rows(aa_lookup *k, size_t full, const int32_t *ids, size_t N, aa_err *err) {
    for (size_t n = 0; n < N; n++) {
        int32_t *slot = &k->slot[ids[n]];

        if (n == k->max_tokens || (!*slot && k->n_rows + k->n_coded == k->max_rows))
            return aa_fail(err, AA_EINTERNAL, "an update has more than the %zu tokens planned",
                           k->max_tokens);
        if (!*slot) {
            size_t row = (size_t)ids[n] < full ? k->n_rows++ : k->max_rows - ++k->n_coded;

            k->ids[row] = ids[n];
            *slot = (int32_t)row + 1;
        }
        k->token_slot[n] = *slot - 1;
    }
    return AA_OK;
}

aa_status aa__lookup_backward(aa_model *m, aa_cpu *cpu, const aa_activations *a, const int32_t *ids,
                              aa_err *err) {
    const size_t C = (size_t)m->config.dim;

    if (!m->embedding->grad) return AA_OK;
    if (!m->lookup.grads) {
        aa_assert(!m->config.tied || !m->basis.n_out);
        aa_embedding_backward(cpu, m->embedding->grad, a->dx, ids, a->N, C);
        return AA_OK;
    }
    AA_TRY(lookup_rows(&m->lookup, m->head.n_out, ids, a->N, err));
    aa_embedding_backward(cpu, m->lookup.grads, a->dx, m->lookup.token_slot, a->N, C);
    return AA_OK;
}

/* d row = G[i] for n rare ids: dbasis += code^T G, dcode += G basis^T */
static void coded_backward(aa_model *m, aa_cpu *cpu, const int32_t *ids, const aa_real *G,
                           size_t n) {
    const size_t C = m->basis.n_in, R = m->basis.n_out;
    aa_lookup *k = &m->lookup;
    int32_t *index = k->token_slot;              /* free between calls, and not shorter */

    for (size_t i = 0; i < n; i++) index[i] = ids[i] - (int32_t)m->head.n_out;
    /* [n,R] */ aa_embedding_forward(cpu, k->codes, m->code.weight->data, index, n, R);
    /* [R,C] */ aa_linear_dw(cpu, &m->basis, k->codes, R, G, C, n, 1);
    /* [n,R] */ aa_linear_forward(cpu, k->codes, R, G, C, n, &m->basis, &plain);
    /* [n,R] */ aa_embedding_backward(cpu, m->code.weight->grad, k->codes, index, n, R);
}

static void forget(aa_lookup *k, aa_cpu *cpu, size_t first, size_t n, size_t C) {
    if (n) aa_zero(cpu, k->grads + first * C, n * C);
    for (size_t r = first; r < first + n; r++) k->slot[k->ids[r]] = 0;
}

void aa_model_finish_grads(aa_model *m, aa_cpu *cpu) {
    aa_lookup *k = &m->lookup;
    const size_t C = (size_t)m->config.dim, coded = k->max_rows - k->n_coded;

    if (k->n_rows) aa_embedding_backward(cpu, m->embedding->grad, k->grads, k->ids, k->n_rows, C);
    if (k->n_coded) coded_backward(m, cpu, k->ids + coded, k->grads + coded * C, k->n_coded);
    forget(k, cpu, 0, k->n_rows, C);
    forget(k, cpu, coded, k->n_coded, C);
    k->n_rows = k->n_coded = 0;
}

/* ---- head ------------------------------------------------------------------------------------ */

/* y[N,n_out] = x[N,n_in] W^T, rows of y at a distance */
static aa_status map(aa_backend *be, aa_real *y, size_t ldy, const aa_real *x, size_t N,
                     aa_linear *lin, aa_err *err) {
    return be->linear_forward_begin(be->self, y, ldy, x, lin->n_in, N, lin, &plain, err);
}

aa_status aa__head_forward(aa_model *m, aa_backend *be, aa_activations *a, aa_real *logits,
                           const aa_real *h, size_t N, aa_err *err) {
    const size_t V = (size_t)m->config.vocab, full = m->head.n_out;

    /* [N,full] */ AA_TRY(map(be, logits, V, h, N, &m->head, err));
    if (!m->basis.n_out) return be->wait(be->self, err);
    /* [N,R]    */ AA_TRY(map(be, a->z, m->basis.n_out, h, N, &m->basis, err));
    AA_TRY(be->wait(be->self, err));
    /* [N,rest] */ AA_TRY(map(be, logits + full, V, a->z, N, &m->code, err));
    return be->wait(be->self, err);
}

/* dx = (accumulate ? dx : 0) + dy W, dW += dy^T x, rows of dy at a distance */
static aa_status map_backward(aa_backend *be, aa_real *dx, const aa_real *dy, size_t lddy,
                              const aa_real *x, size_t N, aa_linear *lin, bool accumulate,
                              aa_err *err) {
    const size_t n_in = lin->n_in;

    AA_TRY(be->linear_dx_begin(be->self, dx, n_in, dy, lddy, N, lin, 1, accumulate, NULL, err));
    if (lin->weight->grad)
        AA_TRY(be->linear_dw_begin(be->self, lin, dy, lddy, x, n_in, N, 1, err));
    return be->wait(be->self, err);
}

aa_status aa__head_backward(aa_model *m, aa_backend *be, aa_activations *a, aa_real *dh,
                            const aa_real *dlogits, const aa_real *h, size_t N, aa_err *err) {
    const size_t V = (size_t)m->config.vocab, full = m->head.n_out, R = m->basis.n_out;

    /* [N,C] */ AA_TRY(map_backward(be, dh, dlogits, V, h, N, &m->head, false, err));
    if (!R) return AA_OK;
    /* [N,R] */ AA_TRY(map_backward(be, a->dz, dlogits + full, V, a->z, N, &m->code, false, err));
    /* [N,C] */ return map_backward(be, dh, a->dz, R, h, N, &m->basis, true, err);
}
