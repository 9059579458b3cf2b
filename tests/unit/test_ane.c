/* ane/check, ane/cost: each published constraint by a program that touches it and one that does
 * not; the cost model against what was published of whole workloads and single operations. */
#include <math.h>
#include <stdlib.h>
#include "ane/blob.h"
#include "ane/check.h"
#include "ane/cost.h"
#include "support/check.h"

static const aa_ane_chip *chip_of(const char *name) {
    const aa_ane_chip *chip = NULL;
    aa_err err = {0};
    check_ok(aa_ane_chip_find(&chip, name, &err));
    return chip;
}

/* ---- constraints ----------------------------------------------------------------------------- */

#define PROGRAM(inputs, body, outputs) \
    "program(1.3)\n{\nfunc main<ios18>(" inputs ") {\n" body "} -> (" outputs ");\n}\n"
#define A "tensor<fp16, [1, 64, 1, 64]> a"
#define OP(type, op) PROGRAM(A, "tensor<fp16, " type "> z = " op ";\n", "z")
#define SAME(op) OP("[1, 64, 1, 64]", op)
#define CONST(type, name, value) \
    "tensor<" type "> " name " = const()[val = tensor<" type ">(" value ")];\n"
#define WEIGHT(type, name) CONST(type, name, "BLOBFILE(path = string(\"w\"), offset = uint64(64))")

static const struct {
    int number;
    const char *chip, *bad, *good;
} cases[] = {
#define CASE(...) {__VA_ARGS__},
#include "constraint_cases.def"
#undef CASE
};

/* How often a constraint is found, of it how often as an error. */
static int count(const char *text, int number, const char *chip, aa_ane_profile profile,
                 const aa_ane_files *files, int *errors) {
    aa_mil_program p;
    aa_ane_findings all = {0};
    aa_err err = {0};
    int n = 0;
    check_ok(aa_mil_parse(&p, text, strlen(text), "case", &err));
    check_ok(aa_ane_check(&all, &p, chip_of(chip), profile, files, &err));
    *errors = 0;
    for (size_t i = 0; i < all.n; i++) {
        if (all.data[i].constraint->number != number) continue;
        n++;
        *errors += all.data[i].error;
        assert_true(all.data[i].detail[0] && all.data[i].line > 0);
    }
    aa_ane_findings_release(&all);
    aa_mil_release(&p);
    return n;
}

static void each_constraint(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const int number = cases[i].number;
        const aa_ane_kind kind = aa_ane_constraint_find(number)->kind;
        int errors;
        if (!count(cases[i].bad, number, cases[i].chip, AA_ANE_FAST, NULL, &errors))
            fail_msg("C%d was not found in %s", number, cases[i].bad);
        assert_int_equal(errors > 0, kind == AA_ANE_RULE);
        (void)count(cases[i].bad, number, cases[i].chip, AA_ANE_STRICT, NULL, &errors);
        assert_int_equal(errors > 0, kind != AA_ANE_NUMERIC && kind != AA_ANE_SLOW);
        if (count(cases[i].good, number, cases[i].chip, AA_ANE_STRICT, NULL, &errors))
            fail_msg("C%d was found in %s", number, cases[i].good);
    }
}

/* A row is for a program, and then has a case here or elsewhere; or it is for running one. */
static void no_row_without_a_case(void **state) {
    (void)state;
    for (int number = 1; number <= 65; number++) {
        const aa_ane_constraint *c = aa_ane_constraint_find(number);
        bool tested = number == 14 || number == 15    /* weights, below */
            || number == 37                           /* of the parser: unit_mil */
            || number == 39;                          /* of the values, not of the text */
        assert_non_null(c);
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
            tested |= cases[i].number == number;
        if (!tested && c->kind != AA_ANE_RUN) fail_msg("C%d has no case", number);
    }
    assert_null(aa_ane_constraint_find(66));
}

static const void *one_file(void *ctx, const char *path, uint64_t *size) {
    const aa_text *file = ctx;
    if (strcmp(path, "w") != 0) return NULL;
    *size = file->len;
    return file->data;
}

static void weights(void **state) {
    (void)state;
#define LINEAR(rows, path, offset) \
    PROGRAM(A, CONST("fp16, [" rows ", 64]", "w", \
                     "BLOBFILE(path = string(\"" path "\"), offset = uint64(" offset "))") \
            "tensor<fp16, [1, 64, 1, " rows "]> z = linear(x = a, weight = w);\n", "z")
    static const char good[] = LINEAR("2", "w", "64"), large[] = LINEAR("4", "w", "64");
    static const char at_data[] = LINEAR("2", "w", "128"), nowhere[] = LINEAR("2", "v", "64");
    float values[128] = {0};
    aa_blob_writer w = {0};
    aa_err err = {0};
    int errors;
    (void)aa_blob_add_fp16(&w, values, 2, 64, false);
    check_ok(aa_blob_finish(&w, &err));
    const aa_ane_files files = {&w.bytes, one_file};
    assert_int_equal(count(good, 14, "m4", AA_ANE_FAST, &files, &errors), 0);
    assert_int_equal(count(good, 15, "m4", AA_ANE_FAST, &files, &errors), 0);
    assert_int_equal(count(large, 15, "m4", AA_ANE_FAST, &files, &errors), 1);
    assert_int_equal(count(at_data, 14, "m4", AA_ANE_FAST, &files, &errors), 1);
    assert_int_equal(count(nowhere, 15, "m4", AA_ANE_FAST, &files, &errors), 1);
    assert_int_equal(errors, 1);
    aa_blob_writer_release(&w);
}

/* ---- cost ------------------------------------------------------------------------------------ */

/* A step of Stories110M, as published: 72 evaluations, 95.4 GFLOP forward and to the inputs, 0.34
 * GB of constants, 0.29 GB through ports; and the ANE's part of it, measured (maderix/ANE). */
static const aa_ane_work stories110m = {.flop = 95.4e9, .constant_bytes = 0.34e9,
                                        .port_bytes = 0.29e9, .products = 72 * 4, .others = 72};
static const struct { const char *chip; double low_ms, high_ms; } steps[] = {
    {"m1pro", 32, 35}, {"m4pro", 8.9, 12}, {"m4", 10, 10}, {"m5", 9.1, 9.8},
};

static void whole_steps(void **state) {
    (void)state;
    int within = 0;
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        aa_ane_cost c = aa_ane_cost_of(&stories110m, 72, false, chip_of(steps[i].chip));
        const double ms = (c.dispatch_s + c.device_s) * 1e3;
        const double near = ms < steps[i].low_ms ? steps[i].low_ms
                          : ms > steps[i].high_ms ? steps[i].high_ms : ms;
        print_message("%-6s simulated %5.1f ms, measured %.1f to %.1f\n", steps[i].chip, ms,
                      steps[i].low_ms, steps[i].high_ms);
        within += fabs(ms / near - 1) <= 0.15;
    }
    assert_int_equal(within, 4);
}

/* Single products, published: x [m, k] by w [k, n]. Those of an M5 Pro (ANEForge) are judged by the
 * constants of M5, which come from another project; t0 of M4 comes from the same one as its
 * products (ANE-Training), so they are reported only. */
static const struct { const char *chip; double m, k, n, us; } products[] = {
    {"m5", 1, 64, 64, 83.5}, {"m5", 1, 128, 128, 74}, {"m5", 1, 256, 256, 75.6},
    {"m5", 1, 512, 512, 75.2}, {"m5", 1, 1024, 1024, 85}, {"m5", 1, 2048, 2048, 133},
    {"m5", 1, 4096, 4096, 293}, {"m5", 16, 256, 256, 72.5}, {"m5", 64, 512, 512, 78},
    {"m5", 128, 512, 2048, 114}, {"m5", 256, 1024, 1024, 145}, {"m5", 512, 1024, 4096, 530},
    {"m5", 1024, 1024, 1024, 387}, {"m4", 64, 256, 256, 76}, {"m4", 64, 512, 512, 71},
    {"m4", 64, 1024, 1024, 98}, {"m4", 64, 2048, 2048, 235}, {"m4", 256, 768, 768, 93},
    {"m4", 256, 2048, 768, 242}, {"m4", 256, 768, 2048, 137}, {"m4", 256, 1024, 1024, 110},
    {"m4", 128, 2048, 2048, 250},
};

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void single_products(void **state) {
    (void)state;
    enum { N = sizeof products / sizeof *products };
    double error[N];
    size_t judged = 0;
    for (size_t i = 0; i < N; i++) {
        const double m = products[i].m, k = products[i].k, n = products[i].n;
        const aa_ane_work w = {.flop = 2 * m * k * n, .constant_bytes = 2 * k * n,
                               .port_bytes = 2 * m * (k + n), .products = 1};
        aa_ane_cost c = aa_ane_cost_of(&w, 1, true, chip_of(products[i].chip));
        const double us = (c.dispatch_s + c.device_s) * 1e6;
        if (strcmp(products[i].chip, "m5") == 0) error[judged++] = fabs(us / products[i].us - 1);
        print_message("%-6s [%4g,%4g] x [%4g,%4g] simulated %5.0f us, measured %5.0f\n",
                      products[i].chip, m, k, k, n, us, products[i].us);
    }
    assert_int_equal(judged, 13);
    qsort(error, judged, sizeof *error, ascending);
    print_message("m5: median error %.0f %%, worst %.0f %%\n", 100 * error[judged / 2],
                  100 * error[judged - 1]);
    assert_true(error[judged / 2] < 0.15);
}

/* Work is counted from the program: a product, its constant, its ports as they lie. */
static void counted_work(void **state) {
    (void)state;
    static const char text[] = PROGRAM("tensor<fp16, [1, 64, 1, 32]> a",
        WEIGHT("fp16, [128, 64, 1, 1]", "w")
        "tensor<fp16, [1, 128, 1, 32]> b = conv(x = a, weight = w);\n"
        "tensor<fp16, [1, 1, 32, 128]> t = "
        "transpose(x = b, perm = tensor<int32, [4]>([0, 2, 3, 1]));\n"
        "tensor<fp16, [1, 1, 32, 32]> z = matmul(x = t, y = t, transpose_y = bool(true));\n", "z");
    aa_mil_program p;
    aa_ane_work w;
    aa_err err = {0};
    check_ok(aa_mil_parse(&p, text, strlen(text), "text", &err));
    aa_ane_work_of(&w, p.funcs[0], chip_of("m4"));
    assert_true(w.flop == 2. * 128 * 64 * 32 + 2. * 32 * 32 * 128);
    assert_true(w.constant_bytes == 2. * 128 * 64);
    assert_true(w.port_bytes == 64 * 64 + 32 * 64);
    assert_int_equal(w.products, 2);
    assert_int_equal(w.others, 1);
    aa_mil_release(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_constraint), cmocka_unit_test(no_row_without_a_case),
        cmocka_unit_test(weights), cmocka_unit_test(whole_steps),
        cmocka_unit_test(single_products), cmocka_unit_test(counted_work)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
