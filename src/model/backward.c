/* model/backward: the transformer, backward.
 *
 * Each function is the reverse of the one of the same name in forward.c. dx is the gradient of the
 * residual stream: a branch adds to it what flows back through its norm. Weight gradients
 * accumulate, token after token in ascending order, so that a batch cut into micro-batches leaves
 * the same bits; gradient_scale enters once, at the loss.
 */
#include "model/activations.h"
#include "model/lora.h"

/* What an adapter adds, backward, from dy' = s dy: with p = x A^T, which is made again, and the
 * parts side by side in p and dy,
 *     dB_i += s_i dy'_i^T p_i     dp_i = s_i dy'_i B_i     dA += dp^T x
 * and dx += dp A is left to the caller. With dropout x is what A sees. */
static void delta_backward(aa_backend *be, const aa_activations *a, const aa_real *dy,
                           const aa_real *x, aa_linear *lin, aa_real s) {
    const aa_linear_delta *d = lin->delta;
    const size_t R = d->a.n_out, n_out = lin->n_out, N = a->N;
    size_t column = 0, rank = 0;
    aa_cpu *cpu = be->cpu;

    /* [N,R]       */ aa__delta_input(be, a, x, lin);
    if (a->dropout.p > 0) x = a->dropped;
    for (int i = 0; i < lin->n_parts; column += lin->weight[i].rows, rank += d->b[i].n_in, i++) {
        const aa_linear *B = &d->b[i];
        const aa_real scale = s * d->scale[i];

        if (!B->n_in) continue;
        /* [n_i,R_i] */ aa_linear_dw(cpu, B, dy + column, n_out, a->p + rank, R, N, scale);
        /* [N,R_i]   */ aa_linear_dx(cpu, a->dp + rank, R, dy + column, n_out, N, B, scale, false,
                                     NULL);
    }
    if (d->a.weight->grad)
        /* [R,C]     */ aa_linear_dw(cpu, &d->a, a->dp, R, x, lin->n_in, N, 1);
}

/* Both gradients of y = x W^T + b from dy: dx = s dy W, dW += s dy^T x (and db), the latter where W
 * trains. Rows are dense. */
static aa_status linear_backward(aa_backend *be, const aa_activations *a, aa_real *dx,
                                 const aa_real *dy, const aa_real *x, aa_linear *lin, double s,
                                 aa_err *err) {
    const size_t n_in = lin->n_in, n_out = lin->n_out, N = a->N;
    const aa_real scale = (aa_real)s;
    const bool drop = lin->delta && a->dropout.p > 0;

    if (lin->delta) delta_backward(be, a, dy, x, lin, scale);
    AA_TRY(be->linear_dx_begin(be->self, dx, n_in, dy, n_out, N, lin, scale, false,
                               lin->delta && !drop ? a->dp : NULL, err));
    if (lin->weight->grad)
        AA_TRY(be->linear_dw_begin(be->self, lin, dy, n_out, x, n_in, N, scale, err));
    AA_TRY(be->wait(be->self, err));
    if (!drop) return AA_OK;
    const aa_dropout mask = aa__dropout_of(a, lin);
    const aa_linear *A = &lin->delta->a;
    /* [N,C] */ aa_linear_dx(be->cpu, a->dropped, n_in, a->dp, A->n_out, N, A, 1, false, NULL);
    /* [N,C] */ aa_dropout_apply(be->cpu, dx, a->dropped, N, n_in, true, &mask);
    return AA_OK;
}

/* Where lin has magnitudes: their gradients, from y = residual + s lin(x), and in du what the
 * gradient dy is to W x + s B A x. Returns what the rest of backward takes for dy. */
static const aa_real *magnitude_backward(aa_cpu *cpu, const aa_activations *a, aa_linear *lin,
                                         const aa_magnitude_grad *of) {
    if (!lin->delta || !lin->delta->magnitudes) return of->dy;
    aa_magnitude_grad g = *of;
    g.T = a->N;
    aa_magnitude_backward(cpu, lin, &g);
    return g.du;
}

/* loss, dn = d loss / d n_final, and the head's gradient, a chunk of tokens at a time */
static aa_status head_backward(aa_model *m, aa_backend *be, aa_activations *a,
                               const int32_t *targets, aa_real *loss, aa_real gradient_scale,
                               aa_err *err) {
    const size_t C = (size_t)m->config.dim, V = (size_t)m->config.vocab;
    aa_cpu *cpu = be->cpu;
    aa_real *dlogits = a->logits;

    for (size_t n = 0; n < a->N; n += a->head_rows) {
        const size_t rows = a->N - n < a->head_rows ? a->N - n : a->head_rows;
        aa_real *n_final = a->n_final + n * C, *dn = a->dn + n * C;

        /* [rows,V] */ AA_TRY(aa__head_forward(m, be, a, a->logits, n_final, rows, err));
        /* [rows,V] */ aa_cross_entropy(cpu, loss + n, dlogits, V, targets + n, rows, V,
                                        gradient_scale);
        /* [rows,C] */ AA_TRY(aa__head_backward(m, be, a, dn, dlogits, n_final, rows, err));
    }
    return AA_OK;
}

/* The output of a norm, which forward did not keep. */
static void norm_again(aa_cpu *cpu, const aa_model *m, aa_real *n, const aa_real *x,
                       const aa_tensor *norm, size_t N) {
    const size_t C = (size_t)m->config.dim;

    aa_rmsnorm_forward(cpu, n, C, NULL, x, norm->data, (aa_rows){N, 1, C, C},
                       (aa_real)m->config.norm_eps);
}

static aa_status ffn_half_backward(aa_model *m, aa_backend *be, aa_activations *a, int layer,
                                   aa_err *err) {
    const aa_config *c = &m->config;
    const size_t C = (size_t)c->dim, F = (size_t)c->ffn, N = a->N;
    const double s = c->residual_scale;
    aa_block *w = &m->blocks[layer];
    aa_block_activations *b = &a->blocks[layer];
    aa_real *dgu = a->dgu ? a->dgu : b->gu;
    const aa_real *dy;

    /* Made again, not kept: h and n. */
    /* [N,F]  */ aa_swiglu_forward(be->cpu, b->h, b->gu, N, F);
    /* [N,C]  */ norm_again(be->cpu, m, b->n_ffn, b->x_mid, w->norm_ffn, N);
    /* [N,C]  */ dy = magnitude_backward(be->cpu, a, &w->down, &(aa_magnitude_grad){
                     .y = aa_block_output(m, a, layer), .residual = b->x_mid, .dy = a->dx,
                     .x = b->h, .du = a->dn, .scale = (aa_real)s});
    /* [N,F]  */ AA_TRY(linear_backward(be, a, a->dh, dy, b->h, &w->down, s, err));
    /* [N,2F] */ aa_swiglu_backward(be->cpu, dgu, a->dh, b->gu, N, F);
    /* [N,2F] */ dy = magnitude_backward(be->cpu, a, &w->gate_up, &(aa_magnitude_grad){
                     .y = b->gu, .dy = dgu, .x = b->n_ffn, .du = dgu, .scale = 1});
    /* [N,C]  */ AA_TRY(linear_backward(be, a, a->dn, dy, b->n_ffn, &w->gate_up, 1, err));
    /* [N,C]  */ aa_rmsnorm_backward(be->cpu, a->dx, w->norm_ffn->grad, a->dn, C, b->x_mid,
                                     w->norm_ffn->data, b->rstd_ffn, (aa_rows){N, 1, C, C}, true);
    return AA_OK;
}

static aa_status attention_half_backward(aa_model *m, aa_backend *be, aa_activations *a, int layer,
                                         aa_err *err) {
    const aa_config *c = &m->config;
    const size_t C = (size_t)c->dim, H = (size_t)c->heads, K = (size_t)c->kv_heads;
    const size_t D = (size_t)c->head_dim, N = a->N;
    const double s = c->residual_scale;
    const aa_attention at = {.B = a->B, .n_query = a->T, .n_key = a->T, .H = H, .K = K, .D = D,
                             .ld_q = a->ld_qk, .ld_k = a->ld_qk, .ld_v = a->ld_qkv, .ld_o = H * D,
                             .start = a->start};
    aa_block *w = &m->blocks[layer];
    aa_block_activations *b = &a->blocks[layer];
    const aa_real *q = b->qk, *k = b->qk + H * D, *v = b->qkv + (H + K) * D;
    aa_real *dq = a->dqk, *dk = a->dqk + H * D, *dv = a->dqkv + (H + K) * D;
    const aa_real *dy;
    aa_cpu *cpu = be->cpu;

    /* [N,C]       */ dy = magnitude_backward(cpu, a, &w->out, &(aa_magnitude_grad){
                          .y = b->x_mid, .residual = b->x, .dy = a->dx, .x = b->o, .du = a->dn,
                          .scale = (aa_real)s});
    /* [N,HD]      */ AA_TRY(linear_backward(be, a, a->d_o, dy, b->o, &w->out, s, err));
    /* [N,H+2K,D]  */ aa_attention_backward(cpu, dq, dk, dv, a->d_o, q, k, v, b->o, b->lse,
                                            a->delta, &at);
    /* [N,H+K,D]   */ aa_rope(cpu, dq, a->ld_qk, N, H + K, D, m->rope_table, a->pos, true);

    if (c->qk_norm) {
        /* [N,H,D] */ aa_rmsnorm_backward(cpu, a->dqkv, w->q_norm->grad, dq, a->ld_qk, b->qkv,
                                          w->q_norm->data, b->rstd_q, (aa_rows){N, H, D, a->ld_qkv},
                                          false);
        /* [N,K,D] */ aa_rmsnorm_backward(cpu, a->dqkv + H * D, w->k_norm->grad, dk, a->ld_qk,
                                          b->qkv + H * D, w->k_norm->data, b->rstd_k,
                                          (aa_rows){N, K, D, a->ld_qkv}, false);
    }
    /* [N,C]       */ norm_again(cpu, m, b->n_attn, b->x, w->norm_attn, N);
    /* Magnitudes want q and k as they were before they were turned; nobody else does any more. */
    if (!c->qk_norm && w->qkv.delta && w->qkv.delta->magnitudes)
        /* [N,H+K,D] */ aa_rope(cpu, b->qk, a->ld_qk, N, H + K, D, m->rope_table, a->pos, true);
    /* [N,H+2K,D]  */ dy = magnitude_backward(cpu, a, &w->qkv, &(aa_magnitude_grad){
                          .y = b->qkv, .dy = a->dqkv, .x = b->n_attn, .du = a->dqkv, .scale = 1});
    /* [N,C]       */ AA_TRY(linear_backward(be, a, a->dn, dy, b->n_attn, &w->qkv, 1, err));
    /* [N,C]       */ aa_rmsnorm_backward(cpu, a->dx, w->norm_attn->grad, a->dn, C, b->x,
                                          w->norm_attn->data, b->rstd_attn, (aa_rows){N, 1, C, C},
                                          true);
    return AA_OK;
}

aa_status aa_model_loss_and_grad(aa_model *m, aa_backend *be, aa_activations *a,
                                 const aa_batch *batch, aa_real *loss, aa_real gradient_scale,
                                 aa_err *err) {
    const size_t C = (size_t)m->config.dim;

    aa_assert(a->pass != AA_PASS_EVAL && m->grads && batch->T <= m->n_pos);
    AA_TRY(aa__check_ids(m, batch->ids, batch->targets, aa__batch_rows(batch), err));
    aa__activations_begin(a, batch, 0, NULL);
    if (m->lora)
        a->dropout = (aa_dropout){m->lora->dropout, m->lora->seed,
                                  batch->update * 4 * (uint64_t)m->config.layers, batch->first};
    AA_TRY(aa__model_forward(m, be, a, batch->ids, err));
    /* [N,C] */ AA_TRY(head_backward(m, be, a, batch->targets, loss, gradient_scale, err));
    /* [N,C] */ aa_rmsnorm_backward(be->cpu, a->dx, m->norm_final->grad, a->dn, C, a->x_final,
                                    m->norm_final->data, a->rstd_final, (aa_rows){a->N, 1, C, C},
                                    false);
    for (int layer = (int)m->config.layers - 1; layer >= m->first_trained; layer--) {
        if (a->pass == AA_PASS_CHECKPOINT && layer + 1 < (int)m->config.layers)
            AA_TRY(aa__block_again(m, be, a, layer, err));
        AA_TRY(ffn_half_backward(m, be, a, layer, err));
        AA_TRY(attention_half_backward(m, be, a, layer, err));
    }
    /* [V,C] */ return aa__lookup_backward(m, be->cpu, a, batch->ids, err);
}
