/* convert/adapter_sidecar: the LoRA sidecar of the original AutoANE (CKPT_lora.bin).
 *
 *     i32 0x4C4F5241, i32 rank, i32 layers, i32 updates done
 *     per layer, in F32: Aq[r,C] Bq[Q,r]  Ak[r,C] Bk[KV,r]  Av[r,C] Bv[KV,r]  Ao[r,Q] Bo[C,r]
 *
 * Its sizes are the base's, so it has rows only when it is bound. The scale is 1; rows of Q and K
 * are in pairs, as in the checkpoint. That checkpoint contains the adapter already: the base is
 * what the run began from, to which it is to be added once.
 */
#include <stdio.h>
#include <string.h>
#include "base/file.h"
#include "base/memory.h"
#include "convert/adapter_int.h"

enum { HEADER_BYTES = 16, MOST_RANK = 4096, MOST_LAYERS = 4096, PARTS = 4 };

typedef struct sidecar { aa_sys_map map; int32_t rank, layers; } sidecar;

/* One matrix [rows, cols] of F32 at *at, which moves on. */
static aa_stored take(const unsigned char **at, size_t rows, size_t cols) {
    aa_stored m = {.type = AA_TYPE_F32, .rows = rows, .cols = cols, .data = *at};

    *at += 4 * rows * cols;
    return m;
}

static aa_status read_layer(aa_adapter *a, const aa_config *c, int layer, const unsigned char **at,
                            aa_err *err) {
    const sidecar *self = a->self;
    const size_t C = (size_t)c->dim, D = (size_t)c->head_dim, Q = (size_t)c->heads * D;
    const size_t KV = (size_t)c->kv_heads * D, r = (size_t)self->rank;
    const struct { const char *name; size_t out, in, paired; } parts[PARTS] = {
        {"q_proj", Q, C, D}, {"k_proj", KV, C, D}, {"v_proj", KV, C, 0}, {"o_proj", C, Q, 0}};

    for (int i = 0; i < PARTS; i++) {
        char name[72];
        aa_adapter_row *row;

        snprintf(name, sizeof name, "model.layers.%d.self_attn.%s.weight", layer, parts[i].name);
        AA_TRY(aa__adapter_add(a, name, strlen(name), "", &row, err));
        row->A = take(at, r, parts[i].in);
        row->B = take(at, parts[i].out, r);
        row->B.paired_head = parts[i].paired;
        row->alpha = (double)r;
    }
    return AA_OK;
}

static aa_status sidecar_bind(aa_adapter *a, const aa_config *c, aa_err *err) {
    const sidecar *self = a->self;
    const unsigned char *at = self->map.data + HEADER_BYTES;
    const uint64_t C = (uint64_t)c->dim, Q = (uint64_t)(c->heads * c->head_dim);
    const uint64_t KV = (uint64_t)(c->kv_heads * c->head_dim), row = 4 * (4 * C + 2 * Q + 2 * KV);
    const uint64_t wanted = HEADER_BYTES + row * (uint64_t)self->rank * (uint64_t)c->layers;

    if (self->layers != c->layers || self->map.size_bytes != wanted)
        return aa_fail(err, AA_EFORMAT, "'%s' has %d layers and %zu bytes; with rank %d for this "
                       "base of %lld layers it must have %llu: it was made for another model, or "
                       "is cut short", a->path, (int)self->layers, self->map.size_bytes,
                       (int)self->rank, (long long)c->layers, (unsigned long long)wanted);
    aa_heap_free(a->rows);
    a->n_rows = 0;
    a->rows = aa_heap_alloc((size_t)c->layers * PARTS, sizeof *a->rows);
    if (!a->rows) return aa_fail_memory(err, "rows", (size_t)c->layers * PARTS * sizeof *a->rows);
    for (int layer = 0; layer < c->layers; layer++) AA_TRY(read_layer(a, c, layer, &at, err));
    return AA_OK;
}

static void sidecar_close(aa_adapter *a) {
    sidecar *self = a->self;

    aa_sys_map_close(&self->map);
    aa_heap_free(self);
    a->self = NULL;
}

aa_status aa__sidecar_open(aa_adapter *a, aa_err *err) {
    sidecar *self = aa_heap_alloc(1, sizeof *self);

    if (!self) return aa_fail_memory(err, "an adapter", sizeof *self);
    a->self = self;
    a->close = sidecar_close;
    a->bind = sidecar_bind;
    a->format = "lora sidecar";
    AA_TRY(aa_map_open(&self->map, a->path, err));
    if (self->map.size_bytes < HEADER_BYTES)
        return aa_fail(err, AA_EFORMAT, "'%s' ends within its header", a->path);
    memcpy(&self->rank, self->map.data + 4, 4);
    memcpy(&self->layers, self->map.data + 8, 4);
    a->rank = (size_t)self->rank;
    if (self->rank >= 1 && self->rank <= MOST_RANK && self->layers >= 1 &&
        self->layers <= MOST_LAYERS)
        return AA_OK;
    return aa_fail(err, AA_EFORMAT, "'%s': rank %d and %d layers; both must be 1 to %d", a->path,
                   (int)self->rank, (int)self->layers, MOST_RANK);
}
