/* Products over the team against naive double sums, and the two promises of num.h: the same bits
 * for any number of threads and for any split of the tokens. */
#include "real.h"

typedef struct shape { size_t T, n_out, n_in; } shape;
static const shape shapes[] = {{1, 1, 1},     {1, 33, 17},    {2, 100, 64},   {3, 7, 600},
                               {4, 64, 130},  {5, 31, 5},     {13, 29, 300},  {29, 97, 71},
                               {64, 512, 40}, {130, 70, 520}, {37, 300, 512}, {300, 40, 33},
                               {600, 33, 20}, {40, 140, 1021}}; /* rows of x 4 KiB apart */
enum { N_SHAPES = sizeof shapes / sizeof *shapes };

typedef struct fixture {
    aa_tensor weight[2], bias[2];
    aa_linear lin;
    aa_real *x, *dy, *residual;
    size_t T, ldx, ldy;
} fixture;

/* A map in two parts, as q|k|v and gate|up are.
 * Rows of x and dy are longer than the map is wide. */
static fixture fixture_of(shape s) {
    fixture f = {.T = s.T, .ldx = s.n_in + 3, .ldy = s.n_out + 5};
    size_t first = s.n_out / 2 + s.n_out % 2, sizes[2] = {first, s.n_out - first};
    aa_real *w = numbers(s.n_out * s.n_in, 1), *dw = numbers(s.n_out * s.n_in, 2),
            *b = numbers(s.n_out, 3);
    aa_real *db = numbers(s.n_out, 4);
    for (int i = 0; i < 2; i++) {
        size_t at = i ? first : 0;
        f.weight[i] = (aa_tensor){.rows = sizes[i],
                                  .cols = s.n_in,
                                  .data = w + at * s.n_in,
                                  .grad = dw + at * s.n_in,
                                  .version = 1};
        f.bias[i] = (aa_tensor){.rows = 1, .cols = sizes[i], .data = b + at, .grad = db + at};
    }
    f.lin = (aa_linear){.n_parts = s.n_out > 1 ? 2 : 1, .n_out = s.n_out, .n_in = s.n_in};
    f.x = numbers(s.T * f.ldx, 5);
    f.dy = numbers(s.T * f.ldy, 6);
    f.residual = numbers(s.T * f.ldy, 7);
    return f;
}

/* lin points into the fixture, which has moved: call after copying it to its place. */
static void attach(fixture *f, bool bias) {
    f->lin.weight = f->weight;
    f->lin.bias = bias ? f->bias : NULL;
}

static void release(fixture *f) {
    aa_heap_free(f->weight[0].data);
    aa_heap_free(f->weight[0].grad);
    aa_heap_free(f->bias[0].data);
    aa_heap_free(f->bias[0].grad);
    aa_heap_free(f->x);
    aa_heap_free(f->dy);
    aa_heap_free(f->residual);
}

/* The larger shapes take turns: every variant meets several of them. */
static bool turn(int i, int variant) {
    const shape *s = &shapes[i];
    return s->T * s->n_out * s->n_in < 200000 || (i + variant) % 4 == 0;
}

/* sum_k a[k*sa] b[k*sb] in double, and the bound of its error in aa_real. */
typedef struct dot { double sum, bound; } dot;
static dot dot_of(const aa_real *a, size_t sa, const aa_real *b, size_t sb, size_t n) {
    dot d = {0, 0};
    for (size_t k = 0; k < n; k++) {
        double p = (double)a[k * sa] * (double)b[k * sb];
        d.sum += p;
        d.bound += fabs(p);
    }
    d.bound *= ((double)n + 3) * REAL_EPS;
    return d;
}

static void near_dot(const char *name, aa_real got, double want, double bound, size_t t, size_t j) {
    if (!(fabs((double)got - want) <= bound + 4 * REAL_EPS * fabs(want)))
        fail_msg("%s[%zu,%zu]: got %.9g, want %.9g, allowed %.3g", name, t, j, (double)got, want,
                 bound);
}

static void check_forward(aa_cpu *cpu, shape s, int kind) {
    bool bias = kind & 1;
    fixture f = fixture_of(s);
    attach(&f, bias);
    aa_real *y = copy_of(f.residual, s.T * f.ldy);
    if (kind & 8) f.lin.packed = zeros(aa_linear_packed_size(cpu, &f.lin));
    aa_epilogue e = {.scale = kind & 1 ? AA_R(0.7) : 1};
    if (kind & 2) {
        e.residual = kind & 4 ? y : f.residual;
        e.ld_residual = f.ldy;
    } else {
        e.accumulate = kind & 4;
    }
    aa_linear_forward(cpu, y, f.ldy, f.x, f.ldx, s.T, &f.lin, &e);
    for (size_t t = 0; t < s.T; t++)
        for (size_t j = 0; j < f.ldy; j++) {
            double old = (double)f.residual[t * f.ldy + j];
            if (j >= s.n_out) {
                assert_true((double)y[t * f.ldy + j] == old);
                continue;
            }
            dot d = dot_of(f.x + t * f.ldx, 1, f.weight[0].data + j * s.n_in, 1, s.n_in);
            double want = (double)e.scale * (d.sum + (bias ? (double)f.bias[0].data[j] : 0)) +
                          (e.residual || e.accumulate ? old : 0);
            near_dot("y", y[t * f.ldy + j], want, d.bound + 8 * REAL_EPS * (fabs(old) + 4), t, j);
        }
    aa_heap_free(f.lin.packed);
    aa_heap_free(y);
    release(&f);
}

static void test_forward(void **state) {
    (void)state;
    EACH_ISA(isa) {
        aa_cpu *cpu = team(2, isa);
        for (int i = 0; i < N_SHAPES; i++)
            for (int kind = 0; kind < 16; kind++)
                if (turn(i, kind + 3 * (kind / 4))) check_forward(cpu, shapes[i], kind);
        aa_cpu_free(cpu);
    }
}

static void check_backward(aa_cpu *cpu, shape s, bool accumulate) {
    fixture f = fixture_of(s);
    attach(&f, true);
    aa_real scale = accumulate ? AA_R(0.3) : 1, *dx = copy_of(f.x, s.T * f.ldx);
    aa_real *old_dw = copy_of(f.weight[0].grad, s.n_out * s.n_in),
            *old_db = copy_of(f.bias[0].grad, s.n_out);
    aa_linear_dx(cpu, dx, f.ldx, f.dy, f.ldy, s.T, &f.lin, scale, accumulate, NULL);
    for (size_t t = 0; t < s.T; t++)
        for (size_t i = 0; i < s.n_in; i++) {
            dot d = dot_of(f.dy + t * f.ldy, 1, f.weight[0].data + i, s.n_in, s.n_out);
            double old = accumulate ? (double)f.x[t * f.ldx + i] : 0;
            near_dot("dx", dx[t * f.ldx + i], old + (double)scale * d.sum,
                     2 * d.bound + ((double)s.n_out + 8) * REAL_EPS * fabs(old), t, i);
        }
    aa_linear_dw(cpu, &f.lin, f.dy, f.ldy, f.x, f.ldx, s.T, scale);
    for (size_t j = 0; j < s.n_out; j++) {
        for (size_t i = 0; i < s.n_in; i++) {
            dot d = dot_of(f.dy + j, f.ldy, f.x + i, f.ldx, s.T);
            double old = (double)old_dw[j * s.n_in + i];
            near_dot("dw", f.weight[0].grad[j * s.n_in + i], old + (double)scale * d.sum,
                     2 * d.bound + ((double)s.T + 8) * REAL_EPS * fabs(old), j, i);
        }
        const aa_real one = 1;
        dot d = dot_of(f.dy + j, f.ldy, &one, 0, s.T);
        near_dot("db", f.bias[0].grad[j], (double)old_db[j] + (double)scale * d.sum,
                 2 * d.bound + ((double)s.T + 8) * REAL_EPS * fabs((double)old_db[j]), 0, j);
    }
    aa_heap_free(dx);
    aa_heap_free(old_dw);
    aa_heap_free(old_db);
    release(&f);
}

static void test_backward(void **state) {
    (void)state;
    EACH_ISA(isa) {
        aa_cpu *cpu = team(2, isa);
        for (int i = 0; i < N_SHAPES; i++)
            for (int accumulate = 0; accumulate < 2; accumulate++)
                if (turn(i, 2 * accumulate + i)) check_backward(cpu, shapes[i], accumulate);
        aa_cpu_free(cpu);
    }
}

static void test_gemm(void **state) {
    (void)state;
    EACH_ISA(isa) {
        aa_cpu *cpu = team(2, isa);
        for (int i = 0; i < N_SHAPES; i++)
            for (int kind = 0; kind < 4; kind++) {
                if (!turn(i, kind)) continue;
                size_t M = shapes[i].T, N = shapes[i].n_out, K = shapes[i].n_in;
                bool transpose = kind & 1, accumulate = kind & 2;
                aa_real *a = numbers(M * K, 1), *b = numbers(N * K, 2), *old = numbers(M * N, 3),
                        *c = copy_of(old, M * N);
                aa_gemm(cpu, c, N, a, K, b, transpose ? K : N, transpose, M, N, K, accumulate);
                for (size_t m = 0; m < M; m++)
                    for (size_t n = 0; n < N; n++) {
                        dot d = dot_of(a + m * K, 1, transpose ? b + n * K : b + n,
                                       transpose ? 1 : N, K);
                        double was = accumulate ? (double)old[m * N + n] : 0;
                        near_dot("c", c[m * N + n], was + d.sum,
                                 d.bound + ((double)K + 4) * REAL_EPS * fabs(was), m, n);
                    }
                aa_heap_free(a);
                aa_heap_free(b);
                aa_heap_free(old);
                aa_heap_free(c);
            }
        aa_cpu_free(cpu);
    }
}

/* Everything a linear map computes, for tokens begin..end, with a team. */
typedef struct results { aa_real *y, *dx, *dw, *db; } results;

static void compute(aa_cpu *cpu, fixture *f, results *r, size_t begin, size_t end) {
    aa_epilogue e = {
        .scale = AA_R(0.7), .residual = f->residual + begin * f->ldy, .ld_residual = f->ldy};
    size_t T = end - begin;
    aa_linear_forward(cpu, r->y + begin * f->ldy, f->ldy, f->x + begin * f->ldx, f->ldx, T, &f->lin,
                      &e);
    aa_linear_dx(cpu, r->dx + begin * f->ldx, f->ldx, f->dy + begin * f->ldy, f->ldy, T, &f->lin,
                 AA_R(0.7), false, NULL);
    aa_linear_dw(cpu, &f->lin, f->dy + begin * f->ldy, f->ldy, f->x + begin * f->ldx, f->ldx, T,
                 AA_R(0.7));
}

static results results_of(fixture *f, shape s) {
    results r = {zeros(s.T * f->ldy), zeros(s.T * f->ldx), f->weight[0].grad, f->bias[0].grad};
    memset(r.dw, 0, s.n_out * s.n_in * sizeof *r.dw);
    memset(r.db, 0, s.n_out * sizeof *r.db);
    return r;
}

static void check_same(shape s, aa_cpu *one, aa_cpu *many, size_t cut, bool packed) {
    bool one_set = aa_cpu_isa(one) == aa_cpu_isa(many);
    fixture f = fixture_of(s), g = fixture_of(s);
    attach(&f, true);
    attach(&g, true);
    if (packed) g.lin.packed = zeros(aa_linear_packed_size(many, &g.lin));
    results a = results_of(&f, s), b = results_of(&g, s);
    compute(one, &f, &a, 0, s.T);
    if (cut) compute(many, &g, &b, 0, cut);
    compute(many, &g, &b, cut, s.T);
    same_bits("y", b.y, a.y, s.T * f.ldy);
    same_bits("dx", b.dx, a.dx, s.T * f.ldx);
    same_bits("dw", b.dw, a.dw, s.n_out * s.n_in);
    if (one_set) same_bits("db", b.db, a.db, s.n_out);
    aa_heap_free(a.y);
    aa_heap_free(a.dx);
    aa_heap_free(b.y);
    aa_heap_free(b.dx);
    aa_heap_free(g.lin.packed);
    release(&f);
    release(&g);
}

static void test_same_bits(void **state) {
    (void)state;
    static const shape cases[] = {{37, 300, 512}, {130, 70, 520}, {29, 1100, 40}, {1, 64, 700}};
    static const int teams[] = {1, 2, 3, 5};
    EACH_ISA(isa) {
        aa_cpu *one = team(1, isa);
        for (int i = 0; i < 4; i++) {
            aa_cpu *many = team(teams[i], isa);
            for (int c = 0; c < 4; c++) {
                size_t T = cases[c].T;
                check_same(cases[c], one, many, 0, true);
                check_same(cases[c], one, many, T > 12 ? 12 : 0, false);
                check_same(cases[c], one, many, T - 1, true);
            }
            aa_cpu_free(many);
        }
        aa_cpu_free(one);
    }
}

/* With bfloat16 operands: every product of whole maps as the scalar model computes it, bit for bit,
 * for any threads and any split; and near the product of floats. */
static aa_cpu *bf16_team(int n_threads, aa_isa isa) {
    aa_cpu *cpu = team(n_threads, isa);
    aa_err err = {0};
    aa_status st = aa_cpu_set_compute(cpu, AA_COMPUTE_BF16, &err);
    if (!st) return cpu;
    assert_int_equal(st, AA_EUNSUPPORTED);
    aa_cpu_free(cpu);
    return NULL;
}

/* The scalar set, with the arithmetic of another one. */
static aa_cpu *bf16_model(aa_isa isa) {
    aa_cpu *cpu = bf16_team(1, AA_ISA_SCALAR);
    assert_non_null(cpu);
    if (isa == AA_ISA_AMX) {
        cpu->k.linear[AA_COMPUTE_BF16].tile = aa__bf16_tile_units;
        cpu->k.linear[AA_COMPUTE_BF16].shape.unit = AA_BF16_UNIT;
    }
    if (isa == AA_ISA_NEON) cpu->k.linear[AA_COMPUTE_BF16].tile = aa__bf16_tile_odd;
    return cpu;
}

static void check_against_floats(shape s, aa_cpu *cpu) {
    aa_cpu *floats = team(1, AA_ISA_AUTO);
    fixture f = fixture_of(s), g = fixture_of(s);
    attach(&f, true);
    attach(&g, true);
    results a = results_of(&f, s), b = results_of(&g, s);
    compute(floats, &f, &a, 0, s.T);
    compute(cpu, &g, &b, 0, s.T);
    /* Two roundings of 2^-9 each, at random over the terms. */
    double unit = 2 * 0x1p-9 * 6;
    near_real("y", b.y, a.y, s.T * f.ldy, 0, unit * sqrt((double)s.n_in));
    near_real("dx", b.dx, a.dx, s.T * f.ldx, 0, unit * sqrt((double)s.n_out));
    near_real("dw", b.dw, a.dw, s.n_out * s.n_in, 0, unit * sqrt((double)s.T));
    aa_heap_free(a.y);
    aa_heap_free(a.dx);
    aa_heap_free(b.y);
    aa_heap_free(b.dx);
    release(&f);
    release(&g);
    aa_cpu_free(floats);
}

static void test_bf16(void **state) {
    (void)state;
    static const shape cases[] = {{37, 300, 512}, {130, 70, 521}, {29, 1100, 41}, {1, 64, 700}};
    static const int teams[] = {1, 3};
    static const aa_isa sets[] = {AA_ISA_SCALAR, AA_ISA_AMX, AA_ISA_NEON};
    for (int i = 0; i < 3; i++) {
        aa_cpu *model = bf16_model(sets[i]);
        for (int c = 0; c < 4; c++) check_against_floats(cases[c], model);
        aa_cpu_free(model);
    }
    EACH_ISA(isa) {
        aa_cpu *model = bf16_model(isa);
        for (int i = 0; i < 2; i++) {
            aa_cpu *many = bf16_team(teams[i], isa);
            if (!many) {
                print_message("skipped: bfloat16 on %s, not in this set\n", aa_isa_name(isa));
                break;
            }
            size_t unit = many->k.linear[AA_COMPUTE_BF16].shape.unit;
            for (int c = 0; c < 4; c++) {
                size_t T = cases[c].T;
                check_same(cases[c], model, many, 0, true);
                check_same(cases[c], model, many, T > 12 * unit ? 12 * unit : 0, false);
                check_same(cases[c], model, many, (T - 1) / (2 * unit) * (2 * unit), true);
            }
            aa_cpu_free(many);
        }
        aa_cpu_free(model);
    }
}

/* The packed copy follows the versions of the parts. */
static void test_packed_follows(void **state) {
    (void)state;
    shape s = {3, 40, 24};
    aa_cpu *cpu = team(1, AA_ISA_AUTO);
    fixture f = fixture_of(s);
    attach(&f, false);
    aa_epilogue e = {.scale = 1};
    aa_real *y = zeros(s.T * f.ldy), *z = zeros(s.T * f.ldy);
    f.lin.packed = zeros(aa_linear_packed_size(cpu, &f.lin));
    aa_linear_forward(cpu, y, f.ldy, f.x, f.ldx, s.T, &f.lin, &e);
    f.weight[1].data[5] += 1;
    aa_linear_forward(cpu, z, f.ldy, f.x, f.ldx, s.T, &f.lin, &e);
    same_bits("before the version rises", z, y, s.T * f.ldy);
    f.weight[1].version++;
    aa_linear_forward(cpu, z, f.ldy, f.x, f.ldx, s.T, &f.lin, &e);
    assert_true(memcmp(y, z, s.T * f.ldy * sizeof *y) != 0);
    aa_heap_free(f.lin.packed);
    aa_heap_free(y);
    aa_heap_free(z);
    release(&f);
    aa_cpu_free(cpu);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_forward),
                                       cmocka_unit_test(test_backward), cmocka_unit_test(test_gemm),
                                       cmocka_unit_test(test_same_bits),
                                       cmocka_unit_test(test_bf16),
                                       cmocka_unit_test(test_packed_follows)};
    return cmocka_run_group_tests_name("kernels_gemm", tests, NULL, NULL);
}
