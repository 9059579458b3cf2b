/* SentencePiece vocabularies: merges by score against a plain search, byte tokens, the space before
 * a text, and the four forms they are stored in. */
#include "support/check.h"
#include <math.h>
#include <string.h>
#include "base/file.h"
#include "base/memory.h"
#include "base/rng.h"
#include "data/tokenizer.h"

#define MARK "\xE2\x96\x81"
enum { BYTES_AT = 3, PIECES_AT = 259, MAX = 400 };

/* <unk>, <s>, </s>, the bytes, then pieces. */
typedef struct vocab {
    char text[MAX][24];
    const char *token[MAX];
    size_t len[MAX];
    float score[MAX];
    int32_t type[MAX];
    aa_ggml_vocab v;
} vocab;

static void add(vocab *m, const char *text, float score, aa_token_type type) {
    size_t i = m->v.n_tokens++;
    assert_in_range(i, 0, MAX - 1);
    m->len[i] = (size_t)snprintf(m->text[i], sizeof m->text[i], "%s", text);
    m->token[i] = m->text[i];
    m->score[i] = score;
    m->type[i] = type;
}

static void start(vocab *m) {
    char text[8];
    *m = (vocab){.v = {.model = "llama", .bos = 1, .eos = 2, .unk = 0, .pad = -1, .add_bos = -1,
                       .add_space_prefix = -1}};
    m->v.token = m->token;
    m->v.token_len = m->len;
    m->v.score = m->score;
    m->v.type = m->type;
    add(m, "<unk>", 0, AA_TOKEN_UNKNOWN);
    add(m, "<s>", 0, AA_TOKEN_CONTROL);
    add(m, "</s>", 0, AA_TOKEN_CONTROL);
    for (int b = 0; b < 256; b++) {
        snprintf(text, sizeof text, "<0x%02X>", b);
        add(m, text, 0, AA_TOKEN_BYTE);
    }
}

static aa_tokenizer *made(const vocab *m) {
    aa_err err = {0};
    aa_tokenizer *t = NULL;
    check_ok(aa_tokenizer_new_ggml(&t, &m->v, &err));
    return t;
}

static void check_ids(const aa_tokenizer *t, const char *text, unsigned flags, const int32_t *want,
                      size_t n) {
    aa_err err = {0};
    aa_ids ids = {0};
    check_ok(aa_encode(t, text, strlen(text), flags, &ids, &err));
    if (ids.len != n || memcmp(ids.data, want, n * sizeof *want) != 0) {
        for (size_t i = 0; i < ids.len; i++) print_message("%d ", ids.data[i]);
        fail_msg("'%s' has other ids", text);
    }
    aa_ids_release(&ids);
}
#define IDS(t, text, flags, ...)                                                                   \
    check_ids(t, text, flags, (const int32_t[]){__VA_ARGS__},                                      \
              sizeof((const int32_t[]){__VA_ARGS__}) / sizeof(int32_t))

/* ---- a small vocabulary, by hand ------------------------------------------------------------- */

enum { SPACE = PIECES_AT, A, B, SPACE_A, AB, SPACE_AB, E_ACUTE, USER, UNUSED, SPACES };

static void by_hand(vocab *m) {
    start(m);
    add(m, MARK, -10, AA_TOKEN_NORMAL);
    add(m, "a", -11, AA_TOKEN_NORMAL);
    add(m, "b", -12, AA_TOKEN_NORMAL);
    add(m, MARK "a", -2, AA_TOKEN_NORMAL);
    add(m, "ab", -1, AA_TOKEN_NORMAL);
    add(m, MARK "ab", -3, AA_TOKEN_NORMAL);
    add(m, "\xC3\xA9", -13, AA_TOKEN_NORMAL);
    add(m, "<u>", 0, AA_TOKEN_USER);
    add(m, "[PAD267]", 0, AA_TOKEN_UNUSED);
    add(m, MARK MARK, -4, AA_TOKEN_NORMAL);
}

static void test_encoding(void **state) {
    (void)state;
    vocab m;
    by_hand(&m);
    aa_tokenizer *t = made(&m);
    assert_int_equal(aa_tokenizer_kind_of(t), AA_TOKENIZER_SPM);
    assert_int_equal(aa_tokenizer_vocab(t), SPACES + 1);
    IDS(t, "ab", AA_ENCODE_BOS, 1, SPACE_AB);
    IDS(t, " ab", 0, SPACE, SPACE_AB);            /* the space is put before spaces, too */
    IDS(t, "aab", 0, SPACE_A, AB);
    IDS(t, "ba", 0, SPACE, B, A);
    IDS(t, MARK "b", 0, SPACES, B);               /* the mark is a space */
    IDS(t, "\xC3\xA9\n", 0, SPACE, E_ACUTE, BYTES_AT + '\n');
    IDS(t, "\xE2\x82\xAC", 0, SPACE, BYTES_AT + 0xE2, BYTES_AT + 0x82, BYTES_AT + 0xAC);
    IDS(t, "\xC3", 0, SPACE, BYTES_AT + 0xC3);    /* no UTF-8 */
    IDS(t, "a<u>a", 0, SPACE_A, USER, SPACE_A);   /* each stretch has the space */
    IDS(t, "</s>a", AA_ENCODE_SPECIALS, 2, SPACE_A);
    IDS(t, "</s>", 0, SPACE, BYTES_AT + '<', BYTES_AT + '/', BYTES_AT + 's', BYTES_AT + '>');
    assert_int_equal(aa_tokenizer_piece_bytes(t, SPACE_AB), 3);
    assert_int_equal(aa_tokenizer_piece_bytes(t, BYTES_AT), 1);
    aa_tokenizer_free(t);
    m.v.add_space_prefix = m.v.add_bos = 0;
    t = made(&m);
    IDS(t, "ab ab", AA_ENCODE_BOS, AB, SPACE_AB);
    aa_tokenizer_free(t);
}

static void test_decoding(void **state) {
    (void)state;
    vocab m;
    aa_err err = {0};
    aa_text out = {0};
    by_hand(&m);
    aa_tokenizer *t = made(&m);
    const int32_t ids[] = {1, SPACE_AB, BYTES_AT + 0xE2, BYTES_AT + 0x82, BYTES_AT + 0xAC, USER};
    check_ok(aa_decode(t, ids, 6, AA_DECODE_START, &out, &err));
    assert_string_equal(out.data, "ab\xE2\x82\xAC<u>");
    check_ok(aa_decode(t, ids + 1, 1, AA_DECODE_PLAIN, &out, &err));
    assert_string_equal(out.data, "ab\xE2\x82\xAC<u> ab");
    aa_text_clear(&out);
    check_ok(aa_decode(t, ids, 2, AA_DECODE_START | AA_DECODE_SPECIALS, &out, &err));
    assert_string_equal(out.data, "<s> ab");
    aa_text_release(&out);
    aa_tokenizer_free(t);
}

/* ---- by score, against a plain search -------------------------------------------------------- */

static int32_t token_of(const vocab *m, const char *s, size_t n) {
    for (size_t i = PIECES_AT; i < m->v.n_tokens; i++)
        if (m->len[i] == n && memcmp(m->text[i], s, n) == 0) return (int32_t)i;
    return -1;
}

/* llama.cpp's rule on text of one-byte characters, spaces being marks: of all neighbours that make
 * a token the best score is joined, the leftmost of equals. */
static size_t by_search(const vocab *m, const char *text, int32_t *out) {
    char marked[256];
    size_t at[256], n = 0, len = 0;
    for (const char *s = text; *s; s++) {
        at[n++] = len;
        len += (size_t)snprintf(marked + len, 8, *s == ' ' ? MARK : "%c", *s);
    }
    at[n] = len;
    for (;;) {
        size_t best = n;
        float score = 0;
        for (size_t i = 0; i + 1 < n; i++) {
            int32_t id = token_of(m, marked + at[i], at[i + 2] - at[i]);
            if (id < 0 || (best < n && m->score[id] <= score)) continue;
            best = i;
            score = m->score[id];
        }
        if (best == n) break;
        memmove(&at[best + 1], &at[best + 2], (n - best - 1) * sizeof *at);
        n--;
    }
    for (size_t i = 0; i < n; i++) out[i] = token_of(m, marked + at[i], at[i + 1] - at[i]);
    return n;
}

static void test_scores(void **state) {
    (void)state;
    static const char *const letters[] = {MARK, "a", "b", "c"};
    aa_rng r;
    aa_rng_init(&r, 7, AA_RNG_TEST, 1);
    for (int round = 0; round < 60; round++) {
        vocab m;
        start(&m);
        for (int i = 0; i < 4; i++) add(&m, letters[i], -100, AA_TOKEN_NORMAL);
        for (int i = 0; i < 40; i++) {            /* equal scores are frequent */
            char text[24] = "";
            for (uint64_t k = 2 + aa_rng_below(&r, 4), at = 0; k; k--) {
                uint64_t which = round % 2 && at ? 1 + aa_rng_below(&r, 3) : aa_rng_below(&r, 4);
                at += (uint64_t)snprintf(text + at, sizeof text - at, "%s", letters[which]);
            }
            if (token_of(&m, text, strlen(text)) < 0)
                add(&m, text, -(float)aa_rng_below(&r, 12), AA_TOKEN_NORMAL);
        }
        aa_tokenizer *t = made(&m);
        for (int k = 0; k < 40; k++) {
            char text[101] = " ";
            int32_t want[100];
            size_t n = 1 + aa_rng_below(&r, k < 20 ? 12 : 99);
            for (size_t i = 1; i < n; i++) text[i] = " abc"[aa_rng_below(&r, 4)];
            text[n] = 0;
            if (n == 1) continue;
            n = by_search(&m, text, want);
            check_ids(t, text + 1, 0, want, n);
        }
        aa_tokenizer_free(t);
    }
}

/* ---- the forms they are stored in ------------------------------------------------------------ */

static aa_tokenizer *reloaded(const aa_text *form) {
    aa_err err = {0};
    aa_tokenizer *t = NULL;
    char *path = aa_path_join(check_temp_dir(), "spm.tokenizer");
    check_ok(aa_file_write(path, form->data, form->len, &err));
    check_ok(aa_tokenizer_load(&t, path, &err));
    aa_heap_free(path);
    return t;
}

static void check_same(const aa_tokenizer *a, const aa_tokenizer *b) {
    aa_digest x = aa_tokenizer_digest(a), y = aa_tokenizer_digest(b);
    assert_memory_equal(&x, &y, sizeof x);
}

static void check_json(const aa_tokenizer *t) {
    aa_err err = {0};
    aa_text json = {0};
    check_ok(aa_tokenizer_write_json(t, &json, &err));
    aa_tokenizer *back = reloaded(&json);
    check_same(t, back);
    aa_tokenizer_free(back);
    aa_text_release(&json);
}

static void check_ggml(const aa_tokenizer *t, size_t rows) {
    aa_err err = {0};
    aa_arena arena;
    aa_ggml_vocab v;
    aa_tokenizer *back = NULL;
    aa_arena_init(&arena, "test");
    check_ok(aa_tokenizer_ggml(t, rows, &arena, &v, &err));
    assert_int_equal(v.n_tokens, rows);
    check_ok(aa_tokenizer_new_ggml(&back, &v, &err));
    check_same(t, back);
    aa_tokenizer_free(back);
    aa_arena_release(&arena);
}

static void test_forms(void **state) {
    (void)state;
    vocab m;
    aa_err err = {0};
    aa_text bin = {0}, json = {0};
    by_hand(&m);
    aa_tokenizer *t = made(&m);
    check_json(t);
    check_ggml(t, 300);
    check_ok(aa_tokenizer_write_json(t, &json, &err)); /* scores of merges are found again */
    aa_tokenizer *from_json = reloaded(&json);
    check_ggml(from_json, 300);
    aa_tokenizer_free(from_json);
    aa_tokenizer_free(t);
    m.v.n_tokens = USER;                          /* llama2.c has no such types */
    t = made(&m);
    check_ok(aa_tokenizer_write_llama2c(t, &bin, &err));
    aa_tokenizer *back = reloaded(&bin);
    check_same(t, back);
    aa_tokenizer_free(back);
    aa_tokenizer_free(t);
    m.v.add_space_prefix = 0;
    t = made(&m);
    check_json(t);
    check_ggml(t, 400);
    assert_int_equal(aa_tokenizer_write_llama2c(t, &bin, &err), AA_EUNSUPPORTED);
    aa_tokenizer_free(t);
    aa_text_release(&bin);
    aa_text_release(&json);
}

/* Byte-level BPE through GGUF's form. */
static void test_byte_level(void **state) {
    (void)state;
    static const char text[] = "the cat ate the rat that the cat's hat sat at, 12 times 34";
    for (int split = AA_SPLIT_GPT2; split <= AA_SPLIT_NONE; split++) {
        aa_err err = {0};
        aa_tokenizer *t = NULL;
        aa_arena arena;
        aa_ggml_vocab v;
        check_ok(aa_tokenizer_train(&t, NULL, text, sizeof text - 1, 290, (aa_split)split, &err));
        if (split == AA_SPLIT_NONE) {
            aa_arena_init(&arena, "test");
            assert_int_equal(aa_tokenizer_ggml(t, 0, &arena, &v, &err), AA_EUNSUPPORTED);
            aa_arena_release(&arena);
        } else if (split != AA_SPLIT_LLAMA3) {    /* whose whole words are llama.cpp's addition */
            check_ggml(t, 320);
        }
        aa_tokenizer_free(t);
    }
}

static void test_refusals(void **state) {
    (void)state;
    static const struct { const char *what, *say; } bad[] = {
        {"model", "'bert'; supported: gpt2, llama"}, {"pre", "'tekken'; supported"},
        {"type", "token_type[259] is 9"},            {"byte", "[3], '<0xZZ>'"},
        {"score", "not a number"},                   {"twice", "stand for the same bytes"},
        {"long", "1 to 512"},                        {"merge", "merges[0], 'ab'"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        vocab m;
        aa_err err = {0};
        aa_tokenizer *t = NULL;
        char *filler = aa_heap_alloc(600, 1);
        const char *what = bad[i].what, *merge = "ab";
        size_t merge_len = 2;
        by_hand(&m);
        memset(filler, 'x', 600);
        if (!strcmp(what, "model")) m.v.model = "bert";
        if (!strcmp(what, "pre")) m.v.model = "gpt2", m.v.pre = "tekken", m.v.n_tokens = 3;
        if (!strcmp(what, "type")) m.type[PIECES_AT] = 9;
        if (!strcmp(what, "byte")) m.token[BYTES_AT] = "<0xZZ>";
        if (!strcmp(what, "score")) m.score[A] = NAN;
        if (!strcmp(what, "twice")) m.token[A] = "b";
        if (!strcmp(what, "long")) m.token[A] = filler, m.len[A] = 600;
        if (!strcmp(what, "merge"))
            m.v.model = "gpt2", m.v.n_tokens = 3, m.v.merge = &merge, m.v.merge_len = &merge_len,
            m.v.n_merges = 1;
        aa_status st = aa_tokenizer_new_ggml(&t, &m.v, &err);
        if (st == AA_OK || !strstr(err.message, bad[i].say))
            fail_msg("%s: status %d, '%s'", what, st, err.message);
        assert_null(t);
        aa_heap_free(filler);
    }
}

/* A line feed inside a piece is no place to cut a text for several threads. */
static void threads_change_nothing(void **state) {
    enum { N = 200000 };
    (void)state;
    static vocab m;
    aa_err err = {0};
    aa_ids one = {0}, many = {0};
    aa_pool *pool;
    char *text = aa_heap_alloc(N, 2);
    start(&m);
    add(&m, "a", -1, AA_TOKEN_NORMAL);
    add(&m, "\n", -2, AA_TOKEN_NORMAL);
    add(&m, "a\n", -3, AA_TOKEN_NORMAL);
    aa_tokenizer *t = made(&m);
    for (size_t i = 0; i < N; i++) memcpy(text + 2 * i, "a\n", 2);
    check_ok(aa_pool_new(&pool, 2, &err));
    check_ok(aa_encode(t, text, 2 * N, AA_ENCODE_PLAIN, &one, &err));
    check_ok(aa_encode_parallel(t, pool, text, 2 * N, AA_ENCODE_PLAIN, &many, &err));
    assert_int_equal(many.len, one.len);
    assert_memory_equal(many.data, one.data, one.len * sizeof *one.data);
    aa_pool_free(pool);
    aa_tokenizer_free(t);
    aa_ids_release(&one), aa_ids_release(&many);
    aa_heap_free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_encoding), cmocka_unit_test(test_decoding),
        cmocka_unit_test(test_scores),   cmocka_unit_test(test_forms),
        cmocka_unit_test(test_byte_level), cmocka_unit_test(test_refusals),
        cmocka_unit_test(threads_change_nothing),
    };
    return cmocka_run_group_tests_name("unit_spm", tests, NULL, NULL);
}
