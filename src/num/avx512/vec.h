/* The vector vocabulary of num/simd in AVX-512: sixteen floats.
 *
 * *_n work on the first n lanes (n <= VL): loads fill with zero (or `fill`), stores leave memory
 * beyond alone. v_max and v_min return their second operand when either is NaN, so that constants
 * go first. */
#ifndef AA_NUM_AVX512_VEC_H
#define AA_NUM_AVX512_VEC_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#define ISA avx512
enum { VL = 16, MR = 14, NV = 2, KC = 256, MC = 168, NC = 256, CHAINS = 24 };
typedef __m512 vec;
typedef __m512d wide;                     /* half a vec in double precision */

static inline __mmask16 v_mask(size_t n) { return (__mmask16)((1u << n) - 1); }
static inline vec v_zero(void) { return _mm512_setzero_ps(); }
static inline vec v_set1(float x) { return _mm512_set1_ps(x); }
static inline vec v_load(const float *p) { return _mm512_loadu_ps(p); }
static inline vec v_load_n(const float *p, size_t n) { return _mm512_maskz_loadu_ps(v_mask(n), p); }
static inline vec v_load_or(const float *p, size_t n, vec fill) {
    return _mm512_mask_loadu_ps(fill, v_mask(n), p);
}
static inline void v_store(float *p, vec x) { _mm512_storeu_ps(p, x); }
static inline void v_store_n(float *p, vec x, size_t n) { _mm512_mask_storeu_ps(p, v_mask(n), x); }
static inline vec v_keep_n(vec x, size_t n) { return _mm512_maskz_mov_ps(v_mask(n), x); }
static inline vec v_add(vec a, vec b) { return _mm512_add_ps(a, b); }
static inline vec v_sub(vec a, vec b) { return _mm512_sub_ps(a, b); }
static inline vec v_mul(vec a, vec b) { return _mm512_mul_ps(a, b); }
static inline vec v_div(vec a, vec b) { return _mm512_div_ps(a, b); }
static inline vec v_sqrt(vec a) { return _mm512_sqrt_ps(a); }
static inline vec v_max(vec a, vec b) { return _mm512_max_ps(a, b); }
static inline vec v_min(vec a, vec b) { return _mm512_min_ps(a, b); }
static inline vec v_fma(vec a, vec b, vec c) { return _mm512_fmadd_ps(a, b, c); } /* a*b + c */
static inline vec v_fnma(vec a, vec b, vec c) { return _mm512_fnmadd_ps(a, b, c); } /* c - a*b */
static inline vec v_round(vec a) {
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
static inline vec v_scale2(vec a, vec n) { return _mm512_scalef_ps(a, n); } /* a * 2^n */
static inline float v_sum(vec a) { return _mm512_reduce_add_ps(a); }
static inline float v_top(vec a) { return _mm512_reduce_max_ps(a); }

/* Of a file, at any address: floats, binary16, bfloat16. */
static inline vec v_from_f32(const unsigned char *p) { return _mm512_loadu_ps(p); }
static inline vec v_from_f16(const unsigned char *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p));
}
static inline vec v_from_bf16(const unsigned char *p) {
    __m256i half = _mm256_loadu_si256((const __m256i *)(const void *)p);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}
static inline void v_to_f16(uint16_t *p, vec x) {
    _mm256_storeu_si256((__m256i *)(void *)p,
                        _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
static inline void v_to_int8(int8_t *p, vec x) {    /* integers of that range */
    _mm_storeu_si128((__m128i *)(void *)p, _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(x)));
}

/* Signs: lane j of x changes its sign where bit j is set. Unsigned lanes, and their products in two
 * halves; four words of VL blocks, in memory block after block if lane e has block u_index()[e]. */
typedef __m512i uvec;
static inline vec v_flip(vec x, uint32_t bits) {
    __m512i i = _mm512_castps_si512(x);
    return _mm512_castsi512_ps(
        _mm512_mask_xor_epi32(i, (__mmask16)bits, i, _mm512_set1_epi32((int)0x80000000u)));
}
static inline uvec u_set1(uint32_t x) { return _mm512_set1_epi32((int)x); }
static inline uvec u_index(void) {
    return _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
}
static inline uvec u_add(uvec a, uvec b) { return _mm512_add_epi32(a, b); }
static inline uvec u_xor(uvec a, uvec b) { return _mm512_xor_si512(a, b); }
static inline void u_mul(uvec a, uvec b, uvec *high, uvec *low) {
    __m512i even = _mm512_mul_epu32(a, b),
            odd = _mm512_mul_epu32(_mm512_srli_epi64(a, 32), _mm512_srli_epi64(b, 32));
    *low = _mm512_mask_blend_epi32(0xaaaa, even, _mm512_slli_epi64(odd, 32));
    *high = _mm512_mask_blend_epi32(0xaaaa, _mm512_srli_epi64(even, 32), odd);
}
static inline void u_store_blocks(uint32_t *p, uvec c0, uvec c1, uvec c2, uvec c3) {
    __m512i a = _mm512_unpacklo_epi32(c0, c1), b = _mm512_unpackhi_epi32(c0, c1),
            c = _mm512_unpacklo_epi32(c2, c3), d = _mm512_unpackhi_epi32(c2, c3);
    _mm512_storeu_si512(p, _mm512_unpacklo_epi64(a, c));
    _mm512_storeu_si512(p + 16, _mm512_unpackhi_epi64(a, c));
    _mm512_storeu_si512(p + 32, _mm512_unpacklo_epi64(b, d));
    _mm512_storeu_si512(p + 48, _mm512_unpackhi_epi64(b, d));
}

static inline wide w_zero(void) { return _mm512_setzero_pd(); }
static inline wide w_low(vec a) { return _mm512_cvtps_pd(_mm512_castps512_ps256(a)); }
static inline wide w_high(vec a) { return _mm512_cvtps_pd(_mm512_extractf32x8_ps(a, 1)); }
static inline wide w_fma(wide a, wide b, wide c) { return _mm512_fmadd_pd(a, b, c); }
static inline double w_sum(wide a) { return _mm512_reduce_add_pd(a); }

/* x[i] lane j <-> x[j] lane i: pairs,
 * quadruples of floats within 128 bits, then the 128-bit blocks. */
static inline void v_transpose(vec x[VL]) {
    vec t[VL];
    for (int i = 0; i < 16; i += 4) {
        vec a = _mm512_unpacklo_ps(x[i], x[i + 1]), b = _mm512_unpackhi_ps(x[i], x[i + 1]);
        vec c = _mm512_unpacklo_ps(x[i + 2], x[i + 3]), d = _mm512_unpackhi_ps(x[i + 2], x[i + 3]);
        t[i] = _mm512_shuffle_ps(a, c, 0x44);
        t[i + 1] = _mm512_shuffle_ps(a, c, 0xee);
        t[i + 2] = _mm512_shuffle_ps(b, d, 0x44);
        t[i + 3] = _mm512_shuffle_ps(b, d, 0xee);
    }
    for (int i = 0; i < 4; i++) {
        vec a = _mm512_shuffle_f32x4(t[i], t[i + 4], 0x88),
            b = _mm512_shuffle_f32x4(t[i + 8], t[i + 12], 0x88);
        vec c = _mm512_shuffle_f32x4(t[i], t[i + 4], 0xdd),
            d = _mm512_shuffle_f32x4(t[i + 8], t[i + 12], 0xdd);
        x[i] = _mm512_shuffle_f32x4(a, b, 0x88);
        x[i + 4] = _mm512_shuffle_f32x4(c, d, 0x88);
        x[i + 8] = _mm512_shuffle_f32x4(a, b, 0xdd);
        x[i + 12] = _mm512_shuffle_f32x4(c, d, 0xdd);
    }
}

#endif
