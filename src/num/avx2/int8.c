/* Products of bytes with vpmaddubsw, whose first factor has no sign: |w| times x with the sign of
 * w. Two of these are at most 2 * 128 * 127, so that the 16-bit sums do not saturate. */
#include "num/avx2/vec.h"

enum { MR_INT = 2, NV_INT = 2 };
typedef __m256i ints;

static inline ints i_load(const int8_t *p) {
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}
static inline vec i_vec(ints a) { return _mm256_castsi256_ps(a); }
static inline vec i_float(ints a) { return _mm256_cvtepi32_ps(a); }
static inline ints i_four(const int8_t *p) {
    int32_t four;
    __builtin_memcpy(&four, p, sizeof four);
    return _mm256_set1_epi32(four);
}
static inline ints i_form(ints w) { return w; }
static inline ints i_start(int32_t sum) {
    (void)sum;
    return _mm256_setzero_si256();
}
static inline ints i_dot(ints sum, ints w, ints x) {
    ints pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

#include "num/simd/int8.inc"
