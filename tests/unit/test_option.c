/* Options from words, files and defaults: every type, every way to be wrong, and the round trip
 * through a config file of values nobody would write by hand. */
#include "base/option.h"
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/rng.h"
#include "support/check.h"

#include <math.h>

typedef struct values {
    int64_t n;
    double x;
    bool flag;
    char *text, *other;
    int choice;
    aa_amount amount;
} values;

#define ROW(k, g, t, field, ...)                                                                   \
    { .key = k, .group = g, .type = t, .at = offsetof(values, field), __VA_ARGS__ }
static const aa_opt rows[] = {
    ROW("kv-heads", "model", AA_OPT_INT, n, .init = "4", .lo = -10, .hi = 1e9, .help = "heads"),
    ROW("lr", "training", AA_OPT_REAL, x, .init = "1e-3", .lo = -1e300, .hi = 1e300,
        .help = "rate"),
    ROW("tied", "training", AA_OPT_BOOL, flag, .help = "share the embedding"),
    ROW("name", "training", AA_OPT_STRING, text, .init = "plain", .choices = "WORD",
        .help = "a name that is told at such length that the line has to be broken somewhere"),
    ROW("other", "training", AA_OPT_STRING, other, .help = "another"),
    ROW("schedule", "time", AA_OPT_CHOICE, choice, .init = "wsd", .choices = "cosine|wsd|constant",
        .help = "shape"),
    ROW("budget", "time", AA_OPT_AMOUNT, amount, .init = "2m", .lo = 0, .hi = 1e30, .help = "end"),
    {0}};

typedef struct fixture {
    aa_opts o;
    values v;
    aa_text problems;
} fixture;

static int set_up(void **state) {
    aa_err err = {0};
    fixture *f = aa_heap_alloc(1, sizeof *f);
    check_ok(aa_opts_init(&f->o, rows, &f->v, &err));
    *state = f;
    return 0;
}

static int tear_down(void **state) {
    fixture *f = *state;
    aa_opts_release(&f->o);
    aa_text_release(&f->problems);
    aa_heap_free(f);
    return 0;
}

static bool set(fixture *f, const char *key, const char *value) {
    return aa_opts_set(&f->o, key, value, AA_FROM_COMMAND, "here", &f->problems);
}

/* The problems so far are exactly these lines; forgets them. */
static void problems_are(fixture *f, const char *want) {
    assert_string_equal(f->problems.data ? f->problems.data : "", want);
    aa_text_clear(&f->problems);
}

static void defaults(void **state) {
    fixture *f = *state;
    assert_int_equal(aa_opts_count(rows), 7);
    assert_int_equal(f->v.n, 4);
    assert_true(f->v.x == 1e-3 && !f->v.flag && !f->v.other && f->v.choice == 1);
    assert_string_equal(f->v.text, "plain");
    assert_true(f->v.amount.value == 120 && f->v.amount.unit == AA_UNIT_SECONDS);
    assert_int_equal(aa_opts_from(&f->o, "lr"), AA_FROM_DEFAULT);
}

static void integers(void **state) {
    fixture *f = *state;
    static const struct {
        const char *text;
        int64_t want;
    } good[] = {{"0", 0},       {"-10", -10},       {"64k", 64000}, {"2M", 2000000},
                {"1.5k", 1500}, {"1G", 1000000000}, {"1e3", 1000},  {"007", 7}};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_true(set(f, "kv-heads", good[i].text));
        assert_int_equal(f->v.n, good[i].want);
    }
    static const char *const bad[] = {"",    "x",   "1x",  " 1",   "1 ",  "1.5", "2G",
                                      "-11", "0x5", "inf", "1e99", "1kk", "nan", "-0x5"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) assert_false(set(f, "kv-heads", bad[i]));
    assert_int_equal(f->v.n, 7);
    aa_text_clear(&f->problems);
    assert_false(set(f, "kv-heads", "many"));
    problems_are(f, "here: --kv-heads 'many' is not an integer from -10 to 1000000000\n");
}

static void reals(void **state) {
    fixture *f = *state;
    static const char *const bad[] = {"",      "nan", "inf",  "-inf", "0x1p3",
                                      "-0x10", "1e",  "1.5k", "1e301"};
    assert_true(set(f, "lr", "-2.5e-3") && f->v.x == -2.5e-3);
    assert_true(set(f, "lr", ".5") && f->v.x == 0.5);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) assert_false(set(f, "lr", bad[i]));
    assert_true(f->v.x == 0.5);
}

static void choices_and_flags(void **state) {
    fixture *f = *state;
    assert_true(set(f, "schedule", "constant") && f->v.choice == 2);
    assert_false(set(f, "schedule", "const") || set(f, "schedule", "") ||
                 set(f, "schedule", "a|b"));
    assert_true(set(f, "tied", "true") && f->v.flag && set(f, "tied", "0") && !f->v.flag);
    aa_text_clear(&f->problems);
    assert_false(set(f, "tied", "maybe") || set(f, "schedule", "x"));
    problems_are(f, "here: --tied 'maybe' is not yes or no\n"
                    "here: --schedule 'x' is not one of cosine|wsd|constant\n");
}

static void amounts(void **state) {
    (void)state;
    static const struct {
        const char *text;
        aa_amount want;
    } good[] = {{"120s", {120, AA_UNIT_SECONDS}},
                {"2m", {120, AA_UNIT_SECONDS}},
                {"1.5h", {5400, AA_UNIT_SECONDS}},
                {"500steps", {500, AA_UNIT_STEPS}},
                {"1step", {1, AA_UNIT_STEPS}},
                {"2Mtok", {2e6, AA_UNIT_TOKENS}},
                {"3ktokens", {3e3, AA_UNIT_TOKENS}},
                {"1e13flop", {1e13, AA_UNIT_FLOP}},
                {"1epoch", {1, AA_UNIT_EPOCHS}},
                {"2.5epochs", {2.5, AA_UNIT_EPOCHS}},
                {"0", {0, AA_UNIT_NONE}},
                {"0s", {0, AA_UNIT_NONE}}};
    aa_amount a = {5, AA_UNIT_STEPS};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_true(aa_amount_parse(good[i].text, &a));
        assert_true(a.value == good[i].want.value && a.unit == good[i].want.unit);
    }
    static const char *const bad[] = {"",   "5",   "-1s",  "1M",        "1 s",
                                      "ks", "1mm", "nans", "1e308Gflop"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) assert_false(aa_amount_parse(bad[i], &a));
}

static void command_lines(void **state) {
    fixture *f = *state;
    aa_err err = {0};
    const char *words[2];
    int n;
    char *good[] = {"first", "--lr=2",     "--tied", "--name", "-5",  "--other",
                    "a=b",   "--schedule", "cosine", "--",     "--lr"};
    check_ok(aa_opts_args(&f->o, 11, good, words, 2, &n, &f->problems, &err));
    problems_are(f, "");
    assert_int_equal(n, 2);
    assert_string_equal(words[0], "first");
    assert_string_equal(words[1], "--lr");
    assert_true(f->v.x == 2 && f->v.flag && f->v.choice == 0);
    assert_string_equal(f->v.text, "-5");
    assert_string_equal(f->v.other, "a=b");
    assert_int_equal(aa_opts_from(&f->o, "lr"), AA_FROM_COMMAND);
    char *no[] = {"--no-tied", "--name="};
    check_ok(aa_opts_args(&f->o, 2, no, words, 2, &n, &f->problems, &err));
    assert_false(f->v.flag);
    assert_string_equal(f->v.text, "");
    char *bad[] = {"--kv-haeds", "7",      "--no-name", "--nothing-like-it=1", "-x", "a", "b",
                   "c",          "--name", "--lr"};
    check_ok(aa_opts_args(&f->o, 10, bad, words, 2, &n, &f->problems, &err));
    problems_are(f, "command line: unknown option '--kv-haeds'; did you mean '--kv-heads'?\n"
                    "command line: unknown option '--no-name'; did you mean '--name'?\n"
                    "command line: unknown option '--nothing-like-it'\n"
                    "command line: unknown option '-x'; options are words after '--'\n"
                    "command line: unexpected argument 'c'\n"
                    "command line: --name needs a value: text\n"
                    "command line: --lr needs a value: a number from -1e+300 to 1e+300\n");
}

static void values_belong_to_options(void **state) {
    (void)state;
    static const struct { int argc; char *argv[2]; int words; } cases[] = {
        {2, {"--name", "-h"}, 2},  {2, {"--lr", "5"}, 2},        {2, {"--tied", "no"}, 2},
        {1, {"--name", NULL}, 1},  {2, {"--name", "--lr"}, 1},   {2, {"--name=a", "b"}, 1},
        {2, {"--tied", "a"}, 1},   {2, {"--no-tied", "no"}, 1},  {2, {"--what", "a"}, 1},
        {2, {"name", "a"}, 1},     {2, {"-h", "a"}, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(aa_opts_words(rows, cases[i].argc, cases[i].argv), cases[i].words);
}

static void higher_origins_win(void **state) {
    fixture *f = *state;
    assert_true(aa_opts_set(&f->o, "lr", "3", AA_FROM_COMMAND, "", &f->problems));
    assert_true(aa_opts_set(&f->o, "lr", "2", AA_FROM_FILE, "", &f->problems));
    assert_true(f->v.x == 3);
    assert_true(aa_opts_set(&f->o, "kv-heads", "2", AA_FROM_DEFAULT, "", &f->problems));
    assert_true(aa_opts_set(&f->o, "kv-heads", "3", AA_FROM_FILE, "", &f->problems));
    assert_true(aa_opts_set(&f->o, "kv-heads", "2", AA_FROM_DEFAULT, "", &f->problems));
    assert_int_equal(f->v.n, 3);
    assert_int_equal(aa_opts_from(&f->o, "kv-heads"), AA_FROM_FILE);
    problems_are(f, "");
}

static void read_text(fixture *f, const char *text) {
    aa_err err = {0};
    char *path = aa_path_join(check_temp_dir(), "a.ini");
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    check_ok(aa_opts_read_ini(&f->o, path, &f->problems, &err));
    aa_heap_free(path);
}

static void config_files(void **state) {
    fixture *f = *state;
    read_text(f,
              "\xEF\xBB\xBF; comment\r\n# another\n\n[model]\n  kv-heads=5 ; few\nlr\t=  7e-1\n"
              "name = C#;x is \"it\" # not\nother = \" \\\"a\\\" ; b\\\\\" ; c\n[any]\ntied = yes");
    problems_are(f, "");
    assert_true(f->v.n == 5 && f->v.x == 0.7 && f->v.flag);
    assert_string_equal(f->v.text, "C#;x is \"it\"");
    assert_string_equal(f->v.other, " \"a\" ; b\\");
    read_text(f, "other =\nname = ; nothing\n");
    assert_string_equal(f->v.other, "");
    assert_string_equal(f->v.text, "");
}

static void config_errors_have_lines(void **state) {
    fixture *f = *state;
    aa_err err = {0};
    read_text(f, "[model\nlr = 1\n\nlr = 2\nkvheads = 3\nnonsense\n= 5\nkv-heads = 3.5\n"
                 "name = \"open\nother = \"\\q\"\n");
    const char *p = f->problems.data;
    static const char *const want[] = {
        ":1: not 'key = value'",
        ":4: 'lr' is given twice",
        ":5: unknown option 'kvheads'; did you",
        ":6: not 'key = value', '[group]' or a comment: nonsense",
        ":7: not 'key = value'",
        ":8: kv-heads '3.5' is not an integer from -10 to 1000000000",
        ":9: 'name': a value in quotes",
        ":10: 'other': a value in quotes"};
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        assert_non_null(p = strstr(p, want[i]));
        assert_non_null(p = strchr(p, '\n'));
    }
    assert_string_equal(p, "\n");
    assert_int_equal(aa_opts_read_ini(&f->o, "/nowhere/a.ini", &f->problems, &err), AA_ENOTFOUND);
}

static void check_round_trip(fixture *f) {
    aa_err err = {0};
    aa_text ini = {0}, again = {0};
    fixture g = {0};
    aa_opts_write_ini(&f->o, &ini);
    check_ok(aa_text_status(&ini, &err));
    check_ok(aa_opts_init(&g.o, rows, &g.v, &err));
    read_text(&g, ini.data);
    problems_are(&g, "");
    assert_memory_equal(&f->v.x, &g.v.x, sizeof g.v.x);
    assert_true(f->v.n == g.v.n && f->v.flag == g.v.flag && f->v.choice == g.v.choice);
    assert_true(f->v.amount.value == g.v.amount.value && f->v.amount.unit == g.v.amount.unit);
    assert_string_equal(f->v.text, g.v.text);
    assert_int_equal(!f->v.other, !g.v.other);
    if (f->v.other) assert_string_equal(f->v.other, g.v.other);
    aa_opts_write_ini(&g.o, &again);
    assert_string_equal(ini.data, again.data);
    aa_opts_release(&g.o);
    aa_text_release(&g.problems);
    aa_text_release(&ini);
    aa_text_release(&again);
}

static void ini_round_trip(void **state) {
    fixture *f = *state;
    static const char *const awkward[] = {"",        " ",
                                          "\t",      " lead",
                                          "trail ",  ";",
                                          "#",       "a ; b",
                                          "a;b",     "a # b",
                                          "=",       "a = b",
                                          "[x]",     "\"",
                                          "\"\"",    "\"quoted\"",
                                          "it's",    "a\\",
                                          "\\n",     "a\nb",
                                          "\r\n",    "\\",
                                          "C:\\x\\", "no",
                                          "\x01",    "gr\xC3\xBC\xC3\x9F"};
    char big[5000];
    memset(big, 'y', sizeof big);
    big[sizeof big - 1] = 0;
    check_round_trip(f);
    for (size_t i = 0; i <= sizeof awkward / sizeof *awkward; i++) {
        const char *s = i < sizeof awkward / sizeof *awkward ? awkward[i] : big;
        assert_true(set(f, "name", s) && set(f, "other", s));
        check_round_trip(f);
    }
    assert_true(set(f, "tied", "yes") && set(f, "schedule", "constant") &&
                set(f, "budget", "3.7Mtok"));
    aa_rng r;
    aa_rng_init(&r, 1, AA_RNG_TEST, 0);
    for (int i = 0; i < 200;) {
        uint64_t bits = aa_rng_u64(&r);
        memcpy(&f->v.x, &bits, sizeof bits);
        if (!(fabs(f->v.x) <= 1e300)) continue;
        f->v.amount = (aa_amount){aa_rng_uniform(&r) * 1e13, (aa_unit)(1 + i % 4)};
        check_round_trip(f);
        i++;
    }
}

static void json_has_types(void **state) {
    fixture *f = *state;
    aa_text out = {0};
    assert_true(set(f, "name", "a\"b"));
    aa_opts_write_json(&f->o, &out);
    assert_string_equal(out.data, "{\"kv-heads\":4,\"lr\":0.001,\"tied\":false,\"name\":\"a\\\"b\","
                                  "\"other\":null,\"schedule\":\"wsd\",\"budget\":\"120s\"}");
    aa_text_release(&out);
}

static void help_is_wrapped(void **state) {
    (void)state;
    aa_text out = {0};
    aa_opts_help(rows, &out, 60);
    assert_non_null(strstr(out.data, "\ntraining\n  --lr X"));
    assert_non_null(strstr(out.data, "--schedule cosine|wsd|constant\n"));
    assert_non_null(strstr(out.data, "[1e-3]"));
    for (const char *line = out.data; *line; line += strcspn(line, "\n") + 1)
        assert_true(strcspn(line, "\n") <= 60);
    aa_text_release(&out);
}

int main(void) {
#define WITH_OPTIONS(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        WITH_OPTIONS(defaults),
        WITH_OPTIONS(integers),
        WITH_OPTIONS(reals),
        WITH_OPTIONS(choices_and_flags),
        cmocka_unit_test(amounts),
        WITH_OPTIONS(command_lines),
        cmocka_unit_test(values_belong_to_options),
        WITH_OPTIONS(higher_origins_win),
        WITH_OPTIONS(config_files),
        WITH_OPTIONS(config_errors_have_lines),
        WITH_OPTIONS(ini_round_trip),
        WITH_OPTIONS(json_has_types),
        cmocka_unit_test(help_is_wrapped),
    };
    return cmocka_run_group_tests_name("unit_option", tests, NULL, NULL);
}
