/* data/tokenizer: pieces against PCRE2 with the true regexes, merges against a plain
 * reimplementation, added tokens, training by hand-checked examples, tokenizer.json there and back,
 * and every refusal. */
#include "support/check.h"
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>
#include "base/file.h"
#include "base/memory.h"
#include "base/pool.h"
#include "base/rng.h"
#include "data/tokenizer.h"
#include "data/tokenizer_int.h"

/* ---- nasty text ------------------------------------------------------------------------------ */

static const char *const bits[] = {
    " ",
    " ",
    "  ",
    "\t",
    "\n",
    "\r\n",
    "\n\n",
    "\v",
    "\f",
    "\xC2\x85",
    "\xC2\xA0",
    "\xE1\x9A\x80",
    "\xE2\x80\x83",
    "\xE2\x80\xA8",
    "\xE3\x80\x80",
    "\xE2\x80\x8B",
    "a",
    "Zq",
    "the",
    " of",
    "\xC3\xA9",
    "e\xCC\x81",
    "\xCE\xA9",
    "\xE6\x97\xA5\xE6\x9C\xAC",
    "\xF0\x9F\x98\x80",
    "\xF0\x9F\x87\xA9\xF0\x9F\x87\xAA",
    "'s",
    "'S",
    "'t",
    "'re",
    "'RE",
    "'ve",
    "'m",
    "'ll",
    "'LL",
    "'d",
    "'l",
    "'x",
    "'",
    "''",
    "'\xC5\xBF",
    "0",
    "12",
    "3456",
    "\xC2\xB2",
    "\xE2\x85\xA7",
    "\xD9\xA3",
    "\xF0\x9D\x9F\x98",
    "!",
    "...",
    " ?",
    "#$%",
    "\xE2\x80\x94",
    "_",
    "<|endoftext|>",
};

static void nasty(aa_text *out, uint64_t seed, int n) {
    aa_rng r;
    aa_rng_init(&r, seed, AA_RNG_TEST, 1);
    for (int i = 0; i < n; i++)
        aa_text_add(out, bits[aa_rng_below(&r, sizeof bits / sizeof *bits)]);
}

static void noise(aa_text *out, uint64_t seed, int n) {
    aa_rng r;
    aa_rng_init(&r, seed, AA_RNG_TEST, 2);
    for (int i = 0; i < n; i++) {
        if (aa_rng_below(&r, 4))
            aa_text_add(out, bits[aa_rng_below(&r, sizeof bits / sizeof *bits)]);
        else aa_text_add_bytes(out, &(char){(char)aa_rng_below(&r, 256)}, 1);
    }
}

/* ---- pieces ---------------------------------------------------------------------------------- */

/* Boundaries of the pieces of [at, end) by the regex, as a mark at each end. */
static void by_regex(const char *pattern, const char *text, size_t at, size_t end,
                     unsigned char *mark) {
    int code;
    size_t where;
    pcre2_code *re = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED,
                                   PCRE2_UTF | PCRE2_UCP, &code, &where, NULL);
    assert_non_null(re);
    pcre2_match_data *data = pcre2_match_data_create_from_pattern(re, NULL);
    for (size_t from = 0; from < end - at;) {
        assert_true(pcre2_match(re, (PCRE2_SPTR)text + at, end - at, from, 0, data, NULL) > 0);
        const size_t *span = pcre2_get_ovector_pointer(data);
        assert_int_equal(span[0], from); /* the patterns leave nothing out */
        from = span[1];
        mark[at + from] = 1;
    }
    pcre2_match_data_free(data);
    pcre2_code_free(re);
}

static void check_split(aa_split split, const char *pattern, const char *text, size_t n) {
    unsigned char *want = aa_heap_alloc(n + 1, 1), *got = aa_heap_alloc(n + 1, 1);
    if (split == AA_SPLIT_SMOLLM) { /* numbers one by one, the rest by gpt2's pattern */
        size_t begin = 0;
        for (size_t at = 0; at <= n;) {
            aa__symbol s = at < n ? aa__symbol_at((const unsigned char *)text + at, n - at)
                                  : (aa__symbol){1, AA__NUMBER};
            if (s.class == AA__NUMBER) {
                by_regex(pattern, text, begin, at, want);
                if (at < n) want[at] = want[at + s.n_bytes] = 1;
                begin = at + s.n_bytes;
            }
            at += s.n_bytes;
        }
    } else {
        by_regex(pattern, text, 0, n, want);
    }
    want[0] = 0;
    for (size_t at = 0; at < n; got[at] = 1) {
        size_t next = aa__split_next(split, (const unsigned char *)text, at, n);
        assert_true(next > at && next <= n);
        at = next;
    }
    for (size_t i = 0; i <= n; i++)
        if (want[i] != got[i])
            fail_msg("split %d, byte %zu of '%s': regex %d, ours %d", split, i, text, want[i],
                     got[i]);
    aa_heap_free(want);
    aa_heap_free(got);
}

static void test_splits(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 400; seed++) {
        aa_text t = {0};
        nasty(&t, seed, 1 + (int)seed % 60);
        check_split(AA_SPLIT_GPT2, aa__regex_gpt2, t.data, t.len);
        check_split(AA_SPLIT_SMOLLM, aa__regex_gpt2, t.data, t.len);
        check_split(AA_SPLIT_LLAMA3, aa__regex_llama3, t.data, t.len);
        check_split(AA_SPLIT_QWEN2, aa__regex_qwen2, t.data, t.len);
        aa_text_release(&t);
    }
}

/* Cutting a text where aa__split_cut says leaves the pieces as they are, invalid UTF-8 or not. */
static void test_cuts(void **state) {
    (void)state;
    size_t n_cuts = 0;
    for (uint64_t seed = 0; seed < 300; seed++) {
        aa_text t = {0};
        noise(&t, seed, 80);
        const unsigned char *s = (const unsigned char *)t.data;
        for (int split = AA_SPLIT_GPT2; split <= AA_SPLIT_QWEN2; split++) {
            const aa_tokenizer tok = {.kind = AA_TOKENIZER_BPE, .split = (aa_split)split};
            for (size_t from = 1; from < t.len; from += 5) {
                size_t cut = aa__split_cut(&tok, s, from, t.len), whole = 0, part = 0;
                if (cut == t.len) break;
                n_cuts++;
                while (part < t.len) {
                    whole = aa__split_next((aa_split)split, s, whole, t.len);
                    part = aa__split_next((aa_split)split, s, part, part < cut ? cut : t.len);
                    assert_int_equal(whole, part);
                }
            }
        }
        aa_text_release(&t);
    }
    assert_true(n_cuts > 1000);
}

static void test_classes(void **state) {
    (void)state;
    assert_int_equal(aa__class_of('a'), AA__LETTER);
    assert_int_equal(aa__class_of(0x2167), AA__NUMBER); /* roman numeral eight: Nl */
    assert_int_equal(aa__class_of(0x00B2), AA__NUMBER); /* superscript two: No */
    assert_int_equal(aa__class_of(0x0301), AA__OTHER);  /* combining acute: M */
    assert_int_equal(aa__class_of(0x4E00), AA__LETTER); /* CJK one is a letter */
    assert_int_equal(aa__class_of(0x0085), AA__SPACE);
    assert_int_equal(aa__class_of(0x180E),
                     AA__OTHER); /* Mongolian vowel separator: no space since 6.3 */
    assert_int_equal(aa__class_of(0x11DE0), AA__NEW_NUMBER);
    assert_int_equal(aa__class_of(0x10FFFF), AA__OTHER);
    for (uint32_t c = 0; c < 128; c++) assert_int_equal(aa__class_of(c), aa__ascii_class[c]);
    static const char *const invalid[] = {
        "\x80",         "\xC0\x80",         "\xC1\xBF",         "\xE0\x9F\xBF",
        "\xED\xA0\x80", "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80", "\xF5\x80\x80\x80",
        "\xC3",         "\xE6\x97",         "\xF0\x9F\x98",     "\xFF"};
    uint32_t code;
    for (size_t i = 0; i < sizeof invalid / sizeof *invalid; i++)
        assert_int_equal(
            aa__utf8_decode((const unsigned char *)invalid[i], strlen(invalid[i]), &code), 0);
    for (int b = 0; b < 256; b++)
        assert_int_equal(aa__stand_in_byte(aa__stand_in((unsigned char)b)), b);
}

/* ---- merges ---------------------------------------------------------------------------------- */

static aa_tokenizer *trained(size_t vocab, aa_split split) {
    aa_err err = {0};
    aa_text t = {0};
    for (uint64_t seed = 0; seed < 40; seed++) nasty(&t, 1000 + seed, 300);
    for (int i = 0; i < 2000; i++) aa_text_add(&t, i % 7 ? "abab" : "ba ");
    aa_tokenizer *tok = NULL;
    check_ok(aa_tokenizer_train(&tok, NULL, t.data, t.len, vocab, split, &err));
    aa_text_release(&t);
    return tok;
}

/* The algorithm as its definition says it: the lowest rank, the leftmost, again and again. */
static size_t plain_merges(const aa_tokenizer *t, const unsigned char *p, size_t n, int32_t *id) {
    for (size_t i = 0; i < n; i++) id[i] = t->byte_id[p[i]];
    for (;;) {
        size_t best = n;
        uint32_t rank = UINT32_MAX;
        for (size_t i = 0; i + 1 < n; i++) {
            const aa__pair *pair = aa__pair_find(t, id[i], id[i + 1]);
            if (pair && pair->rank < rank) {
                rank = pair->rank;
                best = i;
            }
        }
        if (best == n) return n;
        id[best] = aa__pair_find(t, id[best], id[best + 1])->id;
        n--;
        memmove(id + best + 1, id + best + 2, (n - best - 1) * sizeof *id);
    }
}

static void test_merges(void **state) {
    (void)state;
    aa_err err = {0};
    aa_tokenizer *t = trained(900, AA_SPLIT_GPT2);
    aa_text s = {0};
    noise(&s, 7, 2000);
    aa_text_add(&s, "ababbabaababab");
    int32_t want[600];
    for (size_t n = 1; n < 600;
         n += 1 + n / 7) { /* both sides of the border between array and heap */
        for (size_t at = 0; at + n <= s.len; at += 397) {
            aa_ids got = {0};
            aa__encoder e = {.t = t, .out = &got};
            for (int twice = 0; twice < 2; twice++) { /* and from memory */
                got.len = 0;
                aa__encode_piece(&e, (const unsigned char *)s.data + at, n);
                size_t k = plain_merges(t, (const unsigned char *)s.data + at, n, want);
                assert_int_equal(got.len, k);
                assert_memory_equal(got.data, want, k * sizeof *want);
            }
            assert_false(e.failed);
            aa__encoder_release(&e);
            aa_ids_release(&got);
        }
    }
    /* a megabyte without a cut is no catastrophe */
    aa_text long_word = {0};
    for (int i = 0; i < 1 << 18; i++) aa_text_add(&long_word, "abba");
    aa_ids ids = {0};
    check_ok(aa_encode(t, long_word.data, long_word.len, 0, &ids, &err));
    aa_text back = {0};
    check_ok(aa_decode(t, ids.data, ids.len, false, &back, &err));
    assert_int_equal(back.len, long_word.len);
    assert_memory_equal(back.data, long_word.data, back.len);
    aa_text_release(&back);
    aa_text_release(&long_word);
    aa_text_release(&s);
    aa_ids_release(&ids);
    aa_tokenizer_free(t);
}

/* Any bytes come back, by any number of threads the same ids; kept memory is bounded, not
 * remembered wrong. */
static void test_round_trip(void **state) {
    (void)state;
    aa_err err = {0};
    aa_pool *pool = NULL;
    check_ok(aa_pool_new(&pool, 3, &err));
    for (int split = AA_SPLIT_GPT2; split <= AA_SPLIT_NONE; split++) {
        if (split == AA_SPLIT_QWEN2) continue; /* its NFC changes the text */
        aa_tokenizer *t = trained(700, (aa_split)split);
        aa_text s = {0}, back = {0};
        noise(&s, 99, split == AA_SPLIT_NONE ? 20000 : 300000);
        aa_ids one = {0}, many = {0};
        check_ok(aa_encode(t, s.data, s.len, AA_ENCODE_SPECIALS, &one, &err));
        check_ok(aa_encode_parallel(t, pool, s.data, s.len, AA_ENCODE_SPECIALS, &many, &err));
        assert_int_equal(one.len, many.len);
        assert_memory_equal(one.data, many.data, one.len * sizeof *one.data);
        check_ok(aa_decode(t, one.data, one.len, true, &back, &err));
        assert_int_equal(back.len, s.len);
        assert_memory_equal(back.data, s.data, s.len);
        aa_text_release(&s);
        aa_text_release(&back);
        aa_ids_release(&one);
        aa_ids_release(&many);
        aa_tokenizer_free(t);
    }
    aa_pool_free(pool);
}

/* ---- training -------------------------------------------------------------------------------- */

static void check_merge(const aa_tokenizer *t, size_t i, const char *left, const char *right) {
    int32_t l = t->merges[i][0], r = t->merges[i][1];
    if (t->piece_len[l] != strlen(left) || memcmp(t->piece[l], left, strlen(left)) ||
        t->piece_len[r] != strlen(right) || memcmp(t->piece[r], right, strlen(right)))
        fail_msg("merge %zu is %.*s+%.*s, not %s+%s", i, (int)t->piece_len[l], t->piece[l],
                 (int)t->piece_len[r], t->piece[r], left, right);
}

static void test_training(void **state) {
    (void)state;
    aa_err err = {0};
    aa_tokenizer *t = NULL;
    /* three times "ab", twice "cd" and "ce": counts decide, then the smaller ids */
    static const char text[] = "ab ab ab\ncd\ncd\nce\nce\nzz";
    check_ok(aa_tokenizer_train(&t, NULL, text, sizeof text - 1, 262, AA_SPLIT_SMOLLM, &err));
    assert_int_equal(aa_tokenizer_vocab(t), 262);
    check_merge(t, 0, "a", "b");
    check_merge(t, 1, "c", "d");
    check_merge(t, 2, "c", "e");
    check_merge(t, 3, " ", "ab");
    check_merge(t, 4, "z", "z");
    assert_int_equal(t->byte_id['!'], 1); /* the order of the stand-ins */
    assert_int_equal(t->byte_id[0], 189);
    aa_tokenizer_free(t);
    check_ok(aa_tokenizer_train(&t, NULL, text, sizeof text - 1, 100000, AA_SPLIT_SMOLLM, &err));
    assert_int_equal(aa_tokenizer_vocab(t), 262); /* every piece is one id: nothing left */
    aa_tokenizer_free(t);
    check_ok(aa_tokenizer_train(&t, NULL, "", 0, 300, AA_SPLIT_SMOLLM, &err));
    assert_int_equal(aa_tokenizer_vocab(t), 257);
    assert_int_equal(aa_tokenizer_eos(t), 0);
    aa_tokenizer_free(t);
    assert_int_equal(aa_tokenizer_train(&t, NULL, "x", 1, 256, AA_SPLIT_SMOLLM, &err), AA_EUSAGE);
    err = (aa_err){0};
    assert_int_equal(aa_tokenizer_train(&t, NULL, "x", 1, 300, AA_SPLIT_REGEX, &err), AA_EUSAGE);
}

static void test_training_threads(void **state) {
    (void)state;
    aa_err err = {0};
    aa_text s = {0};
    for (uint64_t seed = 0; s.len < 3u << 20; seed++) nasty(&s, seed, 10000);
    aa_digest first = {0};
    for (int threads = 1; threads <= 3; threads++) {
        aa_pool *pool = NULL;
        aa_tokenizer *t = NULL;
        check_ok(aa_pool_new(&pool, threads, &err));
        check_ok(aa_tokenizer_train(&t, pool, s.data, s.len, 500, AA_SPLIT_LLAMA3, &err));
        if (threads == 1) first = aa_tokenizer_digest(t);
        assert_true(aa_digest_equal(first, aa_tokenizer_digest(t)));
        aa_tokenizer_free(t);
        aa_pool_free(pool);
    }
    aa_text_release(&s);
}

/* ---- added tokens ---------------------------------------------------------------------------- */

static void check_ids(const aa_tokenizer *t, const char *text, unsigned flags, const int32_t *want,
                      size_t n) {
    aa_err err = {0};
    aa_ids ids = {0};
    check_ok(aa_encode(t, text, strlen(text), flags, &ids, &err));
    for (size_t i = 0; i < n || i < ids.len; i++)
        if (i >= n || i >= ids.len || ids.data[i] != want[i])
            fail_msg("'%s': id %zu of %zu is %d", text, i, ids.len, i < ids.len ? ids.data[i] : -1);
    aa_ids_release(&ids);
}

static void test_added(void **state) {
    (void)state;
    aa_err err = {0};
    char byte[256], texts[][8] = {"<a>", "<a>b", "[L]", "[R]", "word", "x<", "\xE1\xB9\xA9"};
    const char *piece[256];
    size_t len[256];
    for (int b = 0; b < 256; b++) {
        byte[b] = (char)b;
        piece[b] = &byte[b];
        len[b] = 1;
    }
    aa_added_token added[7];
    for (int i = 0; i < 7; i++)
        added[i] = (aa_added_token){
            .id = 300 + i, .text = texts[i], .len = strlen(texts[i]), .special = i < 4};
    added[2].lstrip = added[3].rstrip = added[4].single_word = added[6].normalized = true;
    aa_tokenizer_spec spec = {.kind = AA_TOKENIZER_BPE,
                              .split = AA_SPLIT_GPT2,
                              .nfc = true,
                              .n_vocab = 256,
                              .piece = piece,
                              .piece_len = len,
                              .n_added = 7,
                              .added = added,
                              .bos = 300,
                              .eos = -1,
                              .pad = -1,
                              .unk = -1,
                              .add_bos = true};
    aa_tokenizer *t = NULL;
    check_ok(aa_tokenizer_new(&t, &spec, &err));
#define IDS(text, flags, ...)                                                                      \
    check_ids(t, text, flags, (const int32_t[]){__VA_ARGS__},                                      \
              sizeof((const int32_t[]){__VA_ARGS__}) / 4)
    IDS("<a>b<a>", AA_ENCODE_SPECIALS, 301, 300); /* the longest */
    IDS("<a>", AA_ENCODE_PLAIN, '<', 'a', '>');
    IDS("1 \t[L] 2", AA_ENCODE_SPECIALS, '1', 302, ' ', '2');
    IDS("1 [R]\xE3\x80\x80\n2", AA_ENCODE_SPECIALS, '1', ' ', 303, '2');
    IDS("a word words", AA_ENCODE_PLAIN, 'a', ' ', 304, ' ', 'w', 'o', 'r', 'd', 's');
    IDS("x<a>", AA_ENCODE_SPECIALS, 305, 'a', '>'); /* the first place wins */
    IDS("s\xCC\xA3\xCC\x87", AA_ENCODE_PLAIN, 306); /* found in normalised text */
    IDS("q", AA_ENCODE_BOS, 300, 'q');
    assert_int_equal(aa_tokenizer_vocab(t), 307);
    assert_int_equal(aa_tokenizer_piece_bytes(t, 300), 0);
    assert_int_equal(aa_tokenizer_piece_bytes(t, 304), 4);
    assert_int_equal(aa_tokenizer_piece_bytes(t, 280), 0);
    aa_text out = {0};
    const int32_t ids[] = {300, 'h', 304};
    check_ok(aa_decode(t, ids, 3, false, &out, &err));
    check_ok(aa_decode(t, ids, 3, true, &out, &err));
    assert_string_equal(out.data, "hword<a>hword");
    assert_int_equal(aa_decode(t, (const int32_t[]){280}, 1, true, &out, &err), AA_EFORMAT);
    err = (aa_err){0};
    assert_int_equal(aa_decode(t, (const int32_t[]){-1}, 1, true, &out, &err), AA_EFORMAT);
    aa_text_release(&out);
    aa_tokenizer_free(t);
#undef IDS
}

/* ---- tokenizer.json -------------------------------------------------------------------------- */

static void check_json_round_trip(aa_tokenizer *t) {
    aa_err err = {0};
    aa_text json = {0};
    aa_tokenizer *back = NULL;
    char *path = aa_path_join(check_temp_dir(), "tokenizer.json");
    check_ok(aa_tokenizer_write_json(t, &json, &err));
    check_ok(aa_file_write(path, json.data, json.len, &err));
    check_ok(aa_tokenizer_load(&back, path, &err));
    assert_true(aa_digest_equal(aa_tokenizer_digest(t), aa_tokenizer_digest(back)));
    assert_int_equal(aa_tokenizer_kind_of(t), aa_tokenizer_kind_of(back));
    assert_int_equal(aa_tokenizer_bos(t), aa_tokenizer_bos(back));
    assert_int_equal(aa_tokenizer_eos(t), aa_tokenizer_eos(back));
    aa_text s = {0};
    noise(&s, 5, 4000);
    aa_ids a = {0}, b = {0};
    check_ok(aa_encode(t, s.data, s.len, AA_ENCODE_SPECIALS | AA_ENCODE_BOS, &a, &err));
    check_ok(aa_encode(back, s.data, s.len, AA_ENCODE_SPECIALS | AA_ENCODE_BOS, &b, &err));
    assert_int_equal(a.len, b.len);
    assert_memory_equal(a.data, b.data, a.len * sizeof *a.data);
    aa_ids_release(&a);
    aa_ids_release(&b);
    aa_text_release(&s);
    aa_text_release(&json);
    aa_heap_free(path);
    aa_tokenizer_free(back);
    aa_tokenizer_free(t);
}

static void test_json(void **state) {
    (void)state;
    aa_err err = {0};
    aa_tokenizer *t = NULL;
    for (int split = AA_SPLIT_GPT2; split <= AA_SPLIT_NONE; split++)
        check_json_round_trip(trained(400, (aa_split)split));
    check_ok(aa_tokenizer_new_bytes(&t, &err));
    assert_int_equal(aa_tokenizer_vocab(t), 257);
    check_json_round_trip(t);
}

#define HEAD "{\"added_tokens\":[{\"id\":5,\"content\":\"<s>\",\"special\":true}],"
#define TAIL                                                                                       \
    "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false},\"decoder\":{\"type\":" \
    "\"ByteLevel\"},"
#define VOCAB "\"vocab\":{\"b\":3,\"a\":1,\"ab\":7,\"\\u0120\":0}"
#define MODEL "\"model\":{\"type\":\"BPE\"," VOCAB ",\"merges\":[\"a b\"]}"

static aa_status load_text(aa_tokenizer **t, const char *json, aa_err *out) {
    aa_err err = {0};
    char *path = aa_path_join(check_temp_dir(), "given.json");
    check_ok(aa_file_write(path, json, strlen(json), &err));
    aa_status st = aa_tokenizer_load(t, path, out);
    aa_heap_free(path);
    return st;
}

static void test_reading(void **state) {
    (void)state;
    static const char *const good[] = {
        HEAD TAIL MODEL "}",
        HEAD TAIL
        "\"model\":{" VOCAB
        ",\"merges\":[[\"a\",\"b\"]],\"continuing_subword_prefix\":\"\",\"dropout\":null}}",
        HEAD "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[]},\"post_processor\":{"
             "\"type\":\"Sequence\",\"processors\":"
             "[{\"type\":\"ByteLevel\"},{\"type\":\"TemplateProcessing\",\"single\":[{"
             "\"SpecialToken\":{\"id\":\"<s>\",\"type_id\":0}},"
             "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}],\"special_tokens\":{\"<s>\":{\"id\":\"<"
             "s>\",\"ids\":[5],\"tokens\":[\"<s>\"]}}}]}," TAIL MODEL "}",
        HEAD "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\","
             "\"pattern\":{\"Regex\":\"\\\\S+|\\\\s+\"},\"behavior\":"
             "\"Isolated\",\"invert\":false},{\"type\":\"ByteLevel\",\"add_prefix_space\":false,"
             "\"use_regex\":false}]},"
             "\"decoder\":{\"type\":\"ByteLevel\"}," MODEL "}",
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        aa_err err = {0};
        aa_tokenizer *t = NULL;
        check_ok(load_text(&t, good[i], &err));
        assert_int_equal(aa_tokenizer_vocab(t), 8); /* vocabulary in any order, with holes */
        assert_int_equal(aa_tokenizer_bos(t), 5);
        assert_int_equal(aa_tokenizer_eos(t), -1);
        assert_int_equal(aa_tokenizer_add_bos(t), i == 2);
        check_ids(t, "ab ?ba", 0, (const int32_t[]){7, 0, 3, 1},
                  4); /* a byte without id is left out */
        aa_tokenizer_free(t);
    }
}

static void test_refusals(void **state) {
    (void)state;
    static const struct {
        const char *json;
        aa_status want;
        const char *say;
    } bad[] = {
        {"", AA_EFORMAT, "given.json"},
        {"[]", AA_EFORMAT, "JSON object"},
        {"{}", AA_EFORMAT, "\"model\""},
        {HEAD TAIL "\"model\":{\"type\":\"Unigram\",\"vocab\":[]}}", AA_EUNSUPPORTED,
         "\"Unigram\""},
        {HEAD TAIL "\"model\":{\"type\":\"BPE\",\"byte_fallback\":true}}", AA_EUNSUPPORTED,
         "byte_fallback"},
        {HEAD TAIL "\"model\":{\"type\":\"BPE\",\"dropout\":0.1}}", AA_EUNSUPPORTED, "dropout"},
        {HEAD TAIL "\"model\":{\"type\":\"BPE\",\"end_of_word_suffix\":\"</w>\"}}", AA_EUNSUPPORTED,
         "end_of_word_suffix"},
        {HEAD TAIL "\"model\":{\"vocab\":[]}}", AA_EFORMAT, "model.vocab"},
        {HEAD TAIL "\"model\":{\"vocab\":{\"a\":1.5},\"merges\":[]}}", AA_EFORMAT,
         "'a' must be an integer"},
        {HEAD TAIL "\"model\":{\"vocab\":{\"a\":-1},\"merges\":[]}}", AA_EFORMAT, "0 to 4194303"},
        {HEAD TAIL "\"model\":{\"vocab\":{\"a\":99999999},\"merges\":[]}}", AA_EFORMAT,
         "0 to 4194303"},
        {HEAD TAIL "\"model\":{\"vocab\":{\"a\":1,\"b\":1},\"merges\":[]}}", AA_EFORMAT,
         "both have id 1"},
        {HEAD TAIL "\"model\":{\"vocab\":{\"a\":1,\"a b\":2},\"merges\":[]}}", AA_EUNSUPPORTED,
         "byte-level"},
        {HEAD TAIL "\"model\":{\"vocab\":{\"\":1},\"merges\":[]}}", AA_EUNSUPPORTED, "byte-level"},
        {HEAD TAIL "\"model\":{" VOCAB "}}", AA_EFORMAT, "model.merges"},
        {HEAD TAIL "\"model\":{" VOCAB ",\"merges\":[\"a\"]}}", AA_EFORMAT,
         "[0] must be two pieces"},
        {HEAD TAIL "\"model\":{" VOCAB ",\"merges\":[[\"a\",3]]}}", AA_EFORMAT,
         "[0] must be two pieces"},
        {HEAD TAIL "\"model\":{" VOCAB ",\"merges\":[\"a b\",\"a c\"]}}", AA_EFORMAT, "[1]: 'c'"},
        {HEAD TAIL "\"model\":{" VOCAB ",\"merges\":[\"b a\"]}}", AA_EFORMAT, "no id"},
        {HEAD TAIL "\"model\":{" VOCAB ",\"merges\":[],\"unk_token\":\"<unk>\"}}", AA_EFORMAT,
         "<unk>"},
        {HEAD TAIL "\"model\":{\"vocab\":{\"<s>\":4},\"merges\":[]}}", AA_EFORMAT,
         "'<s>' has id 5"},
        {"{\"added_tokens\":7," TAIL MODEL "}", AA_EFORMAT, "added_tokens"},
        {"{\"added_tokens\":[{\"id\":5}]," TAIL MODEL "}", AA_EFORMAT, "content"},
        {"{\"added_tokens\":[{\"id\":5,\"content\":\"x\"},{\"id\":5,\"content\":\"y\"}]," TAIL MODEL
         "}",
         AA_EFORMAT, "two added tokens"},
        {"{\"added_tokens\":[{\"id\":5,\"content\":\"x\"},{\"id\":6,\"content\":\"x\"}]," TAIL MODEL
         "}",
         AA_EFORMAT, "both the added token"},
        {HEAD "\"normalizer\":{\"type\":\"Lowercase\"}," TAIL MODEL "}", AA_EUNSUPPORTED,
         "Lowercase"},
        {HEAD "\"pre_tokenizer\":null," MODEL "}", AA_EUNSUPPORTED, "pre_tokenizer"},
        {HEAD "\"pre_tokenizer\":{\"type\":\"Metaspace\"}," MODEL "}", AA_EUNSUPPORTED,
         "Metaspace"},
        {HEAD "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Digits\","
              "\"individual_digits\":false},{\"type\":"
              "\"ByteLevel\",\"add_prefix_space\":false}]}," MODEL "}",
         AA_EUNSUPPORTED, "pre_tokenizer"},
        {HEAD "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\","
              "\"pattern\":{\"Regex\":\"(\"},\"behavior\":"
              "\"Isolated\"},{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":"
              "false}]},\"decoder\":{\"type\":\"ByteLevel\"}," MODEL "}",
         AA_EUNSUPPORTED, "regex"},
        {HEAD "\"post_processor\":{\"type\":\"BertProcessing\"}," TAIL MODEL "}", AA_EUNSUPPORTED,
         "BertProcessing"},
        {HEAD
         "\"pre_tokenizer\":{\"type\":\"ByteLevel\"},\"decoder\":{\"type\":\"WordPiece\"}," MODEL
         "}",
         AA_EUNSUPPORTED, "WordPiece"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        aa_err err = {0};
        aa_tokenizer *t = NULL;
        aa_status st = load_text(&t, bad[i].json, &err);
        if (st != bad[i].want || !strstr(err.message, bad[i].say) ||
            !strstr(err.message, "given.json"))
            fail_msg("case %zu: status %d, '%s'; wanted %d, '%s'", i, st, err.message, bad[i].want,
                     bad[i].say);
        assert_null(t);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_classes),
        cmocka_unit_test(test_splits),
        cmocka_unit_test(test_cuts),
        cmocka_unit_test(test_merges),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_training),
        cmocka_unit_test(test_training_threads),
        cmocka_unit_test(test_added),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_reading),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests_name("unit_tokenizer", tests, NULL, NULL);
}
