/* optim/optim: one update of all parameter rows.
 *
 * First the global gradient norm, row after row in table order (a fixed order of summation, so the
 * same bits on any number of threads), then one pass over parameter, gradient and moments with the
 * clip factor folded in. Nothing is written before every gradient is known to be finite.
 */
#include "optim/optim.h"

#include <math.h>

/* A row per optimizer: its state and its update of one parameter row. */
typedef struct method {
    const char *slots[2];
    size_t n_slots;
    void (*update)(aa_optim *o, aa_cpu *cpu, size_t row, double lr, double decay, double clip);
} method;

static void adamw(aa_optim *o, aa_cpu *cpu, size_t row, double lr, double decay, double clip) {
    const aa_optim_options *p = &o->options;
    const aa_adamw h = {
        .lr = (aa_real)lr, .beta1 = (aa_real)p->beta1, .beta2 = (aa_real)p->beta2,
        .eps = (aa_real)p->eps, .decay = (aa_real)decay,
        .c1 = (aa_real)(1 - pow(p->beta1, (double)o->t)),
        .c2 = (aa_real)(1 - pow(p->beta2, (double)o->t)),
        .grad_scale = (aa_real)clip,
    };
    aa_tensor *w = &o->tensors[row];

    aa_adamw_update(cpu, w->data, w->grad, o->slot[0][row], o->slot[1][row], aa_tensor_size(w), &h);
}

static void sgd(aa_optim *o, aa_cpu *cpu, size_t row, double lr, double decay, double clip) {
    aa_tensor *w = &o->tensors[row];
    aa_real *momentum = o->n_slots ? o->slot[0][row] : NULL;

    aa_sgd_update(cpu, w->data, w->grad, momentum, aa_tensor_size(w), (aa_real)lr,
                  (aa_real)o->options.beta1, (aa_real)decay, (aa_real)clip);
}

static const method methods[] = {
    [AA_OPTIM_ADAMW] = {{"exp_avg", "exp_avg_sq"}, 2, adamw},
    [AA_OPTIM_SGD] = {{"momentum"}, 1, sgd},
};

aa_status aa_optim_init(aa_optim *out, const aa_optim_options *options, aa_tensor *tensors,
                        size_t n_tensors, aa_arena *arena, aa_err *err) {
    aa_optim o = {.options = *options, .tensors = tensors, .n_tensors = n_tensors};
    const bool plain_sgd = options->kind == AA_OPTIM_SGD && options->beta1 == 0;

    aa_assert(options->kind >= 0 && options->kind < (int)(sizeof methods / sizeof *methods));
    o.n_slots = plain_sgd ? 0 : methods[options->kind].n_slots;
    for (size_t s = 0; s < o.n_slots; s++) {
        o.slot[s] = aa_arena_new(arena, aa_real *, n_tensors);
        for (size_t i = 0; i < n_tensors; i++) {
            aa_real *state = aa_arena_new(arena, aa_real, aa_tensor_size(&tensors[i]));

            if (o.slot[s]) o.slot[s][i] = state;
        }
    }
    AA_TRY(aa_arena_status(arena, err));
    *out = o;
    return AA_OK;
}

const char *aa_optim_slot_name(const aa_optim *o, size_t slot) {
    aa_assert(slot < o->n_slots);
    return methods[o->options.kind].slots[slot];
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
                "learning rate or a longer warm-up usually helps",
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
        methods[p->kind].update(o, cpu, i, lr, aa_tensor_is_vector(w) ? 0 : p->weight_decay, clip);
        w->version++;
    }
    *out = (aa_optim_result){.grad_norm = norm, .clip_factor = clip};
    return AA_OK;
}
