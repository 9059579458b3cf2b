/* Products of bytes: four to a sum by one instruction where the build has it. */
#include "num/neon/vec.h"

enum { MR_INT = 6, NV_INT = 2 };
typedef int32x4_t ints;

static inline ints i_load(const int8_t *p) { return vreinterpretq_s32_s8(vld1q_s8(p)); }
static inline vec i_vec(ints a) { return vreinterpretq_f32_s32(a); }
static inline vec i_float(ints a) { return vcvtq_f32_s32(a); }
static inline ints i_four(const int8_t *p) {
    int32_t four;
    memcpy(&four, p, sizeof four);
    return vdupq_n_s32(four);
}
static inline ints i_form(ints w) { return w; }
static inline ints i_start(int32_t sum) {
    (void)sum;
    return vdupq_n_s32(0);
}
static inline ints i_dot(ints sum, ints w, ints x) {
    int8x16_t a = vreinterpretq_s8_s32(w), b = vreinterpretq_s8_s32(x);
#ifdef __ARM_FEATURE_DOTPROD
    return vdotq_s32(sum, a, b);
#else
    /* Two products of a byte and one of at most 127 fit 16 bits only one at a time. */
    int32x4_t low = vpaddlq_s16(vmull_s8(vget_low_s8(a), vget_low_s8(b)));
    int32x4_t high = vpaddlq_s16(vmull_high_s8(a, b));
    return vaddq_s32(sum, vpaddq_s32(low, high));
#endif
}

#include "num/simd/int8.inc"
