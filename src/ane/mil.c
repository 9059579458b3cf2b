#include "ane/mil_int.h"
#include <stdint.h>
#include <string.h>

static const struct { const char *name; int bits; } dtypes[] = {
#define D(name, text, bits) { text, bits },
    AA_MIL_DTYPES(D)
#undef D
};

const char *aa_mil_dtype_name(aa_mil_dtype t) { return dtypes[t].name; }

int aa_mil_dtype_bits(aa_mil_dtype t) { return dtypes[t].bits; }

aa_mil_type aa_mil_tensor(aa_mil_dtype t, int rank, const int64_t *dim) {
    aa_mil_type type = { .dtype = t, .rank = rank };
    aa_assert(rank >= 0 && rank <= AA_MIL_MAX_RANK);
    for (int i = 0; i < rank; i++) type.dim[i] = dim[i];
    return type;
}

aa_mil_type aa_mil_scalar(aa_mil_dtype t) { return (aa_mil_type){ .dtype = t, .scalar = true }; }

int64_t aa_mil_elements(const aa_mil_type *t) {
    int64_t n = 1;
    for (int i = 0; i < t->rank; i++) n *= t->dim[i];
    return n;
}

bool aa__mil_fits(const aa_mil_type *t) {
    int64_t n = 1;
    for (int i = 0; i < t->rank; i++) {
        if (t->dim[i] > AA_MIL_MAX_ELEMENTS / n) return false;
        n *= t->dim[i];
    }
    return true;
}

bool aa__mil_real(aa_mil_dtype t) {
    return t == AA_MIL_FP16 || t == AA_MIL_FP32 || t == AA_MIL_BF16;
}

uint64_t aa_mil_bytes(const aa_mil_type *t) {
    return ((uint64_t)aa_mil_elements(t) * (uint64_t)dtypes[t->dtype].bits + 7) / 8;
}

uint64_t aa_mil_port_bytes(const aa_mil_type *t) {
    if (t->rank == 0) return 64;
    if (t->buffer) return (uint64_t)t->dim[0] * t->stride[0] * dtypes[t->dtype].bits / 8;
    uint64_t columns = (uint64_t)t->dim[t->rank - 1];
    uint64_t row = (columns * dtypes[t->dtype].bits + 7) / 8;
    return (uint64_t)aa_mil_elements(t) / columns * ((row + 63) / 64 * 64);
}

bool aa_mil_type_equal(const aa_mil_type *a, const aa_mil_type *b) {
    return a->dtype == b->dtype && a->rank == b->rank &&
           memcmp(a->dim, b->dim, (size_t)a->rank * sizeof *a->dim) == 0;
}

/* ---- rows ------------------------------------------------------------------------------------ */

static const aa_mil_row rows[] = {
#define O(kind, args, rule, since) { kind, args, AA_MIL_RULE_##rule, AA_MIL_##since },
#include "ane/mil_ops.def"
#undef O
};

const aa_mil_row *aa_mil_rows(size_t *n) {
    *n = sizeof rows / sizeof *rows;
    return rows;
}

const aa_mil_row *aa_mil_row_find(const char *kind, size_t n) {
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (strlen(rows[i].kind) == n && memcmp(rows[i].kind, kind, n) == 0) return &rows[i];
    return NULL;
}

/* ---- a program ------------------------------------------------------------------------------- */

void aa_mil_init(aa_mil_program *p, aa_mil_dialect dialect) {
    *p = (aa_mil_program){ .dialect = dialect };
    aa_arena_init(&p->arena, "MIL program");
}

void aa_mil_release(aa_mil_program *p) {
    aa_arena_release(&p->arena);
    *p = (aa_mil_program){ 0 };
}

void *aa__mil_alloc(aa_mil_program *p, size_t count, size_t size) {
    void *block = aa_arena_alloc(&p->arena, count, size);
    if (!block && !p->err.code) (void)!aa_arena_status(&p->arena, &p->err);
    return block;
}

const char *aa__mil_text(aa_mil_program *p, const char *s, size_t n) {
    char *copy = aa__mil_alloc(p, n + 1, 1);
    if (copy) memcpy(copy, s, n);
    return copy;
}

/* Room for one more of *n elements of an array in the arena. */
static bool grow(aa_mil_program *p, void **array, int n, int *room, size_t size) {
    if (n < *room) return true;
    if (*room > INT32_MAX / 4) {
        aa__mil_fail(p, "a program of more than %d parts of one kind is not supported", *room);
        return false;
    }
    int more = *room ? 2 * *room : 8;
    void *copy = aa__mil_alloc(p, (size_t)more, size);
    if (!copy) return false;
    if (n) memcpy(copy, *array, (size_t)n * size);
    *array = copy;
    *room = more;
    return true;
}

aa_mil_func *aa_mil_function(aa_mil_program *p, const char *name, const char *opset) {
    aa_mil_func *f = aa__mil_alloc(p, 1, sizeof *f);
    if (!f || !grow(p, (void **)&p->funcs, p->n_funcs, &p->funcs_room, sizeof *p->funcs))
        return NULL;
    for (int i = 0; i < p->n_funcs; i++)
        if (strcmp(p->funcs[i]->name, name) == 0)
            aa__mil_fail(p, "the function '%s' is defined twice", name);
    f->program = p;
    f->name = aa__mil_text(p, name, strlen(name));
    f->opset = aa__mil_text(p, opset, strlen(opset));
    if (!f->name || !f->opset) return NULL;
    p->funcs[p->n_funcs++] = f;
    return f;
}

/* FNV-1a: only the speed of a lookup hangs on it. */
static size_t slot_of(const aa_mil_func *f, const char *name, size_t n) {
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < n; i++) h = (h ^ (unsigned char)name[i]) * 16777619u;
    size_t at = h & (size_t)(f->index_room - 1);
    for (; f->index[at]; at = (at + 1) & (size_t)(f->index_room - 1)) {
        const char *other = f->vars[f->index[at] - 1].name;
        if (strlen(other) == n && memcmp(other, name, n) == 0) break;
    }
    return at;
}

int aa__mil_find(const aa_mil_func *f, const char *name, size_t n) {
    return f->index_room ? f->index[slot_of(f, name, n)] - 1 : -1;
}

static bool grow_index(aa_mil_func *f) {
    if (2 * (f->n_vars + 1) <= f->index_room) return true;
    int more = f->index_room ? 2 * f->index_room : 32;
    int *index = aa__mil_alloc(f->program, (size_t)more, sizeof *index);
    if (!index) return false;
    f->index = index;
    f->index_room = more;
    for (int i = 0; i < f->n_vars; i++)
        index[slot_of(f, f->vars[i].name, strlen(f->vars[i].name))] = i + 1;
    return true;
}

static bool name_ok(const char *name, size_t n) {
    if (n == 0 || n > AA_MIL_MAX_NAME || (name[0] >= '0' && name[0] <= '9')) return false;
    for (size_t i = 0; i < n; i++)
        if (!((name[i] >= 'a' && name[i] <= 'z') || (name[i] >= 'A' && name[i] <= 'Z') ||
              (name[i] >= '0' && name[i] <= '9') || name[i] == '_'))
            return false;
    return true;
}

int aa__mil_var(aa_mil_func *f, const char *name, const aa_mil_type *type, int op) {
    aa_mil_program *p = f->program;
    size_t n = strlen(name);
    if (p->err.code) return -1;
    if (!name_ok(name, n)) {
        aa__mil_fail(p, "'%.40s' is no name of a variable: 1 to %d letters, digits and _", name,
                     AA_MIL_MAX_NAME);
        return -1;
    }
    if (aa__mil_find(f, name, n) >= 0) {
        aa__mil_fail(p, "'%s' is defined twice in '%s'", name, f->name);
        return -1;
    }
    if (!grow(p, (void **)&f->vars, f->n_vars, &f->vars_room, sizeof *f->vars) || !grow_index(f))
        return -1;
    const char *copy = aa__mil_text(p, name, n);
    if (!copy) return -1;
    f->vars[f->n_vars] = (aa_mil_var){ .name = copy, .type = *type, .op = op };
    f->index[slot_of(f, copy, n)] = f->n_vars + 1;
    return f->n_vars++;
}

aa_mil_arg *aa__mil_arg(aa_mil_func *f, const char *key, int n_vars) {
    aa_mil_program *p = f->program;
    aa_mil_op *op = &f->pending;
    enum { MOST = 16 };
    if (p->err.code) return NULL;
    for (int i = 0; i < op->n_args; i++)
        if (strcmp(op->args[i].key, key) == 0) {
            aa__mil_fail(p, "'%s' has the argument '%.40s' twice", op->row->kind, key);
            return NULL;
        }
    if (op->n_args == MOST) {
        aa__mil_fail(p, "'%s' has more than %d arguments", op->row->kind, MOST);
        return NULL;
    }
    if (!op->args) op->args = aa__mil_alloc(p, MOST, sizeof *op->args);
    const char *copy = aa__mil_text(p, key, strlen(key));
    int *var = n_vars ? aa__mil_alloc(p, (size_t)n_vars, sizeof *var) : NULL;
    if (p->err.code) return NULL;
    op->args[op->n_args] = (aa_mil_arg){ .key = copy, .n_vars = n_vars, .var = var };
    return &op->args[op->n_args++];
}

void aa__mil_append(aa_mil_func *f) {
    if (f->program->err.code ||
        !grow(f->program, (void **)&f->ops, f->n_ops, &f->ops_room, sizeof *f->ops))
        return;
    f->ops[f->n_ops++] = f->pending;
    f->pending = (aa_mil_op){ 0 };
}

void aa__mil_add_output(aa_mil_func *f, int var) {
    if (!grow(f->program, (void **)&f->outputs, f->n_outputs, &f->outputs_room,
              sizeof *f->outputs))
        return;
    f->outputs[f->n_outputs++] = var;
}

/* ---- reading operations ---------------------------------------------------------------------- */

const aa_mil_arg *aa_mil_arg_find(const aa_mil_op *op, const char *key) {
    for (int i = 0; i < op->n_args; i++)
        if (strcmp(op->args[i].key, key) == 0) return &op->args[i];
    return NULL;
}

int aa_mil_arg_var(const aa_mil_op *op, const char *key) {
    const aa_mil_arg *a = aa_mil_arg_find(op, key);
    return a && a->n_vars == 1 && !a->tuple ? a->var[0] : -1;
}

const aa_mil_literal *aa_mil_arg_constant(const aa_mil_func *f, const aa_mil_op *op,
                                          const char *key) {
    const aa_mil_arg *a = aa_mil_arg_find(op, key);
    if (!a) return NULL;
    if (a->literal) return a->literal;
    return a->n_vars == 1 && !a->tuple ? f->vars[a->var[0]].constant : NULL;
}

double aa_mil_arg_number(const aa_mil_func *f, const aa_mil_op *op, const char *key,
                         double other) {
    const aa_mil_literal *l = aa_mil_arg_constant(f, op, key);
    return l && l->kind == AA_MIL_NUMBERS && l->n == 1 ? l->number[0] : other;
}

const char *aa_mil_arg_text(const aa_mil_func *f, const aa_mil_op *op, const char *key,
                            const char *other) {
    const aa_mil_literal *l = aa_mil_arg_constant(f, op, key);
    return l && l->kind == AA_MIL_TEXT ? l->text : other;
}

int aa_mil_arg_ints(const aa_mil_func *f, const aa_mil_op *op, const char *key, int max,
                    int64_t *out) {
    const aa_mil_literal *l = aa_mil_arg_constant(f, op, key);
    if (!l || l->kind != AA_MIL_NUMBERS) return 0;
    int n = l->n < (size_t)max ? (int)l->n : max;
    for (int i = 0; i < n; i++) out[i] = (int64_t)l->number[i];
    return n;
}

/* Whether part k of argument a is the first mention of its variable: x of mul(x, x) dies once. */
static bool first_mention(const aa_mil_op *op, int a, int k) {
    for (int b = 0; b <= a; b++)
        for (int j = 0; j < (b < a ? op->args[b].n_vars : k); j++)
            if (op->args[b].var[j] == op->args[a].var[k]) return false;
    return true;
}

/* Bytes of what operation i reads for the last time, inputs and constants apart. */
static uint64_t dying(const aa_mil_func *f, int i, const int *last) {
    const aa_mil_op *op = &f->ops[i];
    uint64_t bytes = 0;
    for (int a = 0; a < op->n_args; a++)
        for (int k = 0; k < op->args[a].n_vars; k++) {
            const int v = op->args[a].var[k];
            if (last[v] == i && f->vars[v].op >= 0 && !f->vars[v].constant &&
                first_mention(op, a, k))
                bytes += aa_mil_bytes(&f->vars[v].type);
        }
    return bytes;
}

uint64_t aa_mil_liveness(const aa_mil_func *f, int *last) {
    for (int v = 0; v < f->n_vars; v++) last[v] = f->vars[v].op < 0 ? 0 : f->vars[v].op;
    for (int i = 0; i < f->n_ops; i++)
        for (int a = 0; a < f->ops[i].n_args; a++)
            for (int k = 0; k < f->ops[i].args[a].n_vars; k++) last[f->ops[i].args[a].var[k]] = i;
    for (int i = 0; i < f->n_outputs; i++) last[f->outputs[i]] = f->n_ops;
    uint64_t live = 0, peak = 0;
    for (int i = 0; i < f->n_ops; i++) {
        const aa_mil_op *op = &f->ops[i];
        if (op->row->rule == AA_MIL_RULE_CONST) continue;
        for (int r = 0; r < op->n_results; r++)
            if (last[op->results[r]] < f->n_ops)
                live += aa_mil_bytes(&f->vars[op->results[r]].type);
        if (live > peak) peak = live;
        live -= dying(f, i, last);
        for (int r = 0; r < op->n_results; r++)
            if (last[op->results[r]] == i) live -= aa_mil_bytes(&f->vars[op->results[r]].type);
    }
    return peak;
}
