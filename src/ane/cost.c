#include "ane/cost.h"
#include <string.h>

static const aa_mil_type *type_of(const aa_mil_func *f, const aa_mil_op *op, const char *key) {
    const aa_mil_arg *a = aa_mil_arg_find(op, key);
    return a->literal ? &a->literal->type : &f->vars[a->var[0]].type;
}

/* An axis of an argument's type, counted from the end. */
static double axis(const aa_mil_func *f, const aa_mil_op *op, const char *key, int from_end) {
    const aa_mil_type *t = type_of(f, op, key);
    return t->rank >= from_end ? (double)t->dim[t->rank - from_end] : 1;
}

/* Multiply-adds of a product, 0 of anything else. */
static double multiply_adds(const aa_mil_func *f, const aa_mil_op *op) {
    const double out = (double)aa_mil_elements(&f->vars[op->results[0]].type);
    switch (op->row->rule) {
    case AA_MIL_RULE_MATMUL:
        return out * axis(f, op, "x", aa_mil_arg_number(f, op, "transpose_x", 0) != 0 ? 2 : 1);
    case AA_MIL_RULE_LINEAR:
        return out * axis(f, op, "x", 1);
    case AA_MIL_RULE_CONV: {
        const aa_mil_type *w = type_of(f, op, "weight");
        return out * (double)aa_mil_elements(w) / (double)w->dim[0];
    }
    case AA_MIL_RULE_SDPA:               /* scores, and values weighted by them */
        return out * axis(f, op, "key", 2) *
               (1 + axis(f, op, "query", 1) / axis(f, op, "value", 1));
    default:
        return 0;
    }
}

/* Both operands come from 8 bits: the pattern that maps to the doubled rate. */
static bool int8_product(const aa_mil_func *f, const aa_mil_op *op) {
    static const char *const keys[] = { "x", "y", "weight" };
    int n = 0;
    for (int i = 0; i < 3; i++) {
        int v = aa_mil_arg_var(op, keys[i]);
        if (v < 0 || f->vars[v].op < 0) continue;
        const char *kind = f->ops[f->vars[v].op].row->kind;
        n += strcmp(kind, "dequantize") == 0 || strcmp(kind, "constexpr_affine_dequantize") == 0;
    }
    return n == 2;
}

void aa_ane_work_of(aa_ane_work *out, const aa_mil_func *f, const aa_ane_chip *chip) {
    aa_ane_work w = { 0 };
    for (int i = 0; i < f->n_inputs; i++)
        w.port_bytes += (double)aa_mil_port_bytes(&f->vars[i].type);
    for (int i = 0; i < f->n_outputs; i++)
        w.port_bytes += (double)aa_mil_port_bytes(&f->vars[f->outputs[i]].type);
    for (int i = 0; i < f->n_ops; i++) {
        const aa_mil_op *op = &f->ops[i];
        const aa_mil_literal *c = f->vars[op->results[0]].constant;
        if (c) {
            if (c->kind == AA_MIL_BLOB) w.constant_bytes += (double)aa_mil_bytes(&c->type);
            continue;
        }
        const double n = multiply_adds(f, op);
        *(int8_product(f, op) ? &w.int8_flop : &w.flop) += 2 * n;
        *(n > 0 ? &w.products : &w.others) += 1;
        for (int r = 0; r < op->n_results; r++) {
            const double bytes = (double)aa_mil_bytes(&f->vars[op->results[r]].type);
            if (bytes > chip->resident_mb * 1e6) w.spill_bytes += 2 * bytes;
        }
    }
    *out = w;
}

aa_ane_cost aa_ane_cost_of(const aa_ane_work *work, double n, bool alone,
                           const aa_ane_chip *chip) {
    const double rate = (alone ? chip->single_tflops : chip->peak_tflops) * 1e12;
    const double compute = (work->flop + work->int8_flop / chip->int8_ratio) / rate;
    const double moved = (work->constant_bytes + work->port_bytes + work->spill_bytes) /
                         (chip->gbs * 1e9);
    aa_ane_cost c = { .dispatch_s = n * chip->t0_us * 1e-6 };
    c.memory_bound = moved > compute;
    c.device_s = c.memory_bound ? moved : compute;
    c.joule = c.device_s * chip->watts;
    return c;
}
