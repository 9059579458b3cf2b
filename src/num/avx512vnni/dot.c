/* One row of activations times sixteen stored rows of small integers, without taking them apart in
 * memory: the 64 integers of two blocks meet 64 activations in one instruction, sixteen such
 * vectors of partial sums are added up across lanes so that lanes are rows, and from there on
 * everything is as in the tile kernel, bit for bit.
 *
 * vpdpbusd's first factor has no sign: integers are `bias` higher here, and the sums of a group are
 * less bias times the sum of the activations. A type is two functions: 64 integers from the 256 at
 * x, and the scales of all of them (eight d and eight m, or sixteen d). */
#include <string.h>
#include "num/avx512/vec.h"
#undef ISA
#define ISA avx512vnni
#include "num/simd/simd.h"

typedef __m512i ints;
typedef const unsigned char *place;

static inline __m128i load16(place p) { return _mm_loadu_si128((const __m128i *)(const void *)p); }
static inline __m256i load32(place p) {
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}
static inline ints set1(int x) { return _mm512_set1_epi8((char)x); }
static inline ints twice(__m256i x) { return _mm512_broadcast_i64x4(x); }
static inline ints by_half(int low, int high) {       /* a count for each half */
    return _mm512_inserti64x4(_mm512_set1_epi32(low), _mm256_set1_epi32(high), 1);
}

/* ---- blocks of 32 ---------------------------------------------------------------------------- */

/* Lower and upper halves of 16 bytes at a, then of those at b. */
AA_INLINE ints nibbles(place a, place b) {
    const ints down = _mm512_set_epi32(4, 4, 4, 4, 0, 0, 0, 0, 4, 4, 4, 4, 0, 0, 0, 0);
    ints v = _mm512_mask_broadcast_i64x2(_mm512_broadcast_i64x2(load16(a)), 0xf0, load16(b));
    return _mm512_and_si512(_mm512_srlv_epi32(v, down), set1(15));
}

AA_INLINE ints with_fifth(ints low, place a, place b) {
    uint32_t bits[2];
    memcpy(&bits[0], a, 4);
    memcpy(&bits[1], b, 4);
    return _mm512_mask_add_epi8(low, bits[0] | (uint64_t)bits[1] << 32, low, set1(16));
}

/* Blocks 2c and 2c + 1; the latter is the former again where there is none. */
#define BLOCK(size) place a = x + (size) * 2 * c, b = a + (two ? (size) : 0)
AA_INLINE ints q4_0(place x, int c, bool two) {
    BLOCK(18);
    return nibbles(a + 2, b + 2);
}
AA_INLINE ints q4_1(place x, int c, bool two) {
    BLOCK(20);
    return nibbles(a + 4, b + 4);
}
AA_INLINE ints q5_0(place x, int c, bool two) {
    BLOCK(22);
    return with_fifth(nibbles(a + 6, b + 6), a + 2, b + 2);
}
AA_INLINE ints q5_1(place x, int c, bool two) {
    BLOCK(24);
    return with_fifth(nibbles(a + 8, b + 8), a + 4, b + 4);
}
AA_INLINE ints q8_0(place x, int c, bool two) {
    BLOCK(34);
    ints v = _mm512_inserti64x4(_mm512_castsi256_si512(load32(a + 2)), load32(b + 2), 1);
    return _mm512_xor_si512(v, set1(128));
}
AA_INLINE ints iq4_nl(place x, int c, bool two) {
    const __m128i curve = _mm_set_epi8(-15, -39, -59, -75, -90, -103, -115, -127, 118, 106, 93, 79,
                                       63, 45, 24, 1);       /* the curve of the type, plus 128 */
    BLOCK(18);
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(curve), nibbles(a + 2, b + 2));
}
#undef BLOCK

/* The halves that eight blocks of so many words begin with, and those behind them. */
#define WORDS(s)                                                                                   \
    {0, (s), 2 * (s), 3 * (s), 4 * (s), 5 * (s), 6 * (s), 7 * (s),                                 \
     1, (s) + 1, 2 * (s) + 1, 3 * (s) + 1, 4 * (s) + 1, 5 * (s) + 1, 6 * (s) + 1, 7 * (s) + 1}
static const uint16_t words[][32] = {WORDS(9), WORDS(10), WORDS(11), WORDS(12), WORDS(17)};

/* n_bytes: what there is of the blocks. */
AA_INLINE vec scales_of_8(place x, size_t n_bytes, const int which, const bool min) {
    ints index = _mm512_loadu_si512(words[which]), z[4];
    for (size_t i = 0; i < 4; i++) {
        if (i == 3 && which != 4) break;
        size_t left = n_bytes < 64 * i ? 0 : n_bytes - 64 * i;
        z[i] = _mm512_maskz_loadu_epi8(left >= 64 ? ~0ull : (1ull << left) - 1, x + 64 * i);
    }
    if (which != 4) z[3] = z[2];
    __mmask32 far = _mm512_cmpge_epu16_mask(index, _mm512_set1_epi16(64));
    ints near = _mm512_permutex2var_epi16(z[0], index, z[1]);
    ints both = _mm512_mask_blend_epi16(far, near, _mm512_permutex2var_epi16(z[2], index, z[3]));
    vec all = _mm512_cvtph_ps(_mm512_castsi512_si256(both));
    return min ? all : _mm512_maskz_mov_ps(0xff, all);
}

#define SCALES(type, which, min)                                                                   \
    AA_INLINE vec type##_scales(place x, size_t n) { return scales_of_8(x, n, which, min); }
SCALES(q4_0, 0, false)
SCALES(iq4_nl, 0, false)
SCALES(q4_1, 1, true)
SCALES(q5_0, 2, false)
SCALES(q5_1, 3, true)
SCALES(q8_0, 4, false)
#undef SCALES

/* ---- blocks of 256 --------------------------------------------------------------------------- */

AA_INLINE ints q4_k(place x, int c, bool two) {
    (void)two;
    ints v = twice(load32(x + 16 + 32 * c));
    return _mm512_and_si512(_mm512_srlv_epi32(v, by_half(0, 4)), set1(15));
}

AA_INLINE ints q5_k(place x, int c, bool two) {
    (void)two;
    ints low = q4_k(x + 32, c, true);
    ints bit = _mm512_inserti64x4(set1(1 << 2 * c), _mm256_set1_epi8((char)(2 << 2 * c)), 1);
    __mmask64 fifth = _mm512_test_epi8_mask(twice(load32(x + 16)), bit);
    return _mm512_mask_add_epi8(low, fifth, low, set1(16));
}

AA_INLINE ints q6_k(place x, int c, bool two) {
    (void)two;
    ints four = _mm512_loadu_si512(x + 64 * (c / 2)), high = twice(load32(x + 128 + 32 * (c / 2)));
    if (c % 2) four = _mm512_srli_epi32(four, 4);
    high = _mm512_rolv_epi32(high, c % 2 ? by_half(0, 30) : by_half(4, 2));
    return _mm512_or_si512(_mm512_and_si512(four, set1(15)), _mm512_and_si512(high, set1(0x30)));
}

AA_INLINE __m128 halves(place x, size_t n) {
    uint32_t word = 0;
    memcpy(&word, x, 2 * n);
    return _mm_cvtph_ps(_mm_cvtsi32_si128((int)word));
}

/* Eight scales and eight minima of six bits each in twelve bytes, four at a time. */
AA_INLINE vec q4_k_scales(place x, size_t n_bytes) {
    uint32_t s[3];
    (void)n_bytes;
    memcpy(s, x + 4, sizeof s);
    uint32_t scale = (s[2] & 0x0f0f0f0f) | (s[0] >> 2 & 0x30303030),
             least = (s[2] >> 4 & 0x0f0f0f0f) | (s[1] >> 2 & 0x30303030);
    __m128i six = _mm_set_epi64x((long long)(least | 0ull) << 32 | (s[1] & 0x3f3f3f3f),
                                 (long long)(scale | 0ull) << 32 | (s[0] & 0x3f3f3f3f));
    __m128 d = _mm_xor_ps(halves(x, 2), _mm_set_ps(0, 0, -0.0f, 0));
    vec by = _mm512_permutexvar_ps(by_half(0, 1), _mm512_castps128_ps512(d));
    return _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(six)), by);
}
#define q5_k_scales q4_k_scales

AA_INLINE vec q6_k_scales(place x, size_t n_bytes) {
    (void)n_bytes;
    vec d = _mm512_broadcastss_ps(halves(x + 208, 1));
    return _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(load16(x + 192))), d);
}

/* ---- sums ------------------------------------------------------------------------------------ */

/* p[r]: sixteen sums of four of row r. On return p[i] holds, for each row, the sum of sixteen. */
AA_INLINE void add_up(ints p[16]) {
    ints s[4];
    AA_UNROLL for (int i = 0; i < 4; i++) {
        ints *q = p + 4 * i;
        ints low = _mm512_unpacklo_epi32(q[0], q[1]), high = _mm512_unpackhi_epi32(q[0], q[1]);
        ints ab = _mm512_add_epi32(low, high);
        low = _mm512_unpacklo_epi32(q[2], q[3]), high = _mm512_unpackhi_epi32(q[2], q[3]);
        ints cd = _mm512_add_epi32(low, high);
        s[i] = _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
    }
    ints a = _mm512_shuffle_i32x4(s[0], s[1], 0x88), b = _mm512_shuffle_i32x4(s[0], s[1], 0xdd);
    ints c = _mm512_shuffle_i32x4(s[2], s[3], 0x88), d = _mm512_shuffle_i32x4(s[2], s[3], 0xdd);
    p[0] = _mm512_shuffle_i32x4(a, c, 0x88);
    p[1] = _mm512_shuffle_i32x4(b, d, 0x88);
    p[2] = _mm512_shuffle_i32x4(a, c, 0xdd);
    p[3] = _mm512_shuffle_i32x4(b, d, 0xdd);
}

typedef ints load_fn(place x, int c, bool two);
typedef vec scales_fn(place x, size_t n_bytes);

/* 256 elements, or as many as the rows have left. */
AA_INLINE void dot_256(const aa_int8_dot *t, const size_t size, const size_t group, const int bias,
                       const bool min, load_fn *load, scales_fn *scales) {
    const size_t n = t->n, n_bytes = n * size / 256;
    const size_t fetch_step = t->n_fetch / (16 * ((n + 63) / 64));
    place fetch = t->fetch;
    vec s[16], acc = t->from_zero ? v_zero() : v_load(t->y);
    AA_UNROLL for (size_t r = 0; r < 16; r++) {
        place x = t->x + r * t->step;
        s[r] = scales(x, n_bytes);
    }
    v_transpose(s);                       /* s[g]: of the rows' group g; from s[8] on, their m */
    _Alignas(64) float scale[16][16];
    AA_UNROLL for (int i = 0; i < 16; i++) v_store(scale[i], s[i]);
    AA_UNROLL for (int c = 0; c < 4; c++) {
        const size_t at = 64 * (size_t)c;
        if (at >= n) break;
        ints p[16], x = _mm512_loadu_si512(t->a.q + at);
        AA_UNROLL for (size_t r = 0; r < 16; r++) {
            __builtin_prefetch(fetch, 0, 3);
            __builtin_prefetch(fetch + t->far, 0, 2);
            fetch += fetch_step;
            p[r] = _mm512_dpbusd_epi32(_mm512_setzero_si512(),
                                       load(t->x + r * t->step, c, at + 32 < n), x);
        }
        add_up(p);
        if (group == 32) p[0] = _mm512_add_epi32(p[0], p[1]), p[1] = _mm512_add_epi32(p[2], p[3]);
        AA_UNROLL for (size_t i = 0; i < 4; i++) {
            const size_t g = at / group + i;
            if (i * group >= 64 || g * group >= n) break;
            ints sum = bias ? _mm512_sub_epi32(p[i], _mm512_set1_epi32(bias * t->a.sum[g])) : p[i];
            acc = v_fma(v_set1(t->a.d[g]), v_mul(_mm512_cvtepi32_ps(sum), v_load(scale[g])), acc);
            if (min) acc = v_fma(v_set1(t->a.s[g]), v_load(scale[8 + g]), acc);
        }
    }
    v_store(t->y, acc);
}

bool FN(int8_dot)(const aa_int8_dot *t) {
    switch (t->type) {
#define TYPE(upper, lower, size, group, bias, min)                                                 \
    case AA_TYPE_##upper:                                                                          \
        dot_256(t, size, group, bias, min, lower, lower##_scales);                                 \
        return true;
        TYPE(Q4_0, q4_0, 144, 32, 8, false)
        TYPE(Q4_1, q4_1, 160, 32, 0, true)
        TYPE(Q5_0, q5_0, 176, 32, 16, false)
        TYPE(Q5_1, q5_1, 192, 32, 0, true)
        TYPE(Q8_0, q8_0, 272, 32, 128, false)
        TYPE(IQ4_NL, iq4_nl, 144, 32, 128, false)
        TYPE(Q4_K, q4_k, 144, 32, 0, true)
        TYPE(Q5_K, q5_k, 176, 32, 0, true)
        TYPE(Q6_K, q6_k, 210, 16, 32, false)
#undef TYPE
    default: return false;
    }
}
