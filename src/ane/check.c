#include "ane/check.h"
#include <stdarg.h>
#include <string.h>
#include "ane/blob.h"
#include "base/number.h"

static const aa_ane_chip chips[] = {
#define CHIP(...) { __VA_ARGS__ },
#include "ane/chips.def"
#undef CHIP
};
enum { N_CHIPS = sizeof chips / sizeof *chips };

const aa_ane_chip *aa_ane_chips(size_t *n) {
    *n = N_CHIPS;
    return chips;
}

aa_status aa_ane_chip_find(const aa_ane_chip **out, const char *name, aa_err *err) {
    char names[160] = "";
    size_t n = 0;
    for (size_t i = 0; i < N_CHIPS; i++) {
        if (strcmp(chips[i].name, name) == 0) {
            *out = &chips[i];
            return AA_OK;
        }
        n += (size_t)aa_number_print(names + n, sizeof names - n, i ? ", %s" : "%s",
                                     chips[i].name);
    }
    return aa_fail(err, AA_EUSAGE, "'%.40s' is no chip that is known; there are %s", name, names);
}

static const aa_ane_constraint constraints[] = {
#define K(number, kind, cause, sentence) { number, AA_ANE_##kind, #cause, sentence },
#include "ane/constraints.def"
#undef K
};
enum { N_CONSTRAINTS = sizeof constraints / sizeof *constraints };

const aa_ane_constraint *aa_ane_constraint_find(int number) {
    for (int i = 0; i < N_CONSTRAINTS; i++)
        if (constraints[i].number == number) return &constraints[i];
    return NULL;
}

void aa_ane_findings_release(aa_ane_findings *f) {
    aa_heap_free(f->data);
    *f = (aa_ane_findings){ 0 };
}

/* ---- findings -------------------------------------------------------------------------------- */

typedef struct look {
    aa_ane_findings *out;
    const aa_mil_program *p;
    const aa_mil_func *f;
    const aa_mil_op *op;                 /* NULL: a port */
    const aa_ane_chip *chip;
    aa_ane_profile profile;
    const aa_ane_files *files;
    bool failed;
} look;

static bool is_error(const look *l, aa_ane_kind kind) {
    if (kind == AA_ANE_RULE) return true;
    return l->profile == AA_ANE_STRICT && kind != AA_ANE_NUMERIC && kind != AA_ANE_SLOW;
}

AA_PRINTF(4, 5)
static void found(look *l, int number, const char *name, const char *fmt, ...) {
    aa_ane_findings *out = l->out;
    va_list args;
    if (out->n == out->room) {
        size_t room = out->room ? 2 * out->room : 16;
        aa_ane_finding *data = aa_heap_realloc(out->data, room, sizeof *data);
        if (!data) {
            l->failed = true;
            return;
        }
        out->data = data;
        out->room = room;
    }
    aa_ane_finding *f = &out->data[out->n++];
    *f = (aa_ane_finding){ .constraint = aa_ane_constraint_find(number),
                           .line = l->op ? l->op->line : l->f->line };
    f->error = is_error(l, f->constraint->kind);
    out->n_errors += f->error;
    (void)aa_number_print(f->where, sizeof f->where, "%.20s/%.40s", l->f->name, name);
    va_start(args, fmt);
    (void)aa_number_vprint(f->detail, sizeof f->detail, fmt, args);
    va_end(args);
}

static const aa_mil_type *type_of(const look *l, const char *key) {
    const aa_mil_arg *a = aa_mil_arg_find(l->op, key);
    if (!a) return NULL;
    return a->literal ? &a->literal->type : &l->f->vars[a->var[0]].type;
}

static const char *result_name(const look *l) { return l->f->vars[l->op->results[0]].name; }

static bool is(const look *l, const char *kind) { return strcmp(l->op->row->kind, kind) == 0; }

static bool is_constant(const look *l, const char *key) {
    return aa_mil_arg_constant(l->f, l->op, key) != NULL;
}

static bool is_input(const look *l, const char *key) {
    int v = aa_mil_arg_var(l->op, key);
    return v >= 0 && l->f->vars[v].op < 0;
}

/* The operation that makes an argument, NULL for inputs and literals. */
static const aa_mil_op *maker(const look *l, const char *key) {
    int v = aa_mil_arg_var(l->op, key);
    return v >= 0 && l->f->vars[v].op >= 0 ? &l->f->ops[l->f->vars[v].op] : NULL;
}

/* ---- ports ----------------------------------------------------------------------------------- */

static void one_port(look *l, const aa_mil_var *v) {
    static const char *const reserved[] = { "x", "y", "c", "var", "mean", "std", "eps", "diff",
                                            "add", "mul" };
    const aa_mil_type *t = &v->type;
    const int64_t last = t->rank ? t->dim[t->rank - 1] : 1;
    if (!t->buffer && aa_mil_port_bytes(t) != aa_mil_bytes(t))
        found(l, 1, v->name, "rows of %lld bytes lie 64-byte multiples apart: %llu bytes in all, "
              "not %llu", (long long)(last * aa_mil_dtype_bits(t->dtype) / 8),
              (unsigned long long)aa_mil_port_bytes(t), (unsigned long long)aa_mil_bytes(t));
    if (last * aa_mil_dtype_bits(t->dtype) / 8 % 64)
        found(l, 9, v->name, "the last axis has %lld places of %s", (long long)last,
              aa_mil_dtype_name(t->dtype));
    if (last == 1) found(l, 11, v->name, "a last axis of 1 takes 64 bytes for each number");
    if (t->dtype == AA_MIL_BF16 || t->dtype == AA_MIL_BOOL || t->dtype == AA_MIL_STRING ||
        aa_mil_dtype_bits(t->dtype) == 64 || aa_mil_dtype_bits(t->dtype) < 8 ||
        (t->dtype == AA_MIL_INT32 && l->chip->generation < 2) ||
        (t->dtype == AA_MIL_FP32 && l->profile >= AA_ANE_STRICT && l->profile != AA_ANE_SHUFFLED))
        found(l, 38, v->name, "a port of %s", aa_mil_dtype_name(t->dtype));
    for (size_t i = 0; i < sizeof reserved / sizeof *reserved; i++)
        if (strcmp(v->name, reserved[i]) == 0)
            found(l, 44, v->name, "'%s' is among the names reported as reserved", v->name);
}

static void inputs(look *l) {
    const aa_mil_func *f = l->f;
    for (int i = 0; i < f->n_inputs; i++) {
        one_port(l, &f->vars[i]);
        if (i == 0) continue;
        if (strcmp(f->vars[i - 1].name, f->vars[i].name) > 0)
            found(l, 3, f->vars[i].name, "it stands behind '%.40s'", f->vars[i - 1].name);
        if (aa_mil_port_bytes(&f->vars[i - 1].type) > aa_mil_port_bytes(&f->vars[i].type))
            found(l, 7, f->vars[i].name, "it is smaller than '%.40s' in front of it",
                  f->vars[i - 1].name);
    }
    if (f->n_inputs == 0 || f->n_inputs > 255)
        found(l, 20, f->name, "%d inputs; 1 to 255 are taken", f->n_inputs);
}

static void outputs(look *l) {
    const aa_mil_func *f = l->f;
    for (int i = 0; i < f->n_outputs; i++) {
        const aa_mil_var *v = &f->vars[f->outputs[i]];
        one_port(l, v);
        if (v->op < 0 || v->constant)
            found(l, 51, v->name, "%s is returned as it is", v->op < 0 ? "an input" : "a constant");
        for (int j = 0; j < i; j++)
            if (f->outputs[j] == f->outputs[i]) found(l, 51, v->name, "it is returned twice");
        if (i && strcmp(f->vars[f->outputs[i - 1]].name, v->name) > 0)
            found(l, 4, v->name, "it stands behind '%.40s'", f->vars[f->outputs[i - 1]].name);
    }
    if (f->n_outputs > 255) found(l, 20, f->name, "%d outputs; at most 255", f->n_outputs);
}

/* ---- weights --------------------------------------------------------------------------------- */

static void weight(look *l) {
    const aa_mil_literal *c = l->op->args[0].literal;
    aa_blob_entry e;
    aa_err err = { 0 };
    uint64_t size = 0;
    if (c->type.dtype == AA_MIL_BF16) found(l, 38, result_name(l), "a constant of bf16");
    if (c->kind != AA_MIL_BLOB) return;
    if (c->offset > AA_BLOB_ALIGN)
        found(l, 16, result_name(l), "its record is at %llu of '%.60s'",
              (unsigned long long)c->offset, c->text);
    if (!l->files) return;
    const void *file = l->files->find(l->files->ctx, c->text, &size);
    if (!file) found(l, 15, result_name(l), "there is no file '%.100s'", c->text);
    else if (aa_blob_tensor(&e, file, size, c->offset, &c->type, "", &err))
        found(l, strstr(err.message, "(C14)") ? 14 : 15, result_name(l), "%.120s", err.message);
}

/* ---- operations ------------------------------------------------------------------------------ */

static void arguments(look *l) {
    static const char *const binary[] = { "add", "sub", "mul", "real_div", "maximum", "minimum",
                                          "pow" };
    for (const char *s = l->op->row->args; *s;) {
        char key[64];
        size_t n = strcspn(s, ":");
        (void)aa_number_print(key, sizeof key, "%.*s", (int)n, s);
        if (s[n + 2] == '!' && !aa_mil_arg_find(l->op, key))
            found(l, 23, result_name(l), "'%s' without '%s'", l->op->row->kind, key);
        s += n + 2;
        s += strspn(s, "?! ");
    }
    bool operand = false;
    for (size_t i = 0; i < sizeof binary / sizeof *binary; i++) operand |= is(l, binary[i]);
    const char *keys[] = { operand ? "x" : "bias", operand ? "y" : "bias" };
    for (int i = 0; i < (operand ? 2 : 1); i++) {
        const aa_mil_literal *c = aa_mil_arg_constant(l->f, l->op, keys[i]);
        if (c && c->kind == AA_MIL_NUMBERS && c->n > 1 && c->type.dtype == AA_MIL_FP16)
            found(l, 24, result_name(l), "'%s' of '%s' is a tensor in the text", keys[i],
                  l->op->row->kind);
    }
}

static void availability(look *l) {
    const aa_mil_since since = l->op->row->since;
    if (since == AA_MIL_NO_PATH)
        found(l, 36, result_name(l), "'%s' runs on no engine", l->op->row->kind);
    else if ((since == AA_MIL_M2 && l->chip->generation < 2) ||
             (since == AA_MIL_M3 && l->chip->generation < 3))
        found(l, 36, result_name(l), "'%s' runs from M%d on, this is %s", l->op->row->kind,
              since == AA_MIL_M2 ? 2 : 3, l->chip->name);
}

/* Axes: N, C, then the spatial ones; of tensors of rank 2 the last is spatial. */
static void shapes(look *l) {
    const int64_t spatial = l->chip->generation < 4 ? 16384 : 65536;
    for (int r = 0; r < l->op->n_results; r++) {
        const aa_mil_var *v = &l->f->vars[l->op->results[r]];
        for (int i = 0; i < v->type.rank; i++) {
            const bool inner = i >= 2 || (i == 1 && v->type.rank == 2);
            const int64_t most = inner ? spatial : 65536;
            if (v->type.dim[i] <= most) continue;
            found(l, v->type.rank == 2 && l->chip->generation == 1 ? 45 : 31, v->name,
                  "axis %d has %lld places, at most %lld", i, (long long)v->type.dim[i],
                  (long long)most);
        }
        if ((double)aa_mil_bytes(&v->type) > l->chip->resident_mb * 1e6 && !v->constant)
            found(l, 57, v->name, "%.1f MB, %s keeps %.1f", (double)aa_mil_bytes(&v->type) / 1e6,
                  l->chip->name, l->chip->resident_mb);
        if (v->type.dtype == AA_MIL_BF16 && !v->constant)
            found(l, 38, v->name, "a tensor of bf16");
    }
}

static void wide(look *l, int64_t n) {
    if (n == 4096 || n >= 5120) found(l, 49, result_name(l), "sums of %lld", (long long)n);
}

static void matmul(look *l) {
    const aa_mil_type *x = type_of(l, "x"), *y = type_of(l, "y");
    const bool tx = aa_mil_arg_number(l->f, l->op, "transpose_x", 0) != 0;
    const bool ty = aa_mil_arg_number(l->f, l->op, "transpose_y", 0) != 0;
    const int64_t m = x->dim[x->rank - (tx ? 1 : 2)], k = x->dim[x->rank - (tx ? 2 : 1)];
    if (is_constant(l, "y") && !ty && l->chip->generation <= 2)
        found(l, 27, result_name(l), "y is constant and not transposed");
    if (is_constant(l, "y") && m == 128 && k == 8192)
        found(l, 28, result_name(l), "128 rows, sums of 8192");
    if (x->rank > 4 || y->rank > 4)
        found(l, 29, result_name(l), "operands of rank %d and %d", x->rank, y->rank);
    for (int i = 1; i <= 2 && x->rank == 4 && y->rank == 4; i++)
        if (x->dim[2 - i] != y->dim[2 - i])
            found(l, 29, result_name(l), "batches of %lld and %lld", (long long)x->dim[2 - i],
                  (long long)y->dim[2 - i]);
    if (k % 32 && (is_input(l, "x") || is_input(l, "y")))
        found(l, 10, result_name(l), "sums of %lld", (long long)k);
    wide(l, k);
}

static void conv(look *l) {
    const aa_mil_type *x = type_of(l, "x"), *w = type_of(l, "weight");
    const bool constant = is_constant(l, "weight") ||
        (maker(l, "weight") && strncmp(maker(l, "weight")->row->kind, "constexpr", 9) == 0);
    const int64_t width = w->dim[w->rank - 1], c = x->dim[1];
    const double groups = aa_mil_arg_number(l->f, l->op, "groups", 1);
    if (aa_mil_arg_find(l->op, "bias")) {
        const aa_mil_literal *bias = aa_mil_arg_constant(l->f, l->op, "bias");
        found(l, 25, result_name(l), bias && bias->kind == AA_MIL_BLOB
              ? "a bias from a weight file" : "a bias that is in no weight file");
    }
    if (!constant && (x->dim[0] > 1 || groups > 1))
        found(l, 30, result_name(l), "batch %lld, %g groups", (long long)x->dim[0], groups);
    if (!constant && x->dim[0] >= 64)
        found(l, 55, result_name(l), "batch %lld", (long long)x->dim[0]);
    if (width > (l->chip->generation == 1 ? 13 : 15))
        found(l, 32, result_name(l), "a kernel %lld wide", (long long)width);
    if (c >= 32000) found(l, 46, result_name(l), "%lld input channels", (long long)c);
    if (c % 64 || w->dim[0] % 64)
        found(l, 48, result_name(l), "%lld to %lld channels", (long long)c, (long long)w->dim[0]);
    wide(l, c);
}

static void shape_ops(look *l) {
    int64_t v[2 * AA_MIL_MAX_RANK];
    const aa_mil_type *x = type_of(l, "x");
    if (is(l, "transpose"))
        for (int i = 0; i < x->rank; i++)
            if (x->dim[i] > (l->chip->generation < 4 ? 16384 : 65536))
                found(l, 33, result_name(l), "axis %d has %lld places", i, (long long)x->dim[i]);
    if (is(l, "tile")) {
        int n = aa_mil_arg_ints(l->f, l->op, "reps", 2 * AA_MIL_MAX_RANK, v);
        for (int i = 0; i < n; i++)
            if (!(v[i] >= 1 && v[i] <= 4) && v[i] != 8)
                found(l, 35, result_name(l), "%lld times", (long long)v[i]);
    }
    if (is(l, "pad")) {
        int n = aa_mil_arg_ints(l->f, l->op, "pad", 2 * AA_MIL_MAX_RANK, v);
        for (int i = 0; i + 4 < n; i++)
            if (v[i]) found(l, 35, result_name(l), "padding of axis %d", x->rank - n / 2 + i / 2);
        if (l->chip->generation == 1 &&
            strcmp(aa_mil_arg_text(l->f, l->op, "mode", "constant"), "constant") != 0)
            found(l, 35, result_name(l), "a mode other than constant");
    }
    if (is(l, "slice_by_size") && l->chip->generation <= 2) {
        int n = aa_mil_arg_ints(l->f, l->op, "begin", 2 * AA_MIL_MAX_RANK, v);
        if (n && v[n - 1]) found(l, 40, result_name(l), "it begins at %lld", (long long)v[n - 1]);
    }
    if (is(l, "concat")) {
        found(l, 26, result_name(l), "%d parts", aa_mil_arg_find(l->op, "values")->n_vars);
    }
}

static int64_t reduced_places(const look *l) {
    const aa_mil_type *x = type_of(l, "x");
    return aa_mil_elements(x) / aa_mil_elements(&l->f->vars[l->op->results[0]].type);
}

static void sums(look *l) {
    const aa_mil_type *x = type_of(l, "x");
    if (l->op->row->rule == AA_MIL_RULE_ARG && reduced_places(l) > 2048)
        found(l, 34, result_name(l), "%lld places", (long long)reduced_places(l));
    if (is(l, "reduce_sum") && reduced_places(l) > 2048)
        found(l, 41, result_name(l), "a sum of %lld", (long long)reduced_places(l));
    if (is(l, "softmax")) {
        int axis = (int)aa_mil_arg_number(l->f, l->op, "axis", -1);
        int64_t n = x->dim[axis < 0 ? axis + x->rank : axis];
        if (n & (n - 1)) found(l, 47, result_name(l), "over %lld places", (long long)n);
    }
    if (is(l, "round")) found(l, 53, result_name(l), "round");
    if (is(l, "layer_norm") && x->dim[x->rank - 1] == 4096)
        found(l, 53, result_name(l), "layer_norm of 4096");
}

/* What is wrong only behind another operation. */
static void pairs(look *l) {
    const aa_mil_op *m = maker(l, "x");
    if (!m) return;
    const bool sum = m->row->rule == AA_MIL_RULE_REDUCE;
    if (sum && (is(l, "sqrt") || is(l, "rsqrt")))
        found(l, 42, result_name(l), "'%s' of '%s'", l->op->row->kind, m->row->kind);
    if (is(l, "real_div") && strcmp(m->row->kind, "sqrt") == 0)
        found(l, 43, result_name(l), "sqrt is divided");
    if (sum && is(l, "mul") && aa_mil_arg_number(l->f, l->op, "y", 1) == 0)
        found(l, 52, result_name(l), "'%s' times 0", m->row->kind);
}

static void attention(look *l) {
    const aa_mil_type *k = type_of(l, "key");
    if (aa_mil_arg_find(l->op, "attn_mask"))
        found(l, 22, result_name(l), "it has a mask: write out product, mask and softmax");
    else if (k->dim[k->rank - 2] > 2048)
        found(l, 22, result_name(l), "%lld keys; reliable up to 2048",
              (long long)k->dim[k->rank - 2]);
}

static void operation(look *l) {
    int branches = 0;
    if (l->op->row->rule == AA_MIL_RULE_CONST) {
        weight(l);
        return;
    }
    availability(l);
    arguments(l);
    shapes(l);
    if (is(l, "matmul")) matmul(l);
    if (is(l, "conv")) conv(l);
    if (is(l, "scaled_dot_product_attention")) attention(l);
    shape_ops(l);
    sums(l);
    pairs(l);
    for (int i = 0; i < l->op->n_args; i++)
        for (int k = 0; k < l->op->args[i].n_vars; k++)
            branches += !l->f->vars[l->op->args[i].var[k]].constant;
    if (branches >= 12) found(l, 54, result_name(l), "%d branches", branches);
}

aa_status aa_ane_check(aa_ane_findings *out, const aa_mil_program *p, const aa_ane_chip *chip,
                       aa_ane_profile profile, const aa_ane_files *files, aa_err *err) {
    look l = { .out = out, .p = p, .chip = chip, .profile = profile, .files = files };
    for (int i = 0; i < p->n_funcs; i++) {
        l.f = p->funcs[i];
        l.op = NULL;
        inputs(&l);
        for (int k = 0; k < l.f->n_ops; k++) {
            l.op = &l.f->ops[k];
            operation(&l);
        }
        l.op = NULL;
        outputs(&l);
        if (i == 128) found(&l, 20, l.f->name, "%d procedures, at most 128", p->n_funcs);
    }
    if (l.failed) return aa_fail_memory(err, "what is found in a program", out->n);
    return AA_OK;
}
