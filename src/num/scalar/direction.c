/* Directions, reference. Nothing here may be contracted or reordered: these are the bits that a
 * ledger is replayed to. */
#include <math.h>
#include <string.h>
#include "base/rng.h"
#include "num/num_int.h"

void aa_philox__scalar(uint32_t *out, const uint32_t *ctr, const uint32_t *key, size_t n_blocks) {
    uint32_t at[4] = {ctr[0], ctr[1], ctr[2], ctr[3]};
    for (size_t b = 0; b < n_blocks; b++, at[0]++) aa_philox4x32_10(at, key, out + 4 * b);
}

static bool bit_at(const unsigned char *bits, size_t i) { return bits[i / 8] >> i % 8 & 1; }

void aa_sign_expand__scalar(aa_real *y, const aa_real *w, aa_real scale, aa_real a,
                            const unsigned char *bits, size_t bit, size_t n) {
    for (size_t i = 0; i < n; i++) {
        aa_real z = bit_at(bits, bit + i) ? -a : a;
        y[i] = w ? scale * w[i] + z : z;
    }
}

void aa_sign_sum__scalar(aa_real *y, const unsigned char *bits, size_t step, const aa_real *c,
                         size_t n_terms, size_t n) {
    for (size_t i = 0; i < n; i++)
        for (size_t s = 0; s < n_terms; s++)
            y[i] += bit_at(bits + s * step, i) ? -c[s] : c[s];
}

/* ln x for a normal x > 0: x = 2^e m with m in [sqrt 1/2, sqrt 2), and the series of 2 artanh f,
 * f = (m - 1)/(m + 1), |f| < 0.172, to f^17 (relative error under 1e-14). */
static double logarithm(double x) {
    int e;
    double m = frexp(x, &e);
    if (m < 0.70710678118654752) m *= 2, e--;
    double f = (m - 1) / (m + 1), g = f * f, sum = 0;
    for (int k = 17; k >= 1; k -= 2) sum = sum * g + 1.0 / k;
    return 2 * f * sum + e * 0.69314718055994531;
}

/* Cosine and sine of u / 2^32 of a turn: the quadrant is exact, the rest below a quarter turn is
 * summed to x^18 and x^19 (error under 1e-13). */
static void circle(uint32_t u, double *c, double *s) {
    double x = (double)(u & 0x3fffffffu) * (0x1p-30 * 1.5707963267948966), g = x * x, even = 1,
           odd = 1;
    for (int k = 18; k >= 2; k -= 2) {
        even = 1 - even * g / (k * (k - 1));
        odd = 1 - odd * g / (k * (k + 1));
    }
    odd *= x;
    switch (u >> 30) {
    case 0: *c = even, *s = odd; break;
    case 1: *c = -odd, *s = even; break;
    case 2: *c = -even, *s = -odd; break;
    default: *c = odd, *s = -even;
    }
}

void aa__direction_normals(aa_real *y, const uint32_t *words, size_t n_blocks) {
    for (size_t p = 0; p < 2 * n_blocks; p++) {
        double c, s, radius = sqrt(-2 * logarithm(((double)words[2 * p] + 1) * 0x1p-32));
        circle(words[2 * p + 1], &c, &s);
        y[2 * p] = AA_R(radius * c);
        y[2 * p + 1] = AA_R(radius * s);
    }
}

void aa__direction_shape(aa_real *y, const aa_real *w, aa_real scale, aa_real a,
                         const aa_real *gain, const aa_real *along, aa_real shift, size_t n) {
    for (size_t i = 0; i < n; i++) {
        aa_real d = gain ? gain[i] * y[i] : y[i];
        if (along) d += shift * along[i];
        y[i] = w ? scale * w[i] + a * d : a * d;
    }
}

void aa__direction_finish(aa_real *y, bool add, const aa_real *sum, const aa_real *gain, size_t n) {
    for (size_t i = 0; i < n; i++) {
        aa_real d = gain ? gain[i] * sum[i] : sum[i];
        y[i] = add ? y[i] + d : d;
    }
}

void aa__direction_axpy(aa_real *restrict y, aa_real a, const aa_real *restrict x, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] += a * x[i];
}
