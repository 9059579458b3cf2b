/* Scoring of choices. A text is read from where it differs from the one before it: the choices of a
 * question share its query, questions often share the examples in front of them, and both stay in
 * the cache of keys and values. */
#include "train/choices.h"
#include <math.h>
#include <string.h>
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/number.h"
#include "data/unicode.h"
#include "sys/sys.h"

enum { SCORED_ROWS = 64, MAX_CHOICES = 1000 };   /* rows of one pass that gives losses */

typedef struct scorer {
    aa_session *session;
    aa_activations *activations;
    size_t capacity;
    const char *delimiter;
    aa_ids encoded, whole;                       /* of the query alone, of the text; tokenizer's */
    int32_t prefix;                              /* stands for an empty query */
    const int32_t *query; size_t n_query;        /* encoded, or prefix */
    aa_text text;
    aa_real *loss;                               /* [SCORED_ROWS] */
    int32_t *ids;                                /* [capacity + 1] of the model */
    uint64_t n_read, n_scored;
} scorer;

/* ---- one text -------------------------------------------------------------------------------- */

static aa_status to_model_ids(const aa_session *s, const int32_t *ids, size_t n, int32_t *out,
                              const char *where, aa_err *err) {
    for (size_t i = 0; i < n; i++) {
        out[i] = s->compact_map ? s->compact_map[ids[i]] : ids[i];
        if (out[i] < 0 || out[i] >= s->model->config.vocab)
            return aa_fail(err, AA_EUNSUPPORTED,
                           "%s: the token %d of it is not in the model's vocabulary of %lld", where,
                           ids[i], (long long)s->model->config.vocab);
    }
    return AA_OK;
}

/* Reads ids [from, to) behind what the cache holds. */
static aa_status read_on(scorer *c, size_t from, size_t to, aa_err *err) {
    aa_session *s = c->session;
    for (size_t at = from; at < to; at += s->chunk) {
        size_t n = to - at < s->chunk ? to - at : s->chunk;
        AA_TRY(aa_model_extend(s->model, &s->backend, s->activations, &s->kv, c->ids + at, n,
                               s->logits, err));
    }
    return AA_OK;
}

/* The log-probability of ids [first, n), each after all before it. */
static aa_status score_ids(scorer *c, size_t n, size_t first, double *out, aa_err *err) {
    aa_session *s = c->session;
    size_t shared = 0;
    while (shared < s->kv.len && shared < first - 1 && s->history[shared] == c->ids[shared])
        shared++;
    s->kv.len = shared;
    aa_status st = read_on(c, shared, first - 1, err);
    double sum = 0;
    for (size_t at = first - 1; !st && at < n - 1; at += SCORED_ROWS) {
        size_t rows = n - 1 - at < SCORED_ROWS ? n - 1 - at : SCORED_ROWS;
        st = aa_model_extend_loss(s->model, &s->backend, c->activations, &s->kv, c->ids + at,
                                  c->ids + at + 1, rows, c->loss, err);
        for (size_t i = 0; !st && i < rows; i++) sum -= (double)c->loss[i];
    }
    if (st) return st;
    memcpy(s->history, c->ids, (n - 1) * sizeof *c->ids);
    c->n_read += n - 1 - shared;
    c->n_scored += n - 1;
    *out = sum;
    return AA_OK;
}

/* The query's ids, then what the text has more; the last capacity + 1 of them. */
static aa_status score_choice(scorer *c, bool empty_query, const char *where, aa_choice *out,
                              aa_err *err) {
    size_t from = empty_query ? 0 : c->n_query, n_query = c->n_query;
    if (c->whole.len <= from)
        return aa_fail(err, AA_EUNSUPPORTED, "%s: a choice adds no token to the query", where);
    out->n_tokens = c->whole.len - from;
    size_t n = n_query + out->n_tokens, skip = n > c->capacity + 1 ? n - c->capacity - 1 : 0;
    if (skip >= n_query)
        return aa_fail(err, AA_EUSAGE,
                       "%s: a choice of %zu tokens leaves no room in a context of %zu", where,
                       out->n_tokens, c->capacity);
    n_query -= skip;
    AA_TRY(to_model_ids(c->session, c->query + skip, n_query, c->ids, where, err));
    AA_TRY(to_model_ids(c->session, c->whole.data + from, out->n_tokens, c->ids + n_query, where,
                        err));
    return score_ids(c, n - skip, n_query, &out->logprob, err);
}

/* ---- one question ---------------------------------------------------------------------------- */

/* Length without the white space at the end, as Python strips it. */
static size_t stripped(const char *s) {
    size_t n = strlen(s), end = 0;
    for (size_t i = 0; i < n;) {
        uint32_t code = 0, size = aa__utf8_decode((const unsigned char *)s + i, n - i, &code);
        bool blank = size && (aa__class_of(code) == AA__SPACE || (code >= 0x1c && code <= 0x1f));
        i += size ? size : 1;
        if (!blank) end = i;
    }
    return end;
}

static aa_status encode(scorer *c, const char *s, size_t n, unsigned flags, aa_ids *out,
                        aa_err *err) {
    out->len = 0;
    return aa_encode(c->session->tokenizer, s, n, AA_ENCODE_SPECIALS | flags, out, err);
}

/* The query alone; an empty one is the token that begins a text, or ends one. */
static aa_status take_query(scorer *c, const char *query, size_t n, const char *where,
                            aa_err *err) {
    const aa_tokenizer *t = c->session->tokenizer;
    AA_TRY(encode(c, query, n, AA_ENCODE_BOS, &c->encoded, err));
    c->query = c->encoded.data;
    c->n_query = c->encoded.len;
    if (c->n_query) return AA_OK;
    c->prefix = aa_tokenizer_bos(t) >= 0 ? aa_tokenizer_bos(t) : aa_tokenizer_eos(t);
    c->query = &c->prefix;
    c->n_query = 1;
    return c->prefix >= 0 ? AA_OK
                          : aa_fail(err, AA_EUNSUPPORTED,
                                    "%s: the query is empty, and the tokenizer has no token that "
                                    "begins a text",
                                    where);
}

static size_t best(const aa_choice_item *item, bool per_byte) {
    size_t pick = 0;
    double most = -INFINITY;
    for (size_t i = 0; i < item->n; i++) {
        const aa_choice *c = &item->choice[i];
        double score = per_byte ? c->logprob / (double)c->n_bytes : c->logprob;
        if (score > most) {
            most = score;
            pick = i;
        }
    }
    return pick;
}

static aa_status score_item(scorer *c, const char *query, const json_t *choices,
                            aa_choice_item *item, const char *where, aa_err *err) {
    size_t n = stripped(query);
    AA_TRY(take_query(c, query, n, where, err));
    for (size_t i = 0; i < item->n; i++) {
        const char *text = json_string_value(json_array_get(choices, i));
        if (!text || !*text)
            return aa_fail(err, AA_EFORMAT, "%s: choice %zu is no text, or empty", where, i);
        item->choice[i].n_bytes = strlen(text);
        aa_text_clear(&c->text);
        aa_text_add(&c->text, query);
        aa_text_add(&c->text, c->delimiter);
        aa_text_add(&c->text, text);
        AA_TRY(aa_text_status(&c->text, err));
        AA_TRY(encode(c, c->text.data, c->text.len, n ? AA_ENCODE_BOS : 0, &c->whole, err));
        AA_TRY(score_choice(c, n == 0, where, &item->choice[i], err));
    }
    item->pick = best(item, false);
    item->pick_norm = best(item, true);
    return AA_OK;
}

/* ---- a file of them -------------------------------------------------------------------------- */

static aa_status read_item(scorer *c, const json_t *o, aa_choice_item *item, aa_arena *arena,
                           const char *where, aa_err *err) {
    const json_t *choices = json_object_get(o, "choices");
    const char *query;
    int64_t gold;
    if (!json_is_object(o)) return aa_fail(err, AA_EFORMAT, "%s: not an object", where);
    AA_TRY(aa_json_str(o, "query", where, NULL, &query, err));
    if (!query) AA_TRY(aa_json_str(o, "context", where, NULL, &query, err));
    if (!query) return aa_fail(err, AA_EFORMAT, "%s: neither \"query\" nor \"context\"", where);
    item->n = json_array_size(choices);
    if (item->n < 2 || item->n > MAX_CHOICES)
        return aa_fail(err, AA_EFORMAT, "%s: \"choices\" must be a list of 2 to %d texts", where,
                       MAX_CHOICES);
    AA_TRY(aa_json_int_need(o, "gold", where, 0, (int64_t)item->n - 1, &gold, err));
    item->gold = (size_t)gold;
    item->choice = aa_arena_new(arena, aa_choice, item->n);
    AA_TRY(aa_arena_status(arena, err));
    return score_item(c, query, choices, item, where, err);
}

static aa_status add_line(scorer *c, aa_choices *out, const char *line, size_t n, size_t number,
                          const char *path, aa_err *err) {
    char where[256];
    json_t *o;
    aa_choice_item *item = aa_heap_realloc(out->item, out->n + 1, sizeof *item);
    if (!item) return aa_fail_memory(err, "the questions", 0);
    out->item = item;
    item[out->n] = (aa_choice_item){.line = number};
    aa_number_print(where, sizeof where, "%s, line %zu", path, number);
    AA_TRY(aa_json_parse(&o, line, n, where, err));
    aa_status st = read_item(c, o, &item[out->n], &out->arena, where, err);
    json_decref(o);
    out->n += st == AA_OK;
    return st;
}

static aa_status add_lines(scorer *c, aa_choices *out, const char *path, aa_err *err) {
    aa_sys_map map;
    AA_TRY(aa_map_open(&map, path, err));
    const char *text = (const char *)map.data;
    aa_status st = AA_OK;
    for (size_t at = 0, number = 1; !st && at < map.size_bytes; number++) {
        const char *end = memchr(text + at, '\n', map.size_bytes - at);
        size_t n = end ? (size_t)(end - text) - at : map.size_bytes - at;
        bool blank = true;
        for (size_t i = 0; i < n && blank; i++) blank = strchr(" \t\r", text[at + i]) != NULL;
        if (!blank) st = add_line(c, out, text + at, n, number, path, err);
        at += n + 1;
    }
    aa_sys_map_close(&map);
    if (!st && !out->n) st = aa_fail(err, AA_EFORMAT, "%s: there is no question in it", path);
    return st;
}

static void summarise(aa_choices *c) {
    double n = (double)c->n;
    size_t right = 0, right_norm = 0;
    for (size_t i = 0; i < c->n; i++) {
        right += c->item[i].pick == c->item[i].gold;
        right_norm += c->item[i].pick_norm == c->item[i].gold;
        c->chance += 1 / (double)c->item[i].n / n;
    }
    c->acc = (double)right / n;
    c->acc_norm = (double)right_norm / n;
    c->acc_stderr = c->n > 1 ? sqrt(c->acc * (1 - c->acc) / (n - 1)) : NAN;
    c->acc_norm_stderr = c->n > 1 ? sqrt(c->acc_norm * (1 - c->acc_norm) / (n - 1)) : NAN;
}

static aa_status open_scorer(scorer *c, aa_session *s, aa_arena *arena, aa_err *err) {
    c->session = s;
    c->capacity = s->kv.capacity;
    c->ids = aa_arena_new(arena, int32_t, c->capacity + 1);
    c->loss = aa_arena_new(arena, aa_real, SCORED_ROWS);
    AA_TRY(aa_activations_new(&c->activations, s->model, AA_PASS_EVAL, 1, SCORED_ROWS, 0, arena,
                              err));
    return aa_arena_status(arena, err);
}

aa_status aa_choices_run(aa_choices *out, aa_session *s, const char *path, const char *delimiter,
                         aa_err *err) {
    double start_s = aa_sys_clock_s();
    aa_choices made = {0};
    aa_arena arena;
    scorer c = {.delimiter = delimiter};
    aa_arena_init(&arena, "choices");
    aa_arena_init(&made.arena, "questions");
    aa_status st = open_scorer(&c, s, &arena, err);
    if (!st) st = add_lines(&c, &made, path, err);
    aa_arena_release(&arena);
    aa_ids_release(&c.encoded);
    aa_ids_release(&c.whole);
    aa_text_release(&c.text);
    if (st) {
        aa_choices_release(&made);
        return st;
    }
    summarise(&made);
    made.n_read = c.n_read;
    made.n_scored = c.n_scored;
    made.wall_s = aa_sys_clock_s() - start_s;
    *out = made;
    return AA_OK;
}

void aa_choices_release(aa_choices *c) {
    aa_heap_free(c->item);
    aa_arena_release(&c->arena);
    *c = (aa_choices){0};
}
