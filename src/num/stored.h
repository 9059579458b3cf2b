/* num/stored: weights as files hold them.
 *
 * A row of a matrix is a sequence of blocks of one type: `block` elements in `bytes` bytes, the
 * floats being blocks of one. The types and their layouts are those of ggml (ggml-common.h) and of
 * safetensors; every element has one exact float value, which aa_dequantize gives. Data need not be
 * aligned. All multi-byte numbers are little-endian.
 */
#ifndef AA_NUM_STORED_H
#define AA_NUM_STORED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum {
    AA_TYPE_F64, AA_TYPE_F32, AA_TYPE_F16, AA_TYPE_BF16, AA_TYPE_F8_E4M3, AA_TYPE_F8_E5M2,
    AA_TYPE_Q4_0, AA_TYPE_Q4_1, AA_TYPE_Q5_0, AA_TYPE_Q5_1, AA_TYPE_Q8_0,
    AA_TYPE_Q2_K, AA_TYPE_Q3_K, AA_TYPE_Q4_K, AA_TYPE_Q5_K, AA_TYPE_Q6_K,
    AA_TYPE_IQ4_NL, AA_TYPE_IQ4_XS,
    AA_TYPE_COUNT
} aa_type;

const char *aa_type_name(aa_type type);                 /* "F32", "Q4_K" ... */
size_t aa_type_block(aa_type type);                     /* elements of a block */
/* Bytes of n elements; 0 if n is not a multiple of the block, or the size does not fit. */
size_t aa_type_bytes(aa_type type, uint64_t n);

/* y[0..n-1] = the values of n elements at x; n a multiple of the block. */
void aa_dequantize(float *y, aa_type type, const void *x, size_t n);
/* The other way, for the types it can: y needs not be aligned, x is finite. */
bool aa_type_can_quantize(aa_type type);
void aa_quantize(void *y, aa_type type, const float *x, size_t n);

/* What an adapter adds to a matrix W: W + scale B A (LoRA: Hu et al. 2021, arXiv:2106.09685), then,
 * if there are magnitudes, each row at that length (DoRA: Liu et al. 2024, arXiv:2402.09353). Rows
 * are in our order. */
typedef struct aa_stored_delta {
    const struct aa_stored_delta *under;     /* applied before; NULL: W is what the file has */
    size_t rank; double scale;
    const float *A, *B;                      /* [rank, cols], [rows, rank] */
    const float *magnitude;                  /* [rows]; NULL: rows stay as they come out */
} aa_stored_delta;

/* A matrix in a file, [rows, cols] row-major, mapped and owned by whoever opened the file. */
typedef struct aa_stored {
    aa_type type;
    size_t rows, cols;
    const unsigned char *data;
    /* Order of rows. 0: as ours. D: the rows of each head of D are in pairs, as for rotary
     * embeddings of neighbours: row 2i+s of the file is our row s*D/2 + i of that head. */
    size_t paired_head;
    const aa_stored_delta *delta;            /* on top of what the file has; NULL: nothing */
} aa_stored;

/* What it takes in the file. */
static inline uint64_t aa_stored_bytes(const aa_stored *s) {
    return (uint64_t)s->rows * aa_type_bytes(s->type, s->cols);
}
/* dst[n,cols]: our rows first .. first+n-1, as floats, delta and all. Each element of W + scale B A
 * is rounded once: sums are in double, over the rank in ascending order. */
void aa_stored_read(const aa_stored *s, size_t first, size_t n, float *dst);
/* Where our row is in the file; without its delta. */
const unsigned char *aa_stored_row(const aa_stored *s, size_t row);

#endif
