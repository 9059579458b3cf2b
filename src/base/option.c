#include "base/option.h"
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/number.h"

/* ---- values ---------------------------------------------------------------------------------- */

static void *slot(const aa_opts *o, const aa_opt *row) { return (char *)o->values + row->at; }

static double multiplier(char c) { return c == 'k' ? 1e3 : c == 'M' ? 1e6 : c == 'G' ? 1e9 : 0; }

/* A finite number at the start of s; *end behind it. */
static bool number(const char *s, double *out, const char **end) {
    char *e;
    if (!*s || isspace((unsigned char)*s)) return false;
    errno = 0;
    double v = aa_number_read(s, &e);
    if (e == s || !isfinite(v) || memchr(s, 'x', (size_t)(e - s)) ||
        memchr(s, 'X', (size_t)(e - s)))
        return false;
    *out = v;
    *end = e;
    return true;
}

static bool parse_int(const char *s, int64_t *out) {
    char *e;
    errno = 0;
    long long n = strtoll(s, &e, 10);
    if (e != s && !*e && !errno && !isspace((unsigned char)*s)) {
        *out = n;
        return true;
    }
    double v;
    const char *end;
    if (!number(s, &v, &end)) return false;
    if (multiplier(*end)) v *= multiplier(*end++);
    if (*end || v != floor(v) || fabs(v) > 0x1p62) return false;
    *out = (int64_t)v;
    return true;
}

static bool parse_real(const char *s, double *out) {
    const char *end;
    return number(s, out, &end) && !*end;
}

bool aa_amount_parse(const char *s, aa_amount *out) {
    static const struct {
        const char *suffix;
        aa_unit unit;
        double factor;
        bool scaled;
    } units[] = {{"s", AA_UNIT_SECONDS, 1, false},    {"m", AA_UNIT_SECONDS, 60, false},
                 {"h", AA_UNIT_SECONDS, 3600, false}, {"step", AA_UNIT_STEPS, 1, true},
                 {"steps", AA_UNIT_STEPS, 1, true},   {"tok", AA_UNIT_TOKENS, 1, true},
                 {"tokens", AA_UNIT_TOKENS, 1, true}, {"flop", AA_UNIT_FLOP, 1, true},
                 {"epoch", AA_UNIT_EPOCHS, 1, true},  {"epochs", AA_UNIT_EPOCHS, 1, true}};
    double v;
    const char *end;
    if (!number(s, &v, &end) || v < 0) return false;
    if (!*end) {
        *out = (aa_amount){0, AA_UNIT_NONE};
        return v == 0;
    }
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        double factor = units[i].factor;
        const char *suffix = end;
        if (units[i].scaled && multiplier(*suffix)) factor *= multiplier(*suffix++);
        if (strcmp(suffix, units[i].suffix)) continue;
        if (!isfinite(v * factor)) return false;
        *out = (aa_amount){v * factor, v > 0 ? units[i].unit : AA_UNIT_NONE};
        return true;
    }
    return false;
}

static bool parse_bool(const char *s, bool *out) {
    static const char *const words[] = {"no", "yes", "false", "true", "0", "1", "off", "on"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strcmp(s, words[i]) == 0) {
            *out = i % 2;
            return true;
        }
    return false;
}

/* Index of the word s in "a|b|c", or -1. */
static int choice_index(const char *choices, const char *s) {
    size_t n = strlen(s);
    for (int i = 0;; i++) {
        const char *bar = strchr(choices, '|');
        size_t len = bar ? (size_t)(bar - choices) : strlen(choices);
        if (len == n && strncmp(choices, s, n) == 0) return i;
        if (!bar) return -1;
        choices = bar + 1;
    }
}

static void choice_name(const char *choices, int index, aa_text *out) {
    while (index-- > 0 && strchr(choices, '|')) choices = strchr(choices, '|') + 1;
    const char *bar = strchr(choices, '|');
    aa_text_add_bytes(out, choices, bar ? (size_t)(bar - choices) : strlen(choices));
}

/* What a row accepts, for messages. */
static void describe(const aa_opt *row, aa_text *t) {
    switch (row->type) {
    case AA_OPT_INT: aa_text_printf(t, "an integer from %.17g to %.17g", row->lo, row->hi); break;
    case AA_OPT_REAL: aa_text_printf(t, "a number from %g to %g", row->lo, row->hi); break;
    case AA_OPT_BOOL: aa_text_add(t, "yes or no"); break;
    case AA_OPT_STRING: aa_text_add(t, "text"); break;
    case AA_OPT_CHOICE: aa_text_printf(t, "one of %s", row->choices); break;
    case AA_OPT_AMOUNT:
        aa_text_add(t, "an amount like 120s, 10m, 500steps, 2Mtok, 1e13flop or 0");
        break;
    }
}

/* Parses and stores; false: not acceptable (or no memory: *no_memory). */
static bool store(const aa_opts *o, const aa_opt *row, const char *value, bool *no_memory) {
    void *at = slot(o, row);
    int64_t n;
    double v;
    bool b;
    int c;
    aa_amount a;
    char *s;
    switch (row->type) {
    case AA_OPT_INT:
        if (!parse_int(value, &n) || (double)n < row->lo || (double)n > row->hi) return false;
        *(int64_t *)at = n;
        return true;
    case AA_OPT_REAL:
        if (!parse_real(value, &v) || v < row->lo || v > row->hi) return false;
        *(double *)at = v;
        return true;
    case AA_OPT_BOOL:
        if (!parse_bool(value, &b)) return false;
        *(bool *)at = b;
        return true;
    case AA_OPT_STRING:
        s = aa_heap_strdup(value);
        if (!s) {
            *no_memory = true;
            return false;
        }
        aa_heap_free(*(char **)at);
        *(char **)at = s;
        return true;
    case AA_OPT_CHOICE:
        if ((c = choice_index(row->choices, value)) < 0) return false;
        *(int *)at = c;
        return true;
    case AA_OPT_AMOUNT:
        if (!aa_amount_parse(value, &a) || a.value < row->lo || a.value > row->hi) return false;
        *(aa_amount *)at = a;
        return true;
    }
    return false;
}

static void clear_value(const aa_opts *o, const aa_opt *row) {
    static const size_t size[] = {sizeof(int64_t), sizeof(double), sizeof(bool),
                                  sizeof(char *),  sizeof(int),    sizeof(aa_amount)};
    memset(slot(o, row), 0, size[row->type]);
}

/* ---- tables ---------------------------------------------------------------------------------- */

size_t aa_opts_count(const aa_opt *rows) {
    size_t n = 0;
    while (rows[n].key) n++;
    return n;
}

aa_status aa_opts_init(aa_opts *o, const aa_opt *rows, void *values, aa_err *err) {
    *o = (aa_opts){.rows = rows, .values = values};
    for (const aa_opt *row = rows; row->key; row++) clear_value(o, row);
    o->from = aa_heap_alloc(aa_opts_count(rows) + 1, 1);
    bool no_memory = !o->from;
    for (const aa_opt *row = rows; row->key && !no_memory; row++) {
        bool good = !row->init || store(o, row, row->init, &no_memory);
        aa_assert(good || no_memory);
    }
    if (!no_memory) return AA_OK;
    aa_opts_release(o);
    return aa_fail_memory(err, "the options", 0);
}

void aa_opts_release(aa_opts *o) {
    if (!o->rows) return;
    for (const aa_opt *row = o->rows; row->key; row++)
        if (row->type == AA_OPT_STRING) {
            aa_heap_free(*(char **)slot(o, row));
            *(char **)slot(o, row) = NULL;
        }
    aa_heap_free(o->from);
    *o = (aa_opts){0};
}

static const aa_opt *find(const aa_opt *rows, const char *key, size_t n) {
    for (const aa_opt *row = rows; row->key; row++)
        if (strncmp(row->key, key, n) == 0 && !row->key[n]) return row;
    return NULL;
}

aa_opt_origin aa_opts_from(const aa_opts *o, const char *key) {
    const aa_opt *row = find(o->rows, key, strlen(key));
    aa_assert(row);
    return o->from ? (aa_opt_origin)o->from[row - o->rows] : AA_FROM_DEFAULT;
}

/* Edit distance with adjacent swaps, for words up to 31 characters;
 * longer ones are far from everything. */
static size_t distance(const char *a, const char *b) {
    size_t n = strlen(a), m = strlen(b), d[32][32];
    if (n > 31 || m > 31) return 99;
    for (size_t i = 0; i <= n; i++) d[i][0] = i;
    for (size_t j = 0; j <= m; j++) d[0][j] = j;
    for (size_t i = 1; i <= n; i++)
        for (size_t j = 1; j <= m; j++) {
            size_t best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            if (d[i - 1][j] + 1 < best) best = d[i - 1][j] + 1;
            if (d[i][j - 1] + 1 < best) best = d[i][j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                d[i - 2][j - 2] + 1 < best)
                best = d[i - 2][j - 2] + 1;
            d[i][j] = best;
        }
    return d[n][m];
}

const char *aa_nearest(const char *word, const char *(*name)(const void *table, size_t i),
                       const void *table, size_t n) {
    const char *best = NULL;
    size_t best_distance = 4;
    for (size_t i = 0; i < n; i++) {
        size_t d = distance(word, name(table, i));
        if (d < best_distance && d < strlen(word)) {
            best_distance = d;
            best = name(table, i);
        }
    }
    return best;
}

static const char *row_key(const void *table, size_t i) { return ((const aa_opt *)table)[i].key; }

static void unknown(const aa_opts *o, const char *key, const char *prefix, const char *where,
                    aa_text *problems) {
    const char *near = aa_nearest(key, row_key, o->rows, aa_opts_count(o->rows));
    aa_text_printf(problems, "%s: unknown option '%s%.60s'", where, prefix, key);
    if (near) aa_text_printf(problems, "; did you mean '%s%s'?", prefix, near);
    aa_text_add(problems, "\n");
}

static bool set_row(aa_opts *o, const aa_opt *row, const char *value, aa_opt_origin from,
                    const char *where, aa_text *problems) {
    size_t i = (size_t)(row - o->rows);
    bool no_memory = false;
    if (o->from[i] > from) return true;
    if (store(o, row, value, &no_memory)) {
        o->from[i] = (uint8_t)from;
        return true;
    }
    if (no_memory) {
        problems->failed = true;
        return false;
    }
    aa_text_printf(problems, "%s: %s%s '%s' is not ", where, from == AA_FROM_COMMAND ? "--" : "",
                   row->key, value);
    describe(row, problems);
    aa_text_add(problems, "\n");
    return false;
}

bool aa_opts_set(aa_opts *o, const char *key, const char *value, aa_opt_origin from,
                 const char *where, aa_text *problems) {
    const aa_opt *row = find(o->rows, key, strlen(key));
    if (row) return set_row(o, row, value, from, where, problems);
    unknown(o, key, from == AA_FROM_COMMAND ? "--" : "", where, problems);
    return false;
}

/* ---- command line ---------------------------------------------------------------------------- */

#define HERE "command line"

int aa_opts_words(const aa_opt *rows, int argc, char *const *argv) {
    bool dummy;
    if (argc < 2 || strncmp(argv[0], "--", 2) || strchr(argv[0], '=')) return 1;
    const aa_opt *row = find(rows, argv[0] + 2, strlen(argv[0] + 2));
    if (!row) return 1;
    if (row->type == AA_OPT_BOOL) return parse_bool(argv[1], &dummy) ? 2 : 1;
    return strncmp(argv[1], "--", 2) ? 2 : 1;
}

/* An option word argv[i]; returns how many words it took. */
static int take_option(aa_opts *o, int argc, char **argv, int i, aa_text *problems) {
    const char *key = argv[i] + 2, *equals = strchr(key, '=');
    size_t n = equals ? (size_t)(equals - key) : strlen(key);
    const aa_opt *row = find(o->rows, key, n);
    if (!row && !equals && strncmp(key, "no-", 3) == 0) {
        const aa_opt *negated = find(o->rows, key + 3, n - 3);
        if (negated && negated->type == AA_OPT_BOOL) {
            set_row(o, negated, "no", AA_FROM_COMMAND, HERE, problems);
            return 1;
        }
    }
    if (!row) {
        char word[64];
        snprintf(word, sizeof word, "%.*s", (int)n, key);
        unknown(o, word, "--", HERE, problems);
        /* Its value, if any, is not a stray argument. */
        return !equals && i + 1 < argc && strncmp(argv[i + 1], "--", 2) ? 2 : 1;
    }
    if (equals) {
        set_row(o, row, equals + 1, AA_FROM_COMMAND, HERE, problems);
        return 1;
    }
    int words = aa_opts_words(o->rows, argc - i, argv + i);
    if (words == 2) set_row(o, row, argv[i + 1], AA_FROM_COMMAND, HERE, problems);
    else if (row->type == AA_OPT_BOOL) set_row(o, row, "yes", AA_FROM_COMMAND, HERE, problems);
    else {
        aa_text_printf(problems, HERE ": --%s needs a value: ", row->key);
        describe(row, problems);
        aa_text_add(problems, "\n");
    }
    return words;
}

aa_status aa_opts_args(aa_opts *o, int argc, char **argv, const char **positional, int max,
                       int *n_positional, aa_text *problems, aa_err *err) {
    bool options = true;
    *n_positional = 0;
    for (int i = 0; i < argc;) {
        const char *word = argv[i];
        if (options && strcmp(word, "--") == 0) {
            options = false;
            i++;
        } else if (options && strncmp(word, "--", 2) == 0)
            i += take_option(o, argc, argv, i, problems);
        else if (options && word[0] == '-' && word[1]) {
            aa_text_printf(problems, HERE ": unknown option '%s'; options are words after '--'\n",
                           word);
            i++;
        } else if (*n_positional < max) positional[(*n_positional)++] = argv[i++];
        else {
            aa_text_printf(problems, HERE ": unexpected argument '%s'\n", word);
            i++;
        }
    }
    return aa_text_status(problems, err);
}

/* ---- ini ------------------------------------------------------------------------------------- */

typedef struct reader {
    aa_opts *opts;
    const char *where; /* "path:line" */
    aa_text *problems;
    uint8_t *seen; /* [rows] */
} reader;

static bool blank(char c) { return c == ' ' || c == '\t'; }

static char *trim(char *s) {
    while (blank(*s)) s++;
    for (size_t n = strlen(s); n && blank(s[n - 1]); n--) s[n - 1] = 0;
    return s;
}

/* The value at s in place: what stands in quotes, or everything before a comment. NULL: wrong. */
static char *ini_value(char *s) {
    static const char names[] = "\\\"nrt", codes[] = "\\\"\n\r\t";
    if (*s != '"') {
        for (char *p = s; *p; p++)
            if ((*p == ';' || *p == '#') && (p == s || blank(p[-1]))) *p-- = 0;
        return trim(s);
    }
    char *to = s, *from = s + 1;
    while (*from && *from != '"') {
        const char *name = *from == '\\' && from[1] ? strchr(names, from[1]) : NULL;
        if (*from == '\\' && !name) return NULL;
        *to++ = name ? codes[name - names] : *from;
        from += name ? 2 : 1;
    }
    if (*from != '"') return NULL;
    for (from++; blank(*from);) from++;
    if (*from && *from != ';' && *from != '#') return NULL;
    *to = 0;
    return s;
}

static void read_pair(reader *r, char *key, char *value) {
    const aa_opt *row = find(r->opts->rows, key, strlen(key));
    if (!row) {
        unknown(r->opts, key, "", r->where, r->problems);
        return;
    }
    size_t i = (size_t)(row - r->opts->rows);
    value = ini_value(value);
    if (!value) {
        aa_text_printf(r->problems,
                       "%s: '%s': a value in quotes ends with a quote, and has \\ only before "
                       "\\ \" n r t\n",
                       r->where, key);
    } else if (r->seen[i]) aa_text_printf(r->problems, "%s: '%s' is given twice\n", r->where, key);
    else set_row(r->opts, row, value, AA_FROM_FILE, r->where, r->problems);
    r->seen[i] = 1;
}

static void read_line(reader *r, const char *line, size_t n) {
    char *copy = aa_heap_alloc(n + 1, 1);
    if (!copy) {
        r->problems->failed = true;
        return;
    }
    memcpy(copy, line, n);
    char *s = trim(copy), *equals = strchr(s, '=');
    if (memchr(line, 0, n)) aa_text_printf(r->problems, "%s: not a text file\n", r->where);
    else if (*s && !strchr(";#", *s) && !(*s == '[' && strchr(s, ']'))) {
        if (equals && equals > s && *s != '[') {
            *equals = 0;
            read_pair(r, trim(s), trim(equals + 1));
        } else
            aa_text_printf(r->problems, "%s: not 'key = value', '[group]' or a comment: %.60s\n",
                           r->where, s);
    }
    aa_heap_free(copy);
}

aa_status aa_opts_read_ini(aa_opts *o, const char *path, aa_text *problems, aa_err *err) {
    aa_sys_map map;
    AA_TRY(aa_map_open(&map, path, err));
    char where[512];
    reader r = {o, where, problems, aa_heap_alloc(aa_opts_count(o->rows) + 1, 1)};
    const char *p = (const char *)map.data, *end = p + map.size_bytes;
    size_t before = problems->len;
    if (map.size_bytes >= 3 && memcmp(p, "\xEF\xBB\xBF", 3) == 0) p += 3;
    /* A file that is not ours at all would otherwise be reported line by line. */
    for (int line = 1; r.seen && p < end && problems->len < before + 4096; line++) {
        const char *newline = memchr(p, '\n', (size_t)(end - p)), *stop = newline ? newline : end;
        size_t n = (size_t)(stop - p);
        if (n && p[n - 1] == '\r') n--;
        snprintf(where, sizeof where, "%.480s:%d", path, line);
        read_line(&r, p, n);
        p = newline ? newline + 1 : end;
    }
    aa_status st =
        r.seen ? aa_text_status(problems, err) : aa_fail_memory(err, "reading a config file", 0);
    aa_heap_free(r.seen);
    aa_sys_map_close(&map);
    return st;
}

/* ---- writing --------------------------------------------------------------------------------- */

static void print_amount(aa_amount a, aa_text *out) {
    static const char *const suffix[] = {"", "s", "steps", "tok", "flop", "epochs"};
    aa_text_json_real(out, a.value);
    if (a.value != 0) aa_text_add(out, suffix[a.unit]);
}

/* One value as text that aa_opts_set takes. */
static void print_value(const aa_opts *o, const aa_opt *row, aa_text *out) {
    const void *at = slot(o, row);
    switch (row->type) {
    case AA_OPT_INT: aa_text_json_int(out, *(const int64_t *)at); break;
    case AA_OPT_REAL: aa_text_json_real(out, *(const double *)at); break;
    case AA_OPT_BOOL: aa_text_add(out, *(const bool *)at ? "yes" : "no"); break;
    case AA_OPT_STRING:
        if (*(char *const *)at) aa_text_add(out, *(char *const *)at);
        break;
    case AA_OPT_CHOICE: choice_name(row->choices, *(const int *)at, out); break;
    case AA_OPT_AMOUNT: print_amount(*(const aa_amount *)at, out); break;
    }
}

/* In quotes where the value would not come back as it is. */
static void write_ini_string(const char *s, aa_text *out) {
    size_t n = strlen(s);
    if (n && !strpbrk(s, ";#\"\n\r") && !blank(*s) && !blank(s[n - 1])) {
        aa_text_add(out, s);
        return;
    }
    aa_text_add(out, "\"");
    for (; *s; s++) switch (*s) {
        case '"': aa_text_add(out, "\\\""); break;
        case '\\': aa_text_add(out, "\\\\"); break;
        case '\n': aa_text_add(out, "\\n"); break;
        case '\r': aa_text_add(out, "\\r"); break;
        default: aa_text_add_bytes(out, s, 1);
        }
    aa_text_add(out, "\"");
}

void aa_opts_write_ini(const aa_opts *o, aa_text *out) {
    const char *group = "";
    for (const aa_opt *row = o->rows; row->key; row++) {
        if (strcmp(group, row->group))
            aa_text_printf(out, "%s[%s]\n", *group ? "\n" : "", row->group);
        group = row->group;
        char *string = row->type == AA_OPT_STRING ? *(char **)slot(o, row) : NULL;
        bool unset = row->type == AA_OPT_STRING && !string;
        aa_text_printf(out, "; %s\n%s%s = ", row->help, unset ? "; " : "", row->key);
        if (string) write_ini_string(string, out);
        else print_value(o, row, out);
        aa_text_add(out, "\n");
    }
}

void aa_opts_write_json(const aa_opts *o, aa_text *out) {
    aa_text_add(out, "{");
    for (const aa_opt *row = o->rows; row->key; row++) {
        aa_text_json_key(out, row->key);
        const void *at = slot(o, row);
        if (row->type == AA_OPT_BOOL) aa_text_json_bool(out, *(const bool *)at);
        else if (row->type == AA_OPT_INT || row->type == AA_OPT_REAL) print_value(o, row, out);
        else if (row->type == AA_OPT_STRING && !*(char *const *)at) aa_text_add(out, "null");
        else {
            aa_text value = {0};
            print_value(o, row, &value);
            aa_text_json_string(out, value.data ? value.data : "", value.len);
            out->failed |= value.failed;
            aa_text_release(&value);
        }
    }
    aa_text_add(out, "}");
}

static bool json_value(const json_t *v, aa_text *out) {
    aa_text_clear(out);
    switch (json_typeof(v)) {
    case JSON_STRING: aa_text_add(out, json_string_value(v)); return true;
    case JSON_INTEGER: aa_text_printf(out, "%lld", json_integer_value(v)); return true;
    case JSON_REAL: aa_text_printf(out, "%.17g", json_real_value(v)); return true;
    case JSON_TRUE:
    case JSON_FALSE: aa_text_add(out, json_is_true(v) ? "yes" : "no"); return true;
    default: return false;
    }
}

static aa_status read_values(aa_opts *o, const json_t *root, const char *name, aa_text *value,
                             aa_text *problems, aa_err *err) {
    for (const aa_opt *row = o->rows; row->key; row++) {
        const json_t *v = json_object_get(root, row->key);
        if (json_is_null(v)) continue;
        if (!v || !json_value(v, value))
            return aa_fail(err, AA_EFORMAT, "'%s': the settings have no usable %s", name, row->key);
        AA_TRY(aa_text_status(value, err));
        if (!aa_opts_set(o, row->key, value->data ? value->data : "", AA_FROM_FILE, name, problems))
            return aa_text_status(problems, err);
    }
    return AA_OK;
}

aa_status aa_opts_read_json(aa_opts *o, const char *text, size_t n, const char *name,
                            aa_err *err) {
    json_t *root = NULL;
    aa_text value = {0}, problems = {0};
    AA_TRY(aa_json_parse(&root, text, n, name, err));
    aa_status st = json_is_object(root)
                       ? read_values(o, root, name, &value, &problems, err)
                       : aa_fail(err, AA_EFORMAT, "'%s': the settings are no object", name);
    if (!st && problems.len)
        st = aa_fail(err, AA_EFORMAT, "%.*s", (int)problems.len - 1, problems.data);
    json_decref(root);
    aa_text_release(&value);
    aa_text_release(&problems);
    return st;
}

/* Words of s into lines of at most `width` columns, continuation lines indented. */
static void wrap(aa_text *out, const char *s, int indent, int width) {
    int column = indent;
    for (bool first = true; *s; first = false) {
        size_t n = strcspn(s, " ");
        if (!first && column + 1 + (int)n > width) {
            aa_text_printf(out, "\n%*s", indent, "");
            column = indent;
        } else if (!first) {
            aa_text_add(out, " ");
            column++;
        }
        aa_text_add_bytes(out, s, n);
        column += (int)n;
        s += n + (s[n] == ' ');
    }
    aa_text_add(out, "\n");
}

void aa_opts_help(const aa_opt *rows, aa_text *out, int width) {
    enum { COLUMN = 32 };
    const char *group = "";
    for (const aa_opt *row = rows; row->key; row++) {
        aa_text line = {0}, help = {0};
        if (strcmp(group, row->group)) aa_text_printf(out, "\n%s\n", row->group);
        group = row->group;
        aa_text_printf(&line, "  --%s", row->key);
        static const char *const kind[] = {"N", "X", "", "TEXT", "", "AMOUNT"};
        const char *what = row->choices ? row->choices : kind[row->type];
        if (*what) aa_text_printf(&line, " %s", what);
        aa_text_add(&help, row->help);
        if (row->init && *row->init) aa_text_printf(&help, " [%s]", row->init);
        aa_text_add_bytes(out, line.data, line.len);
        if (line.len + 2 > COLUMN) aa_text_printf(out, "\n%*s", COLUMN, "");
        else aa_text_printf(out, "%*s", COLUMN - (int)line.len, "");
        wrap(out, help.data ? help.data : "", COLUMN, width);
        out->failed |= line.failed || help.failed;
        aa_text_release(&line);
        aa_text_release(&help);
    }
}
