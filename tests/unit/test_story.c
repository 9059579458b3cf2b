/* Story grammar: one text, one derivation; exact surprisals,
 * counts and entropy; readable stories. */
#include "base/digest.h"
#include "data/story.h"
#include "data/story_grammar.h"
#include "support/check.h"
#include <ctype.h>
#include <math.h>
#include <stdlib.h>

static aa__story_grammar small; /* too large for the stack */

/* The grammar of the essay in story.c. */
static const aa__story_list_row pets[] = {
    {"pets", "name|sound", "cat|purred;dog|barked;owl|hooted"}, {NULL, NULL, NULL}};
static const aa__story_var_row pet[] = {
    {"pet", "pets", NULL}, {"two", "pets", "pet"}, {NULL, NULL, NULL}};

static void test_essay_example(void **state) {
    (void)state;
    const aa__story_rule_row rules[] = {
        {"story", 1, "Tom had {+a pet}. <mood>The {pet} {pet.sound}."},
        {"mood", 3, "It was a quiet day. "},
        {"mood", 1, ""},
        {NULL, 0, NULL}};
    aa_err err = {0};
    check_ok(aa__story_compile(&small, pets, pet, rules, &err));
    check_ok(aa__story_check(&small, &err));
    assert_true(small.rules[0].count == 6);
    assert_true(fabs(small.rules[0].entropy_bits - 2.39624) < 1e-5);
    const char *owl = "Tom had an owl. The owl hooted.";
    double bits = 0;
    size_t stop = 0;
    assert_int_equal(aa__story_parse(&small, owl, strlen(owl), &bits, &stop), 1);
    assert_true(fabs(bits - (log2(3) + 2)) < 1e-12);
    const char *barks = "Tom had an owl. The owl barked.";
    assert_int_equal(aa__story_parse(&small, barks, strlen(barks), &bits, &stop), 0);
    assert_int_equal(stop, strstr(barks, "barked") - barks);
}

/* Chances: the frequencies of a grammar whose second draw must differ from the first. */
static void test_draw_unlike(void **state) {
    (void)state;
    const aa__story_rule_row rules[] = {{"story", 1, "{+pet} {+two}."}, {NULL, 0, NULL}};
    enum { N = 6000 };
    aa_err err = {0};
    aa_text t = {0};
    int seen[3][3] = {{0}};
    check_ok(aa__story_compile(&small, pets, pet, rules, &err));
    assert_true(small.rules[0].count == 6);
    for (int i = 0; i < N; i++) {
        aa_rng r;
        aa_rng_init(&r, 5, AA_RNG_TEST, (uint64_t)i);
        aa_text_clear(&t);
        aa__story_generate(&small, &r, &t, NULL);
        const char *names = "cdo";
        seen[strchr(names, t.data[0]) - names][strchr(names, t.data[4]) - names]++;
    }
    for (int a = 0; a < 3; a++)
        for (int b = 0; b < 3; b++)
            if (a == b) assert_int_equal(seen[a][b], 0);
            else assert_true(abs(seen[a][b] - N / 6) < 5 * sqrt(N * (1.0 / 6) * (5.0 / 6)));
    aa_text_release(&t);
}

static void check_refused(const aa__story_rule_row *rules, int compiles, const char *says) {
    aa_err err = {0};
    aa_status st = aa__story_compile(&small, pets, pet, rules, &err);
    assert_int_equal(st, compiles ? AA_OK : AA_EINTERNAL);
    if (!st) assert_int_equal(aa__story_check(&small, &err), AA_EINTERNAL);
    if (!strstr(err.message, says)) fail_msg("'%s' does not say '%s'", err.message, says);
}

static void test_check_refuses_ambiguity(void **state) {
    (void)state;
    enum { COMPILES = 1, BROKEN = 0 };
    const aa__story_rule_row prefix[] = {
        {"s", 1, "A cat."}, {"s", 1, "A cat. It slept."}, {NULL, 0, NULL}};
    check_refused(prefix, COMPILES, "rule s may be");
    const aa__story_rule_row expanded[] = {
        {"s", 1, "{+pet} ran."}, {"s", 1, "cat ran."}, {NULL, 0, NULL}};
    check_refused(expanded, COMPILES, "rule s may be");
    const aa__story_rule_row same_words[] = {{"s", 1, "<x> <y>."},
                                             {"x", 1, "It {+pet.sound}"},
                                             {"x", 1, "It"},
                                             {"y", 1, "is {pet.sound}"},
                                             {NULL, 0, NULL}};
    check_refused(same_words, BROKEN, "pet may be printed before");
    const aa__story_rule_row optional[] = {{"s", 1, "<o><p>."}, {"o", 1, ""},  {"o", 1, "ha"},
                                           {"p", 1, "hat"},     {"p", 1, "t"}, {NULL, 0, NULL}};
    check_refused(optional, COMPILES, "optional rule o");
    const aa__story_rule_row loop[] = {{"s", 1, "a <t>"}, {"t", 1, "b <s>"}, {NULL, 0, NULL}};
    check_refused(loop, BROKEN, "contains itself");
    const aa__story_rule_row unknown[] = {{"s", 1, "a {pet.smell}"}, {NULL, 0, NULL}};
    check_refused(unknown, BROKEN, "no field for {pet.smell}");
    const aa__story_rule_row redrawn[] = {{"s", 1, "{+pet} {+two} {+pet}."}, {NULL, 0, NULL}};
    check_refused(redrawn, BROKEN, "twice");
    const char *cat = "cat ran."; /* and the counter of derivations sees it too */
    aa_err err = {0};
    check_ok(aa__story_compile(&small, pets, pet, expanded, &err));
    assert_int_equal(aa__story_parse(&small, cat, strlen(cat), NULL, NULL), 2);
}

static void test_grammar_is_unambiguous(void **state) {
    (void)state;
    aa_err err = {0};
    check_ok(aa__story_compile(&small, aa__story_lists, aa__story_vars, aa__story_rules, &err));
    check_ok(aa__story_check(&small, &err));
}

static void test_one_derivation(void **state) {
    (void)state;
    const aa__story_grammar *g = aa__story_default();
    aa_text t = {0};
    for (uint64_t seed = 0; seed < 5; seed++)
        for (uint64_t i = 0; i < 1000; i++) {
            aa_rng r;
            double made = 0, read = 0;
            aa_rng_init(&r, seed * 977, AA_RNG_STORY, i);
            aa_text_clear(&t);
            aa__story_generate(g, &r, &t, &made);
            assert_int_equal(aa__story_parse(g, t.data, t.len, &read, NULL), 1);
            assert_true(made == read); /* the same sum in the same order */
        }
    aa_text_release(&t);
}

static void test_deterministic(void **state) {
    (void)state;
    aa_text a = {0}, b = {0};
    char hex[AA_DIGEST_HEX];
    aa_story_corpus(&a, 1, 0, 20);
    for (uint64_t i = 0; i < 20; i++) {
        if (i) aa_text_add(&b, "\n");
        aa_story_write(&b, 1, i);
    }
    assert_int_equal(a.len, b.len);
    check_same_bits("corpus", a.data, b.data, a.len);
    aa_text_clear(&b);
    aa_story_corpus(&b, 2, 0, 20);
    assert_true(a.len != b.len || memcmp(a.data, b.data, a.len));
    aa_text_clear(&b);
    aa_story_corpus(&b, 1, 0, 100);
    aa_digest_hex(aa_digest_bytes(b.data, b.len), hex);
    assert_string_equal(hex, "1ddbda0c1301aacff143fd5507122d41"); /* of these tables */
    aa_text_release(&a);
    aa_text_release(&b);
}

static void test_count_and_entropy(void **state) {
    (void)state;
    enum { N = 2000 };
    aa_err err = {0};
    aa_text t = {0};
    double sum = 0, sum2 = 0;
    assert_true(aa_story_log2_count() > 40); /* 10^12 < 2^40 */
    assert_true(aa_story_entropy_bits() < aa_story_log2_count());
    for (uint64_t i = 0; i < N; i++) {
        double bits = 0;
        aa_text_clear(&t);
        aa_story_write(&t, 11, i);
        check_ok(aa_story_surprisal(t.data, t.len, &bits, &err));
        sum += bits, sum2 += bits * bits;
    }
    double mean = sum / N, error = sqrt((sum2 / N - mean * mean) / N);
    assert_true(fabs(mean - aa_story_entropy_bits()) < 4 * error);
    aa_text_release(&t);
}

static void test_corpus_surprisal(void **state) {
    (void)state;
    aa_err err = {0};
    aa_text t = {0}, one = {0};
    double all = 0, sum = 0, bits = 0;
    size_t n = 0;
    aa_story_corpus(&t, 3, 100, 7);
    for (uint64_t i = 100; i < 107; i++) {
        aa_text_clear(&one);
        aa_story_write(&one, 3, i);
        check_ok(aa_story_surprisal(one.data, one.len, &bits, &err));
        sum += bits;
    }
    check_ok(aa_story_corpus_surprisal(t.data, t.len - 1, &all, &n, &err));
    assert_true(all == sum);
    assert_int_equal(n, 7);
    size_t last = t.len - one.len; /* damage the last story's first byte */
    t.data[last] = '#';
    assert_int_equal(aa_story_corpus_surprisal(t.data, t.len, &all, &n, &err), AA_EFORMAT);
    char want[32];
    snprintf(want, sizeof want, "byte %zu", last);
    assert_non_null(strstr(err.message, want));
    assert_true(all == sum); /* untouched on failure */
    aa_text_release(&t);
    aa_text_release(&one);
}

/* A damaged story is refused, at or after the damage: no text before it is wrong. */
static void check_damage(const char *text, size_t n, size_t at) {
    aa_err err = {0};
    double bits = -1;
    size_t stop = 0;
    assert_int_equal(aa_story_surprisal(text, n, &bits, &err), AA_EFORMAT);
    assert_true(bits == -1);
    assert_non_null(strstr(err.message, "byte "));
    stop = strtoull(strstr(err.message, "byte ") + 5, NULL, 10);
    assert_true(stop >= at && stop <= n);
}

static void test_refuses_damage(void **state) {
    (void)state;
    aa_text t = {0};
    for (uint64_t i = 0; i < 40; i++) {
        char copy[8192];
        aa_text_clear(&t);
        aa_story_write(&t, 21, i);
        size_t n = t.len - 1, at = (i * 131) % n;
        assert_true(t.len + 16 < sizeof copy);
        memcpy(copy, t.data, n);
        copy[at] = '#'; /* changed byte */
        check_damage(copy, n, at);
        memcpy(copy, t.data, at);
        memcpy(copy + at, t.data + at + 1, n - at - 1);
        copy[n - 1] = '!'; /* deleted byte; the end is wrong in any case */
        check_damage(copy, n, at ? at : 0);
        memcpy(copy, t.data, n);
        memcpy(copy + n, " The end.", 9); /* appended text */
        check_damage(copy, n + 9, n);
        check_damage(t.data, n / 2, n / 2); /* cut */
        char *word = strstr(t.data, " his ") ? strstr(t.data, " his ") : strstr(t.data, " her ");
        assert_non_null(word);
        memcpy(word + 1, "its", 3); /* broken agreement */
        check_damage(t.data, n, (size_t)(word - t.data) + 1);
    }
    check_damage("", 0, 0);
    check_damage("\n", 1, 0);
    aa_text_release(&t);
}

static void check_article(const char *s, size_t i) {
    bool an = !strncmp(s + i, "an ", 3), a = !strncmp(s + i, "a ", 2);
    if (!a && !an) return;
    bool vowel = strchr("aeiou", tolower((unsigned char)s[i + (an ? 3 : 2)])) != NULL;
    if (vowel != an) fail_msg("article in '%.40s'", s + i);
}

/* What any reader would complain about. */
static void test_typography(void **state) {
    (void)state;
    aa_text t = {0};
    size_t total = 0;
    for (uint64_t i = 0; i < 3000; i++) {
        aa_text_clear(&t);
        aa_story_write(&t, 31, i);
        const char *s = t.data;
        size_t quotes = 0, sentences = 0;
        assert_true(isupper((unsigned char)s[0]));
        assert_true(s[t.len - 1] == '\n' && memchr(s, '\n', t.len) == s + t.len - 1);
        assert_true(s[t.len - 2] == '.' || s[t.len - 2] == '!' || s[t.len - 2] == '"');
        for (size_t k = 0; k + 1 < t.len; k++) {
            bool stop = strchr(".!?", s[k]) != NULL;
            quotes += s[k] == '"';
            sentences += stop;
            if (s[k] == ' ' && strchr(" ,.!?", s[k + 1])) fail_msg("blank in '%.40s'", s + k);
            if (strchr("<>{}`+|_;", s[k])) fail_msg("slot in '%.40s'", s + k);
            if (s[k] == '.' && s[k + 1] == ' ' && !isupper((unsigned char)s[k + 2]) &&
                s[k + 2] != '"')
                fail_msg("small letter in '%.40s'", s + k);
            if (stop && s[k + 1] != ' ' && s[k + 1] != '"' && s[k + 1] != '\n')
                fail_msg("'%.40s'", s + k);
            if (s[k] == ' ' || s[k] == '"') check_article(s, k + 1);
        }
        assert_int_equal(quotes % 2, 0);
        assert_in_range(sentences, 8, 40);
        assert_in_range(t.len, 450, 1800);
        total += t.len;
    }
    assert_in_range(total / 3000, 600, 1400);
    aa_text_release(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_essay_example),
        cmocka_unit_test(test_draw_unlike),
        cmocka_unit_test(test_check_refuses_ambiguity),
        cmocka_unit_test(test_grammar_is_unambiguous),
        cmocka_unit_test(test_one_derivation),
        cmocka_unit_test(test_deterministic),
        cmocka_unit_test(test_count_and_entropy),
        cmocka_unit_test(test_corpus_surprisal),
        cmocka_unit_test(test_refuses_damage),
        cmocka_unit_test(test_typography),
    };
    return cmocka_run_group_tests_name("unit_story", tests, NULL, NULL);
}
