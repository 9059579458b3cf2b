#include "num/neon/vec.h"

typedef uint8x16x2_t bvec;

#define BOTH(f, a, b) ((bvec){{f((a).val[0], (b).val[0]), f((a).val[1], (b).val[1])}})
static inline bvec b_load(const unsigned char *p) { return vld1q_u8_x2(p); }
static inline void b_store(int8_t *p, bvec x) {
    vst1q_s8(p, vreinterpretq_s8_u8(x.val[0]));
    vst1q_s8(p + 16, vreinterpretq_s8_u8(x.val[1]));
}
static inline bvec b_set1(int x) {
    uint8x16_t v = vdupq_n_u8((uint8_t)x);
    return (bvec){{v, v}};
}
static inline bvec b_and(bvec a, bvec b) { return BOTH(vandq_u8, a, b); }
static inline bvec b_or(bvec a, bvec b) { return BOTH(vorrq_u8, a, b); }
static inline bvec b_sub(bvec a, bvec b) { return BOTH(vsubq_u8, a, b); }
#define b_up(x, n) ((bvec){{vshlq_n_u8((x).val[0], n), vshlq_n_u8((x).val[1], n)}})
#define b_down(x, n) ((bvec){{vshrq_n_u8((x).val[0], n), vshrq_n_u8((x).val[1], n)}})
static inline bvec b_nibbles(const unsigned char *p) {
    uint8x16_t x = vld1q_u8(p);
    return (bvec){{vandq_u8(x, vdupq_n_u8(15)), vshrq_n_u8(x, 4)}};
}
static inline bvec b_has(bvec x, int bits) {
    bvec b = b_set1(bits);
    return BOTH(vtstq_u8, x, b);
}
static inline bvec b_bits(const unsigned char *p) {
    static const uint8_t bit[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    bvec b = {{vld1q_u8(bit), vld1q_u8(bit)}};
    bvec x = {{vcombine_u8(vdup_n_u8(p[0]), vdup_n_u8(p[1])),
                vcombine_u8(vdup_n_u8(p[2]), vdup_n_u8(p[3]))}};
    return BOTH(vtstq_u8, x, b);
}
static inline bvec b_lookup(bvec x) {
    static const int8_t curve[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                     1,    13,   25,  38,  53,  69,  89,  113};
    uint8x16_t table = vreinterpretq_u8_s8(vld1q_s8(curve));
    return (bvec){{vqtbl1q_u8(table, x.val[0]), vqtbl1q_u8(table, x.val[1])}};
}
static inline float h_float(const unsigned char *p) {
    uint16_t half;
    memcpy(&half, p, sizeof half);
    return vgetq_lane_f32(vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(half))), 0);
}
static inline void b_scales(float *y, uint64_t x, float scale) {
    int16x8_t eight = vmovl_s8(vcreate_s8(x));
    v_store(y, v_mul(vcvtq_f32_s32(vmovl_s16(vget_low_s16(eight))), v_set1(scale)));
    v_store(y + 4, v_mul(vcvtq_f32_s32(vmovl_high_s16(eight)), v_set1(scale)));
}

#include "num/simd/unpack.inc"
