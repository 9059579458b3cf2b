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
    AA_KIND_BIAS,
    AA_KIND_LORA_A,
    AA_KIND_LORA_B,
    AA_KIND_MAGNITUDE          /* lengths of a matrix's rows */
} aa_kind;

typedef struct aa_tensor {
    char name[72];
    aa_kind kind;
    int layer;                 /* -1: not in a block */
    size_t rows, cols;         /* [out, in] row-major; vectors (norms, biases ..) are rows = 1 */
    bool frozen;               /* does not train: no gradient, no optimizer state */
    aa_real *data, *grad;      /* rows*cols each, 64-byte aligned; grad NULL without training */
    const aa_stored *stored;   /* where a file holds it; then data and grad are NULL */
    uint64_t version;          /* raised by whoever writes data: packed copies and devices follow */
} aa_tensor;

static inline size_t aa_tensor_size(const aa_tensor *t) { return t->rows * t->cols; }
static inline bool aa_tensor_is_vector(const aa_tensor *t) {
    return t->kind == AA_KIND_NORM || t->kind == AA_KIND_BIAS || t->kind == AA_KIND_MAGNITUDE;
}

enum { AA_LINEAR_PARTS = 3 };

/* A linear map y = x W^T + b as GEMM sees it. W may span several adjacent rows of the table with
 * the same width (q|k|v, gate|up): n_parts tensors whose data (and grad) are contiguous, likewise
 * the biases. A linear without storage for `packed` is packed at each call instead. Parts may also
 * be stored, all of them: each then lies in its file in a type and order of its own
 * (linear_stored.c), and W has no gradient. */
typedef struct aa_linear {
    aa_tensor *weight, *bias;  /* first part of each; bias may be NULL */
    int n_parts;
    size_t n_out, n_in;        /* n_out = sum of rows of the parts */
    aa_real *packed;           /* aa_linear_packed_size() elements, or NULL */
    uint64_t packed_version;   /* sum of the parts' versions when packed; 0 = never */
    struct aa_linear_delta *delta;       /* what an adapter adds, or NULL */
} aa_linear;

/* W_i + scale_i B_i A_i for each part i of a linear map (LoRA: Hu et al. 2021, arXiv:2106.09685),
 * never multiplied out: x goes through all A_i at once, p = x A^T, and each B_i onto its part. */
typedef struct aa_linear_delta {
    aa_linear a;                         /* the A_i one below the other: [R, n_in] */
    aa_linear b[AA_LINEAR_PARTS];        /* [rows of part i, its rank]; n_in 0: the part has none */
    aa_real scale[AA_LINEAR_PARTS];
    struct aa_magnitudes *magnitudes;    /* NULL: rows keep the lengths they come out with */
    uint32_t id;                         /* of the map in its model: aa_dropout */
} aa_linear_delta;

/* Row j of W + s B A brought to the length m_j (DoRA: Liu et al. 2024, arXiv:2402.09353): the
 * product's column j, before the bias, times m_j over the row's own length (magnitude.c). */
typedef struct aa_magnitudes {
    aa_tensor *m[AA_LINEAR_PARTS];       /* [1, rows of part i]; NULL: the part has no adapter */
    aa_real *gain, *length;              /* [n_out]; gain is 1 where there is no m */
    double *squares;                     /* [n_out] of the lengths of W's rows */
    aa_real *products, *gram;            /* scratch, shared: [R,n_out], [R,R]; R of a part */
    uint64_t base_version, version;      /* of what squares, and all else, are made from; or 0 */
} aa_magnitudes;

#endif
