/* One text per program: the parser reads it back to the same program, and that prints the same. */
#include <string.h>
#include "ane/mil_int.h"
#include "base/number.h"

static void dims(const char *before, int n, const int64_t *dim, aa_text *out) {
    aa_text_printf(out, "%s[", before);
    for (int i = 0; i < n; i++) aa_text_printf(out, i ? ", %lld" : "%lld", (long long)dim[i]);
    aa_text_add(out, "]");
}

void aa_mil_type_text(const aa_mil_type *t, bool old, aa_text *out) {
    const char *dtype = aa_mil_dtype_name(t->dtype);
    if (t->scalar && !old) {
        aa_text_add(out, dtype);
        return;
    }
    if (t->buffer) {
        aa_text_printf(out, "tensor_buffer<%s, ", dtype);
        dims("shape=", t->rank, t->dim, out);
        dims(", strides=", t->rank, t->stride, out);
        dims(", interleave_factors=", t->rank, t->interleave, out);
    } else {
        aa_text_printf(out, "tensor<%s, ", dtype);
        dims("", t->rank, t->dim, out);
    }
    aa_text_add(out, ">");
}

static void quoted(const char *s, aa_text *out) {
    aa_text_add(out, "\"");
    for (; *s; s++) {
        if (*s == '"' || *s == '\\') aa_text_add(out, "\\");
        aa_text_add_bytes(out, s, 1);
    }
    aa_text_add(out, "\"");
}

static void number(aa_mil_dtype t, double v, aa_text *out) {
    char digits[64];
    if (t == AA_MIL_BOOL) {
        aa_text_add(out, v != 0 ? "true" : "false");
    } else if (aa__mil_real(t)) {
        (void)aa_number_print(digits, sizeof digits, "%a", v);
        aa_text_add(out, digits);
    } else {
        aa_text_printf(out, "%lld", (long long)v);
    }
}

/* Brackets of all axes from axis on, around the numbers from *at on. */
static void nested(const aa_mil_literal *l, int axis, size_t *at, aa_text *out) {
    aa_text_add(out, "[");
    for (int64_t i = 0; i < l->type.dim[axis]; i++) {
        if (i) aa_text_add(out, ", ");
        if (axis + 1 < l->type.rank) nested(l, axis + 1, at, out);
        else number(l->type.dtype, l->number[(*at)++], out);
    }
    aa_text_add(out, "]");
}

static void literal(const aa_mil_literal *l, bool old, aa_text *out) {
    size_t at = 0;
    aa_mil_type_text(&l->type, old, out);
    aa_text_add(out, "(");
    if (l->kind == AA_MIL_TEXT) {
        quoted(l->text, out);
    } else if (l->kind == AA_MIL_BLOB) {
        aa_text_add(out, old ? "BLOBFILE(path = tensor<string, []>(" : "BLOBFILE(path = string(");
        quoted(l->text, out);
        aa_text_printf(out, old ? "), offset = tensor<uint64, []>(%llu))"
                                : "), offset = uint64(%llu))", (unsigned long long)l->offset);
    } else if (l->type.rank) {
        nested(l, 0, &at, out);
    } else {
        number(l->type.dtype, l->number[0], out);
    }
    aa_text_add(out, ")");
}

static void argument(const aa_mil_func *f, const aa_mil_arg *a, bool old, aa_text *out) {
    aa_text_printf(out, "%s = ", a->key);
    if (a->literal) {
        literal(a->literal, old, out);
        return;
    }
    if (a->tuple) aa_text_add(out, "(");
    for (int i = 0; i < a->n_vars; i++)
        aa_text_printf(out, i ? ", %s" : "%s", f->vars[a->var[i]].name);
    if (a->tuple) aa_text_add(out, ")");
}

static void operation(const aa_mil_func *f, const aa_mil_op *op, bool old, aa_text *out) {
    aa_text_add(out, "        ");
    for (int i = 0; i < op->n_results; i++) {
        const aa_mil_var *v = &f->vars[op->results[i]];
        if (i) aa_text_add(out, ", ");
        aa_mil_type_text(&v->type, old, out);
        aa_text_printf(out, " %s", v->name);
    }
    bool constant = op->row->rule == AA_MIL_RULE_CONST;
    aa_text_printf(out, " = %s", op->row->kind);
    if (op->opset) aa_text_printf(out, "<%s>", op->opset);
    aa_text_add(out, "(");
    for (int i = 0; i < op->n_args && !constant; i++) {
        if (i) aa_text_add(out, ", ");
        argument(f, &op->args[i], old, out);
    }
    aa_text_add(out, ")");
    if (op->name || constant) aa_text_add(out, "[");
    if (op->name) {
        aa_text_add(out, old ? "name = tensor<string, []>(" : "name = string(");
        quoted(op->name, out);
        aa_text_add(out, constant ? "), " : ")");
    }
    if (constant) argument(f, &op->args[0], old, out);
    if (op->name || constant) aa_text_add(out, "]");
    aa_text_add(out, ";\n");
}

static void function(const aa_mil_func *f, bool old, aa_text *out) {
    aa_text_printf(out, "    func %s<%s>(", f->name, f->opset);
    for (int i = 0; i < f->n_inputs; i++) {
        if (i) aa_text_add(out, ", ");
        aa_mil_type_text(&f->vars[i].type, old, out);
        aa_text_printf(out, " %s", f->vars[i].name);
    }
    aa_text_add(out, ") {\n");
    for (int i = 0; i < f->n_ops; i++) operation(f, &f->ops[i], old, out);
    aa_text_add(out, "    } -> (");
    for (int i = 0; i < f->n_outputs; i++)
        aa_text_printf(out, i ? ", %s" : "%s", f->vars[f->outputs[i]].name);
    aa_text_add(out, ");\n");
}

void aa_mil_print(const aa_mil_program *p, aa_text *out) {
    bool old = p->dialect == AA_MIL_1_0;
    aa_text_add(out, old ? "program(1.0)\n" : "program(1.3)\n");
    if (p->n_info) {
        aa_text_add(out, old ? "[buildInfo = dict<tensor<string, []>, tensor<string, []>>({"
                             : "[buildInfo = dict<string, string>({");
        for (int i = 0; i < p->n_info; i += 2) {
            aa_text_add(out, i ? ", {" : "{");
            quoted(p->info[i], out);
            aa_text_add(out, ", ");
            quoted(p->info[i + 1], out);
            aa_text_add(out, "}");
        }
        aa_text_add(out, "})]\n");
    }
    aa_text_add(out, "{\n");
    for (int i = 0; i < p->n_funcs; i++) function(p->funcs[i], old, out);
    aa_text_add(out, "}\n");
}
