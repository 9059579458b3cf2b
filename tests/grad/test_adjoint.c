/* Linear pieces and their transposes, in double precision:
 * <A x, y> = <x, A^T y> for any x and y. */
#include <math.h>

#include "support/check.h"
#include "support/toy.h"

enum { T = 7, IN = 13, OUT = 10, D = 6, HEADS = 3, IDS = 5 };

static aa_cpu *cpu;

static int open_cpu(void **state) {
    (void)state;
    return aa_cpu_new(&cpu, 1, AA_ISA_SCALAR, NULL) != AA_OK;
}

static int close_cpu(void **state) {
    (void)state;
    aa_cpu_free(cpu);
    return 0;
}

static void fill(const char *name, double *x, size_t n) {
    for (size_t i = 0; i < n; i++) x[i] = toy_number(name, (uint32_t)i);
}

static double dot(const double *x, const double *y, size_t n) {
    double s = 0;

    for (size_t i = 0; i < n; i++) s += x[i] * y[i];
    return s;
}

static void check_equal(double a, double b) { assert_true(fabs(a - b) <= 1e-13 * (1 + fabs(a))); }

static void linear(void **state) {
    double w[OUT * IN], dw[OUT * IN] = {0}, x[T * IN], y[T * OUT], dx[T * IN], dy[T * OUT];
    aa_tensor row = {.rows = OUT, .cols = IN, .data = w, .grad = dw, .version = 1};
    aa_linear lin = {.weight = &row, .n_parts = 1, .n_out = OUT, .n_in = IN};
    const aa_epilogue half = {.scale = 0.5};

    (void)state;
    fill("w", w, OUT * IN), fill("x", x, T * IN), fill("dy", dy, T * OUT);
    aa_linear_forward(cpu, y, OUT, x, IN, T, &lin, &half);
    aa_linear_dx(cpu, dx, IN, dy, OUT, T, &lin, 0.5, false, NULL);
    aa_linear_dw(cpu, &lin, dy, OUT, x, IN, T, 0.5);
    check_equal(dot(y, dy, T * OUT), dot(x, dx, T * IN));
    check_equal(dot(y, dy, T * OUT), dot(w, dw, OUT * IN));
}

static void rope(void **state) {
    double table[T * D], x[T * HEADS * D], y[T * HEADS * D], dx[T * HEADS * D], dy[T * HEADS * D];
    int32_t pos[T];

    (void)state;
    for (int t = 0; t < T; t++) {
        pos[t] = (t * 3) % T;
        for (int i = 0; i < D / 2; i++) {
            table[t * D + i] = cos(t * pow(100, -2.0 * i / D));
            table[t * D + D / 2 + i] = sin(t * pow(100, -2.0 * i / D));
        }
    }
    fill("x", x, T * HEADS * D), fill("dy", dy, T * HEADS * D);
    memcpy(y, x, sizeof x), memcpy(dx, dy, sizeof dy);
    aa_rope(cpu, y, HEADS * D, T, HEADS, D, table, pos, false);
    aa_rope(cpu, dx, HEADS * D, T, HEADS, D, table, pos, true);
    check_equal(dot(y, dy, T * HEADS * D), dot(x, dx, T * HEADS * D));
    aa_rope(cpu, y, HEADS * D, T, HEADS, D, table, pos, true);
    for (size_t i = 0; i < T * HEADS * D; i++) check_equal(y[i], x[i]);
}

static void embedding(void **state) {
    const int32_t ids[T] = {3, 0, 3, 4, 1, 3, 0};
    double table[IDS * IN], dtable[IDS * IN] = {0}, x[T * IN], dx[T * IN];

    (void)state;
    fill("table", table, IDS * IN), fill("dx", dx, T * IN);
    aa_embedding_forward(cpu, x, table, ids, T, IN);
    aa_embedding_backward(cpu, dtable, dx, ids, T, IN);
    check_equal(dot(x, dx, T * IN), dot(table, dtable, IDS * IN));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(linear), cmocka_unit_test(rope),
                                       cmocka_unit_test(embedding)};

    return cmocka_run_group_tests_name("grad_adjoint", tests, open_cpu, close_cpu);
}
