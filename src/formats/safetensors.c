/* formats/safetensors: reading with every claim checked, and writing the header.
 *
 * A file is taken from strangers. The reader believes nothing: the length of the header, each
 * dtype, shape and pair of offsets is compared with the size of the file before it is used, and the
 * tensors, sorted by offset, must cover the buffer from its first byte to its last. What passes can
 * be used without looking again. One property of the format stays visible to callers: the buffer
 * may start at any byte, so that data need not be aligned for its type (files written here are: to
 * 64 bytes).
 */
#include "formats/safetensors_int.h"

#include <stdlib.h>
#include <string.h>
#include "base/digest.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/text.h"

#define METADATA "__metadata__"
enum { BUFFER_ALIGN = 64, LENGTH_BYTES = 8, SHOWN = 80 };

static const struct { const char *name; size_t size; } dtypes[AA_DTYPE_COUNT] = {
    [AA_DTYPE_F64] = {"F64", 8}, [AA_DTYPE_F32] = {"F32", 4}, [AA_DTYPE_F16] = {"F16", 2},
    [AA_DTYPE_BF16] = {"BF16", 2}, [AA_DTYPE_F8_E4M3] = {"F8_E4M3", 1},
    [AA_DTYPE_F8_E5M2] = {"F8_E5M2", 1},
    [AA_DTYPE_I64] = {"I64", 8}, [AA_DTYPE_I32] = {"I32", 4},
    [AA_DTYPE_I16] = {"I16", 2}, [AA_DTYPE_I8] = {"I8", 1}, [AA_DTYPE_U64] = {"U64", 8},
    [AA_DTYPE_U32] = {"U32", 4}, [AA_DTYPE_U16] = {"U16", 2}, [AA_DTYPE_U8] = {"U8", 1},
    [AA_DTYPE_BOOL] = {"BOOL", 1},
};

const char *aa_dtype_name(aa_dtype d) {
    return (unsigned)d < AA_DTYPE_COUNT ? dtypes[d].name : "?";
}

size_t aa_dtype_size(aa_dtype d) { return (unsigned)d < AA_DTYPE_COUNT ? dtypes[d].size : 0; }

/* A stranger's name fit for a message: short, and without control characters. */
static const char *shown(const char *name, char out[SHOWN]) {
    size_t n = 0;

    for (; name[n] && n < SHOWN - 1; n++)
        out[n] = (unsigned char)name[n] < ' ' || name[n] == 0x7f ? '?' : name[n];
    out[n] = 0;
    return out;
}

/* ---- reading --------------------------------------------------------------------------------- */

static aa_status bad_tensor(const aa_safetensors *st, const char *name, aa_status code,
                            const char *what, aa_err *err) {
    char text[SHOWN];

    return aa_fail(err, code, "'%s': tensor '%s': %s", st->path, shown(name, text), what);
}

static aa_status parse_dtype(const aa_safetensors *st, const json_t *o, aa_st_tensor *t,
                             aa_err *err) {
    const char *dtype = json_string_value(json_object_get(o, "dtype"));
    char name[SHOWN], found[SHOWN];

    if (!dtype) return bad_tensor(st, t->name, AA_EFORMAT, "\"dtype\" must be a string", err);
    for (int d = 0; d < AA_DTYPE_COUNT; d++)
        if (strcmp(dtype, dtypes[d].name) == 0) {
            t->dtype = (aa_dtype)d;
            return AA_OK;
        }
    return aa_fail(err, AA_EUNSUPPORTED, "'%s': tensor '%s' has the dtype '%s'; known are F64, "
                   "F32, F16, BF16, F8, BOOL and integers of 8 to 64 bits", st->path,
                   shown(t->name, name), shown(dtype, found));
}

static aa_status parse_shape(const aa_safetensors *st, const json_t *o, aa_st_tensor *t,
                             aa_err *err) {
    const json_t *shape = json_object_get(o, "shape");
    size_t n_dims = json_array_size(shape);

    if (!json_is_array(shape))
        return bad_tensor(st, t->name, AA_EFORMAT, "\"shape\" must be an array", err);
    if (n_dims > AA_SAFETENSORS_MAX_DIMS)
        return bad_tensor(st, t->name, AA_EUNSUPPORTED, "its shape has more than 8 sizes", err);
    t->n_dims = (int)n_dims;
    t->n_elements = 1;
    for (size_t i = 0; i < n_dims; i++) {
        const json_t *dim = json_array_get(shape, i);

        if (!json_is_integer(dim) || json_integer_value(dim) < 0)
            return bad_tensor(st, t->name, AA_EFORMAT,
                              "every dimension of the shape must be an integer from 0", err);
        t->shape[i] = (uint64_t)json_integer_value(dim);
        if (__builtin_mul_overflow(t->n_elements, t->shape[i], &t->n_elements))
            return bad_tensor(st, t->name, AA_EFORMAT, "the product of the shape overflows", err);
    }
    return AA_OK;
}

/* Offsets count from the start of the buffer, at byte `buffer` of the file. */
static aa_status parse_offsets(const aa_safetensors *st, const json_t *o, size_t buffer,
                               aa_st_tensor *t, aa_err *err) {
    const json_t *offsets = json_object_get(o, "data_offsets");
    const json_t *first = json_array_get(offsets, 0), *second = json_array_get(offsets, 1);
    char name[SHOWN];

    if (json_array_size(offsets) != 2 || !json_is_integer(first) || !json_is_integer(second))
        return bad_tensor(st, t->name, AA_EFORMAT, "\"data_offsets\" must be two integers", err);
    json_int_t begin = json_integer_value(first), end = json_integer_value(second);
    uint64_t available = st->map.size_bytes - buffer, wanted;

    if (begin < 0 || end < begin)
        return bad_tensor(st, t->name, AA_EFORMAT, "\"data_offsets\" must rise from 0", err);
    if ((uint64_t)end > available)
        return aa_fail(err, AA_EFORMAT, "'%s': tensor '%s' ends at byte %llu of the data, but the "
                       "file holds %llu: it is cut short or damaged", st->path,
                       shown(t->name, name), (unsigned long long)end,
                       (unsigned long long)available);
    if (__builtin_mul_overflow(t->n_elements, (uint64_t)aa_dtype_size(t->dtype), &wanted) ||
        wanted != (uint64_t)(end - begin))
        return aa_fail(err, AA_EFORMAT, "'%s': tensor '%s' has %llu elements of %s but %llu bytes",
                       st->path, shown(t->name, name), (unsigned long long)t->n_elements,
                       aa_dtype_name(t->dtype), (unsigned long long)(end - begin));
    t->offset = buffer + (size_t)begin;
    t->size_bytes = (size_t)wanted;
    return AA_OK;
}

static aa_status parse_tensor(const aa_safetensors *st, const json_t *o, size_t buffer,
                              aa_st_tensor *t, aa_err *err) {
    if (!json_is_object(o))
        return bad_tensor(st, t->name, AA_EFORMAT, "its entry must be an object", err);
    AA_TRY(parse_dtype(st, o, t, err));
    AA_TRY(parse_shape(st, o, t, err));
    return parse_offsets(st, o, buffer, t, err);
}

static int by_offset(const void *a, const void *b) {
    const aa_st_tensor *x = a, *y = b;

    if (x->offset != y->offset) return x->offset < y->offset ? -1 : 1;
    if (x->size_bytes != y->size_bytes) return x->size_bytes < y->size_bytes ? -1 : 1;
    return strcmp(x->name, y->name);
}

/* Tensors in order of offset follow each other without hole or overlap, to the last byte. */
static aa_status check_cover(const aa_safetensors *st, size_t buffer, aa_err *err) {
    size_t at = buffer;
    char name[SHOWN];

    for (size_t i = 0; i < st->n_tensors; i++) {
        const aa_st_tensor *t = &st->tensors[i];

        if (t->offset != at)
            return aa_fail(err, AA_EFORMAT, "'%s': %s before tensor '%s': it starts at byte %zu, "
                           "the one before ends at %zu", st->path,
                           t->offset > at ? "a hole" : "an overlap", shown(t->name, name),
                           t->offset - buffer, at - buffer);
        at += t->size_bytes;
    }
    if (at != st->map.size_bytes)
        return aa_fail(err, AA_EFORMAT, "'%s': %zu bytes follow the last tensor", st->path,
                       st->map.size_bytes - at);
    return AA_OK;
}

static aa_status check_metadata(const aa_safetensors *st, aa_err *err) {
    json_t *metadata = json_object_get(st->json, METADATA), *value;
    const char *key;
    char text[SHOWN];

    if (metadata && !json_is_object(metadata))
        return aa_fail(err, AA_EFORMAT, "'%s': \"" METADATA "\" must be an object", st->path);
    json_object_foreach(metadata, key, value)
        if (!json_is_string(value))
            return aa_fail(err, AA_EFORMAT, "'%s': \"" METADATA "\": the value of '%s' must be a "
                           "string", st->path, shown(key, text));
    return AA_OK;
}

/* Names to tensors: open addressing, at most half full; 0 is empty, i + 1 is tensor i. */
typedef struct name_index { size_t mask; uint32_t slot[]; } name_index;

static size_t slot_of(const char *name, size_t mask) {
    return (size_t)aa_digest_bytes(name, strlen(name)).lo & mask;
}

static aa_status build_index(aa_safetensors *st, aa_err *err) {
    size_t n_slots = 16;

    while (n_slots < 2 * st->n_tensors) n_slots *= 2;
    name_index *index = aa_heap_alloc(1, sizeof *index + n_slots * sizeof *index->slot);
    if (!index) return aa_fail_memory(err, "the index of tensor names", n_slots * 4);
    index->mask = n_slots - 1;
    for (size_t i = 0; i < st->n_tensors; i++) {
        size_t s = slot_of(st->tensors[i].name, index->mask);

        while (index->slot[s]) s = (s + 1) & index->mask;
        index->slot[s] = (uint32_t)(i + 1);
    }
    st->index = index;
    return AA_OK;
}

/* The header's JSON, and where the buffer begins. */
static aa_status parse_header(aa_safetensors *st, size_t *out_buffer, aa_err *err) {
    const unsigned char *data = st->map.data;
    uint64_t length = 0;
    json_t *json = NULL;

    if (st->map.size_bytes < LENGTH_BYTES)
        return aa_fail(err, AA_EFORMAT, "'%s' is no safetensors file: it has %zu bytes, the "
                       "header's length alone takes 8", st->path, st->map.size_bytes);
    for (int i = LENGTH_BYTES - 1; i >= 0; i--) length = length << 8 | data[i];
    if (length > st->map.size_bytes - LENGTH_BYTES)
        return aa_fail(err, AA_EFORMAT, "'%s' claims a header of %llu bytes but has %zu in all: it "
                       "is cut short, damaged or no safetensors file", st->path,
                       (unsigned long long)length, st->map.size_bytes);
    if (length > AA__ST_MAX_HEADER)
        return aa_fail(err, AA_EFORMAT, "'%s' claims a header of %llu bytes; the limit is %d",
                       st->path, (unsigned long long)length, AA__ST_MAX_HEADER);
    if (length < 2 || data[LENGTH_BYTES] != '{')
        return aa_fail(err, AA_EFORMAT, "'%s' is no safetensors file: its header is no JSON object",
                       st->path);
    AA_TRY(aa_json_parse(&json, (const char *)data + LENGTH_BYTES, (size_t)length, st->path, err));
    st->json = json;
    *out_buffer = LENGTH_BYTES + (size_t)length;
    return AA_OK;
}

static aa_status parse_all(aa_safetensors *st, aa_err *err) {
    size_t buffer = 0;

    AA_TRY(parse_header(st, &buffer, err));
    AA_TRY(check_metadata(st, err));
    size_t n = json_object_size(st->json) - (json_object_get(st->json, METADATA) ? 1 : 0);
    st->tensors = aa_heap_alloc(n ? n : 1, sizeof *st->tensors);
    if (!st->tensors) return aa_fail_memory(err, "the list of tensors", n * sizeof *st->tensors);

    const char *name;
    json_t *entry, *all = st->json;
    json_object_foreach(all, name, entry) {
        if (strcmp(name, METADATA) == 0) continue;
        aa_st_tensor *t = &st->tensors[st->n_tensors++];
        t->name = name;
        AA_TRY(parse_tensor(st, entry, buffer, t, err));
    }
    if (n) qsort(st->tensors, n, sizeof *st->tensors, by_offset);
    AA_TRY(check_cover(st, buffer, err));
    return build_index(st, err);
}

static void release_parsed(aa_safetensors *st) {
    aa_heap_free(st->tensors);
    aa_heap_free(st->index);
    json_decref(st->json);
    st->tensors = NULL, st->index = NULL, st->json = NULL, st->n_tensors = 0;
}

aa_status aa__safetensors_parse(aa_safetensors *st, aa_err *err) {
    aa_status status = parse_all(st, err);

    if (status) release_parsed(st);
    return status;
}

aa_status aa_safetensors_open(aa_safetensors *out, const char *path, aa_err *err) {
    aa_safetensors st = {.path = aa_heap_strdup(path)};
    aa_status status = st.path ? AA_OK : aa_fail_memory(err, "a path", strlen(path));

    if (!status) status = aa_map_open(&st.map, path, err);
    if (!status) status = aa__safetensors_parse(&st, err);
    if (status) aa_safetensors_close(&st);
    else *out = st;
    return status;
}

void aa_safetensors_close(aa_safetensors *st) {
    release_parsed(st);
    if (st->map.data) aa_sys_map_close(&st->map);
    aa_heap_free(st->path);
    *st = (aa_safetensors){0};
}

const aa_st_tensor *aa_safetensors_find(const aa_safetensors *st, const char *name) {
    const name_index *index = st->index;

    if (!index) return NULL;
    for (size_t s = slot_of(name, index->mask); index->slot[s]; s = (s + 1) & index->mask) {
        const aa_st_tensor *t = &st->tensors[index->slot[s] - 1];

        if (strcmp(t->name, name) == 0) return t;
    }
    return NULL;
}

const char *aa_safetensors_metadata(const aa_safetensors *st, const char *key) {
    return json_string_value(json_object_get(json_object_get(st->json, METADATA), key));
}

void aa_safetensors_each_metadata(const aa_safetensors *st,
                                  void (*each)(void *ctx, const char *key, const char *value),
                                  void *ctx) {
    json_t *metadata = json_object_get(st->json, METADATA), *value;
    const char *key;

    json_object_foreach(metadata, key, value) each(ctx, key, json_string_value(value));
}

/* ---- writing --------------------------------------------------------------------------------- */

static void write_string(aa_text *t, const char *s) { aa_text_json_string(t, s, strlen(s)); }

static void write_metadata(aa_text *t, const aa_st_pair *pairs, size_t n) {
    aa_text_json_key(t, METADATA);
    aa_text_add(t, "{\"format\":\"pt\"");            /* clients refuse files without it */
    for (size_t i = 0; i < n; i++) {
        aa_text_json_key(t, pairs[i].key);
        write_string(t, pairs[i].value);
    }
    aa_text_add(t, "}");
}

/* Appends one tensor's entry; *at is where its bytes begin, then where they end. */
static aa_status write_entry(aa_text *t, const aa_st_entry *e, uint64_t *at, aa_err *err) {
    uint64_t size = aa_dtype_size(e->dtype), begin = *at;
    bool overflow = false;

    aa_assert(size && e->n_dims >= 0 && e->n_dims <= AA_SAFETENSORS_MAX_DIMS);
    aa_assert(strcmp(e->name, METADATA) != 0);
    aa_text_json_key(t, e->name);
    aa_text_printf(t, "{\"dtype\":\"%s\",\"shape\":[", aa_dtype_name(e->dtype));
    for (int i = 0; i < e->n_dims; i++) {
        overflow |= __builtin_mul_overflow(size, e->shape[i], &size);
        aa_text_printf(t, "%s%llu", i ? "," : "", (unsigned long long)e->shape[i]);
    }
    overflow |= __builtin_add_overflow(begin, size, at);
    if (overflow || *at > INT64_MAX)
        return aa_fail(err, AA_ETOOBIG, "tensor '%s' is too large for a file", e->name);
    aa_text_printf(t, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)begin,
                   (unsigned long long)*at);
    return AA_OK;
}

static aa_status write_header(aa_text *t, const aa_st_entry *entries, size_t n,
                              const aa_st_pair *metadata, size_t n_metadata, aa_err *err) {
    uint64_t at = 0;

    aa_text_add(t, "{");
    write_metadata(t, metadata, n_metadata);
    for (size_t i = 0; i < n; i++) AA_TRY(write_entry(t, &entries[i], &at, err));
    aa_text_add(t, "}");
    while (!t->failed && (LENGTH_BYTES + t->len) % BUFFER_ALIGN) aa_text_add(t, " ");
    AA_TRY(aa_text_status(t, err));
    if (t->len > AA__ST_MAX_HEADER)
        return aa_fail(err, AA_ETOOBIG, "a safetensors header would take %zu bytes; the "
                       "limit is %d", t->len, AA__ST_MAX_HEADER);
    return AA_OK;
}

aa_status aa_safetensors_begin(aa_outfile *f, const aa_st_entry *entries, size_t n,
                               const aa_st_pair *metadata, size_t n_metadata, aa_err *err) {
    aa_text t = {0};
    unsigned char length[LENGTH_BYTES];
    aa_status status = write_header(&t, entries, n, metadata, n_metadata, err);

    aa_assert(aa_outfile_size(f) == 0);
    if (!status) {
        for (int i = 0; i < LENGTH_BYTES; i++)
            length[i] = (unsigned char)((uint64_t)t.len >> 8 * i);
        aa_outfile_write(f, length, sizeof length);
        aa_outfile_write(f, t.data, t.len);
    }
    aa_text_release(&t);
    return status;
}
