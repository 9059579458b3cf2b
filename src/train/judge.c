#include "train/judge.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include "base/memory.h"
#include "base/number.h"
#include "sys/sys.h"

enum { TRIES = 3, ANSWER_BYTES = 64 };    /* of a score, with room */

static void add_member(aa_text *t, const char *key, const aa_text *value) {
    aa_text_json_key(t, key);
    aa_text_json_string(t, value->len ? value->data : "", value->len);
}

void aa_judge_add(aa_judge *j, const aa_text *prompt, const aa_text *text,
                  const aa_text *reference) {
    aa_text_add(&j->lines, "{");
    add_member(&j->lines, "prompt", prompt);
    add_member(&j->lines, "text", text);
    add_member(&j->lines, "reference", reference);
    aa_text_add(&j->lines, "}\n");
    j->n_texts++;
}

static void wait_for_turn(aa_judge *j) {
    if (j->most_per_s <= 0) return;
    while (aa_sys_clock_s() < j->last_s + 1 / j->most_per_s && !aa_sys_interrupt_pending())
        aa_sys_sleep(0.01);
}

static aa_status fail(const aa_judge *j, aa_err *err, const char *what) {
    return aa_fail(err, AA_EIO, "the program of --objective-command, '%.200s', %s", j->command,
                   what);
}

static aa_status read_scores(const aa_judge *j, const char *answer, size_t size, double *scores,
                             aa_err *err) {
    const char *at = answer, *end = answer + size;
    char what[120];
    for (size_t i = 0; i < j->n_texts; i++) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        size_t n = stop ? (size_t)(stop - at) : (size_t)(end - at);
        char line[ANSWER_BYTES], *rest = line;
        aa_number_print(what, sizeof what, "gave %zu of %zu scores", i, j->n_texts);
        if (at == end) return fail(j, err, what);
        aa_number_print(what, sizeof what, "wrote '%.*s' in the place of score %zu",
                        (int)(n < 40 ? n : 40), at, i + 1);
        if (n >= sizeof line) return fail(j, err, what);
        memcpy(line, at, n);
        line[n] = 0;
        scores[i] = aa_number_read(line, &rest);
        if (rest == line || rest[strspn(rest, " \t\r")] || !isfinite(scores[i]))
            return fail(j, err, what);
        at = stop ? stop + 1 : end;
    }
    aa_number_print(what, sizeof what, "gave more than %zu scores", j->n_texts);
    return at == end ? AA_OK : fail(j, err, what);
}

static aa_status ask(aa_judge *j, char *answer, size_t capacity, double *scores, aa_err *err) {
    size_t size = 0;
    int status = 0;
    char what[80];
    wait_for_turn(j);
    j->last_s = aa_sys_clock_s();
    int no = aa_sys_filter(j->command, j->lines.data, j->lines.len, answer, capacity, j->timeout_s,
                           &size, &status);
    if (no == EINTR) return aa_fail(err, AA_EINTERRUPTED, "interrupted while texts were scored");
    aa_number_print(what, sizeof what, "took more than %g s and was ended", j->timeout_s);
    if (no == ETIMEDOUT) return fail(j, err, what);
    aa_number_print(what, sizeof what, "wrote far more than %zu scores", j->n_texts);
    if (no == EOVERFLOW) return fail(j, err, what);
    if (no) return aa_fail_errno(err, no, "cannot run", j->command);
    const bool killed = status > 128;
    aa_number_print(what, sizeof what, "%s %d",
                    killed ? "was ended by signal" : "ended with status",
                    killed ? status - 128 : status);
    if (status) return fail(j, err, what);
    return read_scores(j, answer, size, scores, err);
}

aa_status aa_judge_scores(aa_judge *j, double *scores, aa_err *err) {
    const size_t capacity = j->n_texts * ANSWER_BYTES + 1;
    char *answer = aa_heap_alloc(capacity, 1);
    aa_status st = aa_text_status(&j->lines, err);
    if (!st && !answer) st = aa_fail_memory(err, "scores", capacity);
    aa_err last = {0};
    for (int i = 0; !st && i < TRIES; i++) {
        last = (aa_err){0};
        aa_status asked = ask(j, answer, capacity, scores, &last);
        if (!asked || asked == AA_EINTERRUPTED || i + 1 == TRIES) {
            st = asked;
            break;
        }
        if (j->most_per_s <= 0) aa_sys_sleep(0.2);
    }
    if (st && err && last.code) *err = last;
    aa_heap_free(answer);
    aa_text_clear(&j->lines);
    j->n_texts = 0;
    return st;
}

void aa_judge_release(aa_judge *j) { aa_text_release(&j->lines); }
