/* num/quantize: floats into stored types.
 *
 * A block of small integers is  x = d q + m. The plain types (Q4_0, Q5_0, Q8_0) take d from the
 * largest value, bit for bit as ggml does. The types in superblocks of 256 search: for each group
 * several spacings are tried, integers rounded to them, and d (and m) fitted to these integers by
 * weighted least squares; the fit with the least error wins. The groups' d and m are then rounded
 * themselves, to integers times a binary16 of the superblock, and the values rounded once more.
 * The grids and weights are those of ggml (quantize_row_q4_K_ref, quantize_row_q6_K_ref).
 *
 * Values are finite. Every result depends on its own block alone.
 */
#include <math.h>
#include <string.h>
#include "num/num.h"

enum { SMALL = 32, SUPER = 256 };

static void put_f16(unsigned char *y, float v) {
    uint16_t half;

    aa_f16_from_f32(&half, &v, 1);
    memcpy(y, &half, sizeof half);
}

static float get_f16(const unsigned char *y) {
    uint16_t half;
    float v;

    memcpy(&half, y, sizeof half);
    aa_f32_from_f16(&v, &half, 1);
    return v;
}

/* What is no number is lo: 0 times what a subnormal spacing makes of 1. */
static int nearest(float x, int lo, int hi) {
    float r = nearbyintf(x);

    return r > (float)lo ? r < (float)hi ? (int)r : hi : lo;
}

/* 1 / d, or 0 where d is 0 or so small that no float is that: binary16 has no such d, either. */
static float inverse_of(float d) { return fabsf(d) > 0x1p-126f ? 1 / d : 0; }

/* The value of largest magnitude, the first of equals. */
static float extreme(const float *x, size_t n) {
    float most = 0;

    for (size_t i = 0; i < n; i++)
        if (fabsf(x[i]) > fabsf(most)) most = x[i];
    return most;
}

/* ---- blocks of 32 ---------------------------------------------------------------------------- */

static void to_q8_0(unsigned char *y, const float *x) {
    float d = fabsf(extreme(x, SMALL)) / 127, inverse = inverse_of(d);

    put_f16(y, d);
    for (int i = 0; i < SMALL; i++) y[2 + i] = (unsigned char)(signed char)roundf(x[i] * inverse);
}

/* d from the extreme value, which becomes the least integer; product and sum are rounded each, as
 * ggml's Python package does, and machines without fused multiply-add. */
static float to_offset_integers(int *q, const float *x, int levels) {
    float d = extreme(x, SMALL) / (float)(-levels / 2), inverse = inverse_of(d);
    const float offset = (float)(levels / 2) + 0.5f;

    for (int i = 0; i < SMALL; i++) {
        float scaled = x[i] * inverse;
        int v = (int)(scaled + offset);
        q[i] = v < levels - 1 ? v : levels - 1;
    }
    return d;
}

static void put_nibbles(unsigned char *y, const int *q) {
    for (int i = 0; i < 16; i++) y[i] = (unsigned char)((q[i] & 15) | (q[i + 16] & 15) << 4);
}

static void to_q4_0(unsigned char *y, const float *x) {
    int q[SMALL];

    put_f16(y, to_offset_integers(q, x, 16));
    put_nibbles(y + 2, q);
}

static void to_q5_0(unsigned char *y, const float *x) {
    int q[SMALL];
    uint32_t fifth = 0;

    put_f16(y, to_offset_integers(q, x, 32));
    for (int i = 0; i < SMALL; i++) fifth |= (uint32_t)(q[i] >> 4) << i;
    memcpy(y + 2, &fifth, sizeof fifth);
    put_nibbles(y + 6, q);
}

/* ---- Q4_K: eight groups of 32, x = d q - m --------------------------------------------------- */

/* Sums of a group with weights w and integers q, and the fit that follows from them. */
typedef struct fit { float d, min, error; } fit;

static fit fit_affine(const float *x, const float *w, float low, float inverse) {
    float sum_w = 0, sum_x = 0, sum_q = 0, sum_qq = 0, sum_xq = 0;
    float q[SMALL];
    fit f = {0, 0, INFINITY};

    for (int i = 0; i < SMALL; i++) {
        q[i] = (float)nearest(inverse * (x[i] - low), 0, 15);
        sum_w += w[i];
        sum_x += w[i] * x[i];
        sum_q += w[i] * q[i];
        sum_qq += w[i] * q[i] * q[i];
        sum_xq += w[i] * q[i] * x[i];
    }
    float det = sum_w * sum_qq - sum_q * sum_q;
    if (!(det > 0)) return f;
    f.d = (sum_w * sum_xq - sum_x * sum_q) / det;
    f.min = (sum_qq * sum_x - sum_q * sum_xq) / det;
    if (f.min > 0) f.min = 0, f.d = sum_xq / sum_qq;
    f.error = 0;
    for (int i = 0; i < SMALL; i++) {
        float off = f.d * q[i] + f.min - x[i];
        f.error += w[i] * off * off;
    }
    return f;
}

/* d and m >= 0 of a group. Large values weigh more, and the mean magnitude keeps the rest. */
static void affine_group(const float *x, float *d, float *m) {
    float w[SMALL], squares = 0, low = 0, high = x[0];

    for (int i = 0; i < SMALL; i++) {
        squares += x[i] * x[i];
        if (x[i] < low) low = x[i];
        if (x[i] > high) high = x[i];
    }
    for (int i = 0; i < SMALL; i++) w[i] = sqrtf(squares / SMALL) + fabsf(x[i]);
    fit best = {(high - low) / 15, low, 0};
    if (high > low) {
        for (int i = 0; i < SMALL; i++) {
            float q = (float)nearest((x[i] - low) / best.d, 0, 15), off = best.d * q + low - x[i];
            best.error += w[i] * off * off;
        }
        for (int step = 0; step <= 20; step++) {
            fit f = fit_affine(x, w, low, (14 + 0.1f * (float)step) / (high - low));
            if (f.error < best.error) best = f;
        }
    } else best.d = 0;
    *d = best.d;
    *m = -best.min;
}

/* Scales and mins of eight groups, six bits each: the first four in the low bits of 0..3 and 4..7,
 * the others in the nibbles of 8..11 and the high bits. */
static void put_six_bits(unsigned char *y, const int *d, const int *m) {
    for (int j = 0; j < 4; j++) {
        y[j] = (unsigned char)(d[j] | d[j + 4] >> 4 << 6);
        y[j + 4] = (unsigned char)(m[j] | m[j + 4] >> 4 << 6);
        y[j + 8] = (unsigned char)((d[j + 4] & 15) | (m[j + 4] & 15) << 4);
    }
}

static void to_q4_k(unsigned char *y, const float *x) {
    float d[8], m[8], most_d = 0, most_m = 0;
    int di[8], mi[8], q[SUPER];

    for (int j = 0; j < 8; j++) {
        affine_group(x + j * SMALL, &d[j], &m[j]);
        if (d[j] > most_d) most_d = d[j];
        if (m[j] > most_m) most_m = m[j];
    }
    put_f16(y, most_d / 63);
    put_f16(y + 2, most_m / 63);
    float super_d = get_f16(y), super_m = get_f16(y + 2);
    for (int j = 0; j < 8; j++) {
        di[j] = most_d > 0 ? nearest(63 / most_d * d[j], 0, 63) : 0;
        mi[j] = most_m > 0 ? nearest(63 / most_m * m[j], 0, 63) : 0;
        float group_d = super_d * (float)di[j], group_m = super_m * (float)mi[j];
        for (int i = j * SMALL; i < (j + 1) * SMALL; i++)
            q[i] = group_d != 0 ? nearest((x[i] + group_m) / group_d, 0, 15) : 0;
    }
    put_six_bits(y + 4, di, mi);
    for (int j = 0; j < 4; j++)
        for (int i = 0; i < SMALL; i++)
            y[16 + j * SMALL + i] = (unsigned char)(q[j * 64 + i] | q[j * 64 + 32 + i] << 4);
}

/* ---- Q6_K: sixteen groups of 16, x = d q ----------------------------------------------------- */

/* d of a group; the weight of a value is its square. */
static float symmetric_group(const float *x) {
    float most = extreme(x, 16), best_d = 0, best = 0;

    if (fabsf(most) < 1e-15f) return 0;
    for (int step = -9; step <= 9; step++) {
        float inverse = -(32 + 0.1f * (float)step) / most, sum_xq = 0, sum_qq = 0;
        for (int i = 0; i < 16; i++) {
            float q = (float)nearest(inverse * x[i], -32, 31), w = x[i] * x[i];
            sum_xq += w * x[i] * q;
            sum_qq += w * q * q;
        }
        /* sum_xq^2 / sum_qq is by how much the fit lowers the error. */
        if (sum_qq > 0 && sum_xq * sum_xq > best * sum_qq) {
            best_d = sum_xq / sum_qq;
            best = best_d * sum_xq;
        }
    }
    return best_d;
}

static void to_q6_k(unsigned char *y, const float *x) {
    float d[16];
    int q[SUPER];
    unsigned char *low = y, *high = y + 128, *scales = y + 192;

    for (int j = 0; j < 16; j++) d[j] = symmetric_group(x + 16 * j);
    float most = extreme(d, 16), inverse = fabsf(most) < 1e-15f ? 0 : -128 / most;
    put_f16(y + 208, inverse != 0 ? 1 / inverse : 0);
    float super = get_f16(y + 208);
    for (int j = 0; j < 16; j++) {
        int scale = nearest(inverse * d[j], -128, 127);
        float group = super * (float)scale;
        scales[j] = (unsigned char)(signed char)scale;
        for (int i = 16 * j; i < 16 * (j + 1); i++)
            q[i] = 32 + (group != 0 ? nearest(x[i] / group, -32, 31) : 0);
    }
    for (int half = 0; half < SUPER; half += 128, low += 64, high += 32)
        for (int i = 0; i < 32; i++) {
            const int *p = q + half + i;
            low[i] = (unsigned char)((p[0] & 15) | (p[64] & 15) << 4);
            low[i + 32] = (unsigned char)((p[32] & 15) | (p[96] & 15) << 4);
            high[i] = (unsigned char)(p[0] >> 4 | p[32] >> 4 << 2 | p[64] >> 4 << 4 |
                                      p[96] >> 4 << 6);
        }
}

/* ---- the table ------------------------------------------------------------------------------- */

static void (*const blocks[AA_TYPE_COUNT])(unsigned char *y, const float *x) = {
    [AA_TYPE_Q4_0] = to_q4_0, [AA_TYPE_Q5_0] = to_q5_0, [AA_TYPE_Q8_0] = to_q8_0,
    [AA_TYPE_Q4_K] = to_q4_k, [AA_TYPE_Q6_K] = to_q6_k,
};

bool aa_type_can_quantize(aa_type type) {
    return type == AA_TYPE_F32 || type == AA_TYPE_F16 || type == AA_TYPE_BF16 || blocks[type];
}

typedef void half_fn(uint16_t *y, const float *x, size_t n);

static void to_half(unsigned char *y, const float *x, size_t n, half_fn *convert) {
    uint16_t half[SUPER];

    for (size_t at = 0; at < n; at += SUPER) {
        size_t len = n - at < SUPER ? n - at : SUPER;
        convert(half, x + at, len);
        memcpy(y + at * sizeof *half, half, len * sizeof *half);
    }
}

void aa_quantize(void *y, aa_type type, const float *x, size_t n) {
    size_t block = aa_type_block(type), bytes = aa_type_bytes(type, block);

    if (type == AA_TYPE_F32) memcpy(y, x, n * sizeof *x);
    else if (type == AA_TYPE_F16) to_half(y, x, n, aa_f16_from_f32);
    else if (type == AA_TYPE_BF16) to_half(y, x, n, aa_bf16_from_f32);
    else
        for (size_t i = 0; i < n / block; i++)
            blocks[type]((unsigned char *)y + i * bytes, x + i * block);
}
