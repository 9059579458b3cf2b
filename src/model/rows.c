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
 * usual name, then [code] and [basis]. An adapter's rows follow the whole model's: for each linear
 * map those of A, joined, then B, then magnitudes.
 *
 * Nothing here reads the table back from memory: row i is computed from the config, so that the
 * same code lays out a measuring arena, which has no memory to read.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "model/lora.h"

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

static size_t visit_base(const aa_config *c, visit_fn *visit, void *ctx) {
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

/* ---- adapters -------------------------------------------------------------------------------- */

enum { MAPS = 4 };                               /* linear maps of a block */

/* The parts of the four maps of a block, as targets first .. first + n - 1. */
static const struct { aa_target first; int n; } maps[MAPS] = {
    {AA_TARGET_Q, 3}, {AA_TARGET_O, 1}, {AA_TARGET_GATE, 2}, {AA_TARGET_DOWN, 1}};

static const struct { const char *name, *module; } targets[AA_TARGET_COUNT] = {
    {"q", "self_attn.q_proj"}, {"k", "self_attn.k_proj"}, {"v", "self_attn.v_proj"},
    {"o", "self_attn.o_proj"}, {"gate", "mlp.gate_proj"}, {"up", "mlp.up_proj"},
    {"down", "mlp.down_proj"}};

const char *aa_target_name(aa_target target) { return targets[target].name; }
const char *aa_target_module(aa_target target) { return targets[target].module; }

static int64_t target_in(const aa_config *c, aa_target t) {
    return t == AA_TARGET_DOWN ? c->ffn : t == AA_TARGET_O ? c->heads * c->head_dim : c->dim;
}

static int64_t target_out(const aa_config *c, aa_target t) {
    switch (t) {
    case AA_TARGET_Q: return c->heads * c->head_dim;
    case AA_TARGET_K:
    case AA_TARGET_V: return c->kv_heads * c->head_dim;
    case AA_TARGET_GATE:
    case AA_TARGET_UP: return c->ffn;
    default: return c->dim;
    }
}

const aa_lora_site *aa_lora_site_of(const aa_lora *lora, int layer, aa_target target) {
    return &lora->site[(size_t)layer * AA_TARGET_COUNT + (size_t)target];
}

double aa_lora_scale(const aa_lora *lora, const aa_lora_site *site) {
    double r = (double)site->rank;

    return site->alpha / (lora->rslora ? sqrt(r) : r);
}

static void adapter_row(aa_tensor *row, const aa_config *c, int layer, aa_target t, size_t rank,
                        aa_kind kind) {
    const int64_t in = target_in(c, t), out = target_out(c, t), r = (int64_t)rank;
    const char *end = kind == AA_KIND_LORA_A   ? "lora_A.weight"
                      : kind == AA_KIND_LORA_B ? "lora_B.weight"
                                               : "lora_magnitude_vector";
    char name[48];

    snprintf(name, sizeof name, "%s.%s", targets[t].module, end);
    set_row(row, name, kind, layer,
            kind == AA_KIND_LORA_A   ? r
            : kind == AA_KIND_LORA_B ? out
                                     : 1,
            kind == AA_KIND_LORA_A   ? in
            : kind == AA_KIND_LORA_B ? r
                                     : out);
}

static size_t visit_map(const aa_config *c, const aa_lora *lora, int layer, int map, size_t n,
                        visit_fn *visit, void *ctx) {
    const aa_kind last = lora->dora ? AA_KIND_MAGNITUDE : AA_KIND_LORA_B;
    aa_tensor row;

    for (aa_kind kind = AA_KIND_LORA_A; kind <= last; kind++)
        for (int i = 0, joined = 0; i < maps[map].n; i++) {
            const aa_target t = (aa_target)((int)maps[map].first + i);
            const size_t rank = aa_lora_site_of(lora, layer, t)->rank;

            if (!rank) continue;
            adapter_row(&row, c, layer, t, rank, kind);
            visit(ctx, n++, &row, joined);
            joined = kind == AA_KIND_LORA_A;
        }
    return n;
}

static size_t for_each_row(const aa_config *c, const aa_lora *lora, visit_fn *visit, void *ctx) {
    size_t n = visit_base(c, visit, ctx);

    for (int layer = 0; lora && layer < c->layers; layer++)
        for (int map = 0; map < MAPS; map++) n = visit_map(c, lora, layer, map, n, visit, ctx);
    return n;
}

size_t aa_lora_widest(const aa_lora *lora, const aa_config *c) {
    size_t widest = 0;

    for (int layer = 0; layer < c->layers; layer++)
        for (int map = 0; map < MAPS; map++) {
            size_t R = 0;

            for (int i = 0; i < maps[map].n; i++)
                R += aa_lora_site_of(lora, layer, (aa_target)((int)maps[map].first + i))->rank;
            if (R > widest) widest = R;
        }
    return widest;
}

static bool trains(const aa_lora *lora, const aa_tensor *row) {
    if (!lora) return true;
    switch (row->kind) {
    case AA_KIND_LORA_A: return !lora->freeze_a;
    case AA_KIND_LORA_B:
    case AA_KIND_MAGNITUDE: return true;
    case AA_KIND_NORM: return lora->norms;
    case AA_KIND_EMBEDDING: return lora->embedding;
    case AA_KIND_HEAD: return lora->head;
    default: return false;
    }
}

uint64_t aa_lora_params(const aa_lora *lora, const aa_config *c) {
    uint64_t n = 0;

    for (int layer = 0; layer < c->layers; layer++)
        for (aa_target t = 0; t < AA_TARGET_COUNT; t++)
            n += aa_lora_site_of(lora, layer, t)->rank *
                 (uint64_t)(target_in(c, t) + target_out(c, t));
    return n;
}

void aa_lora_find(const aa_model *m, int layer, aa_target target, aa_tensor **A, aa_tensor **B) {
    aa_tensor row;

    adapter_row(&row, &m->config, layer, target, 1, AA_KIND_LORA_A);
    *A = aa_model_find(m, row.name);
    adapter_row(&row, &m->config, layer, target, 1, AA_KIND_LORA_B);
    *B = aa_model_find(m, row.name);
}

aa_tensor *aa_lora_magnitude(const aa_model *m, int layer, aa_target target) {
    aa_tensor row;

    adapter_row(&row, &m->config, layer, target, 1, AA_KIND_MAGNITUDE);
    return aa_model_find(m, row.name);
}

typedef struct table { aa_tensor *rows; size_t max; const aa_lora *lora; } table;

static void copy_row(void *ctx, size_t i, const aa_tensor *row, bool joined) {
    table *t = ctx;

    (void)joined;
    if (!t->rows || i >= t->max) return;
    t->rows[i] = *row;
    t->rows[i].frozen = !trains(t->lora, row);
}

size_t aa_model_rows(const aa_config *c, aa_tensor *rows, size_t max) {
    return for_each_row(c, NULL, copy_row, &(table){rows, max, NULL});
}

size_t aa_model_lora_rows(const aa_config *c, const aa_lora *lora, aa_tensor *rows, size_t max) {
    return for_each_row(c, lora, copy_row, &(table){rows, max, lora});
}

static void add_params(void *ctx, size_t i, const aa_tensor *row, bool joined) {
    uint64_t *n = ctx;

    (void)i, (void)joined;
    *n += aa_tensor_size(row);
}

uint64_t aa_config_params(const aa_config *c) {
    uint64_t n = 0;

    for_each_row(c, NULL, add_params, &n);
    return n;
}

typedef struct trained { const aa_lora *lora; uint64_t n; } trained;

static void add_trained(void *ctx, size_t i, const aa_tensor *row, bool joined) {
    trained *t = ctx;

    (void)i, (void)joined;
    if (trains(t->lora, row)) t->n += aa_tensor_size(row);
}

uint64_t aa_model_trained(const aa_config *c, const aa_lora *lora) {
    trained t = {lora, 0};

    for_each_row(c, lora, add_trained, &t);
    return t.n;
}

/* ---- memory ---------------------------------------------------------------------------------- */

static bool has_memory(const aa_model *m, size_t i, const aa_tensor *row) {
    if (!m->stored || i >= m->n_base || aa_tensor_is_vector(row)) return true;
    return m->lora && trains(m->lora, row);
}

static void place_row(void *ctx, size_t i, const aa_tensor *row, bool joined) {
    aa_model *m = ctx;

    if (!has_memory(m, i, row)) {
        if (m->params) m->tensors[i].stored = &m->stored[i];
        return;
    }
    if (!joined) m->span = (m->span + ALIGN_ELEMENTS - 1) / ALIGN_ELEMENTS * ALIGN_ELEMENTS;
    if (m->params) m->tensors[i].data = m->params + m->span;
    if (m->grads && !m->grad_at && trains(m->lora, row)) m->tensors[i].grad = m->grads + m->span;
    m->span += aa_tensor_size(row);
}

typedef struct block_grads {
    size_t *at;                           /* NULL: only counted */
    size_t inside, outside, most;         /* places in the block at hand, and in that of no layer */
    int layer;
} block_grads;

static void place_grad(void *ctx, size_t i, const aa_tensor *row, bool joined) {
    block_grads *g = ctx;
    size_t *at = row->layer < 0 ? &g->outside : &g->inside;

    if (row->layer >= 0 && row->layer != g->layer) {
        g->inside = 0;
        g->layer = row->layer;
    }
    if (!joined) *at = (*at + ALIGN_ELEMENTS - 1) / ALIGN_ELEMENTS * ALIGN_ELEMENTS;
    if (g->at) g->at[i] = *at;
    *at += aa_tensor_size(row);
    if (*at > g->most) g->most = *at;
}

static void place_block_grads(aa_model *m, aa_arena *arena) {
    block_grads g = {.layer = -1};

    m->grad_at = aa_arena_new(arena, size_t, m->n_tensors);
    g.at = m->grad_at;
    for_each_row(&m->config, NULL, place_grad, &g);
    m->grads = aa_arena_new(arena, aa_real, g.most);
}

void aa_model_choose_block(aa_model *m, int block) {
    const int none = (int)m->config.layers;

    for (size_t i = 0; i < m->n_tensors; i++) {
        aa_tensor *row = &m->tensors[i];

        row->frozen = (row->layer < 0 ? none : row->layer) != block;
        row->grad = row->frozen ? NULL : m->grads + m->grad_at[i];
    }
    m->first_trained = block < none ? block : 0;
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

/* Memory of an adapter besides its rows. */
typedef struct adapter_memory {
    aa_linear_delta *deltas;              /* [layers][MAPS] */
    aa_magnitudes *magnitudes;            /* the same, of DoRA */
    aa_real *products, *gram;             /* aa_magnitudes' scratch */
} adapter_memory;

static adapter_memory place_adapter(const aa_model *m, aa_arena *arena) {
    const size_t n = (size_t)m->config.layers * MAPS;
    adapter_memory out = {.deltas = aa_arena_new(arena, aa_linear_delta, n)};
    size_t rank = 0, widest = 0;

    if (!m->lora->dora) return out;
    for (int layer = 0; layer < m->config.layers; layer++)
        for (aa_target t = 0; t < AA_TARGET_COUNT; t++) {
            const size_t R = aa_lora_site_of(m->lora, layer, t)->rank;
            if (R > rank) rank = R;
        }
    for (int map = 0; map < MAPS; map++) {
        size_t n_out = 0;
        for (int i = 0; i < maps[map].n; i++)
            n_out += (size_t)target_out(&m->config, (aa_target)((int)maps[map].first + i));
        if (n_out > widest) widest = n_out;
    }
    out.magnitudes = aa_arena_new(arena, aa_magnitudes, n);
    out.products = aa_arena_new(arena, aa_real, rank * widest);
    out.gram = aa_arena_new(arena, aa_real, rank * rank);
    return out;
}

static void attach_magnitudes(aa_linear *lin, aa_magnitudes *g, const aa_model *m, int layer,
                              int map, const adapter_memory *memory, aa_arena *arena) {
    aa_magnitudes made = {.gain = aa_arena_new(arena, aa_real, lin->n_out),
                          .length = aa_arena_new(arena, aa_real, lin->n_out),
                          .squares = aa_arena_new(arena, double, lin->n_out),
                          .products = memory->products, .gram = memory->gram};

    if (!g) return;
    for (int i = 0; i < maps[map].n; i++)
        made.m[i] = aa_lora_magnitude(m, layer, (aa_target)((int)maps[map].first + i));
    *g = made;
    lin->delta->magnitudes = g;
}

/* What the adapter adds to a map, if it adds anything. */
static void attach_delta(aa_linear *lin, const aa_model *m, int layer, int map,
                         const adapter_memory *memory, aa_arena *arena) {
    const size_t at = (size_t)layer * MAPS + (size_t)map;
    aa_linear_delta found = {.a = {.n_in = lin->n_in}, .id = (uint32_t)at};

    for (int i = 0; i < maps[map].n; i++) {
        const aa_target t = (aa_target)((int)maps[map].first + i);
        const aa_lora_site *site = aa_lora_site_of(m->lora, layer, t);
        aa_tensor row;

        if (!site->rank) continue;
        adapter_row(&row, &m->config, layer, t, site->rank, AA_KIND_LORA_A);
        if (!found.a.weight) found.a.weight = aa_model_find(m, row.name);
        found.a.n_parts++;
        found.a.n_out += site->rank;
        adapter_row(&row, &m->config, layer, t, site->rank, AA_KIND_LORA_B);
        found.b[i] = (aa_linear){.weight = aa_model_find(m, row.name), .n_parts = 1,
                                 .n_out = row.rows, .n_in = site->rank};
        found.scale[i] = (aa_real)aa_lora_scale(m->lora, site);
    }
    if (!found.a.n_parts) return;
    if (memory->deltas) {
        memory->deltas[at] = found;
        lin->delta = &memory->deltas[at];
    }
    if (m->lora->dora)
        attach_magnitudes(lin, memory->magnitudes ? &memory->magnitudes[at] : NULL, m, layer, map,
                          memory, arena);
}

static void attach_deltas(aa_block *b, const aa_model *m, int layer, const adapter_memory *memory,
                          aa_arena *arena) {
    aa_linear *const all[MAPS] = {&b->qkv, &b->out, &b->gate_up, &b->down};

    for (int map = 0; map < MAPS; map++) attach_delta(all[map], m, layer, map, memory, arena);
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
    return aa_model_init_lora(out, c, NULL, parts, n_pos, cpu, arena, err);
}

aa_status aa_model_init_lora(aa_model *out, const aa_config *c, const aa_lora *lora,
                             unsigned parts, size_t n_pos, aa_cpu *cpu, aa_arena *arena,
                             aa_err *err) {
    aa_model m = {.config = *c, .n_pos = n_pos, .lora = lora};
    const size_t L = (size_t)c->layers;
    const bool real = !arena->measuring, stored = parts & AA_MODEL_STORED;
    aa_stored nowhere, *views = NULL;
    adapter_memory adapter = {0};
    size_t span;

    aa_assert(n_pos >= 1 && !(stored && (parts & AA_MODEL_PACKED || c->head_rank)));
    aa_assert(lora ? !(parts & AA_MODEL_PACKED) : !(stored && parts & AA_MODEL_GRADS));
    m.stored = stored ? &nowhere : NULL;         /* until there is memory: place_row must know */
    m.n_base = aa_model_rows(c, NULL, 0);
    m.n_tensors = for_each_row(c, lora, place_row, &m); /* first time: only the size of the span */
    span = m.span, m.span = 0;
    m.tensors = aa_arena_new(arena, aa_tensor, m.n_tensors);
    if (stored) views = aa_arena_new(arena, aa_stored, m.n_tensors);
    m.blocks = aa_arena_new(arena, aa_block, L);
    if (lora) adapter = place_adapter(&m, arena);
    m.rope_table = aa_arena_new(arena, aa_real, n_pos * (size_t)c->head_dim);
    m.params = aa_arena_new(arena, aa_real, span);
    if (parts & AA_MODEL_BLOCK_GRADS) place_block_grads(&m, arena);
    else if (parts & AA_MODEL_GRADS) m.grads = aa_arena_new(arena, aa_real, span);
    AA_TRY(aa_arena_status(arena, err));

    if (real) {
        m.stored = views;
        aa_model_lora_rows(c, lora, m.tensors, m.n_tensors);
        m.embedding = &m.tensors[0];
        m.norm_final = aa_model_find(&m, "model.norm.weight");
        fill_rope_table(&m);
    }
    for_each_row(c, lora, place_row, &m);
    m.head = head_linear(&m, HEAD_NAME(c, ".weight"), head_full(c), c->dim);
    if (c->head_rank) {
        m.basis = head_linear(&m, HEAD_NAME(c, ".basis"), c->head_rank, c->dim);
        m.code = head_linear(&m, HEAD_NAME(c, ".code"), c->vocab - c->head_full, c->head_rank);
    }
    for (size_t l = 0; l < L; l++) {
        aa_block measured, *b = real ? &m.blocks[l] : &measured;

        make_block(b, &m, (int)l);
        if (lora) attach_deltas(b, &m, (int)l, &adapter, arena);
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
