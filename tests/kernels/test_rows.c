/* Row and array operations through the door: small values worked out by hand or in double precision
 * elsewhere, splits, masks, NaN. */
#include "num/lowrank.h"
#include "real.h"

/* Printed to 7 digits. */
#define GOLDEN 2e-6

static void test_norm_golden(void **state) {
    (void)state;
    const aa_real x[4] = {1, 2, 3, 4}, w[4] = {1, AA_R(0.5), 2, 1},
                  dy[4] = {AA_R(0.1), AA_R(-0.2), AA_R(0.3), AA_R(0.4)};
    const aa_real want_y[4] = {AA_R(.365148), AA_R(.365148), AA_R(2.190889), AA_R(1.460593)};
    const aa_real want_dx[4] = {AA_R(-.00365143), AA_R(-.11684729), AA_R(.09859016),
                                AA_R(-.01460571)};
    const aa_real want_dw[4] = {AA_R(.0365148), AA_R(-.1460593), AA_R(.3286333), AA_R(.5842370)};
    aa_rows rows = {1, 1, 4, 4};
    EACH_ISA(isa) {
        aa_cpu *cpu = team(1, isa);
        aa_real y[4], rstd, dx[4], dw[4] = {0};
        aa_rmsnorm_forward(cpu, y, 4, &rstd, x, w, rows, AA_R(1e-5));
        aa_rmsnorm_backward(cpu, dx, dw, dy, 4, x, w, &rstd, rows, false);
        near_real("y", y, want_y, 4, GOLDEN, 1e-6);
        near_real("dx", dx, want_dx, 4, GOLDEN, 1e-7);
        near_real("dw", dw, want_dw, 4, GOLDEN, 1e-7);
        aa_cpu_free(cpu);
    }
}

/* (1,2,3,4) at position 3, theta 1e4;
 * the pairs of the source are neighbours, ours are halves apart. */
static void test_rope_golden(void **state) {
    (void)state;
    const int32_t pos = 3;
    aa_real table[16] = {0};
    for (int p = 0; p < 4; p++)
        for (int i = 0; i < 2; i++) {
            double angle = p * pow(1e4, -i / 2.0);
            table[p * 4 + i] = AA_R(cos(angle));
            table[p * 4 + 2 + i] = AA_R(sin(angle));
        }
    const aa_real start[4] = {1, 3, 2, 4},
                  want[4] = {AA_R(-1.272233), AA_R(2.878668), AA_R(-1.838865), AA_R(4.088187)};
    EACH_ISA(isa) {
        aa_cpu *cpu = team(1, isa);
        aa_real x[4];
        memcpy(x, start, sizeof x);
        aa_rope(cpu, x, 4, 1, 1, 4, table, &pos, false);
        near_real("rotated", x, want, 4, GOLDEN, 0);
        aa_rope(cpu, x, 4, 1, 1, 4, table, &pos, true);
        near_real("back", x, start, 4, 8 * REAL_EPS, 0);
        aa_cpu_free(cpu);
    }
}

static void test_swiglu_golden(void **state) {
    (void)state;
    const aa_real gu[2] = {AA_R(.7), AA_R(-1.3)}, dy = AA_R(.5), want = AA_R(-.6080509);
    const aa_real want_d[2] = {AA_R(-.5352014), AA_R(.2338657)};
    EACH_ISA(isa) {
        aa_cpu *cpu = team(1, isa);
        aa_real y, d[2];
        aa_swiglu_forward(cpu, &y, gu, 1, 1);
        aa_swiglu_backward(cpu, d, &dy, gu, 1, 1);
        near_real("y", &y, &want, 1, GOLDEN, 0);
        near_real("dgu", d, want_d, 2, GOLDEN, 0);
        aa_cpu_free(cpu);
    }
}

static void test_cross_entropy_golden(void **state) {
    (void)state;
    const aa_real start[9] = {1, 2, 3, 1, 2, 3, 1, 2, 3}, want = AA_R(2.4076060);
    const aa_real want_d[9] = {AA_R(-.9099694), AA_R(.2447285), AA_R(.6652410), 0, 0, 0, 1, 2, 3};
    const int32_t target[2] = {0, -1};
    EACH_ISA(isa) {
        aa_cpu *cpu = team(2, isa);
        aa_real x[9], loss[2] = {9, 9};
        memcpy(x, start, sizeof x);
        aa_cross_entropy(cpu, loss, x, 3, target, 2, 3, 0);
        same_bits("logits without a gradient", x, start, 9);
        near_real("loss", loss, &want, 1, GOLDEN, 0);
        assert_true(loss[1] == 0);
        aa_cross_entropy(cpu, loss, x, 3, target, 2, 3, 1);
        near_real("gradient", x, want_d, 9, GOLDEN, 0);
        aa_cpu_free(cpu);
    }
}

static void test_adamw_golden(void **state) {
    (void)state;
    EACH_ISA(isa) {
        aa_cpu *cpu = team(1, isa);
        aa_real w = AA_R(.5), m = 0, v = 0, g = AA_R(.2);
        const aa_real want[2] = {AA_R(.49895000), AA_R(.49863174)};
        aa_adamw h = {.lr = AA_R(1e-3),
                      .beta1 = AA_R(.9),
                      .beta2 = AA_R(.95),
                      .eps = AA_R(1e-8),
                      .decay = AA_R(.1),
                      .c1 = AA_R(.1),
                      .c2 = AA_R(.05),
                      .grad_scale = 1};
        aa_adamw_update(cpu, &w, &g, &m, &v, 1, &h);
        near_real("w after 1", &w, &want[0], 1, 3e-7, 0);
        assert_true(g == 0);
        g = AA_R(-.2);
        h.grad_scale = AA_R(.5);
        h.c1 = AA_R(1 - .81);
        h.c2 = AA_R(1 - .9025);
        aa_adamw_update(cpu, &w, &g, &m, &v, 1, &h);
        near_real("w after 2", &w, &want[1], 1, 3e-7, 0);
        aa_cpu_free(cpu);
    }
}

static void test_sgd_golden(void **state) {
    (void)state;
    EACH_ISA(isa) {
        aa_cpu *cpu = team(1, isa);
        aa_real w[2] = {1, 1}, mom[2] = {2, 2}, g[2] = {4, 4};
        const aa_real want[2] = {AA_R(1 - .1 * (1 + 2 + .5)), AA_R(1 - .1 * (2 + .5))};
        aa_sgd_update(cpu, w, g, mom, 1, AA_R(.1), AA_R(.5), AA_R(.5), AA_R(.5));
        aa_sgd_update(cpu, w + 1, g + 1, NULL, 1, AA_R(.1), AA_R(.5), AA_R(.5), AA_R(.5));
        near_real("w", w, want, 2, 4 * REAL_EPS, 0);
        assert_true(mom[0] == 3 && g[0] == 0 && g[1] == 0);
        aa_cpu_free(cpu);
    }
}

/* NaN and infinity reach the numbers that decide whether a run goes on. */
static void test_not_finite(void **state) {
    (void)state;
    enum { N = 40000, V = 77 };
    EACH_ISA(isa) {
        aa_cpu *cpu = team(2, isa);
        aa_real *x = numbers(N, 1);
        assert_true(isfinite(aa_sum_squares(cpu, x, N)));
        for (size_t i = 0; i < N; i += 3333) {
            aa_real old = x[i];
            x[i] = NAN;
            assert_true(isnan(aa_sum_squares(cpu, x, N)));
            x[i] = -INFINITY;
            assert_true(isinf(aa_sum_squares(cpu, x, N)));
            x[i] = old;
        }
        for (size_t i = 0; i < V; i++)
            for (int gradient = 0; gradient < 2; gradient++) {
                aa_real *row = numbers(V, 2), loss;
                int32_t target = V / 2;
                row[i] = NAN;
                aa_cross_entropy(cpu, &loss, row, V, &target, 1, V, AA_R(gradient));
                assert_true(isnan((double)loss));
                aa_heap_free(row);
            }
        aa_heap_free(x);
        aa_cpu_free(cpu);
    }
}

/* Everything else, in one go on one thread and in two parts on several: the same bits. */
typedef struct state {
    aa_real *norm, *rstd, *dx, *dw, *rope, *glu, *dglu, *emb, *demb, *loss, *logits, *w, *g, *m, *v,
        *low;
    double squares;
} everything;
enum { T = 37, HEADS = 3, C = 20, WIDTH = HEADS * C, V = 301, R = 5, N = 70001 };

static everything start(void) {
    everything s = {zeros(T * WIDTH),
                    zeros(T * HEADS),
                    numbers(T * WIDTH, 2),
                    numbers(C, 3),
                    numbers(T * WIDTH, 4),
                    zeros(T * C),
                    zeros(T * 2 * C),
                    zeros(T * C),
                    numbers(V * C, 5),
                    zeros(T),
                    numbers(T * V, 6),
                    numbers(N, 7),
                    numbers(N, 8),
                    numbers(N, 9),
                    numbers(N, 10),
                    numbers(T * V, 11),
                    0};
    for (size_t i = 0; i < N; i++) s.v[i] = AA_R(fabs((double)s.v[i]));
    return s;
}

static void tokens(aa_cpu *cpu, everything *s, size_t a, size_t b) {
    aa_real *x = numbers(T * WIDTH, 20), *dy = numbers(T * WIDTH, 21), *w = numbers(C, 22),
            *table = numbers(T * C, 23);
    aa_real *gu = numbers(T * 2 * C, 24), *vocab = numbers(V * C, 25), *p = numbers(T * R, 26),
            *lora = numbers(V * R, 27);
    int32_t ids[T], pos[T];
    for (int i = 0; i < T; i++) {
        ids[i] = i % 7 * 40;
        pos[i] = T - 1 - i;
    }
    size_t n = b - a;
    aa_rows rows = {n, HEADS, C, WIDTH};
    aa_lowrank low = {.n_out = V,
                      .rank = R,
                      .b = lora,
                      .scale = AA_R(0.5)};
    aa_lowrank_stream stream = {.n_rows = n, .amplitude = AA_R(0.1), .z = {.seed = 7, .stream = 3}};
    aa_rmsnorm_forward(cpu, s->norm + a * WIDTH, WIDTH, s->rstd + a * HEADS, x + a * WIDTH, w, rows,
                       AA_R(1e-5));
    aa_rmsnorm_backward(cpu, s->dx + a * WIDTH, s->dw, dy + a * WIDTH, WIDTH, x + a * WIDTH, w,
                        s->rstd + a * HEADS, rows, true);
    aa_rope(cpu, s->rope + a * WIDTH, WIDTH, n, HEADS, C, table, pos + a, true);
    aa_swiglu_forward(cpu, s->glu + a * C, gu + a * 2 * C, n, C);
    aa_swiglu_backward(cpu, s->dglu + a * 2 * C, dy + a * C, gu + a * 2 * C, n, C);
    aa_embedding_forward(cpu, s->emb + a * C, vocab, ids + a, n, C);
    aa_embedding_backward(cpu, s->demb, dy + a * C, ids + a, n, C);
    aa_cross_entropy(cpu, s->loss + a, s->logits + a * V, V, ids + a, n, V, AA_R(0.5));
    aa_lowrank_streams(cpu, s->low + a * V, V, p + a * R, R, &low, &stream, 1);
    aa_real *all[] = {x, dy, w, table, gu, vocab, p, lora};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) aa_heap_free(all[i]);
}

static void arrays(aa_cpu *cpu, everything *s) {
    aa_adamw h = {.lr = AA_R(1e-3),
                  .beta1 = AA_R(.9),
                  .beta2 = AA_R(.95),
                  .eps = AA_R(1e-8),
                  .decay = AA_R(.1),
                  .c1 = AA_R(.1),
                  .c2 = AA_R(.05),
                  .grad_scale = AA_R(.5)};
    aa_adamw_update(cpu, s->w, s->g, s->m, s->v, N, &h);
    aa_axpy(cpu, s->g, AA_R(0.3), s->w, N);
    aa_scale(cpu, s->g, AA_R(0.7), N);
    s->squares = aa_sum_squares(cpu, s->g, N);
    aa_sgd_update(cpu, s->w, s->g, s->m, N, AA_R(.1), AA_R(.9), AA_R(.1), 1);
    aa_zero(cpu, s->m + 100, N - 200);
}

static void finish(everything *s) {
    aa_real *all[] = {s->norm, s->rstd, s->dx,     s->dw, s->rope, s->glu, s->dglu, s->emb,
                      s->demb, s->loss, s->logits, s->w,  s->g,    s->m,   s->v,    s->low};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) aa_heap_free(all[i]);
}

static void test_same_bits(void **unused) {
    (void)unused;
    static const struct { int threads; size_t cut; } cases[] = {{1, 12}, {2, 0}, {3, 25}, {5, 1}};
    EACH_ISA(isa) {
        aa_cpu *one = team(1, isa);
        everything want = start();
        tokens(one, &want, 0, T);
        arrays(one, &want);
        for (int i = 0; i < 4; i++) {
            aa_cpu *many = team(cases[i].threads, isa);
            everything got = start();
            if (cases[i].cut) tokens(many, &got, 0, cases[i].cut);
            tokens(many, &got, cases[i].cut, T);
            arrays(many, &got);
            same_bits("norm", got.norm, want.norm, T * WIDTH);
            same_bits("rstd", got.rstd, want.rstd, T * HEADS);
            same_bits("norm dx", got.dx, want.dx, T * WIDTH);
            same_bits("norm dw", got.dw, want.dw, C);
            same_bits("rope", got.rope, want.rope, T * WIDTH);
            same_bits("swiglu", got.glu, want.glu, T * C);
            same_bits("dgu", got.dglu, want.dglu, T * 2 * C);
            same_bits("embedding", got.emb, want.emb, T * C);
            same_bits("dembedding", got.demb, want.demb, V * C);
            same_bits("loss", got.loss, want.loss, T);
            same_bits("dlogits", got.logits, want.logits, T * V);
            same_bits("low rank", got.low, want.low, T * V);
            same_bits("w", got.w, want.w, N);
            same_bits("g", got.g, want.g, N);
            same_bits("m", got.m, want.m, N);
            same_bits("v", got.v, want.v, N);
            assert_true(got.squares == want.squares);
            finish(&got);
            aa_cpu_free(many);
        }
        finish(&want);
        aa_cpu_free(one);
    }
}

/* dx in the memory of dy. */
static void test_norm_in_place(void **state) {
    (void)state;
    EACH_ISA(isa) {
        aa_cpu *cpu = team(2, isa);
        aa_real *x = numbers(T * WIDTH, 1), *dy = numbers(T * WIDTH, 2), *w = numbers(C, 3),
                *y = zeros(T * WIDTH), *rstd = zeros(T * HEADS);
        aa_real *dx = zeros(T * WIDTH), dw[2][C] = {{0}};
        aa_rows rows = {T, HEADS, C, WIDTH};
        aa_rmsnorm_forward(cpu, y, WIDTH, rstd, x, w, rows, AA_R(1e-5));
        aa_rmsnorm_backward(cpu, dx, dw[0], dy, WIDTH, x, w, rstd, rows, false);
        aa_rmsnorm_backward(cpu, dy, dw[1], dy, WIDTH, x, w, rstd, rows, false);
        same_bits("dx", dy, dx, T * WIDTH);
        same_bits("dw", dw[1], dw[0], C);
        aa_rmsnorm_forward(cpu, x, WIDTH, NULL, x, w, rows, AA_R(1e-5));
        same_bits("y over x", x, y, T * WIDTH);
        aa_real *all[] = {x, dy, w, y, rstd, dx};
        for (size_t i = 0; i < 6; i++) aa_heap_free(all[i]);
        aa_cpu_free(cpu);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_norm_golden),   cmocka_unit_test(test_rope_golden),
        cmocka_unit_test(test_swiglu_golden), cmocka_unit_test(test_cross_entropy_golden),
        cmocka_unit_test(test_adamw_golden),  cmocka_unit_test(test_sgd_golden),
        cmocka_unit_test(test_not_finite),    cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_norm_in_place)};
    return cmocka_run_group_tests_name("kernels_rows", tests, NULL, NULL);
}
