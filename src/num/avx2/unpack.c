#include "num/avx2/vec.h"

typedef __m256i bvec;

static inline bvec b_load(const unsigned char *p) {
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}
static inline void b_store(int8_t *p, bvec x) { _mm256_storeu_si256((__m256i *)(void *)p, x); }
static inline bvec b_set1(int x) { return _mm256_set1_epi8((char)x); }
static inline bvec b_and(bvec a, bvec b) { return _mm256_and_si256(a, b); }
static inline bvec b_or(bvec a, bvec b) { return _mm256_or_si256(a, b); }
static inline bvec b_sub(bvec a, bvec b) { return _mm256_sub_epi8(a, b); }
#define b_up(x, n) _mm256_slli_epi16(x, n)
#define b_down(x, n) _mm256_srli_epi16(x, n)
static inline bvec b_nibbles(const unsigned char *p) {
    __m128i x = _mm_loadu_si128((const __m128i *)(const void *)p);
    return b_and(_mm256_set_m128i(_mm_srli_epi16(x, 4), x), b_set1(15));
}
static inline bvec b_has(bvec x, int bits) {
    return _mm256_cmpeq_epi8(b_and(x, b_set1(bits)), b_set1(bits));
}
/* Byte i / 8 of the four in place i, then its bit i % 8. */
static inline bvec b_bits(const unsigned char *p) {
    int32_t four;
    __builtin_memcpy(&four, p, sizeof four);
    const bvec spread = _mm256_set_epi64x(0x0303030303030303, 0x0202020202020202,
                                           0x0101010101010101, 0);
    const bvec bit = _mm256_set1_epi64x((long long)0x8040201008040201);
    bvec x = _mm256_shuffle_epi8(_mm256_set1_epi32(four), spread);
    return _mm256_cmpeq_epi8(b_and(x, bit), bit);
}
static inline bvec b_lookup(bvec x) {
    const __m128i curve = _mm_set_epi8(113, 89, 69, 53, 38, 25, 13, 1, -10, -22, -35, -49, -65, -83,
                                       -104, -127);
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(curve), x);
}
static inline float h_float(const unsigned char *p) {
    uint16_t half;
    __builtin_memcpy(&half, p, sizeof half);
    return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(half)));
}
static inline void b_scales(float *y, uint64_t x, float scale) {
    __m128i eight = _mm_cvtsi64_si128((long long)x);
    v_store(y, v_mul(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(eight)), v_set1(scale)));
}

#include "num/simd/unpack.inc"
