/* num/simd: the vector kernels, written once over the vocabulary of <isa>/vec.h and compiled once
 * per instruction set by the thin files in num/<isa>. Lanes are summed in one fixed order. */
#ifndef AA_NUM_SIMD_SIMD_H
#define AA_NUM_SIMD_SIMD_H

#include "num/num_int.h"

#define AA_JOIN_(op, isa) aa_##op##__##isa
#define AA_JOIN(op, isa) AA_JOIN_(op, isa)
#define FN(op) AA_JOIN(op, ISA)

#define AA_INLINE static inline __attribute__((always_inline))
#ifdef __clang__
#define AA_UNROLL _Pragma("clang loop unroll(full)")
#else
#define AA_UNROLL _Pragma("GCC unroll 24")
#endif

enum { AHEAD = 128 };                     /* floats: rows to be packed are fetched so early */

/* Lanes of the vector at i that are inside 0..n. */
static inline size_t lanes(size_t n, size_t i) { return n <= i ? 0 : n - i < VL ? n - i : VL; }

/* e^x by e^x = 2^n e^r, n = round(x / ln 2), |r| <= ln 2 / 2, and e^r = 1 + r + r^2 p(r) with p of
 * degree 5, fitted for least relative error (5e-11, far under half an ulp) on that interval. ln 2
 * is split in two so that n times its upper part is exact. Within 1.5 ulp; 0 for x < -104, infinity
 * for x > 88.73, NaN for NaN. */
AA_INLINE vec v_exp(vec x) {
    x = v_min(v_set1(89.0f), v_max(v_set1(-104.0f), x));
    vec n = v_round(v_mul(x, v_set1(1.44269504f)));
    vec r = v_fnma(n, v_set1(0x1.63p-1f), x);
    r = v_fnma(n, v_set1(-2.12194440e-4f), r);
    vec p = v_set1(0.000197900267f);
    p = v_fma(p, r, v_set1(0.00139449788f));
    p = v_fma(p, r, v_set1(0.00833349901f));
    p = v_fma(p, r, v_set1(0.0416662907f));
    p = v_fma(p, r, v_set1(0.166666659f));
    p = v_fma(p, r, v_set1(0.500000007f));
    return v_scale2(v_add(v_fma(v_mul(r, r), p, r), v_set1(1)), n);
}

#endif
