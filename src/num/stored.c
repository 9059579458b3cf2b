/* num/stored: the types weights are stored in, one row each. */
#include "num/stored.h"

#include <math.h>
#include <string.h>
#include "num/num_int.h"

enum { CHUNK = 256 };                     /* elements made aligned at a time */

/* ---- floats ---------------------------------------------------------------------------------- */

static void from_f32(float *y, const unsigned char *x, size_t n) { memcpy(y, x, n * sizeof *y); }

static void from_f64(float *y, const unsigned char *x, size_t n) {
    for (size_t i = 0; i < n; i++) {
        double wide;
        memcpy(&wide, x + i * sizeof wide, sizeof wide);
        y[i] = (float)wide;
    }
}

typedef void half_fn(float *y, const uint16_t *x, size_t n);

static void from_half(float *y, const unsigned char *x, size_t n, half_fn *convert) {
    uint16_t half[CHUNK];
    for (size_t at = 0; at < n; at += CHUNK) {
        size_t len = n - at < CHUNK ? n - at : CHUNK;
        memcpy(half, x + at * sizeof *half, len * sizeof *half);
        convert(y + at, half, len);
    }
}

static void from_f16(float *y, const unsigned char *x, size_t n) {
    from_half(y, x, n, aa_f32_from_f16);
}

static void from_bf16(float *y, const unsigned char *x, size_t n) {
    from_half(y, x, n, aa_f32_from_bf16);
}

/* Eight bits with `mantissa` bits of fraction, as binary16 is sixteen with ten: E5M2 is the upper
 * half of a binary16; E4M3 has bias 7, no infinity, and NaN only at all ones (Micikevicius et al.
 * 2022, arXiv:2209.05433, table 1). */
static void from_e5m2(float *y, const unsigned char *x, size_t n) {
    for (size_t i = 0; i < n; i++) aa_f32_from_f16(y + i, &(uint16_t){(uint16_t)(x[i] << 8)}, 1);
}

static float of_e4m3(unsigned v) {
    unsigned exponent = v >> 3 & 15, fraction = v & 7;
    float magnitude = exponent ? (float)(8 + fraction) * 0x1p-10f : (float)fraction * 0x1p-9f;
    if ((v & 127) == 127) return NAN;
    for (unsigned e = 0; e < exponent; e++) magnitude *= 2;
    return v & 128 ? -magnitude : magnitude;
}

static void from_e4m3(float *y, const unsigned char *x, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] = of_e4m3(x[i]);
}

/* ---- small integers -------------------------------------------------------------------------- */

/* d q + m, each step rounded. */
static void from_integers(float *y, aa_type type, const unsigned char *x, size_t n) {
    const size_t block = aa_type_block(type), group = aa__type_group(type);
    int8_t q[AA_INT8_DEPTH];
    aa_real d[AA_INT8_DEPTH / 16], m[AA_INT8_DEPTH / 16] = {0};
    for (size_t at = 0; at < n; at += block) {
        aa_int8_unpack__scalar(&(aa_int8_unpack){.type = type, .x = x + aa_type_bytes(type, at),
                                                 .n_rows = 1, .n = block, .q = q, .d = d, .m = m});
        for (size_t i = 0; i < block; i++) {
            float product = (float)d[i / group] * (float)q[i];
            y[at + i] = product + (float)m[i / group];
        }
    }
}

/* ---- the table ------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    size_t block, bytes;
    void (*floats)(float *y, const unsigned char *x, size_t n); /* NULL: small integers */
} types[AA_TYPE_COUNT] = {
    [AA_TYPE_F64] = {"F64", 1, 8, from_f64},
    [AA_TYPE_F32] = {"F32", 1, 4, from_f32},
    [AA_TYPE_F16] = {"F16", 1, 2, from_f16},
    [AA_TYPE_BF16] = {"BF16", 1, 2, from_bf16},
    [AA_TYPE_F8_E4M3] = {"F8_E4M3", 1, 1, from_e4m3},
    [AA_TYPE_F8_E5M2] = {"F8_E5M2", 1, 1, from_e5m2},
    [AA_TYPE_Q4_0] = {"Q4_0", 32, 18, NULL},
    [AA_TYPE_Q4_1] = {"Q4_1", 32, 20, NULL},
    [AA_TYPE_Q5_0] = {"Q5_0", 32, 22, NULL},
    [AA_TYPE_Q5_1] = {"Q5_1", 32, 24, NULL},
    [AA_TYPE_Q8_0] = {"Q8_0", 32, 34, NULL},
    [AA_TYPE_Q2_K] = {"Q2_K", 256, 84, NULL},
    [AA_TYPE_Q3_K] = {"Q3_K", 256, 110, NULL},
    [AA_TYPE_Q4_K] = {"Q4_K", 256, 144, NULL},
    [AA_TYPE_Q5_K] = {"Q5_K", 256, 176, NULL},
    [AA_TYPE_Q6_K] = {"Q6_K", 256, 210, NULL},
    [AA_TYPE_IQ4_NL] = {"IQ4_NL", 32, 18, NULL},
    [AA_TYPE_IQ4_XS] = {"IQ4_XS", 256, 136, NULL},
};

const char *aa_type_name(aa_type type) { return types[type].name; }
size_t aa_type_block(aa_type type) { return types[type].block; }

size_t aa_type_bytes(aa_type type, uint64_t n) {
    if (n % types[type].block) return 0;
    uint64_t blocks = n / types[type].block;
    return blocks > SIZE_MAX / types[type].bytes ? 0 : (size_t)blocks * types[type].bytes;
}

void aa_dequantize(float *y, aa_type type, const void *x, size_t n) {
    if (types[type].floats) types[type].floats(y, x, n);
    else from_integers(y, type, x, n);
}

/* ---- matrices -------------------------------------------------------------------------------- */

const unsigned char *aa_stored_row(const aa_stored *s, size_t row) {
    if (s->paired_head) {
        size_t D = s->paired_head, in_head = row % D, half = D / 2;
        row = row - in_head + 2 * (in_head % half) + in_head / half;
    }
    return s->data + row * aa_type_bytes(s->type, s->cols);
}

/* w[0..n-1] += scale b A, columns `at` and on of an A with cols columns. */
static void add_low_rank(float *w, size_t n, const aa_stored_delta *d, const float *b, size_t at,
                         size_t cols) {
    double sum[CHUNK] = {0};
    for (size_t k = 0; k < d->rank; k++)
        for (size_t j = 0; j < n; j++) sum[j] += (double)b[k] * (double)d->A[k * cols + at + j];
    for (size_t j = 0; j < n; j++) w[j] = (float)((double)w[j] + d->scale * sum[j]);
}

static void apply_delta(float *w, const aa_stored_delta *d, size_t row, size_t cols) {
    double squares = 0;
    if (d->under) apply_delta(w, d->under, row, cols);
    for (size_t at = 0; at < cols; at += CHUNK)
        add_low_rank(w + at, cols - at < CHUNK ? cols - at : CHUNK, d, d->B + row * d->rank, at,
                     cols);
    if (!d->magnitude) return;
    for (size_t j = 0; j < cols; j++) squares += (double)w[j] * (double)w[j];
    double gain = (double)d->magnitude[row] / sqrt(squares);
    for (size_t j = 0; j < cols; j++) w[j] = (float)((double)w[j] * gain);
}

void aa_stored_read(const aa_stored *s, size_t first, size_t n, float *dst) {
    for (size_t i = 0; i < n; i++) {
        aa_dequantize(dst + i * s->cols, s->type, aa_stored_row(s, first + i), s->cols);
        if (s->delta) apply_delta(dst + i * s->cols, s->delta, first + i, s->cols);
    }
}
