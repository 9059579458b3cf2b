#include "train/score.h"
#include <string.h>
#include "base/memory.h"
#include "train/cache.h"

#define PASS_TOKENS 1024                   /* tokens per forward pass */

static aa_status open_tokens(aa_score *e, const aa_session *s, const char *source,
                             const aa_job_hooks *hooks, aa_err *err) {
    char *path = NULL, *stories = NULL;
    const aa_tokenizer *t = s->tokenizer;
    aa_status st = AA_OK;
    if (strcmp(source, "stories") != 0) st = aa_data_check(source, err);
    else if (!(st = aa_cache_stories(&stories, err))) source = stories;
    if (!st && !aa_tokens_is_file(source))
        st = aa_cache_tokens(&path, source, t, aa_cpu_pool(s->cpu),
                             &(aa_tokenize_options){.chat_template = s->chat_template}, hooks,
                             err);
    if (!st)
        st = aa_tokens_open(&e->tokens, path ? path : source, aa_tokenizer_vocab(t),
                            aa_tokenizer_eos(t), false, err);
    if (!st && !aa_digest_equal(e->tokens.tokenizer, (aa_digest){0}) &&
        !aa_digest_equal(e->tokens.tokenizer, aa_tokenizer_digest(t)))
        st = aa_fail(err, AA_EUSAGE,
                     "'%s' was made with another tokenizer than the model's; give the text itself",
                     source);
    aa_heap_free(path);
    aa_heap_free(stories);
    return st;
}

/* The window is no longer than the longest example, for the sake of memory. */
static aa_status choose_examples(aa_score *e, const char *data, const aa_score_options *o,
                                 aa_err *err) {
    size_t longest = 0;
    AA_TRY(aa_examples_init(&e->examples, &e->tokens, (aa_part)o->part, e->T, err));
    if (!e->examples.n)
        return aa_fail(err, AA_EUSAGE, "no example in this part of '%s' has something to learn in "
                       "its first %zu tokens", data, e->T);
    for (uint64_t i = 0; i < e->examples.n; i++)
        if (e->examples.rows[i] > longest) longest = e->examples.rows[i];
    e->T = longest;
    e->n_windows = aa_eval_windows(NULL, &e->examples, e->T, o->tokens);
    return AA_OK;
}

static aa_status choose_windows(aa_score *e, const aa_session *s, const char *data,
                                const aa_score_options *o, aa_err *err) {
    int64_t positions = s->model->config.seq;
    e->T = o->seq ? o->seq : (size_t)positions;
    if (e->T > (size_t)positions)
        return aa_fail(err, AA_EUSAGE, "--seq %zu is more than the model's %lld positions", e->T,
                       (long long)positions);
    if (e->tokens.unlearned) return choose_examples(e, data, o, err);
    if (e->stream.n_tokens < 2)
        return aa_fail(err, AA_EUSAGE,
                       "there are %llu tokens to evaluate in this part of '%s'; two are the least",
                       (unsigned long long)e->stream.n_tokens, data);
    if (e->T > e->stream.n_tokens - 1) e->T = (size_t)e->stream.n_tokens - 1;
    e->n_windows = aa_eval_windows(&e->stream, NULL, e->T, o->tokens);
    return AA_OK;
}

aa_status aa_score_open(aa_score *out, const aa_session *s, const char *data,
                        const aa_score_options *o, const aa_job_hooks *hooks, aa_err *err) {
    *out = (aa_score){0};
    aa_status st = open_tokens(out, s, data, hooks, err);
    if (!st) st = aa_stream_init(&out->stream, &out->tokens, (aa_part)o->part, err);
    if (!st) st = choose_windows(out, s, data, o, err);
    if (st) aa_score_close(out);
    return st;
}

void aa_score_close(aa_score *e) {
    aa_stream_release(&e->stream);
    aa_examples_release(&e->examples);
    aa_tokens_close(&e->tokens);
}

aa_status aa_score_run(const aa_score *score, aa_session *s, double *window_loss,
                       aa_eval_result *out, aa_err *err) {
    aa_arena arena;
    aa_stream stream = score->stream;      /* the same ranges, with the ids of this model */
    if (s->compact_map) AA_TRY(aa_stream_restrict(&stream, s->compact_map, s->tokenizer, err));
    aa_examples examples = score->examples;
    examples.map = stream.map;
    aa_arena_init(&arena, "evaluation");
    aa_evaluator ev = {.model = s->model, .backend = &s->backend, .stream = &stream,
                       .examples = examples.n ? &examples : NULL,
                       .tokenizer = s->tokenizer, .active_ids = s->active_ids,
                       .T = score->T, .n_windows = score->n_windows};
    ev.max_B = score->T >= PASS_TOKENS ? 1 : PASS_TOKENS / score->T;
    if (ev.max_B > score->n_windows) ev.max_B = score->n_windows;
    size_t n = ev.max_B * score->T;
    ev.ids = aa_arena_new(&arena, int32_t, n);
    ev.targets = aa_arena_new(&arena, int32_t, n);
    ev.loss = aa_arena_new(&arena, aa_real, n);
    ev.start = aa_arena_new(&arena, int32_t, n + 1);
    aa_status st = aa_activations_new(&ev.activations, s->model, AA_PASS_EVAL, ev.max_B, score->T,
                                      0, &arena, err);
    if (!st) st = aa_arena_status(&arena, err);
    if (!st) st = aa_evaluate(&ev, window_loss, out, err);
    aa_arena_release(&arena);
    return st;
}
