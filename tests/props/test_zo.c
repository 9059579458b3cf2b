/* What holds for every zeroth-order run: of the fifteen tests T4, T5, T14 and T15, and T6, T7, T10
 * on a little net. */
#include <math.h>
#include <stdlib.h>
#include <unistd.h>
#include "base/memory.h"
#include "base/rng.h"
#include "support/check.h"
#include "support/zonet.h"
#include "zo/zo_int.h"

/* Each method with settings under which 60 steps on the little net show something. */
typedef struct kind { const char *name, *settings; bool core, hybrid; double within; } kind;
static const kind kinds[] = {
    {"auto", "rho=1e-2", false, false, 0.9},
    {"auto", "rho=1e-2 refresh=7 check=3", false, false, 0.9},
    {"auto", "rho=1e-2 update=momentum groups=2 streams=8 norms=yes", false, false, 0.9},
    {"auto", "rho=1e-2 pool=40 law=normal", false, false, 0.9},
    {"mezo", "lr=1e-1", false, false, 0.95},
    {"mezo-full", "lr=2e-2", false, false, 0.95},
    {"mezo-lora-split", "lr=5e-2", false, false, 0.95},
    {"lora-fa", "lr=1e-1", false, false, 0.99},
    {"fzoo", "lr=3e-2", false, false, 0.95},
    {"mobizo", "lr=2e-1", false, false, 0.95},
    {"grzo", "rho=1e-2", false, false, 0.95},
    {"agzo", "lr=3e-2", false, false, 0.95},
    {"zo-act", "lr=3e-2", false, false, 0.9},
    {"qzo", "lr=2e-2", false, false, 0.99},
    {"lozo", "lr=2e-3 refresh=9", false, false, 0.99},
    {"subzero+", "lr=1e-2 refresh=9", true, false, 0.95},
    {"zo-muon", "lr=3e-2 refresh=9", false, false, 0.95},
    {"elasticzo", "lr=2e-2 hybrid-layer=1 hybrid-lr=1e-1", false, true, 0.95},
    {"addax", "lr=1e-1 hybrid-lr=1e-1", false, true, 0.95},
    {"hizoo", "lr=5e-2 curvature-rate=1e-2", false, false, 0.99},
    {"sparse-mezo", "lr=5e-2", false, false, 0.99},
    {"p-gap", "lr=1e-1 refresh=9 horizon=60", true, false, 0.99},
};
enum { N_KINDS = sizeof kinds / sizeof *kinds };

static aa_zo *open_engine(zonet *n, const kind *k) {
    aa_zo_config c;
    aa_zo *z = NULL;
    aa_err err = {0};
    check_ok(aa_zo_configure(&c, k->name, k->settings, &err));
    check_ok(aa_zo_open(&z, &c, &n->objective, n->cpu, &err));
    return z;
}

static aa_zo_report step(aa_zo *z, double factor) {
    aa_zo_report r;
    aa_err err = {0};
    check_ok(aa_zo_step(z, factor, &r, &err));
    return r;
}

static aa_ledger *new_ledger(const aa_zo *z, const char *path) {
    const aa_ledger_header h = aa_ledger_header_of(z, (aa_digest){1, 2});
    aa_ledger *l = NULL;
    aa_err err = {0};
    (void)unlink(path);
    check_ok(aa_ledger_create(&l, path, &h, &err));
    return l;
}

static char *temp(const char *name) {
    char *path = aa_heap_printf("%s/%s", check_temp_dir(), name);
    assert_non_null(path);
    return path;
}

static void check_weights(const char *what, const zonet *n, const aa_real *want) {
    aa_real *got = zonet_weights(n);
    for (size_t i = 0; i < zonet_size(); i++)
        if (memcmp(got + i, want + i, sizeof *got) != 0)
            fail_msg("%s: element %zu is %.9g, not %.9g", what, i, (double)got[i],
                     (double)want[i]);
    aa_heap_free(got);
}

/* ---- T4 -------------------------------------------------------------------------------------- */

/* 1000 cycles of probes with rate 0: every bit as it was. */
static void T4_zero_drift(void **state) {
    (void)state;
    for (size_t i = 0; i < N_KINDS; i++) {
        zonet n;
        if (strstr(kinds[i].settings, "refresh") || strstr(kinds[i].name, "agzo")) continue;
        zonet_open(&n, 1, AA_ISA_AUTO, kinds[i].core);
        n.linear = true;
        aa_zo *z = open_engine(&n, &kinds[i]);
        aa_zo_report r = step(z, 0);      /* the first step may take a basis */
        aa_real *want = zonet_weights(&n);
        const int cycles = i == 5 ? 1000 : 100;
        for (int t = 0; t < cycles; t++) r = step(z, 0);
        assert_int_equal(r.step, cycles);
        check_weights(kinds[i].name, &n, want);
        aa_heap_free(want);
        aa_zo_close(z);
        zonet_close(&n);
    }
}

/* ---- T5 -------------------------------------------------------------------------------------- */

/* Signs by the definition in num/direction.h. */
static aa_real sign_at(uint64_t seed, uint32_t tensor, uint32_t t, uint32_t stream, size_t i) {
    const uint32_t ctr[4] = {(uint32_t)(i / 128), tensor, t, stream},
                   key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    uint32_t out[4];
    aa_philox4x32_10(ctr, key, out);
    return out[i % 128 / 32] >> i % 32 & 1 ? -1 : 1;
}

/* b[i] += sum_s c_s z_s[i] with c_s = -lr/S (f_s - f_0)/eps, where f is linear in B: the losses
 * that the engine saw are made again here, with the formula of the estimator and nothing of the
 * engine. */
static void follow(zonet *n, aa_real *const *old, const aa_zo_config *c, uint32_t t) {
    const uint32_t S = (uint32_t)c->streams;
    const int b_rows[] = {3, 7};
    float coefficient[16];
    double base = zonet_loss(n, 0);
    for (uint32_t s = 0; s < S; s++) {
        for (int k = 0; k < 2; k++) {
            aa_tensor *b = &n->tensors[b_rows[k]];
            const uint32_t id = (uint32_t)b_rows[k] | AA_FACTOR_B << 24;
            for (size_t i = 0; i < aa_tensor_size(b); i++)
                b->data[i] = old[k][i] + (aa_real)c->eps * sign_at(1, id, t, s, i);
        }
        double scalar = (double)(float)((zonet_loss(n, 0) - base) / c->eps);
        coefficient[s] = (float)(-c->lr / S * scalar);
    }
    for (int k = 0; k < 2; k++) {
        aa_tensor *b = &n->tensors[b_rows[k]];
        const uint32_t id = (uint32_t)b_rows[k] | AA_FACTOR_B << 24;
        for (size_t i = 0; i < aa_tensor_size(b); i++) {
            volatile float sum = 0;
            for (uint32_t s = 0; s < S; s++)
                sum = sum + coefficient[s] * sign_at(1, id, t, s, i);
            b->data[i] = old[k][i] + sum;
        }
    }
}

/* W += 0.5 B A, B = 0, written out. */
static void fold(zonet *n, aa_real *const *b) {
    for (int l = 0; l < 2; l++) {
        aa_tensor *w = &n->tensors[4 * l];
        const aa_real *a = n->tensors[4 * l + 1].data;
        for (size_t i = 0; i < w->rows; i++)
            for (size_t r = 0; r < ZN_RANK; r++)
                for (size_t j = 0; j < w->cols; j++) {
                    volatile float left = 0.5f * b[l][i * ZN_RANK + r],
                                   term = left * a[r * w->cols + j];
                    w->data[i * w->cols + j] += term;
                }
    }
}

/* Probe and update use the same direction, bases change and adapters are merged: two nets, one
 * moved by the engine, one by the lines above. All amplitudes are powers of two and B begins at 0,
 * so that a probed B is a float without rounding where it matters: the losses agree to the last
 * bits, the scalars as floats. */
static void T5_probe_and_update_share_directions(void **state) {
    const kind k = {"auto", "basis=random law=signs estimator=base combiner=raw clip=0 rho=0 "
                            "lr=0.25 eps=0.5 streams=5 refresh=4 guard=0", false, false, 0};
    zonet live, slow;
    aa_real *b[2];
    (void)state;
    zonet_open(&live, 2, AA_ISA_AUTO, false);
    zonet_open(&slow, 1, AA_ISA_AUTO, false);
    live.linear = slow.linear = live.fixed_data = slow.fixed_data = true;
    aa_zo *z = open_engine(&live, &k);
    for (int l = 0; l < 2; l++)
        b[l] = aa_heap_alloc(aa_tensor_size(&slow.tensors[4 * l + 3]), sizeof *b[l]);
    assert_true(b[0] && b[1]);
    for (uint32_t t = 0; t < 14; t++) {
        for (int l = 0; l < 2; l++) {
            aa_tensor *own = &slow.tensors[4 * l + 3];
            memcpy(b[l], own->data, aa_tensor_size(own) * sizeof *b[l]);
        }
        if (t && t % 4 == 0) {
            fold(&slow, b);
            for (int l = 0; l < 2; l++) {
                aa_tensor *own = &slow.tensors[4 * l + 3];
                memset(own->data, 0, aa_tensor_size(own) * sizeof *own->data);
                memset(b[l], 0, aa_tensor_size(own) * sizeof *b[l]);
            }
        }
        step(z, 1);
        for (int l = 0; l < 2; l++)       /* what the engine's basis is, was tested elsewhere */
            memcpy(slow.tensors[4 * l + 1].data, live.tensors[4 * l + 1].data,
                   aa_tensor_size(&slow.tensors[4 * l + 1]) * sizeof(aa_real));
        follow(&slow, b, aa_zo_config_of(z), t);
        for (int row = 0; row < 8; row++) {
            const aa_tensor *x = &live.tensors[row], *y = &slow.tensors[row];
            for (size_t i = 0; i < aa_tensor_size(x); i++)
                if (fabs((double)(x->data[i] - y->data[i])) >
                    2e-6 * fabs((double)y->data[i]) + 1e-7)
                    fail_msg("step %u: %s[%zu] is %.9g, not %.9g", t, x->name, i,
                             (double)x->data[i], (double)y->data[i]);
        }
        for (int row = 0; row < 8; row++) /* go on from the same bits */
            memcpy(slow.tensors[row].data, live.tensors[row].data,
                   aa_tensor_size(&slow.tensors[row]) * sizeof(aa_real));
    }
    for (int l = 0; l < 2; l++) aa_heap_free(b[l]);
    aa_zo_close(z);
    zonet_close(&live);
    zonet_close(&slow);
}

/* The same exactly, where nothing rounds: loss c.theta with dyadic c, rate, radius and S. */
static void T5_exact_on_a_linear_loss(void **state) {
    const kind k = {"mezo-full",
                    "law=signs streams=4 estimator=loo eps=0.25 lr=0.75 guard=0 norms=no", false,
                    false, 0};
    zonet n;
    (void)state;
    zonet_open(&n, 2, AA_ISA_AUTO, false);
    n.linear = n.fixed_data = true;
    size_t at = 0;
    for (int l = 0; l < 2; l++) {
        aa_tensor *w = &n.tensors[4 * l];
        for (size_t i = 0; i < aa_tensor_size(w); i++, at++) {
            n.slope[at] = (double)((int)(at * 7 % 13) - 6) / 4;
            w->data[i] = (aa_real)((int)(at * 5 % 17) - 8) / 8;
        }
    }
    aa_zo *z = open_engine(&n, &k);
    aa_real *old = zonet_weights(&n);
    step(z, 1);
    double along[4] = {0}, mean = 0;
    for (uint32_t s = 0; s < 4; s++) {
        at = 0;
        for (uint32_t l = 0; l < 2; l++)
            for (size_t i = 0; i < aa_tensor_size(&n.tensors[4 * l]); i++, at++)
                along[s] += n.slope[at] * (double)sign_at(1, 4 * l, 0, s, i);
        mean += along[s] / 4;
    }
    size_t place = 0;
    for (int row = 0; row < 8; row++)
        for (size_t i = 0; i < aa_tensor_size(&n.tensors[row]); i++, place++) {
            float sum = 0;
            for (uint32_t s = 0; s < 4 && row % 4 == 0; s++) {
                float c = (float)(-0.75 / 4 * (double)(float)((along[s] - mean) * 4 / 3));
                sum += c * sign_at(1, (uint32_t)row, 0, s, i);
            }
            float want = old[place] + sum;
            if (want != n.tensors[row].data[i])
                fail_msg("row %d [%zu]: %.9g, not %.9g", row, i, (double)n.tensors[row].data[i],
                         (double)want);
        }
    aa_heap_free(old);
    aa_zo_close(z);
    zonet_close(&n);
}

/* ---- T14 ------------------------------------------------------------------------------------- */

/* Mean of |M|^2 over the second half: the floor, around a minimum at 0. */
static double floor_at(const char *settings, int steps, double factor, bool *blown) {
    const kind k = {"mezo-full", settings, false, false, 0};
    zonet n;
    double sum = 0;
    zonet_open(&n, 1, AA_ISA_AUTO, false);
    n.linear = true, n.curvature = 1, n.noise = 1;
    memset(n.slope, 0, 2 * ZN_HIDDEN * ZN_HIDDEN * sizeof *n.slope);
    aa_zo *z = open_engine(&n, &k);
    *blown = false;
    for (int t = 0; t < steps && !*blown; t++) {
        double size = 0;
        step(z, t < steps / 4 ? 1 : factor);
        for (int l = 0; l < 2; l++)
            for (size_t i = 0; i < aa_tensor_size(&n.tensors[4 * l]); i++)
                size += (double)n.tensors[4 * l].data[i] * (double)n.tensors[4 * l].data[i];
        if (!(size < 1e4)) *blown = true;
        if (t >= steps / 2) sum += size / (steps - steps / 2);
    }
    aa_zo_close(z);
    zonet_close(&n);
    return sum;
}

/* d = 80 elements, S directions, unit curvature, unit noise: E|ghat|^2 = K |g|^2, K = (d+S-1)/S, so
 * per element v = lr K / (2 - lr K), and lr > 2/K diverges. */
static void T14_noise_floor(void **state) {
    bool blown;
    (void)state;
    const double K = (80 + 8 - 1) / 8.0, lr = 0.016,
                 high = floor_at("law=signs streams=8 lr=0.016 guard=0 norms=no", 4000, 1, &blown),
                 low = floor_at("law=signs streams=8 lr=0.004 guard=0 norms=no", 12000, 1, &blown),
                 cut = floor_at("law=signs streams=8 lr=0.016 guard=0 norms=no", 12000, 0.25,
                                &blown),
                 law_high = 80 * lr * K / (2 - lr * K),
                 law_low = 80 * lr / 4 * K / (2 - lr / 4 * K);
    if (fabs(high / low / (law_high / law_low) - 1) > 0.25)
        fail_msg("floors %g and %g, ratio %g, the law says %g", high, low, high / low,
                 law_high / law_low);
    if (fabs(high / law_high - 1) > 0.25) fail_msg("floor %g, the law says %g", high, law_high);
    if (fabs(cut / low - 1) > 0.25) fail_msg("after the cut %g, at that rate %g", cut, low);
}

static void T14_cliff_moves_with_streams(void **state) {
    static const struct { const char *below, *above; } rows[] = {
        {"law=signs streams=1 lr=0.0125 guard=0 norms=no",
         "law=signs streams=1 lr=0.06 guard=0 norms=no"},
        {"law=signs streams=8 lr=0.09 guard=0 norms=no",    /* 2/K: 0.025 and 0.184 */
         "law=signs streams=8 lr=0.44 guard=0 norms=no"}};
    (void)state;
    for (int i = 0; i < 2; i++) {
        bool blown;
        floor_at(rows[i].below, 1000, 1, &blown);
        assert_false(blown);
        floor_at(rows[i].above, 1000, 1, &blown);
        assert_true(blown);
    }
}

/* ---- T15: replay ----------------------------------------------------------------------------- */

enum { STEPS = 60 };

static double mean_loss(zonet *n) {
    double sum = 0;
    for (uint64_t d = 0; d < 32; d++) sum += zonet_loss(n, 100000 + d) / 32;
    return sum;
}

/* Every method: it learns, and its ledger gives its weights on any team and set. */
static void T15_replay_equals_the_run(void **state) {
    (void)state;
    for (size_t i = 0; i < N_KINDS; i++) {
        const kind *k = &kinds[i];
        char *path = temp("replay.ledger");
        zonet n;
        aa_err err = {0};
        zonet_open(&n, 2, AA_ISA_AUTO, k->core);
        n.offset = 5;                     /* so that a batch with twice the loss is no explosion */
        aa_zo *z = open_engine(&n, k);
        aa_ledger *l = k->hybrid ? NULL : new_ledger(z, path);
        check_ok(aa_zo_attach(z, l, &err));
        const double before = mean_loss(&n) - n.offset;
        for (int t = 0; t < STEPS; t++) step(z, 1);
        const double after = mean_loss(&n) - n.offset;
        if (!(after < k->within * before))
            fail_msg("%s %s: the loss went from %.4f to %.4f", k->name, k->settings, before, after);
        aa_real *want = zonet_weights(&n);
        const aa_zo_config c = *aa_zo_config_of(z);
        aa_ledger_close(l);
        aa_zo_close(z);
        zonet_close(&n);
        for (aa_isa isa = AA_ISA_SCALAR; !k->hybrid && isa <= AA_ISA_AVX512; isa++) {
            aa_zo_replayed done;
            if (!aa_isa_available(isa)) continue;
            zonet_open(&n, 1 + (int)isa % 3, isa, k->core);
            n.objective.evaluate = NULL, n.objective.basis = NULL;
            check_ok(aa_zo_open(&z, &c, &n.objective, n.cpu, &err));
            check_ok(aa_zo_replay(z, path, NULL, &done, &err));
            assert_int_equal(done.steps, STEPS);
            assert_int_equal(aa_zo_next_step(z), STEPS);
            check_weights(k->name, &n, want);
            aa_zo_close(z);
            zonet_close(&n);
        }
        aa_heap_free(want);
        aa_heap_free(path);
    }
}

/* Killed anywhere, even inside a record: the resumed run ends where the undisturbed one does. */
static void T15_kill_and_resume(void **state) {
    static const size_t which[] = {1, 2, 12, 15, 16, 19, 21};
    (void)state;
    for (size_t w = 0; w < sizeof which / sizeof *which; w++) {
        const kind *k = &kinds[which[w]];
        char *path = temp("whole.ledger"), *cut = temp("cut.ledger");
        zonet n;
        aa_err err = {0};
        aa_sys_map map;
        aa_rng rng;
        zonet_open(&n, 1, AA_ISA_AUTO, k->core);
        aa_zo *z = open_engine(&n, k);
        aa_ledger *l = new_ledger(z, path);
        const uint64_t header = aa_ledger_size(l);
        check_ok(aa_zo_attach(z, l, &err));
        for (int t = 0; t < 24; t++) step(z, 1);
        aa_real *want = zonet_weights(&n);
        aa_ledger_close(l);
        aa_zo_close(z);
        check_ok(aa_map_open(&map, path, &err));
        aa_rng_init(&rng, 7, AA_RNG_TEST, w);
        for (int kill = 0; kill < 20; kill++) {
            aa_zo_replayed done;
            uint64_t at = 0, size = header + aa_rng_below(&rng, map.size_bytes - header + 1);
            (void)unlink(cut);
            FILE *f = fopen(cut, "wb");
            assert_true(f && fwrite(map.data, 1, size, f) == size && !fclose(f));
            zonet_reset(&n);
            z = open_engine(&n, k);
            check_ok(aa_zo_resume(z, cut, NULL, &at, &done, &err));
            check_ok(aa_ledger_append(&l, cut, at, &err));
            check_ok(aa_zo_attach(z, l, &err));
            while (aa_zo_next_step(z) < 24) step(z, 1);
            check_weights(k->name, &n, want);
            aa_ledger_close(l);
            aa_zo_close(z);
            aa_sys_map again;             /* and the file is the undisturbed one */
            check_ok(aa_map_open(&again, cut, &err));
            assert_int_equal(again.size_bytes, map.size_bytes);
            assert_memory_equal(again.data, map.data, map.size_bytes);
            aa_sys_map_close(&again);
        }
        aa_sys_map_close(&map);
        aa_heap_free(want);
        aa_heap_free(path), aa_heap_free(cut);
        zonet_close(&n);
    }
}

/* Four ranks that measure a group each, and one that measures all four: the same bits. One group is
 * late in some steps: it is absent for everybody. */
static void T15_ranks_equal_one(void **state) {
    const kind k = {"auto", "rho=1e-2 streams=4 groups=4", false, false, 0};
    enum { RANKS = 4 };
    zonet n[RANKS + 1];
    aa_zo *z[RANKS + 1];
    (void)state;
    for (int r = 0; r <= RANKS; r++) {
        zonet_open(&n[r], 1 + r % 2, r % 2 ? AA_ISA_SCALAR : AA_ISA_AUTO, false);
        z[r] = open_engine(&n[r], &k);
        if (r < RANKS) aa_zo_share(z[r], (size_t)r, 1);
    }
    const size_t size = aa_zo_raw_size(z[0]);
    for (int t = 0; t < 30; t++) {
        aa_zo_raw raw[RANKS + 1];
        aa_zo_report report;
        aa_err err = {0};
        for (int r = 0; r <= RANKS; r++) check_ok(aa_zo_measure(z[r], &raw[r], &err));
        for (size_t r = 0; r < RANKS; r++)                 /* what an all-gather does */
            for (size_t g = 0; g < RANKS; g++) {
                memcpy(raw[r].values + g * size, raw[g].values + g * size, size * sizeof(float));
                raw[r].present[g] = 1;
            }
        for (int r = 0; r <= RANKS && t % 5 == 3; r++) raw[r].present[2] = 0;
        for (int r = 0; r <= RANKS; r++) check_ok(aa_zo_update(z[r], 1, &report, &err));
        for (int r = 0; r < RANKS; r++)
            assert_true(aa_digest_equal(aa_zo_digest(z[r]), aa_zo_digest(z[RANKS])));
    }
    assert_int_equal(n[0].n_losses, 30 * 4);
    assert_int_equal(n[RANKS].n_losses, 30 * 16);
    for (int r = 0; r <= RANKS; r++) aa_zo_close(z[r]), zonet_close(&n[r]);
}

/* A rate a hundred times too large: the guard goes back and halves it, says so in the ledger, and
 * replay and resume follow. Without a state to go back to the run ends, the weights as they
 * were. */
static void T15_divergence_guard(void **state) {
    const kind k = {"mezo", "lr=30 guard=10 streams=4", false, false, 0},
               bare = {"mezo", "lr=30 guard=0 streams=4", false, false, 0};
    char *path = temp("guard.ledger");
    zonet n;
    aa_err err = {0};
    aa_zo_report r = {0};
    aa_zo_replayed done;
    uint64_t at = 0;
    int rewinds = 0;
    (void)state;
    zonet_open(&n, 1, AA_ISA_AUTO, false);
    aa_zo *z = open_engine(&n, &k);
    aa_ledger *l = new_ledger(z, path);
    check_ok(aa_zo_attach(z, l, &err));
    const double before = mean_loss(&n);
    for (int t = 0; t < 40; t++) rewinds += step(z, 1e-3).rewound; /* a sound start */
    const double good = mean_loss(&n);
    assert_true(good < before && rewinds == 0);
    for (int t = 0; t < 25; t++) {
        r = step(z, rewinds < 4 ? 1 : 1e-3);
        rewinds += r.rewound;
        if (r.rewound) assert_true(mean_loss(&n) < 1.5 * before); /* not what exploded */
    }
    assert_true(rewinds >= 4);
    assert_true(mean_loss(&n) < before);
    aa_real *want = zonet_weights(&n);
    const aa_digest digest = aa_zo_digest(z);
    aa_ledger_close(l);
    aa_zo_close(z);
    zonet_reset(&n);
    z = open_engine(&n, &k);
    check_ok(aa_zo_resume(z, path, NULL, &at, &done, &err));
    check_weights("after rewinds", &n, want);
    assert_true(aa_digest_equal(digest, aa_zo_digest(z)));
    assert_int_equal(aa_zo_next_step(z), 65);
    assert_true(z->backoff == ldexp(1, -rewinds));
    aa_zo_close(z);
    aa_heap_free(want);

    zonet_reset(&n);
    z = open_engine(&n, &bare);
    aa_status st = AA_OK;
    aa_real *last = NULL;
    for (int t = 0; t < 400 && !st; t++) {
        aa_heap_free(last);
        last = zonet_weights(&n);
        if (t == 20) n.factor = NAN;      /* finite weights, a loss that is no number */
        st = aa_zo_step(z, 1e-4, &r, &err);
    }
    assert_int_equal(st, AA_EDIVERGED);
    assert_non_null(strstr(err.message, "step 20"));
    check_weights("no state kept", &n, last);
    aa_heap_free(last);
    aa_zo_close(z);
    zonet_close(&n);
    aa_heap_free(path);
}

/* ---- estimates ------------------------------------------------------------------------------- */

/* The mean of many estimates points along the gradient, for signs and normals, from one side and
 * from both; a single one as the square root of S/d says. (T6, on this net.) */
static void T6_unbiased_and_cosine_law(void **state) {
    static const char *const settings[] = {
        "law=signs streams=8 estimator=loo eps=1e-4 lr=1 guard=0 norms=no",
        "law=normal streams=8 estimator=two-sided eps=1e-4 lr=1 guard=0 norms=no",
        "law=signs streams=8 estimator=base eps=1e-4 lr=1 guard=0 norms=no"};
    enum { D = 80, TRIES = 1500 };
    (void)state;
    for (int i = 0; i < 3; i++) {
        const kind k = {"mezo-full", settings[i], false, false, 0};
        zonet n;
        double sum[D] = {0}, g[D], single = 0;
        aa_err err = {0};
        zonet_open(&n, 1, AA_ISA_AUTO, false);
        n.fixed_data = true;
        check_ok(n.objective.gradient(&n, 0, &err));
        for (size_t j = 0; j < D; j++)
            g[j] = (double)(j < 48 ? n.tensors[0].grad[j] : n.tensors[4].grad[j - 48]);
        aa_zo *z = open_engine(&n, &k);
        for (int t = 0; t < TRIES; t++) {
            double dot = 0, size = 0, all = 0;
            step(z, 1);
            for (size_t j = 0; j < D; j++) {
                const int row = j < 48 ? 0 : 4;
                const size_t at = j < 48 ? j : j - 48;
                double e = (double)(n.start[row][at] - n.tensors[row].data[at]);
                sum[j] += e, dot += e * g[j], size += e * e, all += g[j] * g[j];
            }
            single += dot * dot / (size * all) / TRIES;
            zonet_reset(&n);
        }
        double dot = 0, size = 0, all = 0;
        for (size_t j = 0; j < D; j++)
            dot += sum[j] * g[j], size += sum[j] * sum[j], all += g[j] * g[j];
        if (dot / sqrt(size * all) < 0.99)
            fail_msg("%s: cosine of mean %g", settings[i], dot / sqrt(size * all));
        /* of S random directions in d: (S + 1)/(d + S - 1) or so; loo spends one on the mean */
        double law = (i == 0 ? 7.0 : 8.0) / D;
        if (fabs(sqrt(single / law) - 1) > 0.15)
            fail_msg("%s: cosine %g, the law says %g", settings[i], sqrt(single), sqrt(law));
        aa_zo_close(z);
        zonet_close(&n);
    }
}

/* T7: against the gradient, an error that is small over a decade around the default eps. */
static void T7_directional_derivative(void **state) {
    (void)state;
    double best = 1, at_default = 1;
    for (int e = -4; e <= -1; e++) {
        char settings[96];
        zonet n;
        aa_err err = {0};
        aa_zo_raw raw;
        double want = 0;
        snprintf(settings, sizeof settings, "law=signs eps=1e%d lr=1 guard=0 norms=no", e);
        const kind k = {"mezo-full", settings, false, false, 0};
        zonet_open(&n, 1, AA_ISA_AUTO, false);
        check_ok(n.objective.gradient(&n, 0, &err));
        aa_zo *z = open_engine(&n, &k);
        check_ok(aa_zo_measure(z, &raw, &err));
        for (uint32_t l = 0; l < 2; l++)
            for (size_t i = 0; i < aa_tensor_size(&n.tensors[4 * l]); i++)
                want += (double)n.tensors[4 * l].grad[i] * (double)sign_at(1, 4 * l, 0, 0, i);
        double error = fabs((double)raw.values[0] - want) / fabs(want);
        if (error < best) best = error;
        if (e == -3) at_default = error;
        aa_zo_close(z);
        zonet_close(&n);
    }
    assert_true(best < 1e-3 && at_default < 1e-2);
}

/* T10, as an objective does it: one adapted layer over the rows of all probes in three calls, both
 * factors perturbed, against matrices that are put together in double. */
static void T10_a_layer_over_all_streams(void **state) {
    enum { EACH = 5, PROBES = 7, N = EACH * PROBES };
    const kind k = {"mezo", "streams=3 estimator=curved mask=curvature eps=0.1", false, false, 0};
    static const int rows[2] = {1, 3};    /* A and B of the first layer */
    zonet n;
    (void)state;
    zonet_open(&n, 2, AA_ISA_AUTO, false);
    for (size_t i = 0; i < aa_tensor_size(&n.tensors[3]); i++)
        n.tensors[3].data[i] = (aa_real)sin((double)i);
    aa_zo *z = open_engine(&n, &k);
    const aa_zo_view view = {z, false};
    aa_lowrank_stream streams[2][PROBES];
    aa_real x[N * ZN_IN], p[N * ZN_RANK], y[N * ZN_HIDDEN], d[2][PROBES][ZN_HIDDEN * ZN_RANK];
    for (int i = 0; i < N * ZN_IN; i++) x[i] = (aa_real)cos(i);
    for (int f = 0; f < 2; f++)
        for (uint32_t i = 0; i < PROBES; i++) {
            const aa_tensor *t = &n.tensors[rows[f]];
            const aa_zo_probe probe = {i / 2, i == 6 ? 0 : i % 2 ? -0.1f : 0.1f, 0};
            aa_lowrank_stream *s = &streams[f][i];
            *s = (aa_lowrank_stream){.first = i * EACH, .n_rows = EACH,
                                     .amplitude = probe.amplitude};
            const bool moves = aa_zo_direction(&view, (size_t)rows[f], &probe, &s->z);
            assert_int_equal(moves, i != 6);
            if (moves)
                aa_direction_add(n.cpu, d[f][i], t->data, 1, probe.amplitude, &s->z, 0,
                                 aa_tensor_size(t));
            else memcpy(d[f][i], t->data, aa_tensor_size(t) * sizeof(aa_real));
        }
    aa_gemm(n.cpu, y, ZN_HIDDEN, x, ZN_IN, n.tensors[0].data, ZN_IN, true, N, ZN_HIDDEN, ZN_IN,
            false);
    const aa_lowrank a = {ZN_RANK, ZN_IN, n.tensors[1].data, 1, true},
                     b = {ZN_HIDDEN, ZN_RANK, n.tensors[3].data, 0.5f, false};
    aa_lowrank_streams(n.cpu, p, ZN_RANK, x, ZN_IN, &a, streams[0], PROBES);
    aa_lowrank_streams(n.cpu, y, ZN_HIDDEN, p, ZN_RANK, &b, streams[1], PROBES);
    for (size_t t = 0; t < N; t++)
        for (size_t o = 0; o < ZN_HIDDEN; o++) {
            const aa_real *da = d[0][t / EACH], *db = d[1][t / EACH];
            double want = 0;
            for (size_t i = 0; i < ZN_IN; i++) {
                double w = (double)n.tensors[0].data[o * ZN_IN + i];
                for (size_t r = 0; r < ZN_RANK; r++)
                    w += 0.5 * (double)db[o * ZN_RANK + r] * (double)da[r * ZN_IN + i];
                want += w * (double)x[t * ZN_IN + i];
            }
            if (fabs((double)y[t * ZN_HIDDEN + o] - want) > 1e-5)
                fail_msg("[%zu,%zu]: %.9g, not %.9g", t, o, (double)y[t * ZN_HIDDEN + o], want);
        }
    aa_zo_close(z);
    zonet_close(&n);
}

/* A basis from activations holds more of the gradient than a random one. */
static void informed_bases_learn_faster(void **state) {
    static const kind informed = {"auto", "rho=5e-3", false, false, 0},
                      random = {"auto", "rho=5e-3 basis=random", false, false, 0};
    double loss[2];
    (void)state;
    for (int i = 0; i < 2; i++) {
        zonet n;
        zonet_open(&n, 1, AA_ISA_AUTO, false);
        aa_zo *z = open_engine(&n, i ? &random : &informed);
        for (int t = 0; t < 40; t++) step(z, 1);
        loss[i] = mean_loss(&n);
        assert_int_equal(n.n_bases, i ? 0 : 2);
        aa_zo_close(z);
        zonet_close(&n);
    }
    assert_true(loss[0] < loss[1]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(T4_zero_drift),
        cmocka_unit_test(T5_probe_and_update_share_directions),
        cmocka_unit_test(T5_exact_on_a_linear_loss),
        cmocka_unit_test(T6_unbiased_and_cosine_law),
        cmocka_unit_test(T7_directional_derivative),
        cmocka_unit_test(T10_a_layer_over_all_streams),
        cmocka_unit_test(T14_noise_floor),
        cmocka_unit_test(T14_cliff_moves_with_streams),
        cmocka_unit_test(T15_replay_equals_the_run),
        cmocka_unit_test(T15_kill_and_resume),
        cmocka_unit_test(T15_ranks_equal_one),
        cmocka_unit_test(T15_divergence_guard),
        cmocka_unit_test(informed_bases_learn_faster),
    };
    return cmocka_run_group_tests_name("props_zo", tests, NULL, NULL);
}
