/* Products of bytes with vpdpbusd, whose first factor has no sign: weights are kept 128 higher, and
 * the sums of a group begin with what that adds. */
#include "num/avx512/vec.h"
#undef ISA
#define ISA avx512vnni

enum { MR_INT = 6, NV_INT = 2 };
typedef __m512i ints;

static inline ints i_load(const int8_t *p) { return _mm512_loadu_si512(p); }
static inline vec i_vec(ints a) { return _mm512_castsi512_ps(a); }
static inline vec i_float(ints a) { return _mm512_cvtepi32_ps(a); }
static inline ints i_four(const int8_t *p) {
    int32_t four;
    __builtin_memcpy(&four, p, sizeof four);
    return _mm512_set1_epi32(four);
}
static inline ints i_form(ints w) { return _mm512_xor_si512(w, _mm512_set1_epi8((char)0x80)); }
static inline ints i_start(int32_t sum) { return _mm512_set1_epi32(-128 * sum); }
static inline ints i_dot(ints sum, ints w, ints x) { return _mm512_dpbusd_epi32(sum, w, x); }

#include "num/simd/int8.inc"
