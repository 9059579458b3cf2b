/* Half precision: all 65536 patterns to float,
 * and rounding to nearest even around every one of them. */
#include "real.h"

static float bits(uint32_t u) {
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* The value of a pattern with `exponent` exponent bits
 * and `mantissa` mantissa bits, from the definition. */
static double value_of(uint16_t h, int exponent, int mantissa) {
    int bias = (1 << (exponent - 1)) - 1, e = h >> mantissa & ((1 << exponent) - 1),
        m = h & ((1 << mantissa) - 1);
    double sign = h & 0x8000 ? -1 : 1;
    if (e == (1 << exponent) - 1) return m ? NAN : sign * INFINITY;
    return sign * ldexp(e ? m + (1 << mantissa) : m, (e ? e : 1) - bias - mantissa);
}

typedef struct format {
    void (*to)(uint16_t *, const float *, size_t);
    void (*from)(float *, const uint16_t *, size_t);
    int exponent, mantissa;
} format;
static const format formats[] = {{aa_f16_from_f32, aa_f32_from_f16, 5, 10},
                                 {aa_bf16_from_f32, aa_f32_from_bf16, 8, 7}};

static void test_all_patterns(void **state) {
    (void)state;
    for (int f = 0; f < 2; f++)
        for (uint32_t h = 0; h < 65536; h++) {
            uint16_t in = (uint16_t)h, back;
            float x;
            double want = value_of(in, formats[f].exponent, formats[f].mantissa);
            formats[f].from(&x, &in, 1);
            formats[f].to(&back, &x, 1);
            if (isnan(want)) {
                float again;
                formats[f].from(&again, &back, 1);
                assert_true(isnan(x) && isnan(again) && (back & 0x8000) == (in & 0x8000));
                continue;
            }
            if ((double)x != want)
                fail_msg("format %d, pattern %04x: got %g, want %g", f, h, (double)x, want);
            if (back != in) fail_msg("format %d, pattern %04x came back as %04x", f, h, back);
        }
}

/* Between neighbours a < b: just under and over the middle goes to the nearer, the middle to the
 * even one. The middle needs one bit more than the format, so floats hold it and its neighbours
 * exactly. */
static void test_rounding(void **state) {
    (void)state;
    for (int f = 0; f < 2; f++) {
        uint32_t top = (uint32_t)((1 << formats[f].exponent) - 1) << formats[f].mantissa;
        for (uint32_t h = 0; h < top; h++) {
            double a = value_of((uint16_t)h, formats[f].exponent, formats[f].mantissa);
            double step = value_of((uint16_t)(h == top - 1 ? h : h + 1), formats[f].exponent,
                                   formats[f].mantissa) -
                          a;
            if (h == top - 1)
                step = a - value_of((uint16_t)(h - 1), formats[f].exponent, formats[f].mantissa);
            float middle = (float)(a + step / 2);
            float x[3] = {nextafterf(middle, 0), middle, nextafterf(middle, INFINITY)};
            uint16_t y[3], want[3] = {(uint16_t)h, (uint16_t)(h + (h & 1)), (uint16_t)(h + 1)};
            formats[f].to(y, x, 3);
            for (int i = 0; i < 3; i++)
                if (y[i] != want[i])
                    fail_msg("format %d, %a after %04x: got %04x, want %04x", f, (double)x[i], h,
                             y[i], want[i]);
            for (int i = 0; i < 3; i++) x[i] = -x[i];
            formats[f].to(y, x, 3);
            for (int i = 0; i < 3; i++) assert_int_equal(y[i], want[i] | 0x8000);
        }
    }
}

static void test_edges(void **state) {
    (void)state;
    uint16_t h;
    float x = 65519.996f;
    aa_f16_from_f32(&h, &x, 1);
    assert_int_equal(h, 0x7bff);
    x = 1e30f;
    aa_f16_from_f32(&h, &x, 1);
    assert_int_equal(h, 0x7c00);
    x = bits(1);
    aa_f16_from_f32(&h, &x, 1);
    assert_int_equal(h, 0);
    x = bits(0xffffffffu);
    aa_bf16_from_f32(&h, &x, 1);
    assert_int_equal(h, 0xffff);
    x = bits(0x7f800001u);                /* a NaN whose mantissa would round away */
    aa_bf16_from_f32(&h, &x, 1);
    assert_true((h & 0x7f80) == 0x7f80 && (h & 0x7f) != 0);
    aa_f16_from_f32(&h, &x, 1);
    assert_true((h & 0x7c00) == 0x7c00 && (h & 0x3ff) != 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_all_patterns),
                                       cmocka_unit_test(test_rounding),
                                       cmocka_unit_test(test_edges)};
    return cmocka_run_group_tests_name("kernels_half", tests, NULL, NULL);
}
