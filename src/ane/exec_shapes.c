/* Operations that move values, small integers, and attention as one operation. */
#include <math.h>
#include <string.h>
#include "ane/exec_int.h"

static void run_copy(aa_exec *e, const exec_op *o) {
    const char *key = aa_mil_arg_find(o->op, "x") ? "x" : "input";
    memcpy(o->out[0], aa__exec_arg(e, o->op, key),
           (size_t)aa_mil_elements(aa__exec_result(e, o, 0)) * sizeof(float));
}

/* y[i...] = x[offset + sum i_d * step_d], the innermost axis as a row. */
static void gather_strided(float *y, const aa_mil_type *r, const float *x, const int64_t *step) {
    const size_t n = r->rank ? (size_t)r->dim[r->rank - 1] : 1;
    const size_t rows = (size_t)aa_mil_elements(r) / n;
    const int64_t inner = r->rank ? step[r->rank - 1] : 1;
    for (size_t row = 0; row < rows; row++) {
        size_t rest = row;
        int64_t at = 0;
        for (int d = r->rank - 2; d >= 0; d--) {
            at += (int64_t)(rest % (size_t)r->dim[d]) * step[d];
            rest /= (size_t)r->dim[d];
        }
        if (inner == 1) memcpy(y + row * n, x + at, n * sizeof *y);
        else for (size_t i = 0; i < n; i++) y[row * n + i] = x[at + (int64_t)i * inner];
    }
}

static void strides(const aa_mil_type *t, int64_t step[AA_MIL_MAX_RANK]) {
    int64_t s = 1;
    for (int d = t->rank - 1; d >= 0; d--) {
        step[d] = s;
        s *= t->dim[d];
    }
}

static void run_transpose(aa_exec *e, const exec_op *o) {
    const aa_mil_type *t = aa__exec_type(e, o->op, "x");
    int64_t perm[2 * AA_MIL_MAX_RANK], step[AA_MIL_MAX_RANK], to[AA_MIL_MAX_RANK] = { 0 };
    strides(t, step);
    (void)aa_mil_arg_ints(e->f, o->op, "perm", 2 * AA_MIL_MAX_RANK, perm);
    for (int d = 0; d < t->rank; d++) to[d] = step[perm[d] < 0 ? perm[d] + t->rank : perm[d]];
    gather_strided(o->out[0], aa__exec_result(e, o, 0), aa__exec_arg(e, o->op, "x"), to);
}

/* Up to M2 a slice from inside the last axis passes a fixed-point multiplication by 16. */
static void slice_gain(const aa_exec *e, const exec_op *o, int64_t begin) {
    const size_t n = (size_t)aa_mil_elements(aa__exec_result(e, o, 0));
    if (e->mode != AA_EXEC_FAITHFUL || e->chip->generation > 2 || begin == 0) return;
    for (size_t i = 0; i < n; i++)
        if (fabsf(o->out[0][i]) > 4094) o->out[0][i] = copysignf(INFINITY, o->out[0][i]);
}

static void run_slice_size(aa_exec *e, const exec_op *o) {
    const aa_mil_type *t = aa__exec_type(e, o->op, "x");
    int64_t begin[2 * AA_MIL_MAX_RANK], step[AA_MIL_MAX_RANK], at = 0;
    strides(t, step);
    const int n = aa_mil_arg_ints(e->f, o->op, "begin", 2 * AA_MIL_MAX_RANK, begin);
    for (int d = 0; d < n; d++) at += begin[d] * step[d];
    gather_strided(o->out[0], aa__exec_result(e, o, 0), aa__exec_arg(e, o->op, "x") + at, step);
    slice_gain(e, o, begin[n - 1]);
}

static void run_slice_index(aa_exec *e, const exec_op *o) {
    enum { M = 2 * AA_MIL_MAX_RANK };
    const aa_mil_type *t = aa__exec_type(e, o->op, "x");
    int64_t begin[M], by[M], open[M] = { 0 }, drop[M] = { 0 }, step[AA_MIL_MAX_RANK], at = 0;
    int64_t kept[AA_MIL_MAX_RANK] = { 0 };
    int n = 0;
    strides(t, step);
    for (int i = 0; i < M; i++) by[i] = 1;
    (void)aa_mil_arg_ints(e->f, o->op, "begin", M, begin);
    (void)aa_mil_arg_ints(e->f, o->op, "stride", M, by);
    (void)aa_mil_arg_ints(e->f, o->op, "begin_mask", M, open);
    (void)aa_mil_arg_ints(e->f, o->op, "squeeze_mask", M, drop);
    for (int d = 0; d < t->rank; d++) {
        if (open[d]) begin[d] = 0;
        if (begin[d] < 0) begin[d] += t->dim[d];
        at += begin[d] * step[d];
        if (!drop[d]) kept[n++] = step[d] * by[d];
    }
    gather_strided(o->out[0], aa__exec_result(e, o, 0), aa__exec_arg(e, o->op, "x") + at, kept);
    slice_gain(e, o, t->rank ? begin[t->rank - 1] : 0);
}

/* ---- parts ----------------------------------------------------------------------------------- */

static int axis_of(const aa_exec *e, const exec_op *o, int rank) {
    const int axis = (int)aa_mil_arg_number(e->f, o->op, "axis", 0);
    return axis < 0 ? axis + rank : axis;
}

/* Places in front of an axis, and in all behind it with it. */
static size_t outer_of(const aa_mil_type *t, int axis) {
    size_t n = 1;
    for (int i = 0; i < axis; i++) n *= (size_t)t->dim[i];
    return n;
}

static void run_concat(aa_exec *e, const exec_op *o) {
    const aa_mil_type *r = aa__exec_result(e, o, 0);
    const aa_mil_arg *a = aa_mil_arg_find(o->op, "values");
    const int axis = axis_of(e, o, r->rank);
    const size_t outer = outer_of(r, axis), row = (size_t)aa_mil_elements(r) / outer;
    size_t at = 0;
    for (int k = 0; k < a->n_vars; k++) {
        const size_t n = (size_t)aa_mil_elements(&e->f->vars[a->var[k]].type) / outer;
        for (size_t i = 0; i < outer; i++)
            memcpy(o->out[0] + i * row + at, e->value[a->var[k]] + i * n, n * sizeof(float));
        at += n;
    }
}

/* Parts alternate place by place on the axis. */
static void run_interleaved(aa_exec *e, const exec_op *o) {
    const aa_mil_type *r = aa__exec_result(e, o, 0);
    const aa_mil_arg *a = aa_mil_arg_find(o->op, "values");
    const int axis = axis_of(e, o, r->rank);
    const size_t parts = (size_t)a->n_vars, outer = outer_of(r, axis);
    const size_t n = (size_t)r->dim[axis] / parts, inner = outer_of(r, r->rank) / outer / n / parts;
    for (size_t i = 0; i < outer * n; i++)
        for (size_t k = 0; k < parts; k++)
            memcpy(o->out[0] + (i * parts + k) * inner, e->value[a->var[k]] + i * inner,
                   inner * sizeof(float));
}

static void run_concat_any(aa_exec *e, const exec_op *o) {
    if (aa_mil_arg_number(e->f, o->op, "interleave", 0) != 0) run_interleaved(e, o);
    else run_concat(e, o);
}

static void run_split(aa_exec *e, const exec_op *o) {
    const aa_mil_type *t = aa__exec_type(e, o->op, "x");
    const float *x = aa__exec_arg(e, o->op, "x");
    const size_t outer = outer_of(t, axis_of(e, o, t->rank));
    const size_t row = (size_t)aa_mil_elements(t) / outer;
    size_t at = 0;
    for (int k = 0; k < o->op->n_results; k++) {
        const size_t n = (size_t)aa_mil_elements(aa__exec_result(e, o, k)) / outer;
        for (size_t i = 0; i < outer; i++)
            memcpy(o->out[k] + i * n, x + i * row + at, n * sizeof *x);
        at += n;
    }
}

static void run_tile(aa_exec *e, const exec_op *o) {
    const aa_mil_type *t = aa__exec_type(e, o->op, "x"), *r = aa__exec_result(e, o, 0);
    const float *x = aa__exec_arg(e, o->op, "x");
    int64_t step[AA_MIL_MAX_RANK];
    strides(t, step);
    for (size_t i = 0; i < (size_t)aa_mil_elements(r); i++) {
        size_t rest = i, at = 0;
        for (int d = r->rank - 1; d >= 0; d--) {
            at += rest % (size_t)r->dim[d] % (size_t)t->dim[d] * (size_t)step[d];
            rest /= (size_t)r->dim[d];
        }
        o->out[0][i] = x[at];
    }
}

static void run_pad(aa_exec *e, const exec_op *o) {
    const aa_mil_type *t = aa__exec_type(e, o->op, "x"), *r = aa__exec_result(e, o, 0);
    const float *x = aa__exec_arg(e, o->op, "x");
    const float fill = (float)aa_mil_arg_number(e->f, o->op, "constant_val", 0);
    int64_t pad[2 * AA_MIL_MAX_RANK], step[AA_MIL_MAX_RANK];
    const int first = t->rank - aa_mil_arg_ints(e->f, o->op, "pad", 2 * AA_MIL_MAX_RANK, pad) / 2;
    strides(t, step);
    for (size_t i = 0; i < (size_t)aa_mil_elements(r); i++) {
        size_t rest = i;
        int64_t at = 0;
        bool in = true;
        for (int d = r->rank - 1; d >= 0; d--) {
            const int64_t place = (int64_t)(rest % (size_t)r->dim[d]) -
                                  (d >= first ? pad[2 * (d - first)] : 0);
            in = in && place >= 0 && place < t->dim[d];
            at += place * step[d];
            rest /= (size_t)r->dim[d];
        }
        o->out[0][i] = in ? x[at] : fill;
    }
}

/* Indices outside are clamped: the engine has no way to refuse. */
static void run_gather(aa_exec *e, const exec_op *o) {
    const aa_mil_type *t = aa__exec_type(e, o->op, "x");
    const float *x = aa__exec_arg(e, o->op, "x"), *at = aa__exec_arg(e, o->op, "indices");
    const size_t m = (size_t)aa_mil_elements(aa__exec_type(e, o->op, "indices"));
    const int axis = axis_of(e, o, t->rank);
    const size_t outer = outer_of(t, axis), n = (size_t)t->dim[axis];
    const size_t inner = outer_of(t, t->rank) / outer / n;
    for (size_t i = 0; i < outer; i++)
        for (size_t k = 0; k < m; k++) {
            float v = at[k] < 0 ? at[k] + (float)n : at[k];
            v = fminf(fmaxf(v, 0), (float)(n - 1));
            memcpy(o->out[0] + (i * m + k) * inner, x + (i * n + (size_t)v) * inner,
                   inner * sizeof *x);
        }
}

/* ---- types and small integers ---------------------------------------------------------------- */

static void run_cast(aa_exec *e, const exec_op *o) {
    const aa_mil_type *r = aa__exec_result(e, o, 0);
    const float *x = aa__exec_arg(e, o->op, "x");
    const size_t n = (size_t)aa_mil_elements(r);
    const bool real = r->dtype == AA_MIL_FP16 || r->dtype == AA_MIL_FP32;
    for (size_t i = 0; i < n; i++)
        o->out[0][i] = real ? x[i] : r->dtype == AA_MIL_BOOL ? (float)(x[i] != 0) : truncf(x[i]);
    if (real) aa__exec_store(o->out[0], n);
}

/* A scale or zero point: one for all, one per place of axis, or one per block of each axis. */
static float at_block(const float *p, const aa_mil_type *tp, const aa_mil_type *t, int axis,
                      size_t i) {
    if (!p) return 0;
    if (aa_mil_elements(tp) == 1) return p[0];
    size_t at = 0, step = 1;
    for (int d = t->rank - 1, k = tp->rank - 1; d >= 0; d--) {
        const size_t place = i % (size_t)t->dim[d];
        i /= (size_t)t->dim[d];
        if (tp->rank == t->rank) {
            at += place / (size_t)(t->dim[d] / tp->dim[k]) * step;
            step *= (size_t)tp->dim[k--];
        } else if (d == axis) {
            at = place;
        }
    }
    return p[at];
}

typedef struct keys { const char *input, *scale, *zero; } keys;
static const keys of_kind[] = { { "input", "scale", "zero_point" },
                                { "quantized_data", "scale", "zero_point" },
                                { "data", "scale", "offset" } };

static void run_dequantize(aa_exec *e, const exec_op *o) {
    const keys *k = &of_kind[o->row->which];
    const aa_mil_type *t = aa__exec_type(e, o->op, k->input);
    const aa_mil_type *ts = aa__exec_type(e, o->op, k->scale);
    const float *x = aa__exec_arg(e, o->op, k->input), *s = aa__exec_arg(e, o->op, k->scale);
    const float *z = aa__exec_arg(e, o->op, k->zero);
    const aa_mil_type *tz = z ? aa__exec_type(e, o->op, k->zero) : NULL;
    const int axis = axis_of(e, o, t->rank);
    const size_t n = (size_t)aa_mil_elements(t);
    for (size_t i = 0; i < n; i++)
        o->out[0][i] = (x[i] - at_block(z, tz, t, axis, i)) * at_block(s, ts, t, axis, i);
    aa__exec_store(o->out[0], n);
}

static void run_quantize(aa_exec *e, const exec_op *o) {
    const aa_mil_type *t = aa__exec_type(e, o->op, "input"), *r = aa__exec_result(e, o, 0);
    const aa_mil_type *ts = aa__exec_type(e, o->op, "scale");
    const float *x = aa__exec_arg(e, o->op, "input"), *s = aa__exec_arg(e, o->op, "scale");
    const float *z = aa__exec_arg(e, o->op, "zero_point");
    const aa_mil_type *tz = z ? aa__exec_type(e, o->op, "zero_point") : NULL;
    const bool is_signed = r->dtype == AA_MIL_INT8;
    const float low = is_signed ? -128 : 0, high = is_signed ? 127 : 255;
    const int axis = axis_of(e, o, t->rank);
    for (size_t i = 0; i < (size_t)aa_mil_elements(t); i++) {
        const float v = rintf(x[i] / at_block(s, ts, t, axis, i)) + at_block(z, tz, t, axis, i);
        o->out[0][i] = fminf(fmaxf(v, low), high);
    }
}

/* lut [g..., entries, 1]: a table per block of each axis; or one flat table. */
static void run_lut(aa_exec *e, const exec_op *o) {
    const aa_mil_type *t = aa__exec_result(e, o, 0), *tl = aa__exec_type(e, o->op, "lut");
    const float *index = aa__exec_arg(e, o->op, "indices"), *lut = aa__exec_arg(e, o->op, "lut");
    const size_t entries = (size_t)(tl->rank == 1 ? tl->dim[0] : tl->dim[tl->rank - 2]);
    for (size_t i = 0; i < (size_t)aa_mil_elements(t); i++) {
        size_t rest = i, table = 0, step = 1;
        for (int d = t->rank - 1; d >= 0 && tl->rank == t->rank + 2; d--) {
            const size_t place = rest % (size_t)t->dim[d];
            rest /= (size_t)t->dim[d];
            table += place / (size_t)(t->dim[d] / tl->dim[d]) * step;
            step *= (size_t)tl->dim[d];
        }
        const size_t at = (size_t)fminf(fmaxf(index[i], 0), (float)(entries - 1));
        o->out[0][i] = lut[table * entries + at];
    }
}

/* ---- attention ------------------------------------------------------------------------------- */

/* softmax(q k^T / sqrt(E)) v. The engine ignores the mask (C22), and so does this. */
static void run_attention(aa_exec *e, const exec_op *o) {
    const aa_mil_type *tq = aa__exec_type(e, o->op, "query"), *tk = aa__exec_type(e, o->op, "key");
    const aa_mil_type *tv = aa__exec_type(e, o->op, "value");
    const float *q = aa__exec_arg(e, o->op, "query"), *k = aa__exec_arg(e, o->op, "key");
    const float *v = aa__exec_arg(e, o->op, "value");
    const int r = tq->rank;
    const size_t L = (size_t)tq->dim[r - 2], E = (size_t)tq->dim[r - 1];
    const size_t S = (size_t)tk->dim[r - 2], D = (size_t)tv->dim[r - 1];
    const size_t heads = (size_t)aa_mil_elements(tq) / (L * E);
    const size_t group = heads / ((size_t)aa_mil_elements(tk) / (S * E));
    float *p = e->scratch;
    for (size_t h = 0; h < heads; h++)
        for (size_t i = 0; i < L; i++) {
            float high = -INFINITY, sum = 0;
            for (size_t j = 0; j < S; j++) {
                float s = 0;
                for (size_t d = 0; d < E; d++)
                    s += q[(h * L + i) * E + d] * k[(h / group * S + j) * E + d];
                p[j] = aa__exec_half(s / sqrtf((float)E));
                high = fmaxf(high, p[j]);
            }
            for (size_t j = 0; j < S; j++) sum += p[j] = expf(p[j] - high);
            for (size_t d = 0; d < D; d++) {
                float s = 0;
                for (size_t j = 0; j < S; j++) s += p[j] / sum * v[(h / group * S + j) * D + d];
                o->out[0][(h * L + i) * D + d] = s;
            }
        }
    aa__exec_store(o->out[0], heads * L * D);
}

static size_t attention_scratch(const aa_exec *e, const aa_mil_op *op) {
    const aa_mil_type *k = aa__exec_type(e, op, "key");
    return (size_t)k->dim[k->rank - 2];
}

const exec_row aa__exec_shapes[] = {
    { "reshape", run_copy, 0, NULL }, { "expand_dims", run_copy, 0, NULL },
    { "squeeze", run_copy, 0, NULL }, { "tensor_buffer_to_tensor", run_copy, 0, NULL },
    { "tensor_to_tensor_buffer", run_copy, 0, NULL }, { "transpose", run_transpose, 0, NULL },
    { "slice_by_size", run_slice_size, 0, NULL }, { "slice_by_index", run_slice_index, 0, NULL },
    { "concat", run_concat_any, 0, NULL }, { "stack", run_interleaved, 0, NULL },
    { "split", run_split, 0, NULL }, { "tile", run_tile, 0, NULL }, { "pad", run_pad, 0, NULL },
    { "gather", run_gather, 0, NULL }, { "cast", run_cast, 0, NULL },
    { "quantize", run_quantize, 0, NULL }, { "dequantize", run_dequantize, 0, NULL },
    { "constexpr_affine_dequantize", run_dequantize, 1, NULL },
    { "constexpr_blockwise_shift_scale", run_dequantize, 2, NULL },
    { "constexpr_lut_to_dense", run_lut, 0, NULL },
    { "scaled_dot_product_attention", run_attention, 0, attention_scratch },
    { NULL, NULL, 0, NULL } };
