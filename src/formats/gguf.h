/* formats/gguf: the bytes of GGUF files, versions 2 and 3; keys and names mean nothing here.
 *
 *     "GGUF"  u32 version  u64 n_tensors  u64 n_keys
 *     keys     string name, u32 kind, value
 *     tensors  string name, u32 n_dims, u64 dims[n_dims], u32 type, u64 offset of the data
 *     padding to a multiple of the alignment (32, or what the key general.alignment says)
 *     data     of the tensors, in order, each padded
 *
 * A string is a u64 length and its bytes, an array a u32 kind, a u64 count and its values. dims[0]
 * is the length of a row, which lies contiguously: the reverse of the order elsewhere. A model may
 * be in several files, NAME-00001-of-00003.gguf and so on, each of which is a GGUF file that says
 * which of how many it is. https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
 */
#ifndef AA_FORMATS_GGUF_H
#define AA_FORMATS_GGUF_H

#include <stdbool.h>
#include "base/file.h"
#include "base/text.h"

#define AA_GGUF_MAGIC "GGUF"
enum { AA_GGUF_MAX_DIMS = 4 };

typedef enum {
    AA_GGUF_U8, AA_GGUF_I8, AA_GGUF_U16, AA_GGUF_I16, AA_GGUF_U32, AA_GGUF_I32, AA_GGUF_F32,
    AA_GGUF_BOOL, AA_GGUF_STRING, AA_GGUF_ARRAY, AA_GGUF_U64, AA_GGUF_I64, AA_GGUF_F64,
    AA_GGUF_KIND_COUNT
} aa_gguf_kind;
const char *aa_gguf_kind_name(aa_gguf_kind kind);        /* "u32", "string" ... */

/* Types of tensors go by ggml's numbers, or by its names: "F32", "Q4_K" ... */
const char *aa_gguf_type_name(uint32_t type);            /* NULL: unknown */
bool aa_gguf_type_named(const char *name, uint32_t *out);

typedef struct aa_gguf_name { const char *s; size_t n; } aa_gguf_name;      /* not terminated */

typedef struct aa_gguf_key {
    aa_gguf_name name;
    aa_gguf_kind kind; bool array;           /* of an array: the kind of its elements */
    uint64_t n;                              /* elements; 1 */
    const unsigned char *data; size_t size_bytes;
} aa_gguf_key;

typedef struct aa_gguf_tensor {
    aa_gguf_name name;
    uint32_t type; int n_dims; uint64_t dims[AA_GGUF_MAX_DIMS];
    const unsigned char *data; size_t size_bytes;
} aa_gguf_tensor;

typedef struct aa_gguf {                     /* read-only view of one model */
    struct aa_gguf_file { aa_sys_map map; char *path; } *files; size_t n_files;
    aa_gguf_key *keys; size_t n_keys;        /* of the first file, in its order */
    aa_gguf_tensor *tensors; size_t n_tensors;           /* of all files, in their order */
    const aa_gguf_name **key_index, **tensor_index;      /* private */
} aa_gguf;

/* Everything is checked first: sizes, overflow, kinds, types, offsets, duplicates. Of a model in
 * several files path may be any. */
aa_status aa_gguf_open(aa_gguf *out, const char *path, aa_err *err) AA_MUST_USE;
void aa_gguf_close(aa_gguf *g);
const aa_gguf_key *aa_gguf_find_key(const aa_gguf *g, const char *name);          /* or NULL */
const aa_gguf_tensor *aa_gguf_find_tensor(const aa_gguf *g, const char *name);    /* or NULL */

/* Element i < n; false if it is of another kind, or no int64_t. Integers are also reals. */
bool aa_gguf_int(const aa_gguf_key *k, uint64_t i, int64_t *out);
bool aa_gguf_real(const aa_gguf_key *k, uint64_t i, double *out);
bool aa_gguf_bool(const aa_gguf_key *k, uint64_t i, bool *out);
/* The string at *at, which begins as k->data and becomes the place of the next one. */
aa_gguf_name aa_gguf_string(const unsigned char **at);

/* ---- writing: declare everything, then stream the tensors' data in the same order ------------ */

typedef struct aa_gguf_header { aa_text keys, tensors; uint64_t n_keys, n_tensors, at; }
    aa_gguf_header;                          /* {0} is empty; running out of memory is sticky */

void aa_gguf_put_int(aa_gguf_header *h, const char *key, aa_gguf_kind kind, int64_t v);
void aa_gguf_put_f32(aa_gguf_header *h, const char *key, float v);
void aa_gguf_put_string(aa_gguf_header *h, const char *key, const char *s);
/* n values of the kind, as they are in memory; no strings. */
void aa_gguf_put_array(aa_gguf_header *h, const char *key, aa_gguf_kind kind, size_t n,
                       const void *values);
void aa_gguf_put_strings(aa_gguf_header *h, const char *key, size_t n, const char *const *s,
                         const size_t *len);
void aa_gguf_put_key(aa_gguf_header *h, const aa_gguf_key *k);                  /* a copy */
void aa_gguf_put_tensor(aa_gguf_header *h, const char *name, uint32_t type, int n_dims,
                        const uint64_t *dims);
/* The bytes of a tensor; the last dimension's rows are whole blocks. */
uint64_t aa_gguf_tensor_bytes(uint32_t type, int n_dims, const uint64_t *dims);
/* All of the header, as the first bytes of f. */
aa_status aa_gguf_begin(aa_outfile *f, const aa_gguf_header *h, aa_err *err) AA_MUST_USE;
void aa_gguf_pad(aa_outfile *f);             /* after the data of each tensor */
void aa_gguf_header_release(aa_gguf_header *h);

/* The name of file i of n ("x.gguf" -> "x-00001-of-00003.gguf"), that of one file if n is 1; heap,
 * NULL when out of memory. */
char *aa_gguf_split_path(const char *path, size_t i, size_t n);

#endif
