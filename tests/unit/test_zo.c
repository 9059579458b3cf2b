/* Zeroth order: methods and refusals, scalars (T8, T11), bases. */
#include <math.h>
#include "support/check.h"
#include "support/zonet.h"
#include "zo/zo_int.h"

static const char *const names[] = {
    "auto",   "mezo", "mezo-full", "mezo-lora-split", "lora-fa",   "fzoo",  "mobizo",
    "grzo",   "agzo", "zo-act",    "qzo",             "lozo",      "subzero+", "zo-muon",
    "elasticzo", "addax", "hizoo", "sparse-mezo",     "p-gap"};
enum { N_NAMES = sizeof names / sizeof *names };

static const char *extra_of(const char *name) {
    return !strcmp(name, "elasticzo") ? "hybrid-layer=1"
           : !strcmp(name, "p-gap")   ? "horizon=100"
                                      : "";
}

static void each_method_is_a_row(void **state) {
    (void)state;
    for (size_t i = 0; i < N_NAMES; i++) {
        aa_zo_config c;
        aa_err err = {0};
        check_ok(aa_zo_configure(&c, names[i], extra_of(names[i]), &err));
        assert_int_equal(c.method, i);
        assert_string_equal(aa__zo_method_name(&c), names[i]);
    }
    aa_zo_config c;
    aa_err err = {0};
    check_ok(aa_zo_configure(&c, "mezo", "eps=0.5 streams=3", &err));
    assert_true(c.eps == 0.5 && c.streams == 3 && c.lr == 1e-4 && c.rho == 0);
    check_ok(aa_zo_configure(&c, "auto", "", &err));
    assert_true(c.streams == 16 && c.space == AA_ZO_B && c.basis == AA_ZO_ACTIVATION &&
                c.estimator == AA_ZO_LOO && c.combiner == AA_ZO_EMA && c.clip == 3 &&
                c.rho == 2e-4 && c.law == AA_LAW_SIGNS);
}

static void unsound_settings_are_refused(void **state) {
    static const struct { const char *name, *settings, *reason; } rows[] = {
        {"auto", "data=own", "would mix the noise of data"},
        {"auto", "streams=1", "zo-streams must be 2 or more"},
        {"auto", "estimator=base data=own", "one base loss per group"},
        {"auto", "update=adam", "noise below 30 directions"},
        {"fzoo", "streams=3", "fewer than 4 scalars"},
        {"auto", "combiner=raw", "zo-rho counts in standard deviations"},
        {"auto", "combiner=ema-std streams=1 estimator=two-sided", "no standard deviation"},
        {"hizoo", "law=signs", "squares of signs are 1"},
        {"hizoo", "estimator=two-sided", "use both or none"},
        {"sparse-mezo", "space=adapter", "a mask by magnitude is for whole matrices"},
        {"zo-muon", "space=b", "zo-update muon is for zo-space a"},
        {"elasticzo", "", "give zo-hybrid-layer"},
        {"p-gap", "", "give zo-horizon"},
        {"p-gap", "horizon=5 law=signs", "keeps normals normal but not signs"},
        {"mezo", "refresh=5", "takes new bases, and there are none"},
        {"mezo", "basis=random", "factors that stand still"},
        {"auto", "pool=8", "smaller than the number of directions"},
        {"zo-act", "pool=100", "momentum and Adam are not made of"},
        {"auto", "lr=0 rho=0", "neither zo-rho nor zo-lr"},
        {"auto", "streams=4096 groups=4096", "more than 65535 directions"},
        {"auto", "nonsense=1", "zo-nonsense"},
        {"auto", "eps=-1", "zo-eps '-1' is not"},
        {"auto", "eps", "no key=value"},
        {"nonsense", "", "zo-method 'nonsense' is not"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        aa_zo_config c = {.method = 77};
        aa_err err = {0};
        assert_int_equal(aa_zo_configure(&c, rows[i].name, rows[i].settings, &err), AA_EUSAGE);
        if (!strstr(err.message, rows[i].reason))
            fail_msg("%s %s: '%s'", rows[i].name, rows[i].settings, err.message);
        assert_int_equal(c.method, 77);
    }
}

/* What an objective cannot give is refused when the engine is opened. */
static void objectives_are_asked(void **state) {
    zonet n;
    (void)state;
    zonet_open(&n, 1, AA_ISA_AUTO, false);
    static const struct { const char *name, *settings, *reason; } rows[] = {
        {"subzero+", "first-layer=9", "there are none to move"},
        {"zo-muon", "streams=1", "level the noise of rank 2"},
        {"auto", "", "gives no bases"},
        {"addax", "", "needs backpropagation"},
    };
    n.objective.basis = NULL, n.objective.gradient = NULL;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        aa_zo_config c;
        aa_zo *z = NULL;
        aa_err err = {0};
        check_ok(aa_zo_configure(&c, rows[i].name, rows[i].settings, &err));
        aa_status st = aa_zo_open(&z, &c, &n.objective, n.cpu, &err);
        if (!st || !strstr(err.message, rows[i].reason))
            fail_msg("%s: '%s'", rows[i].name, err.message);
    }
    aa_real *w = n.tensors[0].data;
    aa_zo_config c;
    aa_zo *z = NULL;
    aa_err err = {0};
    n.tensors[0].data = NULL;             /* as if only a file held it */
    check_ok(aa_zo_configure(&c, "lozo", "", &err));
    assert_int_equal(aa_zo_open(&z, &c, &n.objective, n.cpu, &err), AA_EUNSUPPORTED);
    assert_non_null(strstr(err.message, "which must be there as floats"));
    err = (aa_err){0};
    check_ok(aa_zo_configure(&c, "mezo-full", "", &err));
    assert_int_equal(aa_zo_open(&z, &c, &n.objective, n.cpu, &err), AA_EUNSUPPORTED);
    assert_non_null(strstr(err.message, "1.whole, which only the model's file holds"));
    err = (aa_err){0};
    n.tensors[0].data = w;
    n.rows[3].id = AA_DIRECTION_MOST_TENSORS;
    assert_int_equal(aa_zo_open(&z, &c, &n.objective, n.cpu, &err), AA_EUNSUPPORTED);
    zonet_close(&n);
}

/* ---- T8 -------------------------------------------------------------------------------------- */

/* A quadratic with diagonal H and signs: f(+eps z) - f0 = eps g.z + eps^2/2 tr H exactly, so the
 * base scalars are off by eps/2 tr H, all alike, and the leave-one-out scalars are not. */
static void T8_one_sided_offset(void **state) {
    enum { D = 40, S = 8 };
    double h[D], g[D], losses[S + 1] = {0}, gz[S], trace = 0, mean = 0;
    float base[S], loo[S];
    aa_zo_config c = {.streams = S, .eps = 0.25, .estimator = AA_ZO_BASE};
    aa_cpu *cpu = NULL;
    aa_err err = {0};
    (void)state;
    check_ok(aa_cpu_new(&cpu, 1, AA_ISA_AUTO, &err));
    for (int i = 0; i < D; i++) h[i] = (i % 7 + 1) / 8.0, g[i] = (i % 5 - 2) / 4.0, trace += h[i];
    for (uint32_t s = 0; s < S; s++) {
        aa_direction z = {.seed = 1, .stream = s};
        float d[D];
        aa_direction_add(cpu, d, NULL, 0, 1, &z, 0, D);
        gz[s] = 0;
        for (int i = 0; i < D; i++) {
            gz[s] += g[i] * (double)d[i];
            losses[s + 1] += c.eps * g[i] * (double)d[i] + c.eps * c.eps * h[i] / 2;
        }
        mean += gz[s] / S;
    }
    aa__zo_differences(&c, losses, base, NULL);
    c.estimator = AA_ZO_LOO;
    aa__zo_differences(&c, losses + 1, loo, NULL);
    for (int s = 0; s < S; s++) {
        assert_true((double)base[s] == gz[s] + c.eps / 2 * trace); /* dyadic: no rounding */
        double want = (gz[s] - mean) * S / (S - 1);
        if (fabs((double)loo[s] - want) > 1e-6 * (1 + fabs(want)))
            fail_msg("stream %d: %.9g, want %.9g", s, (double)loo[s], want);
    }
    aa_cpu_free(cpu);
}

static void two_sided_and_curvature(void **state) {
    const double losses[] = {1, 1.5, 0.75, 0.5, 2};        /* base, +, -, +, - */
    float c[2], h[2];
    const aa_zo_config curved = {.streams = 2, .eps = 0.5, .estimator = AA_ZO_CURVED},
                       two = {.streams = 2, .eps = 0.5, .estimator = AA_ZO_TWO_SIDED};
    (void)state;
    assert_true(aa__zo_differences(&curved, losses, c, h) == 1);
    assert_true(c[0] == 0.75f && c[1] == -1.5f && h[0] == 0.5f && h[1] == 1.f);
    assert_true(aa__zo_differences(&two, losses + 1, c, NULL) == (1.5 + 0.75 + 0.5 + 2) / 4);
    assert_true(c[0] == 0.75f && c[1] == -1.5f);
}

/* ---- T11 ------------------------------------------------------------------------------------- */

static void coefficients(const aa_zo_config *c, double factor, double offset, float *out) {
    double losses[17];
    float raw[17];
    const unsigned char here = 1;
    for (int i = 0; i < 17; i++) losses[i] = factor * (2 + 0.01 * sin(3 * i + 1)) + offset;
    raw[c->streams] = (float)aa__zo_differences(c, losses, raw, NULL);
    aa__zo_coefficients(c, raw, &here, (size_t)c->streams + 1,
                        aa__zo_spread(raw, (size_t)c->streams), 1, out);
}

static void T11_scale_invariance(void **state) {
    static const aa_zo_estimator estimators[] = {AA_ZO_BASE, AA_ZO_LOO};
    (void)state;
    for (int e = 0; e < 2; e++)
        for (int combiner = AA_ZO_STD; combiner <= AA_ZO_EMA; combiner++)
            for (int64_t S = 2; S <= 16; S *= 2) {
                aa_zo_config c = {.streams = S, .groups = 1, .eps = 1e-3, .rho = 1e-2, .clip = 3,
                                  .estimator = (int)estimators[e], .combiner = combiner};
                float want[16], got[16];
                double size = 0;
                coefficients(&c, 1, 0, want);
                coefficients(&c, 10, 5, got);
                for (int i = 0; i < S; i++) {
                    size += (double)want[i] * (double)want[i];
                    if (fabs((double)(got[i] - want[i])) > 1e-5 * 1e-2)
                        fail_msg("scalar %d: %.9g, want %.9g", i, (double)got[i], (double)want[i]);
                }
                /* S independent signs times these: a step of about rho per element */
                if (estimators[e] == AA_ZO_LOO)
                    assert_true(sqrt(size) > 0.9e-2 && sqrt(size) < 1.1e-2);
                coefficients(&c, 0, 7, got);               /* equal losses */
                for (int i = 0; i < S; i++) assert_true(got[i] == 0);
            }
}

static void clipping_and_absence(void **state) {
    const float raw[] = {100, -1, 0.5f, 1, 3, 4, 0.5f, 1};
    const unsigned char present[2] = {1, 0};
    float out[6];
    aa_zo_config c = {.streams = 3, .groups = 2, .eps = 1, .lr = 0.3, .clip = 2};
    (void)state;
    aa__zo_coefficients(&c, raw, present, 4, 0, 1, out);
    assert_int_equal(aa__zo_present(&c, present), 3);
    assert_true(out[0] == -0.2f && out[1] == 0.1f && out[2] == -0.05f);
    assert_true(out[3] == 0 && out[4] == 0 && out[5] == 0);
}

/* ---- bases ----------------------------------------------------------------------------------- */

static double inner(const aa_real *x, const aa_real *y, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)x[i] * (double)y[i];
    return sum;
}

static void rows_become_orthonormal(void **state) {
    enum { R = 5, N = 50 };
    aa_real y[R * N], first[N];
    (void)state;
    for (int i = 0; i < R * N; i++) y[i] = (aa_real)sin(i * i);
    for (int i = 0; i < N; i++) y[3 * N + i] = y[i] - 2 * y[N + i], first[i] = y[i];
    aa_zo_orthonormalize(y, R, N);
    for (int i = 0; i < R; i++)
        for (int j = 0; j <= i; j++) {
            double want = i == j && i != 3;
            if (fabs(inner(y + i * N, y + j * N, N) - want) > 1e-6) fail_msg("rows %d, %d", i, j);
        }
    assert_true(inner(y, first, N) > 0);
}

static void msign_levels_singular_values(void **state) {
    enum { R = 4, N = 60 };
    aa_real x[R * N], y[R * N], scratch[3 * R * R + R * N];
    aa_cpu *cpu = NULL;
    aa_err err = {0};
    (void)state;
    check_ok(aa_cpu_new(&cpu, 2, AA_ISA_AUTO, &err));
    for (int i = 0; i < R * N; i++) y[i] = (aa_real)sin(i * i);
    aa_zo_orthonormalize(y, R, N);
    for (int i = 0; i < R * N; i++) x[i] = y[i] * (aa_real)(1 << i / N);
    assert_int_equal(aa__zo_msign_scratch(R, N), 3 * R * R + R * N);
    aa__zo_msign(cpu, x, R, N, scratch);
    for (int i = 0; i < R; i++)
        for (int j = 0; j < R; j++) {
            double v = inner(x + i * N, y + j * N, N);
            if (i == j ? v < 0.6 || v > 1.3 : fabs(v) > 1e-4) fail_msg("[%d,%d] = %g", i, j, v);
        }
    memset(x, 0, sizeof x);
    aa__zo_msign(cpu, x, R, N, scratch);
    for (int i = 0; i < R * N; i++) assert_true(x[i] == 0);
    aa_cpu_free(cpu);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_method_is_a_row),
        cmocka_unit_test(unsound_settings_are_refused),
        cmocka_unit_test(objectives_are_asked),
        cmocka_unit_test(T8_one_sided_offset),
        cmocka_unit_test(two_sided_and_curvature),
        cmocka_unit_test(T11_scale_invariance),
        cmocka_unit_test(clipping_and_absence),
        cmocka_unit_test(rows_become_orthonormal),
        cmocka_unit_test(msign_levels_singular_values),
    };
    return cmocka_run_group_tests_name("unit_zo", tests, NULL, NULL);
}
