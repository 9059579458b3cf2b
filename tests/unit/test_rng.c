/* Philox against its published answers, and what is derived from it against its definition. */
#include "base/rng.h"
#include "support/check.h"

#include <math.h>

static void known_answers(void **state) {
    (void)state;
    static const struct {
        uint32_t all, want[4];
    } rows[] = {{0, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
                {0xffffffff, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}}};
    for (size_t i = 0; i < 2; i++) {
        uint32_t a = rows[i].all, ctr[4] = {a, a, a, a}, key[2] = {a, a}, out[4];
        aa_philox4x32_10(ctr, key, out);
        check_same_bits("philox", out, rows[i].want, sizeof out);
    }
}

static void seek_is_counting(void **state) {
    (void)state;
    aa_rng a, b;
    uint32_t first[100];
    aa_rng_init(&a, 5, AA_RNG_TEST, 1);
    for (size_t i = 0; i < 100; i++) first[i] = aa_rng_u32(&a);
    for (size_t i = 0; i < 100; i++) {
        aa_rng_init(&b, 5, AA_RNG_TEST, 1);
        aa_rng_seek(&b, i);
        assert_int_equal(aa_rng_u32(&b), first[i]);
    }
    /* The counter carries into its second word at block 2^32. */
    aa_rng_seek(&a, ((uint64_t)1 << 34) - 1);
    aa_rng_seek(&b, (uint64_t)1 << 34);
    (void)aa_rng_u32(&a);
    assert_int_equal(aa_rng_u32(&a), aa_rng_u32(&b));
}

static void streams_differ(void **state) {
    (void)state;
    uint64_t first[4];
    for (unsigned i = 0; i < 4; i++) {
        aa_rng r;
        aa_rng_init(&r, i == 1, i == 2 ? AA_RNG_DATA : AA_RNG_TEST, i == 3);
        first[i] = aa_rng_u64(&r);
        for (unsigned j = 0; j < i; j++) assert_true(first[i] != first[j]);
    }
}

/* Five standard errors of the mean and of the second moment. */
static void uniform_moments(void **state) {
    (void)state;
    enum { N = 200000 };
    double sum = 0, squares = 0;
    aa_rng r;
    aa_rng_init(&r, 1, AA_RNG_TEST, 0);
    for (int i = 0; i < N; i++) {
        double x = aa_rng_uniform(&r);
        assert_true(x >= 0 && x < 1);
        sum += x;
        squares += x * x;
    }
    assert_true(fabs(sum / N - 0.5) < 5 * sqrt(1 / 12.0 / N));
    assert_true(fabs(squares / N - 1 / 3.0) < 5 * sqrt(4 / 45.0 / N));
}

/* Chi-square with n-1 degrees of freedom: mean n-1, variance 2(n-1). */
static void below_is_unbiased(void **state) {
    (void)state;
    static const uint64_t sizes[] = {2, 3, 7, 10, 100};
    enum { N = 50000 };
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        uint64_t n = sizes[s];
        double count[100] = {0}, chi = 0, want = (double)N / (double)n;
        aa_rng r;
        aa_rng_init(&r, 2, AA_RNG_TEST, n);
        for (int i = 0; i < N; i++) {
            uint64_t x = aa_rng_below(&r, n);
            assert_true(x < n);
            count[x]++;
        }
        for (uint64_t i = 0; i < n; i++) chi += (count[i] - want) * (count[i] - want) / want;
        assert_true(chi < (double)(n - 1) + 5 * sqrt(2 * (double)(n - 1)));
    }
    /* Where plain multiplication would give 0 and 1
     * half as often as the others: n = 3/4 of 2^64. */
    aa_rng r;
    uint64_t n = (uint64_t)3 << 62, thirds[3] = {0};
    aa_rng_init(&r, 3, AA_RNG_TEST, 0);
    for (int i = 0; i < N; i++) thirds[aa_rng_below(&r, n) >> 62]++;
    for (int i = 0; i < 3; i++)
        assert_true(fabs((double)thirds[i] - N / 3.0) < 5 * sqrt(N * 2 / 9.0));
    assert_int_equal(aa_rng_below(&r, 1), 0);
}

static void normals_are_a_function_of_place(void **state) {
    (void)state;
    enum { N = 997 };
    float all[N], part[N];
    aa_rng r;
    aa_rng_init(&r, 4, AA_RNG_PERTURB, 8);
    const uint64_t first = ((uint64_t)1 << 34) - 500; /* across the carry of the counter */
    aa_rng_normals(&r, first, N, all);
    for (size_t step = 1; step < 12; step++) {
        for (size_t i = 0; i < N; i += step)
            aa_rng_normals(&r, first + i, N - i < step ? N - i : step, part + i);
        check_same_bits("normals", part, all, sizeof all);
    }
    (void)aa_rng_u32(&r); /* the state of the stream is no matter */
    aa_rng_normals(&r, first, N, part);
    check_same_bits("normals", part, all, sizeof all);
}

static void normal_moments(void **state) {
    (void)state;
    enum { N = 200000 };
    static float x[N];
    double m[5] = {0}, neighbours = 0;
    aa_rng r;
    aa_rng_init(&r, 5, AA_RNG_TEST, 0);
    aa_rng_normals(&r, 0, N, x);
    for (int i = 0; i < N; i++) {
        for (int p = 1; p <= 4; p++) m[p] += pow((double)x[i], p) / N;
        if (i) neighbours += (double)x[i] * (double)x[i - 1] / N;
    }
    /* Variances of x, x^2, x^3, x^4 are 1, 2, 15, 96; of a product of neighbours 1. */
    assert_true(fabs(m[1]) < 5 * sqrt(1.0 / N));
    assert_true(fabs(m[2] - 1) < 5 * sqrt(2.0 / N));
    assert_true(fabs(m[3]) < 5 * sqrt(15.0 / N));
    assert_true(fabs(m[4] - 3) < 5 * sqrt(96.0 / N));
    assert_true(fabs(neighbours) < 5 * sqrt(1.0 / N));
}

static void permute_is_a_bijection(void **state) {
    (void)state;
    static unsigned char seen[70000];
    for (uint64_t n = 1; n <= 70000; n = n < 300 ? n + 1 : n * 7 / 2) {
        memset(seen, 0, n);
        for (uint64_t i = 0; i < n; i++) {
            uint64_t j = aa_rng_permute(9, n % 3, n, i);
            assert_true(j < n);
            assert_false(seen[j]);
            seen[j] = 1;
        }
    }
    static const uint64_t large[] = {(uint64_t)1 << 40, ((uint64_t)1 << 62) + 1, UINT64_MAX};
    for (size_t s = 0; s < 3; s++) {
        uint64_t got[200];
        for (uint64_t i = 0; i < 200; i++) {
            got[i] = aa_rng_permute(9, 0, large[s], i % 2 ? large[s] - i : i);
            assert_true(got[i] < large[s]);
            for (uint64_t j = 0; j < i; j++) assert_true(got[i] != got[j]);
        }
    }
}

static void epochs_are_shuffled_apart(void **state) {
    (void)state;
    int same = 0, at_home = 0;
    for (uint64_t i = 0; i < 1000; i++) {
        same += aa_rng_permute(1, 0, 1000, i) == aa_rng_permute(1, 1, 1000, i);
        at_home += aa_rng_permute(1, 0, 1000, i) == i;
    }
    assert_true(same < 10 && at_home < 10); /* each expected to be 1 */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_answers),
        cmocka_unit_test(seek_is_counting),
        cmocka_unit_test(streams_differ),
        cmocka_unit_test(uniform_moments),
        cmocka_unit_test(below_is_unbiased),
        cmocka_unit_test(normals_are_a_function_of_place),
        cmocka_unit_test(normal_moments),
        cmocka_unit_test(permute_is_a_bijection),
        cmocka_unit_test(epochs_are_shuffled_apart),
    };
    return cmocka_run_group_tests_name("unit_rng", tests, NULL, NULL);
}
