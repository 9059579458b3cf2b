/* The vector vocabulary of num/simd in AVX2 with FMA:
 * eight floats. See avx512/vec.h for the rules. */
#ifndef AA_NUM_AVX2_VEC_H
#define AA_NUM_AVX2_VEC_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#define ISA avx2
enum { VL = 8, MR = 6, NV = 2, KC = 256, MC = 120, NC = 512, CHAINS = 12 };
typedef __m256 vec;
typedef __m256d wide;

static inline __m256i v_mask(size_t n) {
    static const int32_t ones[16] = {-1, -1, -1, -1, -1, -1, -1, -1};
    return _mm256_loadu_si256((const __m256i *)(const void *)(ones + 8 - n));
}
static inline vec v_zero(void) { return _mm256_setzero_ps(); }
static inline vec v_set1(float x) { return _mm256_set1_ps(x); }
static inline vec v_load(const float *p) { return _mm256_loadu_ps(p); }
static inline vec v_load_n(const float *p, size_t n) { return _mm256_maskload_ps(p, v_mask(n)); }
static inline vec v_load_or(const float *p, size_t n, vec fill) {
    return _mm256_blendv_ps(fill, v_load_n(p, n), _mm256_castsi256_ps(v_mask(n)));
}
static inline void v_store(float *p, vec x) { _mm256_storeu_ps(p, x); }
static inline void v_store_n(float *p, vec x, size_t n) {
    if (n == VL) _mm256_storeu_ps(p, x);  /* a masked store takes ten times as long on AMD */
    else _mm256_maskstore_ps(p, v_mask(n), x);
}
static inline vec v_keep_n(vec x, size_t n) {
    return _mm256_and_ps(x, _mm256_castsi256_ps(v_mask(n)));
}
static inline vec v_add(vec a, vec b) { return _mm256_add_ps(a, b); }
static inline vec v_sub(vec a, vec b) { return _mm256_sub_ps(a, b); }
static inline vec v_mul(vec a, vec b) { return _mm256_mul_ps(a, b); }
static inline vec v_div(vec a, vec b) { return _mm256_div_ps(a, b); }
static inline vec v_sqrt(vec a) { return _mm256_sqrt_ps(a); }
static inline vec v_max(vec a, vec b) { return _mm256_max_ps(a, b); }
static inline vec v_min(vec a, vec b) { return _mm256_min_ps(a, b); }
static inline vec v_fma(vec a, vec b, vec c) { return _mm256_fmadd_ps(a, b, c); }
static inline vec v_fnma(vec a, vec b, vec c) { return _mm256_fnmadd_ps(a, b, c); }
static inline vec v_round(vec a) {
    return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

/* In two halves, each a power of two that a float can hold,
 * so that results may overflow or be subnormal. */
static inline vec v_scale2(vec a, vec n) {
    __m256i k = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(k, 1),
            rest = _mm256_sub_epi32(k, half);
    __m256i bias = _mm256_set1_epi32(127);
    vec p = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23));
    vec q = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23));
    return _mm256_mul_ps(_mm256_mul_ps(a, p), q);
}

static inline float v_sum(vec a) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
static inline float v_top(vec a) {
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}

static inline vec v_from_f32(const unsigned char *p) {
    return _mm256_loadu_ps((const float *)(const void *)p);
}
static inline vec v_from_f16(const unsigned char *p) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p));
}
static inline vec v_from_bf16(const unsigned char *p) {
    __m128i half = _mm_loadu_si128((const __m128i *)(const void *)p);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
}
static inline void v_to_f16(uint16_t *p, vec x) {
    _mm_storeu_si128((__m128i *)(void *)p,
                     _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
static inline void v_to_int8(int8_t *p, vec x) {
    __m256i i = _mm256_cvtps_epi32(x);
    __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(i), _mm256_extracti128_si256(i, 1));
    _mm_storel_epi64((__m128i *)(void *)p, _mm_packs_epi16(words, words));
}

typedef __m256i uvec;
static inline vec v_flip(vec x, uint32_t bits) {
    __m256i each = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128),
            set = _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32((int)bits), each), each);
    return _mm256_xor_ps(x, _mm256_castsi256_ps(_mm256_slli_epi32(set, 31)));
}
static inline uvec u_set1(uint32_t x) { return _mm256_set1_epi32((int)x); }
static inline uvec u_index(void) { return _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7); }
static inline uvec u_add(uvec a, uvec b) { return _mm256_add_epi32(a, b); }
static inline uvec u_xor(uvec a, uvec b) { return _mm256_xor_si256(a, b); }
static inline void u_mul(uvec a, uvec b, uvec *high, uvec *low) {
    __m256i even = _mm256_mul_epu32(a, b),
            odd = _mm256_mul_epu32(_mm256_srli_epi64(a, 32), _mm256_srli_epi64(b, 32));
    *low = _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xaa);
    *high = _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xaa);
}
static inline void u_store_blocks(uint32_t *p, uvec c0, uvec c1, uvec c2, uvec c3) {
    __m256i a = _mm256_unpacklo_epi32(c0, c1), b = _mm256_unpackhi_epi32(c0, c1),
            c = _mm256_unpacklo_epi32(c2, c3), d = _mm256_unpackhi_epi32(c2, c3);
    __m256i *out = (__m256i *)(void *)p;
    _mm256_storeu_si256(out, _mm256_unpacklo_epi64(a, c));
    _mm256_storeu_si256(out + 1, _mm256_unpackhi_epi64(a, c));
    _mm256_storeu_si256(out + 2, _mm256_unpacklo_epi64(b, d));
    _mm256_storeu_si256(out + 3, _mm256_unpackhi_epi64(b, d));
}

static inline wide w_zero(void) { return _mm256_setzero_pd(); }
static inline wide w_low(vec a) { return _mm256_cvtps_pd(_mm256_castps256_ps128(a)); }
static inline wide w_high(vec a) { return _mm256_cvtps_pd(_mm256_extractf128_ps(a, 1)); }
static inline wide w_fma(wide a, wide b, wide c) { return _mm256_fmadd_pd(a, b, c); }
static inline double w_sum(wide a) {
    __m128d s = _mm_add_pd(_mm256_castpd256_pd128(a), _mm256_extractf128_pd(a, 1));
    return _mm_cvtsd_f64(_mm_add_sd(s, _mm_unpackhi_pd(s, s)));
}

static inline void v_transpose(vec x[VL]) {
    vec t[VL];
    for (int i = 0; i < 8; i += 4) {
        vec a = _mm256_unpacklo_ps(x[i], x[i + 1]), b = _mm256_unpackhi_ps(x[i], x[i + 1]);
        vec c = _mm256_unpacklo_ps(x[i + 2], x[i + 3]), d = _mm256_unpackhi_ps(x[i + 2], x[i + 3]);
        t[i] = _mm256_shuffle_ps(a, c, 0x44);
        t[i + 1] = _mm256_shuffle_ps(a, c, 0xee);
        t[i + 2] = _mm256_shuffle_ps(b, d, 0x44);
        t[i + 3] = _mm256_shuffle_ps(b, d, 0xee);
    }
    for (int i = 0; i < 4; i++) {
        x[i] = _mm256_permute2f128_ps(t[i], t[i + 4], 0x20);
        x[i + 4] = _mm256_permute2f128_ps(t[i], t[i + 4], 0x31);
    }
}

#endif
