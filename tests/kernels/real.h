/* What the kernel tests share: arrays of test numbers, teams of every instruction set, comparisons
 * of reals.
 *
 * Tolerances follow one error model: a sum of n products computed in any order is off by at most
 * n * eps * sum |terms| (Higham 2002, section 3.1); tests take that bound, with a small factor
 * where a result passes through a division or an exponential. */
#ifndef AA_TESTS_KERNELS_REAL_H
#define AA_TESTS_KERNELS_REAL_H

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include "base/rng.h"
#include "num/num_int.h"
#include "support/check.h"

#ifdef AA_REAL_DOUBLE
#define REAL_EPS DBL_EPSILON
#else
#define REAL_EPS ((double)FLT_EPSILON)
#endif

/* n numbers with mean 0 and variance 1, uniform:
 * element i of a stream is a hash of both (splitmix64). */
static inline aa_real *numbers(size_t n, uint64_t stream) {
    aa_real *x = aa_heap_alloc(n + 1, sizeof *x);
    assert_non_null(x);
    for (size_t i = 0; i < n; i++) {
        uint64_t z = (stream << 40) + (i + 1) * 0x9e3779b97f4a7c15u;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
        z = (z ^ z >> 27) * 0x94d049bb133111ebu;
        x[i] = AA_R(((double)((z ^ z >> 31) >> 40) / (1 << 23) - 1) * 1.7320508);
    }
    return x;
}

static inline aa_real *copy_of(const aa_real *x, size_t n) {
    aa_real *y = aa_heap_alloc(n + 1, sizeof *y);
    assert_non_null(y);
    memcpy(y, x, n * sizeof *y);
    return y;
}

static inline aa_real *zeros(size_t n) {
    aa_real *y = aa_heap_alloc(n + 1, sizeof *y);
    assert_non_null(y);
    return y;
}

static inline aa_cpu *team(int n_threads, aa_isa isa) {
    aa_cpu *cpu = NULL;
    aa_err err = {0};
    check_ok(aa_cpu_new(&cpu, n_threads, isa, &err));
    return cpu;
}

#define EACH_ISA(isa)                                                        \
    for (aa_isa isa = AA_ISA_SCALAR; isa <= AA_ISA_AVX512; isa = (aa_isa)(isa + 1)) \
        if (aa_isa_available(isa))

static inline void near_real(const char *name, const aa_real *got, const aa_real *want, size_t n,
                             double rel, double abs) {
    for (size_t i = 0; i < n; i++) {
        double g = (double)got[i], w = (double)want[i];
        if (g == w || (isnan(g) && isnan(w))) continue;
        if (!(fabs(g - w) <= abs + rel * fabs(w)))
            fail_msg("%s[%zu]: got %.9g, want %.9g, off by %.3g, allowed %.3g", name, i, g, w,
                     fabs(g - w), abs + rel * fabs(w));
    }
}

static inline void same_bits(const char *name, const aa_real *got, const aa_real *want, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (memcmp(got + i, want + i, sizeof *got) != 0)
            fail_msg("%s[%zu]: got %.17g, want %.17g in the same bits", name, i, (double)got[i],
                     (double)want[i]);
}

#endif
