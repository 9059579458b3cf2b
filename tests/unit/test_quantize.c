/* num: floats into stored types. What ggml's own code makes of the same numbers is compared in
 * tests/interop; here what must hold of any quantiser. */
#include <math.h>
#include "base/rng.h"
#include "num/stored.h"
#include "support/check.h"

enum { N = 1024, MOST_BYTES = N * 4 };

static const aa_type types[] = {AA_TYPE_F32, AA_TYPE_F16, AA_TYPE_BF16, AA_TYPE_Q8_0, AA_TYPE_Q4_0,
                                AA_TYPE_Q5_0, AA_TYPE_Q4_K, AA_TYPE_Q6_K};
enum { N_TYPES = sizeof types / sizeof *types };

static void normal_numbers(float *x, uint64_t seed, float scale) {
    aa_rng rng;

    aa_rng_init(&rng, seed, AA_RNG_TEST, 0);
    for (int i = 0; i < N; i++) {
        float sum = 0;
        for (int k = 0; k < 12; k++) sum += (float)aa_rng_below(&rng, 1 << 20) / (1 << 20) - 0.5f;
        x[i] = sum * scale;
    }
}

/* Root of the mean square of what is lost, relative to the numbers. */
static double loss(aa_type type, const float *x) {
    static unsigned char bytes[MOST_BYTES];
    static float y[N];
    double off = 0, all = 0;

    aa_quantize(bytes, type, x, N);
    aa_dequantize(y, type, bytes, N);
    for (int i = 0; i < N; i++) {
        off += ((double)y[i] - (double)x[i]) * ((double)y[i] - (double)x[i]);
        all += (double)x[i] * (double)x[i];
    }
    return sqrt(off / all);
}

/* Of normal numbers: bits of a type decide. The bounds are those of ggml's quantisers on such
 * numbers, and some more; Q6_K has a scale of binary16 that small numbers make subnormal. */
static void test_losses(void **state) {
    (void)state;
    static const double most[N_TYPES] = {0, 2.2e-4, 1.8e-3, 5.6e-3, 0.092, 0.045, 0.075, 0.02};
    float x[N];

    for (uint64_t seed = 1; seed <= 4; seed++)
        for (int scale = -8; scale <= 8; scale += 8)
            for (int t = 0; t < N_TYPES; t++) {
                normal_numbers(x, seed, ldexpf(1, scale));
                double lost = loss(types[t], x);
                if (!(lost <= most[t]))
                    fail_msg("%s loses %.5f of numbers of size 2^%d; expected at most %.5f",
                             aa_type_name(types[t]), lost, scale, most[t]);
            }
}

/* Zeros, one value, one outlier, tiny and huge numbers: finite, of the right sign and size. */
static void test_edges(void **state) {
    (void)state;
    static unsigned char bytes[MOST_BYTES];
    static float x[N], y[N];
    static const float values[] = {0, 1, -1, 1e-7f, -1e-30f, 1e-39f, -1e-44f, 1e4f, -3e4f};

    for (size_t v = 0; v < sizeof values / sizeof *values; v++)
        for (int alone = 0; alone < 2; alone++)
            for (int t = 0; t < N_TYPES; t++) {
                for (int i = 0; i < N; i++) x[i] = alone && i % 256 ? 0 : values[v];
                aa_quantize(bytes, types[t], x, N);
                aa_dequantize(y, types[t], bytes, N);
                for (int i = 0; i < N; i++)
                    if (!(fabsf(y[i] - x[i]) <= 0.07f * fabsf(values[v]) + 1e-6f))
                        fail_msg("%s makes %g of %g (element %d)", aa_type_name(types[t]),
                                 (double)y[i], (double)x[i], i);
            }
}

/* Each block by itself: the same bytes whatever is quantised with it, also where not aligned. */
static void test_blocks(void **state) {
    (void)state;
    static unsigned char whole[MOST_BYTES], part[MOST_BYTES + 1];
    float x[N];

    normal_numbers(x, 9, 1);
    for (int t = 0; t < N_TYPES; t++) {
        size_t block = aa_type_block(types[t]), size = aa_type_bytes(types[t], block);

        aa_quantize(whole, types[t], x, N);
        for (size_t i = 0; i < N / block; i++)
            aa_quantize(part + 1 + i * size, types[t], x + i * block, block);
        check_same_bits(aa_type_name(types[t]), part + 1, whole, N / block * size);
    }
}

static void test_which(void **state) {
    (void)state;
    for (int t = 0; t < N_TYPES; t++) assert_true(aa_type_can_quantize(types[t]));
    assert_false(aa_type_can_quantize(AA_TYPE_Q2_K));
    assert_false(aa_type_can_quantize(AA_TYPE_F8_E4M3));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_losses), cmocka_unit_test(test_edges),
                                       cmocka_unit_test(test_blocks), cmocka_unit_test(test_which)};
    return cmocka_run_group_tests_name("unit_quantize", tests, NULL, NULL);
}
