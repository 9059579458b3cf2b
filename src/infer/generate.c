/* From a prompt to text: one pass over the prompt, then a token at a time.
 *
 * Text leaves as soon as it is certain. Two things hold bytes back: a character whose bytes have
 * not all come, and an end of the text that may grow into a stop text. Positions in the text only
 * move forward: what has been held back longest either becomes certain or ends the generation.
 */
#include "infer/infer.h"
#include "sys/sys.h"

#include <string.h>

/* ---- what may be shown ----------------------------------------------------------------------- */

/* n, less the bytes of a character that begins before n and ends after it. */
static size_t whole_characters(const char *text, size_t n) {
    for (size_t back = 1; back <= 3 && back <= n; back++) {
        unsigned char c = (unsigned char)text[n - back];
        if ((c & 0xC0) == 0x80) continue;
        size_t size = c >= 0xF0 ? 4 : c >= 0xE0 ? 3 : c >= 0xC0 ? 2 : 1;
        return size > back && c < 0xF8 ? n - back : n;
    }
    return n;
}

/* n, less the longest end of the text that begins a stop text. */
static size_t before_possible_stop(const aa_generation *g, const char *text, size_t n) {
    size_t hold = 0;
    for (size_t i = 0; i < g->n_stop; i++) {
        size_t len = strlen(g->stop[i]);
        for (size_t k = len ? len - 1 : 0; k > hold; k--)
            if (k <= n && !memcmp(text + n - k, g->stop[i], k)) hold = k;
    }
    return n - hold;
}

/* First place at or after `from` where a stop text begins; n if none does. */
static size_t find_stop(const aa_generation *g, const char *text, size_t n, size_t from) {
    size_t first = n;
    for (size_t i = 0; i < g->n_stop; i++) {
        size_t len = strlen(g->stop[i]);
        for (size_t at = from; len > 0 && at + len <= n && at < first; at++)
            if (!memcmp(text + at, g->stop[i], len)) first = at;
    }
    return first;
}

typedef struct writer {
    const aa_generation *g;
    aa_text *text;
    size_t sent;
} writer;

static bool send_to(writer *w, size_t end) {
    if (end <= w->sent) return true;
    const char *from = w->text->data + w->sent;
    size_t n = end - w->sent;
    w->sent = end;
    return !w->g->on_text || w->g->on_text(w->g->ctx, from, n);
}

/* ---- ids ------------------------------------------------------------------------------------- */

/* The model's id for one of the tokenizer's, or -1. */
static int32_t model_id(const aa_session *s, int32_t id) {
    if (id < 0 || (size_t)id >= aa_tokenizer_vocab(s->tokenizer)) return -1;
    if (s->compact_map) return s->compact_map[id];
    return id < s->model->config.vocab ? id : -1;
}

static aa_status push_id(aa_ids *ids, int32_t id, aa_err *err) {
    if (ids->len == ids->capacity) {
        size_t more = ids->capacity ? ids->capacity * 2 : 64;
        int32_t *data = aa_heap_realloc(ids->data, more, sizeof *data);
        if (!data) return aa_fail_memory(err, "token ids", more * sizeof *data);
        ids->data = data;
        ids->capacity = more;
    }
    ids->data[ids->len++] = id;
    return AA_OK;
}

static aa_status unknown_token(const aa_session *s, int32_t id, aa_err *err) {
    aa_text piece = {0};
    aa_status st = aa_decode(s->tokenizer, &id, 1, true, &piece, NULL);
    st = aa_fail(err, AA_EUNSUPPORTED,
                 "the prompt contains the token %d ('%s'), which is not in the "
                 "model's vocabulary of %lld; use other words",
                 id, !st && piece.data ? piece.data : "?", (long long)s->model->config.vocab);
    aa_text_release(&piece);
    return st;
}

/* The model's ids for the prompt's as the session's history. The cache keeps what it holds of their
 * beginning, but not all: the last one is read for what follows it. */
static aa_status take_ids(aa_session *s, const int32_t *ids, size_t n, aa_err *err) {
    size_t same = 0;
    aa_status st = AA_OK;
    if (n > s->kv.capacity)
        return aa_fail(err, AA_EUSAGE,
                       "the prompt is %zu tokens long, the context holds %zu; shorten the "
                       "prompt or ask for a longer context",
                       n, s->kv.capacity);
    for (size_t i = 0; !st && i < n; i++) {
        int32_t id = model_id(s, ids[i]);
        if (id < 0) st = unknown_token(s, ids[i], err);
        else if (same == i && i < s->kv.len && s->history[i] == id) same++;
        else s->history[i] = id;
    }
    s->kv.len = same < n ? same : n - 1;
    return st;
}

/* The prompt's ids, and the model's as the history. */
static aa_status read_prompt(aa_session *s, const char *prompt, aa_ids *ids, aa_err *err) {
    AA_TRY(aa_encode(s->tokenizer, prompt, strlen(prompt), AA_ENCODE_SPECIALS | AA_ENCODE_BOS, ids,
                     err));
    if (ids->len == 0) {
        int32_t bos = aa_tokenizer_bos(s->tokenizer), eos = aa_tokenizer_eos(s->tokenizer);
        if (bos < 0 && eos < 0)
            return aa_fail(err, AA_EUSAGE,
                           "the prompt is empty, and the tokenizer has no token that "
                           "begins a text; give a prompt");
        AA_TRY(push_id(ids, bos >= 0 ? bos : eos, err));
    }
    s->kv.len = 0;
    return take_ids(s, ids->data, ids->len, err);
}

/* ---- the loop -------------------------------------------------------------------------------- */

/* Reads the history from where the cache ends up to n. */
static aa_status prefill(aa_session *s, size_t n, aa_err *err) {
    while (s->kv.len < n) {
        size_t at = s->kv.len, rows = n - at < s->chunk ? n - at : s->chunk;
        AA_TRY(aa_model_extend(s->model, &s->backend, s->activations, &s->kv, s->history + at, rows,
                               s->logits, err));
    }
    return AA_OK;
}

static int32_t draw(aa_session *s, const aa_generation *g, size_t n_read, uint64_t index) {
    return aa_sample(&g->sampling, s->logits, (size_t)s->model->config.vocab, s->history, n_read,
                     index, s->scratch);
}

/* Adds a token's text; true when the generation is to end, with the reason. */
static aa_status add_token(aa_session *s, writer *w, aa_generated *out, int32_t id, bool *ended,
                           aa_err *err) {
    size_t before = out->text.len, longest = 1;
    AA_TRY(push_id(&out->ids, id, err));
    if (id >= 0 &&
        (size_t)id < aa_tokenizer_vocab(s->tokenizer)) /* heads may be padded beyond it */
        AA_TRY(aa_decode(s->tokenizer, &id, 1, false, &out->text, err));
    AA_TRY(aa_text_status(&out->text, err));
    for (size_t i = 0; i < w->g->n_stop; i++)
        if (strlen(w->g->stop[i]) > longest) longest = strlen(w->g->stop[i]);
    size_t n = out->text.len, from = before > longest - 1 ? before - (longest - 1) : 0;
    size_t stop = n ? find_stop(w->g, out->text.data, n, from) : n;
    *ended = true;
    if (stop < n) {
        out->text.len = stop;
        out->text.data[stop] = '\0';
        out->reason = AA_STOP_TEXT;
        return AA_OK;
    }
    size_t certain =
        n ? whole_characters(out->text.data, before_possible_stop(w->g, out->text.data, n)) : 0;
    *ended = !send_to(w, certain);
    out->reason = AA_STOP_CALLER;
    return AA_OK;
}

/* The context is full and one more token is drawn: goes on with what is kept and the last half of
 * the rest, which is read again, since keys remember where they stood. */
static aa_status shift_context(aa_session *s, size_t keep, aa_err *err) {
    if (keep > s->kv.capacity / 2) keep = s->kv.capacity / 2;
    size_t n = s->kv.capacity + 1, half = (s->kv.capacity - keep) / 2;
    memmove(s->history + keep, s->history + n - half, half * sizeof *s->history);
    s->kv.len = keep;
    return prefill(s, keep + half, err);
}

static bool ends(const aa_session *s, const aa_generation *g, int32_t id) {
    for (size_t i = 0; i < g->n_end_ids; i++)
        if (id == g->end_ids[i]) return true;
    return id == aa_tokenizer_eos(s->tokenizer);
}

static aa_status decode_loop(aa_session *s, const aa_generation *g, aa_generated *out,
                             aa_err *err) {
    writer w = {.g = g, .text = &out->text};
    out->reason = AA_STOP_LENGTH;
    for (uint64_t index = 0; index < g->max_tokens; index++) {
        size_t n_read = s->kv.len;
        int32_t drawn = draw(s, g, n_read, index);
        int32_t id = s->active_ids ? s->active_ids[drawn] : drawn;
        if (!g->ignore_eos && ends(s, g, id)) {
            out->reason = AA_STOP_EOS;
            break;
        }
        s->history[n_read] = drawn;
        bool ended = false;
        AA_TRY(add_token(s, &w, out, id, &ended, err));
        if (ended) break;
        out->reason = AA_STOP_LENGTH;
        if (index + 1 == g->max_tokens) break;
        if (n_read == s->kv.capacity) {
            if (g->shift && n_read > 1) {
                AA_TRY(shift_context(s, g->keep, err));
                continue;
            }
            out->reason = AA_STOP_CONTEXT;
            break;
        }
        AA_TRY(aa_model_extend(s->model, &s->backend, s->activations, &s->kv, &drawn, 1, s->logits,
                               err));
    }
    if (out->reason != AA_STOP_CALLER && !send_to(&w, out->text.len)) out->reason = AA_STOP_CALLER;
    return AA_OK;
}

aa_status aa_session_read(aa_session *s, const char *prompt, aa_ids *ids, aa_err *err) {
    AA_TRY(read_prompt(s, prompt, ids, err));
    return prefill(s, ids->len, err);
}

/* What follows the prompt that took from `start` to read; made belongs to out, or to nobody. */
static aa_status generate(aa_session *s, const aa_generation *g, double start, aa_status st,
                          aa_generated *made, aa_generated *out, aa_err *err) {
    double first = aa_sys_clock_s();
    if (!st) st = decode_loop(s, g, made, err);
    made->prefill_s = first - start;
    made->decode_s = aa_sys_clock_s() - first;
    if (st) aa_generated_release(made);
    else *out = *made;
    return st;
}

aa_status aa_generate(aa_session *s, const char *prompt, const aa_generation *g, aa_generated *out,
                      aa_err *err) {
    aa_generated made = {0};
    double start = aa_sys_clock_s();
    aa_status st = aa_session_read(s, prompt, &made.prompt_ids, err);
    return generate(s, g, start, st, &made, out, err);
}

aa_status aa_generate_ids(aa_session *s, const int32_t *ids, size_t n, const aa_generation *g,
                          aa_generated *out, aa_err *err) {
    aa_generated made = {0};
    double start = aa_sys_clock_s();
    aa_status st = take_ids(s, ids, n, err);
    if (!st) st = prefill(s, n, err);
    return generate(s, g, start, st, &made, out, err);
}

void aa_generated_release(aa_generated *g) {
    aa_ids_release(&g->prompt_ids);
    aa_ids_release(&g->ids);
    aa_text_release(&g->text);
    *g = (aa_generated){0};
}
