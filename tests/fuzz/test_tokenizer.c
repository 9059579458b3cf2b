/* Hostile tokenizer.json, token and JSONL files: damaged versions of good ones must be refused or
 * work, and never crash. Seeded, so a failure repeats; meant to be run under sanitizers too. */
#include "support/check.h"
#include <stdlib.h>
#include "base/file.h"
#include "base/memory.h"
#include "base/rng.h"
#include "data/chat.h"
#include "data/tokens.h"

enum { ROUNDS = 1500 };

static char *path_of(const char *name) { return aa_path_join(check_temp_dir(), name); }

/* Written plainly: aa_file_write syncs the disk, which thousands of files would wait for. */
static void put(const char *path, const void *p, size_t n) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(p, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

/* Some bytes changed, cut out, doubled, or replaced by tokens of JSON. */
static void damage(aa_text *out, const char *good, size_t n, aa_rng *r) {
    static const char *const words[] = {"\"",
                                        "{",
                                        "}",
                                        "[",
                                        "]",
                                        ",",
                                        ":",
                                        "null",
                                        "true",
                                        "-1",
                                        "4194303",
                                        "1e99",
                                        "99999999999999999999",
                                        "\"\\u0000\"",
                                        "\\ud800",
                                        "\"\"",
                                        "\xFF",
                                        "\"id\":",
                                        "\"a b\"",
                                        "256"};
    aa_text_clear(out);
    aa_text_add_bytes(out, good, n);
    for (uint64_t k = 1 + aa_rng_below(r, 4); k; k--) {
        size_t at = aa_rng_below(r, out->len), len = aa_rng_below(r, 1 + out->len / 64);
        if (len > out->len - at) len = out->len - at;
        aa_text rest = {0};
        aa_text_add_bytes(&rest, out->data + at + len, out->len - at - len);
        aa_text middle = {0};
        aa_text_add_bytes(&middle, out->data + at, len);
        out->len = at;
        switch (aa_rng_below(r, 4)) {
        case 0: break;
        case 1:
            aa_text_add_bytes(out, middle.data, len);
            aa_text_add_bytes(out, middle.data, len);
            break;
        case 2: aa_text_add(out, words[aa_rng_below(r, sizeof words / sizeof *words)]); break;
        default:
            for (size_t i = 0; i < len; i++)
                if (!aa_rng_below(r, 8)) middle.data[i] = (char)aa_rng_u32(r);
            aa_text_add_bytes(out, middle.data, len);
        }
        aa_text_add_bytes(out, rest.data, rest.len);
        aa_text_release(&rest);
        aa_text_release(&middle);
        if (!out->len) aa_text_add(out, "x");
    }
}

/* A tokenizer that was accepted must do its work. */
static void use(aa_tokenizer *t) {
    static const char text[] =
        "Hello  world's 123 \xF0\x9F\x98\x80 \xFF\xC3 <|endoftext|>\r\n\n e\xCC\x81 ababab";
    aa_err err = {0};
    aa_ids ids = {0};
    aa_text out = {0};
    if (aa_encode(t, text, sizeof text - 1, AA_ENCODE_SPECIALS | AA_ENCODE_BOS, &ids, &err) ==
        AA_OK) {
        for (size_t i = 0; i < ids.len; i++)
            assert_in_range(ids.data[i], 0, aa_tokenizer_vocab(t) - 1);
        check_ok(aa_decode(t, ids.data, ids.len, true, &out, &err));
    }
    aa_ids_release(&ids);
    aa_text_release(&out);
    aa_tokenizer_free(t);
}

static void test_tokenizer_json(void **state) {
    (void)state;
    aa_err err = {0};
    aa_rng r;
    aa_rng_init(&r, 1, AA_RNG_TEST, 3);
    char *path = path_of("fuzz.json");
    aa_text bad = {0};
    size_t accepted = 0;
    static const char corpus[] =
        "the cat ate the rat that the cat's hat sat at, 12 times 34; ababab abab \xC3\xA9t\xC3\xA9";
    for (int split = AA_SPLIT_GPT2; split <= AA_SPLIT_NONE; split++) {
        aa_tokenizer *t = NULL;
        aa_text good = {0};
        check_ok(
            aa_tokenizer_train(&t, NULL, corpus, sizeof corpus - 1, 270, (aa_split)split, &err));
        check_ok(aa_tokenizer_write_json(t, &good, &err));
        aa_tokenizer_free(t);
        for (int i = 0; i < ROUNDS / 5; i++) {
            damage(&bad, good.data, good.len, &r);
            put(path, bad.data, bad.len);
            aa_err e = {0};
            if (aa_tokenizer_load(&t, path, &e) == AA_OK) {
                use(t);
                accepted++;
            } else assert_true(e.message[0]);
        }
        aa_text_release(&good);
    }
    assert_true(accepted < ROUNDS);
    aa_text_release(&bad);
    aa_heap_free(path);
}

/* A small SentencePiece vocabulary: its two files, and chat templates, damaged. */
static aa_tokenizer *spm(void) {
    static char text[300][8];
    static const char *token[300];
    static size_t len[300];
    static float score[300];
    static const char *const pieces[] = {"<unk>", "<s>", "</s>", "\xE2\x96\x81", "a", "b", "ab",
                                         ("\xE2\x96\x81" "ab"), "\xC3\xA9", "abab"};
    static int32_t type[300];
    aa_ggml_vocab v = {.model = "llama", .token = token, .token_len = len, .score = score,
                       .type = type, .bos = 1, .eos = 2, .unk = 0, .pad = -1, .add_bos = -1,
                       .add_space_prefix = -1};
    for (size_t i = 0; i < 256 + sizeof pieces / sizeof *pieces; i++) {
        bool byte = i >= 3 && i < 259;
        type[i] = i == 0 ? AA_TOKEN_UNKNOWN : i < 3 ? AA_TOKEN_CONTROL : byte ? AA_TOKEN_BYTE
                                                                              : AA_TOKEN_NORMAL;
        if (byte) snprintf(text[i], sizeof text[i], "<0x%02X>", (unsigned)i - 3);
        else snprintf(text[i], sizeof text[i], "%s", pieces[i < 3 ? i : i - 256]);
        token[i] = text[i];
        len[i] = strlen(text[i]);
        score[i] = -(float)i;
        v.n_tokens++;
    }
    aa_err err = {0};
    aa_tokenizer *t = NULL;
    check_ok(aa_tokenizer_new_ggml(&t, &v, &err));
    return t;
}

static void test_spm(void **state) {
    (void)state;
    aa_err err = {0};
    aa_rng r;
    aa_rng_init(&r, 3, AA_RNG_TEST, 3);
    char *path = path_of("fuzz.spm");
    aa_text form[2] = {{0}, {0}}, bad = {0};
    aa_tokenizer *t = spm();
    check_ok(aa_tokenizer_write_json(t, &form[0], &err));
    check_ok(aa_tokenizer_write_llama2c(t, &form[1], &err));
    aa_tokenizer_free(t);
    size_t accepted = 0;
    for (int i = 0; i < ROUNDS; i++) {
        damage(&bad, form[i & 1].data, form[i & 1].len, &r);
        put(path, bad.data, bad.len);
        aa_err e = {0};
        if (aa_tokenizer_load(&t, path, &e) == AA_OK) {
            use(t);
            accepted++;
        } else assert_true(e.message[0]);
    }
    assert_true(accepted < ROUNDS);
    aa_text_release(&form[0]);
    aa_text_release(&form[1]);
    aa_text_release(&bad);
    aa_heap_free(path);
}

static void test_templates(void **state) {
    (void)state;
    static const char good[] =
        "{{ bos_token }}{% for message in messages %}{# x #}{{- '<|im_start|>' + message.role + "
        "'\\n' + message['content'] + '<|im_end|>' + '\\n' -}}{% endfor %}"
        "{{ '<|im_start|>system\\nX<|im_end|>\\n' }}{{ '<|im_start|>assistant\\n' }}";
    const aa_chat_message m[] = {{AA_CHAT_USER, "x"}, {AA_CHAT_ASSISTANT, "<think></think>"}};
    aa_err err = {0};
    aa_rng r;
    aa_rng_init(&r, 4, AA_RNG_TEST, 3);
    aa_tokenizer *t = NULL;
    aa_text bad = {0}, out = {0};
    check_ok(aa_tokenizer_new_bytes(&t, &err));
    for (int i = 0; i < ROUNDS; i++) {
        aa_chat *c = NULL;
        aa_chat_options o = {.answer = true};
        damage(&bad, good, sizeof good - 1, &r);
        if (aa_chat_new(&c, bad.data, t, NULL)) continue;
        aa_text_clear(&out);
        check_ok(aa_chat_render(c, m, 2, &o, &out, &err));
        aa_chat_free(c);
    }
    aa_tokenizer_free(t);
    aa_text_release(&bad);
    aa_text_release(&out);
}

static aa_status ignore(void *ctx, const char *text, size_t n, aa_err *err) {
    (void)err;
    *(size_t *)ctx += n + (size_t)(unsigned char)text[n - 1];
    return AA_OK;
}

static void test_token_files(void **state) {
    (void)state;
    aa_err err = {0};
    aa_rng r;
    aa_rng_init(&r, 2, AA_RNG_TEST, 3);
    aa_tokenizer *t = NULL;
    char *source = path_of("fuzz.jsonl"), *path = path_of("fuzz.tok");
    aa_text text = {0}, bad = {0};
    for (int i = 0; i < 30; i++)
        aa_text_printf(&text, "{\"text\":\"document %d\",\"n\":%d}\n", i, i);
    put(source, text.data, text.len);
    check_ok(aa_tokenizer_new_bytes(&t, &err));
    check_ok(aa_tokenize(source, t, NULL, path, NULL, &err));
    aa_sys_map map;
    check_ok(aa_map_open(&map, path, &err));
    aa_text good = {0};
    aa_text_add_bytes(&good, map.data, map.size_bytes);
    aa_sys_map_close(&map);
    size_t sum = 0;
    for (int i = 0; i < ROUNDS; i++) {
        damage(&bad, good.data, good.len, &r);
        put(path, bad.data, bad.len);
        aa_tokens k;
        if (aa_tokens_open(&k, path, 257, 256, i & 1, NULL) == AA_OK) {
            for (uint64_t d = 0; d < k.n_documents; d++)
                for (uint64_t j = k.document[d]; j < k.document[d + 1]; j++)
                    assert_in_range(aa_tokens_at(&k, j), 0, 256);
            aa_tokens_close(&k);
        }
        damage(&bad, text.data, text.len, &r);
        put(source, bad.data, bad.len);
        aa_err e = {0};
        if (aa_documents(source, ignore, &sum, &e))
            assert_non_null(strstr(e.message, "fuzz.jsonl"));
    }
    aa_tokenizer_free(t);
    aa_text_release(&text);
    aa_text_release(&bad);
    aa_text_release(&good);
    aa_heap_free(source);
    aa_heap_free(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_tokenizer_json),
                                       cmocka_unit_test(test_spm),
                                       cmocka_unit_test(test_templates),
                                       cmocka_unit_test(test_token_files)};
    return cmocka_run_group_tests_name("fuzz_tokenizer", tests, NULL, NULL);
}
