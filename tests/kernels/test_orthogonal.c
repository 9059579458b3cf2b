/* Newton-Schulz in Gram form against the plain iteration in double, and against what it is for:
 * singular values near 1, directions kept. */
#include "real.h"

typedef struct shape { size_t rows, cols; } shape;
static const shape shapes[] = {{1, 1},   {1, 9},    {9, 1},    {5, 3},    {16, 64},  {64, 16},
                               {65, 65}, {70, 131}, {131, 70}, {128, 48}, {129, 129}};
enum { N_SHAPES = sizeof shapes / sizeof *shapes };

static aa_real *orthogonal(aa_cpu *cpu, const aa_real *x, shape s, int steps) {
    size_t n = s.rows * s.cols;
    aa_real *copy = copy_of(x, n), *y = zeros(n);
    aa_real *scratch = zeros(aa_orthogonal_scratch(s.rows, s.cols));
    aa_orthogonalize(cpu, y, copy, s.rows, s.cols, steps, scratch);
    aa_heap_free(copy);
    aa_heap_free(scratch);
    return y;
}

/* c[M,N] = a[M,K] b, b [K,N] or, transposed, [N,K] */
static void naive_product(double *c, const double *a, const double *b, bool transposed, size_t M,
                          size_t N, size_t K) {
    for (size_t i = 0; i < M; i++)
        for (size_t j = 0; j < N; j++) {
            double sum = 0;
            for (size_t k = 0; k < K; k++)
                sum += a[i * K + k] * (transposed ? b[j * K + k] : b[k * N + j]);
            c[i * N + j] = sum;
        }
}

/* X <- a X + b (X X^T) X + c (X X^T)^2 X, as the paper has it. */
static double *naive(const aa_real *x, shape s, int steps) {
    size_t R = s.rows, n = R * s.cols;
    double *y = aa_heap_alloc(n, sizeof *y), *gy = aa_heap_alloc(n, sizeof *y);
    double *ggy = aa_heap_alloc(n, sizeof *y), *g = aa_heap_alloc(R * R, sizeof *g), squares = 0;
    assert_true(y && gy && ggy && g);
    for (size_t i = 0; i < n; i++) squares += (double)x[i] * (double)x[i];
    for (size_t i = 0; i < n; i++) y[i] = (double)x[i] / sqrt(squares);
    for (int k = 0; k < steps; k++) {
        naive_product(g, y, y, true, R, R, s.cols);
        naive_product(gy, g, y, false, R, s.cols, R);
        naive_product(ggy, g, gy, false, R, s.cols, R);
        for (size_t i = 0; i < n; i++) y[i] = 3.4445 * y[i] - 4.7750 * gy[i] + 2.0315 * ggy[i];
    }
    aa_heap_free(gy);
    aa_heap_free(ggy);
    aa_heap_free(g);
    return y;
}

/* Rounding of the Gram matrix moves an eigenvalue by about eps; the composed polynomial rises with
 * 3.4445 per step where it is steepest. */
static void agrees_with_the_plain_iteration(void **state) {
    (void)state;
    EACH_ISA(isa) {
        aa_cpu *cpu = team(2, isa);
        for (int i = 0; i < N_SHAPES; i++)
            for (int steps = 1; steps <= 5; steps += 2) {
                shape s = shapes[i];
                size_t n = s.rows * s.cols;
                aa_real *x = numbers(n, 30 + (uint64_t)i), *y = orthogonal(cpu, x, s, steps);
                double *want = naive(x, s, steps), allowed = 16 * pow(3.4445, steps) * REAL_EPS;
                for (size_t j = 0; j < n; j++)
                    if (!(fabs((double)y[j] - want[j]) <= allowed))
                        fail_msg("%zux%zu, %d steps, %zu: %.9g, not %.9g (allowed %.2g)", s.rows,
                                 s.cols, steps, j, (double)y[j], want[j], allowed);
                aa_heap_free(x);
                aa_heap_free(y);
                aa_heap_free(want);
            }
        aa_cpu_free(cpu);
    }
}

/* Singular values by one-sided Jacobi: rows are rotated until they are orthogonal; then their
 * lengths are what is wanted. out [rows], rows <= cols. */
static void singular_values(double *out, const aa_real *x, size_t rows, size_t cols) {
    double *a = aa_heap_alloc(rows * cols, sizeof *a);
    assert_non_null(a);
    for (size_t i = 0; i < rows * cols; i++) a[i] = (double)x[i];
    for (int sweep = 0; sweep < 12; sweep++)
        for (size_t p = 0; p < rows; p++)
            for (size_t q = p + 1; q < rows; q++) {
                double *u = a + p * cols, *v = a + q * cols, uu = 0, vv = 0, uv = 0;
                for (size_t k = 0; k < cols; k++)
                    uu += u[k] * u[k], vv += v[k] * v[k], uv += u[k] * v[k];
                if (fabs(uv) <= 1e-12 * sqrt(uu * vv)) continue;
                double z = (vv - uu) / (2 * uv), t = (z < 0 ? -1 : 1) / (fabs(z) + hypot(1, z));
                double c = 1 / hypot(1, t), s = c * t;
                for (size_t k = 0; k < cols; k++) {
                    double w = u[k];
                    u[k] = c * w - s * v[k];
                    v[k] = s * w + c * v[k];
                }
            }
    for (size_t i = 0; i < rows; i++) {
        double sum = 0;
        for (size_t k = 0; k < cols; k++) sum += a[i * cols + k] * a[i * cols + k];
        out[i] = sqrt(sum);
    }
    aa_heap_free(a);
}

static void singular_values_come_near_one(void **state) {
    (void)state;
    EACH_ISA(isa) {
        aa_cpu *cpu = team(1, isa);
        const shape s = {48, 130};
        aa_real *x = numbers(s.rows * s.cols, 50);
        double values[48];
        /* Rows that differ twentyfold in length: singular values of that spread. */
        for (size_t i = 0; i < s.rows * s.cols; i++) x[i] *= AA_R(i / s.cols % 3 ? 1 : 0.05);
        for (int steps = 5; steps <= AA_ORTHOGONAL_MAX_STEPS; steps++) {
            aa_real *y = orthogonal(cpu, x, s, steps);
            singular_values(values, y, s.rows, s.cols);
            for (size_t i = 0; i < s.rows; i++)
                if (!(values[i] > 0.6 && values[i] < 1.3))
                    fail_msg("singular value %zu is %g after %d steps", i, values[i], steps);
            aa_heap_free(y);
        }
        aa_heap_free(x);
        aa_cpu_free(cpu);
    }
}

/* Of rank 1: one direction in, one out, and the rounding noise of the others stays noise. */
static void low_rank_stays_low_rank(void **state) {
    const shape s = {40, 60};
    aa_real *u = numbers(s.rows, 51), *v = numbers(s.cols, 52), *x = zeros(s.rows * s.cols);
    double values[40], rest = 0, largest = 0;
    (void)state;
    for (size_t i = 0; i < s.rows; i++)
        for (size_t j = 0; j < s.cols; j++) x[i * s.cols + j] = u[i] * v[j];
    EACH_ISA(isa) {
        aa_cpu *cpu = team(1, isa);
        aa_real *y = orthogonal(cpu, x, s, AA_ORTHOGONAL_MAX_STEPS);
        singular_values(values, y, s.rows, s.cols);
        rest = largest = 0;
        for (size_t i = 0; i < s.rows; i++) {
            rest += values[i];
            largest = fmax(largest, values[i]);
        }
        assert_true(largest > 0.6 && largest < 1.3);
        assert_true(rest - largest < 1e-2);
        aa_heap_free(y);
        aa_cpu_free(cpu);
    }
    aa_heap_free(u);
    aa_heap_free(v);
    aa_heap_free(x);
}

static void nothing_gives_nothing_and_scale_does_not_matter(void **state) {
    const shape s = {33, 20};
    size_t n = s.rows * s.cols;
    aa_cpu *cpu = team(1, AA_ISA_AUTO);
    aa_real *zero = zeros(n), *x = numbers(n, 53), *y = orthogonal(cpu, zero, s, 5);
    (void)state;
    same_bits("zero", y, zero, n);
    aa_heap_free(y);
    y = orthogonal(cpu, x, s, 5);
    for (int power = -80; power <= 40; power += 40) {
        aa_real *scaled = copy_of(x, n);
        for (size_t i = 0; i < n; i++) scaled[i] = (aa_real)ldexp((double)x[i], power);
        aa_real *z = orthogonal(cpu, scaled, s, 5);
        same_bits("scaled", z, y, n);
        aa_heap_free(scaled);
        aa_heap_free(z);
    }
    aa_heap_free(zero);
    aa_heap_free(x);
    aa_heap_free(y);
    aa_cpu_free(cpu);
}

static void same_bits_for_any_team(void **state) {
    (void)state;
    EACH_ISA(isa)
        for (int i = 6; i < N_SHAPES; i++) {
            size_t n = shapes[i].rows * shapes[i].cols;
            aa_real *x = numbers(n, 54), *first = NULL;
            for (int threads = 1; threads <= 5; threads++) {
                aa_cpu *cpu = team(threads, isa);
                aa_real *y = orthogonal(cpu, x, shapes[i], 5);
                if (first) same_bits("threads", y, first, n);
                if (first) aa_heap_free(y);
                else first = y;
                aa_cpu_free(cpu);
            }
            aa_heap_free(x);
            aa_heap_free(first);
        }
}

/* 64 wide there is nothing to halve: 17 squares, the Gram matrix and the result. */
static void flop_are_those_done(void **state) {
    aa_profile_row rows[64];
    aa_cpu *cpu = team(1, AA_ISA_AUTO);
    aa_real *x = numbers(64 * 256, 55);
    double square = 2.0 * 64 * 64 * 64;
    (void)state;
    aa_cpu_profile(cpu, true);
    aa_real *y = orthogonal(cpu, x, (shape){64, 256}, 5);
    size_t n = aa_cpu_profile_rows(cpu, rows, 64);
    double counted = 0;
    for (size_t i = 0; i < n; i++)
        if (strcmp(rows[i].op, "orthogonalize") == 0) counted = rows[i].flop;
    assert_true(counted == (17 + 4 + 4) * square);
    assert_true(aa_orthogonal_flop(256, 64, 1) == (1 + 4 + 4) * square);
    /* Twice as wide, the halves save a quarter. */
    assert_true(aa_orthogonal_flop(128, 128, 5) == 8 * square * (18 * 0.75 + 1));
    aa_heap_free(x);
    aa_heap_free(y);
    aa_cpu_free(cpu);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_the_plain_iteration),
        cmocka_unit_test(singular_values_come_near_one),
        cmocka_unit_test(low_rank_stays_low_rank),
        cmocka_unit_test(nothing_gives_nothing_and_scale_does_not_matter),
        cmocka_unit_test(same_bits_for_any_team),
        cmocka_unit_test(flop_are_those_done),
    };
    return cmocka_run_group_tests_name("kernels_orthogonal", tests, NULL, NULL);
}
