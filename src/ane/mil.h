/* ane/mil: programs of Apple's Model Intermediate Language, as data.
 *
 * A Neural Engine runs programs that are handed over as MIL text and weight files. This header owns
 * the program between the two: a builder that names every constant and infers every type, a printer
 * with one text per program, the parser back, shape and type inference, and liveness. Text may come
 * from anybody: sizes, nesting and counts are checked before they are used. What a chip or an
 * operating system makes of a program is check.h's, what it costs cost.h's.
 *
 * Two dialects are read and written: program(1.3), whose scalars are fp16(0x1p-3), and the older
 * program(1.0), whose scalars are tensor<fp16, []>(0x1p-3).
 * Source: the MIL operation set of coremltools (ios16 to ios18), and programs of public projects.
 *
 *     aa_mil_program p;
 *     aa_mil_init(&p, AA_MIL_1_3);
 *     aa_mil_func *f = aa_mil_function(&p, "main", "ios18");
 *     int x = aa_mil_input(f, "x", AA_MIL_TENSOR(FP16, 1, 64, 1, 32)), one, y;
 *     one = aa_mil_const_number(f, "one", AA_MIL_FP16, 1);
 *     aa_mil_begin(f, "add");  aa_mil_use(f, "x", x);  aa_mil_use(f, "y", one);
 *     y = aa_mil_end(f, "y");
 *     aa_mil_output(f, y);
 *     AA_TRY(aa_mil_finish(&p, err));
 *
 * Mistakes of a builder are sticky and come out of aa_mil_finish. A program owns all its memory.
 */
#ifndef AA_ANE_MIL_H
#define AA_ANE_MIL_H

#include <stdbool.h>
#include "base/memory.h"
#include "base/text.h"

enum {
    AA_MIL_MAX_RANK = 5,                 /* of a tensor the engine takes (ane: rank <= 5) */
    AA_MIL_MAX_RESULTS = 64,             /* of one operation */
    AA_MIL_MAX_NAME = 200,               /* bytes of a name */
};
#define AA_MIL_MAX_ELEMENTS ((int64_t)1 << 40)   /* of one tensor */

/* name, spelling, bits */
#define AA_MIL_DTYPES(D) \
    D(FP16, "fp16", 16) D(FP32, "fp32", 32) D(BF16, "bf16", 16) D(INT8, "int8", 8) \
    D(UINT8, "uint8", 8) D(INT16, "int16", 16) D(UINT16, "uint16", 16) D(INT32, "int32", 32) \
    D(UINT32, "uint32", 32) D(INT64, "int64", 64) D(UINT64, "uint64", 64) D(INT4, "int4", 4) \
    D(UINT4, "uint4", 4) D(UINT1, "uint1", 1) D(UINT2, "uint2", 2) D(UINT3, "uint3", 3) \
    D(UINT6, "uint6", 6) D(BOOL, "bool", 8) D(STRING, "string", 0)

typedef enum aa_mil_dtype {
#define D(name, text, bits) AA_MIL_##name,
    AA_MIL_DTYPES(D)
#undef D
    AA_MIL_DTYPE_COUNT
} aa_mil_dtype;
const char *aa_mil_dtype_name(aa_mil_dtype t);
int aa_mil_dtype_bits(aa_mil_dtype t);

typedef struct aa_mil_type {
    aa_mil_dtype dtype;
    bool scalar;                         /* spelt fp16, not tensor<fp16, [...]>; then rank 0 */
    bool buffer;                         /* tensor_buffer: its layout is part of the type */
    int rank;
    int64_t dim[AA_MIL_MAX_RANK];        /* each >= 1 */
    int64_t stride[AA_MIL_MAX_RANK], interleave[AA_MIL_MAX_RANK];  /* of a buffer, in elements */
} aa_mil_type;

#define AA_MIL_TENSOR(t, ...) \
    aa_mil_tensor(AA_MIL_##t, (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), \
                  (int64_t[]){__VA_ARGS__})
aa_mil_type aa_mil_tensor(aa_mil_dtype t, int rank, const int64_t *dim);
aa_mil_type aa_mil_scalar(aa_mil_dtype t);
int64_t aa_mil_elements(const aa_mil_type *t);
uint64_t aa_mil_bytes(const aa_mil_type *t);          /* packed */
/* As an input or output lies in memory: rows of the last axis begin every 64 bytes. */
uint64_t aa_mil_port_bytes(const aa_mil_type *t);
bool aa_mil_type_equal(const aa_mil_type *a, const aa_mil_type *b);    /* as tensors: dtype, dims */
void aa_mil_type_text(const aa_mil_type *t, bool old, aa_text *out);

/* ---- a program ------------------------------------------------------------------------------- */

typedef enum { AA_MIL_NUMBERS, AA_MIL_TEXT, AA_MIL_BLOB } aa_mil_literal_kind;
typedef struct aa_mil_literal {
    aa_mil_literal_kind kind;
    aa_mil_type type;
    size_t n;                            /* NUMBERS: elements, row-major; booleans are 0 and 1 */
    const double *number;
    const char *text;                    /* TEXT: the string; BLOB: path of the file */
    uint64_t offset;                     /* BLOB: of the tensor's record, not of its data */
} aa_mil_literal;

/* One argument of an operation: variables by index, several if it is a tuple; or a literal. */
typedef struct aa_mil_arg {
    const char *key;
    bool tuple;
    int n_vars;
    int *var;
    const aa_mil_literal *literal;
} aa_mil_arg;

typedef struct aa_mil_op {
    const struct aa_mil_row *row;
    const char *name;                    /* attribute, NULL: none */
    const char *opset;                   /* op<ios17>(...), NULL: none */
    aa_mil_arg *args;
    int n_args;
    int *results, n_results;
    int line;                            /* of the text, 0 when built */
} aa_mil_op;

typedef struct aa_mil_var {
    const char *name;
    aa_mil_type type;
    int op;                              /* that makes it; -1: an input */
    const aa_mil_literal *constant;      /* of const operations, else NULL */
} aa_mil_var;

typedef struct aa_mil_func {
    struct aa_mil_program *program;
    const char *name, *opset;
    int n_inputs, n_vars, n_ops, n_outputs;
    aa_mil_var *vars;                    /* inputs first */
    aa_mil_op *ops;                      /* in order */
    int *outputs;                        /* variables */
    int line;
    int vars_room, ops_room, outputs_room, *index, index_room;   /* of the builder */
    aa_mil_op pending;
} aa_mil_func;

typedef enum { AA_MIL_1_0, AA_MIL_1_3 } aa_mil_dialect;
typedef struct aa_mil_program {
    aa_mil_dialect dialect;
    aa_mil_func **funcs;                 /* function k is procedure k */
    int n_funcs, funcs_room;
    const char **info;                   /* build information: key, value, ... */
    int n_info;
    aa_arena arena;
    aa_err err;                          /* the first mistake */
} aa_mil_program;

void aa_mil_init(aa_mil_program *p, aa_mil_dialect dialect);
void aa_mil_release(aa_mil_program *p);

/* ---- building -------------------------------------------------------------------------------- */

aa_mil_func *aa_mil_function(aa_mil_program *p, const char *name, const char *opset);
/* A variable's index, or -1 after a mistake. Names are made unique by a number behind them, except
 * those of inputs and outputs, which must be. */
int aa_mil_input(aa_mil_func *f, const char *name, aa_mil_type type);
int aa_mil_const(aa_mil_func *f, const char *name, const aa_mil_literal *value);
int aa_mil_const_number(aa_mil_func *f, const char *name, aa_mil_dtype t, double v);
int aa_mil_const_text(aa_mil_func *f, const char *name, const char *text);
int aa_mil_const_ints(aa_mil_func *f, const char *name, int n, const int64_t *v);
int aa_mil_const_blob(aa_mil_func *f, const char *name, aa_mil_type type, const char *path,
                      uint64_t offset);
/* An operation: begin, its arguments, end. A constant argument becomes a named constant
 * "<name>_<key>" in front of it. end gives the first result; a split's others follow it. */
void aa_mil_begin(aa_mil_func *f, const char *kind);
void aa_mil_use(aa_mil_func *f, const char *key, int var);
void aa_mil_use_tuple(aa_mil_func *f, const char *key, int n, const int *vars);
void aa_mil_use_number(aa_mil_func *f, const char *key, aa_mil_dtype t, double v);
void aa_mil_use_text(aa_mil_func *f, const char *key, const char *text);
void aa_mil_use_ints(aa_mil_func *f, const char *key, int n, const int64_t *v);
int aa_mil_end(aa_mil_func *f, const char *name);
void aa_mil_output(aa_mil_func *f, int var);
aa_status aa_mil_finish(aa_mil_program *p, aa_err *err) AA_MUST_USE;

/* ---- text ------------------------------------------------------------------------------------ */

void aa_mil_print(const aa_mil_program *p, aa_text *out);
/* name is for messages, "<name>:<line>: ...". Types are inferred and compared with the declared. */
aa_status aa_mil_parse(aa_mil_program *out, const char *text, size_t size, const char *name,
                       aa_err *err) AA_MUST_USE;

/* ---- what is known about operations ---------------------------------------------------------- */

/* How types of results follow from arguments; EXPLICIT: from the declaration alone. */
#define AA_MIL_RULES(R) \
    R(CONST) R(SAME) R(BROADCAST) R(COMPARE) R(MATMUL) R(LINEAR) R(CONV) R(REDUCE) R(ARG) \
    R(RESHAPE) R(TRANSPOSE) R(SLICE_SIZE) R(SLICE_INDEX) R(CONCAT) R(STACK) R(SPLIT) \
    R(EXPAND) R(SQUEEZE) R(TILE) R(PAD) R(CAST) R(SELECT) R(QUANTIZE) R(DEQUANTIZE) \
    R(LUT) R(SDPA) R(GATHER) R(EXPLICIT) R(BUFFER)
typedef enum aa_mil_rule {
#define R(name) AA_MIL_RULE_##name,
    AA_MIL_RULES(R)
#undef R
    AA_MIL_RULE_COUNT
} aa_mil_rule;

/* Who runs it. NO_PATH: no engine, whatever the chip. */
typedef enum {
    AA_MIL_EVERY, AA_MIL_M2, AA_MIL_M3, AA_MIL_NO_PATH
} aa_mil_since;

/* One row of mil_ops.def. args: "key:kind" words; kinds T tensor, L tuple of tensors, b boolean,
 * i integer, I integers, B booleans, f number, s text, V any literal; behind it ? optional, ! may
 * be left out in the language but not for the engine. */
typedef struct aa_mil_row {
    const char *kind, *args;
    aa_mil_rule rule;
    aa_mil_since since;
} aa_mil_row;
const aa_mil_row *aa_mil_row_find(const char *kind, size_t n);     /* NULL: there is none */
const aa_mil_row *aa_mil_rows(size_t *n);

/* Of an operation: its argument, NULL where it has none; the variable of it, -1; its constant, from
 * a literal or a constant variable, NULL; and that constant's text or numbers, with a default. */
const aa_mil_arg *aa_mil_arg_find(const aa_mil_op *op, const char *key);
int aa_mil_arg_var(const aa_mil_op *op, const char *key);
const aa_mil_literal *aa_mil_arg_constant(const aa_mil_func *f, const aa_mil_op *op,
                                          const char *key);
double aa_mil_arg_number(const aa_mil_func *f, const aa_mil_op *op, const char *key, double other);
const char *aa_mil_arg_text(const aa_mil_func *f, const aa_mil_op *op, const char *key,
                            const char *other);
/* Up to max integers; the count, 0 where there is no such constant. */
int aa_mil_arg_ints(const aa_mil_func *f, const aa_mil_op *op, const char *key, int max,
                    int64_t *out);

/* Types of an operation's results. n_out: in, the results it has; out[AA_MIL_MAX_RESULTS]. Rows of
 * rule EXPLICIT leave n_out 0: what is declared holds. */
aa_status aa_mil_infer(const aa_mil_func *f, const aa_mil_op *op, int *n_out, aa_mil_type *out,
                       aa_err *err) AA_MUST_USE;

/* For each variable the last operation that reads it: its own if none does, n_ops for outputs. last
 * is [n_vars]. The largest sum of packed bytes that live at once, inputs, outputs, constants apart.
 */
uint64_t aa_mil_liveness(const aa_mil_func *f, int *last);

#endif
