/* Products: sums of products of two operands, rounded once. */
#include <math.h>
#include <string.h>
#include "ane/exec_int.h"

/* From here on a sum of two products and more is infinite, interior ones included. */
#define CEILING 32768.0f

static void finish(float *y, size_t n, size_t terms) {
    for (size_t i = 0; terms > 1 && i < n; i++)
        y[i] = fabsf(y[i]) >= CEILING ? copysignf(INFINITY, y[i]) : y[i];
    aa__exec_store(y, n);
}

/* Subnormals are lost on their way into products of the first two generations. */
static float operand(const aa_exec *e, float x) {
    return e->chip->generation <= 2 && fabsf(x) < 0x1p-14f ? 0 : x;
}

/* One sum as the engine takes it: fours in binary16, these in a float. */
static float sum_of(const aa_exec *e, const float *a, size_t da, const float *b, size_t db,
                    size_t K) {
    float sum = 0;
    for (size_t k = 0; k < K; k += 4) {
        float four = 0;
        for (size_t i = k; i < k + 4 && i < K; i++)
            four = aa__exec_half(four + aa__exec_half(operand(e, a[i * da]) *
                                                      operand(e, b[i * db])));
        sum += four;
        if (K > 1 && fabsf(sum) >= CEILING) return copysignf(INFINITY, sum);
    }
    return sum;
}

/* c[M,N] = a b; a is [M,K] or, transposed, [K,M]; b is [K,N] or [N,K]. */
typedef struct product {
    const float *a, *b;
    size_t M, N, K;
    bool ta, tb;
} product;

static void multiply(aa_exec *e, float *c, const product *p) {
    const float *a = p->a;
    if (e->mode == AA_EXEC_FAITHFUL) {
        for (size_t i = 0; i < p->M; i++)
            for (size_t j = 0; j < p->N; j++)
                c[i * p->N + j] = sum_of(e, p->ta ? a + i : a + i * p->K, p->ta ? p->M : 1,
                                         p->tb ? p->b + j * p->K : p->b + j, p->tb ? 1 : p->N,
                                         p->K);
    } else {
        if (p->ta) {
            for (size_t k = 0; k < p->K; k++)
                for (size_t i = 0; i < p->M; i++) e->scratch[i * p->K + k] = a[k * p->M + i];
            a = e->scratch;
        }
        aa_gemm(e->cpu, c, p->N, a, p->K, p->b, p->tb ? p->K : p->N, p->tb, p->M, p->N, p->K,
                false);
    }
    finish(c, p->M * p->N, p->K);
}

/* Which matrix of an operand number i of the result needs: axes before the last two broadcast. */
static size_t matrix_of(const aa_mil_type *result, const aa_mil_type *t, size_t i) {
    size_t at = 0, step = 1;
    for (int d = result->rank - 3, s = t->rank - 3; d >= 0; d--, s--) {
        const size_t place = i % (size_t)result->dim[d];
        i /= (size_t)result->dim[d];
        if (s < 0) continue;
        at += (t->dim[s] == 1 ? 0 : place) * step;
        step *= (size_t)t->dim[s];
    }
    return at;
}

static void run_matmul(aa_exec *e, const exec_op *o) {
    const aa_mil_type *x = aa__exec_type(e, o->op, "x"), *y = aa__exec_type(e, o->op, "y");
    const aa_mil_type *r = aa__exec_result(e, o, 0);
    const float *a = aa__exec_arg(e, o->op, "x"), *b = aa__exec_arg(e, o->op, "y");
    product p = { .ta = aa_mil_arg_number(e->f, o->op, "transpose_x", 0) != 0,
                  .tb = aa_mil_arg_number(e->f, o->op, "transpose_y", 0) != 0,
                  .M = (size_t)r->dim[r->rank - 2], .N = (size_t)r->dim[r->rank - 1] };
    p.K = (size_t)x->dim[x->rank - (p.ta ? 2 : 1)];
    const size_t n = (size_t)aa_mil_elements(r) / (p.M * p.N);
    for (size_t i = 0; i < n; i++) {
        p.a = a + matrix_of(r, x, i) * p.M * p.K;
        p.b = b + matrix_of(r, y, i) * p.K * p.N;
        multiply(e, o->out[0] + i * p.M * p.N, &p);
    }
}

static size_t matmul_scratch(const aa_exec *e, const aa_mil_op *op) {
    if (aa_mil_arg_number(e->f, op, "transpose_x", 0) == 0) return 0;
    const aa_mil_type *x = aa__exec_type(e, op, "x");
    return (size_t)x->dim[x->rank - 1] * (size_t)x->dim[x->rank - 2];
}

/* rows of n, plus one number per row or per column. */
static void add_bias(float *y, const float *bias, size_t rows, size_t n, bool per_row) {
    if (!bias) return;
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < n; j++) y[i * n + j] += bias[per_row ? i : j];
    aa__exec_store(y, rows * n);
}

static void run_linear(aa_exec *e, const exec_op *o) {
    const aa_mil_type *w = aa__exec_type(e, o->op, "weight");
    const size_t N = (size_t)w->dim[0], K = (size_t)w->dim[1];
    const size_t M = (size_t)aa_mil_elements(aa__exec_result(e, o, 0)) / N;
    multiply(e, o->out[0], &(product){ .a = aa__exec_arg(e, o->op, "x"), .tb = true, .M = M, .N = N,
                                       .b = aa__exec_arg(e, o->op, "weight"), .K = K });
    add_bias(o->out[0], aa__exec_arg(e, o->op, "bias"), M, N, false);
}

/* ---- convolutions ---------------------------------------------------------------------------- */

typedef struct conv {
    size_t N, C, H, W, out, h, w, kh, kw, groups;    /* one spatial axis: H = h = kh = 1 */
    int64_t stride[2], dilation[2], pad[2];
} conv;

/* pad_type same centres; same_lower has the odd place in front. */
static int64_t pad_before(const conv *c, const char *mode, int axis) {
    const int64_t in = (int64_t)(axis ? c->W : c->H), k = (int64_t)(axis ? c->kw : c->kh);
    const int64_t places = (int64_t)(axis ? c->w : c->h);
    const int64_t all = (places - 1) * c->stride[axis] + (k - 1) * c->dilation[axis] + 1 - in;
    if (all <= 0) return 0;
    return strcmp(mode, "same_lower") == 0 ? (all + 1) / 2 : all / 2;
}

static conv conv_of(const aa_exec *e, const aa_mil_op *op) {
    const aa_mil_type *x = aa__exec_type(e, op, "x"), *k = aa__exec_type(e, op, "weight");
    const aa_mil_type *y = &e->f->vars[op->results[0]].type;
    const char *mode = aa_mil_arg_text(e->f, op, "pad_type", "valid");
    const int last = x->rank - 1, s = x->rank - 2;   /* of 1 or 2 spatial axes */
    int64_t pad[2 * AA_MIL_MAX_RANK] = { 0 }, v[AA_MIL_MAX_RANK];
    conv c = { .N = (size_t)x->dim[0], .C = (size_t)x->dim[1], .H = 1, .h = 1, .kh = 1,
               .W = (size_t)x->dim[last], .w = (size_t)y->dim[last], .kw = (size_t)k->dim[last],
               .out = (size_t)k->dim[0], .stride = { 1, 1 }, .dilation = { 1, 1 },
               .groups = (size_t)aa_mil_arg_number(e->f, op, "groups", 1) };
    if (s == 2) {
        c.H = (size_t)x->dim[2];
        c.h = (size_t)y->dim[2];
        c.kh = (size_t)k->dim[2];
    }
    if (aa_mil_arg_ints(e->f, op, "strides", s, v) == s) memcpy(c.stride + 2 - s, v, s * sizeof *v);
    if (aa_mil_arg_ints(e->f, op, "dilations", s, v) == s)
        memcpy(c.dilation + 2 - s, v, s * sizeof *v);
    if (mode[0] == 'c') {
        (void)aa_mil_arg_ints(e->f, op, "pad", 2 * s, pad);
        for (int i = 0; i < s; i++) c.pad[2 - s + i] = pad[2 * i];
    } else if (mode[0] == 's') {
        for (int i = 2 - s; i < 2; i++) c.pad[i] = pad_before(&c, mode, i);
    }
    return c;
}

static bool pointwise(const conv *c) {
    return c->kh == 1 && c->kw == 1 && c->groups == 1 && c->h == c->H && c->w == c->W &&
           c->pad[0] == 0 && c->pad[1] == 0;
}

static size_t conv_scratch(const aa_exec *e, const aa_mil_op *op) {
    const conv c = conv_of(e, op);
    return pointwise(&c) ? 0 : c.C / c.groups * c.kh * c.kw * c.h * c.w;
}

/* The places that each sum sees as columns: [C/groups kh kw, h w], zeros outside of x. */
static void unfold(float *columns, const float *x, const conv *c) {
    for (size_t i = 0; i < c->C / c->groups; i++)
        for (size_t ky = 0; ky < c->kh; ky++)
            for (size_t kx = 0; kx < c->kw; kx++)
                for (size_t py = 0; py < c->h; py++)
                    for (size_t px = 0; px < c->w; px++) {
                        const int64_t y = (int64_t)py * c->stride[0] - c->pad[0] +
                                          (int64_t)ky * c->dilation[0];
                        const int64_t z = (int64_t)px * c->stride[1] - c->pad[1] +
                                          (int64_t)kx * c->dilation[1];
                        const bool in = y >= 0 && y < (int64_t)c->H && z >= 0 &&
                                        z < (int64_t)c->W;
                        *columns++ = in ? x[(i * c->H + (size_t)y) * c->W + (size_t)z] : 0;
                    }
}

static void run_conv(aa_exec *e, const exec_op *o) {
    const conv c = conv_of(e, o->op);
    const float *x = aa__exec_arg(e, o->op, "x"), *w = aa__exec_arg(e, o->op, "weight");
    const size_t places = c.h * c.w, inner = c.C / c.groups, outer = c.out / c.groups;
    for (size_t n = 0; n < c.N; n++)
        for (size_t g = 0; g < c.groups; g++) {
            const float *in = x + (n * c.C + g * inner) * c.H * c.W;
            if (!pointwise(&c)) {
                unfold(e->scratch, in, &c);
                in = e->scratch;
            }
            multiply(e, o->out[0] + (n * c.out + g * outer) * places,
                     &(product){ .a = w + g * outer * inner * c.kh * c.kw, .b = in, .M = outer,
                                 .N = places, .K = inner * c.kh * c.kw });
        }
    for (size_t n = 0; n < c.N; n++)
        add_bias(o->out[0] + n * c.out * places, aa__exec_arg(e, o->op, "bias"), c.out, places,
                 true);
}

const exec_row aa__exec_products[] = {
    { "matmul", run_matmul, 0, matmul_scratch }, { "linear", run_linear, 0, NULL },
    { "conv", run_conv, 0, conv_scratch }, { NULL, NULL, 0, NULL } };
