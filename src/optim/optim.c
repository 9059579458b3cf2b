/* optim/optim: one update of all parameter rows, each by its own method.
 *
 * First the global gradient norm, row after row in table order (a fixed order of summation, so the
 * same bits on any number of threads), then one pass over parameter, gradient and moments with the
 * clip factor folded in. Nothing is written before every gradient is known to be finite.
 */
#include "optim/optim.h"

#include <math.h>
#include <string.h>
#include "base/rng.h"

/* A way to update one parameter row, and the state it keeps for it. */
typedef struct method {
    const char *slots[AA_OPTIM_SLOTS];
    void (*update)(aa_optim *o, aa_cpu *cpu, size_t row, double lr, double decay, double clip);
} method;

static double rate_of(const aa_optim_options *p, const aa_tensor *row) {
    switch (row->kind) {
    case AA_KIND_EMBEDDING: return p->embed_factor;
    case AA_KIND_LORA_B: return p->lora_b_factor;
    default: return 1;
    }
}

/* Updates that moments have seen, this one included. */
static double moments_age(const aa_optim *o) {
    return (double)(o->n_blocks ? (o->t - 1) % o->options.block_updates + 1 : o->t);
}

static void adamw(aa_optim *o, aa_cpu *cpu, size_t row, double lr, double decay, double clip) {
    const aa_optim_options *p = &o->options;
    aa_tensor *w = &o->tensors[row];
    const aa_adamw h = {
        .lr = (aa_real)(lr * rate_of(p, w)),
        .beta1 = (aa_real)p->beta1, .beta2 = (aa_real)p->beta2,
        .eps = (aa_real)p->eps, .decay = (aa_real)decay,
        .c1 = (aa_real)(1 - pow(p->beta1, moments_age(o))),
        .c2 = (aa_real)(1 - pow(p->beta2, moments_age(o))),
        .grad_scale = (aa_real)clip,
    };

    aa_adamw_update(cpu, w->data, w->grad, o->slot[0][row], o->slot[1][row], aa_tensor_size(w), &h);
}

/* m = momentum m + g;  u = g + momentum m (Nesterov);  w -= lr (s orthogonal(u) + decay w), with
 * s = sqrt(max(1, rows/cols)) so that the change of an output does not depend on the shape (Jordan
 * et al. 2024). u takes the gradient's place. */
static void muon(aa_optim *o, aa_cpu *cpu, size_t row, double lr, double decay, double clip) {
    const aa_optim_options *p = &o->options;
    aa_tensor *w = &o->tensors[row];
    const size_t n = aa_tensor_size(w);
    const aa_real momentum = (aa_real)p->muon_momentum;
    aa_real *m = o->slot[0][row], *direction = o->scratch;
    double tall = fmax(1, (double)w->rows / (double)w->cols);

    aa_scale(cpu, m, momentum, n);
    aa_axpy(cpu, m, (aa_real)clip, w->grad, n);
    aa_scale(cpu, w->grad, (aa_real)clip, n);
    aa_axpy(cpu, w->grad, momentum, m, n);
    aa_orthogonalize(cpu, direction, w->grad, w->rows, w->cols, p->muon_steps, direction + n);
    aa_sgd_update(cpu, w->data, direction, NULL, n, (aa_real)(lr * p->muon_factor), 0,
                  (aa_real)decay, (aa_real)sqrt(tall));
    aa_zero(cpu, w->grad, n);
}

/* APOLLO-Mini (Zhu et al. 2024, algorithm 1 with rank 1 and one scale for the tensor): the
 * gradient's length is what Adam would make of that of one random row r = p G,
 *
 *     w -= lr (sqrt(128) |m^ / (sqrt(v^) + eps)| / |r| G + decay w)
 *
 * and no step is more than 1.01 times as long as the one before. p has elements +-1 and is drawn
 * anew every 200 updates. The last element of the first moment is the length of that step. */
enum { APOLLO_REFRESH = 200 };

static void random_signs(const aa_optim *o, size_t row, aa_real *p, size_t n) {
    aa_rng rng;
    uint64_t epoch = (o->t - 1) / APOLLO_REFRESH;

    aa_rng_init(&rng, o->options.seed, AA_RNG_APOLLO, epoch << 32 | row);
    for (size_t i = 0; i < n; i++) p[i] = aa_rng_below(&rng, 2) ? 1 : -1;
}

static double apollo_scale(const aa_optim *o, size_t row, const aa_real *r, double clip) {
    const aa_optim_options *p = &o->options;
    aa_real *m = o->slot[0][row], *v = o->slot[1][row];
    const double c1 = 1 - pow(p->beta1, (double)o->t), c2 = 1 - pow(p->beta2, (double)o->t);
    double adam = 0, plain = 0;

    for (size_t j = 0; j < o->tensors[row].cols; j++) {
        double g = clip * (double)r[j];

        m[j] = (aa_real)(p->beta1 * (double)m[j] + (1 - p->beta1) * g);
        v[j] = (aa_real)(p->beta2 * (double)v[j] + (1 - p->beta2) * g * g);
        double u = (double)m[j] / c1 / (sqrt((double)v[j] / c2) + p->eps);
        adam += u * u;
        plain += g * g;
    }
    return plain > 0 ? sqrt(128 * adam / plain) : 0;
}

static void apollo_mini(aa_optim *o, aa_cpu *cpu, size_t row, double lr, double decay,
                        double clip) {
    aa_tensor *w = &o->tensors[row];
    const size_t n = aa_tensor_size(w);
    aa_real *signs = o->scratch, *r = o->scratch + w->rows, *last = &o->slot[0][row][w->cols];

    random_signs(o, row, signs, w->rows);
    aa_gemm(cpu, r, w->cols, signs, w->rows, w->grad, w->cols, false, 1, w->cols, w->rows, false);
    double scale = apollo_scale(o, row, r, clip) * clip;
    double length = scale * sqrt(aa_sum_squares(cpu, w->grad, n));

    if (*last > 0 && length > 1.01 * (double)*last) {
        scale *= 1.01 * (double)*last / length;
        length = 1.01 * (double)*last;
    }
    *last = (aa_real)length;
    aa_sgd_update(cpu, w->data, w->grad, NULL, n, (aa_real)lr, 0, (aa_real)decay, (aa_real)scale);
}

static void sgd(aa_optim *o, aa_cpu *cpu, size_t row, double lr, double decay, double clip) {
    const aa_optim_options *p = &o->options;
    aa_tensor *w = &o->tensors[row];

    aa_sgd_update(cpu, w->data, w->grad, o->slot[0][row], aa_tensor_size(w),
                  (aa_real)(lr * rate_of(p, w)), (aa_real)p->beta1, (aa_real)decay, (aa_real)clip);
}

static const method method_adamw = {{"exp_avg", "exp_avg_sq"}, adamw},
                    method_muon = {{"momentum"}, muon},
                    method_apollo = {{"row_avg", "row_avg_sq"}, apollo_mini},
                    method_sgd = {{"momentum"}, sgd},
                    method_plain_sgd = {{NULL}, sgd}, method_frozen = {{NULL}, NULL};

static const method *method_of(const aa_optim_options *o, const aa_tensor *row) {
    if (row->frozen && o->kind != AA_OPTIM_BADAM) return &method_frozen;
    switch ((aa_optim_kind)o->kind) {
    case AA_OPTIM_SGD: return o->beta1 > 0 ? &method_sgd : &method_plain_sgd;
    case AA_OPTIM_MUON:
        return row->kind == AA_KIND_MATRIX && row->layer >= 0 ? &method_muon : &method_adamw;
    case AA_OPTIM_APOLLO_MINI:
        return row->kind == AA_KIND_MATRIX && row->layer >= 0 ? &method_apollo : &method_adamw;
    default: return &method_adamw;
    }
}

static size_t slot_size(const method *m, const aa_tensor *w) {
    return m == &method_apollo ? w->cols + 1 : aa_tensor_size(w);
}

/* Room for Muon's largest direction, with its Gram matrices behind it, or APOLLO's vectors. */
static void plan_scratch(aa_optim *o, size_t *scratch) {
    for (size_t i = 0; i < o->n_tensors; i++) {
        const aa_tensor *w = &o->tensors[i];
        const method *m = method_of(&o->options, w);
        size_t need = 0;

        if (m == &method_muon) {
            need = aa_tensor_size(w) + aa_orthogonal_scratch(w->rows, w->cols);
            o->flop += aa_orthogonal_flop(w->rows, w->cols, o->options.muon_steps);
        }
        if (m == &method_apollo) need = w->rows + w->cols;
        if (need > *scratch) *scratch = need;
    }
}

static void add_states(aa_optim *o, size_t s, aa_arena *arena) {
    for (size_t i = 0; i < o->n_tensors; i++) {
        const method *m = method_of(&o->options, &o->tensors[i]);

        if (!m->slots[s]) continue;
        aa_real *state = aa_arena_new(arena, aa_real, slot_size(m, &o->tensors[i]));
        if (o->slot[s]) o->slot[s][i] = state;
    }
}

/* The rows of a block lie behind each other in what all blocks share. */
static void share_states(aa_optim *o, size_t s, aa_arena *arena) {
    size_t inside = 0, outside = 0;
    int layer = -1;

    for (int pass = 0; pass < 2; pass++, inside = outside = 0, layer = -1) {
        for (size_t i = 0; i < o->n_tensors; i++) {
            const aa_tensor *w = &o->tensors[i];
            size_t *at = w->layer < 0 ? &outside : &inside;

            if (w->layer >= 0 && w->layer != layer) inside = 0, layer = w->layer;
            if (o->shared[s]) o->slot[s][i] = o->shared[s] + *at;
            *at += aa_tensor_size(w);
            if (*at > o->n_shared) o->n_shared = *at;
            if (layer + 2 > o->n_blocks) o->n_blocks = layer + 2;
        }
        if (!pass) o->shared[s] = aa_arena_new(arena, aa_real, o->n_shared);
    }
}

aa_status aa_optim_init(aa_optim *out, const aa_optim_options *options, aa_tensor *tensors,
                        size_t n_tensors, aa_arena *arena, aa_err *err) {
    aa_optim o = {.options = *options, .tensors = tensors, .n_tensors = n_tensors};
    const size_t before = arena->used_bytes;
    size_t scratch = 0;

    for (size_t s = 0; s < AA_OPTIM_SLOTS; s++) {
        o.slot[s] = aa_arena_new(arena, aa_real *, n_tensors);
        if (options->kind == AA_OPTIM_BADAM) share_states(&o, s, arena);
        else add_states(&o, s, arena);
    }
    plan_scratch(&o, &scratch);
    if (scratch) o.scratch = aa_arena_new(arena, aa_real, scratch);
    AA_TRY(aa_arena_status(arena, err));
    o.size_bytes = arena->used_bytes - before;
    *out = o;
    return AA_OK;
}

/* BAdam: the block of update t, counted from 1. Every block once, in an order drawn anew. */
static int block_of_update(const aa_optim *o, uint64_t t) {
    uint64_t n = (uint64_t)o->n_blocks, i = (t - 1) / o->options.block_updates;

    return (int)aa_rng_permute(o->options.seed, i / n, n, i % n);
}

static bool in_block(const aa_optim *o, const aa_tensor *w, int block) {
    return w->layer < 0 ? block == o->n_blocks - 1 : w->layer == block;
}

int aa_optim_begin(aa_optim *o) {
    if (!o->n_blocks) return -1;
    for (size_t s = 0; o->t % o->options.block_updates == 0 && s < AA_OPTIM_SLOTS; s++)
        memset(o->shared[s], 0, o->n_shared * sizeof *o->shared[s]);
    return block_of_update(o, o->t + 1);
}

const char *aa_optim_slot_name(const aa_optim *o, size_t slot, size_t row) {
    const aa_tensor *w = &o->tensors[row];

    if (o->n_blocks && !in_block(o, w, block_of_update(o, o->t ? o->t : 1))) return NULL;
    return method_of(&o->options, w)->slots[slot];
}

size_t aa_optim_slot_size(const aa_optim *o, size_t slot, size_t row) {
    (void)slot;
    return slot_size(method_of(&o->options, &o->tensors[row]), &o->tensors[row]);
}

static aa_status gradient_norm(const aa_optim *o, aa_cpu *cpu, double *out, aa_err *err) {
    double sum = 0;

    for (size_t i = 0; i < o->n_tensors; i++) {
        const aa_tensor *w = &o->tensors[i];
        double squares = w->grad ? aa_sum_squares(cpu, w->grad, aa_tensor_size(w)) : 0;

        if (!isfinite(squares))
            return aa_fail(
                err, AA_EDIVERGED,
                "update %llu: the gradient of %s is not finite; nothing was changed. A lower "
                "--lr or a longer --warmup usually helps",
                (unsigned long long)o->t + 1, w->name);
        sum += squares;
    }
    *out = sqrt(sum);
    return AA_OK;
}

aa_status aa_optim_step(aa_optim *o, aa_cpu *cpu, double lr, aa_optim_result *out, aa_err *err) {
    const aa_optim_options *p = &o->options;
    double norm = 0;

    AA_TRY(gradient_norm(o, cpu, &norm, err));
    double clip = p->clip > 0 && norm > p->clip ? p->clip / norm : 1;

    o->t++;
    for (size_t i = 0; i < o->n_tensors; i++) {
        aa_tensor *w = &o->tensors[i];

        if (!w->grad) continue;
        method_of(p, w)->update(o, cpu, i, lr, aa_tensor_is_vector(w) ? 0 : p->weight_decay, clip);
        w->version++;
    }
    *out = (aa_optim_result){.grad_norm = norm, .clip_factor = clip};
    return AA_OK;
}
