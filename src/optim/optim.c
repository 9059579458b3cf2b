/* optim/optim: one update of all parameter rows, each by its own method.
 *
 * First the global gradient norm, row after row in table order (a fixed order of summation, so the
 * same bits on any number of threads), then one pass over parameter, gradient and moments with the
 * clip factor folded in. Nothing is written before every gradient is known to be finite.
 */
#include "optim/optim.h"

#include <math.h>

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

static void adamw(aa_optim *o, aa_cpu *cpu, size_t row, double lr, double decay, double clip) {
    const aa_optim_options *p = &o->options;
    aa_tensor *w = &o->tensors[row];
    const aa_adamw h = {
        .lr = (aa_real)(lr * rate_of(p, w)),
        .beta1 = (aa_real)p->beta1, .beta2 = (aa_real)p->beta2,
        .eps = (aa_real)p->eps, .decay = (aa_real)decay,
        .c1 = (aa_real)(1 - pow(p->beta1, (double)o->t)),
        .c2 = (aa_real)(1 - pow(p->beta2, (double)o->t)),
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

static void sgd(aa_optim *o, aa_cpu *cpu, size_t row, double lr, double decay, double clip) {
    const aa_optim_options *p = &o->options;
    aa_tensor *w = &o->tensors[row];

    aa_sgd_update(cpu, w->data, w->grad, o->slot[0][row], aa_tensor_size(w),
                  (aa_real)(lr * rate_of(p, w)), (aa_real)p->beta1, (aa_real)decay, (aa_real)clip);
}

static const method method_adamw = {{"exp_avg", "exp_avg_sq"}, adamw},
                    method_muon = {{"momentum"}, muon},
                    method_sgd = {{"momentum"}, sgd},
                    method_plain_sgd = {{NULL}, sgd}, method_frozen = {{NULL}, NULL};

static const method *method_of(const aa_optim_options *o, const aa_tensor *row) {
    if (row->frozen) return &method_frozen;
    switch ((aa_optim_kind)o->kind) {
    case AA_OPTIM_SGD: return o->beta1 > 0 ? &method_sgd : &method_plain_sgd;
    case AA_OPTIM_MUON:
        return row->kind == AA_KIND_MATRIX && row->layer >= 0 ? &method_muon : &method_adamw;
    default: return &method_adamw;
    }
}

/* Room for the largest direction, with its Gram matrices behind it. */
static void plan_muon(aa_optim *o, size_t *scratch) {
    for (size_t i = 0; i < o->n_tensors; i++) {
        const aa_tensor *w = &o->tensors[i];
        size_t need = aa_tensor_size(w) + aa_orthogonal_scratch(w->rows, w->cols);

        if (method_of(&o->options, w) != &method_muon) continue;
        if (need > *scratch) *scratch = need;
        o->flop += aa_orthogonal_flop(w->rows, w->cols, o->options.muon_steps);
    }
}

aa_status aa_optim_init(aa_optim *out, const aa_optim_options *options, aa_tensor *tensors,
                        size_t n_tensors, aa_arena *arena, aa_err *err) {
    aa_optim o = {.options = *options, .tensors = tensors, .n_tensors = n_tensors};
    const size_t before = arena->used_bytes;
    size_t scratch = 0;

    for (size_t s = 0; s < AA_OPTIM_SLOTS; s++) {
        o.slot[s] = aa_arena_new(arena, aa_real *, n_tensors);
        for (size_t i = 0; i < n_tensors; i++) {
            if (!method_of(options, &tensors[i])->slots[s]) continue;
            aa_real *state = aa_arena_new(arena, aa_real, aa_tensor_size(&tensors[i]));

            if (o.slot[s]) o.slot[s][i] = state;
        }
    }
    plan_muon(&o, &scratch);
    if (scratch) o.scratch = aa_arena_new(arena, aa_real, scratch);
    AA_TRY(aa_arena_status(arena, err));
    o.size_bytes = arena->used_bytes - before;
    *out = o;
    return AA_OK;
}

const char *aa_optim_slot_name(const aa_optim *o, size_t slot, size_t row) {
    return method_of(&o->options, &o->tensors[row])->slots[slot];
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
