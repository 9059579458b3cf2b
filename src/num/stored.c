/* num/stored: the types weights are stored in, one row each. */
#include "num/stored.h"

#include <math.h>
#include <string.h>
#include "num/num.h"

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

/* ---- the table ------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    size_t block, bytes;
    void (*dequantize)(float *y, const unsigned char *x, size_t n);
} types[AA_TYPE_COUNT] = {
    [AA_TYPE_F64] = {"F64", 1, 8, from_f64},
    [AA_TYPE_F32] = {"F32", 1, 4, from_f32},
    [AA_TYPE_F16] = {"F16", 1, 2, from_f16},
    [AA_TYPE_BF16] = {"BF16", 1, 2, from_bf16},
    [AA_TYPE_F8_E4M3] = {"F8_E4M3", 1, 1, from_e4m3},
    [AA_TYPE_F8_E5M2] = {"F8_E5M2", 1, 1, from_e5m2},
};

const char *aa_type_name(aa_type type) { return types[type].name; }
size_t aa_type_block(aa_type type) { return types[type].block; }

size_t aa_type_bytes(aa_type type, uint64_t n) {
    if (n % types[type].block) return 0;
    uint64_t blocks = n / types[type].block;
    return blocks > SIZE_MAX / types[type].bytes ? 0 : (size_t)blocks * types[type].bytes;
}

void aa_dequantize(float *y, aa_type type, const void *x, size_t n) {
    types[type].dequantize(y, x, n);
}

/* ---- matrices -------------------------------------------------------------------------------- */

const unsigned char *aa_stored_row(const aa_stored *s, size_t row) {
    if (s->paired_head) {
        size_t D = s->paired_head, in_head = row % D, half = D / 2;
        row = row - in_head + 2 * (in_head % half) + in_head / half;
    }
    return s->data + row * aa_type_bytes(s->type, s->cols);
}

void aa_stored_read(const aa_stored *s, size_t first, size_t n, float *dst) {
    for (size_t i = 0; i < n; i++)
        aa_dequantize(dst + i * s->cols, s->type, aa_stored_row(s, first + i), s->cols);
}
