/* num/tensor: parameter rows, and linear maps over them.
 *
 * A model is a table of rows. Allocation, initialisation, counting, saving, loading, updating,
 * perturbing and exporting are each one loop over it. `name` is the Hugging Face name, so that the
 * mapping to that ecosystem is the identity. The order of rows is the order of memory.
 *
 * aa_real is float. A second build with AA_REAL_DOUBLE makes it double: the gradient oracle.
 */
#ifndef AA_NUM_TENSOR_H
#define AA_NUM_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "num/stored.h"

#ifdef AA_REAL_DOUBLE
typedef double aa_real;
#else
typedef float aa_real;
#endif

typedef enum {
    AA_KIND_EMBEDDING,
    AA_KIND_MATRIX,
    AA_KIND_HEAD,
    AA_KIND_NORM,
    AA_KIND_BIAS
} aa_kind;

typedef struct aa_tensor {
    char name[72];
    aa_kind kind;
    int layer;                 /* -1: not in a block */
    size_t rows, cols;         /* [out, in] row-major; vectors (norms, biases) are rows = 1 */
    aa_real *data, *grad;      /* rows*cols each, 64-byte aligned; grad NULL without training */
    const aa_stored *stored;   /* where a file holds it; then data and grad are NULL */
    uint64_t version;          /* raised by whoever writes data: packed copies and devices follow */
} aa_tensor;

static inline size_t aa_tensor_size(const aa_tensor *t) { return t->rows * t->cols; }
static inline bool aa_tensor_is_vector(const aa_tensor *t) {
    return t->kind == AA_KIND_NORM || t->kind == AA_KIND_BIAS;
}

/* A linear map y = x W^T + b as GEMM sees it. W may span several adjacent rows of the table with
 * the same width (q|k|v, gate|up): n_parts tensors whose data (and grad) are contiguous, likewise
 * the biases. A linear without storage for `packed` is packed at each call instead. Parts may also
 * be stored, all of them: each then lies in its file in a type and order of its own
 * (linear_stored.c), and the map runs forward only. */
typedef struct aa_linear {
    aa_tensor *weight, *bias;  /* first part of each; bias may be NULL */
    int n_parts;
    size_t n_out, n_in;        /* n_out = sum of rows of the parts */
    aa_real *packed;           /* aa_linear_packed_size() elements, or NULL */
    uint64_t packed_version;   /* sum of the parts' versions when packed; 0 = never */
} aa_linear;

#endif
