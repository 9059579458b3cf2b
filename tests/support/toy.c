#include "support/toy.h"

#include "support/check.h"

static uint32_t mix(uint32_t x) {                     /* lowbias32, C. Wellons */
    x ^= x >> 16, x *= 0x7feb352du;
    x ^= x >> 15, x *= 0x846ca68bu;
    return x ^ x >> 16;
}

static uint32_t fnv1a(const char *s) {
    uint32_t h = 2166136261u;

    while (*s) h = (h ^ (unsigned char)*s++) * 16777619u;
    return h;
}

double toy_number(const char *name, uint32_t i) {
    return (double)(mix(fnv1a(name) ^ mix(i + 1)) >> 8) / 8388608.0 - 1;
}

void toy_fill(aa_model *m) {
    for (size_t r = 0; r < m->n_tensors; r++) {
        aa_tensor *row = &m->tensors[r];

        for (size_t i = 0; i < aa_tensor_size(row); i++)
            row->data[i] = (aa_real)((row->kind == AA_KIND_NORM) +
                                     0.25 * toy_number(row->name, (uint32_t)i));
    }
    aa_model_changed(m);
}

static int32_t toy_token(const char *what, size_t i, int64_t vocab) {
    return (int32_t)((toy_number(what, (uint32_t)i) + 1) / 2 * (double)vocab);
}

void toy_tokens(int32_t *ids, int32_t *targets, size_t n, int64_t vocab, bool masked) {
    for (size_t i = 0; i < n; i++) {
        ids[i] = toy_token("ids", i, vocab);
        targets[i] = masked && i % 5 == 3 ? -1 : toy_token("targets", i, vocab);
    }
}

void toy_open(toy *out, const aa_config *c, const toy_options *o) {
    aa_err err = {0};
    aa_config config = *c;
    unsigned parts =
        AA_MODEL_GRADS | (o->unpacked || o->lora ? 0u : (unsigned)AA_MODEL_PACKED);
    toy *t = out;

    *t = (toy){.B = o->B, .T = o->T, .N = o->B * o->T};
    check_ok(aa_config_resolve(&config, &err));
    check_ok(aa_cpu_new(&t->cpu, o->threads ? o->threads : 1, o->isa, &err));
    aa_backend_cpu(&t->backend, t->cpu);
    aa_arena_init(&t->arena, "toy");
    check_ok(
        aa_model_init_lora(&t->model, &config, o->lora, parts, o->T > 64 ? o->T : 64, t->cpu,
                           &t->arena, &err));
    if (!o->no_lookup) check_ok(aa_model_lookup_init(&t->model, t->N, &t->arena, &err));
    check_ok(aa_activations_new(&t->train, &t->model,
                                o->checkpoint ? AA_PASS_CHECKPOINT : AA_PASS_TRAIN, o->B, o->T,
                                o->head_rows, &t->arena, &err));
    check_ok(aa_activations_new(&t->eval, &t->model, AA_PASS_EVAL, o->B, o->T, o->head_rows,
                                &t->arena, &err));
    t->ids = aa_arena_new(&t->arena, int32_t, t->N);
    t->targets = aa_arena_new(&t->arena, int32_t, t->N);
    t->loss = aa_arena_new(&t->arena, aa_real, t->N);
    check_ok(aa_arena_status(&t->arena, &err));
    toy_fill(&t->model);
    toy_tokens(t->ids, t->targets, t->N, config.vocab, o->masked);
}

void toy_close(toy *t) {
    aa_arena_release(&t->arena);
    aa_cpu_free(t->cpu);
}

static double sum(const toy *t) {
    double s = 0;

    for (size_t n = 0; n < t->N; n++) s += (double)t->loss[n];
    return s;
}

double toy_gradients(toy *t, size_t step) {
    aa_err err = {0};

    aa_zero(t->cpu, t->model.grads, t->model.span);
    for (size_t b = 0; b < t->B; b += step) {
        size_t n = b * t->T;
        aa_batch part = {.B = t->B - b < step ? t->B - b : step, .T = t->T, .ids = t->ids + n,
                         .targets = t->targets + n, .update = 5, .first = n};

        check_ok(
            aa_model_loss_and_grad(&t->model, &t->backend, t->train, &part, t->loss + n, 1, &err));
    }
    aa_model_finish_grads(&t->model, t->cpu);
    return sum(t);
}

double toy_loss(toy *t) {
    aa_err err = {0};
    aa_batch all = {.B = t->B, .T = t->T, .ids = t->ids, .targets = t->targets};

    check_ok(aa_model_loss(&t->model, &t->backend, t->eval, &all, t->loss, &err));
    return sum(t);
}

static void exchange(aa_real *a, aa_real *b, size_t n, size_t step) {
    for (size_t i = 0; i < n; i++) {
        aa_real x = a[i * step];

        a[i * step] = b[i * step], b[i * step] = x;
    }
}

void toy_exchange_heads(aa_model *m) {
    const size_t C = (size_t)m->config.dim, D = (size_t)m->config.head_dim;
    const size_t Q = (size_t)m->config.heads * D;

    for (int64_t l = 0; l < m->config.layers; l++) {
        aa_tensor *q = m->blocks[l].qkv.weight, *o = m->blocks[l].out.weight;

        exchange(q->data + D * C, q->data + 2 * D * C, D * C, 1);
        exchange(q->grad + D * C, q->grad + 2 * D * C, D * C, 1);
        for (size_t d = 0; d < D; d++) {
            exchange(o->data + D + d, o->data + 2 * D + d, C, Q);
            exchange(o->grad + D + d, o->grad + 2 * D + d, C, Q);
        }
    }
    aa_model_changed(m);
}
