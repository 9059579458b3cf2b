#include "ane/mil_int.h"
#include <stdio.h>
#include <string.h>

/* name, or name_2, name_3 ... where that is taken. */
static void free_name(const aa_mil_func *f, const char *name, char out[AA_MIL_MAX_NAME + 16]) {
    (void)snprintf(out, AA_MIL_MAX_NAME, "%s", name);
    for (int i = 2; aa__mil_find(f, out, strlen(out)) >= 0; i++)
        (void)snprintf(out, AA_MIL_MAX_NAME + 16, "%.*s_%d", AA_MIL_MAX_NAME - 16, name, i);
}

int aa_mil_input(aa_mil_func *f, const char *name, aa_mil_type type) {
    if (!f) return -1;
    aa_assert(f->n_ops == 0);
    int v = aa__mil_var(f, name, &type, -1);
    if (v >= 0) f->n_inputs++;
    return v;
}

int aa_mil_const(aa_mil_func *f, const char *name, const aa_mil_literal *value) {
    char unique[AA_MIL_MAX_NAME + 16];
    if (!f || f->program->err.code) return -1;
    aa_mil_program *p = f->program;
    aa_mil_literal *copy = aa__mil_alloc(p, 1, sizeof *copy);
    if (!copy) return -1;
    *copy = *value;
    if (value->kind == AA_MIL_NUMBERS) {
        double *number = aa__mil_alloc(p, value->n, sizeof *number);
        if (!number) return -1;
        memcpy(number, value->number, value->n * sizeof *number);
        copy->number = number;
    } else {
        copy->text = aa__mil_text(p, value->text, strlen(value->text));
    }
    aa_mil_op outer = f->pending;        /* constants come in front of what uses them */
    f->pending = (aa_mil_op){ .row = aa_mil_row_find("const", 5) };
    free_name(f, name, unique);
    int v = aa__mil_var(f, unique, &value->type, f->n_ops);
    aa_mil_arg *a = aa__mil_arg(f, "val", 0);
    int *result = aa__mil_alloc(p, 1, sizeof *result);
    if (p->err.code) return -1;
    a->literal = copy;
    *result = v;
    f->vars[v].constant = copy;
    f->pending.name = f->vars[v].name;
    f->pending.results = result;
    f->pending.n_results = 1;
    aa__mil_append(f);
    f->pending = outer;
    return v;
}

int aa_mil_const_number(aa_mil_func *f, const char *name, aa_mil_dtype t, double v) {
    return aa_mil_const(f, name, &(aa_mil_literal){ .type = aa_mil_scalar(t), .n = 1,
                                                    .number = &v });
}

int aa_mil_const_text(aa_mil_func *f, const char *name, const char *text) {
    return aa_mil_const(f, name, &(aa_mil_literal){ .kind = AA_MIL_TEXT, .text = text,
                                                    .type = aa_mil_scalar(AA_MIL_STRING) });
}

int aa_mil_const_ints(aa_mil_func *f, const char *name, int n, const int64_t *v) {
    enum { MOST = 16 };
    double number[MOST];
    int64_t dim = n;
    aa_assert(n >= 1 && n <= MOST);
    for (int i = 0; i < n; i++) number[i] = (double)v[i];
    return aa_mil_const(f, name, &(aa_mil_literal){ .type = aa_mil_tensor(AA_MIL_INT32, 1, &dim),
                                                    .n = (size_t)n, .number = number });
}

int aa_mil_const_blob(aa_mil_func *f, const char *name, aa_mil_type type, const char *path,
                      uint64_t offset) {
    return aa_mil_const(f, name, &(aa_mil_literal){ .kind = AA_MIL_BLOB, .type = type,
                                                    .text = path, .offset = offset });
}

/* ---- operations ------------------------------------------------------------------------------ */


void aa_mil_begin(aa_mil_func *f, const char *kind) {
    if (!f) return;
    f->pending = (aa_mil_op){ .row = aa_mil_row_find(kind, strlen(kind)) };
    aa_assert(f->pending.row != NULL && f->pending.row->rule != AA_MIL_RULE_CONST);
}

void aa_mil_use(aa_mil_func *f, const char *key, int var) {
    aa_mil_arg *a = f && var >= 0 ? aa__mil_arg(f, key, 1) : NULL;
    if (a) a->var[0] = var;
}

void aa_mil_use_tuple(aa_mil_func *f, const char *key, int n, const int *vars) {
    aa_mil_arg *a = f ? aa__mil_arg(f, key, n) : NULL;
    if (!a) return;
    a->tuple = true;
    for (int i = 0; i < n; i++) {
        if (vars[i] < 0) return;
        a->var[i] = vars[i];
    }
}

static void use_literal(aa_mil_func *f, const char *key, const aa_mil_literal *l) {
    aa_mil_arg *a = f ? aa__mil_arg(f, key, 0) : NULL;
    aa_mil_literal *copy = a ? aa__mil_alloc(f->program, 1, sizeof *copy) : NULL;
    if (!copy) return;
    *copy = *l;
    if (l->kind == AA_MIL_NUMBERS) {
        double *number = aa__mil_alloc(f->program, l->n, sizeof *number);
        if (number) memcpy(number, l->number, l->n * sizeof *number);
        copy->number = number;
    }
    a->literal = copy;
}

void aa_mil_use_number(aa_mil_func *f, const char *key, aa_mil_dtype t, double v) {
    use_literal(f, key, &(aa_mil_literal){ .type = aa_mil_scalar(t), .n = 1, .number = &v });
}

void aa_mil_use_text(aa_mil_func *f, const char *key, const char *text) {
    use_literal(f, key, &(aa_mil_literal){ .kind = AA_MIL_TEXT, .text = text,
                                           .type = aa_mil_scalar(AA_MIL_STRING) });
}

void aa_mil_use_ints(aa_mil_func *f, const char *key, int n, const int64_t *v) {
    enum { MOST = 16 };
    double number[MOST];
    int64_t dim = n;
    aa_assert(n >= 1 && n <= MOST);
    for (int i = 0; i < n; i++) number[i] = (double)v[i];
    use_literal(f, key, &(aa_mil_literal){ .type = aa_mil_tensor(AA_MIL_INT32, 1, &dim),
                                           .n = (size_t)n, .number = number });
}

/* How many results: one, but for splits. */
static int count_results(const aa_mil_func *f, const aa_mil_op *op) {
    int64_t sizes[AA_MIL_MAX_RESULTS];
    if (op->row->rule != AA_MIL_RULE_SPLIT) return 1;
    int n = aa_mil_arg_ints(f, op, "split_sizes", AA_MIL_MAX_RESULTS, sizes);
    if (n) return n;
    double v = aa_mil_arg_number(f, op, "num_splits", 1);
    return v >= 1 && v <= AA_MIL_MAX_RESULTS ? (int)v : 1;
}

int aa_mil_end(aa_mil_func *f, const char *name) {
    aa_mil_type type[AA_MIL_MAX_RESULTS];
    char unique[AA_MIL_MAX_NAME + 16];
    if (!f || f->program->err.code) return -1;
    aa_mil_program *p = f->program;
    for (int i = 0; i < f->pending.n_args; i++) {
        aa_mil_arg *a = &f->pending.args[i];
        if (!a->literal) continue;
        char key[AA_MIL_MAX_NAME + 16];
        (void)snprintf(key, sizeof key, "%.100s_%.60s", name, a->key);
        int v = aa_mil_const(f, key, a->literal);
        int *var = aa__mil_alloc(p, 1, sizeof *var);
        if (v < 0 || !var) return -1;
        *var = v;
        *a = (aa_mil_arg){ .key = a->key, .n_vars = 1, .var = var };
    }
    aa_mil_op *op = &f->pending;
    int n = op->n_results = count_results(f, op);
    if (aa_mil_infer(f, op, &n, type, &p->err)) {
        aa_err_context(&p->err, "'%s' of '%s'", name, f->name);
        return -1;
    }
    aa_assert(n == op->n_results);       /* rows of rule EXPLICIT are for the parser */
    op->results = aa__mil_alloc(p, (size_t)n, sizeof *op->results);
    if (!op->results) return -1;
    for (int i = 0; i < n; i++) {
        free_name(f, name, unique);
        op->results[i] = aa__mil_var(f, unique, &type[i], f->n_ops);
        if (op->results[i] < 0) return -1;
    }
    int first = op->results[0];
    op->name = f->vars[first].name;
    aa__mil_append(f);
    return first;
}

void aa_mil_output(aa_mil_func *f, int var) {
    if (!f || var < 0 || f->program->err.code) return;
    aa_assert(var < f->n_vars);
    aa__mil_add_output(f, var);
}

aa_status aa_mil_finish(aa_mil_program *p, aa_err *err) {
    for (int i = 0; i < p->n_funcs; i++)
        if (p->funcs[i]->n_outputs == 0)
            aa__mil_fail(p, "the function '%s' returns nothing", p->funcs[i]->name);
    if (p->n_funcs == 0) aa__mil_fail(p, "the program has no function");
    if (!p->err.code) return AA_OK;
    return aa_fail(err, p->err.code, "%s", p->err.message);
}
