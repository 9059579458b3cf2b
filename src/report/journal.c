/* Reading a journal: JSON Lines from a run of ours, or of somebody else, or from one that died.
 *
 * A crash can tear the last line only, for lines are written whole and in order; so a last line
 * that does not parse is counted and skipped, and any other is an error with its place. A run that
 * was resumed without cutting its journal goes back in steps: the later lines replace what they
 * repeat, and an end event that is followed by more steps was not the end.
 */
#include "base/json.h"
#include "base/memory.h"
#include "report/report_int.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct reader {
    aa_journal *j;
    size_t steps_room, evals_room, samples_room;
    const char *name; /* "file:line" */
} reader;

/* Room for one more element; *list may move. */
static aa_status grow(void *list, size_t n, size_t *room, size_t size, const char *what,
                      aa_err *err) {
    if (n < *room) return AA_OK;
    void *old;
    memcpy(&old, list, sizeof old);
    size_t more = *room ? *room * 2 : 64;
    void *grown = aa_heap_realloc(old, more, size);
    if (!grown) return aa_fail_memory(err, what, (uint64_t)more * size);
    memcpy(list, &grown, sizeof grown);
    *room = more;
    return AA_OK;
}

static aa_status need_count(const json_t *o, const char *key, const reader *r, uint64_t *out,
                            aa_err *err) {
    int64_t v = 0;
    AA_TRY(aa_json_int(o, key, r->name, 0, INT64_MAX, 0, &v, err));
    *out = (uint64_t)v;
    return AA_OK;
}

/* A number, or NaN where there is none: the writer prints non-finite numbers as null. */
static aa_status get_real(const json_t *o, const char *key, const reader *r, double *out,
                          aa_err *err) {
    *out = NAN;
    if (!o) return AA_OK;
    return aa_json_real(o, key, r->name, -DBL_MAX, DBL_MAX, NAN, out, err);
}

static const json_t *time_of(const json_t *event) {
    const json_t *t = json_object_get(event, "time");
    return json_is_object(t) ? t : NULL;
}

static aa_status read_step(reader *r, const json_t *o, aa_err *err) {
    aa_journal *j = r->j;
    aa_report_step s = {0};
    const json_t *t = time_of(o);
    AA_TRY(need_count(o, "step", r, &s.step, err));
    AA_TRY(need_count(o, "tokens", r, &s.tokens, err));
    AA_TRY(get_real(o, "epoch", r, &s.epoch, err));
    AA_TRY(get_real(o, "loss", r, &s.loss, err));
    AA_TRY(get_real(o, "lr", r, &s.lr, err));
    AA_TRY(get_real(o, "grad_norm", r, &s.grad_norm, err));
    AA_TRY(get_real(t, "wall_s", r, &s.wall_s, err));
    AA_TRY(get_real(t, "tokens_per_s", r, &s.tokens_per_s, err));
    AA_TRY(get_real(t, "share_of_peak", r, &s.share_of_peak, err));
    while (j->n_steps > 0 && j->steps[j->n_steps - 1].step >= s.step) j->n_steps--;
    while (j->n_evals > 0 && j->evals[j->n_evals - 1].step > s.step) j->n_evals--;
    while (j->n_samples > 0 && j->samples[j->n_samples - 1].step > s.step)
        aa_heap_free(j->samples[--j->n_samples].text);
    AA_TRY(grow(&j->steps, j->n_steps, &r->steps_room, sizeof s, "the journal's steps", err));
    j->steps[j->n_steps++] = s;
    return AA_OK;
}

static aa_status read_eval(reader *r, const json_t *o, aa_err *err) {
    aa_journal *j = r->j;
    aa_report_eval e = {0};
    AA_TRY(need_count(o, "step", r, &e.step, err));
    AA_TRY(need_count(o, "tokens", r, &e.tokens, err));
    AA_TRY(get_real(o, "loss", r, &e.loss, err));
    AA_TRY(get_real(o, "loss_stderr", r, &e.loss_stderr, err));
    AA_TRY(get_real(o, "bits_per_byte", r, &e.bits_per_byte, err));
    AA_TRY(get_real(time_of(o), "wall_s", r, &e.wall_s, err));
    AA_TRY(aa_json_flag(o, "best", r->name, false, &e.best, err));
    while (j->n_evals > 0 && j->evals[j->n_evals - 1].step >= e.step) j->n_evals--;
    AA_TRY(grow(&j->evals, j->n_evals, &r->evals_room, sizeof e, "the journal's evaluations", err));
    j->evals[j->n_evals++] = e;
    return AA_OK;
}

static aa_status read_sample(reader *r, const json_t *o, aa_err *err) {
    aa_journal *j = r->j;
    aa_report_sample s = {0};
    const char *text = NULL;
    AA_TRY(need_count(o, "step", r, &s.step, err));
    AA_TRY(aa_json_str(o, "text", r->name, "", &text, err));
    size_t n = json_string_length(json_object_get(o, "text"));
    AA_TRY(
        grow(&j->samples, j->n_samples, &r->samples_room, sizeof s, "the journal's samples", err));
    aa_text shown = {0};
    for (size_t at = 0, len; at <= n; at += len + 1) {
        len = strlen(text + at);
        aa_text_add_bytes(&shown, text + at, len);
        if (at + len < n) aa_text_add(&shown, "\xE2\x90\x80");
    }
    s.text = shown.data;
    if (shown.failed || !s.text) {
        aa_text_release(&shown);
        return aa_fail_memory(err, "a sample of the journal", n + 1);
    }
    j->samples[j->n_samples++] = s;
    return AA_OK;
}

static void keep_event(void **slot, json_t *event) {
    json_decref(*slot);
    *slot = event ? json_incref(event) : NULL;
}

static aa_status read_event(reader *r, json_t *o, aa_err *err) {
    if (!json_is_object(o))
        return aa_fail(err, AA_EFORMAT, "'%s': the line is not a JSON object", r->name);
    const char *event = NULL;
    AA_TRY(aa_json_str(o, "event", r->name, "", &event, err));
    if (!strcmp(event, "step")) {
        keep_event(&r->j->end, NULL);
        return read_step(r, o, err);
    }
    if (!strcmp(event, "eval")) return read_eval(r, o, err);
    if (!strcmp(event, "sample")) return read_sample(r, o, err);
    if (!strcmp(event, "run")) keep_event(&r->j->run, o);
    else if (!strcmp(event, "end")) keep_event(&r->j->end, o);
    else r->j->n_skipped++;
    return AA_OK;
}

static bool is_blank(const char *s, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (s[i] != ' ' && s[i] != '\t' && s[i] != '\r' && s[i] != '\n') return false;
    return true;
}

static aa_status read_lines(reader *r, const char *path, const char *data, size_t size,
                            aa_err *err) {
    size_t number = 0;
    for (size_t at = 0, next; at < size; at = next) {
        const char *line = data + at, *end = memchr(line, '\n', size - at);
        size_t n = end ? (size_t)(end - line) : size - at;
        next = at + n + 1;
        number++;
        if (is_blank(line, n)) continue;
        bool last = next >= size || is_blank(data + next, size - next);
        char name[512];
        snprintf(name, sizeof name, "%s:%zu", path, number);
        r->name = name;
        json_t *event = NULL;
        aa_err line_err = {0};
        aa_status st = aa_json_parse_nul(&event, line, n, name, &line_err);
        if (st == AA_EFORMAT && last) {
            r->j->n_skipped++;
            break;
        }
        if (!st) st = read_event(r, event, &line_err);
        json_decref(event);
        if (st) return aa_fail(err, st, "%s", line_err.message);
    }
    return AA_OK;
}

/* A directory means the journal inside it. */
static char *journal_path(const char *path) {
    aa_sys_info info;
    if (aa_sys_stat(&info, path) == 0 && info.kind == AA_SYS_DIR)
        return aa_path_join(path, "journal.jsonl");
    return aa_heap_strdup(path);
}

aa_status aa_journal_open(aa_journal *out, const char *path, aa_err *err) {
    aa_journal j = {.path = journal_path(path)};
    if (!j.path) return aa_fail_memory(err, "a path", strlen(path) + 16);
    aa_sys_map map = {0};
    aa_status st = aa_map_open(&map, j.path, err);
    if (!st) {
        reader r = {.j = &j};
        st = read_lines(&r, j.path, (const char *)map.data, map.size_bytes, err);
        aa_sys_map_close(&map);
    }
    if (st) aa_journal_release(&j);
    else *out = j;
    return st;
}

void aa_journal_release(aa_journal *j) {
    aa_heap_free(j->path);
    json_decref(j->run);
    json_decref(j->end);
    aa_heap_free(j->steps);
    aa_heap_free(j->evals);
    for (size_t i = 0; i < j->n_samples; i++) aa_heap_free(j->samples[i].text);
    aa_heap_free(j->samples);
    *j = (aa_journal){0};
}
