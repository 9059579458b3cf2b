/* bfloat16 products of whole matrices in tile registers. tdpbf16ps multiplies sixteen rows of
 * sixteen pairs by as many columns, 8192 multiply-adds in one instruction; four such sums stay in
 * registers while k runs in units of sixteen pairs. Its arithmetic: aa__bf16_tile_units in
 * num/scalar/bf16.c. */
#include "num/avx512/vec.h"
#undef ISA
#define ISA amx
#include <string.h>
#include "num/simd/simd.h"

enum { SIDE = AA_BF16_UNIT, TILE_MR = 2 * SIDE, NR = 2 * SIDE };
#include "num/simd/edge.inc"

aa_gemm_shape FN(bf16_shape)(void) {
    return (aa_gemm_shape){.mr = TILE_MR, .nr = NR, .kc = 256, .mc = 224, .nc = 288, .unit = SIDE};
}

/* The compiler's intrinsics do not say that they read and write memory. */
AA_INLINE void memory_changes(void) { __asm__ volatile("" ::: "memory"); }

/* All eight registers are sixteen rows of 64 bytes. A thread says so once; the system keeps it. */
static void configure(void) {
    static _Thread_local bool done;
    if (done) return;
    struct {
        uint8_t palette, start, reserved[14];
        uint16_t width[16];
        uint8_t rows[16];
    } c = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        c.width[i] = 64;
        c.rows[i] = SIDE;
    }
    memory_changes();
    _tile_loadconfig(&c);
    done = true;
}

/* Registers 0..3: sums of (upper, lower) rows and (left, right) columns; 4, 5: rows of A; 6, 7:
 * columns of B. A distance is in bytes. */
AA_INLINE void load_sums(const float *c, size_t ldc) {
    memory_changes();
    _tile_loadd(0, c, (long)(4 * ldc));
    _tile_loadd(1, c + SIDE, (long)(4 * ldc));
    _tile_loadd(2, c + SIDE * ldc, (long)(4 * ldc));
    _tile_loadd(3, c + SIDE * ldc + SIDE, (long)(4 * ldc));
}

AA_INLINE void store_sums(float *c, size_t ldc) {
    _tile_stored(0, c, (long)(4 * ldc));
    _tile_stored(1, c + SIDE, (long)(4 * ldc));
    _tile_stored(2, c + SIDE * ldc, (long)(4 * ldc));
    _tile_stored(3, c + SIDE * ldc + SIDE, (long)(4 * ldc));
    memory_changes();
}

/* One unit of k. The lower rows and right columns of a small tile are left out. */
AA_INLINE void step(const float *a, size_t lda, const float *b, bool lower, bool right) {
    _tile_loadd(6, b, 4 * NR);
    _tile_loadd(4, a, (long)(4 * lda));
    _tile_dpbf16ps(0, 4, 6);
    if (right) {
        _tile_loadd(7, b + SIDE, 4 * NR);
        _tile_dpbf16ps(1, 4, 7);
    }
    if (!lower) return;
    _tile_loadd(5, a + SIDE * lda, (long)(4 * lda));
    _tile_dpbf16ps(2, 5, 6);
    if (right) _tile_dpbf16ps(3, 5, 7);
}

AA_INLINE void all_steps(const aa_tile *t, bool lower, bool right) {
    const char *ahead = (const char *)(t->next_b ? t->next_b : t->b);
    const size_t ahead_step = t->next_b ? t->next_step : 0;
    size_t k = 0;
    for (; k + SIDE <= t->kc; k += SIDE) {
        for (size_t i = 0; i < SIDE; i++, ahead += ahead_step) __builtin_prefetch(ahead, 0, 2);
        step(t->a + k, t->a_row, t->b + k * NR, lower, right);
    }
    if (k == t->kc) return;
    _Alignas(64) float rest[SIDE * NR] = {0};  /* of B; A is filled up with zeros */
    memcpy(rest, t->b + k * NR, (t->kc - k) * NR * sizeof *rest);
    memory_changes();
    step(t->a + k, t->a_row, rest, lower, right);
}

void FN(bf16_tile)(const aa_tile *t) {
    _Alignas(64) float sums[TILE_MR * NR];
    const bool lower = t->mr > SIDE, right = t->nr > SIDE, whole = t->mr == TILE_MR && t->nr == NR;
    configure();
    if (t->from_zero) {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    } else if (whole) {
        load_sums(t->c, t->ldc);
    } else {
        tile_gather(t, sums);
        memset(sums + t->mr * NR, 0, (TILE_MR - t->mr) * NR * sizeof *sums);
        load_sums(sums, NR);
    }
    if (lower && right) all_steps(t, true, true);
    else all_steps(t, lower, right);
    if (whole && !t->y) {
        store_sums(t->c, t->ldc);
        return;
    }
    store_sums(sums, NR);
    tile_finish(t, sums);
}

double FN(bf16_peak_probe)(size_t n_rounds, float *sink) {
    _Alignas(64) float zeros[SIDE * SIDE] = {0};
    configure();
    memory_changes();
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_loadd(4, zeros, 64);
    _tile_loadd(5, zeros, 64);
    _tile_loadd(6, zeros, 64);
    _tile_loadd(7, zeros, 64);
    for (size_t i = 0; i < n_rounds; i++) {
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, zeros, 64);
    memory_changes();
    *sink = zeros[0];
    return 4.0 * 2 * SIDE * SIDE * 2 * SIDE * (double)n_rounds;
}
