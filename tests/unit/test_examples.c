/* Examples for fine-tuning: rows that are good, rows that are refused and how, the mask, and the
 * windows made of them. */
#include <string.h>
#include "base/file.h"
#include "base/rng.h"
#include "data/examples.h"
#include "support/check.h"

static const char chatml[] =
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + "
    "message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}";

static char *path_of(const char *name) {
    char *path = aa_path_join(check_temp_dir(), name);
    assert_non_null(path);
    return path;
}

/* The token file of the rows, under plain bytes. */
static aa_status tokenize(const char *rows, aa_train_on on, aa_tokens *out, aa_err *why) {
    aa_err err = {0};
    char *source = path_of("rows.jsonl"), *path = path_of("rows.tok");
    const aa_tokenize_options o = {.chat_template = chatml, .train_on = on};
    aa_tokenizer *t = NULL;
    check_ok(aa_tokenizer_new_bytes(&t, &err));
    check_ok(aa_file_write(source, rows, strlen(rows), &err));
    aa_status st = aa_tokenize(source, t, NULL, path, &o, why);
    if (!st) check_ok(aa_tokens_open(out, path, aa_tokenizer_vocab(t), -1, true, &err));
    aa_tokenizer_free(t);
    aa_heap_free(source);
    aa_heap_free(path);
    return st;
}

/* Bytes of a document, '#' for eos, what is learned in brackets. */
static void expect(const aa_tokens *t, uint64_t d, const char *want) {
    aa_text got = {0};
    bool on = false;
    for (uint64_t i = t->document[d]; i < t->document[d + 1]; i++) {
        int32_t id = aa_tokens_at(t, i);
        char c = id == 256 ? '#' : (char)id;
        if (aa_tokens_learned(t, i) != on) aa_text_add(&got, on ? "]" : "[");
        on = aa_tokens_learned(t, i);
        aa_text_add_bytes(&got, &c, 1);
    }
    if (on) aa_text_add(&got, "]");
    assert_string_equal(got.data, want);
    aa_text_release(&got);
}

static const char good[] =
    "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},"
    "{\"role\":\"assistant\",\"content\":\"bb\"},"
    "{\"role\":\"user\",\"content\":\"c\"},{\"role\":\"assistant\",\"content\":\"\\nd\"}]}\n"
    "\n"
    "{\"prompt\":\"one\",\"completion\":\" two\",\"more\":3}\n"
    "{\"text\":\"all of it\"}\n"
    "{\"prompt\":\"\",\"completion\":\"x\"}\n";

static void test_masks(void **state) {
    (void)state;
    aa_err err = {0};
    aa_tokens t;
    check_ok(tokenize(good, AA_TRAIN_ON_ASSISTANT, &t, &err));
    assert_int_equal(t.n_documents, 4);
    assert_non_null(t.unlearned);
    expect(&t, 0, "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n[bb<|im_end|>]\n"
                  "<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n[\nd<|im_end|>]\n");
    expect(&t, 1, "one[ two#]");
    expect(&t, 2, "[all of it#]");
    expect(&t, 3, "[x#]");
    aa_tokens_close(&t);
    check_ok(tokenize(good, AA_TRAIN_ON_ALL, &t, &err));
    assert_non_null(t.unlearned);
    expect(&t, 1, "[one two#]");
    aa_tokens_close(&t);
    check_ok(tokenize("{\"text\":\"a\"}\n{\"text\":\"b\"}\n", AA_TRAIN_ON_ASSISTANT, &t, &err));
    assert_null(t.unlearned);
    aa_tokens_close(&t);
}

#define TURN(role, text) "{\"role\":\"" role "\",\"content\":\"" text "\"}"
#define CHAT(turns) "{\"messages\":[" turns "]}"

static void test_refusals(void **state) {
    (void)state;
    static const struct { const char *row, *say; } bad[] = {
        {"[]", "must be an object"},
        {"{\"txet\":\"a\"}", "\"messages\""},
        {"{\"prompt\":\"a\"}", "\"prompt\" and \"completion\" must both"},
        {"{\"completion\":\"a\"}", "must both"},
        {"{\"prompt\":[],\"completion\":\"a\"}", "be strings"},
        {"{\"prompt\":\"a\",\"completion\":\"\"}", "the completion is empty"},
        {"{\"messages\":{}}", "must be an array"},
        {CHAT(""), "must be an array"},
        {CHAT("3"), "no role"},
        {CHAT(TURN("tool", "x")), "the role 'tool'"},
        {CHAT(TURN("user", "x") ",{\"role\":\"assistant\"}"), "message 2 has no \"content\""},
        {CHAT(TURN("assistant", "x")), "assistant after nothing"},
        {CHAT(TURN("user", "x") "," TURN("user", "y")), "message 2 is of user after user"},
        {CHAT(TURN("user", "x") "," TURN("system", "y")), "message 2 is of system after user"},
        {CHAT(TURN("user", "x") "," TURN("assistant", " \\n")), "2, of assistant, is empty"},
        {CHAT(TURN("user", "x")), "the last message is of user"},
        {"{\"prompt\":\"a\\u0000b\",\"completion\":\"x\"}", "rows.jsonl:2"},
        {"{\"messages\":", "rows.jsonl:2"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        aa_text rows = {0};
        aa_err err = {0};
        aa_tokens t;
        aa_text_printf(&rows, "{\"text\":\"fine\"}\n%s\n", bad[i].row);
        aa_status st = tokenize(rows.data, AA_TRAIN_ON_ASSISTANT, &t, &err);
        if (st != AA_EFORMAT || !strstr(err.message, bad[i].say) ||
            !strstr(err.message, "rows.jsonl:2"))
            fail_msg("%s: %d, %s", bad[i].row, st, err.message);
        aa_text_release(&rows);
    }
    aa_err err = {0};
    aa_tokens t;
    assert_int_equal(tokenize("{\"prompt\":\"a\",\"completion\":\"b\"}", 0, &t, &err), AA_EFORMAT);
    assert_non_null(strstr(err.message, "a single example"));
}

/* A conversation needs a template that is known; the message says where and what to do. */
static void test_templates(void **state) {
    (void)state;
    static const char row[] = CHAT(TURN("user", "x") "," TURN("assistant", "y")) "\n";
    static const struct { const char *jinja; aa_status st; const char *say; } bad[] = {
        {NULL, AA_EUSAGE, "t.jsonl:1: a conversation becomes text"},
        {"{{ messages }}", AA_EUNSUPPORTED, "t.jsonl:1: the chat template is none of those known"}};
    char *source = path_of("t.jsonl"), *path = path_of("t.tok");
    aa_tokenizer *t = NULL;
    aa_err err = {0};
    check_ok(aa_tokenizer_new_bytes(&t, &err));
    check_ok(aa_file_write(source, row, sizeof row - 1, &err));
    for (int i = 0; i < 2; i++) {
        const aa_tokenize_options o = {.chat_template = bad[i].jinja};
        err = (aa_err){0};
        assert_int_equal(aa_tokenize(source, t, NULL, path, &o, &err), bad[i].st);
        assert_non_null(strstr(err.message, bad[i].say));
        assert_non_null(strstr(err.message, "--template"));
    }
    aa_tokenizer_free(t);
    aa_heap_free(source);
    aa_heap_free(path);
}

/* ---- windows --------------------------------------------------------------------------------- */

enum { N = 53, T = 40 };

/* Example i has a prompt of i % 7 bytes and a completion of i % 45 + 1, both of the letter of i. */
static void open_many(aa_tokens *t) {
    aa_text rows = {0};
    aa_err err = {0};
    for (int i = 0; i < N; i++) {
        char word[64];
        memset(word, 'A' + i, sizeof word);
        aa_text_printf(&rows, "{\"prompt\":\"%.*s\",\"completion\":\"%.*s\"}\n", i % 7,
                       i == '\\' - 'A' ? "////////" : word, i % 45 + 1,
                       i == '\\' - 'A' ? "//////////////////////////////////////////////" : word);
    }
    check_ok(tokenize(rows.data, AA_TRAIN_ON_ASSISTANT, t, &err));
    aa_text_release(&rows);
}

typedef struct window { int32_t ids[T + 1], targets[T + 1], start[T + 2]; aa_packed p; } window;

static aa_packed *empty(window *w) {
    w->p = (aa_packed){.ids = w->ids, .targets = w->targets, .start = w->start};
    w->start[0] = 0;
    return &w->p;
}

static void test_examples(void **state) {
    (void)state;
    aa_tokens t;
    aa_err err = {0};
    aa_examples e;
    open_many(&t);
    check_ok(aa_examples_init(&e, &t, AA_PART_COUNT, T, &err));
    assert_int_equal(e.n, N);
    uint64_t cut = 0, rows = 0;
    for (uint64_t i = 0; i < e.n; i++) {
        window w;
        uint64_t prompt = i % 7, len = prompt + i % 45 + 2, n = len - 1 > T ? T : len - 1;
        aa_examples_read(&e, i, empty(&w));
        assert_int_equal(w.p.n_rows, n);
        assert_int_equal(w.p.n_sequences, 1);
        assert_int_equal(w.start[1], n);
        for (uint64_t k = 0; k < n; k++) {
            int32_t next = aa_tokens_at(&t, t.document[i] + k + 1);
            assert_int_equal(w.ids[k], aa_tokens_at(&t, t.document[i] + k));
            assert_int_equal(w.targets[k], k + 1 < prompt ? -1 : next);
        }
        cut += len - 1 > T;
        rows += n;
    }
    assert_true(cut > 0);
    assert_int_equal(e.n_cut, cut);
    assert_int_equal(e.n_rows, rows);
    assert_int_equal(e.n_empty, 0);
    aa_examples_release(&e);
    check_ok(aa_examples_init(&e, &t, AA_PART_COUNT, 3, &err));       /* prompts alone fill it */
    uint64_t left = 0;
    for (uint64_t i = 0; i < N; i++) left += i % 7 > 3;
    assert_int_equal(e.n_empty, left);
    assert_int_equal(e.n, N - left);
    aa_examples_release(&e);
    aa_tokens_close(&t);
}

/* Every epoch has every example once, whole, in windows that the next example would not fit; the
 * windows from any example on are those that a longer walk comes by. */
static void walk(aa_examples *e, bool packing, size_t unit) {
    uint64_t windows = 0, seed = 9, n = 0;
    bool orders_differ = false;
    uint64_t first[N];
    e->packing = packing;
    e->unit = unit;
    for (int epoch = 0; epoch < 3; epoch++) {
        bool seen[N] = {false};
        while (n < (uint64_t)(epoch + 1) * N) {
            window w;
            size_t rows = 0, at = 0;
            uint64_t k = aa_examples_window(e, seed, n, empty(&w));
            assert_true(k >= 1 && (packing || k == 1) && w.p.n_rows <= T);
            for (uint64_t i = 0; i < k; i++) {
                uint64_t which = aa_rng_permute(seed, (n + i) / N, N, (n + i) % N);
                window one;
                aa_examples_read(e, which, empty(&one));
                assert_memory_equal(w.ids + rows, one.ids, one.p.n_rows * 4);
                assert_memory_equal(w.targets + rows, one.targets, one.p.n_rows * 4);
                assert_int_equal(w.start[at++], rows);
                rows += one.p.n_rows;
                if (n + i >= (uint64_t)(epoch + 1) * N) continue;     /* of the next epoch */
                orders_differ |= epoch > 0 && first[(n + i) % N] != which;
                first[(n + i) % N] = which;
                seen[which] = true;
            }
            size_t fill = (unit - rows % unit) % unit;
            bool filled = fill > 0;
            assert_int_equal(w.p.n_rows, rows + fill);
            assert_int_equal(w.p.n_sequences, k + filled);
            assert_int_equal(w.start[w.p.n_sequences], w.p.n_rows);
            for (size_t i = 0; i < fill; i++) assert_int_equal(w.targets[rows + i], -1);
            uint64_t next = aa_rng_permute(seed, (n + k) / N, N, (n + k) % N);
            if (packing) assert_true(rows + e->rows[next] > T);
            n += k;
            windows += epoch == 0;
        }
        for (int i = 0; i < N; i++) assert_true(epoch > 0 || seen[i]);
    }
    assert_true(orders_differ);
    assert_int_equal(aa_examples_windows(e, seed), windows);
}

static void test_windows(void **state) {
    (void)state;
    aa_tokens t;
    aa_err err = {0};
    aa_examples e;
    open_many(&t);
    check_ok(aa_examples_init(&e, &t, AA_PART_COUNT, T, &err));
    for (size_t unit = 1; unit <= 4; unit *= 2) {
        walk(&e, true, unit);
        walk(&e, false, unit);
    }
    aa_examples_release(&e);
    uint64_t n = 0;
    for (int part = 0; part < AA_PART_COUNT; part++) {
        check_ok(aa_examples_init(&e, &t, (aa_part)part, T, &err));
        n += e.n;
        aa_examples_release(&e);
    }
    assert_int_equal(n, N);
    aa_tokens_close(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_masks), cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_templates), cmocka_unit_test(test_examples),
        cmocka_unit_test(test_windows)};
    return cmocka_run_group_tests_name("unit_examples", tests, NULL, NULL);
}
