/* num/half: IEEE binary16 and bfloat16 to and from binary32, by their bits.
 *
 * bfloat16 is the upper half of a float, so that rounding to nearest even is one integer addition:
 * 0x7fff plus the lowest bit kept. binary16 has a 5-bit exponent with bias 15 (float: 8 bits, bias
 * 127) and 10 of the 23 mantissa bits: values under 2^-14 are subnormal there, under 2^-25 they
 * round to zero, from 65520 on to infinity. NaN keeps its sign and is made quiet.
 */
#include <string.h>
#include "num/num.h"

static uint32_t bits_of(float x) {
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static float float_of(uint32_t u) {
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

void aa_bf16_from_f32(uint16_t *y, const float *x, size_t n) {
    for (size_t i = 0; i < n; i++) {
        uint32_t u = bits_of(x[i]);
        uint32_t rounded = u + 0x7fffu + (u >> 16 & 1);
        uint32_t nan = u | 0x400000u;
        y[i] = (uint16_t)(((u & 0x7fffffffu) > 0x7f800000u ? nan : rounded) >> 16);
    }
}

void aa_f32_from_bf16(float *y, const uint16_t *x, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] = float_of((uint32_t)x[i] << 16);
}

static uint16_t f16_of(float x) {
    uint32_t u = bits_of(x), sign = u >> 16 & 0x8000u, a = u & 0x7fffffffu;
    if (a > 0x7f800000u) return (uint16_t)(sign | 0x7e00u | (a >> 13 & 0x3ffu));
    if (a >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u);           /* 65520 and more */
    if (a < 0x38800000u) {                                              /* under 2^-14: subnormal */
        /* 0.5 + |x| has its last mantissa bit at 2^-24, the step of the subnormals: the float
         * addition rounds to nearest even for us. */
        return (uint16_t)(sign | (bits_of(float_of(a) + 0.5f) - 0x3f000000u));
    }
    return (uint16_t)(sign | ((a - 0x38000000u + 0xfffu + (a >> 13 & 1)) >> 13));
}

void aa_f16_from_f32(uint16_t *y, const float *x, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] = f16_of(x[i]);
}

static float f32_of_f16(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, a = h & 0x7fffu;
    if (a >= 0x7c00u) {
        uint32_t quiet = a > 0x7c00u ? 0x400000u : 0;
        return float_of(sign | 0x7f800000u | quiet | a << 13);
    }
    if (a < 0x400u) {                                                   /* subnormal: a * 2^-24 */
        float magnitude = (float)a * 0x1p-24f;
        return float_of(sign | bits_of(magnitude));
    }
    return float_of(sign | ((a << 13) + 0x38000000u));
}

void aa_f32_from_f16(float *y, const uint16_t *x, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] = f32_of_f16(x[i]);
}
