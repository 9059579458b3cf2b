/* model/activations: laying out the buffers of a pass.
 *
 * Per token and block a training pass keeps 2C + (H+2K)D + HD + 2F reals (and (H+K)D more with q/k
 * norm) and a few statistics. What is cheap to make again from these, the outputs of norms and of
 * SwiGLU, backward computes a second time: half a percent of a step for a fifth of the memory.
 * These and the backward buffers exist once. The head works on chunks of head_rows tokens, so that
 * the whole matrix of logits never exists.
 */
#include "model/activations.h"
#include "model/lora.h"

/* Logits of one chunk should stay near the caches; a chunk must be long enough that reading the
 * head and its gradient from memory is a small part of multiplying with it. */
enum { HEAD_CHUNK_BYTES = 16 << 20, HEAD_CHUNK_LEAST = 128 };

static size_t choose_head_rows(size_t wanted, size_t rows, size_t V) {
    size_t fits = HEAD_CHUNK_BYTES / (V * sizeof(aa_real));

    if (!wanted) wanted = fits > HEAD_CHUNK_LEAST ? fits / 16 * 16 : HEAD_CHUNK_LEAST;
    return wanted < rows ? wanted : rows;
}

/* Widths of one model's rows of activations. */
typedef struct widths { size_t C, Q, QK, QKV, H, K, F; bool qk_norm; } widths;

static widths widths_of(const aa_config *c) {
    const size_t H = (size_t)c->heads, K = (size_t)c->kv_heads, D = (size_t)c->head_dim;

    return (widths){.C = (size_t)c->dim,
                    .Q = H * D,
                    .QK = (H + K) * D,
                    .QKV = (H + 2 * K) * D,
                    .H = H,
                    .K = K,
                    .F = (size_t)c->ffn,
                    .qk_norm = c->qk_norm};
}

static aa_real *reals(aa_arena *arena, size_t rows, size_t cols) {
    return aa_arena_new(arena, aa_real, rows * cols);
}

static void layout_train_block(aa_block_activations *b, widths w, size_t N, aa_arena *arena) {
    b->rstd_attn = reals(arena, N, 1);
    b->qk = b->qkv = reals(arena, N, w.QKV);
    if (w.qk_norm) {
        b->qk = reals(arena, N, w.QK);
        b->rstd_q = reals(arena, N, w.H);
        b->rstd_k = reals(arena, N, w.K);
    }
    b->o = reals(arena, N, w.Q);
    b->lse = reals(arena, N, w.H);
    b->x_mid = reals(arena, N, w.C);
    b->rstd_ffn = reals(arena, N, 1);
    b->gu = reals(arena, N, 2 * w.F);
}

static void layout_eval_block(aa_block_activations *b, widths w, size_t N, aa_arena *arena) {
    b->x = b->x_mid = reals(arena, N, w.C);
    b->n_attn = b->n_ffn = reals(arena, N, w.C);
    b->qk = b->qkv = reals(arena, N, w.QKV);
    b->o = reals(arena, N, w.Q);
    b->gu = reals(arena, N, 2 * w.F);
    b->h = reals(arena, N, w.F);
}

static void layout_backward(aa_activations *a, widths w, size_t N, aa_arena *arena) {
    a->x_final = reals(arena, N, w.C);
    a->rstd_final = reals(arena, N, 1);
    a->dx = reals(arena, N, w.C);
    a->dn = reals(arena, N, w.C);
    a->dqk = a->dqkv = reals(arena, N, w.QKV);
    if (w.qk_norm) a->dqk = reals(arena, N, w.QK);
    a->d_o = reals(arena, N, w.Q);
    a->delta = reals(arena, N, w.H);
    a->dh = reals(arena, N, w.F);
}

static void layout_adapter(aa_activations *a, const aa_model *m, widths w, bool train, size_t N,
                           aa_arena *arena) {
    const size_t R = m->lora ? aa_lora_widest(m->lora, &m->config) : 0;

    if (R) a->p = reals(arena, N, R);
    if (!R || !train) return;
    a->dp = reals(arena, N, R);
    if (m->lora->dora) a->dgu = reals(arena, N, 2 * w.F);
    if (m->lora->dropout > 0)
        a->dropped = reals(arena, N, w.C > w.F ? w.C > w.Q ? w.C : w.Q : w.F > w.Q ? w.F : w.Q);
}

aa_status aa_activations_new(aa_activations **out, const aa_model *m, aa_pass pass, size_t max_B,
                             size_t T, size_t head_rows, aa_arena *arena, aa_err *err) {
    const widths w = widths_of(&m->config);
    const size_t N = max_B * T, L = (size_t)m->config.layers, V = (size_t)m->config.vocab;
    const size_t R = (size_t)m->config.head_rank;
    const bool train = pass != AA_PASS_EVAL;
    aa_activations *real = aa_arena_new(arena, aa_activations, 1);
    aa_block_activations *blocks = aa_arena_new(arena, aa_block_activations, L), b = {0};

    aa_assert(max_B >= 1 && T >= 1);
    aa_activations a = {
        .pass = pass, .max_rows = N, .head_rows = choose_head_rows(head_rows, N, V)};
    a.ld_qkv = w.QKV;
    a.ld_qk = train && w.qk_norm ? w.QK : w.QKV;
    a.pos = aa_arena_new(arena, int32_t, N);
    if (train) {
        b.n_attn = b.n_ffn = reals(arena, N, w.C);
        b.h = reals(arena, N, w.F);
    }
    for (size_t l = 0; l < L; l++) {
        if (train) b.x = reals(arena, N, w.C);
        if (train && (l == 0 || pass == AA_PASS_TRAIN)) layout_train_block(&b, w, N, arena);
        else if (l == 0) layout_eval_block(&b, w, N, arena);
        if (blocks) blocks[l] = b;
    }
    if (train) layout_backward(&a, w, N, arena);
    else a.x_final = b.x;
    a.blocks = blocks;
    a.n_final = train ? reals(arena, N, w.C) : b.n_attn;
    layout_adapter(&a, m, w, train, N, arena);
    a.logits = reals(arena, a.head_rows, V);
    if (R) a.z = reals(arena, a.head_rows, R);
    if (R && train) a.dz = reals(arena, a.head_rows, R);
    AA_TRY(aa_arena_status(arena, err));
    if (real) *real = a;
    *out = real;
    return AA_OK;
}

void aa__activations_begin(aa_activations *a, const aa_batch *b, size_t first, aa_kv *kv) {
    a->dropout.p = 0;
    a->B = b->B, a->T = b->T, a->N = aa__batch_rows(b), a->start = b->start, a->kv = kv;
    aa_assert(a->N <= a->max_rows);
    for (size_t s = 0, n = 0; s < b->B; s++) {
        size_t end = b->start ? (size_t)b->start[s + 1] : n + b->T;
        aa_assert(end >= n && end - n <= b->T);
        for (size_t at = first; n < end; n++, at++) a->pos[n] = (int32_t)at;
    }
}

aa_status aa__check_ids(const aa_model *m, const int32_t *ids, const int32_t *targets, size_t n,
                        aa_err *err) {
    for (size_t i = 0; i < n; i++) {
        int32_t id = ids[i] < 0 || ids[i] >= m->config.vocab ? ids[i] : targets ? targets[i] : 0;

        if (id < m->config.vocab && ids[i] >= 0) continue;
        return aa_fail(
            err, AA_EFORMAT,
            "token id %d at row %zu of the batch is outside the model's vocabulary of %lld: "
            "were the data made with another tokenizer?",
            id, i, (long long)m->config.vocab);
    }
    return AA_OK;
}
