/* data/batch: streams over parts, windows that visit every token once, the compact vocabulary. */
#include "support/check.h"
#include <stdlib.h>
#include "base/memory.h"
#include "data/batch.h"

enum { DOCUMENTS = 40, MOST = 2000 };
static uint16_t ids[MOST];
static uint64_t document[DOCUMENTS + 1];
static uint8_t part[DOCUMENTS];

/* Documents of 1, 2, 3 ... tokens; token i has id i. */
static aa_tokens tokens(void) {
    uint64_t at = 0;
    for (int d = 0; d < DOCUMENTS; d++) {
        document[d] = at;
        part[d] = (uint8_t)(d % 7 == 3    ? AA_PART_VALID
                            : d % 11 == 5 ? AA_PART_TEST
                                          : AA_PART_TRAIN);
        at += (uint64_t)d + 1;
    }
    document[DOCUMENTS] = at;
    for (uint64_t i = 0; i < at; i++) ids[i] = (uint16_t)i;
    return (aa_tokens){.u16 = ids,
                       .n_tokens = at,
                       .n_documents = DOCUMENTS,
                       .document = document,
                       .part = part,
                       .vocab = MOST};
}

static void test_stream(void **state) {
    (void)state;
    aa_err err = {0};
    aa_tokens k = tokens();
    uint64_t total = 0;
    for (int p = 0; p <= AA_PART_COUNT; p++) {
        int32_t want[MOST], got[MOST];
        uint64_t n = 0;
        for (int d = 0; d < DOCUMENTS; d++)
            for (uint64_t i = document[d];
                 i < document[d + 1] && (p == AA_PART_COUNT || part[d] == p); i++)
                want[n++] = ids[i];
        aa_stream s;
        check_ok(aa_stream_init(&s, &k, (aa_part)p, &err));
        assert_int_equal(s.n_tokens, n);
        if (p < AA_PART_COUNT) total += n;
        for (uint64_t at = 0; at < n; at += 1 + at / 3)
            for (uint64_t len = 0; at + len <= n; len += 1 + len / 2) {
                memset(got, 0xFF, sizeof got);
                aa_stream_read(&s, at, len, got);
                assert_memory_equal(got, want + at, len * sizeof *got);
                assert_int_equal(got[len], -1);
            }
        aa_stream_release(&s);
    }
    assert_int_equal(total, k.n_tokens);
}

static void test_windows(void **state) {
    (void)state;
    aa_err err = {0};
    aa_tokens k = tokens();
    aa_stream s;
    check_ok(aa_stream_init(&s, &k, AA_PART_TRAIN, &err));
    int32_t all[MOST], in[MOST], out[MOST], again[MOST];
    aa_stream_read(&s, 0, s.n_tokens, all);
    for (size_t T = 1; T < s.n_tokens + 3; T += 1 + T / 4) {
        uint64_t W = aa_stream_windows(&s, T);
        assert_true((W > 0) == (s.n_tokens > T));
        for (uint64_t epoch = 0; W && epoch < 4; epoch++) {
            unsigned char seen[MOST] = {0};
            for (uint64_t n = epoch * W; n < (epoch + 1) * W; n++) {
                aa_stream_window(&s, 42, n, T, in, out);
                size_t at = 0;
                while (all[at] != in[0]) at++;
                assert_true(at + T < s.n_tokens);
                assert_memory_equal(in, all + at, T * sizeof *in);
                assert_memory_equal(out, all + at + 1, T * sizeof *out);
                for (size_t t = 0; t < T; t++)
                    assert_int_equal(seen[at + t]++, 0); /* once an epoch */
                aa_stream_window(&s, 42, n, T, again, out);
                assert_memory_equal(in, again, T * sizeof *in);
            }
            uint64_t missed = s.n_tokens - 1 - W * T; /* never two windows */
            assert_true(missed < 2 * T);
        }
    }
    size_t same = 0;
    for (uint64_t n = 0; n < 20; n++) { /* another seed, another order */
        aa_stream_window(&s, 1, n, 8, in, out);
        aa_stream_window(&s, 2, n, 8, again, out);
        same += memcmp(in, again, 8 * sizeof *in) == 0;
    }
    assert_true(same < 5);
    aa_stream_release(&s);
}

static void test_eval_windows(void **state) {
    (void)state;
    aa_err err = {0};
    aa_tokens k = tokens();
    aa_stream s;
    check_ok(aa_stream_init(&s, &k, AA_PART_TRAIN, &err));
    enum { T = 16 };
    uint64_t W = (s.n_tokens - 1) / T;
    int32_t in[T], out[T], before = -1;
    for (uint64_t n = 1; n <= W; n++) {
        before = -1;
        for (uint64_t i = 0; i < n; i++) {
            aa_stream_eval_window(&s, i, n, T, in, out);
            assert_true(in[0] > before); /* apart, and in order */
            before = in[T - 1];
            assert_memory_equal(in + 1, out, (T - 1) * sizeof *in);
        }
    }
    aa_stream_release(&s);
}

static void test_compact(void **state) {
    (void)state;
    aa_err err = {0};
    aa_tokens k = tokens();
    for (uint64_t i = 0; i < k.n_tokens; i++) ids[i] = (uint16_t)(10 + i % 5 * 3);
    int32_t *map = NULL, *list = NULL;
    size_t n = 0;
    check_ok(aa_compact_vocabulary(&k, 100, 7, &map, &list, &n, &err));
    const int32_t want[] = {7, 10, 13, 16, 19, 22};
    assert_int_equal(n, 6);
    assert_memory_equal(list, want, sizeof want);
    for (int32_t id = 0, next = 0; id < 100; id++)
        assert_int_equal(map[id], next < 6 && want[next] == id ? next++ : -1);
    aa_stream s;
    check_ok(aa_stream_init(&s, &k, AA_PART_VALID, &err));
    s.map = map;
    int32_t got[4];
    aa_stream_read(&s, 0, 4, got);
    for (int i = 0; i < 4; i++) assert_int_equal(list[got[i]], ids[document[3] + (uint64_t)i]);
    aa_stream_release(&s);
    aa_heap_free(map);
    aa_heap_free(list);
    assert_int_equal(aa_compact_vocabulary(&k, 20, 7, &map, &list, &n, &err), AA_EFORMAT);
}

/* A text with ids that a compact vocabulary lacks is refused, part by part. */
static void test_restrict(void **state) {
    (void)state;
    aa_err err = {0};
    aa_tokens k = tokens();
    for (uint64_t i = 0; i < k.n_tokens; i++) ids[i] = (uint16_t)('a' + i % 5);
    ids[document[3] + 1] = 'z';         /* in the validation part */
    static const int32_t active[] = {'a', 'b', 'c', 'd', 'e'};
    aa_tokenizer *t;
    aa_stream valid, train;
    int32_t *map = NULL, got[2];
    check_ok(aa_tokenizer_new_bytes(&t, &err));
    check_ok(aa_compact_map(active, 5, aa_tokenizer_vocab(t), &map, &err));
    for (int32_t id = 0; id < (int32_t)aa_tokenizer_vocab(t); id++)
        assert_int_equal(map[id], id >= 'a' && id <= 'e' ? id - 'a' : -1);
    check_ok(aa_stream_init(&valid, &k, AA_PART_VALID, &err));
    check_ok(aa_stream_init(&train, &k, AA_PART_TRAIN, &err));
    check_ok(aa_stream_restrict(&train, map, t, &err));
    aa_stream_read(&train, 0, 2, got);
    assert_int_equal(got[1], (got[0] + 1) % 5);
    assert_int_equal(aa_stream_restrict(&valid, map, t, &err), AA_EUSAGE);
    assert_non_null(strstr(err.message, "1 of "));
    assert_non_null(strstr(err.message, "'z'"));
    assert_null(valid.map);
    aa_stream_release(&valid);
    aa_stream_release(&train);
    aa_tokenizer_free(t);
    aa_heap_free(map);
}

static void test_rank(void **state) {
    (void)state;
    aa_err err = {0};
    aa_tokens k = tokens();
    /* 9 fills the validation documents; the others get rarer, 4 and 5 alike */
    static const uint16_t cycle[] = {2, 2, 2, 2, 5, 4, 2, 4, 5, 8};
    for (int d = 0, at = 0; d < DOCUMENTS; d++)
        for (uint64_t i = document[d]; i < document[d + 1]; i++)
            ids[i] = part[d] == AA_PART_TRAIN ? cycle[at++ % 10] : 9;
    uint64_t n_train = 0;
    for (int d = 0; d < DOCUMENTS; d++)
        if (part[d] == AA_PART_TRAIN) n_train += document[d + 1] - document[d];
    assert_int_equal(n_train % 10, 0);           /* so that 4 and 5 are equally frequent */
    int32_t map[11], list[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
    const int32_t all[] = {2, 4, 5, 8, 0, 1, 3, 6, 7, 9, 10};
    check_ok(aa_rank_vocabulary(&k, AA_PART_TRAIN, 11, map, list, 11, &err));
    assert_memory_equal(list, all, sizeof all);
    for (int32_t row = 0; row < 11; row++) assert_int_equal(map[list[row]], row);
    int32_t some[] = {4, 7, 9, 2}; /* as a compact vocabulary has them */
    const int32_t wanted[] = {9, 2, 4, 7};
    check_ok(aa_rank_vocabulary(&k, AA_PART_VALID, 11, map, some, 4, &err));
    assert_memory_equal(some, wanted, sizeof wanted);
    for (int32_t id = 0; id < 11; id++)
        assert_int_equal(map[id], id == 9 ? 0 : id == 2 ? 1 : id == 4 ? 2 : id == 7 ? 3 : -1);
    assert_int_equal(aa_rank_vocabulary(&k, AA_PART_TRAIN, 8, map, list, 8, &err), AA_EFORMAT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stream),
        cmocka_unit_test(test_windows),
        cmocka_unit_test(test_eval_windows),
        cmocka_unit_test(test_compact),
        cmocka_unit_test(test_restrict),
        cmocka_unit_test(test_rank),
    };
    return cmocka_run_group_tests_name("unit_batch", tests, NULL, NULL);
}
