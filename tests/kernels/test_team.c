/* The team: choice of instruction set, messages, profile, probes, sizes. */
#include "real.h"

static void test_choice(void **state) {
    (void)state;
    aa_err err = {0};
    aa_cpu *cpu = NULL;
    assert_int_equal(setenv("AA_ISA", "scalar", 1), 0);
    check_ok(aa_cpu_new(&cpu, 2, AA_ISA_AUTO, &err));
    assert_int_equal(aa_cpu_isa(cpu), AA_ISA_SCALAR);
    assert_int_equal(aa_cpu_threads(cpu), 2);
    aa_cpu_free(cpu);
    assert_int_equal(setenv("AA_ISA", "sse9", 1), 0);
    cpu = NULL;
    assert_int_equal(aa_cpu_new(&cpu, 1, AA_ISA_AUTO, &err), AA_EUNSUPPORTED);
    assert_null(cpu);
    assert_non_null(strstr(err.message, "sse9"));
    assert_int_equal(unsetenv("AA_ISA"), 0);
    for (aa_isa isa = AA_ISA_SCALAR; isa <= AA_ISA_AVX512; isa = (aa_isa)(isa + 1)) {
        aa_err e = {0};
        if (aa_isa_available(isa)) {
            cpu = team(1, isa);
            assert_int_equal(aa_cpu_isa(cpu), isa);
            aa_cpu_free(cpu);
        } else {
            assert_int_equal(aa_cpu_new(&cpu, 1, isa, &e), AA_EUNSUPPORTED);
            assert_non_null(strstr(e.message, aa_isa_name(isa)));
            assert_non_null(strstr(e.message, "scalar"));
        }
    }
    cpu = team(1, AA_ISA_AUTO);
    for (aa_isa isa = (aa_isa)(aa_cpu_isa(cpu) + 1); isa <= AA_ISA_AVX512; isa = (aa_isa)(isa + 1))
        assert_false(aa_isa_available(isa));
    aa_cpu_free(cpu);
}

static void test_profile(void **state) {
    (void)state;
    aa_cpu *cpu = team(2, AA_ISA_AUTO);
    aa_profile_row rows[40];
    aa_real *a = numbers(64 * 64, 1), *b = numbers(64 * 64, 2), *c = zeros(64 * 64);
    aa_gemm(cpu, c, 64, a, 64, b, 64, false, 64, 64, 64, false);
    assert_int_equal(aa_cpu_profile_rows(cpu, rows, 40), 0);
    aa_cpu_profile(cpu, true);
    for (int i = 0; i < 3; i++) aa_gemm(cpu, c, 64, a, 64, b, 64, false, 64, 64, 64, false);
    aa_zero(cpu, c, 64 * 64);
    assert_int_equal(aa_cpu_profile_rows(cpu, rows, 40), 2);
    assert_true(rows[0].wall_s >= rows[1].wall_s);
    const aa_profile_row *gemm = strcmp(rows[0].op, "gemm") == 0 ? &rows[0] : &rows[1];
    assert_string_equal(gemm->op, "gemm");
    assert_int_equal(gemm->calls, 3);
    assert_true(gemm->flop == 3 * 2.0 * 64 * 64 * 64 &&
                gemm->bytes == 3.0 * 3 * 64 * 64 * sizeof(aa_real));
    assert_int_equal(aa_cpu_profile_rows(cpu, rows, 1), 1);
    aa_cpu_profile(cpu, true);
    assert_int_equal(aa_cpu_profile_rows(cpu, rows, 40), 0);
    aa_heap_free(a);
    aa_heap_free(b);
    aa_heap_free(c);
    aa_cpu_free(cpu);
}

static void test_probes(void **state) {
    (void)state;
    EACH_ISA(isa) {
        aa_cpu *cpu = team(1, isa);
        double peak = aa_cpu_peak_gflops(cpu, 0.01);
        print_message("%s: %.0f GFLOP/s with one thread\n", aa_isa_name(isa), peak);
        assert_true(peak > 1e-3 && peak < 1e4); /* an emulated processor is slow */
        assert_true(aa_cpu_peak_gflops(cpu, 0) >= peak); /* a disturbed probe is not believed */
        aa_cpu_free(cpu);
    }
    aa_cpu *cpu = team(1, AA_ISA_AUTO);
    double gbs = aa_cpu_read_gbs(cpu, 0);
    print_message("%.1f GB/s with one thread\n", gbs);
    assert_true(gbs > 1e-3 && gbs < 1e4);
    aa_cpu_free(cpu);
    assert_true(aa_cpu_scratch_bytes(3) - aa_cpu_scratch_bytes(2) ==
                aa_cpu_scratch_bytes(2) - aa_cpu_scratch_bytes(1));
    assert_true(aa_cpu_scratch_bytes(0) >= aa_cpu_scratch_bytes(1));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_choice),
                                       cmocka_unit_test(test_profile),
                                       cmocka_unit_test(test_probes)};
    return cmocka_run_group_tests_name("kernels_team", tests, NULL, NULL);
}
