/* Operations element by element, and along one axis. */
#include <math.h>
#include <string.h>
#include "ane/exec_int.h"

/* ---- one operand ----------------------------------------------------------------------------- */

enum { RELU, SIGMOID, TANH, SILU, SOFTPLUS, SOFTSIGN, EXP, EXP2, SQRT, ABS, ERF, SQUARE, SIGN,
       FLOOR, CEIL, ROUND, ATAN, SIN, COS, RSQRT, LOG, INVERSE, GELU, LEAKY, ELU, CLIP, IDENTITY };

/* 33 knots on the published domain, straight lines between them, clamped outside. */
static float sigmoid_of_knots(float x) {
    const float lo = -9.938f, hi = 8.320f, step = (hi - lo) / 32;
    x = fminf(fmaxf(x, lo), hi);
    const float at = floorf((x - lo) / step), left = lo + at * step;
    const float a = aa__exec_half(1 / (1 + expf(-left)));
    const float b = aa__exec_half(1 / (1 + expf(-(left + step))));
    return a + (b - a) * ((x - left) / step);
}

static float sigmoid(const aa_exec *e, float x) {
    return e->mode == AA_EXEC_FAITHFUL ? sigmoid_of_knots(x) : 1 / (1 + expf(-x));
}

static float gelu(const aa_exec *e, const exec_op *o, float x) {
    const char *mode = aa_mil_arg_text(e->f, o->op, "mode", "EXACT");
    if (mode[0] == 'S') return x * sigmoid(e, 1.702f * x);
    return 0.5f * x * (1 + erff(x * 0.70710678f));     /* TANH is the same table as EXACT */
}

/* p, q: epsilon; alpha and beta. */
static float unary(const aa_exec *e, const exec_op *o, float x, float p, float q) {
    switch (o->row->which) {
    case RELU: return fmaxf(x, 0);
    case SIGMOID: return sigmoid(e, x);
    case TANH: return tanhf(x);
    case SILU: return x == -INFINITY ? 0 : x * sigmoid(e, x);
    case SOFTPLUS: return x > 20 ? x : log1pf(expf(x));
    case SOFTSIGN: return x / (1 + fabsf(x));
    case EXP: return expf(x);
    case EXP2: return exp2f(x);
    case SQRT: return sqrtf(x);
    case ABS: return fabsf(x);
    case ERF: return erff(x);
    case SQUARE: return x * x;
    case SIGN: return (float)((x > 0) - (x < 0));
    case FLOOR: return floorf(x);
    case CEIL: return ceilf(x);
    case ROUND: return roundf(x);
    case ATAN: return atanf(x);
    case SIN: return sinf(x);
    case COS: return cosf(x);
    case RSQRT: return 1 / sqrtf(x + p);
    case LOG: return x + p == 0 ? -45440.0f : logf(x + p);
    case INVERSE: return x + p == 0 ? INFINITY : 1 / (x + p);
    case GELU: return gelu(e, o, x);
    case LEAKY: return x < 0 ? p * x : x;
    case ELU: return x < 0 ? p * expm1f(x) : x;
    case CLIP: return fminf(fmaxf(x, p), q);
    default: return x;
    }
}

static void run_unary(aa_exec *e, const exec_op *o) {
    const float *x = aa__exec_arg(e, o->op, "x");
    const size_t n = (size_t)aa_mil_elements(aa__exec_result(e, o, 0));
    const float alpha = (float)aa_mil_arg_number(e->f, o->op, "alpha", 1);
    const float p = (float)aa_mil_arg_number(e->f, o->op, "epsilon", 0);
    const float q = (float)aa_mil_arg_number(e->f, o->op, "beta", 0);
    const bool first = aa_mil_arg_find(o->op, "alpha") != NULL;
    for (size_t i = 0; i < n; i++) o->out[0][i] = unary(e, o, x[i], first ? alpha : p, q);
    aa__exec_store(o->out[0], n);
}

/* ---- two operands ---------------------------------------------------------------------------- */

enum { ADD, SUB, MUL, DIV, MAX, MIN, POW, FLOOR_DIV, EQ, NE, GT, GE, LT, LE };

#define EACH(expr) for (size_t i = 0; i < n; i++) { \
    const float x = a[i * da], y = b[i * db]; c[i] = (expr); } break

/* n places of a row; a step of 0 repeats one number. */
static void binary_row(int which, float *c, const float *a, size_t da, const float *b, size_t db,
                       size_t n) {
    switch (which) {
    case ADD: EACH(x + y);
    case SUB: EACH(x - y);
    case MUL: EACH(x * y);
    case DIV: EACH(y == 0 && x != 0 ? copysignf(INFINITY, x) : x / y);
    case MAX: EACH(fmaxf(x, y));
    case MIN: EACH(fminf(x, y));
    case POW: EACH(powf(x, y));
    case FLOOR_DIV: EACH(floorf(x / y));
    case EQ: EACH((float)(x == y));
    case NE: EACH((float)(x != y));
    case GT: EACH((float)(x > y));
    case GE: EACH((float)(x >= y));
    case LT: EACH((float)(x < y));
    default: EACH((float)(x <= y));
    }
}

/* Distances in t between neighbours on each axis of the result; 0 where t has one place. */
static void steps_of(const aa_mil_type *result, const aa_mil_type *t,
                     size_t step[AA_MIL_MAX_RANK]) {
    size_t s = 1;
    for (int d = result->rank - 1, k = t->rank - 1; d >= 0; d--, k--) {
        step[d] = k < 0 || t->dim[k] == 1 ? 0 : s;
        if (k >= 0) s *= (size_t)t->dim[k];
    }
}

/* Where row `row` of the result begins in t. */
static size_t row_at(const aa_mil_type *result, const size_t *step, size_t row) {
    size_t at = 0;
    for (int d = result->rank - 2; d >= 0; d--) {
        at += row % (size_t)result->dim[d] * step[d];
        row /= (size_t)result->dim[d];
    }
    return at;
}

static bool whole(const aa_mil_type *r, const aa_mil_type *t) {
    return aa_mil_elements(r) == aa_mil_elements(t);
}

static void run_binary(aa_exec *e, const exec_op *o) {
    const aa_mil_type *tx = aa__exec_type(e, o->op, "x"), *ty = aa__exec_type(e, o->op, "y");
    const aa_mil_type *r = aa__exec_result(e, o, 0);
    const float *x = aa__exec_arg(e, o->op, "x"), *y = aa__exec_arg(e, o->op, "y");
    const size_t all = (size_t)aa_mil_elements(r), one = 1;
    size_t sx[AA_MIL_MAX_RANK], sy[AA_MIL_MAX_RANK];
    const bool flat = (whole(r, tx) || aa_mil_elements(tx) == 1) &&
                      (whole(r, ty) || aa_mil_elements(ty) == 1);
    if (flat || r->rank == 0) {
        binary_row(o->row->which, o->out[0], x, whole(r, tx) ? one : 0, y,
                   whole(r, ty) ? one : 0, all);
    } else {
        const size_t n = (size_t)r->dim[r->rank - 1];
        steps_of(r, tx, sx);
        steps_of(r, ty, sy);
        for (size_t row = 0; row < all / n; row++)
            binary_row(o->row->which, o->out[0] + row * n, x + row_at(r, sx, row),
                       sx[r->rank - 1], y + row_at(r, sy, row), sy[r->rank - 1], n);
    }
    aa__exec_store(o->out[0], all);
}

static void run_select(aa_exec *e, const exec_op *o) {
    static const char *const keys[] = { "cond", "a", "b" };
    const aa_mil_type *r = aa__exec_result(e, o, 0);
    const size_t all = (size_t)aa_mil_elements(r), n = r->rank ? (size_t)r->dim[r->rank - 1] : 1;
    size_t step[3][AA_MIL_MAX_RANK] = { { 0 } };
    const float *v[3];
    for (int k = 0; k < 3; k++) {
        v[k] = aa__exec_arg(e, o->op, keys[k]);
        steps_of(r, aa__exec_type(e, o->op, keys[k]), step[k]);
    }
    for (size_t i = 0; i < all; i++) {
        size_t at[3];
        for (int k = 0; k < 3; k++)
            at[k] = row_at(r, step[k], i / n) + (r->rank ? i % n * step[k][r->rank - 1] : 0);
        o->out[0][i] = v[0][at[0]] != 0 ? v[1][at[1]] : v[2][at[2]];
    }
}

/* ---- along axes ------------------------------------------------------------------------------ */

enum { SUM, MEAN, HIGH, LOW, SUM_SQUARE, L2, LOG_SUM_EXP };

/* The axis as the middle of [outer, n, inner]. */
static void around(const aa_mil_type *t, int axis, size_t *outer, size_t *n, size_t *inner) {
    *outer = *inner = 1;
    *n = (size_t)t->dim[axis];
    for (int i = 0; i < axis; i++) *outer *= (size_t)t->dim[i];
    for (int i = axis + 1; i < t->rank; i++) *inner *= (size_t)t->dim[i];
}

static int axis_of(const aa_exec *e, const exec_op *o, int rank, int other) {
    const int axis = (int)aa_mil_arg_number(e->f, o->op, "axis", other);
    return axis < 0 ? axis + rank : axis;
}

static float reduced_pair(const aa_exec *e, int which, float a, float x) {
    switch (which) {
    case HIGH: return fmaxf(a, x);
    case LOW: return fminf(a, x);
    case SUM: case MEAN:
        return e->mode == AA_EXEC_FAITHFUL ? aa__exec_half(a + x) : a + x;
    default: return a + x * x;
    }
}

/* Each place of the result gathers its own, in ascending order of the operand. */
static void run_reduce(aa_exec *e, const exec_op *o) {
    const aa_mil_type *t = aa__exec_type(e, o->op, "x");
    const float *x = aa__exec_arg(e, o->op, "x");
    const size_t all = (size_t)aa_mil_elements(t);
    const size_t n = (size_t)aa_mil_elements(aa__exec_result(e, o, 0));
    const int which = o->row->which;
    int64_t axes[2 * AA_MIL_MAX_RANK];
    size_t step[AA_MIL_MAX_RANK] = { 0 }, s = 1;
    bool in[AA_MIL_MAX_RANK];
    float *y = o->out[0];
    const int n_axes = aa_mil_arg_ints(e->f, o->op, "axes", 2 * AA_MIL_MAX_RANK, axes);
    for (int i = 0; i < t->rank; i++) in[i] = n_axes == 0;
    for (int i = 0; i < n_axes; i++) in[axes[i] < 0 ? axes[i] + t->rank : axes[i]] = true;
    for (int d = t->rank - 1; d >= 0; d--)
        if (!in[d]) {
            step[d] = s;
            s *= (size_t)t->dim[d];
        }
    const float start = which == HIGH || which == LOG_SUM_EXP ? -INFINITY
                      : which == LOW ? INFINITY : 0;
    for (size_t i = 0; i < n; i++) y[i] = start;
    for (size_t i = 0; i < all; i++) {
        size_t at = 0, rest = i;
        for (int d = t->rank - 1; d >= 0; d--) {
            at += rest % (size_t)t->dim[d] * step[d];
            rest /= (size_t)t->dim[d];
        }
        if (which != LOG_SUM_EXP) y[at] = reduced_pair(e, which, y[at], x[i]);
        else if (x[i] > y[at]) y[at] = x[i] + log1pf(expf(y[at] - x[i]));
        else if (x[i] > -INFINITY) y[at] += log1pf(expf(x[i] - y[at]));
    }
    for (size_t i = 0; i < n && (which == MEAN || which == L2); i++)
        y[i] = which == MEAN ? y[i] / (float)(all / n) : sqrtf(y[i]);
    aa__exec_store(y, n);
}

static void run_arg(aa_exec *e, const exec_op *o) {
    const aa_mil_type *t = aa__exec_type(e, o->op, "x");
    const float *x = aa__exec_arg(e, o->op, "x");
    size_t outer, n, inner;
    around(t, axis_of(e, o, t->rank, -1), &outer, &n, &inner);
    for (size_t i = 0; i < outer * inner; i++) {
        const float *row = x + i / inner * n * inner + i % inner;
        size_t best = 0;
        for (size_t k = 1; k < n; k++)
            if (o->row->which ? row[k * inner] < row[best * inner]
                              : row[k * inner] > row[best * inner])
                best = k;
        o->out[0][i] = (float)best;
    }
}

static void run_softmax(aa_exec *e, const exec_op *o) {
    const aa_mil_type *t = aa__exec_type(e, o->op, "x");
    const float *x = aa__exec_arg(e, o->op, "x");
    size_t outer, n, inner;
    around(t, axis_of(e, o, t->rank, -1), &outer, &n, &inner);
    for (size_t i = 0; i < outer * inner; i++) {
        const size_t at = i / inner * n * inner + i % inner;
        float high = -INFINITY, sum = 0;
        for (size_t k = 0; k < n; k++) high = fmaxf(high, x[at + k * inner]);
        for (size_t k = 0; k < n; k++) {
            const float v = high == -INFINITY ? 0 : expf(x[at + k * inner] - high);
            o->out[0][at + k * inner] = v;
            sum += v;
        }
        for (size_t k = 0; k < n; k++)
            o->out[0][at + k * inner] = sum > 0 ? o->out[0][at + k * inner] / sum : 0;
    }
    aa__exec_store(o->out[0], (size_t)aa_mil_elements(t));
}

const exec_row aa__exec_pointwise[] = {
#define UNARY(kind, which) { kind, run_unary, which, NULL }
    UNARY("identity", IDENTITY), UNARY("relu", RELU), UNARY("sigmoid", SIGMOID),
    UNARY("tanh", TANH), UNARY("silu", SILU), UNARY("softplus", SOFTPLUS),
    UNARY("softsign", SOFTSIGN), UNARY("exp", EXP), UNARY("exp2", EXP2), UNARY("sqrt", SQRT),
    UNARY("abs", ABS), UNARY("erf", ERF), UNARY("square", SQUARE), UNARY("sign", SIGN),
    UNARY("floor", FLOOR), UNARY("ceil", CEIL), UNARY("round", ROUND), UNARY("atan", ATAN),
    UNARY("sin", SIN), UNARY("cos", COS), UNARY("rsqrt", RSQRT), UNARY("log", LOG),
    UNARY("inverse", INVERSE), UNARY("gelu", GELU), UNARY("leaky_relu", LEAKY), UNARY("elu", ELU),
    UNARY("clip", CLIP),
#define BINARY(kind, which) { kind, run_binary, which, NULL }
    BINARY("add", ADD), BINARY("sub", SUB), BINARY("mul", MUL), BINARY("real_div", DIV),
    BINARY("maximum", MAX), BINARY("minimum", MIN), BINARY("pow", POW),
    BINARY("floor_div", FLOOR_DIV), BINARY("equal", EQ), BINARY("not_equal", NE),
    BINARY("greater", GT), BINARY("greater_equal", GE), BINARY("less", LT),
    BINARY("less_equal", LE), { "select", run_select, 0, NULL },
#define REDUCE(kind, which) { kind, run_reduce, which, NULL }
    REDUCE("reduce_sum", SUM), REDUCE("reduce_mean", MEAN), REDUCE("reduce_max", HIGH),
    REDUCE("reduce_min", LOW), REDUCE("reduce_sum_square", SUM_SQUARE),
    REDUCE("reduce_l2_norm", L2), REDUCE("reduce_log_sum_exp", LOG_SUM_EXP),
    { "reduce_argmax", run_arg, 0, NULL }, { "reduce_argmin", run_arg, 1, NULL },
    { "softmax", run_softmax, 0, NULL }, { NULL, NULL, 0, NULL } };
