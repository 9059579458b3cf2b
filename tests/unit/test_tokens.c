/* data/tokens: documents of every kind of source, the token file there and back, foreign and
 * hostile files. */
#include "support/check.h"
#include <stdlib.h>
#include "base/file.h"
#include "base/memory.h"
#include "base/pool.h"
#include "data/tokens.h"

static char *path_of(const char *name) { return aa_path_join(check_temp_dir(), name); }

/* Written plainly: aa_file_write syncs the disk, which thousands of files would wait for. */
static void put(const char *path, const void *p, size_t n) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(p, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static void put_text(const char *path, const char *s) { put(path, s, strlen(s)); }

/* ---- documents ------------------------------------------------------------------------------- */

typedef struct seen {
    aa_text all;
    size_t n, longest, shortest;
} seen;

static aa_status see(void *ctx, const char *text, size_t n, aa_err *err) {
    seen *s = ctx;
    aa_text_add_bytes(&s->all, text, n);
    aa_text_add(&s->all, "|");
    if (n > s->longest) s->longest = n;
    if (!s->n || n < s->shortest) s->shortest = n;
    s->n++;
    return aa_text_status(&s->all, err);
}

static void paragraphs(aa_text *t, int n, const char *between) {
    for (int i = 0; i < n; i++) {
        for (int k = 0; k < 40; k++)
            aa_text_printf(t, "word%d of paragraph %d%s", k, i, k % 10 == 9 ? "\n" : " ");
        aa_text_add(t, between);
    }
}

static void test_text_documents(void **state) {
    (void)state;
    aa_err err = {0};
    aa_text t = {0};
    char *path = path_of("plain.txt");
    paragraphs(&t, 100, " \t\r\n\n");
    put(path, t.data, t.len);
    seen s = {0};
    check_ok(aa_documents(path, see, &s, &err));
    assert_true(s.n > 5 && s.shortest > 1000); /* the last may be short */
    assert_true(s.longest >= 4096 && s.longest < 4096 + 1200);
    /* what was seen stays where it was when text is appended */
    size_t before = s.n, keep = 0;
    for (size_t i = 0, bars = 0; i < s.all.len && bars + 1 < before; i++, keep++)
        bars += s.all.data[i] == '|';
    paragraphs(&t, 30, "\n");
    put(path, t.data, t.len);
    seen more = {0};
    check_ok(aa_documents(path, see, &more, &err));
    assert_true(more.n > before);
    assert_memory_equal(s.all.data, more.all.data, keep);
    aa_text_release(&s.all);
    aa_text_release(&more.all);
    aa_text_release(&t);
    aa_heap_free(path);
}

static void test_text_without_blank_lines(void **state) {
    (void)state;
    aa_err err = {0};
    char *path = path_of("long.txt");
    aa_text t = {0};
    for (int i = 0; i < 30000; i++)
        aa_text_add(&t, "\xE6\x97\xA5"); /* no space, no line end: 90 kB */
    put(path, t.data, t.len);
    seen s = {0};
    check_ok(aa_documents(path, see, &s, &err));
    assert_int_equal(s.longest, 4 * 4096 - 1); /* 16 KiB, back to a code point's start */
    assert_int_equal(s.all.len - s.n, t.len);
    aa_text_release(&s.all);
    aa_text_clear(&t);
    s = (seen){0};
    for (int i = 0; i < 20000; i++) aa_text_printf(&t, "line %d\n", i);
    put(path, t.data, t.len);
    check_ok(aa_documents(path, see, &s, &err));
    assert_true(s.shortest > 4090 && s.longest <= 4 * 4096 &&
                s.n > 40); /* the rest of a text may be long */
    assert_memory_equal(s.all.data + s.all.len - 12, "\nline 19999|", 12);
    aa_text_release(&s.all);
    aa_text_release(&t);
    aa_heap_free(path);
}

static void test_jsonl(void **state) {
    (void)state;
    aa_err err = {0};
    char *path = path_of("a.jsonl");
    put_text(path, "{\"text\":\"one\"}\n\n{\"id\":3,\"text\":\"two "
                   "\\u00e9\"}\r\n{\"text\":\"\"}\n{\"text\":\"three\"}");
    seen s = {0};
    check_ok(aa_documents(path, see, &s, &err));
    assert_string_equal(s.all.data, "one|two \xC3\xA9|three|");
    static const char *const bad[][2] = {
        {"{\"text\":\"one\"}\n{\"text\":\"two\"\n", "a.jsonl:2"},
        {"{\"text\":\"one\"}\n\n{\"text\":5}\n", "a.jsonl:3"},
        {"[1]\n", "a.jsonl:1"},
        {"{\"body\":\"x\"}\n", "no field \"text\""},
        {"\n\n", "holds no text"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        put_text(path, bad[i][0]);
        err = (aa_err){0};
        assert_int_equal(aa_documents(path, see, &s, &err), AA_EFORMAT);
        if (!strstr(err.message, bad[i][1]))
            fail_msg("'%s' does not say '%s'", err.message, bad[i][1]);
    }
    aa_text_release(&s.all);
    aa_heap_free(path);
}

static void test_directory(void **state) {
    (void)state;
    aa_err err = {0};
    char *dir = path_of("corpus"), *sub = aa_path_join(dir, "b/deep"),
         *hidden = aa_path_join(dir, ".git");
    check_ok(aa_make_dirs(sub, &err));
    check_ok(aa_make_dirs(hidden, &err));
    static const char *const files[][2] = {{"b/deep/x.txt", "X"}, {"b.txt", "B"},
                                           {"a.md", "A"},         {"c.jsonl", "{\"text\":\"C\"}"},
                                           {"skip.bin", "no"},    {".hidden.txt", "no"},
                                           {".git/d.txt", "no"}};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char *path = aa_path_join(dir, files[i][0]);
        put_text(path, files[i][1]);
        aa_heap_free(path);
    }
    seen s = {0};
    check_ok(aa_documents(dir, see, &s, &err));
    assert_string_equal(s.all.data, "A|B|X|C|"); /* "b.txt" before "b/" in byte order */
    aa_digest one, two;
    check_ok(aa_source_digest(&one, dir, &err));
    char *path = aa_path_join(dir, "a.md");
    put_text(path, "a");
    check_ok(aa_source_digest(&two, dir, &err));
    assert_false(aa_digest_equal(one, two));
    char *empty = path_of("empty");
    check_ok(aa_make_dirs(empty, &err));
    assert_int_equal(aa_documents(empty, see, &s, &err), AA_ENOTFOUND);
    assert_non_null(strstr(err.message, "*.jsonl"));
    err = (aa_err){0};
    assert_int_equal(aa_documents("/nowhere/at/all", see, &s, &err), AA_ENOTFOUND);
    aa_text_release(&s.all);
    char *const all[] = {dir, sub, hidden, path, empty};
    for (size_t i = 0; i < 5; i++) aa_heap_free(all[i]);
}

/* ---- token files ----------------------------------------------------------------------------- */

static aa_tokenizer *bytes(void) {
    aa_err err = {0};
    aa_tokenizer *t = NULL;
    check_ok(aa_tokenizer_new_bytes(&t, &err));
    return t;
}

static char *read_all(const char *path, size_t *n) {
    aa_err err = {0};
    aa_sys_map map;
    check_ok(aa_map_open(&map, path, &err));
    char *copy = aa_heap_alloc(map.size_bytes + 1, 1);
    if (map.size_bytes) memcpy(copy, map.data, map.size_bytes);
    *n = map.size_bytes;
    aa_sys_map_close(&map);
    return copy;
}

static void on_progress(void *ctx, aa_tokenize_progress p) {
    aa_tokenize_progress *last = ctx;
    assert_true(p.done_bytes >= last->done_bytes && p.done_bytes <= p.total_bytes);
    *last = p;
}

static void test_round_trip(void **state) {
    (void)state;
    aa_err err = {0};
    aa_tokenizer *tok = bytes();
    aa_text t = {0};
    paragraphs(&t, 400, "\n");
    char *source = path_of("rt.txt"), *one = path_of("one.tok"), *three = path_of("three.tok");
    put(source, t.data, t.len);
    aa_pool *pool = NULL;
    check_ok(aa_pool_new(&pool, 3, &err));
    aa_tokenize_progress last = {0};
    const aa_tokenize_options o = {.progress = on_progress, .ctx = &last};
    check_ok(aa_tokenize(source, tok, NULL, one, &o, &err));
    check_ok(aa_tokenize(source, tok, pool, three, NULL, &err));
    assert_int_equal(last.done_bytes, t.len);
    size_t n, m;
    char *a = read_all(one, &n), *b = read_all(three, &m);
    assert_int_equal(n, m);
    assert_memory_equal(a, b, n); /* any number of threads, the same file */
    aa_tokens k;
    check_ok(aa_tokens_open(&k, one, aa_tokenizer_vocab(tok), -1, true, &err));
    seen s = {0};
    check_ok(aa_documents(source, see, &s, &err));
    assert_int_equal(k.n_documents, s.n);
    assert_int_equal(k.n_tokens, s.all.len); /* a byte each, and eos where the bar is */
    assert_int_equal(k.n_bytes, s.all.len - s.n);
    assert_true(aa_digest_equal(k.tokenizer, aa_tokenizer_digest(tok)));
    for (uint64_t i = 0; i < k.n_tokens; i++) {
        int32_t id = aa_tokens_at(&k, i);
        assert_int_equal(id, s.all.data[i] == '|' ? 256 : (unsigned char)s.all.data[i]);
    }
    size_t parts[AA_PART_COUNT] = {0}, at = 0;
    for (uint64_t d = 0; d < k.n_documents; d++) {
        size_t len = k.document[d + 1] - k.document[d] - 1;
        assert_int_equal(k.part[d], aa_part_of(aa_digest_bytes(s.all.data + at, len)));
        parts[k.part[d]]++;
        at += len + 1;
    }
    assert_true(parts[AA_PART_TRAIN] > 50 && parts[AA_PART_VALID] && parts[AA_PART_TEST]);
    assert_true(aa_tokens_is_file(one) && !aa_tokens_is_file(source));
    aa_tokens_close(&k);
    aa_text sample = {0};
    check_ok(aa_source_sample(source, 50000, &sample, &err));
    assert_true(sample.len > 35000 && sample.len <= 50000);
    aa_text_release(&sample);
    check_ok(aa_source_sample(source, 3, &sample, &err)); /* less than a document: the beginning */
    assert_string_equal(sample.data, "wor");
    aa_text_release(&sample);
    check_ok(aa_source_text(source, t.len, &sample, &err)); /* all of it, as it is */
    assert_int_equal(sample.len, t.len);
    assert_memory_equal(sample.data, t.data, t.len);
    aa_text_release(&sample);
    check_ok(aa_source_text(source, t.len - 1, &sample, &err));
    assert_true(sample.len < t.len && sample.len > t.len * 9 / 10);
    aa_text_release(&sample);
    aa_text_release(&s.all);
    aa_text_release(&t);
    aa_pool_free(pool);
    aa_tokenizer_free(tok);
    char *const all[] = {source, one, three, a, b};
    for (size_t i = 0; i < 5; i++) aa_heap_free(all[i]);
}

/* Every corpus that can be divided has something to train on and something to validate on. */
static void test_small_corpora(void **state) {
    (void)state;
    aa_err err = {0};
    aa_tokenizer *tok = bytes();
    char *source = path_of("small.jsonl"), *out = path_of("small.tok");
    for (int docs = 1; docs < 12; docs++) {
        aa_text t = {0};
        for (int i = 0; i < docs; i++)
            aa_text_printf(&t, "{\"text\":\"document %d of %d\"}\n", i, docs);
        put(source, t.data, t.len);
        aa_text_release(&t);
        check_ok(aa_tokenize(source, tok, NULL, out, NULL, &err));
        aa_tokens k;
        check_ok(aa_tokens_open(&k, out, 0, -1, true, &err));
        size_t parts[AA_PART_COUNT] = {0};
        for (uint64_t d = 0; d < k.n_documents; d++) parts[k.part[d]]++;
        assert_int_equal(k.n_documents, docs == 1 ? 2 : docs);
        assert_true(parts[AA_PART_TRAIN] && parts[AA_PART_VALID]);
        aa_tokens_close(&k);
    }
    put_text(source, "");
    assert_int_equal(aa_tokenize(source, tok, NULL, out, NULL, &err), AA_EFORMAT);
    assert_non_null(strstr(err.message, "give a text file"));
    aa_tokens k;
    err = (aa_err){0};
    check_ok(
        aa_tokens_open(&k, out, 0, -1, true, &err)); /* the target is untouched by the failure */
    aa_tokens_close(&k);
    aa_tokenizer_free(tok);
    aa_heap_free(source);
    aa_heap_free(out);
}

static void expect(const char *path, uint64_t vocab, bool verify, aa_status want, const char *say) {
    aa_err err = {0};
    aa_tokens k = {.n_tokens = 77};
    aa_status st = aa_tokens_open(&k, path, vocab, -1, verify, &err);
    if (st != want || !strstr(err.message, say))
        fail_msg("status %d, '%s'; wanted %d, '%s'", st, err.message, want, say);
    assert_int_equal(k.n_tokens, 77); /* untouched */
}

static void put64(char *p, uint64_t v) { memcpy(p, &v, 8); }

static void test_damaged(void **state) {
    (void)state;
    aa_err err = {0};
    aa_tokenizer *tok = bytes();
    char *source = path_of("d.jsonl"), *path = path_of("d.tok");
    put_text(source, "{\"text\":\"alpha\"}\n{\"text\":\"beta\"}\n{\"text\":\"gamma\"}\n");
    check_ok(aa_tokenize(source, tok, NULL, path, NULL, &err));
    size_t n;
    char *good = read_all(path, &n), *bad = aa_heap_alloc(n, 1);
    for (size_t cut = 0; cut < n; cut += 1 + cut / 16) { /* truncated anywhere */
        put(path, good, cut);
        aa_tokens k;
        aa_err e = {0};
        assert_int_equal(aa_tokens_open(&k, path, 257, -1, true, &e), AA_EFORMAT);
    }
    for (size_t i = 0; i < n; i++) { /* any byte changed is noticed, and nothing worse */
        memcpy(bad, good, n);
        bad[i] = (char)(bad[i] ^ 0x55);
        put(path, bad, n);
        aa_tokens k;
        aa_err e = {0};
        assert_int_not_equal(aa_tokens_open(&k, path, 257, -1, true, &e), AA_OK);
        e = (aa_err){0};
        if (aa_tokens_open(&k, path, 257, -1, false, &e) == AA_OK) {
            for (uint64_t t = 0; t < k.n_tokens; t++) assert_in_range(aa_tokens_at(&k, t), 0, 256);
            aa_tokens_close(&k);
        }
    }
    static const struct {
        long at;
        uint64_t value;
        const char *say;
    } lies[] = {
        {-112, UINT64_MAX, "do not hold"},
        {-112, UINT64_MAX / 2 + 20, "do not hold"},
        {-104, UINT64_MAX / 9, "do not hold"},
        {-104, 0, "begin at token 0"},
        {-88, 0, "vocabulary of 0"},
        {-88, 1u << 20, "vocabulary of 1048576"},
        {128 + 8, 0, "document 0 begins"},
        {128 + 8, 1000, "document 1 begins"},
        {128, 1, "begin at token 0"},
        {128 + 24, 18, "end at token 18"},
        {128 + 32, 9, "in part 9"},
        {64, 300, "token 0 is 300"},
    };
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        memcpy(bad, good, n);
        put64(bad + (lies[i].at < 0 ? (long)n + lies[i].at : lies[i].at), lies[i].value);
        put(path, bad, n);
        expect(path, 0, false, AA_EFORMAT, lies[i].say);
    }
    put(path, good, n);
    expect(path, 100, false, AA_EFORMAT, "another tokenizer's");
    aa_tokenizer_free(tok);
    char *const all[] = {source, path, good, bad};
    for (size_t i = 0; i < 4; i++) aa_heap_free(all[i]);
}

static void test_foreign(void **state) {
    (void)state;
    aa_err err = {0};
    char *raw = path_of("raw.bin"), *llmc = path_of("llmc.bin"), *other = path_of("other.dat");
    uint16_t ids[10000];
    for (size_t i = 0; i < 10000; i++) ids[i] = (uint16_t)(i % 100 == 99 ? 0 : 1 + i * 7 % 500);
    put(raw, ids, sizeof ids);
    aa_tokens k;
    check_ok(aa_tokens_open(&k, raw, 501, 0, true, &err));
    assert_int_equal(k.n_tokens, 10000);
    assert_int_equal(k.n_documents, 100);
    assert_int_equal(k.document[1], 100);
    assert_int_equal(aa_tokens_at(&k, 3), ids[3]);
    aa_tokens_close(&k);
    check_ok(aa_tokens_open(&k, raw, 0, -1, true, &err));
    assert_int_equal(k.n_documents, 3);
    aa_tokens_close(&k);
    check_ok(aa_tokens_open(&k, raw, 502, 501, true, &err));     /* an eos that is nowhere */
    assert_int_equal(k.n_documents, 3);
    aa_tokens_close(&k);
    expect(raw, 100, false, AA_EFORMAT, "ids must be below 100");
    expect(raw, 101, false, AA_EFORMAT, "token 15 is 106");
    /* The first AutoANE compares 16-bit ids with 65535, whatever was cut off of them. */
    check_ok(aa_tokens_open(&k, raw, 65536, 0, true, &err));
    aa_tokens_close(&k);
    expect(raw, 151936, false, AA_EFORMAT, "16 bits");
    put(raw, ids, 3);
    expect(raw, 0, false, AA_EFORMAT, "16-bit");
    put(raw, ids, 0);
    expect(raw, 0, false, AA_EFORMAT, "16-bit");
    for (int wide = 0; wide < 2; wide++) {
        int32_t file[256 + 300] = {wide ? 20240801 : 20240520, wide ? 7 : 1, 300};
        for (int i = 0; i < 300; i++) {
            if (wide) file[256 + i] = i;
            else memcpy((char *)(file + 256) + 2 * i, &(uint16_t){(uint16_t)i}, 2);
        }
        size_t n = 1024 + 300 * (wide ? 4u : 2u);
        put(llmc, file, n);
        check_ok(aa_tokens_open(&k, llmc, 300, 10, true, &err));
        assert_int_equal(k.n_tokens, 300);
        assert_int_equal(k.n_documents, 2);
        assert_int_equal(aa_tokens_at(&k, 299), 299);
        aa_tokens_close(&k);
        put(llmc, file, n - 2);
        expect(llmc, 0, false, AA_EFORMAT, "claims 300 tokens");
        put(llmc, file, 1000);
        expect(llmc, 0, false, AA_EFORMAT, "1024-byte header");
        file[1] = 99;
        put(llmc, file, n);
        expect(llmc, 0, false, AA_EUNSUPPORTED, "version 99");
    }
    put_text(other, "just text");
    expect(other, 0, false, AA_EFORMAT, "no token file");
    char *const all[] = {raw, llmc, other};
    for (size_t i = 0; i < 3; i++) aa_heap_free(all[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text_documents), cmocka_unit_test(test_text_without_blank_lines),
        cmocka_unit_test(test_jsonl),          cmocka_unit_test(test_directory),
        cmocka_unit_test(test_round_trip),     cmocka_unit_test(test_small_corpora),
        cmocka_unit_test(test_damaged),        cmocka_unit_test(test_foreign),
    };
    return cmocka_run_group_tests_name("unit_tokens", tests, NULL, NULL);
}
