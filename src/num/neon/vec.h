/* The vector vocabulary of num/simd in NEON (AArch64):
 * four floats. See avx512/vec.h for the rules. */
#ifndef AA_NUM_NEON_VEC_H
#define AA_NUM_NEON_VEC_H

#include <arm_neon.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define ISA neon
enum { VL = 4, MR = 12, NV = 2, KC = 256, MC = 120, NC = 512, CHAINS = 24 };
typedef float32x4_t vec;
typedef float64x2_t wide;

static inline vec v_zero(void) { return vdupq_n_f32(0); }
static inline vec v_set1(float x) { return vdupq_n_f32(x); }
static inline vec v_load(const float *p) { return vld1q_f32(p); }
static inline void v_store(float *p, vec x) { vst1q_f32(p, x); }
static inline vec v_load_or(const float *p, size_t n, vec fill) {
    float x[4];
    if (n == VL) return vld1q_f32(p);
    vst1q_f32(x, fill);
    memcpy(x, p, n * sizeof *x);
    return vld1q_f32(x);
}
static inline vec v_load_n(const float *p, size_t n) { return v_load_or(p, n, v_zero()); }
static inline void v_store_n(float *p, vec v, size_t n) {
    float x[4];
    if (n == VL) {
        vst1q_f32(p, v);
        return;
    }
    vst1q_f32(x, v);
    memcpy(p, x, n * sizeof *x);
}
static inline vec v_keep_n(vec v, size_t n) {
    static const uint32_t ones[8] = {~0u, ~0u, ~0u, ~0u};
    return vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(v), vld1q_u32(ones + 4 - n)));
}
static inline vec v_add(vec a, vec b) { return vaddq_f32(a, b); }
static inline vec v_sub(vec a, vec b) { return vsubq_f32(a, b); }
static inline vec v_mul(vec a, vec b) { return vmulq_f32(a, b); }
static inline vec v_div(vec a, vec b) { return vdivq_f32(a, b); }
static inline vec v_sqrt(vec a) { return vsqrtq_f32(a); }
static inline vec v_max(vec a, vec b) { return vmaxq_f32(a, b); }
static inline vec v_min(vec a, vec b) { return vminq_f32(a, b); }
static inline vec v_fma(vec a, vec b, vec c) { return vfmaq_f32(c, a, b); }
static inline vec v_fnma(vec a, vec b, vec c) { return vfmsq_f32(c, a, b); }
static inline vec v_round(vec a) { return vrndnq_f32(a); }

/* In two halves, each a power of two that a float can hold,
 * so that results may overflow or be subnormal. */
static inline vec v_scale2(vec a, vec n) {
    int32x4_t k = vcvtnq_s32_f32(n), half = vshrq_n_s32(k, 1), rest = vsubq_s32(k, half),
              bias = vdupq_n_s32(127);
    vec p = vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(half, bias), 23));
    vec q = vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(rest, bias), 23));
    return vmulq_f32(vmulq_f32(a, p), q);
}

static inline float v_sum(vec a) { return vaddvq_f32(a); }
static inline float v_top(vec a) { return vmaxvq_f32(a); }

static inline vec v_from_f32(const unsigned char *p) { return vreinterpretq_f32_u8(vld1q_u8(p)); }
static inline vec v_from_f16(const unsigned char *p) {
    return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p)));
}
static inline vec v_from_bf16(const unsigned char *p) {
    return vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(vld1_u8(p)), 16));
}
static inline void v_to_f16(uint16_t *p, vec x) {
    vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(x)));
}
static inline void v_to_int8(int8_t *p, vec x) {
    int16x4_t words = vqmovn_s32(vcvtnq_s32_f32(x));
    int8x8_t bytes = vqmovn_s16(vcombine_s16(words, words));
    uint32_t four = vget_lane_u32(vreinterpret_u32_s8(bytes), 0);
    memcpy(p, &four, sizeof four);
}

static inline wide w_zero(void) { return vdupq_n_f64(0); }
static inline wide w_low(vec a) { return vcvt_f64_f32(vget_low_f32(a)); }
static inline wide w_high(vec a) { return vcvt_high_f64_f32(a); }
static inline wide w_fma(wide a, wide b, wide c) { return vfmaq_f64(c, a, b); }
static inline double w_sum(wide a) { return vaddvq_f64(a); }

static inline void v_transpose(vec x[VL]) {
    vec a = vzip1q_f32(x[0], x[2]), b = vzip2q_f32(x[0], x[2]), c = vzip1q_f32(x[1], x[3]),
        d = vzip2q_f32(x[1], x[3]);
    x[0] = vzip1q_f32(a, c);
    x[1] = vzip2q_f32(a, c);
    x[2] = vzip1q_f32(b, d);
    x[3] = vzip2q_f32(b, d);
}

#endif
