/* model/rows: the parameter table, and the model's memory.
 *
 * The table says everything there is to know about a parameter: its Hugging Face name, kind and
 * shape. Its order is the order of memory. Each row starts on a 64-byte boundary, except rows
 * marked `joined`, which follow the row before without a gap: q|k|v and gate|up (and their biases)
 * are then one matrix to the GEMM while they stay separate rows to everyone else.
 *
 *     [embedding] ([norm q|k|v bq|bk|bv o bo nq nk norm gate|up bg|bu down bd]) x L [norm] [head]
 *
 * A low-rank head is three rows in the place of one (table.c): its rows of full width under the
 * usual name, then [code] and [basis].
 *
 * Nothing here reads the table back from memory: row i is computed from the config, so that the
 * same code lays out a measuring arena, which has no memory to read.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "model/model.h"

enum { ALIGN_ELEMENTS = AA_ALIGN / sizeof(aa_real), MAX_BLOCK_ROWS = 18 };

typedef struct shape { const char *name; aa_kind kind; int64_t rows, cols; bool joined; } shape;

/* The rows of one block, in order. */
static size_t block_shapes(const aa_config *c, shape out[MAX_BLOCK_ROWS]) {
    const int64_t C = c->dim, F = c->ffn, D = c->head_dim, Q = c->heads * D, KV = c->kv_heads * D;
    const struct { bool present; shape shape; } all[MAX_BLOCK_ROWS] = {
        {true, {"input_layernorm.weight", AA_KIND_NORM, 1, C, false}},
        {true, {"self_attn.q_proj.weight", AA_KIND_MATRIX, Q, C, false}},
        {true, {"self_attn.k_proj.weight", AA_KIND_MATRIX, KV, C, true}},
        {true, {"self_attn.v_proj.weight", AA_KIND_MATRIX, KV, C, true}},
        {c->qkv_bias, {"self_attn.q_proj.bias", AA_KIND_BIAS, 1, Q, false}},
        {c->qkv_bias, {"self_attn.k_proj.bias", AA_KIND_BIAS, 1, KV, true}},
        {c->qkv_bias, {"self_attn.v_proj.bias", AA_KIND_BIAS, 1, KV, true}},
        {true, {"self_attn.o_proj.weight", AA_KIND_MATRIX, C, Q, false}},
        {c->out_bias, {"self_attn.o_proj.bias", AA_KIND_BIAS, 1, C, false}},
        {c->qk_norm, {"self_attn.q_norm.weight", AA_KIND_NORM, 1, D, false}},
        {c->qk_norm, {"self_attn.k_norm.weight", AA_KIND_NORM, 1, D, false}},
        {true, {"post_attention_layernorm.weight", AA_KIND_NORM, 1, C, false}},
        {true, {"mlp.gate_proj.weight", AA_KIND_MATRIX, F, C, false}},
        {true, {"mlp.up_proj.weight", AA_KIND_MATRIX, F, C, true}},
        {c->mlp_bias, {"mlp.gate_proj.bias", AA_KIND_BIAS, 1, F, false}},
        {c->mlp_bias, {"mlp.up_proj.bias", AA_KIND_BIAS, 1, F, true}},
        {true, {"mlp.down_proj.weight", AA_KIND_MATRIX, C, F, false}},
        {c->mlp_bias, {"mlp.down_proj.bias", AA_KIND_BIAS, 1, C, false}},
    };
    size_t n = 0;

    for (size_t i = 0; i < MAX_BLOCK_ROWS; i++)
        if (all[i].present) out[n++] = all[i].shape;
    return n;
}

static void set_row(aa_tensor *out, const char *name, aa_kind kind, int layer, int64_t rows,
                    int64_t cols) {
    *out = (aa_tensor){.kind = kind, .layer = layer, .rows = (size_t)rows, .cols = (size_t)cols};
    if (layer < 0) snprintf(out->name, sizeof out->name, "%s", name);
    else snprintf(out->name, sizeof out->name, "model.layers.%d.%s", layer, name);
}

#define HEAD_NAME(c, part) ((c)->tied ? "model.embed_tokens" part : "lm_head" part)

/* Rows of full width in the head. */
static int64_t head_full(const aa_config *c) { return c->head_rank ? c->head_full : c->vocab; }

/* Calls visit for every row in table order; joined: follows the row before without a gap. */
typedef void visit_fn(void *ctx, size_t i, const aa_tensor *row, bool joined);

/* The token table that is the head: one row, or three where it is low-rank. */
static size_t visit_head(const aa_config *c, size_t n, visit_fn *visit, void *ctx) {
    const aa_kind kind = c->tied ? AA_KIND_EMBEDDING : AA_KIND_HEAD;
    const shape rows[] = {{HEAD_NAME(c, ".weight"), kind, head_full(c), c->dim, false},
                          {HEAD_NAME(c, ".code"), kind, c->vocab - c->head_full, c->head_rank,
                           false},
                          {HEAD_NAME(c, ".basis"), AA_KIND_MATRIX, c->head_rank, c->dim, false}};
    aa_tensor row;

    for (size_t i = 0; i < (c->head_rank ? 3 : 1); i++) {
        set_row(&row, rows[i].name, rows[i].kind, -1, rows[i].rows, rows[i].cols);
        visit(ctx, n++, &row, false);
    }
    return n;
}

static size_t for_each_row(const aa_config *c, visit_fn *visit, void *ctx) {
    shape block[MAX_BLOCK_ROWS];
    size_t n_block = block_shapes(c, block), n = 0;
    aa_tensor row;

    if (c->tied) n = visit_head(c, n, visit, ctx);
    else {
        set_row(&row, "model.embed_tokens.weight", AA_KIND_EMBEDDING, -1, c->vocab, c->dim);
        visit(ctx, n++, &row, false);
    }
    for (int layer = 0; layer < c->layers; layer++)
        for (size_t j = 0; j < n_block; j++) {
            set_row(&row, block[j].name, block[j].kind, layer, block[j].rows, block[j].cols);
            visit(ctx, n++, &row, block[j].joined);
        }
    set_row(&row, "model.norm.weight", AA_KIND_NORM, -1, 1, c->dim);
    visit(ctx, n++, &row, false);
    return c->tied ? n : visit_head(c, n, visit, ctx);
}

typedef struct table { aa_tensor *rows; size_t max; } table;

static void copy_row(void *ctx, size_t i, const aa_tensor *row, bool joined) {
    table *t = ctx;

    (void)joined;
    if (t->rows && i < t->max) t->rows[i] = *row;
}

size_t aa_model_rows(const aa_config *c, aa_tensor *rows, size_t max) {
    return for_each_row(c, copy_row, &(table){rows, max});
}

static void add_params(void *ctx, size_t i, const aa_tensor *row, bool joined) {
    uint64_t *n = ctx;

    (void)i, (void)joined;
    *n += aa_tensor_size(row);
}

uint64_t aa_config_params(const aa_config *c) {
    uint64_t n = 0;

    for_each_row(c, add_params, &n);
    return n;
}

/* ---- memory ---------------------------------------------------------------------------------- */

static void place_row(void *ctx, size_t i, const aa_tensor *row, bool joined) {
    aa_model *m = ctx;

    if (m->stored && !aa_tensor_is_vector(row)) {
        if (m->params) m->tensors[i].stored = &m->stored[i];
        return;
    }
    if (!joined) m->span = (m->span + ALIGN_ELEMENTS - 1) / ALIGN_ELEMENTS * ALIGN_ELEMENTS;
    if (m->params) m->tensors[i].data = m->params + m->span;
    if (m->grads) m->tensors[i].grad = m->grads + m->span;
    m->span += aa_tensor_size(row);
}

/* A linear map of a block, its weights attached when the table is there. */
static void make_linear(aa_linear *lin, const aa_model *m, int layer, const char *first,
                        int n_parts, int64_t n_out, int64_t n_in) {
    char name[72];

    *lin = (aa_linear){.n_parts = n_parts, .n_out = (size_t)n_out, .n_in = (size_t)n_in};
    if (!m->tensors) return;
    snprintf(name, sizeof name, "model.layers.%d.%s.weight", layer, first);
    lin->weight = aa_model_find(m, name);
    snprintf(name, sizeof name, "model.layers.%d.%s.bias", layer, first);
    lin->bias = aa_model_find(m, name);
}

static aa_linear head_linear(const aa_model *m, const char *name, int64_t n_out, int64_t n_in) {
    return (aa_linear){.weight = aa_model_find(m, name), .n_parts = 1, .n_out = (size_t)n_out,
                       .n_in = (size_t)n_in};
}

static aa_tensor *block_row(const aa_model *m, int layer, const char *suffix) {
    char name[72];

    snprintf(name, sizeof name, "model.layers.%d.%s", layer, suffix);
    return aa_model_find(m, name);
}

static void make_block(aa_block *b, const aa_model *m, int layer) {
    const aa_config *c = &m->config;
    const int64_t C = c->dim, Q = c->heads * c->head_dim, KV = c->kv_heads * c->head_dim;

    *b = (aa_block){0};
    make_linear(&b->qkv, m, layer, "self_attn.q_proj", 3, Q + 2 * KV, C);
    make_linear(&b->out, m, layer, "self_attn.o_proj", 1, C, Q);
    make_linear(&b->gate_up, m, layer, "mlp.gate_proj", 2, 2 * c->ffn, C);
    make_linear(&b->down, m, layer, "mlp.down_proj", 1, C, c->ffn);
    if (!m->tensors) return;
    b->norm_attn = block_row(m, layer, "input_layernorm.weight");
    b->norm_ffn = block_row(m, layer, "post_attention_layernorm.weight");
    b->q_norm = block_row(m, layer, "self_attn.q_norm.weight");
    b->k_norm = block_row(m, layer, "self_attn.k_norm.weight");
}

static void place_packed(aa_linear *lin, aa_cpu *cpu, aa_arena *arena) {
    size_t size = aa_linear_packed_size(cpu, lin);

    if (size) lin->packed = aa_arena_new(arena, aa_real, size);
}

static void fill_rope_table(aa_model *m) {
    const size_t D = (size_t)m->config.head_dim;
    double frequency[512];                       /* head_dim <= 1024, by aa_config_resolve */

    aa_assert(D / 2 <= sizeof frequency / sizeof *frequency);
    aa_config_rope_frequencies(&m->config, frequency);
    for (size_t p = 0; p < m->n_pos; p++)
        for (size_t i = 0; i < D / 2; i++) {
            m->rope_table[p * D + i] = (aa_real)cos((double)p * frequency[i]);
            m->rope_table[p * D + D / 2 + i] = (aa_real)sin((double)p * frequency[i]);
        }
}

aa_status aa_model_init(aa_model *out, const aa_config *c, unsigned parts, size_t n_pos,
                        aa_cpu *cpu, aa_arena *arena, aa_err *err) {
    aa_model m = {.config = *c, .n_pos = n_pos};
    const size_t L = (size_t)c->layers;
    const bool real = !arena->measuring, stored = parts & AA_MODEL_STORED;
    aa_stored nowhere, *views = NULL;
    size_t span;

    aa_assert(n_pos >= 1 && !(stored && (parts != AA_MODEL_STORED || c->head_rank)));
    m.stored = stored ? &nowhere : NULL;         /* until there is memory: place_row must know */
    for_each_row(c, place_row, &m);              /* first time: only the size of the span */
    span = m.span, m.span = 0;
    m.n_tensors = aa_model_rows(c, NULL, 0);
    m.tensors = aa_arena_new(arena, aa_tensor, m.n_tensors);
    if (stored) views = aa_arena_new(arena, aa_stored, m.n_tensors);
    m.blocks = aa_arena_new(arena, aa_block, L);
    m.rope_table = aa_arena_new(arena, aa_real, n_pos * (size_t)c->head_dim);
    m.params = aa_arena_new(arena, aa_real, span);
    if (parts & AA_MODEL_GRADS) m.grads = aa_arena_new(arena, aa_real, span);
    AA_TRY(aa_arena_status(arena, err));

    if (real) {
        m.stored = views;
        aa_model_rows(c, m.tensors, m.n_tensors);
        m.embedding = &m.tensors[0];
        m.norm_final = aa_model_find(&m, "model.norm.weight");
        fill_rope_table(&m);
    }
    for_each_row(c, place_row, &m);
    m.head = head_linear(&m, HEAD_NAME(c, ".weight"), head_full(c), c->dim);
    if (c->head_rank) {
        m.basis = head_linear(&m, HEAD_NAME(c, ".basis"), c->head_rank, c->dim);
        m.code = head_linear(&m, HEAD_NAME(c, ".code"), c->vocab - c->head_full, c->head_rank);
    }
    for (size_t l = 0; l < L; l++) {
        aa_block measured, *b = real ? &m.blocks[l] : &measured;

        make_block(b, &m, (int)l);
        if (!(parts & AA_MODEL_PACKED)) continue;
        place_packed(&b->qkv, cpu, arena);
        place_packed(&b->out, cpu, arena);
        place_packed(&b->gate_up, cpu, arena);
        place_packed(&b->down, cpu, arena);
    }
    if (parts & AA_MODEL_PACKED) {
        place_packed(&m.head, cpu, arena);
        place_packed(&m.basis, cpu, arena);
        place_packed(&m.code, cpu, arena);
    }
    AA_TRY(aa_arena_status(arena, err));
    m.stored = views;
    if (real) aa_model_changed(&m); /* versions start at 1: a packed copy of 0 is stale */
    *out = m;
    return AA_OK;
}

void aa_model_changed(aa_model *m) {
    for (size_t i = 0; i < m->n_tensors; i++) m->tensors[i].version++;
}

aa_tensor *aa_model_find(const aa_model *m, const char *name) {
    for (size_t i = 0; m->tensors && i < m->n_tensors; i++)
        if (strcmp(m->tensors[i].name, name) == 0) return &m->tensors[i];
    return NULL;
}
