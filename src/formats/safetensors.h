/* formats/safetensors: the bytes of safetensors files; names mean nothing here.
 *
 * Layout: u64 little-endian N; N bytes of JSON {"name":{"dtype","shape","data_offsets"},
 * "__metadata__"}; the buffer, covered exactly, no holes, no overlap.
 * https://github.com/huggingface/safetensors (format section).
 */
#ifndef AA_FORMATS_SAFETENSORS_H
#define AA_FORMATS_SAFETENSORS_H

#include "base/file.h"

typedef enum {
    AA_DTYPE_F64, AA_DTYPE_F32, AA_DTYPE_F16, AA_DTYPE_BF16, AA_DTYPE_F8_E4M3,
    AA_DTYPE_F8_E5M2, AA_DTYPE_I64, AA_DTYPE_I32, AA_DTYPE_I16, AA_DTYPE_I8, AA_DTYPE_U64,
    AA_DTYPE_U32, AA_DTYPE_U16, AA_DTYPE_U8, AA_DTYPE_BOOL,
    AA_DTYPE_COUNT
} aa_dtype;
const char *aa_dtype_name(aa_dtype d);   /* "F32" ... */
size_t aa_dtype_size(aa_dtype d);

enum { AA_SAFETENSORS_MAX_DIMS = 8 };

typedef struct aa_st_tensor {
    const char *name; aa_dtype dtype; int n_dims; uint64_t shape[AA_SAFETENSORS_MAX_DIMS];
    uint64_t n_elements; size_t offset, size_bytes;      /* offset from the start of the file */
} aa_st_tensor;

typedef struct aa_safetensors {          /* read-only view of one file */
    aa_sys_map map; char *path;
    aa_st_tensor *tensors; size_t n_tensors;             /* in order of offset */
    void *index, *json;                  /* private */
} aa_safetensors;

/* Everything is checked first: sizes, overflow, dtype, holes, overlap, duplicate names. */
aa_status aa_safetensors_open(aa_safetensors *out, const char *path, aa_err *err) AA_MUST_USE;
void aa_safetensors_close(aa_safetensors *st);
const aa_st_tensor *aa_safetensors_find(const aa_safetensors *st, const char *name);  /* or NULL */
/* In files of others the data need not be aligned for its type: copy before use. */
static inline const void *aa_safetensors_data(const aa_safetensors *st, const aa_st_tensor *t) {
    return st->map.data + t->offset;
}
const char *aa_safetensors_metadata(const aa_safetensors *st, const char *key);       /* or NULL */
void aa_safetensors_each_metadata(const aa_safetensors *st,
                                  void (*each)(void *ctx, const char *key, const char *value),
                                  void *ctx);

/* Writing: declare all tensors, then stream their bytes in the same order. */
typedef struct aa_st_entry {
    const char *name; aa_dtype dtype; int n_dims; uint64_t shape[AA_SAFETENSORS_MAX_DIMS];
} aa_st_entry;
typedef struct aa_st_pair { const char *key, *value; } aa_st_pair;
/* The header, as the first bytes of f; the buffer starts at a multiple of 64. Metadata: format=pt
 * is always written. */
aa_status aa_safetensors_begin(aa_outfile *f, const aa_st_entry *entries, size_t n,
                               const aa_st_pair *metadata, size_t n_metadata,
                               aa_err *err) AA_MUST_USE;

#endif
