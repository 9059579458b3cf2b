/* bfloat16 pairs with Armv8.6's BFDOT: two products, their sum, and the sum with what was there,
 * each rounded to odd, subnormals taken as zero (num/scalar/bf16.c). */
#include <float.h>
#include "num/neon/vec.h"
#undef ISA
#define ISA neonbf16

static inline vec v_dot2(vec a, vec b, vec sums) {
    return vbfdotq_f32(sums, vreinterpretq_bf16_f32(a), vreinterpretq_bf16_f32(b));
}

/* BFCVTN keeps subnormals. */
static inline vec v_normal(vec x) {
    uint32x4_t small = vcaltq_f32(x, v_set1(FLT_MIN)), bits = vreinterpretq_u32_f32(x);
    uint32x4_t sign = vandq_u32(bits, vdupq_n_u32(0x80000000u));
    return vreinterpretq_f32_u32(vbslq_u32(small, sign, bits));
}

static inline vec v_pair_columns(vec low, vec high) {
    bfloat16x8_t first = vcvtq_low_bf16_f32(v_normal(low));
    return vreinterpretq_f32_bf16(vcvtq_high_bf16_f32(first, v_normal(high)));
}

static inline vec v_pair_rows(vec even, vec odd) {
    uint16x8_t e = vreinterpretq_u16_bf16(vcvtq_low_bf16_f32(v_normal(even)));
    uint16x8_t o = vreinterpretq_u16_bf16(vcvtq_low_bf16_f32(v_normal(odd)));
    return vreinterpretq_f32_u16(vzip1q_u16(e, o));
}

#include "num/simd/bf16.inc"
