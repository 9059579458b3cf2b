/* What a run came to, in a dozen numbers; and as the JSON object that scripts read. */
#include "base/json.h"
#include "report/report_int.h"

#include <math.h>
#include <string.h>

static const json_t *part(const void *event, const char *object) {
    return event ? json_object_get(event, object) : NULL;
}

static double real_of(const json_t *v) { return json_is_number(v) ? json_number_value(v) : NAN; }

const char *aa__run_string(const aa_journal *j, const char *object, const char *key) {
    return json_string_value(json_object_get(part(j->run, object), key));
}

double aa__run_real(const aa_journal *j, const char *object, const char *key) {
    return real_of(json_object_get(part(j->run, object), key));
}

const char *aa__run_name(const aa_journal *j, size_t *n) {
    const char *path = j->path ? j->path : "", *end = path + strlen(path);
    static const char file[] = "journal.jsonl";
    size_t len = sizeof file - 1;
    if ((size_t)(end - path) > len && !strcmp(end - len, file) && end[-(ptrdiff_t)len - 1] == '/')
        end -= len;
    while (end > path + 1 && end[-1] == '/') end--;
    const char *name = end;
    while (name > path && name[-1] != '/') name--;
    *n = (size_t)(end - name);
    return name;
}

/* Tokens over the seconds spent training, and the mean share of peak over that time. The end event
 * knows the seconds; without one they follow from the lines' rates. */
static void rates(const aa_journal *j, aa__summary *s) {
    double seconds = 0, tokens = 0, shared_s = 0, share = 0;
    uint64_t before = 0;
    for (size_t i = 0; i < j->n_steps; i++) {
        const aa_report_step *l = &j->steps[i];
        double n = l->tokens > before ? (double)(l->tokens - before) : 0;
        before = l->tokens;
        if (!(l->tokens_per_s > 0) || isinf(l->tokens_per_s)) continue;
        double took = n / l->tokens_per_s;
        tokens += n;
        seconds += took;
        if (!isfinite(l->share_of_peak)) continue;
        shared_s += took;
        share += took * l->share_of_peak;
    }
    double train_s = real_of(json_object_get(part(j->end, "time"), "train_s"));
    if (train_s > 0 && s->tokens > 0) s->tokens_per_s = (double)s->tokens / train_s;
    else if (seconds > 0) s->tokens_per_s = tokens / seconds;
    if (shared_s > 0) s->share_of_peak = share / shared_s;
}

static void read_end(const aa_journal *j, aa__summary *s) {
    s->reason = json_string_value(part(j->end, "reason"));
    s->floor = real_of(part(j->end, "floor"));
    s->flop = real_of(part(j->end, "flop"));
    double wall_s = real_of(json_object_get(part(j->end, "time"), "wall_s"));
    if (isfinite(wall_s)) s->wall_s = wall_s;
    double steps = real_of(part(j->end, "step")), tokens = real_of(part(j->end, "tokens"));
    if (steps >= 0 && steps < 9e15) s->steps = (uint64_t)steps;
    if (tokens >= 0 && tokens < 9e15) s->tokens = (uint64_t)tokens;
    if (isnan(s->loss)) s->loss = real_of(part(j->end, "loss"));
}

void aa__summarize(const aa_journal *j, aa__summary *out) {
    aa__summary s = {.loss = NAN,
                     .loss_stderr = NAN,
                     .bits_per_byte = NAN,
                     .perplexity = NAN,
                     .best_loss = NAN,
                     .best_bits_per_byte = NAN,
                     .train_loss = NAN,
                     .floor = NAN,
                     .wall_s = NAN,
                     .tokens_per_s = NAN,
                     .share_of_peak = NAN,
                     .epochs = NAN,
                     .params = aa__run_real(j, "model", "params"),
                     .flop = NAN};
    if (j->n_steps > 0) {
        const aa_report_step *l = &j->steps[j->n_steps - 1];
        s.steps = l->step;
        s.tokens = l->tokens;
        s.epochs = l->epoch;
        s.train_loss = l->loss;
        s.wall_s = l->wall_s;
    }
    for (size_t i = 0; i < j->n_evals; i++) {
        const aa_report_eval *e = &j->evals[i];
        if (e->step >= s.steps) {
            s.steps = e->step;
            if (e->tokens > s.tokens) s.tokens = e->tokens;
            if (e->wall_s > s.wall_s || isnan(s.wall_s)) s.wall_s = e->wall_s;
        }
        s.loss = e->loss;
        s.loss_stderr = e->loss_stderr;
        s.bits_per_byte = e->bits_per_byte;
        if (!isfinite(e->loss) || s.best_loss <= e->loss) continue;
        s.best_loss = e->loss;
        s.best_step = e->step;
        s.best_bits_per_byte = e->bits_per_byte;
    }
    if (j->end) read_end(j, &s);
    s.perplexity = exp(s.loss);
    if (isnan(s.flop)) s.flop = aa__run_real(j, "model", "flop_per_update") * (double)s.steps;
    if (isnan(s.flop)) s.flop = aa__run_real(j, "model", "flop_per_token") * (double)s.tokens;
    rates(j, &s);
    *out = s;
}

static void add_real(aa_text *t, const char *key, double v) {
    aa_text_json_key(t, key);
    aa_text_json_real(t, v);
}

static void add_int(aa_text *t, const char *key, uint64_t v) {
    aa_text_json_key(t, key);
    aa_text_json_int(t, (int64_t)v);
}

void aa_report_json(const aa_journal *j, aa_text *out) {
    aa__summary s;
    aa__summarize(j, &s);
    aa_text_add(out, "{");
    aa_text_json_key(out, "journal");
    aa_text_json_string(out, j->path ? j->path : "", j->path ? strlen(j->path) : 0);
    add_int(out, "steps", s.steps);
    add_int(out, "tokens", s.tokens);
    add_real(out, "epochs", s.epochs);
    add_real(out, "loss", s.loss);
    add_real(out, "loss_stderr", s.loss_stderr);
    add_real(out, "bits_per_byte", s.bits_per_byte);
    add_real(out, "perplexity", s.perplexity);
    add_real(out, "best_loss", s.best_loss);
    add_int(out, "best_step", s.best_step);
    add_real(out, "train_loss", s.train_loss);
    add_real(out, "floor", s.floor);
    add_real(out, "wall_s", s.wall_s);
    add_real(out, "tokens_per_s", s.tokens_per_s);
    add_real(out, "share_of_peak", s.share_of_peak);
    aa_text_json_key(out, "params");
    if (s.params >= 0 && s.params < 9e15) aa_text_json_int(out, (int64_t)s.params);
    else aa_text_add(out, "null");
    add_real(out, "flop", s.flop);
    aa_text_json_key(out, "reason");
    if (s.reason) aa_text_json_string(out, s.reason, strlen(s.reason));
    else aa_text_add(out, "null");
    add_int(out, "skipped_lines", j->n_skipped);
    aa_text_add(out, "}");
}
