/* Sampling: the sets that top_k, top_p and min_p keep, on examples small enough to do by hand;
 * ties, the repetition penalty, and the frequencies of many draws against the probabilities. */
#include "infer/infer.h"
#include "support/check.h"

#include <math.h>

enum { V = 8, DRAWS = 20000 };

/* Probabilities 0.30 0.20 0.15 0.12 0.09 0.07 0.05 0.02, in a shuffled order of ids. */
static const double p_sorted[V] = {0.30, 0.20, 0.15, 0.12, 0.09, 0.07, 0.05, 0.02};
static const int32_t id_of_rank[V] = {3, 6, 0, 7, 2, 5, 1, 4};

static void fill(aa_real logits[V]) {
    for (int r = 0; r < V; r++) logits[id_of_rank[r]] = (aa_real)(log(p_sorted[r]) + 1.25);
}

static aa_sampling plain(void) {
    aa_sampling s;
    aa_sampling_defaults(&s);
    s.temperature = 1;
    s.top_k = 0;
    s.top_p = 1;
    s.seed = 7;
    return s;
}

static int32_t draw(const aa_sampling *s, uint64_t index) {
    uint64_t scratch[64];
    aa_real logits[V];
    assert_true(aa_sample_scratch_bytes(V) <= sizeof scratch);
    fill(logits);
    return aa_sample(s, logits, V, NULL, 0, index, scratch);
}

static void test_greedy_takes_the_lowest_id_of_equals(void **state) {
    (void)state;
    uint64_t scratch[64];
    aa_sampling s = plain();
    s.temperature = 0;
    aa_real logits[V] = {1, 5, 2, 5, 5, 0, -1, 5};
    assert_int_equal(aa_sample(&s, logits, V, NULL, 0, 0, scratch), 1);
    assert_int_equal(draw(&s, 123), id_of_rank[0]);
    aa_real same[V] = {0};
    assert_int_equal(aa_sample(&s, same, V, NULL, 0, 0, scratch), 0);
}

static void test_a_vanishing_temperature_is_greedy(void **state) {
    (void)state;
    aa_sampling s = plain();
    const double cold[] = {1e-2, 1e-6, 1e-300};
    for (int c = 0; c < 3; c++) {
        s.temperature = cold[c];
        for (uint64_t i = 0; i < 200; i++) assert_int_equal(draw(&s, i), id_of_rank[0]);
    }
}

/* Every one of the first n ranks is drawn, and no other. */
static void check_set(const aa_sampling *s, int n) {
    int count[V] = {0};
    for (uint64_t i = 0; i < DRAWS; i++) count[draw(s, i)]++;
    for (int r = 0; r < V; r++) {
        if (r < n) assert_true(count[id_of_rank[r]] > 0);
        else assert_int_equal(count[id_of_rank[r]], 0);
    }
}

static void test_sets_are_exact(void **state) {
    (void)state;
    aa_sampling s = plain();
    check_set(&s, V);
    for (int k = 1; k <= V; k++) {
        s.top_k = k;
        check_set(&s, k);
    }
    s.top_k = 100;
    check_set(&s, V);
    s.top_k = 0;

    s.top_p = 0.49;
    check_set(&s, 2); /* 0.30 + 0.20 reach 0.49 */
    s.top_p = 0.51;
    check_set(&s, 3);
    s.top_p = 0.29;
    check_set(&s, 1);
    s.top_p = 0.0;
    check_set(&s, 1); /* never empty */
    s.top_p = 0.97;
    check_set(&s, 7);
    s.top_p = 0.99;
    check_set(&s, 8);

    s.top_k = 3;
    s.top_p = 0.75;
    check_set(&s, 2); /* of 0.65 the first two are 0.77 */
    s.top_k = 3;
    s.top_p = 0.80;
    check_set(&s, 3);
    s.top_k = 0;
    s.top_p = 1;

    s.min_p = 0.49;
    check_set(&s, 3); /* 0.15 / 0.30 = 0.5 */
    s.min_p = 0.51;
    check_set(&s, 2);
    s.min_p = 0.06;
    check_set(&s, 8);
    s.min_p = 2;
    check_set(&s, 1);
    s.min_p = 0.39;
    s.top_k = 6;
    check_set(&s, 4);
    s.min_p = 0.39;
    s.top_p = 0.4;
    check_set(&s, 2);
}

static void test_temperature_acts_before_the_cuts(void **state) {
    (void)state;
    aa_sampling s = plain();
    /* At temperature 1/2 the probabilities are p^2 / sum: 0.4923 of the mass for the first rank. */
    s.temperature = 0.5;
    s.top_p = 0.48;
    check_set(&s, 1);
    s.top_p = 0.50;
    check_set(&s, 2);
    s.top_p = 1;
    s.min_p = 0.26;
    check_set(&s, 2); /* (0.15/0.30)^2 = 0.25 */
    s.min_p = 0.24;
    check_set(&s, 3);
}

/* Chi-square of DRAWS draws against p; the limits are the 99.99 % points, and the seed is fixed. */
static double chi_square(const aa_sampling *s, int n, double temperature) {
    int count[V] = {0};
    double total = 0, chi = 0;
    for (uint64_t i = 0; i < DRAWS; i++) count[draw(s, i)]++;
    for (int r = 0; r < n; r++) total += pow(p_sorted[r], 1 / temperature);
    for (int r = 0; r < n; r++) {
        double want = DRAWS * pow(p_sorted[r], 1 / temperature) / total,
               d = count[id_of_rank[r]] - want;
        chi += d * d / want;
    }
    return chi;
}

static void test_frequencies_match_the_probabilities(void **state) {
    (void)state;
    aa_sampling s = plain();
    assert_true(chi_square(&s, V, 1) < 29.9); /* 7 degrees of freedom */
    s.seed = 99;
    s.temperature = 0.7;
    assert_true(chi_square(&s, V, 0.7) < 29.9);
    s.temperature = 1.5;
    s.top_k = 5;
    assert_true(chi_square(&s, 5, 1.5) < 23.5); /* 4 degrees of freedom */
    s.top_k = 0;
    s.temperature = 1;
    s.top_p = 0.6;
    assert_true(chi_square(&s, 3, 1) < 18.4); /* 2 degrees of freedom */
    assert_true(chi_square(&s, 3, 2) > 100);  /* the test can tell another temperature */
}

static void test_draws_depend_on_seed_and_index_alone(void **state) {
    (void)state;
    aa_sampling s = plain(), other = plain();
    other.seed = 8;
    int differ_seed = 0, differ_index = 0;
    for (uint64_t i = 0; i < 200; i++) {
        assert_int_equal(draw(&s, i), draw(&s, i));
        differ_seed += draw(&s, i) != draw(&other, i);
        differ_index += draw(&s, i) != draw(&s, i + 1);
    }
    assert_true(differ_seed > 50 && differ_index > 50);
}

static void test_ties_at_a_cut_keep_the_lowest_ids(void **state) {
    (void)state;
    uint64_t scratch[64];
    aa_sampling s = plain();
    s.top_k = 3;
    int count[V] = {0};
    for (uint64_t i = 0; i < 2000; i++) {
        aa_real logits[V] = {1, 1, 2, 1, 1, 1, 1, 1};
        count[aa_sample(&s, logits, V, NULL, 0, i, scratch)]++;
    }
    const int32_t want[V] = {1, 1, 1, 0, 0, 0, 0, 0};
    for (int i = 0; i < V; i++) assert_int_equal(count[i] > 0, want[i]);
}

static void test_repetition_penalty(void **state) {
    (void)state;
    uint64_t scratch[64];
    aa_sampling s = plain();
    s.temperature = 0;
    s.repetition_penalty = 2;
    const int32_t recent[] = {5, 0, 1, 0, 3, -4, 99};
    aa_real logits[V] = {4, -3, 2.5, 0, 1, 7, -1, 2};
    s.repetition_window = 6; /* the 5 is too long ago */
    assert_int_equal(aa_sample(&s, logits, V, recent, 7, 0, scratch), 5);
    const float want[V] = {2, -6, 2.5f, 0, 1, 7, -1, 2}; /* 0 occurs twice, counts once */
    check_near_f32("logits", logits, want, V, 0, 0);
    aa_real again[V] = {4, -3, 2.5, 0, 1, 7, -1, 2};
    s.repetition_window = 100;
    assert_int_equal(aa_sample(&s, again, V, recent, 7, 0, scratch), 5);
    assert_true(again[5] == (aa_real)3.5);
    s.repetition_window = 0;
    aa_real off[V] = {4, -3, 2.5, 0, 1, 7, -1, 2};
    aa_sample(&s, off, V, recent, 7, 0, scratch);
    assert_true(off[0] == 4 && off[5] == 7);
}

static void test_logits_that_are_not_finite(void **state) {
    (void)state;
    uint64_t scratch[64];
    aa_sampling s = plain();
    for (int mode = 0; mode < 3; mode++) {
        s.temperature = mode == 0 ? 0 : 1;
        s.top_k = mode == 2 ? 2 : 0;
        for (uint64_t i = 0; i < 50; i++) {
            aa_real nan_first[V] = {NAN, -INFINITY, 1,         -INFINITY,
                                    NAN, -INFINITY, -INFINITY, -INFINITY};
            assert_int_equal(aa_sample(&s, nan_first, V, NULL, 0, i, scratch), 2);
            aa_real infinite[V] = {0, 1, 2, INFINITY, 3, 4, 5, 6};
            assert_int_equal(aa_sample(&s, infinite, V, NULL, 0, i, scratch), 3);
            aa_real none[V];
            for (int k = 0; k < V; k++) none[k] = NAN;
            int32_t id = aa_sample(&s, none, V, NULL, 0, i, scratch);
            assert_true(id >= 0 && id < V);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_greedy_takes_the_lowest_id_of_equals),
        cmocka_unit_test(test_a_vanishing_temperature_is_greedy),
        cmocka_unit_test(test_sets_are_exact),
        cmocka_unit_test(test_temperature_acts_before_the_cuts),
        cmocka_unit_test(test_frequencies_match_the_probabilities),
        cmocka_unit_test(test_draws_depend_on_seed_and_index_alone),
        cmocka_unit_test(test_ties_at_a_cut_keep_the_lowest_ids),
        cmocka_unit_test(test_repetition_penalty),
        cmocka_unit_test(test_logits_that_are_not_finite),
    };
    return cmocka_run_group_tests_name("unit_sample", tests, NULL, NULL);
}
