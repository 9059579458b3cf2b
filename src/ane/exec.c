#include <math.h>
#include <string.h>
#include "ane/blob.h"
#include "ane/exec_int.h"

/* ---- storage --------------------------------------------------------------------------------- */

static uint32_t bits_of(float x) {
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static float float_of(uint32_t u) {
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* Without branches, so that it runs in vectors. 0.75 is where floats have the spacing of binary16's
 * subnormals; adding +0 makes -0 positive. */
static inline float half_of(float x) {
    const uint32_t u = bits_of(x), sign = u & 0x80000000u, a = u & 0x7fffffffu;
    const uint32_t rounded = (a + 0xfffu + (a >> 13 & 1u)) & ~0x1fffu;
    const float small = (x + 0.75f) - 0.75f;
    const uint32_t large = rounded > 0x477fe000u ? 0x7f800000u : rounded;
    float y = a < 0x38800000u ? small : float_of(sign | large);
    y = a > 0x7f800000u ? 0.0f : y;
    return y + 0.0f;
}

float aa__exec_half(float x) { return half_of(x); }

void aa__exec_store(float *x, size_t n) {
    for (size_t i = 0; i < n; i++) x[i] = half_of(x[i]);
}

/* One element of sub-byte types, low bits first. */
static uint32_t packed_at(const unsigned char *p, int bits, size_t i) {
    const size_t bit = i * (size_t)bits;
    const uint32_t two = p[bit / 8] | (bit % 8 + (size_t)bits > 8 ? p[bit / 8 + 1] : 0u) << 8;
    return two >> bit % 8 & ((1u << bits) - 1);
}

#define LOAD(type) do { const type *s = from; \
    for (size_t i = 0; i < n; i++) x[i] = (float)s[i]; } while (0)

/* n values of type t become floats; NaN becomes +inf. */
static void load(float *x, aa_mil_dtype t, const void *from, size_t n) {
    const int bits = aa_mil_dtype_bits(t);
    switch (t) {
    case AA_MIL_FP16: aa_f32_from_f16(x, from, n); break;
    case AA_MIL_BF16: aa_f32_from_bf16(x, from, n); break;
    case AA_MIL_FP32: memcpy(x, from, n * sizeof *x); break;
    case AA_MIL_INT8: LOAD(int8_t); break;
    case AA_MIL_UINT8: case AA_MIL_BOOL: LOAD(uint8_t); break;
    case AA_MIL_INT16: LOAD(int16_t); break;
    case AA_MIL_UINT16: LOAD(uint16_t); break;
    case AA_MIL_INT32: LOAD(int32_t); break;
    case AA_MIL_UINT32: LOAD(uint32_t); break;
    case AA_MIL_INT64: LOAD(int64_t); break;
    case AA_MIL_UINT64: LOAD(uint64_t); break;
    default:
        for (size_t i = 0; i < n; i++) {
            const int v = (int)packed_at(from, bits, i);
            x[i] = (float)(t == AA_MIL_INT4 && v > 7 ? v - 16 : v);
        }
    }
    if (t != AA_MIL_FP16 && t != AA_MIL_BF16 && t != AA_MIL_FP32) return;
    for (size_t i = 0; i < n; i++) x[i] = isnan(x[i]) ? INFINITY : x[i];
    aa__exec_store(x, n);
}

#define SAVE(type, lo, hi) do { type *s = to; \
    for (size_t i = 0; i < n; i++) s[i] = (type)fminf(fmaxf(x[i], lo), hi); } while (0)

static void save(void *to, aa_mil_dtype t, const float *x, size_t n) {
    switch (t) {
    case AA_MIL_FP16: aa_f16_from_f32(to, x, n); break;
    case AA_MIL_FP32: memcpy(to, x, n * sizeof *x); break;
    case AA_MIL_INT8: SAVE(int8_t, -128, 127); break;
    case AA_MIL_UINT8: SAVE(uint8_t, 0, 255); break;
    case AA_MIL_INT16: SAVE(int16_t, -32768, 32767); break;
    case AA_MIL_UINT16: SAVE(uint16_t, 0, 65535); break;
    default: SAVE(int32_t, -2147483648.0f, 2147483520.0f); break;
    }
}

static bool port_ok(aa_mil_dtype t) {
    return t == AA_MIL_FP16 || t == AA_MIL_FP32 || t == AA_MIL_INT8 || t == AA_MIL_UINT8 ||
           t == AA_MIL_INT16 || t == AA_MIL_UINT16 || t == AA_MIL_INT32;
}

/* ---- arguments ------------------------------------------------------------------------------- */

const aa_mil_type *aa__exec_type(const aa_exec *e, const aa_mil_op *op, const char *key) {
    const aa_mil_arg *a = aa_mil_arg_find(op, key);
    return a->literal ? &a->literal->type : &e->f->vars[a->var[0]].type;
}

const float *aa__exec_arg(const aa_exec *e, const aa_mil_op *op, const char *key) {
    const aa_mil_arg *a = aa_mil_arg_find(op, key);
    if (!a) return NULL;
    if (!a->literal) return e->value[a->var[0]];
    int i = 0;
    while (e->literals[i].of != a->literal) i++;
    return e->literals[i].value;
}

/* ---- a function made ready ------------------------------------------------------------------- */

const exec_row *aa__exec_row(const char *kind) {
    const exec_row *const tables[] = { aa__exec_products, aa__exec_pointwise, aa__exec_shapes };
    for (int t = 0; t < 3; t++)
        for (const exec_row *r = tables[t]; r->kind; r++)
            if (strcmp(r->kind, kind) == 0) return r;
    return NULL;
}

static aa_status read_constant(float *x, const aa_mil_literal *c,
                               const aa_ane_files *files, aa_err *err) {
    const size_t n = (size_t)aa_mil_elements(&c->type);
    const bool real = c->type.dtype == AA_MIL_FP16 || c->type.dtype == AA_MIL_FP32;
    aa_blob_entry blob;
    uint64_t size = 0;
    if (c->kind == AA_MIL_NUMBERS) {
        for (size_t i = 0; i < n; i++) x[i] = (float)c->number[i];
        if (real) aa__exec_store(x, n);
        return AA_OK;
    }
    const void *file = files ? files->find(files->ctx, c->text, &size) : NULL;
    if (!file) return aa_fail(err, AA_ENOTFOUND, "there is no weight file '%s'", c->text);
    AA_TRY(aa_blob_tensor(&blob, file, size, c->offset, &c->type, c->text, err));
    load(x, c->type.dtype, blob.data, n);
    return AA_OK;
}

/* Every variable's values for good, where they are constant, or in slots that are used again. */
typedef struct slot { float *data; size_t size; bool taken; } slot;

static slot *take_slot(slot *slots, int *n_slots, size_t size) {
    slot *best = NULL;
    for (int i = 0; i < *n_slots; i++)
        if (!slots[i].taken && (!best || (slots[i].size >= size ? best->size < size ||
                                          slots[i].size < best->size
                                          : best->size < size && slots[i].size > best->size)))
            best = &slots[i];
    if (!best) best = &slots[(*n_slots)++];
    if (best->size < size) best->size = size;
    best->taken = true;
    return best;
}

static bool all_constant(const aa_exec *e, const aa_mil_op *op, const bool *constant) {
    for (int a = 0; a < op->n_args; a++)
        for (int k = 0; k < op->args[a].n_vars; k++)
            if (!constant[op->args[a].var[k]]) return false;
    return e->f->n_ops > 0;
}

typedef struct layout {
    int *last, *slot_of;                 /* [n_vars]; slot -1: values of its own */
    bool *constant;
    slot *slots;
    int n_slots;
} layout;

static void give_back(const aa_exec *e, layout *l, int at) {
    for (int v = 0; v < e->f->n_vars; v++)
        if (l->last[v] == at && l->slot_of[v] >= 0) l->slots[l->slot_of[v]].taken = false;
}

/* What an operation's function takes for granted beyond what inference says. */
static bool can_run(const aa_exec *e, const aa_mil_op *op) {
    if (strcmp(op->row->kind, "conv") == 0) return aa__exec_type(e, op, "x")->rank <= 4;
    if (op->row->rule == AA_MIL_RULE_LUT) return !aa_mil_arg_find(op, "shape");
    if (strcmp(op->row->kind, "pad") == 0)
        return strcmp(aa_mil_arg_text(e->f, op, "mode", "constant"), "constant") == 0;
    return true;
}

static aa_status choose(aa_exec *e, layout *l, aa_err *err) {
    const aa_mil_func *f = e->f;
    for (int v = 0; v < f->n_vars; v++) l->slot_of[v] = -1;
    (void)aa_mil_liveness(f, l->last);
    for (int i = 0; i < f->n_inputs; i++) {
        if (!port_ok(f->vars[i].type.dtype))
            return aa_fail(err, AA_EUNSUPPORTED, "input '%s' is of %s, which is no type of ports",
                           f->vars[i].name, aa_mil_dtype_name(f->vars[i].type.dtype));
    }
    for (int i = 0; i < f->n_ops; i++) {
        const aa_mil_op *op = &f->ops[i];
        const bool is_const = op->row->rule == AA_MIL_RULE_CONST;
        const exec_row *row = is_const ? NULL : aa__exec_row(op->row->kind);
        for (int a = 0; a < op->n_args && !is_const; a++) e->n_literals += !!op->args[a].literal;
        if (!is_const && (!row || !can_run(e, op)))
            return aa_fail(err, AA_EUNSUPPORTED, "line %d: '%s' cannot be run, or not in this form",
                           op->line, op->row->kind);
        const bool constant = is_const || all_constant(e, op, l->constant);
        for (int r = 0; r < op->n_results; r++) {
            const int v = op->results[r];
            l->constant[v] = constant;
            if (constant || l->last[v] == f->n_ops) continue;
            slot *s = take_slot(l->slots, &l->n_slots,
                                (size_t)aa_mil_elements(&f->vars[v].type));
            l->slot_of[v] = (int)(s - l->slots);
        }
        give_back(e, l, i);
        if (!is_const) {
            e->ops[e->n_ops++] = (exec_op){ .op = op, .row = row, .constant = constant };
            const size_t scratch = row->scratch ? row->scratch(e, op) : 0;
            if (scratch > e->scratch_size) e->scratch_size = scratch;
        }
    }
    return AA_OK;
}

/* Constants in the place of arguments; texts have no values. */
static aa_status take_literals(aa_exec *e, const aa_ane_files *files, aa_err *err) {
    exec_literal *next = e->literals = aa_arena_new(&e->arena, exec_literal, e->n_literals + 1);
    for (int i = 0; i < e->n_ops; i++)
        for (int a = 0; a < e->ops[i].op->n_args; a++) {
            const aa_mil_literal *c = e->ops[i].op->args[a].literal;
            if (!c || c->kind == AA_MIL_TEXT) continue;
            float *x = aa_arena_new(&e->arena, float, (size_t)aa_mil_elements(&c->type));
            AA_TRY(aa_arena_status(&e->arena, err));
            AA_TRY(read_constant(x, c, files, err));
            *next++ = (exec_literal){ c, x };
        }
    return AA_OK;
}

static aa_status check_size(const aa_exec *e, const layout *l, aa_err *err) {
    double floats = (double)e->scratch_size;
    for (int i = 0; i < l->n_slots; i++) floats += (double)l->slots[i].size;
    for (int v = 0; v < e->f->n_vars; v++)
        if (l->slot_of[v] < 0) floats += (double)aa_mil_elements(&e->f->vars[v].type);
    return aa_memory_check("the values of a program", (uint64_t)(floats * sizeof(float)),
                           "smaller tensors are needed", err);
}

static aa_status take(aa_exec *e, layout *l, const aa_ane_files *files, aa_err *err) {
    const aa_mil_func *f = e->f;
    AA_TRY(check_size(e, l, err));
    for (int i = 0; i < l->n_slots; i++)
        l->slots[i].data = aa_arena_alloc(&e->arena, l->slots[i].size, sizeof(float));
    for (int v = 0; v < f->n_vars; v++) {
        const aa_mil_literal *c = f->vars[v].constant;
        if (c && c->kind == AA_MIL_TEXT) continue;
        const size_t n = (size_t)aa_mil_elements(&f->vars[v].type);
        e->value[v] = l->slot_of[v] >= 0 ? l->slots[l->slot_of[v]].data
                                         : aa_arena_alloc(&e->arena, n, sizeof(float));
        AA_TRY(aa_arena_status(&e->arena, err));
        if (c) AA_TRY(read_constant(e->value[v], c, files, err));
    }
    AA_TRY(take_literals(e, files, err));
    e->scratch = aa_arena_alloc(&e->arena, e->scratch_size + 1, sizeof(float));
    AA_TRY(aa_arena_status(&e->arena, err));
    for (int i = 0; i < e->n_ops; i++)
        for (int r = 0; r < e->ops[i].op->n_results; r++)
            e->ops[i].out[r] = e->value[e->ops[i].op->results[r]];
    return AA_OK;
}

static aa_status prepare(aa_exec *e, const aa_ane_files *files, aa_err *err) {
    const size_t n = (size_t)e->f->n_vars + 1;
    aa_arena a;
    aa_arena_init(&a, "layout of a program");
    layout l = { .last = aa_arena_new(&a, int, n), .slot_of = aa_arena_new(&a, int, n),
                 .constant = aa_arena_new(&a, bool, n), .slots = aa_arena_new(&a, slot, n) };
    aa_status st = aa_arena_status(&a, err);
    if (!st) st = choose(e, &l, err);
    if (!st) st = take(e, &l, files, err);
    aa_arena_release(&a);
    if (st) return st;
    for (int i = 0; i < e->n_ops; i++)
        if (e->ops[i].constant) e->ops[i].row->run(e, &e->ops[i]);
    e->bytes = e->arena.used_bytes;
    return AA_OK;
}

aa_status aa_exec_new(aa_exec **out, const aa_mil_func *f, const aa_ane_chip *chip,
                      aa_exec_mode mode, const aa_ane_files *files, aa_cpu *cpu, aa_err *err) {
    aa_exec *e = aa_heap_alloc(1, sizeof *e);
    if (!e) return aa_fail_memory(err, "a program to run", sizeof *e);
    aa_assert(aa_cpu_compute(cpu) == AA_COMPUTE_F32);
    *e = (aa_exec){ .f = f, .chip = chip, .mode = mode, .cpu = cpu };
    aa_arena_init(&e->arena, "program");
    e->value = aa_arena_new(&e->arena, float *, (size_t)f->n_vars + 1);
    e->ops = aa_arena_new(&e->arena, exec_op, (size_t)f->n_ops + 1);
    aa_status st = aa_arena_status(&e->arena, err);
    if (!st) st = prepare(e, files, err);
    if (st) aa_exec_free(e);
    else *out = e;
    return st;
}

void aa_exec_free(aa_exec *e) {
    if (!e) return;
    aa_arena_release(&e->arena);
    aa_heap_free(e);
}

size_t aa_exec_bytes(const aa_exec *e) { return e->bytes; }

void aa_exec_run(aa_exec *e, const void *const *inputs, void *const *outputs) {
    const aa_mil_func *f = e->f;
    for (int i = 0; i < f->n_inputs; i++)
        load(e->value[i], f->vars[i].type.dtype, inputs[i],
             (size_t)aa_mil_elements(&f->vars[i].type));
    for (int i = 0; i < e->n_ops; i++)
        if (!e->ops[i].constant) e->ops[i].row->run(e, &e->ops[i]);
    for (int i = 0; i < f->n_outputs; i++) {
        const aa_mil_type *t = &f->vars[f->outputs[i]].type;
        save(outputs[i], t->dtype, e->value[f->outputs[i]], (size_t)aa_mil_elements(t));
    }
}
