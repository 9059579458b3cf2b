/* The parser. Grammar, with [] optional and * repeated:
 *   program    "program" "(" version ")" [ "[" "buildInfo" "=" dict "]" ] "{" function* "}"
 *   function   "func" name "<" opset ">" "(" [type name ("," type name)*] ")"
 *              "{" statement* "}" "->" "(" name ("," name)* ")" ";"
 *   statement  type name ("," type name)* "=" op ["<" opset ">"]
 *              "(" [key "=" value ("," key "=" value)*] ")"
 *              [ "[" key "=" literal ("," key "=" literal)* "]" ] ";"
 *   value      name | "(" name ("," name)* ")" | literal
 *   literal    type "(" ( string | number | brackets
 *                         | "BLOBFILE" "(" key "=" literal ("," key "=" literal)* ")" ) ")"
 */
#include <math.h>
#include <stdarg.h>
#include <string.h>
#include "ane/mil_int.h"
#include "base/number.h"

typedef struct parser {
    const char *at, *end, *name;
    int line;
    aa_mil_program *p;
} parser;

typedef struct word { const char *s; size_t n; } word;

#define FAIL(q, ...) return (fail(q, __VA_ARGS__), false)

AA_PRINTF(2, 3) static void fail(parser *q, const char *fmt, ...) {
    char message[400];
    va_list args;
    if (q->p->err.code) return;
    va_start(args, fmt);
    (void)aa_number_vprint(message, sizeof message, fmt, args);
    va_end(args);
    aa_disarm(message);
    (void)aa_fail(&q->p->err, AA_EFORMAT, "%s:%d: %s", q->name, q->line, message);
}

/* ---- words ----------------------------------------------------------------------------------- */

static void skip(parser *q) {
    for (; q->at < q->end; q->at++) {
        if (q->end - q->at > 1 && q->at[0] == '/' && q->at[1] == '/')
            while (q->at + 1 < q->end && q->at[1] != '\n') q->at++;
        else if (*q->at == '\n') q->line++;
        else if (*q->at != ' ' && *q->at != '\t' && *q->at != '\r') return;
    }
}

static bool peek(parser *q, char c) {
    skip(q);
    return q->at < q->end && *q->at == c;
}

static bool take(parser *q, char c) {
    if (!peek(q, c)) return false;
    q->at++;
    return true;
}

static bool want(parser *q, char c) {
    if (take(q, c)) return true;
    if (q->at == q->end) FAIL(q, "the text ends where '%c' should follow", c);
    FAIL(q, "found '%c' where '%c' should be", *q->at, c);
}

static bool letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (c >= '0' && c <= '9');
}

static bool take_word(parser *q, word *out) {
    skip(q);
    out->s = q->at;
    while (q->at < q->end && letter(*q->at)) q->at++;
    out->n = (size_t)(q->at - out->s);
    if (out->n == 0) FAIL(q, "a name should be here");
    if (out->n > AA_MIL_MAX_NAME) FAIL(q, "a name of more than %d bytes", AA_MIL_MAX_NAME);
    return true;
}

static bool is(word w, const char *s) { return w.n == strlen(s) && memcmp(w.s, s, w.n) == 0; }

static bool want_word(parser *q, const char *s) {
    word w;
    if (!take_word(q, &w)) return false;
    if (!is(w, s)) FAIL(q, "found '%.*s' where '%s' should be", (int)w.n, w.s, s);
    return true;
}

static bool take_number(parser *q, double *out) {
    char digits[64];
    size_t n = 0;
    skip(q);
    while (q->at + n < q->end && n < sizeof digits - 1 &&
           (letter(q->at[n]) || q->at[n] == '.' || q->at[n] == '-' || q->at[n] == '+'))
        n++;
    memcpy(digits, q->at, n);
    digits[n] = 0;
    char *end;
    if (strcmp(digits, "true") == 0 || strcmp(digits, "false") == 0) {
        *out = digits[0] == 't';
    } else {
        *out = aa_number_read(digits, &end);
        if (n == 0 || *end || !isfinite(*out)) FAIL(q, "'%s' is no number", digits);
    }
    q->at += n;
    return true;
}

/* Whole numbers that doubles hold exactly. */
static bool take_whole(parser *q, int64_t *out, int64_t least, int64_t most) {
    double v;
    if (!take_number(q, &v)) return false;
    if (v != floor(v) || v < (double)least || v > (double)most)
        FAIL(q, "%g is not allowed here: whole, %lld to %lld", v, (long long)least,
             (long long)most);
    *out = (int64_t)v;
    return true;
}

static const char *take_string(parser *q) {
    if (!want(q, '"')) return NULL;
    const char *from = q->at;
    while (q->at < q->end && *q->at != '"' && *q->at != '\n') q->at += *q->at == '\\' ? 2 : 1;
    if (q->at >= q->end || *q->at != '"') {
        q->at = q->at > q->end ? q->end : q->at;
        fail(q, "a text in quotes does not end");
        return NULL;
    }
    size_t n = 0, size = (size_t)(q->at - from);
    char *copy = aa__mil_alloc(q->p, size + 1, 1);
    if (!copy) return NULL;
    for (size_t i = 0; i < size; i++) {
        if (from[i] == '\\') i++;
        if (from[i] == 0 || from[i] == '\n')
            fail(q, "a text in quotes holds a zero byte or a line break");
        copy[n++] = from[i];
    }
    q->at++;
    return copy;
}

/* ---- types ----------------------------------------------------------------------------------- */

enum { MOST_DIM = 1 << 30 };

/* "[a, b, ...]", up to AA_MIL_MAX_RANK. */
static bool take_dims(parser *q, int64_t *dim, int *n, int64_t least) {
    *n = 0;
    if (!want(q, '[')) return false;
    while (!take(q, ']')) {
        if (*n == AA_MIL_MAX_RANK)
            FAIL(q, "more than %d axes: the engine has no more (C31)", AA_MIL_MAX_RANK);
        if (*n && !want(q, ',')) return false;
        if (peek(q, '?') || peek(q, 's'))
            FAIL(q, "an axis of unknown length: shapes must be static (C37)");
        if (!take_whole(q, &dim[*n], least, MOST_DIM)) return false;
        ++*n;
    }
    return true;
}

static bool find_dtype(parser *q, word w, aa_mil_dtype *out) {
    for (int t = 0; t < AA_MIL_DTYPE_COUNT; t++)
        if (is(w, aa_mil_dtype_name((aa_mil_dtype)t))) {
            *out = (aa_mil_dtype)t;
            return true;
        }
    FAIL(q, "'%.*s' is no type", (int)w.n, w.s);
}

static bool take_buffer(parser *q, aa_mil_type *t) {
    int n, m;
    t->buffer = true;
    if (!want(q, ',') || !want_word(q, "shape") || !want(q, '=') ||
        !take_dims(q, t->dim, &t->rank, 1) || !want(q, ',') || !want_word(q, "strides") ||
        !want(q, '=') || !take_dims(q, t->stride, &n, 1) || !want(q, ',') ||
        !want_word(q, "interleave_factors") || !want(q, '=') ||
        !take_dims(q, t->interleave, &m, 1))
        return false;
    if (n != t->rank || m != t->rank || n == 0)
        FAIL(q, "shape, strides and interleave_factors of a buffer have %d, %d and %d axes",
             t->rank, n, m);
    for (int i = 0; i < n; i++) {
        int64_t inner = i + 1 < n ? t->stride[i + 1] * t->dim[i + 1] : 1;
        if (t->stride[i] < inner || t->stride[i] > AA_MIL_MAX_ELEMENTS / t->dim[i])
            FAIL(q, "stride %d of a buffer is %lld, below the %lld elements of the axes in it, "
                 "or too large", i, (long long)t->stride[i], (long long)inner);
    }
    return true;
}

static bool take_type(parser *q, aa_mil_type *t) {
    word w;
    *t = (aa_mil_type){ 0 };
    if (!take_word(q, &w)) return false;
    bool tensor = is(w, "tensor"), buffer = is(w, "tensor_buffer");
    if (!tensor && !buffer) {
        t->scalar = true;
        return find_dtype(q, w, &t->dtype);
    }
    if (!want(q, '<') || !take_word(q, &w) || !find_dtype(q, w, &t->dtype)) return false;
    if (buffer ? !take_buffer(q, t)
               : !want(q, ',') || !take_dims(q, t->dim, &t->rank, 1))
        return false;
    if (!want(q, '>')) return false;
    if (!aa__mil_fits(t)) FAIL(q, "a tensor of more than 2^40 elements");
    if (t->rank == 0 && q->p->dialect == AA_MIL_1_0) t->scalar = true;
    return true;
}

/* ---- literals -------------------------------------------------------------------------------- */

/* One number of a literal; whole, and so that doubles hold it exactly, unless the type is real. */
static bool take_element(parser *q, aa_mil_dtype t, double *out) {
    const int64_t most = (int64_t)1 << 53;
    int64_t whole;
    if (aa__mil_real(t)) return take_number(q, out);
    if (!take_whole(q, &whole, -most, most)) return false;
    *out = (double)whole;
    return true;
}

/* Numbers in nested brackets; the nesting must be that of the type. */
static bool take_nested(parser *q, const aa_mil_type *t, int axis, double *out, size_t *at) {
    if (!want(q, '[')) return false;
    for (int64_t i = 0; i < t->dim[axis]; i++) {
        if (i && !want(q, ',')) return false;
        const bool ok = axis + 1 < t->rank ? take_nested(q, t, axis + 1, out, at)
                                           : take_element(q, t->dtype, &out[(*at)++]);
        if (!ok) return false;
    }
    return want(q, ']');
}

static bool take_literal(parser *q, aa_mil_literal *out, const aa_mil_type *type);

/* path = string("..."), offset = uint64(n) */
static bool take_blob(parser *q, aa_mil_literal *out) {
    bool path = false, offset = false;
    aa_mil_type type;
    word key;
    out->kind = AA_MIL_BLOB;
    if (!want(q, '(')) return false;
    do {
        if (!take_word(q, &key) || !want(q, '=') || !take_type(q, &type) || !want(q, '('))
            return false;
        if (is(key, "path") && type.dtype == AA_MIL_STRING) {
            path = (out->text = take_string(q)) != NULL;
        } else if (is(key, "offset") && type.dtype == AA_MIL_UINT64) {
            int64_t v = 0;
            offset = take_whole(q, &v, 0, (int64_t)1 << 50);
            out->offset = (uint64_t)v;
        } else {
            FAIL(q, "BLOBFILE has no '%.*s' of this type, only path = string(...) and offset = "
                 "uint64(...)", (int)key.n, key.s);
        }
        if (!want(q, ')')) return false;
    } while (take(q, ','));
    if (!path || !offset) FAIL(q, "BLOBFILE needs path and offset");
    return want(q, ')');
}

static bool take_literal(parser *q, aa_mil_literal *out, const aa_mil_type *type) {
    *out = (aa_mil_literal){ .type = *type, .kind = AA_MIL_NUMBERS };
    if (!want(q, '(')) return false;
    if (peek(q, 'B')) {
        if (!want_word(q, "BLOBFILE") || !take_blob(q, out)) return false;
    } else if (type->dtype == AA_MIL_STRING) {
        out->kind = AA_MIL_TEXT;
        if (type->rank) FAIL(q, "lists of texts are not supported");
        out->text = take_string(q);
        if (!out->text) return false;
    } else {
        size_t at = 0;
        out->n = (size_t)aa_mil_elements(type);
        if (out->n > (size_t)(q->end - q->at) / 2 + 1)     /* each takes two bytes of text */
            FAIL(q, "%zu numbers do not fit into what is left of the text", out->n);
        double *number = aa__mil_alloc(q->p, out->n, sizeof *number);
        if (!number) return false;
        out->number = number;
        const bool ok = type->rank ? take_nested(q, type, 0, number, &at)
                                   : take_element(q, type->dtype, number);
        if (!ok) return false;
    }
    return want(q, ')');
}

static const aa_mil_literal *keep(parser *q, const aa_mil_literal *l) {
    aa_mil_literal *copy = aa__mil_alloc(q->p, 1, sizeof *copy);
    if (copy) *copy = *l;
    return copy;
}

/* ---- statements ------------------------------------------------------------------------------ */

static int take_var(parser *q, const aa_mil_func *f) {
    word w;
    if (!take_word(q, &w)) return -1;
    int v = aa__mil_find(f, w.s, w.n);
    if (v < 0) fail(q, "'%.*s' is not defined before it is used", (int)w.n, w.s);
    return v;
}

/* A name of a type in front of '(' or '<' begins a literal; every other word is a variable. */
static bool at_literal(parser *q) {
    word w;
    const char *back;
    int line;
    skip(q);
    back = q->at;
    line = q->line;
    if (q->at == q->end || !letter(*q->at) || !take_word(q, &w)) return false;
    bool literal = peek(q, '(') || peek(q, '<');
    q->at = back;
    q->line = line;
    return literal;
}

static bool take_argument(parser *q, aa_mil_func *f) {
    enum { MOST_PARTS = 1024 };
    int parts[MOST_PARTS], n = 0;
    char key[AA_MIL_MAX_NAME + 1];
    aa_mil_literal l;
    aa_mil_type type;
    word w;
    if (!take_word(q, &w) || !want(q, '=')) return false;
    memcpy(key, w.s, w.n);
    key[w.n] = 0;
    if (at_literal(q)) {
        if (!take_type(q, &type) || !take_literal(q, &l, &type)) return false;
        aa_mil_arg *a = aa__mil_arg(f, key, 0);
        return a && (a->literal = keep(q, &l)) != NULL;
    }
    bool tuple = take(q, '(');
    do {
        if (n == MOST_PARTS) FAIL(q, "a tuple of more than %d parts", MOST_PARTS);
        if ((parts[n] = take_var(q, f)) < 0) return false;
        n++;
    } while (tuple && take(q, ','));
    if (tuple && !want(q, ')')) return false;
    aa_mil_arg *a = aa__mil_arg(f, key, n);
    if (!a) return false;
    a->tuple = tuple;
    memcpy(a->var, parts, (size_t)n * sizeof *parts);
    return true;
}

/* [name = string("n"), val = T(...)] */
static bool take_attributes(parser *q, aa_mil_func *f) {
    word key;
    aa_mil_literal l;
    aa_mil_type type;
    if (!take(q, '[')) return true;
    do {
        if (!take_word(q, &key) || !want(q, '=') || !take_type(q, &type) ||
            !take_literal(q, &l, &type))
            return false;
        if (is(key, "name") && l.kind == AA_MIL_TEXT) {
            f->pending.name = l.text;
        } else if (is(key, "val") && f->pending.row->rule == AA_MIL_RULE_CONST) {
            aa_mil_arg *a = aa__mil_arg(f, "val", 0);
            if (!a || !(a->literal = keep(q, &l))) return false;
        } else {
            FAIL(q, "an operation has no attribute '%.*s' of this type", (int)key.n, key.s);
        }
    } while (take(q, ','));
    return want(q, ']');
}

typedef struct declared {
    word name[AA_MIL_MAX_RESULTS];
    aa_mil_type type[AA_MIL_MAX_RESULTS];
    int n;
} declared;

/* The operation's results get the declared names and types, if inference says the same. */
static bool define(parser *q, aa_mil_func *f, const declared *d) {
    aa_mil_type type[AA_MIL_MAX_RESULTS];
    char name[AA_MIL_MAX_NAME + 1];
    aa_err err = { 0 };
    int n = f->pending.n_results = d->n;
    if (aa_mil_infer(f, &f->pending, &n, type, &err)) FAIL(q, "%s", err.message);
    if (n && n != d->n) FAIL(q, "'%s' has %d results, not %d", f->pending.row->kind, n, d->n);
    f->pending.results = aa__mil_alloc(q->p, (size_t)d->n, sizeof *f->pending.results);
    if (!f->pending.results) return false;
    for (int i = 0; i < d->n; i++) {
        if (n && !aa_mil_type_equal(&type[i], &d->type[i])) {
            aa_text said = { 0 }, is_ = { 0 };
            aa_mil_type_text(&d->type[i], false, &said);
            aa_mil_type_text(&type[i], false, &is_);
            fail(q, "'%.*s' is declared %s, but '%s' gives %s", (int)d->name[i].n, d->name[i].s,
                 said.data ? said.data : "", f->pending.row->kind, is_.data ? is_.data : "");
            aa_text_release(&said);
            aa_text_release(&is_);
            return false;
        }
        memcpy(name, d->name[i].s, d->name[i].n);
        name[d->name[i].n] = 0;
        if ((f->pending.results[i] = aa__mil_var(f, name, &d->type[i], f->n_ops)) < 0)
            return false;
    }
    if (f->pending.row->rule == AA_MIL_RULE_CONST)
        f->vars[f->pending.results[0]].constant = f->pending.args[0].literal;
    aa__mil_append(f);
    return true;
}

static bool statement(parser *q, aa_mil_func *f) {
    declared d = { .n = 0 };
    word kind;
    do {
        if (d.n == AA_MIL_MAX_RESULTS)
            FAIL(q, "an operation with more than %d results", AA_MIL_MAX_RESULTS);
        if (!take_type(q, &d.type[d.n]) || !take_word(q, &d.name[d.n])) return false;
        d.n++;
    } while (take(q, ','));
    if (!want(q, '=') || !take_word(q, &kind)) return false;
    f->pending = (aa_mil_op){ .row = aa_mil_row_find(kind.s, kind.n), .line = q->line };
    if (!f->pending.row) FAIL(q, "there is no operation '%.*s'", (int)kind.n, kind.s);
    if (take(q, '<')) {
        word opset;
        if (!take_word(q, &opset) || !want(q, '>')) return false;
        f->pending.opset = aa__mil_text(q->p, opset.s, opset.n);
    }
    if (!want(q, '(')) return false;
    while (!take(q, ')')) {
        if (f->pending.n_args && !want(q, ',')) return false;
        if (!take_argument(q, f)) return false;
    }
    return take_attributes(q, f) && want(q, ';') && define(q, f, &d);
}

/* ---- functions and programs ------------------------------------------------------------------ */

/* "(" type name, ... ")" */
static bool inputs(parser *q, aa_mil_func *f) {
    char text[AA_MIL_MAX_NAME + 1];
    word name;
    if (!want(q, '(')) return false;
    while (!take(q, ')')) {
        aa_mil_type type;
        if (f->n_inputs && !want(q, ',')) return false;
        if (!take_type(q, &type) || !take_word(q, &name)) return false;
        memcpy(text, name.s, name.n);
        text[name.n] = 0;
        if (aa_mil_input(f, text, type) < 0) return false;
    }
    return true;
}

static bool outputs(parser *q, aa_mil_func *f) {
    if (!want(q, '-') || !want(q, '>') || !want(q, '(')) return false;
    do {
        int v = take_var(q, f);
        if (v < 0) return false;
        aa__mil_add_output(f, v);
    } while (take(q, ','));
    return want(q, ')') && want(q, ';');
}

static bool function(parser *q) {
    word name, opset;
    char texts[2][AA_MIL_MAX_NAME + 1];
    if (!want_word(q, "func")) return false;
    int line = q->line;
    if (!take_word(q, &name) || !want(q, '<') || !take_word(q, &opset) || !want(q, '>'))
        return false;
    memcpy(texts[0], name.s, name.n);
    memcpy(texts[1], opset.s, opset.n);
    texts[0][name.n] = texts[1][opset.n] = 0;
    aa_mil_func *f = aa_mil_function(q->p, texts[0], texts[1]);
    if (!f) return false;
    f->line = line;
    if (!inputs(q, f) || !want(q, '{')) return false;
    while (!take(q, '}'))
        if (!statement(q, f)) return false;
    return outputs(q, f);
}

/* buildInfo = dict<type, type> */
static bool info_type(parser *q) {
    aa_mil_type type;
    return want_word(q, "buildInfo") && want(q, '=') && want_word(q, "dict") && want(q, '<') &&
           take_type(q, &type) && want(q, ',') && take_type(q, &type) && want(q, '>');
}

/* and behind it ({{"key", "value"}, ...}), or with nothing in the braces. */
static bool build_info(parser *q) {
    enum { MOST = 64 };
    if (!info_type(q) || !want(q, '(') || !want(q, '{')) return false;
    q->p->info = aa__mil_alloc(q->p, 2 * MOST, sizeof *q->p->info);
    if (!q->p->info) return false;
    while (!take(q, '}')) {
        int n = q->p->n_info;
        if (n == 2 * MOST) FAIL(q, "buildInfo has more than %d entries", MOST);
        if (n && !want(q, ',')) return false;
        if (!want(q, '{') || !(q->p->info[n] = take_string(q)) || !want(q, ',') ||
            !(q->p->info[n + 1] = take_string(q)) || !want(q, '}'))
            return false;
        q->p->n_info += 2;
    }
    return want(q, ')') && want(q, ']');
}

static bool program(parser *q) {
    double version;
    if (!want_word(q, "program") || !want(q, '(') || !take_number(q, &version) || !want(q, ')'))
        return false;
    if (version != 1.0 && version != 1.3)
        FAIL(q, "version %g of MIL is not supported, only 1.0 and 1.3", version);
    q->p->dialect = version == 1.0 ? AA_MIL_1_0 : AA_MIL_1_3;
    if (take(q, '[') && !build_info(q)) return false;
    if (!want(q, '{')) return false;
    while (!take(q, '}'))
        if (!function(q)) return false;
    skip(q);
    if (q->at < q->end) FAIL(q, "text follows the end of the program");
    return true;
}

aa_status aa_mil_parse(aa_mil_program *out, const char *text, size_t size, const char *name,
                       aa_err *err) {
    aa_mil_program p;
    aa_mil_init(&p, AA_MIL_1_3);
    if (size == 0) text = "";            /* an empty file may come as NULL */
    parser q = { .at = text, .end = text + size, .name = name, .line = 1, .p = &p };
    if (!program(&q) && !p.err.code) fail(&q, "malformed");
    if (!p.err.code && p.n_funcs == 0) fail(&q, "the program has no function");
    if (!p.err.code) {
        *out = p;
        return AA_OK;
    }
    /* Mistakes that the builder finds know no line. */
    if (strncmp(p.err.message, name, strlen(name)) != 0)
        aa_err_context(&p.err, "%s:%d", name, q.line);
    aa_status st = aa_fail(err, p.err.code, "%s", p.err.message);
    aa_mil_release(&p);
    return st;
}
