/* ane/exec, private: what the operations see. */
#ifndef AA_ANE_EXEC_INT_H
#define AA_ANE_EXEC_INT_H

#include "ane/exec.h"

typedef struct exec_op {
    const aa_mil_op *op;
    const struct exec_row *row;
    float *out[AA_MIL_MAX_RESULTS];
    bool constant;                       /* done once, in aa_exec_new */
} exec_op;

typedef struct exec_literal { const aa_mil_literal *of; float *value; } exec_literal;

struct aa_exec {
    const aa_mil_func *f;
    const aa_ane_chip *chip;
    aa_exec_mode mode;
    aa_cpu *cpu;
    float **value;                       /* [n_vars], NULL: a text */
    exec_op *ops; int n_ops;
    exec_literal *literals; size_t n_literals;
    float *scratch; size_t scratch_size; /* floats */
    size_t bytes;
    aa_arena arena;
};

/* How an operation is run. which: one of several that share a function. */
typedef struct exec_row {
    const char *kind;
    void (*run)(aa_exec *e, const exec_op *o);
    int which;
    size_t (*scratch)(const aa_exec *e, const aa_mil_op *op);     /* floats; NULL: none */
} exec_row;
const exec_row *aa__exec_row(const char *kind);   /* NULL: cannot be run */

/* Rounds to what the engine stores: binary16, no NaN, no -0. */
void aa__exec_store(float *x, size_t n);
float aa__exec_half(float x);            /* the first of it */

const aa_mil_type *aa__exec_type(const aa_exec *e, const aa_mil_op *op, const char *key);
/* Values of an argument; NULL where there is none. */
const float *aa__exec_arg(const aa_exec *e, const aa_mil_op *op, const char *key);
static inline const aa_mil_type *aa__exec_result(const aa_exec *e, const exec_op *o, int i) {
    return &e->f->vars[o->op->results[i]].type;
}

extern const exec_row aa__exec_products[], aa__exec_pointwise[], aa__exec_shapes[];

#endif
