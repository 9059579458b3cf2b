/* model/kv: reading tokens one after another.
 *
 * The forward pass is the one of training; only keys (after rope) and values are copied behind
 * those of earlier tokens, layer by layer, and attention runs over all of them. A prompt is one
 * call, a generated token another; both leave the same cache.
 */
#include <string.h>
#include "model/activations.h"

aa_status aa_kv_init(aa_kv *out, const aa_model *m, size_t capacity, bool half, aa_arena *arena,
                     aa_err *err) {
    const size_t width = (size_t)m->config.kv_heads * (size_t)m->config.head_dim;
    aa_kv kv = {.capacity = capacity, .width = width};

    const size_t size = (size_t)m->config.layers * capacity * width;

    if (half) {
        kv.k16 = aa_arena_new(arena, uint16_t, size);
        kv.v16 = aa_arena_new(arena, uint16_t, size);
    } else {
        kv.k = aa_arena_new(arena, aa_real, size);
        kv.v = aa_arena_new(arena, aa_real, size);
    }
    AA_TRY(aa_arena_status(arena, err));
    *out = kv;
    return AA_OK;
}

void aa__kv_append(aa_kv *kv, aa_cpu *cpu, int layer, aa_attention *at, const aa_real **k,
                   const aa_real **v) {
    const size_t begin = (size_t)layer * kv->capacity * kv->width;

    for (size_t t = 0; t < at->n_query; t++) {
        const aa_real *k_row = *k + t * at->ld_k, *v_row = *v + t * at->ld_v;
        size_t to = begin + (kv->len + t) * kv->width;

        if (kv->k16) {
            aa_to_f16(cpu, kv->k16 + to, k_row, kv->width);
            aa_to_f16(cpu, kv->v16 + to, v_row, kv->width);
            continue;
        }
        memcpy(kv->k + to, k_row, kv->width * sizeof(aa_real));
        memcpy(kv->v + to, v_row, kv->width * sizeof(aa_real));
    }
    if (kv->k16) {
        at->k16 = kv->k16 + begin, at->v16 = kv->v16 + begin;
        *k = *v = NULL;
    } else *k = kv->k + begin, *v = kv->v + begin;
    at->n_key = kv->len + at->n_query;
    at->ld_k = at->ld_v = kv->width;
}

/* The pass over n more ids, up to the final norm. */
static aa_status extend(aa_model *m, aa_backend *be, aa_activations *a, aa_kv *kv,
                        const int32_t *ids, const int32_t *targets, size_t n, aa_err *err) {
    const size_t room = (kv->capacity < m->n_pos ? kv->capacity : m->n_pos) - kv->len;

    aa_assert(n >= 1 && n <= a->max_rows);
    if (n > room)
        return aa_fail(err, AA_EUSAGE,
                       "%zu tokens do not fit: the context holds %zu, %zu are in use", n,
                       kv->len + room, kv->len);
    AA_TRY(aa__check_ids(m, ids, targets, n, err));
    aa__activations_begin(a, &(aa_batch){.B = 1, .T = n}, kv->len, kv);
    AA_TRY(aa__model_forward(m, be, a, ids, err));
    kv->len += n;
    return AA_OK;
}

aa_status aa_model_extend(aa_model *m, aa_backend *be, aa_activations *a, aa_kv *kv,
                          const int32_t *ids, size_t n, aa_real *logits, aa_err *err) {
    AA_TRY(extend(m, be, a, kv, ids, NULL, n, err));
    return aa__head_forward(m, be, a, logits, a->n_final + (n - 1) * (size_t)m->config.dim, 1, err);
}

aa_status aa_model_extend_loss(aa_model *m, aa_backend *be, aa_activations *a, aa_kv *kv,
                               const int32_t *ids, const int32_t *targets, size_t n, aa_real *loss,
                               aa_err *err) {
    AA_TRY(extend(m, be, a, kv, ids, targets, n, err));
    return aa__head_loss(m, be, a, targets, loss, err);
}
