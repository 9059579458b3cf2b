/* bfloat16 pairs with the instructions made for them: vdpbf16ps adds the odd product, then the even
 * one, each rounded to nearest even, subnormals read and written as zero. */
#include "num/avx512/vec.h"
#undef ISA
#define ISA avx512bf16

static inline vec v_dot2(vec a, vec b, vec sums) {
    return _mm512_dpbf16_ps(sums, (__m512bh)a, (__m512bh)b);
}

/* Lane i: x[2i] and x[2i+1] of the 32 floats in low, high. */
static inline vec v_pair_columns(vec low, vec high) {
    return (vec)_mm512_cvtne2ps_pbh(high, low);
}

/* Lane i: even[i] and odd[i]. */
static inline vec v_pair_rows(vec even, vec odd) {
    __m512i e = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(even));
    __m512i o = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(odd));
    return _mm512_castsi512_ps(_mm512_or_si512(e, _mm512_slli_epi32(o, 16)));
}

#include "num/simd/bf16.inc"
