#include "ane/blob.h"
#include <string.h>
#include "num/num.h"

#define SENTINEL 0xDEADBEEFu

/* MILBlob's codes of types. */
static const struct { uint32_t code; aa_mil_dtype dtype; } codes[] = {
    { 1, AA_MIL_FP16 }, { 2, AA_MIL_FP32 }, { 3, AA_MIL_UINT8 }, { 4, AA_MIL_INT8 },
    { 5, AA_MIL_BF16 }, { 6, AA_MIL_INT16 }, { 7, AA_MIL_UINT16 }, { 8, AA_MIL_INT4 },
    { 9, AA_MIL_UINT1 }, { 10, AA_MIL_UINT2 }, { 11, AA_MIL_UINT4 }, { 12, AA_MIL_UINT3 },
    { 13, AA_MIL_UINT6 }, { 14, AA_MIL_INT32 }, { 15, AA_MIL_UINT32 },
};
enum { N_CODES = sizeof codes / sizeof *codes };

static void put(unsigned char *p, uint64_t v, int n) {
    for (int i = 0; i < n; i++) p[i] = (unsigned char)(v >> 8 * i);
}

static uint64_t get(const unsigned char *p, int n) {
    uint64_t v = 0;
    for (int i = n; i-- > 0;) v = v << 8 | p[i];
    return v;
}

static void align(aa_blob_writer *w) {
    static const char zeros[AA_BLOB_ALIGN];
    size_t over = w->bytes.len % AA_BLOB_ALIGN;
    if (w->bytes.len == 0) aa_text_add_bytes(&w->bytes, zeros, AA_BLOB_ALIGN);
    else if (over) aa_text_add_bytes(&w->bytes, zeros, AA_BLOB_ALIGN - over);
}

static uint64_t record(aa_blob_writer *w, aa_mil_dtype t, uint64_t size_bytes) {
    unsigned char r[AA_BLOB_ALIGN] = { 0 };
    int code = 0;
    while (code < N_CODES && codes[code].dtype != t) code++;
    aa_assert(code < N_CODES);
    align(w);
    uint64_t at = w->bytes.len;
    put(r, SENTINEL, 4);
    put(r + 4, codes[code].code, 4);
    put(r + 8, size_bytes, 8);
    put(r + 16, at + AA_BLOB_ALIGN, 8);
    aa_text_add_bytes(&w->bytes, r, sizeof r);
    w->n_entries++;
    return at;
}

uint64_t aa_blob_add(aa_blob_writer *w, aa_mil_dtype t, const void *data, uint64_t size_bytes) {
    uint64_t at = record(w, t, size_bytes);
    aa_text_add_bytes(&w->bytes, data, size_bytes);
    return at;
}

uint64_t aa_blob_add_fp16(aa_blob_writer *w, const float *x, int64_t rows, int64_t columns,
                          bool transpose) {
    enum { CHUNK = 1024 };
    float part[CHUNK];
    uint16_t half[CHUNK];
    int64_t outer = transpose ? columns : rows, inner = transpose ? rows : columns;
    uint64_t at = record(w, AA_MIL_FP16, (uint64_t)(rows * columns) * 2);
    for (int64_t i = 0; i < outer; i++)
        for (int64_t j = 0; j < inner; j += CHUNK) {
            int64_t n = inner - j < CHUNK ? inner - j : CHUNK;
            for (int64_t k = 0; k < n; k++)
                part[k] = transpose ? x[(j + k) * columns + i] : x[i * columns + j + k];
            aa_f16_from_f32(half, part, (size_t)n);
            aa_text_add_bytes(&w->bytes, half, (size_t)n * 2);
        }
    return at;
}

aa_status aa_blob_finish(aa_blob_writer *w, aa_err *err) {
    align(w);
    AA_TRY(aa_text_status(&w->bytes, err));
    put((unsigned char *)w->bytes.data, w->n_entries, 4);
    put((unsigned char *)w->bytes.data + 4, 2, 4);
    return AA_OK;
}

void aa_blob_writer_release(aa_blob_writer *w) {
    aa_text_release(&w->bytes);
    *w = (aa_blob_writer){ 0 };
}

aa_status aa_blob_read(aa_blob_entry *out, const void *file, uint64_t size, uint64_t offset,
                       const char *name, aa_err *err) {
    const unsigned char *p = file;
    if (size < 2 * AA_BLOB_ALIGN || get(p + 4, 4) != 2)
        return aa_fail(err, AA_EFORMAT, "'%s' is no weight file of storage version 2", name);
    if (offset < AA_BLOB_ALIGN || offset % AA_BLOB_ALIGN || offset > size - AA_BLOB_ALIGN)
        return aa_fail(err, AA_EFORMAT, "'%s': a record cannot be at %llu: a multiple of 64, from "
                       "64 to %llu (C14)", name, (unsigned long long)offset,
                       (unsigned long long)(size - AA_BLOB_ALIGN));
    p += offset;
    if (get(p, 4) != SENTINEL)
        return aa_fail(err, AA_EFORMAT, "'%s' has no record at %llu: an offset names the record of "
                       "a tensor, not its data (C14)", name, (unsigned long long)offset);
    uint64_t code = get(p + 4, 4), bytes = get(p + 8, 8), at = get(p + 16, 8);
    int row = 0;
    while (row < N_CODES && codes[row].code != code) row++;
    if (row == N_CODES)
        return aa_fail(err, AA_EUNSUPPORTED, "'%s': the record at %llu has the type code %llu, "
                       "known are 1 to 15", name, (unsigned long long)offset,
                       (unsigned long long)code);
    if (at < offset + AA_BLOB_ALIGN || at % AA_BLOB_ALIGN || at > size || bytes > size - at)
        return aa_fail(err, AA_EFORMAT, "'%s': the record at %llu speaks of %llu bytes at %llu in "
                       "a file of %llu (C15)", name, (unsigned long long)offset,
                       (unsigned long long)bytes, (unsigned long long)at,
                       (unsigned long long)size);
    *out = (aa_blob_entry){ .dtype = codes[row].dtype, .size_bytes = bytes,
                            .data = (const unsigned char *)file + at };
    return AA_OK;
}

aa_status aa_blob_tensor(aa_blob_entry *out, const void *file, uint64_t size, uint64_t offset,
                         const aa_mil_type *type, const char *name, aa_err *err) {
    aa_blob_entry e;
    AA_TRY(aa_blob_read(&e, file, size, offset, name, err));
    if (e.dtype != type->dtype || e.size_bytes != aa_mil_bytes(type))
        return aa_fail(err, AA_EFORMAT, "'%s': the record at %llu holds %llu bytes of %s, the "
                       "program declares %llu of %s (C15)", name, (unsigned long long)offset,
                       (unsigned long long)e.size_bytes, aa_mil_dtype_name(e.dtype),
                       (unsigned long long)aa_mil_bytes(type), aa_mil_dtype_name(type->dtype));
    *out = e;
    return AA_OK;
}
