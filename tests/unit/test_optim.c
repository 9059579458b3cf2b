#include <math.h>
#include <stdlib.h>

#include "base/rng.h"
#include "optim/optim.h"
#include "support/check.h"

/* Three rows of one parameter each: a matrix, a norm, and a row that is not trained. */
typedef struct rig {
    aa_arena arena;
    aa_cpu *cpu;
    aa_optim optim;
    aa_tensor rows[3];
    aa_real data[3], grad[2];
} rig;

static const aa_optim_options adamw = {.kind = AA_OPTIM_ADAMW, .beta1 = 0.9, .beta2 = 0.95,
                                       .eps = 1e-8, .weight_decay = 0.1, .embed_factor = 1};
static const aa_optim_options sgd = {.kind = AA_OPTIM_SGD, .beta1 = 0.5, .weight_decay = 0.1};
static const aa_optim_options muon = {.kind = AA_OPTIM_MUON, .beta1 = 0.9, .beta2 = 0.95,
                                      .eps = 1e-8, .weight_decay = 0.1, .embed_factor = 1,
                                      .muon_factor = 10, .muon_momentum = 0.5, .muon_steps = 5};

static void open_rig(rig *r, const aa_optim_options *options) {
    aa_err err = {0};

    *r = (rig){.data = {0.5f, 0.5f, 0.5f}};
    r->rows[0] = (aa_tensor){.name = "matrix", .kind = AA_KIND_MATRIX, .rows = 1, .cols = 1};
    r->rows[1] = (aa_tensor){.name = "norm", .kind = AA_KIND_NORM, .rows = 1, .cols = 1};
    r->rows[2] = (aa_tensor){.name = "frozen", .kind = AA_KIND_MATRIX, .rows = 1, .cols = 1};
    for (int i = 0; i < 3; i++) r->rows[i].data = &r->data[i];
    for (int i = 0; i < 2; i++) r->rows[i].grad = &r->grad[i];
    check_ok(aa_cpu_new(&r->cpu, 1, AA_ISA_AUTO, &err));
    aa_arena_init(&r->arena, "optim");
    check_ok(aa_optim_init(&r->optim, options, r->rows, 3, &r->arena, &err));
}

static void close_rig(rig *r) {
    aa_arena_release(&r->arena);
    aa_cpu_free(r->cpu);
}

static aa_optim_result step(rig *r, double lr, double g0, double g1) {
    aa_optim_result result = {0};
    aa_err err = {0};

    r->grad[0] = (aa_real)g0, r->grad[1] = (aa_real)g1;
    check_ok(aa_optim_step(&r->optim, r->cpu, lr, &result, &err));
    return result;
}

static void check_close(double got, double want) {
    if (!(fabs(got - want) <= 1e-7 * fmax(1, fabs(want)))) fail_msg("%.9g, not %.9g", got, want);
}

/* w = .5, lr 1e-3, betas .9 and .95, decay .1, gradients .2 then -.1. Without decay the first step
 * of AdamW is lr * sign(g). */
static void adamw_two_steps(void **state) {
    rig r;

    (void)state;
    open_rig(&r, &adamw);
    step(&r, 1e-3, 0.2, 0.2);
    check_close((double)r.data[0], 0.49895000);
    check_close((double)r.data[1], 0.499);
    assert_true(r.grad[0] == 0 && r.grad[1] == 0);
    step(&r, 1e-3, -0.1, 0);
    check_close((double)r.data[0], 0.49863174);
    assert_true(r.data[2] == 0.5f);
    assert_int_equal(r.optim.t, 2);
    assert_int_equal(r.rows[0].version, 2);
    assert_int_equal(r.rows[2].version, 0);
    assert_string_equal(aa_optim_slot_name(&r.optim, 0, 0), "exp_avg");
    assert_string_equal(aa_optim_slot_name(&r.optim, 1, 2), "exp_avg_sq");
    close_rig(&r);
}

static void sgd_two_steps(void **state) {
    rig r;

    (void)state;
    open_rig(&r, &sgd);
    step(&r, 0.1, 0.2, 0.2);                          /* .5 - .1 (.2 + .1 * .5), .5 - .1 * .2 */
    check_close((double)r.data[0], 0.475);
    check_close((double)r.data[1], 0.48);
    step(&r, 0.1, -0.1, 0.4);                         /* momentum .5: 0 and .5 */
    check_close((double)r.data[0], 0.475 - 0.1 * 0.1 * 0.475);
    check_close((double)r.data[1], 0.43);
    assert_string_equal(aa_optim_slot_name(&r.optim, 0, 0), "momentum");
    close_rig(&r);
    aa_optim_options plain = sgd;
    plain.beta1 = 0;
    open_rig(&r, &plain);
    assert_null(aa_optim_slot_name(&r.optim, 0, 0));
    assert_null(r.optim.slot[0][0]);
    step(&r, 0.1, 0, 1), step(&r, 0.1, 0, 1);
    check_close((double)r.data[1], 0.3);
    close_rig(&r);
}

/* One parameter is its own direction: five steps take 1 to p, wherever the polynomial ends. The
 * matrix goes by the sign of momentum and gradient, the norm as under AdamW. */
static void muon_two_steps(void **state) {
    double p = 1;
    rig r;

    (void)state;
    for (int k = 0; k < 5; k++) p = 3.4445 * p - 4.7750 * p * p * p + 2.0315 * p * p * p * p * p;
    open_rig(&r, &muon);
    step(&r, 1e-3, 0.2, 0.2);
    check_close((double)r.data[0], 0.5 - 0.01 * (p + 0.1 * 0.5));
    check_close((double)r.data[1], 0.499);
    assert_true(r.grad[0] == 0 && r.grad[1] == 0);
    check_close((double)r.optim.slot[0][0][0], 0.2);
    double before = (double)r.data[0];
    step(&r, 1e-3, -0.3, 0);                          /* momentum -.2, direction -.3 - .1 */
    check_close((double)r.optim.slot[0][0][0], -0.2);
    check_close((double)r.data[0], before + 0.01 * (p - 0.1 * before));
    assert_string_equal(aa_optim_slot_name(&r.optim, 0, 0), "momentum");
    assert_null(aa_optim_slot_name(&r.optim, 1, 0));
    assert_null(r.optim.slot[1][0]);
    assert_string_equal(aa_optim_slot_name(&r.optim, 1, 1), "exp_avg_sq");
    assert_true(r.optim.flop == 2 * aa_orthogonal_flop(1, 1, 5));    /* two matrices */
    close_rig(&r);
}

/* A tall matrix: orthonormal columns, times sqrt(rows / cols). */
static void muon_of_a_tall_matrix(void **state) {
    aa_optim_options options = muon;
    aa_real data[8] = {0}, grad[8] = {3, 0, 0, 0.5f, 0, 0, 0, 0};
    aa_tensor row = {.name = "tall", .kind = AA_KIND_MATRIX, .rows = 4, .cols = 2, .data = data,
                     .grad = grad};
    aa_optim_result result;
    aa_arena arena;
    aa_optim optim;
    aa_cpu *cpu;
    aa_err err = {0};

    (void)state;
    options.muon_momentum = 0;
    check_ok(aa_cpu_new(&cpu, 1, AA_ISA_AUTO, &err));
    aa_arena_init(&arena, "optim");
    check_ok(aa_optim_init(&optim, &options, &row, 1, &arena, &err));
    check_ok(aa_optim_step(&optim, cpu, 1e-3, &result, &err));
    for (int i = 0; i < 8; i++) {
        double size = -(double)data[i] / (0.01 * sqrt(2));
        if (i == 0 || i == 3) assert_true(size > 0.6 && size < 1.3);
        else assert_true(fabs(size) < 1e-4);
    }
    aa_arena_release(&arena);
    aa_cpu_free(cpu);
}

static void the_embedding_has_its_own_rate(void **state) {
    const struct { const aa_optim_options *options; double step; } rows[] = {{&adamw, 1e-3},
                                                                             {&sgd, 2e-4}};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        aa_optim_options options = *rows[i].options;
        rig r;

        options.embed_factor = 3, options.weight_decay = 0;
        open_rig(&r, &options);
        r.rows[0].kind = AA_KIND_EMBEDDING;
        step(&r, 1e-3, 0.2, 0.2);
        check_close((double)r.data[0], 0.5 - 3 * rows[i].step);
        check_close((double)r.data[1], 0.5 - rows[i].step);
        close_rig(&r);
    }
}

static void clipping(void **state) {
    aa_optim_options options = sgd;
    rig r;

    (void)state;
    options.clip = 1, options.weight_decay = 0;
    open_rig(&r, &options);
    aa_optim_result result = step(&r, 0.1, 3, -4);
    check_close(result.grad_norm, 5);
    check_close(result.clip_factor, 0.2);
    check_close((double)r.data[0], 0.5 - 0.06);
    check_close((double)r.data[1], 0.5 + 0.08);
    result = step(&r, 0.1, 0.3, 0.4);
    check_close(result.clip_factor, 1);
    close_rig(&r);
}

static void check_diverged(double bad) {
    aa_optim_result result = {-1, -1};
    aa_err err = {0};
    rig r;

    open_rig(&r, &adamw);
    step(&r, 1e-3, 0.2, 0.2);
    const rig before = r;
    const aa_real moments[4] = {r.optim.slot[0][0][0], r.optim.slot[0][1][0], r.optim.slot[1][0][0],
                                r.optim.slot[1][1][0]};
    r.grad[0] = 1, r.grad[1] = (aa_real)bad;
    assert_int_equal(aa_optim_step(&r.optim, r.cpu, 1e-3, &result, &err), AA_EDIVERGED);
    assert_non_null(strstr(err.message, "norm"));
    assert_memory_equal(r.data, before.data, sizeof r.data);
    assert_int_equal(r.optim.t, 1);
    assert_int_equal(r.rows[0].version, before.rows[0].version);
    assert_true(result.grad_norm == -1 && r.grad[0] == 1);
    assert_true(moments[0] == r.optim.slot[0][0][0] && moments[1] == r.optim.slot[0][1][0] &&
                moments[2] == r.optim.slot[1][0][0] && moments[3] == r.optim.slot[1][1][0]);
    close_rig(&r);
}

static void a_gradient_that_is_not_finite_changes_nothing(void **state) {
    (void)state;
    check_diverged(NAN);
    check_diverged(INFINITY);
    check_diverged(-INFINITY);
}

static void the_plan_measures_the_state(void **state) {
    const aa_optim_options *all[] = {&adamw, &sgd, &muon};
    aa_arena arena;
    aa_optim optim;
    aa_err err = {0};
    rig r;

    (void)state;
    for (int i = 0; i < 3; i++) {
        open_rig(&r, all[i]);
        aa_arena_init_measure(&arena, "plan");
        check_ok(aa_optim_init(&optim, all[i], r.rows, 3, &arena, &err));
        assert_int_equal(arena.used_bytes, r.arena.used_bytes);
        assert_int_equal(optim.size_bytes, arena.used_bytes);
        assert_true(optim.flop == r.optim.flop);
        close_rig(&r);
    }
}

/* ---- schedules ------------------------------------------------------------------------------- */

/* Micro-steps of the original's schedule as fractions: warm-up 100 of 10000 at 3e-4. */
static void warm_up(void **state) {
    const aa_schedule s = {AA_SCHEDULE_COSINE, 3e-4, 3e-5, 0.01, 0};

    (void)state;
    check_close(aa_schedule_lr(&s, 1 / 10000.0) * 1e4, 3e-2);
    check_close(aa_schedule_lr(&s, 10 / 10000.0) * 1e4, 3e-1);
    check_close(aa_schedule_lr(&s, 100 / 10000.0) * 1e4, 3);
    check_close(aa_schedule_lr(&s, 0) * 1e4, 3e-2);
}

static void cosine(void **state) {
    const aa_schedule s = {AA_SCHEDULE_COSINE, 3e-4, 3e-5, 0.01, 0},
                      z = {AA_SCHEDULE_COSINE, 1e-4, 1e-5, 0, 0};

    (void)state;
    assert_true(fabs(aa_schedule_lr(&s, 0.4299) - 1.96869e-4) < 1e-9);
    assert_true(fabs(aa_schedule_lr(&z, 0.1) - 9.77975e-5) < 1e-10);
    assert_true(fabs(aa_schedule_lr(&z, 0.5) - 5.5e-5) < 1e-10);
    assert_true(fabs(aa_schedule_lr(&z, 0.9) - 1.22025e-5) < 1e-10);
    assert_true(fabs(aa_schedule_lr(&z, 7) - 1e-5) < 1e-15);
    assert_true(fabs(aa_schedule_lr(&z, -7) - 1e-4) < 1e-15);
}

static void warm_up_stable_decay(void **state) {
    const aa_schedule s = {AA_SCHEDULE_WSD, 1, 0.1, 0.05, 0.4};
    const aa_schedule flat = {AA_SCHEDULE_WSD, 1, 0.1, 0, 0}, all = {AA_SCHEDULE_WSD, 1, 0, 0, 1};

    (void)state;
    check_close(aa_schedule_lr(&s, 0.025), 0.5);
    check_close(aa_schedule_lr(&s, 0.05), 1);
    check_close(aa_schedule_lr(&s, 0.6), 1);
    check_close(aa_schedule_lr(&s, 0.8), 0.55);
    check_close(aa_schedule_lr(&s, 1), 0.1);
    check_close(aa_schedule_lr(&flat, 1), 1);
    check_close(aa_schedule_lr(&all, 0.25), 0.75);
}

static void constant(void **state) {
    const aa_schedule s = {AA_SCHEDULE_CONSTANT, 1, 0.1, 0.5, 0.5},
                      w = {AA_SCHEDULE_CONSTANT, 1, 0, 1, 0};

    (void)state;
    check_close(aa_schedule_lr(&s, 0.25), 0.5);
    check_close(aa_schedule_lr(&s, 0.9), 1);
    check_close(aa_schedule_lr(&w, 1), 1);
}

/* Three updates of a matrix of 3 x 5, beside the same in double: the random row, its Adam, the
 * scale and the limit on how fast steps grow. */
static void apollo_mini(void **state) {
    enum { ROWS = 3, COLS = 5, N = ROWS * COLS, UPDATES = 3 };
    const aa_optim_options how = {.kind = AA_OPTIM_APOLLO_MINI, .beta1 = 0.9, .beta2 = 0.95,
                                  .eps = 1e-8, .weight_decay = 0.1, .seed = 5};
    const double lr = 1e-3;
    double want[N], m[COLS] = {0}, v[COLS] = {0}, last = 0;
    aa_real data[N], grad[N];
    aa_tensor row = {.name = "matrix", .kind = AA_KIND_MATRIX, .rows = ROWS, .cols = COLS,
                     .data = data, .grad = grad};
    aa_arena arena;
    aa_optim o;
    aa_cpu *cpu;
    aa_err err = {0};
    aa_rng rng;
    bool limited = false;

    (void)state;
    check_ok(aa_cpu_new(&cpu, 1, AA_ISA_AUTO, &err));
    aa_arena_init(&arena, "optim");
    check_ok(aa_optim_init(&o, &how, &row, 1, &arena, &err));
    assert_int_equal(aa_optim_slot_size(&o, 0, 0), COLS + 1);
    for (int i = 0; i < N; i++) want[i] = (double)(data[i] = (aa_real)(0.1 * i - 0.7));
    for (int t = 1; t <= UPDATES; t++) {
        double r[COLS] = {0}, adam = 0, plain = 0, squares = 0;
        aa_optim_result result;

        aa_rng_init(&rng, 5, AA_RNG_APOLLO, 0);
        for (int i = 0; i < ROWS; i++) {
            double sign = aa_rng_below(&rng, 2) ? 1 : -1;
            for (int j = 0, at = i * COLS; j < COLS; j++, at++) {
                /* The first gradient lies along the random column: its row is as long as can be. */
                double g = t == 1 ? 0.01 * sign * (j + 1) : (at * 7 + t * 5) % 11 - 4;
                grad[at] = (aa_real)(0.05 * g);
                r[j] += sign * (double)grad[at];
            }
        }
        for (int j = 0; j < COLS; j++) {
            m[j] = 0.9 * m[j] + 0.1 * r[j];
            v[j] = 0.95 * v[j] + 0.05 * r[j] * r[j];
            double u = m[j] / (1 - pow(0.9, t)) / (sqrt(v[j] / (1 - pow(0.95, t))) + 1e-8);
            adam += u * u;
            plain += r[j] * r[j];
        }
        for (int i = 0; i < N; i++) squares += (double)grad[i] * (double)grad[i];
        double scale = sqrt(128 * adam / plain), length = scale * sqrt(squares);
        if (last > 0 && length > 1.01 * last) {
            limited = true;
            scale *= 1.01 * last / length;
            length = 1.01 * last;
        }
        last = length;
        for (int i = 0; i < N; i++)
            want[i] -= lr * (scale * (double)grad[i] + 0.1 * want[i]);
        check_ok(aa_optim_step(&o, cpu, lr, &result, &err));
        for (int i = 0; i < N; i++) {
            if (fabs((double)data[i] - want[i]) > 1e-6)
                fail_msg("update %d, element %d: %g, not %g", t, i, (double)data[i], want[i]);
            assert_true(grad[i] == 0);
        }
    }
    assert_true(limited);
    aa_arena_release(&arena);
    aa_cpu_free(cpu);
}

/* One block's moments at a time, which are new and of age 1 when it begins. */
static void badam_takes_turns(void **state) {
    const aa_optim_options how = {.kind = AA_OPTIM_BADAM, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8,
                                  .embed_factor = 1, .seed = 3, .block_updates = 2};
    aa_real data[3] = {1, 1, 1}, grad[3] = {0};
    aa_tensor rows[3];
    int turns[3] = {0};
    aa_arena arena;
    aa_optim o;
    aa_cpu *cpu;
    aa_err err = {0};

    (void)state;
    for (int i = 0; i < 3; i++)
        rows[i] = (aa_tensor){.name = "row", .kind = AA_KIND_MATRIX, .layer = i < 2 ? i : -1,
                              .rows = 1, .cols = 1, .data = &data[i]};
    check_ok(aa_cpu_new(&cpu, 1, AA_ISA_AUTO, &err));
    aa_arena_init(&arena, "optim");
    check_ok(aa_optim_init(&o, &how, rows, 3, &arena, &err));
    for (int t = 0; t < 12; t++) {
        aa_optim_result result;
        int block = aa_optim_begin(&o);

        assert_true(block >= 0 && block < 3);
        for (int i = 0; i < 3; i++) rows[i].grad = i == block ? &grad[i] : NULL;
        aa_real before = data[block];
        grad[block] = 2;
        turns[block]++;
        check_ok(aa_optim_step(&o, cpu, 0.01, &result, &err));
        check_close((double)(before - data[block]), 0.01);   /* Adam of a constant gradient */
        for (int i = 0; i < 3; i++)
            assert_int_equal(aa_optim_slot_name(&o, 0, (size_t)i) != NULL, i == block);
    }
    for (int i = 0; i < 3; i++) assert_int_equal(turns[i], 4);
    aa_arena_release(&arena);
    aa_cpu_free(cpu);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(adamw_two_steps),
        cmocka_unit_test(sgd_two_steps),
        cmocka_unit_test(muon_two_steps),
        cmocka_unit_test(muon_of_a_tall_matrix),
        cmocka_unit_test(apollo_mini),
        cmocka_unit_test(badam_takes_turns),
        cmocka_unit_test(the_embedding_has_its_own_rate),
        cmocka_unit_test(clipping),
        cmocka_unit_test(a_gradient_that_is_not_finite_changes_nothing),
        cmocka_unit_test(the_plan_measures_the_state),
        cmocka_unit_test(warm_up),
        cmocka_unit_test(cosine),
        cmocka_unit_test(warm_up_stable_decay),
        cmocka_unit_test(constant),
    };

    return cmocka_run_group_tests_name("unit_optim", tests, NULL, NULL);
}
