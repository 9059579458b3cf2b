/* Stored weights, reference: halves, and rows of small integers.
 *
 * Types of small integers are blocks of 32 elements, or of 256 in groups of 16 or 32. Each is, by
 * the layouts of ggml (ggml-common.h),  x = d q + m  with one d and m for a group; what multiplies
 * to them (a scale of the block and one of the group) has so few bits that d and m are exact. */
#include <math.h>
#include <string.h>
#include "num/num_int.h"

/* ---- halves ---------------------------------------------------------------------------------- */

static aa_real of_f16(const unsigned char *x) {
    uint16_t half;
    float y;
    memcpy(&half, x, sizeof half);
    aa_f32_from_f16(&y, &half, 1);
    return y;
}

static aa_real of_bf16(const unsigned char *x) {
    uint16_t half;
    float y;
    memcpy(&half, x, sizeof half);
    aa_f32_from_bf16(&y, &half, 1);
    return y;
}

static aa_real of_f32(const unsigned char *x) {
    float y;
    memcpy(&y, x, sizeof y);
    return y;
}

#define DOT(type, of, bytes)                                                                       \
    void aa_dot_##type##__scalar(aa_real *s, const aa_real *q, size_t ldq, size_t n_q,             \
                                 const unsigned char *x, size_t n) {                               \
        for (size_t i = 0; i < n_q; i++) {                                                         \
            s[i] = 0;                                                                              \
            for (size_t j = 0; j < n; j++) s[i] += q[i * ldq + j] * of(x + j * (bytes));           \
        }                                                                                          \
    }
DOT(f32, of_f32, 4)
DOT(f16, of_f16, 2)
DOT(bf16, of_bf16, 2)
#undef DOT

void aa_from_f16__scalar(aa_real *y, const unsigned char *x, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] = of_f16(x + 2 * i);
}

void aa_from_bf16__scalar(aa_real *y, const unsigned char *x, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] = of_bf16(x + 2 * i);
}

void aa_to_f16__scalar(uint16_t *y, const aa_real *x, size_t n) {
    for (size_t i = 0; i < n; i++) aa_f16_from_f32(y + i, &(float){(float)x[i]}, 1);
}

/* ---- small integers -------------------------------------------------------------------------- */

typedef void block_fn(const unsigned char *x, int8_t *q, aa_real *d, aa_real *m);

/* Four bits of element i of a block of 32: the first sixteen are the lower halves of the bytes. */
static int nibble(const unsigned char *x, int i) { return x[i % 16] >> i / 16 * 4 & 15; }

static void q4_0(const unsigned char *x, int8_t *q, aa_real *d, aa_real *m) {
    (void)m;
    *d = of_f16(x);
    for (int i = 0; i < 32; i++) q[i] = (int8_t)(nibble(x + 2, i) - 8);
}

static void q4_1(const unsigned char *x, int8_t *q, aa_real *d, aa_real *m) {
    *d = of_f16(x), *m = of_f16(x + 2);
    for (int i = 0; i < 32; i++) q[i] = (int8_t)nibble(x + 4, i);
}

/* Bit i of four bytes is the fifth bit of element i. */
static int fifth(const unsigned char *x, int i) { return (x[i / 8] >> i % 8 & 1) << 4; }

static void q5_0(const unsigned char *x, int8_t *q, aa_real *d, aa_real *m) {
    (void)m;
    *d = of_f16(x);
    for (int i = 0; i < 32; i++) q[i] = (int8_t)((nibble(x + 6, i) | fifth(x + 2, i)) - 16);
}

static void q5_1(const unsigned char *x, int8_t *q, aa_real *d, aa_real *m) {
    *d = of_f16(x), *m = of_f16(x + 2);
    for (int i = 0; i < 32; i++) q[i] = (int8_t)(nibble(x + 8, i) | fifth(x + 4, i));
}

static void q8_0(const unsigned char *x, int8_t *q, aa_real *d, aa_real *m) {
    (void)m;
    *d = of_f16(x);
    memcpy(q, x + 2, 32);
}

/* Two bits of element i of a block of 256: 32 bytes hold four times 32 elements. */
static int two_bits(const unsigned char *x, int i) {
    return x[i / 128 * 32 + i % 32] >> i % 128 / 32 * 2 & 3;
}

static void q2_k(const unsigned char *x, int8_t *q, aa_real *d, aa_real *m) {
    for (int g = 0; g < 16; g++) {
        d[g] = of_f16(x + 80) * (aa_real)(x[g] & 15);
        m[g] = -of_f16(x + 82) * (aa_real)(x[g] >> 4);
    }
    for (int i = 0; i < 256; i++) q[i] = (int8_t)two_bits(x + 16, i);
}

static void q3_k(const unsigned char *x, int8_t *q, aa_real *d, aa_real *m) {
    const unsigned char *s = x + 96;
    (void)m;
    for (int g = 0; g < 16; g++) {
        int scale = (s[g % 8] >> g / 8 * 4 & 15) | (s[8 + g % 4] >> g / 4 * 2 & 3) << 4;
        d[g] = of_f16(x + 108) * (aa_real)(scale - 32);
    }
    for (int i = 0; i < 256; i++)
        q[i] = (int8_t)(two_bits(x + 32, i) - (x[i % 32] >> i / 32 & 1 ? 0 : 4));
}

/* The eight scales and minima of Q4_K and Q5_K, six bits each, in twelve bytes. */
static void six_bits(const unsigned char *x, aa_real *d, aa_real *m) {
    const unsigned char *s = x + 4;
    for (int g = 0; g < 8; g++) {
        int scale = g < 4 ? s[g] & 63 : (s[g + 4] & 15) | s[g - 4] >> 6 << 4;
        int least = g < 4 ? s[g + 4] & 63 : s[g + 4] >> 4 | s[g] >> 6 << 4;
        d[g] = of_f16(x) * (aa_real)scale;
        m[g] = -of_f16(x + 2) * (aa_real)least;
    }
}

/* Four bits of element i of a block of 256: 32 bytes hold two times 32 elements. */
static int half_byte(const unsigned char *x, int i) {
    return x[i / 64 * 32 + i % 32] >> i % 64 / 32 * 4 & 15;
}

static void q4_k(const unsigned char *x, int8_t *q, aa_real *d, aa_real *m) {
    six_bits(x, d, m);
    for (int i = 0; i < 256; i++) q[i] = (int8_t)half_byte(x + 16, i);
}

static void q5_k(const unsigned char *x, int8_t *q, aa_real *d, aa_real *m) {
    six_bits(x, d, m);
    for (int i = 0; i < 256; i++)
        q[i] = (int8_t)(half_byte(x + 48, i) | (x[16 + i % 32] >> i / 32 & 1) << 4);
}

static void q6_k(const unsigned char *x, int8_t *q, aa_real *d, aa_real *m) {
    (void)m;
    for (int g = 0; g < 16; g++) d[g] = of_f16(x + 208) * (aa_real)(int8_t)x[192 + g];
    for (int i = 0; i < 256; i++) {
        int four = x[i / 128 * 64 + i % 64] >> i % 128 / 64 * 4 & 15;
        q[i] = (int8_t)((four | two_bits(x + 128, i) << 4) - 32);
    }
}

static const int8_t curve[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                 1,    13,   25,  38,  53,  69,  89,  113};

static void iq4_nl(const unsigned char *x, int8_t *q, aa_real *d, aa_real *m) {
    (void)m;
    *d = of_f16(x);
    for (int i = 0; i < 32; i++) q[i] = curve[nibble(x + 2, i)];
}

static void iq4_xs(const unsigned char *x, int8_t *q, aa_real *d, aa_real *m) {
    (void)m;
    for (int g = 0; g < 8; g++) {
        int high = x[2 + g / 4] >> g % 4 * 2 & 3, low = x[4 + g / 2] >> g % 2 * 4 & 15;
        d[g] = of_f16(x) * (aa_real)((low | high << 4) - 32);
        for (int i = 0; i < 32; i++) q[32 * g + i] = curve[nibble(x + 8 + 16 * g, i)];
    }
}

static const struct {
    block_fn *unpack;
    size_t block, group;
    bool has_min;
} types[AA_TYPE_COUNT] = {
    [AA_TYPE_Q4_0] = {q4_0, 32, 32, false},     [AA_TYPE_Q4_1] = {q4_1, 32, 32, true},
    [AA_TYPE_Q5_0] = {q5_0, 32, 32, false},     [AA_TYPE_Q5_1] = {q5_1, 32, 32, true},
    [AA_TYPE_Q8_0] = {q8_0, 32, 32, false},     [AA_TYPE_Q2_K] = {q2_k, 256, 16, true},
    [AA_TYPE_Q3_K] = {q3_k, 256, 16, false},    [AA_TYPE_Q4_K] = {q4_k, 256, 32, true},
    [AA_TYPE_Q5_K] = {q5_k, 256, 32, true},     [AA_TYPE_Q6_K] = {q6_k, 256, 16, false},
    [AA_TYPE_IQ4_NL] = {iq4_nl, 32, 32, false}, [AA_TYPE_IQ4_XS] = {iq4_xs, 256, 32, false},
};

size_t aa__type_group(aa_type type) { return types[type].group; }
bool aa__type_has_min(aa_type type) { return types[type].has_min; }

void aa_int8_unpack__scalar(const aa_int8_unpack *u) {
    const size_t block = types[u->type].block, groups = block / types[u->type].group,
                 bytes = aa_type_bytes(u->type, block);
    for (size_t r = 0; r < u->n_rows; r++)
        for (size_t b = 0; b < u->n / block; b++) {
            size_t at = r * u->ld + b * groups;
            types[u->type].unpack(u->x + r * u->step + b * bytes, u->q + r * u->ldq + b * block,
                                  u->d + at, u->m ? u->m + at : NULL);
        }
}

/* ---- integer products ------------------------------------------------------------------------ */

void aa_int8_quantize__scalar(const aa_int8_row *y, const aa_real *x, size_t n, size_t group) {
    for (size_t g = 0; g < n / group; g++, x += group) {
        aa_real top = 0, bad = 0;
        for (size_t i = 0; i < group; i++) {
            aa_real size = x[i] < 0 ? -x[i] : x[i];
            top = size > top ? size : top;
            bad += x[i] * 0;
        }
        aa_real inverse = top > AA_R(AA_INT8_LEAST) ? 127 / top : 0;
        int32_t sum = 0;
        for (size_t i = 0; i < group; i++) {
            aa_real q = AA_R(rint((double)(x[i] * inverse)));
            q = q > -127 ? q : -127;
            q = q < 127 ? q : 127;
            y->q[g * group + i] = (int8_t)q;
            sum += (int32_t)q;
        }
        y->sum[g] = sum;
        y->d[g] = top / 127 + bad;
        y->s[g] = y->d[g] * (aa_real)sum;
    }
}

bool aa_int8_dot__scalar(const aa_int8_dot *t) {
    (void)t;
    return false;
}

enum { MR = 4, NR = 8 };

aa_gemm_shape aa_int8_shape__scalar(void) { return (aa_gemm_shape){.mr = MR, .nr = NR}; }

void aa_int8_pack__scalar(int8_t *y, const int8_t *x, size_t ldx, size_t n_rows, size_t n) {
    for (size_t k = 0; k < n; k++)
        for (size_t j = 0; j < NR; j++)
            y[(k / 4 * NR + j) * 4 + k % 4] = j < n_rows ? x[j * ldx + k] : 0;
}

void aa_int8_tile__scalar(const aa_int8_tile *p) {
    const aa_tile *t = &p->t;
    for (size_t r = 0; r < t->mr; r++) {
        aa_real acc[NR] = {0};
        if (!t->from_zero)
            for (size_t j = 0; j < t->nr; j++) acc[j] = t->c[r * t->ldc + j];
        for (size_t g = 0; g < p->n_groups; g++)
            for (size_t j = 0; j < NR; j++) {
                int32_t sum = 0;
                for (size_t k = g * p->group; k < (g + 1) * p->group; k++)
                    sum += p->a.q[r * p->lda + k] * p->b[(k / 4 * NR + j) * 4 + k % 4];
                acc[j] = aa__fma(p->a.d[r * p->ld + g], (aa_real)sum * p->b_d[g * NR + j], acc[j]);
                if (p->b_m)
                    acc[j] = aa__fma(p->a.s[r * p->ld + g], p->b_m[g * NR + j], acc[j]);
            }
        aa__tile_finish(t, r, acc);
    }
}
