/* Types of results from arguments, one rule per kind of operation (column rule of mil_ops.def). */
#include <stdio.h>
#include <string.h>
#include "ane/mil_int.h"

typedef struct work {
    const aa_mil_func *f;
    const aa_mil_op *op;
    int n;                               /* results: in what is declared, out */
    aa_mil_type *out;
    aa_err *err;
} work;

#define BAD(w, ...) return aa_fail((w)->err, AA_EFORMAT, __VA_ARGS__)

static const aa_mil_type *type_of(const work *w, const char *key) {
    const aa_mil_arg *a = aa_mil_arg_find(w->op, key);
    if (!a) return NULL;
    return a->literal ? &a->literal->type : &w->f->vars[a->var[0]].type;
}

static void shape_text(const aa_mil_type *t, char out[160]) {
    aa_text text = { 0 };
    aa_mil_type_text(t, false, &text);
    (void)snprintf(out, 160, "%s", text.data ? text.data : "?");
    aa_text_release(&text);
}

/* ---- arguments ------------------------------------------------------------------------------- */

static bool kind_ok(const work *w, const aa_mil_arg *a, char kind) {
    if (kind == 'L') return !a->literal;            /* one variable is a tuple of one */
    if (a->tuple) return false;
    if (kind == 'T' || kind == 'V') return true;
    const aa_mil_literal *l = a->literal ? a->literal : w->f->vars[a->var[0]].constant;
    if (!l) return false;
    if (kind == 's') return l->kind == AA_MIL_TEXT;
    if (l->kind != AA_MIL_NUMBERS || (kind != 'f' && aa__mil_real(l->type.dtype))) return false;
    return kind == 'I' || kind == 'B' ? l->type.rank <= 1 : l->n == 1;
}

static const char *kind_text(char kind) {
    switch (kind) {
    case 'L': return "a tuple of variables";
    case 's': return "a constant text";
    case 'I': case 'B': return "a constant list of whole numbers";
    case 'f': return "a constant scalar";
    default: return "a constant scalar, whole or boolean";
    }
}

/* Each argument against its word in the row, each word that must be there against the arguments. */
static aa_status arguments(const work *w) {
    const aa_mil_row *row = w->op->row;
    int known = 0;
    for (const char *s = row->args; *s;) {
        char key[64];
        size_t n = strcspn(s, ":");
        (void)snprintf(key, sizeof key, "%.*s", (int)n, s);
        char kind = s[n + 1], tail = s[n + 2];
        const aa_mil_arg *a = aa_mil_arg_find(w->op, key);
        if (!a && tail != '?' && tail != '!')
            BAD(w, "'%s' needs the argument '%s'", row->kind, key);
        if (a && !kind_ok(w, a, kind))
            BAD(w, "argument '%s' of '%s' must be %s", key, row->kind, kind_text(kind));
        known += a != NULL;
        s += n + 2;
        s += strspn(s, "?! ");
    }
    for (int i = 0; known < w->op->n_args && i < w->op->n_args; i++) {
        char pattern[AA_MIL_MAX_NAME + 4], words[512];
        (void)snprintf(pattern, sizeof pattern, " %s:", w->op->args[i].key);
        (void)snprintf(words, sizeof words, " %s", row->args);
        if (!strstr(words, pattern))
            BAD(w, "'%s' has no argument '%.60s'; it takes %s", row->kind, w->op->args[i].key,
                row->args);
    }
    return AA_OK;
}

/* The integers of an argument, which must be n (0: any) and in least..most. */
static aa_status ints(const work *w, const char *key, int want, int64_t least, int64_t most,
                      int64_t *out, int *n) {
    *n = aa_mil_arg_ints(w->f, w->op, key, 2 * AA_MIL_MAX_RANK, out);
    if (*n == 0 || (want && *n != want))
        BAD(w, "'%s' of '%s' has %d numbers, not %d", key, w->op->row->kind, *n, want);
    for (int i = 0; i < *n; i++)
        if (out[i] < least || out[i] > most)
            BAD(w, "'%s' of '%s' holds %lld, allowed are %lld to %lld", key, w->op->row->kind,
                (long long)out[i], (long long)least, (long long)most);
    return AA_OK;
}

static aa_status axis_of(const work *w, int rank, int64_t other, int *out) {
    double v = aa_mil_arg_number(w->f, w->op, "axis", (double)other);
    if (v < -rank || v >= rank)
        BAD(w, "axis %g of '%s' is none of a tensor of rank %d", v, w->op->row->kind, rank);
    *out = (int)v < 0 ? (int)v + rank : (int)v;
    return AA_OK;
}

/* A set of axes as flags; without the argument all of them. */
static aa_status axes_of(const work *w, int rank, bool *in) {
    int64_t axes[2 * AA_MIL_MAX_RANK];
    int n;
    if (!aa_mil_arg_find(w->op, "axes")) {
        for (int i = 0; i < rank; i++) in[i] = true;
        return AA_OK;
    }
    AA_TRY(ints(w, "axes", 0, -rank, rank - 1, axes, &n));
    for (int i = 0; i < rank; i++) in[i] = false;
    for (int i = 0; i < n; i++) in[axes[i] < 0 ? axes[i] + rank : axes[i]] = true;
    return AA_OK;
}

static aa_status one(work *w, aa_mil_type t) {
    t.buffer = false;
    t.scalar = t.scalar && t.rank == 0;
    if (!aa__mil_fits(&t))
        BAD(w, "'%s' gives more than 2^40 elements", w->op->row->kind);
    w->out[0] = t;
    w->n = 1;
    return AA_OK;
}

/* ---- rules ----------------------------------------------------------------------------------- */

static aa_status rule_CONST(work *w) {
    const aa_mil_literal *l = w->op->args[0].literal;
    if (!l) BAD(w, "'val' of 'const' must be a literal");
    return one(w, l->type);
}

static aa_status rule_SAME(work *w) {
    const aa_mil_type *x = type_of(w, "x");
    int axis;
    if (aa_mil_arg_find(w->op, "axis")) AA_TRY(axis_of(w, x->rank, -1, &axis));
    return one(w, *x);
}

/* NumPy's rule: axes from the right, equal or 1. */
static aa_status broadcast(const work *w, aa_mil_type *a, const aa_mil_type *b) {
    aa_mil_type t = { .dtype = a->dtype, .rank = a->rank > b->rank ? a->rank : b->rank };
    t.scalar = a->scalar && b->scalar;
    for (int i = 0; i < t.rank; i++) {
        int ia = i - (t.rank - a->rank), ib = i - (t.rank - b->rank);
        int64_t da = ia < 0 ? 1 : a->dim[ia], db = ib < 0 ? 1 : b->dim[ib];
        if (da != db && da != 1 && db != 1) {
            char ta[160], tb[160];
            shape_text(a, ta);
            shape_text(b, tb);
            BAD(w, "'%s' of %s and %s: axis %d is %lld and %lld", w->op->row->kind, ta, tb, i,
                (long long)da, (long long)db);
        }
        t.dim[i] = da > db ? da : db;
    }
    *a = t;
    return AA_OK;
}

static aa_status rule_BROADCAST(work *w) {
    aa_mil_type t = *type_of(w, "x");
    const aa_mil_type *y = type_of(w, "y");
    if (t.dtype != y->dtype)
        BAD(w, "'%s' of %s and %s: both must be of one type", w->op->row->kind,
            aa_mil_dtype_name(t.dtype), aa_mil_dtype_name(y->dtype));
    AA_TRY(broadcast(w, &t, y));
    return one(w, t);
}

static aa_status rule_COMPARE(work *w) {
    AA_TRY(rule_BROADCAST(w));
    w->out[0].dtype = AA_MIL_BOOL;
    return AA_OK;
}

static aa_status rule_SELECT(work *w) {
    aa_mil_type t = *type_of(w, "a");
    const aa_mil_type *b = type_of(w, "b"), *cond = type_of(w, "cond");
    if (cond->dtype != AA_MIL_BOOL || b->dtype != t.dtype)
        BAD(w, "'select' needs a boolean cond, and a and b of one type");
    AA_TRY(broadcast(w, &t, b));
    AA_TRY(broadcast(w, &t, cond));
    return one(w, t);
}

static aa_status rule_MATMUL(work *w) {
    aa_mil_type x = *type_of(w, "x"), y = *type_of(w, "y");
    bool tx = aa_mil_arg_number(w->f, w->op, "transpose_x", 0) != 0;
    bool ty = aa_mil_arg_number(w->f, w->op, "transpose_y", 0) != 0;
    if (x.rank < 2 || y.rank < 2) BAD(w, "'matmul' needs operands of rank 2 and more");
    if (x.dtype != y.dtype) BAD(w, "'matmul' needs operands of one type");
    int64_t m = x.dim[x.rank - (tx ? 1 : 2)], k = x.dim[x.rank - (tx ? 2 : 1)];
    int64_t k2 = y.dim[y.rank - (ty ? 1 : 2)], n = y.dim[y.rank - (ty ? 2 : 1)];
    if (k != k2)
        BAD(w, "'matmul' sums over %lld places of x and %lld of y", (long long)k, (long long)k2);
    aa_mil_type a = x, b = y;
    a.rank -= 2;
    b.rank -= 2;
    AA_TRY(broadcast(w, &a, &b));
    a.scalar = false;
    a.dim[a.rank++] = m;
    a.dim[a.rank++] = n;
    return one(w, a);
}

/* x [..., K] by weight [N, K]. */
static aa_status rule_LINEAR(work *w) {
    aa_mil_type t = *type_of(w, "x");
    const aa_mil_type *weight = type_of(w, "weight"), *bias = type_of(w, "bias");
    if (t.rank < 1 || weight->rank != 2 || weight->dim[1] != t.dim[t.rank - 1])
        BAD(w, "'linear' needs weight [N, K] and x [..., K]");
    if (bias && (bias->rank != 1 || bias->dim[0] != weight->dim[0]))
        BAD(w, "'linear' needs bias [N], the first axis of weight");
    t.dim[t.rank - 1] = weight->dim[0];
    return one(w, t);
}

/* One axis of a convolution: how many places its kernel has. */
static int64_t places(int64_t n, int64_t kernel, int64_t stride, int64_t dilation, int64_t before,
                      int64_t after) {
    int64_t reach = (kernel - 1) * dilation + 1;
    return n + before + after < reach ? 0 : (n + before + after - reach) / stride + 1;
}

static bool pad_type_ok(const char *mode) {
    static const char *const known[] = { "valid", "same", "same_lower", "custom" };
    for (int i = 0; i < 4; i++)
        if (strcmp(mode, known[i]) == 0) return true;
    return false;
}

static aa_status rule_CONV(work *w) {
    aa_mil_type t = *type_of(w, "x");
    const aa_mil_type *k = type_of(w, "weight"), *bias = type_of(w, "bias");
    int64_t groups = (int64_t)aa_mil_arg_number(w->f, w->op, "groups", 1);
    const char *mode = aa_mil_arg_text(w->f, w->op, "pad_type", "valid");
    int spatial = t.rank - 2, n;
    int64_t stride[10] = { 1, 1, 1 }, dilation[10] = { 1, 1, 1 }, pad[10] = { 0 };
    if (spatial < 1 || spatial > 3 || k->rank != t.rank)
        BAD(w, "'conv' needs x [N, C, ...] and weight [Cout, C/groups, ...] of one rank, 3 to 5");
    if (groups < 1 || t.dim[1] % groups || k->dim[0] % groups || k->dim[1] != t.dim[1] / groups)
        BAD(w, "'conv': %lld channels in %lld groups meet a weight for %lld each",
            (long long)t.dim[1], (long long)groups, (long long)k->dim[1]);
    if (bias && (bias->rank != 1 || bias->dim[0] != k->dim[0]))
        BAD(w, "'conv' needs bias [Cout], the first axis of weight");
    if (aa_mil_arg_find(w->op, "strides"))
        AA_TRY(ints(w, "strides", spatial, 1, 1 << 20, stride, &n));
    if (aa_mil_arg_find(w->op, "dilations"))
        AA_TRY(ints(w, "dilations", spatial, 1, 1 << 20, dilation, &n));
    if (mode[0] == 'c') AA_TRY(ints(w, "pad", 2 * spatial, 0, 1 << 20, pad, &n));
    if (!pad_type_ok(mode))
        BAD(w, "'conv' has no pad_type '%.20s': valid, same, same_lower or custom", mode);
    t.dim[1] = k->dim[0];
    for (int i = 0; i < spatial; i++) {
        t.dim[2 + i] = mode[0] == 's'
            ? (t.dim[2 + i] + stride[i] - 1) / stride[i]
            : places(t.dim[2 + i], k->dim[2 + i], stride[i], dilation[i], pad[2 * i],
                     pad[2 * i + 1]);
        if (t.dim[2 + i] < 1) BAD(w, "'conv': the kernel is larger than axis %d of x", 2 + i);
    }
    return one(w, t);
}

/* A result without the axes that in names, or with 1 in their place. */
static aa_status reduced(work *w, aa_mil_type t, const bool *in, bool keep) {
    int n = 0;
    for (int i = 0; i < t.rank; i++)
        if (!in[i] || keep) t.dim[n++] = in[i] ? 1 : t.dim[i];
    t.rank = n;
    return one(w, t);
}

static aa_status rule_REDUCE(work *w) {
    bool in[AA_MIL_MAX_RANK];
    const aa_mil_type *x = type_of(w, "x");
    AA_TRY(axes_of(w, x->rank, in));
    return reduced(w, *x, in, aa_mil_arg_number(w->f, w->op, "keep_dims", 0) != 0);
}

static aa_status rule_ARG(work *w) {
    bool in[AA_MIL_MAX_RANK] = { false };
    aa_mil_type t = *type_of(w, "x");
    int axis;
    AA_TRY(axis_of(w, t.rank, -1, &axis));
    in[axis] = true;
    t.dtype = strcmp(aa_mil_arg_text(w->f, w->op, "output_dtype", "int32"), "uint16") == 0
        ? AA_MIL_UINT16 : AA_MIL_INT32;
    return reduced(w, t, in, aa_mil_arg_number(w->f, w->op, "keep_dims", 0) != 0);
}

static aa_status rule_RESHAPE(work *w) {
    aa_mil_type x = *type_of(w, "x"), t = { .dtype = x.dtype };
    int64_t shape[2 * AA_MIL_MAX_RANK], known = 1;
    int n, open = -1;
    AA_TRY(ints(w, "shape", 0, -1, AA_MIL_MAX_ELEMENTS, shape, &n));
    if (n > AA_MIL_MAX_RANK) BAD(w, "'reshape' to rank %d, more than %d", n, AA_MIL_MAX_RANK);
    for (int i = 0; i < n; i++) {
        if (shape[i] == 0) shape[i] = i < x.rank ? x.dim[i] : 1;
        if (shape[i] == -1 && open >= 0) BAD(w, "'reshape' with two axes of -1");
        if (shape[i] == -1) open = i;
        else if (known > AA_MIL_MAX_ELEMENTS / shape[i]) BAD(w, "'reshape' to over 2^40 elements");
        else known *= shape[i];
        t.dim[i] = shape[i];
    }
    t.rank = n;
    if (open >= 0) t.dim[open] = aa_mil_elements(&x) / known;
    if (t.dim[open < 0 ? 0 : open] < 1 || aa_mil_elements(&t) != aa_mil_elements(&x))
        BAD(w, "'reshape' of %lld elements to a shape of %lld", (long long)aa_mil_elements(&x),
            (long long)aa_mil_elements(&t));
    return one(w, t);
}

static aa_status rule_TRANSPOSE(work *w) {
    const aa_mil_type *x = type_of(w, "x");
    aa_mil_type t = *x;
    int64_t perm[2 * AA_MIL_MAX_RANK];
    bool seen[AA_MIL_MAX_RANK] = { false };
    int n;
    AA_TRY(ints(w, "perm", x->rank, -x->rank, x->rank - 1, perm, &n));
    for (int i = 0; i < n; i++) {
        int64_t from = perm[i] < 0 ? perm[i] + n : perm[i];
        if (seen[from]) BAD(w, "'transpose' names axis %lld twice", (long long)from);
        seen[from] = true;
        t.dim[i] = x->dim[from];
    }
    return one(w, t);
}

static aa_status rule_SLICE_SIZE(work *w) {
    aa_mil_type t = *type_of(w, "x");
    int64_t begin[2 * AA_MIL_MAX_RANK], size[2 * AA_MIL_MAX_RANK];
    int n;
    AA_TRY(ints(w, "begin", t.rank, 0, AA_MIL_MAX_ELEMENTS, begin, &n));
    AA_TRY(ints(w, "size", t.rank, -1, AA_MIL_MAX_ELEMENTS, size, &n));
    for (int i = 0; i < n; i++) {
        int64_t d = size[i] == -1 ? t.dim[i] - begin[i] : size[i];
        if (d < 1 || begin[i] + d > t.dim[i])
            BAD(w, "'slice_by_size' of %lld from %lld on axis %d, which has %lld", (long long)d,
                (long long)begin[i], i, (long long)t.dim[i]);
        t.dim[i] = d;
    }
    return one(w, t);
}

static aa_status rule_SLICE_INDEX(work *w) {
    enum { M = 2 * AA_MIL_MAX_RANK };
    aa_mil_type t = *type_of(w, "x");
    int64_t begin[M], end[M], stride[M], open_b[M] = { 0 }, open_e[M] = { 0 }, drop[M] = { 0 };
    bool in[AA_MIL_MAX_RANK] = { false };
    int n;
    AA_TRY(ints(w, "begin", t.rank, -AA_MIL_MAX_ELEMENTS, AA_MIL_MAX_ELEMENTS, begin, &n));
    AA_TRY(ints(w, "end", t.rank, -AA_MIL_MAX_ELEMENTS, AA_MIL_MAX_ELEMENTS, end, &n));
    for (int i = 0; i < M; i++) stride[i] = 1;
    if (aa_mil_arg_find(w->op, "stride"))
        AA_TRY(ints(w, "stride", t.rank, 1, AA_MIL_MAX_ELEMENTS, stride, &n));
    (void)aa_mil_arg_ints(w->f, w->op, "begin_mask", M, open_b);
    (void)aa_mil_arg_ints(w->f, w->op, "end_mask", M, open_e);
    (void)aa_mil_arg_ints(w->f, w->op, "squeeze_mask", M, drop);
    for (int i = 0; i < t.rank; i++) {
        int64_t b = open_b[i] ? 0 : begin[i] < 0 ? begin[i] + t.dim[i] : begin[i];
        int64_t e = open_e[i] ? t.dim[i] : end[i] < 0 ? end[i] + t.dim[i] : end[i];
        if (drop[i]) e = b + 1;
        if (b < 0 || e > t.dim[i] || b >= e)
            BAD(w, "'slice_by_index' from %lld to %lld on axis %d, which has %lld", (long long)b,
                (long long)e, i, (long long)t.dim[i]);
        t.dim[i] = (e - b + stride[i] - 1) / stride[i];
        in[i] = drop[i] != 0;
    }
    return reduced(w, t, in, false);
}

static aa_status parts_agree(const work *w, const aa_mil_arg *a, const aa_mil_type *t, int axis) {
    for (int i = 0; i < a->n_vars; i++) {
        aa_mil_type other = w->f->vars[a->var[i]].type;
        if (other.rank == t->rank && axis >= 0) other.dim[axis] = t->dim[axis];
        if (!aa_mil_type_equal(&other, t))
            BAD(w, "'%s': part %d has another type or shape than part 0", w->op->row->kind, i);
    }
    return AA_OK;
}

static aa_status rule_CONCAT(work *w) {
    const aa_mil_arg *a = aa_mil_arg_find(w->op, "values");
    aa_mil_type t = w->f->vars[a->var[0]].type;
    int64_t sum = 0;
    int axis;
    AA_TRY(axis_of(w, t.rank, 0, &axis));
    AA_TRY(parts_agree(w, a, &t, axis));
    for (int i = 0; i < a->n_vars; i++) sum += w->f->vars[a->var[i]].type.dim[axis];
    t.dim[axis] = sum;
    return one(w, t);
}

static void insert(aa_mil_type *t, int axis, int64_t d) {
    for (int i = t->rank++; i > axis; i--) t->dim[i] = t->dim[i - 1];
    t->dim[axis] = d;
}

static aa_status rule_STACK(work *w) {
    const aa_mil_arg *a = aa_mil_arg_find(w->op, "values");
    aa_mil_type t = w->f->vars[a->var[0]].type;
    int axis;
    if (t.rank == AA_MIL_MAX_RANK) BAD(w, "'stack' to a rank of more than %d", AA_MIL_MAX_RANK);
    AA_TRY(axis_of(w, t.rank + 1, 0, &axis));
    AA_TRY(parts_agree(w, a, &t, -1));
    insert(&t, axis, a->n_vars);
    return one(w, t);
}

static aa_status rule_SPLIT(work *w) {
    aa_mil_type t = *type_of(w, "x");
    int64_t size[AA_MIL_MAX_RESULTS], sum = 0;
    int axis, n;
    AA_TRY(axis_of(w, t.rank, 0, &axis));
    n = aa_mil_arg_ints(w->f, w->op, "split_sizes", AA_MIL_MAX_RESULTS, size);
    if (n == 0) {
        double parts = aa_mil_arg_number(w->f, w->op, "num_splits", 0);
        if (parts < 1 || parts > AA_MIL_MAX_RESULTS || t.dim[axis] % (int)parts)
            BAD(w, "'split' of %lld places into %g parts", (long long)t.dim[axis], parts);
        n = (int)parts;
        for (int i = 0; i < n; i++) size[i] = t.dim[axis] / n;
    }
    for (int i = 0; i < n; i++) {
        if (size[i] < 1 || size[i] > t.dim[axis]) BAD(w, "'split' with a part of no places");
        sum += size[i];
        w->out[i] = t;
        w->out[i].buffer = false;
        w->out[i].dim[axis] = size[i];
    }
    if (sum != t.dim[axis])
        BAD(w, "'split': the parts have %lld places, x has %lld", (long long)sum,
            (long long)t.dim[axis]);
    w->n = n;
    return AA_OK;
}

static aa_status rule_EXPAND(work *w) {
    aa_mil_type t = *type_of(w, "x");
    int64_t axes[2 * AA_MIL_MAX_RANK];
    int n;
    AA_TRY(ints(w, "axes", 0, -AA_MIL_MAX_RANK, AA_MIL_MAX_RANK - 1, axes, &n));
    int rank = t.rank + n;
    if (rank > AA_MIL_MAX_RANK) BAD(w, "'expand_dims' to a rank of more than %d", AA_MIL_MAX_RANK);
    for (int at = 0; at < rank; at++)
        for (int i = 0; i < n; i++)
            if ((axes[i] < 0 ? axes[i] + rank : axes[i]) == at) {
                if (at > t.rank) BAD(w, "'expand_dims' at axis %d of rank %d", at, rank);
                insert(&t, at, 1);
                break;
            }
    if (t.rank != rank) BAD(w, "'expand_dims' names an axis twice, or none of %d", rank);
    t.scalar = false;
    return one(w, t);
}

static aa_status rule_SQUEEZE(work *w) {
    bool in[AA_MIL_MAX_RANK];
    const aa_mil_type *x = type_of(w, "x");
    AA_TRY(axes_of(w, x->rank, in));
    bool all = !aa_mil_arg_find(w->op, "axes");
    for (int i = 0; i < x->rank; i++) {
        if (all) in[i] = x->dim[i] == 1;
        if (in[i] && x->dim[i] != 1)
            BAD(w, "'squeeze' of axis %d, which has %lld places", i, (long long)x->dim[i]);
    }
    return reduced(w, *x, in, false);
}

static aa_status rule_TILE(work *w) {
    aa_mil_type t = *type_of(w, "x");
    int64_t reps[2 * AA_MIL_MAX_RANK];
    int n;
    AA_TRY(ints(w, "reps", t.rank, 1, 1 << 20, reps, &n));
    for (int i = 0; i < n; i++) {
        if (t.dim[i] > AA_MIL_MAX_ELEMENTS / reps[i]) BAD(w, "'tile' to over 2^40 elements");
        t.dim[i] *= reps[i];
    }
    return one(w, t);
}

/* pad has two numbers for each of the last axes it covers. */
static aa_status rule_PAD(work *w) {
    aa_mil_type t = *type_of(w, "x");
    int64_t pad[2 * AA_MIL_MAX_RANK];
    int n;
    AA_TRY(ints(w, "pad", 0, 0, 1 << 30, pad, &n));
    if (n % 2 || n / 2 > t.rank)
        BAD(w, "'pad' needs two numbers for each of up to %d axes", t.rank);
    for (int i = 0; i < n / 2; i++) t.dim[t.rank - n / 2 + i] += pad[2 * i] + pad[2 * i + 1];
    return one(w, t);
}

static bool dtype_named(const char *s, aa_mil_dtype *out) {
    for (int i = 0; i < AA_MIL_DTYPE_COUNT; i++)
        if (strcmp(aa_mil_dtype_name((aa_mil_dtype)i), s) == 0) {
            *out = (aa_mil_dtype)i;
            return true;
        }
    return false;
}

static aa_status rule_CAST(work *w) {
    aa_mil_type t = *type_of(w, "x");
    const char *to = aa_mil_arg_text(w->f, w->op, "dtype", "");
    if (!dtype_named(to, &t.dtype)) BAD(w, "'cast' to '%.20s', which is no type", to);
    return one(w, t);
}

/* Scales are one for all, one per place of an axis, or one per block of each axis. */
static aa_status blocks(const work *w, const char *key, const aa_mil_type *t) {
    const aa_mil_type *s = type_of(w, key);
    if (!s || aa_mil_elements(s) == 1) return AA_OK;
    bool ok = s->rank == t->rank;
    for (int d = 0; d < t->rank && ok; d++) ok = t->dim[d] % s->dim[d] == 0;
    if (!ok && s->rank == 1) {
        int axis;
        AA_TRY(axis_of(w, t->rank, 0, &axis));
        ok = s->dim[0] == t->dim[axis];
    }
    if (!ok) BAD(w, "'%s' of '%s' fits no axis and no blocks of the input", key, w->op->row->kind);
    return AA_OK;
}

static aa_status rule_QUANTIZE(work *w) {
    aa_mil_type t = *type_of(w, "input");
    const char *to = aa_mil_arg_text(w->f, w->op, "output_dtype", "");
    AA_TRY(blocks(w, "scale", &t));
    AA_TRY(blocks(w, "zero_point", &t));
    if (!dtype_named(to, &t.dtype) || (t.dtype != AA_MIL_INT8 && t.dtype != AA_MIL_UINT8))
        BAD(w, "'quantize' to '%.20s': int8 or uint8", to);
    return one(w, t);
}

/* Integers and scales become the type of the scales. */
static aa_status rule_DEQUANTIZE(work *w) {
    const char *key = strchr(w->op->row->args, ':');
    char input[32];
    (void)snprintf(input, sizeof input, "%.*s", (int)(key - w->op->row->args), w->op->row->args);
    aa_mil_type t = *type_of(w, input);
    AA_TRY(blocks(w, "scale", &t));
    AA_TRY(blocks(w, "zero_point", &t));
    AA_TRY(blocks(w, "offset", &t));
    t.dtype = type_of(w, "scale")->dtype;
    return one(w, t);
}

/* indices [d...] and lut [g..., entries, 1] (ios18); or packed indices, a flat lut, the shape. */
static aa_status rule_LUT(work *w) {
    aa_mil_type t = *type_of(w, "indices");
    const aa_mil_type *lut = type_of(w, "lut");
    if (aa_mil_arg_find(w->op, "shape")) {
        int64_t shape[2 * AA_MIL_MAX_RANK];
        int n;
        AA_TRY(ints(w, "shape", 0, 1, 1 << 30, shape, &n));
        if (n > AA_MIL_MAX_RANK) BAD(w, "'constexpr_lut_to_dense' to rank %d", n);
        t = aa_mil_tensor(lut->dtype, n, shape);
    }
    bool ok = lut->rank == 1 || lut->rank == t.rank + 2;
    for (int d = 0; d < t.rank && lut->rank > 1 && ok; d++) ok = t.dim[d] % lut->dim[d] == 0;
    if (!ok) BAD(w, "'constexpr_lut_to_dense' needs one lut, or one [..., entries, 1] per block");
    t.dtype = lut->dtype;
    return one(w, t);
}

static aa_status rule_SDPA(work *w) {
    aa_mil_type q = *type_of(w, "query");
    const aa_mil_type *k = type_of(w, "key"), *v = type_of(w, "value");
    int r = q.rank;
    if (r < 3 || k->rank != r || v->rank != r || k->dim[r - 1] != q.dim[r - 1] ||
        v->dim[r - 2] != k->dim[r - 2])
        BAD(w, "'scaled_dot_product_attention' needs query [..., L, E], key [..., S, E], value "
            "[..., S, EV]");
    for (int d = 0; d < r - 2; d++)
        if (k->dim[d] != v->dim[d] || q.dim[d] % k->dim[d] ||
            (d < r - 3 && q.dim[d] != k->dim[d]))
            BAD(w, "'scaled_dot_product_attention': axis %d is %lld, %lld and %lld", d,
                (long long)q.dim[d], (long long)k->dim[d], (long long)v->dim[d]);
    q.dim[r - 1] = v->dim[r - 1];
    return one(w, q);
}

static aa_status rule_GATHER(work *w) {
    aa_mil_type t = *type_of(w, "x"), out = t;
    const aa_mil_type *i = type_of(w, "indices");
    int axis, n = 0;
    if (aa_mil_arg_number(w->f, w->op, "batch_dims", 0) != 0)
        BAD(w, "'gather' with batch_dims is not supported");
    AA_TRY(axis_of(w, t.rank, 0, &axis));
    if (t.rank - 1 + i->rank > AA_MIL_MAX_RANK) BAD(w, "'gather' to a rank of more than 5");
    for (int d = 0; d < axis; d++) out.dim[n++] = t.dim[d];
    for (int d = 0; d < i->rank; d++) out.dim[n++] = i->dim[d];
    for (int d = axis + 1; d < t.rank; d++) out.dim[n++] = t.dim[d];
    out.rank = n;
    return one(w, out);
}

static aa_status rule_BUFFER(work *w) { return one(w, *type_of(w, "input")); }

static aa_status rule_EXPLICIT(work *w) {
    w->n = 0;
    return AA_OK;
}

aa_status aa_mil_infer(const aa_mil_func *f, const aa_mil_op *op, int *n_out, aa_mil_type *out,
                       aa_err *err) {
    static aa_status (*const rules[])(work *) = {
#define R(name) rule_##name,
        AA_MIL_RULES(R)
#undef R
    };
    work w = { .f = f, .op = op, .n = *n_out, .out = out, .err = err };
    AA_TRY(arguments(&w));
    AA_TRY(rules[op->row->rule](&w));
    *n_out = w.n;
    return AA_OK;
}
