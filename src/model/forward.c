/* model/forward: the transformer, forward.
 *
 * One pass for training, evaluation, prefill and decoding: the only differences are which buffers
 * exist (activations.c) and where keys and values live (a->kv). Shapes at the left; N rows, C
 * model width, H heads, K kv heads, D head width, F feed-forward width, V vocabulary. backward.c
 * has the same steps in reverse, with d before the names.
 */
#include "model/activations.h"

const aa_real *aa__delta_input(aa_backend *be, const aa_activations *a, const aa_real *x,
                               aa_linear *lin) {
    const aa_epilogue plain = {.scale = 1};

    if (!lin->delta) return NULL;
    aa_linear *A = &lin->delta->a;
    aa_magnitude_refresh(be->cpu, lin);
    if (a->dropout.p > 0) {
        const aa_dropout mask = aa__dropout_of(a, lin);
        /* [N,C] */ aa_dropout_apply(be->cpu, a->dropped, x, a->N, A->n_in, false, &mask);
        x = a->dropped;
    }
    if (be->delta_input) be->delta_input(be->self, a->p, x, a->N, lin);
    else
        /* [N,R] */ aa_linear_forward(be->cpu, a->p, A->n_out, x, A->n_in, a->N, A, &plain);
    return a->p;
}

static void norm(aa_backend *be, aa_real *y, size_t ldy, aa_real *rstd, const aa_real *x,
                 const aa_tensor *w, aa_rows rows, double eps) {
    if (be->norm) be->norm(be->self, y, ldy, rstd, x, w, rows, (aa_real)eps);
    else aa_rmsnorm_forward(be->cpu, y, ldy, rstd, x, w->data, rows, (aa_real)eps);
}

/* y = x W^T + b, for all rows of the pass, which are dense */
static aa_status linear(aa_backend *be, const aa_activations *a, aa_real *y, const aa_real *x,
                        aa_linear *lin, aa_err *err) {
    const aa_epilogue e = {.scale = 1, .p = aa__delta_input(be, a, x, lin)};

    AA_TRY(be->linear_forward_begin(be->self, y, lin->n_out, x, lin->n_in, a->N, lin, &e, err));
    return be->wait(be->self, err);
}

/* y = residual + s (x W^T + b): the end of a branch. */
static aa_status linear_onto(aa_backend *be, const aa_activations *a, aa_real *y,
                             const aa_real *residual, double s, const aa_real *x, aa_linear *lin,
                             aa_err *err) {
    const aa_epilogue onto = {.scale = (aa_real)s, .residual = residual, .ld_residual = lin->n_out,
                              .p = aa__delta_input(be, a, x, lin)};

    AA_TRY(be->linear_forward_begin(be->self, y, lin->n_out, x, lin->n_in, a->N, lin, &onto, err));
    return be->wait(be->self, err);
}

/* x_mid = x + s (Wo attention(q, k, v) + bo) */
static aa_status attention_half(aa_model *m, aa_backend *be, aa_activations *a, int layer,
                                aa_err *err) {
    if (be->attention_half) return be->attention_half(be->self, m, a, layer, err);

    const aa_config *c = &m->config;
    const size_t C = (size_t)c->dim, H = (size_t)c->heads, K = (size_t)c->kv_heads;
    const size_t D = (size_t)c->head_dim, N = a->N;
    const double s = c->residual_scale, eps = c->norm_eps;
    aa_block *w = &m->blocks[layer];
    aa_block_activations *b = &a->blocks[layer];
    aa_cpu *cpu = be->cpu;

    /* [N,C]       */ norm(be, b->n_attn, C, b->rstd_attn, b->x, w->norm_attn,
                           (aa_rows){N, 1, C, C}, eps);
    /* [N,(H+2K)D] */ AA_TRY(linear(be, a, b->qkv, b->n_attn, &w->qkv, err));
    aa_real *q = b->qk, *k = b->qk + H * D, *v = b->qkv + (H + K) * D;

    if (c->qk_norm) {
        /* [N,H,D] */ norm(be, q, a->ld_qk, b->rstd_q, b->qkv, w->q_norm,
                           (aa_rows){N, H, D, a->ld_qkv}, eps);
        /* [N,K,D] */ norm(be, k, a->ld_qk, b->rstd_k, b->qkv + H * D, w->k_norm,
                           (aa_rows){N, K, D, a->ld_qkv}, eps);
    }
    /* [N,H+K,D]   */ aa_rope(cpu, q, a->ld_qk, N, H + K, D, m->rope_table, a->pos, false);

    aa_attention at = {.B = a->B, .n_query = a->T, .n_key = a->T, .H = H, .K = K, .D = D,
                       .ld_q = a->ld_qk, .ld_k = a->ld_qk, .ld_v = a->ld_qkv, .ld_o = H * D,
                       .start = a->start};
    const aa_real *keys = k, *values = v;
    if (a->kv) aa__kv_append(a->kv, cpu, layer, &at, &keys, &values);
    /* [N,HD]      */ aa_attention_forward(cpu, b->o, b->lse, q, keys, values, &at);
    /* [N,C]       */ AA_TRY(linear_onto(be, a, b->x_mid, b->x, s, b->o, &w->out, err));
    return AA_OK;
}

/* gate and up */
static aa_status gate_up(aa_model *m, aa_backend *be, aa_activations *a, int layer, aa_err *err) {
    const size_t C = (size_t)m->config.dim;
    aa_block *w = &m->blocks[layer];
    aa_block_activations *b = &a->blocks[layer];

    /* [N,C]  */ norm(be, b->n_ffn, C, b->rstd_ffn, b->x_mid, w->norm_ffn,
                      (aa_rows){a->N, 1, C, C}, m->config.norm_eps);
    /* [N,2F] */ return linear(be, a, b->gu, b->n_ffn, &w->gate_up, err);
}

/* x_out = x_mid + s (Wdown (silu(gate) * up) + b) */
static aa_status ffn_half(aa_model *m, aa_backend *be, aa_activations *a, int layer, aa_err *err) {
    if (be->ffn_half) return be->ffn_half(be->self, m, a, layer, err);

    const aa_config *c = &m->config;
    aa_block *w = &m->blocks[layer];
    aa_block_activations *b = &a->blocks[layer];
    aa_real *x_out = aa_block_output(m, a, layer);

    /* [N,2F] */ AA_TRY(gate_up(m, be, a, layer, err));
    /* [N,F]  */ aa_swiglu_forward(be->cpu, b->h, b->gu, a->N, (size_t)c->ffn);
    /* [N,C]  */ return linear_onto(be, a, x_out, b->x_mid, c->residual_scale, b->h, &w->down, err);
}

aa_status aa__block_again(aa_model *m, aa_backend *be, aa_activations *a, int layer, aa_err *err) {
    AA_TRY(attention_half(m, be, a, layer, err));
    return gate_up(m, be, a, layer, err);
}

static aa_status blocks_forward(aa_model *m, aa_backend *be, aa_activations *a, int first, int end,
                                aa_err *err) {
    if (be->blocks_forward) return be->blocks_forward(be->self, m, a, first, end, err);
    for (int layer = first; layer < end; layer++) {
        AA_TRY(attention_half(m, be, a, layer, err));
        AA_TRY(ffn_half(m, be, a, layer, err));
    }
    return AA_OK;
}

aa_status aa__model_forward(aa_model *m, aa_backend *be, aa_activations *a, const int32_t *ids,
                            aa_err *err) {
    const size_t C = (size_t)m->config.dim;
    const int L = (int)m->config.layers;

    if (be->lookup) be->lookup(be->self, m, a, ids);
    else
        /* [N,C] */ aa__lookup_forward(m, be->cpu, a, ids);
    /* [N,C] */ AA_TRY(blocks_forward(m, be, a, 0, L, err));
    /* [N,C] */ norm(be, a->n_final, C, a->rstd_final, a->x_final, m->norm_final,
                     (aa_rows){a->N, 1, C, C}, m->config.norm_eps);
    return AA_OK;
}

aa_status aa__head_loss(aa_model *m, aa_backend *be, aa_activations *a, const int32_t *targets,
                        aa_real *loss, aa_err *err) {
    const size_t C = (size_t)m->config.dim, V = (size_t)m->config.vocab;

    for (size_t n = 0; n < a->N; n += a->head_rows) {
        const size_t rows = a->N - n < a->head_rows ? a->N - n : a->head_rows;

        /* [rows,V] */ AA_TRY(
            aa__head_forward(m, be, a, a->logits, a->n_final + n * C, rows, err));
        /* [rows]   */ aa_cross_entropy(be->cpu, loss + n, a->logits, V, targets + n, rows, V, 0);
        if (a->hits)
            /* [rows] */ aa_greedy_hits(be->cpu, a->hits + n, a->logits, V, targets + n, rows, V);
    }
    return AA_OK;
}

aa_status aa_model_loss(aa_model *m, aa_backend *be, aa_activations *a, const aa_batch *batch,
                        aa_real *loss, aa_err *err) {
    AA_TRY(aa__check_ids(m, batch->ids, batch->targets, aa__batch_rows(batch), err));
    aa_assert(batch->T <= m->n_pos);
    aa__activations_begin(a, batch, 0, NULL);
    AA_TRY(aa__model_forward(m, be, a, batch->ids, err));
    if (!loss) return AA_OK;
    return aa__head_loss(m, be, a, batch->targets, loss, err);
}
