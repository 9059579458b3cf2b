/* Matrix products of bfloat16 pairs, reference: the arithmetic of x86's vdpbf16ps, bit for bit.
 *
 * A pair (e, o) of A and one of B add to a sum s as  s = r(s + o_a o_b);  s = r(s + e_a e_b)  with
 * the products exact (8-bit significands), r to nearest even, and every subnormal float, read or
 * written, taken as zero (Intel 64 manual, volume 2, VDPBF16PS). A pair lies in the 32 bits of a
 * float, its even element in the lower half.
 *
 * And that of tdpbf16ps, which makes sums of sixteen pairs before it adds them (TDPBF16PS):
 * e = r(e + e_a e_b), o = r(o + o_a o_b), both from 0;  then  s = r(s + r(e + o)).
 *
 * And that of Arm's BFDOT (Arm Architecture Reference Manual, BFDotAdd without FEAT_EBF16):
 * s = d(s + d(e_a e_b + o_a o_b)), d rounding to odd: what is cut off sets the last bit. */
#include <float.h>
#include <math.h>
#include <string.h>
#include "num/num_int.h"

enum { MR = 4, NR = 8 };

aa_gemm_shape aa_bf16_shape__scalar(void) {
    return (aa_gemm_shape){.mr = MR, .nr = NR, .kc = 256, .mc = 64, .nc = 128, .unit = 1};
}

static float normal(float x) { return fabsf(x) < FLT_MIN ? copysignf(0, x) : x; }

static uint16_t rounded(aa_real x) {
    uint16_t y;
    float f = normal((float)x);
    aa_bf16_from_f32(&y, &f, 1);
    return y;
}

static void set_pair(aa_real *y, aa_real even, aa_real odd) {
    uint32_t word = rounded(even) | (uint32_t)rounded(odd) << 16;
    memcpy(y, &word, sizeof word);
}

static void get_pair(const aa_real *x, float pair[2]) {
    uint32_t word, halves[2];
    memcpy(&word, x, sizeof word);
    halves[0] = word << 16;
    halves[1] = word & 0xffff0000u;
    memcpy(pair, halves, sizeof halves);
}

static float dot2(const float a[2], const float b[2], float sum) {
    sum = normal(fmaf(normal(a[1]), normal(b[1]), normal(sum)));
    return normal(fmaf(normal(a[0]), normal(b[0]), sum));
}

/* n pairs of A, and those of B that are NR apart, added to a sum. */
typedef float add_fn(const aa_real *a, size_t a_k, const aa_real *b, size_t n, float sum);

static float add_pairs(const aa_real *a, size_t a_k, const aa_real *b, size_t n, float sum) {
    for (size_t k = 0; k < n; k++, a += a_k, b += NR) {
        float x[2], y[2];
        get_pair(a, x);
        get_pair(b, y);
        sum = dot2(x, y, sum);
    }
    return sum;
}

static float add_unit(const aa_real *a, size_t a_k, const aa_real *b, size_t n, float sum) {
    float even = 0, odd = 0;
    for (size_t k = 0; k < n; k++, a += a_k, b += NR) {
        float x[2], y[2];
        get_pair(a, x);
        get_pair(b, y);
        even = normal(fmaf(normal(x[0]), normal(y[0]), even));
        odd = normal(fmaf(normal(x[1]), normal(y[1]), odd));
    }
    return normal(normal(sum) + normal(even + odd));
}

/* a + b rounded to odd. A double holds the sum but for a rest, which two-sum finds (Knuth, TAOCP 2,
 * 4.2.2); the last bit of the double then stands for it, and that of the float for all of that. */
static float add_odd(float a, float b) {
    double x = (double)a, y = (double)b, sum = x + y, part = sum - x;
    double rest = (x - (sum - part)) + (y - part);
    if (!isfinite(sum)) return (float)sum;
    if (rest != 0) {
        bool less = (rest < 0) == (sum > 0);           /* the true sum is nearer to zero */
        uint64_t bits;
        memcpy(&bits, &sum, sizeof bits);
        bits = (less ? bits - 1 : bits) | 1;
        memcpy(&sum, &bits, sizeof sum);
    }
    float f = (float)sum;
    uint32_t word;
    memcpy(&word, &f, sizeof word);
    if (isinf(f)) return f;
    if (fabs((double)f) > fabs(sum)) word--;
    if ((double)f != sum) word |= 1;
    memcpy(&f, &word, sizeof f);
    return normal(f);
}

static float add_odd_pairs(const aa_real *a, size_t a_k, const aa_real *b, size_t n, float sum) {
    for (size_t k = 0; k < n; k++, a += a_k, b += NR) {
        float x[2], y[2];
        get_pair(a, x);
        get_pair(b, y);
        float even = normal(normal(x[0]) * normal(y[0])), odd = normal(normal(x[1]) * normal(y[1]));
        sum = add_odd(normal(sum), add_odd(even, odd));
    }
    return sum;
}

static void tile(const aa_tile *t, size_t unit, add_fn *add) {
    for (size_t r = 0; r < t->mr; r++) {
        aa_real acc[NR] = {0};
        const aa_real *a = t->a + r * t->a_row;
        for (size_t j = 0; j < t->nr; j++) {
            float sum = t->from_zero ? 0 : (float)t->c[r * t->ldc + j];
            for (size_t k = 0; k < t->kc; k += unit)
                sum = add(a + k * t->a_k, t->a_k, t->b + k * NR + j, aa__min(unit, t->kc - k), sum);
            acc[j] = sum;
        }
        aa__tile_finish(t, r, acc);
    }
}

void aa_bf16_tile__scalar(const aa_tile *t) { tile(t, 1, add_pairs); }

void aa__bf16_tile_units(const aa_tile *t) { tile(t, AA_BF16_UNIT, add_unit); }

void aa__bf16_tile_odd(const aa_tile *t) { tile(t, 1, add_odd_pairs); }

void aa_bf16_pack_rows__scalar(aa_real *y, size_t ldy, const aa_real *x, size_t ldx, size_t n_rows,
                               size_t n, size_t width, aa_real scale) {
    for (size_t i = 0; i < n_rows; i += 2, y += ldy)
        for (size_t j = 0; j < width; j++)
            set_pair(y + j, j < n ? scale * x[i * ldx + j] : 0,
                     j < n && i + 1 < n_rows ? scale * x[(i + 1) * ldx + j] : 0);
}

void aa_bf16_pack_copy__scalar(aa_real *y, size_t ldy, const aa_real *x, size_t ldx, size_t n_rows,
                               size_t n, size_t width, aa_real scale) {
    for (size_t i = 0; i < n_rows; i++, x += ldx, y += ldy)
        for (size_t j = 0; j < width; j++)
            set_pair(y + j, 2 * j < n ? scale * x[2 * j] : 0,
                     2 * j + 1 < n ? scale * x[2 * j + 1] : 0);
}

void aa_bf16_pack_transposed__scalar(aa_real *y, size_t ldy, const aa_real *x, size_t ldx,
                                     size_t n_rows, size_t n, size_t width, aa_real scale) {
    for (size_t i = 0; i < n; i += 2, y += ldy)
        for (size_t j = 0; j < width; j++) {
            const aa_real *row = x + j * ldx + i;
            set_pair(y + j, j < n_rows ? scale * row[0] : 0,
                     j < n_rows && i + 1 < n ? scale * row[1] : 0);
        }
}

void aa_bf16_pack_columns__scalar(aa_real *y, size_t ldy, const aa_real *x, size_t ldx,
                                  size_t n_rows, size_t n, size_t width, aa_real scale) {
    for (size_t j = 0; j < n; j++, y += ldy)
        for (size_t i = 0; i < width; i++)
            set_pair(y + i, 2 * i < n_rows ? scale * x[2 * i * ldx + j] : 0,
                     2 * i + 1 < n_rows ? scale * x[(2 * i + 1) * ldx + j] : 0);
}

double aa_bf16_peak_probe__scalar(size_t n_rounds, aa_real *sink) {
    float sum = 0;
    const float x[2] = {0.5f, 0.25f};
    for (size_t i = 0; i < n_rounds; i++) sum = dot2(x, x, sum);
    *sink = sum;
    return 4.0 * (double)n_rounds;
}
