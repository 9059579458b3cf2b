/* Reports: numbers and axes by table, pages that stay well-formed XML whatever a journal says, the
 * same bytes each time, nothing loaded from elsewhere, and an orderly end wherever memory ends. */
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "report/report_int.h"
#include "support/check.h"

#include <math.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *program; /* this executable, to run again with failing memory */

/* ---- journals made here ---------------------------------------------------------------------- */

static aa_journal read_text(const char *name, const char *text, size_t n) {
    aa_err err = {0};
    aa_journal j;
    char *path = aa_path_join(check_temp_dir(), name);
    check_ok(aa_file_write(path, text, n, &err));
    check_ok(aa_journal_open(&j, path, &err));
    aa_heap_free(path);
    return j;
}

static const char run_line[] =
    "{\"event\":\"run\",\"schema\":1,\"options\":{\"preset\":\"small\",\"lr\":0.0006,\"tied\":true,"
    "\"list\":[1,2],\"none\":null},\"model\":{\"params\":3200000,\"flop_per_token\":19200000},"
    "\"data\":{\"tokens\":2500000},\"host\":{\"cpu\":\"A "
    "Processor\",\"isa\":\"avx2\",\"threads\":2,"
    "\"peak_gflops\":200,\"version\":\"0.1.0\"}}\n";

/* A run of n step lines with a validation and a sample every tenth. */
static aa_journal make_run(const char *name, int n, double end_loss, const char *sample) {
    aa_text t = {0};
    aa_text_add(&t, run_line);
    for (int i = 1; i <= n; i++) {
        double loss = end_loss + 6 * exp(-8.0 * i / n);
        aa_text_printf(
            &t,
            "{\"event\":\"step\",\"step\":%d,\"tokens\":%d,\"epoch\":%.4f,\"loss\":%.6f,"
            "\"lr\":%.7f,\"grad_norm\":%.4f,\"time\":{\"wall_s\":%.3f,\"tokens_per_s\":%.1f,"
            "\"share_of_peak\":0.5}}\n",
            i, i * 1000, i * 1e-3, loss, 6e-4 * i / n, 1.0 + i % 7, i * 0.02, 50000.0 + i % 13);
        if (i % 10) continue;
        aa_text_printf(
            &t,
            "{\"event\":\"eval\",\"step\":%d,\"tokens\":%d,\"loss\":%.6f,\"loss_stderr\":0.02,"
            "\"bits_per_byte\":%.6f,\"best\":true,\"time\":{\"wall_s\":%.3f}}\n",
            i, i * 1000, loss + 0.1, loss / 2.5, i * 0.02);
        aa_text_printf(&t, "{\"event\":\"sample\",\"step\":%d,\"text\":", i);
        aa_text_json_string(&t, sample, strlen(sample));
        aa_text_add(&t, "}\n");
    }
    aa_text_printf(
        &t,
        "{\"event\":\"end\",\"reason\":\"budget\",\"step\":%d,\"tokens\":%d,\"flop\":1e13,"
        "\"loss\":2,\"floor\":%.3f,\"time\":{\"wall_s\":%.3f,\"train_s\":%.3f}}\n",
        n, n * 1000, end_loss / 2, n * 0.025, n * 0.02);
    aa_journal j = read_text(name, t.data, t.len);
    aa_text_release(&t);
    return j;
}

/* ---- a reader of XML, strict enough ---------------------------------------------------------- */

static bool is_name(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-';
}

static const char *skip_entity(const char *s) {
    const char *known[] = {"&amp;", "&lt;", "&gt;", "&quot;", "&#39;"};
    for (int i = 0; i < 5; i++)
        if (!strncmp(s, known[i], strlen(known[i]))) return s + strlen(known[i]);
    fail_msg("a bare & at '%.30s'", s);
    return s + 1;
}

/* Drawing attributes hold numbers and path letters, and nothing like nan or inf. */
static void check_attribute(const char *name, size_t n, const char *value, size_t len) {
    static const char *const drawn[] = {"d", "cx", "cy", "x", "y", "r", "width", "height"};
    for (int i = 0; i < 8; i++) {
        if (strlen(drawn[i]) != n || memcmp(drawn[i], name, n)) continue;
        for (size_t k = 0; k < len; k++)
            if (!strchr("0123456789.- MLHVhv", value[k]))
                fail_msg("odd %.*s: '%.60s'", (int)n, name, value);
    }
}

static const char *check_tag(const char *s, char stack[][16], int *depth) {
    bool closing = s[1] == '/';
    const char *name = s + 1 + closing, *end = name;
    while (is_name(*end)) end++;
    size_t n = (size_t)(end - name);
    assert_true(n > 0 && n < 16);
    s = end;
    while (*s != '>' && *s != '/') {
        assert_true(*s == ' ');
        const char *attr = ++s;
        while (is_name(*s)) s++;
        assert_true(s > attr && s[0] == '=' && s[1] == '"');
        size_t len = strcspn(s + 2, "\"<");
        assert_true(s[2 + len] == '"');
        check_attribute(attr, (size_t)(s - attr), s + 2, len);
        for (const char *c = s + 2; c < s + 2 + len; c++)
            if (*c == '&') skip_entity(c);
        s += 2 + len + 1;
    }
    if (closing) {
        assert_true(*depth > 0);
        --*depth;
        if (strlen(stack[*depth]) != n || memcmp(stack[*depth], name, n))
            fail_msg("</%.*s> closes <%s>", (int)n, name, stack[*depth]);
    } else if (*s != '/') {
        assert_true(*depth < 32);
        memcpy(stack[*depth], name, n);
        stack[(*depth)++][n] = '\0';
    } else s++;
    assert_true(*s == '>');
    return s + 1;
}

static void check_xml(const aa_text *page) {
    char stack[32][16];
    int depth = 0;
    assert_false(page->failed);
    assert_int_equal(strlen(page->data), page->len);
    const char *s = page->data;
    assert_int_equal(strncmp(s, "<!DOCTYPE html>\n", 16), 0);
    for (s += 16; *s;) {
        if (*s == '<') s = check_tag(s, stack, &depth);
        else if (*s == '&') s = skip_entity(s);
        else {
            assert_true((unsigned char)*s >= 0x20 || *s == '\n' || *s == '\t');
            s++;
        }
    }
    assert_int_equal(depth, 0);
    static const char *const foreign[] = {"://",  "src=",    "href=", "@import",
                                          "url(", "<script", "<link", "onload="};
    for (int i = 0; i < 8; i++)
        if (strstr(page->data, foreign[i])) fail_msg("the page contains %s", foreign[i]);
}

static aa_text page_of(const aa_journal *const *j, size_t n) {
    aa_text t = {0};
    aa_report_html(j, n, &t);
    check_xml(&t);
    return t;
}

/* ---- the page -------------------------------------------------------------------------------- */

static void test_page_of_one_run(void **state) {
    (void)state;
    aa_journal j = make_run("one.jsonl", 300, 2, "Once upon a time.");
    const aa_journal *list[] = {&j};
    aa_text t = page_of(list, 1), again = page_of(list, 1);
    assert_int_equal(t.len, again.len);
    check_same_bits("page", t.data, again.data, t.len);
    const char *must[] = {"one.jsonl",
                          "finished",
                          "A Processor",
                          "2.1020",
                          "\xC2\xB1 0.0200",
                          "floor 1.000",
                          "nats per token (log scale)",
                          "Learning rate",
                          "Gradient norm",
                          "Tokens per second",
                          "Share of peak",
                          "50.0 %",
                          "3.20 M",
                          "10.0 TFLOP",
                          "Once upon a time.",
                          "24 earlier samples",
                          "preset",
                          "[1,2]",
                          "<title>step 300\nvalidation 2.1020 \xC2\xB1 0.0200\n",
                          "best of the run",
                          "Validation results: 30"};
    for (size_t i = 0; i < sizeof must / sizeof *must; i++)
        if (!strstr(t.data, must[i])) fail_msg("the page lacks '%s'", must[i]);
    aa_text_release(&t);
    aa_text_release(&again);
    aa_journal_release(&j);
}

static void test_page_of_many_runs(void **state) {
    (void)state;
    aa_journal j[11];
    const aa_journal *list[11];
    for (int i = 0; i < 11; i++) {
        char name[32];
        snprintf(name, sizeof name, "run-%d.jsonl", i);
        j[i] = make_run(name, 20 + 10 * i, 2 + 0.1 * i, "text");
        list[i] = &j[i];
    }
    aa_text t = page_of(list, 11);
    assert_non_null(strstr(t.data, "11 runs compared"));
    assert_non_null(strstr(t.data, ".r10{--c:hsl("));
    assert_non_null(strstr(t.data, "run-10.jsonl"));
    assert_non_null(strstr(t.data, "class=\"n win\""));
    aa_text_release(&t);
    for (int i = 0; i < 11; i++) aa_journal_release(&j[i]);
}

static void test_pages_of_little(void **state) {
    (void)state;
    static const char *const texts[] = {
        "",
        "{\"event\":\"step\",\"step\":1,\"tokens\":5,\"loss\":3}\n",
        "{\"event\":\"step\",\"step\":0,\"loss\":0,\"lr\":0,\"grad_norm\":0,\"time\":{\"wall_s\":0,"
        "\"tokens_per_s\":0}}\n",
        "{\"event\":\"step\",\"step\":1,\"loss\":null}\n{\"event\":\"step\",\"step\":2}\n",
        "{\"event\":\"eval\",\"step\":9,\"loss\":-4,\"loss_stderr\":1e300}\n",
        "{\"event\":\"step\",\"step\":9223372036854775807,\"tokens\":9223372036854775807,\"loss\":"
        "1e308}\n"
        "{\"event\":\"eval\",\"step\":9223372036854775807,\"loss\":-1e308,\"loss_stderr\":1e308}\n",
        "{\"event\":\"step\",\"step\":1,\"loss\":1e-320,\"time\":{\"wall_s\":-5,\"tokens_per_s\":"
        "1e-310}}\n"
        "{\"event\":\"step\",\"step\":2,\"loss\":5,\"time\":{\"wall_s\":1e308,\"tokens_per_s\":"
        "1e308}}\n",
        "{\"event\":\"run\",\"options\":7,\"model\":[],\"host\":{\"cpu\":{}}}\n{\"event\":\"end\","
        "\"floor\":1e308,\"reason\":5}\n",
        "{\"event\":\"step\",\"step\":1,\"loss\":2}\n{\"event\":\"step\",\"step\":2,\"loss\":null}"
        "\n{\"event\":\"step\",\"step\":3,\"loss\":4}\n{\"eve"};
    const aa_journal *none[1] = {NULL};
    aa_text nothing = page_of(none, 0);
    aa_text_release(&nothing);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        aa_journal j = read_text("little.jsonl", texts[i], strlen(texts[i]));
        const aa_journal *list[] = {&j, &j};
        aa_text one = page_of(list, 1), two = page_of(list, 2), t = {0};
        for (int width = -3; width < 300; width += 37) aa_report_text(&j, width, &t);
        aa_report_csv(&j, &t);
        aa_report_json(&j, &t);
        assert_false(t.failed);
        assert_null(strstr(t.data, "nan"));
        aa_text_release(&one);
        aa_text_release(&two);
        aa_text_release(&t);
        aa_journal_release(&j);
    }
}

/* Everything a journal can say in words, saying something unpleasant. */
static void test_hostile_text_is_harmless(void **state) {
    (void)state;
    const char *evil =
        "</div></style><script>alert('x')</script><img src=x onerror=\"y\">]]>&amp;\x1b[31m\x01\x7f"
        "\xE2\x80\xAE\xEF\xBF\xBF\xC2\x85 caf\xC3\xA9 \xF0\x9F\x98\x80 end";
    aa_text t = {0};
    aa_text_add(&t, "{\"event\":\"run\",\"options\":{");
    aa_text_json_key(&t, evil);
    aa_text_json_string(&t, evil, strlen(evil));
    aa_text_json_key(&t, "preset");
    aa_text_json_string(&t, evil, strlen(evil));
    aa_text_json_key(&t, "nested");
    aa_text_add(&t, "{");
    aa_text_json_key(&t, evil);
    aa_text_json_string(&t, evil, strlen(evil));
    aa_text_add(&t, "}},\"host\":{\"cpu\":");
    aa_text_json_string(&t, evil, strlen(evil));
    aa_text_add(&t, "}}\n{\"event\":\"sample\",\"step\":1,\"text\":");
    aa_text_json_string(&t, evil, strlen(evil));
    aa_text_add(&t, "}\n{\"event\":\"end\",\"reason\":");
    aa_text_json_string(&t, evil, strlen(evil));
    aa_text_add(&t, "}\n");
    aa_journal j = read_text("<script>&\"'.jsonl", t.data, t.len);
    const aa_journal *list[] = {&j, &j};
    for (size_t n = 1; n <= 2; n++) {
        aa_text page = {0}, calm = {0};
        aa_report_html(list, n, &page);
        /* the words of the sample are there, escaped;
         * the check for foreign content needs them gone */
        const char *s = page.data, *at;
        assert_non_null(strstr(s, "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&lt;img src=x"));
        assert_non_null(
            strstr(s, "\xE2\x90\x9B[31m\xE2\x90\x81\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD "
                      "caf\xC3\xA9 \xF0\x9F\x98\x80 end"));
        while ((at = strstr(s, "src=x"))) {
            aa_text_add_bytes(&calm, s, (size_t)(at - s));
            s = at + 5;
        }
        aa_text_add(&calm, s);
        check_xml(&calm);
        aa_text_release(&page);
        aa_text_release(&calm);
    }
    aa_text plain = {0};
    aa_report_text(&j, 80, &plain);
    for (size_t i = 0; i < plain.len; i++)
        assert_true((unsigned char)plain.data[i] >= 0x20 || plain.data[i] == '\n');
    aa_text_release(&plain);
    aa_text_release(&t);
    aa_journal_release(&j);
}

static void test_a_huge_journal_keeps_its_extremes(void **state) {
    (void)state;
    enum { N = 200000 };
    aa_journal j = {.n_steps = N};
    j.steps = aa_heap_alloc(N, sizeof *j.steps);
    assert_non_null(j.steps);
    for (size_t i = 0; i < N; i++)
        j.steps[i] = (aa_report_step){.step = i,
                                      .tokens = i,
                                      .loss = 3 + 0.1 * ((double)(i * 7919 % 1000) / 1000),
                                      .lr = 1,
                                      .wall_s = (double)i,
                                      .tokens_per_s = 10,
                                      .share_of_peak = .5};
    j.steps[54321].loss = 9;
    j.steps[54322].loss = 1;
    j.steps[123].loss = NAN;
    size_t kept[AA__THIN_MAX], n = aa__thin(&j, AA__Y_LOSS, kept);
    assert_true(n > 500 && n <= AA__THIN_MAX);
    bool high = false, low = false;
    for (size_t i = 0; i < n; i++) {
        assert_true(i == 0 || kept[i] > kept[i - 1]);
        high |= kept[i] == 54321;
        low |= kept[i] == 54322;
    }
    assert_true(high && low && kept[0] == 0 && kept[n - 1] == N - 1);
    const aa_journal *list[] = {&j};
    aa_text t = page_of(list, 1);
    assert_true(t.len < 400000);
    aa_text_release(&t);
    aa_heap_free(j.steps);
}

/* ---- other forms ----------------------------------------------------------------------------- */

static const char short_run[] =
    "{\"event\":\"eval\",\"step\":0,\"tokens\":0,\"loss\":8}\n"
    "{\"event\":\"step\",\"step\":10,\"tokens\":1000,\"epoch\":0.5,\"loss\":3.5,\"lr\":0.001,"
    "\"grad_norm\":1.5,\"time\":{\"wall_s\":2,\"tokens_per_s\":500,\"share_of_peak\":0.25}}\n"
    "{\"event\":\"eval\",\"step\":10,\"tokens\":1000,\"loss\":2,\"loss_stderr\":0.125,"
    "\"bits_per_byte\":1.5,\"best\":true,\"time\":{\"wall_s\":2.5}}\n"
    "{\"event\":\"step\",\"step\":20,\"tokens\":3000,\"loss\":null,\"time\":{\"wall_s\":4,\"tokens_"
    "per_s\":1000,"
    "\"share_of_peak\":0.75}}\n"
    "{\"event\":\"eval\",\"step\":20,\"tokens\":3000,\"loss\":2.25,\"loss_stderr\":0.25}\n";

static void test_csv(void **state) {
    (void)state;
    aa_journal j = read_text("csv.jsonl", short_run, strlen(short_run));
    aa_text t = {0};
    aa_report_csv(&j, &t);
    assert_string_equal(t.data, "event,step,tokens,epoch,loss,loss_stderr,bits_per_byte,lr,grad_"
                                "norm,wall_s,tokens_per_s,share_of_peak,best\n"
                                "eval,0,0,,8,,,,,,,,0\n"
                                "step,10,1000,0.5,3.5,,,0.001,1.5,2,500,0.25,\n"
                                "eval,10,1000,,2,0.125,1.5,,,2.5,,,1\n"
                                "step,20,3000,,,,,,,4,1000,0.75,\n"
                                "eval,20,3000,,2.25,0.25,,,,,,,0\n");
    aa_text_release(&t);
    aa_journal_release(&j);
}

static double field(const json_t *o, const char *key) {
    const json_t *v = json_object_get(o, key);
    if (!json_is_number(v)) fail_msg("%s is not a number", key);
    return json_number_value(v);
}

static void test_json_summary(void **state) {
    (void)state;
    aa_err err = {0};
    aa_journal j = read_text("json.jsonl", short_run, strlen(short_run));
    aa_text t = {0};
    json_t *o = NULL;
    aa_report_json(&j, &t);
    check_ok(aa_json_parse(&o, t.data, t.len, "summary", &err));
    assert_true(field(o, "steps") == 20 && field(o, "tokens") == 3000);
    assert_true(field(o, "loss") == 2.25 && field(o, "loss_stderr") == 0.25);
    assert_true(field(o, "best_loss") == 2 && field(o, "best_step") == 10);
    assert_true(fabs(field(o, "perplexity") - exp(2.25)) < 1e-12);
    assert_true(field(o, "wall_s") == 4);
    assert_true(field(o, "tokens_per_s") == 750); /* 3000 tokens in 2 + 2 seconds */
    assert_true(field(o, "share_of_peak") == 0.5);
    assert_true(json_is_null(json_object_get(o, "bits_per_byte")));
    assert_true(json_is_null(json_object_get(o, "params")) &&
                json_is_null(json_object_get(o, "reason")));
    json_decref(o);
    aa_text_release(&t);
    aa_journal_release(&j);
}

/* Without an end, work is counted in updates, or in tokens where the journal does not say that. */
static void test_work_of_an_unfinished_run(void **state) {
    (void)state;
    const char *const models[] = {"\"flop_per_token\":100,\"flop_per_update\":70000",
                                  "\"flop_per_token\":100"};
    for (int i = 0; i < 2; i++) {
        aa_text t = {0}, out = {0};
        aa_err err = {0};
        json_t *o = NULL;
        aa_text_printf(&t, "{\"event\":\"run\",\"schema\":1,\"options\":{},\"model\":{%s}}\n%s",
                       models[i], "{\"event\":\"step\",\"step\":20,\"tokens\":10000,\"loss\":2}\n");
        aa_journal j = read_text("work.jsonl", t.data, t.len);
        aa_report_json(&j, &out);
        check_ok(aa_json_parse(&o, out.data, out.len, "summary", &err));
        assert_true(field(o, "flop") == (i ? 1e6 : 1.4e6));
        json_decref(o);
        aa_text_release(&t);
        aa_text_release(&out);
        aa_journal_release(&j);
    }
}

/* Columns a terminal needs: characters, not bytes. */
static int columns(const char *line, const char *end) {
    int n = 0;
    for (; line < end; line++) n += (*line & 0xC0) != 0x80;
    return n;
}

static void test_text_fits_its_width(void **state) {
    (void)state;
    aa_journal j =
        make_run("t.jsonl", 400, 1.5,
                 "The quick brown fox jumps over the lazy dog and then, tired of all the "
                 "jumping, sleeps under a "
                 "tree.\n\nAveryveryveryveryveryveryveryveryveryveryverylongwordindeed!");
    aa_heap_free(j.path);
    j.path = aa_heap_strdup("r");
    for (int width = 40; width <= 200; width += 20) {
        aa_text t = {0};
        aa_report_text(&j, width, &t);
        assert_false(t.failed);
        int chart = 0, facts = 0;
        for (const char *s = t.data, *end; (end = strchr(s, '\n')); s = end + 1) {
            bool is_fact =
                !strncmp(s, "  ", 2) && facts < 8; /* sentences about the run may be long */
            facts++;
            chart += strstr(s, "\xE2\x94\xA4") && strstr(s, "\xE2\x94\xA4") < end;
            if (!is_fact && columns(s, end) > width)
                fail_msg("width %d: '%.*s'", width, (int)(end - s), s);
        }
        assert_true(chart >= 3);
        assert_non_null(strstr(t.data, "\xE2\x97\x8F")); /* validation points */
        assert_non_null(strstr(t.data, "1.6020"));
        assert_non_null(strstr(t.data, "lazy dog"));
        aa_text_release(&t);
    }
    aa_journal_release(&j);
}

static void check_spark(const double *v, size_t n, size_t width, const char *want) {
    aa_text t = {0};
    aa_text_add(&t, "");
    aa_sparkline(v, n, width, &t);
    assert_string_equal(t.data, want);
    aa_text_release(&t);
}

static void test_sparkline(void **state) {
    (void)state;
    const double rise[] = {0, 1, 2, 3, 4, 5, 6, 7};
    check_spark(rise, 8, 8, "▁▂▃▄▅▆▇█");
    check_spark(rise, 8, 4, "▁▃▆█");
    check_spark(rise, 8, 20, "▁▂▃▄▅▆▇█");
    check_spark(rise, 0, 8, "");
    check_spark(rise, 8, 0, "");
    const double gap[] = {1, NAN, 2, INFINITY, 1};
    check_spark(gap, 5, 5, "▁ █ ▁");
    const double flat[] = {3, 3};
    check_spark(flat, 2, 5, "▄▄");
}

/* ---- numbers and axes ------------------------------------------------------------------------ */

static void test_numbers(void **state) {
    (void)state;
    static const struct {
        char how;
        double v;
        int k;
        const char *want;
    } cases[] = {{'f', 1.5, 2, "1.50"},
                 {'f', -0.001, 2, "0.00"},
                 {'f', -2.345, 1, "-2.3"},
                 {'f', 0, 0, "0"},
                 {'f', 999.9996, 3, "1000.000"},
                 {'f', NAN, 2, "–"},
                 {'f', INFINITY, 2, "∞"},
                 {'f', 1e20, 2, "1.00e20"},
                 {'f', -1e308, 0, "-1.00e308"},
                 {'s', 0.0006, 4, "0.0006"},
                 {'s', 1234.5678, 4, "1235"},
                 {'s', 12.5, 4, "12.5"},
                 {'s', 0.00001234, 3, "1.23e-5"},
                 {'s', 3, 4, "3"},
                 {'s', 1e300, 3, "1e300"},
                 {'s', 5e-324, 3, "4.94e-324"},
                 {'i', 812, 0, "812"},
                 {'i', 1234567, 0, "1.23 M"},
                 {'i', 16900, 0, "16.9 k"},
                 {'i', 999.6, 0, "1.00 k"},
                 {'i', 0, 0, "0"},
                 {'i', 1.5, 0, "1.5"},
                 {'d', 4.2, 0, "4.20 s"},
                 {'d', 42.25, 0, "42.3 s"},
                 {'d', 132, 0, "2 m 12 s"},
                 {'d', 7500, 0, "2 h 05 m"},
                 {'d', 3599.7, 0, "1 h 00 m"},
                 {'d', -1, 0, "–"},
                 {'c', 12345678, 0, "12,345,678"},
                 {'c', 100, 0, "100"},
                 {'c', 1000, 0, "1,000"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        aa_text t = {0};
        double v = cases[i].v;
        switch (cases[i].how) {
        case 'f':
            aa__add_fixed(&t, v, cases[i].k);
            break;
        case 's':
            aa__add_short(&t, v, cases[i].k);
            break;
        case 'i':
            aa__add_si(&t, v, "");
            break;
        case 'd':
            aa__add_duration(&t, v);
            break;
        default:
            aa__add_count(&t, (uint64_t)v);
        }
        assert_string_equal(t.data, cases[i].want);
        aa_text_release(&t);
    }
}

static void check_ticks(aa__scale s, const char *want) {
    aa_text t = {0};
    for (int i = 0; i < s.n_ticks; i++) {
        if (i) aa_text_add(&t, " ");
        aa__add_tick(&t, s.tick[i], s.log ? 0 : s.step);
    }
    assert_string_equal(t.data, want);
    aa_text_release(&t);
}

static void test_ticks_are_round(void **state) {
    (void)state;
    check_ticks(aa__scale_make(0, 1000, AA__TIGHT, 6), "0 200 400 600 800 1k");
    check_ticks(aa__scale_make(0, 970, AA__TIGHT, 6), "0 200 400 600 800");
    check_ticks(aa__scale_make(0, 6e-4, AA__ROUND, 5), "0 2e-4 4e-4 6e-4");
    check_ticks(aa__scale_make(0, 1.1e-3, AA__ROUND, 5), "0 5e-4 1e-3 1.5e-3");
    check_ticks(aa__scale_make(1.93, 2.41, AA__ROUND, 6), "1.9 2.0 2.1 2.2 2.3 2.4 2.5");
    check_ticks(aa__scale_make(0, 2.4e6, AA__TIGHT, 6), "0 500k 1M 1.5M 2M");
    check_ticks(aa__scale_make(1.6, 9, AA__LOG, 8), "1.6 2 2.5 3 4 6 8");
    check_ticks(aa__scale_make(0.001, 1000, AA__LOG, 8), "0.001 0.01 0.1 1 10 100 1000");
}

static void test_axes_survive_anything(void **state) {
    (void)state;
    static const double values[] = {0,        1,        -1,           5e-324, 1e-300, 1e-12,
                                    0.1,      3.7,      3.7000000001, 1e15,   1e300,  1.7e308,
                                    -1.7e308, INFINITY, -INFINITY,    NAN};
    const int n = sizeof values / sizeof *values;
    for (int i = 0; i < n * n * 3; i++) {
        for (int most = 2; most <= 10; most++) {
            aa__scale s =
                aa__scale_make(values[i / 3 % n], values[i / 3 / n], (aa__scale_kind)(i % 3), most);
            assert_true(isfinite(s.lo) && isfinite(s.hi) && s.lo < s.hi);
            assert_true(s.n_ticks <= most + 1 && s.n_ticks <= 16);
            for (int k = 0; k < s.n_ticks; k++) {
                double at = aa__scale_at(&s, s.tick[k]);
                assert_true(at > -0.001 && at < 1.001);
                assert_true(k == 0 || s.tick[k] > s.tick[k - 1]);
            }
        }
    }
}

/* ---- no memory ------------------------------------------------------------------------------- */

/* The work of a child: every report of a journal made by hand. 0: all went well; 40: memory ran out
 * and the text says so. */
static int all_reports(void) {
    aa_err err = {0};
    aa_report_step steps[40];
    for (int i = 0; i < 40; i++)
        steps[i] = (aa_report_step){
            (uint64_t)i, (uint64_t)i, 0.1 * i, 3 + 1.0 / (i + 1), 1e-6 * i, 1, i, 5, .5};
    aa_report_eval evals[] = {{20, 20, 3, .1, 1, 20, true}, {39, 39, 2.5, .1, 1, 39, true}};
    char words[] = "once upon a time";
    aa_report_sample sample = {39, words};
    const aa_journal j = {.steps = steps,
                          .n_steps = 40,
                          .evals = evals,
                          .n_evals = 2,
                          .samples = &sample,
                          .n_samples = 1};
    const aa_journal *list[] = {&j, &j};
    aa_status any = AA_OK;
    for (int form = 0; form < 5; form++) {
        aa_text t = {0};
        if (form == 0) aa_report_html(list, 2, &t);
        else if (form == 1) aa_report_html(list, 1, &t);
        else if (form == 2) aa_report_text(&j, 80, &t);
        else if (form == 3) aa_report_csv(&j, &t);
        else aa_report_json(&j, &t);
        aa_status st = aa_text_status(&t, &err);
        aa_text_release(&t);
        if (st) any = st;
    }
    return any == AA_OK ? 0 : any == AA_ENOMEM ? 40 : 1;
}

static int run_with_failure_at(int n) {
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        char number[16];
        snprintf(number, sizeof number, "%d", n);
        setenv("AA_FAIL_ALLOC_AT", number, 1);
        execl(program, program, "--reports", (char *)NULL);
        _exit(99);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void test_failing_memory_is_reported(void **state) {
    (void)state;
    int n = 1, rc = 40;
    for (; rc == 40 && n < 5000; n++) {
        rc = run_with_failure_at(n);
        if (rc != 40 && rc != 0) fail_msg("allocation %d failing: exit status %d", n, rc);
    }
    assert_int_equal(rc, 0);
    assert_true(n > 30);
}

int main(int argc, char **argv) {
    if (argc == 2 && !strcmp(argv[1], "--reports")) return all_reports();
    program = argv[0];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_page_of_one_run),
        cmocka_unit_test(test_page_of_many_runs),
        cmocka_unit_test(test_pages_of_little),
        cmocka_unit_test(test_hostile_text_is_harmless),
        cmocka_unit_test(test_a_huge_journal_keeps_its_extremes),
        cmocka_unit_test(test_csv),
        cmocka_unit_test(test_json_summary),
        cmocka_unit_test(test_work_of_an_unfinished_run),
        cmocka_unit_test(test_text_fits_its_width),
        cmocka_unit_test(test_sparkline),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_ticks_are_round),
        cmocka_unit_test(test_axes_survive_anything),
        cmocka_unit_test(test_failing_memory_is_reported),
    };
    return cmocka_run_group_tests_name("unit_report", tests, NULL, NULL);
}
