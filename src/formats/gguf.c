/* formats/gguf: reading with every claim checked, and writing.
 *
 * A file is taken from strangers. Counts are compared with what the rest of the file can hold
 * before memory is taken for them, lengths before anything is looked at, and the data of the
 * tensors must lie as the format has it: one behind the other, in order, padded, to the end of the
 * file. What passes can be used without looking again. Nothing is copied: names, strings and data
 * are views of the mapped file.
 */
#include "formats/gguf.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/memory.h"

enum {
    VERSION = 3, OLDEST = 2, DEFAULT_ALIGNMENT = 32, MOST_ALIGNMENT = 1 << 20, NAME_MOST = 65535,
    LEAST_KEY = 14,           /* bytes of the shortest key: a name of one character, a u8 */
    LEAST_TENSOR = 33,        /* of one dimension */
    SHOWN = 80                /* characters of a name in messages */
};

static const struct { const char *name; size_t size; } kinds[AA_GGUF_KIND_COUNT] = {
    [AA_GGUF_U8] = {"u8", 1},          [AA_GGUF_I8] = {"i8", 1},         [AA_GGUF_U16] = {"u16", 2},
    [AA_GGUF_I16] = {"i16", 2},        [AA_GGUF_U32] = {"u32", 4},       [AA_GGUF_I32] = {"i32", 4},
    [AA_GGUF_F32] = {"f32", 4},        [AA_GGUF_BOOL] = {"bool", 1},     [AA_GGUF_U64] = {"u64", 8},
    [AA_GGUF_I64] = {"i64", 8},        [AA_GGUF_F64] = {"f64", 8},
    [AA_GGUF_STRING] = {"string", 0},  [AA_GGUF_ARRAY] = {"array", 0},
};

const char *aa_gguf_kind_name(aa_gguf_kind kind) {
    return (unsigned)kind < AA_GGUF_KIND_COUNT ? kinds[kind].name : "?";
}

/* ggml's numbers; a block of `block` elements takes `bytes`. */
static const struct { const char *name; uint16_t block, bytes; } types[] = {
    [0] = {"F32", 1, 4},          [1] = {"F16", 1, 2},          [2] = {"Q4_0", 32, 18},
    [3] = {"Q4_1", 32, 20},       [6] = {"Q5_0", 32, 22},       [7] = {"Q5_1", 32, 24},
    [8] = {"Q8_0", 32, 34},       [10] = {"Q2_K", 256, 84},     [11] = {"Q3_K", 256, 110},
    [12] = {"Q4_K", 256, 144},    [13] = {"Q5_K", 256, 176},    [14] = {"Q6_K", 256, 210},
    [16] = {"IQ2_XXS", 256, 66},  [17] = {"IQ2_XS", 256, 74},   [18] = {"IQ3_XXS", 256, 98},
    [19] = {"IQ1_S", 256, 50},    [20] = {"IQ4_NL", 32, 18},    [21] = {"IQ3_S", 256, 110},
    [22] = {"IQ2_S", 256, 82},    [23] = {"IQ4_XS", 256, 136},  [24] = {"I8", 1, 1},
    [25] = {"I16", 1, 2},         [26] = {"I32", 1, 4},         [27] = {"I64", 1, 8},
    [28] = {"F64", 1, 8},         [29] = {"IQ1_M", 256, 56},    [30] = {"BF16", 1, 2},
    [34] = {"TQ1_0", 256, 54},    [35] = {"TQ2_0", 256, 66},    [39] = {"MXFP4", 32, 17},
    [40] = {"NVFP4", 64, 36},     [41] = {"Q1_0", 128, 18},
};
enum { N_TYPES = sizeof types / sizeof *types };

const char *aa_gguf_type_name(uint32_t type) { return type < N_TYPES ? types[type].name : NULL; }

bool aa_gguf_type_named(const char *name, uint32_t *out) {
    for (uint32_t i = 0; i < N_TYPES; i++)
        if (types[i].name && strcmp(types[i].name, name) == 0) {
            *out = i;
            return true;
        }
    return false;
}

static uint64_t padded(uint64_t n, uint64_t alignment) {
    return n + (alignment - n % alignment) % alignment;
}

/* ---- numbers and strings --------------------------------------------------------------------- */

/* What is left of a file. */
typedef struct cursor { const unsigned char *at; size_t left; const char *path; aa_err *err; }
    cursor;

static aa_status take(cursor *c, uint64_t n, const char *what, const unsigned char **out) {
    *out = c->at;
    if (n > c->left)
        return aa_fail(c->err, AA_EFORMAT, "'%s' ends inside %s, which takes %llu bytes where %zu "
                       "are left: it is cut short or damaged", c->path, what,
                       (unsigned long long)n, c->left);
    c->at += n;
    c->left -= (size_t)n;
    return AA_OK;
}

static uint64_t load(const unsigned char *p, size_t n) {
    uint64_t v = 0;

    for (size_t i = n; i-- > 0;) v = v << 8 | p[i];
    return v;
}

static aa_status take_int(cursor *c, size_t size, const char *what, uint64_t *out) {
    const unsigned char *p;

    AA_TRY(take(c, size, what, &p));
    *out = load(p, size);
    return AA_OK;
}

static aa_status take_string(cursor *c, const char *what, aa_gguf_name *out) {
    uint64_t n;
    const unsigned char *p;

    AA_TRY(take_int(c, 8, what, &n));
    AA_TRY(take(c, n, what, &p));
    *out = (aa_gguf_name){(const char *)p, (size_t)n};
    return AA_OK;
}

/* Of a key or tensor: fit for messages, and not empty. */
static aa_status take_name(cursor *c, const char *what, aa_gguf_name *out) {
    AA_TRY(take_string(c, what, out));
    if (out->n == 0 || out->n > NAME_MOST)
        return aa_fail(c->err, AA_EFORMAT, "'%s': %s has %zu bytes; 1 to %d are allowed", c->path,
                       what, out->n, NAME_MOST);
    for (size_t i = 0; i < out->n; i++)
        if ((unsigned char)out->s[i] < ' ' || out->s[i] == 0x7f)
            return aa_fail(c->err, AA_EFORMAT, "'%s': %s holds a control character", c->path,
                           what);
    return AA_OK;
}

#define SHOW(name) (int)((name).n < SHOWN ? (name).n : SHOWN), (name).s

/* ---- keys ------------------------------------------------------------------------------------ */

static aa_status bad_key(const cursor *c, const aa_gguf_key *k, const char *what) {
    return aa_fail(c->err, AA_EFORMAT, "'%s': key '%.*s': %s", c->path, SHOW(k->name), what);
}

static aa_status take_values(cursor *c, aa_gguf_key *k) {
    size_t size = kinds[k->kind].size;
    aa_gguf_name ignored;

    k->data = c->at;
    if (k->kind == AA_GGUF_STRING) {
        if (k->n > c->left / 8) return bad_key(c, k, "the file is too short for so many strings");
        for (uint64_t i = 0; i < k->n; i++) AA_TRY(take_string(c, "the value of a key", &ignored));
    } else {
        if (k->n > c->left / size) return bad_key(c, k, "the file is too short for its values");
        AA_TRY(take(c, k->n * size, "the value of a key", &k->data));
    }
    k->size_bytes = (size_t)(c->at - k->data);
    for (size_t i = 0; k->kind == AA_GGUF_BOOL && i < k->n; i++)
        if (k->data[i] > 1) return bad_key(c, k, "a bool must be 0 or 1");
    return AA_OK;
}

static aa_status take_key(cursor *c, aa_gguf_key *k) {
    uint64_t kind;

    AA_TRY(take_name(c, "the name of a key", &k->name));
    AA_TRY(take_int(c, 4, "the kind of a key", &kind));
    k->n = 1;
    k->array = kind == AA_GGUF_ARRAY;
    if (k->array) {
        AA_TRY(take_int(c, 4, "the kind of an array", &kind));
        AA_TRY(take_int(c, 8, "the length of an array", &k->n));
        if (kind == AA_GGUF_ARRAY)
            return aa_fail(c->err, AA_EUNSUPPORTED, "'%s': key '%.*s' is an array of arrays, which "
                           "no model needs", c->path, SHOW(k->name));
    }
    if (kind >= AA_GGUF_KIND_COUNT)
        return aa_fail(c->err, AA_EFORMAT, "'%s': key '%.*s' is of kind %llu; kinds are 0 to %d",
                       c->path, SHOW(k->name), (unsigned long long)kind, AA_GGUF_KIND_COUNT - 1);
    k->kind = (aa_gguf_kind)kind;
    return take_values(c, k);
}

static int by_name(const void *a, const void *b) {
    const aa_gguf_name *x = *(const aa_gguf_name *const *)a, *y = *(const aa_gguf_name *const *)b;
    int order = memcmp(x->s, y->s, x->n < y->n ? x->n : y->n);

    return order ? order : (x->n > y->n) - (x->n < y->n);
}

/* Sorts the names, which are the first members of n entries of size bytes; there must be no two. */
static aa_status make_index(const aa_gguf_name ***out, const void *entries, size_t n, size_t size,
                            const char *path, aa_err *err) {
    const aa_gguf_name **index = aa_heap_alloc(n ? n : 1, sizeof *index);

    if (!index) return aa_fail_memory(err, "an index of names", n * sizeof *index);
    for (size_t i = 0; i < n; i++) index[i] = (const void *)((const char *)entries + i * size);
    qsort(index, n, sizeof *index, by_name);
    *out = index;
    for (size_t i = 1; i < n; i++)
        if (!by_name(&index[i - 1], &index[i]))
            return aa_fail(err, AA_EFORMAT, "'%s' has '%.*s' twice", path, SHOW(*index[i]));
    return AA_OK;
}

static const void *find(const aa_gguf_name *const *index, size_t n, const char *name) {
    const aa_gguf_name wanted = {name, strlen(name)}, *key = &wanted;
    const aa_gguf_name *const *found = bsearch(&key, index, n, sizeof *index, by_name);

    return found ? *found : NULL;
}

const aa_gguf_key *aa_gguf_find_key(const aa_gguf *g, const char *name) {
    return find(g->key_index, g->n_keys, name);
}

const aa_gguf_tensor *aa_gguf_find_tensor(const aa_gguf *g, const char *name) {
    return find(g->tensor_index, g->n_tensors, name);
}

bool aa_gguf_int(const aa_gguf_key *k, uint64_t i, int64_t *out) {
    static const int shift[AA_GGUF_KIND_COUNT] = {[AA_GGUF_I8] = 56, [AA_GGUF_I16] = 48,
                                                  [AA_GGUF_I32] = 32};
    size_t size = kinds[k->kind].size;
    bool whole = k->kind <= AA_GGUF_I32 || k->kind == AA_GGUF_U64 || k->kind == AA_GGUF_I64;

    if (!whole || i >= k->n) return false;
    uint64_t v = load(k->data + i * size, size);
    if (k->kind == AA_GGUF_U64 && v > INT64_MAX) return false;
    *out = (int64_t)(v << shift[k->kind]) >> shift[k->kind];
    return true;
}

bool aa_gguf_real(const aa_gguf_key *k, uint64_t i, double *out) {
    float narrow;
    int64_t whole;

    if (i >= k->n) return false;
    if (k->kind == AA_GGUF_F32) {
        memcpy(&narrow, k->data + 4 * i, 4);
        *out = (double)narrow;
    } else if (k->kind == AA_GGUF_F64) memcpy(out, k->data + 8 * i, 8);
    else if (aa_gguf_int(k, i, &whole)) *out = (double)whole;
    else return false;
    return true;
}

bool aa_gguf_bool(const aa_gguf_key *k, uint64_t i, bool *out) {
    if (k->kind != AA_GGUF_BOOL || i >= k->n) return false;
    *out = k->data[i] != 0;
    return true;
}

aa_gguf_name aa_gguf_string(const unsigned char **at) {
    aa_gguf_name s = {(const char *)*at + 8, (size_t)load(*at, 8)};

    *at += 8 + s.n;
    return s;
}

/* ---- one file -------------------------------------------------------------------------------- */

/* A file while it is read; what it holds is then taken over by the model. */
typedef struct part {
    aa_gguf g;
    uint64_t alignment;
} part;

/* A whole number that a key of the file says, if it has it; else *out stays. */
static aa_status number_of(const aa_gguf *g, const char *name, int64_t most, int64_t *out,
                           aa_err *err) {
    const aa_gguf_key *k = aa_gguf_find_key(g, name);
    int64_t v;

    if (!k) return AA_OK;
    if (k->array || !aa_gguf_int(k, 0, &v) || v < 0 || v > most)
        return aa_fail(err, AA_EFORMAT, "'%s': key '%s' must be a whole number from 0 to %lld",
                       g->files[0].path, name, (long long)most);
    *out = v;
    return AA_OK;
}

static aa_status take_keys(cursor *c, part *p, uint64_t n) {
    int64_t alignment = DEFAULT_ALIGNMENT;

    if (n > c->left / LEAST_KEY)
        return aa_fail(c->err, AA_EFORMAT, "'%s' claims %llu keys, more than its %zu bytes can "
                       "hold: it is cut short or damaged", c->path, (unsigned long long)n,
                       p->g.files[0].map.size_bytes);
    p->g.keys = aa_heap_alloc(n ? n : 1, sizeof *p->g.keys);
    if (!p->g.keys) return aa_fail_memory(c->err, "the list of keys", n * sizeof *p->g.keys);
    for (; p->g.n_keys < n; p->g.n_keys++) AA_TRY(take_key(c, &p->g.keys[p->g.n_keys]));
    AA_TRY(make_index(&p->g.key_index, p->g.keys, n, sizeof *p->g.keys, c->path, c->err));
    AA_TRY(number_of(&p->g, "general.alignment", MOST_ALIGNMENT, &alignment, c->err));
    if (alignment == 0 || alignment % 8)
        return aa_fail(c->err, AA_EFORMAT, "'%s': key 'general.alignment' is %lld; it must be a "
                       "multiple of 8", c->path, (long long)alignment);
    p->alignment = (uint64_t)alignment;
    return AA_OK;
}

static aa_status bad_tensor(const cursor *c, const aa_gguf_tensor *t, aa_status code,
                            const char *what) {
    return aa_fail(c->err, code, "'%s': tensor '%.*s': %s", c->path, SHOW(t->name), what);
}

static aa_status take_shape(cursor *c, aa_gguf_tensor *t) {
    uint64_t n_dims, n = 1, type;

    AA_TRY(take_int(c, 4, "the shape of a tensor", &n_dims));
    if (n_dims < 1 || n_dims > AA_GGUF_MAX_DIMS)
        return bad_tensor(c, t, AA_EFORMAT, "it must have 1 to 4 dimensions");
    t->n_dims = (int)n_dims;
    for (int d = 0; d < t->n_dims; d++) {
        AA_TRY(take_int(c, 8, "the shape of a tensor", &t->dims[d]));
        if (t->dims[d] == 0 || __builtin_mul_overflow(n, t->dims[d], &n) || n > INT64_MAX)
            return bad_tensor(c, t, AA_EFORMAT, "its dimensions are 0 or too large");
    }
    AA_TRY(take_int(c, 4, "the type of a tensor", &type));
    t->type = (uint32_t)type;
    if (!aa_gguf_type_name(t->type))
        return aa_fail(c->err, AA_EUNSUPPORTED, "'%s': tensor '%.*s' is of type %u, which is "
                       "unknown", c->path, SHOW(t->name), t->type);
    if (t->dims[0] % types[t->type].block)
        return aa_fail(c->err, AA_EFORMAT, "'%s': tensor '%.*s' has rows of %llu elements; %s "
                       "needs a multiple of %u", c->path, SHOW(t->name),
                       (unsigned long long)t->dims[0], types[t->type].name,
                       types[t->type].block);
    return AA_OK;
}

/* The tensor's place is where the one before has left off. */
static aa_status take_tensor(cursor *c, aa_gguf_tensor *t, uint64_t alignment, uint64_t *at) {
    uint64_t offset, size;

    AA_TRY(take_name(c, "the name of a tensor", &t->name));
    AA_TRY(take_shape(c, t));
    AA_TRY(take_int(c, 8, "the offset of a tensor", &offset));
    size = aa_gguf_tensor_bytes(t->type, t->n_dims, t->dims);
    if (size == 0 || size > SIZE_MAX / 4)
        return bad_tensor(c, t, AA_EFORMAT, "it is too large for any file");
    if (offset != *at)
        return aa_fail(c->err, AA_EFORMAT, "'%s': tensor '%.*s' begins at byte %llu of the data; "
                       "by what lies before it this must be %llu", c->path, SHOW(t->name),
                       (unsigned long long)offset, (unsigned long long)*at);
    t->size_bytes = (size_t)size;
    if (__builtin_add_overflow(*at, padded(size, alignment), at))
        return bad_tensor(c, t, AA_EFORMAT, "it is too large for any file");
    return AA_OK;
}

/* The data, which c has come to but for padding, is there to the last byte. */
static aa_status place_data(cursor *c, part *p) {
    size_t at = p->g.files[0].map.size_bytes - c->left;
    uint64_t skip = padded(at, p->alignment) - at;
    const unsigned char *ignored;

    if (p->g.n_tensors == 0 && skip > c->left) skip = c->left;
    AA_TRY(take(c, skip, "the padding before the data", &ignored));
    for (size_t i = 0; i < p->g.n_tensors; i++) {
        aa_gguf_tensor *t = &p->g.tensors[i];

        if (t->size_bytes > c->left)
            return aa_fail(c->err, AA_EFORMAT, "'%s' ends inside tensor '%.*s', which takes %zu "
                           "bytes where %zu are left: it is cut short or damaged", c->path,
                           SHOW(t->name), t->size_bytes, c->left);
        uint64_t step = padded(t->size_bytes, p->alignment);
        AA_TRY(take(c, step < c->left ? step : c->left, "the data of a tensor", &t->data));
    }
    if (c->left)
        return aa_fail(c->err, AA_EFORMAT, "'%s': %zu bytes follow the last tensor", c->path,
                       c->left);
    return AA_OK;
}

static aa_status take_tensors(cursor *c, part *p, uint64_t n) {
    uint64_t at = 0;

    if (n > c->left / LEAST_TENSOR)
        return aa_fail(c->err, AA_EFORMAT, "'%s' claims %llu tensors, more than its %zu bytes can "
                       "hold: it is cut short or damaged", c->path, (unsigned long long)n,
                       p->g.files[0].map.size_bytes);
    p->g.tensors = aa_heap_alloc(n ? n : 1, sizeof *p->g.tensors);
    if (!p->g.tensors)
        return aa_fail_memory(c->err, "the list of tensors", n * sizeof *p->g.tensors);
    for (; p->g.n_tensors < n; p->g.n_tensors++)
        AA_TRY(take_tensor(c, &p->g.tensors[p->g.n_tensors], p->alignment, &at));
    return place_data(c, p);
}

static aa_status parse(part *p, aa_err *err) {
    const struct aa_gguf_file *f = &p->g.files[0];
    cursor c = {f->map.data, f->map.size_bytes, f->path, err};
    uint64_t version, n_tensors, n_keys;
    const unsigned char *magic;

    AA_TRY(take(&c, 4, "the header", &magic));
    if (memcmp(magic, AA_GGUF_MAGIC, 4) != 0)
        return aa_fail(err, AA_EFORMAT, "'%s' is no GGUF file", f->path);
    AA_TRY(take_int(&c, 4, "the header", &version));
    if (version && !(version & 0xffff))
        return aa_fail(err, AA_EUNSUPPORTED, "'%s' is a GGUF file of a big-endian machine",
                       f->path);
    if (version < OLDEST || version > VERSION)
        return aa_fail(err, AA_EUNSUPPORTED, "'%s' is GGUF of version %llu; supported are %d and "
                       "%d: convert the model anew", f->path, (unsigned long long)version, OLDEST,
                       VERSION);
    AA_TRY(take_int(&c, 8, "the header", &n_tensors));
    AA_TRY(take_int(&c, 8, "the header", &n_keys));
    AA_TRY(take_keys(&c, p, n_keys));
    return take_tensors(&c, p, n_tensors);
}

static aa_status open_part(part *out, const char *path, aa_err *err) {
    part p = {.g.files = aa_heap_alloc(1, sizeof *p.g.files)};
    aa_status st = AA_OK;

    p.g.n_files = p.g.files != NULL;
    if (p.g.files) p.g.files[0].path = aa_heap_strdup(path);
    if (!p.g.files || !p.g.files[0].path) st = aa_fail_memory(err, "a path", strlen(path));
    if (!st) st = aa_map_open(&p.g.files[0].map, path, err);
    if (!st) st = parse(&p, err);
    if (st) aa_gguf_close(&p.g);
    else *out = p;
    return st;
}

/* ---- a model in several files ---------------------------------------------------------------- */

#define SPLIT_FORM "-%05zu-of-%05zu.gguf"
enum { SPLIT_CHARS = sizeof "-00001-of-00003.gguf" - 1, MOST_FILES = 65535 };

static bool ends_with(const char *s, const char *tail) {
    size_t n = strlen(s), m = strlen(tail);

    return n >= m && strcmp(s + n - m, tail) == 0;
}

char *aa_gguf_split_path(const char *path, size_t i, size_t n) {
    size_t stem = strlen(path) - (ends_with(path, ".gguf") ? 5 : 0);

    if (n == 1) return aa_heap_strdup(path);
    return aa_heap_printf("%.*s" SPLIT_FORM, (int)stem, path, i + 1, n);
}

static void move_file(struct aa_gguf_file *to, struct aa_gguf_file *from) {
    *to = *from;
    *from = (struct aa_gguf_file){0};
}

/* Adds the file and its tensors; of the first one the keys, too. */
static aa_status append(aa_gguf *g, part *p, aa_err *err) {
    size_t n = g->n_tensors + p->g.n_tensors;
    void *files = aa_heap_realloc(g->files, g->n_files + 1, sizeof *g->files);

    if (files) g->files = files;
    void *tensors = aa_heap_realloc(g->tensors, n ? n : 1, sizeof *g->tensors);
    if (tensors) g->tensors = tensors;
    if (!files || !tensors)
        return aa_fail_memory(err, "the list of tensors", n * sizeof *g->tensors);
    move_file(&g->files[g->n_files++], &p->g.files[0]);
    if (p->g.n_tensors)
        memcpy(g->tensors + g->n_tensors, p->g.tensors, p->g.n_tensors * sizeof *g->tensors);
    g->n_tensors = n;
    if (g->n_files > 1) return AA_OK;
    g->keys = p->g.keys, g->n_keys = p->g.n_keys, g->key_index = p->g.key_index;
    p->g.keys = NULL, p->g.key_index = NULL;
    return AA_OK;
}

/* File i of n. */
static aa_status append_file(aa_gguf *g, const char *stem, size_t i, size_t n, aa_err *err) {
    char *path = aa_gguf_split_path(stem, i, n);
    int64_t no = -1, count = -1;
    part p;
    aa_status st = path ? open_part(&p, path, err) : aa_fail_memory(err, "a path", 0);

    if (st) aa_err_context(err, "file %zu of %zu", i + 1, n);
    else {
        st = number_of(&p.g, "split.no", MOST_FILES, &no, err);
        if (!st) st = number_of(&p.g, "split.count", MOST_FILES, &count, err);
        if (!st && (no != (int64_t)i || count != (int64_t)n))
            st = aa_fail(err, AA_EFORMAT, "'%s' says that it is file %lld of %lld; by its name it "
                         "is %zu of %zu", path, (long long)no + 1, (long long)count, i + 1, n);
        if (!st) st = append(g, &p, err);
        aa_gguf_close(&p.g);
    }
    aa_heap_free(path);
    return st;
}

/* path is one of n files; its name tells those of the others. */
static aa_status open_all(aa_gguf *g, const char *path, size_t n, aa_err *err) {
    char tail[64];
    size_t len = strlen(path);
    int64_t total = -1;
    bool named = false;

    for (size_t i = 0; i < n && !named && len > SPLIT_CHARS; i++) {
        snprintf(tail, sizeof tail, SPLIT_FORM, i + 1, n);
        named = strcmp(path + len - SPLIT_CHARS, tail) == 0;
    }
    if (!named)
        return aa_fail(err, AA_EFORMAT, "'%s' is one of %zu files of a model, but is not named "
                       "NAME-00001-of-%05zu.gguf, so that the others cannot be found", path, n, n);
    char *stem = aa_heap_printf("%.*s", (int)(len - SPLIT_CHARS), path);
    aa_status st = stem ? AA_OK : aa_fail_memory(err, "a path", len);
    for (size_t i = 0; !st && i < n; i++) st = append_file(g, stem, i, n, err);
    aa_heap_free(stem);
    if (!st) st = number_of(g, "split.tensors.count", INT_MAX, &total, err);
    if (!st && total >= 0 && (size_t)total != g->n_tensors)
        st = aa_fail(err, AA_EFORMAT, "'%s': key 'split.tensors.count' is %lld; the %zu files hold "
                     "%zu tensors", g->files[0].path, (long long)total, n, g->n_tensors);
    return st;
}

aa_status aa_gguf_open(aa_gguf *out, const char *path, aa_err *err) {
    part first;
    aa_gguf g = {0};
    int64_t n_files = 1;

    AA_TRY(open_part(&first, path, err));
    aa_status st = number_of(&first.g, "split.count", MOST_FILES, &n_files, err);
    if (!st) st = n_files > 1 ? open_all(&g, path, (size_t)n_files, err) : append(&g, &first, err);
    aa_gguf_close(&first.g);
    if (!st)
        st = make_index(&g.tensor_index, g.tensors, g.n_tensors, sizeof *g.tensors,
                        g.files[0].path, err);
    if (st) aa_gguf_close(&g);
    else *out = g;
    return st;
}

void aa_gguf_close(aa_gguf *g) {
    for (size_t i = 0; i < g->n_files; i++) {
        if (g->files[i].map.data) aa_sys_map_close(&g->files[i].map);
        aa_heap_free(g->files[i].path);
    }
    aa_heap_free(g->files);
    aa_heap_free(g->keys);
    aa_heap_free(g->tensors);
    aa_heap_free(g->key_index);
    aa_heap_free(g->tensor_index);
    *g = (aa_gguf){0};
}

/* ---- writing --------------------------------------------------------------------------------- */

static void put(aa_text *t, uint64_t v, size_t size) {
    unsigned char bytes[8];

    for (size_t i = 0; i < size; i++) bytes[i] = (unsigned char)(v >> 8 * i);
    aa_text_add_bytes(t, bytes, size);
}

static void put_bytes(aa_text *t, const char *s, size_t n) {
    put(t, n, 8);
    aa_text_add_bytes(t, s, n);
}

static aa_text *begin_key(aa_gguf_header *h, const char *key, size_t n, aa_gguf_kind kind) {
    h->n_keys++;
    put_bytes(&h->keys, key, n);
    put(&h->keys, kind, 4);
    return &h->keys;
}

static aa_text *begin_array(aa_gguf_header *h, const char *key, aa_gguf_kind kind, size_t n) {
    aa_text *t = begin_key(h, key, strlen(key), AA_GGUF_ARRAY);

    put(t, kind, 4);
    put(t, n, 8);
    return t;
}

void aa_gguf_put_int(aa_gguf_header *h, const char *key, aa_gguf_kind kind, int64_t v) {
    put(begin_key(h, key, strlen(key), kind), (uint64_t)v, kinds[kind].size);
}

void aa_gguf_put_f32(aa_gguf_header *h, const char *key, float v) {
    uint32_t bits;

    memcpy(&bits, &v, 4);
    put(begin_key(h, key, strlen(key), AA_GGUF_F32), bits, 4);
}

void aa_gguf_put_string(aa_gguf_header *h, const char *key, const char *s) {
    put_bytes(begin_key(h, key, strlen(key), AA_GGUF_STRING), s, strlen(s));
}

void aa_gguf_put_array(aa_gguf_header *h, const char *key, aa_gguf_kind kind, size_t n,
                       const void *values) {
    aa_text_add_bytes(begin_array(h, key, kind, n), values, n * kinds[kind].size);
}

void aa_gguf_put_strings(aa_gguf_header *h, const char *key, size_t n, const char *const *s,
                         const size_t *len) {
    aa_text *t = begin_array(h, key, AA_GGUF_STRING, n);

    for (size_t i = 0; i < n; i++) put_bytes(t, s[i], len[i]);
}

void aa_gguf_put_key(aa_gguf_header *h, const aa_gguf_key *k) {
    aa_text *t = begin_key(h, k->name.s, k->name.n, k->array ? AA_GGUF_ARRAY : k->kind);

    if (k->array) {
        put(t, k->kind, 4);
        put(t, k->n, 8);
    }
    aa_text_add_bytes(t, k->data, k->size_bytes);
}

uint64_t aa_gguf_tensor_bytes(uint32_t type, int n_dims, const uint64_t *dims) {
    uint64_t size = dims[0] / types[type].block;
    bool overflow = __builtin_mul_overflow(size, types[type].bytes, &size);

    for (int d = 1; d < n_dims; d++) overflow |= __builtin_mul_overflow(size, dims[d], &size);
    return overflow ? 0 : size;
}

void aa_gguf_put_tensor(aa_gguf_header *h, const char *name, uint32_t type, int n_dims,
                        const uint64_t *dims) {
    aa_assert(aa_gguf_type_name(type) && dims[0] % types[type].block == 0);
    h->n_tensors++;
    put_bytes(&h->tensors, name, strlen(name));
    put(&h->tensors, (uint64_t)n_dims, 4);
    for (int d = 0; d < n_dims; d++) put(&h->tensors, dims[d], 8);
    put(&h->tensors, type, 4);
    put(&h->tensors, h->at, 8);
    h->at += padded(aa_gguf_tensor_bytes(type, n_dims, dims), DEFAULT_ALIGNMENT);
}

void aa_gguf_pad(aa_outfile *f) {
    static const unsigned char zeros[DEFAULT_ALIGNMENT];
    uint64_t n = aa_outfile_size(f);

    aa_outfile_write(f, zeros, (size_t)(padded(n, DEFAULT_ALIGNMENT) - n));
}

aa_status aa_gguf_begin(aa_outfile *f, const aa_gguf_header *h, aa_err *err) {
    aa_text head = {0};

    aa_assert(aa_outfile_size(f) == 0);
    aa_text_add(&head, AA_GGUF_MAGIC);
    put(&head, VERSION, 4);
    put(&head, h->n_tensors, 8);
    put(&head, h->n_keys, 8);
    aa_status st = aa_text_status(&head, err);
    if (!st) st = aa_text_status(&h->keys, err);
    if (!st) st = aa_text_status(&h->tensors, err);
    if (!st) {
        aa_outfile_write(f, head.data, head.len);
        aa_outfile_write(f, h->keys.data, h->keys.len);
        aa_outfile_write(f, h->tensors.data, h->tensors.len);
        aa_gguf_pad(f);
    }
    aa_text_release(&head);
    return st;
}

void aa_gguf_header_release(aa_gguf_header *h) {
    aa_text_release(&h->keys);
    aa_text_release(&h->tensors);
    *h = (aa_gguf_header){0};
}
